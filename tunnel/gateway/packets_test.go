package gateway

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/packet"
	"stile/tunnel/policy"
	"stile/tunnel/wire"
)

const (
	syn = packet.SYN
	ack = packet.ACK
	fin = packet.FIN
	rst = packet.RST
)

// The tables of spec gateway-nat.md 1.2, row by row: what client 1 sends.
func TestInboundOrder(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(1, "10.0.0.0/24", tcpOnly(443)), 0)
	b.grant(1, dns(2, "*.corp.example", tcpOnly(443)), 0)
	b.grant(2, cidr(1, "10.0.0.0/8"), 0)
	b.name(1, 2, "wiki.corp.example", proxies(1), addrA)
	b.name(1, 2, "six.corp.example", proxies(2), addrD)
	b.name(1, 2, "none.corp.example", proxies(3))
	src, p := c4(1), proxies(1)[0]

	b.refused(1, []byte{0x45}, "dropped: malformed")
	b.refused(1, make([]byte, 1300), "dropped: malformed")
	fragment := udp(src, addrA, 5000, 53)
	fragment[6] = 0x20
	b.refused(1, fragment, "dropped: fragment")
	b.refused(1, udp(src, addr("224.0.0.251"), 5353, 5353), "dropped: multicast")
	b.refused(1, udp(c6(1), addr("ff02::fb"), 5353, 5353), "dropped: multicast")
	b.refused(9, udp(src, addrA, 5000, 53), "messages replayed or of no connection")
	b.refused(1, icmpError(src, p, 3, 1, udp(p, src, 443, 5000)), "dropped: icmp-unmatched")
	b.refused(1, udp(c4(2), addrA, 5000, 53), "dropped: spoofed source") // N42: not even an error
	b.refused(1, udp(c4(1), c4(2), 5000, 53), "dropped: not allowed", "to client 1: error 3/13 100.64.1.2 → 100.64.1.1")
	b.refused(1, udp(c4(1), addr("100.100.111.1"), 5000, 53), "dropped: not allowed", "to client 1: error 3/13 100.100.111.1 → 100.64.1.1")
	b.refused(1, udp(c4(1), addr("192.0.2.1"), 5000, 53), "dropped: not allowed", "to client 1: error 3/13 192.0.2.1 → 100.64.1.1")
	b.refused(1, udp(c4(1), addrA, 5000, 53), "dropped: filtered", "to client 1: error 3/13 10.0.0.1 → 100.64.1.1")
	b.refused(1, tcp(src, proxies(9)[0], 5000, 443, syn), "dropped: no binding", "to client 1: error 3/13 100.96.9.1 → 100.64.1.1")
	b.refused(1, tcp(src, p, 5000, 80, syn), "dropped: filtered", "to client 1: error 3/13 100.96.1.1 → 100.64.1.1")
	b.refused(1, tcp(src, proxies(2)[0], 5000, 443, syn), "dropped: family", "to client 1: error 3/0 100.96.2.1 → 100.64.1.1")
	b.refused(1, tcp(src, proxies(3)[0], 5000, 443, syn), "dropped: unresolved", "to client 1: error 3/0 100.96.3.1 → 100.64.1.1")
	b.refused(1, tcp(src, p, 5000, 443, syn|fin), "dropped: bad flags")
	b.refused(1, tcp(src, p, 5000, 443, rst), "dropped: bad flags")

	b.passes(1, tcp(src, p, 5000, 443, syn), addrA)
	b.passes(1, tcp(src, addrA, 5000, 443, syn), addrA)
	if b.send(1, nil) != nil || b.send(1, packet.AppendControl(nil, 77, nil)) != nil {
		t.Error("a keepalive or unknown control packet came out")
	}
	if b.counter("control packets: unknown") != 1 {
		t.Error("the control packet was not counted")
	}
}

// WireGuard peers may pad what they seal.
func TestPaddingIsCutOff(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(1, "10.0.0.0/24"), 0)
	sent := udp(c4(1), addrA, 5000, 53)
	if got := b.send(1, append(slices.Clone(sent), make([]byte, 12)...)); !bytes.Equal(got, sent) {
		t.Errorf("% x, want % x", got, sent)
	}
}

