package resolver

import (
	"net/netip"
	"slices"
	"time"

	"stile/tunnel/policy"
	"stile/tunnel/wire"
)

// emptyGrace is how long a mapping outlives the last system resolver: while
// the machine moves to another network it may have none for a moment (2.2).
const emptyGrace = 5 * time.Second

// A kind is where an upstream comes from; it decides how it is asked (9.1).
type kind uint8

const (
	system kind = iota // plain DNS, asked outside the tunnel
	do53               // plain DNS named by the portal, maybe behind the tunnel
	doh                // DNS over HTTPS named by the portal
)

// An upstream is a real resolver. Upstreams are comparable.
type upstream struct {
	kind   kind
	server netip.AddrPort // of system and do53
	url    string         // of doh
}

// A mapping gives each upstream in effect a sentinel.
type mapping struct {
	portal  wire.Interface
	joined  bool // portal is known
	servers []netip.AddrPort

	upstreams []upstream              // in effect
	sentinels []netip.Addr            // theirs, in the same order; the last upstreams may have none
	bySent    map[netip.Addr]upstream // upstreams by their sentinels
	former    []netip.Addr            // sentinels of the last mapping that had any
	emptyDue  time.Time               // when to believe that there are no upstreams; zero: not in question
}

// SetSystem takes the operating system's resolvers, in order.
func (r *Resolver) SetSystem(servers []netip.AddrPort, now time.Time) {
	r.servers = slices.Clone(servers)
	r.remap(now)
}

// SetPortal takes the portal's configuration: its resolvers, if it names any,
// and our own tunnel addresses, which cannot be upstreams.
func (r *Resolver) SetPortal(i wire.Interface, now time.Time) {
	r.portal, r.joined = i, true
	r.remap(now)
}

// Sentinels returns the resolver addresses the system shall use, in the order
// of their upstreams. The slice is not to be changed.
func (r *Resolver) Sentinels() []netip.Addr { return r.sentinels }

// Next returns when Advance is due; zero: never.
func (r *Resolver) Next() time.Time { return r.emptyDue }

// Advance gives the mapping up if there has been no upstream for long enough.
func (r *Resolver) Advance(now time.Time) {
	if !r.emptyDue.IsZero() && !now.Before(r.emptyDue) {
		r.adopt(nil)
	}
}

func (r *Resolver) upstreamOf(sentinel netip.Addr) (upstream, bool) {
	u, ok := r.bySent[sentinel]
	return u, ok
}

// remap computes which upstreams are in effect and adopts them if they are
// others than before. Another order is no change (3).
func (r *Resolver) remap(now time.Time) {
	if !r.joined {
		return
	}
	effective := r.effective()
	switch {
	case len(effective) == 0 && len(r.upstreams) > 0 && r.upstreams[0].kind == system:
		if r.emptyDue.IsZero() {
			r.emptyDue = now.Add(emptyGrace)
		}
	case sameSet(effective, r.upstreams):
		r.emptyDue = time.Time{}
	default:
		r.adopt(effective)
	}
}

// effective is the table of 2.2.
func (r *Resolver) effective() []upstream {
	var list []upstream
	plain := r.portal.UpstreamDo53
	if len(plain) == 0 {
		for _, legacy := range r.portal.UpstreamDNS {
			plain = append(plain, legacy.Addr())
		}
	}
	for _, a := range plain {
		list = r.clean(list, upstream{kind: do53, server: netip.AddrPortFrom(a, 53)})
	}
	if len(list) > 0 {
		return list
	}
	for _, url := range r.portal.UpstreamDoH {
		list = r.clean(list, upstream{kind: doh, url: url})
	}
	if len(list) > 0 {
		return list
	}
	for _, s := range r.servers {
		list = r.clean(list, upstream{kind: system, server: s})
	}
	return list
}

// clean appends u to list unless it is one of ours, nobody's, or there.
func (r *Resolver) clean(list []upstream, u upstream) []upstream {
	if u.kind != doh {
		a := u.server.Addr().Unmap()
		u.server = netip.AddrPortFrom(a, u.server.Port())
		if !a.IsValid() || a.IsUnspecified() || policy.IsSentinel(a.WithZone("")) || a == r.portal.IPv4 || a == r.portal.IPv6 {
			return list
		}
	}
	if slices.Contains(list, u) {
		return list
	}
	return append(list, u)
}

// adopt replaces the mapping. No sentinel of the one before is used again:
// what programs remember about a server must not reach another one (3).
func (r *Resolver) adopt(effective []upstream) {
	if len(r.sentinels) > 0 {
		r.former = r.sentinels
	}
	r.emptyDue = time.Time{}
	r.upstreams, r.sentinels, r.bySent = effective, nil, make(map[netip.Addr]upstream)
	next4, next6 := policy.SentinelV4.Addr().Next(), policy.SentinelV6.Addr()
	for _, u := range effective {
		next, pool := &next4, policy.SentinelV4
		if u.server.Addr().Is6() {
			next, pool = &next6, policy.SentinelV6
		}
		for slices.Contains(r.former, *next) {
			*next = next.Next()
		}
		if !pool.Contains(*next) || pool.Addr().Is4() && !pool.Contains(next.Next()) { // the last one is for broadcast
			r.counts[upstreamsSkipped]++
			continue
		}
		r.sentinels = append(r.sentinels, *next)
		r.bySent[*next] = u
		*next = next.Next()
	}
}

func sameSet(a, b []upstream) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(u upstream) bool { return !slices.Contains(b, u) })
}
