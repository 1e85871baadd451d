package gateway

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/packet"
	"stile/tunnel/packet/cut"
	"stile/tunnel/wire"
)

// outwardly has client n send packets, in order, and returns what goes to the
// TUN, in order.
func (b *bench) outwardly(n byte, packets ...[]byte) (out [][]byte) {
	b.t.Helper()
	var o core.Output
	for _, raw := range packets {
		if p := b.c.Inbound(b.paths.keysOf(who(n)), 1, slices.Clone(raw), b.now); p != nil {
			out = append(out, p)
		}
		o.Reset()
		b.c.Drain(&o)
		out = append(out, o.Packets...)
		for _, h := range o.Held {
			b.note("to %s: %s", b.paths.owner(h.Route), describe(h.Packet))
		}
	}
	return out
}

// inwardly has packets come from the TUN, and returns what goes to clients: in
// order, but that those which waited come before the packet that lets them go.
func (b *bench) inwardly(packets ...[]byte) (out [][]byte) {
	b.t.Helper()
	var o core.Output
	for _, raw := range packets {
		raw = slices.Clone(raw)
		p, err := packet.ParseFragment(raw)
		if err != nil {
			b.t.Fatalf("% x: %v", raw, err)
		}
		route := b.c.Outbound(p, b.now)
		o.Reset()
		b.c.Drain(&o)
		for _, h := range o.Held {
			out = append(out, h.Packet)
		}
		if route.Keys != nil {
			out = append(out, raw)
		}
	}
	return out
}

// whole wants fragments to be all of one datagram between two ends, with its
// payload and right checksums.
func (b *bench) whole(fragments [][]byte, from, to netip.AddrPort, like []byte) (id uint32) {
	b.t.Helper()
	whole, id, ok := cut.Together(fragments...)
	if !ok {
		b.t.Fatalf("%d fragments are not one datagram: %v", len(fragments), b.counters())
	}
	want := packet.AppendUDP(nil, from, to, payloadOf(like))
	if !cut.Sound(whole) {
		b.t.Errorf("the datagram's checksums are wrong")
	}
	if whole[0]>>4 == 4 {
		if !bytes.Equal(whole[12:], want[12:]) || whole[8] != 64 {
			b.t.Errorf("the datagram is another one: % x …, want % x …", whole[:28], want[:28])
		}
	} else if !bytes.Equal(whole, want) {
		b.t.Errorf("the datagram is another one: % x …, want % x …", whole[:48], want[:48])
	}
	return id
}

func payloadOf(whole []byte) []byte {
	if whole[0]>>4 == 4 {
		return whole[28:]
	}
	return whole[48:]
}

// large is a datagram that does not fit into one packet.
func large(src, dst netip.Addr, sport, dport uint16, size int) []byte {
	rng := rand.New(rand.NewPCG(uint64(sport), uint64(size)))
	payload := make([]byte, size)
	for i := range payload {
		payload[i] = byte(rng.Uint32())
	}
	return packet.AppendUDP(nil, netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport), payload)
}

func udpOf(port uint16) wire.Filter { return wire.Filter{Protocol: wire.UDP, First: port, Last: port} }

// visited is a gateway with a client that may use a name and a network: UDP port
// 7 and ICMP, until a number of seconds, 0 for ever.
func visited(t *testing.T, until int64) *bench {
	b := newBench(t)
	icmp := wire.Filter{Protocol: wire.ICMP}
	b.grant(1, dns(1, "*.corp.example", udpOf(7), icmp), until)
	b.grant(1, cidr(2, "10.0.0.0/16", udpOf(7), icmp), until)
	b.name(1, 1, "wiki.corp.example", proxies(1), addrB, addrD)
	return b
}

