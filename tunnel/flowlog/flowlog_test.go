package flowlog

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"stile/tunnel/core"
)

// A fake is a target whose writes a test lets through.
type fake struct {
	text    bytes.Buffer
	pass    chan error // nil: at once
	reopens int
	closed  bool
}

func (f *fake) write(text []byte, ends []int) (int, error) {
	if f.pass != nil {
		if err := <-f.pass; err != nil {
			return len(ends), err
		}
	}
	f.text.Write(text)
	return 0, nil
}

func (f *fake) reopen() error { f.reopens++; return nil }
func (f *fake) close() error  { f.closed = true; return nil }

func (f *fake) names() (names []string) {
	for line := range strings.Lines(f.text.String()) {
		var l struct {
			Kind, Name string
			Lines      int
		}
		json.Unmarshal([]byte(line), &l)
		if l.Kind == "lost" {
			l.Name = fmt.Sprint("lost ", l.Lines)
		}
		names = append(names, l.Name)
	}
	return names
}

func numbered(from, n int) (list []core.Flow) {
	for i := range n {
		f := session()
		f.Name = fmt.Sprint(from + i)
		list = append(list, f)
	}
	return list
}

func run(t *testing.T, l *Log) (stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	return func() error { cancel(); return <-done }
}

var quiet = slog.New(slog.DiscardHandler)

// All lines arrive, in order, the last at the end.
func TestLinesArriveInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		l := newLog("test", f, quiet)
		stop := run(t, l)
		n := 0
		for _, batch := range []int{1, 0, 3, 511, 512, 513, 3000, 1} {
			l.Add(numbered(n, batch))
			n += batch
			if batch%2 == 1 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		l.Reopen()
		synctest.Wait()
		l.Add(numbered(n, 5))
		n += 5
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		names := f.names()
		for i := range n {
			if len(names) != n || names[i] != fmt.Sprint(i) {
				t.Fatalf("%d lines; the one at %d is %s", len(names), i, names[min(i, len(names)-1)])
			}
		}
		if l.Written() != uint64(n) || l.Lost() != 0 || l.Waiting() != 0 || f.reopens != 1 || !f.closed {
			t.Errorf("written %d, lost %d, waiting %d, reopened %d times, closed %v", l.Written(), l.Lost(), l.Waiting(), f.reopens, f.closed)
		}
	})
}

// While the target takes nothing, Add does not wait; what finds no room is
// counted, told in a line of its own, and memory is given back.
func TestASlowTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{pass: make(chan error)}
		l := newLog("test", f, quiet)
		stop := run(t, l)
		l.Add(numbered(0, 1))
		synctest.Wait() // the writer is stuck with it
		const most = maxChunks * chunkSize
		l.Add(numbered(1, most))
		l.Add(numbered(1+most, 300))
		l.Add(numbered(1+most+300, 7))
		if l.Lost() != 307 || l.Waiting() != most {
			t.Fatalf("lost %d, waiting %d", l.Lost(), l.Waiting())
		}
		close(f.pass)
		synctest.Wait()
		names := f.names()
		if len(names) != most+2 || names[1] != "lost 307" || names[most+1] != fmt.Sprint(most) {
			t.Fatalf("%d lines: %v … %v", len(names), names[:3], names[len(names)-3:])
		}
		if len(l.free) > keepChunks {
			t.Errorf("%d chunks are kept", len(l.free))
		}
		l.Add(numbered(0, 1))
		synctest.Wait()
		if again := f.names(); again[len(again)-1] != "0" {
			t.Errorf("told twice: %v", again[len(again)-2:])
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// Lines that cannot be written are counted, and the log says so as soon as it
// can; the service's own log is told once, not for each line.
func TestATargetThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told bytes.Buffer
		f := &fake{pass: make(chan error, 10)}
		l := newLog("test", f, slog.New(slog.NewTextHandler(&told, nil)))
		stop := run(t, l)
		for i := range 3 {
			f.pass <- errors.New("no space left")
			l.Add(numbered(i*10, 10))
			synctest.Wait()
		}
		if l.Lost() != 30 || l.Written() != 0 || strings.Count(told.String(), "no space left") != 1 {
			t.Fatalf("lost %d, written %d, told %s", l.Lost(), l.Written(), told.String())
		}
		close(f.pass)
		l.Add(numbered(30, 1))
		synctest.Wait()
		if got := strings.Join(f.names(), ","); got != "30,lost 30" {
			t.Errorf("got %s", got)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// A pipe that nobody reads does not keep the program from ending.
func TestTheEndDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{pass: make(chan error)}
		l := newLog("test", f, quiet)
		stop := run(t, l)
		l.Add(numbered(0, 1))
		synctest.Wait()
		l.Add(numbered(1, 9))
		began := time.Now()
		if err := stop(); err == nil || !strings.Contains(err.Error(), "9 are lost") || time.Since(began) != patience {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		close(f.pass) // so that the bubble can end
	})
}

