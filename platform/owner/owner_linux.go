package owner

import (
	"fmt"
	"os"
	"syscall"
)

func become(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	stat, is := info.Sys().(*syscall.Stat_t)
	if !is || stat.Uid == 0 {
		return nil
	}
	uid, gid := int(stat.Uid), int(stat.Gid)
	// The order matters: without uid 0 the groups cannot be changed any more.
	if err := syscall.Setgroups([]int{gid}); err != nil {
		return fmt.Errorf("act as the owner of %s: %w", path, err)
	}
	if err := syscall.Setresgid(gid, gid, gid); err != nil {
		return fmt.Errorf("act as the owner of %s: %w", path, err)
	}
	if err := syscall.Setresuid(uid, uid, uid); err != nil {
		return fmt.Errorf("act as the owner of %s: %w", path, err)
	}
	return nil
}
