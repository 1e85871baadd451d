package portal

import (
	"net/netip"
	"testing"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/wire"
)

// settled is a portal with Alice and Bob online, who use the wiki and the lab
// through gateway 7 (connection 1), and the mail through gateway 8 (2).
func settled(t *testing.T, change ...func(*Client)) *world {
	w := newWorld(t)
	w.gateway(1, 7, berlin)
	w.gateway(2, 8, paris)
	w.client(3, alice, change...)
	w.client(4, bob, change...)
	for _, r := range []byte{wiki, lab, mail} {
		w.requests(3, r)
	}
	w.requests(4, lab)
	w.settle()
	return w
}

// One row for each row of spec portal.md 4.7 that concerns gateways' resources.
func TestChangesWhileConnected(t *testing.T) {
	old := func(c *Client) { c.Agent.Version = Version{1, 5, 4} }
	for _, c := range []struct {
		name   string
		peers  func(*Client)
		change func(*Account)
		want   []string
	}{
		{"nothing", nil, func(a *Account) {}, nil},
		{"policy created", nil, func(a *Account) {
			a.Policies = append(a.Policies, Policy{ID: id.Policy{9}, Group: id.Group{all}, Resource: id.Resource{wiki}})
		}, []string{"4 resource_created_or_updated 1"}},
		{"membership added", nil, func(a *Account) { a.Groups[0].Emails = append(a.Groups[0].Emails, "BOB@example.com") },
			[]string{"4 resource_created_or_updated 1", "4 resource_created_or_updated 3", "4 resource_created_or_updated 4"}},
		{"policy deleted", nil, func(a *Account) { a.Policies = a.Policies[1:] },
			[]string{"drop", "1 reject_access client 1 resource 1", "3 resource_deleted 1"}},
		{"policy disabled", nil, func(a *Account) { a.Policies[1].Disabled = true },
			[]string{"drop", "1 reject_access client 1 resource 2", "drop", "1 reject_access client 2 resource 2", "3 resource_deleted 2", "4 resource_deleted 2"}},
		{"policy deleted, another still permits", nil, func(a *Account) {
			a.Policies[0] = Policy{ID: id.Policy{9}, Group: id.Group{staff}, Resource: id.Resource{wiki}}
		}, []string{"drop", "1 reject_access client 1 resource 1", "3 resource_deleted 1", "3 resource_created_or_updated 1"}},
		{"membership removed", nil, func(a *Account) { a.Groups[0].Emails = nil },
			[]string{"drop", "1 reject_access client 1 resource 1", "drop", "2 reject_access client 1 resource 4",
				"3 resource_deleted 1", "3 resource_deleted 3", "3 resource_deleted 4"}},
		{"group removed", nil, func(a *Account) { a.Groups, a.Policies = a.Groups[1:], a.Policies[1:2] },
			[]string{"drop", "1 reject_access client 1 resource 1", "drop", "2 reject_access client 1 resource 4",
				"3 resource_deleted 1", "3 resource_deleted 3", "3 resource_deleted 4"}},
		{"condition added that holds", nil, func(a *Account) {
			a.Policies[0].Conditions = []Condition{{RemoteIP, "is_in_cidr", []string{"203.0.113.0/24"}}}
		}, []string{"drop", "1 reject_access client 1 resource 1", "3 resource_deleted 1", "3 resource_created_or_updated 1"}},
		{"condition added that does not", nil, func(a *Account) {
			a.Policies[0].Conditions = []Condition{{RemoteIP, "is_in_cidr", []string{"198.51.100.0/24"}}}
		}, []string{"drop", "1 reject_access client 1 resource 1", "3 resource_deleted 1"}},
		{"policy expiry", nil, func(a *Account) { a.Policies[0].Expires = start },
			[]string{"drop", "1 reject_access client 1 resource 1", "3 resource_deleted 1"}},
		{"policy for another group", nil, func(a *Account) { a.Policies[0].Group = id.Group{all} },
			[]string{"drop", "1 reject_access client 1 resource 1", "3 resource_deleted 1", "3 resource_created_or_updated 1", "4 resource_created_or_updated 1"}},
		{"name", nil, func(a *Account) { a.Resources[0].Name = "The wiki" }, []string{"3 resource_created_or_updated 1"}},
		{"description", nil, func(a *Account) { a.Resources[0].Description = "read me" }, []string{"3 resource_created_or_updated 1"}},
		{"filters", nil, func(a *Account) { a.Resources[1].Filters = []wire.Filter{{Protocol: wire.ICMP}} },
			[]string{"1 resource_updated 2", "3 resource_created_or_updated 2", "4 resource_created_or_updated 2"}},
		{"address", nil, func(a *Account) { a.Resources[1].Address = "10.30.0.0/16" },
			[]string{"drop", "1 reject_access client 1 resource 2", "drop", "1 reject_access client 2 resource 2",
				"3 resource_created_or_updated 2", "4 resource_created_or_updated 2"}},
		{"ip stack", nil, func(a *Account) { a.Resources[0].IPStack = wire.IPv4Only },
			[]string{"drop", "1 reject_access client 1 resource 1", "3 resource_deleted 1", "3 resource_created_or_updated 1"}},
		{"moved to another site", nil, func(a *Account) { a.Resources[0].Site = id.Site{paris} },
			[]string{"drop", "1 reject_access client 1 resource 1", "3 resource_created_or_updated 1"}},
		{"moved to another site, old client", old, func(a *Account) { a.Resources[0].Site = id.Site{paris} },
			[]string{"drop", "1 reject_access client 1 resource 1", "3 resource_deleted 1", "3 resource_created_or_updated 1"}},
		{"unused resource moved, new client", nil, func(a *Account) { a.Resources[2].Site = id.Site{berlin} },
			[]string{"3 resource_created_or_updated 3"}},
		{"unused resource moved, old client", old, func(a *Account) { a.Resources[2].Site = id.Site{berlin} },
			[]string{"3 resource_deleted 3", "3 resource_created_or_updated 3"}},
		{"resource deleted", nil, func(a *Account) { a.Resources, a.Policies = a.Resources[1:], a.Policies[1:] },
			[]string{"drop", "1 reject_access client 1 resource 1", "3 resource_deleted 1"}},
		{"site renamed", nil, func(a *Account) { a.Sites[0].Name = "Spandau" },
			[]string{"3 resource_created_or_updated 1", "3 resource_created_or_updated 2", "4 resource_created_or_updated 2"}},
		{"resolvers", nil, func(a *Account) { a.Do53 = []netip.Addr{netip.MustParseAddr("1.1.1.1")} },
			[]string{"3 config_changed", "4 config_changed"}},
		{"search domain", nil, func(a *Account) { a.SearchDomain = "" }, []string{"3 config_changed", "4 config_changed"}},
		{"slug", nil, func(a *Account) { a.Slug = "acme2" },
			[]string{"1 init authorizations 3 relays 0", "2 init authorizations 1 relays 0"}},
		{"site deleted", nil, func(a *Account) {
			a.Sites, a.Resources, a.Policies = a.Sites[:1], a.Resources[:2], a.Policies[:2]
		}, []string{"drop", "2 reject_access client 1 resource 4", "2 close", "3 resource_deleted 3", "3 resource_deleted 4"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var w *world
			if c.peers != nil {
				w = settled(t, c.peers)
			} else {
				w = settled(t)
			}
			a := account()
			c.change(&a)
			if err := w.Reconfigure(a, w.now); err != nil {
				t.Fatal(err)
			}
			w.want(c.want...)
			if err := w.Reconfigure(a, w.now); err != nil {
				t.Fatal(err)
			}
			w.want()
		})
	}
}

