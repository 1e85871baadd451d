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

// Rules N28, N34, N48 and N50 of spec gateway-nat.md 7.3, and the bounds of 7.1.

func nobody(id.Resource) bool { return false }

func TestN28UselessBindingsAreFreed(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.announce("bar", bar, addrB)
	o := w.handshake(5000, p4(bar, 0), addrB)
	sweep := func(from, to time.Duration, authorized func(id.Resource) bool) {
		for at := from; at <= to; at += 5 * time.Second {
			w.at(at)
			w.Sweep(authorized, all, w.now)
		}
	}
	sweep(0, time.Hour, func(r id.Resource) bool { return r == wiki })
	sweep(time.Hour, time.Hour+9*time.Minute, nobody)
	if _, ok := w.Resources(p4(foo, 0)); !ok {
		t.Fatal("freed too early")
	}
	w.Announce("foo", wiki, foo[:1], w.now) // counts from here again
	sweep(time.Hour+9*time.Minute, time.Hour+12*time.Minute, nobody)
	if _, ok := w.Resources(p4(foo, 0)); !ok {
		t.Error("freed although announced again")
	}
	if _, ok := w.Resources(p4(foo, 1)); ok {
		t.Error("not freed")
	}
	w.comes(tcp(addrB, client4, 443, o, ack), p4(bar, 0))
	sweep(time.Hour+12*time.Minute, 26*time.Hour, nobody)
	if w.Len()+len(w.bindings) != 0 {
		t.Errorf("%d sessions and %d bindings are left", w.Len(), len(w.bindings))
	}
}

// What goes first when the table is full, one class after the other; none of
// the last two lines may.
func TestN47Eviction(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	tcpTo := func(port uint16) []byte { return tcp(client4, p4(foo, 0), port, 443, ack) }
	idle := []func(){
		func() { w.handshake(4000, p4(foo, 0), addrA) }, // established, idle for 2 h 4 min
		func() { // half closed, idle
			w.handshake(4001, p4(foo, 0), addrA)
			w.comes(tcp(addrA, client4, 443, 4001, fin|ack), p4(foo, 0))
		},
	}
	for _, f := range idle {
		f()
	}
	w.at(2*time.Hour + 2*time.Minute)
	w.goes(udp(client4, p4(foo, 0), 4002, 53), addrA) // UDP, idle for two minutes
	w.comes(udp(addrA, client4, 53, 4002), p4(foo, 0))
	w.at(2*time.Hour + 4*time.Minute - time.Second)
	w.comes(tcp(addrA, client4, 443, 4001, ack), p4(foo, 0))
	w.at(2*time.Hour + 4*time.Minute)
	w.goes(echo(client4, p4(foo, 0), 4003, true), addrA) // echo
	w.comes(echo(addrA, client4, 4003, false), p4(foo, 0))
	w.goes(tcp(client4, p4(foo, 0), 4004, 443, syn), addrA) // no answer yet
	w.handshake(4005, p4(foo, 0), addrA)                    // closed
	w.goes(tcp(client4, p4(foo, 0), 4005, 443, rst), addrA)
	w.handshake(4006, p4(foo, 0), addrA)              // established, active
	w.goes(udp(client4, p4(foo, 0), 4007, 53), addrA) // UDP, active
	w.comes(udp(addrA, client4, 53, 4007), p4(foo, 0))

	w.maxSessions = w.Len()
	gone := func(b []byte) bool { return !w.Has(parse(t, b), w.now) }
	order := [][]byte{tcpTo(4005), tcpTo(4004), echo(client4, p4(foo, 0), 4003, true), udp(client4, p4(foo, 0), 4002, 53), tcpTo(4000)}
	for n, next := range order {
		if gone(next) {
			t.Fatalf("%d went too early", n)
		}
		w.handshake(5000+uint16(n), p4(foo, 0), addrA)
		if !gone(next) {
			t.Fatalf("%d did not go", n)
		}
	}
	w.out(tcp(client4, p4(foo, 0), 6000, 443, syn), Full)
	for _, stays := range [][]byte{tcpTo(4001), tcpTo(4006), udp(client4, p4(foo, 0), 4007, 53)} {
		if gone(stays) {
			t.Errorf("%x is gone", stays)
		}
	}
	w.at(2*time.Hour + 5*time.Minute)
	w.handshake(6000, p4(foo, 0), addrA) // in place of the UDP session, idle for a minute
	if !gone(udp(client4, p4(foo, 0), 4007, 53)) || gone(tcpTo(4001)) {
		t.Error("UDP that is idle is still there, or a half closed connection is gone before")
	}
	w.handshake(6001, p4(foo, 0), addrA) // and of the half closed one
	if !gone(tcpTo(4001)) {
		t.Error("a half closed connection that is idle is still there")
	}
}