// A datagram of any size passes in both directions, by name and by address.
func TestN41LargeDatagramsPass(t *testing.T) {
	p4, p6 := proxies(1)[0], proxies(1)[1]
	for _, size := range []int{1253, 1400, 4000, 8000, 65507} {
		for _, way := range []struct{ client, to, real netip.Addr }{{c4(1), p4, addrB}, {c6(1), p6, addrD}, {c4(1), addrA, addrA}} {
			t.Run(fmt.Sprintf("%d bytes to %v", size, way.to), func(t *testing.T) {
				b := visited(t, 0)
				near, client, far := netip.AddrPortFrom(way.to, 7), netip.AddrPortFrom(way.client, 5000), netip.AddrPortFrom(way.real, 7)
				sent := large(way.client, way.to, 5000, 7, size)
				if id := b.whole(b.outwardly(1, cut.Apart(sent, packet.MaxSize, 77)...), client, far, sent); id != 77 {
					t.Errorf("the ID became %d", id)
				}
				reply := large(way.real, way.client, 7, 5000, size)
				if id := b.whole(b.inwardly(cut.Apart(reply, packet.MaxSize, 78)...), near, client, reply); id != 78 {
					t.Errorf("the ID of the reply became %d", id)
				}
				b.want("nobody is told anything")
				if b.c.clients[who(1)].fragments.Len() != 0 {
					t.Error("something is left")
				}
			})
		}
	}
}

// The fragments of spec gateway-nat.md 8.3, in both directions. The numbers are
// those of the datagram's fragments in order of arrival; 4 overlaps 1 and 2, and
// 5 the ports in 0.
func TestN41FragmentsPassAsTheFirst(t *testing.T) {
	p4 := proxies(1)[0]
	out, in := large(c4(1), p4, 5000, 7, 4500), large(addrB, c4(1), 7, 5000, 4500)
	tests := []struct {
		name    string
		order   []int
		whole   bool
		passed  int
		dropped uint64 // two seconds later
	}{
		{"in order", []int{0, 1, 2, 3}, true, 4, 0},
		{"reversed", []int{3, 2, 1, 0}, true, 4, 0},
		{"mixed", []int{2, 0, 3, 1}, true, 4, 0},
		{"first missing", []int{1, 2, 3}, false, 0, 3},
		{"one missing", []int{0, 1, 3}, false, 3, 0},
		{"duplicate", []int{0, 1, 1, 2, 3}, true, 4, 1},
		{"duplicate before the first", []int{1, 1, 0, 2, 3}, true, 4, 1},
		{"overlap", []int{0, 1, 4, 2, 3}, false, 2, 3},
		{"overlap of the ports", []int{0, 5, 1, 2, 3}, false, 1, 4},
	}
	for _, test := range tests {
		for _, way := range []string{"out", "in"} {
			b := visited(t, 0)
			b.outwardly(1, udp(c4(1), p4, 5000, 7)) // so that a reply is waited for
			datagram, from, to := out, netip.AddrPortFrom(c4(1), 5000), netip.AddrPortFrom(addrB, 7)
			if way == "in" {
				datagram, from, to = in, netip.AddrPortFrom(p4, 7), netip.AddrPortFrom(c4(1), 5000)
			}
			fragments := append(cut.Apart(datagram, packet.MaxSize, 77), cut.Piece(datagram, 2400, 3200, 77), cut.Piece(datagram, 8, 1264, 77))
			var arriving [][]byte
			for _, i := range test.order {
				arriving = append(arriving, fragments[i])
			}
			var got [][]byte
			if way == "out" {
				got = b.outwardly(1, arriving...)
			} else {
				got = b.inwardly(arriving...)
			}
			if len(got) != test.passed {
				t.Errorf("%s, %s: %d pass, want %d", test.name, way, len(got), test.passed)
			}
			if test.whole {
				b.whole(got, from, to, datagram)
			} else if _, _, ok := cut.Together(got...); ok {
				t.Errorf("%s, %s: the datagram passes", test.name, way)
			}
			b.at(40)
			if n := b.counter("dropped: fragment"); n != test.dropped {
				t.Errorf("%s, %s: %d dropped, want %d", test.name, way, n, test.dropped)
			}
			b.want("nobody is told anything")
			if b.c.clients[who(1)].fragments != nil {
				t.Errorf("%s, %s: fragments are remembered after 40 s", test.name, way)
			}
		}
	}
}

