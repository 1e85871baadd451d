// Package cut takes packets apart and puts them together, as the two hosts at
// the ends of a path do (RFC 791 §3.2, RFC 8200 §4.5). It is there for tests,
// knows nothing of the package packet, and is its referee: slow and obvious.
package cut

import (
	"bytes"
	"encoding/binary"
	"slices"
)

const (
	header4, header6 = 20, 40
	fragmentHeader   = 8
	nextFragment     = 44
)

// Apart cuts a packet without options and extension headers, of up to 65,535 bytes,
// into fragments of at most mtu bytes with the given ID, in order. All but the
// last are as long as they can be.
func Apart(b []byte, mtu int, id uint32) (fragments [][]byte) {
	header := headerLen(b)
	room := (mtu - header) &^ 7
	if b[0]>>4 == 6 {
		room = (mtu - header - fragmentHeader) &^ 7
	}
	for at := header; at < len(b); at += room {
		end := min(at+room, len(b))
		fragments = append(fragments, Piece(b, at-header, end-header, id))
	}
	return fragments
}

// Piece is the fragment with the bytes from, up to but without to, of what
// follows the IP header of b.
func Piece(b []byte, from, to int, id uint32) []byte {
	header := headerLen(b)
	data, place, more := b[header+from:header+to], uint16(from), to < len(b)-header
	f := bytes.Clone(b[:header])
	if b[0]>>4 == 4 {
		place /= 8
		if more {
			place |= 0x2000
		}
		binary.BigEndian.PutUint16(f[2:], uint16(header+len(data)))
		binary.BigEndian.PutUint16(f[4:], uint16(id))
		binary.BigEndian.PutUint16(f[6:], place)
		return append(summed(f), data...)
	}
	if more {
		place |= 1
	}
	binary.BigEndian.PutUint16(f[4:], uint16(fragmentHeader+len(data)))
	f[6] = nextFragment
	f = append(f, b[6], 0)
	f = binary.BigEndian.AppendUint16(f, place)
	f = binary.BigEndian.AppendUint32(f, id)
	return append(f, data...)
}

// Together puts fragments in any order together. ok is false if they are not
// exactly the fragments of one packet.
func Together(fragments ...[]byte) (whole []byte, id uint32, ok bool) {
	fragments = slices.SortedStableFunc(slices.Values(fragments), func(a, b []byte) int {
		return read(a).from - read(b).from
	})
	if len(fragments) == 0 {
		return nil, 0, false
	}
	first := read(fragments[0])
	var data []byte
	for i, b := range fragments {
		p := read(b)
		if p.from != len(data) || p.more != (i < len(fragments)-1) || p.id != first.id || !bytes.Equal(p.header, first.header) {
			return nil, 0, false
		}
		data = append(data, p.data...)
	}
	whole = append(bytes.Clone(first.header), data...)
	if whole[0]>>4 == 4 {
		if header4+len(data) > 0xffff {
			return nil, 0, false
		}
		binary.BigEndian.PutUint16(whole[2:], uint16(len(whole)))
		summed(whole[:header4])
		return whole, first.id, true
	}
	binary.BigEndian.PutUint16(whole[4:], uint16(len(data)))
	return whole, first.id, len(data) <= 0xffff
}

// Sound reports whether the checksums of a whole packet without extension
// headers, of any size, are right: that of IPv4's header and that of TCP, UDP,
// ICMP or ICMPv6. A UDP checksum of zero is none.
func Sound(b []byte) bool {
	if b[0]>>4 == 4 && sum(b[:header4]) != 0xffff {
		return false
	}
	field := checksum(b)
	return protocol(b) == udp && field[0]|field[1] == 0 || transportSum(b) == 0xffff
}

// WithChecksums computes the checksums of such a packet, and returns it.
func WithChecksums(b []byte) []byte {
	if b[0]>>4 == 4 {
		summed(b[:header4])
	}
	field := checksum(b)
	field[0], field[1] = 0, 0
	c := ^transportSum(b)
	if c == 0 && protocol(b) == udp {
		c = 0xffff // zero is none
	}
	binary.BigEndian.PutUint16(field, c)
	return b
}

const icmp, tcp, udp = 1, 6, 17

func protocol(b []byte) byte {
	if b[0]>>4 == 4 {
		return b[9]
	}
	return b[6]
}

// checksum is the transport header's.
func checksum(b []byte) []byte {
	at := 2 // ICMP, ICMPv6
	switch protocol(b) {
	case tcp:
		at = 16
	case udp:
		at = 6
	}
	at += headerLen(b)
	return b[at : at+2]
}

// transportSum covers the transport header, what follows it, and, but for ICMP,
// the pseudo-header (RFC 768, RFC 8200 §8.1).
func transportSum(b []byte) uint16 {
	header, proto := headerLen(b), protocol(b)
	body := b[header:]
	if proto == icmp {
		return sum(body)
	}
	pseudo := bytes.Clone(b[8:header])
	if header == header4 {
		pseudo = bytes.Clone(b[12:header])
	}
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(body)))
	pseudo = append(pseudo, 0, 0, 0, proto)
	return sum(append(pseudo, body...))
}

// A piece is a fragment taken apart. The header is what all fragments of a
// packet have in common.
type piece struct {
	header, data []byte
	id           uint32
	from         int
	more         bool
}

func read(b []byte) piece {
	p := piece{header: bytes.Clone(b[:headerLen(b)])}
	if b[0]>>4 == 4 {
		place := binary.BigEndian.Uint16(b[6:])
		p.id, p.from, p.more = uint32(binary.BigEndian.Uint16(b[4:])), int(place&0x1fff)*8, place&0x2000 != 0
		p.data = b[header4:]
		clear(p.header[2:4])
		clear(p.header[6:8])
		clear(p.header[10:12])
		return p
	}
	h := b[header6:]
	place := binary.BigEndian.Uint16(h[2:])
	p.id, p.from, p.more = binary.BigEndian.Uint32(h[4:]), int(place&^7), place&1 != 0
	p.data = h[fragmentHeader:]
	clear(p.header[4:6])
	p.header[6] = h[0]
	return p
}

func headerLen(b []byte) int {
	if b[0]>>4 == 4 {
		return header4
	}
	return header6
}

// summed computes the checksum of an IPv4 header.
func summed(header []byte) []byte {
	header[10], header[11] = 0, 0
	binary.BigEndian.PutUint16(header[10:], ^sum(header))
	return header
}

// sum is the one's complement sum of b in units of 16 bits (RFC 1071).
func sum(b []byte) uint16 {
	s := uint32(0)
	for i, v := range b {
		if i%2 == 0 {
			s += uint32(v) << 8
		} else {
			s += uint32(v)
		}
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
