// Package serve is the portal's shell: it listens, authenticates peers, frames
// messages for the role in tunnel/portal, and shows the sign-in pages.
//
// One goroutine, the hub, owns the role. Each WebSocket has a reader, which is
// the goroutine of its HTTP request, and a writer with a bounded queue. A peer
// that does not read, sends garbage or falls silent is cut off; it comes back
// by itself.
package serve

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"stile/tunnel/id"
	"stile/tunnel/portal"
	"stile/tunnel/portal/config"
	"stile/tunnel/portal/store"
)

// A server is a running portal.
type server struct {
	log     *slog.Logger
	store   *store.Store
	hub     *hub
	config  atomic.Pointer[config.Config] // the last good one
	trouble trouble
	sealer  *sealer

	connects, wrong, wrongIP *throttle
	pace                     rate.Limit // messages of one client in a second, after a burst

	conns    atomic.Uint64   // the last portal.Conn given out
	life     context.Context // of sessions; set by serve
	sessions sync.WaitGroup
	mu       sync.Mutex // guards stopping
	stopping bool       // no session may start
}

// newPortal makes a server that does not listen yet.
func newPortal(c *config.Config, s *store.Store, log *slog.Logger) (*server, error) {
	account, err := s.Account()
	if err != nil {
		return nil, err
	}
	live, err := founded(s)
	if err != nil {
		return nil, err
	}
	var seed [32]byte
	rand.Read(seed[:])
	role, err := portal.New(portal.Config{
		Account: c.Account, Zones: time.LoadLocation, IngestKey: account.IngestKey, Live: live,
		Seed: mathrand.New(mathrand.NewChaCha8(seed)), Random: rand.Reader,
	}, time.Now())
	if err != nil {
		return nil, err
	}
	p := &server{
		log: log, store: s, hub: newHub(role, s, log), sealer: newSealer(), pace: clientPace,
		connects: newThrottle(connectEvery, connectBurst, throttleKeys),
		wrong:    newThrottle(wrongEvery, wrongBurst, throttleKeys),
		wrongIP:  newThrottle(wrongIPEvery, wrongIPBurst, throttleKeys),
	}
	p.config.Store(c)
	return p, nil
}

// founded lists the stored authorizations and drops those whose token is gone:
// it may have been revoked while no portal ran, or one that broke off before it
// could act on it.
func founded(s *store.Store) ([]portal.Authorization, error) {
	tokens, err := s.Tokens()
	if err != nil {
		return nil, err
	}
	known := map[id.Token]bool{}
	for _, t := range tokens {
		known[t.ID] = true
	}
	stored, err := s.Authorizations()
	if err != nil {
		return nil, err
	}
	var live []portal.Authorization
	for _, a := range stored {
		if known[a.Token] {
			live = append(live, a)
		} else if err := s.DropAuthorization(a.ID); err != nil {
			return nil, err
		}
	}
	return live, nil
}

// enter lets a session start, unless the server is stopping. Each enter has a
// leave.
func (s *server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return false
	}
	s.sessions.Add(1)
	return true
}

func (s *server) leave() { s.sessions.Done() }

// awaitSessions lets no more sessions start and waits for those there are, whose
// life must have ended.
func (s *server) awaitSessions() {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	s.sessions.Wait()
}

func (s *server) hasSite(site id.Site) bool {
	for _, known := range s.config.Load().Account.Sites {
		if known.ID == site {
			return true
		}
	}
	return false
}

// stopTime is for requests that are being answered when the portal stops.
const stopTime = 2 * time.Second

// serve answers at sockets, one for each listener of c, until ctx ends or one
// of them fails. It is called once.
func (s *server) serve(ctx context.Context, c *config.Config, sockets []net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.life = ctx
	hub, stopHub := context.WithCancel(context.WithoutCancel(ctx))
	var g sync.WaitGroup
	g.Go(func() { s.hub.run(hub) })
	var servers []*http.Server
	for i, l := range c.Listeners {
		h := newServer(front{s, l}, s.log)
		servers = append(servers, h)
		g.Go(func() {
			if err := h.Serve(sockets[i]); !errors.Is(err, http.ErrServerClosed) {
				cancel(fmt.Errorf("listener %s: %w", l.Address, err))
			}
		})
	}
	<-ctx.Done()
	s.awaitSessions()
	stop, cancelStop := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancelStop()
	for _, h := range servers {
		if h.Shutdown(stop) != nil {
			h.Close()
		}
	}
	stopHub() // after the sessions, which tell it that they leave
	g.Wait()
	return context.Cause(ctx)
}
