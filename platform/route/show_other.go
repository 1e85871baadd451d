//go:build !linux

package route

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
)

// to finds the interface by the address that a socket to a would have.
func to(a netip.Addr) (string, error) {
	conn, err := net.Dial("udp", netip.AddrPortFrom(a, 9).String()) // sends nothing
	if err != nil {
		return "", fmt.Errorf("find the route to %v: %w", a, err)
	}
	defer conn.Close()
	ours, is := conn.LocalAddr().(*net.UDPAddr)
	list, err := net.Interfaces()
	if err != nil || !is {
		return "", errors.Join(errors.ErrUnsupported, err)
	}
	for _, i := range list {
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, held := range addrs {
			if n, is := held.(*net.IPNet); is && n.IP.Equal(ours.IP) {
				return i.Name, nil
			}
		}
	}
	return "", fmt.Errorf("find the route to %v: no interface has %v", a, ours.IP)
}

func show() (string, error) {
	command := []string{"netstat", "-rn"}
	if runtime.GOOS == "windows" {
		command = []string{"route", "print"}
	}
	text, err := exec.Command(command[0], command[1:]...).Output()
	if err != nil {
		return "", fmt.Errorf("list routes: %w", err)
	}
	return string(text), nil
}
