package engine

import (
	"bytes"
	"context"
	"crypto/ecdh"
	crand "crypto/rand"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"stile/platform/sock"
	"stile/tunnel/core"
	"stile/tunnel/packet"
	"stile/tunnel/udp"
	"stile/tunnel/wg"
	"stile/tunnel/wire"
)

// A script is a role of which a test fills in what matters. Inputs without a
// function do nothing.
type script struct {
	outbound  func(packet.Packet, time.Time) core.Route
	datagram  func(core.Datagram, time.Time) core.Sealed
	inbound   func(*wg.Keys, uint64, []byte, time.Time) []byte
	message   func(wire.Message, time.Time)
	up, down  func(time.Time)
	done      func(core.Result, time.Time)
	network   func(wire.Key, time.Time)
	advance   func(time.Time)
	stop      func(time.Time)
	next      time.Time
	out       core.Output
	neverBack time.Time
}

func (s *script) see(now time.Time) {
	if now.Before(s.neverBack) {
		panic("time went back")
	}
	s.neverBack = now
}

func (s *script) Outbound(p packet.Packet, now time.Time) (r core.Route) {
	if s.see(now); s.outbound != nil {
		r = s.outbound(p, now)
	}
	return r
}

func (s *script) Datagram(d core.Datagram, now time.Time) (r core.Sealed) {
	if s.see(now); s.datagram != nil {
		r = s.datagram(d, now)
	}
	return r
}

func (s *script) Inbound(k *wg.Keys, counter uint64, plain []byte, now time.Time) (p []byte) {
	if s.see(now); s.inbound != nil {
		p = s.inbound(k, counter, plain, now)
	}
	return p
}

func (s *script) Message(m wire.Message, now time.Time) {
	if s.see(now); s.message != nil {
		s.message(m, now)
	}
}

func (s *script) Done(r core.Result, now time.Time) {
	if s.see(now); s.done != nil {
		s.done(r, now)
	}
}

func (s *script) NetworkChanged(k wire.Key, now time.Time) {
	if s.see(now); s.network != nil {
		s.network(k, now)
	}
}

func (s *script) PortalUp(now time.Time)   { s.at(s.up, now) }
func (s *script) PortalDown(now time.Time) { s.at(s.down, now) }
func (s *script) Advance(now time.Time)    { s.at(s.advance, now) }
func (s *script) Stop(now time.Time)       { s.at(s.stop, now) }

func (s *script) at(f func(time.Time), now time.Time) {
	if s.see(now); f != nil {
		f(now)
	}
}

func (s *script) Next() time.Time { return s.next }

func (s *script) Drain(o *core.Output) {
	o.Datagrams = append(o.Datagrams, s.out.Datagrams...)
	o.Held = append(o.Held, s.out.Held...)
	o.Packets = append(o.Packets, s.out.Packets...)
	o.Actions = append(o.Actions, s.out.Actions...)
	o.Flows = append(o.Flows, s.out.Flows...)
	o.Notes = append(o.Notes, s.out.Notes...)
	s.out.Reset()
}

func (s *script) Report(r *core.Report, _ time.Time) {
	r.Counters = append(r.Counters, core.Counter{Name: "role", Value: 1})
}

// act makes the role want something; the caller is inside an input.
func (s *script) act(a ...core.Action) { s.out.Actions = append(s.out.Actions, a...) }

// A device is a TUN device in memory.
type device struct {
	in   chan [][]byte // batches for Read
	out  chan []byte   // packets that were written
	fail chan error    // errors for Read
	gone chan struct{}
	once sync.Once
}

func newDevice() *device {
	return &device{in: make(chan [][]byte, 16), out: make(chan []byte, 4096), fail: make(chan error, 256), gone: make(chan struct{})}
}

func (d *device) Name() string   { return "tun-test" }
func (d *device) BatchSize() int { return 128 }

func (d *device) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	select {
	case batch := <-d.in:
		for i, p := range batch {
			sizes[i] = copy(bufs[i][offset:], p)
		}
		return len(batch), nil
	case err := <-d.fail:
		return 0, err
	case <-d.gone:
		return 0, os.ErrClosed
	}
}

