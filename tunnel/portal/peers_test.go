package portal

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/wire"
)

func TestClientInit(t *testing.T) {
	w := newWorld(t)
	w.client(1, alice)
	init := pushed[wire.ClientInit](t, w.Drain())
	site := func(n byte, name string) []wire.Site { return []wire.Site{{ID: id.Site{n}, Name: name}} }
	want := []wire.Resource{
		{ID: resourceID(wiki), Type: wire.DNS, Name: "Wiki", Address: "*.wiki.corp.example", Sites: site(berlin, "Berlin"), Filters: []wire.Filter{{Protocol: wire.TCP, First: 443, Last: 443}}},
		{ID: resourceID(lab), Type: wire.CIDR, Name: "Lab", Address: "10.20.0.0/16", Sites: site(berlin, "Berlin")}, // no host bits
		{ID: resourceID(net), Type: wire.Internet, Name: "Internet", Sites: site(paris, "Paris")},
		{ID: resourceID(mail), Type: wire.CIDR, Name: "Mail", Address: "10.0.0.5/32", Sites: site(paris, "Paris")}, // no type "ip" on the wire
	}
	if !reflect.DeepEqual(init.Resources, want) {
		t.Errorf("resources are\n%+v, want\n%+v", init.Resources, want)
	}
	if init.FlowLogs == nil || init.FlowLogs.UploadIntervalSecs != 0 || init.FlowLogs.APIURL == "" {
		t.Errorf("flow logs are %+v, want them present and off", init.FlowLogs)
	}
	server := netip.MustParseAddr("9.9.9.9")
	if i := init.Interface; i.SearchDomain != "corp.example" || i.UpstreamDo53[0] != server || i.UpstreamDNS[0] != netip.AddrPortFrom(server, 53) {
		t.Errorf("interface is %+v", i)
	}
	if _, err := wire.AppendPayload(nil, init); err != nil {
		t.Error(err)
	}
}

// Spec portal.md 1.7.
func TestOldReleasesDoNotSeeWhatTheyCannotHandle(t *testing.T) {
	for version, want := range map[Version]string{
		{1, 1, 9}: "1 init [2 4] relays 0", {1, 2, 0}: "1 init [1 2 4] relays 0", {1, 3, 0}: "1 init [1 2 3 4] relays 0", {1, 4, 7}: "1 init [1 2 3 4] relays 0",
	} {
		w := newWorld(t)
		w.client(1, alice, func(c *Client) { c.Agent.Version = version })
		w.want(want)
		if version == (Version{1, 1, 9}) {
			w.requests(1, net)
			w.want("1 authorization_creation_failed resource 3 not_found []")
		}
	}
}

// Spec portal.md 4.10.
func TestDuplicateConnections(t *testing.T) {
	w := newWorld(t)
	w.client(1, alice)
	w.gateway(2, 7, berlin)
	w.relay(3, 1)
	w.settle()
	w.client(4, alice)
	w.want("1 disconnect token_expired", "1 close", "4 init [1 2 3 4] relays 2")
	w.gateway(5, 7, berlin)
	w.want("2 close", "5 init authorizations 0 relays 2")
	w.relay(6, 1)
	w.want("3 close", "6 init")
	if c, g, r := w.Joined(); len(c) != 1 || len(g) != 1 || len(r) != 1 {
		t.Errorf("joined are %d clients, %d gateways, %d relays", len(c), len(g), len(r))
	}
	for _, conn := range []Conn{1, 2, 3} { // what was replaced cannot hurt its successor
		w.Leave(conn, w.now)
	}
	w.after(2 * time.Second)
	w.want()
	w.requests(4, wiki)
	w.want("save client 1 resource 1 gateway 7", "5 create_authorization client 1 resource 1")
}

