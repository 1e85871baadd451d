package path

import (
	"time"

	"stile/tunnel/core"
	"stile/tunnel/ice"
	"stile/tunnel/id"
	"stile/tunnel/wg"
)

// Route says how to seal and where to send one application packet of size
// bytes, and accounts for it. The zero Route means that there is no way or no
// session: Established will tell when there is.
func (n *Node) Route(p id.Peer, size int, now time.Time) core.Route {
	c := n.peers[p]
	if c == nil || c.way == nil {
		return core.Route{}
	}
	keys := c.session.Send()
	if keys == nil {
		n.missKeys(c, now)
		return core.Route{}
	}
	c.session.Sent(now)
	c.sent += uint64(size)
	n.active(c, now)
	return core.Route{Keys: keys, Way: c.way}
}

// missKeys gets new keys for a session that ran out, as after sleep. Only the
// controlling side ever begins (connectivity.md 1.5).
func (n *Node) missKeys(c *connection, now time.Time) {
	c.established = false
	if n.controlling && c.session.Initiate(now) {
		n.touch(c, now)
	}
}

// active notes an application packet: no idle mode, and the timers that it
// set are looked at soon.
func (n *Node) active(c *connection, now time.Time) {
	c.activity = now
	if c.idle {
		n.wake(c, now)
		n.touch(c, now)
	}
	if soon := now.Add(attention); c.at.After(soon) {
		n.plan(c, soon)
	}
}

// Received tells that k opened a message: counter is its WireGuard counter,
// size that of the plaintext, 0 for a keepalive. With false the message is to
// be dropped.
func (n *Node) Received(k *wg.Keys, counter uint64, size int, now time.Time) (id.Peer, bool) {
	c := n.indices[k.LocalIndex()>>8]
	if c == nil || !c.session.Received(k, counter, size == 0, now) {
		return id.Peer{}, false
	}
	c.heard = now
	if size > 0 {
		c.received += uint64(size)
		n.active(c, now)
	}
	if !c.established {
		n.touch(c, now)
	}
	return c.peer.ID, true
}

// Control sends an in-tunnel control packet, which becomes the node's. False
// means that the connection is not established and the packet is dropped.
func (n *Node) Control(p id.Peer, packet []byte, now time.Time) bool {
	route := n.Route(p, len(packet), now)
	if route.Keys == nil {
		return false
	}
	n.out.Held = append(n.out.Held, core.Held{Route: route, Packet: packet})
	return true
}

// Report appends what can be told of all connections.
func (n *Node) Report(dst []core.Connection) []core.Connection {
	for _, c := range n.connections {
		dst = append(dst, c.report())
	}
	return dst
}

// ReportOf tells of one connection; ok is false if there is none.
func (n *Node) ReportOf(p id.Peer) (r core.Connection, ok bool) {
	c := n.peers[p]
	if c == nil {
		return core.Connection{}, false
	}
	return c.report(), true
}

func (c *connection) report() core.Connection {
	state := "connecting"
	switch {
	case c.idle:
		state = "idle"
	case c.way != nil:
		state = "connected"
	}
	return core.Connection{
		Peer:          c.peer.ID,
		State:         state,
		Relayed:       c.relayed(),
		Local:         c.local,
		Remote:        c.remote,
		RTT:           c.agent.RTT(),
		LastHandshake: c.session.LastHandshake(),
		Index:         c.index,
		Began:         c.created,
		Heard:         c.heard,
		Sent:          c.sent,
		Received:      c.received,
	}
}

// relayed reports whether the nominated pair leads over any relay, ours or
// the peer's.
func (c *connection) relayed() bool {
	local, remote, ok := c.agent.Selected()
	return ok && (local.Kind == ice.Relayed || remote.Kind == ice.Relayed)
}
