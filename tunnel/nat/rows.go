package nat

// A ref names a session by its place in the rows of its table; 0: none.
type ref uint32

const chunkLen = 64 // 12 KiB of sessions

// rows holds the sessions of a table. There are no pointers in it, so that the
// garbage collector has nothing to follow in a million sessions, and a link of
// a list takes four bytes. A place is used again; a *Session is good until its
// session ends.
type rows struct {
	chunks []*[chunkLen]Session
	used   ref // places given out so far
	vacant ref // the first that was given back; the others follow by links[byClass].next
}

func (r *rows) at(n ref) *Session { return &r.chunks[(n-1)/chunkLen][(n-1)%chunkLen] }

// add gives a session its place.
func (r *rows) add(s *Session) *Session {
	n := r.vacant
	if n != 0 {
		r.vacant = r.at(n).links[byClass].next
	} else {
		if int(r.used) == len(r.chunks)*chunkLen {
			r.chunks = append(r.chunks, new([chunkLen]Session))
		}
		r.used++
		n = r.used
	}
	row := r.at(n)
	*row = *s
	row.self = n
	return row
}

func (r *rows) remove(s *Session) {
	n := s.self
	*s = Session{links: [numLists]links{byClass: {next: r.vacant}}}
	r.vacant = n
}

// Each session is in up to three lists: one of all sessions of its class, one
// of those of its proxy address and one of those that are being opened.
const (
	byClass = iota
	byProxy
	byOpening
	numLists
)

type links struct{ prev, next ref }

// A list is doubly linked through its sessions. The zero list is empty and of
// kind byClass.
type list struct {
	front, back ref
	by          uint8
}

func (l *list) pushFront(r *rows, s *Session) {
	s.links[l.by] = links{next: l.front}
	if l.front != 0 {
		r.at(l.front).links[l.by].prev = s.self
	} else {
		l.back = s.self
	}
	l.front = s.self
}

// insertAfter puts s behind mark, or first if mark is nil.
func (l *list) insertAfter(r *rows, mark, s *Session) {
	if mark == nil {
		l.pushFront(r, s)
		return
	}
	next := mark.links[l.by].next
	s.links[l.by] = links{prev: mark.self, next: next}
	mark.links[l.by].next = s.self
	if next != 0 {
		r.at(next).links[l.by].prev = s.self
	} else {
		l.back = s.self
	}
}

func (l *list) remove(r *rows, s *Session) {
	at := s.links[l.by]
	if at.prev != 0 {
		r.at(at.prev).links[l.by].next = at.next
	} else {
		l.front = at.next
	}
	if at.next != 0 {
		r.at(at.next).links[l.by].prev = at.prev
	} else {
		l.back = at.prev
	}
	s.links[l.by] = links{}
}

func (l *list) moveToFront(r *rows, s *Session) {
	if l.front != s.self {
		l.remove(r, s)
		l.pushFront(r, s)
	}
}

// maxReorder bounds the work of behind. A session that is put too far in front
// is evicted later than its turn would be.
const maxReorder = 32

// behind returns the session that one whose last client packet was at out
// belongs behind; nil: it is the first.
func (l *list) behind(r *rows, out instant) (mark *Session) {
	for next, n := l.front, 0; next != 0 && n < maxReorder; n++ {
		s := r.at(next)
		if s.out <= out {
			break
		}
		mark, next = s, s.links[l.by].next
	}
	return mark
}