// A tiny first fragment passes if the ports are in it, all of them.
func TestN41TinyFirstFragments(t *testing.T) {
	b := visited(t, 0)
	b.grant(1, cidr(3, "10.0.1.0/24", tcpOnly(443)), 0)
	out := large(c4(1), addrA, 5000, 7, 400)
	got := b.outwardly(1, cut.Piece(out, 0, 8, 7), cut.Piece(out, 8, 208, 7), cut.Piece(out, 208, 408, 7))
	b.whole(got, netip.AddrPortFrom(c4(1), 5000), netip.AddrPortFrom(addrA, 7), out)

	segment := tcp(c4(1), in2, 5000, 443, packet.SYN)
	if got := b.outwardly(1, cut.Piece(segment, 0, 16, 8)); len(got) != 0 || b.counter("dropped: fragment") != 1 {
		t.Error("a TCP header in two fragments passes")
	}
	if got := b.outwardly(1, cut.Piece(segment, 16, 24, 8)); len(got) != 0 {
		t.Error("the rest of the header passes")
	}
	b.want("nobody is told anything")
}

// Two names that lead to one host: the host must not take fragments of one
// datagram for the other's.
func TestN41IDsDoNotClashOutside(t *testing.T) {
	b := visited(t, 0)
	b.name(1, 1, "blog.corp.example", proxies(2), addrB, addrD)
	for _, way := range []struct {
		client, p1, p2, real netip.Addr
	}{{c4(1), proxies(1)[0], proxies(2)[0], addrB}, {c6(1), proxies(1)[1], proxies(2)[1], addrD}} {
		one, two := large(way.client, way.p1, 5000, 7, 3000), large(way.client, way.p2, 5000, 7, 3500)
		a, z := cut.Apart(one, packet.MaxSize, 9), cut.Apart(two, packet.MaxSize, 9)
		got := b.outwardly(1, a[0], z[0], a[1], z[1], a[2], z[2])
		if len(got) != 6 {
			t.Fatalf("%d of 6 fragments pass: %v", len(got), b.counters())
		}
		far := netip.AddrPortFrom(way.real, 7)
		first := b.whole([][]byte{got[0], got[2], got[4]}, netip.AddrPortFrom(way.client, 5000), far, one)
		p, err := packet.ParseFragment(got[1])
		if err != nil || p.SrcPort() == 5000 {
			t.Fatalf("two flows have one port outside: %v", err)
		}
		second := b.whole([][]byte{got[1], got[3], got[5]}, netip.AddrPortFrom(way.client, p.SrcPort()), far, two)
		if first != 9 || second == 9 {
			t.Errorf("IDs %d and %d; want 9 and another", first, second)
		}
		// The replies come to the proxies that they belong to.
		three, four := large(way.real, way.client, 7, 5000, 3000), large(way.real, way.client, 7, p.SrcPort(), 3500)
		a, z = cut.Apart(three, packet.MaxSize, 10), cut.Apart(four, packet.MaxSize, 11)
		got = b.inwardly(a[0], z[0], z[1], a[1], z[2], a[2])
		b.whole([][]byte{got[0], got[3], got[5]}, netip.AddrPortFrom(way.p1, 7), netip.AddrPortFrom(way.client, 5000), three)
		b.whole([][]byte{got[1], got[2], got[4]}, netip.AddrPortFrom(way.p2, 7), netip.AddrPortFrom(way.client, 5000), four)
	}
}

