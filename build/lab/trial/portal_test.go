//go:build linux

package trial

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"stile/tunnel/id"
	"stile/tunnel/wire"
)

// init makes a configuration with a certificate of its own, for
// https://portal.test:8443.
func (m *machine) init() { m.initAt("https://portal.test:8443") }

func (m *machine) initAt(url string) {
	m.t.Helper()
	got := m.run(typed("stile-server portal init --self-signed --email alice@example.com --url " + url).reading("long enough"))
	if got.status != 0 {
		m.t.Fatalf("init: status %d: %s", got.status, got.err)
	}
}

// portal makes a configuration and runs a portal on it.
func (m *machine) portal() *process {
	m.t.Helper()
	m.init()
	p := m.start(typed("stile-server portal run"))
	p.says("listening")
	return p
}

// giveAwayPortal makes the portal's files an ordinary user's.
func (m *machine) giveAwayPortal() {
	m.t.Helper()
	for _, dir := range []string{"/etc/stile", "/var/lib/stile"} {
		must(m.t, m.Do(func() error {
			return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
				if err != nil {
					return err
				}
				return os.Chown(path, nobody, nobody)
			})
		}))
	}
	must(m.t, m.Do(func() error { return os.MkdirAll("/run/stile", 0o755) }))
	must(m.t, m.Do(func() error { return os.Chown("/run/stile", nobody, nobody) }))
}

// TestGarbageToThePortal has strangers and peers say what they must not say.
// The portal lives, stays small, and serves whoever behaves.
func TestGarbageToThePortal(t *testing.T) {
	m := newMachine(t)
	portal := m.portal()
	tokens := map[string]string{
		"client": m.token("--client alice@example.com"), "gateway": m.token("--gateway Office"), "relay": m.token("--relay"),
	}
	trust := x509.NewCertPool()
	trust.AppendCertsFromPEM([]byte(m.read("/etc/stile/ca.pem")))
	web := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return m.Dial(ctx, network, "127.0.0.1:8443")
		},
		TLSClientConfig: &tls.Config{RootCAs: trust}, MaxConnsPerHost: 50,
	}, Timeout: patient}
	before := portal.megabytes()

	var g sync.WaitGroup
	for i := range 200 { // bytes that are not TLS, or not HTTP; half of them hold the line
		g.Go(func() {
			c, err := m.Dial(t.Context(), "tcp", "127.0.0.1:8443")
			if err != nil {
				t.Error(err)
				return
			}
			if i%2 == 0 {
				defer c.Close()
			} else {
				t.Cleanup(func() { c.Close() })
			}
			if i%4 > 1 {
				c = tls.Client(c, &tls.Config{RootCAs: trust, ServerName: "portal.test"})
			}
			c.SetDeadline(time.Now().Add(patient))
			c.Write(garbage(rand.New(rand.NewPCG(4, uint64(i)))))
		})
	}
	for _, r := range []struct{ method, path, body string }{
		{"GET", "/client/v2/websocket", ""}, {"POST", "/client/v2/websocket", "x"}, {"GET", "/gateway/v2/websocket?token=a", ""},
		{"GET", "/%00%ff", ""}, {"GET", "/../../../etc/passwd", ""}, {"GET", "/" + strings.Repeat("a", 100_000), ""}, {"BREW", "/main", ""},
		{"GET", "/main?as=client&nonce=" + strings.Repeat("n", 10_000), ""}, {"GET", "/main?as=%ff&state=%00", ""}, {"POST", "/main/sign-in", strings.Repeat("a=b&", 1_000_000)},
		{"POST", "/main", "email=alice&password=" + strings.Repeat("p", 100_000)}, {"PUT", "/main", "{"},
	} {
		g.Go(func() {
			q, err := http.NewRequest(r.method, "https://portal.test:8443"+r.path, strings.NewReader(r.body))
			if err != nil {
				t.Error(err)
				return
			}
			a, err := web.Do(q)
			if err != nil {
				return // the portal may hang up
			}
			io.Copy(io.Discard, a.Body)
			a.Body.Close()
			if a.StatusCode < 400 && r.method != "GET" || a.StatusCode >= 500 && a.StatusCode != 503 {
				t.Errorf("%s %.40s: status %d", r.method, r.path, a.StatusCode)
			}
		})
	}
	for _, kind := range []string{"client", "gateway", "relay"} {
		g.Go(func() { m.storm(t, web, kind, tokens[kind]) })
	}
	g.Wait()

	portal.lives()
	gateway := m.start(typed("stile-server gateway" + realOptions).with("STILE_TOKEN=" + tokens["gateway"]))
	gateway.says("the gateway stands")
	relay := m.start(typed("stile-server relay --public-ip4-addr 127.0.0.1" + realOptions).with("STILE_TOKEN=" + tokens["relay"]))
	relay.says("registered with the portal")
	after := portal.megabytes()
	t.Logf("%d MB before, %d MB after", before, after)
	if after > before+growth {
		t.Errorf("%d MB before, %d MB after", before, after)
	}
	if got := portal.stop(syscall.SIGTERM); got.status != 0 || strings.Contains(got.err, "panic") {
		t.Errorf("status %d", got.status)
	}
}

