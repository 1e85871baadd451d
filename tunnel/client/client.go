// Package client is the client's role: it decides which packets go to which
// gateway, asks the portal for access when traffic wants it, holds packets
// until there is a way, answers DNS, and states how the TUN device shall be.
//
// A packet's life begins in outbound.go. What it may have to wait for, in this
// order: an authorization (access.go), the gateway's NAT knowing its name
// (binding.go), a session with the gateway (gateway.go).
//
// Sections are those of spec client-dns.md unless another document is named.
package client

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/fragment"
	"stile/tunnel/id"
	"stile/tunnel/path"
	"stile/tunnel/policy"
	"stile/tunnel/resolver"
	"stile/tunnel/wg"
	"stile/tunnel/wire"
)

// Config is what a Core is made from.
type Config struct {
	Private wire.Key         // WireGuard key of this process
	Names   []core.ProxyName // proxy addresses of earlier runs
	// InternetOn is whether the user switched the Internet resource on.
	InternetOn bool
	Rand       io.Reader // cryptographic randomness; reading must not fail
	Wall       time.Time // the wall clock's time at New
}

// paths is what the core needs of a path.Node.
type paths interface {
	PublicKey() wire.Key
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
	Reset(private wire.Key, now time.Time)
	Advance(now time.Time)
	Next() time.Time
	Drain(o *path.Output)
	Report(dst []core.Connection) []core.Connection
	ReportOf(p id.Peer) (core.Connection, bool)
	ReportRelays(dst []core.Relay) []core.Relay
}

// A Core is the client. It implements core.Role.
type Core struct {
	paths    paths
	resolver *resolver.Resolver
	now      time.Time // of the last input

	own4, own6 netip.Addr // tunnel addresses; invalid until the portal told them
	portalUp   bool
	joined     time.Time // when the portal channel was last joined
	internetOn bool

	resources map[id.Resource]*resource
	internet  *resource             // the active Internet resource, nil if there is none
	networks  policy.Table          // of CIDR resources
	waiting   []*resource           // those with a request, in the order of asking
	askDue    time.Time             // when to ask for one of them again; zero: not by time
	offline   map[id.Site]time.Time // until when sites count as offline

	gateways map[id.Gateway]*gateway
	byAddr   map[netip.Addr]*gateway // by tunnel address
	memory   memory
	held     int // packets in all queues

	fragments fragment.Table[target]
	sweepDue  time.Time // when to look for fragments that nothing follows; zero: there are none

	bindings bindings
	tun      tun
	names    saver

	pathOut path.Output
	out     core.Output
	outcome string // of the last packet, if it goes nowhere
	counts  [numCounters]uint64
}

var (
	_ core.Role      = (*Core)(nil)
	_ core.Explainer = (*Core)(nil)
	_ core.Briefer   = (*Core)(nil)
)

// New returns a client that knows no portal, no resources and no resolvers.
func New(c Config, now time.Time) *Core {
	return build(c, path.New(path.Config{Controlling: true, Private: c.Private, Wall: c.Wall, Rand: c.Rand}, now), now)
}

func build(c Config, p paths, now time.Time) *Core {
	k := &Core{
		paths:      p,
		now:        now,
		internetOn: c.InternetOn,
		resources:  make(map[id.Resource]*resource),
		gateways:   make(map[id.Gateway]*gateway),
		byAddr:     make(map[netip.Addr]*gateway),
		offline:    make(map[id.Site]time.Time),
	}
	k.resolver = resolver.New(resolver.Config{Names: c.Names, Rand: c.Rand, Tunnelled: k.tunnelled})
	k.names.saved = k.resolver.Len()
	k.memory.init()
	k.tun.init()
	return k
}

// Advance runs what is due.
func (c *Core) Advance(now time.Time) {
	c.now = now
	c.paths.Advance(now)
	if due(c.resolver.Next(), now) {
		c.resolver.Advance(now)
		c.tun.changed = true
	}
	if due(c.askDue, now) {
		c.askLater(now)
	}
	if due(c.bindings.due, now) {
		c.retryBindings(now)
	}
	if due(c.names.due, now) {
		c.remember()
	}
	if due(c.sweepDue, now) {
		c.forgetFragments(now)
	}
	if due(c.tun.retry, now) {
		c.tun.retry = time.Time{}
		c.tun.changed, c.tun.last = true, core.TUN{}
	}
}

// Next returns when Advance is due.
func (c *Core) Next() time.Time {
	next := c.paths.Next()
	for _, t := range [...]time.Time{c.resolver.Next(), c.askDue, c.bindings.due, c.names.due, c.tun.retry, c.sweepDue} {
		next = earlier(next, t)
	}
	return next
}

// earlier returns the earlier of two times of which zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func due(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }

