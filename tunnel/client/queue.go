package client

import (
	"bytes"
	"slices"

	"stile/tunnel/fragment"
	"stile/tunnel/packet"
)

// Bounds of what waits (1). maxHeld bounds all queues together: a program that
// tries a thousand addresses must not cost a hundred megabytes.
const (
	accessQueue  = 128 // packets per resource that wait for an authorization
	bindingQueue = 32  // packets per (gateway, name, resource) that wait for its NAT
	sessionQueue = 128 // packets per gateway that wait for a session
	laterQueue   = 256 // fragments in one queue that are not the first of a datagram
	maxHeld      = 4096
)

// A queue holds packets until they can go. When it is full the oldest makes
// room: what is new is more likely to be wanted still. A datagram in fragments
// counts as one packet, and goes as one.
type queue struct {
	limit   int
	packets []held
	later   int // of packets, those that are later fragments
}

// held is a packet that waits, on memory of its own, and what its resource is
// found by.
type held struct {
	packet.Packet
	target target
}

// isLater reports whether a packet continues another.
func isLater(p packet.Packet) bool { return p.IsFragment() && !p.IsFirst() }

// add copies p into the queue. An identical packet is there once only, and a
// TCP SYN takes the place of an earlier one of the same connection (17).
func (q *queue) add(p packet.Packet, t target) {
	for i, h := range q.packets {
		if bytes.Equal(h.Bytes(), p.Bytes()) {
			return
		}
		if isSYN(p) && sameSYN(h.Packet, p) {
			q.packets[i] = held{p.Clone(), t}
			return
		}
	}
	for q.full(p) {
		q.evict()
	}
	q.packets = append(q.packets, held{p.Clone(), t})
	if isLater(p) {
		q.later++
	}
}

// full reports whether p has no room.
func (q *queue) full(p packet.Packet) bool {
	if isLater(p) {
		return q.later == laterQueue
	}
	return len(q.packets)-q.later == q.limit
}

// evict removes the oldest packet, with all fragments of its datagram.
func (q *queue) evict() {
	oldest := q.packets[0].Packet
	if !oldest.IsFragment() {
		q.packets = slices.Delete(q.packets, 0, 1)
		return
	}
	key := fragment.KeyOf(oldest)
	q.packets = slices.DeleteFunc(q.packets, func(h held) bool {
		if !h.IsFragment() || fragment.KeyOf(h.Packet) != key {
			return false
		}
		if isLater(h.Packet) {
			q.later--
		}
		return true
	})
}

func isSYN(p packet.Packet) bool {
	return p.TCPFlags().Has(packet.SYN) && !p.TCPFlags().Has(packet.ACK)
}

// sameSYN reports whether h is a SYN of p's connection.
func sameSYN(h, p packet.Packet) bool {
	return isSYN(h) && h.SrcPort() == p.SrcPort() && h.DstPort() == p.DstPort() && h.Dst() == p.Dst() && h.Src() == p.Src()
}

// hold puts a copy of p into q.
func (c *Core) hold(q *queue, p packet.Packet, t target) {
	if c.held >= maxHeld && !q.full(p) {
		c.count(dropHeld)
		return
	}
	c.outcome = "held"
	before := len(q.packets)
	q.add(p, t)
	c.held += len(q.packets) - before
}

// release empties q and returns what was in it, oldest first.
func (c *Core) release(q *queue) []held {
	packets := q.packets
	q.packets, q.later = nil, 0
	c.held -= len(packets)
	return packets
}
