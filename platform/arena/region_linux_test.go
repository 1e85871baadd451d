package arena

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"
)

// The kernel knows that huge pages are wanted, and finds room for whole ones: a
// slab is two of them, and nothing else.
func TestTheKernelIsAsked(t *testing.T) {
	needHugePages(t)
	var a Arena
	for range 8 {
		b := a.Get(slabSize)
		if at := uintptr(unsafe.Pointer(&b[0])); at%hugePage != 0 {
			t.Errorf("a slab begins at %x", at)
		}
		if !wanted(t, b) {
			t.Error("huge pages are not wanted")
		}
	}
}

// Memory is the system's again as soon as a huge page of it is free, though others
// of the slab are not.
func TestFreeMemoryGoesBack(t *testing.T) {
	var a Arena
	var all [][]byte
	for range perSlab {
		b := a.Get(unit)
		b[0], b[unit-1] = 1, 1
		all = append(all, b)
	}
	isZero := func(n int) bool { return all[n][0] == 0 && all[n][unit-1] == 0 } // still mapped
	for n := range perHuge - 1 {
		a.Put(all[n])
	}
	if isZero(0) {
		t.Error("a page is gone whose neighbour is in use")
	}
	a.Put(all[perHuge-1])
	for n := range all {
		if isZero(n) != (n < perHuge) {
			t.Fatalf("unit %d is zero: %v", n, isZero(n))
		}
	}
	for range perHuge {
		b := a.Get(unit)
		if b[0] != 0 || b[unit-1] != 0 {
			t.Fatal("not zero")
		}
		b[0], b[unit-1] = 2, 2
	}
	for n := range perSlab {
		if isZero(n) {
			t.Fatalf("unit %d is lost", n)
		}
	}
}

// What a slab, and what a larger piece, was mapped for is not mapped any more when
// it is back; nor is what an Arena had that nobody knows any more.
func TestNothingStaysMapped(t *testing.T) {
	needHugePages(t)
	a := used()
	second, large := a.Get(slabSize), a.Get(slabSize+1)
	for _, b := range [][]byte{second, large} {
		a.Put(b)
		if wanted(t, b) {
			t.Errorf("%d bytes are still mapped", len(b))
		}
	}
	first := a.slabs[0].bytes
	if !wanted(t, first) {
		t.Error("the first slab is gone")
	}
	runtime.KeepAlive(a)
	for end := time.Now().Add(time.Minute); wanted(t, first); runtime.GC() {
		if time.Now().After(end) {
			t.Fatal("the memory of a forgotten arena is still mapped")
		}
	}
}

func needHugePages(t *testing.T) {
	if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage"); err != nil {
		t.Skip("SKIPPED: this kernel has no huge pages:", err)
	}
}

// wanted reports whether the kernel knows the memory in the middle of b, and that
// huge pages are wanted there, which nobody else asks it for.
func wanted(t *testing.T, b []byte) bool {
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	inside := false
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b))) + uintptr(len(b)/2)
	for line := range strings.Lines(string(text)) {
		var from, to uintptr
		if n, _ := fmt.Sscanf(line, "%x-%x ", &from, &to); n == 2 {
			inside = from <= at && at < to
		}
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && inside {
			return slices.Contains(strings.Fields(flags), "hg")
		}
	}
	return false
}
