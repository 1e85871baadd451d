package serve

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"

	"stile/tunnel/portal"
	"stile/tunnel/portal/store"
	"stile/tunnel/wire"
)

// An endpoint is one WebSocket path.
type endpoint struct {
	kind    portal.Kind
	version wire.Version
}

// endpoints by path (spec portal.md 1.1).
var endpoints = map[string]endpoint{
	"/client/v2/websocket":  {portal.ClientKind, wire.V2},
	"/client/websocket":     {portal.ClientKind, wire.V1},
	"/gateway/v2/websocket": {portal.GatewayKind, wire.V2},
	"/gateway/websocket":    {portal.GatewayKind, wire.V1},
	"/relay/websocket":      {portal.RelayKind, wire.V2},
}

// maxToken is more than any token of ours has: a nonce of 128 characters and a
// fragment of 65.
const maxToken = 256

// A knock is one request to connect, checked step by step.
type knock struct {
	endpoint
	request *http.Request
	query   url.Values
	from    netip.Addr
	agent   portal.Agent
	token   store.Token
}

// connect authenticates a peer and serves its socket to the end. It returns
// when the peer has left.
func (s *server) connect(w http.ResponseWriter, r *http.Request, e endpoint, from netip.Addr) {
	if !s.enter() {
		unavailable.write(w)
		return
	}
	defer s.leave()
	k := &knock{endpoint: e, request: r, query: r.URL.Query(), from: from}
	admit, refused := s.check(k, time.Now())
	if refused != nil {
		s.log.Info("connection refused", "kind", e.kind, "from", from, "status", refused.status, "code", refused.code, "detail", refused.detail)
		refused.write(w)
		return
	}
	socket, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		s.log.Info("connection refused", "kind", e.kind, "from", from, "error", err)
		return
	}
	c := &session{
		kind: e.kind, version: e.version, conn: portal.Conn(s.conns.Add(1)), hub: s.hub, socket: socket,
		queue: make(chan outgoing, maxQueue),
	}
	if e.kind == portal.ClientKind {
		c.pace = rate.NewLimiter(s.pace, clientBurst)
	}
	c.log = s.log.With("kind", e.kind, "conn", c.conn)
	c.admit = func(join wire.Message, now time.Time) { admit(c.conn, join, now) }
	c.log.Info("connected", "from", from, "agent", r.UserAgent())
	err = c.run(s.life)
	c.log.Info("disconnected", "reason", reason(err))
}

// reason says why a session ended, in words for the log.
func reason(err error) string {
	switch status := websocket.CloseStatus(err); {
	case status != -1:
		return "closed by peer: " + status.String()
	case errors.Is(err, context.DeadlineExceeded):
		return "silent for too long"
	case err == nil:
		return "closed"
	}
	return err.Error()
}

// An admit tells the role of a join; it runs on the hub's goroutine.
type admit func(conn portal.Conn, join wire.Message, now time.Time)

// check decides about a knock in the order of spec portal.md 1.6.
func (s *server) check(k *knock, now time.Time) (admit, *problem) {
	secret := tokenOf(k.request)
	if secret == "" {
		return nil, &missingToken
	}
	if len(secret) > maxToken {
		return nil, &invalidToken // and not a key of the throttle, which remembers keys
	}
	if wait, _ := s.connects.take(k.from.String()+" "+secret.Reveal(), now); wait > 0 {
		return nil, &tooOften
	}
	token, err := s.store.Authenticate(secret.Reveal())
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && string(token.Kind) != string(k.kind):
		return nil, &invalidToken
	case err != nil:
		s.log.Error("the store does not answer", "error", err)
		return nil, &unavailable
	}
	k.token = token
	k.agent, _ = portal.ParseUserAgent(k.request.UserAgent())
	switch k.kind {
	case portal.ClientKind:
		return s.checkClient(k)
	case portal.GatewayKind:
		return s.checkGateway(k)
	}
	return s.checkRelay(k)
}

func (s *server) checkClient(k *knock) (admit, *problem) {
	if k.agent.Component == "" {
		p := badParams("The User-Agent names no client.")
		return nil, &p
	}
	device, refused := k.device()
	if refused != nil {
		return nil, refused
	}
	user, err := s.store.User(k.token.Actor)
	if errors.Is(err, store.ErrNotFound) {
		return nil, &invalidToken
	}
	if err == nil {
		device, err = s.store.ConnectClient(user.ID, device)
	}
	if err != nil {
		s.log.Error("a client could not be stored", "error", err)
		return nil, &unavailable
	}
	c := portal.Client{
		ID: device.Client(), Name: device.Name, Key: device.PublicKey, PSKBase: device.PSKBase, IPv4: device.IPv4, IPv6: device.IPv6,
		Actor: actor(user), Token: k.token.ID, TokenExpires: k.token.ExpiresAt, Agent: k.agent,
		At: portal.Circumstances{RemoteIP: k.from, Provider: k.token.Provider, Verified: device.Verified},
	}
	return func(conn portal.Conn, _ wire.Message, now time.Time) { s.hub.role.JoinClient(conn, c, now) }, nil
}

