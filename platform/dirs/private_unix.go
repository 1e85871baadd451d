//go:build !windows

package dirs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

func private(path string, info fs.FileInfo) error {
	if owner := info.Sys().(*syscall.Stat_t).Uid; int64(owner) != int64(os.Geteuid()) {
		return fmt.Errorf("%s belongs to user %d, who could read and change what is put there: remove it, or set XDG_RUNTIME_DIR to a folder of your own", path, owner)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return os.Chmod(path, 0o700)
	}
	return nil
}

// Session is the folder of what lives as long as the user is logged in: sockets
// and locks. $XDG_RUNTIME_DIR may be missing, as after su or in a cron
// job; or it is another user's, as after su in a terminal of theirs. Then it is the
// folder that the login manager would have named, or one below the system's
// temporary folder. Whoever uses it calls Private first.
func Session() string {
	for _, dir := range []string{os.Getenv("XDG_RUNTIME_DIR"), "/run/user/" + strconv.Itoa(os.Geteuid())} {
		if info, err := os.Stat(dir); filepath.IsAbs(dir) && err == nil && info.IsDir() && int64(info.Sys().(*syscall.Stat_t).Uid) == int64(os.Geteuid()) {
			return filepath.Join(dir, "stile")
		}
	}
	return filepath.Join(os.TempDir(), "stile-"+strconv.Itoa(os.Geteuid()))
}
