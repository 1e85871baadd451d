// Package gateway is the gateway's role: it lets clients reach what the portal
// says they may, for as long as it says so, and nothing else.
//
// A packet from a client passes inbound.go, the reply outbound.go; both ask
// access.go who may pass and tunnel/nat which way to translate; fragments.go
// lets the parts of a large one follow the first. What the portal says arrives in
// message.go; the names that clients announce, in names.go.
//
// Sections and rules (N1…) are those of spec gateway-nat.md unless another
// document is named.
package gateway

import (
	"encoding/binary"
	"io"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/nat"
	"stile/tunnel/path"
	"stile/tunnel/policy"
	"stile/tunnel/wg"
	"stile/tunnel/wire"
)

// Config is what a Core is made from.
type Config struct {
	Private wire.Key  // WireGuard key of this process
	Rand    io.Reader // cryptographic randomness; reading must not fail
	Wall    time.Time // the wall clock's time at New
	Flows   bool      // tell of sessions and denials in core.Output.Flows

	// HostPorts are services of this host that clients may use at its tunnel
	// address, besides its DNS and echo (N45).
	HostPorts policy.Filters
	// LinkLocal are the link-local addresses that names may point at (N19).
	LinkLocal []netip.Prefix
	// Memory gives room for the sessions of all clients; nil stands for the heap.
	Memory nat.Memory
	// Spread lets clients begin at different addresses of a name (O1).
	Spread bool
	// TellFamilies tells clients for which families a name has addresses (O2).
	TellFamilies bool
}

// paths is what the core needs of a path.Node.
type paths interface {
	Relays(remove []id.Relay, add []wire.Relay, now time.Time)
	Upsert(p path.Peer, now time.Time) error
	Close(p id.Peer, goodbye bool, now time.Time)
	AddCandidates(p id.Peer, texts []string, now time.Time)
	RemoveCandidates(p id.Peer, texts []string, now time.Time)
	Datagram(d core.Datagram, now time.Time) core.Sealed
	Received(k *wg.Keys, counter uint64, size int, now time.Time) (id.Peer, bool)
	Route(p id.Peer, size int, now time.Time) core.Route
	Control(p id.Peer, packet []byte, now time.Time) bool
	PortalUp(now time.Time)
	PortalDown(now time.Time)
	Advance(now time.Time)
	Next() time.Time
	Drain(o *path.Output)
	Report(dst []core.Connection) []core.Connection
	ReportOf(p id.Peer) (core.Connection, bool)
	ReportRelays(dst []core.Relay) []core.Relay
}

// A Core is the gateway. It implements core.Role.
type Core struct {
	c          Config
	paths      paths
	rng        *rand.Rand // ports of NAT sessions
	wall, born time.Time  // the wall clock was at wall when now was born
	now        time.Time  // of the last input
	portalUp   bool

	own4, own6 netip.Addr // tunnel addresses; invalid until the portal told them
	tun        tun

	clients map[id.Client]*client
	byAddr  map[netip.Addr]*client // by tunnel address
	lookups lookups
	answers histogram // first answers of resources
	flows   flows

	due      time.Time // when housekeep has something to do; zero: never
	kept     time.Time // when it last ran
	sweeping sweeping

	refreshing refreshing
	lookahead  lookahead

	pathOut path.Output
	out     core.Output
	counts  [numCounters]uint64
}

var _ core.Role = (*Core)(nil)

// New returns a gateway that knows no portal and no clients.
func New(c Config, now time.Time) *Core {
	return build(c, path.New(path.Config{Private: c.Private, Wall: c.Wall, Rand: c.Rand}, now), now)
}

func build(c Config, p paths, now time.Time) *Core {
	var seed [16]byte
	if _, err := io.ReadFull(c.Rand, seed[:]); err != nil {
		panic("no randomness: " + err.Error())
	}
	return &Core{
		c:       c,
		paths:   p,
		rng:     rand.New(rand.NewPCG(binary.BigEndian.Uint64(seed[:8]), binary.BigEndian.Uint64(seed[8:]))),
		wall:    c.Wall,
		born:    now,
		now:     now,
		clients: make(map[id.Client]*client),
		byAddr:  make(map[netip.Addr]*client),
		lookups: lookups{by: make(map[uint64]*lookup), record: record{took: histogram{bounds: lookupBounds}}},
		answers: histogram{bounds: answerBounds},
		flows:   flows{on: c.Flows},
		kept:    now,
	}
}

