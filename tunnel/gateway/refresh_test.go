package gateway

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/packet"
	"stile/tunnel/wire"
)

// A server is what the refreshes of a bench meet: it notes when it is asked.
type server struct {
	b      *bench
	answer core.Looked
	asked  []string
}

func (b *bench) serve(answer core.Looked) *server {
	s := &server{b: b, answer: answer}
	b.refresh = func(a core.Lookup) core.Looked {
		s.asked = append(s.asked, fmt.Sprintf("%v %s", b.now.Sub(boot).Round(time.Second), a.Name))
		return s.answer
	}
	return s
}

// want compares what was asked since the last time.
func (s *server) want(when string, want ...string) {
	s.b.t.Helper()
	if !slices.Equal(s.asked, want) {
		s.b.t.Errorf("%s:\n got %q\nwant %q", when, s.asked, want)
	}
	s.asked = nil
}

// A name is asked for again when its answer is over, as long as a client sent
// something to it within the last minute. Nobody hears of that, and the answer
// counts for what comes next.
func TestN23NamesInUseAreRefreshed(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	dns := b.serve(core.Looked{V4: []netip.Addr{addrB}, TTL4: 2 * time.Minute})
	b.announce(1, 1, "used.corp.example", proxies(1))
	b.announce(1, 1, "idle.corp.example", proxies(2))
	b.looked(core.Looked{ID: b.looks[0].ID, V4: []netip.Addr{addrA}, TTL4: 100 * time.Second})
	b.looked(core.Looked{ID: b.looks[0].ID, V4: []netip.Addr{addrA}, TTL4: 100 * time.Second})
	b.lines = nil
	p := proxies(1)[0]
	for s := 0.0; s < 330; s += 50 {
		b.at(s)
		b.passes(1, udp(c4(1), p, 5000, 53), addrA) // the session stays where it is
	}
	dns.want("in use", "1m40s used.corp.example", "3m40s used.corp.example")
	b.at(359.9)
	dns.want("last used at 300 s", "5m40s used.corp.example")
	b.at(3000)
	dns.want("not in use")
	b.want("nobody hears of it")
	b.passes(1, udp(c4(1), p, 5001, 53), addrB)
	b.at(3006)
	if len(dns.asked) != 1 {
		t.Errorf("in use again: asked %q", dns.asked)
	}
	if n := b.counter("names refreshed"); n != 4 {
		t.Errorf("%d counted", n)
	}
}

// The time between two refreshes is what DNS says, within bounds (7.1).
func TestN23Times(t *testing.T) {
	const day = 24 * time.Hour
	some4, some6 := []netip.Addr{addrA}, []netip.Addr{addrD}
	for _, test := range []struct {
		name    string
		answer  core.Looked
		proxies func() []netip.Addr
		want    time.Duration
	}{
		{"said nothing", core.Looked{V4: some4}, nil, 30 * time.Second},
		{"short", core.Looked{V4: some4, TTL4: time.Second}, nil, 30 * time.Second},
		{"as said", core.Looked{V4: some4, TTL4: 77 * time.Second}, nil, 77 * time.Second},
		{"long", core.Looked{V4: some4, TTL4: day}, nil, 300 * time.Second},
		{"the shorter of two", core.Looked{V4: some4, TTL4: 90 * time.Second, V6: some6, TTL6: 40 * time.Second}, nil, 40 * time.Second},
		{"no data in the other family", core.Looked{V4: some4, TTL4: 90 * time.Second, TTL6: time.Second}, nil, 90 * time.Second},
		{"failure in the other family", core.Looked{V4: some4, TTL4: 90 * time.Second, Err6: errLookup}, nil, 90 * time.Second},
		{"nothing usable is no data", core.Looked{V4: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, TTL4: day, TTL6: day}, nil, 60 * time.Second},
		{"no data, said nothing", core.Looked{}, nil, 5 * time.Second},
		{"no data, short", core.Looked{TTL4: time.Second, TTL6: day}, nil, 5 * time.Second},
		{"no data, as said", core.Looked{TTL4: 17 * time.Second, TTL6: day}, nil, 17 * time.Second},
		{"no data, long", core.Looked{TTL4: day, TTL6: day}, nil, 60 * time.Second},
		{"failure", core.Looked{Err4: errLookup, Err6: errLookup}, nil, 5 * time.Second},
		{"failure and no data", core.Looked{Err4: errLookup, TTL6: day}, nil, 5 * time.Second},
		{"a family nobody asked for", core.Looked{TTL4: 17 * time.Second, V6: some6, TTL6: 200 * time.Second}, func() []netip.Addr { return only4(proxies(1)) }, 17 * time.Second},
	} {
		b := newBench(t)
		b.grant(1, dns(1, "*.corp.example"), 0)
		var asked []time.Time
		b.refresh = func(core.Lookup) core.Looked {
			asked = append(asked, b.now)
			return test.answer
		}
		list := proxies(1)
		if test.proxies != nil {
			list = test.proxies()
		}
		b.name(1, 1, "x.corp.example", list, addrA)
		for s := range 120 { // a connection that is busy, so that it goes on whatever DNS says
			b.at(float64(s * 10))
			b.passes(1, tcp(c4(1), list[0], 5000, 443, ack), addrA)
		}
		if len(asked) < 3 {
			t.Errorf("%s: asked %d times", test.name, len(asked))
			continue
		}
		for i := 2; i < len(asked); i++ {
			if got := asked[i].Sub(asked[i-1]); got != test.want {
				t.Errorf("%s: asked again after %v, want %v", test.name, got, test.want)
				break
			}
		}
	}
}

