// Package policy answers "who may this reach": which resource an address
// belongs to, whether its filters let a packet through, and which names a
// pattern covers.
//
// It knows nothing about connections or names on the wire; a client and a
// gateway each fill tables of their own.
package policy

import "net/netip"

// The address plan of the tunnel (spec client-dns.md 1, gateway-nat.md 1.1).
// All of it is part of the protocol, not configuration.
var (
	// PeerV4 and PeerV6 hold the tunnel addresses of clients and gateways.
	PeerV4 = netip.MustParsePrefix("100.64.0.0/11")
	PeerV6 = netip.MustParsePrefix("fd00:2021:1111::/107")
	// ProxyV4 and ProxyV6 hold the proxy addresses of DNS resources.
	ProxyV4 = netip.MustParsePrefix("100.96.0.0/11")
	ProxyV6 = netip.MustParsePrefix("fd00:2021:1111:8000::/107")
	// SentinelV4 and SentinelV6 hold the resolver addresses a client owns. The
	// first lies inside ProxyV4, the second outside ProxyV6.
	SentinelV4 = netip.MustParsePrefix("100.100.111.0/24")
	SentinelV6 = netip.MustParsePrefix("fd00:2021:1111:8000:100:100:111:0/120")
)

// IsPeer reports whether a may be the tunnel address of a client or gateway.
func IsPeer(a netip.Addr) bool { return PeerV4.Contains(a) || PeerV6.Contains(a) }

// IsProxy reports whether a may stand for a DNS resource: sentinels may not.
func IsProxy(a netip.Addr) bool {
	return (ProxyV4.Contains(a) || ProxyV6.Contains(a)) && !IsSentinel(a)
}

// IsSentinel reports whether a may be a resolver address of a client.
func IsSentinel(a netip.Addr) bool { return SentinelV4.Contains(a) || SentinelV6.Contains(a) }

// noInternet are the ranges that the Internet resource never covers (spec
// gateway-nat.md 1.4).
var noInternet = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16",
	"224.0.0.0/4", "240.0.0.0/4",
	"::/127", "::ffff:0:0/96", "fc00::/7", "fe80::/10", "ff00::/8",
)

// IsInternet reports whether the Internet resource covers a: neither private,
// local, shared, multicast nor reserved.
func IsInternet(a netip.Addr) bool { return !within(noInternet, a) }

// unusable are the ranges that no name may point a gateway at (spec
// gateway-nat.md N19). Private addresses are usable: they are what a gateway
// is for.
var unusable = prefixes(
	"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4",
	"::/127", "::ffff:0:0/96", "fe80::/10", "ff00::/8",
)

// linkLocal are the ranges of addresses that mean something on one link only.
var linkLocal = prefixes("169.254.0.0/16", "fe80::/10")

// IsLinkLocal reports whether a is such an address. Some clouds have their
// metadata services there, which hand out credentials to whoever asks.
func IsLinkLocal(a netip.Addr) bool { return within(linkLocal, a) }

// IsUsable reports whether a may be the real address of a DNS resource. The
// tunnel's own ranges are not, nor are loopback, link-local and the like.
func IsUsable(a netip.Addr) bool {
	return a.IsValid() && !within(unusable, a) && !IsPeer(a) && !ProxyV4.Contains(a) && !ProxyV6.Contains(a) && !IsSentinel(a)
}

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, t := range texts {
		list[i] = netip.MustParsePrefix(t)
	}
	return list
}

// within does not see through IPv4-mapped addresses: ::ffff:0:0/96 is a range
// like any other.
func within(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
