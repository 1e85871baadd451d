package sim

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"math/rand/v2"
	"strings"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/packet"
	"stile/tunnel/path"
	"stile/tunnel/turn"
	"stile/tunnel/wg"
	"stile/tunnel/wire"
)

// Port is what nodes bind first (spec connectivity.md 2.1).
const Port = 52625

// A Node is a client's or gateway's path, the host it runs on and its channel
// to the portal.
type Node struct {
	ID   id.Peer
	Host *Host
	Path *path.Node
	// Nominated and Established tell when a peer became reachable, for the
	// first time since it was authorized.
	Nominated, Established map[id.Peer]time.Time
	// Failed lists why connections ended; Inbox what peers sent; Left the
	// peers that said goodbye.
	Failed []path.Failed
	Inbox  []string
	Left   []id.Peer
	// Dropped counts packets that Send could not send.
	Dropped int
	// Watch, if not nil, sees each event of the path.
	Watch func(path.Event)

	controlling bool
	portal      *Portal
	delay       time.Duration // to the portal
	random      *rand.ChaCha8
	offline     bool
	out         []core.Datagram
}

// A Portal introduces clients, gateways and relays to each other.
type Portal struct {
	internet *Internet
	nodes    []*Node
	relays   []*Relay
	// Until is when the relay credentials that it hands out expire.
	Until time.Time
	// NoRelays counts how often it was asked for relays; Answer says whether it
	// then sends the list.
	NoRelays int
	Answer   bool
}

// Portal adds a portal that hands out these relays.
func (i *Internet) Portal(relays ...*Relay) *Portal {
	return &Portal{internet: i, relays: relays, Until: Epoch.AddDate(12, 0, 0), Answer: true}
}

// Client adds a client to a site; delay is the way to the portal.
func (p *Portal) Client(s *Site, delay time.Duration) *Node { return p.add(s, delay, true) }

// Gateway adds a gateway to a site; delay is the way to the portal.
func (p *Portal) Gateway(s *Site, delay time.Duration) *Node { return p.add(s, delay, false) }

func (p *Portal) add(s *Site, delay time.Duration, controlling bool) *Node {
	n := &Node{controlling: controlling, portal: p, delay: delay}
	n.ID[0] = byte(len(p.nodes) + 1)
	n.Host = s.Add(n, Port)
	p.nodes = append(p.nodes, n)
	n.Restart()
	return n
}

// Restart begins anew as a process does: another key, nothing remembered.
func (n *Node) Restart() {
	i := n.portal.internet
	var seed [32]byte
	seed[0], seed[1] = n.ID[0], byte(i.Chance.Uint32())
	n.random = rand.NewChaCha8(seed)
	n.Path = path.New(path.Config{Controlling: n.controlling, Private: n.key(), Wall: i.now, Rand: n.random}, i.now)
	n.Nominated, n.Established = make(map[id.Peer]time.Time), make(map[id.Peer]time.Time)
	n.out = nil
	n.join()
}

func (n *Node) key() (k wire.Key) {
	_, _ = n.random.Read(k[:]) // never fails
	return k
}

// join fetches the relay list, as init does.
func (n *Node) join() {
	n.portal.internet.After(2*n.delay, func() {
		n.Path.Relays(nil, n.portal.describe(n), n.portal.internet.now)
	})
}

func (p *Portal) describe(n *Node) []wire.Relay {
	var list []wire.Relay
	for _, r := range p.relays {
		list = append(list, r.Describe(n.ID.String(), p.Until)...)
	}
	return list
}

// SetRelays changes the set of relays and tells all nodes, as
// relays_presence does.
func (p *Portal) SetRelays(relays ...*Relay) { p.update(relays, nil) }

// Restarted tells all nodes the relays there are, and which are gone under
// their old IDs.
func (p *Portal) Restarted(old ...id.Relay) { p.update(p.relays, old) }

func (p *Portal) update(relays []*Relay, gone []id.Relay) {
	for _, r := range p.relays {
		kept := false
		for _, s := range relays {
			kept = kept || r == s
		}
		if !kept {
			gone = append(gone, r.ID())
		}
	}
	p.relays = relays
	for _, n := range p.nodes {
		p.tell(n, func() { n.Path.Relays(gone, p.describe(n), p.internet.now) })
	}
}

// tell has f done when a message would have reached n.
func (p *Portal) tell(n *Node, f func()) {
	p.internet.After(n.delay, func() {
		if !n.offline {
			f()
		}
	})
}

// Offline cuts a node's channel to the portal, or mends it.
func (n *Node) Offline(offline bool) {
	n.offline = offline
	if now := n.portal.internet.now; offline {
		n.Path.PortalDown(now)
	} else {
		n.Path.PortalUp(now)
	}
}

// Authorize is a client's request for access to something behind a gateway:
// the gateway hears of it first, the client of its answer. Keys and
// credentials depend on nothing but the keys of both.
func (p *Portal) Authorize(client, gateway *Node) {
	now := func() time.Time { return p.internet.now }
	p.internet.After(client.delay, func() {
		ours, theirs := p.Peers(client, gateway)
		p.tell(gateway, func() {
			if gateway.Path.Upsert(theirs, now()) != nil {
				return
			}
			p.internet.After(gateway.delay, func() {
				p.tell(client, func() { _ = client.Path.Upsert(ours, now()) })
			})
		})
	})
}

