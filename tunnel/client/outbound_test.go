package client

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"stile/tunnel/packet"
	"stile/tunnel/wire"
)

// TestOrderOfChecks is the table of 4.1.
func TestOrderOfChecks(t *testing.T) {
	query, _ := new(dns.Msg).SetQuestion("wiki.example.", dns.TypeA).Pack()
	sentinel := addr("100.100.111.1")
	for _, c := range []struct {
		name    string
		packet  []byte
		counter string   // that grows
		want    []string // what is done
	}{
		{"1 control packet", packet.AppendControl(nil, 0, nil), "dropped: control packet out of place", nil},
		{"2 multicast", datagram(own4, addr("224.0.0.252"), 5355, 5355, ""), "dropped: multicast", nil},
		{"2 multicast v6", datagram(own6, addr("ff02::1:3"), 5355, 5355, ""), "dropped: multicast", nil},
		{"4 foreign source", datagram(addr("192.168.1.7"), addr("10.0.0.1"), 1, 2, ""), "dropped: source is not our address", nil},
		{"4 foreign source to a sentinel", datagram(addr("192.168.1.7"), sentinel, 1, 53, string(query)), "dropped: source is not our address", nil},
		{"5 to ourselves", datagram(own4, own4, 1, 2, ""), "dropped: to our own address", nil},
		{"6 DNS over TCP", segment(own4, sentinel, 1000, 53, packet.SYN, ""), "dropped: to a sentinel, not DNS over UDP", nil},
		{"7 DNS", datagram(own4, sentinel, 1000, 53, string(query)), "dns: answered here", []string{"answered dns NOERROR 4"}},
		{"7 DNS malformed", datagram(own4, sentinel, 1000, 53, "hello"), "dns: not a query", nil},
		{"8 ping to a sentinel", icmp(own4, sentinel, 8, 0, nil), "dropped: to a sentinel, not DNS over UDP", nil},
		{"8 DNS over TLS", segment(own4, sentinel, 1000, 853, packet.SYN, ""), "dropped: to a sentinel, not DNS over UDP", nil},
		{"8 another port", datagram(own4, sentinel, 1000, 5353, string(query)), "dropped: to a sentinel, not DNS over UDP", nil},
		{"9 unassigned sentinel", datagram(own4, addr("100.100.111.200"), 1000, 53, string(query)), "dns: query to an unassigned sentinel", nil},
		{"9 unassigned sentinel v6", segment(own6, addr("fd00:2021:1111:8000:100:100:111:1"), 1000, 443, packet.SYN, ""), "dropped: to a sentinel, not DNS over UDP", nil},
		{"10 otherwise", udp("10.0.0.1", 9, ""), "authorizations requested", []string{"request 2 []"}},
	} {
		b := newBench(t, dnsResource(1, "*.example"), cidrResource(2, "10.0.0.0/8"), internetResource(3))
		before := b.count(c.counter)
		b.send(c.packet)
		b.want(c.name, c.want...)
		if got := b.count(c.counter) - before; got != 1 {
			t.Errorf("%s: %q grew by %d", c.name, c.counter, got)
		}
	}
}

// TestNoConfigurationYet: 4.1, row 3.
func TestNoConfigurationYet(t *testing.T) {
	b := emptyBench(t, Config{})
	b.send(udp("10.0.0.1", 9, ""))
	b.want("before init")
	if b.count("dropped: no addresses yet") != 1 {
		t.Error("not counted")
	}
}