func TestBadAccountChangesNothing(t *testing.T) {
	for name, change := range map[string]func(*Account){
		"resource without site":   func(a *Account) { a.Sites = nil },
		"policy without group":    func(a *Account) { a.Groups = a.Groups[:1] },
		"policy without resource": func(a *Account) { a.Resources = a.Resources[:1] },
		"unknown condition":       func(a *Account) { a.Policies[0].Conditions = []Condition{{Property: "weather"}} },
	} {
		w := settled(t)
		a := account()
		change(&a)
		if err := w.Reconfigure(a, w.now); err == nil {
			t.Errorf("%s was accepted", name)
		}
		w.want()
		w.requests(3, wiki)
		w.want("save client 1 resource 1 gateway 7", "1 create_authorization client 1 resource 1")
	}
}

// Device pools may stand in an account; nobody is shown them.
func TestDevicePoolsAreNotShown(t *testing.T) {
	w := settled(t)
	a := account()
	a.Resources = append(a.Resources, Resource{ID: id.Resource{9}, Type: wire.StaticDevicePool, Name: "Printers"})
	a.Policies = append(a.Policies, Policy{ID: id.Policy{9}, Group: id.Group{all}, Resource: id.Resource{9}})
	if err := w.Reconfigure(a, w.now); err != nil {
		t.Fatal(err)
	}
	w.requests(3, 9)
	w.want("3 authorization_creation_failed resource 9 not_found []")
}

