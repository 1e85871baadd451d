package daemon

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime/pprof"
	"strings"
	"time"

	"stile/platform/clock"
	"stile/tunnel/core"
	"stile/tunnel/flight"
	"stile/tunnel/ipc"
)

const (
	// maxExported and maxKept bound the flight record in an export, and in a
	// file that is kept because something went wrong, in bytes.
	maxExported = 48 << 20
	maxKept     = 8 << 20
	// keptRecords is how many such files there are at most.
	keptRecords = 3
	// sameAgain and anyAgain are how long after a record was kept, for the same
	// reason or for any, no other is: one trouble often has several signs.
	sameAgain = 10 * time.Minute
	anyAgain  = time.Minute
	// stuckAfter is how long the engine may take to answer what takes a
	// microsecond.
	stuckAfter = 10 * time.Second
	// maxStacks bounds what goroutines are said to do in the record of an engine
	// that is stuck, in bytes.
	maxStacks = 64 << 10
	// dying is how long the program waits for its last record.
	dying = 5 * time.Second
)

// A recorder is the service's flight record, and what is done with it.
type recorder struct {
	*flight.Recorder
	steps *slog.Logger // to the record alone
	keep  chan string  // reasons to keep the record in a file, of alarm
}

func newRecorder(c *Config) *recorder {
	r := &recorder{Recorder: flight.New(clock.Now), keep: make(chan string, 4)}
	r.steps = r.Logger()
	c.Log = slog.New(r.Beside(c.Log.Handler()))
	if c.Portal.Log != nil {
		c.Portal.Log = slog.New(r.Beside(c.Portal.Log.Handler()))
	}
	return r
}

// entered records a step of the service.
func (r *recorder) entered(p ipc.Phase, problem *ipc.Problem) {
	if problem == nil {
		r.steps.Info("phase", "is", p)
		return
	}
	r.steps.Info("phase", "is", p, "problem", problem.Code, "text", problem.Text)
}

// commanded records what a user wanted, never with what.
func (r *recorder) commanded(c command, err error) {
	_, what, _ := strings.Cut(fmt.Sprintf("%T", c.what), ".")
	if err == nil {
		r.steps.Info("command", "what", what, "uid", c.from.UID)
		return
	}
	r.steps.Warn("command", "what", what, "uid", c.from.UID, "refused", err)
}

// alarm has the flight record kept in a file. It does not wait; of many alarms
// at once some are lost.
func (r *recorder) alarm(reason string) {
	r.steps.Warn("alarm", "reason", reason)
	select {
	case r.keep <- reason:
	default:
	}
}

// keepRecords writes a file for each alarm that comes late enough after the one
// before, and those that have come when ctx ends.
func (d *daemon) keepRecords(ctx context.Context) {
	var last time.Time
	kept := map[string]time.Time{}
	consider := func(reason string) {
		now := time.Now()
		if at, again := kept[reason]; again && now.Sub(at) < sameAgain || !last.IsZero() && now.Sub(last) < anyAgain {
			return
		}
		last, kept[reason] = now, now
		d.keepRecord(reason, flight.Order{})
	}
	for {
		select {
		case reason := <-d.flight.keep:
			consider(reason)
		case <-ctx.Done():
			for {
				select {
				case reason := <-d.flight.keep:
					consider(reason)
				default:
					return
				}
			}
		}
	}
}

// keepRecord writes the record to a file beside the logs.
func (d *daemon) keepRecord(reason string, o flight.Order) {
	if d.Logs == nil || d.Logs.Dir() == "" {
		return
	}
	o.Reason, o.Limit = reason, maxKept
	if reason == engineStuck {
		o.More = map[string]string{"goroutines": stacks()}
	}
	path, err := d.Logs.Keep("flight", reason, keptRecords, func(w io.Writer) error { return d.flight.Dump(w, o) })
	switch {
	case o.Dying: // the log goes through the record, whose lock may be held for ever
	case err != nil:
		d.Log.Warn("the flight record could not be kept", "reason", reason, "error", err)
	default:
		d.Log.Warn("something went wrong; the flight record was kept", "reason", reason, "file", path)
	}
}

func stacks() string {
	var b bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&b, 1); err != nil {
		return err.Error()
	}
	return string(b.Bytes()[:min(b.Len(), maxStacks)])
}

// panicked keeps the record of a program that is about to end. Whatever locks
// are held will not be released any more, so it waits for a while only.
func (d *daemon) panicked(reason any) {
	done := make(chan struct{})
	go func() { // nobody can wait for it for long: the program ends
		defer close(done)
		d.keepRecord(panicked, flight.Order{Dying: true, More: map[string]string{"panic": fmt.Sprint(reason)}})
	}()
	select {
	case <-done:
	case <-time.After(dying):
	}
}

// watch looks at the engine every second: what it counted is recorded, and what
// should not be is an alarm.
func (s *session) watch(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var was []core.Counter
	var lookout lookout
	last := clock.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		r, now := s.engine.Brief(), clock.Now()
		s.answered.Store(int64(time.Since(started)))
		if gap := now.Sub(last); gap > stuckAfter {
			s.flight.steps.Warn("nothing was looked at: the machine slept, or was very busy", "gap", gap)
		}
		last = now
		s.flight.Counted(was, r.Counters)
		was = r.Counters
		for _, reason := range lookout.see(&r, s.seen().phase == ipc.Connected, now) {
			s.flight.alarm(reason)
		}
	}
}

// started is what answered counts from, on a clock that stands still while the
// machine sleeps.
var started = time.Now()

// watchEngine sounds the alarm when the engine does not answer to watch.
func (s *session) watchEngine(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	s.answered.Store(int64(time.Since(started)))
	told := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		silent := time.Since(started) - time.Duration(s.answered.Load())
		if silent > stuckAfter && !told {
			s.flight.alarm(engineStuck)
		}
		told = silent > stuckAfter
	}
}