// What the kernel routes to the TUN.
func TestOutboundOrder(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(1, "10.0.0.0/24"), 0)
	b.grant(1, dns(2, "*.corp.example", tcpOnly(443)), 0)
	b.name(1, 2, "wiki.corp.example", proxies(1), addrB)
	p := proxies(1)[0]
	b.lost(udp(addrA, addr("192.0.2.1"), 53, 5000), "dropped: not a peer")
	b.lost(udp(addrA, c4(7), 53, 5000), "dropped: no peer")
	b.lost(udp(addrA, c4(1), 53, 5000), "dropped: no session")
	b.lost(udp(c4(2), c4(1), 53, 5000), "dropped: no session")

	b.passes(1, udp(c4(1), addrA, 5000, 53), addrA)
	b.arrives(udp(addrA, c4(1), 53, 5000), addrA)
	b.passes(1, tcp(c4(1), p, 5000, 443, syn), addrB)
	b.arrives(tcp(addrB, c4(1), 443, 5000, syn|ack), p)
	b.lost(tcp(addrB, c4(1), 443, 5001, ack), "dropped: no session")

	b.paths.down[id.PeerOf(who(1))] = true
	b.lost(tcp(addrB, c4(1), 443, 5000, ack), "dropped: not connected")
	b.paths.down[id.PeerOf(who(1))] = false
	b.arrives(tcp(addrB, c4(1), 443, 5000, ack), p)
}

// Other ports of a resource may answer over UDP, but the filter asks for them.
func TestInboundIsFiltered(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(1, "10.0.0.0/24", wire.Filter{Protocol: wire.UDP, First: 53, Last: 54}), 0)
	b.passes(1, udp(c4(1), addrA, 5000, 53), addrA)
	b.arrives(udp(addrA, c4(1), 54, 5000), addrA)
	b.lost(udp(addrA, c4(1), 55, 5000), "dropped: filtered")
}

func TestN42SpoofedSourceIsDroppedSilently(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(1, "10.0.0.0/8"), 0)
	for _, src := range []string{"100.64.1.2", "10.0.0.1", "100.96.0.1", "100.64.0.1", "127.0.0.1"} {
		b.refused(1, udp(addr(src), addrA, 5000, 53), "dropped: spoofed source")
	}
	b.refused(1, udp(addr("fe80::1"), addrD, 5000, 53), "dropped: spoofed source")
	b.refused(1, udp(c6(2), addrD, 5000, 53), "dropped: spoofed source")
}

// Nobody but the gateway host may open a flow towards a client, and no state
// of another client lets anything in.
func TestN43InboundNeedsASession(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(1, "10.0.0.0/8"), 0)
	b.grant(2, cidr(1, "10.0.0.0/8"), 0)
	b.passes(1, udp(c4(1), addrA, 5000, 53), addrA)
	b.lost(udp(addrA, c4(2), 53, 5000), "dropped: no session")
	b.lost(tcp(addrA, c4(1), 443, 40000, syn), "dropped: no session")
	b.lost(echo(addrA, c4(1), 7, true), "dropped: no session")
	b.lost(udp(c4(2), c4(1), 53, 5000), "dropped: no session")

	b.arrives(tcp(own4, c4(1), 40000, 22, syn), own4)
	b.passes(1, tcp(c4(1), own4, 22, 40000, syn|ack), own4)
	b.arrives(echo(own4, c4(1), 7, true), own4)
	b.passes(1, echo(c4(1), own4, 7, false), own4)
	b.lost(tcp(own4, c4(1), 40001, 22, rst), "dropped: bad flags")
}

func TestN44ExpiryIsExact(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(9, "192.0.2.0/24"), 0) // keeps the connection
	b.grant(1, cidr(1, "10.0.0.0/24"), 100)
	b.grant(1, dns(2, "*.corp.example"), 100)
	b.grant(1, internet(3), 100)
	b.name(1, 2, "wiki.corp.example", proxies(1), addrB)
	p, outside := proxies(1)[0], addr("8.8.8.8")
	b.at(99.999)
	b.passes(1, udp(c4(1), addrA, 5000, 53), addrA)
	b.passes(1, udp(c4(1), p, 5000, 53), addrB)
	b.passes(1, udp(c4(1), outside, 5000, 53), outside)
	b.now = boot.Add(100e9) // no timer has run yet
	b.refused(1, udp(c4(1), addrA, 5000, 53), "dropped: not allowed", "to client 1: error 3/13 10.0.0.1 → 100.64.1.1")
	b.refused(1, udp(c4(1), p, 5000, 53), "dropped: expired authorization", "to client 1: error 3/13 100.96.1.1 → 100.64.1.1")
	b.refused(1, udp(c4(1), outside, 5000, 53), "dropped: not allowed", "to client 1: error 3/13 8.8.8.8 → 100.64.1.1")
	b.lost(udp(addrA, c4(1), 53, 5000), "dropped: not allowed")
	b.lost(udp(addrB, c4(1), 53, 5000), "dropped: expired authorization")
	b.lost(udp(outside, c4(1), 53, 5000), "dropped: not allowed")
	b.lost(icmpError(addrB, c4(1), 3, 1, udp(c4(1), addrB, 5000, 53)), "dropped: expired authorization")
}

