package fragment

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"stile/tunnel/packet"
	"stile/tunnel/packet/cut"
)

// A model is the Table as the specification has it: lists, and a flag for each
// byte.
type model struct {
	list  []*modelled // in the order in which they began, or began to wait
	early int
	lost  uint64
}

type modelled struct {
	came    Key
	value   int
	since   time.Time
	begun   bool
	early   []packet.Packet
	spoiled bool
	got     []bool
	end     int
	goes    Key
}

func (m *model) expire(now time.Time) {
	m.list = slices.DeleteFunc(m.list, func(d *modelled) bool {
		age := now.Sub(d.since)
		if d.begun {
			return age >= 30*time.Second
		}
		if age < 2*time.Second {
			return false
		}
		m.lost += uint64(len(d.early))
		m.early -= len(d.early)
		return true
	})
}

func (m *model) find(k Key) *modelled {
	for _, d := range m.list {
		if d.came == k {
			return d
		}
	}
	return nil
}

func (m *model) remove(d *modelled) {
	m.list = slices.DeleteFunc(m.list, func(o *modelled) bool { return o == d })
}

// begin returns which of the early ones go on.
func (m *model) begin(came Key, f packet.Fragment, goes Key, value int, now time.Time) (early []packet.Packet) {
	m.expire(now)
	var waited []packet.Packet
	if d := m.find(came); d != nil {
		waited = d.early
		m.early -= len(waited)
		m.remove(d)
	}
	begun := 0
	for _, d := range m.list {
		if d.begun {
			begun++
		}
	}
	if begun == 256 {
		m.remove(m.list[slices.IndexFunc(m.list, func(d *modelled) bool { return d.begun })])
	}
	d := &modelled{came: came, value: value, since: now, begun: true, goes: goes}
	m.list = append(m.list, d)
	m.accept(d, f)
	for _, p := range waited {
		if m.accept(d, p.Fragment()) {
			early = append(early, p)
		}
	}
	m.end(d)
	return early
}

// follow returns the value, or whether the fragment waits.
func (m *model) follow(p packet.Packet, now time.Time) (value int, ok bool) {
	m.expire(now)
	k := KeyOf(p)
	d := m.find(k)
	if d != nil && d.begun {
		ok = m.accept(d, p.Fragment())
		m.end(d)
		return d.value, ok
	}
	if m.early == 64 {
		m.lost++
		return 0, false
	}
	if d == nil {
		d = &modelled{came: k, since: now}
		m.list = append(m.list, d)
	}
	d.early = append(d.early, p.Clone())
	m.early++
	return 0, false
}

func (m *model) accept(d *modelled, f packet.Fragment) bool {
	from, to := int(f.Offset), int(f.Offset)+int(f.Len)
	if len(d.got) < to {
		d.got = append(d.got, make([]bool, to-len(d.got))...)
	}
	old := 0
	for i := from; i < to; i++ {
		if d.got[i] {
			old++
		}
	}
	beyond := false // of a last fragment: bytes behind it have come
	if !f.More {
		beyond = slices.Contains(d.got[to:], true)
	}
	switch {
	case d.spoiled:
	case d.end != 0 && to > d.end, !f.More && d.end != 0 && to != d.end, beyond:
		d.spoiled = true
	case old == to-from:
		if !f.More {
			d.end = to
		}
		m.lost++
		return false
	case old > 0, d.gapsWith(from, to) > 32:
		d.spoiled = true
	default:
		for i := from; i < to; i++ {
			d.got[i] = true
		}
		if !f.More {
			d.end = to
		}
		return true
	}
	m.lost++
	return false
}

// gapsWith counts runs of bytes, with another one.
func (d *modelled) gapsWith(from, to int) (n int) {
	for i := range d.got {
		in := func(i int) bool { return i >= 0 && (d.got[i] || from <= i && i < to) }
		if in(i) && !in(i-1) {
			n++
		}
	}
	return n
}

// end removes a datagram that is complete.
func (m *model) end(d *modelled) {
	if d.end == 0 || d.spoiled || slices.Contains(d.got[:d.end], false) {
		return
	}
	m.remove(d)
}

