package gateway

import (
	"net/netip"
	"slices"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/nat"
	"stile/tunnel/policy"
)

// Bounds of resolving (7.1).
const (
	maxLookups          = 1000 // at a time
	maxLookupsPerClient = 64   // at a time; more wait
)

// lookups are the resolutions that run for all clients.
type lookups struct {
	by      map[uint64]*lookup
	last    uint64
	starved []*client // whose lookups wait because too many run, first come first
	slow    []slow    // announcements in the order of their arrival, answered or not
	record  record
}

// A slow is an announcement that may have to be answered before its lookup.
type slow struct {
	lookup *lookup
	event  int // its index in there
	due    time.Time
}

// A lookup resolves one name for one client, and all announcements of it that
// arrive meanwhile.
type lookup struct {
	client *client
	name   *name
	events []announcement
	began  time.Time
	over   bool // it is answered, or nobody waits for it any more
}

// lookUp returns the name's lookup. A new one waits for its turn until resolve.
func (c *Core) lookUp(k *client, n *name) *lookup {
	if n.lookup == nil {
		c.unwatch(n)
		n.lookup = &lookup{client: k, name: n}
		k.names.queue = append(k.names.queue, n.lookup)
	}
	return n.lookup
}

// resolve starts the client's waiting lookups as far as the bounds allow.
func (c *Core) resolve(k *client) {
	t := &k.names
	for len(t.queue) > 0 && t.running < maxLookupsPerClient {
		if len(c.lookups.by) >= maxLookups {
			if !t.starved {
				t.starved = true
				c.lookups.starved = append(c.lookups.starved, k)
			}
			return
		}
		c.start(k)
	}
}

// start starts the first of the client's waiting lookups.
func (c *Core) start(k *client) {
	l := k.names.queue[0]
	k.names.queue[0], k.names.queue = nil, k.names.queue[1:]
	k.names.running++
	c.lookups.last++
	c.lookups.by[c.lookups.last] = l
	l.began = c.now
	c.act(core.Lookup{ID: c.lookups.last, Name: l.name.text})
}

// feed gives the place of a lookup that ended to the client that has waited
// longest, one name at a time.
func (c *Core) feed() {
	for len(c.lookups.starved) > 0 && len(c.lookups.by) < maxLookups {
		k := c.lookups.starved[0]
		c.lookups.starved = slices.Delete(c.lookups.starved, 0, 1)
		k.names.starved = false
		if len(k.names.queue) == 0 || k.names.running >= maxLookupsPerClient {
			continue
		}
		c.start(k)
		if len(k.names.queue) > 0 {
			k.names.starved = true
			c.lookups.starved = append(c.lookups.starved, k)
		}
	}
}

// looked applies the result of a lookup and answers all announcements that wait
// for it. Of a family that could not be resolved, nothing changes, and a name
// that packets still find their way to stays active: a client holds up the
// flows of one that is not (N24).
func (c *Core) looked(r core.Looked, now time.Time) {
	l := c.lookups.by[r.ID]
	if l == nil {
		return // its client is gone
	}
	delete(c.lookups.by, r.ID)
	k, n := l.client, l.name
	l.over, n.lookup = true, nil
	c.lookups.record.add(r, now.Sub(l.began))
	k.names.running--
	k.names.waiting -= len(l.events)

	resolved := r.Err4 == nil || r.Err6 == nil
	if !resolved {
		c.count(lookupsFailed)
	}
	v4, v6 := c.outcome(r.V4, r.Err4, netip.Addr.Is4), c.outcome(r.V6, r.Err6, netip.Addr.Is6)
	for _, s := range n.sets {
		if k.entitled(n, s, now) {
			k.nat.Answer(n.text, s, v4, v6, now)
		}
	}
	for i := range l.events {
		e := &l.events[i]
		active := k.mayAnnounce(e.resource, n.text, now) && (resolved || k.nat.Usable(n.text, e.proxies, now))
		if !e.answered {
			c.reply(k, c.status(k, n, e, active, now), now)
		}
	}
	n.over = now.Add(n.lifetime(v4, r.TTL4, v6, r.TTL6))
	c.watch(n, now)
	c.feed()
	c.resolve(k)
}

// entitled reports whether the client may use a name at proxy addresses that
// were announced for it together. What is resolved for a resource that is gone
// counts no more (N21).
func (k *client) entitled(n *name, proxies []netip.Addr, now time.Time) bool {
	for _, p := range proxies {
		resources, _ := k.nat.Resources(p)
		for _, r := range resources {
			if k.mayAnnounce(r, n.text, now) {
				return true
			}
		}
	}
	return false
}

// outcome keeps the addresses of a family that traffic may go to (N19).
func (c *Core) outcome(list []netip.Addr, err error, family func(netip.Addr) bool) nat.Outcome {
	o := nat.Outcome{Failed: err != nil}
	if err != nil {
		return o
	}
	for _, a := range list {
		if a = a.WithZone(""); family(a) && c.usable(a) {
			o.Addrs = append(o.Addrs, a)
		}
	}
	return o
}

// usable reports whether a name may point at an address. An administrator may
// say so of link-local ones.
func (c *Core) usable(a netip.Addr) bool {
	return policy.IsUsable(a) || policy.IsLinkLocal(a) && slices.ContainsFunc(c.c.LinkLocal, func(p netip.Prefix) bool { return p.Contains(a) })
}

// forgetLookups detaches what is being resolved for a client that left, and what
// it announced: a late result must not overwrite what it learns after it came
// back (N21, N22).
func (c *Core) forgetLookups(k *client) {
	for id, l := range c.lookups.by {
		if l.client == k {
			delete(c.lookups.by, id)
		}
	}
	for _, n := range k.names.list {
		c.unwatch(n)
		if n.lookup != nil {
			n.lookup.over = true
		}
	}
	c.lookups.starved = slices.DeleteFunc(c.lookups.starved, func(s *client) bool { return s == k })
	k.names = names{}
	c.feed()
}
