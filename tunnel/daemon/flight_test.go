package daemon

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stile/platform/clock"
	"stile/platform/logs"
	"stile/tunnel/core"
	"stile/tunnel/flight"
	"stile/tunnel/id"
	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
	"stile/tunnel/phoenix/dial"
)

// What the service does, what it logs below the filter, and what its engine
// carried is in the record of an export.
func TestExportHasTheFlightRecord(t *testing.T) {
	const token = "n0nce.fragment-of-a-token"
	run(t, Config{}, wish{Token: token, Source: ipc.TokenFromSignIn}, func(h *house) {
		h.tell(event{portal: true, up: true})
		h.command(ipc.SetInternet{On: true})
		h.Log.Debug("below the filter", "token", token)
		b := h.flight.Begin(flight.Out, clock.Now())
		b.Other([]byte("not a packet"), nil, nil, "dropped: malformed")
		b.End()
		var record []byte
		err := h.Inform(h.t.Context(), link.Caller{}, ipc.Collect{}, func(p ipc.Part) error {
			if p.File.Name == "service/flight/record.jsonl" {
				record = append(record, p.File.Data...)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]map[string]any{}
		for s := bufio.NewScanner(bytes.NewReader(record)); s.Scan(); {
			var line map[string]any
			if err := json.Unmarshal(s.Bytes(), &line); err != nil {
				t.Fatalf("%v: %s", err, s.Bytes())
			}
			seen[line["message"].(string)] = line
		}
		if seen["phase"]["is"] != string(ipc.Raising) || seen["command"]["what"] != "SetInternet" || seen["packet out"] == nil ||
			seen["below the filter"]["token"] != "[redacted]" || seen["end of the flight record"]["reason"] != "export" {
			t.Errorf("%s", record)
		}
	})
}

// keeper is logs that say what they are asked to keep.
type keeper struct {
	Logs
	mu   sync.Mutex // guards kept
	kept []string
}

func (k *keeper) Dir() string           { return "somewhere" }
func (k *keeper) Filter() string        { return "info" }
func (k *keeper) SetUsual(string) error { return nil }
func (k *keeper) took() (list []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	list, k.kept = k.kept, nil
	return list
}

func (k *keeper) Keep(kind, name string, most int, write func(io.Writer) error) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept = append(k.kept, name)
	return "", write(io.Discard)
}

// One trouble has one record, however many signs it has and however often it
// comes.
func TestRecordsAreKeptNotTooOften(t *testing.T) {
	k := &keeper{}
	run(t, Config{Logs: k}, wish{Token: "abc", Source: ipc.TokenFromSignIn}, func(h *house) {
		ctx, stop := context.WithCancel(h.t.Context())
		done := make(chan struct{})
		go func() { h.keepRecords(ctx); close(done) }()
		for i, step := range []struct {
			wait   time.Duration
			reason string
			want   []string
		}{
			{0, siteLost, []string{siteLost}},
			{time.Second, packetsDropped, nil}, // another sign of the same, likely
			{anyAgain, packetsDropped, []string{packetsDropped}},
			{anyAgain, siteLost, nil}, // the same again
			{sameAgain, siteLost, []string{siteLost}},
		} {
			time.Sleep(step.wait)
			h.flight.alarm(step.reason)
			synctest.Wait()
			if got := k.took(); !slices.Equal(got, step.want) {
				t.Errorf("step %d: %v were kept, want %v", i, got, step.want)
			}
		}
		for range 100 {
			h.flight.alarm(siteLost) // never waits
		}
		time.Sleep(time.Hour)

		h.end(dial.ErrTokenRejected) // nothing went wrong with the service
		h.command(ipc.SignIn{Token: "abc"})
		synctest.Wait()
		if got := k.took(); got != nil {
			t.Errorf("%v were kept", got)
		}
		h.end(errors.New("create tunnel device: busy"))
		synctest.Wait()
		if got := k.took(); !slices.Equal(got, []string{sessionFailed}) {
			t.Errorf("of a session that failed: %v", got)
		}
		time.Sleep(time.Hour)
		h.flight.keep <- restoreFailed // at the last moment
		stop()
		<-done
		if got := k.took(); !slices.Equal(got, []string{restoreFailed}) {
			t.Errorf("at the end: %v", got)
		}
	})
}

func TestKeptRecordIsAFileOfLines(t *testing.T) {
	l, err := logs.Open(logs.Config{Dir: t.TempDir(), Base: "service", Filter: "info"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := newDaemon(Config{StateDir: t.TempDir(), Log: l.Logger(), Logs: l}, wish{})
	d.keepRecord(engineStuck, flight.Order{})
	d.flight.Begin(flight.In, clock.Now()) // the panic comes in the middle of a batch
	began := time.Now()
	d.panicked("the reason")
	if took := time.Since(began); took > dying/2 {
		t.Errorf("it takes %v to die", took)
	}
	found, _ := filepath.Glob(filepath.Join(l.Dir(), "flight-*.jsonl"))
	if len(found) != 2 {
		t.Fatalf("%v", found)
	}
	for _, path := range found {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var last map[string]any
		for line := range bytes.Lines(text) {
			last = nil
			if err := json.Unmarshal(line, &last); err != nil || last["time"] == nil || last["severity"] == nil || last["message"] == nil {
				t.Errorf("%s: %v", line, err)
			}
		}
		if stacks, _ := last["goroutines"].(string); last["reason"] == engineStuck && !strings.Contains(stacks, "TestKeptRecordIsAFileOfLines") {
			t.Errorf("the record of an engine that is stuck ends with %v", last)
		}
		if last["reason"] == panicked && last["panic"] != "the reason" {
			t.Errorf("the record of a panic ends with %v", last)
		}
	}
}

// An engine that does not answer is an alarm, once, until it answers again.
func TestStuckEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(Config{StateDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}, wish{})
		e := &stuck{}
		s := &session{daemon: d, engine: e}
		ctx, stop := context.WithCancel(t.Context())
		var g sync.WaitGroup
		g.Go(func() { s.watch(ctx) })
		g.Go(func() { s.watchEngine(ctx) })
		alarms := func() (n int) {
			synctest.Wait()
			for {
				select {
				case reason := <-d.flight.keep:
					if reason != engineStuck {
						t.Error(reason)
					}
					n++
				default:
					return n
				}
			}
		}
		time.Sleep(time.Minute)
		if n := alarms(); n != 0 {
			t.Errorf("%d alarms while all is well", n)
		}
		for range 2 {
			release := make(chan struct{})
			e.hold(release)
			time.Sleep(time.Minute)
			if n := alarms(); n != 1 {
				t.Errorf("%d alarms while it is stuck", n)
			}
			e.hold(nil)
			close(release)
			time.Sleep(time.Minute)
			if n := alarms(); n != 0 {
				t.Errorf("%d alarms after that", n)
			}
		}
		stop()
		g.Wait()
	})
}

