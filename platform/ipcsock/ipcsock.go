// Package ipcsock is local IPC that knows its caller: a Unix socket whose
// other end the kernel names.
package ipcsock

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"
)

// ErrInUse means that another process answers at the socket. It runs already:
// do not start a second one.
var ErrInUse = errors.New("another process answers at this socket")

// ErrNobody means that nobody answers at the socket: the program is not
// running.
var ErrNobody = errors.New("nobody answers at this socket")

// ErrDenied means that the caller may not use the socket. Run the command as
// root or as the program's own user.
var ErrDenied = errors.New("not allowed to use this socket")

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

// A Peer is the process at the other end, as it was when it connected.
type Peer struct {
	UID, GID uint32
	PID      int32
}

// Caller asks the kernel who is at the other end of conn.
func Caller(conn net.Conn) (Peer, error) {
	unix, is := conn.(*net.UnixConn)
	if !is {
		return Peer{}, errors.New("identify caller: not a Unix socket")
	}
	p, err := caller(unix)
	if err != nil {
		return Peer{}, fmt.Errorf("identify caller: %w", err)
	}
	return p, nil
}
