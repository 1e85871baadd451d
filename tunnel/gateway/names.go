package gateway

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/nat"
	"stile/tunnel/packet"
	"stile/tunnel/policy"
	"stile/tunnel/wire"
)

// Bounds of resolving (7.1).
const (
	maxLookups          = 1000 // at a time
	maxLookupsPerClient = 64   // at a time; more wait
	maxNamesWaiting     = 4096 // per client
	maxJoined           = 64   // announcements that wait for one resolution
)

// staleReply is how long a client waits for the status of a name that flows
// find their way to anyhow, if DNS is silent (7.1, T_STALE_REPLY). It repeats
// an announcement after two seconds and holds packets meanwhile.
const staleReply = 1800 * time.Millisecond

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

// resolving are the names of one client that are being resolved.
type resolving struct {
	by      map[string]*lookup
	waiting []*lookup
	running int
	starved bool
}

// A lookup resolves one name for one client, and all announcements of it that
// arrive meanwhile.
type lookup struct {
	client *client
	name   string // lower case, without trailing dot
	events []announcement
	began  time.Time
}

// An announcement is one AssignedIPs that waits for its answer.
type announcement struct {
	resource id.Resource
	domain   string // as the client wrote it
	proxies  []netip.Addr
	answered bool // before the lookup was
}

// assigned takes a client's word for which proxy addresses stand for a name.
// Each announcement has the name resolved anew, unless that is going on.
func (c *Core) assigned(k *client, a wire.AssignedIPs, now time.Time) {
	name := strings.ToLower(strings.TrimSuffix(a.Domain, "."))
	if !k.mayAnnounce(a.Resource, name, now) || !validProxies(a.ProxyIPs) {
		c.count(announcementsRefused)
		c.reply(k, a.Resource, a.Domain, false, now)
		return
	}
	l := k.resolving.by[name]
	if l != nil && len(l.events) >= maxJoined || l == nil && len(k.resolving.waiting) >= maxNamesWaiting {
		c.count(announcementsDropped)
		return
	}
	if !k.nat.Announce(name, a.Resource, a.ProxyIPs, now) {
		c.count(announcementsRefused)
		c.reply(k, a.Resource, a.Domain, false, now)
		return
	}
	if l == nil {
		l = &lookup{client: k, name: name}
		if k.resolving.by == nil {
			k.resolving.by = make(map[string]*lookup)
		}
		k.resolving.by[name] = l
		k.resolving.waiting = append(k.resolving.waiting, l)
	}
	c.count(announcementsTaken)
	l.events = append(l.events, announcement{resource: a.Resource, domain: a.Domain, proxies: a.ProxyIPs})
	c.lookups.slow = append(c.lookups.slow, slow{l, len(l.events) - 1, now.Add(staleReply)})
	c.resolve(k)
}

// hurry answers announcements whose lookup takes its time, if packets to the
// name find their way by an earlier one (N24).
func (c *Core) hurry(now time.Time) {
	for len(c.lookups.slow) > 0 && due(c.lookups.slow[0].due, now) {
		s := c.lookups.slow[0]
		c.lookups.slow[0], c.lookups.slow = slow{}, c.lookups.slow[1:]
		k, e := s.lookup.client, &s.lookup.events[s.event]
		if k.resolving.by[s.lookup.name] != s.lookup { // it is done, or its client is gone
			continue
		}
		if k.mayAnnounce(e.resource, s.lookup.name, now) && k.nat.Usable(s.lookup.name, e.proxies, now) {
			e.answered = true
			c.reply(k, e.resource, e.domain, true, now)
		}
	}
}

// slowDue is when the next announcement may have to be answered.
func (c *Core) slowDue() time.Time {
	if len(c.lookups.slow) == 0 {
		return time.Time{}
	}
	return c.lookups.slow[0].due
}

// mayAnnounce reports whether the client may use a name through a resource.
func (k *client) mayAnnounce(r id.Resource, name string, now time.Time) bool {
	g := k.grants[r]
	return g.valid(now) && g.covers(name)
}

