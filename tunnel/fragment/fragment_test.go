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

var start = time.Unix(1000, 0)

// One row per sentence of N41, and the fragments of spec gateway-nat.md 8.3. A
// script is a list of steps: the fragments of datagram a or b by their number
// ("a0" begins a), or a wait ("+2s"). Behind an arrow is what goes on: "-" is
// nothing. Datagrams have four fragments, of 16 bytes but for the last.
func TestN41Fragments(t *testing.T) {
	tests := []struct {
		name   string
		script []string
		lost   uint64
		left   int // datagrams in the table at the end
	}{
		{"in order", []string{"a0 → a0", "a1 → a1", "a2 → a2", "a3 → a3"}, 0, 0},
		{"any order behind the first", []string{"a0 → a0", "a3 → a3", "a1 → a1", "a2 → a2"}, 0, 0},
		{"reversed: early ones wait, and keep their order", []string{"a3 → -", "a2 → -", "a1 → -", "a0 → a0 a3 a2 a1"}, 0, 0},
		{"one early", []string{"a1 → -", "a0 → a0 a1", "a2 → a2", "a3 → a3"}, 0, 0},
		{"early ones of two datagrams", []string{"a1 → -", "b1 → -", "b0 → b0 b1", "a0 → a0 a1"}, 0, 2},
		{"a decision for each datagram", []string{"a0 → a0", "b0 → b0", "b1 → b1", "a1 → a1", "b3 → b3", "b2 → b2"}, 0, 1},

		{"early ones wait for less than two seconds", []string{"a1 → -", "+1.999s", "a0 → a0 a1"}, 0, 1},
		{"early ones wait for two seconds at most", []string{"a1 → -", "+2s", "a0 → a0"}, 1, 1},
		{"first missing", []string{"a1 → -", "a2 → -", "+1s", "a3 → -", "+1s", "b0 → b0"}, 3, 1},
		{"the others follow for 30 s", []string{"a0 → a0", "+29.999s", "a1 → a1"}, 0, 1},
		{"and no longer", []string{"a0 → a0", "+30s", "a1 → -", "+2s", "b0 → b0"}, 1, 1},

		{"duplicate", []string{"a0 → a0", "a1 → a1", "a1 → -", "a2 → a2", "a3 → a3"}, 1, 0},
		{"duplicate of the last", []string{"a0 → a0", "a3 → a3", "a3 → -", "a1 → a1", "a2 → a2"}, 1, 0},
		{"duplicate among early ones", []string{"a1 → -", "a1 → -", "a0 → a0 a1", "a2 → a2", "a3 → a3"}, 1, 0},
		{"duplicate of the first: the ID is used again", []string{"a0 → a0", "a1 → a1", "a0 → a0", "a1 → a1", "a2 → a2", "a3 → a3"}, 0, 0},
		{"ID used again when complete", []string{"a0 → a0", "a1 → a1", "a2 → a2", "a3 → a3", "+1s", "A0 → A0", "A1 → A1", "A2 → A2", "A3 → A3"}, 0, 0},
		{"ID used again after a loss", []string{"a0 → a0", "a2 → a2", "+1s", "A0 → A0", "A1 → A1", "A2 → A2", "A3 → A3"}, 0, 0},
		{"ID used again, early, when complete", []string{"a0 → a0", "a1 → a1", "a2 → a2", "a3 → a3", "A1 → -", "A0 → A0 A1"}, 0, 1},

		{"overlap behind spoils the datagram", []string{"a0 → a0", "a1 → a1", "a24-40 → -", "a2 → -", "a3 → -"}, 3, 1},
		{"overlap in front", []string{"a0 → a0", "a2 → a2", "a24-40 → -", "a1 → -"}, 2, 1},
		{"overlap over all", []string{"a0 → a0", "a2 → a2", "a16-56 → -", "a1 → -"}, 2, 1},
		{"overlap of the first fragment's header", []string{"a0 → a0", "a8-24 → -", "a1 → -"}, 2, 1},
		{"inside of what came", []string{"a0 → a0", "a1 → a1", "a24-32 → -", "a2 → a2", "a3 → a3"}, 1, 0},
		{"overlap among early ones", []string{"a1 → -", "a24-40 → -", "a0 → a0 a1", "a2 → -"}, 2, 1},
		{"begun anew after an overlap", []string{"a0 → a0", "a8-24 → -", "a0 → a0", "a1 → a1", "a2 → a2", "a3 → a3"}, 1, 0},

		{"beyond the end", []string{"a0 → a0", "a3 → a3", "a64-72 → -", "a1 → -"}, 2, 1},
		{"another end in front", []string{"a0 → a0", "a3 → a3", "a16-28. → -", "a2 → -"}, 2, 1},
		{"the end in front of what came", []string{"a0 → a0", "a2 → a2", "a16-24. → -", "a3 → -"}, 2, 1},
		{"the end inside of what came", []string{"a0 → a0", "a1 → a1", "a16-24. → -", "a2 → -"}, 2, 1},
	}
	for _, test := range tests {
		s := &scene{t: t, table: New[string](rand.New(rand.NewPCG(1, 1))), now: start}
		for i, step := range test.script {
			if err := s.step(step); err != nil {
				t.Errorf("%s: step %d (%s): %v", test.name, i, step, err)
				break
			}
		}
		if lost := s.table.Lost(); lost != test.lost {
			t.Errorf("%s: %d lost, want %d", test.name, lost, test.lost)
		}
		if n := len(s.table.by); n != test.left || s.table.begun.len+s.table.waiting.len != n || len(s.table.leaving) != s.table.begun.len {
			t.Errorf("%s: %d datagrams left (%d begun, %d wait, %d IDs), want %d", test.name, n, s.table.begun.len, s.table.waiting.len, len(s.table.leaving), test.left)
		}
		s.table.Sweep(s.now.Add(time.Minute))
		if !s.table.Empty() || s.table.early != 0 {
			t.Errorf("%s: not empty after a minute", test.name)
		}
	}
}