// TestRouting is the table of 15.1, all resources authorized on gateways of
// their own that are up.
func TestRouting(t *testing.T) {
	b := newBench(t,
		dnsResource(1, "*.example"),
		cidrResource(2, "10.0.0.0/8"),
		cidrResource(3, "10.9.0.0/16", ports(wire.TCP, 80, 80)),
		internetResource(4),
		cidrResource(5, "2001:db8::/32"),
		cidrResource(6, "10.0.0.0/8"),
	)
	b.resolved("wiki.example") // 100.96.0.1
	for i, dst := range []string{"100.96.0.1", "", "10.9.0.1", "8.8.8.8", "2001:db8::1", "10.0.0.1"} {
		if dst == "" {
			continue
		}
		b.send(syn(dst, 1000, 80))
		b.grant(byte(i+1), byte(i+1))
		b.up(byte(i + 1))
		if i == 0 {
			b.status(1, 1, "wiki.example", true)
		}
	}
	b.lines = nil
	for _, c := range []struct {
		name, dst string
		packet    []byte
		want      string
	}{
		{"1 a gateway", "100.64.0.3", nil, "sent udp 100.64.0.3:4000>80  to 3"},
		{"1 a gateway v6", "fd00:2021:1111::3", nil, "sent udp fd00:2021:1111::3:4000>80  to 3"},
		{"1 a stranger in the peer range", "100.64.0.77", nil, ""},
		{"4 a proxy address", "100.96.0.4", nil, "sent udp 100.96.0.4:4000>80  to 1"},
		{"4 a proxy address v6", "fd00:2021:1111:8000::3", nil, "sent udp fd00:2021:1111:8000::3:4000>80  to 1"},
		{"5 a network", "10.1.1.1", nil, "sent udp 10.1.1.1:4000>80  to 6"}, // of 2 and 6 the higher id
		{"5 longest prefix", "10.9.1.1", tcp("10.9.1.1", 4000, 80, packet.SYN, ""), "sent tcp 10.9.1.1:4000>80  to 3"},
		{"5 permission before length", "10.9.1.1", nil, "sent udp 10.9.1.1:4000>80  to 6"},
		{"5 v6", "2001:db8::9", nil, "sent udp 2001:db8::9:4000>80  to 5"},
		{"6 the Internet", "9.9.9.9", nil, "sent udp 9.9.9.9:4000>80  to 4"},
		{"6 the Internet v6", "2606:4700::1", nil, "sent udp 2606:4700::1:4000>80  to 4"},
		{"6 unassigned proxy address", "100.97.0.1", nil, ""},
		{"6 unassigned proxy address v6", "fd00:2021:1111:8000::1:1", nil, ""},
		{"6 private address, refused by all gateways", "192.168.77.1", nil, "answered icmp 3/0 from 192.168.77.1"},
		{"6 other protocols", "9.9.9.9", raw(own4, addr("9.9.9.9"), 47, make([]byte, 8)), "sent proto 47 9.9.9.9 to 4"},
		{"5 other protocols", "10.1.1.1", raw(own4, addr("10.1.1.1"), 47, make([]byte, 8)), "sent proto 47 10.1.1.1 to 6"},
		{"4 other protocols", "100.96.0.1", raw(own4, addr("100.96.0.1"), 47, make([]byte, 8)), ""},
	} {
		p := c.packet
		if p == nil {
			p = udp(c.dst, 80, "")
		}
		b.send(p)
		var want []string
		if c.want != "" {
			want = []string{c.want}
		}
		b.want(c.name, want...)
	}

	b.do(func() { b.c.Done(internetOff, b.now) })
	b.took()
	b.send(udp("9.9.9.9", 80, ""))
	b.want("7 otherwise")
}

// TestFilters: 16.1 and 16.2. A denied packet is answered and asks for nothing.
func TestFilters(t *testing.T) {
	b := newBench(t,
		dnsResource(1, "*.example", ports(wire.TCP, 443, 443)),
		cidrResource(2, "10.0.0.0/8", ports(wire.UDP, 53, 60), wire.Filter{Protocol: wire.ICMP}),
		cidrResource(3, "2001:db8::/32", ports(wire.TCP, 1, 2)),
	)
	b.resolved("wiki.example")
	for _, c := range []struct {
		name   string
		packet []byte
		want   string
	}{
		{"permitted port", syn("100.96.0.1", 1, 443), "request 1 []"},
		{"denied port", syn("100.96.0.2", 1, 80), "answered icmp 3/13 from 100.96.0.2"},
		{"denied port v6", syn("fd00:2021:1111:8000::1", 1, 80), "answered icmp 1/1 from fd00:2021:1111:8000::1"},
		{"denied protocol", udp("100.96.0.1", 443, ""), "answered icmp 3/13 from 100.96.0.1"},
		{"ping with a tcp-only filter", icmp(own4, addr("100.96.0.1"), 8, 0, nil), "answered icmp 3/13 from 100.96.0.1"}, // acceptance test 16
		{"first of a range", udp("10.0.0.1", 53, ""), "request 2 []"},
		{"below", udp("10.0.0.1", 52, ""), "answered icmp 3/13 from 10.0.0.1"},
		{"above", udp("10.0.0.1", 61, ""), "answered icmp 3/13 from 10.0.0.1"},
		{"ping permitted", icmp(own4, addr("10.0.0.1"), 8, 0, nil), ""}, // asked for a moment ago
		{"other protocol with a filter", raw(own4, addr("10.0.0.1"), 47, make([]byte, 8)), "answered icmp 3/13 from 10.0.0.1"},
		{"network v6", syn("2001:db8::1", 1, 3), "answered icmp 1/1 from 2001:db8::1"},
		{"a reset is never answered", tcp("10.0.0.1", 1, 2, packet.RST, ""), ""},
	} {
		b.send(c.packet)
		var want []string
		if c.want != "" {
			want = []string{c.want}
		}
		b.want(c.name, want...)
	}
}

// TestOutboundErrorsFollowWhatTheyReport: 16.1. The host's own ICMP errors go
// where the packet came from, if its flow is permitted.
func TestOutboundErrorsFollowWhatTheyReport(t *testing.T) {
	b := newBench(t, cidrResource(1, "10.0.0.0/8", ports(wire.UDP, 53, 53)))
	b.send(udp("10.0.0.1", 53, ""))
	b.grant(1, 1)
	b.up(1)
	b.took()
	for _, c := range []struct {
		name  string
		quote []byte
		want  []string
	}{
		{"port unreachable for a reply", datagram(addr("10.0.0.1"), own4, 53, 4000, "late"), []string{"sent icmp 3/3 from 100.64.12.7 to 1"}},
		{"about a port that is denied", datagram(addr("10.0.0.1"), own4, 54, 4000, "late"), nil},
		{"about somebody else", datagram(addr("10.0.0.2"), own4, 53, 4000, "late"), nil},
		{"about nothing", []byte("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"), nil},
	} {
		b.send(icmp(own4, addr("10.0.0.1"), 3, 3, c.quote))
		b.want(c.name, c.want...)
	}
}

