package nat

import (
	"net/netip"
	"time"

	"stile/tunnel/packet"
)

// Match returns the session that a packet to the client answers, or nil: then
// it must be dropped, without a word to whoever sent it (N13, N43). It changes
// nothing, since the caller has yet to ask whether the client may still
// receive from [Session.Proxied].
func (t *Table) Match(p packet.Packet, now time.Time) *Session {
	k, request, ok := t.inboundKey(p)
	if !ok {
		return nil
	}
	s := t.find(t.outside, k, t.at(now))
	if s == nil || request != s.state.has(hostOpened) && k.isEcho() {
		return nil
	}
	return s
}

// In translates a packet that Match found s for, in place: from then on it
// comes from where the client sent its own packets.
func (t *Table) In(s *Session, p packet.Packet, now time.Time) {
	t.touchIn(s, p.TCPFlags(), t.at(now))
	if s.pin != nil {
		p.SetSrc(s.proxy.addr)
	}
	if s.outside.id == s.inside.id {
		return
	}
	if s.inside.isEcho() {
		p.SetEchoID(s.inside.id)
	} else {
		p.SetDstPort(s.inside.id)
	}
}

// Accept makes a session for a packet that the gateway host itself sends to
// the client; nobody else may start one from that side (N43, N45). The packet
// counts as the client's own first.
func (t *Table) Accept(p packet.Packet, now time.Time) Verdict {
	at := t.at(now)
	k, request, ok := t.inboundKey(p)
	switch {
	case !ok || k.isEcho() && !request:
		return NoSession
	case k.proto == packet.TCP && (impossible(p.TCPFlags()) || !starts(p.TCPFlags())):
		return BadFlags
	case t.find(t.inside, k, at) != nil || !t.free(k, at) || !t.room(at):
		return Exhausted
	}
	s := &Session{inside: k, outside: k, out: at, any: at, state: hostOpened}
	if k.proto == packet.TCP && p.TCPFlags().Has(packet.FIN) {
		s.state |= finIn
	}
	t.add(s)
	return Forward
}

// MatchError returns the session that an ICMP error to the client is about, or
// nil. The error must be intact and quote a packet exactly as the session sent
// it out (N35). Errors change nothing in a session, ever (N11).
func (t *Table) MatchError(p packet.Packet, now time.Time) *Session {
	q, ok := p.Quote()
	if !ok || q.Src() != p.Dst() || !p.ValidChecksums() {
		return nil
	}
	k, ok := t.quotedKey(q, q.Dst(), q.SrcPort(), q.DstPort())
	if !ok {
		return nil
	}
	return t.find(t.outside, k, t.at(now))
}

// InError translates an ICMP error that MatchError found s for, in place. The
// client sees an error about the packet that it sent itself. source is the
// error's new source address for a session that is not proxied; the errors of
// proxied ones come from the proxy address.
func (t *Table) InError(s *Session, p packet.Packet, source netip.Addr) {
	q, ok := p.Quote()
	if !ok {
		return
	}
	if s.pin != nil {
		source = s.proxy.addr
		q.SetDst(source)
	}
	if s.inside.isEcho() {
		q.SetEchoID(s.inside.id)
	} else {
		q.SetSrcPort(s.inside.id)
	}
	p.SetSrc(source)
	p.Resum()
}

// quotedKey is the key of the packet that an ICMP error quotes: far is the
// resource's end of it, id the client's port, port the resource's.
func (t *Table) quotedKey(q packet.Quote, far netip.Addr, id, port uint16) (k key, ok bool) {
	k = key{addr: far.As16(), proto: q.Proto(), v6: far.Is6()}
	switch k.proto {
	case packet.TCP:
		k.id, k.port = id, port
	case packet.UDP:
		k.id = id
		if t.isHost(far) {
			k.port = port
		}
	case packet.ICMP, packet.ICMPv6:
		var request bool
		k.id, request, ok = q.Echo()
		return k, ok && request
	}
	return k, true
}