// Peers describes the gateway to the client and the client to the gateway.
func (p *Portal) Peers(client, gateway *Node) (forClient, forGateway path.Peer) {
	a, b := client.Path.PublicKey(), gateway.Path.PublicKey()
	sum := sha256.Sum256([]byte(client.ID.String() + a.String() + gateway.ID.String() + b.String()))
	h := strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))
	mine := wire.ICECredentials{Username: h[:4], Password: h[4:26]}
	yours := wire.ICECredentials{Username: h[26:30], Password: h[30:52]}
	psk := wire.Key(sha256.Sum256(sum[:]))
	return path.Peer{ID: gateway.ID, Key: b, PSK: psk, Local: mine, Remote: yours},
		path.Peer{ID: client.ID, Key: a, PSK: psk, Local: yours, Remote: mine}
}

// node finds a node by its ID.
func (p *Portal) node(peer id.Peer) *Node {
	for _, n := range p.nodes {
		if n.ID == peer {
			return n
		}
	}
	return nil
}

// Send sends text through the tunnel, if there is a way.
func (n *Node) Send(to id.Peer, text string) bool {
	route := n.Path.Route(to, len(text), n.portal.internet.now)
	if route.Keys == nil {
		n.Dropped++
		return false
	}
	n.seal(route, []byte(text))
	return true
}

func (n *Node) seal(route core.Route, plain []byte) {
	buf := make([]byte, wg.HeaderLen+len(plain)+wg.TagLen)
	copy(buf[wg.HeaderLen:], plain)
	msg := route.Keys.Seal(buf, len(plain))
	if route.Way.Channel != 0 {
		msg = turn.AppendChannelData(nil, route.Way.Channel, msg)
	}
	n.out = append(n.out, core.Datagram{Local: route.Way.Local, Remote: route.Way.Remote, Payload: msg})
}

// Roam is what a client does when the machine moved to another network: new
// keys, new sockets on the same port.
func (n *Node) Roam() {
	n.out = nil
	n.Path.Reset(n.key(), n.portal.internet.now)
	clear(n.Nominated)
	clear(n.Established)
}

// Receive implements Machine.
func (n *Node) Receive(d core.Datagram, now time.Time) {
	sealed := n.Path.Datagram(d, now)
	if sealed.Keys == nil {
		return
	}
	plain, counter, ok := sealed.Keys.Open(sealed.Message)
	if !ok {
		return
	}
	from, ok := n.Path.Received(sealed.Keys, counter, len(plain), now)
	if !ok || len(plain) == 0 {
		return
	}
	if bytes.Equal(plain, packet.AppendControl(nil, wire.EventGoodbye, nil)) {
		n.Left = append(n.Left, from)
		n.Path.Close(from, false, now)
		return
	}
	n.Inbox = append(n.Inbox, string(plain))
}

// Advance implements Machine.
func (n *Node) Advance(now time.Time) { n.Path.Advance(now) }

// Next implements Machine.
func (n *Node) Next() time.Time { return n.Path.Next() }

// Collect implements Machine.
func (n *Node) Collect() []core.Datagram {
	var o path.Output
	n.Path.Drain(&o)
	n.out = append(n.out, o.Datagrams...)
	for _, h := range o.Held {
		n.seal(h.Route, h.Packet)
	}
	for _, e := range o.Events {
		n.event(e)
	}
	for _, c := range n.Path.Report(nil) {
		if c.State != "connecting" && n.Nominated[c.Peer].IsZero() {
			n.Nominated[c.Peer] = n.portal.internet.now
		}
	}
	out := n.out
	n.out = nil
	return out
}

func (n *Node) event(e path.Event) {
	if n.Watch != nil {
		n.Watch(e)
	}
	p := n.portal
	switch e := e.(type) {
	case path.Established:
		if n.Established[e.Peer].IsZero() {
			n.Established[e.Peer] = p.internet.now
		}
	case path.Failed:
		n.Failed = append(n.Failed, e)
		delete(n.Nominated, e.Peer)
		delete(n.Established, e.Peer)
	case path.NoRelays:
		p.NoRelays++
		if p.Answer {
			n.join()
		}
	case path.Candidates:
		to := p.node(e.Peer)
		if to == nil {
			return // a peer that a test made up
		}
		p.internet.After(n.delay, func() {
			p.tell(to, func() {
				if e.Invalidate {
					to.Path.RemoveCandidates(n.ID, e.Texts, p.internet.now)
				} else {
					to.Path.AddCandidates(n.ID, e.Texts, p.internet.now)
				}
			})
		})
	}
}

// Connection returns what the node reports about a peer; false: nothing.
func (n *Node) Connection(peer id.Peer) (core.Connection, bool) {
	for _, c := range n.Path.Report(nil) {
		if c.Peer == peer {
			return c, true
		}
	}
	return core.Connection{}, false
}