func only4(list []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(list), netip.Addr.Is6)
}

// The refresh is not for those who may not use the name any more, or who left.
func TestN23NoRefreshForNobody(t *testing.T) {
	for name, leave := range map[string]func(b *bench){
		"goodbye":   func(b *bench) { b.send(1, packet.AppendControl(nil, wire.EventGoodbye, nil)) },
		"renamed":   func(b *bench) { b.name(1, 1, "y.corp.example", proxies(1), addrA) },
		"forgotten": func(b *bench) { b.c.drop(b.c.clients[who(1)]) },
	} {
		b := newBench(t)
		b.grant(1, dns(1, "*.corp.example"), 0)
		server := b.serve(core.Looked{V4: []netip.Addr{addrA}})
		b.name(1, 1, "x.corp.example", proxies(1), addrA)
		b.passes(1, udp(c4(1), proxies(1)[0], 5000, 53), addrA)
		b.at(6)
		if len(b.c.refreshing.inUse) != 1 {
			t.Fatalf("%s: the name is not in use", name)
		}
		leave(b)
		if n := len(b.c.refreshing.inUse); n != 0 && name != "renamed" {
			t.Errorf("%s: %d names are left", name, n)
		}
		b.at(200)
		server.want(name)
	}
}

// An answer that was under way when the resource went does not count.
func TestN21RefreshOfARevokedResource(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(9, "192.0.2.0/24"), 0)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.name(1, 1, "x.corp.example", proxies(1), addrA)
	p := proxies(1)[0]
	b.passes(1, udp(c4(1), p, 5000, 53), addrA)
	b.refresh = func(core.Lookup) core.Looked {
		b.c.Message(wire.RejectAccess{Client: who(1), Resource: res(1)}, b.now)
		return core.Looked{V4: []netip.Addr{addrB}}
	}
	b.at(31)
	b.lines = nil
	b.refused(1, udp(c4(1), p, 5000, 53), "dropped: expired authorization", "to client 1: error 3/13 100.96.1.1 → 100.64.1.1")
	b.at(100) // nothing holds the address any more
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.passes(1, udp(c4(1), p, 5001, 53), addrA)
}

// An announcement that comes while the name is being refreshed is answered with
// it; there is one resolution.
func TestN22AnnouncementJoinsARefresh(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.name(1, 1, "x.corp.example", proxies(1), addrA)
	b.passes(1, udp(c4(1), proxies(1)[0], 5000, 53), addrA)
	asked := 0
	b.refresh = func(core.Lookup) core.Looked {
		asked++
		a := wire.AssignedIPs{Resource: res(1), Domain: "X.corp.example", ProxyIPs: proxies(1)}
		b.c.Inbound(b.paths.keysOf(who(1)), 1, packet.AppendControl(nil, wire.EventAssignedIPs, a.Append(nil)), b.now)
		return core.Looked{V4: []netip.Addr{addrB}}
	}
	b.at(30.5)
	b.want("one refresh", "to client 1: status 1 X.corp.example true <nil>")
	if asked != 1 || len(b.looks) != 0 {
		t.Errorf("asked %d times, and %d more", asked, len(b.looks))
	}
}

