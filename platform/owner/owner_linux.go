package owner

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// dontWait opens pipes without a writer.
const dontWait = unix.O_NONBLOCK

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

func as(path string, do func() error) error {
	if os.Geteuid() != 0 {
		return do()
	}
	uid, err := whose(path)
	if err != nil {
		return err
	}
	if uid == 0 {
		return do()
	}
	gid := groupOf(uid)
	if u, g, sudo := invoker(); sudo {
		uid, gid = u, g
	}
	var g sync.WaitGroup
	g.Go(func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and its rights with it
		if err = demote(uid, gid); err != nil {
			err = fmt.Errorf("act as user %d: %w", uid, err)
			return
		}
		err = do()
	})
	g.Wait()
	return err
}

// whose returns the owner of the first part of an absolute path, and of where
// root's links on it lead, that is not root's, and 0 if there is none. What comes
// before it nobody but root, and groups that root lets, can exchange. There must
// be something at path.
func whose(path string) (uid int, err error) {
	foreign, err := unmapped()
	if err != nil {
		return 0, err
	}
	return first(filepath.Clean(path), foreign, maxLinks)
}

// maxLinks is how many links the kernel follows on one way.
const maxLinks = 40

// first is whose of a clean path on which so many links may be.
func first(path string, foreign func(uid uint32) bool, links int) (uid int, err error) {
	loose := "" // a folder in which anybody may exchange anything
	for end := 0; end <= len(path); end++ {
		if end < len(path) && path[end] != '/' {
			continue
		}
		if loose != "" {
			return 0, fmt.Errorf("anybody may exchange what is in %s", loose)
		}
		part := path[:max(end, 1)]
		info, err := os.Lstat(part)
		if err != nil {
			return 0, err
		}
		if owner := info.Sys().(*syscall.Stat_t).Uid; owner != 0 && !foreign(owner) {
			return int(owner), nil
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			if links == 0 {
				return 0, &fs.PathError{Op: "follow", Path: part, Err: syscall.ELOOP}
			}
			to, err := os.Readlink(part)
			if err != nil {
				return 0, err
			}
			if !filepath.IsAbs(to) {
				to = filepath.Join(filepath.Dir(part), to)
			}
			return first(filepath.Join(to, path[end:]), foreign, links-1)
		}
		if mode := info.Mode(); mode.IsDir() && mode.Perm()&0o002 != 0 && mode&fs.ModeSticky == 0 {
			loose = part
		}
	}
	return 0, nil
}

// unmapped tells which users this process can neither become nor be taken for,
// because they are outside of its user namespace.
func unmapped() (func(uid uint32) bool, error) {
	f, err := os.Open("/proc/self/uid_map")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	type span struct{ first, count uint64 }
	var spans []span
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var s span
		var outside uint64
		if _, err := fmt.Sscan(lines.Text(), &s.first, &outside, &s.count); err != nil {
			return nil, fmt.Errorf("read %s: %w", f.Name(), err)
		}
		spans = append(spans, s)
	}
	return func(uid uint32) bool {
		for _, s := range spans {
			if uint64(uid) >= s.first && uint64(uid)-s.first < s.count {
				return false
			}
		}
		return true
	}, lines.Err()
}

// nobodys is a group that no user should be in.
const nobodys = 65534

// groupOf returns the main group of a user. That of a folder would not do: it may
// be one that its owner is not in.
func groupOf(uid int) int {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return nobodys
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return nobodys
	}
	return gid
}

// demote gives this thread, and no other, the rights of a user. The real user
// stays root, so that the user cannot touch the thread. The order matters:
// without uid 0 the groups cannot be changed any more.
func demote(uid, gid int) error {
	const keep = ^uintptr(0)
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); e != 0 {
		return e
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, keep, uintptr(gid), keep); e != 0 {
		return e
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, keep, uintptr(uid), keep); e != 0 {
		return e
	}
	return nil
}

func invoker() (uid, gid int, sudo bool) {
	uid, err := strconv.Atoi(os.Getenv("SUDO_UID"))
	gid, errGID := strconv.Atoi(os.Getenv("SUDO_GID"))
	return uid, gid, os.Geteuid() == 0 && err == nil && errGID == nil && uid > 0 && gid >= 0
}
