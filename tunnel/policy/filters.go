package policy

import (
	"stile/tunnel/packet"
	"stile/tunnel/wire"
)

// Filters are what a resource lets through. The empty list lets everything
// through; another one is an allow-list.
type Filters []wire.Filter

// Permits reports whether packets of proto to the resource's port, or replies
// from it, may pass. The port counts for TCP and UDP only. A filter for ICMP
// covers ICMP and ICMPv6 of every type (spec client-dns.md 16.1); protocols
// that no filter can name pass the empty list only.
func (f Filters) Permits(proto packet.Proto, port uint16) bool {
	if len(f) == 0 {
		return true
	}
	if proto == packet.ICMPv6 {
		proto = packet.ICMP
	}
	for i := range f {
		if packet.Proto(f[i].Protocol) != proto {
			continue
		}
		if proto == packet.ICMP || f[i].First <= port && port <= f[i].Last {
			return true
		}
	}
	return false
}
