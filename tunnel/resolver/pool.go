package resolver

import (
	"encoding/binary"
	"net/netip"

	"stile/tunnel/policy"
)

// A pool gives out the addresses of one proxy range in order, each once. After
// the last one it looks for some it has passed over.
type pool struct {
	base   [16]byte
	is4    bool
	size   uint32 // of the range
	cursor uint32 // offset of the address to try next
	left   int    // addresses not given out
}

func newPool(p netip.Prefix) pool {
	pl := pool{base: p.Addr().As16(), is4: p.Addr().Is4(), size: addresses(p)}
	pl.left = int(pl.size)
	if pl.is4 {
		pl.left -= int(addresses(policy.SentinelV4)) + 2 // network and broadcast address
	}
	return pl
}

func addresses(p netip.Prefix) uint32 { return 1 << (p.Addr().BitLen() - p.Bits()) }

// has reports whether a is one that the pool gives out.
func (p *pool) has(a netip.Addr) bool {
	offset := p.offset(a)
	return a.Is4() == p.is4 && a.Zone() == "" && offset < p.size && p.at(offset) == a && p.usable(a, offset)
}

// take removes an address the pool has; the cursor moves past it.
func (p *pool) take(a netip.Addr) {
	p.left--
	p.cursor = max(p.cursor, p.offset(a)+1)
}

// next gives out the next address for which free is true. There must be one:
// left says so.
func (p *pool) next(free func(netip.Addr) bool) netip.Addr {
	for {
		if p.cursor >= p.size {
			p.cursor = 0
		}
		offset := p.cursor
		p.cursor++
		if a := p.at(offset); p.usable(a, offset) && free(a) {
			p.left--
			return a
		}
	}
}

func (p *pool) usable(a netip.Addr, offset uint32) bool {
	return !policy.IsSentinel(a) && (!p.is4 || offset != 0 && offset != p.size-1)
}

func (p *pool) at(offset uint32) netip.Addr {
	b := p.base
	binary.BigEndian.PutUint32(b[12:], binary.BigEndian.Uint32(b[12:])+offset)
	if p.is4 {
		return netip.AddrFrom16(b).Unmap()
	}
	return netip.AddrFrom16(b)
}

// offset is at's inverse; for addresses outside the range it is arbitrary.
func (p *pool) offset(a netip.Addr) uint32 {
	b := a.As16()
	return binary.BigEndian.Uint32(b[12:]) - binary.BigEndian.Uint32(p.base[12:])
}
