package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"

	"stile/tunnel/id"
	"stile/tunnel/portal"
	"stile/tunnel/portal/config"
	"stile/tunnel/portal/store"
	"stile/tunnel/wire"
)

var (
	berlin = id.Site{0xb1}
	staff  = id.Group{0x61}
	wiki   = id.Resource{0x11}
	lab    = id.Resource{0x12}
)

func testAccount(account id.Account) portal.Account {
	return portal.Account{
		ID: account, Name: "Acme & Sons", Slug: "acme", APIURL: "https://portal.example.net",
		Sites:  []wire.Site{{ID: berlin, Name: "Berlin"}},
		Groups: []portal.Group{{ID: staff, Name: "staff", Emails: []string{"alice@example.com"}}},
		Resources: []portal.Resource{
			{ID: wiki, Type: portal.DNS, Name: "Wiki", Address: "wiki.corp.example", Site: berlin},
			{ID: lab, Type: portal.CIDR, Name: "Lab", Address: "10.20.0.0/16", Site: berlin},
		},
		Policies: []portal.Policy{{ID: id.Policy{1}, Group: staff, Resource: wiki}, {ID: id.Policy{2}, Group: staff, Resource: lab}},
	}
}

var loopbacks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// A running is a portal that answers on loopback, and what it logged.
type running struct {
	*server
	t     *testing.T
	urls  []string // of the listeners
	alice store.User
	logs  *safeBuffer
	stop  func() error // once; also at the end of the test
}

const password = "correct horse battery staple"

// start runs a portal with one plain loopback listener, and those in more.
func start(t *testing.T, more ...config.Listener) *running {
	t.Helper()
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	alice, err := st.AddUser("alice@example.com", "Alice Doe", password)
	if err != nil {
		t.Fatal(err)
	}
	r := startOn(t, st, more...)
	r.alice = alice
	return r
}

func startOn(t *testing.T, st *store.Store, more ...config.Listener) *running {
	t.Helper()
	account, err := st.Account()
	if err != nil {
		t.Fatal(err)
	}
	c := &config.Config{
		Account: testAccount(account.ID), ExternalURL: "http://portal.example.net", ClientSession: time.Hour,
		Listeners: append([]config.Listener{{Address: "127.0.0.1:0"}}, more...),
	}
	r := &running{t: t, logs: &safeBuffer{}}
	log := slog.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if r.server, err = newPortal(c, st, log); err != nil {
		t.Fatal(err)
	}
	r.pace = rate.Inf // but in the test of it
	certs, err := loadCertificates(c.Listeners)
	if err != nil {
		t.Fatal(err)
	}
	sockets, err := listen(t.Context(), c.Listeners, certs)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sockets {
		r.urls = append(r.urls, "http://"+s.Addr().String())
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.serve(ctx, c, sockets) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		err := <-ended
		st.Close()
		return err
	})
	t.Cleanup(func() {
		r.stop()
		if t.Failed() {
			t.Log(r.logs.String())
		}
	})
	return r
}

type safeBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// token makes a token of any kind.
func (r *running) token(kind store.Kind) string {
	r.t.Helper()
	tok := store.Token{Kind: kind}
	switch kind {
	case store.ClientToken:
		tok.Actor = r.alice.ID
	case store.GatewayToken:
		tok.Site = berlin
	}
	_, secret, err := r.store.NewToken(tok, "")
	if err != nil {
		r.t.Fatal(err)
	}
	return secret
}

// A peer is a scripted client, gateway or relay.
type peer struct {
	t     *testing.T
	topic string
	conn  *websocket.Conn
	ref   uint64
}

// A hail is how a peer connects.
type hail struct {
	path, token, agent string
	inQuery            bool // the token, as old releases do
	params             url.Values
}

func key(b byte) string { return wire.Key{b}.String() }

func asClient(token string) hail {
	return hail{path: "/client/v2/websocket", token: token, agent: "Debian/12.0.0 headless-client/1.5.11 (x86_64)",
		params: url.Values{"external_id": {"laptop"}, "name": {"Alice's laptop"}, "public_key": {key(1)}}}
}

func asGateway(token string) hail {
	return hail{path: "/gateway/v2/websocket", token: token, agent: "Debian/12.0.0 gateway/1.6.0 (x86_64)",
		params: url.Values{"external_id": {"gw"}, "name": {"gw"}, "public_key": {key(2)}}}
}

func asRelay(token string) hail {
	return hail{path: "/relay/websocket", token: token, agent: "relay/0.1.0",
		params: url.Values{"ipv4": {"203.0.113.7"}, "ipv6": {"2001:db8::7"}, "port": {"3478"}}}
}

