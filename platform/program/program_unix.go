//go:build !windows

package program

import (
	"os"

	"golang.org/x/sys/unix"
)

func restart(path string, args []string) error {
	return unix.Exec(path, append([]string{path}, args...), os.Environ())
}
