package packet

import "encoding/binary"

// ValidChecksums reports whether the IPv4 header checksum and the transport
// checksum are right. A UDP checksum of zero over IPv4 counts as right, and so
// does the transport checksum of a fragment, which covers others.
func (p Packet) ValidChecksums() bool {
	if p.version == 4 && fold(sum(p.b[:p.transport])) != 0xffff {
		return false
	}
	if p.checksum == 0 || p.fragment != 0 {
		return true
	}
	if p.proto == UDP && p.version == 4 && binary.BigEndian.Uint16(p.b[p.checksum:]) == 0 {
		return true
	}
	return fold(p.transportSum()) == 0xffff
}

// sumHeader computes the IPv4 header checksum from scratch.
func (p Packet) sumHeader() {
	binary.BigEndian.PutUint16(p.b[headerChecksum4:], 0)
	binary.BigEndian.PutUint16(p.b[headerChecksum4:], ^fold(sum(p.b[:p.transport])))
}

// sumTransport computes the transport checksum from scratch.
func (p Packet) sumTransport() {
	binary.BigEndian.PutUint16(p.b[p.checksum:], 0)
	c := ^fold(p.transportSum())
	if c == 0 && p.proto == UDP {
		c = 0xffff // zero means "none" (RFC 768)
	}
	binary.BigEndian.PutUint16(p.b[p.checksum:], c)
}

// transportSum adds up all that the transport checksum covers, and itself.
func (p Packet) transportSum() uint64 {
	s := sum(p.b[p.transport:])
	if p.proto == ICMP {
		return s
	}
	if p.version == 4 {
		s += sum(p.b[12:20])
	} else {
		s += sum(p.b[8:40])
	}
	return s + uint64(p.proto) + uint64(len(p.b)-int(p.transport))
}

// sum adds up b in units of 16 bits, big endian, padded with a zero byte. The
// result is not folded; 64 bits hold any b.
func sum(b []byte) (s uint64) {
	for len(b) >= 4 {
		s += uint64(binary.BigEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		s += uint64(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		s += uint64(b[0]) << 8
	}
	return s
}
