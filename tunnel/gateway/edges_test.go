package gateway

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"stile/tunnel/core"
	"stile/tunnel/packet"
	"stile/tunnel/wire"
)

// The edge packets of spec gateway-nat.md 8.3 and the malformed control packets
// of 8.4, row by row. Fragments have tests of their own (N41), and so has what a
// TUN device splits and coalesces (package platform/tun). All rows are seeds of
// the fuzz test, too.

// What shall become of an edge packet, apart from the name of a reason to drop
// it.
const (
	passes   = ""          // it goes to the resource
	answered = "answered"  // of a packet from outside: it reaches the client
	consumed = "keepalive" // nobody counts it
)

// An edge is a packet and what shall become of it.
type edge struct {
	name    string
	raw     []byte
	inwards bool
	want    string
}

// ends are the first and the last proxy addresses there are.
var ends = []netip.Addr{
	addr("100.96.0.0"), addr("100.96.0.1"), addr("100.127.255.254"), addr("100.127.255.255"),
	addr("fd00:2021:1111:8000::"), addr("fd00:2021:1111:8000::1"), addr("fd00:2021:1111:8000::1f:fffe"), addr("fd00:2021:1111:8000::1f:ffff"),
}

// atTheEdge is a gateway whose client 1 may use a name and networks, without
// filters, and has a session of each protocol with 10.0.0.1.
func atTheEdge(t testing.TB) *bench {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.grant(1, cidr(2, "10.0.0.0/8"), 0)
	b.grant(1, cidr(3, "2001:db8::/32"), 0)
	b.grant(2, cidr(2, "10.0.0.0/8"), 0)
	b.name(1, 1, "wiki.corp.example", proxies(1), addrB, addrD)
	b.name(1, 1, "ends.corp.example", ends, addrB, addrD)
	b.passes(1, probe, addrA)
	b.passes(1, probe6, addrD)
	b.passes(1, segment, addrA)
	b.passes(1, ping, addrA)
	return b
}

var (
	probe   = udp(c4(1), addrA, 4000, 33434)
	probe6  = udp(c6(1), addrD, 4000, 33434)
	segment = tcp(c4(1), addrA, 4000, 443, syn)
	ping    = echo(c4(1), addrA, 4000, true)
)

