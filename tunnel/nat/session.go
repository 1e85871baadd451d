package nat

import (
	"math"
	"net/netip"
	"time"
	"unsafe"

	"stile/platform/prefetch"
	"stile/tunnel/id"
	"stile/tunnel/packet"
)

// A Session is one row of the table: a flow of the client, pinned to the
// address it started with (N1). What each packet touches comes first: one line
// of the cache that finds the session, and the next, where it is counted.
type Session struct {
	inside   key
	real     packet.Addr16 // where it goes (N1)
	mapped   uint16        // the client's port or echo identifier as the resource sees it
	state    state
	class    class
	marks    marks
	syns     uint8   // without an answer, as far as they matter
	out, any instant // last client packet; last packet that was no ICMP error

	sent, received traffic
	started        instant                          // when it entered the table
	hashes         struct{ inside, outside uint32 } // of its keys
	self           ref
	proxy          slot   // of its binding; 0: the flow is not translated
	place          uint32 // in the table's heap of those that may fail, from 1; 0: it will not
	port           uint16 // the resource's in the first packet

	links    [numLists]links
	closed   instant     // when it became closed, if it is
	began    instant     // when it sent its first SYN
	fails    instant     // when it fails if nobody answers, as long as it has a place
	resource id.Resource // that let the first packet through, if known
}

// marks say where a session stands with its binding, and whether it may go.
type marks uint8

const (
	failed    marks = 1 << iota // it shows failure (N6)
	resting                     // it holds nothing: it is closed, or has failed
	warm                        // it is in the list of its pin, not among the binding's idle ones
	evictable                   // it is in the list of its class, not in the wheel
)

// outside is the session's key on the resource's side.
func (s *Session) outside() key {
	return key{s.real, s.inside.rest}.with(s.mapped, s.inside.port())
}

func (s *Session) setOutside(k key) { s.real, s.mapped = k.addr, k.id() }

// goesTo is where its packets go.
func (s *Session) goesTo() netip.Addr { return s.outside().address() }

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
func (s *Session) deadline() instant { return s.base() + instant(lifetimes[s.class]) }

// base is what the lifetime of the session's class counts from.
func (s *Session) base() instant {
	switch s.class {
	case classClosed:
		return s.closed
	case classUnconfirmed:
		return s.out
	}
	return s.any
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
	case s.inside.proto() == packet.UDP:
		return classUDP
	case s.inside.isEcho():
		return classICMP
	case s.inside.proto() != packet.TCP:
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
	return s.inside.address(), s.proxy != 0
}

// touchOut notes a client packet. It is the only thing that prolongs the hold
// on the proxy address (N8).
func (t *Table) touchOut(s *Session, flags packet.TCPFlags, at instant) {
	b := t.bindingOf(s)
	if b != nil {
		if b.waiting {
			t.settle(b, at)
		}
		t.use(b, at)
	}
	before := s.state
	s.out, s.any = at, at
	if s.inside.proto() == packet.TCP {
		s.state = s.state.afterOut(flags)
		if flags.Has(packet.SYN) && !flags.Has(packet.ACK) {
			t.synSent(s, at)
		}
	}
	t.update(s, before, at)
	if b != nil && s.marks&(warm|resting) == 0 {
		t.wake(b, s)
	}
	if s.class == classOpening {
		t.opening.moveToFront(&t.rows, s)
	}
}

