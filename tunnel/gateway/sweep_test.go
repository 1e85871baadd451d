package gateway

import (
	"testing"
	"time"
)

// Thousands of sessions that end at once are freed in short steps, one after
// the other, all of them within ten seconds of their end (N12).
func TestN12SweepsInSteps(t *testing.T) {
	const clients, each = 5, 600
	b := newBench(t)
	for n := byte(1); n <= clients; n++ {
		b.grant(n, cidr(1, "10.0.0.0/8"), 0)
		for port := range uint16(each) {
			b.send(n, udp(c4(n), addr("10.0.0.1"), 1024+port, 53))
		}
	}
	rows := func() (sum int) {
		for n := byte(1); n <= clients; n++ {
			sum += b.c.clients[who(n)].nat.Len()
		}
		return sum
	}
	if got := rows(); got != clients*each {
		t.Fatalf("%d sessions, want %d", got, clients*each)
	}
	over := b.now.Add(time.Minute) // nobody answered
	steps := 0
	for before := rows(); before > 0; {
		next := b.c.Next()
		if next.After(over.Add(10 * time.Second)) {
			t.Fatalf("%d sessions are left 10 s after their end", before)
		}
		b.now = next
		b.c.Advance(next)
		left := rows()
		if before-left > sweepStep {
			t.Fatalf("one step freed %d", before-left)
		}
		if left < before {
			steps++
		}
		before = left
	}
	if steps < clients*each/sweepStep {
		t.Errorf("%d steps", steps)
	}
	b.now = over.Add(time.Hour)
	b.c.Advance(b.now)
	for n := byte(1); n <= clients; n++ {
		b.c.drop(b.c.clients[who(n)])
	}
	for range 3 { // without clients there is nothing to do
		b.now = b.now.Add(sweepEvery)
		b.c.Advance(b.now)
	}
	if next := b.c.sweeping.next; !next.IsZero() {
		t.Errorf("goes on at %v", next)
	}
}

// A client that is dropped gives the memory of its sessions back, with a flow log
// and without.
func TestADroppedClientGivesItsMemoryBack(t *testing.T) {
	for _, flows := range []bool{false, true} {
		m := &lender{}
		b := newBenchWith(t, Config{Memory: m, Flows: flows})
		b.grant(1, cidr(1, "10.0.0.0/24"), 0)
		for n := range uint16(500) {
			b.passes(1, udp(c4(1), addrA, 1024+n, 53), addrA)
		}
		if m.lent == 0 {
			t.Error("nothing is lent")
		}
		if b.c.drop(b.c.clients[who(1)]); m.lent != 0 {
			t.Errorf("flows %v: %d bytes did not come back", flows, m.lent)
		}
	}
}

// A lender counts what it has lent.
type lender struct{ lent int }

func (l *lender) Get(size int) []byte {
	l.lent += size
	return make([]byte, size)
}

func (l *lender) Put(b []byte) { l.lent -= len(b) }
