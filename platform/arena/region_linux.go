package arena

import (
	"syscall"
	"unsafe"
)

// reserve has the system give zeros that begin at a huge page, and asks for huge
// pages: where there are none, ordinary ones do. It takes none until they are
// written to.
func reserve(size int) region {
	mapped, err := syscall.Mmap(-1, 0, size+hugePage, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return heap(size)
	}
	skip := int(-uintptr(unsafe.Pointer(&mapped[0])) & (hugePage - 1))
	b := mapped[skip : skip+size : skip+size]
	_ = syscall.Madvise(b, syscall.MADV_HUGEPAGE)
	return region{bytes: b, mapped: mapped}
}

// release gives all of it back. Nobody may look at it any more.
func (r region) release() {
	if r.mapped != nil {
		_ = syscall.Munmap(r.mapped)
	}
}

// empty makes zeros of a part that begins and ends at a huge page, by giving its
// memory back, and reports whether it did.
func (r region) empty(part []byte) bool {
	return r.mapped != nil && syscall.Madvise(part, syscall.MADV_DONTNEED) == nil
}
