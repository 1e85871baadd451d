package phoenix

import (
	"math/rand/v2"
	"time"
)

const (
	// Before the first join the delay is fixed, so that a daemon that starts
	// before the network does loses little; stock peers give up after
	// firstTotal, ours go on as after a join (2.7).
	firstDelay = time.Second
	firstTotal = 15 * time.Second

	initialDelay = 500 * time.Millisecond
	growth       = 1.5
	maxDelay     = 60 * time.Second
	jitter       = 0.5 // each delay is 0.5 to 1.5 times the computed one

	// maxRetryAfter bounds what a server may ask for.
	maxRetryAfter = time.Hour
)

// A backoff computes the delays between attempts (2.7).
type backoff struct {
	rand   *rand.Rand
	budget time.Duration // for the sum of delays; zero: none
	joined bool          // there was a join
	spent  time.Duration // since the last join
	base   time.Duration // next delay before jitter; zero: initialDelay
}

// reset records a join.
func (b *backoff) reset() {
	b.joined, b.spent, b.base = true, 0, 0
}

// next returns the delay before the next attempt; false when the budget is
// spent. retryAfter, if positive, replaces the delay and costs nothing.
func (b *backoff) next(retryAfter time.Duration) (time.Duration, bool) {
	if retryAfter > 0 {
		return min(retryAfter, maxRetryAfter), true
	}
	delay := b.compute()
	b.spent += delay
	return delay, b.budget == 0 || b.spent <= b.budget
}

func (b *backoff) compute() time.Duration {
	if !b.joined && b.spent < firstTotal {
		return firstDelay
	}
	base := b.base
	if base == 0 {
		base = initialDelay
	}
	b.base = min(time.Duration(float64(base)*growth), maxDelay)
	return time.Duration(float64(base) * (1 - jitter + 2*jitter*b.rand.Float64()))
}
