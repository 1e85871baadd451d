// Package loopback tells whose program is at the other end of a connection on
// this machine's loopback address. Such addresses are for everybody on the
// machine, and connections to them say nothing about who they are from.
package loopback

import (
	"errors"
	"net"
	"net/netip"
)

// Mine reports whether the program at the other end of a TCP connection belongs
// to the user of this process. The error says that the system does not tell.
func Mine(c net.Conn) (bool, error) {
	here, err := address(c.LocalAddr())
	if err != nil {
		return false, err
	}
	there, err := address(c.RemoteAddr())
	if err != nil {
		return false, err
	}
	return mine(here, there)
}

func address(a net.Addr) (netip.AddrPort, error) {
	t, ok := a.(*net.TCPAddr)
	if !ok || !t.IP.IsLoopback() {
		return netip.AddrPort{}, errors.New("not a connection on the loopback address")
	}
	p := t.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port()), nil
}
