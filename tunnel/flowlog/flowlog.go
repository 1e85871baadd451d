// Package flowlog keeps the log of what a gateway decided: one JSON object per
// line for each session that begins, each that ends, and for packets that were
// dropped. It goes to a file, to standard output or to syslog.
//
// Whoever has something to tell never waits: [Log.Add] copies it to a bounded
// queue, and a goroutine of the log's own writes. What finds no room, or cannot
// be written, is counted, and a line says so as soon as one can be written
// again. The fields are listed at appendLine.
package flowlog

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"stile/platform/clock"
	"stile/tunnel/core"
)

const (
	chunkSize = 512
	maxChunks = 128 // 65,536 flows, about 20 MB

	// writeBytes is when lines go to the target; also when none are left.
	writeBytes = 64 << 10
	// patience is how long the end of the program waits for a target that takes
	// nothing, such as a pipe that nobody reads.
	patience = 3 * time.Second
)

// A target is where lines go.
type target interface {
	// write takes lines, whose ends in text are given, line feeds included, and
	// returns how many of them were lost, and why. It may block.
	write(text []byte, ends []int) (lost int, err error)
	// reopen begins anew, such as after the file was moved away.
	reopen() error
	close() error
}

// A Log is one target with its queue. All methods may be called at any time.
type Log struct {
	name   string
	target target
	log    *slog.Logger

	mu    sync.Mutex // guards what follows up to the blank line
	full  []*chunk   // oldest first
	free  []*chunk   // to be filled again
	count int        // of flows in full

	wake          chan struct{}
	again         atomic.Bool // the target is to be opened again
	lost, written atomic.Uint64
}

type chunk struct {
	n     int
	flows [chunkSize]core.Flow
}

// Open makes the log that text names: "stdout", "syslog" for this machine's
// log, "syslog:udp://HOST:PORT" or "syslog:tcp://HOST:PORT" for another's, or
// the path of a file, of which all together may have maxBytes; 0: 1 GiB. The
// error tells an administrator what is wrong.
func Open(text string, maxBytes int64, log *slog.Logger) (*Log, error) {
	t, err := parse(text, maxBytes)
	if err != nil {
		return nil, fmt.Errorf("flow log: %w", err)
	}
	return newLog(text, t, log), nil
}

func newLog(name string, t target, log *slog.Logger) *Log {
	return &Log{name: name, target: t, log: log, wake: make(chan struct{}, 1)}
}

// Add queues flows, which are borrowed until it returns. It never waits.
func (l *Log) Add(flows []core.Flow) {
	l.mu.Lock()
	left := flows
	for len(left) > 0 {
		c := l.roomLocked()
		if c == nil {
			break
		}
		n := copy(c.flows[c.n:], left)
		c.n += n
		l.count += n
		left = left[n:]
	}
	l.mu.Unlock()
	l.lost.Add(uint64(len(left)))
	l.signal()
}

// roomLocked returns a chunk that is not full, nil if there can be none.
func (l *Log) roomLocked() *chunk {
	if n := len(l.full); n > 0 && l.full[n-1].n < chunkSize {
		return l.full[n-1]
	}
	if len(l.full) == maxChunks {
		return nil
	}
	var c *chunk
	if n := len(l.free); n > 0 {
		c, l.free = l.free[n-1], l.free[:n-1]
	} else {
		c = new(chunk)
	}
	l.full = append(l.full, c)
	return c
}

// Reopen has the file opened anew, after another program has moved it.
func (l *Log) Reopen() {
	l.again.Store(true)
	l.signal()
}

// Close closes a log that never ran.
func (l *Log) Close() error { return l.target.close() }

// Name is where lines go, as Open was told.
func (l *Log) Name() string { return l.name }

// Lost is how many lines could not be kept, Written how many could.
func (l *Log) Lost() uint64    { return l.lost.Load() }
func (l *Log) Written() uint64 { return l.written.Load() }

// Waiting is how many flows are queued.
func (l *Log) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

func (l *Log) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Run writes until ctx ends, then what is left. It waits for a target that
// takes nothing no longer than a few seconds.
func (l *Log) Run(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- l.run(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		return fmt.Errorf("flow log %s: it takes no lines; %d are lost", l.name, l.Waiting())
	}
}

func (l *Log) run(ctx context.Context) error {
	w := writer{Log: l}
	for ctx.Err() == nil {
		select {
		case <-l.wake:
		case <-ctx.Done():
		}
		w.drain()
	}
	w.drain() // what came while the context ended
	if err := l.target.close(); err != nil {
		return fmt.Errorf("flow log %s: %w", l.name, err)
	}
	return nil
}

// A writer is what the writing goroutine has for its own.
type writer struct {
	*Log
	text []byte // lines, and where each ends
	ends []int

	offset  time.Duration // of the calendar from the gateway's clock
	known   bool          // offset is
	failing bool          // the last line could not be written
	told    uint64        // of lost
}

// drain writes all that is queued.
func (w *writer) drain() {
	if w.again.Swap(false) {
		if err := w.target.reopen(); err != nil {
			w.trouble(err)
		}
	}
	for c := w.next(); c != nil; c = w.next() {
		w.follow()
		for i := range c.flows[:c.n] {
			w.text = appendLine(w.text, &c.flows[i], w.offset)
			w.ends = append(w.ends, len(w.text))
			if len(w.text) >= writeBytes {
				w.flush()
			}
		}
		w.giveBack(c)
	}
	w.flush()
	if lost := w.lost.Load(); lost > w.told && !w.failing {
		w.log.Warn("lines of the flow log were lost", "log", w.name, "lines", lost-w.told)
		w.text = appendLost(w.text, lost-w.told, time.Now())
		w.ends = append(w.ends, len(w.text))
		w.told = lost
		w.flush()
	}
}

// next takes the oldest chunk from the queue.
func (l *Log) next() *chunk {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.full) == 0 {
		return nil
	}
	c := l.full[0]
	l.full[0], l.full = nil, l.full[1:]
	l.count -= c.n
	return c
}

// keepChunks is how many chunks wait to be filled again; more are garbage.
const keepChunks = 4

func (l *Log) giveBack(c *chunk) {
	clear(c.flows[:c.n])
	c.n = 0
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.free) < keepChunks {
		l.free = append(l.free, c)
	}
}

// flush hands the lines to the target.
func (w *writer) flush() {
	if len(w.ends) == 0 {
		return
	}
	lost, err := w.target.write(w.text, w.ends)
	w.lost.Add(uint64(lost))
	w.written.Add(uint64(len(w.ends) - lost))
	w.text, w.ends = w.text[:0], w.ends[:0]
	if err != nil {
		w.trouble(err)
		return
	}
	w.failing = false
}

// trouble logs why lines are lost, once until one can be written again.
func (w *writer) trouble(err error) {
	if !w.failing {
		w.log.Error("the flow log cannot be written", "log", w.name, "error", err)
	}
	w.failing = true
}

// tremor is how far the calendar may move without being followed: the end of a
// session is no earlier than its beginning.
const tremor = 50 * time.Millisecond

// follow finds the calendar's offset from the gateway's clock anew.
func (w *writer) follow() {
	offset := time.Now().Round(0).Sub(clock.Now())
	if !w.known || (offset-w.offset).Abs() > tremor {
		w.offset, w.known = offset, true
	}
}