func actor(u store.User) portal.Actor {
	return portal.Actor{ID: u.ID, Name: u.Name, Email: u.Email, Service: u.Service}
}

func (s *server) checkGateway(k *knock) (admit, *problem) {
	if !s.hasSite(k.token.Site) {
		return nil, &noSite
	}
	device, refused := k.device()
	if refused != nil {
		return nil, refused
	}
	device, err := s.store.ConnectGateway(k.token.Site, device)
	if err != nil {
		s.log.Error("a gateway could not be stored", "error", err)
		return nil, &unavailable
	}
	g := portal.Gateway{
		ID: device.GatewayID(), Name: device.Name, Site: k.token.Site, Key: device.PublicKey, PSKBase: device.PSKBase,
		IPv4: device.IPv4, IPv6: device.IPv6, Token: k.token.ID, TokenExpires: k.token.ExpiresAt, RemoteIP: k.from, Agent: k.agent,
	}
	return func(conn portal.Conn, _ wire.Message, now time.Time) { s.hub.role.JoinGateway(conn, g, now) }, nil
}

// device reads what clients and gateways say of themselves (spec portal.md
// 1.2).
func (k *knock) device() (store.Device, *problem) {
	d := store.Device{
		ExternalID: k.query.Get("external_id"), Name: k.query.Get("name"), UserAgent: clip(k.request.UserAgent()), LastIP: k.from,
		Serial: clip(k.query.Get("device_serial")), UUID: clip(k.query.Get("device_uuid")),
		Vendor: clip(k.query.Get("identifier_for_vendor")), Firebase: clip(k.query.Get("firebase_installation_id")),
	}
	if d.ExternalID == "" {
		d.ExternalID = k.query.Get("firezone_id")
	}
	var detail string
	switch {
	case !isText(d.ExternalID):
		detail = "external_id is missing, longer than 255 bytes, or no text."
	case !isText(d.Name):
		detail = "name is missing, longer than 255 bytes, or no text."
	case d.PublicKey.UnmarshalText([]byte(k.query.Get("public_key"))) != nil:
		detail = "public_key is not the base64 of 32 bytes."
	case d.PublicKey.IsZero():
		detail = "public_key is no key."
	default:
		return d, nil
	}
	p := badParams(detail)
	return store.Device{}, &p
}

const maxText = 255 // bytes of a parameter

func isText(s string) bool { return s != "" && len(s) <= maxText && utf8.ValidString(s) }

// clip shortens what is stored for information only.
func clip(s string) string { return s[:min(len(s), maxText)] }

func (s *server) checkRelay(k *knock) (admit, *problem) {
	r := portal.Relay{Name: clip(k.query.Get("name")), Token: k.token.ID, TokenExpires: k.token.ExpiresAt}
	v4, err4 := optionalAddr(k.query.Get("ipv4"))
	v6, err6 := optionalAddr(k.query.Get("ipv6"))
	port, err := strconv.ParseUint(k.query.Get("port"), 10, 16)
	if k.query.Get("port") == "" {
		port, err = 3478, nil
	}
	var detail string
	switch {
	case err4 != nil || v4.IsValid() && !v4.Is4():
		detail = "ipv4 is no IPv4 address."
	case err6 != nil || v6.IsValid() && !v6.Is6():
		detail = "ipv6 is no IPv6 address."
	case !v4.IsValid() && !v6.IsValid():
		detail = "A relay needs a public address: ipv4, ipv6 or both."
	case err != nil || port == 0:
		detail = "port is no port number."
	default:
		r.IPv4, r.IPv6, r.Port = v4, v6, uint16(port)
		return func(conn portal.Conn, join wire.Message, now time.Time) {
			r.StampSecret = wire.Secret(join.(wire.RelayJoin).StampSecret)
			s.hub.role.JoinRelay(conn, r, now)
		}, nil
	}
	p := badParams(detail)
	return nil, &p
}

// optionalAddr reads an address; "" is none.
func optionalAddr(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(s)
	return a.WithZone(""), err
}