// Spec portal.md 4.8: one message, a second after the first change; who has no
// relay does not wait for it.
func TestRelaysPresence(t *testing.T) {
	w := newWorld(t)
	w.client(1, alice)
	w.gateway(2, 7, berlin)
	w.settle()
	w.relay(3, 1)
	w.want("3 init", "1 relays_presence gone 0 entries 2", "2 relays_presence gone 0 entries 2")
	w.after(500 * time.Millisecond)
	w.relay(4, 2)
	w.want("4 init")
	w.after(499 * time.Millisecond)
	w.want()
	w.after(time.Millisecond)
	w.want("1 relays_presence gone 0 entries 4", "2 relays_presence gone 0 entries 4")
	w.relay(5, 3) // everybody has two
	w.after(2 * time.Second)
	w.want("5 init")
	w.Leave(3, w.now)
	w.after(time.Second)
	first := pushed[wire.RelaysPresence](t, w.want("1 relays_presence gone 1 entries 4", "2 relays_presence gone 1 entries 4"))
	if first.Disconnected[0] != relayID("0101010101010101010101010101010101010101010101010101010101010101") {
		t.Errorf("gone is %v", first.Disconnected)
	}
	if first.Connected[0].ID != first.Connected[1].ID || first.Connected[2].ID != first.Connected[3].ID {
		t.Error("the two addresses of a relay are not next to each other")
	}
	// A relay that is back within a second is no news.
	w.Leave(4, w.now)
	w.after(900 * time.Millisecond)
	w.relay(6, 2)
	w.after(time.Second)
	w.want("6 init")
}

// A relay that is started again comes with another name, and its peers have no
// other: they hear of both at once, and only once.
func TestTheOnlyRelayIsReplacedAtOnce(t *testing.T) {
	w := newWorld(t)
	w.relay(1, 1)
	w.client(2, alice)
	w.gateway(3, 7, berlin)
	w.after(2 * time.Second)
	w.settle()
	w.Leave(1, w.now)
	w.after(100 * time.Millisecond)
	w.want()
	w.relay(4, 2)
	w.want("4 init", "2 relays_presence gone 1 entries 2", "3 relays_presence gone 1 entries 2")
	w.after(5 * time.Second)
	w.want()
	// And one that is back under its old name is no news, even if it is the only one.
	w.Leave(4, w.now)
	w.after(100 * time.Millisecond)
	w.relay(5, 2)
	w.after(5 * time.Second)
	w.want("5 init")
}

func TestNoRelays(t *testing.T) {
	w := newWorld(t)
	w.client(1, alice)
	w.gateway(2, 7, berlin)
	w.settle()
	w.says(1, wire.NoRelays{})
	w.relay(3, 1)
	w.says(2, wire.NoRelays{})
	w.want("1 relays_presence gone 0 entries 0", "3 init", "1 relays_presence gone 0 entries 2", "2 relays_presence gone 0 entries 2",
		"2 relays_presence gone 0 entries 2")
	w.after(time.Second)
	w.want()
}

// Spec portal.md 5.5: the credentials of one peer stay equal across reconnects.
func TestRelayCredentialsAreStable(t *testing.T) {
	w := newWorld(t)
	w.relay(1, 1)
	var passwords []string
	for conn := range Conn(3) {
		w.gateway(10+conn, 7, berlin)
		init := pushed[wire.GatewayInit](t, w.Drain())
		passwords = append(passwords, init.Relays[0].Password)
		if init.Relays[0].ExpiresAt != forever {
			t.Errorf("a gateway's credentials expire at %d", init.Relays[0].ExpiresAt)
		}
		w.after(time.Hour)
	}
	if passwords[0] != passwords[1] || passwords[1] != passwords[2] {
		t.Errorf("passwords differ: %q", passwords)
	}
	w.client(20, alice, func(c *Client) { c.TokenExpires = 1800000000 })
	if got := pushed[wire.ClientInit](t, w.Drain()).Relays[0].ExpiresAt; got != 1800000000 {
		t.Errorf("a client's credentials expire at %d, want its token's end", got)
	}
}

func TestExpiredTokenSignsOut(t *testing.T) {
	w := newWorld(t)
	w.client(1, alice, func(c *Client) { c.TokenExpires = start.Add(90 * time.Second).Unix() })
	w.client(2, bob, func(c *Client) { c.TokenExpires = start.Add(200 * time.Second).Unix() })
	w.settle()
	w.after(90*time.Second - 1)
	w.want()
	w.after(1)
	w.want("1 disconnect token_expired", "1 close")
	w.after(time.Hour)
	w.want("2 disconnect token_expired", "2 close")
}