func (d *device) Write(packets [][]byte) (int, error) {
	for _, p := range packets {
		select {
		case d.out <- bytes.Clone(p):
		case <-d.gone:
			return len(packets), os.ErrClosed
		}
	}
	return 0, nil
}

func (d *device) Close() error {
	d.once.Do(func() { close(d.gone) })
	return nil
}

// An ether joins sockets in memory. Datagrams arrive at once and in order.
type ether struct {
	mu   sync.Mutex // guards what follows
	ends map[netip.AddrPort]*endpoint
	meet func(*sock.Message) bool // sees all on its way, and may lose it by returning false
}

// intercept makes f see all that is sent from now on; nil ends that.
func (e *ether) intercept(f func(*sock.Message) bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.meet = f
}

// An endpoint is the Sockets of one engine; only IPv4 works.
type endpoint struct {
	ether *ether
	local netip.AddrPort
	in    chan sock.Message
	gone  chan struct{}
	once  sync.Once

	mu      sync.Mutex // guards what follows
	sent    []sock.Run
	rebinds int
	fail    error // for Rebind
}

func (e *ether) endpoint(local string) *endpoint {
	p := &endpoint{ether: e, local: netip.MustParseAddrPort(local), in: make(chan sock.Message, 4096), gone: make(chan struct{})}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ends == nil {
		e.ends = map[netip.AddrPort]*endpoint{}
	}
	e.ends[p.local] = p
	return p
}

func (p *endpoint) Receive(family int, _ *sock.Receiver) ([]sock.Message, uint16, error) {
	in := p.in
	if family == 1 {
		in = nil
	}
	select {
	case m := <-in:
		if m.Segment < 0 {
			return nil, 0, failure("network is down")
		}
		return []sock.Message{m}, p.local.Port(), nil
	case <-p.gone:
		return nil, 0, net.ErrClosed
	}
}

// A failure is an error that a test makes up.
type failure string

func (e failure) Error() string { return string(e) }

func (p *endpoint) Send(_ int, _ *sock.Sender, runs []sock.Run) (int, error) {
	for _, r := range runs {
		copied := r
		copied.Datagrams = nil
		for _, d := range r.Datagrams {
			copied.Datagrams = append(copied.Datagrams, bytes.Clone(d))
		}
		p.mu.Lock()
		p.sent = append(p.sent, copied)
		p.mu.Unlock()
		p.ether.carry(p.local, copied)
	}
	return 0, nil
}

func (e *ether) carry(from netip.AddrPort, r sock.Run) {
	e.mu.Lock()
	defer e.mu.Unlock()
	to := e.ends[r.Remote]
	if to == nil {
		return
	}
	m := sock.Message{Local: to.local.Addr(), Remote: from, ECN: r.ECN, Segment: len(r.Datagrams[0]), Payload: bytes.Join(r.Datagrams, nil)}
	if e.meet == nil || e.meet(&m) {
		to.in <- m
	}
}

func (p *endpoint) Rebind() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rebinds++
	return p.fail
}

func (p *endpoint) Describe() []udp.Socket { return nil }

func (p *endpoint) Close() error {
	p.once.Do(func() { close(p.gone) })
	return nil
}

// runs returns what was sent so far.
func (p *endpoint) runs() []sock.Run {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent
}

// A peer is a role with one connection, to another peer at a fixed address,
// that passes all packets both ways.
type peer struct {
	script
	private   [32]byte
	identity  *wg.Identity
	session   *wg.Session
	way       core.Way
	initiator bool
	held      [][]byte
	handshake [][]byte
}

