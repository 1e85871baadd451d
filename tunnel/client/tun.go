package client

import (
	"net/netip"
	"slices"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/policy"
)

// configureRetry is when a configuration is stated again that could not be
// made so.
const configureRetry = 5 * time.Second

// fixedRoutes lead into the tunnel always (23.2).
var fixedRoutes = []netip.Prefix{policy.PeerV4, policy.PeerV6, policy.ProxyV4, policy.ProxyV6, policy.SentinelV4, policy.SentinelV6}

// A tun is how the TUN device shall be, and what was last said about it. One
// statement is in work at a time: a burst of changes costs two, however long
// the list of resources is.
type tun struct {
	search   string
	networks map[id.Resource]netip.Prefix
	routes   []netip.Prefix // sorted; replaced, never changed: engine and reports share it

	changed bool // the wish may differ from last
	stale   bool // routes does not tell of networks
	flush   bool // the system's DNS cache may be wrong
	busy    bool // Configured is awaited
	last    core.TUN
	retry   time.Time // zero: no need
}

func (t *tun) init() {
	t.networks = make(map[id.Resource]netip.Prefix)
	t.stale = true
}

func (t *tun) add(r id.Resource, p netip.Prefix) {
	if t.networks[r] != p {
		t.networks[r] = p
		t.changed, t.stale = true, true
	}
}

func (t *tun) remove(r id.Resource) {
	if _, ok := t.networks[r]; ok {
		delete(t.networks, r)
		t.changed, t.stale = true, true
	}
}

// sortedRoutes returns all prefixes, each once.
func (t *tun) sortedRoutes() []netip.Prefix {
	if t.stale {
		list := make([]netip.Prefix, 0, len(fixedRoutes)+len(t.networks))
		list = append(list, fixedRoutes...)
		for _, p := range t.networks {
			list = append(list, p)
		}
		slices.SortFunc(list, netip.Prefix.Compare)
		t.routes, t.stale = slices.Compact(list), false
	}
	return t.routes
}

// configure states the wish if it has changed, then has the system forget what
// it learned before (23.2: addresses, DNS, routes, flush).
func (c *Core) configure() {
	t := &c.tun
	if t.busy || !c.own4.IsValid() {
		return
	}
	if t.changed {
		t.changed = false
		wish := core.TUN{
			IPv4:         c.own4,
			IPv6:         c.own6,
			Routes:       t.sortedRoutes(),
			Default:      c.internet != nil,
			Sentinels:    c.resolver.Sentinels(),
			SearchDomain: t.search,
		}
		if !wish.Equal(t.last) {
			t.last, t.busy, t.flush = wish, true, true
			t.retry = time.Time{}
			c.act(core.Configure{TUN: wish})
		}
	}
	if t.flush {
		t.flush = false
		c.act(core.Flush{})
	}
}

// configured takes the answer to Configure.
func (c *Core) configured(err error, now time.Time) {
	c.tun.busy = false
	if err != nil {
		c.count(configureFailed)
		c.tun.retry = now.Add(configureRetry)
	}
}

// A saver has the names' proxy addresses stored, all of them at a time: soon
// after a new one, but the more there are, the less often.
type saver struct {
	saved int       // how many names are stored
	due   time.Time // when to store them; zero: nothing new
}

// delay keeps the disk out of the way of the first packets to a new name.
func (s *saver) delay() time.Duration {
	return time.Second + time.Duration(s.saved)*100*time.Microsecond
}

// remember stores the names if there are new ones.
func (c *Core) remember() {
	c.names.due = time.Time{}
	if n := c.resolver.Len(); n > c.names.saved {
		c.names.saved = n
		c.act(core.Remember{Names: c.resolver.Names()})
	}
}
