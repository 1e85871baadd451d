package dial

import (
	"context"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"stile/tunnel/core"
	"stile/tunnel/wire"
)

// Section 1.1, then what we add.
func TestURL(t *testing.T) {
	for _, row := range []struct {
		url  string
		kind Kind
		want string // "": refused
	}{
		{"wss://api.example.net", Client, "wss://api.example.net:443/client/v2/websocket"},
		{"https://api.example.net/", Gateway, "wss://api.example.net:443/gateway/v2/websocket"},
		{"ws://api.example.net:8080", Relay, "ws://api.example.net:8080/relay/websocket"},
		{"http://api.example.net", Relay, "ws://api.example.net:443/relay/websocket"},
		{"wss://api.example.net:9443/prefix/?x=1#y", Client, "wss://api.example.net:9443/prefix/client/v2/websocket"},
		{"api.example.net", Client, "wss://api.example.net:443/client/v2/websocket"},
		{"api.example.net:9443", Client, "wss://api.example.net:9443/client/v2/websocket"},
		{"wss://[2001:db8::7]", Client, "wss://[2001:db8::7]:443/client/v2/websocket"},
		{"ftp://api.example.net", Client, ""},
		{"wss://", Client, ""},
		{"", Client, ""},
		{"wss://user:pass@api.example.net", Client, ""},
		{"wss://api.example.net:port", Client, ""},
		{"wss://api.example.net:0", Client, ""},
		{"wss://api.example.net:65536", Client, ""},
		{"x:y:z", Client, ""},
		{"wss://[::1", Client, ""},
	} {
		c := Config{URL: row.url, Kind: row.kind, AllowPlain: true}
		e, err := c.parseURL()
		if (err == nil) != (row.want != "") || err == nil && e.url.String() != row.want {
			t.Errorf("%q: %v, %v; want %q", row.url, e.url, err, row.want)
		}
		if err != nil && !strings.Contains(err.Error(), "like wss://portal.example.com") {
			t.Errorf("%q: %v, which does not say what to write", row.url, err)
		}
	}
	for _, u := range []string{"ws://api.example.net", "http://api.example.net:8080"} {
		if _, err := New(Config{URL: u}); !errors.Is(err, ErrPlain) {
			t.Errorf("%s: %v, want ErrPlain", u, err)
		}
	}
}

func TestRequest(t *testing.T) {
	p := newPortal(t, httptest.NewTLSServer)
	c := p.config(Client)
	c.ExternalID, c.Name, c.UserAgent = "9f0c", "alice's laptop", "Ubuntu/24.4.0 headless-client/1.5.11 (x86_64) stile/0.1.0"
	c.Token = " .secret\nfragment "
	c.Params = url.Values{"device_uuid": {"4c4c"}, "device_serial": {"PF3X"}}
	ch := mustNew(t, c)
	p.script(func(s *server) {
		s.join()
		r := s.request
		if got, want := r.URL.String(), "/client/v2/websocket?external_id=9f0c&name=alice%27s+laptop&device_serial=PF3X&device_uuid=4c4c&public_key=AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA%3D"; got != want {
			t.Errorf("URL\ngot  %s\nwant %s", got, want)
		}
		if r.Host != "example.com" {
			t.Errorf("Host is %q", r.Host)
		}
		if got := r.Header.Get("X-Authorization"); got != "Bearer .secretfragment" {
			t.Errorf("X-Authorization is %q", got)
		}
		if got := r.Header.Get("User-Agent"); got != c.UserAgent {
			t.Errorf("User-Agent is %q", got)
		}
		for name := range r.Header {
			switch name {
			case "Connection", "Upgrade", "Sec-Websocket-Version", "Sec-Websocket-Key", "User-Agent", "X-Authorization":
			default:
				t.Errorf("superfluous header %s", name)
			}
		}
	})
	p.run(ch, key(1), func(e core.PortalEvent) bool { return e.Up })
}

func TestMessagesBothWaysAndReconnect(t *testing.T) {
	p := newPortal(t, httptest.NewTLSServer)
	ch := mustNew(t, p.config(Gateway))
	p.script(func(s *server) {
		s.join()
		s.push(`{"topic":"gateway","event":"reject_access","ref":null,"payload":{"client_id":"11111111-1111-4111-8111-111111111111","resource_id":"5d1f0a3e-6f0b-4c57-9c8e-0a4d1f6b2c11"}}`)
		s.push(`{"topic":"gateway","event":"shiny","ref":null,"payload":{}}`)
		s.want(`{"topic":"gateway","event":"authorization_created","payload":{"ref":"r"},"ref":2}`)
		s.wantClose(websocket.StatusNormalClosure)
		if got := s.request.URL.Query().Get("public_key"); got != key(1).String() {
			t.Errorf("first public key %s", got)
		}
	}, func(s *server) {
		s.join()
		if got := s.request.URL.Query().Get("public_key"); got != key(2).String() {
			t.Errorf("second public key %s", got)
		}
		s.wantClose(websocket.StatusNormalClosure)
	})
	var seen []string
	p.run(ch, key(1), func(e core.PortalEvent) bool {
		switch {
		case e.Up:
			seen = append(seen, "up")
		case e.Down:
			seen = append(seen, "down")
		default:
			seen = append(seen, e.Message.Event(wire.V2))
			ch.Send(wire.AuthorizationAccepted{Ref: "r"})
			ch.Send(wire.NoRelays{})
			ch.Reconnect(key(2))
			ch.Send(wire.NoRelays{})
		}
		return len(seen) == 4
	})
	if got := strings.Join(seen, " "); got != "up reject_access down up" {
		t.Errorf("got %s", got)
	}
}

