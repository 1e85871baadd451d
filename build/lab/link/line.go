//go:build linux

package link

import (
	"container/heap"
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"stile/build/lab/host"
)

// Quality is what a line does to each frame, in each direction alike. A frame
// may hold many segments of one flow; it travels as one.
type Quality struct {
	Delay   time.Duration // one way
	Jitter  time.Duration // up to this much more, evenly spread; the order is kept
	Loss    float64       // share of frames that vanish, 0 to 1
	Reorder float64       // share of frames held back so that later ones overtake them, 0 to 1
}

// heldBack is how much later than its due time a reordered frame arrives.
const heldBack = 2 * time.Millisecond

// What one direction of a line keeps under way. A frame more is dropped, as a
// router with a full buffer would.
const (
	maxFrames = 4096
	maxBytes  = 32 << 20
)

// A Line is a link with a quality of its own: a TAP device at each end, and
// this process in between.
type Line struct {
	quality    atomic.Pointer[Quality]
	directions [2]*direction
}

// A direction moves frames one way. Only its own goroutine touches it, but for
// the counters.
type direction struct {
	line     *Line
	from, to int // non-blocking file descriptors of TAP devices
	rng      *rand.Rand
	under    queue // frames under way
	bytes    int   // their size
	last     time.Time
	sequence uint64
	scratch  []byte
	spare    [2][][]byte // buffers to use again: small, large

	sent, dropped atomic.Uint64
}

// Buffers of two sizes: one for a packet of the usual size, one for the
// largest that segmentation offload makes, with Ethernet and virtio headers.
const (
	smallFrame = 2048
	largeFrame = 65535 + 14 + 4 + 12
)

// NewLine joins two hosts by a line; seed decides which frames it loses. It
// carries nothing until Run.
func NewLine(a *host.Host, aName string, b *host.Host, bName string, q Quality, seed uint64) (*Line, *End, *End, error) {
	left, leftFD, err := tap(a, aName)
	if err != nil {
		return nil, nil, nil, err
	}
	right, rightFD, err := tap(b, bName)
	if err != nil {
		return nil, nil, nil, err
	}
	l := &Line{}
	l.Set(q)
	for i, d := range [][2]int{{leftFD, rightFD}, {rightFD, leftFD}} {
		l.directions[i] = &direction{line: l, from: d[0], to: d[1], rng: rand.New(rand.NewPCG(seed, uint64(i))), scratch: make([]byte, largeFrame)}
	}
	return l, left, right, nil
}

// Set changes the quality, at any time, for frames yet to come.
func (l *Line) Set(q Quality) { l.quality.Store(&q) }

// Counts returns how many frames arrived and how many were lost, both ways together.
func (l *Line) Counts() (sent, dropped uint64) {
	for _, d := range l.directions {
		sent, dropped = sent+d.sent.Load(), dropped+d.dropped.Load()
	}
	return sent, dropped
}

// Run carries frames until ctx ends.
func (l *Line) Run(ctx context.Context) error {
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return err
	}
	defer unix.Close(stop)
	defer context.AfterFunc(ctx, func() { unix.Write(stop, []byte{1, 0, 0, 0, 0, 0, 0, 0}) })()
	var g sync.WaitGroup
	errs := make(chan error, len(l.directions))
	for _, d := range l.directions {
		g.Go(func() { errs <- d.run(stop) })
	}
	g.Wait()
	for range l.directions {
		if e := <-errs; e != nil {
			err = e
		}
	}
	return err
}

// run waits in the kernel, not in the Go runtime, whose timers may be a
// millisecond late.
func (d *direction) run(stop int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Without this the kernel adds up to 50 µs to each wait.
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set the timer slack: %w", err)
	}
	for {
		wait := []unix.PollFd{{Fd: int32(d.from), Events: unix.POLLIN}, {Fd: int32(stop), Events: unix.POLLIN}}
		if _, err := unix.Ppoll(wait, d.patience(), nil); err != nil && err != unix.EINTR {
			return fmt.Errorf("wait for frames: %w", err)
		}
		if wait[1].Revents != 0 {
			return nil
		}
		if wait[0].Revents != 0 {
			d.take()
		}
		d.deliver(time.Now())
	}
}

// patience is how long until the next frame is due; nil: for ever.
func (d *direction) patience() *unix.Timespec {
	if len(d.under) == 0 {
		return nil
	}
	ts := unix.NsecToTimespec(max(0, int64(time.Until(d.under[0].due))))
	return &ts
}

// take reads the frames that wait at one end, at most a batch, so that frames
// due at the other end are not kept waiting.
func (d *direction) take() {
	for range 64 {
		n, err := unix.Read(d.from, d.scratch)
		if err != nil || n <= 0 {
			return
		}
		d.schedule(n, time.Now())
	}
}

// schedule decides the fate of the frame in scratch.
func (d *direction) schedule(n int, now time.Time) {
	q := d.line.quality.Load()
	if q.Loss > 0 && d.rng.Float64() < q.Loss || len(d.under) >= maxFrames || d.bytes+n > maxBytes {
		d.dropped.Add(1)
		return
	}
	due := now.Add(q.Delay)
	if q.Jitter > 0 {
		due = due.Add(time.Duration(d.rng.Int64N(int64(q.Jitter))))
	}
	if due.Before(d.last) {
		due = d.last
	}
	d.last = due
	if q.Reorder > 0 && d.rng.Float64() < q.Reorder {
		due = due.Add(heldBack)
	}
	d.sequence++
	d.bytes += n
	heap.Push(&d.under, frame{due, d.sequence, d.keep(n)})
}

// keep returns the n bytes in scratch in a buffer of their own.
func (d *direction) keep(n int) []byte {
	if n > smallFrame {
		b := d.scratch
		if s := d.spare[1]; len(s) > 0 {
			d.scratch, d.spare[1] = s[len(s)-1], s[:len(s)-1]
		} else {
			d.scratch = make([]byte, largeFrame)
		}
		return b[:n]
	}
	var b []byte
	if s := d.spare[0]; len(s) > 0 {
		b, d.spare[0] = s[len(s)-1], s[:len(s)-1]
	} else {
		b = make([]byte, smallFrame)
	}
	copy(b, d.scratch[:n])
	return b[:n]
}

// deliver writes the frames that are due.
func (d *direction) deliver(now time.Time) {
	for len(d.under) > 0 && !d.under[0].due.After(now) {
		f := heap.Pop(&d.under).(frame)
		d.bytes -= len(f.bytes)
		if _, err := unix.Write(d.to, f.bytes); err != nil { // the other end is down
			d.dropped.Add(1)
		} else {
			d.sent.Add(1)
		}
		size := 0
		if cap(f.bytes) > smallFrame {
			size = 1
		}
		d.spare[size] = append(d.spare[size], f.bytes[:cap(f.bytes)])
	}
}

// A frame is under way until due; frames due at the same time keep their order.
type frame struct {
	due      time.Time
	sequence uint64
	bytes    []byte
}

// queue is a heap of frames, the next due first.
type queue []frame

func (q queue) Len() int      { return len(q) }
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q queue) Less(i, j int) bool {
	if q[i].due.Equal(q[j].due) {
		return q[i].sequence < q[j].sequence
	}
	return q[i].due.Before(q[j].due)
}
func (q *queue) Push(x any) { *q = append(*q, x.(frame)) }
func (q *queue) Pop() any {
	old := *q
	last := old[len(old)-1]
	old[len(old)-1] = frame{}
	*q = old[:len(old)-1]
	return last
}
