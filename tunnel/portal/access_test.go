package portal

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/wire"
)

// The whole sequence of spec portal.md 4.4, in its order.
func TestAuthorizationSequence(t *testing.T) {
	w := newWorld(t)
	w.relay(1, 1)
	w.gateway(2, 7, berlin)
	w.client(3, alice)
	w.want("1 init", "2 init authorizations 0 relays 2", "3 init [1 2 3 4] relays 2")
	w.says(3, wire.SetCapabilities{Iceless: true})

	w.requests(3, wiki)
	created := pushed[wire.CreateAuthorization](t, w.want("save client 1 resource 1 gateway 7", "2 create_authorization client 1 resource 1"))
	w.says(2, wire.AuthorizationAccepted{Ref: created.Ref})
	w.says(2, wire.BroadcastCandidates{Clients: []id.Client{{alice}}, Candidates: []string{"g1"}})
	answer := pushed[wire.AuthorizationCreated](t, w.want("3 authorization_created resource 1 gateway 7", "3 ice_candidates from 7 g1"))
	w.says(3, wire.ClientCandidates{Gateways: []id.Gateway{{7}}, Candidates: []string{"c1", "c2"}})
	w.says(3, wire.ClientCandidates{Gateways: []id.Gateway{{7}}, Candidates: []string{"c1"}, Invalidate: true})
	w.want("2 ice_candidates from 1 c1 c2", "2 invalidate_ice_candidates from 1 c1")

	client, gateway := end{id.Client{alice}.String(), filled(alice), filled(alice + 100)}, end{id.Gateway{7}.String(), filled(7), filled(107)}
	if want := presharedKey(client, gateway); created.PresharedKey != want || answer.PresharedKey != want {
		t.Error("the ends have different preshared keys")
	}
	if answer.ClientICE != created.ClientICE || answer.GatewayICE != created.GatewayICE || answer.ClientICE == answer.GatewayICE {
		t.Error("the ends have different ICE credentials")
	}
	if answer.Iceless || created.Iceless || answer.GatewayKey != filled(7) || created.ClientKey != filled(alice) || answer.Site != (id.Site{berlin}) {
		t.Errorf("wrong answer %+v to %+v", answer, created)
	}
	for role, token := range map[string]string{"initiator": answer.IngestToken, "responder": created.IngestToken} {
		if err := wire.CheckIngestToken(token, role); err != nil {
			t.Errorf("token of the %s: %v", role, err)
		}
	}
	if created.ExpiresAt != forever {
		t.Errorf("expires at %d, want never", created.ExpiresAt)
	}
	w.after(time.Minute)
	w.want()
}

func TestAuthorizationRefused(t *testing.T) {
	w := newWorld(t)
	w.client(1, alice)
	w.client(2, bob)
	w.client(3, robot)
	w.settle()
	w.requests(1, wiki)
	w.requests(1, 99)
	w.requests(2, wiki)
	w.requests(3, lab) // service accounts are not in "everyone"
	w.want(
		"1 authorization_creation_failed resource 1 offline []",
		"1 authorization_creation_failed resource 99 not_found []",
		"2 authorization_creation_failed resource 1 not_found []",
		"3 authorization_creation_failed resource 2 not_found []",
	)
	w.gateway(4, 7, paris)
	w.requests(1, wiki) // a gateway of another site does not help
	w.gateway(5, 8, berlin, func(g *Gateway) { g.Agent.Version = Version{1, 7, 0} })
	w.requests(1, wiki)
	w.now = w.now.Add(8 * time.Hour)
	w.requests(1, mail)
	w.says(1, wire.RequestAuthorization{Resource: id.Resource{50}, IPv4: netip.MustParseAddr("100.64.1.2")}) // a device pool
	w.says(1, wire.ResolvePoolDomain{Resource: id.Resource{50}, Domain: "nas"})
	w.want(
		"4 init authorizations 0 relays 0",
		"1 authorization_creation_failed resource 1 offline []",
		"5 init authorizations 0 relays 0",
		"1 authorization_creation_failed resource 1 version_mismatch []",
		"1 authorization_creation_failed resource 4 forbidden [current_utc_datetime]",
		"1 authorization_creation_failed resource 50 not_found []",
		"1 device_pool_domain_resolution_failed",
	)
}

func TestGatewayThatDoesNotAnswerIsOffline(t *testing.T) {
	w := newWorld(t)
	w.gateway(1, 7, berlin)
	w.client(2, alice)
	w.settle()
	w.requests(2, wiki)
	created := pushed[wire.CreateAuthorization](t, w.Drain())
	w.after(ackTime - 1)
	w.want()
	w.after(1)
	w.want("2 authorization_creation_failed resource 1 offline []")
	w.says(1, wire.AuthorizationAccepted{Ref: created.Ref}) // too late
	w.want()
}

func TestNewerRequestReplacesOlder(t *testing.T) {
	w := newWorld(t)
	w.gateway(1, 7, berlin)
	w.client(2, alice)
	w.settle()
	w.requests(2, wiki)
	first := pushed[wire.CreateAuthorization](t, w.Drain())
	w.after(5 * time.Second)
	w.requests(2, wiki)
	second := pushed[wire.CreateAuthorization](t, w.Drain())
	w.after(12 * time.Second) // the first one's time is up, the second's is not
	w.says(1, wire.AuthorizationAccepted{Ref: first.Ref})
	w.says(1, wire.AuthorizationAccepted{Ref: "forged"})
	w.want()
	w.says(1, wire.AuthorizationAccepted{Ref: second.Ref})
	w.want("2 authorization_created resource 1 gateway 7")
	if first.PresharedKey != second.PresharedKey || first.ClientICE != second.ClientICE {
		t.Error("keys changed between two requests of one pair")
	}
}