// A scene plays scripts. Lower and upper case letters are datagrams with the
// same Key.
type scene struct {
	t     *testing.T
	table *Table[string]
	now   time.Time
}

func (s *scene) step(step string) error {
	if d, err := time.ParseDuration(step); err == nil {
		s.now = s.now.Add(d)
		return nil
	}
	what, want, _ := bytes.Cut([]byte(step), []byte(" → "))
	got, err := s.arrive(string(what))
	if err == nil && got != string(want) {
		err = fmt.Errorf("%s went on", got)
	}
	return err
}

func (s *scene) arrive(what string) (string, error) {
	p := s.fragment(what)
	if p.IsFirst() {
		went := what
		for _, q := range s.table.Begin(KeyOf(p), p, what[:1], s.now) {
			went += " " + string(bytes.TrimRight(q.Payload()[:8], " "))
		}
		return went, nil
	}
	before := bytes.Clone(p.Bytes())
	v, ok := s.table.Follow(p, s.now)
	switch {
	case !bytes.Equal(before, p.Bytes()):
		return "", fmt.Errorf("the fragment changed")
	case !ok:
		clear(p.Bytes()) // the buffer is used again
		return "-", nil
	case v != what[:1]:
		return "", fmt.Errorf("it followed %s", v)
	}
	return what, nil
}

// fragment is "a2", the third fragment of a, or "a24-40", some of its bytes, or
// "a24-40.", these bytes as the last ones. The data of each begins with its
// name.
func (s *scene) fragment(what string) packet.Packet {
	var from, to int
	more := true
	if n, _ := fmt.Sscanf(what[1:], "%d-%d", &from, &to); n == 2 {
		more = what[len(what)-1] != '.'
	} else {
		from, to = from*16, from*16+16
		if more = from < 48; !more {
			to = 60
		}
	}
	size := to
	if more {
		size = to + 8
	}
	port := uint16(what[0] | 0x20) // the ID tells a from b, and A from neither
	whole := packet.AppendUDP(nil, netip.MustParseAddrPort("100.64.0.7:5000"), netip.AddrPortFrom(netip.MustParseAddr("10.0.0.9"), port), make([]byte, max(size, 24)-8))
	copy(whole[20+from:], fmt.Sprintf("%-8s", what))
	if from == 0 {
		copy(whole[20:], []byte{0x13, 0x88, 0, byte(port), 1, 0, 0, 0})
	}
	p, err := packet.ParseFragment(cut.Piece(whole, from, to, uint32(port)))
	if err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
	return p
}

