//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"stile/build/lab/host"
	"stile/build/lab/serve"
)

// An order says what an enclosure is to do. It crosses from the first life of
// the program to the second as JSON.
type order struct {
	Kind  kind
	Name  string
	Seed  uint64
	Keep  bool   // stay after the end, so that somebody can look around
	Check bool   // demo only: prove it and go
	Quiet bool   // no progress lines
	Short bool   // the shorter form of a scenario that has two
	Logs  string // absolute folder of this run
	Bin   string // absolute folder of the products
	Self  string // how this program was called
	external
}

// A result is the line that a scenario prints.
type result struct {
	Scenario string             `json:"scenario"`
	OK       bool               `json:"ok"`
	MS       int64              `json:"ms"`
	Metrics  map[string]float64 `json:"metrics"`
	Error    string             `json:"error"`
}

// A stage is where a scenario plays: it knows what runs, measures, and tells.
type stage struct {
	// ctx ends when the scenario is over, or when something that it stands on
	// has failed.
	ctx   context.Context
	fail  context.CancelCauseFunc
	order order
	out   io.Writer // progress, for people
	rng   *rand.Rand
	hosts map[string]*host.Host

	running sync.WaitGroup
	roles   []*role  // in the order they were started
	record  *os.File // locked while the lab lives
	next    uint16   // see port

	mu      sync.Mutex // guards metrics
	metrics map[string]float64
}

func newStage(ctx context.Context, o order) *stage {
	s := &stage{
		order: o, out: os.Stderr, rng: rand.New(rand.NewPCG(o.Seed, 0)),
		hosts: map[string]*host.Host{}, metrics: map[string]float64{}, next: 20000,
	}
	if o.Quiet {
		s.out = io.Discard
	}
	s.ctx, s.fail = context.WithCancelCause(ctx)
	return s
}

// close ends all that was spawned and waits for it.
func (s *stage) close() {
	for _, r := range slices.Backward(s.roles) {
		r.stop()
	}
	s.fail(nil)
	s.running.Wait()
}

// spawn runs a part of the world until the scenario is over. If it fails
// before, so does the scenario.
func (s *stage) spawn(what string, run func(context.Context) error) {
	s.running.Go(func() {
		if err := run(s.ctx); err != nil && s.ctx.Err() == nil {
			s.fail(fmt.Errorf("%s: %w", what, err))
		}
	})
}

// step does one thing and tells how long it took. If it fails, the reason may
// be that a role has ended.
func (s *stage) step(what string, do func() error) error {
	began := time.Now()
	err := do()
	if err != nil {
		err = s.blame(err)
	}
	if cause := context.Cause(s.ctx); err != nil && cause != nil && !errors.Is(cause, context.Canceled) {
		err = errors.Join(err, cause)
	}
	if err != nil {
		fmt.Fprintf(s.out, "  FAIL %7s  %s\n", since(began), what)
		return fmt.Errorf("%s: %w", what, err)
	}
	fmt.Fprintf(s.out, "  ok   %7s  %s\n", since(began), what)
	return nil
}

// A step is one thing that a program of the lab does or checks, in words.
type step struct {
	what string
	do   func() error
}

// all takes the steps in turn until one fails.
func (s *stage) all(steps ...step) error {
	for _, t := range steps {
		if err := s.step(t.what, t.do); err != nil {
			return err
		}
	}
	return nil
}

// note tells something on the way.
func (s *stage) note(format string, args ...any) {
	fmt.Fprintf(s.out, "                "+format+"\n", args...)
}

// metric records a number for the result, to three decimals.
func (s *stage) metric(name string, value float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.metrics[name] = math.Round(value*1000) / 1000
}

// port returns a UDP or TCP port that this stage has not used yet.
func (s *stage) port() uint16 {
	s.next++
	return s.next
}

// A record tells other programs of the same user about a lab that runs.
type record struct {
	Scenario string         `json:"scenario"`
	PID      int            `json:"pid"`   // process 1 of the enclosure, as seen outside
	Hosts    map[string]int `json:"hosts"` // name → thread, as seen outside
}

// recordName is the name of the record in the folder of a run.
const recordName = "lab.json"

// furnish makes hosts that ask these DNS servers and trust this authority, and
// makes them known to "lab shell".
func (s *stage) furnish(a *serve.Authority, resolver []string, names ...string) ([]*host.Host, error) {
	var configs []host.Config
	for _, name := range names {
		log, err := os.OpenFile(filepath.Join(s.order.Logs, name+".log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o644)
		if err != nil {
			return nil, fmt.Errorf("open a log: %w", err)
		}
		configs = append(configs, host.Config{Name: name, Resolver: resolver, Trust: a.PEM(), Bin: s.order.Bin, Log: log})
	}
	hosts, err := host.All(configs)
	if err != nil {
		return nil, err
	}
	for _, h := range hosts {
		s.hosts[h.Name] = h
	}
	return hosts, s.publish()
}

// publish writes the record. It stays locked for as long as we live, however
// we end.
func (s *stage) publish() error {
	r := record{Scenario: s.order.Name, Hosts: map[string]int{}}
	for name, h := range s.hosts {
		r.PID, r.Hosts[name] = h.Thread()
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if s.record == nil {
		f, err := os.OpenFile(filepath.Join(s.order.Logs, recordName), os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return err
		}
		s.record = f
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
	}
	_, err = s.record.WriteAt(text, 0) // each record is longer than the one before
	return err
}

// serveDNS starts a DNS server on port 53 of a host, UDP and TCP.
func (s *stage) serveDNS(h *host.Host, d *serve.DNS) error {
	packets, err := h.ListenPacket("udp", ":53")
	if err != nil {
		return err
	}
	listener, err := h.Listen("tcp", ":53")
	if err != nil {
		return err
	}
	s.spawn("DNS server on "+h.Name, func(ctx context.Context) error { return d.Run(ctx, packets, listener) })
	return nil
}

// serveHTTP starts a web server on a host.
func (s *stage) serveHTTP(h *host.Host, address string) error {
	l, err := h.Listen("tcp", address)
	if err != nil {
		return err
	}
	s.spawn("web server on "+h.Name, func(ctx context.Context) error { return serve.Web(ctx, l, h.Name) })
	return nil
}

// serveTLS starts a web server with a certificate for name.
func (s *stage) serveTLS(h *host.Host, address string, a *serve.Authority, name string) error {
	config, err := a.Config(name)
	if err != nil {
		return err
	}
	l, err := h.Listen("tcp", address)
	if err != nil {
		return err
	}
	s.spawn("TLS web server on "+h.Name, func(ctx context.Context) error {
		return serve.Web(ctx, tls.NewListener(l, config), h.Name)
	})
	return nil
}

// serveEcho starts echo servers on a host, TCP and UDP.
func (s *stage) serveEcho(h *host.Host, address string) error {
	l, err := h.Listen("tcp", address)
	if err != nil {
		return err
	}
	p, err := h.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	s.spawn("TCP echo on "+h.Name, func(ctx context.Context) error { return serve.Echo(ctx, l) })
	s.spawn("UDP echo on "+h.Name, func(ctx context.Context) error { return serve.EchoPackets(ctx, p) })
	return nil
}

// since formats the time since began for people.
func since(began time.Time) string { return milliseconds(time.Since(began)) }

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

// ms is a duration as a metric.
func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
