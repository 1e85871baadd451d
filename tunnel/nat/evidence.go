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
// only a session that was begun after it ran out can set it again, for twice
// as long.
func (b *binding) note(s *Session, port uint16, at instant) {
	e := b.against(s.pin.addr, port)
	switch {
	case e == nil:
		if len(b.evidence) >= maxEvidence {
			b.dropOldest()
		}
		b.evidence = append(b.evidence, evidence{s.pin.addr, port, at + instant(evidenceFor), instant(evidenceFor)})
	case s.began >= e.until:
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
	answered := s.inside.proto == packet.TCP && flags.Has(packet.SYN|packet.ACK)
	b.evidence = slices.DeleteFunc(b.evidence, func(e evidence) bool {
		return e.addr == s.pin.addr && (e.port == 0 || answered && e.port == s.inside.port)
	})
}

// choose returns where a new session goes that would go to the current
// address: elsewhere if evidence speaks against that and not against another.
func (b *binding) choose(port uint16, at instant) *pin {
	if len(b.evidence) == 0 || !b.suspect(b.current.addr, port, at) {
		return b.current
	}
	if b.waiting && b.pending.IsValid() && b.pending != b.current.addr && !b.suspect(b.pending, port, at) {
		return b.pinTo(b.pending)
	}
	start, found := slices.BinarySearchFunc(b.latest, b.current.addr, netip.Addr.Compare)
	if found {
		start++
	}
	for n := range b.latest {
		if a := b.latest[(start+n)%len(b.latest)]; a != b.current.addr && !b.suspect(a, port, at) {
			return b.pinTo(a)
		}
	}
	return b.current
}

// synSent counts a SYN that nobody answered yet. From the second on, the
// session fails three seconds after the first.
func (t *Table) synSent(s *Session, at instant) {
	if s.proxy == nil || t.literal || s.state.has(confirmed) {
		return
	}
	if s.syns == 0 {
		s.began = at
	}
	if s.syns++; s.syns == 2 {
		s.fails = max(at, s.began+instant(synFail))
		heap.Push(&t.failing, s)
	}
	if s.syns > 2 {
		s.syns = 3 // more do not matter
	}
}

// judge lets the sessions fail whose time to be answered is over. It must run
// before anything is asked of a binding.
func (t *Table) judge(at instant) {
	for len(t.failing) > 0 && t.failing[0].fails <= at {
		s := heap.Pop(&t.failing).(*Session)
		s.proxy.settle(s.fails) // as things were at that moment
		s.proxy.note(s, s.inside.port, s.fails)
		s.failed = true
		s.proxy.suspend(s)
		s.proxy.settle(s.fails)
	}
}

// unreachable takes an error that says so about a session's real address.
// Until the next packet comes in, the session does not hold (N6 b).
func (t *Table) unreachable(s *Session, at instant) {
	if s.proxy == nil || t.literal {
		return
	}
	t.judge(at)
	s.proxy.settle(at)
	s.proxy.note(s, 0, at)
	s.failed = true
	s.proxy.suspend(s)
	s.proxy.settle(at)
}

// answered takes a packet from a session's real address, before the session
// does: it was no ICMP error.
func (t *Table) answered(s *Session, flags packet.TCPFlags, at instant) {
	if s.proxy == nil || t.literal {
		return
	}
	t.pardon(s)
	refused := s.inside.proto == packet.TCP && flags.Has(packet.RST) && !s.state.has(confirmed) && !s.state.has(spoke)
	if len(s.proxy.evidence) > 0 {
		s.proxy.acquit(s, flags)
	}
	if refused {
		s.proxy.note(s, s.inside.port, at)
	}
	s.failed = false
	s.proxy.resume(s)
}

// pardon takes a session off those that are about to fail.
func (t *Table) pardon(s *Session) {
	if s.fails != 0 {
		if s.place > 0 {
			heap.Remove(&t.failing, s.place-1)
		}
		s.fails = 0
	}
}

// suspend lets a failing session hold nothing.
func (b *binding) suspend(s *Session) {
	if s.resting {
		return
	}
	s.pin.open.remove(s)
	b.resting.pushFront(s)
	s.resting = true
	b.unpin(s.pin)
}

// resume lets it hold again, as long as its last client packet allows.
func (b *binding) resume(s *Session) {
	if !s.resting || s.failed || s.state.isClosed() {
		return
	}
	b.resting.remove(s)
	s.resting = false
	b.reopen(s)
}

// failures is a heap of sessions by when they fail. Each knows its place in it,
// counted from 1.
type failures []*Session

func (f failures) Len() int           { return len(f) }
func (f failures) Less(i, j int) bool { return f[i].fails < f[j].fails }
func (f failures) Swap(i, j int) {
	f[i], f[j] = f[j], f[i]
	f[i].place, f[j].place = i+1, j+1
}
func (f *failures) Push(s any) {
	*f = append(*f, s.(*Session))
	s.(*Session).place = len(*f)
}
func (f *failures) Pop() any {
	last := len(*f) - 1
	s := (*f)[last]
	(*f)[last] = nil
	*f = (*f)[:last]
	s.place = 0
	return s
}