type stuck struct {
	fake
	mu    sync.Mutex // guards until
	until chan struct{}
}

func (s *stuck) hold(until chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = until
}

func (s *stuck) Brief() core.Report {
	s.mu.Lock()
	until := s.until
	s.mu.Unlock()
	if until != nil {
		<-until
	}
	return core.Report{}
}

// Each row is a story of some seconds, and what is said about it.
func TestLookout(t *testing.T) {
	const site = "a"
	up := core.Connection{Peer: id.Peer{1}, Site: site, State: "connected"}
	other := core.Connection{Peer: id.Peer{2}, Site: site, State: "idle"}
	rising := core.Connection{Peer: id.Peer{2}, Site: site, State: "connecting"}
	count := func(name string, n int) core.Counter { return core.Counter{Name: name, Value: uint64(n)} }
	report := func(portal bool, fails, drops int, list ...core.Connection) core.Report {
		return core.Report{PortalUp: portal, Connections: list, Counters: []core.Counter{
			count(failed, fails), count("dropped: fragment", drops/2), count("engine forged", drops-drops/2), count("engine bytes in", 1e9),
		}}
	}
	for _, c := range []struct {
		name    string
		seconds int
		stands  bool
		report  func(i int) core.Report
		want    []string
	}{
		{"all is well", 3600, true, func(int) core.Report { return report(true, 7, 1e6, up) }, nil},
		{"the portal is away for less than a minute, again and again", 600, true, func(i int) core.Report { return report(i%50 == 0, 0, 0) }, nil},
		{"the portal is away for long", 600, true, func(i int) core.Report { return report(i < 10, 0, 0) }, []string{portalAway}},
		{"twice", 600, true, func(i int) core.Report { return report(i == 300, 0, 0) }, []string{portalAway, portalAway}},
		{"before the tunnel stands", 600, false, func(i int) core.Report { return report(false, 0, 0) }, nil},
		{"the only connection to a site fails", 60, true, func(i int) core.Report {
			if i < 30 {
				return report(true, 0, 0, up)
			}
			return report(true, 1, 0, rising)
		}, []string{siteLost}},
		{"one of two fails", 60, true, func(i int) core.Report {
			if i < 30 {
				return report(true, 0, 0, up, other)
			}
			return report(true, 1, 0, other)
		}, nil},
		{"a connection ends in order", 60, true, func(i int) core.Report {
			if i < 30 {
				return report(true, 0, 0, up)
			}
			return report(true, 0, 0)
		}, nil},
		{"a connection never came up", 60, true, func(i int) core.Report { return report(true, i/30, 0, rising) }, nil},
		{"handshakes as they should be", 3600, true, func(i int) core.Report {
			c := up
			c.LastHandshake = time.Unix(int64(i/120), 0)
			return report(true, 0, 0, c)
		}, nil},
		{"a handshake each second", 90, true, func(i int) core.Report {
			c := up
			c.LastHandshake = time.Unix(int64(i), 0)
			return report(true, 0, 0, c)
		}, []string{handshakeStorm, handshakeStorm}}, // in each of two minutes
		{"connections fail over and over", 30, true, func(i int) core.Report { return report(true, i, 0, rising) }, []string{handshakeStorm}},
		{"few drops", 600, true, func(i int) core.Report { return report(true, 0, 90*i) }, nil},
		{"many drops for a moment", 600, true, func(i int) core.Report { return report(true, 0, min(i, 4)*1000) }, nil},
		{"many drops, which becomes usual", 600, true, func(i int) core.Report { return report(true, 0, max(0, i-300)*1000) }, []string{packetsDropped}},
		{"drops ten times of what is usual", 700, true, func(i int) core.Report {
			return report(true, 0, 50*i+max(0, i-600)*1000)
		}, []string{packetsDropped}},
	} {
		var l lookout
		var got []string
		for i := range c.seconds {
			r := c.report(i)
			got = append(got, l.see(&r, c.stands, time.Unix(int64(i), 0))...)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
