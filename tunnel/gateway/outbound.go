package gateway

import (
	"time"

	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/nat"
	"stile/tunnel/packet"
	"stile/tunnel/policy"
)

// Outbound decides about a packet that the kernel routed towards a client, in
// the order of 1.2. It is translated in place. Nobody on that side is ever
// answered.
func (c *Core) Outbound(p packet.Packet, now time.Time) core.Route {
	c.now = now
	dst := p.Dst()
	if !policy.IsPeer(dst) {
		c.count(dropNotAPeer)
		return core.Route{}
	}
	k := c.byAddr[dst]
	if k == nil || !k.parked.IsZero() {
		c.count(dropNoPeer)
		return core.Route{}
	}
	c.touch(k)
	if p.IsFragment() {
		return c.outboundFragment(k, p, now)
	}
	route, reason := c.deliver(k, p, now)
	if reason != passed {
		c.count(reason)
		c.deny(k, id.Resource{}, p, inwards, reason, now)
	}
	return route
}

func (c *Core) deliver(k *client, p packet.Packet, now time.Time) (core.Route, counter) {
	if p.IsICMPError() {
		return c.deliverError(k, p, now)
	}
	s := k.nat.Match(p, now)
	if s == nil {
		return c.open(k, p, now)
	}
	if reason := c.judgeReply(k, s, p, now); reason != passed {
		return core.Route{}, reason
	}
	// A packet that has no way to go does not count for the session.
	route := c.paths.Route(k.peer, len(p.Bytes()), now)
	if route.Keys == nil {
		return core.Route{}, dropNotConnected
	}
	k.nat.In(s, p, now)
	return route, passed
}

// judgeReply says whether the client may receive on a session: from a resource
// as judge does, from this host while it is authorized for anything.
func (c *Core) judgeReply(k *client, s *nat.Session, p packet.Packet, now time.Time) counter {
	switch addr, _ := s.Proxied(); {
	case addr != c.own4 && addr != c.own6:
		_, reason := k.judge(addr, p.Proto(), p.SrcPort(), now)
		return reason
	case !k.authorized(now):
		return dropExpired
	}
	return passed
}

// open lets a packet through that no session waits for: only the gateway host
// itself may begin (N43, N45).
func (c *Core) open(k *client, p packet.Packet, now time.Time) (core.Route, counter) {
	if src := p.Src(); src != c.own4 && src != c.own6 {
		return core.Route{}, dropNoSession
	}
	if !k.authorized(now) {
		return core.Route{}, dropExpired
	}
	route := c.paths.Route(k.peer, len(p.Bytes()), now)
	if route.Keys == nil {
		return core.Route{}, dropNotConnected
	}
	if verdict := k.nat.Accept(p, now); verdict != nat.Forward {
		return core.Route{}, fromNAT[verdict]
	}
	return route, passed
}

// deliverError passes on an ICMP error about one of the client's sessions, as
// long as it is authorized (N35, N37).
func (c *Core) deliverError(k *client, p packet.Packet, now time.Time) (core.Route, counter) {
	s := k.nat.MatchError(p, now)
	if s == nil {
		return core.Route{}, dropErrorIn
	}
	if !c.mayTalk(k, s, now) {
		return core.Route{}, dropExpired
	}
	// Stock clients take packets of their resources and of this gateway only;
	// routers in between hide behind the resource (1.5).
	source := p.Src()
	if source != c.own4 && source != c.own6 && (policy.IsProxy(source) || !k.reaches(source, now)) {
		source, _ = s.Proxied()
	}
	route := c.paths.Route(k.peer, len(p.Bytes()), now)
	if route.Keys == nil {
		return core.Route{}, dropNotConnected
	}
	k.nat.InError(s, p, source, now)
	return route, passed
}

// mayTalk says whether errors about a session may pass, to whom filters do not
// apply (1.4): the client is authorized for its other end or, if that is this
// host, for anything.
func (c *Core) mayTalk(k *client, s *nat.Session, now time.Time) bool {
	addr, _ := s.Proxied()
	if addr == c.own4 || addr == c.own6 {
		return k.authorized(now)
	}
	return k.reaches(addr, now)
}
