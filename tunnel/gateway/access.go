package gateway

import (
	"net/netip"
	"time"

	"stile/tunnel/packet"
	"stile/tunnel/policy"
)

// judge says whether packets between the client and a resource's end may
// pass: addr is the proxy address or, for traffic that is not translated, the
// real one; port is the resource's. The result is passed, or the reason to
// drop.
//
// Filters are asked for every packet and in both directions (N27). The most
// specific resource that permits wins, the Internet comes last (N46).
func (k *client) judge(addr netip.Addr, proto packet.Proto, port uint16, now time.Time) counter {
	switch {
	case policy.IsPeer(addr), policy.IsSentinel(addr):
		return dropNotAllowed
	case policy.IsProxy(addr):
		return k.judgeProxy(addr, proto, port, now)
	}
	_, verdict := k.networks.Find(addr, proto, port, now)
	switch internet := k.internet.valid(now); {
	case verdict == policy.Permitted:
		return passed
	case internet && policy.IsInternet(addr):
		return passed
	case verdict == policy.Denied:
		return dropFiltered
	case internet:
		return dropNotInternet
	}
	return dropNotAllowed
}

// judgeProxy asks all resources that were announced with the address (N26).
func (k *client) judgeProxy(addr netip.Addr, proto packet.Proto, port uint16, now time.Time) counter {
	resources, ok := k.nat.Resources(addr)
	if !ok {
		return dropNoBinding
	}
	reason := dropExpired
	for _, r := range resources {
		switch g := k.grants[r]; {
		case !g.valid(now):
		case g.filters.Permits(proto, port):
			return passed
		default:
			reason = dropFiltered
		}
	}
	return reason
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