func TestRevokedToken(t *testing.T) {
	w := settled(t)
	w.Revoke(id.Token{alice}, w.now)
	w.want("drop", "1 reject_access client 1 resource 1", "drop", "1 reject_access client 1 resource 2", "drop", "2 reject_access client 1 resource 4",
		"3 disconnect token_expired", "3 close")
	w.Revoke(id.Token{7}, w.now)
	w.want("1 disconnect token_expired", "1 close")
	w.relay(5, 9)
	w.after(time.Second)
	w.settle()
	w.Revoke(id.Token{9}, w.now)
	w.want("5 close")
	w.after(time.Second)
	w.want("4 relays_presence gone 1 entries 0", "2 relays_presence gone 1 entries 0") // clients, then gateways
}

// A peer that was let in just before its token was revoked joins in vain.
func TestRevokedOnTheWayIn(t *testing.T) {
	w := newWorld(t)
	w.Revoke(id.Token{alice}, w.now)
	w.client(1, alice)
	w.gateway(2, alice, berlin)
	w.relay(3, alice)
	w.want("1 disconnect token_expired", "1 close", "2 disconnect token_expired", "2 close", "3 close")
}

func TestRevokedWhileOffline(t *testing.T) {
	w := settled(t)
	w.Leave(3, w.now)
	w.Revoke(id.Token{alice}, w.now)
	w.want("drop", "1 reject_access client 1 resource 1", "drop", "1 reject_access client 1 resource 2", "drop", "2 reject_access client 1 resource 4")
}

// A client that comes back from a network its policy does not allow loses what
// it had there.
func TestRoamingOutOfAPolicy(t *testing.T) {
	a := account()
	a.Policies[0].Conditions = []Condition{{RemoteIP, "is_in_cidr", []string{"203.0.113.0/24"}}}
	w := settled(t)
	if err := w.Reconfigure(a, w.now); err != nil {
		t.Fatal(err)
	}
	w.requests(3, wiki)
	w.Leave(3, w.now)
	w.settle()
	w.client(5, alice, func(c *Client) { c.At.RemoteIP = netip.MustParseAddr("198.51.100.1") })
	w.want("drop", "1 reject_access client 1 resource 1", "5 init [2 3 4] relays 0")
}

// What rested on a policy that changed while the portal was down is void.
func TestRestartWithAnotherAccount(t *testing.T) {
	w := settled(t)
	live := w.live.all()
	var kept []Authorization
	for _, a := range live {
		kept = append(kept, *a)
	}
	kept[0].Basis = "of another policy"
	kept[3].Actor.Email, kept[3].Actor.Service = "robot@example.com", true
	w = newWorld(t, kept...)
	w.want("drop", "drop")
	if got := len(w.live.all()); got != len(kept)-2 {
		t.Errorf("%d of %d are left", got, len(kept))
	}
}

// A request that waits when its resource goes gets no late answer.
func TestRequestForAResourceThatGoes(t *testing.T) {
	w := newWorld(t)
	w.gateway(1, 7, berlin)
	w.client(2, alice)
	w.settle()
	w.requests(2, wiki)
	created := pushed[wire.CreateAuthorization](t, w.Drain())
	a := account()
	a.Resources, a.Policies = a.Resources[1:], a.Policies[1:]
	if err := w.Reconfigure(a, w.now); err != nil {
		t.Fatal(err)
	}
	w.want("drop", "1 reject_access client 1 resource 1", "2 resource_deleted 1")
	w.says(1, wire.AuthorizationAccepted{Ref: created.Ref})
	w.after(time.Minute)
	w.want()
}
