package client

import (
	"time"

	"stile/tunnel/core"
	"stile/tunnel/fragment"
	"stile/tunnel/packet"
)

// sweepFragments is how often memory of datagrams that never became whole is
// freed.
const sweepFragments = 5 * time.Second

// outboundFragment decides about a fragment from the TUN device. Only the first
// one of a datagram shows what its resource is found by; the others go by that,
// too, each as an own packet that may have to wait (gateway-nat.md N41). Stock
// gateways refuse fragments.
//
// In the other direction nothing needs to be remembered: what a gateway may send
// depends on addresses only, which all fragments have (15.4).
func (c *Core) outboundFragment(p packet.Packet, now time.Time) core.Route {
	if c.sweepDue.IsZero() {
		c.sweepDue = now.Add(sweepFragments)
	}
	if isLater(p) {
		t, ok := c.fragments.Follow(p, now)
		c.counts[dropFragment] += c.fragments.Lost()
		if !ok {
			return core.Route{}
		}
		return c.route(p, p.Dst(), t, now)
	}
	if p.IsICMPError() { // they fit into one packet
		c.count(dropFragment)
		return core.Route{}
	}
	t, _ := targetOf(p)
	route := c.route(p, p.Dst(), t, now)
	early := c.fragments.Begin(fragment.KeyOf(p), p, t, now)
	c.counts[dropFragment] += c.fragments.Lost()
	for _, q := range early {
		if r := c.route(q, q.Dst(), t, now); r.Keys != nil {
			c.out.Held = append(c.out.Held, core.Held{Route: r, Packet: q.Bytes()})
		}
	}
	return route
}

// forgetFragments frees what no fragment needs any more.
func (c *Core) forgetFragments(now time.Time) {
	c.sweepDue = time.Time{}
	c.fragments.Sweep(now)
	c.counts[dropFragment] += c.fragments.Lost()
	if !c.fragments.Empty() {
		c.sweepDue = now.Add(sweepFragments)
	}
}