// What the first fragment may not, the others may not; but only the first is
// answered, and each is counted for the same reason.
func TestN41FragmentsAreRefusedAsTheFirst(t *testing.T) {
	p4 := proxies(1)[0]
	tests := []struct {
		name, counter, answer string
		datagram              []byte
	}{
		{"filtered", "dropped: filtered", "to client 1: error 3/13 100.96.1.1 → 100.64.1.1", large(c4(1), p4, 5000, 8, 3000)},
		{"not allowed", "dropped: not allowed", "to client 1: error 3/13 10.1.0.1 → 100.64.1.1", large(c4(1), addr("10.1.0.1"), 5000, 7, 3000)},
		{"no binding", "dropped: no binding", "to client 1: error 3/13 100.96.9.1 → 100.64.1.1", large(c4(1), proxies(9)[0], 5000, 7, 3000)},
		{"another client", "dropped: not allowed", "to client 1: error 3/13 100.64.1.2 → 100.64.1.1", large(c4(1), c4(2), 5000, 7, 3000)},
		{"not a service of the host", "dropped: not allowed", "to client 1: error 3/13 100.64.0.1 → 100.64.1.1", large(c4(1), own4, 5000, 7, 3000)},
		{"multicast", "dropped: multicast", "", large(c4(1), addr("224.0.0.251"), 5000, 7, 3000)},
		{"spoofed", "dropped: spoofed source", "", large(c4(2), addrA, 5000, 7, 3000)},
		{"an ICMP error", "dropped: fragment", "", icmpError(c4(1), p4, 3, 3, make([]byte, 3000))},
	}
	for _, test := range tests {
		for _, order := range [][]int{{0, 1, 2}, {2, 0, 1}, {1, 2, 0}} {
			b := visited(t, 0)
			fragments := cut.Apart(test.datagram, packet.MaxSize, 3)
			got := b.outwardly(1, fragments[order[0]], fragments[order[1]], fragments[order[2]])
			if len(got) != 0 || b.counter(test.counter) != 3 || dropped(b) != 3 {
				t.Errorf("%s, order %v: %d pass, %v", test.name, order, len(got), b.counters())
			}
			if test.answer == "" {
				b.want(test.name)
			} else {
				b.want(test.name, test.answer)
			}
		}
	}
}

// What no first fragment can make up for does not wait for one.
func TestFragmentsThatDoNotWait(t *testing.T) {
	for counter, datagram := range map[string][]byte{
		"dropped: multicast":      large(c4(1), addr("224.0.0.251"), 5000, 7, 3000),
		"dropped: spoofed source": large(c4(2), addrA, 5000, 7, 3000),
	} {
		b := visited(t, 0)
		b.outwardly(1, cut.Apart(datagram, packet.MaxSize, 3)[1:]...)
		if b.counter(counter) != 2 || b.c.clients[who(1)].fragments != nil {
			t.Errorf("%s: %v", counter, b.counters())
		}
	}
}

// A client that may use nothing any more may not use the host either.
func TestFragmentsToTheHostExpire(t *testing.T) {
	b := visited(t, 100)
	b.at(99)
	out := cut.Apart(large(c4(1), own4, 5000, dnsPort, 3000), packet.MaxSize, 3)
	in := cut.Apart(large(own4, c4(1), dnsPort, 5000, 3000), packet.MaxSize, 3)
	if n := len(b.outwardly(1, out[:2]...)) + len(b.inwardly(in[:2]...)); n != 4 {
		t.Fatalf("%d of 4 pass: %v", n, b.counters())
	}
	b.now = boot.Add(100e9)
	if n := len(b.outwardly(1, out[2])) + len(b.inwardly(in[2])); n != 0 || b.counter("dropped: expired authorization") != 2 {
		t.Errorf("%d of 2 pass: %v", n, b.counters())
	}
}

func dropped(b *bench) (n uint64) {
	for _, c := range b.counters() {
		if strings.HasPrefix(c.Name, "dropped: ") {
			n += c.Value
		}
	}
	return n
}

