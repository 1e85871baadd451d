package serve

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"stile/tunnel/id"
	"stile/tunnel/portal"
	"stile/tunnel/wire"
)

// A pipes is a network without sockets, for virtual time.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p pipes) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	p <- far
	return near, nil
}

var v4, v6 = netip.MustParseAddr("100.64.0.9"), netip.MustParseAddr("fd00:2021:1111::9")

type noLedger struct{}

func (noLedger) SaveAuthorization(portal.Authorization) error   { return nil }
func (noLedger) DropAuthorization(portal.AuthorizationID) error { return nil }

// inBubble runs f with a peer of one kind that is connected, and reports on
// ended why its session was over.
func inBubble(t *testing.T, kind portal.Kind, f func(p *peer, ended chan error)) {
	synctest.Test(t, func(t *testing.T) {
		role, err := portal.New(portal.Config{
			Account: testAccount(id.Account{1}), Zones: time.LoadLocation, IngestKey: bytes.Repeat([]byte{1}, 32),
			Seed: rand.New(rand.NewPCG(1, 1)), Random: bytes.NewReader(make([]byte, 1<<16)),
		}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		log := slog.New(slog.DiscardHandler)
		h := newHub(role, noLedger{}, log)
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan struct{})
		go func() { h.run(ctx); close(stopped) }()

		network, ended := make(pipes), make(chan error, 1)
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			socket, err := websocket.Accept(w, r, nil)
			if err != nil {
				t.Error(err)
				return
			}
			s := &session{kind: kind, version: wire.V2, conn: 1, hub: h, log: log, socket: socket, queue: make(chan outgoing, maxQueue)}
			s.admit = func(_ wire.Message, now time.Time) {
				switch kind {
				case portal.ClientKind:
					role.JoinClient(1, portal.Client{ID: id.Client{1}, IPv4: v4, IPv6: v6, TokenExpires: time.Now().Add(10 * time.Minute).Unix()}, now)
				case portal.GatewayKind:
					role.JoinGateway(1, portal.Gateway{ID: id.Gateway{1}, Site: berlin, IPv4: v4, IPv6: v6}, now)
				case portal.RelayKind:
					role.JoinRelay(1, portal.Relay{StampSecret: "x"}, now)
				}
			}
			ended <- s.run(ctx)
		})}
		served := make(chan struct{})
		go func() { server.Serve(network); close(served) }()

		client := &http.Client{Transport: &http.Transport{DialContext: network.dial}}
		conn, _, err := websocket.Dial(t.Context(), "http://portal/", &websocket.DialOptions{HTTPClient: client})
		if err != nil {
			t.Fatal(err)
		}
		f(&peer{t: t, topic: string(kind), conn: conn}, ended)
		conn.CloseNow()
		cancel()
		<-stopped
		server.Close()
		<-served
	})
}

// Spec portal.md 2.4: a peer may be silent for so long, and no longer.
func TestIdleLimits(t *testing.T) {
	for kind, limit := range map[portal.Kind]time.Duration{
		portal.ClientKind: 37 * time.Second, portal.GatewayKind: 37 * time.Second, portal.RelayKind: 41 * time.Second,
	} {
		inBubble(t, kind, func(p *peer, ended chan error) {
			p.join()
			for range 5 { // the 2025-04 generation sends one after 30 s of silence
				time.Sleep(30 * time.Second)
				p.raw(`{"topic":"phoenix","event":"heartbeat","payload":{},"ref":9}`)
				p.hears("phx_reply")
			}
			silent := time.Now()
			go p.readWithin(time.Hour) // as peers do, so that the portal can say goodbye
			err := <-ended
			if got := time.Since(silent); got != limit {
				t.Errorf("%s was cut off after %v, want %v (%v)", kind, got, limit, err)
			}
		})
	}
}

func TestJoinLimit(t *testing.T) {
	inBubble(t, portal.ClientKind, func(p *peer, ended chan error) {
		start := time.Now()
		for range 3 { // heartbeats are no substitute for a join
			time.Sleep(joinTime / 4)
			p.raw(`{"topic":"phoenix","event":"heartbeat","payload":{},"ref":9}`)
			p.hears("phx_reply")
		}
		go p.readWithin(time.Hour)
		<-ended
		if got := time.Since(start); got != joinTime {
			t.Errorf("a peer that does not join was cut off after %v", got)
		}
	})
}

// The timers of the role run without any traffic.
func TestTokenExpiryNeedsNoTraffic(t *testing.T) {
	inBubble(t, portal.ClientKind, func(p *peer, ended chan error) {
		start := time.Now()
		p.join()
		go func() {
			for {
				select {
				case <-p.t.Context().Done():
					return
				case <-time.After(30 * time.Second):
					if p.conn.Write(context.Background(), websocket.MessageText, []byte(`{"topic":"phoenix","event":"heartbeat","payload":{},"ref":9}`)) != nil {
						return
					}
				}
			}
		}()
		for {
			f, err := p.readWithin(time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			if f.Event == "disconnect" {
				break
			}
		}
		if got := time.Since(start).Round(time.Second); got != 10*time.Minute {
			t.Errorf("signed out after %v", got)
		}
		go p.readWithin(time.Hour)
		<-ended
	})
}
