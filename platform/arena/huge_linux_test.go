package arena

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"
)

// The kernel knows which memory huge pages are wanted for.
func TestTheKernelIsAsked(t *testing.T) {
	if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage"); err != nil {
		t.Skip("SKIPPED: this kernel has no huge pages:", err)
	}
	var a Arena
	first, second := a.Get(slabSize), a.Get(slabSize)
	for _, b := range [][]byte{first, second} {
		if f := flagsOf(t, b); !strings.Contains(f, " hg") {
			t.Errorf("the flags are%s", f)
		}
	}
	a.Put(second)
	if f := flagsOf(t, second); strings.Contains(f, " hg") {
		t.Errorf("after it was given back, the flags are%s", f)
	}
}

// flagsOf returns the kernel's flags of the memory in the middle of b.
func flagsOf(t *testing.T, b []byte) string {
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	inside := false
	at := uintptr(unsafe.Pointer(&b[len(b)/2]))
	for line := range strings.Lines(string(text)) {
		var from, to uintptr
		if n, _ := fmt.Sscanf(line, "%x-%x ", &from, &to); n == 2 {
			inside = from <= at && at < to
		}
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && inside {
			return flags
		}
	}
	t.Fatal("the kernel does not know that memory")
	return ""
}
