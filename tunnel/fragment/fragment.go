// Package fragment remembers what was decided about the first fragment of each
// datagram, so that the others follow it. Only the first shows the ports that
// policy and translation go by (spec gateway-nat.md N41).
//
// A [Table] belongs to one client and holds no datagram together: each fragment
// goes on as it comes. Those that come before their first wait for it a little.
// Nothing here says what a decision is; a Table keeps it by value.
package fragment

import (
	"math/rand/v2"
	"time"

	"stile/tunnel/packet"
)

// Bounds of one Table (spec gateway-nat.md 7.1).
const (
	maxDatagrams  = 256 // that have begun; the oldest makes room
	maxEarly      = 64  // fragments that wait, of all datagrams; what does not fit is dropped
	maxEarlyBytes = 128 << 10

	earlyFor    = 2 * time.Second
	datagramFor = 30 * time.Second // from its first fragment; or until it is complete
)

// The bound in bytes holds because that in fragments does.
const _ = uint(maxEarlyBytes - maxEarly*packet.MaxSize)

// A Table knows the datagrams whose fragments are on their way. Each fragment
// costs the same, however many there are, and no memory unless it waits.
type Table[V any] struct {
	rng     *rand.Rand
	by      map[Key]*datagram[V] // as they come in
	leaving map[Key]*datagram[V] // those that have begun, as they go on
	begun   queue[V]             // the same, the oldest in front
	waiting queue[V]             // those without a first fragment, the oldest in front
	early   int                  // fragments that wait
	free    *datagram[V]         // to be used again
	lost    uint64
}

// New returns an empty Table. rng makes up IDs; where addresses stay as they
// are, it is not needed, and the zero Table does.
func New[V any](rng *rand.Rand) *Table[V] { return &Table[V]{rng: rng} }

// A Key is what all fragments of a datagram have in common, and no others at
// the same time.
type Key struct {
	src, dst packet.Addr16
	id       uint32
	proto    packet.Proto
	v6       bool
}

// KeyOf returns the Key of a fragment.
func KeyOf(p packet.Packet) Key {
	f := p.Fragment()
	return Key{src: p.Src16(), dst: p.Dst16(), id: f.ID, proto: f.Proto, v6: p.Version() == 6}
}

// A datagram is one whose fragments are on their way.
type datagram[V any] struct {
	came, goes Key
	value      V
	since      time.Time       // it has begun, or begun to wait
	early      []packet.Packet // what waits for the first fragment, in order of arrival
	waits      bool            // for the first fragment
	spoiled    bool            // its fragments contradict each other: none follows any more (RFC 5722)
	got        runs
	end        int // of its data; 0: the last fragment has not come

	prev, next *datagram[V]
}

// Begin takes the decision about the first fragment p, which came in as came and
// has been rewritten since. It replaces an earlier datagram with the same Key: hosts
// use their IDs again. If another datagram on its way to the same place has the
// ID of this one, all fragments of this get another.
//
// The result are the fragments that came before, as they came in but for the
// ID, in order of arrival.
func (t *Table[V]) Begin(came Key, p packet.Packet, v V, now time.Time) (early []packet.Packet) {
	t.expire(now)
	goes := KeyOf(p)
	d := t.by[came]
	if d != nil {
		if d.goes.src == goes.src && d.goes.dst == goes.dst {
			goes.id = d.goes.id // p may have come twice
		}
		early = t.release(d)
		t.remove(d)
	}
	if t.begun.len == maxDatagrams {
		t.remove(t.begun.front)
	}
	d = t.add(came, now)
	d.value, d.goes = v, t.unused(goes)
	t.leaving[d.goes] = d
	t.begun.push(d)
	p.SetFragmentID(d.goes.id)
	d.accept(p.Fragment())

	passed := early[:0]
	for _, q := range early {
		if !d.accept(q.Fragment()) {
			t.lost++
			continue
		}
		q.SetFragmentID(d.goes.id)
		passed = append(passed, q)
	}
	if d.complete() {
		t.remove(d)
	}
	return passed
}