// From outside, fragments come in as the first one does: only where a session
// waits for it.
func TestUnwantedFragmentsFromOutside(t *testing.T) {
	for _, test := range []struct {
		name, counter string
		datagram      []byte
	}{
		{"nobody asked", "dropped: no session", large(addrA, c4(1), 7, 5000, 3000)},
		{"from another host", "dropped: no session", large(addrD, c6(1), 7, 5000, 3000)},
		{"for nobody", "dropped: no peer", large(addrB, c4(9), 7, 5000, 3000)},
		{"an ICMP error", "dropped: fragment", icmpError(addrB, c4(1), 3, 3, make([]byte, 3000))},
	} {
		for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}} {
			b := visited(t, 0)
			b.outwardly(1, udp(c4(1), proxies(1)[0], 5000, 7))
			fragments := cut.Apart(test.datagram, packet.MaxSize, 3)
			got := b.inwardly(fragments[order[0]], fragments[order[1]], fragments[order[2]])
			if len(got) != 0 || b.counter(test.counter) != 3 || dropped(b) != 3 {
				t.Errorf("%s, order %v: %d arrive, %v", test.name, order, len(got), b.counters())
			}
			b.want(test.name)
		}
	}
}

// Policy is asked anew for each fragment: a datagram does not outlive its
// authorization, filters or connection.
func TestFragmentsDoNotOutliveTheirAuthorization(t *testing.T) {
	p4 := proxies(1)[0]
	tests := []struct {
		name, counter string
		end           func(b *bench)
	}{
		{"expired", "dropped: expired authorization", func(b *bench) { b.now = boot.Add(100e9) }},
		{"filters changed", "dropped: filtered", func(b *bench) { b.grant(1, dns(1, "*.corp.example", udpOf(9)), 100) }},
		{"goodbye", "", func(b *bench) { b.send(1, packet.AppendControl(nil, wire.EventGoodbye, nil)) }},
		{"revoked", "dropped: expired authorization", func(b *bench) { b.message(wire.RejectAccess{Client: who(1), Resource: res(1)}) }},
	}
	for _, test := range tests {
		for _, way := range []string{"out", "in"} {
			b := visited(t, 100)
			b.outwardly(1, udp(c4(1), p4, 5000, 7))
			b.at(99)
			out, in := cut.Apart(large(c4(1), p4, 5000, 7, 3000), packet.MaxSize, 3), cut.Apart(large(addrB, c4(1), 7, 5000, 3000), packet.MaxSize, 3)
			b.outwardly(1, udp(c4(1), p4, 5000, 7))
			b.outwardly(1, out[0], out[1])
			if got := b.inwardly(in[0], in[1]); len(got) != 2 {
				t.Fatalf("%s: %v", test.name, b.counters())
			}
			test.end(b)
			b.lines = nil
			before := b.counter(test.counter)
			var got [][]byte
			if way == "out" && test.name != "goodbye" {
				got = b.outwardly(1, out[2])
			} else {
				got = b.inwardly(in[2])
			}
			if len(got) != 0 || test.counter != "" && b.counter(test.counter) != before+1 {
				t.Errorf("%s, %s: %d pass, %v", test.name, way, len(got), b.counters())
			}
			b.want("no word about a later fragment")
		}
	}
}

// Later fragments do not keep a session alive, nor make one.
func TestN41LaterFragmentsDoNotRefresh(t *testing.T) {
	p4 := proxies(1)[0]
	out, in := cut.Apart(large(c4(1), p4, 5000, 7, 3000), packet.MaxSize, 3), udp(addrB, c4(1), 7, 5000)
	b := visited(t, 0)
	b.outwardly(1, out[0])
	b.at(29.9)
	if got := b.outwardly(1, out[1], out[2]); len(got) != 2 {
		t.Fatalf("%d of 2 later fragments pass", len(got))
	}
	b.at(60)
	b.lost(in, "dropped: no session") // nobody answered for 60 s since the first

	b.outwardly(1, out[1], out[2])
	b.lost(in, "dropped: no session")
}

