package prefetch

import (
	"testing"
	"unsafe"
)

// Any address will do, also one that nobody may read: it is a hint.
func TestAnyAddress(t *testing.T) {
	b := make([]byte, 64)
	Line(unsafe.Pointer(&b[0]))
	Line(unsafe.Pointer(&b[63]))
	Line(nil)
	Lines([]unsafe.Pointer{unsafe.Pointer(&b[0]), nil, unsafe.Pointer(&b[63])})
	Lines(make([]unsafe.Pointer, 1000))
	Lines(nil)
}

// Many lines that are far away, in an order that nobody can foresee: the
// baseline waits for each, the other asks for all of a batch first.
func BenchmarkFar(b *testing.B) {
	far := make([][8]uint64, 4<<20) // 256 MB
	for i := range far {
		far[i][0] = uint64(i)
	}
	for name, ask := range map[string]bool{"baseline": false, "asked": true} {
		b.Run(name, func(b *testing.B) {
			var sum, next uint64
			for b.Loop() {
				var batch [32]uint64
				var lines [32]unsafe.Pointer
				for i := range batch {
					next = next*6364136223846793005 + 1442695040888963407
					batch[i] = next >> 42
					lines[i] = unsafe.Pointer(&far[batch[i]])
				}
				if ask {
					Lines(lines[:])
				}
				for _, n := range batch { // each waits for the one before
					sum += far[(n+sum&1)%uint64(len(far))][0]
				}
			}
			if sum == 1 {
				b.Log(sum)
			}
		})
	}
}
