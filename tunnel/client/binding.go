package client

import (
	"net/netip"
	"slices"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/packet"
	"stile/tunnel/resolver"
	"stile/tunnel/wire"
)

// Times of announcements (18.3, 18.4). Traffic and queries repeat one after
// announceGap; the timer does after 2, 4 and 8 s, until announceGiveUp.
const (
	announceGap    = 2 * time.Second
	announceMaxGap = 8 * time.Second
	announceGiveUp = 30 * time.Second
)

// A state is what we know about the gateway's NAT of one name.
type state uint8

const (
	pending    state = iota // announced, or to be announced as soon as there is a session
	confirmed               // the gateway said Active
	recreating              // an application asked for the name again: to be announced with the next update
	failed                  // the gateway said Inactive
)

// A binding is the client's side of the NAT that makes a name's proxy
// addresses work on a gateway (18): for one name and one resource, on the
// gateway where the resource is authorized.
type binding struct {
	name     *resolver.Name
	resource *resource

	v4, v6    wire.Optional // whether the gateway knows addresses of the family, if it says so
	state     state
	buffering bool  // pending, recreating: packets wait
	queue     queue // in order

	began time.Time     // of the present pending
	sent  time.Time     // last announcement
	retry time.Time     // next one by the timer; zero: none
	gap   time.Duration // between the last two of those
}

// start makes the binding pending.
func (b *binding) start(buffering bool, now time.Time) {
	b.state, b.buffering = pending, buffering
	b.began, b.sent, b.gap = now, now, announceGap
	b.retry = now.Add(b.gap)
}

// queried tells that an application asked for the name again: the gateway will
// resolve it again, while a mapping that works goes on working (18.4).
func (b *binding) queried() {
	switch b.state {
	case confirmed:
		b.state, b.buffering = recreating, false
	case failed:
		b.state, b.buffering = recreating, true
	}
}

// update reports whether the name has to be announced, and counts it as done.
func (b *binding) update(now time.Time) bool {
	switch b.state {
	case recreating:
		b.start(b.buffering, now)
		return true
	case pending:
		if now.Sub(b.sent) >= announceGap {
			b.sent = now
			return true
		}
	}
	return false
}

// packet tells what happens to a packet for the name, and whether to announce
// it again.
func (b *binding) packet(now time.Time) (hold, announce bool) {
	if b.state != pending {
		return false, false
	}
	return b.buffering, b.update(now)
}

// due reports whether the timer asks for an announcement.
func (b *binding) due(now time.Time) bool {
	if b.retry.IsZero() || now.Before(b.retry) {
		return false
	}
	b.retry = time.Time{}
	if b.state != pending || now.Sub(b.began) > announceGiveUp {
		return false
	}
	b.gap = min(2*b.gap, announceMaxGap)
	b.retry, b.sent = now.Add(b.gap), now
	return true
}

// status takes the gateway's answer. Packets in the queue go if it is active,
// else they are dropped.
func (b *binding) status(active bool) {
	b.buffering, b.retry = false, time.Time{}
	if b.state = failed; active {
		b.state = confirmed
	}
}

// bindings finds the binding of a name and resource.
type bindings struct {
	list   []*binding
	byName [][]*binding // by resolver.Name.Index; a name has few
	due    time.Time    // when a timer may run out; zero: never
}

func (t *bindings) find(n *resolver.Name, r *resource) *binding {
	if n.Index >= len(t.byName) {
		return nil
	}
	for _, b := range t.byName[n.Index] {
		if b.resource == r {
			return b
		}
	}
	return nil
}

// on reports whether n has a binding on g.
func (t *bindings) on(n *resolver.Name, g *gateway) bool {
	return n.Index < len(t.byName) && slices.ContainsFunc(t.byName[n.Index], func(b *binding) bool { return b.resource.gateway == g })
}

