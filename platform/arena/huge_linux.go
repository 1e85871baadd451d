package arena

import "syscall"

// advise asks for huge pages, or for none. Where there are none, ordinary ones do.
func advise(b []byte, huge bool) {
	advice := syscall.MADV_NOHUGEPAGE
	if huge {
		advice = syscall.MADV_HUGEPAGE
	}
	_ = syscall.Madvise(b, advice)
}
