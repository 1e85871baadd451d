package nat

import (
	"container/heap"
	"net/netip"
	"slices"
	"time"

	"stile/tunnel/packet"
)

// What speaks against a real address, so that new sessions avoid it (N6).
// Silence alone never does: only a handshake that nobody answered, one that was
// refused, and an error that says that the host cannot be reached.

const (
	synFail      = 3 * time.Second // so long after the first SYN
	evidenceFor  = 30 * time.Second
	evidenceMost = 10 * time.Minute
	maxEvidence  = 32 // on one proxy address; that which ends first goes
)

// evidence is what one real address did to sessions of one proxy address.
type evidence struct {
	addr  netip.Addr
	port  uint16 // of TCP: handshakes fail; 0: the host was said to be out of reach
	until instant
	span  instant // how long it lasts, doubled each time it proves right
}

// against returns the evidence of an address and port, or nil.
func (b *binding) against(addr netip.Addr, port uint16) *evidence {
	for i := range b.evidence {
		if e := &b.evidence[i]; e.addr == addr && e.port == port {
			return e
		}
	}
	return nil
}

// suspect reports whether evidence speaks against an address for a new session
// with that port of it; 0: not TCP.
func (b *binding) suspect(addr netip.Addr, port uint16, at instant) bool {
	return slices.ContainsFunc(b.evidence, func(e evidence) bool {
		return e.addr == addr && (e.port == 0 || e.port == port) && at < e.until
	})
}

// note takes a session's failure as evidence. It lasts from the first failure;
// only a session that was created after it ran out can set it again, for twice
// as long.
func (b *binding) note(s *Session, port uint16, at instant) {
	x := s.goesTo()
	e := b.against(x, port)
	switch {
	case e == nil:
		if len(b.evidence) >= maxEvidence {
			b.dropOldest()
		}
		b.evidence = append(b.evidence, evidence{x, port, at + instant(evidenceFor), instant(evidenceFor)})
	case s.started >= e.until:
		e.span = min(2*e.span, instant(evidenceMost))
		e.until = at + e.span
	}
}

func (b *binding) dropOldest() {
	oldest := 0
	for i, e := range b.evidence {
		if e.until < b.evidence[oldest].until {
			oldest = i
		}
	}
	b.evidence = slices.Delete(b.evidence, oldest, oldest+1)
}

// acquit forgets the evidence that a packet of the session's real address
// refutes, and how often it was right.
func (b *binding) acquit(s *Session, flags packet.TCPFlags) {
	x := s.goesTo()
	answered := s.inside.proto() == packet.TCP && flags.Has(packet.SYN|packet.ACK)
	b.evidence = slices.DeleteFunc(b.evidence, func(e evidence) bool {
		return e.addr == x && (e.port == 0 || answered && e.port == s.inside.port())
	})
}

// choose returns where a new session goes that would go to the current
// address: elsewhere if evidence speaks against that and not against another.
func (b *binding) choose(port uint16, at instant) netip.Addr {
	current := b.current.addr
	if len(b.evidence) == 0 || !b.suspect(current, port, at) {
		return current
	}
	if b.waiting && b.pending.IsValid() && b.pending != current && !b.suspect(b.pending, port, at) {
		return b.pending
	}
	start, found := slices.BinarySearchFunc(b.latest, current, netip.Addr.Compare)
	if found {
		start++
	}
	for n := range b.latest {
		if a := b.latest[(start+n)%len(b.latest)]; a != current && !b.suspect(a, port, at) {
			return a
		}
	}
	return current
}

// synSent counts a SYN that nobody answered yet. From the second on, the
// session fails three seconds after the first.
func (t *Table) synSent(s *Session, at instant) {
	if s.proxy == 0 || t.literal || s.state.has(confirmed) {
		return
	}
	if s.syns == 0 {
		s.began = at
	}
	if s.syns++; s.syns == 2 {
		s.fails = max(at, s.began+instant(synFail))
		heap.Push(t.failing(), s.self)
	}
	if s.syns > 2 {
		s.syns = 3 // more do not matter
	}
}

// judge lets the sessions fail whose time to be answered is over. It must run
// before anything is asked of a binding.
func (t *Table) judge(at instant) {
	for len(t.awaited) > 0 {
		s := t.rows.at(t.awaited[0])
		if s.fails > at {
			return
		}
		heap.Pop(t.failing())
		t.fail(t.bindingOf(s), s, s.inside.port(), s.fails)
	}
}

// fail lets a session show failure at a moment: from then on it holds nothing.
func (t *Table) fail(b *binding, s *Session, port uint16, at instant) {
	t.settle(b, at) // as things were
	b.note(s, port, at)
	s.marks |= failed
	t.suspend(b, s)
	t.settle(b, at)
}

// unreachable takes an error that says so about a session's real address.
// Until the next packet comes in, the session does not hold (N6 b).
func (t *Table) unreachable(s *Session, at instant) {
	if s.proxy == 0 || t.literal {
		return
	}
	t.judge(at)
	t.fail(t.bindingOf(s), s, 0, at)
}

// answered takes a packet from a session's real address, before the session
// does: it was no ICMP error.
func (t *Table) answered(b *binding, s *Session, flags packet.TCPFlags, at instant) {
	if t.literal {
		return
	}
	t.pardon(s)
	refused := s.inside.proto() == packet.TCP && flags.Has(packet.RST) && !s.state.has(confirmed) && !s.state.has(spoke)
	if len(b.evidence) > 0 {
		b.acquit(s, flags)
	}
	if refused {
		b.note(s, s.inside.port(), at)
	}
	if s.marks&failed != 0 {
		s.marks &^= failed
		t.resume(b, s)
	}
}

// pardon takes a session off those that are about to fail.
func (t *Table) pardon(s *Session) {
	if s.place > 0 {
		heap.Remove(t.failing(), int(s.place)-1)
	}
}

// suspend lets a closed or failing session hold nothing.
func (t *Table) suspend(b *binding, s *Session) {
	t.cool(b, s)
	s.marks |= resting
}

// resume lets it hold again, as long as its last client packet allows.
func (t *Table) resume(b *binding, s *Session) {
	if s.marks&resting == 0 || s.marks&failed != 0 || s.state.isClosed() {
		return
	}
	s.marks &^= resting
	t.wake(b, s)
}

// failing is the heap of a table's sessions by when they fail. Each knows its
// place in it, counted from 1.
func (t *Table) failing() *failures { return (*failures)(t) }

type failures Table

func (f *failures) Len() int { return len(f.awaited) }

func (f *failures) Less(i, j int) bool {
	return f.rows.at(f.awaited[i]).fails < f.rows.at(f.awaited[j]).fails
}

func (f *failures) Swap(i, j int) {
	f.awaited[i], f.awaited[j] = f.awaited[j], f.awaited[i]
	f.rows.at(f.awaited[i]).place, f.rows.at(f.awaited[j]).place = uint32(i+1), uint32(j+1)
}

func (f *failures) Push(r any) {
	f.awaited = append(f.awaited, r.(ref))
	f.rows.at(r.(ref)).place = uint32(len(f.awaited))
}

func (f *failures) Pop() any {
	last := len(f.awaited) - 1
	r := f.awaited[last]
	f.awaited = f.awaited[:last]
	f.rows.at(r).place = 0
	return r
}