func edges() (list []edge) {
	add := func(want, name string, raw []byte) { list = append(list, edge{name, raw, false, want}) }
	in := func(want, name string, raw []byte) { list = append(list, edge{name, raw, true, want}) }
	p4, p6 := proxies(1)[0], proxies(1)[1]

	for _, port := range []uint16{0, 1, 1023, 1024, 65535} {
		for _, to := range []netip.Addr{p4, addrA} {
			what := fmt.Sprintf("port %d to %v", port, to)
			add(passes, "UDP from "+what, udp(c4(1), to, port, 53))
			add(passes, "UDP to "+what, udp(c4(1), to, 5000, port))
			add(passes, "UDP both, "+what, udp(c4(1), to, port, port))
			add(passes, "TCP from "+what, tcp(c4(1), to, port, 443, syn))
			add(passes, "TCP to "+what, tcp(c4(1), to, 5000, port, syn))
			add(passes, "TCP both, "+what, tcp(c4(1), to, port, port, syn))
		}
	}
	add(passes, "echo id 0", echo(c4(1), p4, 0, true))
	add(passes, "echo id 65535", echo(c4(1), p4, 65535, true))

	const urg, psh = packet.URG, packet.PSH
	flags := func(f packet.TCPFlags) []byte { return tcp(c4(1), p4, 5000, 443, f) }
	add(passes, "SYN with data", flags(syn))
	add(passes, "SYN+ACK without SYN", flags(syn|ack))
	add("bad flags", "RST without a session", flags(rst))
	add("bad flags", "RST+ACK without a session", flags(rst|ack))
	add("bad flags", "FIN without ACK and a session", flags(fin))
	add("bad flags", "FIN+SYN", flags(fin|syn))
	add("bad flags", "RST+SYN", flags(rst|syn))
	add("bad flags", "all flags", flags(0xff))
	add("bad flags", "no flags", flags(0))
	add("bad flags", "only ECE and CWR", flags(0xc0))
	add(passes, "FIN+ACK from the middle", flags(fin|ack))
	add(passes, "urgent", flags(urg|psh|ack))
	add(passes, "40 bytes of options", ip(c4(1), p4, packet.TCP, header(60, 5000, 443, syn)))
	add(passes, "zero window probe", ip(c4(1), p4, packet.TCP, append(header(20, 5000, 443, ack), 'x')))
	add(passes, "keep-alive without data", ip(c4(1), p4, packet.TCP, header(20, 5000, 443, ack)))
	add("bad flags", "no flags on a session", tcp(c4(1), addrA, 4000, 443, 0))
	add("malformed", "header shorter than 20 bytes", edit(flags(syn), 32, 0x40))
	add("malformed", "header beyond the end", edit(flags(syn), 32, 0xf0))

	add(passes, "UDP of 8 bytes", packet.AppendUDP(nil, netip.AddrPortFrom(c4(1), 5000), netip.AddrPortFrom(p4, 53), nil))
	add(passes, "no UDP checksum", edit(udp(c4(1), p4, 5000, 53), 26, 0, 0))
	add(passes, "no UDP checksum over IPv6", edit(udp(c6(1), p6, 5000, 53), 46, 0, 0))
	add(passes, "wrong UDP checksum", edit(udp(c4(1), p4, 5000, 53), 26, 0x12, 0x34))
	add("malformed", "UDP length too small", edit(udp(c4(1), p4, 5000, 53), 25, 11))
	add("malformed", "UDP length too large", edit(udp(c4(1), p4, 5000, 53), 25, 13))

	add(passes, "header length 15", options(p4, make([]byte, 40)))
	add(passes, "record route", options(p4, []byte{7, 7, 4, 0, 0, 0, 0, 0}))
	add("malformed", "header length 4", edit(udp(c4(1), p4, 5000, 53), 0, 0x44))
	add(passes, "may be fragmented", edit(udp(c4(1), p4, 5000, 53), 6, 0))
	for _, ttl := range []byte{0, 1, 255} {
		add(passes, fmt.Sprintf("TTL %d", ttl), edit(udp(c4(1), p4, 5000, 53), 8, ttl))
		add(passes, fmt.Sprintf("hop limit %d", ttl), edit(udp(c6(1), p6, 5000, 53), 7, ttl))
	}
	add(passes, "congestion experienced", edit(udp(c4(1), p4, 5000, 53), 1, 3))
	add(passes, "congestion experienced, IPv6", edit(udp(c6(1), p6, 5000, 53), 0, 0x60, 0x30, 1, 2))

	datagram := udp(c6(1), p6, 5000, 53)[40:]
	extended := func(next packet.Proto, h []byte, rest ...byte) []byte {
		return ip6(c6(1), p6, next, append(h, rest...))
	}
	add(passes, "hop-by-hop", extended(0, []byte{17, 0, 1, 4, 0, 0, 0, 0}, datagram...))
	add(passes, "destination options", extended(60, []byte{17, 0, 1, 4, 0, 0, 0, 0}, datagram...))
	add(passes, "routing, arrived", extended(43, []byte{17, 0, 2, 0, 0, 0, 0, 0}, datagram...))
	add("malformed", "routing, on its way", extended(43, []byte{17, 0, 2, 1, 0, 0, 0, 0}, datagram...))
	add(passes, "atomic fragment", extended(44, []byte{17, 0, 0, 0, 0, 0, 0, 9}, datagram...))
	add(passes, "authentication", extended(51, []byte{17, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, datagram...))
	chain, next := datagram, packet.UDP
	for range 8 {
		chain, next = append([]byte{byte(next), 0, 1, 4, 0, 0, 0, 0}, chain...), 60
	}
	add(passes, "chain of 8", ip6(c6(1), p6, next, chain))
	add("not allowed", "no next header to a name", ip6(c6(1), p6, packet.None, nil))
	add(passes, "no next header to an address", ip6(c6(1), addrD, packet.None, nil))
	add("malformed", "jumbo option", edit(extended(0, []byte{17, 0, 0xc2, 4, 0, 0, 0, 8}, datagram...), 4, 0, 0))
	add("malformed", "option beyond the end", extended(0, []byte{17, 200, 1, 4, 0, 0, 0, 0}, datagram...))

	router := addr("192.0.2.1")
	quote := func(typ, code byte, word uint32, about []byte) []byte {
		m := binary.BigEndian.AppendUint32([]byte{typ, code, 0, 0}, word)
		return ip(router, c4(1), packet.ICMP, append(m, about...))
	}
	in(answered, "quote of 20+4", quote(3, 1, 0, probe[:24]))
	in(answered, "quote of 20+8", quote(3, 1, 0, probe[:28]))
	in(answered, "quote of 20+8, TCP", quote(3, 1, 0, segment[:28]))
	in(answered, "quote of 20+8, echo", quote(11, 0, 0, ping))
	in("icmp-unmatched", "quote of 20+4, echo", quote(11, 0, 0, ping[:24]))
	in("icmp-unmatched", "quote of 20+3", quote(3, 1, 0, probe[:23]))
	in("icmp-unmatched", "quote of 20", quote(3, 1, 0, probe[:20]))
	in("icmp-unmatched", "quote of nothing", quote(3, 1, 0, nil))
	in(answered, "quote of all", quote(3, 1, 0, probe))
	in(answered, "quote with options", quote(3, 1, 0, withOptions(probe, []byte{7, 7, 4, 0, 0, 0, 0, 0})))
	in(answered, "quote with options, 28+4", quote(3, 1, 0, withOptions(probe, []byte{7, 7, 4, 0, 0, 0, 0, 0})[:32]))
	in(answered, "quote of a first fragment", quote(3, 1, 0, edit(probe, 6, 0x20)))
	in("icmp-unmatched", "quote of a later fragment", quote(3, 1, 0, edit(probe, 7, 1)))
	in("icmp-unmatched", "quote of somebody else's packet", quote(3, 1, 0, udp(c4(2), addrA, 4000, 33434)))
	in("icmp-unmatched", "quote of IPv6", quote(3, 1, 0, probe6))
	in("icmp-unmatched", "quote of an error", quote(3, 1, 0, icmpError(c4(1), addrA, 3, 1, udp(addrA, c4(1), 33434, 4000))))
	in(answered, "extensions", quote(11, 0, 32<<16, append(slices.Concat(probe, make([]byte, 128-len(probe))), 0x20, 0, 0xdf, 0xfb, 0, 8, 1, 1, 0, 1, 0x12, 0x34)))
	for _, mtu := range []uint32{0, 67, 68, 1279, 1280, 65535} {
		in(answered, fmt.Sprintf("MTU %d", mtu), quote(3, 4, mtu, probe))
	}
	for _, mtu := range []uint32{0, 1279, 1280, 65535, 1<<32 - 1} {
		m := binary.BigEndian.AppendUint32([]byte{2, 0, 0, 0}, mtu)
		in(answered, fmt.Sprintf("MTU %d, IPv6", mtu), ipOf(addr("2001:db8:1::1"), c6(1), append(m, probe6...)))
	}
	in(answered, "unused bytes", quote(3, 3, 0xdeadbeef, probe))
	in("icmp-unmatched", "checksum wrong", edit(quote(3, 1, 0, probe), 22, 1, 2))
	for _, typ := range []byte{4, 5} {
		in("icmp-unmatched", fmt.Sprintf("type %d", typ), quote(typ, 0, 0, probe))
	}
	for _, typ := range []byte{9, 10, 13, 14, 15, 16, 17, 18} {
		in("no session", fmt.Sprintf("type %d", typ), quote(typ, 0, 0, probe))
		add("no session", fmt.Sprintf("type %d of the client", typ), ip(c4(1), addrA, packet.ICMP, []byte{typ, 0, 0, 0, 0, 0, 0, 0}))
	}
	add("icmp-unmatched", "an error of the client about nothing", icmpError(c4(1), addrA, 3, 3, udp(addrA, c4(1), 1, 2)))

	for _, p := range ends {
		from := c4(1)
		if p.Is6() {
			from = c6(1)
		}
		add(passes, "a proxy address at an end of its range, "+p.String(), udp(from, p, 5000, 53))
	}
	for _, to := range []string{"100.96.255.255", "100.100.111.1", "100.100.111.255", "100.64.0.1", "100.64.1.2", "100.95.255.255", "255.255.255.255", "0.0.0.0", "127.0.0.1", "169.254.169.254",
		"::", "::1", "fe80::1", "::ffff:10.0.0.1", "fd00:2021:1111::1", "fd00:2021:1111::1:2", "fd00:2021:1111:8000:100:100:111:1", "fd00:2021:1111:8000::20:0"} {
		from, want := c4(1), "not allowed"
		if addr(to).Is6() {
			from = c6(1)
		}
		if to == "100.96.255.255" {
			want = "no binding"
		}
		add(want, "to "+to, udp(from, addr(to), 5000, 53))
	}
	add("multicast", "to multicast", udp(c4(1), addr("224.0.0.1"), 5000, 53))
	add("multicast", "to multicast, IPv6", udp(c6(1), addr("ff02::1"), 5000, 53))
	for _, from := range []string{"0.0.0.0", "255.255.255.255", "100.64.1.2", "100.64.0.1", "224.0.0.1", "10.0.0.1", "100.96.1.1"} {
		add("spoofed source", "from "+from, udp(addr(from), addrA, 5000, 53))
	}
	for _, from := range []string{"::", "::ffff:100.64.1.1", "fd00:2021:1111::1:2", "fe80::1"} {
		add("spoofed source", "from "+from, udp(addr(from), addrD, 5000, 53))
	}

	sized := func(n int) []byte {
		return packet.AppendUDP(nil, netip.AddrPortFrom(c4(1), 5000), netip.AddrPortFrom(p4, 53), make([]byte, n-28))
	}
	add(passes, "1280 bytes", sized(1280))
	add("malformed", "1281 bytes", sized(1281))
	add(consumed, "0 bytes", nil)
	add("malformed", "1 byte", []byte{0x45})
	add("malformed", "19 bytes", sized(28)[:19])
	add("malformed", "20 bytes of more", sized(28)[:20])
	add(passes, "20 bytes", ip(c4(1), addrA, 59, nil))
	add("malformed", "39 bytes", udp(c6(1), p6, 5000, 53)[:39])
	add("malformed", "40 bytes of more", udp(c6(1), p6, 5000, 53)[:40])
	add(passes, "padded", append(udp(c4(1), p4, 5000, 53), make([]byte, 16)...))
	add("malformed", "version 5", edit(sized(28), 0, 0x55))
	add("malformed", "ICMP in IPv6", ip6(c6(1), p6, packet.ICMP, make([]byte, 8)))
	add("malformed", "ICMPv6 in IPv4", ip(c4(1), p4, packet.ICMPv6, make([]byte, 8)))
	return list
}

// Each becomes what it shall, nothing else changes in it than the NAT may
// change (N40), and its checksums stay as right as they were (N39).
func TestN50EdgePackets(t *testing.T) {
	for _, e := range edges() {
		b := atTheEdge(t)
		before := b.c.Drops()
		var got []byte
		if e.inwards {
			got = b.receive(e.raw)
		} else {
			got = b.send(1, e.raw)
		}
		dropped := []string{}
		for reason, n := range b.c.Drops() {
			for range n - before[reason] {
				dropped = append(dropped, reason)
			}
		}
		became := passes
		switch {
		case len(dropped) > 0 && got == nil:
			became = strings.Join(dropped, " and ")
		case len(dropped) > 0:
			became = "both passed and dropped"
		case got == nil:
			became = consumed
		case e.inwards:
			became = answered
		}
		if became != e.want {
			t.Errorf("%s: became %q, want %q", e.name, became, e.want)
		}
		if got != nil && !e.inwards {
			samePacket(t, e.name, packet.Trim(e.raw), got)
		}
		if got != nil && e.inwards {
			p := parse(t, got)
			quoted := p.Payload()
			was := parse(t, e.raw)
			if len(quoted) != len(was.Payload()) || !p.ValidChecksums() || [4]byte(icmpOf(p)[4:8]) != [4]byte(icmpOf(was)[4:8]) || [2]byte(icmpOf(p)) != [2]byte(icmpOf(was)) {
				t.Errorf("%s: became % x", e.name, got)
			}
		}
	}
}

// icmpOf is the ICMP message of a packet without extension headers or options.
func icmpOf(p packet.Packet) []byte {
	b := p.Bytes()
	return b[len(b)-len(p.Payload())-8:]
}

// samePacket wants two packets to differ at most in their destination, in the
// client's port or echo id, and in the checksums over that.
func samePacket(t *testing.T, name string, was, is []byte) {
	t.Helper()
	p, q := parse(t, was), parse(t, is)
	if p.ValidChecksums() != q.ValidChecksums() {
		t.Errorf("%s: checksums right: %v, then %v", name, p.ValidChecksums(), q.ValidChecksums())
	}
	again := parse(t, slices.Clone(is))
	again.SetDst(p.Dst())
	again.SetSrcPort(p.SrcPort())
	if id, _, ok := p.Echo(); ok {
		again.SetEchoID(id)
	}
	if !bytes.Equal(again.Bytes(), was) {
		t.Errorf("%s:\n% x became\n% x", name, was, is)
	}
}

// state is all that announcements could change of a client.
func (b *bench) state() string {
	k := b.c.clients[who(1)]
	return fmt.Sprintf("%x %d %d %d %d %d", k.nat.AppendSnapshot(nil, b.now), len(k.names.by), len(k.names.list), k.names.waiting, len(k.names.queue), len(b.c.lookups.by))
}

// A control is a control packet and what the client hears.
type control struct {
	name string
	raw  []byte
	want []string
}

func controls() (list []control) {
	const id = `"resource":"00000000-0000-0000-0000-000000000001"`
	good := proxies(1)
	text := func(addrs ...netip.Addr) string {
		var b strings.Builder
		for i, a := range addrs {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, "%q", a)
		}
		return `"proxy_ips":[` + b.String() + `]`
	}
	domain := func(s string) string { return fmt.Sprintf(`"domain":%s`, s) }
	add := func(name string, event byte, payload string, want ...string) {
		list = append(list, control{name, packet.AppendControl(nil, event, []byte(payload)), want})
	}
	assigned := func(name string, members ...string) {
		add(name, wire.EventAssignedIPs, "{"+strings.Join(members, ",")+"}")
	}
	refused := func(name, as string, addrs ...netip.Addr) {
		assigned(name, id, domain(`"`+as+`"`), text(addrs...))
		list[len(list)-1].want = []string{"to client 1: status 1 " + as + " false <nil>"}
	}
	x := domain(`"x.corp.example"`)
	add("not JSON", 0, "AssignedIPs")
	add("a number", 0, "1")
	add("a list", 0, "[]")
	add("nothing", 0, "")
	add("cut off", 0, "{"+id+","+x+","+text(good...))
	add("two values", 0, "{"+id+","+x+","+text(good...)+"}{}")
	add("nested 600 deep", 0, strings.Repeat("[", 600)+strings.Repeat("]", 600))
	add("nested 600 deep in a member", 0, `{"x":`+strings.Repeat("[", 600)+strings.Repeat("]", 600)+","+id+"}")
	assigned("no such UUID", `"resource":"00000000-0000-0000-0000-00000000000x"`, x, text(good...))
	assigned("resource is null", `"resource":null`, x, text(good...))
	assigned("no resource", x, text(good...))
	assigned("no name", id, text(good...))
	assigned("no addresses", id, x)
	assigned("empty name", id, domain(`""`), text(good...))
	assigned("a dot", id, domain(`"."`), text(good...))
	assigned("name of 254 octets", id, domain(`"`+strings.Repeat("a.", 120)+`corp.example.."`), text(good...))
	assigned("label of 64 octets", id, domain(`"`+strings.Repeat("a", 64)+`.corp.example"`), text(good...))
	assigned("name is a number", id, domain("7"), text(good...))
	assigned("addresses are text", id, x, `"proxy_ips":"100.96.1.1"`)
	assigned("an address is a number", id, x, `"proxy_ips":[1684406529]`)
	assigned("an address with a zone", id, x, `"proxy_ips":["fe80::1%eth0"]`)
	for _, n := range []int{0, 1, 3, 5, 7} {
		refused(fmt.Sprintf("%d addresses", n), "x.corp.example", good[:n]...)
	}
	refused("9 addresses", "x.corp.example", append(slices.Clone(good), addr("100.96.2.1"))...)
	assigned("more addresses than anybody sends", id, x, text(append(proxies(1), slices.Concat(proxies(2), proxies(3))...)...))
	refused("duplicates", "x.corp.example", slices.Concat(good[:7], good[:1])...)
	refused("3 and 5", "x.corp.example", slices.Concat([]netip.Addr{good[0], good[2], good[4], proxies(2)[1]}, []netip.Addr{good[1], good[3], good[5], good[7]})...)
	for _, bad := range []string{"10.0.0.1", "100.95.255.255", "100.128.0.0", "100.100.111.7", "100.64.1.1", "100.64.0.1", "0.0.0.0"} {
		refused("with "+bad, "x.corp.example", append(slices.Clone(good[1:]), addr(bad))...)
	}
	for _, bad := range []string{"2001:db8::1", "fd00:2021:1111:8000:100:100:111:7", "fd00:2021:1111::1", "fd00:2021:1111:8000::20:0", "::"} {
		refused("with "+bad, "x.corp.example", append([]netip.Addr{addr(bad), good[0]}, good[2:]...)...)
	}
	refused("another pattern", "x.corp.example.org", good...)
	list = append(list,
		control{"8 bytes only", packet.AppendControl(nil, 0, nil), nil},
		control{"hop limit", edit(packet.AppendControl(nil, 200, nil), 7, 64), nil},
		control{"an event that nobody knows", packet.AppendControl(nil, 255, []byte("{}")), nil},
		control{"DomainStatus", packet.AppendControl(nil, wire.EventDomainStatus, []byte("{}")), nil},
		control{"7 bytes", packet.AppendControl(nil, 0, nil)[:47], nil},
	)
	return list
}

