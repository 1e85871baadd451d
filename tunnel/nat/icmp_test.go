package nat

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"stile/tunnel/packet"
)

// Rule N35 of spec gateway-nat.md 7.3: the error that the client sees quotes
// the packet that the client sent.
func TestN35ErrorsQuoteWhatTheClientSent(t *testing.T) {
	router := netip.MustParseAddr("192.0.2.1")
	router6 := netip.MustParseAddr("2001:db8:1::1")
	tests := []struct {
		name   string
		sent   []byte
		router netip.Addr
		types  []byte
	}{
		{"TCP", tcp(client4, p4(foo, 0), 5000, 443, syn), router, []byte{3, 11, 12}},
		{"UDP", udp(client4, p4(foo, 0), 5000, 33434), router, []byte{3, 11, 12}},
		{"echo", echo(client4, p4(foo, 0), 5000, true), router, []byte{3, 11, 12}},
		{"TCP over IPv6", tcp(client6, p6(foo, 0), 5000, 443, syn), router6, []byte{1, 2, 3, 4}},
		{"UDP over IPv6", udp(client6, p6(foo, 0), 5000, 33434), router6, []byte{1, 2, 3, 4}},
		{"echo over IPv6", echo(client6, p6(foo, 0), 5000, true), router6, []byte{1, 2, 3, 4}},
	}
	for _, test := range tests {
		w := newWorld(t)
		w.announce("foo", foo, addrA, addrD)
		for _, taken := range [][]byte{tcp(client4, addrA, 5000, 443, syn), udp(client4, addrA, 5000, 1), echo(client4, addrA, 5000, true),
			tcp(client6, addrD, 5000, 443, syn), udp(client6, addrD, 5000, 1), echo(client6, addrD, 5000, true)} {
			w.out(taken, Forward) // so that the outside id differs
		}
		outside := clone(w.out(clone(test.sent), Forward).Bytes())
		src := parse(t, test.sent).Src()
		for _, typ := range test.types {
			for _, cut := range []int{len(outside), headerLen(src) + 8} {
				p := parse(t, icmpError(test.router, src, typ, outside[:cut]))
				ttl := p.Bytes()[8]
				s := w.MatchError(p, w.now)
				if s == nil {
					t.Fatalf("%s, type %d, %d bytes: no session", test.name, typ, cut)
				}
				w.InError(s, p, test.router, w.now)
				if got, _ := s.Proxied(); p.Src() != got || p.Dst() != src {
					t.Errorf("%s: from %v to %v", test.name, p.Src(), p.Dst())
				}
				if !p.ValidChecksums() {
					t.Errorf("%s, type %d: invalid checksum", test.name, typ)
				}
				if got := p.Payload(); !bytes.Equal(got, test.sent[:cut]) {
					t.Errorf("%s, type %d: quote\n% x, want\n% x", test.name, typ, got, test.sent[:cut])
				}
				if gotType, code, _ := p.ICMP(); gotType != typ || code != 1 || binary.BigEndian.Uint32(p.Bytes()[headerLen(src)+4:]) != 0x0500 {
					t.Errorf("%s: header % x", test.name, p.Bytes()[headerLen(src):][:8])
				}
				if src.Is4() && p.Bytes()[8] != ttl {
					t.Errorf("%s: TTL %d became %d", test.name, ttl, p.Bytes()[8])
				}
			}
		}
	}
}