// Of those that shake hands and those that nobody answered, the one goes first
// whose client was silent for the longest time, whatever servers sent meanwhile.
func TestN47UnfinishedByTheirClientsLastPacket(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	const a, b, c = 4000, 4001, 4002
	begins := func(port uint16) { w.goes(tcp(client4, p4(foo, 0), port, 443, syn), addrA) }
	answered := func(port uint16) { w.comes(tcp(addrA, client4, 443, port, syn|ack), p4(foo, 0)) }
	for second, step := range []func(){
		func() { begins(a) },
		func() { begins(b) },
		func() { answered(a) },
		func() { answered(b) },
		func() { begins(a) }, // again
		func() { begins(c) },
		func() { answered(b) }, // again
	} {
		w.at(time.Duration(second) * time.Second)
		step()
	}
	w.maxSessions = w.Len()
	for n, port := range []uint16{b, a, c} {
		w.at(time.Duration(10+n) * time.Second)
		if !w.Has(parse(t, tcp(client4, p4(foo, 0), port, 443, ack)), w.now) {
			t.Fatalf("%d went too early", port)
		}
		begins(5000 + uint16(n))
		if w.Has(parse(t, tcp(client4, p4(foo, 0), port, 443, ack)), w.now) {
			t.Fatalf("%d did not go", port)
		}
	}
}

// S18: full of established connections; when one ends, the next one fits.
func TestS18FullOfConnections(t *testing.T) {
	w := newWorld(t)
	w.pace = unpaced
	w.announce("foo", foo, addrA)
	for n := range maxSessions {
		w.handshake(1024+uint16(n), p4(foo, 0), addrA)
	}
	w.out(tcp(client4, p4(foo, 0), 40000, 443, syn), Full)
	w.goes(tcp(client4, p4(foo, 0), 2000, 443, fin|ack), addrA)
	w.comes(tcp(addrA, client4, 443, 2000, fin|ack), p4(foo, 0))
	w.handshake(40000, p4(foo, 0), addrA)
}

func TestOldestNamesMakeRoom(t *testing.T) {
	w := newWorld(t)
	name := func(n int) []netip.Addr {
		var list []netip.Addr
		for i := range 8 {
			list = append(list, netip.AddrFrom4([4]byte{100, 97, byte(n >> 5), byte(n<<3 + i)}))
		}
		return list
	}
	w.announce("used", name(0), addrA)
	w.goes(udp(client4, name(0)[0], 6000, 53), addrA)
	for n := 1; n <= maxProxies/8; n++ {
		w.at(time.Duration(n) * time.Millisecond)
		if !w.Announce("idle", wiki, name(n), w.now) {
			t.Fatalf("name %d refused", n)
		}
	}
	if _, ok := w.Resources(name(0)[0]); !ok {
		t.Error("a name in use was freed")
	}
	if _, ok := w.Resources(name(1)[0]); ok {
		t.Error("the oldest name is still there")
	}
	if _, ok := w.Resources(name(maxProxies / 8)[7]); !ok || len(w.bindings) > maxProxies {
		t.Errorf("%d proxies, the latest of them: %v", len(w.bindings), ok)
	}
}

