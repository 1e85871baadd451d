//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"stile/build/lab/host"
)

// A told error is what the kernel tells a program of an ICMP error about a
// datagram that it sent.
type toldError struct {
	kind, code byte
	info       uint32     // the MTU of "packet too big"
	from       netip.Addr // who says so
	about      netip.AddrPort
	quote      []byte // the payload, as far as it was quoted
}

// provoke sends a datagram from a host with so many hops to go, and waits for
// the error that comes of it.
func provoke(h *host.Host, to netip.AddrPort, payload []byte, hops int) (e toldError, err error) {
	err = h.InNetwork(func() error {
		family, level, remote := unix.AF_INET, unix.IPPROTO_IP, unix.Sockaddr(&unix.SockaddrInet4{Port: int(to.Port())})
		options := map[int]int{unix.IP_RECVERR: 1, unix.IP_TTL: hops, unix.IP_MTU_DISCOVER: unix.IP_PMTUDISC_PROBE}
		if a := to.Addr(); a.Is4() {
			remote.(*unix.SockaddrInet4).Addr = a.As4()
		} else {
			family, level = unix.AF_INET6, unix.IPPROTO_IPV6
			remote = &unix.SockaddrInet6{Port: int(to.Port()), Addr: a.As16()}
			options = map[int]int{unix.IPV6_RECVERR: 1, unix.IPV6_UNICAST_HOPS: hops, unix.IPV6_MTU_DISCOVER: unix.IPV6_PMTUDISC_PROBE}
		}
		fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for option, value := range options {
			if err := unix.SetsockoptInt(fd, level, option, value); err != nil {
				return err
			}
		}
		if err := unix.Sendto(fd, payload, 0, remote); err != nil {
			return err
		}
		if err := await(fd, 0, 5*time.Second); err != nil {
			return fmt.Errorf("no error comes: %w", err)
		}
		return e.receive(fd)
	})
	return e, err
}

// await waits until one of the events, or an error, is there at a file descriptor.
// Go's runtime interrupts system calls by signals as it likes; after each the rest
// of the time is waited.
func await(fd int, events int16, patience time.Duration) error {
	for end := time.Now().Add(patience); ; {
		rest := max(time.Until(end), 0)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, int((rest+time.Millisecond-1)/time.Millisecond))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("poll: %w", err)
		case n == 0:
			return fmt.Errorf("nothing within %v: %w", patience, os.ErrDeadlineExceeded)
		default:
			return nil
		}
	}
}

// receive takes an error from a socket's queue.
func (e *toldError) receive(fd int) error {
	quote, control := make([]byte, 2048), make([]byte, 512)
	n, cn, _, about, err := unix.Recvmsg(fd, quote, control, unix.MSG_ERRQUEUE)
	if err != nil {
		return err
	}
	e.quote, e.about = quote[:n], addrPort(about)
	messages, err := unix.ParseSocketControlMessage(control[:cn])
	if err != nil {
		return err
	}
	for _, m := range messages {
		if m.Header.Type != unix.IP_RECVERR && m.Header.Type != unix.IPV6_RECVERR || len(m.Data) < 16 {
			continue
		}
		// struct sock_extended_err, and the address of who sent it
		e.kind, e.code, e.info = m.Data[5], m.Data[6], binary.NativeEndian.Uint32(m.Data[8:])
		if m.Data[4] == unix.SO_EE_ORIGIN_LOCAL {
			return fmt.Errorf("this very host refuses it: %w", unix.Errno(binary.NativeEndian.Uint32(m.Data)))
		}
		switch s := m.Data[16:]; {
		case len(s) >= unix.SizeofSockaddrInet4 && binary.NativeEndian.Uint16(s) == unix.AF_INET:
			e.from = netip.AddrFrom4([4]byte(s[4:8]))
		case len(s) >= unix.SizeofSockaddrInet6 && binary.NativeEndian.Uint16(s) == unix.AF_INET6:
			e.from = netip.AddrFrom16([16]byte(s[8:24]))
		}
		return nil
	}
	return errors.New("the kernel tells nothing about the error")
}

func addrPort(s unix.Sockaddr) netip.AddrPort {
	switch s := s.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(s.Addr), uint16(s.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(s.Addr), uint16(s.Port))
	}
	return netip.AddrPort{}
}

// fussyPort of the vault is where every datagram over IPv6 is too big. Routers
// of the lab have no link that takes less than the tunnel's 1280 bytes, which
// is IPv6's minimum, so somebody has to say it.
const fussyPort = 4010

// refuseLarge starts a server on the vault that answers each datagram with
// "packet too big" in the name of its router.
func (v *visit) refuseLarge() error {
	vault := v.hosts["vault"]
	p, err := vault.ListenPacket("udp6", netip.AddrPortFrom(vaultPlace.v6.Addr(), fussyPort).String())
	if err != nil {
		return err
	}
	var raw net.PacketConn
	if err := v.net.wiki.InNetwork(func() (err error) {
		raw, err = net.ListenPacket("ip6:ipv6-icmp", wikiPlace.v6.Addr().String())
		return err
	}); err != nil {
		return err
	}
	v.spawn("fussy server", func(ctx context.Context) error {
		defer raw.Close()
		defer context.AfterFunc(ctx, func() { p.Close() })()
		buf := make([]byte, 2048)
		for {
			n, from, err := p.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			if err != nil {
				return err
			}
			to := from.(*net.UDPAddr).AddrPort()
			e := tooBig(to, netip.AddrPortFrom(vaultPlace.v6.Addr(), fussyPort), buf[:n])
			if _, err := raw.WriteTo(e, &net.IPAddr{IP: to.Addr().AsSlice()}); err != nil {
				return err
			}
		}
	})
	return nil
}

// tooBig makes an ICMPv6 error, without its checksum, which the kernel adds: a
// datagram was larger than 1280 bytes (RFC 4443 3.2). It quotes 1240 bytes.
func tooBig(from, to netip.AddrPort, payload []byte) []byte {
	length := 8 + len(payload)
	udp := binary.BigEndian.AppendUint16(nil, from.Port())
	udp = binary.BigEndian.AppendUint16(udp, to.Port())
	udp = binary.BigEndian.AppendUint16(udp, uint16(length))
	udp = append(udp, 0, 0)
	udp = append(udp, payload...)
	source, destination := from.Addr().As16(), to.Addr().As16()
	binary.BigEndian.PutUint16(udp[6:], checksum(source[:], destination[:], []byte{0, 17, byte(length >> 8), byte(length)}, udp))

	e := []byte{2, 0, 0, 0, 0, 0, 1280 >> 8, 1280 & 0xff}
	e = append(e, 0x60, 0, 0, 0, byte(length>>8), byte(length), 17, 62)
	e = append(append(e, source[:]...), destination[:]...)
	e = append(e, udp...)
	return e[:min(len(e), 8+1240-8)]
}

// checksum is the internet checksum over several parts, all but the last of
// even length.
func checksum(parts ...[]byte) uint16 {
	var sum uint32
	for _, p := range parts {
		for i, b := range p {
			if i%2 == 0 {
				sum += uint32(b) << 8
			} else {
				sum += uint32(b)
			}
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	if sum == 0xffff {
		return 0xffff
	}
	return ^uint16(sum)
}
