package nat

// Each session is in up to three lists: one orders all sessions of its class by
// their deadline, one those of its proxy address and one those that are being
// opened by their last client packet.
const (
	byDeadline = iota
	byProxy
	byOpening
	numLists
)

type links struct{ prev, next *Session }

// A list is doubly linked through its sessions. The zero list is empty and of
// kind byDeadline.
type list struct {
	front, back *Session
	by          uint8
}

func (l *list) pushFront(s *Session) {
	s.links[l.by] = links{next: l.front}
	if l.front != nil {
		l.front.links[l.by].prev = s
	} else {
		l.back = s
	}
	l.front = s
}

// insertAfter puts s behind mark, or first if mark is nil.
func (l *list) insertAfter(mark, s *Session) {
	if mark == nil {
		l.pushFront(s)
		return
	}
	next := mark.links[l.by].next
	s.links[l.by] = links{prev: mark, next: next}
	mark.links[l.by].next = s
	if next != nil {
		next.links[l.by].prev = s
	} else {
		l.back = s
	}
}

// maxReorder bounds the work of behind. A session that is put too far in front
// may hold for the moment that passed since its last client packet.
const maxReorder = 32

// behind returns the session that one whose last client packet was at out
// belongs behind; nil: it is the first.
func (l *list) behind(out instant) (mark *Session) {
	for next, n := l.front, 0; next != nil && next.out > out && n < maxReorder; n++ {
		mark, next = next, next.links[l.by].next
	}
	return mark
}

func (l *list) remove(s *Session) {
	at := s.links[l.by]
	if at.prev != nil {
		at.prev.links[l.by].next = at.next
	} else {
		l.front = at.next
	}
	if at.next != nil {
		at.next.links[l.by].prev = at.prev
	} else {
		l.back = at.prev
	}
	s.links[l.by] = links{}
}

func (l *list) moveToFront(s *Session) {
	if l.front != s {
		l.remove(s)
		l.pushFront(s)
	}
}
