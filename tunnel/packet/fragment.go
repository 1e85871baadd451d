package packet

import (
	"bytes"
	"encoding/binary"
)

// ParseFragment is Parse for callers that deal with fragments, too. Of the
// first fragment of a datagram it wants the whole transport header, so that
// nothing that is judged by lies in another fragment (RFC 1858, RFC 7112); no
// fragment may reach beyond 65,535 bytes. The error is ErrFragment where that
// fails.
//
// What is in sight of a first fragment can be asked and rewritten as of a whole
// packet, and the transport checksum follows, since it covers the datagram. Later
// fragments have no transport header: they are of [None], without ports.
func ParseFragment(b []byte) (Packet, error) { return parse(b, true) }

// None is the protocol of packets with nothing behind the IP header ("no next
// header", RFC 8200 §4.7). That of the datagram which a later fragment belongs
// to is in its Fragment.
const None Proto = 59

// A Fragment is the place of a packet in a larger one.
type Fragment struct {
	ID     uint32 // IPv4: 16 bits
	Proto  Proto  // as all fragments of the datagram state it; for IPv6, it may be an extension header's
	Offset uint16 // in the datagram behind its IP header, in bytes; a multiple of 8
	Len    uint16 // bytes of the datagram in this fragment; never 0, and a multiple of 8 if there are More
	More   bool
}

// IsFragment reports whether p is a part of a larger packet.
func (p Packet) IsFragment() bool { return p.fragment != 0 }

// Fragment returns the place of p, which must be a fragment.
func (p Packet) Fragment() Fragment {
	if p.version == 4 {
		place, header := binary.BigEndian.Uint16(p.b[6:]), int(p.b[0]&0x0f)*4
		return Fragment{
			ID: uint32(binary.BigEndian.Uint16(p.b[fragmentID4:])), Proto: Proto(p.b[9]),
			Offset: place & 0x1fff * 8, Len: uint16(len(p.b) - header), More: place&moreFragments4 != 0,
		}
	}
	h := p.b[p.fragment:]
	place := binary.BigEndian.Uint16(h[2:])
	return Fragment{
		ID: binary.BigEndian.Uint32(h[4:]), Proto: Proto(h[0]),
		Offset: place &^ 7, Len: uint16(len(h) - fragmentHeaderLen), More: place&1 != 0,
	}
}

// IsFirst reports whether p, which must be a fragment, is the first.
func (p Packet) IsFirst() bool { return p.Fragment().Offset == 0 }

// Clone returns p with memory of its own.
func (p Packet) Clone() Packet {
	p.b = bytes.Clone(p.b)
	return p
}

// SetFragmentID replaces the identification of p, which must be a fragment; of
// IPv4, id has 16 bits.
func (p Packet) SetFragmentID(id uint32) {
	if p.version == 6 {
		binary.BigEndian.PutUint32(p.b[p.fragment+4:], id)
		return
	}
	before := binary.BigEndian.Uint16(p.b[fragmentID4:])
	binary.BigEndian.PutUint16(p.b[fragmentID4:], uint16(id))
	adjust(p.b[headerChecksum4:headerChecksum4+2], fold(uint64(^before)+uint64(uint16(id))))
}

const (
	fragmentID4       = 4 // offset in an IPv4 header; not 0, so that it marks fragments, too
	moreFragments4    = 0x2000
	fragmentHeaderLen = 8 // of IPv6
)

// isLater reports whether p is a fragment other than the first.
func (p Packet) isLater() bool { return p.IsFragment() && !p.IsFirst() }

// withPlace checks a fragment, whose part of the datagram begins at data.
func (p Packet) withPlace(data int) (Packet, error) {
	f := p.Fragment()
	// The length field of the whole packet counts IPv4's header, or those IPv6
	// extensions that all fragments repeat.
	counted := data
	if p.version == 6 {
		counted = int(p.fragment) - headerLen6
	}
	switch {
	case f.Len == 0, f.More && f.Len%8 != 0, counted+int(f.Offset)+int(f.Len) > 0xffff:
		return Packet{}, ErrFragment
	case f.Offset != 0:
		p.transport, p.proto = uint16(data), None
		return p, nil
	}
	return withTransport(p)
}
