package gateway

import (
	"cmp"
	"net/netip"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/path"
	"stile/tunnel/policy"
	"stile/tunnel/wire"
)

// Message takes a message of the portal (spec portal.md 3.4).
func (c *Core) Message(m wire.Message, now time.Time) {
	c.now = now
	switch m := m.(type) {
	case wire.GatewayInit:
		c.init(m, now)
	case wire.CreateAuthorization:
		c.authorize(m, now)
	case wire.RejectAccess:
		if k := c.clients[m.Client]; k != nil {
			k.revoke(m.Resource)
			c.revoked(k, now)
		}
	case wire.GatewayResourceUpdated:
		c.update(m.GatewayResource)
	case wire.RelaysPresence:
		c.paths.Relays(m.Disconnected, m.Connected, now)
	case wire.PeerCandidates:
		if m.Invalidate {
			c.paths.RemoveCandidates(id.PeerOf(m.Client), m.Candidates, now)
		} else {
			c.paths.AddCandidates(id.PeerOf(m.Client), m.Candidates, now)
		}
	default:
		c.count(messagesIgnored)
	}
}

// init takes the portal's whole view: what it does not list is revoked, also
// of clients that it does not list at all.
func (c *Core) init(m wire.GatewayInit, now time.Time) {
	c.own4, c.own6 = m.IPv4, m.IPv6
	c.tun.changed = true
	c.paths.Relays(nil, m.Relays, now)

	type pair struct {
		client   id.Client
		resource id.Resource
	}
	listed := make(map[pair]int64, len(m.Authorizations))
	for _, a := range m.Authorizations {
		listed[pair{a.Client, a.Resource}] = a.ExpiresAt
	}
	for _, k := range c.clients {
		k.nat.SetHost(c.own4, c.own6)
		for r, g := range k.grants {
			expires, ok := listed[pair{k.id, r}]
			if !ok {
				k.revoke(r)
				continue
			}
			c.limit(k, g, c.expiry(expires))
		}
		c.revoked(k, now)
	}
}

// limit sets when a grant ends.
func (c *Core) limit(k *client, g *grant, expires time.Time) {
	g.expires = expires
	if g.resource.Type == wire.CIDR {
		k.enter(g)
	}
	if !expires.IsZero() {
		c.remind(expires)
	}
}

// authorize permits a client a resource, makes sure that it is being connected
// to, and tells the portal, which then lets the client begin. What cannot be
// served is not acknowledged: the portal tells the client after a while.
func (c *Core) authorize(m wire.CreateAuthorization, now time.Time) {
	g, ok := newGrant(m.Resource)
	if !ok || m.Iceless || !policy.PeerV4.Contains(m.ClientIPv4) || !policy.PeerV6.Contains(m.ClientIPv6) ||
		m.ClientIPv4 == c.own4 || m.ClientIPv6 == c.own6 {
		c.count(authorizationsInvalid)
		return
	}
	k := c.admit(m.Client, m.ClientIPv4, m.ClientIPv6, now)
	err := c.paths.Upsert(path.Peer{ID: k.peer, Key: m.ClientKey, PSK: m.PresharedKey, Local: m.GatewayICE, Remote: m.ClientICE}, now)
	if err != nil {
		c.count(authorizationsInvalid)
		c.revoked(k, now)
		return
	}
	g.by = grantOf(m)
	k.actor = cmp.Or(g.by.ActorName, k.actor)
	k.allow(g)
	var expires time.Time
	if m.ExpiresAt != 0 {
		expires = c.expiry(m.ExpiresAt)
	}
	c.limit(k, g, expires)
	c.tell(wire.AuthorizationAccepted{Ref: m.Ref})
}

// newGrant reads a resource. A pattern that cannot be read matches no name,
// but a network that cannot be read is refused.
func newGrant(r wire.GatewayResource) (g *grant, ok bool) {
	g = &grant{resource: r, filters: r.Filters}
	switch r.Type {
	case wire.DNS:
		g.pattern, _ = policy.ParsePattern(r.Address)
	case wire.CIDR:
		p, err := netip.ParsePrefix(r.Address)
		if err != nil {
			return nil, false
		}
		g.network = p.Masked()
	case wire.Internet:
		g.filters = nil
	default:
		return nil, false
	}
	return g, true
}

// update replaces the filters of a resource wherever it is granted. Nothing
// else of it changes without a reject_access.
func (c *Core) update(r wire.GatewayResource) {
	for _, k := range c.clients {
		g := k.grants[r.ID]
		switch {
		case g == nil:
		case g.resource.Type != r.Type:
			c.count(updatesRefused)
		case r.Type != wire.Internet:
			g.filters = r.Filters
			if r.Type == wire.CIDR {
				k.enter(g)
			}
		}
	}
}
