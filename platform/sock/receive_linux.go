package sock

import (
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// groBytes is the most that the kernel coalesces into one message, and
// plainBytes holds a datagram of any size that the tunnel accepts with room to
// notice larger ones.
const (
	groBytes   = 64 << 10
	plainBytes = 2 << 10
)

// A Receiver is the buffers of one receiving goroutine. It outlives the
// sockets that it is used with.
type Receiver struct {
	bytes     []byte
	stride    int // bytes of each message's buffer
	messages  []Message
	headers   []mmsghdr
	envelopes []envelope
	iovecs    []unix.Iovec
	n         int
	errno     syscall.Errno
	receive   func(fd uintptr) bool // once, so that no call makes a closure
}

// NewReceiver makes buffers for reading up to messages messages at once.
// Messages that the system coalesces are as large as 64 KiB, but memory that no
// message has filled yet takes no room.
func NewReceiver(messages int) *Receiver {
	r := &Receiver{
		bytes:     make([]byte, messages*groBytes),
		messages:  make([]Message, messages),
		headers:   make([]mmsghdr, messages),
		envelopes: make([]envelope, messages),
		iovecs:    make([]unix.Iovec, messages),
	}
	r.receive = r.recvmmsg
	return r
}

// Receive waits for messages and returns as many as are there. They are valid
// until the next call; their payloads may be changed in place. A datagram that
// is larger than its buffer is cut.
func (r *Receiver) Receive(u *UDP) ([]Message, error) {
	r.stride = plainBytes
	if u.gro {
		r.stride = groBytes
	}
	for i := range r.headers {
		buf := r.buffer(i)
		r.iovecs[i].Base = &buf[0]
		r.iovecs[i].SetLen(len(buf))
		r.envelopes[i].attach(&r.headers[i], r.iovecs[i:i+1])
	}
	if err := u.raw.Read(r.receive); err != nil {
		return nil, err
	}
	if r.errno != 0 {
		return nil, r.errno
	}
	for i := range r.n {
		r.fill(i, u.family)
	}
	return r.messages[:r.n], nil
}

func (r *Receiver) buffer(i int) []byte { return r.bytes[i*r.stride : (i+1)*r.stride] }

// recvmmsg reads without blocking; false means that there is nothing yet.
func (r *Receiver) recvmmsg(fd uintptr) bool {
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&r.headers[0])), uintptr(len(r.headers)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		case 0:
			r.n, r.errno = int(n), 0
		default:
			r.n, r.errno = 0, errno
		}
		return true
	}
}

// fill turns the i-th header into a Message.
func (r *Receiver) fill(i int, family Family) {
	h, m := &r.headers[i], &r.messages[i]
	n := min(int(h.len), r.stride)
	*m = Message{Local: netip.IPv4Unspecified(), Remote: r.envelopes[i].address(), Payload: r.buffer(i)[:n]}
	if family == IPv6 {
		m.Local = netip.IPv6Unspecified()
	}
	parseControl(r.envelopes[i].controlBytes()[:h.hdr.Controllen], m)
	if m.Segment <= 0 || m.Segment > n {
		m.Segment = n
	}
}
