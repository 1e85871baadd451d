package nat

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/packet"
)

// The differential oracle of spec gateway-nat.md 8.1: the gateway of April 2025
// beside a Table. It is written from sections 2.5, 2.6 and 3 alone and shares
// nothing with the model of section 7.

// An oldGateway is the session-aware rule as it first was: a binding is left as
// it is while any session has that proxy address, and a session lasts a minute
// from the client's last packet.
type oldGateway struct {
	now      time.Time
	rows     map[oldKey]*oldRow
	bindings map[netip.Addr]netip.Addr
	// refused are answers that found a session. The old gateway forgot them; its
	// clients asked again with the next query, here as soon as it helps.
	refused map[netip.Addr]netip.Addr
}

type oldKey struct {
	proto packet.Proto
	id    uint16
	p     netip.Addr
}

func (k oldKey) String() string { return fmt.Sprintf("%d %d→%v", k.proto, k.id, k.p) }

type oldRow struct {
	x    netip.Addr
	last time.Time // packet of the client
}

func newOldGateway(now time.Time) *oldGateway {
	return &oldGateway{now: now, rows: map[oldKey]*oldRow{}, bindings: map[netip.Addr]netip.Addr{}, refused: map[netip.Addr]netip.Addr{}}
}

// tick runs after each step of the clock.
func (g *oldGateway) tick(now time.Time) {
	g.now = now
	for k, r := range g.rows {
		if now.Sub(r.last) >= time.Minute {
			delete(g.rows, k)
		}
	}
	for p, x := range g.refused {
		g.recreate(p, x)
	}
}

func (g *oldGateway) recreate(p, x netip.Addr) {
	for k := range g.rows {
		if k.p == p {
			g.refused[p] = x
			return
		}
	}
	g.bindings[p] = x
	delete(g.refused, p)
}

// answer is a (re)creation of a name: per family, its sorted proxies take the
// sorted addresses in turn. Both lists are sorted.
func (g *oldGateway) answer(proxies, addrs []netip.Addr) {
	for _, four := range []bool{true, false} {
		var list []netip.Addr
		for _, a := range addrs {
			if a.Is4() == four {
				list = append(list, a)
			}
		}
		n := 0
		for _, p := range proxies {
			if p.Is4() == four {
				g.recreate(p, list[n%len(list)])
				n++
			}
		}
	}
}

// out returns where a client's packet goes, and whether its session was open.
func (g *oldGateway) out(k oldKey) (x netip.Addr, open bool) {
	r := g.rows[k]
	if open = r != nil; !open {
		r = &oldRow{x: g.bindings[k.p]}
		g.rows[k] = r
	}
	r.last = g.now
	return r.x, open
}

// A pair is a session of the old gateway and what the Table makes of it.
type pair struct {
	x       netip.Addr // in the Table, of the latest packet
	id      uint16     // outside, of the first one
	same    bool       // both began on the same address
	ended   bool       // the Table's has been ended since, as it may
	lasting bool       // it was answered, or reset: its row may outlive the minute
}

// A duel sends the same packets and answers to both.
type duel struct {
	*testing.T
	seed    uint64
	step    int
	rng     *rand.Rand
	now     time.Time
	old     *oldGateway
	table   *Table
	pairs   map[oldKey]*pair
	recent  []oldKey
	lastOut map[netip.Addr]time.Time
	// apart: on that proxy address the two may begin sessions on different
	// addresses, since a session that was idle for a minute spoke again: for the
	// old gateway it was a new one.
	apart      map[netip.Addr]bool
	good       time.Time
	pins, news int // comparisons
}

func TestOracleOfApril2025(t *testing.T) {
	const steps = 400
	pins, news, seeds := 0, 0, simSeeds(160)
	for seed := range seeds {
		d := &duel{T: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 25)), now: epoch, old: newOldGateway(epoch),
			pairs: map[oldKey]*pair{}, lastOut: map[netip.Addr]time.Time{}, apart: map[netip.Addr]bool{}}
		d.table = New(Config{Rand: rand.New(rand.NewPCG(seed, 26)), Flows: true, Literal: seed%2 == 0}, epoch)
		for n := range names {
			d.answer(n, n)
		}
		for d.step = range steps {
			d.advance()
			d.act()
		}
		pins, news = pins+d.pins, news+d.news
	}
	t.Logf("%d steps, %d packets of open sessions and %d new sessions compared", seeds*steps, pins, news)
	if total := int(seeds * steps); pins < total/8 || news < total/20 {
		t.Errorf("of %d steps, only %d and %d were compared", total, pins, news)
	}
}

