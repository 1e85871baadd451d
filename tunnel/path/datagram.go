package path

import (
	"net/netip"
	"slices"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/ice"
	"stile/tunnel/turn"
	"stile/tunnel/wg"
)

// Datagram decides about a datagram read from a socket (connectivity.md 2.3).
// A data message of a known session comes back to be opened; all else is
// consumed. Data messages are taken from any source: what counts is who can
// seal them.
func (n *Node) Datagram(d core.Datagram, now time.Time) core.Sealed {
	d.Remote = netip.AddrPortFrom(d.Remote.Addr().Unmap(), d.Remote.Port())
	if len(d.Payload) == 0 {
		return core.Sealed{}
	}
	// The first byte alone tells ChannelData from the rest, so a relay may
	// listen on any port; peers of the Firezone protocol insist on 3478.
	if first := d.Payload[0]; first >= turn.MinChannel>>8 && first <= turn.MaxChannel>>8 && !n.unwrap(&d, now) {
		return core.Sealed{}
	}
	if wg.Classify(d.Payload) == wg.Data {
		return n.sealed(d.Payload)
	}
	n.control(d, now)
	return core.Sealed{}
}

func (n *Node) sealed(msg []byte) core.Sealed {
	index := wg.Index(msg)
	if c := n.indices[index>>8]; c != nil {
		if keys := c.session.Find(index); keys != nil {
			return core.Sealed{Keys: keys, Message: msg}
		}
	}
	return core.Sealed{}
}

// unwrap takes the ChannelData header off and puts the ends of the payload's
// journey in place. False: drop it.
func (n *Node) unwrap(d *core.Datagram, now time.Time) bool {
	r := n.relays.at(d.Remote)
	if r == nil {
		return false // nothing else begins with these bytes
	}
	channel, payload, ok := turn.ParseChannelData(d.Payload)
	if !ok {
		return false
	}
	peer, ok := r.allocation.Unwrap(channel, now)
	if !ok {
		return false
	}
	*d = core.Datagram{Local: r.allocation.Relayed(peer.Addr()), Remote: peer, Payload: payload}
	return true
}

// control takes what is no data.
func (n *Node) control(d core.Datagram, now time.Time) {
	d.Local = netip.AddrPortFrom(d.Local.Addr().Unmap().WithZone(""), d.Local.Port())
	if ice.IsSTUN(d.Payload) {
		if !n.fromRelay(d, now) {
			n.check(d, now)
		}
		return
	}
	switch wg.Classify(d.Payload) {
	case wg.Initiation:
		n.initiation(d, now)
	case wg.Response, wg.Cookie:
		c := n.indices[wg.Index(d.Payload)>>8]
		if c != nil && c.session.Handle(d.Payload, d.Remote, now) {
			n.touch(c, now)
		}
	}
}

// fromRelay reports whether a STUN message is from a relay itself, or from one
// that we gave up.
func (n *Node) fromRelay(d core.Datagram, now time.Time) bool {
	r := n.relays.at(d.Remote)
	if r == nil {
		return d.Remote.Port() == relayPort && slices.Contains(n.relays.former, d.Remote.Addr())
	}
	if r.allocation.Handle(d.Payload, d.Local, d.Remote, now) {
		n.touchRelay(r, now)
	}
	return true
}

// check takes a connectivity check by our half of its user name, or a response
// by its transaction.
func (n *Node) check(d core.Datagram, now time.Time) {
	m, err := ice.ParseMessage(d.Payload)
	if err != nil {
		return
	}
	c := n.names[m.To+":"+m.From]
	if m.Response {
		c = n.checks.by[m.ID]
	}
	if c != nil && !c.gone && c.agent.Handle(m, d.Local, d.Remote, now) {
		c.heard = now
		n.touch(c, now)
	}
}

// initiation takes the begin of a handshake. A peer sends it where it
// nominated, which the agent follows.
func (n *Node) initiation(d core.Datagram, now time.Time) {
	in, reply, ok := n.identity.Initiator(d.Payload, d.Remote, now)
	if reply != nil {
		n.send(d.Local, d.Remote, reply, now)
	}
	if !ok {
		return
	}
	if c := n.keys[in.Static]; c != nil && c.session.Accept(in, now) {
		c.agent.Follow(d.Local, d.Remote, now)
		n.touch(c, now)
	}
}
