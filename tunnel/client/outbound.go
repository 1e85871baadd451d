package client

import (
	"net/netip"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/packet"
	"stile/tunnel/policy"
	"stile/tunnel/resolver"
)

const dnsPort = 53

// Outbound decides about a packet read from the TUN device, in the order of
// 4.1. For a flow that has all it needs, it does not allocate.
func (c *Core) Outbound(p packet.Packet, now time.Time) core.Route {
	c.now, c.outcome = now, "not carried"
	src, dst := p.Src(), p.Dst()
	switch {
	case isControl(p):
		c.count(dropControl)
	case dst.IsMulticast():
		c.count(dropMulticast)
	case !c.own4.IsValid():
		c.count(dropUnconfigured)
	case src != c.own4 && src != c.own6:
		c.count(dropSource)
	case dst == c.own4 || dst == c.own6:
		c.count(dropToSelf)
	case policy.IsSentinel(dst):
		c.toSentinel(p, now)
	case p.IsFragment():
		return c.outboundFragment(p, now)
	default:
		t, ok := targetOf(p)
		if ok {
			return c.route(p, dst, t, now)
		}
		c.count(dropICMP)
	}
	return core.Route{}
}

func isControl(p packet.Packet) bool {
	_, _, ok := p.Control()
	return ok
}

// toSentinel answers DNS and swallows everything else.
func (c *Core) toSentinel(p packet.Packet, now time.Time) {
	if p.DstPort() != dnsPort || p.Proto() != packet.UDP || p.IsFragment() {
		c.count(dropSentinel)
		return
	}
	app, sentinel := netip.AddrPortFrom(p.Src(), p.SrcPort()), netip.AddrPortFrom(p.Dst(), dnsPort)
	d := c.resolver.Query(app, sentinel, p.Payload(), now)
	if d.Reply != nil {
		c.deliver(sentinel, app, d.Reply)
	}
	if d.Ask != nil {
		c.act(core.Exchange{ID: d.Ask.ID, Server: d.Ask.Server, Query: d.Ask.Query})
	}
	if d.Name != nil {
		c.note(core.Note{What: "name answered", Name: d.Name.FQDN})
		c.queried(d.Name, now)
	}
	switch {
	case d.Reply != nil:
		c.outcome = "answered"
	case d.Ask != nil:
		c.outcome = "asked of a resolver"
	default:
		c.outcome = "dropped: query"
	}
}

// deliver gives the application a UDP packet from a sentinel.
func (c *Core) deliver(sentinel, app netip.AddrPort, message []byte) {
	c.out.Packets = append(c.out.Packets, packet.AppendUDP(nil, sentinel, app, message))
}

// queried follows an answer with the addresses of n: gateways on which a
// resource of the name is authorized learn it now, or again (5, 18.4).
func (c *Core) queried(n *resolver.Name, now time.Time) {
	if c.resolver.Len() > c.names.saved && c.names.due.IsZero() {
		c.names.due = now.Add(c.names.delay())
	}
	for _, res := range c.resolver.Resources(n, nil) {
		r := c.resources[res]
		if r.gateway == nil {
			continue
		}
		if b := c.bindings.find(n, r); b == nil {
			c.bind(n, r, now)
		} else {
			b.queried()
			if b.update(now) {
				c.announce(b, now)
			}
		}
	}
}

// tunnelled reports whether a plain DNS server of the portal's is reached
// through the tunnel: if the Internet resource covers it, or a CIDR resource
// whose filters permit DNS (9.1).
func (c *Core) tunnelled(server netip.Addr, now time.Time) bool {
	_, udp := c.networks.Find(server, packet.UDP, dnsPort, now)
	_, tcp := c.networks.Find(server, packet.TCP, dnsPort, now)
	return udp == policy.Permitted && tcp == policy.Permitted || c.internet != nil && policy.IsInternet(server)
}

// A target is what a packet's resource is found by: for most packets their
// protocol and destination port. An ICMP error follows the packet it reports
// about, which came from the resource (16.1); a later fragment the first one.
type target struct {
	proto packet.Proto
	port  uint16
	other bool // a protocol without ports or echo
}

