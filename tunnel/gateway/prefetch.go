package gateway

import (
	"net/netip"

	"stile/tunnel/core"
	"stile/tunnel/nat"
	"stile/tunnel/packet"
)

// lookahead is what the core has seen of a batch that it will be asked about.
type lookahead struct {
	looks []nat.Look
	addr  netip.Addr // the client of the last packet that was shown
	k     *client    // nil: there is none
	rest  int        // so many batches are not looked at: it was not worth it
}

// restFor is how many batches pass unseen after one in which there was nothing
// to prefetch: on a gateway with few sessions there hardly ever is.
const restFor = 100

var _ core.Prefetcher = (*Core)(nil)

// PrefetchOut implements core.Prefetcher.
func (c *Core) PrefetchOut(p packet.Packet) {
	if c.lookahead.rest > 0 {
		return
	}
	if k := c.lookahead.client(c, p.Dst()); k != nil && !p.IsFragment() {
		c.lookahead.add(k.nat.LookIn(p))
	}
}

// PrefetchIn implements core.Prefetcher.
func (c *Core) PrefetchIn(plain []byte) {
	if c.lookahead.rest > 0 {
		return
	}
	p, err := packet.Parse(packet.Trim(plain))
	if err != nil {
		return
	}
	if k := c.lookahead.client(c, p.Src()); k != nil {
		c.lookahead.add(k.nat.LookOut(p))
	}
}

// Prefetch implements core.Prefetcher.
func (c *Core) Prefetch() {
	f := &c.lookahead
	nat.Prefetch(f.looks)
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
func (f *lookahead) client(c *Core, addr netip.Addr) *client {
	if addr != f.addr {
		f.addr, f.k = addr, c.byAddr[addr]
	}
	return f.k
}

// maxLooks bounds what is kept of a batch. Of more, the rest is not brought near.
const maxLooks = 512

func (f *lookahead) add(l nat.Look) {
	if !l.IsZero() && len(f.looks) < maxLooks {
		f.looks = append(f.looks, l)
	}
}
