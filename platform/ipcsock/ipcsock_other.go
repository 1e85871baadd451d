//go:build !linux && !windows

package ipcsock

import (
	"errors"
	"net"
)

func isRefused(error) bool { return false }

func caller(net.Conn) (Peer, error) { return Peer{}, errors.ErrUnsupported }

func program(net.Conn, Peer) (executable, error) {
	return executable{}, errors.New("not on this system")
}
