// Package arena gives out memory in pieces of some kilobytes that lie close
// together, in huge pages where the system has them: whoever walks through
// gigabytes in no order at all then waits for the memory alone, not for the
// tables of pages that lead there, too.
//
// The memory comes from the system, and goes back to it as soon as a huge page of
// it is free. The garbage collector neither follows it, so there must be no
// pointers in it, nor counts it, so that gigabytes here do not let as much garbage
// gather elsewhere.
package arena

import (
	"math/bits"
	"runtime"
	"unsafe"
)

const (
	unit     = 4 << 10 // bytes; a piece is some of them in a row
	perSlab  = 1024
	slabSize = perSlab * unit
	hugePage = 2 << 20 // on amd64, and on arm64 with pages of 4 KiB
	perHuge  = hugePage / unit
)

// An Arena is not safe for concurrent use. The zero Arena is empty and ready; it
// must not be copied. What it gave out is good as long as it is reachable.
type Arena struct {
	slabs []slab // side by side, since all are looked through
	book  *book
}

// A region is memory of the system.
type region struct {
	bytes  []byte
	mapped []byte // what bytes are part of; nil: the heap
}

func heap(size int) region { return region{bytes: make([]byte, size)} }

// A book has all regions of an Arena, by their first bytes.
type book struct{ regions map[*byte]region }

// A slab is a region that is given out bit by bit.
type slab struct {
	region
	taken [perSlab / 64]uint64 // a bit for each unit
	used  int                  // units that are taken
	// From this unit of each huge page on, nothing was ever taken: all zeros.
	fresh [perSlab / perHuge]int
	most  int // there is no room for more units in a row than this
}

// Get returns size bytes of zeros. From 4 KiB on, they begin at as much; what is
// smaller is any piece of the heap, what is larger than 4 MiB is a region of its
// own.
func (a *Arena) Get(size int) []byte {
	if size < unit {
		return make([]byte, size)
	}
	if size > slabSize {
		return a.reserve(size).bytes
	}
	n := (size + unit - 1) / unit
	for i := range a.slabs {
		if b := a.slabs[i].take(n); b != nil {
			return b[:size:size]
		}
	}
	a.slabs = append(a.slabs, slab{region: a.reserve(slabSize), most: perSlab})
	return a.slabs[len(a.slabs)-1].take(n)[:size:size]
}

// Held is how many bytes the Arena has of the system, given out or not. What was
// not written to yet takes no memory.
func (a *Arena) Held() (bytes int) {
	if a.book != nil {
		for _, r := range a.book.regions {
			bytes += len(r.bytes)
		}
	}
	return bytes
}

func (a *Arena) reserve(size int) region {
	if a.book == nil {
		a.book = &book{regions: make(map[*byte]region)}
		runtime.AddCleanup(a, func(b *book) {
			for _, r := range b.regions {
				r.release()
			}
		}, a.book)
	}
	r := reserve(size)
	a.book.regions[&r.bytes[0]] = r
	return r
}

func (a *Arena) release(r region) {
	delete(a.book.regions, &r.bytes[0])
	r.release()
}

// Put takes back what Get returned. Nobody may use it any more.
func (a *Arena) Put(b []byte) {
	if len(b) < unit {
		return
	}
	if a.book == nil {
		panic("arena: a piece was given back that was never lent")
	}
	if len(b) > slabSize {
		if r, known := a.book.regions[&b[0]]; known {
			a.release(r)
			return
		}
	}
	for i := range a.slabs {
		s := &a.slabs[i]
		at := uintptr(unsafe.Pointer(&b[0])) - uintptr(unsafe.Pointer(&s.bytes[0]))
		if at >= slabSize { // also what lies before it
			continue
		}
		s.put(int(at/unit), (len(b)+unit-1)/unit)
		if last := len(a.slabs) - 1; s.used == 0 && last > 0 { // one stays
			a.release(s.region)
			*s, a.slabs[last] = a.slabs[last], slab{}
			a.slabs = a.slabs[:last]
		}
		return
	}
	panic("arena: a piece was given back that was never lent")
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
			s.clean(at, end)
			return s.bytes[at*unit : end*unit]
		}
		longest = max(longest, end-at)
		at = s.free(end)
	}
	s.most = longest
	return nil
}

// clean makes zeros of the units from at to before end, which are to be given out.
func (s *slab) clean(at, end int) {
	for h := range s.fresh {
		from, to := max(at, h*perHuge), min(end, (h+1)*perHuge) // in this huge page
		if from < to {
			clear(s.bytes[from*unit : max(from, min(to, s.fresh[h]))*unit])
			s.fresh[h] = max(s.fresh[h], to)
		}
	}
}

func (s *slab) put(at, n int) {
	s.mark(at, n, false)
	before, after := at, at+n
	for before > 0 && !s.isTaken(before-1) {
		before--
	}
	after = s.busy(after)
	s.most = max(s.most, after-before)
	for h := (before + perHuge - 1) / perHuge; (h+1)*perHuge <= after; h++ { // the huge pages that are free
		if (h+1)*perHuge > at && h*perHuge < at+n && s.empty(s.bytes[h*hugePage:(h+1)*hugePage]) {
			s.fresh[h] = h * perHuge
		}
	}
}

func (s *slab) isTaken(unit int) bool { return s.taken[unit/64]>>(unit%64)&1 != 0 }

// mark makes n units taken, or free.
func (s *slab) mark(at, n int, taken bool) {
	for i := at; i < at+n; i++ {
		if s.isTaken(i) == taken {
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
