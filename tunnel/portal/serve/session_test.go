package serve

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"stile/tunnel/portal/store"
)

// The whole authorization sequence of spec portal.md 4.4, on real sockets, in
// both generations: only five event names differ.
func TestAuthorizationOverWebSockets(t *testing.T) {
	for _, c := range []struct {
		name                                     string
		turn                                     func(hail) hail
		request, create, accepted, created, fail string
	}{
		{"v2", func(h hail) hail { return h }, "request_authorization", "create_authorization", "authorization_created", "authorization_created", "authorization_creation_failed"},
		{"v1", hail.old, "create_flow", "authorize_flow", "flow_authorized", "flow_created", "flow_creation_failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t)
			relay := r.dial(asRelay(r.token(store.RelayToken)))
			relay.join()
			client := r.dial(c.turn(asClient(r.token(store.ClientToken))))
			init := client.join()
			if n := len(init["resources"].([]any)); n != 2 {
				t.Fatalf("client was shown %d resources, want 2", n)
			}
			if n := len(init["relays"].([]any)); n != 2 {
				t.Fatalf("client was given %d relay entries, want 2", n)
			}
			client.say("set_snownet_capabilities", `{"iceless":true}`)
			client.say(c.request, `{"resource_id":"`+wiki.String()+`","connected_gateway_ids":[]}`)
			if got := client.hears(c.fail)["reason"]; got != "offline" {
				t.Fatalf("without a gateway the reason is %v", got)
			}

			gateway := r.dial(c.turn(asGateway(r.token(store.GatewayToken))))
			init = gateway.join()
			if init["account_slug"] != "acme" || init["config"] == nil || init["authorizations"] == nil {
				t.Fatalf("gateway init is %v", init)
			}
			client.say(c.request, `{"resource_id":"`+wiki.String()+`","connected_gateway_ids":[]}`)
			ask := gateway.hears(c.create)
			clientID := ask["client"].(map[string]any)["id"].(string)
			gateway.say(c.accepted, `{"ref":"`+ask["ref"].(string)+`"}`)
			gateway.say("broadcast_ice_candidates", `{"client_ids":["`+clientID+`"],"candidates":["candidate:g"]}`)
			answer := client.hears(c.created)
			gatewayID := answer["gateway_id"].(string)
			if got := client.hears("ice_candidates"); got["gateway_id"] != gatewayID || got["candidates"].([]any)[0] != "candidate:g" {
				t.Fatalf("client got candidates %v", got)
			}
			if answer["preshared_key"] != ask["client"].(map[string]any)["preshared_key"] || answer["gateway_public_key"] != key(2) {
				t.Fatal("the ends have different keys")
			}
			client.say("new_gateway_ice_candidates", `{"gateway_id":"`+gatewayID+`","candidates":["candidate:c"]}`)
			client.say("broadcast_invalidated_ice_candidates", `{"gateway_ids":["`+gatewayID+`"],"candidates":["candidate:c"]}`)
			for _, event := range []string{"ice_candidates", "invalidate_ice_candidates"} {
				if got := gateway.hears(event); got["client_id"] != clientID || got["candidates"].([]any)[0] != "candidate:c" {
					t.Fatalf("gateway got %v", got)
				}
			}

			// A gateway that comes back is told what it may still permit.
			again := r.dial(c.turn(asGateway(r.token(store.GatewayToken))))
			if list := again.join()["authorizations"].([]any); len(list) != 1 {
				t.Fatalf("gateway init lists %v", list)
			}
			gateway.closed()
		})
	}
}

// What a restarted portal owes to gateways it has in its store.
func TestAuthorizationsSurviveARestart(t *testing.T) {
	r := start(t)
	gatewayToken := r.token(store.GatewayToken)
	gateway := r.dial(asGateway(gatewayToken))
	gateway.join()
	client := r.dial(asClient(r.token(store.ClientToken)))
	client.join()
	client.say("request_authorization", `{"resource_id":"`+lab.String()+`","connected_gateway_ids":[]}`)
	gateway.hears("create_authorization")
	other, err := newPortal(r.config.Load(), r.store, r.log) // as after kill -9: nothing was closed
	if err != nil {
		t.Fatal(err)
	}
	if n := other.hub.role.Live(); n != 1 {
		t.Errorf("after a restart %d authorizations are known, want 1", n)
	}
}

func TestHeartbeat(t *testing.T) {
	r := start(t)
	p := r.dial(asClient(r.token(store.ClientToken)))
	p.raw(`{"topic":"phoenix","event":"heartbeat","payload":{},"ref":41}`) // even before the join
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, b, err := p.conn.Read(ctx)
	if want := `{"topic":"phoenix","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":41}`; err != nil || string(b) != want {
		t.Fatalf("heartbeat is answered with %s %v, want %s", b, err, want)
	}
}

