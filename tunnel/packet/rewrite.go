package packet

import (
	"encoding/binary"
	"math"
	"net/netip"
)

// SetSrc replaces the source address; a must be of the packet's family. The
// IPv4 header checksum and the transport checksum follow.
func (p Packet) SetSrc(a netip.Addr) {
	p.mustCarry(a)
	p.SetSrc16(Addr16Of(a))
}

// SetDst replaces the destination address; a must be of the packet's family.
// The IPv4 header checksum and the transport checksum follow.
func (p Packet) SetDst(a netip.Addr) {
	p.mustCarry(a)
	p.SetDst16(Addr16Of(a))
}

func (p Packet) mustCarry(a netip.Addr) {
	if a.Unmap().Is4() != (p.version == 4) {
		panic("packet: an IPv" + string('0'+p.version) + " packet cannot carry " + a.String())
	}
}

// SetSrcPort replaces the source port of TCP and UDP and does nothing to other
// protocols.
func (p Packet) SetSrcPort(port uint16) {
	if p.hasPorts() {
		p.replaceWord(p.transport, port)
	}
}

// SetDstPort replaces the destination port of TCP and UDP and does nothing to
// other protocols.
func (p Packet) SetDstPort(port uint16) {
	if p.hasPorts() {
		p.replaceWord(p.transport+2, port)
	}
}

// SetEchoID replaces the identifier of an echo message and does nothing to
// other packets.
func (p Packet) SetEchoID(id uint16) {
	if _, _, ok := p.Echo(); ok {
		p.replaceWord(p.transport+4, id)
	}
}

// SetECN replaces the two congestion bits of the IP header. The IPv4 header
// checksum follows; no transport checksum covers them.
func (p Packet) SetECN(ecn uint8) {
	ecn &= ecnMask
	if p.version == 6 {
		p.b[1] = p.b[1]&^(ecnMask<<4) | ecn<<4
		return
	}
	before := binary.BigEndian.Uint16(p.b)
	p.b[1] = p.b[1]&^ecnMask | ecn
	adjust(p.b[headerChecksum4:headerChecksum4+2], fold(uint64(^before)+uint64(binary.BigEndian.Uint16(p.b))))
}

const headerChecksum4 = 10 // offset in an IPv4 header

func (p Packet) replace4(at int, a uint32) {
	field := p.b[at : at+4]
	sum := uint64(^binary.BigEndian.Uint32(field)) + uint64(a)
	binary.BigEndian.PutUint32(field, a)
	change := fold(sum)
	adjust(p.b[headerChecksum4:headerChecksum4+2], change)
	if p.proto != ICMP { // the only checksum without a pseudo-header
		p.adjustTransport(change)
	}
}

func (p Packet) replace6(at int, a Addr16) {
	field := p.b[at : at+16]
	high, low := ^binary.BigEndian.Uint64(field), ^binary.BigEndian.Uint64(field[8:])
	sum := high>>32 + high&math.MaxUint32 + low>>32 + low&math.MaxUint32 +
		a.High>>32 + a.High&math.MaxUint32 + a.Low>>32 + a.Low&math.MaxUint32
	binary.BigEndian.PutUint64(field, a.High)
	binary.BigEndian.PutUint64(field[8:], a.Low)
	p.adjustTransport(fold(sum))
}

// replaceWord replaces 16 bits that the transport checksum covers.
func (p Packet) replaceWord(at, value uint16) {
	before := binary.BigEndian.Uint16(p.b[at:])
	binary.BigEndian.PutUint16(p.b[at:], value)
	p.adjustTransport(fold(uint64(^before) + uint64(value)))
}

// adjustTransport is adjust for the transport checksum, if there is one.
func (p Packet) adjustTransport(change uint16) {
	if p.checksum == 0 {
		return
	}
	field := p.b[p.checksum : int(p.checksum)+2]
	if p.proto != UDP {
		adjust(field, change)
		return
	}
	if binary.BigEndian.Uint16(field) == 0 {
		return // the sender computed none (RFC 768, RFC 6935)
	}
	adjust(field, change)
	if binary.BigEndian.Uint16(field) == 0 {
		binary.BigEndian.PutUint16(field, 0xffff)
	}
}

// adjust applies a change to a checksum (RFC 1624 §3, equation 3). change is
// the folded sum of the complements of the old words and of the new words.
func adjust(field []byte, change uint16) {
	sum := uint32(change) + uint32(^binary.BigEndian.Uint16(field))
	binary.BigEndian.PutUint16(field, ^uint16(sum>>16+sum))
}

// fold reduces a one's complement sum, which may have been summed in units of
// 16 or 32 bits, to 16 bits. Only a sum of nothing but zero bits folds to zero,
// so minus zero stays minus zero.
func fold(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum)
}