func TestFullOfNamesInUse(t *testing.T) {
	w := newWorld(t)
	w.maxSessions, w.pace = 1<<20, unpaced
	for n := range maxProxies {
		p := []netip.Addr{netip.AddrFrom4([4]byte{100, 97, byte(n >> 8), byte(n)})}
		w.announce("used", p, addrA)
		w.goes(udp(client4, p[0], uint16(n), 53), addrA)
	}
	if w.Announce("foo", wiki, foo, w.now) {
		t.Error("accepted beyond the bound")
	}
	if _, ok := w.Resources(p4(foo, 0)); ok || len(w.bindings) != maxProxies {
		t.Error("a refused announcement changed something")
	}
}

// Nothing is allocated for a packet of a session that exists, nor for one that
// is refused.
func TestPacketsDoNotAllocate(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.handshake(5000, p4(foo, 0), addrA)
	out, in := tcp(client4, p4(foo, 0), 5000, 443, ack), tcp(addrA, client4, 443, 5000, ack)
	refused := tcp(client4, p4(foo, 0), 5001, 443, rst)
	n := testing.AllocsPerRun(200, func() {
		o, _ := packet.Parse(out)
		w.Out(o, w.now)
		o.SetDst(p4(foo, 0))
		i, _ := packet.Parse(in)
		w.In(w.Match(i, w.now), i, w.now)
		i.SetSrc(addrA)
		r, _ := packet.Parse(refused)
		w.Out(r, w.now)
		w.Resources(p4(foo, 0))
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzN50AnyPacket(f *testing.F) {
	f.Add(tcp(client4, p4(foo, 0), 5000, 443, syn))
	f.Add(udp(client6, p6(foo, 0), 5000, 443))
	f.Add(echo(addrA, client4, 7, false))
	f.Add(icmpError(addrA, client4, 3, udp(client4, addrA, 5000, 53)))
	f.Add(icmpError(addrD, client6, 2, udp(client6, addrD, 5000, 53)))
	f.Add(ip(client4, addrA, 47, []byte{1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		w := newWorld(t)
		w.announce("foo", foo, addrA, addrD)
		w.out(udp(client4, p4(foo, 0), 5000, 53), Forward)
		w.out(udp(client6, p6(foo, 0), 5000, 53), Forward)
		for range 2 {
			p, err := packet.Parse(b)
			if err != nil {
				return
			}
			w.Out(p, w.now)
			if s := w.Match(p, w.now); s != nil {
				w.In(s, p, w.now)
			}
			if s := w.MatchError(p, w.now); s != nil {
				w.InError(s, p, p.Src(), w.now)
			}
			w.Accept(p, w.now)
		}
		if w.Len() > 6 || w.inside.n != w.outside.n {
			t.Fatalf("%d rows", w.Len())
		}
	})
}

// manyKinds is a table that has seen sessions of all kinds: closed, failed,
// evicted, revived, renumbered, told of.
func manyKinds(t *testing.T) *world {
	w := newWorld(t)
	w.Table = New(Config{Rand: w.rng, MaxSessions: 200, Flows: true}, epoch)
	for n := range 2000 {
		w.at(time.Duration(n) * 100 * time.Millisecond)
		if n%97 == 0 {
			w.announce([]string{"foo", "bar"}[n%2], foo, addrA, addrB, addrD)
		}
		port, p := uint16(1024+n%300), p4(foo, n%4)
		for _, b := range [][]byte{tcp(client4, p, port, 443, []packet.TCPFlags{syn, syn, ack, fin | ack, rst | ack}[n%5]), udp(client6, p6(foo, n%4), port, 53), echo(client4, addrC, port, true), ip(client4, addrC, 47, nil)} {
			q := parse(t, b)
			if w.Out(q, w.now) != Forward {
				continue
			}
			w.MatchError(parse(t, icmpError(q.Dst(), q.Src(), 3, q.Bytes())), w.now)
			reply := q
			switch {
			case q.Proto() == packet.TCP:
				reply = parse(t, tcp(q.Dst(), q.Src(), q.DstPort(), q.SrcPort(), []packet.TCPFlags{syn | ack, ack, fin | ack, rst}[n%4]))
			case q.Proto() == packet.UDP:
				reply = parse(t, udp(q.Dst(), q.Src(), q.DstPort(), q.SrcPort()))
			}
			if s := w.Match(reply, w.now); s != nil && n%3 > 0 {
				w.In(s, reply, w.now)
			}
		}
		w.Events(nil)
	}
	for range 2 { // SYNs that nobody answers
		w.out(tcp(client4, p4(foo, 0), 9, 443, syn), Forward)
	}
	if w.Len() == 0 || len(w.past.order) == 0 || len(w.awaited) == 0 {
		t.Fatalf("%d sessions, %d former ones, %d that may fail: too tame", w.Len(), len(w.past.order), len(w.awaited))
	}
	return w
}

// left tells what a table holds.
func (w *world) left() string {
	if w.Len()+len(w.inside.entries)+len(w.outside.entries)+len(w.rows.chunks)+len(w.bindings)+len(w.bound)+len(w.unbound)+
		len(w.past.order)+len(w.past.inside)+len(w.past.outside)+len(w.awaited)+len(w.woken)+len(w.events) > 0 ||
		w.opening.front != 0 || w.evictable != [numClasses]list{} || w.wheel != nil || w.LostEvents() > 0 {
		return fmt.Sprintf("%+v", w.Table)
	}
	return ""
}

// After everything is over, nothing is left, of whatever kind it was.
func TestN48NothingIsLeft(t *testing.T) {
	w := manyKinds(t)
	for end := w.now.Add(tcpOpen + bindingGC + 5*time.Minute); w.now.Before(end); w.now = w.now.Add(10 * time.Second) {
		w.Sweep(nobody, all, w.now)
		w.Events(nil)
		w.Woken(nil)
	}
	if left := w.left(); left != "" {
		t.Errorf("left: %s", left)
	}
}

// A table that was given up is an empty one, which can be used.
func TestN48AFreedTable(t *testing.T) {
	w := manyKinds(t)
	w.Free()
	w.Woken(nil)
	w.Events(nil)
	if left := w.left(); left != "" {
		t.Errorf("left: %s", left)
	}
	w.announce("foo", foo, addrA)
	w.handshake(5000, p4(foo, 0), addrA)
	w.goes(udp(client4, p4(foo, 1), 5000, 53), addrA)
	w.at(48 * time.Hour)
	w.Sweep(nobody, all, w.now)
	if err := sound(w.Table); err != nil || w.Len() > 0 {
		t.Errorf("%d sessions, %v", w.Len(), err)
	}
}

// Those that shake hands go by their clients' last packets, in whatever order they
// were answered; and so do those beside them that nobody answered.
func TestN47UnfinishedInAnyOrder(t *testing.T) {
	for _, answered := range [][]uint16{{2, 1, 0}, {0, 1, 2}, {1, 0, 2}, {1}, {2, 0}, {}} {
		w := newWorld(t)
		w.announce("foo", foo, addrA)
		for n := range uint16(3) {
			w.at(time.Duration(n) * time.Second)
			w.goes(tcp(client4, p4(foo, 0), 4000+n, 443, syn), addrA)
		}
		for _, n := range answered {
			w.comes(tcp(addrA, client4, 443, 4000+n, syn|ack), p4(foo, 0))
		}
		w.maxSessions = w.Len()
		for n := range uint16(3) {
			w.at(time.Duration(10+n) * time.Second)
			w.goes(tcp(client4, p4(foo, 0), 5000+n, 443, syn), addrA)
			if w.Has(parse(t, tcp(client4, p4(foo, 0), 4000+n, 443, ack)), w.now) {
				t.Errorf("answered %v: %d did not go", answered, 4000+n)
			}
		}
	}
}

func TestN47OtherProtocols(t *testing.T) {
	w := newWorld(t)
	w.out(ip(client4, addrC, 47, []byte{1}), Forward)
	w.comes(ip(addrC, client4, 47, []byte{1}), addrC)
	w.maxSessions = 1
	w.at(time.Minute - 1)
	w.out(udp(client4, addrC, 5000, 53), Full)
	w.at(time.Minute)
	w.out(udp(client4, addrC, 5000, 53), Forward)
}

// Whether somebody sweeps decides nothing (N12), in particular not whom eviction
// takes: two tables are told the same packets, many at one instant as in a batch,
// and one is swept now and then.
func TestN12SweepsDecideNothing(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		most := 20 + rng.IntN(200)
		var worlds [2]*world
		for i := range worlds {
			w := newWorld(t)
			w.Table = New(Config{Rand: rand.New(rand.NewPCG(seed, 2)), MaxSessions: most, NewPerSecond: 1e9, Burst: 1 << 30}, epoch)
			w.announce("foo", foo, addrA, addrB)
			worlds[i] = w
		}
		for step, now := 0, time.Duration(0); step < 300; step++ {
			now += []time.Duration{time.Millisecond, time.Second, 7 * time.Second, 30 * time.Second, time.Minute}[rng.IntN(5)]
			if rng.IntN(100) == 0 {
				now += 3 * time.Hour
			}
			for _, w := range worlds {
				w.at(now)
			}
			worlds[1].Sweep(func(id.Resource) bool { return true }, []int{1, 5, all}[rng.IntN(3)], worlds[1].now)
			for range 1 + rng.IntN(40) {
				port, dst := uint16(1000+rng.IntN(2*most)), addrC
				if rng.IntN(2) == 0 {
					dst = p4(foo, rng.IntN(4))
				}
				open := []packet.TCPFlags{syn, ack, ack, fin | ack, rst}[rng.IntN(5)]
				answer := []packet.TCPFlags{syn | ack, ack, ack, fin | ack, rst}[rng.IntN(5)]
				kind, back := rng.IntN(3), rng.IntN(3) > 0
				var verdicts [2]Verdict
				for i, w := range worlds {
					verdicts[i] = w.exchange(kind, port, dst, open, answer, back)
				}
				if verdicts[0] != verdicts[1] {
					t.Fatalf("seed %d, step %d: port %d to %v gets verdict %d, and %d where somebody sweeps", seed, step, port, dst, verdicts[0], verdicts[1])
				}
			}
			for s := range worlds[0].rows.all {
				if at := worlds[0].Table.at(worlds[0].now); s.exists(at) != (worlds[1].alive(worlds[1].byInside(s.inside), at) != nil) {
					t.Fatalf("seed %d, step %d: %v is in one table alone", seed, step, s.inside)
				}
			}
		}
	}
}

// exchange sends a packet of UDP, TCP or ICMP, and if it passes an answer.
func (w *world) exchange(kind int, port uint16, dst netip.Addr, open, answer packet.TCPFlags, back bool) Verdict {
	p := parse(w, [][]byte{udp(client4, dst, port, 53), tcp(client4, dst, port, 443, open), echo(client4, dst, port, true)}[kind])
	v := w.Out(p, w.now)
	if v != Forward || !back {
		return v
	}
	id, _, _ := p.Echo()
	r := parse(w, [][]byte{udp(p.Dst(), client4, 53, p.SrcPort()), tcp(p.Dst(), client4, 443, p.SrcPort(), answer), echo(p.Dst(), client4, id, false)}[kind])
	if s := w.Match(r, w.now); s != nil {
		w.In(s, r, w.now)
	}
	return v
}