// Two datagrams on their way to the same place must not have the same ID.
func TestN41IDsAreKeptUnlessTheyClash(t *testing.T) {
	now := start
	for _, v6 := range []bool{false, true} {
		table := New[int](rand.New(rand.NewPCG(1, 2)))
		begin := func(to string, dst string, id uint32) (fragments []packet.Packet) {
			a, x := "100.64.0.7", netip.MustParseAddr(dst)
			if v6 {
				a = "fd00:2021:1111::7"
			}
			whole := packet.AppendUDP(nil, netip.AddrPortFrom(netip.MustParseAddr(a), 5000), netip.AddrPortFrom(netip.MustParseAddr(to), 7), make([]byte, 3000))
			for _, b := range cut.Apart(whole, packet.MaxSize, id) {
				p, _ := packet.ParseFragment(b)
				fragments = append(fragments, p)
			}
			came := KeyOf(fragments[0])
			fragments[0].SetDst(x)
			table.Begin(came, fragments[0], 0, now)
			return fragments
		}
		ids := func(fragments []packet.Packet) (list []uint32) {
			for _, p := range fragments {
				list = append(list, p.Fragment().ID)
			}
			return list
		}
		follow := func(fragments []packet.Packet) {
			for _, p := range fragments[1:] {
				if _, ok := table.Follow(p, now); !ok {
					t.Fatal("a fragment does not follow")
				}
			}
		}
		p1, p2, x, y := "100.96.0.1", "100.96.0.2", "10.0.0.9", "10.0.0.10"
		if v6 {
			p1, p2, x, y = "fd00:2021:1111:8000::1", "fd00:2021:1111:8000::2", "2001:db8::9", "2001:db8::a"
		}
		a, b, other := begin(p1, x, 7), begin(p2, x, 7), begin(p1, y, 8)
		for _, p := range []packet.Packet{a[0], b[0], other[0]} {
			if table.leaving[KeyOf(p)] == nil {
				t.Errorf("v6 %v: ID %x, which a datagram goes on with, is not known", v6, p.Fragment().ID)
			}
		}
		follow(a)
		follow(b)
		follow(other)
		if got := ids(a); !slices.Equal(got, []uint32{7, 7, 7}) {
			t.Errorf("v6 %v: the first has IDs %v, want 7", v6, got)
		}
		if got := ids(b); got[0] == 7 || got[1] != got[0] || got[2] != got[0] || !v6 && got[0] > 0xffff {
			t.Errorf("v6 %v: the second has IDs %v, want others, and one for all", v6, got)
		}
		if got := ids(other); !slices.Equal(got, []uint32{8, 8, 8}) {
			t.Errorf("v6 %v: one to another host has IDs %v, want 8", v6, got)
		}
		c := begin(p2, x, 7)
		if got := ids(c)[0]; got != 7 {
			t.Errorf("v6 %v: with the others complete, the ID becomes %d, want 7", v6, got)
		}
		// The same Key again is the same place, which is free for it.
		if got := ids(begin(p2, x, 7))[0]; got != 7 {
			t.Errorf("v6 %v: used again, the ID becomes %d, want 7", v6, got)
		}
		// A first fragment that comes twice is still one of the same datagram.
		d := begin(p1, x, 7)
		follow(c)
		if got, want := ids(begin(p1, x, 7))[0], ids(d)[0]; got != want || got == 7 {
			t.Errorf("v6 %v: the first fragment came twice, with ID %d and %d", v6, want, got)
		}
	}
}

// Fragments belong together if addresses, protocol and ID are the same.
func TestKeys(t *testing.T) {
	keys := make(map[Key]string)
	for _, addrs := range [][2]string{{"10.0.0.1", "10.0.0.2"}, {"10.0.0.1", "10.0.0.3"}, {"10.0.0.4", "10.0.0.2"}, {"fd00::1", "fd00::2"}, {"::ffff:10.0.0.1", "::ffff:10.0.0.2"}} {
		whole := packet.AppendUDP(nil, netip.AddrPortFrom(netip.MustParseAddr(addrs[0]), 1), netip.AddrPortFrom(netip.MustParseAddr(addrs[1]), 2), make([]byte, 100))
		for _, proto := range []packet.Proto{packet.TCP, packet.UDP, 47} {
			if whole[0]>>4 == 4 {
				whole[9] = byte(proto)
			} else {
				whole[6] = byte(proto)
			}
			for _, id := range []uint32{7, 8} {
				name, later := fmt.Sprint(addrs, proto, id), make(map[Key]bool)
				for at := 24; at < 104; at += 8 {
					p, err := packet.ParseFragment(cut.Piece(whole, at, at+8, id))
					if err != nil {
						t.Fatal(err)
					}
					later[KeyOf(p)] = true
				}
				for k := range later {
					if keys[k] != "" || len(later) != 1 {
						t.Errorf("%s and %s have %d keys", name, keys[k], len(later))
					}
					keys[k] = name
				}
			}
		}
	}
}