// Datagram decides about a datagram read from a socket.
func (c *Core) Datagram(d core.Datagram, now time.Time) core.Sealed {
	c.now = now
	return c.paths.Datagram(d, now)
}

// PortalUp tells that the portal channel was joined: capabilities are stated
// anew each time (spec portal.md 2.9).
func (c *Core) PortalUp(now time.Time) {
	c.now, c.portalUp = now, true
	c.tell(wire.SetCapabilities{Iceless: false})
	c.paths.PortalUp(now)
}

// PortalDown tells that the portal channel was lost. Everything goes on.
func (c *Core) PortalDown(now time.Time) {
	c.now, c.portalUp = now, false
	c.paths.PortalDown(now)
}

// Done takes the result of slow work.
func (c *Core) Done(r core.Result, now time.Time) {
	c.now = now
	switch r := r.(type) {
	case core.Looked:
		c.looked(r, now)
	case core.Configured:
		c.configured(r.Err, now)
	}
}

// NetworkChanged finds out how the relays see us: a gateway does not start
// over, it signals what is new (spec connectivity.md 7.1).
func (c *Core) NetworkChanged(_ wire.Key, now time.Time) {
	c.now = now
	c.paths.Relays(nil, nil, now)
}

// Stop says goodbye to all clients.
func (c *Core) Stop(now time.Time) {
	c.now = now
	for _, k := range c.sortedClients() {
		c.paths.Close(k.peer, true, now)
		c.repeatAll(k)
	}
}

// Advance runs what is due.
func (c *Core) Advance(now time.Time) {
	c.now = now
	c.paths.Advance(now)
	if due(c.due, now) {
		c.housekeep(now)
	}
	if due(c.sweeping.next, now) {
		c.sweep(now)
	}
	c.retryConfigure(now)
	c.refresh(now)
	c.hurry(now)
}

// Next returns when Advance is due; the zero time means never.
func (c *Core) Next() time.Time {
	next := c.paths.Next()
	for _, t := range [...]time.Time{c.due, c.sweeping.next, c.refreshing.next(), c.slowDue(), c.tun.retry} {
		next = earliest(next, t)
	}
	return next
}

// Drain moves out all that is to be done. What the paths report is acted upon
// here, so that it cannot be forgotten after any input.
func (c *Core) Drain(o *core.Output) {
	c.settle()
	c.configure()
	c.collect()
	o.Datagrams = append(o.Datagrams, c.out.Datagrams...)
	o.Held = append(o.Held, c.out.Held...)
	o.Packets = append(o.Packets, c.out.Packets...)
	o.Actions = append(o.Actions, c.out.Actions...)
	o.Flows = append(o.Flows, c.out.Flows...)
	c.out.Reset()
	c.flows.trim(&c.out)
}

// settle drains the paths. Their candidates go to the portal behind whatever
// was already said to it: an authorization is accepted before its candidates
// are signalled (spec portal.md 4.5).
func (c *Core) settle() {
	c.pathOut.Reset()
	c.paths.Drain(&c.pathOut)
	c.out.Datagrams = append(c.out.Datagrams, c.pathOut.Datagrams...)
	c.out.Held = append(c.out.Held, c.pathOut.Held...)
	for _, e := range c.pathOut.Events {
		switch e := e.(type) {
		case path.Established:
			c.count(connected)
		case path.Failed:
			// Authorizations and sessions stay: the client may come back (N28).
			c.count(connectionsFailed)
		case path.Candidates:
			c.tell(wire.BroadcastCandidates{Clients: []id.Client{id.ClientOf(e.Peer)}, Candidates: e.Texts, Invalidate: e.Invalidate})
		case path.NoRelays:
			c.tell(wire.NoRelays{})
		}
	}
}

// tell sends a message to the portal.
func (c *Core) tell(m wire.Message) { c.act(core.Tell{Message: m}) }

func (c *Core) act(a core.Action) { c.out.Actions = append(c.out.Actions, a) }

// sortedClients is for loops whose order can be seen.
func (c *Core) sortedClients() []*client {
	return slices.SortedFunc(maps.Values(c.clients), func(a, b *client) int { return a.id.Compare(b.id) })
}

func due(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }

// earliest returns the earlier of two times of which zero means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
