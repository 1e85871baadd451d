package nat

import (
	"cmp"
	"net/netip"

	"stile/tunnel/packet"
)

// A key is one side of a session: of the inside, the client's port and the
// address it sends to; of the outside, the port the resource sees and the
// resource's address. There are no pointers in it.
type key struct {
	addr packet.Addr16
	rest rest
}

// rest is what a key has besides its address, in one number:
//
//	id    16 bits, the lowest: port or echo identifier on the client's end; 0: none
//	port  16 bits: the resource's port; TCP, and UDP with the gateway host
//	proto  8 bits
//	v6     1 bit
type rest uint64

const (
	portAt  = 16
	protoAt = 32
	v6At    = 40
)

// keyTo is the key of a protocol towards an address, without id and port.
func keyTo(a packet.Addr16, proto packet.Proto, v6 bool) key {
	k := key{a, rest(proto) << protoAt}
	if v6 {
		k.rest |= 1 << v6At
	}
	return k
}

func (k key) with(id, port uint16) key {
	k.rest = k.rest>>protoAt<<protoAt | rest(port)<<portAt | rest(id)
	return k
}

func (k key) id() uint16          { return uint16(k.rest) }
func (k key) port() uint16        { return uint16(k.rest >> portAt) }
func (k key) proto() packet.Proto { return packet.Proto(k.rest >> protoAt) }
func (k key) v6() bool            { return k.rest>>v6At != 0 }

// address is the key's address as packets have it.
func (k key) address() netip.Addr {
	a := netip.AddrFrom16(k.addr.As16())
	if !k.v6() {
		a = a.Unmap()
	}
	return a
}

// compare puts keys in an order that depends on nothing but them.
func (k key) compare(l key) int {
	return cmp.Or(cmp.Compare(k.addr.High, l.addr.High), cmp.Compare(k.addr.Low, l.addr.Low), cmp.Compare(k.rest, l.rest))
}

// isEcho reports whether the key's id is an echo identifier.
func (k key) isEcho() bool { return k.proto() == packet.ICMP || k.proto() == packet.ICMPv6 }

// hasID reports whether the key's id means something.
func (k key) hasID() bool {
	return k.proto() == packet.TCP || k.proto() == packet.UDP || k.isEcho()
}

// outboundKey is the inside key of a packet that a client sent. request tells
// whether it may start a session: it is no echo reply. ok is false for ICMP
// other than echo.
func (t *Table) outboundKey(p packet.Packet) (k key, request, ok bool) {
	k = keyTo(p.Dst16(), p.Proto(), p.Version() == 6)
	switch p.Proto() {
	case packet.TCP:
		k = k.with(p.SrcPort(), p.DstPort())
	case packet.UDP:
		k = k.with(p.SrcPort(), t.hostPort(k.addr, p.DstPort()))
	case packet.ICMP, packet.ICMPv6:
		id, request, ok := p.Echo()
		return k.with(id, 0), request, ok
	}
	return k, true, true
}

// inboundKey is the outside key of a packet to a client. request is true for
// an echo request, which no session of the client's own lets in.
func (t *Table) inboundKey(p packet.Packet) (k key, request, ok bool) {
	k = keyTo(p.Src16(), p.Proto(), p.Version() == 6)
	switch p.Proto() {
	case packet.TCP:
		k = k.with(p.DstPort(), p.SrcPort())
	case packet.UDP:
		k = k.with(p.DstPort(), t.hostPort(k.addr, p.SrcPort()))
	case packet.ICMP, packet.ICMPv6:
		id, request, ok := p.Echo()
		return k.with(id, 0), request, ok
	}
	return k, false, true
}

// quotedKey is the key of the packet that an ICMP error quotes: far is the
// resource's end of it, id the client's port, port the resource's. request
// tells an echo request from a reply.
func (t *Table) quotedKey(q packet.Quote, far netip.Addr, id, port uint16) (k key, request, ok bool) {
	k = keyTo(packet.Addr16Of(far), q.Proto(), far.Is6())
	switch q.Proto() {
	case packet.TCP:
		k = k.with(id, port)
	case packet.UDP:
		k = k.with(id, t.hostPort(k.addr, port))
	case packet.ICMP, packet.ICMPv6:
		id, request, ok := q.Echo()
		return k.with(id, 0), request, ok
	}
	return k, false, true
}

// hostPort is the port of a UDP key towards an address: 0 unless it is the
// gateway host.
func (t *Table) hostPort(a packet.Addr16, port uint16) uint16 {
	if t.isHost(a) {
		return port
	}
	return 0
}
