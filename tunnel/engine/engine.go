// Package engine runs a role: it owns the TUN device, the sockets, the clock
// and all goroutines, and has no opinions. What is read is decided about under
// one lock, and carried to its end by the goroutine that read it.
//
// Goroutines: one reads the TUN device, one reads each socket, one keeps the
// timers and takes inputs from outside, one does slow work in order, one is the
// portal channel's.
package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"stile/platform/clock"
	"stile/platform/sock"
	"stile/tunnel/core"
	"stile/tunnel/flight"
	"stile/tunnel/udp"
	"stile/tunnel/upstream"
	"stile/tunnel/wire"
)

// Portal is the engine's way to the control plane.
type Portal interface {
	// Run keeps the channel open until ctx ends or the portal refuses for
	// good. It calls deliver from one goroutine, in order.
	Run(ctx context.Context, publicKey wire.Key, deliver func(core.PortalEvent)) error
	// Send queues m without blocking.
	Send(m wire.Message)
	// Reconnect drops the connection and opens another at once; it does not
	// block.
	Reconnect(publicKey wire.Key)
}

// Device is a TUN device. One goroutine reads, any may write.
type Device interface {
	Name() string
	BatchSize() int
	// Read waits for packets and puts them at bufs[i][offset:], at most one in
	// each buffer.
	Read(bufs [][]byte, sizes []int, offset int) (int, error)
	// Write borrows packets and returns how many were lost, and why.
	Write(packets [][]byte) (lost int, err error)
	Close() error
}

// Sockets carry the datagrams: udp.Sockets, or a network made for a test.
type Sockets interface {
	udp.Outlet
	// Receive waits for messages of one family (an index of udp.Families) and
	// returns the local port with them. They are valid until r is used again.
	Receive(family int, r *sock.Receiver) ([]sock.Message, uint16, error)
	Rebind() error
	// Describe tells how the system's sockets turned out.
	Describe() []udp.Socket
	Close() error
}

// Upstream asks real resolvers (tunnel/upstream).
type Upstream interface {
	Lookup(ctx context.Context, name string) upstream.LookupResult
	Exchange(ctx context.Context, server netip.AddrPort, query []byte) ([]byte, error)
}

// Config is what an engine runs with. All functions may be nil but TUN.
type Config struct {
	Role      core.Role
	PublicKey wire.Key // of the role, as it starts
	Portal    Portal
	Upstream  Upstream

	TUN       func() (Device, error)
	Sockets   func() (Sockets, error) // nil: udp.Open on udp.Port
	Buffers   sock.BufferSizes        // of those sockets in bytes; 0: the platform's default
	Now       func() time.Time        // nil: clock.Now
	Configure func(iface string, t core.TUN) error
	Flush     func() error
	Remember  func([]core.ProxyName) error
	Notify    func(core.Notify)
	// Flows is told what the role decided about flows, by several goroutines. It
	// borrows the list until it returns, and must not block: packets wait for it.
	Flows func([]core.Flow)
	// Flight keeps what passed and what the role notes; nil: nobody does.
	Flight *flight.Recorder
	Log    *slog.Logger
}

// maxSlow bounds the look-ups and DNS exchanges that run at once (spec
// client-dns.md 1, gateway-nat.md 2.2).
const maxSlow = 1000

// An Engine is one run of a role.
type Engine struct {
	c          Config
	device     Device
	sockets    Sockets
	outcome    func() string   // of the packet that the role was last given and that goes nowhere
	prefetcher core.Prefetcher // the role, or nil

	mu   sync.Mutex // guards role, and what follows up to the blank line
	role core.Role
	slow []core.Action // for the slow goroutine, in order
	due  time.Time     // what the timers goroutine is set to

	work   chan struct{} // slow is not empty
	timer  chan struct{} // due has changed
	inputs chan func(core.Role, time.Time)
	ended  chan struct{} // closed when inputs are taken no more
	end    sync.Once     // closes ended

	running sync.WaitGroup // goroutines of single look-ups
	tokens  chan struct{}  // bounds them
	fail    context.CancelCauseFunc
	ctx     context.Context

	stats stats
}

