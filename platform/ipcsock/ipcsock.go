// Package ipcsock is local IPC that knows its caller: a Unix socket, or a named
// pipe of Windows, whose other end the system names.
package ipcsock

import (
	"errors"
	"fmt"
	"net"
	"strconv"
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

// A Peer is the process at the other end, as it was when it connected.
type Peer struct {
	UID, GID uint32 // noID where users have no numbers
	PID      int32
	// SID and Session are the user and the logon session on Windows, where
	// services run in session 0.
	SID     string
	Session uint32

	elevated bool // has the rights of an administrator of Windows
}

// noID is nobody's number.
const noID = ^uint32(0)

// systemSID is the account that services of Windows run as.
const systemSID = "S-1-5-18"

// Admin reports whether p has the rights of the machine's administrator.
func (p Peer) Admin() bool {
	if p.SID != "" {
		return p.SID == systemSID || p.elevated
	}
	return p.UID == 0
}

// User returns what names p's user on this machine: a number, or a SID.
func (p Peer) User() string {
	if p.SID != "" {
		return p.SID
	}
	return strconv.FormatUint(uint64(p.UID), 10)
}

// Interactive reports whether p belongs to a logon session of Windows that a
// person sits at, which the rights on a pipe ask for as well.
func (p Peer) Interactive() bool { return p.SID != "" && p.Session != 0 }

// Caller asks the system who is at the other end of conn.
func Caller(conn net.Conn) (Peer, error) {
	p, err := caller(conn)
	if err != nil {
		return Peer{}, fmt.Errorf("identify caller: %w", err)
	}
	return p, nil
}

// Server asks the system who serves at the other end of conn, which Dial made,
// and whether that is to be trusted: the administrator or this user runs it.
func Server(conn net.Conn) (p Peer, trusted bool, err error) {
	p, trusted, err = server(conn)
	if err != nil {
		return Peer{}, false, fmt.Errorf("identify the service: %w", err)
	}
	return p, trusted, nil
}
