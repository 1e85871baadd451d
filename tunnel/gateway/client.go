package gateway

import (
	"net/netip"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/fragment"
	"stile/tunnel/id"
	"stile/tunnel/nat"
	"stile/tunnel/policy"
	"stile/tunnel/wire"
)

const (
	// closeAfter is how long packets of a client without any authorization are
	// answered before it hears goodbye (N28: at most a second).
	closeAfter = 500 * time.Millisecond
	// parkFor is how long the sessions of a client that left are kept for it.
	parkFor = 5 * time.Minute

	sweepEvery = 5 * time.Second        // session tables (N12: at most ten seconds)
	keepEvery  = 250 * time.Millisecond // housekeeping at most that often
)

// A client is one that the portal authorized for something, or that was until
// recently. It outlives its connection.
type client struct {
	id           id.Client
	peer         id.Peer
	addr4, addr6 netip.Addr // tunnel addresses
	actor        string     // who uses it, as the latest authorization said that said it

	grants   map[id.Resource]*grant
	known    map[id.Resource]*core.Grant // of all grants there were: their sessions may outlive them
	networks policy.Table                // of CIDR resources
	internet *grant                      // nil: none

	nat       *nat.Table
	fragments *fragment.Table[datagram] // nil: none are on their way

	closeAt time.Time // when to say goodbye, if no grant came by then; zero: not
	parked  time.Time // since when the client is gone; zero: it is not

	names     names
	announced bucket // AssignedIPs
	errors    bucket // ICMP errors to the client

	touched bool // it is in the core's list of those that may have something for the log
	denied  denials
}

// A grant is the permission to use one resource.
type grant struct {
	resource wire.GatewayResource
	pattern  policy.Pattern // of a DNS resource; zero if it cannot be read
	network  netip.Prefix   // of a CIDR resource
	filters  policy.Filters
	expires  time.Time // it counts before this instant only; zero: for ever
	by       *core.Grant
}

// valid is asked for every packet: expiry is exact (N44).
func (g *grant) valid(now time.Time) bool {
	return g != nil && (g.expires.IsZero() || now.Before(g.expires))
}

// covers reports whether name may be used through the grant.
func (g *grant) covers(name string) bool {
	return g.resource.Type == wire.DNS && g.pattern.Match(name)
}

// admit returns the client that an authorization is for. One that left comes
// back to its sessions if its addresses are the same (N28).
func (c *Core) admit(who id.Client, addr4, addr6 netip.Addr, now time.Time) *client {
	k := c.clients[who]
	if k != nil && (k.addr4 != addr4 || k.addr6 != addr6 || k.parkedTooLong(now)) {
		c.drop(k) // but not its connection, which the portal is about to renew
		k = nil
	}
	if k == nil {
		for _, a := range []netip.Addr{addr4, addr6} {
			if other := c.byAddr[a]; other != nil {
				c.paths.Close(other.peer, true, now) // the portal gave its address away
				c.drop(other)
			}
		}
		k = c.newClient(who, addr4, addr6, now)
		c.enroll(k)
	}
	k.parked, k.closeAt = time.Time{}, time.Time{}
	return k
}

// is reports whether a is one of the client's tunnel addresses.
func (k *client) is(a netip.Addr) bool { return a == k.addr4 || a == k.addr6 }

// authorized reports whether the client may use anything.
func (k *client) authorized(now time.Time) bool {
	for _, g := range k.grants {
		if g.valid(now) {
			return true
		}
	}
	return false
}

func (k *client) parkedTooLong(now time.Time) bool {
	return !k.parked.IsZero() && now.Sub(k.parked) >= parkFor
}

// allow adds or replaces a grant. A resource may have become another one under
// its old ID: names that were announced for it and are none of its now lose it.
func (k *client) allow(g *grant) {
	if was := k.grants[g.resource.ID]; was == nil || was.resource.Type != g.resource.Type || was.pattern != g.pattern {
		k.nat.Withdraw(g.resource.ID, g.covers)
	}
	k.revoke(g.resource.ID)
	k.grants[g.resource.ID] = g
	k.known[g.resource.ID] = g.by
	switch g.resource.Type {
	case wire.Internet:
		k.internet = g
	case wire.CIDR:
		k.enter(g)
	}
}

// enter puts a CIDR grant into the table, anew after each change.
func (k *client) enter(g *grant) {
	k.networks.Add(policy.Entry{Prefix: g.network, Resource: g.resource.ID, Filters: g.filters, Expires: g.expires})
}

// revoke removes a grant. Sessions and proxy addresses stay, so that they
// resume if it is granted again (N26, N27).
func (k *client) revoke(r id.Resource) {
	g := k.grants[r]
	if g == nil {
		return
	}
	delete(k.grants, r)
	k.networks.RemoveResource(r)
	if k.internet == g {
		k.internet = nil
	}
}

// revokeAll removes all grants.
func (k *client) revokeAll() {
	clear(k.grants)
	k.networks = policy.Table{}
	k.internet = nil
}

// revoked is to be called when grants of k are gone: without any, the client
// will hear goodbye.
func (c *Core) revoked(k *client, now time.Time) {
	if len(k.grants) == 0 && k.closeAt.IsZero() && k.parked.IsZero() {
		k.closeAt = now.Add(closeAfter)
		c.remind(k.closeAt)
	}
}

// park takes the connection from a client without grants and keeps its
// sessions for a while (N28).
func (c *Core) park(k *client, goodbye bool, now time.Time) {
	k.revokeAll()
	c.forgetLookups(k)
	c.paths.Close(k.peer, goodbye, now)
	k.closeAt, k.parked = time.Time{}, now
	c.remind(now.Add(parkFor))
}

// drop forgets a client and all its sessions.
func (c *Core) drop(k *client) {
	c.forgetLookups(k)
	c.farewell(k)
	k.nat.Free()
	delete(c.clients, k.id)
	for _, a := range []netip.Addr{k.addr4, k.addr6} {
		if c.byAddr[a] == k {
			delete(c.byAddr, a)
		}
	}
}

// remind has housekeep run at t. Nothing depends on it being in time: what
// counts is asked for each packet.
func (c *Core) remind(t time.Time) {
	if soonest := c.kept.Add(keepEvery); t.Before(soonest) {
		t = soonest
	}
	c.due = earliest(c.due, t)
}

// housekeep removes what is over.
func (c *Core) housekeep(now time.Time) {
	c.due, c.kept = time.Time{}, now
	for _, k := range c.sortedClients() {
		c.expire(k, now)
		switch {
		case due(k.closeAt, now):
			c.park(k, true, now)
		case !k.closeAt.IsZero():
			c.remind(k.closeAt)
		case k.parkedTooLong(now):
			c.drop(k)
			continue
		case !k.parked.IsZero():
			c.remind(k.parked.Add(parkFor))
		}
		c.repeat(k, now)
	}
}

// expire removes the grants of a client whose time is over.
func (c *Core) expire(k *client, now time.Time) {
	for r, g := range k.grants {
		if !g.valid(now) {
			k.revoke(r)
			continue
		}
		if !g.expires.IsZero() {
			c.remind(g.expires)
		}
	}
	c.revoked(k, now)
}

// expiry converts Unix seconds to the clock that all times here are of.
func (c *Core) expiry(unix int64) time.Time { return c.born.Add(time.Unix(unix, 0).Sub(c.wall)) }
