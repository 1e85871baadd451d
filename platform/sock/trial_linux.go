package sock

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// try keeps a second descriptor of the socket: the messages about it are read
// when the dialer has given it up.
func try(ctx context.Context, to netip.AddrPort) (t Trial) {
	second := -1
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			if second >= 0 {
				unix.Close(second)
			}
			level, option := unix.SOL_IP, unix.IP_RECVERR
			if to.Addr().Is6() {
				level, option = unix.SOL_IPV6, unix.IPV6_RECVERR
			}
			unix.SetsockoptInt(int(fd), level, option, 1) // without it we know less, and that is all
			second, _ = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
		})
	}}
	d.SetMultipathTCP(false)
	conn, err := d.DialContext(ctx, "tcp", to.String())
	if second >= 0 {
		defer unix.Close(second)
	}
	if err == nil {
		conn.Close()
		return Trial{}
	}
	if t.Failure = FailureOf(err); ctx.Err() != nil {
		t.Failure = TimedOut
	}
	if second >= 0 && t.Failure != TimedOut {
		t.read(second)
	}
	return t
}

// read takes the latest message of ICMP about a socket.
func (t *Trial) read(fd int) {
	quote, control := make([]byte, 512), make([]byte, 512)
	for {
		_, n, _, _, err := unix.Recvmsg(fd, quote, control, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if err != nil {
			return
		}
		messages, err := unix.ParseSocketControlMessage(control[:n])
		if err != nil {
			return
		}
		for _, m := range messages {
			if m.Header.Type == unix.IP_RECVERR || m.Header.Type == unix.IPV6_RECVERR {
				t.take(m.Data)
			}
		}
	}
}

// take reads a struct sock_extended_err and the address behind it.
func (t *Trial) take(b []byte) {
	const size = 16 // of the struct: errno, origin, type, code, and what says nothing here
	if len(b) < size {
		return
	}
	origin, kind, code, from := b[4], b[5], b[6], b[size:]
	switch {
	case origin == unix.SO_EE_ORIGIN_ICMP && len(from) >= unix.SizeofSockaddrInet4 && binary.NativeEndian.Uint16(from) == unix.AF_INET:
		t.By = netip.AddrFrom4([4]byte(from[4:8]))
		if kind == 3 && (code == 9 || code == 10 || code == 13) { // errno says "host unreachable"
			t.Failure = Forbidden
		}
	case origin == unix.SO_EE_ORIGIN_ICMP6 && len(from) >= unix.SizeofSockaddrInet6 && binary.NativeEndian.Uint16(from) == unix.AF_INET6:
		t.By = netip.AddrFrom16([16]byte(from[8:24])).Unmap()
		if kind == 1 && (code == 1 || code == 5 || code == 6) {
			t.Failure = Forbidden
		}
	}
}
