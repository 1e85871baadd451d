package client

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"stile/tunnel/core"
	"stile/tunnel/wire"
)

// TestResourceChanges: what takes an authorization away and what does not
// (spec portal.md 3.2).
func TestResourceChanges(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*wire.Resource)
		keeps  bool
	}{
		{"nothing", func(*wire.Resource) {}, true},
		{"name", func(r *wire.Resource) { r.Name = "another" }, true},
		{"description", func(r *wire.Resource) { r.Description = "another" }, true},
		{"name of the site", func(r *wire.Resource) { r.Sites = []wire.Site{{ID: site(1), Name: "Bonn"}} }, true},
		{"dual said aloud", func(r *wire.Resource) { r.IPStack = wire.Dual }, true},
		{"filters", func(r *wire.Resource) { r.Filters = []wire.Filter{ports(wire.TCP, 80, 80)} }, true},
		{"address", func(r *wire.Resource) { r.Address = "**.example" }, false},
		{"ip_stack", func(r *wire.Resource) { r.IPStack = wire.IPv4Only }, false},
		{"site", func(r *wire.Resource) { r.Sites = []wire.Site{{ID: site(2)}} }, false},
		{"type", func(r *wire.Resource) { r.Type, r.Address = wire.CIDR, "10.0.0.0/8" }, false},
	} {
		for _, inInit := range []bool{false, true} {
			r := dnsResource(1, "*.example")
			b := newBench(t, r)
			b.resolved("wiki.example")
			b.send(syn("100.96.0.1", 1, 80))
			b.grant(1, 1)
			b.up(1)
			b.status(1, 1, "wiki.example", true)
			c.change(&r)
			if inInit {
				b.message(initOf(r))
			} else {
				b.message(upserted(r))
			}
			_, kept := b.c.gateways[gw(1)]
			if closed := slices.Contains(b.paths.log, "close 1 goodbye true"); kept != c.keeps || closed == c.keeps {
				t.Errorf("%s, in init %v: kept %v, goodbye %v", c.name, inInit, kept, closed)
			}
			if got := b.c.resources[res(1)].Name; got != r.Name {
				t.Errorf("%s: called %s", c.name, got)
			}
		}
	}
}

// TestChangedFiltersCountAtOnce for names and networks, in place.
func TestChangedFiltersCountAtOnce(t *testing.T) {
	b := connected(t)
	b.message(upserted(dnsResource(1, "*.example", ports(wire.TCP, 443, 443))))
	b.message(upserted(cidrResource(2, "10.0.0.0/8", ports(wire.TCP, 443, 443))))
	b.want("changed", "flush", "flush")
	b.send(syn("100.96.0.1", 1, 80))
	b.send(syn("10.0.0.1", 1, 80))
	b.want("denied", "answered icmp 3/13 from 100.96.0.1", "answered icmp 3/13 from 10.0.0.1")
	b.send(syn("100.96.0.1", 1, 443))
	b.send(syn("10.0.0.1", 1, 443))
	b.want("permitted", "sent tcp 100.96.0.1:1>443  to 1", "sent tcp 10.0.0.1:1>443  to 2")
}

// TestInitReplacesTheList: those missing go, with their tunnels.
func TestInitReplacesTheList(t *testing.T) {
	b := connected(t)
	b.message(initOf(dnsResource(1, "*.example")))
	if len(b.c.resources) != 1 || len(b.c.gateways) != 1 || !slices.Contains(b.paths.log, "close 2 goodbye true") || !slices.Contains(b.paths.log, "close 3 goodbye true") {
		t.Errorf("%d resources, %d gateways, %q", len(b.c.resources), len(b.c.gateways), b.paths.log)
	}
	b.took()
	b.send(syn("100.96.0.1", 1, 80))
	b.want("the one that stayed", "sent tcp 100.96.0.1:1>80  to 1")
}

// TestAcceptance25: ip_stack dual to ipv6_only.
func TestAcceptance25(t *testing.T) {
	b := newBench(t, dnsResource(1, "*.example"))
	b.query("wiki.example", dns.TypeA)
	b.want("dual", "answered dns NOERROR 4")
	r := dnsResource(1, "*.example")
	r.IPStack = wire.IPv6Only
	b.message(upserted(r))
	b.want("changed", "flush")
	b.query("wiki.example", dns.TypeA)
	b.query("wiki.example", dns.TypeAAAA)
	b.want("ipv6_only", "answered dns NOERROR 0", "answered dns NOERROR 4")
	b.send(syn("100.96.0.1", 1, 80))
	b.want("packet to an IPv4 address of it")
	b.send(syn("fd00:2021:1111:8000::", 1, 80))
	b.want("packet to an IPv6 address of it", "request 1 []")
	b.grant(1, 1)
	b.up(1)
	b.want("announced with one family", "sent names 1 wiki.example fd00:2021:1111:8000::+3 to 1")
}