func (d *duel) advance() {
	step := time.Duration(d.rng.IntN(4)) * time.Second
	switch d.rng.IntN(100) {
	case 0:
		step = []time.Duration{3 * time.Minute, 10 * time.Minute, 2 * time.Hour}[d.rng.IntN(3)]
	case 1, 2, 3, 4, 5:
		step = []time.Duration{20 * time.Second, 59999 * time.Millisecond, time.Minute}[d.rng.IntN(3)]
	case 6, 7:
		early := time.Duration(d.rng.IntN(2)) * time.Millisecond
		for _, last := range d.lastOut { // to where the last hold ends, or just before
			step = max(step, last.Add(time.Minute-early).Sub(d.now))
		}
	}
	if d.now.Add(step).Sub(d.good) >= 23*time.Hour {
		d.answer(0, 0) // so that no answer is too old to count
		d.answer(1, 1)
	}
	d.now = d.now.Add(step)
	d.old.tick(d.now)
	if d.rng.IntN(3) == 0 {
		d.table.Sweep(func(id.Resource) bool { return true }, 1+d.rng.IntN(9), d.now)
	}
	d.ends()
}

func (d *duel) act() {
	switch d.rng.IntN(12) {
	case 0, 1:
		n := d.rng.IntN(len(names))
		d.answer(n, n)
	case 2:
		for n, name := range names {
			d.table.Answer([]string{"foo", "bar"}[n], name, Outcome{Failed: true}, Outcome{Failed: true}, d.now)
		}
	case 3:
		if d.rng.IntN(20) == 0 {
			d.rename()
		}
	case 4, 5, 6:
		d.in()
	default:
		d.out()
	}
}

// answer resolves the name of the n-th set of proxies.
func (d *duel) answer(n, set int) {
	name := []string{"foo", "bar"}[n]
	addrs := []netip.Addr{[]netip.Addr{addrA, addrB, addrC}[d.rng.IntN(3)], []netip.Addr{addrD, addrD.Next()}[d.rng.IntN(2)]}
	if d.rng.IntN(3) == 0 {
		addrs = []netip.Addr{addrA, addrB, addrD, addrD.Next()}
	}
	for _, p := range names[set] {
		if last, used := d.lastOut[p]; !used || d.now.Sub(last) >= time.Minute {
			delete(d.apart, p) // nothing holds either: both take the answer
		}
	}
	d.old.answer(names[set], addrs)
	d.table.Announce(name, wiki, names[set], d.now)
	var v4, v6 Outcome
	for _, a := range addrs {
		if a.Is4() {
			v4.Addrs = append(v4.Addrs, a)
		} else {
			v6.Addrs = append(v6.Addrs, a)
		}
	}
	d.table.Answer(name, names[set], v4, v6, d.now)
	d.ends()
	d.good = d.now
}

// rename gives the proxies of both names to the other one and back: N25 ends
// all sessions, of which the old gateway knew nothing.
func (d *duel) rename() {
	for n := range names {
		d.answer(1-n, n)
		d.answer(n, n)
		for _, p := range names[n] {
			d.apart[p] = true
		}
	}
}

// ends looks whether the Table ended sessions that it should not have.
func (d *duel) ends() {
	for _, e := range d.table.Events(nil) {
		k := oldKey{e.Flow.Proto, e.Flow.Client, e.Flow.Proxy}
		s := d.pairs[k]
		if e.Kind != Ended || s == nil || d.old.rows[k] == nil {
			continue
		}
		switch e.Reason {
		case EndRenamed:
		case EndRestarted, EndFinished, EndReset: // it was closed; its hold ends with it
			d.apart[k.p] = true
		default:
			d.fatalf("%v ended (%v) while it is open", k, e.Reason)
		}
		s.ended = true
	}
}

var oldProtos = []packet.Proto{packet.TCP, packet.TCP, packet.UDP, packet.ICMP}