// S27: nothing ages by itself, however long DNS is down. An application that
// kept an address for days finds its server.
func TestN20AndS27NothingAgesByItself(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.name(1, 1, "x.corp.example", proxies(1), addrA)
	b.at(25 * 3600)
	b.passes(1, udp(c4(1), proxies(1)[0], 5000, 53), addrA)
}

// What failed for more than a day counts as gone, for new flows.
func TestN20StaleAnswers(t *testing.T) {
	const day = 24 * 3600
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.name(1, 1, "x.corp.example", proxies(1), addrA)
	p := proxies(1)[0]
	b.passes(1, tcp(c4(1), p, 5000, 443, syn), addrA)
	b.arrives(tcp(addrA, c4(1), 443, 5000, syn|ack), p)
	b.passes(1, tcp(c4(1), p, 5000, 443, ack), addrA)
	for _, test := range []struct {
		at     float64
		active bool
	}{{60, true}, {3600, true}, {day, true}, {day + 0.001, true}} {
		b.at(test.at)
		b.arrives(tcp(addrA, c4(1), 443, 5000, ack), p) // the connection lives by what the server says
		b.announce(1, 1, "x.corp.example", proxies(1))
		b.lines = nil
		b.looked(core.Looked{ID: b.looks[0].ID, Err4: errLookup, Err6: errLookup})
		b.want(fmt.Sprint("failure at ", test.at), fmt.Sprintf("to client 1: status 1 x.corp.example %v <nil>", test.active))
	}
	// Active for the connection; new flows hear that there is no address.
	b.refused(1, tcp(c4(1), p, 5001, 443, syn), "dropped: unresolved", "to client 1: error 3/0 100.96.1.1 → 100.64.1.1")
	b.passes(1, tcp(c4(1), p, 5000, 443, ack), addrA)
	b.announce(1, 1, "x.corp.example", proxies(1))
	b.looked(core.Looked{ID: b.looks[0].ID, V4: []netip.Addr{addrB}})
	b.passes(1, tcp(c4(1), p, 5001, 443, syn), addrB)
}

// S6: no such name is an answer. Sessions stay, and so does what they hold; an
// address that nobody uses goes.
func TestN20AndS6NoSuchName(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.name(1, 1, "x.corp.example", proxies(1), addrA)
	p := proxies(1)
	b.passes(1, tcp(c4(1), p[0], 5000, 443, syn), addrA)
	b.at(5)
	b.announce(1, 1, "x.corp.example", proxies(1))
	b.lines = nil
	b.looked(core.Looked{ID: b.looks[0].ID})
	b.want("no such name", "to client 1: status 1 x.corp.example true <nil>")
	b.at(6)
	b.passes(1, tcp(c4(1), p[0], 5000, 443, ack), addrA)
	b.passes(1, tcp(c4(1), p[0], 5001, 443, syn), addrA)
	b.refused(1, tcp(c4(1), p[2], 5002, 443, syn), "dropped: unresolved", "to client 1: error 3/0 100.96.1.2 → 100.64.1.1")
}

// Two names on one address, whose resolutions end in the other order: it has
// the answer of the name that it stands for.
func TestN21SwappedCompletions(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.announce(1, 1, "foo.corp.example", proxies(1))
	b.announce(1, 1, "bar.corp.example", proxies(1))
	foo, bar := b.looks[0], b.looks[1]
	b.looked(core.Looked{ID: bar.ID, V4: []netip.Addr{addrB}})
	b.passes(1, udp(c4(1), proxies(1)[0], 5000, 53), addrB)
	b.looked(core.Looked{ID: foo.ID, V4: []netip.Addr{addrA}})
	b.passes(1, udp(c4(1), proxies(1)[0], 5000, 53), addrB)
	b.passes(1, udp(c4(1), proxies(1)[0], 5001, 53), addrB)
}

