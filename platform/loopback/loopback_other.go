//go:build !linux && !windows

package loopback

import (
	"errors"
	"net/netip"
)

func mine(_, _ netip.AddrPort) (bool, error) { return false, errors.ErrUnsupported }
