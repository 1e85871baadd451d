package arena

import "syscall"

// huge asks for huge pages. Where there are none, ordinary ones do.
func huge(b []byte) { _ = syscall.Madvise(b, syscall.MADV_HUGEPAGE) }
