// Package path answers two questions for a node: what has just arrived, and
// which way does a packet go. It runs the connections to all peers (ICE,
// WireGuard) over the allocations on all relays (TURN), on one socket for each
// address family.
//
// Data packets take Route, Datagram and Received: a map look-up each, no
// allocation. Everything else happens at the pace of control traffic.
package path

import (
	"container/heap"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/ice"
	"stile/tunnel/id"
	"stile/tunnel/turn"
	"stile/tunnel/wg"
	"stile/tunnel/wire"
)

var (
	// ErrNoRelay means that no relay is known, so that the node cannot learn
	// how peers reach it. The portal is being asked for relays; ask for
	// access again later.
	ErrNoRelay = errors.New("no relay known")
	// ErrCredentials means that the portal gave no ICE credentials.
	ErrCredentials = errors.New("no ICE credentials")
)

// Config of a node.
type Config struct {
	Controlling bool      // a client; false: a gateway
	Private     wire.Key  // WireGuard, shared by all connections
	Wall        time.Time // the wall clock's time at New; handshakes carry it
	Rand        io.Reader // cryptographic randomness; reading must not fail
}

// A Peer is what the portal says about somebody to connect to.
type Peer struct {
	ID            id.Peer
	Key, PSK      wire.Key // its public key, and the secret we share with it
	Local, Remote wire.ICECredentials
}

// Output is what a node wants done. Payloads and packets are the receiver's.
type Output struct {
	Datagrams []core.Datagram // to be sent at once, in order
	Held      []core.Held     // in-tunnel control packets: to be sealed and sent at once
	Events    []Event         // in order
	Notes     []core.Note     // for whoever keeps a record
}

// Reset empties o and keeps its memory.
func (o *Output) Reset() {
	clear(o.Datagrams)
	clear(o.Held)
	clear(o.Events)
	clear(o.Notes)
	*o = Output{o.Datagrams[:0], o.Held[:0], o.Events[:0], o.Notes[:0]}
}

// An Event is one of Established, Failed, Candidates, NoRelays.
type Event interface{ event() }

type (
	// Established: packets to Peer have a way and keys from here on. It comes
	// again when they had been lost meanwhile.
	Established struct{ Peer id.Peer }
	// Failed: the connection to Peer is over and already removed.
	Failed struct {
		Peer   id.Peer
		Reason Reason
	}
	// Candidates are to be signalled to Peer, or withdrawn.
	Candidates struct {
		Peer       id.Peer
		Texts      []string // best first
		Invalidate bool
	}
	// NoRelays: the portal is to be asked for relays.
	NoRelays struct{}
)

func (Established) event() {}
func (Failed) event()      {}
func (Candidates) event()  {}
func (NoRelays) event()    {}

// Reason says why a connection failed, in words for a log.
type Reason string

const (
	NoCandidates      Reason = "the peer signalled no candidates within 10 s"
	NoLocalCandidates Reason = "no relay told our addresses within 10 s"
	NoWay             Reason = "no candidate pair works"
	Unanswered        Reason = "the peer does not answer handshakes"
	Expired           Reason = "no handshake for nine minutes"
)

// A Node is all connections of a process. It is pure: it is told what happened
// and what time it is, and Drain says what it wants done.
type Node struct {
	controlling bool
	rand        io.Reader
	chance      *rand.Rand
	wall, born  time.Time // the wall clock was at wall when now was born
	identity    *wg.Identity

	relays relays

	connections []*connection // in order of creation
	peers       map[id.Peer]*connection
	keys        map[wire.Key]*connection
	indices     map[uint32]*connection // the top 24 bits of WireGuard indices
	names       map[string]*connection // USERNAME of checks to us
	checks      checks
	agenda      agenda // connections by when they need attention

	portalUp bool
	unsaid   []*connection // that have candidates to signal
	out      Output
}

// New returns a node without relays and peers. The portal counts as connected.
func New(c Config, now time.Time) *Node {
	var seed [32]byte
	if _, err := io.ReadFull(c.Rand, seed[:]); err != nil {
		panic("no randomness: " + err.Error())
	}
	n := &Node{
		controlling: c.Controlling,
		rand:        c.Rand,
		chance:      rand.New(rand.NewChaCha8(seed)),
		wall:        c.Wall,
		born:        now,
		portalUp:    true,
	}
	n.clear()
	n.identify(c.Private, now)
	return n
}

// clear forgets all connections.
func (n *Node) clear() {
	for _, c := range n.connections {
		c.gone = true
	}
	n.connections, n.unsaid, n.agenda = nil, nil, nil
	n.peers = make(map[id.Peer]*connection)
	n.keys = make(map[wire.Key]*connection)
	n.indices = make(map[uint32]*connection)
	n.names = make(map[string]*connection)
	n.checks = checks{by: make(map[ice.TransactionID]*connection)}
	n.relays.orphans = 0
}

