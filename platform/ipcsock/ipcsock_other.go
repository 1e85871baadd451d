//go:build !linux

package ipcsock

import (
	"errors"
	"net"
)

func isRefused(error) bool { return false }

func caller(*net.UnixConn) (Peer, error) { return Peer{}, errors.ErrUnsupported }