// The gateway host offers its resolver and echo, nothing else.
func TestN45OwnAddress(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(1, "10.0.0.0/8"), 0)
	b.passes(1, udp(c4(1), own4, 5000, 53535), own4)
	b.arrives(udp(own4, c4(1), 53535, 5000), own4)
	b.passes(1, tcp(c4(1), own4, 5000, 53535, syn), own4)
	b.passes(1, echo(c4(1), own4, 9, true), own4)
	b.arrives(echo(own4, c4(1), 9, false), own4)
	b.passes(1, udp(c6(1), own6, 5000, 53535), own6)
	b.refused(1, tcp(c4(1), own4, 5000, 22, syn), "dropped: not allowed", "to client 1: error 3/13 100.64.0.1 → 100.64.1.1")
	b.refused(1, udp(c4(1), own4, 5000, 53), "dropped: not allowed", "to client 1: error 3/13 100.64.0.1 → 100.64.1.1")
	b.refused(1, echo(c4(1), own4, 8, false), "dropped: not allowed", "to client 1: error 3/13 100.64.0.1 → 100.64.1.1")
}

// An administrator may offer more of the host, to whoever may use anything.
func TestN45HostPorts(t *testing.T) {
	ports, err := policy.ParsePorts("tcp/22, udp/161-162")
	if err != nil {
		t.Fatal(err)
	}
	b := newBenchWith(t, Config{HostPorts: ports})
	b.grant(1, cidr(1, "10.0.0.0/8", tcpOnly(443)), 10)
	b.passes(1, tcp(c4(1), own4, 5000, 22, syn), own4)
	b.arrives(tcp(own4, c4(1), 22, 5000, syn|ack), own4)
	b.passes(1, udp(c6(1), own6, 5000, 161), own6)
	b.arrives(udp(own6, c6(1), 161, 5000), own6)
	b.passes(1, udp(c4(1), own4, 5000, 53535), own4)
	b.passes(1, echo(c4(1), own4, 9, true), own4)
	for _, raw := range [][]byte{
		tcp(c4(1), own4, 5000, 23, syn), tcp(c4(1), own4, 5000, 161, syn), udp(c4(1), own4, 5001, 22), udp(c4(1), own4, 5000, 163),
		ip(c4(1), own4, 47, []byte{0, 0, 8, 0}), udp(c4(1), own4, 5000, 0),
	} {
		b.refused(1, raw, "dropped: not allowed", "to client 1: error 3/13 100.64.0.1 → 100.64.1.1")
	}
	// The same ports of a resource are the resource's to permit.
	b.refused(1, tcp(c4(1), addrA, 5000, 22, syn), "dropped: filtered", "to client 1: error 3/13 10.0.0.1 → 100.64.1.1")
	b.at(10)
	b.refused(1, tcp(c4(1), own4, 5000, 22, ack), "dropped: expired authorization", "to client 1: error 3/13 100.64.0.1 → 100.64.1.1")
}

// Without being told, the host offers nothing more: an empty list of ports is
// none, though an empty list of filters is all.
func TestN45NoHostPorts(t *testing.T) {
	ports, err := policy.ParsePorts("")
	if err != nil {
		t.Fatal(err)
	}
	b := newBenchWith(t, Config{HostPorts: ports})
	b.grant(1, cidr(1, "10.0.0.0/8"), 0)
	for _, port := range []uint16{1, 22, 53, 80, 443, 53534, 65535} {
		b.refused(1, tcp(c4(1), own4, 5000, port, syn), "dropped: not allowed", "to client 1: error 3/13 100.64.0.1 → 100.64.1.1")
		b.refused(1, udp(c6(1), own6, 5000, port), "dropped: not allowed", "to client 1: error 1/1 fd00:2021:1111::1 → fd00:2021:1111::1:1")
	}
}