func targetOf(p packet.Packet) (_ target, ok bool) {
	if p.IsICMPError() {
		q, ok := p.Quote()
		if !ok || q.Src() != p.Dst() {
			return target{}, false
		}
		return target{proto: q.Proto(), port: q.SrcPort()}, true
	}
	proto := p.Proto()
	known := proto == packet.TCP || proto == packet.UDP || proto == packet.ICMP || proto == packet.ICMPv6
	return target{proto: proto, port: p.DstPort(), other: !known}, true
}

// route finds the resource of a packet by its destination (15.1) and sends it
// there.
func (c *Core) route(p packet.Packet, dst netip.Addr, t target, now time.Time) core.Route {
	switch {
	case policy.IsPeer(dst):
		if g := c.byAddr[dst]; g != nil {
			return c.send(g, p, now)
		}
		c.count(dropNoRoute)
		return core.Route{}
	case policy.IsProxy(dst):
		return c.toProxy(p, dst, t, now)
	}
	entry, verdict := c.networks.Find(dst, t.proto, t.port, now)
	switch {
	case verdict == policy.Permitted:
		return c.toResource(c.resources[entry.Resource], p, t, now)
	case verdict == policy.Denied:
		c.prohibit(p)
	case c.internet != nil:
		return c.toInternet(p, dst, t, now)
	default:
		c.count(dropNoRoute)
	}
	return core.Route{}
}

// toProxy sends a packet to a DNS resource. An address that stands for no name
// must not reach the Internet resource (15.1).
func (c *Core) toProxy(p packet.Packet, dst netip.Addr, t target, now time.Time) core.Route {
	n, res, verdict := c.resolver.Find(dst, t.proto, t.port)
	switch {
	case verdict == policy.None || t.other: // the gateway's NAT knows no other protocols
		c.count(dropNoRoute)
		return core.Route{}
	case verdict == policy.Denied:
		c.prohibit(p)
		return core.Route{}
	}
	r := c.resources[res]
	r.seen = now
	if r.gateway == nil {
		c.want(r, p, t, now)
		return core.Route{}
	}
	b := c.bindings.find(n, r)
	if b == nil { // a name remembered from earlier, or one of very many
		b = c.bind(n, r, now)
	}
	hold, again := b.packet(now)
	if again {
		c.announce(b, now)
	}
	if hold {
		c.hold(&b.queue, p, t)
		return core.Route{}
	}
	return c.send(r.gateway, p, now)
}

// toInternet sends a packet to the Internet resource, unless all gateways
// would refuse: then the answer is theirs, without the way there and back.
func (c *Core) toInternet(p packet.Packet, dst netip.Addr, t target, now time.Time) core.Route {
	switch {
	case !policy.IsInternet(dst):
		c.count(refusedPrivate)
		if b, ok := packet.AppendUnreachable(nil, p); ok {
			c.out.Packets = append(c.out.Packets, b)
		}
	case !policy.Filters(c.internet.Filters).Permits(t.proto, t.port):
		c.prohibit(p)
	default:
		return c.toResource(c.internet, p, t, now)
	}
	return core.Route{}
}

// toResource sends a packet to a CIDR or Internet resource.
func (c *Core) toResource(r *resource, p packet.Packet, t target, now time.Time) core.Route {
	r.seen = now
	if r.gateway == nil {
		c.want(r, p, t, now)
		return core.Route{}
	}
	return c.send(r.gateway, p, now)
}

// prohibit tells the application that filters deny its packet (16.2).
func (c *Core) prohibit(p packet.Packet) {
	c.count(prohibited)
	if b, ok := packet.AppendProhibited(nil, p); ok {
		c.out.Packets = append(c.out.Packets, b)
	}
}

// again routes packets that waited from the start (17); they leave in order.
func (c *Core) again(packets []held, now time.Time) {
	for _, h := range packets {
		if r := c.route(h.Packet, h.Dst(), h.target, now); r.Keys != nil {
			c.out.Held = append(c.out.Held, core.Held{Route: r, Packet: h.Bytes()})
		}
	}
}
