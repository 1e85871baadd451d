// Package packet reads and rewrites IP packets in place.
//
// A [Packet] comes only from [Parse], so whoever holds one knows that its
// headers are whole, that it is no fragment, and that its lengths agree with
// the buffer (spec gateway-nat.md 1.6); or from [ParseFragment], which takes
// fragments, too. Rewriting keeps checksums by their difference (RFC 1624): a
// wrong checksum stays wrong by the same amount, a right one stays right.
//
// A Packet borrows the buffer it was parsed from; copying a Packet copies the
// view, not the bytes. Nothing here allocates, except where an Append function
// has to grow its destination.
package packet

import (
	"encoding/binary"
	"net/netip"
)

// MaxSize is the size of the largest packet inside the tunnel, in bytes: the
// MTU of every TUN device (spec connectivity.md 2.4).
const MaxSize = 1280

// Proto is an IP protocol number, after any IPv6 extension headers.
type Proto uint8

// The protocols that this program knows more about than their number.
const (
	ICMP    Proto = 1
	TCP     Proto = 6
	UDP     Proto = 17
	ICMPv6  Proto = 58
	control Proto = 255 // in-tunnel control packets (control.go)
)

// TCPFlags are the eight flag bits of a TCP header.
type TCPFlags uint8

// The flags a NAT looks at.
const (
	FIN TCPFlags = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
)

// Has reports whether all of bits are set.
func (f TCPFlags) Has(bits TCPFlags) bool { return f&bits == bits }

const (
	headerLen4 = 20
	headerLen6 = 40

	ecnMask = 0b11
)

// A Packet is a view of one IPv4 or IPv6 packet. The zero Packet means
// "none"; no other method may be called on it.
type Packet struct {
	b         []byte
	transport uint16 // offset of the transport header
	checksum  uint16 // offset of the transport checksum; 0: none, or out of sight (Quote, later fragments)
	fragment  uint16 // offset of what tells a fragment's place: its ID, or the IPv6 fragment header; 0: none
	proto     Proto
	version   uint8
}

// IsZero reports whether p is "none".
func (p Packet) IsZero() bool { return p.b == nil }

// Bytes returns the whole packet. It aliases the buffer given to Parse.
func (p Packet) Bytes() []byte { return p.b }

// Version returns 4 or 6.
func (p Packet) Version() int { return int(p.version) }

// Src returns the source address, never in IPv4-mapped form for IPv4.
func (p Packet) Src() netip.Addr {
	if p.version == 4 {
		return netip.AddrFrom4([4]byte(p.b[12:16]))
	}
	return netip.AddrFrom16([16]byte(p.b[8:24]))
}

// Dst returns the destination address, never in IPv4-mapped form for IPv4.
func (p Packet) Dst() netip.Addr {
	if p.version == 4 {
		return netip.AddrFrom4([4]byte(p.b[16:20]))
	}
	return netip.AddrFrom16([16]byte(p.b[24:40]))
}

// Proto returns the transport protocol; for IPv6, the one behind the
// extension headers.
func (p Packet) Proto() Proto { return p.proto }

// SrcPort returns the source port of TCP and UDP, 0 otherwise.
func (p Packet) SrcPort() uint16 {
	if !p.hasPorts() {
		return 0
	}
	return binary.BigEndian.Uint16(p.b[p.transport:])
}

// DstPort returns the destination port of TCP and UDP, 0 otherwise.
func (p Packet) DstPort() uint16 {
	if !p.hasPorts() {
		return 0
	}
	return binary.BigEndian.Uint16(p.b[p.transport+2:])
}

// Echo returns the identifier of an ICMP or ICMPv6 echo message and whether it
// is a request; ok is false for everything else.
func (p Packet) Echo() (id uint16, request, ok bool) {
	switch {
	case p.proto == ICMP && p.icmpType() == 8, p.proto == ICMPv6 && p.icmpType() == 128:
		request = true
	case p.proto == ICMP && p.icmpType() == 0, p.proto == ICMPv6 && p.icmpType() == 129:
	default:
		return 0, false, false
	}
	return binary.BigEndian.Uint16(p.b[p.transport+4:]), request, true
}

// ICMP returns type and code of an ICMP or ICMPv6 message; ok is false for
// everything else.
func (p Packet) ICMP() (typ, code uint8, ok bool) {
	if p.proto != ICMP && p.proto != ICMPv6 {
		return 0, 0, false
	}
	return p.b[p.transport], p.b[p.transport+1], true
}

// IsICMPError reports whether p is an ICMP error message: of ICMP, those that
// quote a packet (RFC 1122 §3.2.2); of ICMPv6, all types below 128 (RFC 4443
// §2.1).
func (p Packet) IsICMPError() bool {
	switch p.proto {
	case ICMP:
		switch p.icmpType() {
		case 3, 4, 5, 11, 12:
			return true
		}
		return false
	case ICMPv6:
		return p.icmpType() < 128
	}
	return false
}

// TCPFlags returns the flags of a TCP segment, none for other protocols.
func (p Packet) TCPFlags() TCPFlags {
	if p.proto != TCP {
		return 0
	}
	return TCPFlags(p.b[p.transport+13])
}

// Payload returns what follows the transport header: of TCP and UDP, of the 8
// bytes of an ICMP header, or of the IP headers for other protocols. It
// aliases the packet.
func (p Packet) Payload() []byte {
	return p.b[int(p.transport)+transportLen(p.proto, p.b[p.transport:]):]
}

// ECN returns the two congestion bits of the IP header (RFC 3168 §5).
func (p Packet) ECN() uint8 {
	if p.version == 4 {
		return p.b[1] & ecnMask
	}
	return p.b[1] >> 4 & ecnMask
}

func (p Packet) hasPorts() bool { return p.proto == TCP || p.proto == UDP }

func (p Packet) icmpType() uint8 { return p.b[p.transport] }