// The host's services are for clients that may use something now.
func TestOwnAddressNeedsAnAuthorization(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(1, "10.0.0.0/8"), 10)
	b.passes(1, udp(c4(1), own4, 5000, 53535), own4)
	b.at(10)
	b.refused(1, udp(c4(1), own4, 5000, 53535), "dropped: expired authorization", "to client 1: error 3/13 100.64.0.1 → 100.64.1.1")
	b.refused(1, echo(c4(1), own4, 9, true), "dropped: expired authorization", "to client 1: error 3/13 100.64.0.1 → 100.64.1.1")
	b.lost(udp(own4, c4(1), 53535, 5000), "dropped: expired authorization")
	b.lost(echo(own4, c4(1), 7, true), "dropped: expired authorization")
}

func TestN46InternetComesLast(t *testing.T) {
	b := newBench(t)
	b.grant(1, internet(1), 0)
	b.grant(1, cidr(2, "10.0.0.0/24", tcpOnly(443)), 0)
	b.grant(1, cidr(3, "8.8.8.0/24", tcpOnly(443)), 0)
	b.passes(1, tcp(c4(1), addrA, 5000, 443, syn), addrA)
	b.refused(1, tcp(c4(1), addrA, 5000, 80, syn), "dropped: filtered", "to client 1: error 3/13 10.0.0.1 → 100.64.1.1")
	b.passes(1, tcp(c4(1), addr("8.8.8.8"), 5000, 80, syn), addr("8.8.8.8"))
	for _, a := range []string{"10.1.0.1", "192.168.1.1", "172.16.0.1", "127.0.0.1", "169.254.169.254", "100.127.255.255", "240.0.0.1"} {
		p := udp(c4(1), addr(a), 5000, 53)
		if b.send(1, p) != nil {
			t.Errorf("%s passed", a)
		}
	}
	b.lines = nil
	b.refused(1, udp(c4(1), c4(9), 5000, 53), "dropped: not allowed", "to client 1: error 3/13 100.64.1.9 → 100.64.1.1")
}

// Of several networks around an address, the smallest that lets the packet
// through is the one that it is accounted to; peers are in none of them.
func TestN46MostSpecificFirst(t *testing.T) {
	b := newBenchWith(t, Config{Flows: true})
	b.grant(1, internet(1), 0)
	b.grant(1, cidr(2, "0.0.0.0/0", udpOnly(53)), 0)
	b.grant(1, cidr(3, "10.0.0.0/8", udpOnly(53), udpOnly(54)), 0)
	b.grant(1, cidr(4, "10.0.0.0/24", udpOnly(53), udpOnly(55)), 0)
	b.grant(1, cidr(5, "100.64.0.0/10"), 0)
	b.grant(1, cidr(6, "fd00::/8"), 0)
	for _, test := range []struct {
		to       string
		port     uint16
		resource byte // 0: refused
	}{
		{"10.0.0.1", 53, 4}, {"10.0.0.1", 54, 3}, {"10.0.0.1", 55, 4}, {"10.0.0.1", 56, 0},
		{"10.9.0.1", 53, 3}, {"10.9.0.1", 55, 0},
		{"192.168.0.1", 53, 2}, {"192.168.0.1", 54, 0}, // private: not the Internet's
		{"8.8.8.8", 53, 2}, {"8.8.8.8", 54, 1},
		{"100.64.1.2", 53, 0}, {"100.64.0.2", 53, 0}, {"100.95.255.255", 53, 0}, // peers
		{"100.96.9.9", 53, 0}, {"100.100.111.1", 53, 0}, // proxies and sentinels that nobody announced
		{"fd12::1", 53, 6}, {"fd00:2021:1111::1:2", 53, 0}, {"fd00:2021:1111:8000::9", 53, 0}, {"fd00:2021:1111:8000:100:100:111:1", 53, 0},
		{"2001:db8::1", 53, 1}, {"fe80::1", 53, 0},
	} {
		src, dst := c4(1), addr(test.to)
		if dst.Is6() {
			src = c6(1)
		}
		b.flows = nil
		passed := b.send(1, udp(src, dst, 5000, test.port)) != nil
		if passed != (test.resource != 0) {
			t.Errorf("to %s:%d passed: %v", test.to, test.port, passed)
			continue
		}
		b.flows = slices.DeleteFunc(b.flows, func(f core.Flow) bool { return f.Kind != core.FlowStarted })
		if passed && (len(b.flows) != 1 || b.flows[0].Grant.Resource != res(test.resource)) {
			t.Errorf("to %s:%d: %+v, want resource %d", test.to, test.port, b.flows, test.resource)
		}
		if passed {
			b.arrives(udp(dst, src, test.port, 5000), dst)
		}
		b.now = b.now.Add(time.Hour) // so that the next one is a session of its own
	}
}