// Drain moves out all that is to be done. What the paths report is acted upon
// here, so that it cannot be forgotten after any input.
func (c *Core) Drain(o *core.Output) {
	c.settle()
	c.configure()
	o.Datagrams = append(o.Datagrams, c.out.Datagrams...)
	o.Held = append(o.Held, c.out.Held...)
	o.Packets = append(o.Packets, c.out.Packets...)
	o.Actions = append(o.Actions, c.out.Actions...)
	o.Notes = append(o.Notes, c.out.Notes...)
	c.out.Reset()
}

// settle drains the paths until they have nothing more to say.
func (c *Core) settle() {
	for {
		c.pathOut.Reset()
		c.paths.Drain(&c.pathOut)
		c.out.Datagrams = append(c.out.Datagrams, c.pathOut.Datagrams...)
		c.out.Held = append(c.out.Held, c.pathOut.Held...)
		c.out.Notes = append(c.out.Notes, c.pathOut.Notes...)
		if len(c.pathOut.Events) == 0 {
			return
		}
		for _, e := range c.pathOut.Events {
			c.event(e, c.now)
		}
	}
}

func (c *Core) event(e path.Event, now time.Time) {
	switch e := e.(type) {
	case path.Established:
		c.established(id.GatewayOf(e.Peer), now)
	case path.Failed:
		c.count(connectionsFailed)
		if g := c.gateways[id.GatewayOf(e.Peer)]; g != nil {
			for _, r := range g.resources {
				r.broke = now
			}
			c.forget(g)
		}
	case path.Candidates:
		c.tell(wire.ClientCandidates{Gateways: []id.Gateway{id.GatewayOf(e.Peer)}, Candidates: e.Texts, Invalidate: e.Invalidate})
	case path.NoRelays:
		c.tell(wire.NoRelays{})
	}
}

// Stop says goodbye to all gateways.
func (c *Core) Stop(now time.Time) {
	c.now = now
	for _, g := range c.sortedGateways() {
		c.close(g, true, now)
	}
	c.remember()
}

// NetworkChanged starts all connections anew (connectivity.md 7.2). Proxy
// addresses and the memory of gateways stay, so that traffic finds back to the
// gateways that hold its sessions.
func (c *Core) NetworkChanged(private wire.Key, now time.Time) {
	c.now = now
	c.note(core.Note{What: "network changed"})
	for _, g := range c.sortedGateways() {
		c.forget(g)
	}
	c.dropRequests()
	for _, r := range c.resources {
		r.asked = time.Time{}
	}
	c.paths.Reset(private, now)
	c.portalUp = false
	c.act(core.Rebind{})
	c.act(core.Reconnect{PublicKey: c.paths.PublicKey()})
}

// PortalUp tells that the portal channel was joined: capabilities are stated
// anew each time (spec portal.md 2.9). Requests follow init.
func (c *Core) PortalUp(now time.Time) {
	c.now, c.portalUp, c.joined = now, true, now
	c.note(core.Note{What: "portal joined"})
	c.tell(wire.SetCapabilities{Iceless: false})
	c.paths.PortalUp(now)
}

// PortalDown tells that the portal channel was lost. Connections live on.
func (c *Core) PortalDown(now time.Time) {
	c.now, c.portalUp = now, false
	c.note(core.Note{What: "portal lost"})
	c.paths.PortalDown(now)
}

// Done takes the result of slow work.
func (c *Core) Done(r core.Result, now time.Time) {
	c.now = now
	switch r := r.(type) {
	case core.Exchanged:
		if r.Err != nil {
			c.note(core.Note{What: "query not answered", Reason: r.Err.Error()})
		}
		if reply, ok := c.resolver.Answered(r.ID, r.Reply, r.Err); ok {
			c.deliver(reply.Sentinel, reply.App, reply.Message)
		}
	case core.Configured:
		c.configured(r.Err, now)
	case core.SystemResolvers:
		c.note(core.Note{What: "system resolvers", Reason: fmt.Sprint(r.Servers)})
		c.resolver.SetSystem(r.Servers, now)
		c.tun.changed = true
	case core.InternetResource:
		if c.internetOn != r.On {
			c.note(core.Note{What: "Internet resource switched", Reason: map[bool]string{true: "on", false: "off"}[r.On]})
			c.internetOn = r.On
			c.chooseInternet(now)
		}
	}
}

// tell sends a message to the portal.
func (c *Core) tell(m wire.Message) { c.act(core.Tell{Message: m}) }

// note tells of a step or a decision.
func (c *Core) note(n core.Note) { c.out.Notes = append(c.out.Notes, n) }

func (c *Core) act(a core.Action) { c.out.Actions = append(c.out.Actions, a) }

func (c *Core) sortedGateways() []*gateway {
	list := make([]*gateway, 0, len(c.gateways))
	for _, g := range c.gateways {
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b *gateway) int { return a.id.Compare(b.id) })
	return list
}
