//go:build linux

package trial

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"stile/build/lab/serve"
	"stile/tunnel/id"
	"stile/tunnel/wire"
)

// fakeOptions lead a program to the fake portal.
const fakeOptions = " --api-url wss://portal.test:8443 --ca-file /run/ca.pem"

// A fake is a portal that says what a test wants. Each connection is served by
// the next script; the last one serves all further ones.
type fake struct {
	t       *testing.T
	scripts []func(http.ResponseWriter, *http.Request)

	mu   sync.Mutex // guards next
	next int
}

func (m *machine) fake(scripts ...func(http.ResponseWriter, *http.Request)) {
	m.t.Helper()
	authority, err := serve.NewAuthority()
	must(m.t, err)
	config, err := authority.Config("portal.test")
	must(m.t, err)
	m.write("/run/ca.pem", string(authority.PEM()), 0o644)
	l, err := m.Listen("tcp", "127.0.0.1:8443")
	must(m.t, err)
	h := &http.Server{Handler: &fake{t: m.t, scripts: scripts}, ErrorLog: log.New(io.Discard, "", 0)}
	go h.Serve(tls.NewListener(l, config))
	m.t.Cleanup(func() { h.Close() })
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	script := f.scripts[min(f.next, len(f.scripts)-1)]
	f.next++
	f.mu.Unlock()
	script(w, r)
}

// bytesFor answers an upgrade with raw bytes and hangs up.
func bytesFor(raw string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, raw)
	}
}

// A peer is a client, gateway or relay, as a portal sees it.
type peer struct {
	*websocket.Conn
	ctx   context.Context
	topic string
	sends chan wire.Frame // what it sent, but for joins and heartbeats
	gone  chan struct{}   // closed when the socket has ended
}

// session accepts a WebSocket, lets the peer join, and has f speak to it. When
// f returns the socket is cut.
func session(t *testing.T, f func(p *peer)) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(wire.MaxFrame)
		topic, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		p := &peer{c, t.Context(), topic, make(chan wire.Frame, 1000), make(chan struct{})}
		joined := make(chan struct{})
		go p.read(joined)
		select {
		case <-joined:
			f(p)
		case <-time.After(patient):
		}
	}
}

// read answers joins and heartbeats until the socket ends.
func (p *peer) read(joined chan struct{}) {
	defer close(p.gone)
	for {
		_, text, err := p.Read(p.ctx)
		if err != nil {
			return
		}
		frame, err := wire.ParseFrame(text)
		if err != nil || frame.Ref == nil {
			continue
		}
		switch frame.Event {
		case wire.EventJoin:
			p.text(string(wire.AppendFrame(nil, wire.OK(frame.Topic, *frame.Ref))))
			close(joined)
		case wire.EventHeartbeat:
			p.text(string(wire.AppendFrame(nil, wire.OK(frame.Topic, *frame.Ref))))
		default:
			select {
			case p.sends <- frame:
			default:
			}
		}
	}
}

func (p *peer) text(s string) { p.Write(p.ctx, websocket.MessageText, []byte(s)) }

func (p *peer) say(m wire.Message) {
	payload, err := wire.AppendPayload(nil, m)
	if err != nil {
		panic(err) // a test's own message
	}
	p.push(m.Event(wire.V2), payload)
}

func (p *peer) push(event string, payload []byte) {
	p.text(string(wire.AppendFrame(nil, wire.Frame{Topic: p.topic, Event: event, Payload: payload})))
}

// stay keeps the session open to the end of the test.
func (p *peer) stay() { <-p.ctx.Done() }

