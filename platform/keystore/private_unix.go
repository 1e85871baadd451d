//go:build !windows

package keystore

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

func private(info fs.FileInfo) error {
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("has mode %04o, which lets others read the token", mode)
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; owner != 0 && int(owner) != os.Getuid() {
		return fmt.Errorf("belongs to user %d, not to root", owner)
	}
	return nil
}
