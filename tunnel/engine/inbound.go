package engine

import (
	"net/netip"
	"time"

	"stile/platform/sock"
	"stile/tunnel/core"
	"stile/tunnel/flight"
	"stile/tunnel/packet"
)

const (
	receiveMessages = 16  // per system call, each up to 64 KiB of coalesced datagrams
	receiveBatch    = 256 // datagrams decided about at once

	patience = 100 // failed reads in a row
	pause    = 20 * time.Millisecond
)

// An arrival is one datagram on its way in.
type arrival struct {
	d       core.Datagram
	ecn     uint8
	sealed  core.Sealed
	plain   []byte
	counter uint64
	opened  bool
}

// readSocket carries what arrives on one socket to the TUN device.
func (e *Engine) readSocket(family int) error {
	c, r := e.newCarrier(), sock.NewReceiver(receiveMessages)
	batch := make([]arrival, 0, receiveBatch)
	for failures := 0; ; {
		messages, port, err := e.sockets.Receive(family, r)
		if err != nil {
			if e.closed(err) {
				return nil
			}
			if failures++; failures > patience { // not a passing trouble of the network
				return err
			}
			time.Sleep(pause)
			continue
		}
		failures = 0
		batch = c.receive(messages, port, batch)
	}
}

// receive takes coalesced messages apart and carries their datagrams on, in
// batches that fit in the given memory, which it returns.
func (c *carrier) receive(messages []sock.Message, port uint16, batch []arrival) []arrival {
	for i := range messages {
		m := &messages[i]
		local := netip.AddrPortFrom(m.Local, port)
		for rest := m.Payload; len(rest) > 0; {
			n := min(m.Segment, len(rest))
			if n > core.MaxDatagram {
				c.stats.oversized.Add(1)
			} else {
				batch = append(batch, arrival{d: core.Datagram{Local: local, Remote: m.Remote, Payload: rest[:n:n]}, ecn: m.ECN})
			}
			if rest = rest[n:]; len(batch) == cap(batch) {
				c.inbound(batch)
				batch = batch[:0]
			}
		}
	}
	c.inbound(batch)
	return batch[:0]
}

// inbound names each datagram's connection, opens what is sealed, and delivers
// what policy lets through.
func (c *carrier) inbound(batch []arrival) {
	if len(batch) == 0 {
		return
	}
	if !c.name(batch) {
		return
	}
	for i := range batch {
		if a := &batch[i]; a.sealed.Keys != nil {
			if a.plain, a.counter, a.opened = a.sealed.Keys.Open(a.sealed.Message); !a.opened {
				c.stats.forged.Add(1)
			}
		}
	}

	deliver, size := c.writes[:0], 0
	c.mu.Lock()
	now := c.c.Now()
	c.prefetchIn(batch)
	record := c.c.Flight.Begin(flight.In, now)
	for i := range batch {
		a := &batch[i]
		if !a.opened {
			continue
		}
		if p := c.role.Inbound(a.sealed.Keys, a.counter, a.plain, now); len(p) > 0 {
			record.Carried(p, a.sealed.Keys, &a.d.Remote)
			a.mark(p)
			deliver = append(deliver, p)
			size += len(p)
		} else if len(a.plain) > 0 {
			record.Other(packet.Trim(a.plain), a.sealed.Keys, &a.d.Remote, c.outcome())
		}
	}
	record.End()
	c.finishLocked(&c.out, false, now)
	c.mu.Unlock()

	c.stats.in.add(len(deliver), size)
	c.write(deliver)
	c.writes = deliver[:0]
	c.perform()
	c.flush()
}

// prefetchIn shows the role, which is locked, what it will be asked about.
func (c *carrier) prefetchIn(batch []arrival) {
	if c.prefetcher == nil || len(batch) == 1 {
		return
	}
	for i := range batch {
		if batch[i].opened {
			c.prefetcher.PrefetchIn(batch[i].plain)
		}
	}
	c.prefetcher.Prefetch()
}

// name finds each datagram's connection and reports whether there is anything
// to open. If not, what the role wants is done at once.
func (c *carrier) name(batch []arrival) (sealed bool) {
	c.mu.Lock()
	now := c.c.Now()
	for i := range batch {
		batch[i].sealed = c.role.Datagram(batch[i].d, now)
		sealed = sealed || batch[i].sealed.Keys != nil
	}
	if !sealed {
		c.finishLocked(&c.out, true, now)
	}
	c.mu.Unlock()
	if !sealed {
		c.perform()
		c.flush()
	}
	return sealed
}

// ce is the ECN codepoint "congestion experienced" (RFC 3168 §5).
const ce = 3

// mark moves a mark that a router put on the datagram to the packet, if its
// sender understands it (RFC 6040 §4.2).
func (a *arrival) mark(p []byte) {
	if a.ecn != ce {
		return
	}
	if q, err := packet.ParseFragment(p); err == nil && q.ECN() != 0 {
		q.SetECN(ce)
	}
}
