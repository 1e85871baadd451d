package nat

import (
	"time"

	"stile/tunnel/id"
	"stile/tunnel/packet"
	"stile/tunnel/policy"
)

// Out is OutFor a resource that is not told.
func (t *Table) Out(p packet.Packet, now time.Time) Verdict { return t.OutFor(id.Resource{}, p, now) }

// OutFor translates a packet that the client may send, in place; r is the
// resource that permits it. The session it belongs to comes first (N2); without
// one, a packet that may start a flow gets a new session. On any Verdict but
// Forward the packet is unchanged.
func (t *Table) OutFor(r id.Resource, p packet.Packet, now time.Time) Verdict {
	at, flags := t.at(now), p.TCPFlags()
	t.judge(at)
	k, request, ok := t.outboundKey(p)
	if !ok {
		return NoSession
	}
	if k.proto() == packet.TCP && impossible(flags) {
		return BadFlags
	}
	s := t.alive(t.byInside(k), at)
	restart := s != nil && s.restarts(flags, at)
	var before key // of a session that is begun anew
	if restart {
		before = s.outside()
		t.remove(s, at, byRestart)
	}
	if s == nil || restart {
		n, v := t.open(p, k, request, before, at)
		if v != Forward {
			return v
		}
		n.resource, n.port = r, p.DstPort()
		s = t.begin(&n, flags, at)
		s.sent.add(p)
		t.event(Started, s, 0, at)
	} else {
		t.touchOut(s, flags, at)
		s.sent.add(p)
	}
	s.rewriteOut(p)
	return Forward
}

// Has reports whether a packet from the client belongs to an existing session.
func (t *Table) Has(p packet.Packet, now time.Time) bool {
	k, _, ok := t.outboundKey(p)
	return ok && t.alive(t.byInside(k), t.at(now)) != nil
}

// alive returns a session that was looked up, or nil if its time is over; then
// it is removed.
func (t *Table) alive(s *Session, at instant) *Session {
	if s == nil || s.exists(at) {
		return s
	}
	t.remove(s, at, byTime)
	return nil
}

// impossible reports flags that no TCP sends.
func impossible(f packet.TCPFlags) bool {
	const known = packet.FIN | packet.SYN | packet.RST | packet.PSH | packet.ACK | packet.URG
	return f&known == 0 || f.Has(packet.SYN|packet.FIN) || f.Has(packet.SYN|packet.RST)
}

// starts reports whether a segment may start a session: a SYN, or one from the
// middle of a connection that outlived its row.
func starts(f packet.TCPFlags) bool {
	return !f.Has(packet.RST) && (f.Has(packet.SYN) || f.Has(packet.ACK))
}

// restarts reports whether a client's segment means that it has forgotten the
// connection and begins another from the same port (N15). A SYN that repeats
// one on its way does not.
func (s *Session) restarts(f packet.TCPFlags, at instant) bool {
	if s.inside.proto() != packet.TCP || !f.Has(packet.SYN) || f.Has(packet.ACK) {
		return false
	}
	return s.state.isClosed() || s.state.has(confirmed|spoke) && at-s.out >= instant(holdFor)
}

// open makes a session for the inside key of a client's packet. It is not in
// the table yet. One that takes the place of another on the same key, which a
// restart or a revival does, is not counted as new (N49). before is the outside
// key of the one that is begun anew, if it is: if the new one goes to the same
// server, it does so from the same port, as without a NAT. The client may repeat
// a SYN that the server has answered already, after what it still heard of the
// old connection made it send a RST.
func (t *Table) open(p packet.Packet, k key, request bool, before key, at instant) (s Session, v Verdict) {
	switch {
	case !request:
		return s, NoSession
	case k.proto() == packet.TCP && !starts(p.TCPFlags()):
		return s, BadFlags
	}
	s.inside = k
	outside := k
	again, revived := t.revival(p, k, t.bindings[p.Dst()], at)
	if dst := p.Dst(); policy.IsProxy(dst) {
		b, ok := t.bindings[dst]
		switch {
		case !ok:
			return s, NoBinding
		case !k.hasID():
			return s, NotAllowed
		}
		t.settle(b, at)
		revived = revived && (k.proto() == packet.TCP || b.current != nil && b.current.addr == again.address())
		switch {
		case revived:
		case b.current != nil:
			outside.addr = packet.Addr16Of(b.choose(k.port(), at))
		case b.answered&^familyOf(dst) != 0:
			return s, NoFamily
		default:
			return s, Unresolved
		}
		s.proxy = b.slot
	}
	if revived {
		outside = again
	}
	restart := before != (key{})
	if restart && before.addr == outside.addr {
		outside = before
	}
	if v := t.admit(&outside, k, restart, revived, at); v != Forward {
		return s, v
	}
	s.setOutside(outside)
	return s, Forward
}

// admit finds room and an outside id for a new session; outside has the one
// that it would like.
func (t *Table) admit(outside *key, inside key, restart, revived bool, at instant) Verdict {
	fresh := !restart && !revived
	t.outside.prefetch(t.hasher.hash(*outside)) // needed in a moment
	switch {
	case fresh && !t.pace.allows(at):
		return TooFast
	case !t.room(at):
		return Full
	case !revived && !t.allocate(outside, inside, at):
		return Exhausted
	}
	if fresh {
		t.pace.take(at)
	}
	return Forward
}

// begin puts a session into the table with the packet that starts it.
func (t *Table) begin(n *Session, flags packet.TCPFlags, at instant) *Session {
	n.out, n.any, n.began, n.started = at, at, at, at
	if n.inside.proto() == packet.TCP {
		n.state = n.state.afterOut(flags)
	}
	s := t.add(n)
	if s.inside.proto() == packet.TCP && flags.Has(packet.SYN) && !flags.Has(packet.ACK) {
		t.synSent(s, at)
	}
	return s
}

func (s *Session) rewriteOut(p packet.Packet) {
	if s.proxy != 0 {
		p.SetDst16(s.real)
	}
	if s.mapped == s.inside.id() {
		return
	}
	if s.inside.isEcho() {
		p.SetEchoID(s.mapped)
	} else {
		p.SetSrcPort(s.mapped)
	}
}
