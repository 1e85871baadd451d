package gateway

import (
	"maps"
	"slices"
	"time"

	"stile/tunnel/id"
)

const (
	sweepStep  = 256                  // things freed at a time, or looked at, as nat.Table.Sweep counts: well below a millisecond
	sweepPause = 2 * time.Millisecond // between two steps, for the packets
	sweepVisit = 8                    // what looking at a client counts for
)

// sweeping is how session tables are freed of what is over: all clients one
// after the other, every few seconds, in steps so short that no packet waits
// for a million sessions that end at once.
type sweeping struct {
	next  time.Time   // when the next step is due; zero: there are no clients
	began time.Time   // when this round began
	queue []id.Client // those that are still to be visited, the last one first
}

// remindSweep has sweep run, now that there are clients.
func (c *Core) remindSweep() {
	if c.sweeping.next.IsZero() {
		c.sweeping.next = c.now.Add(sweepEvery)
	}
}

// sweep does one step.
func (c *Core) sweep(now time.Time) {
	s := &c.sweeping
	if len(s.queue) == 0 {
		s.began = now
		s.queue = slices.SortedFunc(maps.Keys(c.clients), id.Client.Compare)
	}
	for room := sweepStep; room > 0 && len(s.queue) > 0; {
		k := c.clients[s.queue[len(s.queue)-1]]
		took := 0
		if k != nil {
			took = k.nat.Sweep(func(r id.Resource) bool { return k.grants[r].valid(now) }, room, now)
			c.touch(k)
			c.collect()
		}
		if room -= took; room <= 0 {
			break // there may be more
		}
		if k != nil {
			c.sweepFragments(k, now)
			c.awake(k, now)
		}
		room -= sweepVisit
		s.queue = s.queue[:len(s.queue)-1]
	}
	switch {
	case len(s.queue) > 0:
		s.next = now.Add(sweepPause)
	case len(c.clients) > 0:
		s.next = s.began.Add(sweepEvery)
	default:
		s.next = time.Time{}
	}
}