// What a small world consists of.
var (
	wiki     = id.Resource{15: 1}
	network  = id.Resource{15: 2}
	aClient  = id.Client{15: 3}
	aGateway = id.Gateway{15: 4}
	aRelay   = id.Relay{15: 5}
	aSite    = wire.Site{ID: id.Site{15: 6}, Name: "Office"}
	key      = wire.Key{31: 7}
	ice      = wire.ICECredentials{Username: "abcd", Password: "abcdefghijklmnopqrstuv"}
	flowLogs = &wire.FlowLogs{APIURL: "https://portal.test"}
	relays   = []wire.Relay{{ID: aRelay, Addr: netip.MustParseAddrPort("127.0.0.1:3478"), Username: "9999999999:salt", Password: "secret", ExpiresAt: 9999999999}}
	overlay  = wire.Interface{
		IPv4: netip.MustParseAddr("100.64.0.2"), IPv6: netip.MustParseAddr("fd00:2021:1111::2"),
		UpstreamDo53: []netip.Addr{netip.MustParseAddr("127.0.0.53")}, SearchDomain: "corp.example",
	}
	resources = []wire.Resource{
		{ID: wiki, Type: wire.DNS, Name: "Wiki", Address: "wiki.corp.example", Sites: []wire.Site{aSite}, IPStack: wire.Dual, Filters: []wire.Filter{{Protocol: wire.TCP, First: 80, Last: 443}}},
		{ID: network, Type: wire.CIDR, Name: "Network", Address: "10.1.0.0/16", Sites: []wire.Site{aSite}},
	}
)

// toClients and toGateways are one message of each kind, all of them valid.
var (
	toClients = []wire.Message{
		wire.ClientInit{Interface: overlay, Resources: resources, Relays: relays, FlowLogs: flowLogs},
		wire.ResourceUpserted{Resource: resources[0]}, wire.ResourceDeleted{ID: network}, wire.ConfigChanged{Interface: overlay},
		wire.RelaysPresence{Disconnected: []id.Relay{aRelay}, Connected: relays},
		wire.AuthorizationCreated{
			Resource: wiki, Gateway: aGateway, GatewayKey: key, GatewayIPv4: netip.MustParseAddr("100.64.0.3"), GatewayIPv6: netip.MustParseAddr("fd00:2021:1111::3"),
			Site: aSite.ID, PresharedKey: key, ClientICE: ice, GatewayICE: ice, IngestToken: ingest("initiator"),
		},
		wire.AuthorizationFailed{Resource: wiki, Reason: wire.ReasonForbidden, Violated: []string{"remote_ip"}},
		wire.GatewayCandidates{Gateway: aGateway, Candidates: []string{"candidate:1 1 udp 1 127.0.0.1 52625 typ host"}},
		wire.GatewayCandidates{Gateway: aGateway, Candidates: []string{"candidate:1 1 udp 1 127.0.0.1 52625 typ host"}, Invalidate: true},
		wire.DeviceAccessDenied{IPv4: overlay.IPv4, Reason: wire.ReasonNotFound}, wire.PoolDomainFailed{Resource: wiki, Domain: "x", Reason: wire.ReasonNotFound},
	}
	toGateways = []wire.Message{
		wire.GatewayInit{IPv4: overlay.IPv4, IPv6: overlay.IPv6, Relays: relays, AccountSlug: "acme", Authorizations: []wire.Authorization{{Client: aClient, Resource: wiki, ExpiresAt: 9999999999}}, FlowLogs: flowLogs},
		authorization("1"), wire.RejectAccess{Client: aClient, Resource: network},
		wire.GatewayResourceUpdated{GatewayResource: wire.GatewayResource{ID: wiki, Type: wire.DNS, Name: "Wiki", Address: "wiki.corp.example", Filters: resources[0].Filters}},
		wire.PeerCandidates{Client: aClient, Candidates: []string{"candidate:1 1 udp 1 127.0.0.1 52625 typ host"}},
		wire.PeerCandidates{Client: aClient, Candidates: []string{"candidate:1 1 udp 1 127.0.0.1 52625 typ host"}, Invalidate: true},
		wire.RelaysPresence{Connected: relays},
	}
)

func authorization(ref string) wire.CreateAuthorization {
	return wire.CreateAuthorization{
		Ref: ref, Resource: wire.GatewayResource{ID: wiki, Type: wire.DNS, Name: "Wiki", Address: "wiki.corp.example"},
		Client: aClient, ClientKey: key, PresharedKey: key, ClientIPv4: netip.MustParseAddr("100.64.0.9"), ClientIPv6: netip.MustParseAddr("fd00:2021:1111::9"),
		ClientICE: ice, GatewayICE: ice, IngestToken: ingest("responder"),
	}
}

