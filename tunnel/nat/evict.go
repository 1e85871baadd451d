package nat

import (
	"cmp"
	"slices"
	"time"
)

// room reports whether another session fits. Rows whose time is over do not
// count, and a session that is of little use to the client goes if it must
// (N47).
func (t *Table) room(at instant) bool {
	if t.Len() < t.maxSessions {
		return true
	}
	t.sort()
	return t.retire(at, 1) > 0 || t.evict(at)
}

// sort puts all classes in exact order, in which each packet keeps them until
// there is room again.
func (t *Table) sort() {
	if t.exact {
		return
	}
	t.exact = true
	type place struct {
		base instant
		ref  ref
	}
	var order []place
	for c := range t.classes {
		l := &t.classes[c]
		order = order[:0]
		for next := l.back; next != 0; { // nearly sorted, oldest first
			s := t.rows.at(next)
			order = append(order, place{s.base(), next})
			next = s.links[byClass].prev
		}
		slices.SortStableFunc(order, func(a, b place) int { return cmp.Compare(a.base, b.base) })
		*l = list{}
		for _, p := range order {
			s := t.rows.at(p.ref)
			s.listed = p.base
			l.pushFront(&t.rows, s)
		}
	}
}

// relax gives the exact order up when there is room for an eighth more.
func (t *Table) relax() {
	if t.exact && t.Len() < t.maxSessions-t.maxSessions/8 {
		t.exact = false
	}
}

// evict ends the session that will be missed least, if there is one that may
// go. Another may have to soon.
func (t *Table) evict(at instant) bool {
	s := t.worst(at)
	if s == nil {
		return false
	}
	t.remove(s, at, byEviction)
	if next := t.worst(at); next != nil {
		t.prefetch(next)
	}
	return true
}

// worst returns the session that evict would end, or nil. The oldest of each
// class is at the back of its list.
func (t *Table) worst(at instant) *Session {
	worst := cmp.Or(t.classes[classClosed].back, t.opening.back, t.classes[classICMP].back)
	for _, c := range []struct {
		class class
		idle  time.Duration
	}{{classUDP, holdFor}, {classOther, holdFor}, {classHalf, holdFor}, {classOpen, tcpHalf}} {
		if back := t.classes[c.class].back; worst == 0 && back != 0 && at-t.rows.at(back).any >= instant(c.idle) {
			worst = back
		}
	}
	if worst == 0 {
		return nil
	}
	return t.rows.at(worst)
}
