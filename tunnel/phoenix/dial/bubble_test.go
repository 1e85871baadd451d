package dial

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"stile/tunnel/core"
)

// In virtual time, over pipes: a portal that is silent before and after the
// join, one that is not there, one that asks for patience.
func TestTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pipes := pipeListener{make(chan net.Conn), make(chan struct{})}
		p := &portal{t: t, scripts: make(chan func(*server), 10)}
		web := &http.Server{Handler: p}
		go web.Serve(pipes)
		defer web.Close()

		c := Config{URL: "ws://portal.example", AllowPlain: true, Kind: Client, Token: "t", Now: time.Now}
		c.Lookup = func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
		}
		var dials []time.Duration
		start := time.Now()
		c.Dial = func(context.Context, string, string) (net.Conn, error) {
			if dials = append(dials, time.Since(start)); len(dials) == 1 {
				return nil, errors.New("connection refused")
			}
			client, server := net.Pipe()
			pipes.accept <- server
			return client, nil
		}
		p.script(
			func(s *server) { s.want(`{"topic":"client","event":"phx_join","payload":null,"ref":0}`) },
			func(s *server) { s.join() },
			func(s *server) { s.join() },
		)
		ctx, cancel := context.WithCancel(t.Context())
		var ups []time.Duration
		err := mustNew(t, c).Run(ctx, key(1), func(e core.PortalEvent) {
			if e.Up {
				if ups = append(ups, time.Since(start)); len(ups) == 2 {
					cancel()
				}
			}
		})
		if !errors.Is(err, context.Canceled) || len(ups) != 2 {
			t.Fatalf("%v after joins at %v", err, ups)
		}
		// Refused, a second; join unanswered for 5 s, a second; joined; the
		// fourth heartbeat 40 s later; up to 750 ms.
		if dials[1] != time.Second || dials[2] != 7*time.Second || ups[0] != 7*time.Second {
			t.Errorf("dials at %v, joins at %v", dials, ups)
		}
		if again := ups[1] - ups[0] - 40*time.Second; again < 250*time.Millisecond || again > 750*time.Millisecond {
			t.Errorf("reconnected %v after the fourth heartbeat", again)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pipes := pipeListener{make(chan net.Conn), make(chan struct{})}
		requests := 0
		web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if requests++; requests == 2 {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			w.Header().Set("Retry-After", "77")
			w.WriteHeader(http.StatusServiceUnavailable)
		})}
		go web.Serve(pipes)
		defer web.Close()
		c := Config{URL: "ws://192.0.2.1:8080", AllowPlain: true, Kind: Client, Now: time.Now}
		c.Dial = func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			pipes.accept <- server
			return client, nil
		}
		start := time.Now()
		err := mustNew(t, c).Run(t.Context(), key(1), func(core.PortalEvent) {})
		if took := time.Since(start); took != 77*time.Second || !errors.Is(err, ErrUnauthorized) {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// The portal stops reading: what Run returns within is bounded all the same.
func TestStuckPortalDoesNotHoldUsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer server.Close()
		c := Config{URL: "ws://192.0.2.1:8080", AllowPlain: true, Kind: Client, Now: time.Now}
		c.Dial = func(context.Context, string, string) (net.Conn, error) { return client, nil }
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		err := mustNew(t, c).Run(ctx, key(1), func(core.PortalEvent) {})
		if took := time.Since(start); took > 5*time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v after %v", err, took)
		}
	})
}

func TestTroubleIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Config{URL: "ws://192.0.2.1:8080", AllowPlain: true, Kind: Client, Now: time.Now}
		c.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no route to host") }
		ctx, cancel := context.WithCancel(t.Context())
		ch, done := mustNew(t, c), make(chan struct{})
		if err := ch.Trouble(); err != nil {
			t.Errorf("before the first attempt: %v", err)
		}
		go func() {
			defer close(done)
			ch.Run(ctx, key(1), func(core.PortalEvent) {})
		}()
		time.Sleep(time.Second)
		if err := ch.Trouble(); err == nil || !strings.Contains(err.Error(), "no route to host") {
			t.Errorf("after some: %v", err)
		}
		cancel()
		<-done
	})
}

type pipeListener struct {
	accept chan net.Conn
	closed chan struct{}
}

func (l pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l pipeListener) Close() error   { close(l.closed); return nil }
func (l pipeListener) Addr() net.Addr { return &net.TCPAddr{} }
