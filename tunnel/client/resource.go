package client

import (
	"net/netip"
	"slices"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/policy"
	"stile/tunnel/resolver"
	"stile/tunnel/wire"
)

// A resource is one that the portal says we may reach. What it is found by
// depends on its type: a DNS resource is in the resolver, a network in
// Core.networks, the Internet in Core.internet, and others are shown only.
type resource struct {
	wire.Resource
	pattern policy.Pattern // of a DNS resource; zero if the portal's is malformed
	prefix  netip.Prefix   // of a CIDR resource; invalid if the portal's is malformed

	gateway  *gateway  // where it is authorized; nil: nowhere
	request  *request  // what waits for an authorization; nil: nothing
	asked    time.Time // when the portal was last asked; zero: never on this network
	notified bool      // the user was told that it cannot be reached

	refusal Refusal   // the portal's last word; zero At: none since it granted access
	seen    time.Time // when programs last sent a packet for it
	broke   time.Time // when its last connection failed; zero: never
}

// parse reads the address. One that is malformed makes the resource
// unreachable, not the session fail (12.1).
func (r *resource) parse(skipped *uint64) {
	var err error
	switch r.Type {
	case wire.DNS:
		r.pattern, err = policy.ParsePattern(r.Address)
	case wire.CIDR:
		r.prefix, err = netip.ParsePrefix(r.Address)
		if p := r.prefix; err == nil && (p.Bits() == 0 || p.Addr().Is4In6() || ours(p)) {
			r.prefix = netip.Prefix{}
			*skipped++
			return
		}
		r.prefix = r.prefix.Masked()
	}
	if err != nil {
		*skipped++
	}
}

// ours reports whether p would take packets away from the tunnel's own ranges.
func ours(p netip.Prefix) bool {
	return policy.PeerV4.Overlaps(p) || policy.PeerV6.Overlaps(p) || policy.ProxyV4.Overlaps(p) || policy.ProxyV6.Overlaps(p) || policy.SentinelV6.Overlaps(p)
}

// setResources replaces the list (spec portal.md 3.2, init). What is the same
// as before is not touched.
func (c *Core) setResources(list []wire.Resource, now time.Time) {
	listed := make(map[id.Resource]bool, len(list))
	for _, r := range list {
		listed[r.ID] = true
	}
	for _, r := range c.sortedResources() {
		if !listed[r.ID] {
			c.removeResource(r, now)
		}
	}
	for _, r := range list {
		c.upsertResource(r, now)
	}
}

// upsertResource adds a resource or changes it. A change of what it is takes
// its authorization away, as the gateway's view of it has gone, too; filters
// change in place on both sides, and names are for people only.
func (c *Core) upsertResource(w wire.Resource, now time.Time) {
	r := c.resources[w.ID]
	switch {
	case r == nil:
	case !sameReach(r.Resource, w):
		c.removeResource(r, now)
		r = nil
	case slices.Equal(r.Filters, w.Filters):
		r.Resource = w
		return
	}
	if r == nil {
		r = &resource{}
		c.resources[w.ID] = r
	}
	r.Resource = w
	r.parse(&c.counts[resourcesSkipped])
	switch {
	case !r.pattern.IsZero():
		c.resolver.Upsert(resolver.Resource{ID: r.ID, Pattern: r.pattern, Stack: r.IPStack, Filters: r.Filters})
	case r.prefix.IsValid():
		c.networks.Add(policy.Entry{Prefix: r.prefix, Resource: r.ID, Filters: r.Filters})
		c.tun.add(r.ID, r.prefix)
	case r.Type == wire.Internet:
		c.chooseInternet(now)
	}
	c.tun.flush = true
}

// sameReach reports whether two versions of a resource lead to the same place.
func sameReach(a, b wire.Resource) bool {
	stack := func(r wire.Resource) wire.IPStack {
		if r.IPStack == "" {
			return wire.Dual
		}
		return r.IPStack
	}
	return a.Type == b.Type && a.Address == b.Address && stack(a) == stack(b) &&
		slices.EqualFunc(a.Sites, b.Sites, func(s, t wire.Site) bool { return s.ID == t.ID })
}

func (c *Core) removeResource(r *resource, now time.Time) {
	c.dropRequest(r)
	c.detach(r, now)
	c.resolver.Remove(r.ID)
	c.networks.RemoveResource(r.ID)
	c.tun.remove(r.ID)
	delete(c.resources, r.ID)
	if r.Type == wire.Internet {
		c.chooseInternet(now)
	}
	c.tun.flush = true
}

// chooseInternet makes the Internet resource active if the user wants it and
// the portal lists one.
func (c *Core) chooseInternet(now time.Time) {
	var best *resource
	for _, r := range c.resources {
		if c.internetOn && r.Type == wire.Internet && (best == nil || r.ID.Compare(best.ID) > 0) {
			best = r
		}
	}
	if best == c.internet {
		return
	}
	if c.internet != nil {
		c.dropRequest(c.internet)
		c.detach(c.internet, now)
	}
	c.internet = best
	c.tun.changed, c.tun.flush = true, true
}

func (c *Core) sortedResources() []*resource {
	list := make([]*resource, 0, len(c.resources))
	for _, r := range c.resources {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b *resource) int { return a.ID.Compare(b.ID) })
	return list
}
