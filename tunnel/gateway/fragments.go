package gateway

import (
	"net/netip"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/fragment"
	"stile/tunnel/id"
	"stile/tunnel/nat"
	"stile/tunnel/packet"
)

// Datagrams larger than the tunnel's packets come in fragments, of which only
// the first has ports: it passes as a whole packet would, and the others go
// where it went (N41). They neither create sessions nor refresh them. Stock
// peers refuse fragments, so this serves clients of our own.

// A datagram is what was decided about its first fragment.
type datagram struct {
	reason counter    // passed, or why it was dropped
	near   netip.Addr // the resource's end as the client sees it
	far    netip.Addr // the same, outside
	proto  packet.Proto
	port   uint16 // the resource's
	flow   nat.Account
}

// inboundFragment decides about a fragment from a client, as Inbound.
func (c *Core) inboundFragment(k *client, p packet.Packet, now time.Time) []byte {
	switch {
	case p.Dst().IsMulticast():
		c.count(dropMulticast)
		return nil
	case !k.is(p.Src()):
		c.count(dropSpoofed)
		return nil
	case p.IsFirst():
		return c.inboundFirst(k, p, now)
	}
	d, ok := c.follow(k, p, now)
	if !ok || !c.passes(k, d, now) {
		return nil
	}
	k.nat.Charge(d.flow, p, now)
	p.SetDst(d.far)
	return p.Bytes()
}

// inboundFirst passes the first fragment on, and behind it those that waited. An
// ICMP error fits into one packet; in fragments, its checksum cannot be seen to
// be right.
func (c *Core) inboundFirst(k *client, p packet.Packet, now time.Time) []byte {
	came := fragment.KeyOf(p)
	d := datagram{near: p.Dst(), proto: p.Proto(), port: p.DstPort(), flow: k.nat.AccountOf(p, outwards), reason: dropFragment}
	var r id.Resource
	if !p.IsICMPError() {
		r, d.reason = c.forward(k, p, now)
	}
	if d.reason != passed {
		c.refuse(k, r, p, d.reason, now)
	}
	d.far = p.Dst()
	for _, q := range c.begin(k, came, p, d, now) {
		if c.passes(k, d, now) {
			k.nat.Charge(d.flow, q, now)
			q.SetDst(d.far)
			c.out.Packets = append(c.out.Packets, q.Bytes())
		}
	}
	if d.reason != passed {
		return nil
	}
	return p.Bytes()
}

// outboundFragment decides about a fragment for a client, as Outbound.
func (c *Core) outboundFragment(k *client, p packet.Packet, now time.Time) core.Route {
	if p.IsFirst() {
		return c.outboundFirst(k, p, now)
	}
	d, ok := c.follow(k, p, now)
	if !ok {
		return core.Route{}
	}
	return c.deliverLater(k, d, p, now)
}

// outboundFirst is inboundFirst for the other direction. Fragments that waited
// may leave before the first: the client does not mind.
func (c *Core) outboundFirst(k *client, p packet.Packet, now time.Time) (route core.Route) {
	came := fragment.KeyOf(p)
	d := datagram{far: p.Src(), proto: p.Proto(), port: p.SrcPort(), reason: dropFragment}
	if !p.IsICMPError() {
		route, d.reason = c.deliver(k, p, now)
	}
	if d.reason != passed {
		c.count(d.reason)
		c.deny(k, id.Resource{}, p, inwards, d.reason, now)
	}
	d.near, d.flow = p.Src(), k.nat.AccountOf(p, inwards)
	for _, q := range c.begin(k, came, p, d, now) {
		if r := c.deliverLater(k, d, q, now); r.Keys != nil {
			c.out.Held = append(c.out.Held, core.Held{Route: r, Packet: q.Bytes()})
		}
	}
	return route
}

// deliverLater sends a fragment other than the first to a client.
func (c *Core) deliverLater(k *client, d datagram, p packet.Packet, now time.Time) core.Route {
	if !c.passes(k, d, now) {
		return core.Route{}
	}
	route := c.paths.Route(k.peer, len(p.Bytes()), now)
	if route.Keys == nil {
		c.count(dropNotConnected)
		return core.Route{}
	}
	k.nat.Charge(d.flow, p, now)
	p.SetSrc(d.near)
	return route
}

// passes says whether a later fragment may go where the first one went, and
// counts it if not. What the client may use is asked anew for each (N27, N44);
// whether the first one may pass was told and answered when it came.
func (c *Core) passes(k *client, d datagram, now time.Time) bool {
	reason := d.reason
	switch {
	case reason != passed:
	case d.near != c.own4 && d.near != c.own6:
		_, reason = k.judge(d.near, d.proto, d.port, now)
	case !k.authorized(now):
		reason = dropExpired
	}
	if reason != passed {
		c.count(reason)
	}
	return reason == passed
}

// begin notes what was decided about a first fragment, and returns those that
// waited for it.
func (c *Core) begin(k *client, came fragment.Key, p packet.Packet, d datagram, now time.Time) (early []packet.Packet) {
	if k.fragments == nil {
		k.fragments = fragment.New[datagram](c.rng)
	}
	early = k.fragments.Begin(came, p, d, now)
	c.counts[dropFragment] += k.fragments.Lost()
	return early
}

// follow returns what was decided about the first fragment. ok is false if p
// has to wait for it, or is dropped.
func (c *Core) follow(k *client, p packet.Packet, now time.Time) (d datagram, ok bool) {
	if k.fragments == nil {
		k.fragments = fragment.New[datagram](c.rng)
	}
	d, ok = k.fragments.Follow(p, now)
	c.counts[dropFragment] += k.fragments.Lost()
	return d, ok
}

// sweepFragments drops fragments that nothing follows any more.
func (c *Core) sweepFragments(k *client, now time.Time) {
	if k.fragments == nil {
		return
	}
	k.fragments.Sweep(now)
	c.counts[dropFragment] += k.fragments.Lost()
	if k.fragments.Empty() {
		k.fragments = nil
	}
}