// Spec portal.md 2.3 and 3.8: what cannot be used is refused or dropped, and
// the socket stays.
func TestWrongFrames(t *testing.T) {
	r := start(t)
	p := r.dial(asClient(r.token(store.ClientToken)))
	refused := func(reason string) {
		t.Helper()
		reply := p.hears("phx_reply")
		if reply["status"] != "error" || reply["response"].(map[string]any)["reason"] != reason {
			t.Fatalf("reply is %v, want the error %q", reply, reason)
		}
	}
	p.say("no_relays", `{}`)
	refused("unmatched topic") // not joined
	p.join()
	p.say("dance", `{}`)
	refused("unknown_message")
	p.say("create_flow", `{"resource_id":"`+wiki.String()+`","connected_gateway_ids":[]}`) // of the other generation
	refused("unknown_message")
	p.say("request_authorization", `{"resource_id":"wiki"}`)
	refused("malformed_message")
	p.say("request_authorization", `[]`)
	refused("malformed_message")
	p.topic = "room:lobby"
	p.say("phx_join", `{}`)
	p.topic = "phoenix" // hears accepts the reply's topic
	if f, err := p.read(); err != nil || !strings.Contains(string(f.Payload), "unmatched topic") {
		t.Fatalf("foreign topic: %s %v", f.Payload, err)
	}
	p.topic = "client"
	for _, frame := range []string{"", "{", "null", "[]", `"x"`, `{"topic":"client"}`, `{"topic":1,"event":2}`, `{"topic":"client","event":"no_relays","payload":{},"ref":"7"}`,
		strings.Repeat(`{"a":`, 1000), "\x00\xff"} {
		p.raw(frame)
	}
	if err := p.conn.Write(t.Context(), websocket.MessageBinary, []byte(`{"topic":"phoenix"}`)); err != nil {
		t.Fatal(err)
	}
	p.say("no_relays", `{}`) // still there
	p.hears("relays_presence")
	p.join() // again, on the same socket
	if c, _, _ := r.joined(); c != 1 {
		t.Errorf("%d clients are joined", c)
	}
}

func TestGarbageEndsASession(t *testing.T) {
	r := start(t)
	p := r.dial(asClient(r.token(store.ClientToken)))
	for range maxGarbage + 1 {
		if p.conn.Write(t.Context(), websocket.MessageText, []byte("{")) != nil {
			break
		}
	}
	p.closed()
}

func TestOversizedFrameEndsASession(t *testing.T) {
	r := start(t)
	p := r.dial(asGateway(r.token(store.GatewayToken)))
	p.join()
	p.conn.Write(t.Context(), websocket.MessageText, []byte(`{"topic":"gateway","event":"x","payload":"`+strings.Repeat("a", maxFrame)+`","ref":1}`))
	p.closed()
	for n := 1; n != 0; {
		_, n, _ = r.joined()
	}
}

// A peer that does not read is cut off; the portal does not wait for it and
// does not hoard for it.
func TestSlowReaderIsCutOff(t *testing.T) {
	r := start(t)
	gateway := r.dial(asGateway(r.token(store.GatewayToken)))
	gateway.join()
	client := r.dial(asClient(r.token(store.ClientToken)))
	client.join()
	client.say("request_authorization", `{"resource_id":"`+wiki.String()+`","connected_gateway_ids":[]}`)
	ask := gateway.hears("create_authorization")
	gateway.say("authorization_created", `{"ref":"`+ask["ref"].(string)+`"}`)
	id := client.hears("authorization_created")["gateway_id"].(string)
	candidates := `{"gateway_id":"` + id + `","candidates":["` + strings.Repeat("x", 8_000) + `"]}`
	for range 10 * maxQueue { // the gateway reads none of these
		client.say("new_gateway_ice_candidates", candidates)
		if _, g, _ := r.joined(); g == 0 {
			return
		}
	}
	t.Error("the gateway is still there")
}

func TestRevokedTokenIsToldToSignOut(t *testing.T) {
	r := start(t)
	p := r.dial(asClient(r.token(store.ClientToken)))
	p.join()
	tokens, err := r.store.Tokens()
	if err != nil {
		t.Fatal(err)
	}
	r.hub.ask(t.Context(), func(now time.Time) { r.hub.role.Revoke(tokens[0].ID, now) })
	if got := p.hears("disconnect"); got["reason"] != "token_expired" {
		t.Errorf("told %v", got)
	}
	p.closed()
}

// Portals stop without leaving goroutines or connections behind, whatever
// peers do.
func TestStop(t *testing.T) {
	r := start(t)
	joined := r.dial(asClient(r.token(store.ClientToken)))
	joined.join()
	waiting := r.dial(asGateway(r.token(store.GatewayToken)))
	done := make(chan error, 1)
	go func() { done <- r.stop() }()
	select {
	case err := <-done:
		if err != context.Canceled {
			t.Errorf("stopped because %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the portal does not stop")
	}
	joined.closed()
	waiting.closed()
	if r.hub.do(func(time.Time) {}) {
		t.Error("the hub still takes input")
	}
	if _, _, err := asClient("x").dial(r.urls[0]); err == nil {
		t.Error("the portal still listens")
	}
}

func TestManyPeers(t *testing.T) {
	r := start(t)
	token := r.token(store.ClientToken)
	peers := make([]*peer, 40)
	for i := range peers {
		h := asClient(token)
		h.params.Set("external_id", fmt.Sprint("device-", i))
		r.connects.forget("127.0.0.1 " + token) // they share it, as service accounts do
		peers[i] = r.dial(h)
		peers[i].join()
	}
	if c, _, _ := r.joined(); c != len(peers) {
		t.Errorf("%d clients are joined, want %d", c, len(peers))
	}
}
