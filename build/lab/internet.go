//go:build linux

package main

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"stile/build/lab/host"
	"stile/build/lab/link"
	"stile/build/lab/nat"
	"stile/build/lab/serve"
)

// Names of the lab's internet. The wiki's is known to the site's own DNS
// server only.
const (
	publicSite = "www.example.net"
	portalName = "portal.example.net"
	wikiName   = "wiki.corp.example"
)

// uplinkDelay is that of the laptop's and the site's way to the core, one way.
const uplinkDelay = 5 * time.Millisecond

// forwardedPort of the site's router leads to the wiki, without any tunnel.
const forwardedPort = 8080

// A place is a host's address in either family, with the length of its network.
type place struct{ v4, v6 netip.Prefix }

func at(v4, v6 string) place { return place{netip.MustParsePrefix(v4), netip.MustParsePrefix(v6)} }

// addrs returns the host's addresses.
func (p place) addrs() []netip.Addr { return []netip.Addr{p.v4.Addr(), p.v6.Addr()} }

// Where everything stands. Each host of the core has a network of its own
// there, which it shares with the core only.
var (
	portalPlace  = at("203.0.113.10/30", "2001:db8:0:10::2/64")
	relayPlace   = at("203.0.113.30/30", "2001:db8:0:30::2/64")
	dnsPlace     = at("203.0.113.54/30", "2001:db8:0:54::2/64")
	webPlace     = at("203.0.113.82/30", "2001:db8:0:82::2/64")
	homeOutside  = at("198.51.100.2/30", "2001:db8:0:a::2/64")
	siteOutside  = at("198.51.100.130/30", "2001:db8:0:b::2/64")
	homeInside   = at("192.168.1.1/24", "fd00:192:168:1::1/64")
	laptopInside = at("192.168.1.2/24", "fd00:192:168:1::2/64")
	siteInside   = at("10.9.0.1/24", "fd00:10:9::1/64")
	gatewayPlace = at("10.9.0.2/24", "fd00:10:9::2/64")
	siteDNSPlace = at("10.9.0.53/24", "fd00:10:9::53/64")
	wikiPlace    = at("10.9.0.10/24", "fd00:10:9::10/64")
)

// Where hosts stand whose router does not translate.
var (
	homePublic    = at("192.0.2.1/28", "2001:db8:1::1/64")
	laptopPublic  = at("192.0.2.2/28", "2001:db8:1::2/64")
	sitePublic    = at("192.0.2.17/28", "2001:db8:2::1/64")
	gatewayPublic = at("192.0.2.18/28", "2001:db8:2::2/64")
	siteDNSPublic = at("192.0.2.19/28", "2001:db8:2::53/64")
)

var (
	anywhere4 = netip.MustParsePrefix("0.0.0.0/0")
	anywhere6 = netip.MustParsePrefix("::/0")
)

// An internet is the world of most scenarios: a laptop behind a home router, a
// site behind another, and a portal, a relay, a DNS and a web server between.
type internet struct {
	core, home, laptop, site, gateway, wiki, siteDNS *host.Host
	portal, relay, dns, web                          *host.Host

	homeRouter, siteRouter          nat.Router
	homeLine, siteLine              *link.Line // their uplinks
	homeCore, siteCore              *link.End  // the core's ends of those
	laptopEnd, gatewayEnd, relayEnd *link.End
	wikiEnd                         *link.End

	public, private *serve.DNS
	sixOnly         atomic.Bool // the site's DNS server asks the public one over IPv6
	authority       *serve.Authority
}

// newInternet brings up the world with routers of these kinds.
func newInternet(s *stage, homeKind, siteKind nat.Kind) (*internet, error) {
	n := &internet{}
	for _, part := range []struct {
		what  string
		build func() error
	}{
		{"make the hosts", func() error { return n.furnish(s) }},
		{"join them", func() error { return n.join(s, homeKind, siteKind) }},
		{"start the servers", func() error { return n.serve(s) }},
	} {
		if err := part.build(); err != nil {
			return nil, fmt.Errorf("%s: %w", part.what, err)
		}
	}
	return n, nil
}

