package gateway

import (
	"net/netip"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/packet"
	"stile/tunnel/policy"
)

// judge says whether packets between the client and a resource's end may
// pass: addr is the proxy address or, for traffic that is not translated, the
// real one; port is the resource's. The result is passed and the resource that
// permits it, or the reason to drop and the resource that might have, if there
// is one.
//
// Filters are asked for every packet and in both directions (N27). The most
// specific resource that permits wins, the Internet comes last (N46).
func (k *client) judge(addr netip.Addr, proto packet.Proto, port uint16, now time.Time) (id.Resource, counter) {
	switch {
	case policy.IsPeer(addr), policy.IsSentinel(addr):
		return id.Resource{}, dropNotAllowed
	case policy.IsProxy(addr):
		return k.judgeProxy(addr, proto, port, now)
	}
	e, verdict := k.networks.Find(addr, proto, port, now)
	switch internet := k.internet.valid(now); {
	case verdict == policy.Permitted:
		return e.Resource, passed
	case internet && policy.IsInternet(addr):
		return k.internet.resource.ID, passed
	case verdict == policy.Denied:
		return e.Resource, dropFiltered
	case internet:
		return k.internet.resource.ID, dropNotInternet
	}
	return id.Resource{}, dropNotAllowed
}

// judgeProxy asks all resources that were announced with the address (N26).
func (k *client) judgeProxy(addr netip.Addr, proto packet.Proto, port uint16, now time.Time) (which id.Resource, reason counter) {
	resources, ok := k.nat.Resources(addr)
	if !ok {
		return which, dropNoBinding
	}
	reason = dropExpired
	for _, r := range resources {
		switch g := k.grants[r]; {
		case !g.valid(now):
			if which.IsZero() {
				which = r
			}
		case g.filters.Permits(proto, port):
			return r, passed
		default:
			which, reason = r, dropFiltered
		}
	}
	return which, reason
}

// reaches reports whether the client is authorized for something at addr,
// whatever its filters: they do not apply to ICMP errors (1.4).
func (k *client) reaches(addr netip.Addr, now time.Time) bool {
	switch {
	case policy.IsPeer(addr), policy.IsSentinel(addr):
		return false
	case policy.IsProxy(addr):
		resources, _ := k.nat.Resources(addr)
		for _, r := range resources {
			if k.grants[r].valid(now) {
				return true
			}
		}
		return false
	}
	if _, verdict := k.networks.Find(addr, 0, 0, now); verdict != policy.None {
		return true
	}
	return k.internet.valid(now) && policy.IsInternet(addr)
}
