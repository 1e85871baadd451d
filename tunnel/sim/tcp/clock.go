package tcp

import (
	"math/rand"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"stile/tunnel/sim"
)

// A clock gives a stack virtual time. The stack's goroutines set timers; only the
// simulation's, while those rest, has them run.
type clock struct {
	internet *sim.Internet
	ran      func() // after a timer's function

	mu      sync.Mutex
	now     time.Time
	unarmed []*timer
}

func newClock(i *sim.Internet) *clock { return &clock{internet: i, now: i.Now()} }

// wake tells the time, before the stack is given something to do.
func (c *clock) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.internet.Now()
}

// Now implements tcpip.Clock.
func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// NowMonotonic implements tcpip.Clock.
func (c *clock) NowMonotonic() tcpip.MonotonicTime {
	return tcpip.MonotonicTime{}.Add(c.Now().Sub(sim.Epoch))
}

// AfterFunc implements tcpip.Clock.
func (c *clock) AfterFunc(d time.Duration, f func()) tcpip.Timer {
	t := &timer{clock: c, f: f}
	t.Reset(d)
	return t
}

// arm enters the timers that were set since into the simulation. Nobody else
// runs.
func (c *clock) arm() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.unarmed {
		t.waits = false
		if !t.set {
			continue
		}
		generation := t.generation
		c.internet.After(t.at.Sub(c.internet.Now()), func() { c.fire(t, generation) })
	}
	c.unarmed = c.unarmed[:0]
}

func (c *clock) fire(t *timer, generation int) {
	c.wake()
	c.mu.Lock()
	due := t.set && t.generation == generation
	if due {
		t.set = false
	}
	c.mu.Unlock()
	if due {
		go t.f()
		c.ran()
	}
}

type timer struct {
	clock      *clock
	f          func()
	at         time.Time
	set, waits bool // waits: among the unarmed
	generation int  // of at
}

// Stop implements tcpip.Timer.
func (t *timer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	was := t.set
	t.set = false
	return was
}

// Reset implements tcpip.Timer.
func (t *timer) Reset(d time.Duration) {
	c := t.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	t.at, t.set = c.now.Add(max(d, 0)), true
	t.generation++
	if !t.waits {
		t.waits = true
		c.unarmed = append(c.unarmed, t)
	}
}

// A lockedSource repeats itself with its seed, for many goroutines.
type lockedSource struct {
	mu sync.Mutex
	rand.Source
}

// Int63 implements rand.Source.
func (s *lockedSource) Int63() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Source.Int63()
}

// Read implements io.Reader.
func (s *lockedSource) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(s.Int63())
	}
	return len(b), nil
}
