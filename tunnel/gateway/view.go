package gateway

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/wire"
)

// The views are for people who run a gateway: what it does, for whom, and why.
// They change nothing. Each call is short, whatever the number of clients and
// sessions; whoever wants to see all of them asks again and again, and lets
// packets pass in between. The names of their JSON fields are promises, and
// documented with the commands that show them (package operator).

// A Moment is the time on the two clocks that a view needs: all it tells is in
// the calendar's.
type Moment struct {
	Now  time.Time // of the clock that the Core is told
	Wall time.Time // the same instant of the calendar
}

// calendar converts a time of the Core's; zero stays zero.
func (m Moment) calendar(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return m.Wall.Add(t.Sub(m.Now)).UTC().Truncate(time.Millisecond)
}

// A Summary is the gateway as a whole.
type Summary struct {
	PortalUp bool       `json:"portal_up"`
	IPv4     netip.Addr `json:"ipv4,omitzero"` // tunnel addresses, once the portal told them
	IPv6     netip.Addr `json:"ipv6,omitzero"`
	Clients  int        `json:"-"` // also those that are away
	Sessions int        `json:"sessions"`
	// Drops counts packets that did not pass, by reason (N52); all else that
	// happened is in Events.
	Drops       map[string]uint64 `json:"drops"`
	Events      map[string]uint64 `json:"events"`
	Resolutions Resolutions       `json:"resolutions"`
	Relays      []Relay           `json:"relays"`
	Answers     Histogram         `json:"-"` // first packets that came back from resources
	LostFlows   uint64            `json:"-"` // decided, but never told in core.Output.Flows
}

// Resolutions are the names that clients announced and the gateway looks up.
type Resolutions struct {
	Running int `json:"running"`
	Waiting int `json:"waiting"`
	// How those went that ended.
	Addresses uint64 `json:"with_addresses"`
	Empty     uint64 `json:"without_addresses"`
	Failed    uint64 `json:"failed"`
	// Took counts those that ended by how long they took.
	Took Histogram `json:"-"`
}

// A Histogram counts durations. Counts has one more element than Bounds.
type Histogram struct {
	Bounds []time.Duration // upper ends, included
	Counts []uint64
	Sum    time.Duration
}

// A Relay is one that the gateway may be reached through.
type Relay struct {
	ID        id.Relay         `json:"id"`
	Address   netip.AddrPort   `json:"address,omitzero"` // missing while it has not answered
	RTT       float64          `json:"rtt_ms,omitzero"`
	Allocated []netip.AddrPort `json:"allocated"` // our addresses there
}

// Summary tells of the gateway as a whole.
func (c *Core) Summary() Summary {
	s := Summary{
		PortalUp: c.portalUp, IPv4: c.own4, IPv6: c.own6, Clients: len(c.clients), LostFlows: c.lostFlows(),
		Drops: c.Drops(), Events: make(map[string]uint64), Relays: []Relay{},
		Sessions: c.Sessions(), Resolutions: c.lookups.view(), Answers: c.answers.view(),
	}
	for i := lastDrop + 1; i < numCounters; i++ {
		s.Events[counterNames[i]] = c.counts[i]
	}
	for _, k := range c.clients {
		s.Resolutions.Waiting += len(k.names.queue)
	}
	for _, r := range c.paths.ReportRelays(nil) {
		s.Relays = append(s.Relays, Relay{r.ID, r.Addr, float64(r.RTT.Microseconds()) / 1000, r.Allocated})
	}
	return s
}

// Clients appends the IDs of all clients, in no order that means something.
func (c *Core) Clients(dst []id.Client) []id.Client {
	for who := range c.clients {
		dst = append(dst, who)
	}
	return dst
}

// A Client is one that is, or was until recently, authorized for something.
type Client struct {
	ID    id.Client  `json:"id"`
	IPv4  netip.Addr `json:"ipv4"` // tunnel addresses
	IPv6  netip.Addr `json:"ipv6"`
	Actor string     `json:"actor,omitempty"` // e-mail address or name of who uses it, if the portal told
	// State is "direct" or "relayed" if packets can pass, "idle" if they could
	// but have not for a while, "connecting", or "away": it has no connection.
	State         string         `json:"state"`
	Remote        netip.AddrPort `json:"remote,omitzero"` // where it is, or its relay
	LastHandshake time.Time      `json:"last_handshake,omitzero"`
	BytesOut      uint64         `json:"bytes_out"` // from the client, since it connected
	BytesIn       uint64         `json:"bytes_in"`
	// KeptUntil is when the sessions of a client that left will be given up.
	KeptUntil      time.Time       `json:"kept_until,omitzero"`
	Sessions       int             `json:"sessions"`
	Authorizations []Authorization `json:"authorizations"`
}

// An Authorization is what lets a client use a resource.
type Authorization struct {
	Resource  id.Resource       `json:"resource_id"`
	Name      string            `json:"resource"`
	Type      wire.ResourceType `json:"type"`
	Address   string            `json:"address"`
	Filters   []string          `json:"filters"` // "tcp/443", "udp/8000-8100", "icmp"; none: all is permitted
	Actor     string            `json:"actor,omitempty"`
	Policy    id.Policy         `json:"policy_id,omitzero"`
	ExpiresAt time.Time         `json:"expires_at,omitzero"` // missing: never
}

// Client tells of one client; ok is false if there is none with this ID.
func (c *Core) Client(who id.Client, m Moment) (v Client, ok bool) {
	k := c.clients[who]
	if k == nil {
		return Client{}, false
	}
	v = Client{ID: k.id, IPv4: k.addr4, IPv6: k.addr6, Actor: k.actor, State: "away", Sessions: k.nat.Len(), Authorizations: []Authorization{}}
	if r, there := c.paths.ReportOf(k.peer); there {
		v.State, v.Remote = stateOf(r), r.Remote
		v.LastHandshake, v.BytesOut, v.BytesIn = m.calendar(r.LastHandshake), r.Received, r.Sent
	}
	if !k.parked.IsZero() {
		v.KeptUntil = m.calendar(k.parked.Add(parkFor))
	}
	for _, g := range k.grants {
		if g.valid(m.Now) {
			v.Authorizations = append(v.Authorizations, g.view(m))
		}
	}
	slices.SortFunc(v.Authorizations, func(a, b Authorization) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), a.Resource.Compare(b.Resource))
	})
	return v, true
}

func stateOf(r core.Connection) string {
	switch {
	case r.State != "connected":
		return r.State
	case r.Relayed:
		return "relayed"
	}
	return "direct"
}

func (g *grant) view(m Moment) Authorization {
	a := Authorization{
		Resource: g.resource.ID, Name: g.resource.Name, Type: g.resource.Type, Address: g.resource.Address,
		Filters: []string{}, ExpiresAt: m.calendar(g.expires),
	}
	if g.by != nil {
		a.Actor, a.Policy = g.by.ActorName, g.by.Policy
	}
	for _, f := range g.filters {
		a.Filters = append(a.Filters, filterText(f))
	}
	return a
}

// filterText is a filter as the portal's configuration has it.
func filterText(f wire.Filter) string {
	switch {
	case f.Protocol == wire.ICMP, f.First == 0 && f.Last == 65535:
		return f.Protocol.String()
	case f.First == f.Last:
		return fmt.Sprintf("%v/%d", f.Protocol, f.First)
	}
	return fmt.Sprintf("%v/%d-%d", f.Protocol, f.First, f.Last)
}
