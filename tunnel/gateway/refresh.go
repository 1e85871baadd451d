package gateway

import (
	"cmp"
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

// refresh has the client's names resolved anew that are in use and were last
// resolved too long ago (N23), and forgets those that no proxy address stands
// for. A name that nobody used is looked at again with each sweep, so that its
// answer is fresh soon after somebody does.
func (c *Core) refresh(k *client, sweep bool, now time.Time) {
	if !sweep && !due(k.names.due, now) {
		return
	}
	k.names.due = time.Time{}
	var stale []*name
	for _, n := range k.names.by {
		switch {
		case n.lookup != nil:
		case now.Before(n.over):
			k.names.due = earliest(k.names.due, n.over)
		default:
			switch used, ok := k.used(n); {
			case !ok:
				delete(k.names.by, n.text)
			case !used.IsZero() && now.Sub(used) < usedFor:
				stale = append(stale, n)
			}
		}
	}
	if !k.names.due.IsZero() {
		c.remind(k.names.due)
	}
	slices.SortFunc(stale, func(a, b *name) int { return cmp.Or(a.over.Compare(b.over), cmp.Compare(a.text, b.text)) })
	for _, n := range stale {
		c.count(namesRefreshed)
		c.lookUp(k, n)
	}
	c.resolve(k)
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
