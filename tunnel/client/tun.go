package client

import (
	"fmt"
	"maps"
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
	users    map[netip.Prefix]int // how many resources have it; never 0
	touched  []netip.Prefix       // that routes may be wrong about
	routes   []netip.Prefix       // sorted; replaced, never changed: engine and reports share it

	changed bool // the wish may differ from last
	flush   bool // the system's DNS cache may be wrong
	busy    bool // Configured is awaited
	last    core.TUN
	retry   time.Time // zero: no need
}

func (t *tun) init() {
	t.networks = make(map[id.Resource]netip.Prefix)
	t.users = make(map[netip.Prefix]int)
	t.routes = slices.SortedFunc(slices.Values(fixedRoutes), netip.Prefix.Compare)
}

func (t *tun) add(r id.Resource, p netip.Prefix) {
	if t.networks[r] == p {
		return
	}
	t.remove(r)
	t.networks[r] = p
	t.users[p]++
	t.touch(p)
}

func (t *tun) remove(r id.Resource) {
	p, ok := t.networks[r]
	if !ok {
		return
	}
	delete(t.networks, r)
	if t.users[p]--; t.users[p] == 0 {
		delete(t.users, p)
	}
	t.touch(p)
}

func (t *tun) touch(p netip.Prefix) {
	t.touched = append(t.touched, p)
	t.changed = true
}

// fewTouched is up to how many changes to a long list are cheaper one by one.
const fewTouched = 64

// sortedRoutes returns all prefixes, each once. The fixed ones are no
// resource's.
func (t *tun) sortedRoutes() []netip.Prefix {
	switch {
	case len(t.touched) > fewTouched:
		t.routes = slices.AppendSeq(slices.Clone(fixedRoutes), maps.Keys(t.users))
		slices.SortFunc(t.routes, netip.Prefix.Compare)
	case len(t.touched) > 0:
		t.routes = slices.Clone(t.routes)
		for _, p := range t.touched {
			i, there := slices.BinarySearchFunc(t.routes, p, netip.Prefix.Compare)
			switch wanted := t.users[p] > 0; {
			case wanted && !there:
				t.routes = slices.Insert(t.routes, i, p)
			case there && !wanted:
				t.routes = slices.Delete(t.routes, i, i+1)
			}
		}
	}
	t.touched = nil
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
			c.note(core.Note{What: "configuration asked", Reason: fmt.Sprintf("%d routes, default %t, sentinels %v", len(wish.Routes), wish.Default, wish.Sentinels)})
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
	if err == nil {
		c.note(core.Note{What: "configuration done"})
	} else {
		c.note(core.Note{What: "configuration failed", Reason: err.Error()})
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
