package client

import (
	"net/netip"
	"slices"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/packet"
	"stile/tunnel/policy"
	"stile/tunnel/wire"
)

// A gateway is one that we have, or are making, a connection to.
type gateway struct {
	id         id.Gateway
	peer       id.Peer
	key        wire.Key // its public key: another one is another incarnation
	site       id.Site
	ipv4, ipv6 netip.Addr // tunnel addresses

	resources []*resource  // authorized there; never empty
	networks  policy.Table // of its CIDR resources: what packets from it may come from
	up        bool         // packets can be sealed; queue is empty
	queue     queue        // packets that wait for a session, in order
}

// is reports whether a is one of the gateway's tunnel addresses.
func (g *gateway) is(a netip.Addr) bool { return a == g.ipv4 || a == g.ipv6 }

// reaches reports whether a lies in a range used through g: a name announced
// there, a network, or the Internet.
func (c *Core) reaches(g *gateway, a netip.Addr, now time.Time) bool {
	switch {
	case policy.IsPeer(a) || policy.IsSentinel(a):
		return false
	case policy.IsProxy(a):
		n := c.resolver.NameOf(a)
		return n != nil && c.bindings.on(n, g)
	}
	if _, verdict := g.networks.Find(a, packet.TCP, 0, now); verdict != policy.None {
		return true
	}
	return c.internet != nil && c.internet.gateway == g && policy.IsInternet(a)
}

// send seals a packet for g, or holds it until there is a session. Packets
// held before it keep their place.
func (c *Core) send(g *gateway, p packet.Packet, now time.Time) core.Route {
	if g.up {
		if route := c.paths.Route(g.peer, len(p.Bytes()), now); route.Keys != nil {
			return route
		}
		g.up = false
	}
	c.hold(&g.queue, p, target{}) // it goes to g, whatever it was for
	return core.Route{}
}

// established announces at once what the gateway has to know, then lets go the
// packets that waited for the session.
func (c *Core) established(gw id.Gateway, now time.Time) {
	g := c.gateways[gw]
	if g == nil {
		return
	}
	g.up = true
	for _, b := range c.bindings.list {
		if b.resource.gateway == g && b.state == pending {
			b.start(b.buffering, now)
			c.announce(b, now)
		}
	}
	for _, h := range c.release(&g.queue) {
		if route := c.send(g, h.Packet, now); route.Keys != nil {
			c.out.Held = append(c.out.Held, core.Held{Route: route, Packet: h.Bytes()})
		}
	}
}

// attach notes that r is authorized on g.
func (c *Core) attach(r *resource, g *gateway) {
	r.gateway = g
	g.resources = append(g.resources, r)
	if r.prefix.IsValid() {
		g.networks.Add(policy.Entry{Prefix: r.prefix, Resource: r.ID})
	}
	c.memory.used(r.ID, g.id)
}

// detach takes r's authorization away. A gateway that is left without any is
// told goodbye (spec portal.md 3.2).
func (c *Core) detach(r *resource, now time.Time) {
	g := r.gateway
	if g == nil {
		return
	}
	c.unbind(r)
	r.gateway = nil
	g.networks.RemoveResource(r.ID)
	g.resources = slices.DeleteFunc(g.resources, func(o *resource) bool { return o == r })
	if len(g.resources) == 0 {
		c.close(g, true, now)
	}
}

// close ends the connection to g.
func (c *Core) close(g *gateway, goodbye bool, now time.Time) {
	c.paths.Close(g.peer, goodbye, now)
	c.forget(g)
}

// forget drops all that hangs on a connection which is over: authorizations,
// bindings, waiting packets. Traffic asks again (17).
func (c *Core) forget(g *gateway) {
	for _, r := range g.resources {
		c.unbind(r)
		r.gateway = nil
	}
	g.resources = nil
	c.release(&g.queue)
	delete(c.gateways, g.id)
	c.removeAddrs(g)
}

// removeAddrs removes g's tunnel addresses, unless another gateway has them.
func (c *Core) removeAddrs(g *gateway) {
	for _, a := range [...]netip.Addr{g.ipv4, g.ipv6} {
		if c.byAddr[a] == g {
			delete(c.byAddr, a)
		}
	}
}

// A memory is what the client knows about gateways of all sites for as long as
// the process lives. The portal prefers gateways that a client knows, which
// keeps flows where their sessions are (17).
type memory struct {
	known []id.Gateway // sorted
	last  map[id.Resource]id.Gateway
}

// Bounds of a memory; a request names at most maxPreferred gateways.
const (
	maxKnown     = 1024
	maxLast      = 16384
	maxPreferred = 64
)

func (m *memory) init() { m.last = make(map[id.Resource]id.Gateway) }

func (m *memory) used(r id.Resource, g id.Gateway) {
	if i, ok := slices.BinarySearchFunc(m.known, g, id.Gateway.Compare); !ok && len(m.known) < maxKnown {
		m.known = slices.Insert(m.known, i, g)
	}
	if len(m.last) >= maxLast {
		clear(m.last)
	}
	m.last[r] = g
}

// preferred lists gateways for r, best first: where it is authorized, where it
// was last, those that are connected, the others by ID.
func (c *Core) preferred(r *resource) []id.Gateway {
	list := make([]id.Gateway, 0, min(len(c.memory.known)+1, maxPreferred))
	add := func(g id.Gateway) {
		if len(list) < maxPreferred && !slices.Contains(list, g) {
			list = append(list, g)
		}
	}
	if r.gateway != nil {
		add(r.gateway.id)
	}
	if last, ok := c.memory.last[r.ID]; ok {
		add(last)
	}
	for _, g := range c.sortedGateways() {
		if g.up {
			add(g.id)
		}
	}
	for _, g := range c.memory.known {
		add(g)
	}
	return list
}
