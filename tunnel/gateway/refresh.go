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

// inUse are a client's names that it sent something to within the last minute,
// and that are not being resolved: a heap, in front the one whose answer is
// over first.
type inUse []*name

func (h inUse) Len() int { return len(h) }
func (h inUse) Less(i, j int) bool {
	return cmp.Or(h[i].over.Compare(h[j].over), cmp.Compare(h[i].text, h[j].text)) < 0
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

// refresh has the client's names resolved anew that are in use and whose answer
// is over (N23).
func (c *Core) refresh(k *client, now time.Time) {
	t := &k.names
	for len(t.inUse) > 0 && due(t.inUse[0].over, now) {
		n := heap.Pop(&t.inUse).(*name)
		if k.uses(n, now) {
			c.count(namesRefreshed)
			c.lookUp(k, n)
		}
	}
	if len(t.inUse) > 0 {
		c.remind(t.inUse[0].over)
	}
	c.resolve(k)
}

// awake takes note of the client's names that came into use, and has those
// resolved whose answer was over before.
func (c *Core) awake(k *client, now time.Time) {
	c.woken = k.nat.Woken(c.woken[:0])
	for _, text := range c.woken {
		if n := k.names.by[text]; n != nil {
			c.watch(k, n, now)
		}
	}
	clear(c.woken)
	c.refresh(k, now)
}

// watch has a name refreshed when its answer is over, if it is in use.
func (c *Core) watch(k *client, n *name, now time.Time) {
	if n.lookup == nil && n.place == 0 && k.uses(n, now) {
		heap.Push(&k.names.inUse, n)
		c.remind(n.over)
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
