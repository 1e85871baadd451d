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
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	queued    = 1024     // lines that wait for the disk
	fileBytes = 10 << 20 // a file that is longer gets a successor
	// Cap is what all log folders of a program may hold together, in bytes.
	Cap = 100 << 20
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
	// Beside are further folders that count for Cap.
	Beside []string
	// Also is told each record that passes the filter, such as for the terminal.
	Also slog.Handler
}

// A Log takes records. Its methods may be called from any goroutine.
type Log struct {
	config Config
	file   *file
	filter atomic.Pointer[Filter]
	lines  chan entry
	lost   atomic.Uint64 // lines since the last one that told of it
	anew   atomic.Bool   // the next line begins a file

	mu      sync.Mutex  // guards the rest
	restore *time.Timer // puts the filter back; nil: nothing to put back
	stopped bool        // lines is closed
	done    chan struct{}
}

// An entry is a line to write, or somebody who waits until all before is written.
type entry struct {
	line    []byte
	written chan<- struct{}
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
	out := &file{dir: c.Dir, base: c.Base, mode: c.Mode, gid: c.GID, limit: fileBytes, now: time.Now}
	if c.Dir == "" {
		out = nil
	} else if err := out.open(); err != nil {
		return nil, err
	}
	l := &Log{config: c, file: out, lines: make(chan entry, queued), done: make(chan struct{})}
	l.filter.Store(f)
	go l.write()
	return l, nil
}

// Logger returns what programs log to.
func (l *Log) Logger() *slog.Logger { return slog.New(&handler{log: l}) }

// Dir returns where the files are.
func (l *Log) Dir() string { return l.config.Dir }

// Filter returns the filter as it was set last.
func (l *Log) Filter() string { return l.filter.Load().String() }

// SetFilter changes what is logged at once. If d is not zero, the filter of
// Config comes back after it.
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
	if l.file == nil {
		return nil
	}
	defer l.anew.Store(true)
	return clearLogs(l.config.Dir)
}

// Flush waits until what was logged before is in the file.
func (l *Log) Flush() {
	written := make(chan struct{})
	l.mu.Lock()
	if l.stopped {
		close(written)
	} else {
		l.lines <- entry{written: written}
	}
	l.mu.Unlock()
	<-written
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
	if l.file != nil {
		l.prune()
	}
	for {
		select {
		case e, open := <-l.lines:
			if !open {
				return
			}
			if e.written != nil {
				close(e.written)
				continue
			}
			if n := l.lost.Swap(0); n > 0 {
				l.file.write(lostLine(n))
			}
			if l.anew.Swap(false) {
				l.file.checked = time.Time{}
			}
			l.file.write(e.line)
		case <-tick.C:
			if l.file != nil {
				l.prune()
			}
		}
	}
}

// prune deletes old files; what cannot be deleted is tried again in an hour.
func (l *Log) prune() {
	_ = Prune(append([]string{l.config.Dir}, l.config.Beside...), Cap, time.Now())
}