// Follow returns what Begin was told about the datagram of p, a fragment other
// than the first, and gives p the ID that the datagram goes on with. Otherwise
// ok is false, and p is not to go on: it waits for the first fragment, or it was
// dropped (Lost).
func (t *Table[V]) Follow(p packet.Packet, now time.Time) (v V, ok bool) {
	t.expire(now)
	came := KeyOf(p)
	d := t.by[came]
	switch {
	case d == nil || d.waits:
		t.wait(d, came, p, now)
		return v, false
	case !d.accept(p.Fragment()):
		t.lost++
		return v, false
	}
	p.SetFragmentID(d.goes.id)
	v = d.value
	if d.complete() {
		t.remove(d)
	}
	return v, true
}

// wait keeps a fragment that came before its first. d is nil if it is the only
// one so far.
func (t *Table[V]) wait(d *datagram[V], came Key, p packet.Packet, now time.Time) {
	if t.early == maxEarly {
		t.lost++
		return
	}
	if d == nil {
		d = t.add(came, now)
		d.waits = true
		t.waiting.push(d)
	}
	d.early = append(d.early, p.Clone())
	t.early++
}

// Lost returns how many fragments were dropped since it was last asked: late or
// early ones without their first, duplicates, and what does not fit together.
func (t *Table[V]) Lost() uint64 {
	n := t.lost
	t.lost = 0
	return n
}

// Sweep drops what is too old. It changes no answer, but frees memory: all of
// it, if nothing is on its way.
func (t *Table[V]) Sweep(now time.Time) {
	t.expire(now)
	if len(t.by) == 0 {
		*t = Table[V]{rng: t.rng, lost: t.lost}
	}
}

// Len returns how many datagrams are on their way.
func (t *Table[V]) Len() int { return len(t.by) }

// Empty reports whether Sweep would find nothing to free, however late.
func (t *Table[V]) Empty() bool { return len(t.by) == 0 && t.free == nil }

// expire is called at each use, so that what is too old never counts.
func (t *Table[V]) expire(now time.Time) {
	for d := t.begun.front; d != nil && now.Sub(d.since) >= datagramFor; d = t.begun.front {
		t.remove(d)
	}
	for d := t.waiting.front; d != nil && now.Sub(d.since) >= earlyFor; d = t.waiting.front {
		t.lost += uint64(len(t.release(d)))
		t.remove(d)
	}
}

// unused returns k with an ID that no other datagram goes on with.
func (t *Table[V]) unused(k Key) Key {
	for t.leaving[k] != nil { // few IDs are taken
		if k.id = t.rng.Uint32(); !k.v6 {
			k.id &= 0xffff
		}
	}
	return k
}

func (t *Table[V]) add(came Key, now time.Time) *datagram[V] {
	if t.by == nil {
		t.by, t.leaving = make(map[Key]*datagram[V]), make(map[Key]*datagram[V])
	}
	d := t.free
	if d == nil {
		d = new(datagram[V])
	} else {
		t.free = d.next
	}
	*d = datagram[V]{came: came, since: now}
	t.by[came] = d
	return d
}

func (t *Table[V]) remove(d *datagram[V]) {
	delete(t.by, d.came)
	if d.waits {
		t.waiting.remove(d)
	} else {
		delete(t.leaving, d.goes)
		t.begun.remove(d)
	}
	*d = datagram[V]{next: t.free}
	t.free = d
}

// release returns what waits for the first fragment of d.
func (t *Table[V]) release(d *datagram[V]) []packet.Packet {
	t.early -= len(d.early)
	early := d.early
	d.early = nil
	return early
}

// A queue is a list of datagrams.
type queue[V any] struct {
	front, back *datagram[V]
	len         int
}

func (q *queue[V]) push(d *datagram[V]) {
	d.prev = q.back
	if q.back == nil {
		q.front = d
	} else {
		q.back.next = d
	}
	q.back = d
	q.len++
}

func (q *queue[V]) remove(d *datagram[V]) {
	if d.prev == nil {
		q.front = d.next
	} else {
		d.prev.next = d.next
	}
	if d.next == nil {
		q.back = d.prev
	} else {
		d.next.prev = d.prev
	}
	q.len--
}