// The traffic of a flow is that of all its fragments, also of those that wait,
// with translated ports or without; but not of those that are dropped.
func TestFlowsCountFragments(t *testing.T) {
	b := visited(t, 0)
	b.name(1, 1, "blog.corp.example", proxies(2), addrB, addrD)
	p := proxies(2)[0]
	b.outwardly(1, udp(c4(1), proxies(1)[0], 5000, 7)) // it has the port outside
	out := cut.Apart(large(c4(1), p, 5000, 7, 4500), packet.MaxSize, 1)
	got := b.outwardly(1, out[3], out[0], out[1], out[1], out[2])
	first, err := packet.ParseFragment(got[0])
	if err != nil || first.SrcPort() == 5000 {
		t.Fatalf("port %d: %v", first.SrcPort(), err)
	}
	in := cut.Apart(large(addrB, c4(1), 7, first.SrcPort(), 3000), packet.MaxSize, 1)
	b.inwardly(in[1], in[0], in[2])
	b.inwardly(cut.Apart(large(addrA, c4(1), 7, 5000, 3000), packet.MaxSize, 2)...)

	flows := slices.Collect(b.c.clients[who(1)].nat.Flows(b.now))
	for _, f := range flows {
		want := [4]uint64{1, 0, 32, 0}
		if f.Proxy == p {
			want = [4]uint64{4, 3, 4508 + 4*20, 3008 + 3*20}
		}
		if got := [4]uint64{f.PacketsOut, f.PacketsIn, f.BytesOut, f.BytesIn}; got != want {
			t.Errorf("%v: packets and bytes out and in %v, want %v", f.Proxy, got, want)
		}
	}
	if len(flows) != 2 {
		t.Errorf("%d flows, want 2", len(flows))
	}
}

// ping -s 4000, by name, to the gateway itself, and back.
func TestLargeEcho(t *testing.T) {
	ping := func(src, dst netip.Addr, request bool) []byte {
		typ, proto := byte(0), packet.ICMP
		if request {
			typ = 8
		}
		if src.Is6() {
			proto = packet.ICMPv6
			if typ = 129; request {
				typ = 128
			}
		}
		body := append([]byte{typ, 0, 0, 0, 0x12, 0x34, 0, 1}, bytes.Repeat([]byte("ping"), 1000)...)
		return wholeOf(src, dst, proto, body)
	}
	b := visited(t, 0)
	for _, way := range []struct{ client, to, real netip.Addr }{
		{c4(1), proxies(1)[0], addrB}, {c6(1), proxies(1)[1], addrD}, {c4(1), own4, own4}, {c6(1), own6, own6},
	} {
		got, _, ok := cut.Together(b.outwardly(1, cut.Apart(ping(way.client, way.to, true), packet.MaxSize, 1)...)...)
		if !ok || !cut.Sound(got) {
			t.Fatalf("the echo request to %v does not pass: %v", way.to, b.counters())
		}
		got, _, ok = cut.Together(b.inwardly(cut.Apart(ping(way.real, way.client, false), packet.MaxSize, 2)...)...)
		if !ok || !cut.Sound(got) {
			t.Fatalf("the echo reply from %v does not arrive: %v", way.real, b.counters())
		}
		want := ping(way.to, way.client, false)
		if got[0]>>4 == 4 {
			got, want = got[12:], want[12:]
		}
		if !bytes.Equal(got, want) {
			t.Errorf("the echo reply from %v differs", way.to)
		}
	}
}

// wholeOf is a packet of any size with right checksums.
func wholeOf(src, dst netip.Addr, proto packet.Proto, body []byte) []byte {
	b := packet.AppendUDP(nil, netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0), body[8:])
	at := 20
	if src.Is4() {
		b[9] = byte(proto)
	} else {
		at, b[6] = 40, byte(proto)
	}
	copy(b[at:], body)
	return cut.WithChecksums(b)
}

