package sock

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// DefaultBuffers are what a socket asks for (spec connectivity.md 2.1).
var DefaultBuffers = BufferSizes{Send: 2 << 20, Receive: 16 << 20}

// preferPublic is IPV6_PREFER_SRC_PUBLIC of linux/in6.h (RFC 5014 §6).
const preferPublic = 2

func setMark(fd uintptr) error {
	mark := uint32(Mark) // overflows an int where that has 32 bits
	if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
		return fmt.Errorf("%w (%w)", ErrMark, err)
	}
	return nil
}

// prepare sets all options of a UDP socket before it is bound.
func (u *UDP) prepare(fd uintptr, want BufferSizes) error {
	if err := setMark(fd); err != nil {
		return err
	}
	s := int(fd)
	level, options := unix.IPPROTO_IP, [][2]int{
		{unix.IP_PKTINFO, 1},
		{unix.IP_RECVTOS, 1},
		{unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE}, // DF set, learnt path MTUs ignored
	}
	if u.family == IPv6 {
		level, options = unix.IPPROTO_IPV6, [][2]int{
			{unix.IPV6_RECVPKTINFO, 1},
			{unix.IPV6_RECVTCLASS, 1},
			{unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE},
			// A temporary address would change under a connection.
			{unix.IPV6_ADDR_PREFERENCES, preferPublic},
		}
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(s, level, o[0], o[1]); err != nil {
			return fmt.Errorf("set option %d of level %d: %w", o[0], level, err)
		}
	}
	_, err := unix.GetsockoptInt(s, unix.IPPROTO_UDP, unix.UDP_SEGMENT)
	u.gso.Store(err == nil)
	u.gro = unix.SetsockoptInt(s, unix.IPPROTO_UDP, unix.UDP_GRO, 1) == nil
	u.obtained = BufferSizes{
		Send:    setBuffer(s, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, want.Send),
		Receive: setBuffer(s, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, want.Receive),
	}
	return nil
}

// setBuffer sets a buffer size, beyond the system's maximum if it may, and
// returns what it got. The kernel doubles each request, to have room for its
// own bookkeeping, and tells the doubled number.
func setBuffer(fd, force, plain, want int) int {
	grow(want, func(bytes int) error {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, bytes); err == nil {
			return nil
		}
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, bytes)
	})
	got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, plain)
	if err != nil {
		return 0
	}
	return got / 2
}