// furnish makes the hosts.
func (n *internet) furnish(s *stage) error {
	var err error
	if n.authority, err = serve.NewAuthority(); err != nil {
		return err
	}
	public := []string{dnsPlace.v4.Addr().String(), dnsPlace.v6.Addr().String()}
	private := []string{siteDNSPlace.v4.Addr().String(), siteDNSPlace.v6.Addr().String()}
	outside, err := s.furnish(n.authority, public, "core", "home", "laptop", "site", "portal", "relay", "dns", "web", "sitedns")
	if err != nil {
		return err
	}
	inside, err := s.furnish(n.authority, private, "gateway", "wiki")
	if err != nil {
		return err
	}
	for i, h := range []**host.Host{&n.core, &n.home, &n.laptop, &n.site, &n.portal, &n.relay, &n.dns, &n.web, &n.siteDNS} {
		*h = outside[i]
	}
	n.gateway, n.wiki = inside[0], inside[1]
	return nil
}

// join lays the links, gives out the addresses and sets the routers up.
func (n *internet) join(s *stage, homeKind, siteKind nat.Kind) error {
	for _, router := range []*host.Host{n.core, n.home, n.site} {
		if err := link.Forward(router); err != nil {
			return err
		}
	}
	for _, h := range []struct {
		host  *host.Host
		place place
	}{{n.portal, portalPlace}, {n.relay, relayPlace}, {n.dns, dnsPlace}, {n.web, webPlace}} {
		end, core, err := link.Veth(h.host, "eth0", n.core, h.host.Name)
		if err != nil {
			return err
		}
		if err := uplink(end, core, h.place); err != nil {
			return err
		}
		if h.host == n.relay {
			n.relayEnd = end
		}
	}
	if err := n.joinHome(s, homeKind); err != nil {
		return err
	}
	return n.joinSite(s, siteKind)
}

func (n *internet) joinHome(s *stage, kind nat.Kind) error {
	line, outside, core, err := link.NewLine(n.home, "wan", n.core, "home", link.Quality{Delay: uplinkDelay}, s.order.Seed)
	if err != nil {
		return err
	}
	n.homeLine, n.homeCore, n.homeRouter = line, core, nat.Router{Outside: outside, Kind: kind}
	s.spawn("the home router's uplink", line.Run)
	if err := uplink(outside, core, homeOutside); err != nil {
		return err
	}
	var inside *link.End
	if n.laptopEnd, inside, err = link.Veth(n.laptop, "eth0", n.home, "lan"); err != nil {
		return err
	}
	router, laptop := homeInside, laptopInside
	if kind == nat.None {
		router, laptop = homePublic, laptopPublic
		if err := reach(core, homeOutside, homePublic); err != nil {
			return err
		}
	}
	if err := local(inside, router, member{n.laptopEnd, laptop}); err != nil {
		return err
	}
	return n.homeRouter.Apply()
}

func (n *internet) joinSite(s *stage, kind nat.Kind) error {
	line, outside, core, err := link.NewLine(n.site, "wan", n.core, "site", link.Quality{Delay: uplinkDelay}, s.order.Seed+1)
	if err != nil {
		return err
	}
	n.siteLine, n.siteCore = line, core
	s.spawn("the site router's uplink", line.Run)
	if err := uplink(outside, core, siteOutside); err != nil {
		return err
	}
	var ends, ports []*link.End
	for _, h := range []*host.Host{n.gateway, n.wiki, n.siteDNS} {
		end, port, err := link.Veth(h, "eth0", n.site, h.Name)
		if err != nil {
			return err
		}
		ends, ports = append(ends, end), append(ports, port)
	}
	n.gatewayEnd, n.wikiEnd = ends[0], ends[1]
	inside, err := link.Bridge(n.site, "lan", ports...)
	if err != nil {
		return err
	}
	if kind == nat.None { // those who speak to the outside have public addresses as well, and prefer them
		if err := reach(core, siteOutside, sitePublic); err != nil {
			return err
		}
		if err := local(inside, sitePublic, member{ends[0], gatewayPublic}, member{ends[2], siteDNSPublic}); err != nil {
			return err
		}
	}
	if err := local(inside, siteInside, member{ends[0], gatewayPlace}, member{ends[1], wikiPlace}, member{ends[2], siteDNSPlace}); err != nil {
		return err
	}
	n.siteRouter = nat.Router{
		Outside: outside, Kind: kind,
		Forwards: []nat.Forwarding{{Port: forwardedPort, To: netip.AddrPortFrom(wikiPlace.v4.Addr(), 80)}},
	}
	return n.siteRouter.Apply()
}

// uplink gives a host its place, and the core the address before it.
func uplink(end, core *link.End, p place) error {
	before4 := netip.PrefixFrom(p.v4.Addr().Prev(), p.v4.Bits())
	before6 := netip.PrefixFrom(p.v6.Addr().Prev(), p.v6.Bits())
	if err := core.Add(before4, before6); err != nil {
		return err
	}
	if err := end.Add(p.v4, p.v6); err != nil {
		return err
	}
	if err := link.Acquaint(end, core); err != nil {
		return err
	}
	if err := end.Route(anywhere4, before4.Addr(), netip.Addr{}); err != nil {
		return err
	}
	return end.Route(anywhere6, before6.Addr(), netip.Addr{})
}

