package engine

import (
	"encoding/binary"
	"errors"
	"os"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/flight"
	"stile/tunnel/packet"
	"stile/tunnel/udp"
	"stile/tunnel/wg"
)

// channelHeader is the length of a ChannelData header (RFC 8656 §12.4).
const channelHeader = 4

// slotBytes is the room for one packet of ours: headroom, packet, tag.
const slotBytes = core.Headroom + packet.MaxSize + wg.TagLen

// A carrier is the scratch space of one goroutine: what the role wants done
// after a batch, and the buffers to do it with.
type carrier struct {
	*Engine
	out    core.Output
	batch  *udp.Batch
	writes [][]byte
}

func (e *Engine) newCarrier() *carrier { return &carrier{Engine: e, batch: udp.NewBatch()} }

// step feeds the role one input, then does what it asked for.
func (c *carrier) step(input func(core.Role, time.Time)) {
	c.mu.Lock()
	now := c.c.Now()
	input(c.role, now)
	c.finishLocked(&c.out, true, now)
	c.mu.Unlock()
	c.perform()
	c.flush()
}

// perform does what the role asked for and this goroutine may do: datagrams and
// packets wait in the batch, answers go to the device.
func (c *carrier) perform() {
	c.tellFlows()
	c.tellNotes()
	if c.out.Empty() {
		return
	}
	for _, a := range c.out.Actions {
		c.start(a)
	}
	for _, d := range c.out.Datagrams {
		c.batch.Add(d.Local.Addr(), d.Remote, 0, d.Payload)
	}
	for _, h := range c.out.Held {
		c.release(h)
	}
	c.write(c.out.Packets)
	c.out.Reset()
}

// tellFlows hands on what the role decided about flows.
func (c *carrier) tellFlows() {
	if len(c.out.Flows) == 0 {
		return
	}
	if c.c.Flows != nil {
		c.c.Flows(c.out.Flows)
	}
	clear(c.out.Flows)
	if c.out.Flows = c.out.Flows[:0]; cap(c.out.Flows) > keepFlows {
		c.out.Flows = nil
	}
}

// keepFlows is how many flows a goroutine keeps room for; there are thousands
// when many sessions end at once.
const keepFlows = 1024

// tellNotes hands on what the role noted.
func (c *carrier) tellNotes() {
	if len(c.out.Notes) == 0 {
		return
	}
	c.c.Flight.Notes(c.out.Notes)
	clear(c.out.Notes)
	c.out.Notes = c.out.Notes[:0]
}

// release seals a packet that waited inside the role.
func (c *carrier) release(h core.Held) {
	if h.Route.Keys == nil || len(h.Packet) > packet.MaxSize {
		c.stats.unsendable.Add(1)
		return
	}
	record := c.c.Flight.Begin(flight.Out, c.c.Now())
	record.Carried(h.Packet, h.Route.Keys, &h.Route.Way.Remote)
	record.End()
	slot := make([]byte, slotBytes)
	c.seal(h.Route, slot, copy(slot[core.Headroom:], h.Packet), 0)
}

// seal seals the n bytes at slot[core.Headroom:] in place and adds the datagram
// to the batch.
func (c *carrier) seal(r core.Route, slot []byte, n int, ecn uint8) {
	msg := r.Keys.Seal(slot[channelHeader:], n)
	if msg == nil {
		c.stats.unsendable.Add(1)
		return
	}
	if w := r.Way; w.Channel != 0 {
		binary.BigEndian.PutUint16(slot, w.Channel)
		binary.BigEndian.PutUint16(slot[2:], uint16(len(msg)))
		msg = slot[:channelHeader+len(msg)]
	}
	c.batch.Add(r.Way.Local.Addr(), r.Way.Remote, ecn, msg)
}

// flush sends the batch.
func (c *carrier) flush() {
	if c.batch.Len() == 0 {
		return
	}
	if lost, err := c.batch.Flush(c.sockets); lost > 0 {
		c.stats.unsendable.Add(uint64(lost))
		if !c.closed(err) {
			c.c.Log.Debug("datagrams could not be sent", "lost", lost, "error", err)
		}
	}
}

// write hands packets to the device.
func (c *carrier) write(packets [][]byte) {
	if len(packets) == 0 {
		return
	}
	lost, err := c.device.Write(packets)
	if lost > 0 && !c.closed(err) && !errors.Is(err, os.ErrClosed) {
		c.stats.unwritable.Add(uint64(lost))
		c.c.Log.Debug("packets could not be written to the tunnel device", "lost", lost, "error", err)
	}
}