// None of them changes anything, and none is answered but those that could be
// read and are refused (N16).
func TestN50MalformedControlPackets(t *testing.T) {
	for _, test := range controls() {
		b := atTheEdge(t)
		b.name(1, 1, "y.corp.example", proxies(4), addrA)
		before := b.state()
		if b.send(1, test.raw) != nil {
			t.Errorf("%s: went on", test.name)
		}
		b.want(test.name, test.want...)
		if b.state() != before {
			t.Errorf("%s: something has changed", test.name)
		}
	}
}

// What is strange but can be read counts.
func TestN50StrangeAnnouncements(t *testing.T) {
	const id = `"resource":"00000000-0000-0000-0000-000000000001"`
	const addrs = `"proxy_ips":["100.96.5.1","100.96.5.2","100.96.5.3","100.96.5.4"]`
	for _, test := range []struct{ name, payload, want string }{
		{"unknown members", `{"a":{"b":[1,{}]},` + id + `,"domain":"x.corp.example",` + addrs + `,"z":null}`, "look up x.corp.example"},
		{"upper case", `{` + id + `,"domain":"X.CORP.EXAMPLE",` + addrs + `}`, "look up x.corp.example"},
		{"trailing dot", `{` + id + `,"domain":"x.corp.example.",` + addrs + `}`, "look up x.corp.example"},
		{"escapes", `{` + id + `,"domain":"\u0078.corp.example",` + addrs + `}`, "look up x.corp.example"},
	} {
		b := atTheEdge(t)
		b.send(1, packet.AppendControl(nil, wire.EventAssignedIPs, []byte(test.payload)))
		b.want(test.name, test.want)
	}
	for _, test := range []struct{ name, domain string }{{"NUL", `x\u0000.corp.example`}, {"Unicode", `ä.corp.example`}, {"blank", `x y.corp.example`}} {
		b := atTheEdge(t)
		b.send(1, packet.AppendControl(nil, wire.EventAssignedIPs, []byte(`{`+id+`,"domain":"`+test.domain+`",`+addrs+`}`)))
		if len(b.looks) > 1 {
			t.Errorf("%s: %d look-ups", test.name, len(b.looks))
		}
		for _, l := range b.looks { // whatever it asks for, the answer counts for that
			b.looked(core.Looked{ID: l.ID, V4: []netip.Addr{addrA}})
		}
	}
}

