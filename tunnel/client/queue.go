package client

import (
	"bytes"
	"slices"

	"stile/tunnel/packet"
)

// Bounds of what waits (1). maxHeld bounds all queues together: a program that
// tries a thousand addresses must not cost a hundred megabytes.
const (
	accessQueue  = 128 // packets per resource that wait for an authorization
	bindingQueue = 32  // packets per (gateway, name, resource) that wait for its NAT
	sessionQueue = 128 // packets per gateway that wait for a session
	maxHeld      = 4096
)

// A queue holds packets until they can go. When it is full the oldest makes
// room: what is new is more likely to be wanted still.
type queue struct {
	limit   int
	packets [][]byte // copies
}

// add copies p into the queue. An identical packet is there once only, and a
// TCP SYN takes the place of an earlier one of the same connection (17).
func (q *queue) add(p packet.Packet) {
	b := p.Bytes()
	for i, held := range q.packets {
		if bytes.Equal(held, b) {
			return
		}
		if isSYN(p) && sameSYN(held, p) {
			q.packets[i] = bytes.Clone(b)
			return
		}
	}
	if len(q.packets) == q.limit {
		q.packets = slices.Delete(q.packets, 0, 1)
	}
	q.packets = append(q.packets, bytes.Clone(b))
}

func isSYN(p packet.Packet) bool {
	return p.TCPFlags().Has(packet.SYN) && !p.TCPFlags().Has(packet.ACK)
}

// sameSYN reports whether held is a SYN of p's connection.
func sameSYN(held []byte, p packet.Packet) bool {
	h, err := packet.Parse(held)
	return err == nil && isSYN(h) && h.SrcPort() == p.SrcPort() && h.DstPort() == p.DstPort() && h.Dst() == p.Dst() && h.Src() == p.Src()
}

// hold puts a copy of p into q.
func (c *Core) hold(q *queue, p packet.Packet) {
	if c.held >= maxHeld && len(q.packets) < q.limit {
		c.count(dropHeld)
		return
	}
	before := len(q.packets)
	q.add(p)
	c.held += len(q.packets) - before
}

// release empties q and returns what was in it, oldest first.
func (c *Core) release(q *queue) [][]byte {
	packets := q.packets
	q.packets = nil
	c.held -= len(packets)
	return packets
}
