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
			units, used := 0, 0
			for _, p := range live {
				if len(p.bytes) >= unit {
					units += (len(p.bytes) + unit - 1) / unit
				}
			}
			for _, s := range a.slabs {
				used += s.used
			}
			if units != used {
				t.Fatalf("seed %d, step %d: %d units are taken, %d in use", seed, step, used, units)
			}
		}
		for _, p := range live {
			a.Put(p.bytes)
		}
		if most < 2 || len(a.slabs) != 1 || a.slabs[0].used != 0 {
			t.Errorf("seed %d: at most %d slabs, %d are left", seed, most, len(a.slabs))
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

// A hole that was too small for one piece is found again for one that fits, also
// when it has grown meanwhile.
func TestHolesAreFoundAgain(t *testing.T) {
	var a Arena
	var all [][]byte
	for range perSlab / 2 {
		all = append(all, a.Get(2*unit))
	}
	in := func(b []byte, n int) bool { return &b[0] == &all[n][0] }
	a.Put(all[7])
	a.Get(3 * unit)
	if len(a.slabs) != 2 {
		t.Fatalf("%d slabs", len(a.slabs))
	}
	if b := a.Get(2 * unit); !in(b, 7) {
		t.Error("a hole that fits exactly is not used")
	}
	a.Get(3 * unit)
	a.Put(all[20])
	a.Put(all[21])
	if b := a.Get(4 * unit); !in(b, 20) {
		t.Error("a hole that has grown is not used")
	}
	for _, n := range []int{30, 31, 32, 40} {
		a.Put(all[n])
	}
	a.Get(2 * unit) // leaves a larger hole before a smaller one
	a.Get(6 * unit)
	if b := a.Get(4 * unit); !in(b, 31) {
		t.Error("the larger of two holes is forgotten")
	}
}

func TestPutOfWhatIsNotTaken(t *testing.T) {
	var a Arena
	b := a.Get(unit)
	a.Put(b)
	defer func() {
		if recover() == nil {
			t.Error("taken back twice")
		}
	}()
	a.Put(b)
}

// What was never lent is refused as what was taken back already is.
func TestPutOfWhatWasNeverLent(t *testing.T) {
	for _, a := range []*Arena{new(Arena), used()} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("taken")
				}
			}()
			a.Put(make([]byte, unit))
		}()
	}
}

func used() *Arena {
	a := new(Arena)
	a.Get(unit)
	return a
}

// Held is all of the slabs and of what is larger, until it is back.
func TestHeld(t *testing.T) {
	var a Arena
	if a.Held() != 0 {
		t.Error(a.Held())
	}
	first, second, large := a.Get(slabSize), a.Get(unit), a.Get(slabSize+1)
	if want := 2*slabSize + slabSize + 1; a.Held() != want {
		t.Errorf("%d bytes, want %d", a.Held(), want)
	}
	a.Put(large)
	a.Put(second)
	a.Put(first)
	if a.Held() != slabSize {
		t.Errorf("%d bytes when all is back", a.Held())
	}
}

// A full slab is not looked through again and again, nor are many of them when
// pieces come back that are too small.
func TestFullSlabsAreKnown(t *testing.T) {
	var a Arena
	var all [][]byte
	for range 4 * perSlab / 2 {
		all = append(all, a.Get(2*unit))
	}
	a.Get(4 * unit) // which none of the four has
	for n := 0; n < len(all); n += 4 {
		a.Put(all[n])
	}
	for i, s := range a.slabs[:4] {
		if s.most > 2 {
			t.Errorf("slab %d is thought to have %d units in a row", i, s.most)
		}
	}
}
