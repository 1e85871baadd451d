package nat

import (
	"net/netip"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/packet"
)

// A Session is one row of the table: a flow of the client, pinned to the
// address it started with (N1).
type Session struct {
	inside, outside key
	proxy           *binding // nil: the flow is not translated
	pin             *pin     // where proxied packets go; nil if proxy is
	links           [numLists]links

	out    instant // last client packet
	any    instant // last packet that was no ICMP error
	closed instant // when it became closed, if it is
	began  instant // when it sent its first packet
	fails  instant // when it fails if nobody answers; 0: it does not
	place  int     // in the table's failures, from 1

	started        instant     // when it entered the table
	resource       id.Resource // that let the first packet through, if known
	sent, received traffic
	port           uint16 // the resource's in the first packet

	state state
	class class
	syns  uint8 // without an answer, as far as they matter

	failed  bool // it shows failure (N6)
	resting bool // it is in its binding's list of those that hold nothing: it is closed, or has failed
}

// state is what was seen of a session.
type state uint8

const (
	confirmed  state = 1 << iota // a packet came in
	spoke                        // TCP: the client sent a segment without SYN
	finOut                       // TCP: FIN from the client
	finIn                        // TCP: FIN from the resource
	reset                        // TCP: RST from either
	resetOut                     // TCP: a client segment passed since the RST
	resetIn                      // TCP: a resource segment passed since the RST
	hostOpened                   // the gateway host sent the first packet
)

func (s state) has(bits state) bool { return s&bits == bits }

// isClosed: by a RST, or by FIN from both (spec gateway-nat.md 7.2).
func (s state) isClosed() bool { return s.has(reset) || s.has(finOut|finIn) }

// A class is a row of the table of deadlines in spec gateway-nat.md 7.2.
type class uint8

const (
	classClosed class = iota
	classUnconfirmed
	classOpening
	classHalf
	classOpen
	classUDP
	classICMP
	classOther
	numClasses
)

// isOpening: nobody answered yet, or the handshake is incomplete.
func (c class) isOpening() bool { return c == classUnconfirmed || c == classOpening }

var lifetimes = [numClasses]time.Duration{
	classClosed:      tcpOpening,
	classUnconfirmed: unconfirmed,
	classOpening:     tcpOpening,
	classHalf:        tcpHalf,
	classOpen:        tcpOpen,
	classUDP:         udpLife,
	classICMP:        icmpLife,
	classOther:       otherLife,
}

// deadline is when the session ends: at this instant it is over (N9).
func (s *Session) deadline() instant {
	base := s.any
	switch s.class {
	case classClosed:
		base = s.closed
	case classUnconfirmed:
		base = s.out
	}
	return base + instant(lifetimes[s.class])
}

// exists is evaluated at each use: sweeping only frees memory (N12).
func (s *Session) exists(at instant) bool { return at < s.deadline() }

// classify returns the class that the session's state belongs to.
func (s *Session) classify() class {
	switch {
	case s.state.isClosed():
		return classClosed
	case !s.state.has(confirmed):
		return classUnconfirmed
	case s.inside.proto == packet.UDP:
		return classUDP
	case s.inside.isEcho():
		return classICMP
	case s.inside.proto != packet.TCP:
		return classOther
	case !s.state.has(spoke):
		return classOpening
	case s.state&(finIn|finOut) != 0:
		return classHalf
	}
	return classOpen
}

// Proxied tells whether the session is translated. If so, addr is the proxy
// address, otherwise the address the client itself sends to.
func (s *Session) Proxied() (addr netip.Addr, ok bool) {
	if s.proxy != nil {
		return s.proxy.addr, true
	}
	return s.inside.address(), false
}

