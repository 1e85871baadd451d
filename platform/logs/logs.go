// Package logs writes the log files of a program: one JSON object per line, in
// files that are rotated, capped, and found again after somebody deleted them.
//
// The format, the names of the files and their limits are those of spec
// desktop-client.md 20, so that
//
//	cat *.log | jq -r '"\(.time) \(.severity) \(.message)"'
//
// works on any folder of logs. A [Log] never holds up whoever logs: what the
// disk does not take in time is dropped and counted.
package logs

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"stile/platform/clock"
	"stile/platform/machine"
)

const (
	queued    = 1024     // lines that wait for the disk
	fileBytes = 10 << 20 // a file that is longer gets a successor
	// ServiceCap and UserCap are what the folders of the service and of a user's
	// programs may hold, in bytes: 100 MB together. Neither program may delete
	// files of the other, so each keeps within its share.
	ServiceCap = 80 << 20
	UserCap    = 20 << 20
	// capEvery is how often old files are looked for.
	capEvery = time.Hour
)

// A Config says where a log goes.
type Config struct {
	Dir  string      // made if it is missing; "": no files, only Also
	Base string      // first part of the files' names, such as "tunnel-service"
	Mode os.FileMode // of the files; 0: 0640
	GID  int         // group of folder and files; 0: the process's own

	Filter string // as of ParseFilter
	Cap    int64  // of all files in Dir, in bytes; 0: ServiceCap
	// Version of the program, for the first line of each file.
	Version string
	// Also is told each record that passes the filter, such as for the terminal.
	Also slog.Handler
}

// A Log takes records. Its methods may be called from any goroutine.
type Log struct {
	config Config
	file   *file // the writer's; nil: there are none
	filter atomic.Pointer[Filter]
	lines  chan entry
	lost   atomic.Uint64 // lines since the last one that told of it

	mu      sync.Mutex  // guards the rest
	restore *time.Timer // puts the filter back; nil: nothing to put back
	stopped bool        // lines is closed
	done    chan struct{}
}

// An entry is a line to write, or somebody who waits until all before is written,
// or until all is deleted.
type entry struct {
	line    []byte
	written chan<- struct{}
	cleared chan<- error
}

// Open makes a log. The error is for whoever configured it: a filter that
// cannot be read, or a folder in which nothing can be written.
func Open(c Config) (*Log, error) {
	f, err := ParseFilter(c.Filter)
	if err != nil {
		return nil, err
	}
	if c.Mode == 0 {
		c.Mode = 0o640
	}
	if c.Cap == 0 {
		c.Cap = ServiceCap
	}
	l := &Log{config: c, lines: make(chan entry, queued), done: make(chan struct{})}
	l.filter.Store(f)
	if c.Dir != "" {
		l.file = &file{dir: c.Dir, base: c.Base, mode: c.Mode, gid: c.GID, limit: fileBytes, now: time.Now, first: l.first}
		l.file.mend()
		if err := l.file.open(); err != nil {
			return nil, err
		}
	}
	if c.Also != nil {
		_ = c.Also.Handle(context.Background(), l.started(c.Dir)) // a terminal that is gone is no reason not to log
	}
	go l.write()
	return l, nil
}

// started is the record that every file begins with, so that each of them tells
// what it is of, whichever is left (spec desktop-client.md 20.4).
func (l *Log) started(files string) slog.Record {
	r, us := slog.NewRecord(time.Now(), slog.LevelInfo, "started log", 0), machine.Describe()
	r.Add("version", l.config.Version, "os", us.Name+" "+us.Version, "kernel", us.Kernel, "arch", us.Arch,
		"uptime", clock.Up().Round(time.Second), "filter", l.Filter(), "files", files)
	return r
}

func (l *Log) first(path string) []byte {
	return (&handler{}).line(l.started(path), place{target: "platform/logs"})
}

// Logger returns what programs log to.
func (l *Log) Logger() *slog.Logger { return slog.New(&handler{log: l}) }

// Dir returns where the files are.
func (l *Log) Dir() string { return l.config.Dir }

// Filter returns the filter as it was set last.
func (l *Log) Filter() string { return l.filter.Load().String() }

// SetUsual changes what is logged at once, and what comes back after SetFilter.
func (l *Log) SetUsual(text string) error {
	f, err := ParseFilter(text)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.config.Filter = f.String()
	l.mu.Unlock()
	return l.SetFilter(text, 0)
}

// SetFilter changes what is logged at once. If d is not zero, the usual filter,
// that of Config or of SetUsual, comes back after it.
func (l *Log) SetFilter(text string, d time.Duration) error {
	f, err := ParseFilter(text)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.restore != nil {
		l.restore.Stop()
		l.restore = nil
	}
	l.filter.Store(f)
	if d > 0 {
		usual, _ := ParseFilter(l.config.Filter) // it was read before
		l.restore = time.AfterFunc(d, func() { l.filter.Store(usual) })
	}
	return nil
}

// Clear deletes the log files of the folder, the one in use included, and goes
// on in a new one. It deletes what it can; the error is the last.
func (l *Log) Clear() error {
	cleared := make(chan error, 1)
	if l.file == nil || !l.queue(entry{cleared: cleared}) {
		return nil
	}
	return <-cleared
}

// Flush waits until what was logged before is in the file.
func (l *Log) Flush() {
	written := make(chan struct{})
	if l.queue(entry{written: written}) {
		<-written
	}
}

// queue queues e behind all that was logged before, and reports whether somebody
// will see it. Whoever logs meanwhile does not wait.
func (l *Log) queue(e entry) bool {
	for {
		l.mu.Lock()
		if l.stopped {
			l.mu.Unlock()
			return false
		}
		select {
		case l.lines <- e:
			l.mu.Unlock()
			return true
		default:
		}
		l.mu.Unlock()
		time.Sleep(time.Millisecond) // the writer makes room
	}
}

// Close writes what is waiting.
func (l *Log) Close() error {
	l.mu.Lock()
	if !l.stopped {
		l.stopped = true
		close(l.lines)
	}
	if l.restore != nil {
		l.restore.Stop()
	}
	l.mu.Unlock()
	<-l.done
	if l.file == nil {
		return nil
	}
	return l.file.close()
}

// put queues a line, which becomes the log's. Lines that come after Close are
// lost.
func (l *Log) put(line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped || l.file == nil {
		return
	}
	select {
	case l.lines <- entry{line: line}:
	default:
		l.lost.Add(1)
	}
}

// write is the writer's goroutine, until Close.
func (l *Log) write() {
	defer close(l.done)
	tick := time.NewTicker(capEvery)
	defer tick.Stop()
	l.prune()
	for {
		select {
		case e, open := <-l.lines:
			switch {
			case !open:
				return
			case e.written != nil:
				close(e.written)
			case e.cleared != nil:
				e.cleared <- l.file.clear()
			default:
				l.append(e.line)
			}
		case <-tick.C:
			l.prune()
		}
	}
}

// append writes a line. A file that is full makes room for its successor.
func (l *Log) append(line []byte) {
	before := l.file.path
	if n := l.lost.Swap(0); n > 0 {
		l.file.write(lostLine(n))
	}
	if l.file.write(line); l.file.path != before {
		l.prune()
	}
}

// prune deletes old files; what cannot be deleted is tried again in an hour.
func (l *Log) prune() {
	if l.file != nil {
		_ = Prune([]string{l.config.Dir}, l.config.Cap, time.Now())
	}
}
