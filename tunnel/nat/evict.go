package nat

import "math"

// room reports whether another session fits. Rows whose time is over do not
// count, and a session that is of little use to the client goes if it must
// (N47). Each session is looked at as seldom as by sweeps, which have mostly done
// it before.
func (t *Table) room(at instant) bool {
	if t.Len() < t.maxSessions {
		return true
	}
	t.ripen(at, math.MaxInt)
	return t.retire(at, 1) > 0 || t.evict(at)
}

// evict ends the session that will be missed least, if there is one that may
// go. Another may have to soon.
func (t *Table) evict(at instant) bool {
	s := t.worst()
	if s == nil {
		return false
	}
	t.remove(s, at, byEviction)
	if next := t.worst(); next != nil {
		t.prefetch(next)
	}
	return true
}

// worst returns the session that evict would end, or nil.
func (t *Table) worst() *Session {
	if s := t.evictable[classClosed].back; s != 0 {
		return t.rows.at(s)
	}
	if s := t.unfinished(); s != nil {
		return s
	}
	for _, c := range []class{classICMP, classUDP, classOther, classHalf, classOpen} {
		if s := t.evictable[c].back; s != 0 {
			return t.rows.at(s)
		}
	}
	return nil
}

// unfinished returns the session with the oldest client packet of those that
// nobody answered or that shake hands, or nil.
func (t *Table) unfinished() *Session {
	a, b := t.evictable[classUnconfirmed].back, t.opening.back
	switch {
	case a == 0 && b == 0:
		return nil
	case a == 0 || b != 0 && t.rows.at(b).out < t.rows.at(a).out:
		return t.rows.at(b)
	}
	return t.rows.at(a)
}
