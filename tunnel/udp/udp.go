// Package udp carries the tunnel's datagrams: one socket for each family,
// bound to the well-known port if it is free, reopened when the machine moves;
// and the grouping of datagrams into runs that the kernel takes in one pass.
// Spec connectivity.md 2.1.
package udp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"stile/platform/sock"
)

// Port is what a node binds first, for each family: peers guess that our
// public address can be reached on it (spec connectivity.md 3.6).
const Port = 52625

// Sockets are the node's two sockets. Methods may be called from any
// goroutine.
type Sockets struct {
	port    uint16
	buffers sock.BufferSizes
	listen  func(sock.Family, uint16, sock.BufferSizes) (*sock.UDP, error)
	change  *sync.Cond // on mu: sockets were opened or closed for good

	mu     sync.Mutex   // guards what follows
	family [2]*sock.UDP // IPv4, IPv6; nil: the family is missing
	closed bool
}

// Families in the order of Sockets.
var Families = [2]sock.Family{sock.IPv4, sock.IPv6}

// Open opens both sockets on port, or on any port where it is taken. A family
// that the machine lacks is left out. The error tells why there is neither, or
// wraps sock.ErrMark. Sizes in buffers that are zero stand for the platform's
// default.
func Open(port uint16, buffers sock.BufferSizes) (*Sockets, error) {
	return open(port, buffers, sock.Listen)
}

func open(port uint16, buffers sock.BufferSizes, listen func(sock.Family, uint16, sock.BufferSizes) (*sock.UDP, error)) (*Sockets, error) {
	s := &Sockets{port: port, buffers: buffers, listen: listen}
	s.change = sync.NewCond(&s.mu)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.openLocked(); err != nil {
		return nil, err
	}
	return s, nil
}

// Rebind closes the sockets and opens others, after the machine has moved to
// another network. Readers go on with the new ones. After an error there are
// none: readers wait until a Rebind succeeds.
func (s *Sockets) Rebind() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.closeLocked()
	return s.openLocked()
}

func (s *Sockets) openLocked() error {
	var errs [2]error
	for i, f := range Families {
		u, err := s.listen(f, s.port, s.buffers)
		if err != nil && !errors.Is(err, sock.ErrMark) && s.port != 0 {
			u, err = s.listen(f, 0, s.buffers)
		}
		if errs[i] = err; err == nil {
			s.family[i] = u
		}
	}
	s.change.Broadcast()
	for _, err := range errs {
		if errors.Is(err, sock.ErrMark) { // one is like the other
			s.closeLocked()
			return fmt.Errorf("open UDP sockets: %w", err)
		}
	}
	if s.family == [2]*sock.UDP{} {
		return fmt.Errorf("open UDP sockets: %w; %w", errs[0], errs[1])
	}
	return nil
}

func (s *Sockets) closeLocked() {
	for i, u := range s.family {
		if u != nil {
			u.Close()
		}
		s.family[i] = nil
	}
}

// Close closes both sockets for good; Receive returns net.ErrClosed.
func (s *Sockets) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.closeLocked()
	s.change.Broadcast()
	return nil
}

// Receive waits for messages of one family (an index of Families), across
// Rebind, and returns the socket's port with them. They are valid until r is
// used again. A family that is missing is waited for.
func (s *Sockets) Receive(family int, r *sock.Receiver) ([]sock.Message, uint16, error) {
	for {
		u, err := s.wait(family)
		if err != nil {
			return nil, 0, err
		}
		messages, err := r.Receive(u)
		if err == nil {
			return messages, u.Port(), nil
		}
		if s.current(family) == u {
			return nil, 0, fmt.Errorf("receive on UDP port %d: %w", u.Port(), err)
		}
	}
}

// wait returns the family's socket once there is one.
func (s *Sockets) wait(family int) (*sock.UDP, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.family[family] == nil && !s.closed {
		s.change.Wait()
	}
	if s.closed {
		return nil, net.ErrClosed
	}
	return s.family[family], nil
}

func (s *Sockets) current(family int) *sock.UDP {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.family[family]
}

// errNoFamily is why datagrams are lost for a family that the machine lacks.
var errNoFamily = errors.New("this machine lacks the address family")

// Send sends runs for one family (an index of Families), as sock.Sender does.
func (s *Sockets) Send(family int, sender *sock.Sender, runs []sock.Run) (lost int, err error) {
	if u := s.current(family); u != nil {
		return sender.Send(u, runs)
	}
	for _, r := range runs {
		lost += len(r.Datagrams)
	}
	return lost, errNoFamily
}

// A Socket tells how one of the sockets turned out.
type Socket struct {
	Family   sock.Family
	Port     uint16
	GSO, GRO bool
	Buffers  sock.BufferSizes
}

// Describe tells of the sockets that are open.
func (s *Sockets) Describe() []Socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Socket
	for i, u := range s.family {
		if u != nil {
			gso, gro := u.Offloads()
			list = append(list, Socket{Families[i], u.Port(), gso, gro, u.Buffers()})
		}
	}
	return list
}

// familyOf returns the index in Families of an address.
func familyOf(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}