// Random fragments, which may fit together or not, of few datagrams at a time:
// order, loss, duplicates, overlaps, used IDs, early ones, two places with the
// same ID.
func TestTableAgreesWithModel(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 0))
		table, m, now := New[int](rand.New(rand.NewPCG(seed, 1))), &model{}, start
		datagrams := 1 + rng.IntN(12)
		if seed%10 == 9 {
			datagrams = 400 // more than may be on their way
		}
		for step := range 400 {
			now = now.Add(waits[rng.IntN(len(waits))])
			p := randomFragment(rng, datagrams)
			came, f, value := KeyOf(p), p.Fragment(), step
			if !p.IsFirst() {
				asItCame := p.Clone()
				got, ok := table.Follow(p, now)
				want, wantOK := m.follow(asItCame, now)
				if ok != wantOK || ok && got != want {
					t.Fatalf("seed %d, step %d: %+v follows %d (%v), want %d (%v)", seed, step, f, got, ok, want, wantOK)
				}
				if d := m.find(came); ok && d != nil && p.Fragment().ID != d.goes.id {
					t.Fatalf("seed %d, step %d: ID %x, want %x", seed, step, p.Fragment().ID, d.goes.id)
				}
			} else {
				p.SetDst(netip.MustParseAddr("10.0.0.1")) // all proxies stand for one address
				kept := KeyOf(p)
				if d := m.find(came); d != nil && d.begun && now.Sub(d.since) < 30*time.Second {
					kept = d.goes // it may have come twice
				}
				early := table.Begin(came, p, value, now)
				goes := KeyOf(p)
				m.expire(now)
				taken := func(k Key) bool {
					return slices.ContainsFunc(m.list, func(d *modelled) bool { return d.begun && d.came != came && d.goes == k })
				}
				// At the bound, the oldest gave its ID back.
				if taken(goes) && table.begun.len < maxDatagrams || (goes != kept) != taken(kept) && table.begun.len < maxDatagrams {
					t.Fatalf("seed %d, step %d: goes on as %+v, came as %+v", seed, step, goes, kept)
				}
				want := m.begin(came, f, goes, value, now)
				if len(early) != len(want) {
					t.Fatalf("seed %d, step %d: %d early ones go on, want %d", seed, step, len(early), len(want))
				}
				for i := range want {
					if !bytes.Equal(early[i].Payload(), want[i].Payload()) || early[i].Fragment().ID != goes.id || early[i].Fragment().Offset != want[i].Fragment().Offset {
						t.Fatalf("seed %d, step %d: early one %d is %+v, want %+v", seed, step, i, early[i].Fragment(), want[i].Fragment())
					}
				}
			}
			if table.lost != m.lost || table.early != m.early || len(table.by) != len(m.list) {
				t.Fatalf("seed %d, step %d: %d lost, %d early, %d datagrams; want %d, %d, %d", seed, step, table.lost, table.early, len(table.by), m.lost, m.early, len(m.list))
			}
			if step%50 == 0 {
				table.Sweep(now)
			}
		}
	}
}

var waits = []time.Duration{0, 0, 0, 0, 0, 0, time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond, time.Second, 2 * time.Second, 29 * time.Second}

// randomFragment is one of up to 64 bytes, mostly.
func randomFragment(rng *rand.Rand, datagrams int) packet.Packet {
	n := rng.IntN(datagrams)
	from := 8 * rng.IntN(10)
	to := from + 8*(1+rng.IntN(4))
	more := rng.IntN(4) > 0
	if from == 0 {
		more = true
	}
	if rng.IntN(10) == 0 && from > 0 { // far away
		from, to = from*500, from*500+8
	}
	if !more {
		to -= rng.IntN(8)
	}
	size := max(to, 8)
	if more {
		size += 8
	}
	// Two proxies, and IDs that both have.
	dst := netip.AddrFrom4([4]byte{100, 96, 0, byte(1 + n%2)})
	whole := packet.AppendUDP(nil, netip.MustParseAddrPort("100.64.0.7:5000"), netip.AddrPortFrom(dst, 7), make([]byte, size-8))
	for i := range whole[28:] {
		whole[28+i] = byte(rng.Uint32())
	}
	if from == 0 {
		binary.BigEndian.PutUint16(whole[24:], 0xffff)
	}
	p, err := packet.ParseFragment(cut.Piece(whole, from, to, uint32(n/2)))
	if err != nil {
		panic(err)
	}
	return p
}