func TestOnlyTheGatewayThatWasAskedCanAccept(t *testing.T) {
	w := newWorld(t)
	w.gateway(1, 7, berlin)
	w.client(2, alice)
	w.settle()
	w.requests(2, wiki)
	created := pushed[wire.CreateAuthorization](t, w.Drain())
	w.gateway(3, 8, berlin)
	w.settle()
	w.says(3, wire.AuthorizationAccepted{Ref: created.Ref})
	w.says(2, wire.AuthorizationAccepted{Ref: created.Ref})
	w.want()
}

// A gateway that reconnects while a client waits is asked again.
func TestGatewayReconnectsWhileAsked(t *testing.T) {
	w := newWorld(t)
	w.gateway(1, 7, berlin)
	w.client(2, alice)
	w.settle()
	w.requests(2, wiki)
	w.settle()
	w.gateway(3, 7, berlin)
	again := pushed[wire.CreateAuthorization](t, w.want(
		"1 close", "3 init authorizations 1 relays 0", "save client 1 resource 1 gateway 7", "3 create_authorization client 1 resource 1"))
	w.says(3, wire.AuthorizationAccepted{Ref: again.Ref})
	w.want("2 authorization_created resource 1 gateway 7")
}

// Spec portal.md 5.7: compatible ones, then those the client knows.
func TestChoiceOfGateway(t *testing.T) {
	w := newWorld(t)
	for n := byte(10); n < 20; n++ {
		w.gateway(Conn(n), n, berlin)
	}
	w.client(1, alice)
	w.settle()
	chosen := map[byte]bool{}
	for range 100 {
		w.requests(1, lab)
		chosen[pushed[wire.CreateAuthorization](t, w.Drain()).ClientICE.Username[0]] = true
	}
	if len(chosen) < 5 {
		t.Errorf("chance gave only %d different gateways", len(chosen))
	}
	choose := func(resource byte, connected ...id.Gateway) byte {
		w.requests(1, resource, connected...)
		for _, a := range w.Drain() {
			if push, ok := a.(Push); ok {
				return byte(push.To)
			}
		}
		return 0
	}
	if got := choose(wiki, id.Gateway{99}, id.Gateway{15}, id.Gateway{12}); got != 15 {
		t.Errorf("client that knows 99, 15 and 12 was sent to %d, want 15", got)
	}
	if got := choose(wiki, id.Gateway{12}, id.Gateway{15}); got != 15 {
		t.Errorf("client whose wiki is at 15 was sent to %d", got)
	}
}

// Spec portal.md 5.8 and 3.1.7: the policy's end or the token's, whichever is
// first, in seconds.
func TestExpiryOfAuthorizations(t *testing.T) {
	w := newWorld(t)
	w.gateway(1, 7, paris)
	w.gateway(2, 8, berlin)
	token := start.Add(12 * time.Hour).Unix()
	w.client(3, alice, func(c *Client) { c.TokenExpires = token })
	w.settle()
	for resource, want := range map[byte]int64{mail: start.Add(7 * time.Hour).Unix(), wiki: token} {
		w.requests(3, resource)
		if got := pushed[wire.CreateAuthorization](t, w.Drain()).ExpiresAt; got != want {
			t.Errorf("resource %d expires at %d, want %d", resource, got, want)
		}
	}
	// A second policy without a time condition lasts longer.
	a := account()
	a.Policies = append(a.Policies, Policy{ID: id.Policy{9}, Group: id.Group{all}, Resource: id.Resource{mail}})
	if err := w.Reconfigure(a, w.now); err != nil {
		t.Fatal(err)
	}
	w.settle()
	w.requests(3, mail)
	if got := pushed[wire.CreateAuthorization](t, w.Drain()).ExpiresAt; got != token {
		t.Errorf("expires at %d, want %d, the token's end", got, token)
	}
}

// One message cannot become thousands for a peer.
func TestCandidatesGoToEachPeerOnce(t *testing.T) {
	w := settled(t)
	w.says(3, wire.ClientCandidates{Gateways: slices.Repeat([]id.Gateway{{7}, {8}}, 1000), Candidates: []string{"x"}})
	if got := len(w.Drain()); got != 2 {
		t.Errorf("%d messages for two gateways", got)
	}
	w.says(1, wire.BroadcastCandidates{Clients: slices.Repeat([]id.Client{{alice}}, 1000), Candidates: []string{"x"}})
	if got := len(w.Drain()); got != 1 {
		t.Errorf("%d messages for a client", got)
	}
}

// Candidates go to peers that share an authorization, and to nobody else.
func TestCandidatesNeedAnAuthorization(t *testing.T) {
	w := newWorld(t)
	w.gateway(1, 7, berlin)
	w.client(2, alice)
	w.client(3, bob)
	w.settle()
	w.says(2, wire.ClientCandidates{Gateways: []id.Gateway{{7}}, Candidates: []string{"c"}})
	w.says(1, wire.BroadcastCandidates{Clients: []id.Client{{alice}, {bob}}, Candidates: []string{"g"}})
	w.want()
	w.requests(2, wiki)
	w.settle()
	w.says(1, wire.BroadcastCandidates{Clients: []id.Client{{bob}, {alice}}, Candidates: []string{"g"}})
	w.want("2 ice_candidates from 7 g")
	w.Leave(2, w.now)
	w.says(1, wire.BroadcastCandidates{Clients: []id.Client{{alice}}, Candidates: []string{"g"}})
	w.want()
}
