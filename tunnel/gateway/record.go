package gateway

import (
	"slices"
	"time"

	"stile/tunnel/core"
)

// lookupBounds are the upper ends of the steps in which resolutions are counted
// by how long they took. A client repeats an announcement after 2 seconds, and
// we give up after 10.
var lookupBounds = []time.Duration{
	5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond,
	250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second,
}

// answerBounds are the same of the time that a resource takes for the first
// packet of a session: through the site's network, and until somebody answers.
var answerBounds = []time.Duration{
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 3 * time.Second,
}

// A histogram counts durations.
type histogram struct {
	bounds []time.Duration // upper ends, included
	counts [12]uint64      // one more: the last took longer than any
	sum    time.Duration
}

func (h *histogram) add(took time.Duration) {
	at, _ := slices.BinarySearch(h.bounds, took)
	h.counts[at]++
	h.sum += took
}

func (h *histogram) view() Histogram { return Histogram{h.bounds, slices.Clone(h.counts[:]), h.sum} }

// A record is what became of resolutions.
type record struct {
	addresses, empty, failed uint64
	took                     histogram
}

// add notes the result of a resolution. One of which only one family failed has
// a result.
func (r *record) add(l core.Looked, took time.Duration) {
	switch {
	case len(l.V4)+len(l.V6) > 0:
		r.addresses++
	case l.Err4 == nil || l.Err6 == nil:
		r.empty++
	default:
		r.failed++
	}
	r.took.add(took)
}

// view tells of the resolutions; those that wait are missing.
func (l *lookups) view() Resolutions {
	r := &l.record
	return Resolutions{
		Running: len(l.by), Addresses: r.addresses, Empty: r.empty, Failed: r.failed,
		Took: r.took.view(),
	}
}
