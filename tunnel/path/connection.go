package path

import (
	"container/heap"
	"errors"
	"net/netip"
	"slices"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/ice"
	"stile/tunnel/id"
	"stile/tunnel/packet"
	"stile/tunnel/wg"
	"stile/tunnel/wire"
)

const (
	candidateTimeout = 10 * time.Second
	disconnectGrace  = 2 * time.Second
	idleAfter        = 20 * time.Second // without an application packet
	maxWaiting       = 128              // handshake responses before nomination; the oldest goes
	// attention is how late the timers of a connection may be noticed that
	// data packets set: recomputing all for each packet would cost more than
	// routing it.
	attention = time.Second
)

// A connection is all we share with one peer.
type connection struct {
	peer    Peer
	index   uint32 // 24 bits
	agent   *ice.Agent
	session *wg.Session
	relay   *relay // the selected one; nil: none yet

	way           *core.Way      // nil: none
	local, remote netip.AddrPort // of the nominated pair: where we send from and to
	waiting       [][]byte       // handshake messages until there is a way

	created      time.Time
	heard        time.Time // when the peer last proved that it is there; zero: never
	activity     time.Time // last application packet, or reason to expect one
	disconnected time.Time // since when the agent has no pair; zero: it has
	signalled    bool      // the peer signalled a candidate
	idle         bool
	established  bool // as last reported
	gone         bool // removed from the node
	unsaid       bool // in Node.unsaid

	add, withdraw  []ice.Candidate // to be signalled
	sent, received uint64          // bytes of application packets

	at    time.Time // when to look at it next
	place int       // in the agenda
}

// Upsert connects to a peer, or renews the connection if the portal says the
// same about the peer as before (connectivity.md 1.4). A connection that does
// not fit is replaced without a Failed event.
func (n *Node) Upsert(p Peer, now time.Time) error {
	if p.Local.Username == "" || p.Local.Password == "" || p.Remote.Username == "" || p.Remote.Password == "" {
		return ErrCredentials
	}
	if c := n.peers[p.ID]; c != nil && c.peer == p {
		n.renew(c, now)
		return nil
	}
	n.Close(p.ID, false, now)
	if len(n.relays.list) == 0 {
		n.out.Events = append(n.out.Events, NoRelays{})
		return ErrNoRelay
	}
	n.connect(p, now)
	return nil
}

// renew wakes an existing connection up. The peer may have lost its side of
// it, so it hears all candidates again and a new handshake.
func (n *Node) renew(c *connection, now time.Time) {
	n.wake(c, now)
	c.add = c.agent.Locals()
	n.unsaidBy(c)
	if n.controlling && c.way != nil {
		c.session.Initiate(now)
	}
	n.touch(c, now)
}

func (n *Node) connect(p Peer, now time.Time) {
	c := &connection{peer: p, created: now, activity: now, at: now}
	c.agent = ice.New(ice.Config{
		Controlling: n.controlling,
		Local:       p.Local,
		Remote:      p.Remote,
		Profile:     n.profile(false),
		Rand:        n.rand,
	})
	for {
		c.index = n.chance.Uint32() >> 8
		if n.indices[c.index] == nil {
			break
		}
	}
	c.session = wg.New(wg.Config{
		Identity: n.identity,
		Remote:   p.Key,
		PSK:      p.PSK,
		Index:    c.index,
		Rand:     n.rand,
		Renew:    n.controlling,
	})
	n.connections = append(n.connections, c)
	n.peers[p.ID] = c
	n.keys[p.Key] = c
	n.indices[c.index] = c
	n.names[p.Local.Username+":"+p.Remote.Username] = c
	heap.Push(&n.agenda, c)
	n.note("connection begun", c, "")
	n.introduce(c, now)
	n.touch(c, now)
}

func (n *Node) profile(idle bool) ice.Profile {
	switch {
	case n.controlling && idle:
		return ice.ClientIdle
	case n.controlling:
		return ice.ClientActive
	case idle:
		return ice.ServerIdle
	}
	return ice.ServerActive
}

// remove takes a connection out of the node.
func (n *Node) remove(c *connection) {
	c.gone = true
	n.connections = slices.DeleteFunc(n.connections, func(d *connection) bool { return d == c })
	n.unsaid = slices.DeleteFunc(n.unsaid, func(d *connection) bool { return d == c })
	heap.Remove(&n.agenda, c.place)
	delete(n.peers, c.peer.ID)
	delete(n.indices, c.index)
	if n.keys[c.peer.Key] == c {
		delete(n.keys, c.peer.Key)
	}
	if name := c.peer.Local.Username + ":" + c.peer.Remote.Username; n.names[name] == c {
		delete(n.names, name)
	}
	if c.relay == nil {
		n.relays.orphans--
	}
}

// Has reports whether there is a connection to a peer, usable or not.
func (n *Node) Has(p id.Peer) bool { return n.peers[p] != nil }

// Close ends a connection at once, telling the peer if there is a way to. No
// Failed event follows.
func (n *Node) Close(p id.Peer, goodbye bool, now time.Time) {
	c := n.peers[p]
	if c == nil {
		return
	}
	if goodbye {
		n.Control(p, packet.AppendControl(nil, wire.EventGoodbye, nil), now)
	}
	n.note("connection closed", c, "")
	n.remove(c)
}

// note tells of a step of a connection.
func (n *Node) note(what string, c *connection, reason string) {
	n.out.Notes = append(n.out.Notes, core.Note{
		What: what, Reason: reason, Peer: c.peer.ID, Connection: c.index, Relayed: c.relayed(), Local: c.local, Remote: c.remote,
	})
}

