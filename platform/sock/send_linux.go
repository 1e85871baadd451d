package sock

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Capacities of one sendmmsg. A run of MaxRun datagrams always fits, also when
// each of them needs a message of its own.
const (
	sendMessages  = 128
	sendDatagrams = 256
)

// A Sender is the scratch space of one sending goroutine. It outlives the
// sockets that it is used with.
type Sender struct {
	headers   [sendMessages]mmsghdr
	envelopes [sendMessages]envelope
	iovecs    [sendDatagrams]unix.Iovec
	messages  int // headers filled
	datagrams int // iovecs filled

	first int // header to start from
	errno syscall.Errno
	send  func(fd uintptr) bool // once, so that no call makes a closure
}

// NewSender makes a Sender.
func NewSender() *Sender {
	s := new(Sender)
	s.send = s.sendmmsg
	return s
}

// Send writes all runs, in order, and waits while the socket's buffer is full.
// A run that the system refuses is lost, as on a network, and the others are
// sent nevertheless: lost counts its datagrams and err is the first reason. A
// closed socket loses all that is left.
//
// When the system refuses a run only because it cannot segment it, the run is
// sent datagram by datagram and segmentation is off for this socket from then
// on: some drivers find out only when they see one.
func (s *Sender) Send(u *UDP, runs []Run) (lost int, err error) {
	for i := range runs {
		need := 1
		if !u.gso.Load() {
			need = len(runs[i].Datagrams)
		}
		if s.messages+need > sendMessages || s.datagrams+len(runs[i].Datagrams) > sendDatagrams {
			n, e := s.flush(u)
			lost += n
			err = first(err, e)
		}
		s.add(&runs[i], need == 1)
	}
	n, e := s.flush(u)
	return lost + n, first(err, e)
}

func first(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// add turns a run into headers: one, or one for each datagram.
func (s *Sender) add(r *Run, whole bool) {
	begin := s.datagrams
	for _, d := range r.Datagrams {
		if len(d) == 0 {
			continue
		}
		s.iovecs[s.datagrams].Base = &d[0]
		s.iovecs[s.datagrams].SetLen(len(d))
		s.datagrams++
	}
	iovecs := s.iovecs[begin:s.datagrams]
	switch {
	case len(iovecs) == 0:
	case whole && len(iovecs) > 1:
		s.header(r, iovecs, int(iovecs[0].Len))
	default:
		for i := range iovecs {
			s.header(r, iovecs[i:i+1], 0)
		}
	}
}

func (s *Sender) header(r *Run, iovecs []unix.Iovec, segment int) {
	h, e := &s.headers[s.messages], &s.envelopes[s.messages]
	e.attach(h, iovecs)
	h.hdr.Namelen = e.setAddress(r.Remote)
	n := e.setControl(r.Source, r.ECN, segment)
	h.hdr.SetControllen(n)
	if n == 0 {
		h.hdr.Control = nil
	}
	s.messages++
}

// flush sends all headers.
func (s *Sender) flush(u *UDP) (lost int, err error) {
	for s.first = 0; s.first < s.messages; {
		if e := u.raw.Write(s.send); e != nil { // closed
			for ; s.first < s.messages; s.first++ {
				lost += int(s.headers[s.first].hdr.Iovlen)
			}
			err = first(err, e)
			break
		}
		if s.errno != 0 {
			n, e := s.refused(u)
			lost += n
			err = first(err, e)
			s.first++
		}
	}
	s.messages, s.datagrams = 0, 0
	return lost, err
}

// sendmmsg writes from s.first on, until all is sent or a message is refused;
// false means that the socket's buffer is full.
func (s *Sender) sendmmsg(fd uintptr) bool {
	for s.errno = 0; s.first < s.messages; {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&s.headers[s.first])), uintptr(s.messages-s.first), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			s.first += int(n)
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			s.errno = errno
			return true
		}
	}
	return true
}

// refused deals with the message at s.first, which the system did not take.
func (s *Sender) refused(u *UDP) (lost int, err error) {
	h := &s.headers[s.first]
	n := int(h.hdr.Iovlen)
	if n == 1 || s.errno != unix.EIO && s.errno != unix.EINVAL {
		return n, s.errno
	}
	// EINVAL has other causes too, a source address that is gone for one, so
	// segmentation is at fault only if a datagram passes without it.
	iovecs := unsafe.Slice(h.hdr.Iov, n)
	e := &s.envelopes[s.first]
	h.hdr.SetControllen(dropSegment(e.controlBytes()[:h.hdr.Controllen]))
	for i := range iovecs {
		h.hdr.Iov = &iovecs[i]
		h.hdr.SetIovlen(1)
		if reason := s.one(u, h); reason != nil {
			lost++
			err = first(err, reason)
		} else {
			u.gso.Store(false)
		}
	}
	return lost, err
}

// one sends a single header and waits while the socket's buffer is full.
func (s *Sender) one(u *UDP, h *mmsghdr) error {
	var errno syscall.Errno
	err := u.raw.Write(func(fd uintptr) bool {
		for {
			_, _, errno = unix.Syscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&h.hdr)), unix.MSG_DONTWAIT)
			if errno != unix.EINTR {
				return errno != unix.EAGAIN
			}
		}
	})
	if err == nil && errno != 0 {
		err = errno
	}
	return err
}

// dropSegment returns the length of control without its last message, which
// holds the segment size.
func dropSegment(control []byte) int { return len(control) - unix.CmsgSpace(2) }