// validProxies checks what would become routes: an address beside the proxy
// ranges would lead traffic astray (N16).
func validProxies(list []netip.Addr) bool {
	v4, v6 := 0, 0
	for i, a := range list {
		if !policy.IsProxy(a) || slices.Contains(list[:i], a) {
			return false
		}
		if a.Is4() {
			v4++
		} else {
			v6++
		}
	}
	return (v4 == 4 || v6 == 4) && (v4 == 0 || v4 == 4) && (v6 == 0 || v6 == 4)
}

// resolve starts the client's waiting lookups as far as the bounds allow.
func (c *Core) resolve(k *client) {
	r := &k.resolving
	for len(r.waiting) > 0 && r.running < maxLookupsPerClient {
		if len(c.lookups.by) >= maxLookups {
			if !r.starved {
				r.starved = true
				c.lookups.starved = append(c.lookups.starved, k)
			}
			return
		}
		c.start(k)
	}
}

// start starts the first of the client's waiting lookups.
func (c *Core) start(k *client) {
	l := k.resolving.waiting[0]
	k.resolving.waiting = slices.Delete(k.resolving.waiting, 0, 1)
	k.resolving.running++
	c.lookups.last++
	c.lookups.by[c.lookups.last] = l
	l.began = c.now
	c.act(core.Lookup{ID: c.lookups.last, Name: l.name})
}

// feed gives the place of a lookup that ended to the client that has waited
// longest, one name at a time.
func (c *Core) feed() {
	for len(c.lookups.starved) > 0 && len(c.lookups.by) < maxLookups {
		k := c.lookups.starved[0]
		c.lookups.starved = slices.Delete(c.lookups.starved, 0, 1)
		k.resolving.starved = false
		if len(k.resolving.waiting) == 0 || k.resolving.running >= maxLookupsPerClient {
			continue
		}
		c.start(k)
		if len(k.resolving.waiting) > 0 {
			k.resolving.starved = true
			c.lookups.starved = append(c.lookups.starved, k)
		}
	}
}

// looked applies the result of a lookup and answers all announcements that
// wait for it. If neither family could be resolved, nothing changes, and a name
// that packets still find their way to stays active: a client holds up the
// flows of one that is not (N24).
func (c *Core) looked(r core.Looked, now time.Time) {
	l := c.lookups.by[r.ID]
	if l == nil {
		return // its client is gone
	}
	delete(c.lookups.by, r.ID)
	k := l.client
	k.resolving.running--
	delete(k.resolving.by, l.name)
	c.lookups.record.add(r, now.Sub(l.began))

	resolved := r.Err4 == nil || r.Err6 == nil
	if !resolved {
		c.count(lookupsFailed)
	}
	v4, v6 := c.outcome(r.V4, r.Err4, netip.Addr.Is4), c.outcome(r.V6, r.Err6, netip.Addr.Is6)
	for _, e := range l.events {
		active := k.mayAnnounce(e.resource, l.name, now)
		switch {
		case !active:
		case resolved:
			k.nat.Answer(l.name, e.proxies, v4, v6, now)
		default: // a lookup that failed says nothing about the addresses known before (N20)
			active = k.nat.Usable(l.name, e.proxies, now)
		}
		if !e.answered {
			c.reply(k, e.resource, e.domain, active, now)
		}
	}
	c.feed()
	c.resolve(k)
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

// reply tells the client whether packets to a name will find their way.
func (c *Core) reply(k *client, r id.Resource, domain string, active bool, now time.Time) {
	payload := wire.DomainStatus{Resource: r, Domain: domain, Active: active}.Append(nil)
	c.paths.Control(k.peer, packet.AppendControl(nil, wire.EventDomainStatus, payload), now)
}

// forgetLookups detaches what is being resolved for a client that left: a late
// result must not overwrite what it learns after it came back (N21, N22).
func (c *Core) forgetLookups(k *client) {
	for id, l := range c.lookups.by {
		if l.client == k {
			delete(c.lookups.by, id)
		}
	}
	c.lookups.starved = slices.DeleteFunc(c.lookups.starved, func(s *client) bool { return s == k })
	k.resolving = resolving{}
	c.feed()
}
