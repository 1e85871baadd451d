package clock

import (
	"testing"
	"time"
)

func TestNowLooksLikeTheWallClock(t *testing.T) {
	if d := time.Since(Now()).Abs(); d > time.Minute {
		t.Errorf("Now is %v away from the wall clock", d)
	}
}

func TestNowNeverGoesBack(t *testing.T) {
	last := Now()
	for range 100_000 {
		now := Now()
		if now.Before(last) {
			t.Fatalf("%v came after %v", now, last)
		}
		last = now
	}
	if !last.After(start) {
		t.Error("the clock stands still")
	}
}

// A time with Go's monotonic reading would be compared by it, and that reading
// stops while the machine sleeps.
func TestNowHasNoMonotonicReading(t *testing.T) {
	if now := Now(); now != now.Round(0) {
		t.Errorf("%v carries a monotonic reading", now)
	}
}

func BenchmarkNow(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Now()
	}
}

// A machine that slept shows in the wall clock, not in the monotonic one.
func TestSleepCounts(t *testing.T) {
	defer last.Store(last.Load())
	// The anchor's monotonic clock is an hour behind the system's: it slept.
	now := time.Now()
	if got := reanchor(now, sinceBoot()-time.Hour).up; (got - sinceBoot()).Abs() > time.Minute {
		t.Errorf("after an hour of sleep the anchor is %v off", got-sinceBoot())
	}
}

// Setting the wall clock moves nothing.
func TestWallClockStepDoesNotCount(t *testing.T) {
	defer last.Store(last.Load())
	up := sinceBoot() + time.Minute
	if got := reanchor(time.Now().Add(time.Hour), up).up; got != up {
		t.Errorf("the anchor moved by %v", got-up)
	}
}