// newPeers makes two peers that know each other; the first one initiates.
func newPeers(t testing.TB, now time.Time, a, b netip.AddrPort) (*peer, *peer) {
	keys := [2]*ecdh.PrivateKey{}
	peers := [2]*peer{}
	for i := range keys {
		k, err := ecdh.X25519().GenerateKey(crand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[i] = k
		peers[i] = &peer{private: [32]byte(k.Bytes()), identity: wg.NewIdentity([32]byte(k.Bytes()), now, now, crand.Reader), initiator: i == 0}
	}
	for i, p := range peers {
		p.session = wg.New(wg.Config{Identity: p.identity, Remote: peers[1-i].identity.Public(), Index: uint32(7 + i), Rand: crand.Reader, Renew: i == 0})
		p.way.Remote = [2]netip.AddrPort{b, a}[i]
		p.bind()
	}
	return peers[0], peers[1]
}

func (p *peer) bind() {
	p.outbound = func(q packet.Packet, now time.Time) core.Route {
		keys := p.session.Send()
		if keys == nil {
			if p.held = append(p.held, bytes.Clone(q.Bytes())); p.initiator {
				p.session.Initiate(now)
			}
			return core.Route{}
		}
		p.session.Sent(now)
		return core.Route{Keys: keys, Way: &p.way}
	}
	p.datagram = func(d core.Datagram, now time.Time) core.Sealed {
		switch wg.Classify(d.Payload) {
		case wg.Data:
			if keys := p.session.Find(wg.Index(d.Payload)); keys != nil {
				return core.Sealed{Keys: keys, Message: d.Payload}
			}
		case wg.Initiation:
			if in, _, ok := p.identity.Initiator(d.Payload, d.Remote, now); ok {
				p.session.Accept(in, now)
			}
		case wg.Response, wg.Cookie:
			p.session.Handle(d.Payload, d.Remote, now)
		}
		return core.Sealed{}
	}
	p.inbound = func(k *wg.Keys, counter uint64, plain []byte, now time.Time) []byte {
		if !p.session.Received(k, counter, len(plain) == 0, now) || len(plain) == 0 {
			return nil
		}
		return packet.Trim(plain)
	}
	p.advance = func(now time.Time) { p.session.Advance(now) }
}

func (p *peer) Next() time.Time { return p.session.Next() }

func (p *peer) Drain(o *core.Output) {
	p.handshake = p.session.Drain(p.handshake[:0])
	for _, m := range p.handshake {
		o.Datagrams = append(o.Datagrams, core.Datagram{Local: p.way.Local, Remote: p.way.Remote, Payload: m})
	}
	if keys := p.session.Send(); keys != nil {
		for _, h := range p.held {
			o.Held = append(o.Held, core.Held{Route: core.Route{Keys: keys, Way: &p.way}, Packet: h})
		}
		p.held = nil
	}
	p.script.Drain(o)
}

// A portal records what it is told.
type portal struct {
	events chan core.PortalEvent
	mu     sync.Mutex // guards told
	told   []any
}

func (p *portal) Run(ctx context.Context, key wire.Key, deliver func(core.PortalEvent)) error {
	p.tell(key)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case ev, ok := <-p.events:
			if !ok {
				return failure("token refused")
			}
			deliver(ev)
		}
	}
}

func (p *portal) Send(m wire.Message)    { p.tell(m) }
func (p *portal) Reconnect(key wire.Key) { p.tell(key) }

func (p *portal) tell(what any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = append(p.told, what)
}

// A rig is an engine that runs, with everything around it in memory.
type rig struct {
	*Engine
	device *device
	end    *endpoint
	stop   context.CancelCauseFunc
	err    chan error
}

// start runs an engine until the test ends.
func start(t *testing.T, e *ether, local string, c Config) *rig {
	t.Helper()
	r := &rig{device: newDevice(), end: e.endpoint(local), err: make(chan error, 1)}
	if c.TUN == nil {
		c.TUN = func() (Device, error) { return r.device, nil }
	}
	c.Sockets = func() (Sockets, error) { return r.end, nil }
	c.Now = time.Now
	c.Log = slog.New(slog.DiscardHandler)
	r.Engine = New(c)
	ctx, cancel := context.WithCancelCause(t.Context())
	r.stop = cancel
	go func() { r.err <- r.Run(ctx) }()
	t.Cleanup(func() { cancel(nil) })
	return r
}

// finish stops the engine and returns what Run said.
func (r *rig) finish() error {
	r.stop(nil)
	return <-r.err
}

// counter returns a counter of the engine's report.
func (r *rig) counter(name string) uint64 {
	for _, c := range r.Report().Counters {
		if c.Name == name {
			return c.Value
		}
	}
	panic("no counter " + name)
}