// A filter of a DNS resource counts on the proxy address only, whatever CIDR
// resource covers the real one, and the other way round.
func TestPolicyMatchesTheProxyAddress(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(1, "10.0.0.0/24", tcpOnly(22)), 0)
	b.grant(1, dns(2, "*.corp.example", tcpOnly(443)), 0)
	b.name(1, 2, "wiki.corp.example", proxies(1), addrA)
	p := proxies(1)[0]
	b.passes(1, tcp(c4(1), p, 5000, 443, syn), addrA)
	b.passes(1, tcp(c4(1), addrA, 5000, 22, syn), addrA)
	if b.send(1, tcp(c4(1), p, 5000, 22, syn)) != nil || b.send(1, tcp(c4(1), addrA, 5000, 443, syn)) != nil {
		t.Error("a filter was by-passed")
	}
	b.arrives(tcp(addrA, c4(1), 443, 5000, syn|ack), p)
	b.arrives(tcp(addrA, c4(1), 22, 5000, syn|ack), addrA)
}

// The error tells the application at once; floods are not answered.
func TestErrorsAreLimited(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(1, "10.0.0.0/24", tcpOnly(443)), 0)
	for range 150 {
		b.send(1, udp(c4(1), addrA, 5000, 53))
	}
	if sent, quiet := b.counter("ICMP errors sent"), b.counter("ICMP errors suppressed: too many"); sent != 100 || quiet != 50 {
		t.Errorf("%d sent, %d suppressed", sent, quiet)
	}
	if got := b.counter("dropped: filtered"); got != 150 {
		t.Errorf("%d dropped", got)
	}
	b.at(0.1)
	b.lines = nil
	for range 20 {
		b.send(1, udp(c4(1), addrA, 5000, 53))
	}
	if got := len(b.lines); got != 10 {
		t.Errorf("%d errors after a tenth of a second", got)
	}
	b.lines = nil
	b.send(1, tcp(c4(1), addrA, 5000, 80, rst|ack))
	b.want("a reset is not answered")
}

// N35, N37: errors of the host, a router and the gateway itself.
func TestErrorsReachTheClient(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(1, "10.0.0.0/24", tcpOnly(443)), 0)
	b.grant(1, dns(2, "*.corp.example", tcpOnly(443)), 0)
	b.name(1, 2, "wiki.corp.example", proxies(1), addrB)
	p, router := proxies(1)[0], addr("192.0.2.1")
	sent := tcp(c4(1), p, 5000, 443, syn)
	outside := slices.Clone(b.passes(1, sent, addrB).Bytes())
	for _, from := range []string{"10.0.0.2", "192.0.2.1", "100.64.0.1"} {
		got := b.arrives(icmpError(addr(from), c4(1), 11, 0, outside), p)
		if !bytes.Equal(got.Payload(), sent) {
			t.Errorf("quote % x, want % x", got.Payload(), sent)
		}
	}
	direct := tcp(c4(1), addrA, 5001, 443, syn)
	b.passes(1, direct, addrA)
	b.arrives(icmpError(addrA.Next(), c4(1), 3, 1, direct), addrA.Next()) // beside it, but within the resource
	b.arrives(icmpError(router, c4(1), 11, 0, direct), addrA)             // a stock client would drop this router's
	b.arrives(icmpError(own4, c4(1), 11, 0, direct), own4)
	b.lost(icmpError(router, c4(1), 11, 0, tcp(c4(1), addrA, 5002, 443, syn)), "dropped: icmp-unmatched")
	b.paths.down[id.PeerOf(who(1))] = true
	b.lost(icmpError(router, c4(1), 11, 0, direct), "dropped: not connected")
}

