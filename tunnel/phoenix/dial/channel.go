package dial

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"stile/platform/clock"
	"stile/tunnel/core"
	"stile/tunnel/phoenix"
	"stile/tunnel/wire"
)

// maxRequests bounds what Send leaves for Run. The role's messages are few;
// past that many the portal connection is stuck and they would be stale.
const maxRequests = 1024

// writeTimeout bounds one frame. A portal that takes none for that long is
// lost, before the heartbeats would find out.
const writeTimeout = 10 * time.Second

// A Channel is our connection to the portal. Its methods may be called from
// any goroutine.
type Channel struct {
	config   Config
	endpoint endpoint
	tls      *tls.Config
	wake     chan struct{}
	trouble  atomic.Pointer[error] // see Trouble

	mu       sync.Mutex // guards requests, token
	requests []request
	token    wire.Secret // of the next connection
}

// A request is a message to send or, without one, a wish to reconnect with
// key.
type request struct {
	message wire.Message
	key     wire.Key
}

// New checks c. The errors are for whoever configured it.
func New(c Config) (*Channel, error) {
	e, err := c.parseURL()
	if err != nil {
		return nil, err
	}
	trust, err := c.tlsConfig()
	if err != nil {
		return nil, err
	}
	if c.Now == nil {
		c.Now = clock.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Channel{config: c, token: c.Token, endpoint: e, tls: trust, wake: make(chan struct{}, 1)}, nil
}

// Trouble returns why the portal could not be reached at the latest attempt;
// nil: it was, or no attempt has failed yet. The text is for users and holds
// no secret.
func (c *Channel) Trouble() error {
	if err := c.trouble.Load(); err != nil {
		return *err
	}
	return nil
}

// Send queues m without blocking. It is lost if the channel is not open.
func (c *Channel) Send(m wire.Message) { c.ask(request{message: m}) }

// Reconnect drops the connection and opens another at once, announcing
// publicKey from here on.
func (c *Channel) Reconnect(publicKey wire.Key) { c.ask(request{key: publicKey}) }

// Renew uses another token of the same client from the next connection on. Call
// Reconnect for that to be at once.
func (c *Channel) Renew(token wire.Secret) {
	c.mu.Lock()
	c.token = token
	c.mu.Unlock()
}

// bearer is the X-Authorization header's value, without any whitespace that a
// file may have brought into the token (1.3).
func (c *Channel) bearer() string {
	c.mu.Lock()
	token := c.token
	c.mu.Unlock()
	return "Bearer " + strings.Join(strings.Fields(token.Reveal()), "")
}

func (c *Channel) ask(r request) {
	c.mu.Lock()
	if r.message == nil && len(c.requests) >= maxRequests {
		c.requests = c.requests[:0] // what waits dies with the connection anyway
	}
	if len(c.requests) < maxRequests {
		c.requests = append(c.requests, r)
	}
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *Channel) asked() []request {
	c.mu.Lock()
	defer c.mu.Unlock()
	asked := c.requests
	c.requests = nil
	return asked
}

// Run keeps the channel until ctx ends, which closes it with code 1000, or
// until the portal refuses us for good. It calls deliver, from one goroutine
// and in order. Run must not be called twice.
func (c *Channel) Run(ctx context.Context, publicKey wire.Key, deliver func(core.PortalEvent)) error {
	join, err := c.join()
	if err != nil {
		return err
	}
	machine := phoenix.Config{
		Topic: string(c.config.Kind), Join: join, Decode: c.config.Kind.decode, MaxPartition: c.config.MaxPartition,
		Rand: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
	}
	if c.config.Kind != Relay {
		machine.Greeting = wire.SetCapabilities{}
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &run{
		Channel: c, ctx: ctx, key: publicKey, deliver: deliver, in: make(chan input),
		machine: phoenix.New(machine, c.config.Now()),
	}
	defer r.connections.Wait()
	defer cancel()
	return r.loop()
}

func (c *Channel) join() ([]byte, error) {
	if c.config.Join == nil {
		return nil, nil
	}
	return wire.AppendPayload(nil, c.config.Join)
}

// A run is the state of Run, owned by its goroutine.
type run struct {
	*Channel
	ctx         context.Context
	key         wire.Key
	deliver     func(core.PortalEvent)
	machine     *phoenix.Channel
	in          chan input // from connections
	connections sync.WaitGroup
	current     *connection // nil: none
	quiet       bool        // the outage was logged
}

// An input is what happened on a connection: it opened, a frame arrived, or it
// failed.
type input struct {
	from   *connection
	opened *socket
	frame  []byte
	failed *phoenix.Failure
}

// A connection is one attempt and the socket that it led to.
type connection struct {
	stop   context.CancelFunc
	socket *socket // nil until it is open; owned by Run's goroutine
}

func (r *run) loop() error {
	var todo []phoenix.Action
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		r.machine.Advance(r.config.Now())
		for todo = r.machine.Drain(todo[:0]); len(todo) > 0; todo = r.machine.Drain(todo[:0]) {
			for _, a := range todo {
				if err := r.perform(a); err != nil {
					return err
				}
			}
		}
		timer.Stop()
		if next := r.machine.Next(); !next.IsZero() {
			timer.Reset(next.Sub(r.config.Now()))
		}
		select {
		case <-r.ctx.Done():
			r.hangup()
			return context.Cause(r.ctx)
		case <-timer.C:
		case <-r.wake:
			r.requested()
		case in := <-r.in:
			r.happened(in)
		}
	}
}

func (r *run) requested() {
	for _, q := range r.asked() {
		if q.message != nil {
			r.machine.Send(q.message)
			continue
		}
		r.key = q.key
		r.machine.Reconnect(r.config.Now())
	}
}

// happened tells the machine, unless the connection is not ours any more.
func (r *run) happened(in input) {
	switch now := r.config.Now(); {
	case in.from != r.current:
	case in.failed != nil:
		r.current.stop()
		r.current = nil
		r.machine.Disconnected(*in.failed, now)
	case in.opened != nil:
		r.current.socket = in.opened
		r.machine.Connected(now)
	default:
		r.machine.Frame(in.frame, now)
	}
}

// perform carries out one action; an error ends Run.
func (r *run) perform(a phoenix.Action) error {
	switch a := a.(type) {
	case phoenix.Dial:
		r.dial()
	case phoenix.Hangup:
		r.hangup()
	case phoenix.Write:
		r.write(a.Frame)
	case phoenix.Up:
		r.quiet = false
		r.trouble.Store(nil)
		r.config.Log.Info("connected to the portal", "host", r.endpoint.host)
		r.deliver(core.PortalEvent{Up: true})
	case phoenix.Down:
		r.deliver(core.PortalEvent{Down: true})
	case phoenix.Deliver:
		r.deliver(core.PortalEvent{Message: a.Message})
	case phoenix.Retrying:
		r.trouble.Store(&a.Err)
		r.logRetry(a)
	case phoenix.Dropped:
		r.config.Log.Debug("portal channel", "dropped", a.Err)
	case phoenix.Fail:
		return fmt.Errorf("portal %s: %w", r.endpoint.host, a.Err)
	}
	return nil
}

// logRetry warns once for each outage.
func (r *run) logRetry(a phoenix.Retrying) {
	log := r.config.Log.Warn
	if r.quiet {
		log = r.config.Log.Debug
	}
	r.quiet = true
	log("no connection to the portal", "host", r.endpoint.host, "retry", a.After.Round(10*time.Millisecond), "err", a.Err)
}

func (r *run) dial() {
	ctx, stop := context.WithCancel(r.ctx)
	c, key := &connection{stop: stop}, r.key
	r.current = c
	r.connections.Go(func() {
		defer stop()
		r.serve(ctx, c, key)
	})
}

// serve is the goroutine of one connection: it dials and reads. Whatever it
// has to tell is lost once the connection was given up.
func (r *run) serve(ctx context.Context, c *connection, key wire.Key) {
	tell := func(in input) bool {
		in.from = c
		select {
		case r.in <- in:
			return true
		case <-ctx.Done():
			return false
		}
	}
	s, failed := r.connect(ctx, key)
	if failed != nil {
		tell(input{failed: failed})
		return
	}
	defer s.hangup()
	for in := (input{opened: s}); tell(in); {
		kind, frame, err := s.Read(context.Background()) // hangup ends it
		switch {
		case err != nil:
			tell(input{failed: &phoenix.Failure{Err: lost(err)}})
			return
		case kind == websocket.MessageBinary:
			in = input{frame: []byte("binary")} // dropped, as is all that is no JSON (2.1)
		default:
			in = input{frame: frame}
		}
	}
}

// lost puts the end of a connection into words.
func lost(err error) error {
	if code := websocket.CloseStatus(err); code != -1 {
		return fmt.Errorf("closed by the portal (%d)", code)
	}
	if errors.Is(err, websocket.ErrMessageTooBig) {
		return fmt.Errorf("the portal sent a message of more than %d MB; its administrator should let this peer reach fewer resources", wire.MaxFrame>>20)
	}
	if errors.Is(err, io.EOF) {
		return errors.New("closed by the portal")
	}
	return err
}

func (r *run) write(frame []byte) {
	if r.current == nil || r.current.socket == nil {
		return
	}
	ctx, cancel := context.WithTimeout(r.ctx, writeTimeout)
	defer cancel()
	if err := r.current.socket.Write(ctx, websocket.MessageText, frame); err != nil {
		r.hangup()
		r.machine.Disconnected(phoenix.Failure{Err: fmt.Errorf("write: %w", err)}, r.config.Now())
	}
}

// hangup gives the current connection up: an attempt is abandoned, a socket
// closed, which ends its Read.
func (r *run) hangup() {
	c := r.current
	if c == nil {
		return
	}
	r.current = nil
	c.stop()
	if c.socket != nil {
		r.connections.Go(c.socket.hangup)
	}
}