// New makes an engine. Nothing is opened before Run.
func New(c Config) *Engine {
	if c.Now == nil {
		c.Now = clock.Now
	}
	if c.Sockets == nil {
		c.Sockets = func() (Sockets, error) { return udp.Open(udp.Port, c.Buffers) }
	}
	prefetcher, _ := c.Role.(core.Prefetcher)
	return &Engine{
		c: c, role: c.Role, prefetcher: prefetcher,
		work: make(chan struct{}, 1), timer: make(chan struct{}, 1), inputs: make(chan func(core.Role, time.Time), 64),
		ended: make(chan struct{}), tokens: make(chan struct{}, maxSlow), outcome: outcomeOf(c.Role),
	}
}

func outcomeOf(r core.Role) func() string {
	if x, is := r.(core.Explainer); is {
		return x.Outcome
	}
	return func() string { return "not carried" }
}

// Run runs the role until ctx ends, which is no error, or something fails for
// good. Nothing of it is left running afterwards. It must be called once.
func (e *Engine) Run(ctx context.Context) error {
	defer e.end.Do(func() { close(e.ended) })
	var err error
	if e.sockets, err = e.c.Sockets(); err != nil {
		return err
	}
	defer e.sockets.Close()
	if e.device, err = e.c.TUN(); err != nil {
		return err
	}
	defer e.device.Close()
	for _, s := range e.sockets.Describe() {
		e.c.Log.Debug("UDP socket", "family", int(s.Family), "port", s.Port, "gso", s.GSO, "gro", s.GRO, "send", s.Buffers.Send, "receive", s.Buffers.Receive)
	}

	ctx, e.fail = context.WithCancelCause(ctx)
	defer e.fail(nil)
	e.ctx = ctx
	var g sync.WaitGroup
	failed := func(err error) {
		if err != nil {
			e.fail(err)
		}
	}
	run := func(f func()) { g.Go(func() { defer e.c.Flight.Panicking(); f() }) }
	run(func() { failed(e.readTUN()) })
	for family := range udp.Families {
		run(func() { failed(e.readSocket(family)) })
	}
	run(func() { e.control(ctx); e.shutdown() })
	run(func() { e.slowWork(ctx) })
	if e.c.Portal != nil {
		run(func() { failed(e.c.Portal.Run(ctx, e.c.PublicKey, e.deliver)) })
	}
	g.Wait()
	e.running.Wait()
	e.lastWish()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// shutdown tells the peers and closes what the readers wait for.
func (e *Engine) shutdown() {
	e.end.Do(func() { close(e.ended) })
	e.newCarrier().step(func(r core.Role, now time.Time) { r.Stop(now) })
	e.sockets.Close()
	e.device.Close()
}

// Do feeds the role a result that nobody asked for: the system's resolvers,
// the user's switches. It may be called at any time, and before Run.
func (e *Engine) Do(r core.Result) {
	e.input(func(role core.Role, now time.Time) { role.Done(r, now) })
}

// NetworkChanged makes the role start over on another network.
func (e *Engine) NetworkChanged() {
	e.input(func(role core.Role, now time.Time) {
		var private wire.Key
		rand.Read(private[:])
		role.NetworkChanged(private, now)
	})
}

// Report is what a watcher may see.
func (e *Engine) Report() core.Report { return e.report(e.role.Report) }

// Brief is what changes from second to second: of a role that is no
// core.Briefer, the whole Report. All that was carried is counted, too.
func (e *Engine) Brief() core.Report {
	ask := e.role.Report
	if b, is := e.role.(core.Briefer); is {
		ask = b.Brief
	}
	r, t := e.report(ask), e.Traffic()
	r.Counters = append(r.Counters,
		core.Counter{Name: "engine bytes in", Value: t.BytesIn}, core.Counter{Name: "engine bytes out", Value: t.BytesOut},
		core.Counter{Name: "engine packets in", Value: t.PacketsIn}, core.Counter{Name: "engine packets out", Value: t.PacketsOut})
	sortCounters(r.Counters)
	return r
}

func (e *Engine) report(ask func(*core.Report, time.Time)) (r core.Report) {
	e.mu.Lock()
	ask(&r, e.c.Now())
	e.mu.Unlock()
	r.Counters = append(r.Counters, e.stats.counters()...)
	sortCounters(r.Counters)
	return r
}

func sortCounters(list []core.Counter) {
	slices.SortFunc(list, func(a, b core.Counter) int { return strings.Compare(a.Name, b.Name) })
}

// Inspect lets f look at the role between two batches. Packets wait for it: f
// must be done within a millisecond, and copy what it keeps.
func (e *Engine) Inspect(f func(r core.Role, now time.Time)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(e.role, e.c.Now())
}

// Counters are those of the engine itself, which Report has, too.
func (e *Engine) Counters() []core.Counter { return e.stats.counters() }

func (e *Engine) input(f func(core.Role, time.Time)) {
	select {
	case e.inputs <- f:
	case <-e.ended:
	}
}

func (e *Engine) deliver(ev core.PortalEvent) {
	e.input(func(r core.Role, now time.Time) {
		switch {
		case ev.Up:
			r.PortalUp(now)
		case ev.Down:
			r.PortalDown(now)
		default:
			r.Message(ev.Message, now)
		}
	})
}

// control keeps the timers and takes the inputs.
func (e *Engine) control(ctx context.Context) {
	c := e.newCarrier()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-e.inputs:
			c.step(f)
		case <-e.timer:
		case <-timer.C:
			c.step(core.Role.Advance)
		}
		e.mu.Lock()
		due := e.due
		e.mu.Unlock()
		timer.Stop()
		if !due.IsZero() {
			timer.Reset(min(due.Sub(e.c.Now()), maxWait))
		}
	}
}

