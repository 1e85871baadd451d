// Package sock opens sockets whose traffic bypasses the tunnel, and moves UDP
// datagrams in batches: many datagrams cross into the kernel in one system
// call, and runs of equal-sized ones in one pass through its network stack
// (spec connectivity.md 2.1).
//
// On Linux all of it is real: SO_MARK, recvmmsg and sendmmsg, UDP_SEGMENT and
// UDP_GRO, packet info in both directions, the path-MTU probe mode. Elsewhere
// the same calls move one datagram at a time.
package sock

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
)

// Mark is the SO_MARK of every socket of ours. The policy rules that lead
// traffic into the tunnel skip packets that carry it (spec connectivity.md 2.2).
const Mark = 0xfd002021

// ErrMark means that the system refused the mark. Do not go on without it: the
// socket's traffic would be led into the tunnel it is meant to carry.
var ErrMark = errors.New("cannot mark a socket to bypass the tunnel: run as root or with CAP_NET_ADMIN")

// Control marks a socket before it is bound or connected. It fits the field of
// the same name in net.Dialer and net.ListenConfig.
func Control(_, _ string, c syscall.RawConn) error { return control(c, setMark) }

// control runs set on the descriptor of c.
func control(c syscall.RawConn, set func(fd uintptr) error) error {
	var failed error
	if err := c.Control(func(fd uintptr) { failed = set(fd) }); err != nil {
		return err
	}
	return failed
}

// MaxRun is the largest number of datagrams in one Run, which is a limit of
// the kernel, and MaxRunBytes their largest total: what one UDP datagram over
// IPv4 could hold.
const (
	MaxRun      = 64
	MaxRunBytes = 65535 - 20 - 8
)

// A Run is a sequence of datagrams for one destination that leave in one go.
type Run struct {
	Source    netip.Addr     // sent from; zero or unspecified: the system chooses
	Remote    netip.AddrPort // of the socket's family
	ECN       uint8          // the ECN field of the IP header, 0–3 (RFC 3168 §5)
	Datagrams [][]byte       // at most MaxRun, none empty; all of one size, but the last may be shorter
}

// A Message is one or more datagrams from one sender that arrived together.
type Message struct {
	Local   netip.Addr     // destination address; unspecified where the system does not tell
	Remote  netip.AddrPort // sender
	ECN     uint8          // the ECN field of the IP header
	Segment int            // size of each datagram in Payload, but the last may be shorter; never 0 unless Payload is empty
	Payload []byte
}

// Buffer sizes are the kernel buffers of a UDP socket in bytes.
type BufferSizes struct{ Send, Receive int }

// A Family is an IP version.
type Family int

const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// UDP is a bound, unconnected UDP socket of one family on its wildcard
// address. It is safe for concurrent use.
type UDP struct {
	conn     *net.UDPConn
	raw      syscall.RawConn
	family   Family
	port     uint16
	obtained BufferSizes
	gro      bool
	gso      atomic.Bool // cleared once the system refuses segmentation
}

// Listen opens a socket of the given family on the given port; 0 stands for
// any. A size in want that is zero or negative stands for the platform's
// default. The error wraps ErrMark when the mark was refused.
func Listen(family Family, port uint16, want BufferSizes) (*UDP, error) {
	u := &UDP{family: family}
	network, any := "udp4", netip.IPv4Unspecified()
	if family == IPv6 {
		network, any = "udp6", netip.IPv6Unspecified()
	}
	if want.Send <= 0 {
		want.Send = DefaultBuffers.Send
	}
	if want.Receive <= 0 {
		want.Receive = DefaultBuffers.Receive
	}
	c := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return control(c, func(fd uintptr) error { return u.prepare(fd, want) })
	}}
	conn, err := c.ListenPacket(context.Background(), network, netip.AddrPortFrom(any, port).String())
	if err != nil {
		return nil, err // net.OpError names network and address
	}
	u.conn = conn.(*net.UDPConn)
	u.port = u.conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	if u.raw, err = u.conn.SyscallConn(); err != nil {
		conn.Close()
		return nil, err
	}
	return u, nil
}

// Port returns the local port.
func (u *UDP) Port() uint16 { return u.port }

// Buffers returns the sizes that the system granted, in the unit of the
// request. Some systems grant the default silently.
func (u *UDP) Buffers() BufferSizes { return u.obtained }

// Offloads reports whether runs are segmented and messages coalesced by the
// system. Sending may find out later that segmentation does not work.
func (u *UDP) Offloads() (gso, gro bool) { return u.gso.Load(), u.gro }

// Close unblocks all calls; they return net.ErrClosed.
func (u *UDP) Close() error { return u.conn.Close() }

// minBuffer ends the halving of refused buffer sizes.
const minBuffer = 64 << 10

// grow asks for a buffer of want bytes, and for half of it, and so on, until
// the system agrees.
func grow(want int, set func(bytes int) error) {
	for ; set(want) != nil && want > minBuffer; want /= 2 {
	}
}