// Whatever order fragments come in, and however often: each datagram arrives
// whole, and nothing else does, if its fragments come within two seconds and no
// more wait than may.
func TestDatagramsArriveWhole(t *testing.T) {
	for seed := range uint64(150) {
		rng := rand.New(rand.NewPCG(seed, 2))
		table, now := New[netip.Addr](rng), start
		host := receiver{t: t, seed: seed, got: make(map[string][][]byte)}
		sent := make(map[string]bool)
		twice := seed%4 == 0 // then a datagram might be taken for one with the same ID
		for round := range 5 {
			var air [][]byte
			for n := range 4 { // at a time; two with the same ID
				id := uint32(7 + n%2)
				if twice {
					id += uint32(10 * round)
				}
				size := 1300 + rng.IntN(14000)
				from, to := netip.MustParseAddrPort("100.64.0.7:5000"), netip.AddrPortFrom(netip.AddrFrom4([4]byte{100, 96, 0, byte(n)}), uint16(round))
				if seed%2 == 1 {
					from, to = netip.MustParseAddrPort("[fd00::7]:5000"), netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf("fd00::%d", n)), uint16(round))
				}
				payload := make([]byte, size)
				for i := range payload {
					payload[i] = byte(rng.Uint32())
				}
				whole := packet.AppendUDP(nil, from, to, payload)
				sent[string(payload)] = true
				for _, f := range cut.Apart(whole, packet.MaxSize, id) {
					air = append(air, f)
					if twice && rng.IntN(20) == 0 {
						air = append(air, bytes.Clone(f))
					}
				}
			}
			rng.Shuffle(len(air), func(i, k int) { air[i], air[k] = air[k], air[i] })
			for _, b := range air {
				now = now.Add(time.Duration(rng.IntN(10)) * time.Millisecond)
				p, err := packet.ParseFragment(b)
				if err != nil {
					t.Fatal(err)
				}
				through(table, p, now, host.receive)
			}
			now = now.Add(time.Duration(rng.IntN(4)) * time.Second)
		}
		if host.whole != 20 {
			t.Fatalf("seed %d: %d datagrams arrived, want 20", seed, host.whole)
		}
		for payload := range host.got {
			if !sent[payload] {
				t.Fatalf("seed %d: a datagram arrived that nobody sent", seed)
			}
		}
	}
}

// through has a fragment pass a table as a gateway does.
func through(table *Table[netip.Addr], p packet.Packet, now time.Time, receive func([]byte)) {
	if !p.IsFirst() {
		if x, ok := table.Follow(p, now); ok {
			p.SetDst(x)
			receive(p.Bytes())
		}
		return
	}
	x := netip.MustParseAddr("10.0.0.9")
	if p.Version() == 6 {
		x = netip.MustParseAddr("2001:db8::9")
	}
	came := KeyOf(p)
	p.SetDst(x)
	early := table.Begin(came, p, x, now)
	receive(p.Bytes())
	for _, q := range early {
		q.SetDst(x)
		receive(q.Bytes())
	}
}

// A receiver puts fragments together by their ID alone, all being between the
// same two hosts.
type receiver struct {
	t     *testing.T
	seed  uint64
	parts map[uint32][][]byte
	got   map[string][][]byte // payloads
	whole int
}

func (r *receiver) receive(b []byte) {
	if r.parts == nil {
		r.parts = make(map[uint32][][]byte)
	}
	p, err := packet.ParseFragment(b)
	if err != nil || !p.ValidChecksums() {
		r.t.Fatalf("seed %d: %v", r.seed, err)
	}
	id := p.Fragment().ID
	if slices.ContainsFunc(r.parts[id], func(o []byte) bool { return bytes.Equal(o, b) }) {
		return // it came twice
	}
	r.parts[id] = append(r.parts[id], bytes.Clone(b))
	if whole, _, ok := cut.Together(r.parts[id]...); ok {
		delete(r.parts, id)
		if !cut.Sound(whole) {
			r.t.Fatalf("seed %d: checksums", r.seed)
		}
		header := 28
		if whole[0]>>4 == 6 {
			header = 48
		}
		payload := string(whole[header:])
		if r.got[payload] == nil {
			r.whole++
		}
		r.got[payload] = [][]byte{whole}
	}
}