// TestAcceptance7: ipv4_only.
func TestAcceptance7(t *testing.T) {
	r := dnsResource(1, "*.example")
	r.IPStack = wire.IPv4Only
	b := newBench(t, r)
	b.query("wiki.example", dns.TypeAAAA)
	b.query("wiki.example", dns.TypeHTTPS)
	b.query("wiki.example", dns.TypeA)
	b.want("answers", "answered dns NOERROR 0", "answered dns NOERROR 0", "answered dns NOERROR 4")
	b.send(syn("100.96.0.1", 1, 80))
	b.grant(1, 1)
	b.up(1)
	b.want("announced", "request 1 []", "sent names 1 wiki.example 100.96.0.1+3 to 1")
}

// TestAcceptance6: sign out, sign in, same addresses; here, another list of
// resources in between.
func TestAcceptance6(t *testing.T) {
	b := newBench(t, dnsResource(1, "*.example"))
	b.resolved("wiki.example")
	b.message(initOf())
	b.message(initOf(dnsResource(2, "*.other"), dnsResource(3, "**.example")))
	b.resolved("new.other")
	b.resolved("wiki.example")
	if got := b.c.resolver.Named("wiki.example").V4[0]; got != addr("100.96.0.1") {
		t.Errorf("got %v", got)
	}
}

// TestTwoResourcesOnOneGateway: the tunnel closes with the last.
func TestTwoResourcesOnOneGateway(t *testing.T) {
	b := newBench(t, cidrResource(1, "10.1.0.0/16"), cidrResource(2, "10.2.0.0/16"))
	b.send(syn("10.1.0.1", 1, 80))
	b.grant(1, 1)
	b.up(1)
	b.send(syn("10.2.0.1", 1, 80))
	b.took()
	b.grant(2, 1)
	b.want("the session is there already", "sent tcp 10.2.0.1:1>80  to 1")
	b.message(wire.ResourceDeleted{ID: res(1)})
	if slices.Contains(b.paths.log, "close 1 goodbye true") {
		t.Error("closed with a resource left")
	}
	if b.receive(gw(1), datagram(addr("10.1.0.1"), own4, 1, 2, "")) || !b.receive(gw(1), datagram(addr("10.2.0.1"), own4, 1, 2, "")) {
		t.Error("what may come from the gateway did not follow")
	}
	b.message(wire.ResourceDeleted{ID: res(2)})
	if !slices.Contains(b.paths.log, "close 1 goodbye true") {
		t.Error("not closed with the last one")
	}
	if b.receive(gw(1), datagram(addr("100.64.0.1"), own4, 1, 2, "")) {
		t.Error("delivered after that")
	}
}

// TestNetworkChange: connectivity.md 7.2.
func TestNetworkChange(t *testing.T) {
	list := []wire.Resource{dnsResource(1, "*.example"), cidrResource(2, "10.0.0.0/8")}
	b := newBench(t, list...)
	b.resolved("wiki.example")
	b.send(syn("100.96.0.1", 1, 80))
	b.grant(1, 1)
	b.up(1)
	b.send(syn("10.0.0.1", 1, 80))
	b.took()
	sentinels := b.tun.Sentinels
	b.do(func() { b.c.NetworkChanged(wire.Key{9}, b.now) })
	b.want("changed", "rebind", "reconnect")
	if got := b.paths.log[len(b.paths.log)-1]; got != "reset" {
		t.Errorf("got %s: a goodbye would make the gateway forget", got)
	}
	if b.c.held != 0 || len(b.c.gateways) != 0 || len(b.c.bindings.list) != 0 || len(b.c.waiting) != 0 {
		t.Errorf("left: %d held, %d gateways, %d bindings, %d waiting", b.c.held, len(b.c.gateways), len(b.c.bindings.list), len(b.c.waiting))
	}
	b.send(syn("10.0.0.1", 1, 80))
	b.want("no portal yet")
	b.do(func() { b.c.PortalUp(b.now) })
	b.message(initOf(list...))
	b.want("asked as soon as it is there", "tell set_snownet_capabilities", "request 2 [1]")
	b.send(syn("100.96.0.1", 1, 80))
	b.want("no throttle from before", "request 1 [1]")
	b.grant(1, 1)
	b.up(1)
	b.want("announced again", "sent names 1 wiki.example 100.96.0.1+7 to 1")
	if !slices.Equal(b.tun.Sentinels, sentinels) {
		t.Error("other sentinels")
	}
}

// TestNewTunnelAddress: gateways know us by the former one.
func TestNewTunnelAddress(t *testing.T) {
	b := connected(t)
	b.message(wire.ConfigChanged{Interface: wire.Interface{IPv4: addr("100.64.99.99"), IPv6: own6}})
	if len(b.c.gateways) != 0 || b.tun.IPv4 != addr("100.64.99.99") {
		t.Errorf("%d gateways, %v", len(b.c.gateways), b.tun.IPv4)
	}
	b.took()
	b.wait(askGap)
	b.send(datagram(addr("100.64.99.99"), addr("10.0.0.1"), 1, 2, ""))
	b.want("asked again", "request 2 [2 1 3]")
}

