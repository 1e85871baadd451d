// Package sim is a small deterministic internet for tests: hosts, NAT routers
// and relays, links that delay, lose and reorder, all on virtual time and one
// goroutine. The same seed gives the same trace.
package sim

import (
	"container/heap"
	"encoding/binary"
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"time"

	"stile/tunnel/core"
)

// A Machine is the program on a host: a pure core with its shell taken off.
type Machine interface {
	Receive(d core.Datagram, now time.Time)
	Advance(now time.Time)
	Next() time.Time          // zero: never
	Collect() []core.Datagram // what it wants to send
}

// A Link joins a site to the internet's core, both directions alike.
type Link struct {
	Delay, Jitter time.Duration // one way; a random part of Jitter comes on top
	Loss          float64       // probability, 0 to 1
}

// Internet is the world. Its zero value is of no use; call New.
type Internet struct {
	// Chance is the source of all randomness of the world.
	Chance *rand.Rand
	// Block, if not nil, decides which datagrams the core loses, by the
	// addresses they bear there.
	Block func(src, dst netip.AddrPort) bool
	// Sent counts the datagrams that hosts sent, Lost those that did not
	// arrive anywhere.
	Sent, Lost int

	now    time.Time
	events events
	order  uint64
	sites  []*Site
	hosts  []*Host
	public map[netip.Addr]receiver
	trace  uint64
}

// A receiver is what the core can deliver to.
type receiver interface {
	receive(p datagram)
	link() Link
}

type datagram struct {
	src, dst netip.AddrPort
	payload  []byte
}

// Epoch is when virtual time begins.
var Epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// New returns an empty world.
func New(seed uint64) *Internet {
	return &Internet{
		Chance: rand.New(rand.NewPCG(seed, 0)),
		now:    Epoch,
		public: make(map[netip.Addr]receiver),
	}
}

// Now returns the virtual time.
func (i *Internet) Now() time.Time { return i.now }

// Since returns how long ago t was.
func (i *Internet) Since(t time.Time) time.Duration { return i.now.Sub(t) }

// Trace is a digest of all that was delivered, and when.
func (i *Internet) Trace() uint64 { return i.trace }

// After has f called in d.
func (i *Internet) After(d time.Duration, f func()) {
	i.order++
	heap.Push(&i.events, event{i.now.Add(d), i.order, f})
}

// Run lets d pass.
func (i *Internet) Run(d time.Duration) {
	i.Until(d, func() bool { return false })
}

// Until lets time pass until done, d at most, and reports whether it came to
// be done.
func (i *Internet) Until(d time.Duration, done func() bool) bool {
	end := i.now.Add(d)
	i.settle()
	for !done() {
		next := i.next()
		if next.IsZero() || next.After(end) {
			i.now = end
			return done()
		}
		i.now = next
		for len(i.events) > 0 && !i.events[0].at.After(i.now) {
			heap.Pop(&i.events).(event).do()
			i.settle()
		}
		i.settle()
	}
	return true
}

// next returns when something happens.
func (i *Internet) next() time.Time {
	var next time.Time
	if len(i.events) > 0 {
		next = i.events[0].at
	}
	for _, h := range i.hosts {
		if at := h.machine.Next(); !at.IsZero() && h.site != nil && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if next.Before(i.now) && !next.IsZero() {
		return i.now
	}
	return next
}

// settle lets each machine do what is due and carries what they send.
func (i *Internet) settle() {
	for _, h := range i.hosts {
		if h.site == nil {
			continue
		}
		if at := h.machine.Next(); !at.IsZero() && !i.now.Before(at) {
			h.machine.Advance(i.now)
		}
		for _, d := range h.machine.Collect() {
			h.send(d)
		}
	}
}

// carry takes a datagram through the core.
func (i *Internet) carry(from Link, p datagram) {
	to, ok := i.public[p.dst.Addr()]
	if !ok || i.Block != nil && i.Block(p.src, p.dst) || i.lose(from) || i.lose(to.link()) {
		i.Lost++
		return
	}
	i.After(i.delay(from)+i.delay(to.link()), func() { to.receive(p) })
}

func (i *Internet) lose(l Link) bool { return l.Loss > 0 && i.Chance.Float64() < l.Loss }

func (i *Internet) delay(l Link) time.Duration {
	d := l.Delay
	if l.Jitter > 0 {
		d += time.Duration(i.Chance.Int64N(int64(l.Jitter)))
	}
	return d
}

// note adds a delivery to the trace.
func (i *Internet) note(p datagram) {
	h := fnv.New64a()
	h.Write(binary.BigEndian.AppendUint64(nil, i.trace))
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(i.now.Sub(Epoch))))
	h.Write([]byte(p.src.String() + p.dst.String()))
	h.Write(p.payload)
	i.trace = h.Sum64()
}

type event struct {
	at    time.Time
	order uint64 // of scheduling: equal times keep it
	do    func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at.Before(e[j].at) || e[i].at.Equal(e[j].at) && e[i].order < e[j].order
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	(*e)[last] = event{}
	*e = (*e)[:last]
	return x
}