// Tokens of gateways and relays end as well if an administrator said so.
func TestExpiredTokensOfGatewaysAndRelays(t *testing.T) {
	w := newWorld(t)
	w.gateway(1, 7, berlin, func(g *Gateway) { g.TokenExpires = start.Add(90 * time.Second).Unix() })
	w.gateway(2, 8, berlin)
	w.relay(3, 9)
	w.after(10 * time.Second)
	w.JoinRelay(4, Relay{IPv4: netip.AddrFrom4([4]byte{203, 0, 113, 10}), Port: 3478, StampSecret: "x", TokenExpires: start.Add(100 * time.Second).Unix()}, w.now)
	w.after(79*time.Second + 999*time.Millisecond)
	w.settle()
	w.after(time.Millisecond)
	w.want("1 disconnect token_expired", "1 close")
	w.after(10 * time.Second)
	w.want("4 close")
	w.after(10 * time.Second)
	w.want("2 relays_presence gone 1 entries 2")
	if _, gateways, relays := w.Joined(); len(gateways) != 1 || len(relays) != 1 {
		t.Errorf("%d gateways and %d relays are left", len(gateways), len(relays))
	}
}

// A clock that is set an hour ahead ends a session within a minute.
func TestExpiryAfterAClockJump(t *testing.T) {
	w := newWorld(t)
	w.client(1, alice, func(c *Client) { c.TokenExpires = start.Add(30 * time.Minute).Unix() })
	w.settle()
	w.Advance(start.Add(time.Hour))
	w.want("1 disconnect token_expired", "1 close")
}

// Spec portal.md 4.1: conditions are looked at every minute.
func TestTimeConditionsAreLookedAtEveryMinute(t *testing.T) {
	w := newWorld(t)
	w.client(1, alice)
	w.client(2, bob)
	w.settle()
	w.after(7*time.Hour + time.Second) // 17:00:01
	w.want()
	w.after(time.Minute)
	w.want("1 resource_deleted 4")
	w.now = start.Add(7 * 24 * time.Hour)
	w.Advance(w.now)
	w.want("1 resource_created_or_updated 4")
}

func TestPolicyThatExpires(t *testing.T) {
	w := newWorld(t)
	a := account()
	a.Policies = a.Policies[:1]
	a.Policies[0].Expires = start.Add(90 * time.Second)
	if err := w.Reconfigure(a, w.now); err != nil {
		t.Fatal(err)
	}
	w.gateway(1, 7, berlin)
	w.client(2, alice)
	w.settle()
	w.requests(2, wiki)
	if got := pushed[wire.CreateAuthorization](t, w.Drain()).ExpiresAt; got != start.Unix()+90 {
		t.Errorf("expires at %d", got)
	}
	w.after(2 * time.Minute)
	w.want("2 authorization_creation_failed resource 1 offline []", "drop", "2 resource_deleted 1")
	w.requests(2, wiki)
	w.want("2 authorization_creation_failed resource 1 not_found []")
}

func TestGatewayInitListsAllLiveAuthorizations(t *testing.T) {
	w := newWorld(t)
	w.gateway(1, 7, berlin)
	w.gateway(2, 8, paris)
	w.client(3, alice, func(c *Client) { c.TokenExpires = start.Add(time.Hour).Unix() })
	w.client(4, bob)
	for _, r := range []byte{wiki, lab, net} {
		w.requests(3, r)
	}
	w.requests(4, lab)
	w.requests(4, lab) // superseded, counts once
	var saved []Authorization
	for _, a := range w.Drain() {
		if s, ok := a.(Save); ok {
			saved = append(saved, s.Authorization)
		}
	}
	w.gateway(5, 7, berlin)
	init := pushed[wire.GatewayInit](t, w.Drain())
	want := []wire.Authorization{
		{Client: id.Client{alice}, Resource: resourceID(wiki), ExpiresAt: start.Add(time.Hour).Unix()},
		{Client: id.Client{alice}, Resource: resourceID(lab), ExpiresAt: start.Add(time.Hour).Unix()},
		{Client: id.Client{bob}, Resource: resourceID(lab), ExpiresAt: forever},
	}
	if !reflect.DeepEqual(init.Authorizations, want) {
		t.Errorf("init lists %v, want %v", init.Authorizations, want)
	}

	// A portal that restarts knows them from its store.
	w = newWorld(t, saved...)
	w.want()
	w.gateway(1, 7, berlin)
	if init := pushed[wire.GatewayInit](t, w.Drain()); !reflect.DeepEqual(init.Authorizations, want) {
		t.Errorf("after a restart init lists %v, want %v", init.Authorizations, want)
	}
	w.after(2 * time.Hour)
	w.want("drop", "drop", "drop")
	w.gateway(2, 7, berlin)
	if init := pushed[wire.GatewayInit](t, w.Drain()); len(init.Authorizations) != 1 {
		t.Errorf("expired authorizations are listed: %v", init.Authorizations)
	}
}
