package packet

import (
	"encoding/binary"
	"errors"
)

// What Parse finds wrong. Each one is a reason to drop the packet; they differ
// so that a shell can count them apart.
var (
	// ErrMalformed means that lengths or versions contradict each other.
	ErrMalformed = errors.New("malformed packet")
	// ErrFragment means that the packet is a part of a larger one. Stock peers
	// refuse fragments, too.
	ErrFragment = errors.New("fragmented packet")
	// ErrTooLong means that the packet is longer than MaxSize.
	ErrTooLong = errors.New("packet longer than the tunnel's MTU")
)

// Parse checks that b holds exactly one whole, unfragmented packet of at most
// MaxSize bytes and returns a view of it. b is borrowed for as long as the
// Packet is in use. Checksums are not verified. The error is ErrMalformed,
// ErrFragment or ErrTooLong.
func Parse(b []byte) (Packet, error) {
	if len(b) > MaxSize {
		return Packet{}, ErrTooLong
	}
	if len(b) < headerLen4 {
		return Packet{}, ErrMalformed
	}
	switch b[0] >> 4 {
	case 4:
		return parse4(b)
	case 6:
		return parse6(b)
	}
	return Packet{}, ErrMalformed
}

// Trim cuts the padding off a decrypted WireGuard message: what lies beyond
// the length that the IP header states (spec connectivity.md 1.12). It returns
// b itself if there is none, or if b is no packet at all. The result aliases b.
func Trim(b []byte) []byte {
	n := len(b)
	switch {
	case len(b) >= headerLen4 && b[0]>>4 == 4:
		n = int(binary.BigEndian.Uint16(b[2:]))
	case len(b) >= headerLen6 && b[0]>>4 == 6:
		n = headerLen6 + int(binary.BigEndian.Uint16(b[4:]))
	}
	if n > len(b) {
		return b
	}
	return b[:n]
}

func parse4(b []byte) (Packet, error) {
	ihl := int(b[0]&0x0f) * 4
	if ihl < headerLen4 || ihl > len(b) || int(binary.BigEndian.Uint16(b[2:])) != len(b) {
		return Packet{}, ErrMalformed
	}
	const moreOrOffset = 0x3fff
	if binary.BigEndian.Uint16(b[6:])&moreOrOffset != 0 {
		return Packet{}, ErrFragment
	}
	proto := Proto(b[9])
	if proto == ICMPv6 {
		return Packet{}, ErrMalformed
	}
	return withTransport(Packet{b: b, transport: uint16(ihl), proto: proto, version: 4})
}

func parse6(b []byte) (Packet, error) {
	// A jumbogram states length 0 and fails here, too.
	if len(b) < headerLen6 || int(binary.BigEndian.Uint16(b[4:])) != len(b)-headerLen6 {
		return Packet{}, ErrMalformed
	}
	proto, transport, err := skipExtensions(b, Proto(b[6]))
	if err != nil {
		return Packet{}, err
	}
	if proto == ICMP {
		return Packet{}, ErrMalformed
	}
	return withTransport(Packet{b: b, transport: uint16(transport), proto: proto, version: 6})
}

// IPv6 extension headers (RFC 8200 §4, RFC 7045 §4).
const (
	extHopByHop    Proto = 0
	extRouting     Proto = 43
	extFragment    Proto = 44
	extAuth        Proto = 51
	extDestination Proto = 60
	extMobility    Proto = 135
	extHIP         Proto = 139
	extShim6       Proto = 140
)

// skipExtensions walks the chain that starts with next behind the fixed header
// of b and returns the transport protocol and the offset of its header. Each
// step consumes at least 8 bytes, so the walk is short.
func skipExtensions(b []byte, next Proto) (proto Proto, offset int, err error) {
	for at := headerLen6; ; {
		size := 8
		switch next {
		case extHopByHop, extRouting, extDestination, extMobility, extHIP, extShim6, extFragment, extAuth:
			if len(b)-at < size {
				return 0, 0, ErrMalformed
			}
		default:
			return next, at, nil
		}
		switch next {
		case extFragment:
			const offsetOrMore = 0xfff9
			if binary.BigEndian.Uint16(b[at+2:])&offsetOrMore != 0 {
				return 0, 0, ErrFragment
			}
		case extRouting:
			// With segments left the destination is only a stop on the way:
			// policy would judge, and the checksum cover, another address.
			if b[at+3] != 0 {
				return 0, 0, ErrMalformed
			}
			size = (int(b[at+1]) + 1) * 8
		case extAuth:
			size = (int(b[at+1]) + 2) * 4
		default:
			size = (int(b[at+1]) + 1) * 8
		}
		if len(b)-at < size {
			return 0, 0, ErrMalformed
		}
		next, at = Proto(b[at]), at+size
	}
}

// withTransport checks the transport header of p and notes where its checksum
// is.
func withTransport(p Packet) (Packet, error) {
	body := p.b[p.transport:]
	switch p.proto {
	case TCP:
		if len(body) < 20 || body[12]>>4 < 5 || int(body[12]>>4)*4 > len(body) {
			return Packet{}, ErrMalformed
		}
	case UDP:
		if len(body) < 8 || int(binary.BigEndian.Uint16(body[4:])) != len(body) {
			return Packet{}, ErrMalformed
		}
	case ICMP, ICMPv6:
		if len(body) < 8 {
			return Packet{}, ErrMalformed
		}
	default:
		return p, nil
	}
	p.checksum = p.transport + checksumAt(p.proto)
	return p, nil
}

// checksumAt returns where in its header a protocol keeps the checksum.
func checksumAt(proto Proto) uint16 {
	switch proto {
	case TCP:
		return 16
	case UDP:
		return 6
	}
	return 2 // ICMP and ICMPv6
}

// transportLen returns the length of the transport header that starts b.
func transportLen(proto Proto, b []byte) int {
	switch proto {
	case TCP:
		return int(b[12]>>4) * 4
	case UDP, ICMP, ICMPv6:
		return 8
	}
	return 0
}