// touchOut notes a client packet. It is the only thing that prolongs the hold
// on the proxy address (N8).
func (t *Table) touchOut(s *Session, flags packet.TCPFlags, at instant) {
	s.proxy.settle(at)
	before := s.state
	s.out, s.any = at, at
	if s.inside.proto == packet.TCP {
		s.state = s.state.afterOut(flags)
		if flags.Has(packet.SYN) && !flags.Has(packet.ACK) {
			t.synSent(s, at)
		}
	}
	t.update(s, before, at)
	if s.pin != nil && !s.resting {
		s.pin.open.moveToFront(s)
	}
	if s.class.isOpening() {
		t.opening.moveToFront(s)
	}
}

// touchIn notes a packet from the resource that was no ICMP error.
func (t *Table) touchIn(s *Session, flags packet.TCPFlags, at instant) {
	t.judge(at)
	s.proxy.settle(at) // the packet might open a closed session again
	t.answered(s, flags, at)
	before := s.state
	s.any = at
	s.state |= confirmed
	if s.inside.proto == packet.TCP {
		s.state = s.state.afterIn(flags)
	}
	t.update(s, before, at)
}

// afterOut is the state after a client's segment.
func (s state) afterOut(flags packet.TCPFlags) state {
	if flags.Has(packet.RST) {
		return s&^(resetOut|resetIn) | reset
	}
	if !flags.Has(packet.SYN) {
		s |= spoke
	}
	if flags.Has(packet.FIN) {
		s |= finOut
	}
	if s.has(reset) {
		s |= resetOut
	}
	return s.reopened()
}

// afterIn is the state after a resource's segment.
func (s state) afterIn(flags packet.TCPFlags) state {
	if flags.Has(packet.RST) {
		return s&^(resetOut|resetIn) | reset
	}
	if flags.Has(packet.FIN) {
		s |= finIn
	}
	if s.has(reset) {
		s |= resetIn
	}
	return s.reopened()
}

// reopened takes a RST back once segments have passed in both directions
// after it: then it was forged, or neither end believed it (N15).
func (s state) reopened() state {
	if s.has(reset | resetOut | resetIn) {
		return s &^ (reset | resetOut | resetIn)
	}
	return s
}

// update brings the lists in line with the session's times and state; before
// is the state it had. Nothing refreshes a closed session (N10).
func (t *Table) update(s *Session, before state, at instant) {
	switch closed := s.state.isClosed(); {
	case closed && before.isClosed():
		return
	case closed:
		s.closed = at
		t.pardon(s)
		if s.proxy != nil && !t.literal {
			s.proxy.suspend(s)
		}
	case before.isClosed() && s.proxy != nil:
		s.proxy.resume(s)
	}
	if c := s.classify(); c != s.class {
		t.leave(s)
		s.class = c
		t.join(s)
		return
	}
	t.classes[s.class].moveToFront(s)
}

// add puts a new session into the table.
func (t *Table) add(s *Session) {
	t.inside[s.inside] = s
	t.outside[s.outside] = s
	s.class = s.classify()
	t.join(s)
	if s.pin != nil {
		s.pin.open.pushFront(s)
	}
}

// join puts a session into the lists of its class.
func (t *Table) join(s *Session) {
	t.classes[s.class].pushFront(s)
	if s.class.isOpening() {
		t.opening.insertAfter(t.opening.behind(s.out), s)
	}
}

func (t *Table) leave(s *Session) {
	t.classes[s.class].remove(s)
	if s.class.isOpening() {
		t.opening.remove(s)
	}
}

// remove takes a session out of the table, whose end this is.
func (t *Table) remove(s *Session, at instant, why end) {
	t.remember(s, at, why)
	t.ended(s, at, why)
	delete(t.inside, s.inside)
	delete(t.outside, s.outside)
	t.leave(s)
	t.pardon(s)
	s.proxy.forget(s)
}

// retire removes all sessions whose time is over. The latest to end is in
// front of each list, so each session is looked at once.
func (t *Table) retire(at instant) {
	for c := range t.classes {
		for s := t.classes[c].back; s != nil && !s.exists(at); s = t.classes[c].back {
			t.remove(s, at, byTime)
		}
	}
}
