package nat

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"stile/tunnel/packet"
)

// Rules N17, N18, N29–N33, N39, N40 and N43 of spec gateway-nat.md 7.3: which
// tuples sessions have.

func TestN17SortedProxiesCycleOverSortedAddresses(t *testing.T) {
	two, nine := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.9")
	v6 := netip.MustParseAddr("2001:db8::9")
	for seed := range uint64(50) { // whatever the order of either list
		rng := rand.New(rand.NewPCG(seed, 17))
		w := newWorld(t)
		shuffled := bytesOf(foo)
		rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		answer := []netip.Addr{nine, two, v6, two}
		rng.Shuffle(len(answer), func(i, j int) { answer[i], answer[j] = answer[j], answer[i] })
		w.announce("foo", shuffled, answer...)
		for i, want := range []netip.Addr{two, nine, two, nine} {
			w.goes(udp(client4, p4(foo, i), 6000, 53), want)
			w.goes(udp(client6, p6(foo, i), 6000, 53), v6)
		}
	}
}

func TestN17MoreAddressesThanProxies(t *testing.T) {
	w := newWorld(t)
	var answer []netip.Addr
	for i := range byte(9) {
		answer = append(answer, netip.AddrFrom4([4]byte{10, 0, 1, 9 - i}))
	}
	w.announce("foo", foo, answer...)
	for i := range 4 {
		w.goes(udp(client4, p4(foo, i), 6000, 53), netip.AddrFrom4([4]byte{10, 0, 1, byte(i + 1)}))
	}
}

func TestN18NeverAcrossFamilies(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrD)
	w.out(udp(client4, p4(foo, 0), 6000, 53), NoFamily)
	w.goes(udp(client6, p6(foo, 0), 6000, 53), addrD)
	w.announce("bar", bar, addrA)
	w.out(udp(client6, p6(bar, 0), 6000, 53), NoFamily)
	w.goes(udp(client4, p4(bar, 0), 6000, 53), addrA)
	w.answer("bar", bar)
	w.out(udp(client6, p6(bar, 1), 6000, 53), Unresolved)
	w.out(udp(client6, netip.MustParseAddr("fd00:2021:1111:8000::99"), 6000, 53), NoBinding)
	if w.Len() != 2 {
		t.Errorf("%d rows, want 2", w.Len())
	}
}

// A failed family keeps what it had; the other one is replaced.
func TestN20FailureOfOneFamily(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA, addrD)
	w.Answer("foo", foo, Outcome{Failed: true}, Outcome{}, w.now)
	w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA)
	if got := w.Out(parse(t, udp(client6, p6(foo, 0), 6000, 53)), w.now); got == Forward {
		t.Error("an address that is gone was used")
	}
}

func TestN29OneTableForAllTraffic(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	proxied := w.goes(tcp(client4, p4(foo, 0), 5000, 443, syn), addrA).SrcPort()
	direct := w.goes(tcp(client4, addrA, 5000, 443, syn), addrA).SrcPort()
	if proxied != 5000 || direct == 5000 {
		t.Fatalf("outside ports %d and %d", proxied, direct)
	}
	if got := w.comes(tcp(addrA, client4, 443, proxied, syn|ack), p4(foo, 0)).DstPort(); got != 5000 {
		t.Errorf("client port %d", got)
	}
	if got := w.comes(tcp(addrA, client4, 443, direct, syn|ack), addrA).DstPort(); got != 5000 {
		t.Errorf("client port %d", got)
	}
	// Another port of the same host is another tuple; UDP has no such thing.
	if got := w.goes(tcp(client4, addrA, 5000, 444, syn), addrA).SrcPort(); got != 5000 {
		t.Errorf("outside port %d for another destination port", got)
	}
	one := w.goes(udp(client4, addrA, 5000, 443), addrA).SrcPort()
	two := w.goes(udp(client4, addrA, 5000, 444), addrA).SrcPort()
	if one != two {
		t.Errorf("UDP ports %d and %d", one, two)
	}
	ping := w.goes(echo(client4, p4(foo, 0), 0, true), addrA)
	if id, _, _ := ping.Echo(); id != 0 {
		t.Errorf("echo id 0 became %d", id)
	}
	w.goes(ip(client4, addrA, 47, []byte{1}), addrA)
	w.comes(ip(addrA, client4, 47, []byte{1}), addrA)
	w.out(ip(client4, p4(foo, 0), 47, []byte{1}), NotAllowed)
}