// key is one of the last that were used, or any.
func (d *duel) key() oldKey {
	if len(d.recent) > 0 && d.rng.IntN(4) > 0 {
		return d.recent[d.rng.IntN(len(d.recent))]
	}
	k := oldKey{oldProtos[d.rng.IntN(4)], 5000 + uint16(d.rng.IntN(4)), names[d.rng.IntN(2)][d.rng.IntN(4)]}
	if k.proto == packet.ICMP {
		k.proto = icmpOf(k.p)
	}
	d.recent = append(d.recent, k)
	d.recent = d.recent[max(0, len(d.recent)-4):]
	return k
}

func (d *duel) out() {
	k := d.key()
	src := client4
	if k.p.Is6() {
		src = client6
	}
	var b []byte
	switch k.proto {
	case packet.TCP:
		flags := []packet.TCPFlags{syn, ack, ack, ack, ack, ack, fin | ack, rst}[d.rng.IntN(8)]
		b = tcp(src, k.p, k.id, 443, flags)
		if flags == rst && !d.table.Has(parse(d, b), d.now) {
			return // no session of ours begins with it
		}
	case packet.UDP:
		b = udp(src, k.p, k.id, 53)
	default:
		b = echo(src, k.p, k.id, true)
	}
	p := parse(d, b)
	if v := d.table.Out(p, d.now); v != Forward {
		d.fatalf("%v: verdict %v", k, v)
	}
	d.ends()
	x, open := d.old.out(k)
	d.lastOut[k.p] = d.now
	was := d.pairs[k]
	switch got := p.Dst(); {
	case open && was.same && !was.ended:
		d.pins++
		if got != x || idOf(p, true) != was.id {
			d.fatalf("%v went to %v from %d, it began to %v from %d", k, got, idOf(p, true), x, was.id)
		}
	case open:
	default:
		if d.table.literal && !d.apart[k.p] {
			d.news++
			// Only one that spoke again after a minute may go elsewhere, where it was.
			if d.apart[k.p] = got != x; got != x && (was == nil || !was.lasting || was.x != got) {
				d.fatalf("new %v went to %v, in 2025 to %v", k, got, x)
			}
		}
		again := was != nil && was.lasting && was.x == got
		d.pairs[k] = &pair{x: got, id: idOf(p, true), same: got == x, lasting: again}
	}
	d.pairs[k].x = p.Dst()
	if p.TCPFlags().Has(rst) {
		d.pairs[k].lasting = true
	}
}

// in sends what a resource answers, or an error about what it got.
func (d *duel) in() {
	k := d.key()
	s := d.pairs[k]
	if s == nil || d.old.rows[k] == nil || !s.same || s.ended {
		return
	}
	dst := client4
	if k.p.Is6() {
		dst = client6
	}
	if d.rng.IntN(6) == 0 && k.p.Is4() && k.proto == packet.TCP {
		p := parse(d, icmpError(s.x, dst, 3, tcp(dst, s.x, s.id, 443, ack)))
		m := d.table.MatchError(p, d.now)
		if d.ends(); s.ended {
			return
		}
		if m == nil {
			d.fatalf("an error about %v finds no session", k)
		}
		d.table.InError(m, p, s.x, d.now)
		return
	}
	var b []byte
	switch k.proto {
	case packet.TCP:
		b = tcp(s.x, dst, 443, s.id, []packet.TCPFlags{syn | ack, ack, ack, ack, ack, fin | ack, rst | ack}[d.rng.IntN(7)])
	case packet.UDP:
		b = udp(s.x, dst, 1+uint16(d.rng.IntN(9)), s.id)
	default:
		b = echo(s.x, dst, s.id, false)
	}
	p := parse(d, b)
	m := d.table.Match(p, d.now)
	if d.ends(); s.ended {
		return
	}
	if m == nil {
		d.fatalf("the answer to %v finds no session", k)
	}
	d.table.In(m, p, d.now)
	if p.Src() != k.p || idOf(p, false) != k.id {
		d.fatalf("the answer to %v came from %v to %d", k, p.Src(), idOf(p, false))
	}
	s.lasting = true
}

func (d *duel) fatalf(format string, args ...any) {
	d.Helper()
	d.Fatalf("seed %d step %d at %v: "+format, append([]any{d.seed, d.step, d.now.Sub(epoch)}, args...)...)
}
