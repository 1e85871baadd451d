package nat

import (
	"net/netip"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/packet"
)

// A Flow is a session as people see it: who talks with what since when. Times
// are those of the clock that the Table is told.
type Flow struct {
	Proto   packet.Proto
	Client  uint16     // the client's port or echo identifier; 0 for other protocols
	Outside uint16     // the same as the resource sees it
	Proxy   netip.Addr // what the client sends to: a proxy address, or Real itself
	Real    netip.Addr // where it goes
	Port    uint16     // the resource's port in the first packet; 0: none
	Name    string     // what the proxy address stands for; empty if it is none
	// Resource is the one that let the first packet through, as [Table.OutFor]
	// was told; zero if it was not.
	Resource id.Resource
	Opened   bool // the gateway host began it

	Started, LastOut, Last, Deadline time.Time // Last: either direction, but no ICMP error
	PacketsOut, PacketsIn            uint64
	BytesOut, BytesIn                uint64 // of IP packets
	State                            string // closed, unconfirmed, opening, half-closed, established, udp, icmp or other
}

// An EventKind says what happened to a session.
type EventKind uint8

const (
	Started EventKind = iota
	Ended
)

// An Event is the start or the end of a session. Of a start, the Flow has one
// packet; of an end, all of them.
type Event struct {
	Kind   EventKind
	Flow   Flow
	Reason EndReason // of an end
	At     time.Time // of an end by time, its deadline: when that was noticed does not matter
}

// An EndReason is why a session ended.
type EndReason uint8

const (
	EndIdle       EndReason = iota // nothing was sent for as long as its kind is kept
	EndUnanswered                  // nothing ever came back
	EndFinished                    // both sides said so
	EndReset                       // one side did
	EndEvicted                     // it made room for another
	EndRestarted                   // the client began another connection from the same port (N15)
	EndRenamed                     // its proxy address stands for another name, or for none (N25)
	EndCleared                     // the client's state was given up (N28)
)

var endNames = [...]string{"idle", "unanswered", "finished", "reset", "evicted", "restarted", "renamed", "cleared"}

func (r EndReason) String() string { return endNames[r] }

// maxEvents bounds what nobody has fetched, besides one event for each session
// there may be: all of them may end at once. Of more, the latest are lost.
const maxEvents = 4096

// Events moves the starts and ends of sessions since the last call to dst, in
// the order in which they were noticed. There are none unless Config.Flows.
func (t *Table) Events(dst []Event) []Event {
	dst = append(dst, t.events...)
	clear(t.events)
	t.events = t.events[:0]
	if cap(t.events) > maxEvents/16 {
		t.events = nil
	}
	return dst
}

// LostEvents returns how many events were lost because nobody fetched them.
func (t *Table) LostEvents() uint64 { return t.lostEvents }

func (t *Table) event(kind EventKind, s *Session, why EndReason, at instant) {
	switch {
	case !t.flows:
	case len(t.events) >= t.maxSessions+maxEvents:
		t.lostEvents++
	default:
		t.events = append(t.events, Event{kind, t.flow(s), why, t.time(at)})
	}
}

// ended tells of a session's end.
func (t *Table) ended(s *Session, at instant, why end) {
	if !t.flows {
		return
	}
	reason := [...]EndReason{byEviction: EndEvicted, byRestart: EndRestarted, byName: EndRenamed, byClearing: EndCleared}[why]
	if deadline := s.deadline(); why == byTime || deadline <= at {
		at = deadline
		switch {
		case s.state.has(reset):
			reason = EndReset
		case s.state.isClosed():
			reason = EndFinished
		case !s.state.has(confirmed):
			reason = EndUnanswered
		default:
			reason = EndIdle
		}
	}
	t.event(Ended, s, reason, at)
}

// Flows yields all sessions that exist, in no order that means something. The
// Table must not be used meanwhile.
func (t *Table) Flows(now time.Time) func(yield func(Flow) bool) {
	at := t.at(now)
	return func(yield func(Flow) bool) {
		for s := range t.rows.all {
			if s.exists(at) && !yield(t.flow(s)) {
				return
			}
		}
	}
}