func TestN30ReplacementPorts(t *testing.T) {
	tests := []struct {
		name        string
		packet      func(to netip.Addr, port uint16) []byte
		port        uint16
		low, high   uint16
		sameParity  bool
		echoIsPorts bool
	}{
		{"UDP, high, even", func(to netip.Addr, p uint16) []byte { return udp(client4, to, p, 53) }, 5000, 1024, 65535, true, false},
		{"UDP, high, odd", func(to netip.Addr, p uint16) []byte { return udp(client4, to, p, 53) }, 65535, 1024, 65535, true, false},
		{"UDP, low", func(to netip.Addr, p uint16) []byte { return udp(client4, to, p, 53) }, 1023, 1, 1023, true, false},
		{"TCP, low", func(to netip.Addr, p uint16) []byte { return tcp(client4, to, p, 443, syn) }, 1, 1, 1023, false, false},
		{"TCP, high", func(to netip.Addr, p uint16) []byte { return tcp(client4, to, p, 443, syn) }, 1024, 1024, 65535, false, false},
		{"echo", func(to netip.Addr, p uint16) []byte { return echo(client4, to, p, true) }, 2000, 1024, 65535, false, true},
	}
	for _, test := range tests {
		w := newWorld(t)
		w.announce("foo", foo, addrA)
		for i := range 4 {
			p := w.goes(test.packet(p4(foo, i), test.port), addrA)
			got := p.SrcPort()
			if test.echoIsPorts {
				got, _, _ = p.Echo()
			}
			switch {
			case i == 0 && got != test.port:
				t.Errorf("%s: a free port %d became %d", test.name, test.port, got)
			case got < test.low || got > test.high:
				t.Errorf("%s: %d became %d, outside %d–%d", test.name, test.port, got, test.low, test.high)
			case test.sameParity && got&1 != test.port&1:
				t.Errorf("%s: %d became %d, of another parity", test.name, test.port, got)
			}
		}
	}
}

func TestN30PortZeroIsNeverChosen(t *testing.T) {
	w := newWorld(t)
	for port := range uint16(50) {
		if got := w.goes(udp(client4, netip.AddrFrom4([4]byte{10, 0, 2, byte(port)}), 0, 53), netip.AddrFrom4([4]byte{10, 0, 2, byte(port)})).SrcPort(); got == 0 {
			t.Fatal("port 0 went out")
		}
	}
}

// All low ports are taken: the scan finds the last one, then the other class.
func TestN30FullClass(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	for port := range uint16(1022) {
		w.goes(tcp(client4, p4(foo, 0), port+1, 443, syn), addrA)
	}
	if got := w.goes(tcp(client4, p4(foo, 1), 80, 443, syn), addrA).SrcPort(); got != 1023 {
		t.Errorf("port %d, want the last low one", got)
	}
	if got := w.goes(tcp(client4, p4(foo, 2), 80, 443, syn), addrA).SrcPort(); got < 1024 {
		t.Errorf("port %d is taken", got)
	}
}

func TestN30FullClassOfUDP(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	for port := uint16(2); port < 1024; port += 2 {
		w.goes(udp(client4, p4(foo, 0), port, 53), addrA)
	}
	if got := w.goes(udp(client4, p4(foo, 1), 80, 53), addrA).SrcPort(); got > 1023 || got&1 != 1 {
		t.Errorf("port %d, want a low one of the other parity", got)
	}
}

func TestN32Exhausted(t *testing.T) {
	w := newWorld(t)
	w.maxSessions = 3
	w.announce("foo", foo, addrA)
	for port := range uint16(3) {
		w.handshake(6000+port, p4(foo, 0), addrA)
	}
	w.out(tcp(client4, p4(foo, 0), 7000, 443, syn), Full)
	w.goes(tcp(client4, p4(foo, 0), 6001, 443, ack), addrA)
	if w.Len() != 3 {
		t.Errorf("%d rows, want 3", w.Len())
	}
	w.at(24 * time.Hour) // rows whose time is over do not count
	w.goes(udp(client4, p4(foo, 0), 7000, 53), addrA)
}

func TestN33NamesSharingAnAddress(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.announce("bar", bar, addrA)
	all := []netip.Addr{p4(foo, 0), p4(foo, 1), p4(bar, 0), p4(bar, 3)}
	outside := make(map[uint16]netip.Addr)
	for _, p := range all {
		port := w.goes(tcp(client4, p, 5000, 443, syn), addrA).SrcPort()
		if was, taken := outside[port]; taken {
			t.Fatalf("%v and %v share port %d", was, p, port)
		}
		outside[port] = p
	}
	for port, p := range outside {
		if got := w.comes(tcp(addrA, client4, 443, port, syn|ack), p).DstPort(); got != 5000 {
			t.Errorf("client port %d", got)
		}
	}
}