// A host reports about the datagram that it put together, a router about the
// fragment that it saw. Only of a later fragment nobody knows whose it is.
func TestErrorsAboutLargeDatagrams(t *testing.T) {
	for _, way := range []struct {
		client, to, real netip.Addr
		proto            packet.Proto
		refused          []byte
		quote            int
	}{
		{c4(1), proxies(1)[0], addrB, packet.ICMP, []byte{3, 3, 0, 0, 0, 0, 0, 0}, 548},
		{c6(1), proxies(1)[1], addrD, packet.ICMPv6, []byte{1, 4, 0, 0, 0, 0, 0, 0}, 1232},
	} {
		b := visited(t, 0)
		b.outwardly(1, udp(way.client, proxies(1)[4+way.to.BitLen()/128], 5000, 7)) // it has the port outside
		sent := large(way.client, way.to, 5000, 7, 4000)
		fragments := b.outwardly(1, cut.Apart(sent, packet.MaxSize, 5)...)
		whole, _, ok := cut.Together(fragments...)
		if !ok {
			t.Fatalf("%v", b.counters())
		}
		for name, quoted := range map[string][]byte{"the datagram": whole, "its first fragment": fragments[0], "a later fragment": fragments[1]} {
			quoted = quoted[:min(len(quoted), way.quote)]
			e := wholeOf(way.real, way.client, way.proto, slices.Concat(way.refused, quoted))
			if name == "a later fragment" {
				b.lost(e, "dropped: icmp-unmatched")
				continue
			}
			p := b.arrives(e, way.to)
			q, ok := p.Quote()
			if !ok || q.Src() != way.client || q.Dst() != way.to || q.SrcPort() != 5000 || q.DstPort() != 7 || len(p.Bytes()) != len(e) {
				t.Errorf("%v, about %s: quote %v %v:%d → %v:%d", way.proto, name, ok, q.Src(), q.SrcPort(), q.Dst(), q.DstPort())
			}
		}
	}
}

