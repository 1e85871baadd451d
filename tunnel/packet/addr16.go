package packet

import (
	"encoding/binary"
	"net/netip"
)

// An Addr16 is an address of 16 bytes, of IPv4 in mapped form (RFC 4291
// §2.5.5.2), as two numbers: what looks sessions up by it compares and hashes
// registers, and waits for no byte that was just written.
type Addr16 struct{ High, Low uint64 }

// mapped is what stands before the four bytes of an IPv4 address in Low.
const mapped = 0xffff << 32

// Addr16Of returns a as an Addr16; of an invalid one, the zero Addr16.
func Addr16Of(a netip.Addr) Addr16 { return addr16(a.As16()) }

func addr16(b [16]byte) Addr16 {
	return Addr16{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// As16 returns the bytes of the address.
func (a Addr16) As16() (b [16]byte) {
	binary.BigEndian.PutUint64(b[:8], a.High)
	binary.BigEndian.PutUint64(b[8:], a.Low)
	return b
}

// Src16 returns the source address.
func (p Packet) Src16() Addr16 { return p.addr16(12, 8) }

// Dst16 returns the destination address.
func (p Packet) Dst16() Addr16 { return p.addr16(16, 24) }

// addr16 returns the address at one offset of an IPv4 packet or at the other of an IPv6 packet.
func (p Packet) addr16(at4, at6 int) Addr16 {
	if p.version == 4 {
		return Addr16{0, mapped | uint64(binary.BigEndian.Uint32(p.b[at4:]))}
	}
	return Addr16{binary.BigEndian.Uint64(p.b[at6:]), binary.BigEndian.Uint64(p.b[at6+8:])}
}

// SetSrc16 is SetSrc for an address as Src16 returns it: of an IPv4 packet,
// only the last four bytes count.
func (p Packet) SetSrc16(a Addr16) { p.replaceAddr(12, 8, a) }

// SetDst16 is SetDst for an address as Dst16 returns it: of an IPv4 packet,
// only the last four bytes count.
func (p Packet) SetDst16(a Addr16) { p.replaceAddr(16, 24, a) }

func (p Packet) replaceAddr(at4, at6 int, a Addr16) {
	if p.version == 4 {
		p.replace4(at4, uint32(a.Low))
	} else {
		p.replace6(at6, a)
	}
}
