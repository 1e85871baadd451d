package arena

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"unsafe"
)

// Pieces that come and go beside a list of them: none overlaps another, all are
// zeros when they come, and when all are back one slab is left.
func TestArenaAgainstList(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var a Arena
		type piece struct {
			bytes []byte
			mark  byte
		}
		var live []piece
		most := 0
		for step := range 3000 {
			if grow := rng.IntN(100) < 55 && step < 2000; grow || len(live) == 0 {
				size := []int{1, 100, unit - 1, unit, unit + 1, 12 << 10, 24 << 10, 48 << 10, 1 + rng.IntN(slabSize/16)}[rng.IntN(9)]
				b := a.Get(size)
				if len(b) != size || cap(b) < size {
					t.Fatalf("seed %d: %d bytes, want %d", seed, len(b), size)
				}
				if size >= unit && uintptr(unsafe.Pointer(&b[0]))%64 != 0 {
					t.Fatalf("seed %d: not aligned", seed)
				}
				mark := byte(1 + rng.IntN(255))
				if dirty := bytes.TrimLeft(b, "\x00"); len(dirty) > 0 {
					t.Fatalf("seed %d, step %d: a byte of %d is %d", seed, step, size, dirty[0])
				}
				copy(b, bytes.Repeat([]byte{mark}, size))
				live = append(live, piece{b, mark})
			} else {
				i := rng.IntN(len(live))
				p := live[i]
				if bytes.Count(p.bytes, []byte{p.mark}) != len(p.bytes) {
					t.Fatalf("seed %d, step %d: somebody wrote to what %d bytes were lent for", seed, step, len(p.bytes))
				}
				a.Put(p.bytes)
				live[i] = live[len(live)-1]
				live = live[:len(live)-1]
			}
			most = max(most, len(a.slabs))
		}
		for _, p := range live {
			a.Put(p.bytes)
		}
		if most < 2 || len(a.slabs) != 1 || a.slabs[0].used != 0 {
			t.Errorf("seed %d: at most %d slabs, %d are left", seed, most, len(a.slabs))
		}
		if a.Held() != slabSize {
			t.Errorf("%d bytes are held", a.Held())
		}
	}
}

// A slab can be filled to the last unit, and what came back is given out again
// before there is another.
func TestNothingIsLost(t *testing.T) {
	var a Arena
	var all [][]byte
	for range perSlab / 3 {
		all = append(all, a.Get(3*unit))
	}
	a.Get(unit)
	if len(a.slabs) != 1 || a.slabs[0].used != perSlab {
		t.Fatalf("%d slabs, %d units of the first are taken", len(a.slabs), a.slabs[0].used)
	}
	for n := range all {
		if n%2 == 0 {
			a.Put(all[n])
		}
	}
	for n := range all {
		if n%2 == 0 {
			a.Get(3 * unit)
		}
	}
	if len(a.slabs) != 1 || a.slabs[0].used != perSlab {
		t.Errorf("%d slabs, %d units of the first are taken", len(a.slabs), a.slabs[0].used)
	}
}

func TestPutOfWhatIsNotTaken(t *testing.T) {
	var a Arena
	b := a.Get(unit)
	a.Put(b)
	a.Put(make([]byte, unit)) // nobody knows it
	defer func() {
		if recover() == nil {
			t.Error("taken back twice")
		}
	}()
	a.Put(b)
}

// The system is asked for huge pages, and for no more than what is the arena's.
func TestHugePagesAreAskedFor(t *testing.T) {
	var asked [][]byte
	a := Arena{advise: func(b []byte) { asked = append(asked, b) }}
	for range perSlab + 1 {
		a.Get(unit)
	}
	if b := a.Get(slabSize + 1); len(asked) != 3 || len(asked[2]) != len(b) {
		t.Error("not asked for a large piece")
	}
	if len(asked[0]) != slabSize || &asked[0][0] != &a.slabs[0].bytes[0] {
		t.Errorf("asked %d times", len(asked))
	}
	huge(a.slabs[0].bytes) // may do nothing, but no harm
}
