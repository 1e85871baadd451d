package gateway

import (
	"net/netip"

	"stile/tunnel/core"
	"stile/tunnel/nat"
	"stile/tunnel/packet"
)

// foresight is what the core has seen of a batch that it will be asked about.
type foresight struct {
	looks []nat.Look
	addr  netip.Addr // the client of the last packet that was shown
	k     *client    // nil: there is none
	rest  int        // so many batches are not looked at: it was not worth it
}

// restFor is how many batches pass unseen after one in which there was nothing
// to fetch: on a gateway with few sessions there hardly ever is.
const restFor = 100

var _ core.Foreseer = (*Core)(nil)

// ForeseeOut implements core.Foreseer.
func (c *Core) ForeseeOut(p packet.Packet) {
	if c.foresight.rest > 0 {
		return
	}
	if k := c.foresight.client(c, p.Dst()); k != nil && !p.IsFragment() {
		c.foresight.add(k.nat.LookIn(p))
	}
}

// ForeseeIn implements core.Foreseer.
func (c *Core) ForeseeIn(plain []byte) {
	if c.foresight.rest > 0 {
		return
	}
	p, err := packet.Parse(packet.Trim(plain))
	if err != nil {
		return
	}
	if k := c.foresight.client(c, p.Src()); k != nil {
		c.foresight.add(k.nat.LookOut(p))
	}
}

// Foreseen implements core.Foreseer.
func (c *Core) Foreseen() {
	f := &c.foresight
	for _, l := range f.looks {
		l.Fetch()
	}
	switch {
	case f.rest > 0:
		f.rest--
	case len(f.looks) == 0:
		f.rest = restFor
	}
	f.looks, f.addr, f.k = f.looks[:0], netip.Addr{}, nil
}

// client returns the client with a tunnel address; many packets in a row have
// the same.
func (f *foresight) client(c *Core, addr netip.Addr) *client {
	if addr != f.addr {
		f.addr, f.k = addr, c.byAddr[addr]
	}
	return f.k
}

// maxForesight bounds what is kept of a batch. Of more, the rest is not foreseen.
const maxForesight = 512

func (f *foresight) add(l nat.Look) {
	if !l.IsZero() && len(f.looks) < maxForesight {
		f.looks = append(f.looks, l)
	}
}
