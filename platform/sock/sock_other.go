//go:build !linux

package sock

import "net/netip"

// setMark does nothing: other systems bypass the tunnel by source address
// (spec connectivity.md 2.2).
func setMark(uintptr) error { return nil }

// maxDatagram is the most that a UDP datagram can hold.
const maxDatagram = 64 << 10

// A Receiver is the buffer of one receiving goroutine. It outlives the sockets
// that it is used with.
type Receiver struct {
	buf     [maxDatagram]byte
	message [1]Message
}

// NewReceiver makes a buffer. These systems hand out one datagram at a time,
// whatever number is asked for.
func NewReceiver(int) *Receiver { return new(Receiver) }

// Receive waits for a datagram. It is valid until the next call; its payload
// may be changed in place.
func (r *Receiver) Receive(u *UDP) ([]Message, error) {
	n, from, err := u.conn.ReadFromUDPAddrPort(r.buf[:])
	if err != nil {
		return nil, err
	}
	local := netip.IPv4Unspecified()
	if u.family == IPv6 {
		local = netip.IPv6Unspecified()
	}
	r.message[0] = Message{Local: local, Remote: netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), Segment: n, Payload: r.buf[:n]}
	return r.message[:], nil
}

// A Sender sends datagrams one by one; Source and ECN have no effect.
type Sender struct{}

// NewSender makes a Sender.
func NewSender() *Sender { return new(Sender) }

// Send writes all runs, in order, and waits while the socket's buffer is full.
// A datagram that the system refuses is lost, as on a network, and the others
// are sent nevertheless: lost counts them and err is the first reason.
func (s *Sender) Send(u *UDP, runs []Run) (lost int, err error) {
	for _, r := range runs {
		for _, d := range r.Datagrams {
			if _, e := u.conn.WriteToUDPAddrPort(d, r.Remote); e != nil {
				lost++
				if err == nil {
					err = e
				}
			}
		}
	}
	return lost, err
}