// TestForwardedDNS: a query for a public name is asked outside the tunnel and
// answered from the sentinel; a time-out is not answered (7.2).
func TestForwardedDNS(t *testing.T) {
	b := newBench(t, dnsResource(1, "*.example"))
	b.query("www.public.test", dns.TypeA)
	b.want("query", "ask 192.168.1.1:53")
	m := new(dns.Msg).SetQuestion("www.public.test.", dns.TypeA)
	m.Response = true
	reply, _ := m.Pack()
	b.do(func() { b.c.Done(exchanged(1, reply, nil), b.now) })
	b.want("answer", "answered dns NOERROR 0")
	b.query("www.public.test", dns.TypeA)
	b.took()
	b.do(func() { b.c.Done(exchanged(2, nil, errTimeout), b.now) })
	b.want("time-out")
	b.do(func() { b.c.Done(exchanged(99, reply, nil), b.now) })
	b.want("never asked")
}

// TestPortalResolverBehindTheTunnel: 9.1, acceptance tests 13 and 14.
func TestPortalResolverBehindTheTunnel(t *testing.T) {
	server := wire.Interface{IPv4: own4, IPv6: own6, UpstreamDo53: []netip.Addr{addr("10.0.0.53")}}
	for _, c := range []struct {
		name     string
		filters  []wire.Filter
		internet bool
		server   wire.Interface
		want     string
	}{
		{"no filter", nil, false, server, "answered dns SERVFAIL 0"},
		{"both protocols permitted", []wire.Filter{ports(wire.UDP, 53, 53), ports(wire.TCP, 53, 53)}, false, server, "answered dns SERVFAIL 0"},
		{"TCP denied", []wire.Filter{ports(wire.UDP, 53, 53)}, false, server, "ask 10.0.0.53:53"},
		{"UDP denied", []wire.Filter{ports(wire.TCP, 53, 53)}, false, server, "ask 10.0.0.53:53"},
		{"public server, no Internet resource", nil, false, wire.Interface{IPv4: own4, IPv6: own6, UpstreamDo53: []netip.Addr{addr("9.9.9.9")}}, "ask 9.9.9.9:53"},
		{"public server, Internet resource", nil, true, wire.Interface{IPv4: own4, IPv6: own6, UpstreamDo53: []netip.Addr{addr("9.9.9.9")}}, "answered dns SERVFAIL 0"},
		{"system resolver", nil, true, wire.Interface{IPv4: own4, IPv6: own6}, "ask 192.168.1.1:53"},
	} {
		list := []wire.Resource{cidrResource(1, "10.0.0.0/8", c.filters...), cidrResource(2, "192.168.0.0/16")}
		if c.internet {
			list = append(list, internetResource(3))
		}
		b := newBench(t, list...)
		b.message(wire.ConfigChanged{Interface: c.server})
		b.took()
		b.query("www.public.test", dns.TypeA)
		b.want(c.name, c.want)
	}
}

// TestEstablishedFlowsDoNotAllocate is the law of the fast path.
func TestEstablishedFlowsDoNotAllocate(t *testing.T) {
	for name, flow := range flows(t) {
		if got := testing.AllocsPerRun(100, flow); got != 0 {
			t.Errorf("%s: %v allocations per packet", name, got)
		}
	}
}

func BenchmarkOutbound(b *testing.B) {
	for name, flow := range flows(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				flow()
			}
		})
	}
}

// flows sends one packet of an established flow each, or takes one in.
func flows(t testing.TB) map[string]func() {
	b := newBench(t, dnsResource(1, "*.example", ports(wire.TCP, 80, 80)), cidrResource(2, "10.0.0.0/8"), internetResource(3))
	b.resolved("wiki.example")
	list := make(map[string]func())
	for i, f := range []struct{ kind, dst string }{{"dns", "100.96.0.3"}, {"cidr", "10.0.0.1"}, {"internet", "9.9.9.9"}} {
		n := byte(i + 1)
		b.send(syn(f.dst, 1000, 80))
		b.grant(n, n)
		b.up(n)
		b.status(n, n, "wiki.example", true)
		out, _ := packet.Parse(tcp(f.dst, 1000, 80, packet.ACK, "hello"))
		in := segment(addr(f.dst), own4, 80, 1000, packet.ACK, "hello")
		keys := b.paths.keys(gw(n))
		list[f.kind+" outbound"] = func() {
			if b.c.Outbound(out, b.now).Keys == nil {
				t.Fatal("not sent")
			}
			b.c.Drain(&b.out)
		}
		list[f.kind+" inbound"] = func() {
			if b.c.Inbound(keys, 1, in, b.now) == nil {
				t.Fatal("not delivered")
			}
			b.c.Drain(&b.out)
		}
	}
	return list
}
