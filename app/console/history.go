package console

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/ipc"
)

// How much is remembered of the traffic.
const (
	bucketTime  = 2 * time.Second
	buckets     = 150 // five minutes
	maxGateways = 256 // at a time; what more of them carry is not shown
)

// A meter is what one direction of one connection carried lately: bytes in each
// bucket. Buckets are numbered since the epoch; older ones than last-buckets are
// forgotten.
type meter struct {
	sums [buckets]uint64
	last int64 // the latest bucket in use
}

func bucketOf(t time.Time) int64 { return t.UnixNano() / int64(bucketTime) }

func (m *meter) add(n uint64, now time.Time) {
	m.advance(now)
	m.sums[m.last%buckets] += n
}

func (m *meter) advance(now time.Time) {
	b := bucketOf(now)
	if b <= m.last { // the clock may have been set back
		return
	}
	for i := max(m.last+1, b-buckets+1); i <= b; i++ {
		m.sums[i%buckets] = 0
	}
	m.last = b
}

// rates are bytes per second, the oldest first, of whole buckets: the one under
// way would look like a fall.
func (m *meter) rates(now time.Time) []uint64 {
	m.advance(now)
	list := make([]uint64, 0, buckets-1)
	for i := m.last - buckets + 1; i < m.last; i++ {
		list = append(list, m.sums[(i%buckets+buckets)%buckets]*uint64(time.Second)/uint64(bucketTime))
	}
	return list
}

// A course is what became of the counters of one connection.
type course struct {
	in, out       meter
	wasIn, wasOut uint64
	seen          time.Time
}

// A history is the traffic of the last five minutes. The zero history is empty.
type history struct {
	total course
	of    map[id.Gateway]*course
}

// observe takes the counters as they are now. Counters of a connection that was
// not there a moment ago begin at zero with it, unless it is the first look.
func (h *history) observe(list []ipc.Connection, first bool, now time.Time) {
	if h.of == nil {
		h.of = map[id.Gateway]*course{}
	}
	for i := range list {
		n := &list[i]
		c := h.of[n.Gateway]
		if c == nil {
			if len(h.of) >= maxGateways && !h.forget(now) {
				continue
			}
			c = &course{}
			if first {
				c.wasIn, c.wasOut = n.Received, n.Sent
			}
			h.of[n.Gateway] = c
		}
		in, out := since(n.Received, c.wasIn), since(n.Sent, c.wasOut)
		c.wasIn, c.wasOut, c.seen = n.Received, n.Sent, now
		c.in.add(in, now)
		c.out.add(out, now)
		h.total.in.add(in, now)
		h.total.out.add(out, now)
	}
}

// since is how much a counter grew; one that fell began anew.
func since(is, was uint64) uint64 {
	if is < was {
		return is
	}
	return is - was
}

// forget makes room by dropping what nobody saw for longest, if that is long.
func (h *history) forget(now time.Time) bool {
	var oldest id.Gateway
	var at *course
	for g, c := range h.of {
		if at == nil || c.seen.Before(at.seen) || c.seen.Equal(at.seen) && g.Compare(oldest) < 0 {
			oldest, at = g, c
		}
	}
	if at == nil || now.Sub(at.seen) < bucketTime*buckets {
		return false
	}
	delete(h.of, oldest)
	return true
}

// Sizes of a graph, in units of its own; the page stretches it.
const (
	graphWidth  = 300
	graphHeight = 60
	graphTop    = 6
)

// curve draws rates as the d of an SVG path.
func curve(rates []uint64, peak uint64) string {
	if len(rates) < 2 {
		return ""
	}
	var b strings.Builder
	flat := func(i int) bool { return i > 0 && i < len(rates)-1 && rates[i] == rates[i-1] && rates[i] == rates[i+1] }
	for i, r := range rates {
		if flat(i) {
			continue // a straight line needs its ends only
		}
		if b.Len() == 0 {
			b.WriteByte('M')
		} else {
			b.WriteByte('L')
		}
		x := float64(i) * graphWidth / float64(len(rates)-1)
		y := float64(graphHeight - 1)
		if peak > 0 {
			y -= float64(r) / float64(peak) * (graphHeight - 1 - graphTop)
		}
		b.WriteString(coordinate(x))
		b.WriteByte(' ')
		b.WriteString(coordinate(y))
	}
	return b.String()
}

func coordinate(v float64) string {
	return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0")
}

// area closes a curve along the bottom.
func area(curve string) string {
	if curve == "" {
		return ""
	}
	return curve + "V" + strconv.Itoa(graphHeight) + "H0Z"
}

// nice rounds a peak up, so that the scale does not jump with each sample.
func nice(peak uint64) uint64 {
	const least = 1000
	if peak <= least {
		return least
	}
	step := uint64(1)
	for step <= peak/10 {
		step *= 10
	}
	for _, m := range []uint64{1, 2, 5, 10} {
		if m*step >= peak {
			return m * step
		}
	}
	return peak
}

func most(lists ...[]uint64) (peak uint64) {
	for _, l := range lists {
		if len(l) > 0 {
			peak = max(peak, slices.Max(l))
		}
	}
	return peak
}