func (n *Node) identify(private wire.Key, now time.Time) {
	n.identity = wg.NewIdentity(private, n.wall.Add(now.Sub(n.born)), now, n.rand)
}

// PublicKey returns the node's WireGuard key as the portal is to announce it.
func (n *Node) PublicKey() wire.Key { return n.identity.Public() }

// Reset starts all over on a changed network (connectivity.md 7.2): a new key,
// no connections, the same relays. Peers are not told, no events are raised.
// Sockets have to be replaced before the next Drain's datagrams are sent.
func (n *Node) Reset(private wire.Key, now time.Time) {
	n.clear()
	n.out = Output{}
	n.identify(private, now)
	for _, r := range n.relays.list {
		r.allocation = turn.New(r.allocation.Config(), now)
		n.touchRelay(r, now)
	}
}

// PortalUp tells that the portal can be reached: candidates are signalled.
func (n *Node) PortalUp(time.Time) { n.portalUp = true }

// PortalDown tells that the portal cannot be reached: what there is to signal
// is held back (connectivity.md 3.4).
func (n *Node) PortalDown(time.Time) { n.portalUp = false }

// Advance runs what is due. Early calls are harmless.
func (n *Node) Advance(now time.Time) {
	for _, r := range n.relays.snapshot() {
		if next := r.allocation.Next(); !next.IsZero() && !now.Before(next) {
			r.allocation.Advance(now)
			n.touchRelay(r, now)
		}
	}
	for len(n.agenda) > 0 && !now.Before(n.agenda[0].at) {
		n.touch(n.agenda[0], now)
	}
}

// Next returns when Advance is due; the zero time means never.
func (n *Node) Next() time.Time {
	var next time.Time
	if len(n.agenda) > 0 {
		next = n.agenda[0].at
	}
	for _, r := range n.relays.list {
		next = earlier(next, r.allocation.Next())
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

// Drain moves out what is to be done, appending to o. Candidates leave only
// here, so whatever the role queues for the portal before it drains precedes
// them there.
func (n *Node) Drain(o *Output) {
	n.signal()
	o.Datagrams = append(o.Datagrams, n.out.Datagrams...)
	o.Held = append(o.Held, n.out.Held...)
	o.Events = append(o.Events, n.out.Events...)
	o.Notes = append(o.Notes, n.out.Notes...)
	n.out.Reset()
}

// send queues a datagram from a local address to a peer's, through the relay
// if the local address is there. A relay that cannot carry it yet loses it.
func (n *Node) send(local, remote netip.AddrPort, payload []byte, now time.Time) {
	r := n.relays.owner(local)
	if r == nil {
		n.out.Datagrams = append(n.out.Datagrams, core.Datagram{Local: local, Remote: remote, Payload: payload})
		return
	}
	channel, ok := r.allocation.Channel(remote, now)
	if !ok {
		r.allocation.Bind(remote, now)
		n.flush(r) // the relay must read the bind first
		if channel, ok = r.allocation.Channel(remote, now); !ok {
			return
		}
	}
	n.out.Datagrams = append(n.out.Datagrams, core.Datagram{
		Remote:  r.allocation.Active(),
		Payload: turn.AppendChannelData(nil, channel, payload),
	})
}

// agenda is a heap of connections, the one to look at first on top.
type agenda []*connection

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].at.Before(a[j].at) }
func (a agenda) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].place, a[j].place = i, j
}

func (a *agenda) Push(x any) {
	c := x.(*connection)
	c.place = len(*a)
	*a = append(*a, c)
}

func (a *agenda) Pop() any {
	last := len(*a) - 1
	c := (*a)[last]
	(*a)[last] = nil
	*a = (*a)[:last]
	return c
}

// plan has c looked at again at a time.
func (n *Node) plan(c *connection, at time.Time) {
	c.at = at
	heap.Fix(&n.agenda, c.place)
}

// checks remembers who sent which check, to find whom a response is for. What
// is not answered within checkMemory is forgotten.
type checks struct {
	by    map[ice.TransactionID]*connection
	queue []check // oldest first
}

type check struct {
	id ice.TransactionID
	at time.Time
}

const checkMemory = 10 * time.Second

func (m *checks) add(id ice.TransactionID, c *connection, now time.Time) {
	old := 0
	for old < len(m.queue) && now.Sub(m.queue[old].at) > checkMemory {
		delete(m.by, m.queue[old].id)
		old++
	}
	m.queue = append(m.queue[old:], check{id, now})
	m.by[id] = c
}
