package ipcsock

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

func isRefused(err error) bool { return errors.Is(err, unix.ECONNREFUSED) }

// caller reads SO_PEERCRED, which the kernel filled in at connect(2).
func caller(conn net.Conn) (p Peer, err error) {
	socket, is := conn.(*net.UnixConn)
	if !is {
		return Peer{}, errors.New("not a Unix socket")
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var cred *unix.Ucred
	controlErr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(controlErr, err); err != nil {
		return Peer{}, err
	}
	return Peer{UID: cred.Uid, GID: cred.Gid, PID: cred.Pid}, nil
}
