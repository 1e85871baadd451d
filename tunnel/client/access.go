package client

import (
	"errors"
	"slices"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/packet"
	"stile/tunnel/path"
	"stile/tunnel/policy"
	"stile/tunnel/resolver"
	"stile/tunnel/wire"
)

const (
	// askGap is the time between two requests for a resource; a repetition
	// happens only if traffic wants it meanwhile or later (17).
	askGap = 2 * time.Second
	// offlineFor is how long a site is shown as offline (17).
	offlineFor = 5 * time.Minute
)

// A request is traffic that waits for an authorization.
type request struct {
	queue queue
	// granted is an authorization that could not be used for want of a relay.
	granted *wire.AuthorizationCreated
	again   bool // traffic came too soon after the last time the portal was asked
}

// want holds a packet for a resource that is not authorized, and asks for it.
func (c *Core) want(r *resource, p packet.Packet, t target, now time.Time) {
	c.renew(r, now)
	c.hold(&r.request.queue, p, t)
}

// renew asks for a resource; if the portal was asked a moment ago, as soon as
// askGap allows. Without a portal the request waits for it.
func (c *Core) renew(r *resource, now time.Time) {
	if r.request == nil {
		r.request = &request{queue: queue{limit: accessQueue}}
		c.waiting = append(c.waiting, r)
	}
	switch {
	case !c.portalUp:
	case !r.asked.IsZero() && now.Sub(r.asked) < askGap:
		r.request.again = true
		c.askDue = earlier(c.askDue, r.asked.Add(askGap))
	default:
		c.ask(r, now)
	}
}

func (c *Core) ask(r *resource, now time.Time) {
	r.asked, r.request.again = now, false
	c.count(requests)
	c.note(core.Note{What: "authorization asked", Resource: r.ID})
	c.tell(wire.RequestAuthorization{Resource: r.ID, ConnectedGateways: c.preferred(r)})
}

// askAgain repeats what the portal was asked on a channel that is gone, or
// could not be asked: answers do not find the way to a new one.
func (c *Core) askAgain(now time.Time) {
	for _, r := range c.waiting {
		if r.asked.IsZero() || r.asked.Before(c.joined) {
			c.ask(r, now)
		}
	}
}

// askLater asks for what traffic wanted meanwhile.
func (c *Core) askLater(now time.Time) {
	c.askDue = time.Time{}
	for _, r := range c.waiting {
		if !r.request.again || !c.portalUp {
			continue
		}
		if at := r.asked.Add(askGap); now.Before(at) {
			c.askDue = earlier(c.askDue, at)
		} else {
			c.ask(r, now)
		}
	}
}

// dropRequest ends the waiting for r and returns the packets that waited.
func (c *Core) dropRequest(r *resource) []held {
	if r.request == nil {
		return nil
	}
	packets := c.release(&r.request.queue)
	r.request = nil
	c.waiting = slices.DeleteFunc(c.waiting, func(o *resource) bool { return o == r })
	return packets
}

func (c *Core) dropRequests() {
	for _, r := range slices.Clone(c.waiting) {
		c.dropRequest(r)
	}
}

