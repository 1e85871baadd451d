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
	// ErrFragment means that the packet is a part of a larger one, and one that
	// is refused.
	ErrFragment = errors.New("fragmented packet")
	// ErrTooLong means that the packet is longer than MaxSize.
	ErrTooLong = errors.New("packet longer than the tunnel's MTU")
)

// Parse checks that b holds exactly one whole, unfragmented packet of at most
// MaxSize bytes and returns a view of it. b is borrowed for as long as the
// Packet is in use. Checksums are not verified. The error is ErrMalformed,
// ErrFragment or ErrTooLong.
func Parse(b []byte) (Packet, error) { return parse(b, false) }

// parse is Parse, or ParseFragment.
func parse(b []byte, fragments bool) (Packet, error) {
	if len(b) > MaxSize {
		return Packet{}, ErrTooLong
	}
	if len(b) < headerLen4 {
		return Packet{}, ErrMalformed
	}
	switch b[0] >> 4 {
	case 4:
		return parse4(b, fragments)
	case 6:
		return parse6(b, fragments)
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

func parse4(b []byte, fragments bool) (Packet, error) {
	ihl := int(b[0]&0x0f) * 4
	if ihl < headerLen4 || ihl > len(b) || int(binary.BigEndian.Uint16(b[2:])) != len(b) {
		return Packet{}, ErrMalformed
	}
	const moreOrOffset = 0x3fff
	fragment := binary.BigEndian.Uint16(b[6:])&moreOrOffset != 0
	if fragment && !fragments {
		return Packet{}, ErrFragment
	}
	proto := Proto(b[9])
	if proto == ICMPv6 {
		return Packet{}, ErrMalformed
	}
	p := Packet{b: b, transport: uint16(ihl), proto: proto, version: 4}
	if fragment {
		p.fragment = fragmentID4
		return p.withPlace(ihl)
	}
	return withTransport(p)
}

func parse6(b []byte, fragments bool) (Packet, error) {
	// A jumbogram states length 0 and fails here, too.
	if len(b) < headerLen6 || int(binary.BigEndian.Uint16(b[4:])) != len(b)-headerLen6 {
		return Packet{}, ErrMalformed
	}
	proto, transport, fragment, err := skipExtensions(b, Proto(b[6]))
	if fragment != 0 && (err != nil || !fragments) {
		return Packet{}, ErrFragment
	}
	if err != nil {
		return Packet{}, err
	}
	if proto == ICMP {
		return Packet{}, ErrMalformed
	}
	p := Packet{b: b, transport: uint16(transport), fragment: uint16(fragment), proto: proto, version: 6}
	if fragment != 0 {
		return p.withPlace(fragment + fragmentHeaderLen)
	}
	return withTransport(p)
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
// of b and returns the transport protocol and the offset of its header, and
// where the fragment header is if b is a fragment. Behind that of a later
// fragment nothing can be read: its protocol is None. Each step consumes at
// least 8 bytes, so the walk is short.
func skipExtensions(b []byte, next Proto) (proto Proto, offset, fragment int, err error) {
	for at := headerLen6; ; {
		size := 8
		switch next {
		case extHopByHop, extRouting, extDestination, extMobility, extHIP, extShim6, extFragment, extAuth:
			if len(b)-at < size {
				return 0, 0, fragment, ErrMalformed
			}
		default:
			return next, at, fragment, nil
		}
		switch next {
		case extFragment:
			if fragment != 0 {
				return 0, 0, fragment, ErrMalformed
			}
			const offset, offsetOrMore = 0xfff8, 0xfff9
			place := binary.BigEndian.Uint16(b[at+2:])
			if place&offsetOrMore != 0 {
				fragment = at
			}
			if place&offset != 0 {
				return None, at + size, fragment, nil
			}
		case extRouting:
			// With segments left the destination is only a stop on the way:
			// policy would judge, and the checksum cover, another address.
			if b[at+3] != 0 {
				return 0, 0, fragment, ErrMalformed
			}
			size = (int(b[at+1]) + 1) * 8
		case extAuth:
			size = (int(b[at+1]) + 2) * 4
		default:
			size = (int(b[at+1]) + 1) * 8
		}
		if len(b)-at < size {
			return 0, 0, fragment, ErrMalformed
		}
		next, at = Proto(b[at]), at+size
	}
}

// withTransport checks the transport header of p and notes where its checksum
// is. A first fragment holds the header, and states the length of more.
func withTransport(p Packet) (Packet, error) {
	body, ok := p.b[p.transport:], false
	switch p.proto {
	case TCP:
		ok = len(body) >= 20 && body[12]>>4 >= 5 && int(body[12]>>4)*4 <= len(body)
	case UDP:
		if len(body) >= udpHeaderLen {
			length := int(binary.BigEndian.Uint16(body[4:]))
			ok = length == len(body) && p.fragment == 0 || length > len(body) && p.fragment != 0
		}
	case ICMP, ICMPv6:
		ok = len(body) >= icmpHeaderLen
	default:
		return p, nil
	}
	switch {
	case ok:
		p.checksum = p.transport + checksumAt(p.proto)
		return p, nil
	case p.fragment != 0:
		return Packet{}, ErrFragment
	}
	return Packet{}, ErrMalformed
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
