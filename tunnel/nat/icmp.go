package nat

import (
	"net/netip"
	"time"

	"stile/tunnel/packet"
)

// MatchError returns the session that an ICMP error to the client is about, or
// nil. The error must be intact and quote a packet exactly as the session sent
// it out (N35). Errors neither create nor confirm, refresh, close or end a session,
// ever (N11); new sessions may avoid an address for them (N6).
func (t *Table) MatchError(p packet.Packet, now time.Time) *Session {
	q, ok := p.Quote()
	if !ok || q.Src() != p.Dst() || !p.ValidChecksums() {
		return nil
	}
	k, request, ok := t.quotedKey(q, q.Dst(), q.SrcPort(), q.DstPort())
	if !ok {
		return nil
	}
	s := t.alive(t.byOutside(k), t.at(now))
	if s == nil || k.isEcho() && request == s.state.has(hostOpened) {
		return nil
	}
	return s
}

// InError translates an ICMP error that MatchError found s for, in place. The
// client sees an error about the packet that it sent itself. source is the
// error's new source address for a session that is not proxied; the errors of
// proxied ones come from the proxy address.
func (t *Table) InError(s *Session, p packet.Packet, source netip.Addr, now time.Time) {
	q, ok := p.Quote()
	if !ok {
		return
	}
	if outOfReach(p) {
		t.unreachable(s, t.at(now))
	}
	if s.proxy != 0 {
		source = s.inside.address()
		q.SetDst(source)
	}
	if s.inside.isEcho() {
		q.SetEchoID(s.inside.id())
	} else {
		q.SetSrcPort(s.inside.id())
	}
	p.SetSrc(source)
	p.Resum()
}

// outOfReach reports whether an error says that a host cannot be reached: a
// refused port and a packet that is too big say the contrary.
func outOfReach(p packet.Packet) bool {
	typ, code, _ := p.ICMP()
	if p.Version() == 6 {
		return typ == 1 && code != 4
	}
	return typ == 3 && code != 3 && code != 4
}

// MatchErrorOut is MatchError for an error that the client sends about a
// packet it received, which the error quotes as the client saw it (N36).
func (t *Table) MatchErrorOut(p packet.Packet, now time.Time) *Session {
	q, ok := p.Quote()
	if !ok || q.Dst() != p.Src() || q.Src() != p.Dst() || !p.ValidChecksums() {
		return nil
	}
	k, request, ok := t.quotedKey(q, q.Src(), q.DstPort(), q.SrcPort())
	if !ok {
		return nil
	}
	s := t.alive(t.byInside(k), t.at(now))
	if s == nil || k.isEcho() && request != s.state.has(hostOpened) {
		return nil
	}
	return s
}

// OutError translates an ICMP error that MatchErrorOut found s for, in place.
// The resource sees an error about the packet that it sent itself.
func (t *Table) OutError(s *Session, p packet.Packet) {
	q, ok := p.Quote()
	if !ok {
		return
	}
	if s.proxy != 0 {
		q.SetSrc(s.goesTo())
		p.SetDst(s.goesTo())
	}
	if s.inside.isEcho() {
		q.SetEchoID(s.mapped)
	} else {
		q.SetDstPort(s.mapped)
	}
	p.Resum()
}