func (t *bindings) add(b *binding) {
	t.list = append(t.list, b)
	for b.name.Index >= len(t.byName) {
		t.byName = append(t.byName, nil)
	}
	t.byName[b.name.Index] = append(t.byName[b.name.Index], b)
}

// bind makes the binding of n and r, or starts it anew, and announces it.
// Packets wait until the gateway confirms. r is authorized.
func (c *Core) bind(n *resolver.Name, r *resource, now time.Time) *binding {
	b := c.bindings.find(n, r)
	if b == nil {
		b = &binding{name: n, resource: r, queue: queue{limit: bindingQueue}}
		c.bindings.add(b)
		c.lack(n)
	}
	b.start(true, now)
	c.announce(b, now)
	return b
}

// unbind drops the bindings of r and what waits in them.
func (c *Core) unbind(r *resource) {
	t := &c.bindings
	t.list = slices.DeleteFunc(t.list, func(b *binding) bool {
		if b.resource != r {
			return false
		}
		c.release(&b.queue)
		same := t.byName[b.name.Index]
		t.byName[b.name.Index] = slices.DeleteFunc(same, func(o *binding) bool { return o == b })
		c.lack(b.name)
		return true
	})
}

// announce tells the gateway which proxy addresses stand for the name. Without
// a session nothing is sent; established makes up for it.
func (c *Core) announce(b *binding, now time.Time) {
	c.bindings.wake(b.retry)
	g := b.resource.gateway
	addrs := c.resolver.ProxyAddrs(b.name, b.resource.ID)
	if !g.up || len(addrs) == 0 {
		return
	}
	c.count(announcements)
	c.note(core.Note{What: "name announced", Name: b.name.FQDN, Resource: b.resource.ID, Peer: g.peer})
	c.paths.Control(g.peer, assignedIPs(b, addrs), now)
}

func assignedIPs(b *binding, addrs []netip.Addr) []byte {
	a := wire.AssignedIPs{Resource: b.resource.ID, Domain: b.name.FQDN, ProxyIPs: addrs}
	return packet.AppendControl(nil, wire.EventAssignedIPs, a.Append(nil))
}

// wake makes sure that the timers are looked at by t.
func (t *bindings) wake(at time.Time) {
	t.due = earlier(t.due, at)
}

// retryBindings announces what the timer asks for.
func (c *Core) retryBindings(now time.Time) {
	c.bindings.due = time.Time{}
	for _, b := range c.bindings.list {
		if b.due(now) {
			c.announce(b, now)
		}
		c.bindings.wake(b.retry)
	}
}

// lack tells the resolver of which families no gateway knows an address of n.
func (c *Core) lack(n *resolver.Name) {
	list := c.bindings.byName[n.Index]
	v4, v6 := len(list) > 0, len(list) > 0
	for _, b := range list {
		v4, v6 = v4 && b.v4 == wire.No, v6 && b.v6 == wire.No
	}
	c.resolver.Lack(n, v4, v6)
}

// domainStatus takes a gateway's answer to an announcement. One for a name
// without a binding is ignored.
func (c *Core) domainStatus(g *gateway, s wire.DomainStatus, now time.Time) {
	n, r := c.resolver.Named(lower(s.Domain)), c.resources[s.Resource]
	if n == nil || r == nil || r.gateway != g {
		c.count(dropStatus)
		return
	}
	b := c.bindings.find(n, r)
	if b == nil {
		c.count(dropStatus)
		return
	}
	b.status(s.Active)
	b.v4, b.v6 = s.V4, s.V6
	c.lack(n)
	packets := c.release(&b.queue)
	if s.Active {
		c.note(core.Note{What: "name confirmed", Name: n.FQDN, Resource: r.ID, Peer: g.peer})
		c.again(packets, now)
		return
	}
	c.count(namesFailed)
	c.note(core.Note{What: "name not known to the gateway", Name: n.FQDN, Resource: r.ID, Peer: g.peer})
}