// created acts upon an authorization: it connects to the gateway, or renews
// the connection there is, and lets go what waited for it (spec portal.md 3.2).
func (c *Core) created(m wire.AuthorizationCreated, now time.Time) {
	r := c.resources[m.Resource]
	switch {
	case r == nil || r.request == nil:
		c.count(authorizationsIgnored)
		c.note(core.Note{What: "authorization ignored", Reason: "not asked for", Resource: m.Resource})
		return
	case m.Iceless || m.GatewayKey.IsZero() || !policy.IsPeer(m.GatewayIPv4) || !policy.IsPeer(m.GatewayIPv6):
		// The first we said we cannot do, the others no gateway has.
		c.count(authorizationsInvalid)
		c.note(core.Note{What: "authorization ignored", Reason: "invalid", Resource: m.Resource})
		return
	}
	err := c.paths.Upsert(path.Peer{
		ID:     id.PeerOf(m.Gateway),
		Key:    m.GatewayKey,
		PSK:    m.PresharedKey,
		Local:  m.ClientICE,
		Remote: m.GatewayICE,
	}, now)
	if errors.Is(err, path.ErrNoRelay) { // relays are on their way
		r.request.granted = &m
		c.note(core.Note{What: "authorization waits", Reason: err.Error(), Resource: m.Resource})
		return
	}
	if err != nil {
		c.count(authorizationsInvalid)
		c.note(core.Note{What: "authorization ignored", Reason: err.Error(), Resource: m.Resource})
		return
	}
	c.note(core.Note{What: "authorization granted", Resource: m.Resource, Peer: id.PeerOf(m.Gateway)})
	g := c.connect(m)
	if r.gateway != g {
		c.detach(r, now)
		c.attach(r, g)
	}
	delete(c.offline, m.Site)
	r.refusal = Refusal{}
	packets := c.dropRequest(r)
	for _, n := range c.namesOf(r) {
		c.bind(n, r, now)
	}
	c.again(packets, now)
}

// namesOf lists the names that a gateway has to learn with an authorization
// for r: those it was told before, and those that applications asked for.
func (c *Core) namesOf(r *resource) []*resolver.Name {
	list := c.resolver.Recent(r.ID)
	for _, b := range c.bindings.list {
		if b.resource == r && !slices.Contains(list, b.name) {
			list = append(list, b.name)
		}
	}
	return list
}

// connect returns the gateway of an authorization. If it comes with another
// key, it is another incarnation, which knows nothing of the former's
// authorizations.
func (c *Core) connect(m wire.AuthorizationCreated) *gateway {
	g := c.gateways[m.Gateway]
	if g != nil && g.key != m.GatewayKey {
		c.forget(g)
		g = nil
	}
	if g == nil {
		g = &gateway{id: m.Gateway, peer: id.PeerOf(m.Gateway), key: m.GatewayKey, queue: queue{limit: sessionQueue}}
		c.gateways[g.id] = g
	}
	c.removeAddrs(g)
	g.site, g.ipv4, g.ipv6 = m.Site, m.GatewayIPv4, m.GatewayIPv6
	c.byAddr[g.ipv4], c.byAddr[g.ipv6] = g, g
	return g
}

// retryGranted uses authorizations that waited for a relay.
func (c *Core) retryGranted(now time.Time) {
	for _, r := range slices.Clone(c.waiting) {
		if m := r.request.granted; m != nil {
			r.request.granted = nil
			c.created(*m, now)
		}
	}
}

// failed acts upon a refusal (17): what waited is dropped; later traffic asks
// again, not sooner than after askGap.
func (c *Core) failed(m wire.AuthorizationFailed, now time.Time) {
	r := c.resources[m.Resource]
	if r == nil || r.request == nil {
		c.count(authorizationsIgnored)
		return
	}
	c.count(refusals)
	c.note(core.Note{What: "authorization refused", Reason: m.Reason, Resource: m.Resource})
	r.refusal = Refusal{Reason: m.Reason, Violated: m.Violated, At: now}
	c.dropRequest(r)
	switch m.Reason {
	case wire.ReasonOffline:
		for _, s := range r.Sites {
			c.offline[s.ID] = now.Add(offlineFor)
		}
		c.notify(r, "A resource cannot be reached: no gateway of its site is online.")
		if r.gateway != nil {
			c.close(r.gateway, true, now)
		}
	case wire.ReasonVersionMismatch:
		c.notify(r, "A resource cannot be reached: the gateways of its site run a version that does not work with this client.")
	}
}

// notify tells the log once that a resource cannot be reached.
func (c *Core) notify(r *resource, text string) {
	if !r.notified {
		r.notified = true
		c.act(core.Notify{Resource: r.ID, Text: text})
	}
}
