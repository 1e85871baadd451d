package sock

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is struct mmsghdr of recvmmsg(2). Go pads it as C does.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32 // bytes received
}

// controlSize holds one control message of each kind, in either direction:
// packet info (20 bytes for IPv6), segment size, traffic class.
const controlSize = 96

// envelope is what surrounds the payload of one message: peer address and
// control messages, aligned as the kernel wants them.
type envelope struct {
	control [controlSize / 8]uint64
	name    unix.RawSockaddrInet6 // IPv4 addresses use its beginning
}

// attach points h at the envelope and at the given payload.
func (e *envelope) attach(h *mmsghdr, iov []unix.Iovec) {
	h.hdr.Name = (*byte)(unsafe.Pointer(&e.name))
	h.hdr.Namelen = uint32(unsafe.Sizeof(e.name))
	h.hdr.Control = (*byte)(unsafe.Pointer(&e.control))
	h.hdr.SetControllen(controlSize)
	h.hdr.Iov = &iov[0]
	h.hdr.SetIovlen(len(iov))
	h.hdr.Flags = 0
}

func (e *envelope) controlBytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&e.control)), controlSize)
}

// address returns the peer's address.
func (e *envelope) address() netip.AddrPort {
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&e.name.Port))[:])
	if e.name.Family == unix.AF_INET {
		in4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&e.name))
		return netip.AddrPortFrom(netip.AddrFrom4(in4.Addr), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(e.name.Addr), port)
}

// setAddress writes the peer's address and returns its length.
func (e *envelope) setAddress(a netip.AddrPort) uint32 {
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&e.name.Port))[:], a.Port())
	if a.Addr().Is4() {
		in4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&e.name))
		in4.Family, in4.Addr, in4.Zero = unix.AF_INET, a.Addr().As4(), [8]uint8{}
		return unix.SizeofSockaddrInet4
	}
	e.name.Family, e.name.Addr = unix.AF_INET6, a.Addr().As16()
	e.name.Flowinfo, e.name.Scope_id = 0, 0
	return unix.SizeofSockaddrInet6
}

// appendControl writes a control message at b[at:], with a body of n bytes
// that the caller fills, and returns that body and where the next one goes.
func appendControl(b []byte, at int, level, kind int32, n int) (body []byte, next int) {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[at]))
	h.Level, h.Type = level, kind
	h.SetLen(unix.CmsgLen(n))
	body = b[at+unix.CmsgLen(0) : at+unix.CmsgLen(n)]
	clear(body)
	return body, at + unix.CmsgSpace(n)
}

// setControl writes the control messages for sending and returns their
// length. segment is 0 for a single datagram.
func (e *envelope) setControl(source netip.Addr, ecn uint8, segment int) int {
	b, at := e.controlBytes(), 0
	var body []byte
	switch pinned := source.IsValid() && !source.IsUnspecified(); {
	case pinned && source.Is4():
		body, at = appendControl(b, at, unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)
		(*unix.Inet4Pktinfo)(unsafe.Pointer(&body[0])).Spec_dst = source.As4()
	case pinned:
		body, at = appendControl(b, at, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo)
		(*unix.Inet6Pktinfo)(unsafe.Pointer(&body[0])).Addr = source.As16()
	}
	if ecn != 0 {
		level, kind := int32(unix.IPPROTO_IP), int32(unix.IP_TOS)
		if e.name.Family == unix.AF_INET6 {
			level, kind = unix.IPPROTO_IPV6, unix.IPV6_TCLASS
		}
		body, at = appendControl(b, at, level, kind, 4)
		binary.NativeEndian.PutUint32(body, uint32(ecn))
	}
	if segment != 0 {
		body, at = appendControl(b, at, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 2)
		binary.NativeEndian.PutUint16(body, uint16(segment))
	}
	return at
}

// parseControl reads the control messages of a received message into m.
func parseControl(b []byte, m *Message) {
	for len(b) >= unix.SizeofCmsghdr {
		h, body, rest, err := unix.ParseOneSocketControlMessage(b)
		if err != nil {
			return
		}
		b = rest
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(body) >= unix.SizeofInet4Pktinfo:
			m.Local = netip.AddrFrom4((*unix.Inet4Pktinfo)(unsafe.Pointer(&body[0])).Addr)
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(body) >= unix.SizeofInet6Pktinfo:
			m.Local = netip.AddrFrom16((*unix.Inet6Pktinfo)(unsafe.Pointer(&body[0])).Addr)
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TOS && len(body) >= 1:
			m.ECN = body[0] & 3
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_TCLASS && len(body) >= 4:
			m.ECN = uint8(binary.NativeEndian.Uint32(body)) & 3
		case h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(body) >= 4:
			m.Segment = int(binary.NativeEndian.Uint32(body))
		}
	}
}