// TestStop says goodbye to everybody, in order.
func TestStop(t *testing.T) {
	b := connected(t)
	b.do(func() { b.c.Stop(b.now) })
	if got := b.paths.log[len(b.paths.log)-3:]; !slices.Equal(got, []string{"close 1 goodbye true", "close 2 goodbye true", "close 3 goodbye true"}) {
		t.Errorf("got %q", got)
	}
}

// TestMalformedPortalData costs what it concerns and nothing else.
func TestMalformedPortalData(t *testing.T) {
	b := newBench(t, cidrResource(50, "10.0.0.0/8"))
	for i, bad := range []wire.Resource{
		dnsResource(1, ""),
		dnsResource(1, "a..b"),
		dnsResource(1, "***.example"),
		dnsResource(1, "[ab].example"),
		cidrResource(1, ""),
		cidrResource(1, "10.0.0.1"),
		cidrResource(1, "10.0.0.0/33"),
		cidrResource(1, "0.0.0.0/0"),
		cidrResource(1, "::/0"),
		cidrResource(1, "100.64.0.0/10"),
		cidrResource(1, "100.96.1.0/24"),
		cidrResource(1, "100.100.111.1/32"),
		cidrResource(1, "fd00:2021:1111::/48"),
		cidrResource(1, "::ffff:10.0.0.0/104"),
		{ID: res(1), Type: "printer", Name: "?", Address: "10.0.0.0/8"},
		{ID: res(1), Type: wire.StaticDevicePool, Name: "pool"},
		{ID: res(1), Type: wire.DynamicDevicePool, Name: "pool", Address: "*.devices"},
		{},
	} {
		b.message(upserted(bad))
		b.message(initOf(bad, bad, cidrResource(50, "10.0.0.0/8")))
		for _, dst := range []string{"100.96.0.1", "100.96.1.1", "100.64.5.5", "192.0.2.1", "2001:db8::1", "::1", "::ffff:10.0.0.1"} {
			b.send(udp(dst, 9, ""))
		}
		if n := b.count("authorizations requested"); n != 0 {
			t.Errorf("case %d: %d requests", i, n)
		}
		if got := join(b.tun.Routes); got != prefixes(fixed, "10.0.0.0/8") {
			t.Errorf("case %d: routes %s", i, got)
		}
		b.message(wire.ResourceDeleted{ID: bad.ID})
	}
	b.took()
	b.message(wire.Unknown{Name: "news"})
	b.message(wire.Disconnect{Reason: "token_expired"})
	b.message(wire.RelaysPresence{})
	b.message(wire.GatewayCandidates{Gateway: gw(7), Candidates: []string{"garbage"}})
	b.want("messages")
	if b.count("portal messages ignored") != 2 {
		t.Errorf("%d ignored", b.count("portal messages ignored"))
	}
	b.send(udp("10.0.0.1", 9, ""))
	b.want("the good one works", "request 50 []")
}

// TestHostBitsAreCutOff: a prefix is a network whatever its text says.
func TestHostBitsAreCutOff(t *testing.T) {
	b := newBench(t, cidrResource(1, "10.1.2.3/8"))
	if got := join(b.tun.Routes); got != prefixes(fixed, "10.0.0.0/8") {
		t.Errorf("routes %s", got)
	}
}

// TestReport is a copy, sorted.
func TestReport(t *testing.T) {
	b := connected(t)
	var r core.Report
	b.c.Report(&r, b.now)
	if !r.PortalUp || len(r.Connections) != 3 || len(r.Resources) != 4 || !slices.IsSortedFunc(r.Counters, func(a, b core.Counter) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	}) {
		t.Errorf("got %+v", r)
	}
	want := []string{"Internet Resource unknown", "dns *.example online", "net 10.0.0.0/8 online", "net 172.16.0.0/12 online"}
	var got []string
	for _, res := range r.Resources {
		got = append(got, res.Name+" "+res.State)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	r.TUN.Routes[0] = netip.Prefix{}
	if !b.tun.Routes[0].IsValid() {
		t.Error("the report shares memory")
	}
}

// TestNothingIsLeftBehind: after everything ended the tables are empty.
func TestNothingIsLeftBehind(t *testing.T) {
	b := connected(t)
	b.send(udp("172.16.0.1", 1, ""))
	b.wait(time.Minute)
	b.message(initOf())
	c := b.c
	if len(c.resources)+len(c.gateways)+len(c.byAddr)+len(c.waiting)+len(c.bindings.list)+c.held+c.networks.Len() != 0 || c.internet != nil {
		t.Errorf("left: %+v", c)
	}
	for _, list := range c.bindings.byName {
		if len(list) != 0 {
			t.Error("a binding is left")
		}
	}
	if !c.Next().IsZero() {
		t.Errorf("due %v", c.Next())
	}
}