// A client that left and came back does not wait for what it wanted before.
func TestN22GoodbyeEmptiesTheQueue(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	for i := range 200 {
		b.announce(1, 1, fmt.Sprintf("n%d.corp.example", i), proxies(byte(i)))
	}
	before := b.looks
	if len(before) != maxLookupsPerClient {
		t.Fatalf("%d run", len(before))
	}
	b.send(1, packet.AppendControl(nil, wire.EventGoodbye, nil))
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.looks = nil
	b.announce(1, 1, "n0.corp.example", proxies(0))
	b.want("a fresh resolution", "look up n0.corp.example")
	for _, l := range before {
		b.do(func() { b.c.Done(core.Looked{ID: l.ID, V4: []netip.Addr{addrA}}, b.now) })
	}
	b.want("results for nobody")
	b.resolved(addrB)
	b.passes(1, udp(c4(1), proxies(0)[0], 5000, 53), addrB)
	if k := b.c.clients[who(1)]; len(b.c.lookups.by) != 0 || len(k.names.by) != 1 || k.names.running+k.names.waiting != 0 {
		t.Errorf("%d lookups, %+v", len(b.c.lookups.by), k.names)
	}
}

// With all places taken, clients get the free ones in turn, whatever each of
// them waits for; those of one client are served in their order.
func TestN22RoundRobin(t *testing.T) {
	b := newBench(t)
	for n := byte(1); n <= 20; n++ {
		b.grant(n, dns(1, "*.corp.example"), 0)
	}
	for n := byte(1); n <= 15; n++ { // 15 × 64 and 40 make 1000
		for i := range maxLookupsPerClient {
			b.announce(n, 1, fmt.Sprintf("n%d.corp.example", i), proxies(byte(i)))
		}
	}
	for i := range 40 {
		b.announce(16, 1, fmt.Sprintf("n%d.corp.example", i), proxies(byte(i)))
	}
	for i := range 5 {
		b.announce(17, 1, fmt.Sprintf("a%d.corp.example", i), proxies(byte(i)))
	}
	for i := range 2 {
		b.announce(18, 1, fmt.Sprintf("b%d.corp.example", i), proxies(byte(i)))
	}
	b.announce(19, 1, "c0.corp.example", proxies(0))
	b.lines = nil
	for range 8 {
		b.resolved(addrA)
	}
	started := slices.DeleteFunc(b.lines, func(l string) bool { return !strings.HasPrefix(l, "look up") })
	want := []string{"a0", "b0", "c0", "a1", "b1", "a2", "a3", "a4"}
	for i := range want {
		want[i] = "look up " + want[i] + ".corp.example"
	}
	b.lines = started
	b.want("in turn", want...)
}

// How much a client may have unanswered is bounded.
func TestN22WaitingIsBounded(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	for i := range 100 * 60 { // as many as the rate lets through in a minute, and nothing is ever resolved
		b.now = b.now.Add(10 * time.Millisecond)
		b.announce(1, 1, fmt.Sprintf("n%d.corp.example", i%200), proxies(byte(i)))
	}
	k := b.c.clients[who(1)]
	if k.names.waiting != maxWaiting || b.counter("names announced") != maxWaiting || b.counter("names announced too fast") != 6000-maxWaiting {
		t.Errorf("%d wait: %v", k.names.waiting, b.counters())
	}
}