// N36: the resource hears that a packet of its did not arrive.
func TestErrorsOfTheClient(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(9, "192.0.2.0/24"), 0)
	b.grant(1, dns(2, "*.corp.example", tcpOnly(443), wire.Filter{Protocol: wire.UDP}), 100)
	b.name(1, 2, "wiki.corp.example", proxies(1), addrB)
	p := proxies(1)[0]
	b.passes(1, udp(c4(1), p, 5000, 0), addrB)
	in := b.arrives(udp(addrB, c4(1), 0, 5000), p)
	e := icmpError(c4(1), p, 3, 3, in.Bytes())
	if got := b.passes(1, e, addrB); !bytes.Equal(got.Payload(), udp(addrB, c4(1), 0, 5000)) {
		t.Errorf("quote % x", got.Payload())
	}
	b.at(100)
	b.refused(1, e, "dropped: expired authorization") // and no error about an error
}

// The gateway host hears, too, that a packet of its did not arrive.
func TestN36ErrorsForTheGatewayHost(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(1, "10.0.0.0/24"), 10)
	in := b.arrives(udp(own4, c4(1), 40000, 9), own4)
	refused := icmpError(c4(1), own4, 3, 3, in.Bytes())
	if got := b.passes(1, refused, own4); !bytes.Equal(got.Payload(), udp(own4, c4(1), 40000, 9)) {
		t.Errorf("quote % x", got.Payload())
	}
	b.refused(1, icmpError(c4(1), own4, 3, 3, udp(own4, c4(1), 40001, 9)), "dropped: icmp-unmatched")
	b.at(10)
	b.refused(1, refused, "dropped: expired authorization")
}

// The kernel of the gateway host itself reports what it cannot forward: a
// packet whose time is over, one without a route, one that is too big. Its
// errors are translated like those of others; they come from the proxy address,
// or, if the client did not send to one, from the host.
func TestN37ErrorsOfTheGatewayItself(t *testing.T) {
	const mtu = 1100
	for _, test := range []struct {
		what      string
		v6        bool
		typ, code byte
		word      uint32 // the second of the ICMP header
	}{
		{"time exceeded", false, 11, 0, 0}, {"no route", false, 3, 0, 0}, {"host unreachable", false, 3, 1, 0}, {"too big", false, 3, 4, mtu},
		{"time exceeded", true, 3, 0, 0}, {"no route", true, 1, 0, 0}, {"address unreachable", true, 1, 3, 0}, {"too big", true, 2, 0, mtu},
	} {
		client, host, real, taken, p := c4(1), own4, addrB, proxies(2)[0], proxies(1)[0]
		if test.v6 {
			client, host, real, taken, p = c6(1), own6, addrD, proxies(2)[1], proxies(1)[1]
		}
		b := newBench(t)
		b.grant(1, dns(1, "*.corp.example", udpOnly(443)), 0)
		b.grant(1, cidr(2, "10.0.0.0/24", udpOnly(443)), 0)
		b.grant(1, cidr(3, "2001:db8::/64", udpOnly(443)), 0)
		b.name(1, 1, "wiki.corp.example", proxies(1), addrB, addrD)
		b.name(1, 1, "blog.corp.example", proxies(2), addrB, addrD)
		b.passes(1, udp(client, taken, 5000, 443), real) // so that ports differ outside
		for _, to := range []netip.Addr{p, real} {
			sent := udp(client, to, 5000, 443)
			if to == real {
				sent = udp(client, to, 5001, 443)
			}
			outside := slices.Clone(b.passes(1, sent, real).Bytes())
			from := p
			if to == real {
				from = host
			}
			message := append([]byte{test.typ, test.code, 0, 0, 0, 0, 0, 0}, outside...)
			binary.BigEndian.PutUint32(message[4:], test.word)
			got := b.arrives(ipOf(host, client, message), from)
			if !bytes.Equal(got.Payload(), sent) {
				t.Errorf("%s, to %v: quote\n% x, want\n% x", test.what, to, got.Payload(), sent)
			}
			header := got.Bytes()[len(got.Bytes())-len(message):]
			if header[0] != test.typ || header[1] != test.code || binary.BigEndian.Uint32(header[4:]) != test.word {
				t.Errorf("%s, to %v: header % x", test.what, to, header[:8])
			}
			b.lost(ipOf(host, client, append([]byte{test.typ, test.code, 0, 0, 0, 0, 0, 0}, udp(client, real, 6000, 443)...)), "dropped: icmp-unmatched")
		}
	}
}

