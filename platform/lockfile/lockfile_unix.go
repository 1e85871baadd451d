//go:build !windows

package lockfile

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lock takes the lock of the open file, which children do not inherit: Go opens
// files close-on-exec.
func lock(f *os.File) error {
	for {
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
		case errors.Is(err, unix.EWOULDBLOCK):
			return ErrTaken
		case !errors.Is(err, unix.EINTR):
			return err
		}
	}
}