// Each announcement that was read and not too fast has exactly one answer,
// whatever becomes of the resolutions.
func TestN24OneAnswerEach(t *testing.T) {
	for seed := range uint64(25) {
		rng := rand.New(rand.NewPCG(seed, 24))
		b := newBench(t)
		b.grant(1, dns(1, "*.corp.example"), 0)
		b.grant(1, dns(2, "**.example"), 0)
		b.grant(1, dns(3, "*.short.example"), 20)
		b.refresh = func(core.Lookup) core.Looked { return core.Looked{V4: []netip.Addr{addrA}} }
		asked, answered := map[string]int{}, map[string]int{}
		for range 400 {
			switch rng.IntN(10) {
			case 0, 1, 2, 3, 4:
				r, name := byte(1+rng.IntN(4)), fmt.Sprintf("n%d.%s.example", rng.IntN(6), [...]string{"corp", "Short"}[rng.IntN(2)])
				list := proxies(byte(rng.IntN(5)))
				if rng.IntN(4) == 0 {
					list = list[:rng.IntN(9)]
				}
				b.announce(1, r, name, list)
				asked[fmt.Sprintf("status %d %s", r, name)]++
			case 5:
				b.send(1, udp(c4(1), proxies(byte(rng.IntN(5)))[0], uint16(rng.IntN(3)), 53))
			case 6:
				b.at(b.now.Sub(boot).Seconds() + 3*rng.Float64())
			default:
				if len(b.looks) > 0 {
					i := rng.IntN(len(b.looks))
					r := core.Looked{ID: b.looks[i].ID, V4: []netip.Addr{addrA}}
					if rng.IntN(3) == 0 {
						r = core.Looked{ID: r.ID, Err4: errLookup, Err6: errLookup}
					}
					b.looks[0], b.looks[i] = b.looks[i], b.looks[0]
					b.looked(r)
				}
			}
		}
		for len(b.looks) > 0 {
			b.resolved(addrB)
		}
		for _, l := range b.lines {
			if _, status, ok := strings.Cut(l, "to client 1: "); ok && strings.HasPrefix(status, "status") {
				status, _, _ = strings.Cut(strings.TrimSuffix(status, " <nil>"), " true")
				status, _, _ = strings.Cut(status, " false")
				answered[status]++
			}
		}
		for what, n := range asked {
			if answered[what] != n {
				t.Fatalf("seed %d: %s: %d announcements, %d answers", seed, what, n, answered[what])
			}
		}
		if len(answered) != len(asked) {
			t.Fatalf("seed %d: answered %v, asked %v", seed, answered, asked)
		}
	}
}

// many announces and resolves names of client 1, each with addresses of its own.
func (b *bench) many(names int) {
	for i := range names {
		b.now = b.now.Add(10 * time.Millisecond)
		b.announce(1, 1, fmt.Sprintf("n%d.corp.example", i), proxiesOf(i))
		b.looked(core.Looked{ID: b.looks[0].ID, V4: []netip.Addr{addrA}, TTL4: time.Hour})
		b.lines = nil
	}
}

// proxiesOf is proxies for more than 256 names.
func proxiesOf(i int) []netip.Addr {
	list := proxies(0)
	for j := range list {
		if list[j].Is4() {
			list[j] = netip.AddrFrom4([4]byte{100, 97 + byte(i>>13), byte(i >> 5), byte(i<<3 + j)})
		} else {
			list[j] = netip.AddrFrom16([16]byte{0: 0xfd, 2: 0x20, 3: 0x21, 4: 0x11, 5: 0x11, 6: 0x80, 13: byte(i >> 12 & 7), 14: byte(i >> 4), 15: byte(i<<4 + j)})
		}
	}
	return list
}

// Many names whose answers are over at the same time are asked for in short
// steps, those of all clients, each once.
func TestN23ManyAtOnce(t *testing.T) {
	b := newBench(t)
	asked := make(map[string]int)
	b.refresh = func(a core.Lookup) core.Looked {
		asked[a.Name]++
		return core.Looked{V4: []netip.Addr{addrA}, TTL4: time.Hour}
	}
	for n := byte(1); n <= 10; n++ {
		b.grant(n, dns(1, "*.corp.example"), 0)
		for i := range byte(30) {
			b.name(n, 1, fmt.Sprintf("c%dn%d.corp.example", n, i), proxies(i), addrA)
			b.passes(n, udp(c4(n), proxies(i)[0], 5000, 53), addrA)
		}
	}
	b.at(6) // the packets were noticed
	b.now = boot.Add(30 * time.Second)
	for step := 1; step <= 5; step++ {
		if next := b.c.Next(); next.After(b.now) {
			b.now = next
		}
		b.do(func() { b.c.Advance(b.now) })
		if got := len(asked); got != min(step*refreshStep, 300) {
			t.Errorf("after step %d: %d names asked for", step, got)
		}
	}
	b.at(60)
	for name, n := range asked {
		if n != 1 {
			t.Errorf("%s was asked for %d times", name, n)
		}
	}
}