// maxWait bounds a timer of the Go runtime, which stands still while the
// machine sleeps. Being asked too early does a role no harm.
const maxWait = 15 * time.Second

// askEvery is how long a batch of plain packets may put off the question when
// the role is due: they move timers that are seconds away.
const askEvery = 50 * time.Millisecond

// finishLocked moves out what the role wants and keeps the timers right. It
// tells the portal at once, in order, and leaves the slow work to others.
// Without ask, and if the role wants nothing, the question when it is due is
// put off to the control goroutine, for many batches at once.
func (e *Engine) finishLocked(out *core.Output, ask bool, now time.Time) {
	e.role.Drain(out)
	if ask || !out.Empty() {
		e.setDueLocked(e.role.Next())
	} else if later := now.Add(askEvery); e.due.IsZero() || later.Before(e.due) {
		e.setDueLocked(later)
	}
	for _, a := range out.Actions {
		switch a := a.(type) {
		case core.Tell:
			if e.c.Portal != nil {
				e.c.Portal.Send(a.Message)
			}
		case core.Reconnect:
			if e.c.Portal != nil {
				e.c.Portal.Reconnect(a.PublicKey)
			}
		case core.Lookup, core.Exchange, core.Rebind: // by the goroutine that has them
		default:
			e.slow = append(e.slow, a)
			wake(e.work)
		}
	}
}

// setDueLocked sets the timers goroutine, and wakes it if it would be late.
func (e *Engine) setDueLocked(due time.Time) {
	sooner := !due.IsZero() && (e.due.IsZero() || due.Before(e.due))
	if e.due = due; sooner {
		wake(e.timer)
	}
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Traffic counts packets of applications that were carried.
type Traffic struct {
	PacketsIn, BytesIn   uint64 // from peers to the TUN device
	PacketsOut, BytesOut uint64 // from the TUN device to peers
}

// Traffic returns what was carried so far.
func (e *Engine) Traffic() Traffic {
	in, out := &e.stats.in, &e.stats.out
	return Traffic{in.packets.Load(), in.bytes.Load(), out.packets.Load(), out.bytes.Load()}
}

type traffic struct{ packets, bytes atomic.Uint64 }

func (t *traffic) add(packets, bytes int) {
	if packets > 0 {
		t.packets.Add(uint64(packets))
		t.bytes.Add(uint64(bytes))
	}
}

// stats are counters of what was carried, what never reached the role, and what
// left it in vain.
type stats struct {
	in, out traffic

	malformed, oversized, forged, unsendable, unwritable, busy atomic.Uint64
}

func (s *stats) counters() []core.Counter {
	return []core.Counter{
		{Name: "engine busy", Value: s.busy.Load()},
		{Name: "engine forged", Value: s.forged.Load()},
		{Name: "engine malformed", Value: s.malformed.Load()},
		{Name: "engine oversized", Value: s.oversized.Load()},
		{Name: "engine unsendable", Value: s.unsendable.Load()},
		{Name: "engine unwritable", Value: s.unwritable.Load()},
	}
}

// closed reports whether a reader ended because we closed what it reads.
func (e *Engine) closed(err error) bool {
	return e.ctx.Err() != nil || errors.Is(err, net.ErrClosed)
}
