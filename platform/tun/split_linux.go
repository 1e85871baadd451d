package tun

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

var errFrame = errors.New("the kernel handed over a frame that makes no sense")

// A frame is what one read of the device gave: a packet, or a large segment of
// TCP or UDP that is yet to be cut into packets.
type frame struct {
	buf    [vnetLen + maxFrame]byte
	packet []byte // aliases buf; nil once all of it is handed out
	vnet   vnet

	// For a segment:
	headers  int    // bytes of all headers; 0: the frame is a plain packet
	payload  int    // bytes of payload in each packet but the last
	done     int    // bytes of payload handed out
	cut      int    // packets handed out
	sequence uint32 // of TCP, at the start of the segment
	pseudo   uint64 // sum of the pseudo header without the length
}

// load takes the n bytes that were read into buf.
func (f *frame) load(n int) error {
	f.packet, f.headers = nil, 0
	if n < vnetLen+1 {
		return errFrame
	}
	f.vnet.decode(f.buf[:])
	p := f.buf[vnetLen:n]
	start := int(f.vnet.checksumStart)
	field := start + int(f.vnet.checksumField)
	// The kernel has not computed the checksum at field, if the flag says so.
	partial := f.vnet.flags&unix.VIRTIO_NET_HDR_F_NEEDS_CSUM != 0
	if partial && field+2 > len(p) {
		return errFrame
	}
	if f.vnet.gsoType == unix.VIRTIO_NET_HDR_GSO_NONE {
		if partial { // the field holds the sum of the pseudo header
			putSum(p[field:], checksum(sum(p[start:], 0)))
		}
		f.packet = p
		return nil
	}
	if !partial || f.vnet.gsoSize == 0 {
		return errFrame
	}
	return f.loadSegment(p, start, field)
}

// loadSegment prepares a large segment. The header length that the kernel
// tells may be that of all its linear data, so it is read from the headers.
func (f *frame) loadSegment(p []byte, start, field int) error {
	minimum, protocol := v4HeaderLen, uint8(unix.IPPROTO_TCP)
	if p[0]>>4 == 6 {
		minimum = v6HeaderLen
	}
	if start < minimum || len(p) < start+udpHeaderLen {
		return errFrame
	}
	if f.vnet.gsoType == unix.VIRTIO_NET_HDR_GSO_UDP_L4 {
		protocol = unix.IPPROTO_UDP
		f.headers = start + udpHeaderLen
	} else {
		if len(p) < start+tcpHeaderLen {
			return errFrame
		}
		f.headers = start + int(p[start+tcpOffset]>>4)*4
		f.sequence = binary.BigEndian.Uint32(p[start+tcpSequence:])
	}
	if len(p) <= f.headers || f.headers < start+udpHeaderLen || field+2 > f.headers {
		return errFrame
	}
	p[field], p[field+1] = 0, 0
	f.pseudo = pseudo(p, protocol)
	f.packet, f.payload, f.done, f.cut = p, int(f.vnet.gsoSize), 0, 0
	return nil
}

// next writes the next packet to dst and returns its size, 0 if it does not
// fit. It is called while packet is not nil.
func (f *frame) next(dst []byte) int {
	if f.headers == 0 {
		p := f.packet
		f.packet = nil
		if len(p) > len(dst) {
			return 0
		}
		return copy(dst, p)
	}
	from := f.headers + f.done
	to := min(from+f.payload, len(f.packet))
	n := f.headers + to - from
	if n <= len(dst) {
		copy(dst, f.packet[:f.headers])
		copy(dst[f.headers:n], f.packet[from:to])
		f.patch(dst[:n], to == len(f.packet))
	} else {
		n = 0
	}
	f.done += to - from
	f.cut++
	if to == len(f.packet) {
		f.packet = nil
	}
	return n
}

// patch gives one packet of a segment the header fields that differ between
// them, and its checksums.
func (f *frame) patch(p []byte, last bool) {
	if p[0]>>4 == 4 {
		id := binary.BigEndian.Uint16(p[v4ID:])
		binary.BigEndian.PutUint16(p[v4ID:], id+uint16(f.cut))
	}
	setLength(p, len(p))
	start := int(f.vnet.checksumStart)
	transport := p[start:]
	udp := f.vnet.gsoType == unix.VIRTIO_NET_HDR_GSO_UDP_L4
	if udp {
		binary.BigEndian.PutUint16(transport[udpLength:], uint16(len(transport)))
	} else {
		binary.BigEndian.PutUint32(transport[tcpSequence:], f.sequence+uint32(f.done))
		if !last {
			transport[tcpFlags] &^= flagFIN | flagPSH
		}
		if f.cut > 0 {
			transport[tcpFlags] &^= flagCWR // once for each reduction (RFC 3168 §6.1.2)
		}
	}
	putSum(transport[f.vnet.checksumField:], checksum(add(sum(transport, f.pseudo), number(uint16(len(transport))))))
}