// However many names come and go, what is kept of them is bounded by those that
// addresses stand for.
func TestN48NamesAreForgotten(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	for i := range 3000 {
		b.now = b.now.Add(10 * time.Millisecond)
		b.name(1, 1, fmt.Sprintf("n%d.corp.example", i), proxies(byte(i%50)), addrA)
		if i%7 == 0 {
			b.passes(1, udp(c4(1), proxies(byte(i % 50))[0], 5000, 53), addrA)
		}
		k := b.c.clients[who(1)]
		if got := len(k.names.by); got > 150 || got != len(k.names.list) {
			t.Fatalf("after %d names, %d and %d are kept", i+1, got, len(k.names.list))
		}
		for at, n := range k.names.list {
			if n.listed != at || k.names.by[n.text] != n || n.place > 0 && b.c.refreshing.inUse[n.place-1] != n {
				t.Fatalf("after %d names: %+v at %d", i+1, n, at)
			}
		}
	}
}

// Names that nobody uses cost nothing, and those that are used a glance each
// time their answers are over.
func BenchmarkNames(b *testing.B) {
	for _, n := range []int{100, 4096} {
		w := newBench(b)
		w.grant(1, dns(1, "*.corp.example"), 0)
		w.many(n)
		k := w.c.clients[who(1)]
		b.Run(fmt.Sprintf("idle/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w.c.awake(k, w.now)
			}
		})
		for i := range n {
			w.now = w.now.Add(time.Millisecond)
			w.passes(1, udp(c4(1), proxiesOf(i)[0], 5000, 53), addrA)
		}
		w.c.awake(k, w.now)
		if got := len(w.c.refreshing.inUse); got != n {
			b.Fatalf("%d of %d names in use", got, n)
		}
		b.Run(fmt.Sprintf("used/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w.c.awake(k, w.now)
				w.c.refresh(w.now)
			}
		})
		b.Run(fmt.Sprintf("refresh/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				first := w.c.refreshing.inUse[0]
				w.c.lookUp(k, first)
				w.c.resolve(k)
				w.c.looked(core.Looked{ID: w.c.lookups.last, V4: []netip.Addr{addrA}}, w.now)
				w.c.out.Reset()
			}
		})
	}
}

// O2: a gateway that is told to says for which families flows find their way.
func TestO2Families(t *testing.T) {
	for _, test := range []struct {
		name    string
		tell    bool
		proxies []netip.Addr
		answer  core.Looked
		want    string
	}{
		{"not told to", false, proxies(1), core.Looked{V4: []netip.Addr{addrA}}, ""},
		{"one family", true, proxies(1), core.Looked{V4: []netip.Addr{addrA}}, `,"v4":true,"v6":false`},
		{"the other", true, proxies(1), core.Looked{V6: []netip.Addr{addrD}}, `,"v4":false,"v6":true`},
		{"both", true, proxies(1), core.Looked{V4: []netip.Addr{addrA}, V6: []netip.Addr{addrD}}, `,"v4":true,"v6":true`},
		{"neither", true, proxies(1), core.Looked{}, `,"v4":false,"v6":false`},
		{"half unknown", true, proxies(1), core.Looked{V4: []netip.Addr{addrA}, Err6: errLookup}, `,"v4":true,"v6":false`},
		{"announced for one", true, only4(proxies(1)), core.Looked{V4: []netip.Addr{addrA}}, `,"v4":true`},
		{"failed", true, proxies(1), core.Looked{Err4: errLookup, Err6: errLookup}, ""},
	} {
		b := newBenchWith(t, Config{TellFamilies: test.tell})
		b.grant(1, dns(1, "*.corp.example"), 0)
		b.announce(1, 1, "x.corp.example", test.proxies)
		test.answer.ID = b.looks[0].ID
		b.looked(test.answer)
		_, payload, _ := parse(t, b.last).Control()
		if got := string(payload); !strings.HasSuffix(got, `ctive"`+test.want+`}`) {
			t.Errorf("%s: %s", test.name, got)
		}
	}
}