// Apart from address, port or echo id, and the checksums over them, no byte
// changes.
func TestN40NothingElseChanges(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA, addrD)
	w.goes(tcp(client4, addrA, 5000, 443, syn), addrA) // so that ports must change
	w.goes(udp(client6, addrD, 5000, 443), addrD)
	w.goes(echo(client4, addrA, 5000, true), addrA)
	tests := []struct {
		b    []byte
		mask []span // bytes that may change
	}{
		{tcp(client4, p4(foo, 0), 5000, 443, syn), []span{{10, 11}, {16, 21}, {36, 37}}},
		{udp(client6, p6(foo, 0), 5000, 443), []span{{24, 41}, {46, 47}}},
		{echo(client4, p4(foo, 0), 5000, true), []span{{10, 11}, {16, 19}, {22, 25}}},
	}
	for i, test := range tests {
		before := clone(test.b)
		if before[0]>>4 == 4 {
			before[8], test.b[8] = 1, 1 // TTL
		}
		if got := w.Out(parse(t, test.b), w.now); got != Forward {
			t.Fatalf("%d: %v", i, got)
		}
		for at := range before {
			if before[at] != test.b[at] && !within(test.mask, at) {
				t.Errorf("%d: byte %d changed", i, at)
			}
		}
		if bytes.Equal(before, test.b) {
			t.Errorf("%d: nothing changed", i)
		}
	}
}

func TestN43InboundNeedsASession(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.handshake(5000, p4(foo, 0), addrA)
	w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA)
	w.goes(echo(client4, p4(foo, 0), 7, true), addrA)
	w.goes(udp(client4, addrC, 6001, 53), addrC)

	w.dropped(tcp(addrA, client4, 444, 5000, ack)) // TCP: exact
	w.dropped(tcp(addrB, client4, 443, 5000, ack))
	w.dropped(tcp(addrA, client4, 443, 5001, ack))
	w.comes(udp(addrA, client4, 99, 6000), p4(foo, 0)) // UDP: any port of X
	w.dropped(udp(addrB, client4, 53, 6000))
	w.comes(echo(addrA, client4, 7, false), p4(foo, 0)) // echo replies only
	w.dropped(echo(addrA, client4, 7, true))
	w.dropped(echo(addrA, client4, 8, false))
	w.dropped(udp(addrC, client4, 53, 6002)) // also without translation
	w.comes(udp(addrC, client4, 53, 6001), addrC)
	w.dropped(ip(addrC, client4, 47, nil))
	w.out(echo(client4, addrC, 9, false), NoSession)
	w.out(ip(client4, addrC, packet.ICMP, []byte{13, 0, 0, 0, 0, 0, 0, 0}), NoSession)
}

// Only the gateway host opens flows towards a client.
func TestN43GatewayHostOpensFlows(t *testing.T) {
	w := newWorld(t)
	w.SetHost(gateway, netip.Addr{})
	for _, b := range [][]byte{tcp(gateway, client4, 40000, 22, syn), udp(gateway, client4, 40000, 9), echo(gateway, client4, 5, true)} {
		p := parse(t, b)
		if w.Match(p, w.now) != nil {
			t.Fatal("matched before it was accepted")
		}
		if got := w.Accept(p, w.now); got != Forward {
			t.Fatalf("verdict %v", got)
		}
	}
	w.goes(tcp(client4, gateway, 22, 40000, syn|ack), gateway)
	w.comes(tcp(gateway, client4, 40000, 22, ack), gateway)
	w.goes(udp(client4, gateway, 9, 40000), gateway)
	w.comes(udp(gateway, client4, 40000, 9), gateway)
	w.dropped(udp(gateway, client4, 40001, 9)) // UDP with the host: exact, too
	if w.Has(parse(t, udp(client4, gateway, 9, 40001)), w.now) {
		t.Error("another port of the host is reached")
	}
	if w.MatchError(parse(t, icmpError(gateway, client4, 3, udp(client4, gateway, 9, 40000))), w.now) == nil ||
		w.MatchError(parse(t, icmpError(gateway, client4, 3, udp(client4, gateway, 9, 40001))), w.now) != nil {
		t.Error("errors are matched without the port")
	}
	w.goes(echo(client4, gateway, 5, false), gateway)
	w.comes(echo(gateway, client4, 5, true), gateway)
	w.dropped(echo(gateway, client4, 5, false))

	if got := w.Accept(parse(t, tcp(gateway, client4, 40001, 22, rst)), w.now); got != BadFlags {
		t.Errorf("RST: %v", got)
	}
	if got := w.Accept(parse(t, echo(gateway, client4, 6, false)), w.now); got != NoSession {
		t.Errorf("echo reply: %v", got)
	}
	w.Accept(parse(t, udp(gateway, client4, 40002, 9)), w.now)
	w.at(time.Minute)
	if w.Has(parse(t, udp(client4, gateway, 9, 40002)), w.now) {
		t.Error("an unanswered flow lives on")
	}
}

func bytesOf(a []netip.Addr) []netip.Addr { return append([]netip.Addr(nil), a...) }

func within(list []span, at int) bool {
	for _, s := range list {
		if int(s.first) <= at && at <= int(s.last) {
			return true
		}
	}
	return false
}