// ipOf is ip for both families, of an ICMP message.
func ipOf(src, dst netip.Addr, message []byte) []byte {
	if src.Is4() {
		return ip(src, dst, packet.ICMP, message)
	}
	b := packet.AppendUDP(nil, netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0), message[8:])
	b[6] = byte(packet.ICMPv6)
	copy(b[40:], message)
	p, err := packet.Parse(b)
	if err != nil {
		panic(err)
	}
	p.Resum()
	return b
}

// Fast path: nothing allocates per packet.
func TestPacketsDoNotAllocate(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(1, "10.0.0.0/24", tcpOnly(443)), 0)
	b.grant(1, dns(2, "*.corp.example"), 0)
	b.name(1, 2, "wiki.corp.example", proxies(1), addrB)
	p := proxies(1)[0]
	keys := b.paths.keysOf(who(1))
	out, in := tcp(c4(1), p, 5000, 443, syn), tcp(addrB, c4(1), 443, 5000, ack)
	direct, back := tcp(c4(1), addrA, 5000, 443, syn), tcp(addrA, c4(1), 443, 5000, ack)
	scratch := make([]byte, 1280)
	way := new(core.Way)
	b.paths.way = way
	n := testing.AllocsPerRun(200, func() {
		for _, raw := range [][]byte{out, direct} {
			if b.c.Inbound(keys, 1, scratch[:copy(scratch, raw)], b.now) == nil {
				t.Fatal("dropped")
			}
		}
		for _, raw := range [][]byte{in, back} {
			q, _ := packet.Parse(scratch[:copy(scratch, raw)])
			if b.c.Outbound(q, b.now).Keys == nil {
				t.Fatal("dropped")
			}
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzN50Anything(f *testing.F) {
	f.Add(udp(c4(1), addrA, 5000, 53), true)
	f.Add(udp(addrA, c4(1), 53, 5000), false)
	f.Add(packet.AppendControl(nil, 0, []byte(`{"resource":"00000000-0000-0000-0000-000000000002","domain":"x.corp.example","proxy_ips":[]}`)), true)
	f.Add(packet.AppendControl(nil, 2, nil), true)
	for _, e := range edges() {
		f.Add(e.raw, !e.inwards)
	}
	for _, c := range controls() {
		f.Add(c.raw, true)
	}
	f.Fuzz(func(t *testing.T, raw []byte, inbound bool) {
		b := newBench(t)
		b.grant(1, cidr(1, "10.0.0.0/8"), 0)
		b.grant(1, dns(2, "*.corp.example"), 0)
		b.name(1, 2, "wiki.corp.example", proxies(1), addrB)
		if inbound {
			b.c.PrefetchIn(raw)
			b.c.Prefetch()
			b.send(1, raw)
		} else if p, err := packet.Parse(raw); err == nil {
			b.c.PrefetchOut(p)
			b.c.Prefetch()
			b.receive(raw)
		}
		for len(b.looks) > 0 {
			b.looked(core.Looked{ID: b.looks[0].ID, Err4: errors.New("no")})
		}
		b.at(60)
	})
}

func BenchmarkPacketEachWay(b *testing.B) {
	w := newBench(b)
	for n := range byte(100) {
		w.grant(n+1, dns(2, "*.corp.example", tcpOnly(443), wire.Filter{Protocol: wire.ICMP}), 0)
	}
	w.name(1, 2, "wiki.corp.example", proxies(1), addrB)
	w.paths.way = new(core.Way)
	keys := w.paths.keysOf(who(1))
	out, in := tcp(c4(1), proxies(1)[0], 5000, 443, ack), tcp(addrB, c4(1), 443, 5000, ack)
	scratch := make([]byte, 1280)
	b.ReportAllocs()
	for b.Loop() {
		if w.c.Inbound(keys, 1, scratch[:copy(scratch, out)], w.now) == nil {
			b.Fatal("dropped")
		}
		q, _ := packet.Parse(scratch[:copy(scratch, in)])
		if w.c.Outbound(q, w.now).Keys == nil {
			b.Fatal("dropped")
		}
	}
}
