package gateway

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/packet"
	"stile/tunnel/policy"
	"stile/tunnel/wire"
)

// Bounds of what a client may announce (7.1).
const (
	maxWaiting = 4096 // announcements that wait for an answer
	maxSets    = 4    // different sets of proxy addresses of one name; the oldest goes
)

// staleReply is how long a client waits for the status of a name that flows
// find their way to anyhow, if DNS is silent (7.1, T_STALE_REPLY). It repeats
// an announcement after two seconds and holds packets meanwhile.
const staleReply = 1800 * time.Millisecond

// names are those that one client announced.
type names struct {
	by      map[string]*name
	list    []*name   // all of them, in no order that counts
	looked  int       // up to where the list was searched for useless ones
	queue   []*lookup // that have not started, first come first
	running int
	waiting int  // announcements without an answer
	starved bool // it waits for a place among all clients' lookups
}

// A name is what a client announced, and how far it is known.
type name struct {
	client *client
	text   string         // lower case, without trailing dot
	sets   [][]netip.Addr // of proxy addresses, each as it was announced and sorted; latest last
	lookup *lookup        // that waits or runs; nil: none
	over   time.Time      // when what is known is to be refreshed, once it was resolved

	listed int // its index in names.list
	place  int // among those in use of all clients, from 1; 0: it is not in there
}

// An announcement is one AssignedIPs that waits for its answer.
type announcement struct {
	resource id.Resource
	domain   string // as the client wrote it
	proxies  []netip.Addr
	answered bool // before the lookup was
}

// assigned takes a client's word for which proxy addresses stand for a name.
// Each announcement has the name resolved anew, unless that is going on (N22).
func (c *Core) assigned(k *client, a wire.AssignedIPs, now time.Time) {
	text := strings.ToLower(strings.TrimSuffix(a.Domain, "."))
	slices.SortFunc(a.ProxyIPs, netip.Addr.Compare)
	if !k.mayAnnounce(a.Resource, text, now) || !validProxies(a.ProxyIPs) {
		c.refuseName(k, a, now)
		return
	}
	if k.names.waiting >= maxWaiting {
		c.count(announcementsDropped) // the client repeats it
		return
	}
	if !k.nat.Announce(text, a.Resource, a.ProxyIPs, now) {
		c.refuseName(k, a, now)
		return
	}
	c.count(announcementsTaken)
	k.names.waiting++
	l := c.lookUp(k, k.name(text).standFor(a.ProxyIPs))
	l.events = append(l.events, announcement{resource: a.Resource, domain: a.Domain, proxies: a.ProxyIPs})
	c.lookups.slow = append(c.lookups.slow, slow{l, len(l.events) - 1, now.Add(staleReply)})
	c.resolve(k)
}

// refuseName says at once that packets to a name will not find their way.
func (c *Core) refuseName(k *client, a wire.AssignedIPs, now time.Time) {
	c.count(announcementsRefused)
	c.reply(k, wire.DomainStatus{Resource: a.Resource, Domain: a.Domain}, now)
}

// mayAnnounce reports whether the client may use a name through a resource.
func (k *client) mayAnnounce(r id.Resource, name string, now time.Time) bool {
	g := k.grants[r]
	return g.valid(now) && g.covers(name)
}

// validProxies checks what would become routes: an address beside the proxy
// ranges would lead traffic astray (N16). The list is sorted.
func validProxies(list []netip.Addr) bool {
	v4, v6 := 0, 0
	for i, a := range list {
		if !policy.IsProxy(a) || i > 0 && a == list[i-1] {
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

// name returns what is known of a name. Each new one has two others looked at,
// so that useless ones are never more than those that count.
func (k *client) name(text string) *name {
	t := &k.names
	if n := t.by[text]; n != nil {
		return n
	}
	k.tidy()
	k.tidy()
	n := &name{client: k, text: text, listed: len(t.list)}
	if t.by == nil {
		t.by = make(map[string]*name)
	}
	t.by[text] = n
	t.list = append(t.list, n)
	return n
}

// tidy forgets one name that no proxy address stands for any more, if the next
// one in the list is such.
func (k *client) tidy() {
	t := &k.names
	if len(t.list) == 0 {
		return
	}
	t.looked %= len(t.list)
	n := t.list[t.looked]
	if _, ok := k.used(n); !ok && n.lookup == nil && n.place == 0 {
		t.forget(n) // another one takes its place in the list
		return
	}
	t.looked++
}

func (t *names) forget(n *name) {
	delete(t.by, n.text)
	last := t.list[len(t.list)-1]
	t.list[n.listed], last.listed = last, n.listed
	t.list[len(t.list)-1] = nil
	t.list = t.list[:len(t.list)-1]
}

// standFor notes a set of proxy addresses. Resources of one address family are
// announced with four of the eight that others have.
func (n *name) standFor(proxies []netip.Addr) *name {
	n.sets = slices.DeleteFunc(n.sets, func(s []netip.Addr) bool { return slices.Equal(s, proxies) })
	n.sets = append(n.sets, proxies)
	n.sets = slices.Delete(n.sets, 0, max(0, len(n.sets)-maxSets))
	return n
}

// hurry answers announcements whose lookup takes its time, if packets to the
// name find their way by an earlier one (N24).
func (c *Core) hurry(now time.Time) {
	for len(c.lookups.slow) > 0 && due(c.lookups.slow[0].due, now) {
		s := c.lookups.slow[0]
		c.lookups.slow[0], c.lookups.slow = slow{}, c.lookups.slow[1:]
		if s.lookup.over {
			continue
		}
		k, n, e := s.lookup.client, s.lookup.name, &s.lookup.events[s.event]
		if k.mayAnnounce(e.resource, n.text, now) && k.nat.Usable(n.text, e.proxies, now) {
			e.answered = true
			c.reply(k, c.status(k, n, e, true, now), now)
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

// status is what to say of an announcement. If the client is to know, it hears
// for which families of addresses flows find their way (O2).
func (c *Core) status(k *client, n *name, e *announcement, active bool, now time.Time) wire.DomainStatus {
	s := wire.DomainStatus{Resource: e.resource, Domain: e.domain, Active: active}
	if active && c.c.TellFamilies {
		split, _ := slices.BinarySearchFunc(e.proxies, netip.IPv6Unspecified(), netip.Addr.Compare)
		s.V4, s.V6 = k.family(n, e.proxies[:split], now), k.family(n, e.proxies[split:], now)
	}
	return s
}

func (k *client) family(n *name, proxies []netip.Addr, now time.Time) wire.Optional {
	switch {
	case len(proxies) == 0:
		return wire.Unsaid
	case k.nat.Usable(n.text, proxies, now):
		return wire.Yes
	}
	return wire.No
}

func (c *Core) reply(k *client, s wire.DomainStatus, now time.Time) {
	c.paths.Control(k.peer, packet.AppendControl(nil, wire.EventDomainStatus, s.Append(nil)), now)
}