// fromPeers are one message of each kind that peers send, all of them valid.
var fromPeers = map[string][]wire.Message{
	"client": {
		wire.SetCapabilities{}, wire.RequestAuthorization{Resource: wiki, ConnectedGateways: []id.Gateway{aGateway}}, wire.NoRelays{},
		wire.ClientCandidates{Gateways: []id.Gateway{aGateway}, Candidates: []string{"candidate:1 1 udp 1 127.0.0.1 52625 typ host"}},
		wire.ResolvePoolDomain{Resource: wiki, Domain: "x"},
	},
	"gateway": {
		wire.SetCapabilities{}, wire.AuthorizationAccepted{Ref: "x"}, wire.NoRelays{},
		wire.BroadcastCandidates{Clients: []id.Client{aClient}, Candidates: []string{"candidate:1 1 udp 1 127.0.0.1 52625 typ host"}},
	},
	"relay": {wire.RelayJoin{StampSecret: strings.Repeat("ab", 32)}},
}

// storm connects as a peer with a good token, again and again, and says all
// that peers must not say.
func (m *machine) storm(t *testing.T, web *http.Client, kind, token string) {
	path := "/" + kind + "/v2/websocket?external_id=a&name=b&public_key=" + url.QueryEscape(key.String())
	if kind == "relay" {
		path = "/relay/websocket?ipv4=127.0.0.1"
	}
	frames := append(slices.Clone(broken), nonsense...)
	for _, message := range fromPeers[kind] {
		for _, payload := range damaged(message) {
			frames = append(frames, string(wire.AppendFrame(nil, wire.Frame{Topic: kind, Event: message.Event(wire.V2), Payload: payload, Ref: new(uint64)})))
		}
	}
	frames = append(frames, `{"topic":"`+kind+`","event":"x","payload":"`+strings.Repeat("a", wire.MaxFrame)+`","ref":1}`)
	join := string(wire.AppendFrame(nil, wire.Frame{Topic: kind, Event: wire.EventJoin, Payload: json.RawMessage(`{"stamp_secret":"` + strings.Repeat("ab", 32) + `"}`), Ref: new(uint64)}))
	t.Logf("%s: %d frames", kind, len(frames))
	for connections := 0; len(frames) > 0; connections++ {
		ctx, cancel := context.WithTimeout(t.Context(), patient)
		c, _, err := websocket.Dial(ctx, "wss://portal.test:8443"+path, &websocket.DialOptions{HTTPClient: web, HTTPHeader: http.Header{
			"X-Authorization": {"Bearer " + token}, "User-Agent": {"Debian/12 " + map[string]string{"client": wire.HeadlessClient, "gateway": wire.Gateway, "relay": wire.RelayComponent}[kind] + " (x86_64)"},
		}})
		if err != nil { // connections of one token are slowed down
			cancel()
			if connections > 60 {
				t.Errorf("%s: %d frames are left: %v", kind, len(frames), err)
				return
			}
			<-time.After(500 * time.Millisecond)
			continue
		}
		c.SetReadLimit(-1)
		go func() {
			for err == nil {
				_, _, err = c.Read(ctx)
			}
			cancel()
		}()
		if connections%3 > 0 {
			c.Write(ctx, websocket.MessageText, []byte(join))
		}
		for n := 0; n < 90 && ctx.Err() == nil && len(frames) > 0; n++ { // a peer that says more nonsense than this is cut off
			c.Write(ctx, websocket.MessageText, []byte(frames[0]))
			frames = frames[1:]
		}
		c.Close(websocket.StatusNormalClosure, "")
		cancel()
	}
}
