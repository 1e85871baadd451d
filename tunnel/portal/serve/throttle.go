package serve

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A throttle allows each key so many events: burst at once, then one every
// interval. It holds a bounded number of keys; when there are more, those not
// seen for longest are forgotten, which forgives them.
type throttle struct {
	interval time.Duration
	burst    int
	most     int // keys

	mu   sync.Mutex // guards keys
	keys map[string]*throttled
}

type throttled struct {
	limiter *rate.Limiter
	seen    time.Time
}

func newThrottle(interval time.Duration, burst, most int) *throttle {
	return &throttle{interval: interval, burst: burst, most: most, keys: map[string]*throttled{}}
}

// take counts an event of key, or returns how long to wait if there were too
// many. refund takes back what was counted; it may be called once.
func (t *throttle) take(key string, now time.Time) (wait time.Duration, refund func()) {
	t.mu.Lock()
	k := t.keys[key]
	if k == nil {
		if len(t.keys) >= t.most {
			t.forgetLocked(now)
		}
		k = &throttled{limiter: rate.NewLimiter(rate.Every(t.interval), t.burst)}
		t.keys[key] = k
	}
	k.seen = now
	t.mu.Unlock()

	r := k.limiter.ReserveN(now, 1)
	if wait := r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return wait, func() {}
	}
	return 0, func() { r.CancelAt(now) }
}

// forget removes what was counted for key.
func (t *throttle) forget(key string) {
	t.mu.Lock()
	delete(t.keys, key)
	t.mu.Unlock()
}

// forgetLocked makes room: keys that are as good as new first, then the half
// seen longest ago.
func (t *throttle) forgetLocked(now time.Time) {
	full := t.interval * time.Duration(t.burst)
	oldest := now
	for key, k := range t.keys {
		if now.Sub(k.seen) > full {
			delete(t.keys, key)
		} else if k.seen.Before(oldest) {
			oldest = k.seen
		}
	}
	if len(t.keys) < t.most {
		return
	}
	middle := oldest.Add(now.Sub(oldest) / 2)
	for key, k := range t.keys {
		if !k.seen.After(middle) {
			delete(t.keys, key)
		}
	}
}
