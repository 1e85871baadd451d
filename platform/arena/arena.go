// Package arena gives out memory in pieces of some kilobytes that lie close
// together, in huge pages where the system has them: whoever walks through
// gigabytes in no order at all then waits for the memory alone, not for the
// tables of pages that lead there, too.
//
// The memory is the heap's own, and the garbage collector's again once it was given
// back; what was not stays taken as long as the Arena lives. Nothing in it is
// followed: there must be no pointers.
package arena

import (
	"math/bits"
	"unsafe"
)

const (
	unit     = 4 << 10 // bytes; a piece is some of them in a row
	perSlab  = 1024
	slabSize = perSlab * unit
)

// An Arena is not safe for concurrent use. The zero Arena is empty and ready.
type Arena struct {
	slabs  []slab                    // side by side, since all are looked through
	advise func(b []byte, huge bool) // for tests; nil: the system
}

// A slab is a piece of the heap that is given out bit by bit.
type slab struct {
	bytes []byte
	taken [perSlab / 64]uint64 // a bit for each unit
	used  int                  // units that are taken
	fresh int                  // from this unit on, nothing was ever taken: all zeros
	most  int                  // there is no room for more units in a row than this
}

// Get returns size bytes of zeros. From 4 KiB on, they begin at a page; what is
// smaller is any piece of the heap, what is larger than 4 MiB one of its own.
func (a *Arena) Get(size int) []byte {
	if size < unit {
		return make([]byte, size)
	}
	if size > slabSize {
		return a.large(size)
	}
	n := (size + unit - 1) / unit
	for i := range a.slabs {
		if b := a.slabs[i].take(n); b != nil {
			return b[:size:size]
		}
	}
	a.slabs = append(a.slabs, slab{bytes: a.large(slabSize), most: perSlab})
	return a.slabs[len(a.slabs)-1].take(n)[:size:size]
}

// large returns memory that comes from the heap and never was in a slab.
func (a *Arena) large(size int) []byte {
	b := make([]byte, size)
	a.tell(b, true)
	return b
}

// tell says whether huge pages are wanted.
func (a *Arena) tell(b []byte, huge bool) {
	if a.advise != nil {
		a.advise(b, huge)
	} else {
		advise(b, huge)
	}
}

// Put takes back what Get returned. Nobody may use it any more.
func (a *Arena) Put(b []byte) {
	if len(b) < unit {
		return
	}
	if len(b) > slabSize {
		a.tell(b, false)
		return
	}
	for i := range a.slabs {
		s := &a.slabs[i]
		at := uintptr(unsafe.Pointer(&b[0])) - uintptr(unsafe.Pointer(&s.bytes[0]))
		if at >= slabSize { // also what lies before it
			continue
		}
		s.put(int(at/unit), (len(b)+unit-1)/unit)
		if last := len(a.slabs) - 1; s.used == 0 && last > 0 { // one stays
			a.tell(s.bytes, false) // the heap has other uses for it
			*s, a.slabs[last] = a.slabs[last], slab{}
			a.slabs = a.slabs[:last]
		}
		return
	}
}

// take returns the first n free units in a row, or nil.
func (s *slab) take(n int) []byte {
	if n > s.most {
		return nil
	}
	longest := 0
	for at := s.free(0); at < perSlab; {
		end := s.busy(at)
		if end-at >= n {
			end = at + n
			s.mark(at, n, true)
			b := s.bytes[at*unit : end*unit]
			clear(b[:max(0, min(end, s.fresh)-at)*unit])
			s.fresh = max(s.fresh, end)
			return b
		}
		longest = max(longest, end-at)
		at = s.free(end)
	}
	s.most = longest
	return nil
}

func (s *slab) put(at, n int) {
	s.mark(at, n, false)
	s.most = perSlab // less, but that is found out when it matters
}

// mark makes n units taken, or free.
func (s *slab) mark(at, n int, taken bool) {
	for i := at; i < at+n; i++ {
		if s.taken[i/64]>>(i%64)&1 != 0 == taken {
			panic("arena: a piece was given back that is not taken")
		}
		s.taken[i/64] ^= 1 << (i % 64)
	}
	if taken {
		s.used += n
	} else {
		s.used -= n
	}
}

// free returns the first free unit from at on, perSlab if there is none.
func (s *slab) free(at int) int {
	return first(at, func(word int) uint64 { return ^s.taken[word] })
}

// busy returns the first taken unit from at on, perSlab if there is none.
func (s *slab) busy(at int) int {
	return first(at, func(word int) uint64 { return s.taken[word] })
}

// first returns the first unit from at on whose bit is set.
func first(at int, words func(int) uint64) int {
	for ; at < perSlab; at = (at/64 + 1) * 64 {
		if rest := words(at/64) >> (at % 64); rest != 0 {
			return at + bits.TrailingZeros64(rest)
		}
	}
	return perSlab
}