// reach lets the core know which network lies behind a router.
func reach(core *link.End, via, network place) error {
	if err := core.Route(network.v4.Masked(), via.v4.Addr(), netip.Addr{}); err != nil {
		return err
	}
	return core.Route(network.v6.Masked(), via.v6.Addr(), netip.Addr{})
}

// A member is an end in a local network, and its place there.
type member struct {
	end   *link.End
	place place
}

// local makes a local network: the router's end and its members, whose default
// route leads to the router unless they have one.
func local(router *link.End, p place, members ...member) error {
	if err := router.Add(p.v4, p.v6); err != nil {
		return err
	}
	all := []*link.End{router}
	for _, m := range members {
		first := len(m.end.Addrs) == 0
		if err := m.end.Add(m.place.v4, m.place.v6); err != nil {
			return err
		}
		all = append(all, m.end)
		if !first {
			continue
		}
		if err := m.end.Route(anywhere4, p.v4.Addr(), m.place.v4.Addr()); err != nil {
			return err
		}
		if err := m.end.Route(anywhere6, p.v6.Addr(), m.place.v6.Addr()); err != nil {
			return err
		}
	}
	return link.Acquaint(all...)
}

// serve starts the DNS, web and echo servers.
func (n *internet) serve(s *stage) error {
	n.public, n.private = serve.NewDNS(), serve.NewDNS()
	n.public.Set(publicSite, fixed(webPlace))
	n.public.Set(portalName, fixed(portalPlace))
	n.private.Set(wikiName, fixed(wikiPlace))
	n.private.Parent = func(ctx context.Context, q *dns.Msg) (*dns.Msg, error) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		parent := dnsPlace.v4.Addr()
		if n.sixOnly.Load() {
			parent = dnsPlace.v6.Addr()
		}
		conn, err := n.siteDNS.Dial(ctx, "udp", netip.AddrPortFrom(parent, 53).String())
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		r, _, err := new(dns.Client).ExchangeWithConnContext(ctx, q, &dns.Conn{Conn: conn})
		return r, err
	}
	for _, d := range []struct {
		host   *host.Host
		server *serve.DNS
	}{{n.dns, n.public}, {n.siteDNS, n.private}} {
		if err := s.serveDNS(d.host, d.server); err != nil {
			return err
		}
	}
	for _, h := range []*host.Host{n.web, n.wiki} {
		if err := s.serveHTTP(h, ":80"); err != nil {
			return err
		}
		if err := s.serveEcho(h, ":7"); err != nil {
			return err
		}
	}
	return s.serveTLS(n.web, ":443", n.authority, publicSite)
}

func fixed(p place) serve.Answer { return serve.Fixed(p.v4.Addr().String(), p.v6.Addr().String()) }

// prove probes a router before a scenario trusts that it is of its kind.
func (n *internet) prove(s *stage, r nat.Router, inside *link.End, outer place) error {
	for _, family := range []struct {
		name                 string
		outer, server, third netip.Addr
	}{
		{"IPv4", outer.v4.Addr(), portalPlace.v4.Addr(), relayPlace.v4.Addr()},
		{"IPv6", outer.v6.Addr(), portalPlace.v6.Addr(), relayPlace.v6.Addr()},
	} {
		got, err := nat.Probe{
			Inside: inside.Host, InsideAddr: inside.Addr(family.outer), Port: s.port(), Outer: family.outer,
			Server: n.portal, ServerAddr: family.server, Third: n.relay, ThirdAddr: family.third,
			Quiet: 50 * time.Millisecond, Timeout: 2 * time.Second,
		}.Run(s.ctx)
		if err != nil {
			return fmt.Errorf("probe the %v router over %s: %w", r.Kind, family.name, err)
		}
		s.note("%-14v %s  %v", r.Kind, family.name, got)
		if want := r.Kind.Want(); got != want {
			return fmt.Errorf("the router does not behave as %v over %s: got %v; want %v", r.Kind, family.name, got, want)
		}
	}
	return nil
}

// forwarded is the URL of the wiki through the site router's forwarded port.
func (n *internet) forwarded() string {
	return "http://" + netip.AddrPortFrom(siteOutside.v4.Addr(), forwardedPort).String() + "/"
}
