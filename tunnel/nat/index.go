package nat

import (
	"math/bits"
	"unsafe"

	"stile/platform/prefetch"
)

// An index finds sessions by one of their keys: a hash table with open
// addressing and linear probing, without pointers. Its entries carry 32 bits of
// the hash, so that the sessions of others are hardly ever looked at.
type index struct {
	entries []entry // a power of two of them, or none
	n       int
}

type entry struct {
	hash uint32
	ref  ref // 0: the entry is free
}

const (
	minIndex  = 16
	entrySize = int(unsafe.Sizeof(entry{}))
)

// A hasher makes keys into numbers that nobody outside can foresee: clients
// choose ports, and the owners of names choose addresses.
type hasher struct{ a, b uint64 }

func (h hasher) hash(k key) uint32 {
	hi, lo := bits.Mul64(k.addr.High^h.a, k.addr.Low^h.b)
	hi, lo = bits.Mul64(hi^lo^h.b, uint64(k.rest)^h.a)
	return uint32((hi ^ lo) * 0x9e3779b97f4a7c15 >> 32) // the low bits alone know too little of ports in a row, with some secrets
}

// home returns where a hash belongs, nil if there is no room at all.
func (x *index) home(hash uint32) unsafe.Pointer {
	if len(x.entries) == 0 {
		return nil
	}
	return unsafe.Pointer(&x.entries[hash&uint32(len(x.entries)-1)])
}

// prefetch has the memory brought near where a hash belongs.
func (x *index) prefetch(hash uint32) { prefetch.Line(x.home(hash)) }

// first returns the first session with a hash, 0 if there is none.
func (x *index) first(hash uint32) ref {
	if len(x.entries) == 0 {
		return 0
	}
	mask := uint32(len(x.entries) - 1)
	i := hash & mask
	for x.entries[i].ref != 0 && x.entries[i].hash != hash {
		i = (i + 1) & mask
	}
	return x.entries[i].ref
}

// add puts a session in. It must not be there.
func (x *index) add(hash uint32, r ref, m Memory) {
	if x.n >= len(x.entries)/4*3 {
		x.grow(m)
	}
	x.put(entry{hash, r})
	x.n++
}

func (x *index) put(e entry) {
	mask := uint32(len(x.entries) - 1)
	i := e.hash & mask
	for x.entries[i].ref != 0 {
		i = (i + 1) & mask
	}
	x.entries[i] = e
}

func (x *index) grow(m Memory) {
	old := x.entries
	n := max(minIndex, 2*len(old))
	x.entries = unsafe.Slice((*entry)(unsafe.Pointer(&m.Get(n * entrySize)[0])), n)
	for _, e := range old {
		if e.ref != 0 {
			x.put(e)
		}
	}
	give(old, m)
}

// free gives the memory of all entries back.
func (x *index) free(m Memory) {
	give(x.entries, m)
	*x = index{}
}

func give(entries []entry, m Memory) {
	if len(entries) > 0 {
		m.Put(unsafe.Slice((*byte)(unsafe.Pointer(&entries[0])), len(entries)*entrySize))
	}
}

// remove takes a session out that is there. What stands behind it in its run
// moves up if that brings it nearer to where it belongs.
func (x *index) remove(hash uint32, r ref) {
	mask := uint32(len(x.entries) - 1)
	gap := hash & mask
	for x.entries[gap].ref != r {
		gap = (gap + 1) & mask
	}
	for i := (gap + 1) & mask; x.entries[i].ref != 0; i = (i + 1) & mask {
		if home := x.entries[i].hash & mask; (i-home)&mask >= (i-gap)&mask {
			x.entries[gap] = x.entries[i]
			gap = i
		}
	}
	x.entries[gap] = entry{}
	x.n--
}

// byInside returns the row with an inside key, whether its time is over or
// not, or nil.
func (t *Table) byInside(k key) *Session {
	if len(t.inside.entries) == 0 {
		return nil
	}
	hash, mask := t.hasher.hash(k), uint32(len(t.inside.entries)-1)
	for i := hash & mask; ; i = (i + 1) & mask {
		e := t.inside.entries[i]
		switch {
		case e.ref == 0:
			return nil
		case e.hash == hash:
			if s := t.rows.at(e.ref); s.inside == k {
				return s
			}
		}
	}
}

// byOutside is byInside for an outside key.
func (t *Table) byOutside(k key) *Session {
	if len(t.outside.entries) == 0 {
		return nil
	}
	hash, mask := t.hasher.hash(k), uint32(len(t.outside.entries)-1)
	for i := hash & mask; ; i = (i + 1) & mask {
		e := t.outside.entries[i]
		switch {
		case e.ref == 0:
			return nil
		case e.hash == hash:
			if s := t.rows.at(e.ref); s.outside() == k {
				return s
			}
		}
	}
}
