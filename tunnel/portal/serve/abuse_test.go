package serve

import (
	"io"
	"strings"
	"testing"
	"time"

	"stile/tunnel/portal"
	"stile/tunnel/portal/store"
)

// What strangers send must not stay in memory: 20,000 keys of the throttle
// with tokens as long as a header may be would take 300 MB.
func TestOverlongTokensAreNotRemembered(t *testing.T) {
	r := start(t)
	for _, inQuery := range []bool{false, true} {
		h := asClient("." + strings.Repeat("A", 8000))
		h.inQuery = inQuery
		for range connectBurst + 1 {
			conn, res, err := h.dial(r.urls[0])
			if err == nil {
				conn.CloseNow()
				t.Fatal("let in")
			}
			if res == nil {
				t.Fatal(err)
			}
			if body, _ := io.ReadAll(res.Body); res.StatusCode != 401 || !strings.Contains(string(body), "invalid_token") {
				t.Errorf("%d %s", res.StatusCode, body)
			}
		}
	}
	for key := range r.connects.keys {
		if len(key) > 400 {
			t.Errorf("%d bytes are kept", len(key))
		}
	}
}

// A client that floods its socket is read no faster than it could have meant
// it: each of its messages may be a write to the store and one to a gateway.
func TestFloodOfAClientIsSlowedDown(t *testing.T) {
	r := start(t)
	r.pace = clientPace
	client := r.dial(asClient(r.token(store.ClientToken)))
	client.join()
	const beyond = 25
	begin := time.Now()
	for range clientBurst + beyond {
		client.say("dance", `{}`)
	}
	for range clientBurst + beyond {
		client.hears("phx_reply")
	}
	if took, least := time.Since(begin), beyond*time.Second/clientPace; took < least {
		t.Errorf("%d messages were read within %v, want at least %v", clientBurst+beyond, took, least)
	}
}

// What a revoked token permitted does not come back with the portal, also if
// nobody could be told when it was revoked.
func TestRevokedWhileStopped(t *testing.T) {
	r := start(t)
	token, _, err := r.store.NewToken(store.Token{Kind: store.ClientToken, Actor: r.alice.ID}, "")
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := r.store.NewToken(store.Token{Kind: store.ClientToken, Actor: r.alice.ID}, "")
	if err != nil {
		t.Fatal(err)
	}
	// Its basis comes from the role itself.
	gateway := r.dial(asGateway(r.token(store.GatewayToken)))
	gateway.join()
	client := r.dial(asClient(r.token(store.ClientToken)))
	client.join()
	client.say("request_authorization", `{"resource_id":"`+wiki.String()+`","connected_gateway_ids":[]}`)
	gateway.hears("create_authorization")
	live, err := r.store.Authorizations()
	if err != nil || len(live) != 1 {
		t.Fatal(live, err)
	}
	a := live[0]
	for i, which := range []store.Token{token, other} {
		a.ID, a.Client, a.Token = portal.AuthorizationID{byte(i + 1)}, [16]byte{byte(i + 1)}, which.ID
		if err := r.store.SaveAuthorization(a); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.store.RevokeToken(token.ID); err != nil {
		t.Fatal(err)
	}
	again, err := newPortal(r.config.Load(), r.store, r.log)
	if err != nil {
		t.Fatal(err)
	}
	if n := again.hub.role.Live(); n != 2 {
		t.Errorf("%d authorizations live on, want 2", n)
	}
	if left, err := r.store.Authorizations(); err != nil || len(left) != 2 {
		t.Errorf("%d authorizations are stored, want 2 (%v)", len(left), err)
	}
}

// The tokens of gateways and relays end while they are connected, too.
func TestTokensEndWhileConnected(t *testing.T) {
	r := start(t)
	ends := time.Now().Unix() + 3 // a relay is told of after one
	_, secret, err := r.store.NewToken(store.Token{Kind: store.GatewayToken, Site: berlin, ExpiresAt: ends}, "")
	if err != nil {
		t.Fatal(err)
	}
	_, relaySecret, err := r.store.NewToken(store.Token{Kind: store.RelayToken, ExpiresAt: ends}, "")
	if err != nil {
		t.Fatal(err)
	}
	gateway, relay := r.dial(asGateway(secret)), r.dial(asRelay(relaySecret))
	gateway.join()
	relay.join()
	gateway.hears("relays_presence")
	if got := gateway.hears("disconnect"); got["reason"] != "token_expired" {
		t.Errorf("told %v", got)
	}
	gateway.closed()
	relay.closed()
}