// Fragments in order cost no memory each.
func TestFragmentsDoNotAllocate(t *testing.T) {
	b := visited(t, 0)
	b.paths.way = new(core.Way)
	keys, scratch := b.paths.keysOf(who(1)), make([]byte, packet.MaxSize)
	out, in := cut.Apart(large(c4(1), proxies(1)[0], 5000, 7, 4000), packet.MaxSize, 1), cut.Apart(large(addrB, c4(1), 7, 5000, 4000), packet.MaxSize, 2)
	n := testing.AllocsPerRun(200, func() {
		for _, f := range out {
			if b.c.Inbound(keys, 1, scratch[:copy(scratch, f)], b.now) == nil {
				t.Fatal("dropped")
			}
		}
		for _, f := range in {
			p, _ := packet.ParseFragment(scratch[:copy(scratch, f)])
			if b.c.Outbound(p, b.now).Keys == nil {
				t.Fatal("dropped")
			}
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestFragmentsWithoutConnection(t *testing.T) {
	b := visited(t, 0)
	b.outwardly(1, udp(c4(1), proxies(1)[0], 5000, 7))
	in := cut.Apart(large(addrB, c4(1), 7, 5000, 3000), packet.MaxSize, 3)
	b.inwardly(in[0])
	b.paths.down[b.c.clients[who(1)].peer] = true
	if got := b.inwardly(in[1]); len(got) != 0 || b.counter("dropped: not connected") != 1 {
		t.Errorf("%d arrive, %v", len(got), b.counters())
	}
	b.inwardly(cut.Apart(large(addrB, c4(1), 7, 5000, 3000), packet.MaxSize, 4)...)
	if n := b.counter("dropped: not connected"); n != 4 {
		t.Errorf("%d of 4 counted as not connected", n)
	}
}

// Each fragment passes or is counted once (N52), whatever comes.
func TestFragmentsAreCountedOnce(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 0))
		b := visited(t, 0)
		var datagrams [][]byte
		for i := range 6 {
			p := proxies(byte(1 + i%2))[i%3]
			client, host := c4(1), addrB
			if p.Is6() {
				client, host = c6(1), addrD
			}
			size := 2000 + rng.IntN(4000)
			datagrams = append(datagrams, large(client, p, uint16(5000+i), uint16(7+i%5/4), size), large(host, client, 7, uint16(5000+i), size))
		}
		sent, passed := uint64(0), uint64(0)
		for step := range 400 {
			d := datagrams[rng.IntN(len(datagrams))]
			data := len(d) - 20
			if d[0]>>4 == 6 {
				data -= 20
			}
			from := 8 * rng.IntN(data/8)
			if rng.IntN(3) == 0 {
				from = 0
			}
			to := min(from+8*(2+rng.IntN(100)), data)
			f := cut.Piece(d, from, to, rng.Uint32N(3))
			if _, err := packet.ParseFragment(f); err != nil {
				continue
			}
			sent++
			if d[12] == 100 || d[8] == 0xfd {
				passed += uint64(len(b.outwardly(1, f)))
			} else {
				passed += uint64(len(b.inwardly(f)))
			}
			if step%20 == 0 {
				b.at(float64(step) / 10)
			}
		}
		b.at(100)
		if n := dropped(b); sent != passed+n || passed == 0 || n == 0 {
			t.Errorf("seed %d: %d sent, %d passed, %d dropped", seed, sent, passed, n)
		}
	}
}

// FuzzN41Fragments feeds a gateway packets of both sides, each behind a byte that
// says which side it comes from and how much later, and two with its length.
// Each passes, waits or is counted once (N50, N52).
func FuzzN41Fragments(f *testing.F) {
	script := func(packets ...[]byte) (b []byte) {
		for _, p := range packets {
			side := byte(0)
			if p[0]>>4 == 4 && p[12] == 10 {
				side = 1
			}
			b = append(append(b, side, byte(len(p)>>8), byte(len(p))), p...)
		}
		return b
	}
	out, in := cut.Apart(large(c4(1), proxies(1)[0], 5000, 7, 1400), 600, 1), cut.Apart(large(addrB, c4(1), 7, 5000, 1400), 600, 2)
	f.Add(script(slices.Concat(out, in)...))
	f.Add(script(out[1], in[1], out[0], in[0], out[0], cut.Piece(large(c4(1), proxies(1)[0], 5000, 7, 1400), 8, 600, 1), out[2]))
	f.Add(script(cut.Apart(large(c6(1), proxies(1)[1], 5000, 7, 1400), 600, 1)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		w := visited(t, 0)
		sent, passed := uint64(0), uint64(0)
		for len(b) > 3 {
			side, n := b[0], min(int(b[1])<<8|int(b[2]), len(b)-3)
			raw := b[3 : 3+n]
			b = b[3+n:]
			p, err := packet.ParseFragment(raw)
			if err != nil || !p.IsFragment() {
				continue
			}
			sent++
			w.now = w.now.Add(time.Duration(side>>1) * 20 * time.Millisecond)
			if side&1 == 0 {
				passed += uint64(len(w.outwardly(1, raw)))
			} else {
				passed += uint64(len(w.inwardly(raw)))
			}
		}
		w.c.Advance(w.now.Add(time.Minute))
		w.c.Advance(w.now.Add(2 * time.Minute))
		if n := dropped(w); sent != passed+n {
			t.Fatalf("%d sent, %d passed, %v", sent, passed, w.counters())
		}
	})
}

func BenchmarkLargeDatagramEachWay(b *testing.B) {
	w := newBench(b)
	w.grant(1, dns(2, "*.corp.example", udpOf(7)), 0)
	w.name(1, 2, "wiki.corp.example", proxies(1), addrB)
	w.paths.way = new(core.Way)
	keys := w.paths.keysOf(who(1))
	out, in := cut.Apart(large(c4(1), proxies(1)[0], 5000, 7, 8000), packet.MaxSize, 1), cut.Apart(large(addrB, c4(1), 7, 5000, 8000), packet.MaxSize, 2)
	scratch := make([]byte, 1280)
	b.ReportAllocs()
	for b.Loop() {
		for _, f := range out {
			if w.c.Inbound(keys, 1, scratch[:copy(scratch, f)], w.now) == nil {
				b.Fatal("dropped")
			}
		}
		for _, f := range in {
			q, _ := packet.ParseFragment(scratch[:copy(scratch, f)])
			if w.c.Outbound(q, w.now).Keys == nil {
				b.Fatal("dropped")
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(out)), "ns/pair")
}