// ingest is a token as peers want to see one.
func ingest(role string) string {
	claims := `{"role":"` + role + `","iat":1,"exp":2,"uploads_enabled":false`
	for _, name := range []string{
		"account_id", "policy_authorization_id", "policy_id", "resource_id", "resource_name", "initiator_device_id",
		"responder_device_id", "initiator_actor_id", "initiator_actor_name", "authorized_at", "authorization_expires_at",
	} {
		claims += `,"` + name + `":"x"`
	}
	b64 := base64.RawURLEncoding.EncodeToString
	return b64([]byte(`{"alg":"HS256"}`)) + "." + b64([]byte(claims+"}")) + "." + b64([]byte("signature"))
}

// odd are values that stand where something else should.
var odd = []string{
	`null`, `true`, `0`, `-1`, `1.5`, `1e400`, `18446744073709551616`, `""`, `"x"`, `"\ud800"`, "\"\xff\"", `"` + strings.Repeat("a", 100_000) + `"`,
	`[]`, `[null]`, `[[]]`, `{}`, `{"a":{"a":{"a":null}}}`, `"0.0.0.0"`, `"::"`, `"0.0.0.0/0"`, `"255.255.255.255:0"`, `"00000000-0000-0000-0000-000000000000"`,
}

// damaged returns every way of putting something odd into a message, once for
// each place in it, and every way of leaving something out.
func damaged(m wire.Message) [][]byte {
	payload, err := wire.AppendPayload(nil, m)
	if err != nil {
		panic(err)
	}
	var tree any
	if err := json.Unmarshal(payload, &tree); err != nil {
		panic(err)
	}
	var list [][]byte
	vary(tree, func(text []byte) { list = append(list, text) })
	return append(list, append(payload, '}'), append(payload, payload...))
}

// vary calls f with each variant of tree.
func vary(tree any, f func([]byte)) {
	for _, o := range odd {
		f([]byte(o))
	}
	around := func(child any, put func(json.RawMessage)) {
		vary(child, func(text []byte) { put(json.RawMessage(text)) })
	}
	switch tree := tree.(type) {
	case map[string]any:
		for name, child := range tree {
			around(child, func(text json.RawMessage) { f(object(tree, name, text)) })
			f(object(tree, name, nil))
			f(object(tree, "unknown "+name, json.RawMessage(`{"a":[1]}`)))
		}
	case []any:
		for i, child := range tree {
			around(child, func(text json.RawMessage) {
				parts := make([]string, len(tree))
				for j := range tree {
					b, _ := json.Marshal(tree[j])
					if parts[j] = string(b); i == j {
						parts[j] = string(text)
					}
				}
				f([]byte("[" + strings.Join(parts, ",") + "]"))
			})
		}
	}
}

// object encodes tree with another value for one name; nil leaves it out.
func object(tree map[string]any, name string, value json.RawMessage) []byte {
	var parts []string
	add := func(n string, v []byte) {
		b, _ := json.Marshal(n)
		parts = append(parts, string(b)+":"+string(v))
	}
	for n, v := range tree {
		if n != name {
			b, _ := json.Marshal(v)
			add(n, b)
		}
	}
	if value != nil {
		add(name, value)
	}
	return []byte("{" + strings.Join(parts, ",") + "}")
}

// broken are frames after which a stream cannot be trusted any more.
var broken = []string{``, ` `, `{`, `{"topic":"client`}

// nonsense are frames that are none.
var nonsense = []string{
	`null`, `[]`, `0`, `"x"`, `}`, `{}`, `{"topic":1}`, "\x00\xff", `{"topic":"client","event":"init"}`, `{"topic":"client","event":"init","payload":null,"ref":"1"}`,
	`{"topic":"client","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":99999}`, `{"topic":"phoenix","event":"phx_reply","payload":[],"ref":-1}`,
	`{"topic":"","event":"","payload":{},"ref":null}`, `{"event":"disconnect","payload":{"reason":"moon phase"}}`, `{"event":"disconnect","payload":7}`,
	strings.Repeat("[", 100_000), strings.Repeat(`{"a":`, 100_000), `{"topic":"client","event":"init","payload":` + strings.Repeat("[", 5_000) + strings.Repeat("]", 5_000) + `}`,
	`{"topic":"client","topic":"gateway","event":"init","event":"x","payload":{},"payload":[]}`,
}