func TestN41Bounds(t *testing.T) {
	table := New[int](nil)
	fragment := func(n, offset int, more bool) packet.Packet { return piece(uint32(n), offset, offset+8, more) }
	begin := func(n int, now time.Time) []packet.Packet {
		p := fragment(n, 0, true)
		return table.Begin(KeyOf(p), p, n, now)
	}
	for i := range 70 {
		if _, ok := table.Follow(fragment(i, 8, true), start); ok {
			t.Fatalf("%d follows nothing", i)
		}
	}
	if lost := table.Lost(); lost != 70-maxEarly || table.early != maxEarly {
		t.Errorf("%d lost, %d wait; want %d and %d", lost, table.early, 70-maxEarly, maxEarly)
	}
	if n := len(begin(0, start)); n != 1 {
		t.Fatalf("%d early ones, want 1", n)
	}
	if n := len(begin(69, start)); n != 0 {
		t.Fatalf("an early one waits that had no room")
	}
	if _, ok := table.Follow(fragment(70, 8, true), start); ok || table.early != maxEarly || table.Lost() != 0 {
		t.Error("the room of an early one is not used again")
	}

	now := start.Add(earlyFor)
	for i := range maxDatagrams + 10 {
		begin(1000+i, now)
	}
	if table.begun.len != maxDatagrams || len(table.by) != maxDatagrams || table.early != 0 {
		t.Errorf("%d have begun, %d known, %d wait; want %d, %d, 0", table.begun.len, len(table.by), table.early, maxDatagrams, maxDatagrams)
	}
	if _, ok := table.Follow(fragment(1009, 8, true), now); ok {
		t.Error("the oldest did not make room")
	}
	if v, ok := table.Follow(fragment(1010, 8, true), now); !ok || v != 1010 {
		t.Error("not only the oldest made room")
	}
	table.Sweep(now.Add(datagramFor))
	if !table.Empty() || table.begun != (queue[int]{}) || table.waiting != (queue[int]{}) {
		t.Error("not empty when all is too old")
	}
}

// The largest datagram fits in any order, and no more gaps than the bound.
func TestLargestDatagram(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 0))
		table := New[int](rng)
		whole := packet.AppendUDP(nil, netip.MustParseAddrPort("100.64.0.7:1"), netip.MustParseAddrPort("10.0.0.9:2"), make([]byte, 65507))
		fragments := cut.Apart(whole, packet.MaxSize, 1)
		order := rng.Perm(len(fragments))
		passed := 0
		for _, i := range order {
			p, err := packet.ParseFragment(fragments[i])
			if err != nil {
				t.Fatal(err)
			}
			if p.IsFirst() {
				passed += 1 + len(table.Begin(KeyOf(p), p, 0, start))
			} else if _, ok := table.Follow(p, start); ok {
				passed++
			}
		}
		if passed != len(fragments) || len(fragments) != 53 || len(table.by) != 0 || table.Lost() != 0 {
			t.Fatalf("seed %d: %d of %d fragments passed", seed, passed, len(fragments))
		}
	}
	var r runs
	for i := range uint16(maxRuns) {
		if how := r.add(i*16, i*16+8); how != fresh {
			t.Fatalf("run %d: %d", i, how)
		}
	}
	if r.add(maxRuns*16, maxRuns*16+8) != clash || r.add(8, 16) != fresh || r.n != maxRuns-1 || r.add(maxRuns*16, maxRuns*16+8) != fresh {
		t.Error("the bound on gaps")
	}
}

func piece(id uint32, from, to int, more bool) packet.Packet {
	size := max(to, 8)
	if more {
		size += 8
	}
	whole := packet.AppendUDP(nil, netip.MustParseAddrPort("100.64.0.7:5000"), netip.MustParseAddrPort("10.0.0.9:7"), make([]byte, size-8))
	if from == 0 { // whatever its length
		binary.BigEndian.PutUint16(whole[24:], 9999)
	}
	p, err := packet.ParseFragment(cut.Piece(whole, from, to, id))
	if err != nil {
		panic(err)
	}
	return p
}

// BenchmarkDatagram is a datagram of 8,000 bytes, in order, while others are on
// their way.
func BenchmarkDatagram(b *testing.B) {
	table := New[netip.Addr](rand.New(rand.NewPCG(1, 1)))
	x := netip.MustParseAddr("10.0.0.9")
	for i := range uint32(200) {
		p := piece(i, 0, 8, true)
		table.Begin(KeyOf(p), p, x, start)
	}
	whole := packet.AppendUDP(nil, netip.MustParseAddrPort("100.64.0.7:1"), netip.MustParseAddrPort("100.96.0.9:2"), make([]byte, 8000))
	var fragments []packet.Packet
	for _, f := range cut.Apart(whole, packet.MaxSize, 1) {
		p, _ := packet.ParseFragment(f)
		fragments = append(fragments, p)
	}
	id := uint32(0)
	b.ReportAllocs()
	for b.Loop() {
		id = (id + 1) & 0xffff
		for _, p := range fragments {
			p.SetFragmentID(id)
			if p.IsFirst() {
				table.Begin(KeyOf(p), p, x, start)
			} else if _, ok := table.Follow(p, start); !ok {
				b.Fatal("a fragment does not follow")
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(fragments)), "ns/fragment")
}
