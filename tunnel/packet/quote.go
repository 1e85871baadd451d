package packet

import (
	"encoding/binary"
	"net/netip"
)

// A Quote is the beginning of a packet inside an ICMP error that reports about
// it. It holds the quoted IP header and what finds a session: both ports of TCP
// or UDP, or 8 bytes of an echo header; the rest may be cut off. A Quote borrows the error's bytes.
//
// Rewriting a Quote keeps the quoted checksums by their difference and spoils
// the error's own; call [Packet.Resum] on the error afterwards.
type Quote struct{ p Packet }

// Quote returns the packet that an ICMP error is about. ok is false if p is no
// error that quotes a packet (types 3, 11, 12; ICMPv6 1–4), or the quote is too
// short, of another family, not of a first fragment, or itself an error.
func (p Packet) Quote() (q Quote, ok bool) {
	switch typ, _, icmp := p.ICMP(); {
	case !icmp:
		return Quote{}, false
	case p.proto == ICMP && typ != 3 && typ != 11 && typ != 12, p.proto == ICMPv6 && (typ < 1 || typ > 4):
		return Quote{}, false
	}
	b := p.b[p.transport+icmpHeaderLen:]
	if len(b) < headerLen4 || b[0]>>4 != p.version {
		return Quote{}, false
	}
	if p.version == 4 {
		q.p, ok = quoted4(b)
	} else {
		q.p, ok = quoted6(b)
	}
	return q, ok && q.p.withQuotedTransport()
}

// quoted4 reads the header of a quoted IPv4 packet. Its total length is the
// original packet's and tells nothing about b, except where b was padded to
// make room for extensions (RFC 4884 §5.1).
func quoted4(b []byte) (Packet, bool) {
	ihl := int(b[0]&0x0f) * 4
	if ihl < headerLen4 || ihl > len(b) || binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
		return Packet{}, false
	}
	if total := int(binary.BigEndian.Uint16(b[2:])); total >= ihl && total < len(b) {
		b = b[:total]
	}
	return Packet{b: b, transport: uint16(ihl), proto: Proto(b[9]), version: 4}, true
}

func quoted6(b []byte) (Packet, bool) {
	if len(b) < headerLen6 {
		return Packet{}, false
	}
	if total := headerLen6 + int(binary.BigEndian.Uint16(b[4:])); total < len(b) {
		b = b[:total]
	}
	proto, transport, fragment, err := skipExtensions(b, Proto(b[6]))
	p := Packet{b: b, transport: uint16(transport), fragment: uint16(fragment), proto: proto, version: 6}
	return p, err == nil && !p.isLater()
}

// withQuotedTransport checks that what of the transport header is there is
// enough to find a session by, and notes the checksum if it is there, too.
func (p *Packet) withQuotedTransport() bool {
	body := p.b[p.transport:]
	switch p.proto {
	case TCP, UDP, ICMP, ICMPv6:
		enough := icmpHeaderLen
		if p.hasPorts() {
			enough = 4 // routers should quote more, but some quote no more
		}
		if len(body) < enough || (p.proto == ICMP) != (p.version == 4) && !p.hasPorts() {
			return false
		}
		if at := checksumAt(p.proto); len(body) >= int(at)+2 {
			p.checksum = p.transport + at
		}
		return !p.IsICMPError()
	}
	return true
}

// Src returns the quoted source address.
func (q Quote) Src() netip.Addr { return q.p.Src() }

// Dst returns the quoted destination address.
func (q Quote) Dst() netip.Addr { return q.p.Dst() }

// Proto returns the quoted transport protocol.
func (q Quote) Proto() Proto { return q.p.proto }

// SrcPort returns the quoted source port of TCP and UDP, 0 otherwise.
func (q Quote) SrcPort() uint16 { return q.p.SrcPort() }

// DstPort returns the quoted destination port of TCP and UDP, 0 otherwise.
func (q Quote) DstPort() uint16 { return q.p.DstPort() }

// Echo is Packet.Echo for the quoted packet.
func (q Quote) Echo() (id uint16, request, ok bool) { return q.p.Echo() }

// SetSrc replaces the quoted source address; a is of the same family.
func (q Quote) SetSrc(a netip.Addr) { q.p.SetSrc(a) }

// SetDst replaces the quoted destination address; a is of the same family.
func (q Quote) SetDst(a netip.Addr) { q.p.SetDst(a) }

// SetSrcPort replaces the quoted source port of TCP and UDP.
func (q Quote) SetSrcPort(port uint16) { q.p.SetSrcPort(port) }

// SetDstPort replaces the quoted destination port of TCP and UDP.
func (q Quote) SetDstPort(port uint16) { q.p.SetDstPort(port) }

// SetEchoID replaces the quoted echo identifier.
func (q Quote) SetEchoID(id uint16) { q.p.SetEchoID(id) }

// Resum computes the transport checksum of p from scratch, after a Quote in it
// was rewritten. It does nothing to a fragment, whose checksum covers others.
func (p Packet) Resum() {
	if p.checksum != 0 && p.fragment == 0 {
		p.sumTransport()
	}
}
