package nat

import (
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
	s := t.alive(t.byOutside(k), t.at(now))
	if s == nil || request != s.state.has(hostOpened) && k.isEcho() {
		return nil
	}
	return s
}

// In translates a packet that Match found s for, in place: from then on it
// comes from where the client sent its own packets.
func (t *Table) In(s *Session, p packet.Packet, now time.Time) {
	t.touchIn(s, p.TCPFlags(), t.at(now))
	s.received.add(p)
	if s.proxy != 0 {
		p.SetSrc16(s.inside.addr)
	}
	if s.mapped == s.inside.id() {
		return
	}
	if s.inside.isEcho() {
		p.SetEchoID(s.inside.id())
	} else {
		p.SetDstPort(s.inside.id())
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
	case k.proto() == packet.TCP && (impossible(p.TCPFlags()) || !starts(p.TCPFlags())):
		return BadFlags
	case t.alive(t.byInside(k), at) != nil || !t.free(k, at):
		return Exhausted
	case !t.room(at):
		return Full
	}
	s := &Session{inside: k, out: at, any: at, started: at, state: hostOpened, port: p.SrcPort()}
	if k.proto() == packet.TCP && p.TCPFlags().Has(packet.FIN) {
		s.state |= finIn
	}
	s.setOutside(k)
	s = t.add(s)
	s.received.add(p)
	t.event(Started, s, 0, at)
	return Forward
}
