package nat

import "stile/tunnel/packet"

const maxProbes = 32

// allocate chooses the outside id of a new session: k.id comes in as the
// client's own and is kept if it is free, so that both sides differ as seldom
// as possible (N29, N30). Those that carried another conversation until a
// moment ago are taken only if there are no others (N31). It reports false if
// there is none left.
func (t *Table) allocate(k *key, inside key, at instant) bool {
	if !k.hasID() {
		return t.free(*k, at)
	}
	rested := func(k key) bool { return t.free(k, at) && !t.quarantined(k, inside, at) }
	return t.allocateAmong(k, rested) || t.allocateAmong(k, func(k key) bool { return t.free(k, at) })
}

// allocateAmong chooses among the ids that free reports to be so.
func (t *Table) allocateAmong(k *key, free func(key) bool) bool {
	if (k.id() != 0 || !needsPort(*k)) && free(*k) {
		return true
	}
	low, high := span{1, 1023}, span{1024, 65535}
	if k.id() < 1024 && k.id() != 0 {
		return t.allocateFrom(k, low, free) || t.allocateFrom(k, high, free)
	}
	return t.allocateFrom(k, high, free) || t.allocateFrom(k, low, free)
}

// needsPort: an echo identifier of 0 is a good one, a port of 0 is not.
func needsPort(k key) bool { return k.proto() == packet.TCP || k.proto() == packet.UDP }

// A span is a class of ports, both ends inclusive.
type span struct{ first, last uint16 }

func (s span) size() int { return int(s.last-s.first) + 1 }

// allocateFrom tries random ids of a class, then all of them. UDP keeps the
// parity of the client's port while it can (RFC 4787 REQ-4).
func (t *Table) allocateFrom(k *key, s span, free func(key) bool) bool {
	parity := k.id() & 1
	start := t.rng.IntN(s.size())
	for n := range maxProbes {
		if n > 0 {
			start = t.rng.IntN(s.size())
		}
		id := s.first + uint16(start)
		if k.proto() == packet.UDP && id&1 != parity {
			id ^= 1
		}
		if id < s.first || id > s.last {
			continue
		}
		if take(k, id, free) {
			return true
		}
	}
	for _, flip := range []uint16{0, 1} {
		for n := range s.size() {
			id := s.first + uint16((start+n)%s.size())
			if k.proto() == packet.UDP && id&1 != parity^flip {
				continue
			}
			if take(k, id, free) {
				return true
			}
		}
		if k.proto() != packet.UDP {
			break
		}
	}
	return false
}

// take sets k.id to id if that is free.
func take(k *key, id uint16, free func(key) bool) bool {
	try := k.with(id, k.port())
	if !free(try) {
		return false
	}
	*k = try
	return true
}

// free reports whether no session has the outside key.
func (t *Table) free(k key, at instant) bool { return t.alive(t.byOutside(k), at) == nil }
