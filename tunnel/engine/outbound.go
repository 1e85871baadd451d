package engine

import (
	"stile/platform/clock"
	"stile/tunnel/core"
	"stile/tunnel/packet"
)

// readTUN carries each batch of packets from the TUN device to the sockets.
func (e *Engine) readTUN() error {
	c := e.newCarrier()
	size := e.device.BatchSize()
	slots, sizes := make([][]byte, size), make([]int, size)
	for i := range slots {
		slots[i] = make([]byte, slotBytes)
	}
	packets, routes := make([]packet.Packet, size), make([]core.Route, size)
	for {
		n, err := e.device.Read(slots, sizes, core.Headroom)
		if err != nil {
			if e.closed(err) {
				return nil
			}
			return ended("read the tunnel device", err)
		}
		c.outbound(slots[:n], sizes[:n], packets[:n], routes[:n])
	}
}

// outbound decides about one batch, seals what goes out, and sends it.
func (c *carrier) outbound(slots [][]byte, sizes []int, packets []packet.Packet, routes []core.Route) {
	for i, slot := range slots {
		p, err := packet.Parse(slot[core.Headroom : core.Headroom+sizes[i]])
		if packets[i] = p; err != nil {
			packets[i] = packet.Packet{}
			c.stats.malformed.Add(1)
		}
	}

	c.mu.Lock()
	now := clock.Now()
	for i, p := range packets {
		routes[i] = core.Route{}
		if !p.IsZero() {
			routes[i] = c.role.Outbound(p, now)
		}
	}
	c.finishLocked(&c.out, false, now)
	c.mu.Unlock()

	c.perform()
	for i, r := range routes {
		if r.Keys != nil {
			c.seal(r, slots[i], sizes[i], packets[i].ECN())
		}
	}
	c.flush()
}