func TestAnotherTokenFromTheNextConnectionOn(t *testing.T) {
	p := newPortal(t, httptest.NewTLSServer)
	c := p.config(Client)
	c.Token = "first"
	ch := mustNew(t, c)
	with := func(token string) func(*server) {
		return func(s *server) {
			s.join()
			if got := s.request.Header.Get("X-Authorization"); got != "Bearer "+token {
				t.Errorf("X-Authorization is %q, want that of %q", got, token)
			}
			s.wantClose(websocket.StatusNormalClosure)
		}
	}
	p.script(with("first"), with("second"))
	ups := 0
	p.run(ch, key(1), func(e core.PortalEvent) bool {
		if e.Up {
			ups++
			ch.Renew(" second\n")
			if ups == 1 {
				ch.Reconnect(key(1))
			}
		}
		return ups == 2
	})
}

func TestRefusals(t *testing.T) {
	for _, row := range []struct {
		name, body, media string
		want              error
	}{
		{"invalid token", `{"type":"about:blank","title":"Unauthorized","status":401,"detail":"x","code":"invalid_token"}`, "application/problem+json", ErrTokenRejected},
		{"proxy", "who are you?", "text/plain", ErrUnauthorized},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := newPortal(t, httptest.NewTLSServer)
			p.refuse = func(w http.ResponseWriter) {
				w.Header().Set("Content-Type", row.media)
				w.WriteHeader(401)
				w.Write([]byte(row.body))
			}
			ch := mustNew(t, p.config(Client))
			err := ch.Run(t.Context(), key(1), func(core.PortalEvent) { t.Error("event") })
			if !errors.Is(err, row.want) {
				t.Errorf("got %v, want %v", err, row.want)
			}
		})
	}
}

func TestTokenExpires(t *testing.T) {
	p := newPortal(t, httptest.NewTLSServer)
	ch := mustNew(t, p.config(Client))
	p.script(func(s *server) {
		s.join()
		s.push(`{"topic":"client","event":"disconnect","payload":{"reason":"token_expired"},"ref":null}`)
		s.wantClose(websocket.StatusNormalClosure)
	})
	if err := ch.Run(t.Context(), key(1), func(core.PortalEvent) {}); !errors.Is(err, ErrTokenRejected) {
		t.Errorf("got %v", err)
	}
}

func TestRelayJoins(t *testing.T) {
	p := newPortal(t, httptest.NewServer)
	c := p.config(Relay)
	c.Join = wire.RelayJoin{StampSecret: strings.Repeat("ab", 32)}
	c.Params = url.Values{"ipv4": {"203.0.113.7"}, "port": {"3478"}}
	p.script(func(s *server) {
		s.want(`{"topic":"relay","event":"phx_join","payload":{"stamp_secret":"` + strings.Repeat("ab", 32) + `"},"ref":0}`)
		s.push(string(wire.AppendFrame(nil, wire.OK("relay", 0))))
		s.push(`{"topic":"relay","event":"init","payload":{},"ref":null}`)
		if got, want := s.request.URL.String(), "/relay/websocket?ipv4=203.0.113.7&port=3478"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		s.wantClose(websocket.StatusNormalClosure)
	})
	p.run(mustNew(t, c), wire.Key{}, func(e core.PortalEvent) bool { return e.Message == wire.RelayInit{} })
}

func TestFirstAddressThatAnswers(t *testing.T) {
	p := newPortal(t, httptest.NewTLSServer)
	c := p.config(Client)
	good := p.web.Listener.Addr().String()
	c.Lookup = func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::1")}, nil
	}
	c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		switch {
		case strings.HasPrefix(addr, "192.0.2.1:"): // a black hole
			<-ctx.Done()
			return nil, ctx.Err()
		case strings.HasPrefix(addr, "192.0.2.2:"):
			return nil, errors.New("no route to host")
		}
		return (&net.Dialer{}).DialContext(ctx, network, good)
	}
	p.script(func(s *server) { s.join() })
	start := time.Now()
	p.run(mustNew(t, c), key(1), func(e core.PortalEvent) bool { return e.Up })
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestTrust(t *testing.T) {
	p := newPortal(t, httptest.NewTLSServer)
	c := p.config(Client)
	c.CAFile = ""
	ch := mustNew(t, c)
	_, failed := ch.connect(t.Context(), key(1))
	if failed == nil || failed.Fatal || !strings.Contains(failed.Err.Error(), "--ca-file") || strings.Contains(failed.Err.Error(), "public_key") {
		t.Errorf("unknown CA: %+v", failed)
	}
	empty := filepath.Join(t.TempDir(), "empty.pem")
	os.WriteFile(empty, []byte("nothing"), 0o600)
	for _, file := range []string{empty, empty + ".missing"} {
		if _, err := New(Config{URL: "api.example.net", CAFile: file}); err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "leave --ca-file out") {
			t.Errorf("CA file %s: %v", file, err)
		}
	}
}

