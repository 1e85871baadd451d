package engine

import (
	"errors"
	"fmt"
	"os"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/flight"
	"stile/tunnel/packet"
)

// readTUN carries each batch of packets from the TUN device to the sockets.
func (e *Engine) readTUN() error {
	c := e.newCarrier()
	slots, sizes := makeSlots(e.device.BatchSize())
	packets, routes := make([]packet.Packet, len(slots)), make([]core.Route, len(slots))
	for failures := 0; ; {
		n, err := e.device.Read(slots, sizes, core.Headroom)
		if err == nil {
			failures = 0
			c.outbound(slots[:n], sizes[:n], packets[:n], routes[:n])
			continue
		}
		if e.closed(err) {
			return nil
		}
		if failures++; failures > patience || errors.Is(err, os.ErrClosed) {
			return fmt.Errorf("read the tunnel device: %w", err)
		}
		time.Sleep(pause)
	}
}

// stride keeps slots from sharing a line of the processor's cache.
const stride = (slotBytes + 63) / 64 * 64

// makeSlots makes buffers for a batch, side by side in memory.
func makeSlots(n int) (slots [][]byte, sizes []int) {
	all := make([]byte, n*stride)
	for i := range n {
		at := i * stride
		slots = append(slots, all[at:at+slotBytes:at+slotBytes])
	}
	return slots, make([]int, n)
}

// outbound decides about one batch, seals what goes out, and sends it.
func (c *carrier) outbound(slots [][]byte, sizes []int, packets []packet.Packet, routes []core.Route) {
	for i, slot := range slots {
		p, err := packet.ParseFragment(slot[core.Headroom : core.Headroom+sizes[i]])
		if packets[i] = p; err != nil {
			packets[i] = packet.Packet{}
			c.stats.malformed.Add(1)
		}
	}

	c.mu.Lock()
	now := c.c.Now()
	c.prefetchOut(packets)
	record := c.c.Flight.Begin(flight.Out, now)
	for i, p := range packets {
		routes[i] = core.Route{}
		if !p.IsZero() {
			routes[i] = c.role.Outbound(p, now)
			c.saw(record, p.Bytes(), routes[i])
		}
	}
	record.End()
	c.finishLocked(&c.out, false, now)
	c.mu.Unlock()

	c.perform()
	sent, size := 0, 0
	for i, r := range routes {
		if r.Keys != nil {
			c.seal(r, slots[i], sizes[i], packets[i].ECN())
			sent, size = sent+1, size+sizes[i]
		}
	}
	c.stats.out.add(sent, size)
	c.flush()
}

// prefetchOut shows the role, which is locked, what it will be asked about.
func (c *carrier) prefetchOut(packets []packet.Packet) {
	if c.prefetcher == nil || len(packets) == 1 {
		return
	}
	for _, p := range packets {
		if !p.IsZero() {
			c.prefetcher.PrefetchOut(p)
		}
	}
	c.prefetcher.Prefetch()
}

// saw tells the flight record what the role, which is still locked, decided
// about a packet.
func (c *carrier) saw(record *flight.Batch, p []byte, r core.Route) {
	if r.Keys != nil {
		record.Carried(p, r.Keys, &r.Way.Remote)
	} else {
		record.Other(p, nil, nil, c.outcome())
	}
}
