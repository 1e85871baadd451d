//go:build !windows

package ipcsock

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"stile/platform/dirs"
)

// Path returns where a service of this name listens.
func Path(name string) string { return filepath.Join(dirs.Run, name+".sock") }

// Listen makes a socket with the given mode at path, and its folder. A socket
// that a killed process left behind is replaced.
func Listen(path string, mode fs.FileMode) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("listen at %s: %w", path, err)
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("listen at %s: %w", path, ErrInUse)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSocket != 0 {
		os.Remove(path)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", path, err)
	}
	// Until here the umask was all that kept others out; who came in meanwhile
	// is known by Caller.
	if err := os.Chmod(path, mode); err != nil {
		l.Close()
		return nil, fmt.Errorf("listen at %s: %w", path, err)
	}
	return l, nil
}

// Dial connects to the socket at path. The error is ErrNobody or ErrDenied, or
// says what else is wrong.
func Dial(path string) (net.Conn, error) {
	conn, err := net.DialTimeout("unix", path, 5*time.Second)
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(err, fs.ErrNotExist), isRefused(err):
		return nil, fmt.Errorf("%s: %w", path, ErrNobody)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s: %w", path, ErrDenied)
	}
	return nil, err
}

func server(conn net.Conn) (Peer, bool, error) {
	p, err := caller(conn)
	return p, err == nil && (p.UID == 0 || int64(p.UID) == int64(os.Geteuid())), err
}