func TestN35ErrorsThatMatchNothing(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	sent := clone(w.out(udp(client4, p4(foo, 0), 5000, 53), Forward).Bytes())
	segment := clone(w.out(tcp(client4, p4(foo, 0), 5001, 443, syn), Forward).Bytes())
	ping := clone(w.out(echo(client4, p4(foo, 0), 7, true), Forward).Bytes())
	edit := func(b []byte, f func(packet.Packet)) []byte {
		p := parse(t, clone(b))
		f(p)
		return p.Bytes()
	}
	good := icmpError(addrA, client4, 3, sent)
	corrupt := clone(good)
	corrupt[30]++
	tests := []struct {
		name string
		b    []byte
		want bool
	}{
		{"good", good, true},
		{"checksum wrong", corrupt, false},
		{"other address", icmpError(addrA, client4, 3, edit(sent, func(p packet.Packet) { p.SetDst(addrB) })), false},
		{"other client", icmpError(addrA, client4, 3, edit(sent, func(p packet.Packet) { p.SetSrc(addrB) })), false},
		{"other client port", icmpError(addrA, client4, 3, edit(sent, func(p packet.Packet) { p.SetSrcPort(1) })), false},
		{"other UDP port of the resource", icmpError(addrA, client4, 3, edit(sent, func(p packet.Packet) { p.SetDstPort(1) })), true},
		{"other TCP port of the resource", icmpError(addrA, client4, 3, edit(segment, func(p packet.Packet) { p.SetDstPort(1) })), false},
		{"TCP", icmpError(addrA, client4, 3, segment), true},
		{"echo request", icmpError(addrA, client4, 3, ping), true},
		{"echo reply", icmpError(addrA, client4, 3, echo(client4, addrA, 7, false)), false},
		{"untranslated", icmpError(addrA, client4, 3, udp(client4, p4(foo, 0), 5000, 53)), false},
		{"about an error", icmpError(addrA, client4, 3, good), false},
		{"quote of no more than the ports", icmpError(addrA, client4, 3, sent[:24]), true},
		{"quote too short", icmpError(addrA, client4, 3, sent[:23]), false},
		{"redirect", icmpError(addrA, client4, 5, sent), false},
		{"source quench", icmpError(addrA, client4, 4, sent), false},
		{"no error", udp(addrA, client4, 53, 5000), false},
	}
	for _, test := range tests {
		if got := w.MatchError(parse(t, test.b), w.now) != nil; got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// Traffic that is not translated keeps the source that the caller chose; a
// changed port is changed back in the quote.
func TestN35ErrorsOfDirectTraffic(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.out(udp(client4, p4(foo, 0), 5000, 53), Forward)
	direct := udp(client4, addrA, 5000, 53)
	outside := w.out(clone(direct), Forward)
	if outside.SrcPort() == 5000 {
		t.Fatal("no collision")
	}
	router := netip.MustParseAddr("192.0.2.1")
	p := parse(t, icmpError(router, client4, 11, outside.Bytes()))
	s := w.MatchError(p, w.now)
	if a, proxied := s.Proxied(); a != addrA || proxied {
		t.Errorf("%v, proxied: %v", a, proxied)
	}
	w.InError(s, p, router, w.now)
	if p.Src() != router || !bytes.Equal(p.Payload(), direct) || !p.ValidChecksums() {
		t.Errorf("from %v: % x, want % x", p.Src(), p.Payload(), direct)
	}
}

// The other way round: what the resource sees is about the packet that it
// sent.
func TestN36ErrorsOfTheClient(t *testing.T) {
	tests := []struct {
		name     string
		sent     []byte
		received func(outside uint16) []byte
	}{
		{"TCP", tcp(client4, p4(foo, 0), 5000, 443, syn), func(o uint16) []byte { return tcp(addrA, client4, 443, o, syn|ack) }},
		{"UDP", udp(client4, p4(foo, 0), 5000, 53), func(o uint16) []byte { return udp(addrA, client4, 54, o) }},
		{"echo", echo(client4, p4(foo, 0), 5000, true), func(o uint16) []byte { return echo(addrA, client4, o, false) }},
		{"UDP over IPv6", udp(client6, p6(foo, 0), 5000, 53), func(o uint16) []byte { return udp(addrD, client6, 53, o) }},
		{"UDP without translation", udp(client4, addrC, 5000, 53), func(o uint16) []byte { return udp(addrC, client4, 53, o) }},
	}
	for _, test := range tests {
		w := newWorld(t)
		w.announce("foo", foo, addrA, addrD)
		for _, taken := range [][]byte{tcp(client4, addrA, 5000, 443, syn), udp(client4, addrA, 5000, 1), echo(client4, addrA, 5000, true), udp(client6, addrD, 5000, 1)} {
			w.out(taken, Forward) // so that the outside id differs
		}
		out := w.out(clone(test.sent), Forward)
		outside := out.SrcPort()
		if id, _, ok := out.Echo(); ok {
			outside = id
		}
		received := test.received(outside)
		in := parse(t, clone(received))
		w.In(w.Match(in, w.now), in, w.now)
		p := parse(t, icmpError(in.Dst(), in.Src(), map[bool]byte{true: 3, false: 1}[in.Version() == 4], in.Bytes()))
		s := w.MatchErrorOut(p, w.now)
		if s == nil {
			t.Fatalf("%s: no session", test.name)
		}
		before := *s
		w.OutError(s, p)
		if !p.ValidChecksums() || !bytes.Equal(p.Payload(), received) || p.Dst() != parse(t, received).Src() || p.Src() != in.Dst() {
			t.Errorf("%s: %v → %v quotes\n% x, want\n% x", test.name, p.Src(), p.Dst(), p.Payload(), received)
		}
		if *s != before {
			t.Errorf("%s: the session changed", test.name)
		}
	}
}

func TestN36ErrorsThatMatchNothing(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.out(udp(client4, p4(foo, 0), 5000, 53), Forward)
	w.out(echo(client4, p4(foo, 0), 7, true), Forward)
	corrupt := icmpError(client4, p4(foo, 0), 3, udp(p4(foo, 0), client4, 53, 5000))
	corrupt[30]++
	for name, b := range map[string][]byte{
		"checksum wrong":      corrupt,
		"other port":          icmpError(client4, p4(foo, 0), 3, udp(p4(foo, 0), client4, 53, 5001)),
		"other proxy":         icmpError(client4, p4(foo, 1), 3, udp(p4(foo, 1), client4, 53, 5000)),
		"sent somewhere else": icmpError(client4, p4(foo, 1), 3, udp(p4(foo, 0), client4, 53, 5000)),
		"for someone else":    icmpError(client4, p4(foo, 0), 3, udp(p4(foo, 0), addrB, 53, 5000)),
		"the real address":    icmpError(client4, addrA, 3, udp(addrA, client4, 53, 5000)),
		"an echo request":     icmpError(client4, p4(foo, 0), 3, echo(p4(foo, 0), client4, 7, true)),
		"a redirect":          icmpError(client4, p4(foo, 0), 5, udp(p4(foo, 0), client4, 53, 5000)),
	} {
		if w.MatchErrorOut(parse(t, b), w.now) != nil {
			t.Errorf("%s: matched", name)
		}
	}
	if w.MatchErrorOut(parse(t, icmpError(client4, p4(foo, 0), 3, echo(p4(foo, 0), client4, 7, false))), w.now) == nil {
		t.Error("an echo reply is not matched")
	}
}

func headerLen(a netip.Addr) int {
	if a.Is4() {
		return 20
	}
	return 40
}
