//go:build !linux

package ipcsock

import (
	"errors"
	"net"
)

func groups(*net.UnixConn) ([]uint32, error) { return nil, errors.ErrUnsupported }
