package wg

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// A node is one end of a connection as a role would hold it.
type node struct {
	name     string
	identity *Identity
	session  *Session
	addr     netip.AddrPort
	got      []string // application packets, in order of arrival
}

// A pair is two nodes, a virtual clock and the link between them.
type pair struct {
	t      testing.TB
	rng    *rand.Rand
	begin  time.Time
	now    time.Time
	a, b   *node // a is the client
	flight []flight
	log    []entry

	// carry says what becomes of a message: one copy is delivered after each
	// of the delays.
	carry func(from *node, msg []byte) []time.Duration
}

type flight struct {
	at   time.Time
	to   *node
	from *node
	msg  []byte
}

// An entry is one message put on the link.
type entry struct {
	at   time.Duration
	from string
	kind Kind
	size int
}

func (e entry) String() string {
	return fmt.Sprintf("%v %s %d/%d", e.at, e.from, e.kind, e.size)
}

func newPair(t testing.TB, seed uint64) *pair {
	source := chacha(seed)
	begin := time.Unix(1700000000, 0)
	p := &pair{t: t, rng: rand.New(source), begin: begin, now: begin}
	p.carry = func(*node, []byte) []time.Duration { return []time.Duration{10 * time.Millisecond} }
	p.a = &node{name: "a", identity: NewIdentity(key(source), begin, begin, source), addr: netip.MustParseAddrPort("192.0.2.1:52625")}
	p.b = &node{name: "b", identity: NewIdentity(key(source), begin, begin, source), addr: netip.MustParseAddrPort("198.51.100.1:52625")}
	psk := key(source)
	p.a.session = New(Config{Identity: p.a.identity, Remote: p.b.identity.Public(), PSK: psk, Index: 0xabcdef, Rand: source})
	p.b.session = New(Config{Identity: p.b.identity, Remote: p.a.identity.Public(), PSK: psk, Index: 0x123456, Rand: source})
	return p
}

func chacha(seed uint64) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}) }

func key(r *rand.ChaCha8) (k [32]byte) {
	r.Read(k[:])
	return k
}

func (p *pair) other(n *node) *node {
	if n == p.a {
		return p.b
	}
	return p.a
}

// put puts a message on the link.
func (p *pair) put(from *node, msg []byte) {
	p.log = append(p.log, entry{p.now.Sub(p.begin), from.name, Classify(msg), len(msg)})
	for _, delay := range p.carry(from, msg) {
		p.flight = append(p.flight, flight{p.now.Add(delay), p.other(from), from, slices.Clone(msg)})
	}
}

// flush puts on the link what the sessions want sent.
func (p *pair) flush() {
	for _, n := range []*node{p.a, p.b} {
		for _, m := range n.session.Drain(nil) {
			p.put(n, m)
		}
	}
}

// deliver hands msg to n as a role does.
func (p *pair) deliver(n, from *node, msg []byte) {
	switch Classify(msg) {
	case Initiation:
		in, reply, ok := n.identity.Initiator(msg, from.addr, p.now)
		if reply != nil {
			p.put(n, reply)
		}
		if ok {
			n.session.Accept(in, p.now)
		}
	case Response, Cookie:
		n.session.Handle(msg, from.addr, p.now)
	case Data:
		k := n.session.Find(Index(msg))
		if k == nil {
			return
		}
		plain, counter, ok := k.Open(msg)
		if ok && n.session.Received(k, counter, len(plain) == 0, p.now) && len(plain) > 0 {
			n.got = append(n.got, string(plain))
		}
	}
}

// send sends an application packet, if there is a session for it.
func (p *pair) send(n *node, text string) bool {
	k := n.session.Send()
	if k == nil {
		return false
	}
	n.session.Sent(p.now)
	buf := make([]byte, len(text)+Overhead)
	copy(buf[HeaderLen:], text)
	p.put(n, k.Seal(buf, len(text)))
	return true
}

// run lets virtual time pass until d after the beginning.
func (p *pair) run(d time.Duration) {
	p.t.Helper()
	end := p.begin.Add(d)
	for {
		p.flush()
		next := end
		for _, f := range p.flight {
			next = earlier(next, f.at)
		}
		next = earlier(earlier(next, p.a.session.Next()), p.b.session.Next())
		if next.Before(p.now) {
			next = p.now
		}
		p.now = next
		var rest []flight
		arrived := p.flight
		p.flight = nil
		for _, f := range arrived {
			if f.at.After(p.now) {
				rest = append(rest, f)
				continue
			}
			p.deliver(f.to, f.from, f.msg)
		}
		p.flight = append(rest, p.flight...)
		for _, n := range []*node{p.a, p.b} {
			n.session.Advance(p.now)
			if next := n.session.Next(); !next.IsZero() && !next.After(p.now) {
				p.t.Fatalf("%v: %s is due again at %v after Advance", p.now.Sub(p.begin), n.name, next.Sub(p.begin))
			}
		}
		p.flush()
		if !p.now.Before(end) && !slices.ContainsFunc(p.flight, func(f flight) bool { return !f.at.After(p.now) }) {
			return
		}
	}
}

// connect does a's first handshake and confirms it; it takes 30 ms.
func (p *pair) connect() {
	p.t.Helper()
	if !p.a.session.Initiate(p.now) {
		p.t.Fatal("no initiation")
	}
	p.run(p.now.Sub(p.begin) + 30*time.Millisecond)
	if p.a.session.Send() == nil || p.b.session.Send() == nil {
		p.t.Fatalf("no session: %v", p.log)
	}
}

// sentBy lists what one node put on the link from a moment on.
func (p *pair) sentBy(n *node, kind Kind, from time.Duration) (at []time.Duration) {
	for _, e := range p.log {
		if e.from == n.name && e.kind == kind && e.at >= from {
			at = append(at, e.at)
		}
	}
	return at
}

// keepalives is like sentBy for empty data messages.
func (p *pair) keepalives(n *node, from time.Duration) (at []time.Duration) {
	for _, e := range p.log {
		if e.from == n.name && e.kind == Data && e.size == Overhead && e.at >= from {
			at = append(at, e.at)
		}
	}
	return at
}

// cut makes the link lose everything.
func (p *pair) cut() { p.carry = func(*node, []byte) []time.Duration { return nil } }

const (
	ms   = time.Millisecond
	sec  = time.Second
	shot = 30 * ms // how long connect takes
)
