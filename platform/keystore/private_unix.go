//go:build !windows

package keystore

import (
	"fmt"
	"os"
	"syscall"
)

func private(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("has mode %04o, which lets others read the token; run: chown root:root %[2]s && chmod 0600 %[2]s", mode, f.Name())
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; owner != 0 && int(owner) != os.Getuid() {
		return fmt.Errorf("belongs to user %d, not to root; run: chown root:root %[2]s && chmod 0600 %[2]s", owner, f.Name())
	}
	return nil
}
