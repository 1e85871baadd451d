package gateway

import (
	"cmp"
	"container/heap"
	"net/netip"
	"slices"
	"time"

	"stile/tunnel/nat"
)

// How long what is known of a name is good for (7.1). What DNS says about that
// counts between the bounds.
const (
	minPositive = 30 * time.Second
	maxPositive = 300 * time.Second
	minNegative = 5 * time.Second
	maxNegative = 60 * time.Second
	failureLife = 5 * time.Second

	// usedFor is how long after a client's packet its name is in use (N23).
	usedFor = 60 * time.Second
)

// Refreshing takes a few names at a time, so that no packet waits for many.
const (
	refreshStep  = 64
	refreshPause = 2 * time.Millisecond
)

// refreshing are the names of all clients that are in use.
type refreshing struct {
	inUse inUse
	pause time.Time // none is refreshed before
	woken []string  // scratch of awake
}

// inUse are names that their clients sent something to within the last minute,
// and that are not being resolved: a heap, in front the one whose answer is
// over first.
type inUse []*name

func (h inUse) Len() int { return len(h) }
func (h inUse) Less(i, j int) bool {
	return cmp.Or(h[i].over.Compare(h[j].over), h[i].client.id.Compare(h[j].client.id), cmp.Compare(h[i].text, h[j].text)) < 0
}
func (h inUse) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i+1, j+1
}
func (h *inUse) Push(x any) {
	n := x.(*name)
	*h = append(*h, n)
	n.place = len(*h)
}
func (h *inUse) Pop() any {
	last := len(*h) - 1
	n := (*h)[last]
	(*h)[last], *h = nil, (*h)[:last]
	n.place = 0
	return n
}

// next is when the next name is to be refreshed; zero: never.
func (r *refreshing) next() time.Time {
	switch {
	case len(r.inUse) == 0:
		return time.Time{}
	case r.inUse[0].over.Before(r.pause):
		return r.pause
	}
	return r.inUse[0].over
}

// refresh has names resolved anew that are in use and whose answer is over
// (N23). The others are forgotten until they come into use again.
func (c *Core) refresh(now time.Time) {
	r := &c.refreshing
	for range refreshStep {
		if !due(r.next(), now) {
			return
		}
		n := heap.Pop(&r.inUse).(*name)
		if n.client.uses(n, now) {
			c.count(namesRefreshed)
			c.lookUp(n.client, n)
			c.resolve(n.client)
		}
	}
	r.pause = now.Add(refreshPause)
}

// awake takes note of the client's names that came into use.
func (c *Core) awake(k *client, now time.Time) {
	r := &c.refreshing
	r.woken = k.nat.Woken(r.woken[:0])
	for _, text := range r.woken {
		if n := k.names.by[text]; n != nil {
			c.watch(n, now)
		}
	}
	clear(r.woken)
}

// watch has a name refreshed when its answer is over, if it is in use.
func (c *Core) watch(n *name, now time.Time) {
	if n.lookup == nil && n.place == 0 && n.client.uses(n, now) {
		heap.Push(&c.refreshing.inUse, n)
	}
}

// unwatch takes that back.
func (c *Core) unwatch(n *name) {
	if n.place != 0 {
		heap.Remove(&c.refreshing.inUse, n.place-1)
	}
}

// uses reports whether the client sent something to a name lately.
func (k *client) uses(n *name, now time.Time) bool {
	last, _ := k.used(n)
	return !last.IsZero() && now.Sub(last) < usedFor
}

// used returns when the client last sent a packet to a name; ok is false if it
// has no proxy address any more.
func (k *client) used(n *name) (last time.Time, ok bool) {
	for _, s := range n.sets {
		if at, known := k.nat.Used(n.text, s); known {
			ok = true
			if at.After(last) {
				last = at
			}
		}
	}
	return last, ok
}

// lifetime is how long the outcomes of a resolution are good for, as far as
// there are proxy addresses of their families. If there are addresses, they
// say it: that those of the other family are unknown, or none, is common and
// no reason to ask again and again.
func (n *name) lifetime(v4 nat.Outcome, ttl4 time.Duration, v6 nat.Outcome, ttl6 time.Duration) time.Duration {
	positive, other := time.Duration(0), maxNegative
	note := func(o nat.Outcome, ttl time.Duration, family func(netip.Addr) bool) {
		switch {
		case !slices.ContainsFunc(n.sets, func(s []netip.Addr) bool { return slices.ContainsFunc(s, family) }):
		case len(o.Addrs) > 0:
			ttl = min(max(ttl, minPositive), maxPositive)
			positive = min(cmp.Or(positive, ttl), ttl)
		case o.Failed:
			other = failureLife
		default:
			other = min(other, max(ttl, minNegative))
		}
	}
	note(v4, ttl4, netip.Addr.Is4)
	note(v6, ttl6, netip.Addr.Is6)
	return cmp.Or(positive, other)
}