// header is a TCP header of n bytes.
func header(n int, sport, dport uint16, flags packet.TCPFlags) []byte {
	h := make([]byte, n)
	binary.BigEndian.PutUint16(h, sport)
	binary.BigEndian.PutUint16(h[2:], dport)
	h[12], h[13] = byte(n/4)<<4, byte(flags)
	return h
}

// edit returns b with other bytes from a place on; the checksum of an IPv4
// header follows.
func edit(b []byte, at int, values ...byte) []byte {
	b = slices.Clone(b)
	copy(b[at:], values)
	if ihl := int(b[0]&0xf) * 4; b[0]>>4 == 4 && ihl >= 20 && ihl <= len(b) {
		sumOf(b[:ihl])
	}
	return b
}

func sumOf(h []byte) {
	h[10], h[11] = 0, 0
	sum := 0
	for i := 0; i < len(h); i += 2 {
		sum += int(binary.BigEndian.Uint16(h[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum>>16+sum&0xffff))
}

// withOptions puts options into an IPv4 packet.
func withOptions(b, list []byte) []byte {
	out := slices.Concat(b[:20], list, b[20:])
	out[0] = 0x45 + byte(len(list)/4)
	binary.BigEndian.PutUint16(out[2:], uint16(len(out)))
	sumOf(out[:20+len(list)])
	return out
}

func options(to netip.Addr, list []byte) []byte { return withOptions(udp(c4(1), to, 5000, 53), list) }

// ip6 puts an IPv6 header in front of body.
func ip6(src, dst netip.Addr, next packet.Proto, body []byte) []byte {
	b := []byte{0x60, 0, 0, 0, byte(len(body) >> 8), byte(len(body)), byte(next), 64}
	return append(append(append(b, src.AsSlice()...), dst.AsSlice()...), body...)
}
