package nat

import (
	"time"

	"stile/tunnel/packet"
)

// quarantineFor is how long an outside tuple that carried a conversation is
// not given to another one: what the resource still sends would reach it (N31).
// The client's own next packet may have it back meanwhile (N14).
const quarantineFor = 120 * time.Second

const maxFormer = 16384

// past is what is remembered of sessions that have ended. There is one entry
// for each outside tuple, at most maxFormer; of more, the first is forgotten.
type past struct {
	outside map[key]former
	inside  map[key]key // of the same entries: which outside tuple it had
	order   []ending    // from head on, as they came in; some are forgotten already
	head    int
}

// An ending is when a former session can be forgotten.
type ending struct {
	outside key
	until   instant
}

// A former is a session that was confirmed and has ended.
type former struct {
	inside key
	until  instant
	revive bool     // it ended by its time or was evicted, and was not closed
	proxy  *binding // what its proxy address stood for; nil: it was not translated
}

// remember takes a session that ends. Those that ended by their time did so at
// their deadline, whenever that was noticed.
func (t *Table) remember(s *Session, at instant, why end) {
	if !s.state.has(confirmed) || !s.inside.hasID() {
		return
	}
	if s.deadline() < at {
		at = s.deadline()
	}
	for len(t.past.order)-t.past.head >= maxFormer {
		t.forgetFirst()
	}
	if old, known := t.past.inside[s.inside]; known {
		t.forgetPast(old)
	}
	if t.past.outside == nil {
		t.past.outside, t.past.inside = make(map[key]former), make(map[key]key)
	}
	outside := s.outside()
	if _, known := t.past.outside[outside]; known {
		t.forgetPast(outside) // of whoever had it before
	}
	until := at + instant(quarantineFor)
	t.past.order = append(t.past.order, ending{outside, until})
	t.past.outside[outside] = former{s.inside, until, why <= byEviction && !s.state.isClosed(), t.bindingOf(s)}
	t.past.inside[s.inside] = outside
}

// An end is why a session ends.
type end uint8

const (
	byTime     end = iota // its deadline
	byEviction            // another one takes its place (N47)
	byRestart             // a new connection from the same port (N15)
	byName                // its proxy address stands for another name (N25)
	byClearing            // of all (N28)
)

func (t *Table) forgetPast(outside key) {
	f := t.past.outside[outside]
	delete(t.past.outside, outside)
	if t.past.inside[f.inside] == outside {
		delete(t.past.inside, f.inside)
	}
}

// quarantined reports whether an outside tuple belongs to a conversation of
// another inside that has just ended.
func (t *Table) quarantined(outside, inside key, at instant) bool {
	f, known := t.past.outside[outside]
	return known && at < f.until && f.inside != inside
}

// revival returns the outside tuple that a packet gets back: it goes on with a
// session that has just ended (N14). b is what its proxy address stands for: if
// that is another name by now, the old one's servers must not hear of it.
func (t *Table) revival(p packet.Packet, k key, b *binding, at instant) (outside key, ok bool) {
	outside, ok = t.past.inside[k]
	if !ok {
		return outside, false
	}
	f := t.past.outside[outside]
	flags := p.TCPFlags()
	ok = f.revive && at < f.until && f.inside == k && f.proxy == b &&
		(k.proto() != packet.TCP || flags.Has(packet.ACK) && flags&(packet.SYN|packet.RST) == 0)
	return outside, ok && t.alive(t.byOutside(outside), at) == nil
}

// forgetFirst forgets the former session that came in first.
func (t *Table) forgetFirst() {
	p := &t.past
	first := p.order[p.head]
	if p.outside[first.outside].until == first.until {
		t.forgetPast(first.outside)
	}
	if p.head++; p.head >= len(p.order)/2 {
		p.order = append(p.order[:0], p.order[p.head:]...)
		p.head = 0
	}
}

// sweepPast forgets at most limit former sessions that are over, and returns
// how many. Behind one that is not, others wait that ended a little earlier.
func (t *Table) sweepPast(at instant, limit int) (n int) {
	p := &t.past
	for ; n < limit && p.head < len(p.order) && at >= p.order[p.head].until; n++ {
		t.forgetFirst()
	}
	if p.head == len(p.order) {
		*p = past{}
	}
	return n
}