// Neither queueing nor encoding makes garbage.
func TestNoGarbage(t *testing.T) {
	l := newLog("test", &fake{}, quiet)
	list := numbered(0, 100)
	w := writer{Log: l}
	drain := func() {
		for c := l.next(); c != nil; c = l.next() {
			for i := range c.flows[:c.n] {
				w.text = appendLine(w.text, &c.flows[i], 0)
			}
			w.text = w.text[:0]
			l.giveBack(c)
		}
	}
	l.Add(list)
	drain()
	if n := testing.AllocsPerRun(100, func() { l.Add(list); drain() }); n > 1 { // the list of chunks moves on
		t.Errorf("%v allocations for 100 flows", n)
	}
}

// 10,000 sessions a second begin and end, for five seconds in real time, and
// not one line is missing from the file. The queue would hold three of them: a
// writer that did not keep up would lose some.
func TestTenThousandFlowsPerSecond(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flows.log")
	l, err := Open(path, 0, quiet)
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, l)
	const perSecond, seconds, every = 10_000, 5, 10 * time.Millisecond
	list := numbered(0, 2*perSecond/int(time.Second/every))
	began, most := time.Now(), 0
	tick := time.NewTicker(every)
	defer tick.Stop()
	sent := 0
	for sent < 2*perSecond*seconds {
		<-tick.C
		for due := int(time.Since(began).Seconds() * 2 * perSecond); sent < due && sent < 2*perSecond*seconds; sent += len(list) {
			l.Add(list)
		}
		most = max(most, l.Waiting())
	}
	took := time.Since(began)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := 0
	for s := bufio.NewScanner(file); s.Scan(); lines++ {
		if !json.Valid(s.Bytes()) {
			t.Fatalf("line %d: %s", lines, s.Bytes())
		}
	}
	t.Logf("%d lines in %v, at most %d waiting", lines, took.Round(time.Millisecond), most)
	if lines != sent || l.Lost() != 0 {
		t.Errorf("%d lines of %d, %d lost", lines, sent, l.Lost())
	}
}

// BenchmarkFile is how many lines a file takes, encoding included.
func BenchmarkFile(b *testing.B) {
	l, err := Open(filepath.Join(b.TempDir(), "flows.log"), 0, quiet)
	if err != nil {
		b.Fatal(err)
	}
	w := writer{Log: l}
	list := numbered(0, 500)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += len(list) {
		l.Add(list)
		w.drain()
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
	if l.Lost() > 0 {
		b.Fatal("lost")
	}
}

// BenchmarkAdd is what the packets' goroutine pays for a flow.
func BenchmarkAdd(b *testing.B) {
	l := newLog("test", &fake{}, quiet)
	list := numbered(0, 64)
	b.ReportAllocs()
	for n := 0; n < b.N; n += len(list) {
		l.Add(list)
		if l.count > 1024 {
			for c := l.next(); c != nil; c = l.next() {
				c.n = 0
				l.free = append(l.free, c)
			}
		}
	}
}
