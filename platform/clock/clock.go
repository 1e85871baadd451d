// Package clock tells the time that timers of the tunnel are measured in: it
// never steps, and it goes on while the machine sleeps.
//
// A peer's timers run on while our laptop is asleep, so a clock that stands
// still in between (CLOCK_MONOTONIC on Linux) disagrees with it on waking.
package clock

import (
	"sync/atomic"
	"time"
)

// start pairs one reading of the wall clock with one of the system's running
// time, so that Now looks like a date.
var start, startUp = time.Now().Round(0), sinceBoot()

// An anchor is one moment on the clocks that Go reads cheaply and on the one
// that counts sleep but costs a system call.
type anchor struct {
	at time.Time     // wall clock and monotonic clock
	up time.Duration // sinceBoot
}

var last atomic.Pointer[anchor]

func init() { last.Store(&anchor{time.Now(), sinceBoot()}) }

// jump is how far wall clock and monotonic clock may drift apart before the
// system is asked whether it slept.
const jump = time.Millisecond

// Now returns the wall clock as it was when the program started plus all the
// time that has passed since, sleep included. It does not follow later
// corrections of the wall clock, and calls made one after the other never go
// backwards. The value carries no monotonic reading of Go's own, which would
// stand still during sleep.
func Now() time.Time {
	now, a := time.Now(), last.Load()
	ran := now.Sub(a.at)
	if slept := now.Round(0).Sub(a.at.Round(0)) - ran; slept > jump || slept < -jump {
		a, ran = reanchor(now, a.up+ran), 0
	}
	return start.Add(a.up + ran - startUp)
}

// reanchor finds out why the wall clock left the monotonic clock: the machine
// slept, or somebody set the wall clock. up is the running time if it did not
// sleep. The system's answer counts only if it is clearly more, because it is
// read a little later than now and must not make Now go back the next time.
func reanchor(now time.Time, up time.Duration) *anchor {
	if really := sinceBoot(); really > up+jump {
		up = really
	}
	a := &anchor{now, up}
	last.Store(a)
	return a
}

// Up is how long the system has been running, sleep included.
func Up() time.Duration { return sinceBoot() }
