package ice

import "net/netip"

// typePreference is the top byte of a priority (connectivity.md 3.2).
func (k Kind) typePreference() uint32 {
	switch k {
	case Host:
		return 126
	case PeerReflexive:
		return 110
	case ServerReflexive:
		return 100
	}
	return 2
}

// localPreference of the nth candidate (from 0) of a kind and family. Kinds
// own quarters of the 16-bit range, IPv6 comes before IPv4.
func (k Kind) localPreference(a netip.Addr, n int, crossFamily bool) uint32 {
	first := map[Kind]int{Host: 65535, PeerReflexive: 49151, ServerReflexive: 32767, Relayed: 16383}[k]
	if a.Is4() {
		first--
	}
	if crossFamily {
		first -= 1000
	}
	return uint32(max(first-2*n, 0))
}

func priority(typePreference, localPreference uint32) uint32 {
	return typePreference<<24 | localPreference<<8 | 255 // the component is always 1
}

// checkPriority is what the PRIORITY attribute of a check from c says: c's own
// local preference, as if it were peer-reflexive (RFC 8445 §7.1.1).
func (c Candidate) checkPriority() uint32 {
	return priority(PeerReflexive.typePreference(), c.Priority>>8&0xffff)
}

// pairPriority is the formula of RFC 8445 §6.1.2.3: g belongs to the
// controlling agent's candidate, d to the controlled one's.
func pairPriority(g, d uint32) uint64 {
	p := uint64(min(g, d))<<32 + 2*uint64(max(g, d))
	if g > d {
		p++
	}
	return p
}
