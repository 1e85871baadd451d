package portal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/wire"
)

// start is a Monday, 10:00 in UTC.
var start = time.Date(2026, 9, 21, 10, 0, 0, 0, time.UTC)

// Everything in the fixture is numbered; a number is the first byte of an ID.
const (
	berlin, paris                                      = 1, 2       // sites
	staff, all                                         = 1, 2       // groups
	wiki, lab, net, mail                               = 1, 2, 3, 4 // resources
	alice, bob, robot                                  = 1, 2, 3    // actors
	wikiForStaff, labForAll, netForStaff, mailForStaff = 1, 2, 3, 4 // policies
)

func resourceID(n byte) id.Resource { return id.Resource{n} }

func account() Account {
	return Account{
		ID: id.Account{1}, Name: "Acme", Slug: "acme", APIURL: "https://portal.example.net/",
		Sites:  []wire.Site{{ID: id.Site{berlin}, Name: "Berlin"}, {ID: id.Site{paris}, Name: "Paris"}},
		Groups: []Group{{ID: id.Group{staff}, Name: "staff", Emails: []string{"Alice@example.com"}}, {ID: id.Group{all}, Name: "all", Everyone: true}},
		Resources: []Resource{
			{ID: id.Resource{wiki}, Type: DNS, Name: "Wiki", Address: "*.wiki.corp.example", Site: id.Site{berlin}, Filters: []wire.Filter{{Protocol: wire.TCP, First: 443, Last: 443}}},
			{ID: id.Resource{lab}, Type: CIDR, Name: "Lab", Address: "10.20.0.1/16", Site: id.Site{berlin}},
			{ID: id.Resource{net}, Type: Internet, Name: "Internet", Site: id.Site{paris}},
			{ID: id.Resource{mail}, Type: IP, Name: "Mail", Address: "10.0.0.5", Site: id.Site{paris}},
		},
		Policies: []Policy{
			{ID: id.Policy{wikiForStaff}, Group: id.Group{staff}, Resource: id.Resource{wiki}},
			{ID: id.Policy{labForAll}, Group: id.Group{all}, Resource: id.Resource{lab}},
			{ID: id.Policy{netForStaff}, Group: id.Group{staff}, Resource: id.Resource{net}},
			{ID: id.Policy{mailForStaff}, Group: id.Group{staff}, Resource: id.Resource{mail}, Conditions: []Condition{
				{CurrentTime, "is_in_day_of_week_time_ranges", []string{"M/09:00-17:00/UTC"}}}},
		},
		Do53: []netip.Addr{netip.MustParseAddr("9.9.9.9")}, SearchDomain: "corp.example",
	}
}

var actors = map[byte]Actor{
	alice: {ID: id.Actor{alice}, Name: "Alice", Email: "alice@EXAMPLE.com"},
	bob:   {ID: id.Actor{bob}, Name: "Bob", Email: "bob@example.com"},
	robot: {ID: id.Actor{robot}, Name: "Robot", Service: true},
}

// A world is a portal under test with its clock.
type world struct {
	*Portal
	t   *testing.T
	now time.Time
}

// counter is a source of "randomness" that never repeats.
type counter struct{ n uint64 }

func (c *counter) Read(b []byte) (int, error) {
	c.n++
	clear(b)
	binary.BigEndian.PutUint64(b, c.n)
	return len(b), nil
}

func newWorld(t *testing.T, live ...Authorization) *world {
	t.Helper()
	p, err := New(Config{
		Account: account(), Zones: time.LoadLocation, IngestKey: bytes.Repeat([]byte{1}, 32),
		Seed: rand.New(rand.NewPCG(1, 2)), Random: &counter{}, Live: live,
	}, start)
	if err != nil {
		t.Fatal(err)
	}
	return &world{p, t, start}
}

// client and gateway join as device n on connection conn.
func (w *world) client(conn Conn, n byte, change ...func(*Client)) {
	c := Client{
		ID: id.Client{n}, Key: filled(n), PSKBase: filled(n + 100), Actor: actors[n], Token: id.Token{n},
		IPv4: netip.AddrFrom4([4]byte{100, 64, 1, n}), IPv6: netip.MustParseAddr("fd00:2021:1111::1"),
		At: Circumstances{RemoteIP: netip.MustParseAddr("203.0.113.9")}, Agent: Agent{Component: Headless, Version: Version{1, 5, 11}},
	}
	for _, f := range change {
		f(&c)
	}
	w.JoinClient(conn, c, w.now)
}

