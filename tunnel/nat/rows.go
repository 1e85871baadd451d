package nat

import (
	"math/bits"
	"unsafe"

	"stile/platform/prefetch"
)

// A ref names a session by its place in the rows of its table; 0: none.
type ref uint32

// Chunks of rows have 64 sessions, 12 KiB, up to 256; from then on, four chunks
// of one size double the room, so that few addresses lead to many sessions and a
// quarter of the room is free at most.
const (
	firstChunk  = 64
	perDoubling = 4
)

// chunkOf returns in which chunk the n-th row is, counted from 0, and where.
func chunkOf(n ref) (chunk, at int) {
	if n < perDoubling*firstChunk {
		return int(n / firstChunk), int(n % firstChunk)
	}
	doubled := bits.Len32(uint32(n/(perDoubling*firstChunk))) - 1
	shift := (bits.Len(firstChunk) - 1 + doubled) & 31 // of a chunk's size; never more, which the compiler cannot know
	return perDoubling*doubled + int(n>>shift), int(n & (1<<shift - 1))
}

// sizeOf returns how many rows a chunk has.
func sizeOf(chunk int) int { return firstChunk << max(0, chunk/perDoubling-1) }

// rows holds the sessions of a table. There must be no pointers in them: the
// garbage collector does not know what lies in a Memory, and has nothing to follow
// in a million sessions. So a link of a list takes four bytes, too. A place is used
// again; a *Session is good until its session ends.
type rows struct {
	chunks [][]Session
	room   ref // in all chunks
	used   ref // places given out so far
	vacant ref // the first that was given back; the others follow by links[byClass].next
}

func (r *rows) at(n ref) *Session {
	chunk, at := chunkOf(n - 1)
	return &r.chunks[chunk][at]
}

// add gives a session its place.
func (r *rows) add(s *Session, m Memory) *Session {
	n := r.vacant
	if n != 0 {
		r.vacant = r.at(n).links[byClass].next
	} else {
		if r.used == r.room {
			n := sizeOf(len(r.chunks))
			more := m.Get(n * int(unsafe.Sizeof(Session{})))
			r.chunks = append(r.chunks, unsafe.Slice((*Session)(unsafe.Pointer(&more[0])), n))
			r.room += ref(n)
		}
		r.used++
		n = r.used
	}
	row := r.at(n)
	*row = *s
	row.self = n
	return row
}

// free gives the memory of all rows back.
func (r *rows) free(m Memory) {
	for _, chunk := range r.chunks {
		m.Put(unsafe.Slice((*byte)(unsafe.Pointer(&chunk[0])), len(chunk)*int(unsafe.Sizeof(Session{}))))
	}
	*r = rows{}
}

func (r *rows) remove(s *Session) {
	n := s.self
	*s = Session{links: [numLists]links{byClass: {next: r.vacant}}}
	r.vacant = n
}

// all yields all sessions. The current one may be removed.
func (r *rows) all(yield func(*Session) bool) {
	for n := ref(1); n <= r.used; n++ {
		if s := r.at(n); s.self != 0 && !yield(s) {
			return
		}
	}
}

// prefetch has a session brought near that is about to leave a list.
func (r *rows) prefetch(n ref) {
	s := r.at(n)
	prefetch.Line(unsafe.Pointer(s))
	prefetch.Line(unsafe.Pointer(&s.links))
}

// Each session is in up to three lists: one of its class or in the wheel, one
// of its proxy address and one of those that are being opened.
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