// touch does all that is due for a connection: checks, nomination, handshakes,
// failure. Everything that happens to one ends here.
func (n *Node) touch(c *connection, now time.Time) {
	c.agent.Advance(now)
	c.session.Advance(now)
	n.drainAgent(c, now)
	n.follow(c, now)
	n.drainSession(c, now)
	n.establish(c)
	if reason := n.verdict(c, now); reason != "" {
		n.fail(c, reason, now)
		return
	}
	if c.way != nil && c.way.Channel != 0 && c.agent.Doubtful(now) {
		n.doubt(c.relay, now)
	}
	if !c.idle && c.mayIdle() && !now.Before(c.activity.Add(idleAfter)) {
		c.idle = true
		c.agent.SetProfile(n.profile(true), now)
	}
	n.plan(c, c.next())
}

func (n *Node) fail(c *connection, reason Reason, now time.Time) {
	n.note("connection failed", c, string(reason))
	n.remove(c)
	n.out.Events = append(n.out.Events, Failed{c.peer.ID, reason})
	if reason == NoWay || reason == Unanswered {
		n.doubt(c.relay, now)
	}
}

func (n *Node) drainAgent(c *connection, now time.Time) {
	for _, x := range c.agent.Drain(nil) {
		if x.Request {
			n.checks.add(x.ID, c, now)
		}
		n.send(x.Local, x.Remote, x.Payload, now)
	}
}

// follow takes over what the agent nominated (connectivity.md 1.5). If it has
// nothing better, the last way stays: it may still work in our direction.
func (n *Node) follow(c *connection, now time.Time) {
	local, remote, ok := c.agent.Selected()
	if !ok {
		return
	}
	way := n.wayOf(local.Base, remote.Addr, now)
	moved := c.local != local.Base || c.remote != remote.Addr
	if way == (core.Way{}) || c.way != nil && *c.way == way && !moved {
		return
	}
	c.way, c.local, c.remote = &way, local.Base, remote.Addr
	n.note("path chosen", c, "")
	for _, msg := range c.waiting {
		n.send(c.local, c.remote, msg, now)
	}
	c.waiting = nil
	if n.controlling && moved {
		c.session.Initiate(now)
	}
}

// wayOf describes a pair for those who send along it; zero: it has no channel.
func (n *Node) wayOf(local, remote netip.AddrPort, now time.Time) core.Way {
	r := n.relays.owner(local)
	if r == nil {
		return core.Way{Local: local, Remote: remote}
	}
	channel, ok := r.allocation.Channel(remote, now)
	if !ok {
		r.allocation.Bind(remote, now)
		n.flush(r)
		if channel, ok = r.allocation.Channel(remote, now); !ok {
			return core.Way{}
		}
	}
	return core.Way{Remote: r.allocation.Active(), Channel: channel}
}

// drainSession sends what WireGuard has to say, or keeps it until there is a
// way: a controlled side answers handshakes before it learns of the
// nomination.
func (n *Node) drainSession(c *connection, now time.Time) {
	for _, msg := range c.session.Drain(nil) {
		if c.way != nil {
			n.send(c.local, c.remote, msg, now)
			continue
		}
		if len(c.waiting) == maxWaiting {
			c.waiting = slices.Delete(c.waiting, 0, 1)
		}
		c.waiting = append(c.waiting, msg)
	}
}

func (n *Node) establish(c *connection) {
	usable := c.way != nil && c.session.Send() != nil
	if usable && !c.established {
		n.out.Events = append(n.out.Events, Established{c.peer.ID})
		n.note("connection established", c, "")
	}
	c.established = usable
}

// verdict says why a connection has failed; "": it has not (connectivity.md
// 1.8).
func (n *Node) verdict(c *connection, now time.Time) Reason {
	switch err := c.session.Err(); {
	case errors.Is(err, wg.ErrUnanswered):
		return Unanswered
	case err != nil:
		return Expired
	}
	if late := !now.Before(c.created.Add(candidateTimeout)); late && !c.signalled {
		return NoCandidates
	} else if late && c.way == nil && !c.agent.HasLocals() {
		return NoLocalCandidates
	}
	if c.agent.State() != ice.Disconnected {
		c.disconnected = time.Time{}
		return ""
	}
	if c.disconnected.IsZero() {
		c.disconnected = now
	}
	// The grace is for candidates that are on their way, while ways are
	// withdrawn or not found yet. A peer that went silent had its time.
	if !c.agent.Silenced() && now.Before(c.disconnected.Add(disconnectGrace)) {
		return ""
	}
	return NoWay
}

// mayIdle: with a single pair left, slow checks would notice its end too late.
func (c *connection) mayIdle() bool { return c.way != nil && c.agent.State() == ice.Connected }

// next is when the connection needs attention.
func (c *connection) next() time.Time {
	next := earlier(c.agent.Next(), c.session.Next())
	if !c.signalled || c.way == nil && !c.agent.HasLocals() {
		next = earlier(next, c.created.Add(candidateTimeout))
	}
	if !c.disconnected.IsZero() {
		next = earlier(next, c.disconnected.Add(disconnectGrace))
	}
	if !c.idle && c.mayIdle() {
		next = earlier(next, c.activity.Add(idleAfter))
	}
	return next
}

// wake ends idle mode, or keeps it from beginning.
func (n *Node) wake(c *connection, now time.Time) {
	c.activity = now
	if c.idle {
		c.idle = false
		c.agent.SetProfile(n.profile(false), now)
	}
}