func (w *world) gateway(conn Conn, n, site byte, change ...func(*Gateway)) {
	g := Gateway{
		ID: id.Gateway{n}, Site: id.Site{site}, Key: filled(n), PSKBase: filled(n + 100), Token: id.Token{n},
		IPv4: netip.AddrFrom4([4]byte{100, 64, 2, n}), IPv6: netip.MustParseAddr("fd00:2021:1111::2"),
		Agent: Agent{Component: GatewayProgram, Version: Version{1, 6, 0}},
	}
	for _, f := range change {
		f(&g)
	}
	w.JoinGateway(conn, g, w.now)
}

func (w *world) relay(conn Conn, n byte) {
	w.JoinRelay(conn, Relay{
		IPv4: netip.AddrFrom4([4]byte{203, 0, 113, n}), IPv6: netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", n)), Port: 3478,
		StampSecret: wire.Secret(strings.Repeat(fmt.Sprintf("%02x", n), 32)), Token: id.Token{n},
	}, w.now)
}

func (w *world) says(conn Conn, m wire.Message) { w.Message(conn, m, w.now) }

func (w *world) requests(conn Conn, resource byte, connected ...id.Gateway) {
	w.says(conn, wire.RequestAuthorization{Resource: id.Resource{resource}, ConnectedGateways: connected})
}

// after moves the clock and does what is due on the way.
func (w *world) after(d time.Duration) {
	end := w.now.Add(d)
	for next := w.Next(); !next.After(end); next = w.Next() {
		w.now = next
		w.Advance(next)
	}
	w.now = end
}

// want drains and compares, one line for each action: "conn event detail".
func (w *world) want(lines ...string) []Action {
	w.t.Helper()
	actions := w.Drain()
	var got []string
	for _, a := range actions {
		got = append(got, describe(a))
	}
	if !reflect.DeepEqual(got, append([]string(nil), lines...)) {
		w.t.Fatalf("did\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(lines, "\n  "))
	}
	return actions
}

// settle forgets what was to be done so far.
func (w *world) settle() { w.Drain() }

func describe(a Action) string {
	switch a := a.(type) {
	case Close:
		return fmt.Sprintf("%d close", a.Conn)
	case Save:
		return fmt.Sprintf("save client %d resource %d gateway %d", a.Authorization.Client[0], a.Authorization.Resource[0], a.Authorization.Gateway[0])
	case Drop:
		return "drop"
	case Push:
		return fmt.Sprintf("%d %s%s", a.To, a.Message.Event(wire.V2), detail(a.Message))
	}
	return "?"
}

func detail(m wire.Message) string {
	switch m := m.(type) {
	case wire.ClientInit:
		var ids []byte
		for _, r := range m.Resources {
			ids = append(ids, r.ID[0])
		}
		return fmt.Sprintf(" %d relays %d", ids, len(m.Relays))
	case wire.GatewayInit:
		return fmt.Sprintf(" authorizations %d relays %d", len(m.Authorizations), len(m.Relays))
	case wire.ResourceUpserted:
		return fmt.Sprintf(" %d", m.ID[0])
	case wire.ResourceDeleted:
		return fmt.Sprintf(" %d", m.ID[0])
	case wire.RejectAccess:
		return fmt.Sprintf(" client %d resource %d", m.Client[0], m.Resource[0])
	case wire.GatewayResourceUpdated:
		return fmt.Sprintf(" %d", m.ID[0])
	case wire.CreateAuthorization:
		return fmt.Sprintf(" client %d resource %d", m.Client[0], m.Resource.ID[0])
	case wire.AuthorizationCreated:
		return fmt.Sprintf(" resource %d gateway %d", m.Resource[0], m.Gateway[0])
	case wire.AuthorizationFailed:
		return fmt.Sprintf(" resource %d %s %v", m.Resource[0], m.Reason, m.Violated)
	case wire.PeerCandidates:
		return fmt.Sprintf(" from %d %s", m.Client[0], strings.Join(m.Candidates, " "))
	case wire.GatewayCandidates:
		return fmt.Sprintf(" from %d %s", m.Gateway[0], strings.Join(m.Candidates, " "))
	case wire.RelaysPresence:
		return fmt.Sprintf(" gone %d entries %d", len(m.Disconnected), len(m.Connected))
	case wire.Disconnect:
		return " " + m.Reason
	}
	return ""
}

// pushed returns the first message of type M among actions.
func pushed[M wire.Message](t *testing.T, actions []Action) M {
	t.Helper()
	for _, a := range actions {
		if push, ok := a.(Push); ok {
			if m, ok := push.Message.(M); ok {
				return m
			}
		}
	}
	var none M
	t.Fatalf("no %T was pushed", none)
	return none
}
