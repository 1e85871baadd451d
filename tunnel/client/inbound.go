package client

import (
	"errors"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/packet"
	"stile/tunnel/policy"
	"stile/tunnel/wg"
	"stile/tunnel/wire"
)

// Datagram decides about a datagram read from a socket.
func (c *Core) Datagram(d core.Datagram, now time.Time) core.Sealed {
	c.now = now
	return c.paths.Datagram(d, now)
}

// Inbound decides about a decrypted message, in the order of 15.4.
func (c *Core) Inbound(k *wg.Keys, counter uint64, plain []byte, now time.Time) []byte {
	c.now, c.outcome = now, "not carried"
	peer, ok := c.paths.Received(k, counter, len(plain), now)
	if !ok {
		c.count(dropReplay)
		return nil
	}
	if len(plain) == 0 {
		return nil
	}
	g := c.gateways[id.GatewayOf(peer)]
	p, err := packet.ParseFragment(packet.Trim(plain))
	switch {
	case errors.Is(err, packet.ErrFragment):
		c.count(dropFragment)
		return nil
	case err != nil:
		c.count(dropMalformed)
		return nil
	case g == nil:
		c.count(dropStranger)
		return nil
	}
	if event, payload, ok := p.Control(); ok {
		c.outcome = "control packet"
		c.control(g, event, payload, now)
		return nil
	}
	if dst := p.Dst(); dst != c.own4 && dst != c.own6 {
		c.count(dropNotForUs)
		return nil
	}
	if p.IsICMPError() {
		return c.inboundError(g, p, now)
	}
	if src := p.Src(); !g.is(src) && !c.reaches(g, src, now) {
		c.count(dropSpoofed)
		return nil
	}
	return p.Bytes()
}

// inboundError delivers an ICMP error from anywhere if it reports about a
// packet that may have been sent to g: routers beside a resource are part of
// the path to it. "Prohibited" says that the gateway knows of no authorization.
func (c *Core) inboundError(g *gateway, p packet.Packet, now time.Time) []byte {
	q, ok := p.Quote()
	if !ok || p.IsFragment() || q.Src() != p.Dst() || !g.is(q.Dst()) && !c.reaches(g, q.Dst(), now) {
		c.count(dropICMP)
		return nil
	}
	if isProhibited(p) {
		if r := c.resourceAt(q, now); r != nil && r.gateway == g {
			c.renew(r, now)
		}
	}
	return p.Bytes()
}

func isProhibited(p packet.Packet) bool {
	typ, code, _ := p.ICMP()
	return p.Proto() == packet.ICMP && typ == 3 && code == 13 || p.Proto() == packet.ICMPv6 && typ == 1 && code == 1
}

// resourceAt returns the resource that a packet with q's header would go to.
func (c *Core) resourceAt(q packet.Quote, now time.Time) *resource {
	if policy.IsProxy(q.Dst()) {
		if _, res, verdict := c.resolver.Find(q.Dst(), q.Proto(), q.DstPort()); verdict == policy.Permitted {
			return c.resources[res]
		}
		return nil
	}
	entry, verdict := c.networks.Find(q.Dst(), q.Proto(), q.DstPort(), now)
	switch {
	case verdict == policy.Permitted:
		return c.resources[entry.Resource]
	case verdict == policy.None && policy.IsInternet(q.Dst()):
		return c.internet
	}
	return nil
}

// control takes an in-tunnel control packet from a gateway (18.1).
func (c *Core) control(g *gateway, event byte, payload []byte, now time.Time) {
	switch event {
	case wire.EventDomainStatus:
		status, err := wire.ParseDomainStatus(payload)
		if err != nil {
			c.count(dropMalformed)
			return
		}
		c.domainStatus(g, status, now)
	case wire.EventGoodbye:
		c.count(goodbyes)
		c.close(g, false, now)
	default:
		c.count(dropControl)
	}
}