var stateNames = [numClasses]string{
	classClosed:      "closed",
	classUnconfirmed: "unconfirmed",
	classOpening:     "opening",
	classHalf:        "half-closed",
	classOpen:        "established",
	classUDP:         "udp",
	classICMP:        "icmp",
	classOther:       "other",
}

func (t *Table) flow(s *Session) Flow {
	f := Flow{
		Proto:      s.inside.proto(),
		Client:     s.inside.id(),
		Outside:    s.mapped,
		Proxy:      s.inside.address(),
		Real:       s.goesTo(),
		Port:       s.port,
		Resource:   s.resource,
		Opened:     s.state.has(hostOpened),
		Started:    t.time(s.started),
		LastOut:    t.time(s.out),
		Last:       t.time(s.any),
		Deadline:   t.time(s.deadline()),
		PacketsOut: s.sent.packets,
		PacketsIn:  s.received.packets,
		BytesOut:   s.sent.bytes,
		BytesIn:    s.received.bytes,
		State:      stateNames[s.class],
	}
	if b := t.bindingOf(s); b != nil {
		f.Name = b.name
	}
	return f
}

// time is the inverse of at.
func (t *Table) time(at instant) time.Time { return t.start.Add(time.Duration(at)) }

// traffic counts packets in one direction.
type traffic struct{ packets, bytes uint64 }

func (c *traffic) add(p packet.Packet) {
	c.packets++
	c.bytes += uint64(len(p.Bytes()))
}

// A Binding is what a proxy address stands for, and why.
type Binding struct {
	Proxy     netip.Addr
	Name      string
	Resources []id.Resource // a copy
	Current   netip.Addr    // where new sessions go; invalid: nowhere
	Pending   netip.Addr    // the answer that waits while Current is held; invalid: no address
	Waiting   bool          // there is one
	Held      bool          // new sessions stay with Current because a session is active there (N3)
	Holder    Flow          // if Held: the one with the latest packet
	HeldUntil time.Time     // if Held: should its client send nothing more
	Latest    []netip.Addr  // the latest answer of its family; a copy
	Evidence  []Evidence    // against addresses (N6)
}

// Evidence is why new sessions avoid an address until then.
type Evidence struct {
	Addr  netip.Addr
	Port  uint16 // of TCP: handshakes fail; 0: the whole host is out of reach
	Until time.Time
}

// Bindings yields all proxy addresses, in no order that means something. The
// Table must not be used meanwhile.
func (t *Table) Bindings(now time.Time) func(yield func(Binding) bool) {
	return func(yield func(Binding) bool) {
		at := t.at(now)
		t.judge(at)
		for _, b := range t.bindings {
			t.settle(b, at)
			if !yield(t.binding(b, at)) {
				return
			}
		}
	}
}

func (t *Table) binding(b *binding, at instant) Binding {
	v := Binding{
		Proxy:     b.addr,
		Name:      b.name,
		Resources: append([]id.Resource(nil), b.resources...),
		Waiting:   b.waiting,
		Latest:    append([]netip.Addr(nil), b.latest...),
	}
	if b.current != nil {
		v.Current = b.current.addr
	}
	if b.waiting {
		v.Pending = b.pending
	}
	if s := t.latest(b, at); s != nil {
		v.Held, v.Holder, v.HeldUntil = true, t.flow(s), t.time(s.out+instant(holdFor))
	}
	for _, e := range b.evidence {
		if at < e.until {
			v.Evidence = append(v.Evidence, Evidence{e.addr, e.port, t.time(e.until)})
		}
	}
	return v
}

// latest is holder without a change, at a time that may be yet to come; of
// several, it is the session with the latest packet.
func (t *Table) latest(b *binding, at instant) (last *Session) {
	if b.current == nil {
		return nil
	}
	t.each(&b.current.warm, func(s *Session) bool {
		if at-s.out < instant(holdFor) && s.exists(at) && (last == nil || s.out > last.out) {
			last = s
		}
		return true
	})
	return last
}
