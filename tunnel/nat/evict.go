package nat

import "time"

// room reports whether another session fits. Rows whose time is over do not
// count, and a session that is of little use to the client goes if it must
// (N47).
func (t *Table) room(at instant) bool {
	if len(t.inside) < t.maxSessions {
		return true
	}
	t.retire(at)
	return len(t.inside) < t.maxSessions || t.evict(at)
}

// evict ends the session that will be missed least, if there is one that may
// go. The oldest of each class is at the back of its list.
func (t *Table) evict(at instant) bool {
	s := t.classes[classClosed].back
	if s == nil {
		s = t.opening.back
	}
	if s == nil {
		s = t.classes[classICMP].back
	}
	for _, c := range []struct {
		class class
		idle  time.Duration
	}{{classUDP, holdFor}, {classOther, holdFor}, {classHalf, holdFor}, {classOpen, tcpHalf}} {
		if back := t.classes[c.class].back; s == nil && back != nil && at-back.any >= instant(c.idle) {
			s = back
		}
	}
	if s == nil {
		return false
	}
	t.remove(s, at, byEviction)
	return true
}
