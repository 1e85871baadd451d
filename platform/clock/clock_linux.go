package clock

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sinceBoot reads CLOCK_BOOTTIME. The call cannot block, so it skips the
// scheduler's bookkeeping for system calls: Now is asked for every batch.
func sinceBoot() time.Duration {
	var ts unix.Timespec
	_, _, errno := unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&ts)), 0)
	if errno != 0 {
		panic("clock: CLOCK_BOOTTIME: " + errno.Error()) // Linux has it since 2.6.39
	}
	return time.Duration(ts.Nano())
}