// old makes a peer of the generation of April 2025.
func (h hail) old() hail {
	h.path, h.agent, h.inQuery = map[string]string{
		"/client/v2/websocket": "/client/websocket", "/gateway/v2/websocket": "/gateway/websocket",
	}[h.path], "Debian/12.0.0 connlib/1.4.7 (x86_64; 6.1.0)", true
	return h
}

func (h hail) dial(base string) (*websocket.Conn, *http.Response, error) {
	query, header := url.Values{}, http.Header{}
	for name, values := range h.params {
		query[name] = values
	}
	if h.agent != "" {
		header.Set("User-Agent", h.agent)
	}
	if h.inQuery {
		query.Set("token", h.token)
	} else if h.token != "" {
		header.Set("X-Authorization", "Bearer "+h.token)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, res, err := websocket.Dial(ctx, base+h.path+"?"+query.Encode(), &websocket.DialOptions{HTTPHeader: header})
	if err == nil {
		conn.SetReadLimit(wire.MaxFrame)
	}
	return conn, res, err
}

func (r *running) dial(h hail) *peer {
	r.t.Helper()
	conn, res, err := h.dial(r.urls[0])
	if err != nil {
		body := ""
		if res != nil {
			b, _ := io.ReadAll(res.Body)
			body = string(b)
		}
		r.t.Fatalf("dial %s: %v %s", h.path, err, body)
	}
	r.t.Cleanup(func() { conn.CloseNow() })
	topic := map[byte]string{'c': "client", 'g': "gateway", 'r': "relay"}[h.path[1]]
	return &peer{t: r.t, topic: topic, conn: conn}
}

// say sends an event and returns its ref.
func (p *peer) say(event string, payload string) uint64 {
	p.t.Helper()
	p.ref++
	p.raw(fmt.Sprintf(`{"topic":%q,"event":%q,"payload":%s,"ref":%d}`, p.topic, event, payload, p.ref))
	return p.ref
}

func (p *peer) raw(frame string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := p.conn.Write(ctx, websocket.MessageText, []byte(frame)); err != nil {
		p.t.Fatalf("%s writes: %v", p.topic, err)
	}
}

func (p *peer) read() (f wire.Frame, err error) { return p.readWithin(10 * time.Second) }

func (p *peer) readWithin(patience time.Duration) (f wire.Frame, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, b, err := p.conn.Read(ctx)
	if err != nil {
		return f, err
	}
	return wire.ParseFrame(b)
}

// hears reads the next frame, which must be event, and returns its payload.
func (p *peer) hears(event string) map[string]any {
	p.t.Helper()
	f, err := p.read()
	if err != nil {
		p.t.Fatalf("%s waits for %s: %v", p.topic, event, err)
	}
	if f.Event != event || f.Topic != p.topic && f.Topic != "phoenix" {
		p.t.Fatalf("%s heard %s %s, want %s", p.topic, f.Event, f.Payload, event)
	}
	var payload map[string]any
	json.Unmarshal(f.Payload, &payload)
	return payload
}

// closed reads until the portal closes the connection; nothing may come first.
func (p *peer) closed() {
	p.t.Helper()
	if f, err := p.read(); err == nil {
		p.t.Fatalf("%s heard %s %s, want the end", p.topic, f.Event, f.Payload)
	}
}

const stampSecret = "abababababababababababababababababababababababababababababababab"

// join joins, checks the confirmation byte for byte, and returns the init.
func (p *peer) join() map[string]any {
	p.t.Helper()
	payload := "null"
	if p.topic == "relay" {
		payload = `{"stamp_secret":"` + stampSecret + `"}`
	}
	ref := p.say("phx_join", payload)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, b, err := p.conn.Read(ctx)
	if err != nil {
		p.t.Fatalf("%s joins: %v", p.topic, err)
	}
	want := fmt.Sprintf(`{"topic":%q,"event":"phx_reply","payload":{"status":"ok","response":{}},"ref":%d}`, p.topic, ref)
	if string(b) != want {
		p.t.Fatalf("%s joins and hears\n%s, want\n%s", p.topic, b, want)
	}
	return p.hears("init")
}

// joined returns how many peers the role knows.
func (r *running) joined() (clients, gateways, relays int) {
	r.hub.ask(r.t.Context(), func(time.Time) {
		c, g, l := r.hub.role.Joined()
		clients, gateways, relays = len(c), len(g), len(l)
	})
	return clients, gateways, relays
}