// touchIn notes a packet from the resource that was no ICMP error.
func (t *Table) touchIn(s *Session, flags packet.TCPFlags, at instant) {
	t.judge(at)
	if b := t.bindingOf(s); b != nil {
		if b.waiting {
			t.settle(b, at) // the packet might open a closed session again
		}
		t.answered(b, s, flags, at)
	}
	before := s.state
	s.any = at
	if !before.has(confirmed) {
		s.state |= confirmed
		if t.took != nil && !before.has(hostOpened) {
			t.took(time.Duration(at - s.started))
		}
	}
	if s.inside.proto() == packet.TCP {
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
	if s.state == before {
		if s.marks&evictable != 0 && !before.isClosed() {
			t.refresh(s)
		}
		return
	}
	switch closed := s.state.isClosed(); {
	case closed && before.isClosed():
		return
	case closed:
		s.closed = at
		t.pardon(s)
		if b := t.bindingOf(s); b != nil && !t.literal {
			t.suspend(b, s)
		}
	case before.isClosed():
		if b := t.bindingOf(s); b != nil {
			t.resume(b, s)
		}
	}
	t.leave(s)
	s.class = s.classify()
	t.join(s)
}

// add puts a new session into the table and returns its row.
func (t *Table) add(n *Session) *Session {
	s := t.rows.add(n, t.memory)
	s.hashes.inside, s.hashes.outside = t.hasher.hash(s.inside), t.hasher.hash(s.outside())
	t.inside.add(s.hashes.inside, s.self, t.memory)
	t.outside.add(s.hashes.outside, s.self, t.memory)
	s.class = s.classify()
	t.join(s)
	if b := t.bindingOf(s); b != nil {
		t.use(b, s.out)
		t.wake(b, s)
	}
	return s
}

// join puts a session into the lists of its class.
func (t *Table) join(s *Session) {
	if evictAfter[s.class] == 0 {
		t.offer(s)
	} else {
		t.await(s)
	}
	if s.class == classOpening {
		t.opening.insertAfter(&t.rows, t.opening.behind(&t.rows, s.out), s)
	}
}

func (t *Table) leave(s *Session) {
	if s.class == classOpening {
		t.opening.remove(&t.rows, s)
	}
	if s.marks&evictable == 0 {
		t.wheel.remove(&t.rows, s)
		return
	}
	t.evictable[s.class].remove(&t.rows, s)
	s.marks &^= evictable
}

// refresh has an evictable session be the one that was idle for the shortest
// time, or evictable no more.
func (t *Table) refresh(s *Session) {
	l := &t.evictable[s.class]
	if evictAfter[s.class] == 0 {
		l.moveToFront(&t.rows, s)
		return
	}
	l.remove(&t.rows, s)
	s.marks &^= evictable
	t.await(s)
}

// prefetch has the memory brought near that the end of an evictable session needs:
// where its keys are in the indexes, and its neighbours in the lists.
func (t *Table) prefetch(s *Session) {
	t.inside.prefetch(s.hashes.inside)
	t.outside.prefetch(s.hashes.outside)
	for _, l := range s.links {
		if l.prev != 0 {
			prefetch.Line(unsafe.Pointer(&t.rows.at(l.prev).links))
		}
	}
}

// remove takes a session out of the table, whose end this is.
func (t *Table) remove(s *Session, at instant, why end) {
	t.remember(s, at, why)
	t.ended(s, at, why)
	t.inside.remove(s.hashes.inside, s.self)
	t.outside.remove(s.hashes.outside, s.self)
	t.leave(s)
	t.pardon(s)
	if b := t.bindingOf(s); b != nil {
		t.forget(b, s)
	}
	t.rows.remove(s)
}

// retire removes evictable sessions whose time is over, at most limit, and
// returns how many. After ripen, these are all there are.
func (t *Table) retire(at instant, limit int) (n int) {
	for c := range t.evictable {
		for n < limit && t.evictable[c].back != 0 {
			s := t.rows.at(t.evictable[c].back)
			if s.exists(at) {
				break
			}
			t.remove(s, at, byTime)
			n++
			if next := t.evictable[c].back; next != 0 {
				t.prefetch(t.rows.at(next))
			}
		}
	}
	return n
}

// retireAll removes all sessions whose time is over.
func (t *Table) retireAll(at instant) {
	t.ripen(at, math.MaxInt)
	t.retire(at, math.MaxInt)
}
