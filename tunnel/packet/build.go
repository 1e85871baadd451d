package packet

import (
	"encoding/binary"
	"net/netip"
)

const (
	udpHeaderLen  = 8
	icmpHeaderLen = 8
	ttlData       = 64
	ttlError      = 20 // as the reference (spec gateway-nat.md 1.5)
)

// AppendUDP appends an IP packet with one UDP datagram, checksums included.
// from and to must be of one family, and payload small enough for the packet
// to fit into 65,535 bytes. payload is borrowed and must not overlap the free
// part of dst.
func AppendUDP(dst []byte, from, to netip.AddrPort, payload []byte) []byte {
	start := len(dst)
	length := udpHeaderLen + len(payload)
	dst = appendHeader(dst, from.Addr(), to.Addr(), UDP, ttlData, length)
	body := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, from.Port())
	dst = binary.BigEndian.AppendUint16(dst, to.Port())
	dst = binary.BigEndian.AppendUint16(dst, uint16(length))
	dst = append(dst, 0, 0)
	dst = append(dst, payload...)
	finish(dst[start:], body-start, UDP)
	return dst
}

// AppendProhibited appends the ICMP error "administratively prohibited" (3/13,
// ICMPv6 1/1) that answers offending. To a client it means that its
// authorization is gone. ok is false, and dst unchanged, for packets that are
// never answered (spec gateway-nat.md N38). Whether the source of offending is
// genuine is for the caller to know.
func AppendProhibited(dst []byte, offending Packet) (b []byte, ok bool) {
	return appendError(dst, offending, 13, 1)
}

// AppendUnreachable is AppendProhibited with "network unreachable" (3/0) or,
// for IPv6, "address unreachable" (1/3): there is no address to forward to.
func AppendUnreachable(dst []byte, offending Packet) (b []byte, ok bool) {
	return appendError(dst, offending, 0, 3)
}

// AppendExhausted is AppendProhibited with "host unreachable" (3/1) or, for
// IPv6, "address unreachable" (1/3): no session can be opened (spec
// gateway-nat.md N32).
func AppendExhausted(dst []byte, offending Packet) (b []byte, ok bool) {
	return appendError(dst, offending, 1, 3)
}

// appendError appends an ICMP destination unreachable with the code of the
// offending packet's family. It seems to come from the unreachable address,
// and quotes as much as RFC 1812 §4.3.2.3 and RFC 4443 §2.4 allow.
func appendError(dst []byte, offending Packet, code4, code6 uint8) ([]byte, bool) {
	if !Answerable(offending) {
		return dst, false
	}
	from, to := offending.Dst(), offending.Src()
	proto, typ, code, limit := ICMP, uint8(3), code4, 576-headerLen4-icmpHeaderLen
	if offending.version == 6 {
		proto, typ, code, limit = ICMPv6, 1, code6, MaxSize-headerLen6-icmpHeaderLen
	}
	quote := offending.b[:min(len(offending.b), limit)]

	start := len(dst)
	dst = appendHeader(dst, from, to, proto, ttlError, icmpHeaderLen+len(quote))
	body := len(dst)
	dst = append(dst, typ, code, 0, 0, 0, 0, 0, 0)
	dst = append(dst, quote...)
	finish(dst[start:], body-start, proto)
	return dst, true
}

// Answerable reports whether p may be answered with an ICMP error at all: it is
// neither an error nor a reset, nor a fragment other than the first, and both
// of its ends are single hosts (spec gateway-nat.md N38).
func Answerable(p Packet) bool {
	return !p.IsICMPError() && !p.TCPFlags().Has(RST) && !p.isLater() && unicast(p.Dst()) && unicast(p.Src())
}

// unicast reports whether a can be one end of an ICMP error.
func unicast(a netip.Addr) bool {
	if a.Is4() && a.As4()[0] >= 240 { // reserved and broadcast
		return false
	}
	return !a.IsMulticast() && !a.IsUnspecified()
}

// appendHeader appends an IP header for length bytes of proto. The identifier
// of IPv4 is 0 and DF set: the packet is atomic (RFC 6864 §4).
func appendHeader(dst []byte, from, to netip.Addr, proto Proto, ttl uint8, length int) []byte {
	if from.Is4() {
		dst = append(dst, 0x45, 0)
		dst = binary.BigEndian.AppendUint16(dst, uint16(headerLen4+length))
		dst = append(dst, 0, 0, 0x40, 0, ttl, byte(proto), 0, 0)
		a, b := from.As4(), to.As4()
		return append(append(dst, a[:]...), b[:]...)
	}
	dst = append(dst, 0x60, 0, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(length))
	dst = append(dst, byte(proto), ttl)
	a, b := from.As16(), to.As16()
	return append(append(dst, a[:]...), b[:]...)
}

// finish computes the checksums of a packet built with zero in their place.
func finish(b []byte, transport int, proto Proto) {
	p := Packet{b: b, transport: uint16(transport), proto: proto, version: b[0] >> 4}
	p.checksum = p.transport + checksumAt(proto)
	p.sumTransport()
	if p.version == 4 {
		p.sumHeader()
	}
}
