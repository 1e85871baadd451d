package lockfile

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// far is the upper half of the offset of the byte that is locked. A locked byte
// cannot be read, and the note shall be.
const far = 1 << 30

func lock(f *os.File) error {
	at := &windows.Overlapped{OffsetHigh: far}
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, at)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return ErrTaken
	}
	return err
}
