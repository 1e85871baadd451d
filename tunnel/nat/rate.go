package nat

import "time"

// Bounds of the rate of new sessions (N49).
const (
	newPerSecond = 1000
	newBurst     = 4096
)

// A pace lets new sessions begin at a rate, with a burst in advance. It keeps
// the one instant when all that was used will have been earned.
type pace struct {
	each  instant // one session costs that long
	burst instant // and so far may it run ahead
	full  instant
}

func newPace(perSecond, burst int) pace {
	if perSecond <= 0 {
		perSecond = newPerSecond
	}
	if burst <= 0 {
		burst = newBurst
	}
	each := max(1, instant(time.Second)/instant(perSecond))
	return pace{each: each, burst: each * instant(burst)}
}

// allows reports whether another session may begin.
func (p *pace) allows(at instant) bool { return max(p.full, at)+p.each <= at+p.burst }

// take counts one.
func (p *pace) take(at instant) { p.full = max(p.full, at) + p.each }