func TestOversizedMessageCostsTheConnection(t *testing.T) {
	p := newPortal(t, httptest.NewTLSServer)
	p.script(func(s *server) {
		s.join()
		s.push(`{"topic":"client","event":"resource_deleted","payload":"` + strings.Repeat("a", wire.MaxFrame) + `"}`)
		s.wantClose(websocket.StatusMessageTooBig)
	}, func(s *server) { s.join() })
	ups := 0
	p.run(mustNew(t, p.config(Client)), key(1), func(e core.PortalEvent) bool {
		if e.Up {
			ups++
		}
		return ups == 2
	})
}

// A portal is a scripted server: one script for each connection.
type portal struct {
	t       *testing.T
	web     *httptest.Server
	scripts chan func(*server)
	refuse  func(http.ResponseWriter)
}

func newPortal(t *testing.T, start func(http.Handler) *httptest.Server) *portal {
	p := &portal{t: t, scripts: make(chan func(*server), 10)}
	p.web = start(p)
	t.Cleanup(p.web.Close)
	return p
}

func (p *portal) script(scripts ...func(*server)) {
	for _, s := range scripts {
		p.scripts <- s
	}
}

func (p *portal) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.refuse != nil {
		p.refuse(w)
		return
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		p.t.Error(err)
		return
	}
	defer conn.CloseNow()
	select {
	case script := <-p.scripts:
		script(&server{p.t, r, conn})
		for err == nil {
			_, _, err = conn.Read(context.Background())
		}
	default:
		p.t.Error("one connection too many")
	}
}

// config reaches p under a name that its certificate has.
func (p *portal) config(k Kind) Config {
	c := Config{Kind: k, Token: "t", Now: time.Now, AllowPlain: true}
	_, port, _ := net.SplitHostPort(p.web.Listener.Addr().String())
	c.URL = "ws://example.com:" + port
	c.Lookup = func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}
	if p.web.TLS != nil {
		c.URL = "wss://example.com:" + port
		c.CAFile = filepath.Join(p.t.TempDir(), "ca.pem")
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.web.Certificate().Raw})
		if err := os.WriteFile(c.CAFile, text, 0o600); err != nil {
			p.t.Fatal(err)
		}
	}
	return c
}

// run runs ch until an event satisfies done.
func (p *portal) run(ch *Channel, k wire.Key, done func(core.PortalEvent) bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	finished := false
	err := ch.Run(ctx, k, func(e core.PortalEvent) {
		if !finished && done(e) {
			finished = true
			cancel()
		}
	})
	if !finished || !errors.Is(err, context.Canceled) {
		p.t.Errorf("Run: %v, before what was waited for", err)
	}
}

// A server is the portal's end of one connection.
type server struct {
	t       *testing.T
	request *http.Request
	conn    *websocket.Conn
}

func (s *server) push(frame string) {
	if err := s.conn.Write(context.Background(), websocket.MessageText, []byte(frame)); err != nil {
		s.t.Log("push:", err)
	}
}

func (s *server) want(frame string) {
	s.t.Helper()
	kind, got, err := s.conn.Read(context.Background())
	if err != nil || kind != websocket.MessageText || string(got) != frame {
		s.t.Errorf("got  %s, %v\nwant %s", got, err, frame)
	}
}

func (s *server) wantClose(code websocket.StatusCode) {
	s.t.Helper()
	for {
		if _, got, err := s.conn.Read(context.Background()); err != nil {
			if websocket.CloseStatus(err) != code {
				s.t.Errorf("ended with %v, want close code %d", err, code)
			}
			return
		} else if !strings.Contains(string(got), "no_relays") {
			s.t.Errorf("unexpected %s", got)
		}
	}
}

// join answers the join and reads the capabilities.
func (s *server) join() {
	s.t.Helper()
	topic := strings.Split(s.request.URL.Path, "/")[1]
	s.want(`{"topic":"` + topic + `","event":"phx_join","payload":null,"ref":0}`)
	s.push(string(wire.AppendFrame(nil, wire.OK(topic, 0))))
	s.want(`{"topic":"` + topic + `","event":"set_snownet_capabilities","payload":{"iceless":false},"ref":1}`)
}

func mustNew(t *testing.T, c Config) *Channel {
	t.Helper()
	ch, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

func key(n byte) wire.Key { return wire.Key{n} }
