package gateway

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/packet"
	"stile/tunnel/wire"
)

// An operator reads the reasons that the specification lists, and no others.
func TestN52Names(t *testing.T) {
	want := []string{
		"malformed", "spoofed source", "not allowed", "filtered", "expired authorization", "no binding", "unresolved", "family", "no session",
		"bad flags", "quota", "rate", "exhausted", "fragment", "icmp-unmatched", "multicast", "not a peer", "no peer", "not connected",
	}
	drops := newBench(t).c.Drops()
	for _, name := range want {
		if n, ok := drops[name]; !ok || n != 0 {
			t.Errorf("%q: %d, %v", name, n, ok)
		}
	}
	if len(drops) != len(want) {
		t.Errorf("%d reasons, want %d: %v", len(drops), len(want), drops)
	}
}

// A log tells more exactly what a counter sums up.
func TestReasonsInTheLog(t *testing.T) {
	b := newBenchWith(t, Config{Flows: true})
	b.grant(1, internet(1), 0)
	b.send(1, udp(c4(1), own4, 5000, 22))
	b.send(1, udp(c4(1), addr("192.168.0.1"), 5000, 22))
	b.send(1, udp(c4(1), c4(2), 5000, 22))
	var got []string
	for _, f := range b.flows {
		got = append(got, f.Reason)
	}
	if want := []string{"not a service of this gateway", "not part of the Internet resource", "not allowed"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if n := b.counter("dropped: not allowed"); n != 3 {
		t.Errorf("%d counted", n)
	}
}

// Whatever comes, from either side: it goes on, or it is a control packet, or
// it is dropped for exactly one reason.
func TestN52SumOfCounters(t *testing.T) {
	seen := make(map[string]bool)
	for seed := range uint64(30) {
		w := newTraffic(t, seed)
		for step := range 1500 {
			w.disturb()
			raw, inwards := w.packet()
			drops, controls := w.drops(), w.controls()
			forwarded := false
			if inwards {
				forwarded = w.receive(raw) != nil
			} else {
				forwarded = w.send(1, raw) != nil
			}
			control := !inwards && isControl(raw)
			wantDrops, wantControls := drops, controls
			switch {
			case control:
				wantControls++
			case !forwarded:
				wantDrops++
			}
			if forwarded && control || w.drops() != wantDrops || w.controls() != wantControls {
				t.Fatalf("seed %d, step %d: %s, forwarded %v: %d drops and %d control packets more", seed, step, describe(raw), forwarded, w.drops()-drops, w.controls()-controls)
			}
		}
		sum := uint64(0)
		for name, n := range w.c.Drops() {
			seen[name] = seen[name] || n > 0
			sum += n
		}
		if sum != w.drops() {
			t.Errorf("seed %d: %d drops by name, %d in all", seed, sum, w.drops())
		}
	}
	// Without a table that is full and packets of a key that is not there, the
	// traffic must have met every reason.
	for name, ok := range seen {
		if !ok && name != "exhausted" && name != "quota" && name != "no peer" {
			t.Errorf("nothing was dropped as %q: the traffic is too tame", name)
		}
	}
}

// traffic makes up packets of client 1 and for it.
type traffic struct {
	*bench
	rng   *rand.Rand
	addrs [2][]netip.Addr // by family
}

func newTraffic(t *testing.T, seed uint64) *traffic {
	w := &traffic{bench: newBench(t), rng: rand.New(rand.NewPCG(seed, 52))}
	w.grant(1, cidr(1, "10.0.0.0/24", tcpOnly(443)), 0)
	w.grant(1, cidr(3, "10.0.1.0/24"), 0)
	w.grant(1, dns(2, "*.corp.example"), 0)
	w.grant(1, dns(4, "*.short.example"), 3)
	w.grant(2, cidr(1, "10.0.0.0/24"), 0)
	w.name(1, 2, "wiki.corp.example", proxies(1), addrB)
	w.name(1, 2, "none.corp.example", proxies(3))
	w.name(1, 4, "x.short.example", proxies(4), addrB, addrD)
	for _, a := range slices.Concat(proxies(1)[:3], proxies(2)[:2], proxies(3)[:2], proxies(4)[:2], []netip.Addr{
		addrA, addrB, in2, addrD, own4, own6, c4(1), c4(1), c6(1), c6(1), c4(2), c6(2), c4(9),
		addr("224.0.0.1"), addr("ff02::1"), addr("8.8.8.8"), addr("2001:db8:9::1"),
	}) {
		family := 0
		if a.Is6() {
			family = 1
		}
		w.addrs[family] = append(w.addrs[family], a)
	}
	return w
}

// disturb changes what is around, now and then.
func (w *traffic) disturb() {
	switch w.rng.IntN(1000) {
	case 0:
		w.paths.down[id.PeerOf(who(1))] = true
	case 1, 2, 3:
		w.paths.down[id.PeerOf(who(1))] = false
	case 4, 5, 10, 11, 12, 13:
		w.now = w.now.Add(time.Duration(w.rng.IntN(int(2 * time.Second))))
		w.do(func() { w.c.Advance(w.now) })
	case 6:
		w.message(wire.RejectAccess{Client: who(1), Resource: res(3)})
	case 7:
		w.grant(1, cidr(3, "10.0.1.0/24"), 0)
	case 8:
		for len(w.looks) > 0 {
			w.looked(core.Looked{ID: w.looks[0].ID, V4: []netip.Addr{addrA}, Err6: errLookup})
		}
	case 9:
		for port := range uint16(5000) { // more than may begin at once
			w.send(1, udp(c4(1), in2, 1+port, 53))
		}
	}
}

// packet makes one up, and says whether it comes from the TUN.
func (w *traffic) packet() (raw []byte, inwards bool) {
	inwards = w.rng.IntN(2) == 0
	family := w.rng.IntN(2)
	any := func() netip.Addr { return w.addrs[family][w.rng.IntN(len(w.addrs[family]))] }
	ours := [2]netip.Addr{c4(1), c6(1)}[family]
	src, dst := any(), any()
	if w.rng.IntN(5) != 0 {
		if inwards {
			dst = ours
		} else {
			src = ours
		}
	}
	port := func() uint16 { return [...]uint16{0, 53, 443, 5000, 53535, 65535}[w.rng.IntN(6)] }
	raw = udp(src, dst, port(), port())
	if family == 0 {
		switch w.rng.IntN(6) {
		case 0, 1:
			raw = tcp(src, dst, port(), port(), packet.TCPFlags(w.rng.IntN(64)))
		case 2:
			raw = echo(src, dst, uint16(w.rng.IntN(3)), w.rng.IntN(2) == 0)
		case 3:
			raw = icmpError(src, dst, 3, byte(w.rng.IntN(14)), udp(dst, any(), port(), port()))
		case 4:
			raw = ip(src, dst, 47, []byte{0, 0, 8, 0})
		}
	}
	if inwards {
		return raw, true // the engine parses what it reads from the TUN
	}
	switch w.rng.IntN(40) {
	case 0:
		raw = raw[:w.rng.IntN(len(raw)-1)+1] // some byte at least: nothing is a keepalive
	case 1:
		if i := w.rng.IntN(20); i != 6 && i != 7 { // fragments have a test of their own
			raw[i] ^= byte(1 + w.rng.IntN(255))
		}
	case 2:
		raw = udp(c4(1), addrA, 5000, 53)[:24]
		raw[3], raw[6] = 24, 0x20 // a first fragment without ports
	case 3:
		a := wire.AssignedIPs{Resource: res(2), Domain: "y.corp.example", ProxyIPs: proxies(byte(5 + w.rng.IntN(3)))}
		raw = packet.AppendControl(nil, wire.EventAssignedIPs, a.Append(nil)[w.rng.IntN(2):])
	case 4:
		raw = packet.AppendControl(nil, byte(w.rng.IntN(256)|3), nil)
	}
	return raw, false
}

func isControl(raw []byte) bool {
	p, err := packet.Parse(packet.Trim(raw))
	if err != nil {
		return false
	}
	_, _, ok := p.Control()
	return ok
}

func (w *traffic) drops() (n uint64) {
	for _, d := range w.c.counts[passed+1 : lastDrop+1] {
		n += d
	}
	return n
}

// controls counts the control packets that were taken in.
func (w *traffic) controls() (n uint64) {
	for _, what := range []counter{announcementsTaken, announcementsDropped, announcementsRefused, controlMalformed, controlUnknown, goodbyes} {
		n += w.c.counts[what]
	}
	return n
}
