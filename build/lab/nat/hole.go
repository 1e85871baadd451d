//go:build linux

package nat

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"stile/build/lab/host"
)

// holeTable is the nftables table with what a host no longer hears.
const holeTable = "lab-holes"

// Hole makes a host deaf to what is sent to some of its addresses, as if it had
// lost its power: nothing is answered and nothing is refused. No address: it
// hears everything again.
func Hole(h *host.Host, addrs ...netip.Addr) error {
	err := table(h, holeTable, len(addrs) > 0, func(b builder) {
		chain := b.chain("input", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter)
		for _, a := range addrs {
			b.rule(chain, destination(a), verdict(expr.VerdictDrop))
		}
	})
	if err != nil {
		return fmt.Errorf("make %s deaf with nftables: %w", h.Name, err)
	}
	return nil
}

// ShutOut makes a router drop what peers at these addresses send through
// WireGuard tunnels, and nothing else: they stay connected. No address: it lets
// everything by again.
func ShutOut(router *host.Host, peers ...netip.Addr) error {
	err := table(router, "lab-shut-out", len(peers) > 0, func(b builder) {
		chain := b.chain("pre", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
		for _, a := range peers {
			b.rule(chain, source(a), is(expr.MetaKeyL4PROTO, unix.IPPROTO_UDP), []expr.Any{
				&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 8, Len: 4},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{4, 0, 0, 0}}, // transport data
			}, verdict(expr.VerdictDrop))
		}
	})
	if err != nil {
		return fmt.Errorf("make %s drop with nftables: %w", router.Name, err)
	}
	return nil
}

// table replaces a table of ours on a host, or removes it.
func table(h *host.Host, name string, wanted bool, fill func(builder)) error {
	return h.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		t := &nftables.Table{Family: nftables.TableFamilyINet, Name: name}
		c.AddTable(t) // so that there is one to delete
		c.DelTable(t)
		if wanted {
			c.AddTable(t)
			fill(builder{c: c, table: t})
		}
		return c.Flush()
	})
}

// source and destination match packets from or to an address.
func source(a netip.Addr) []expr.Any {
	if a.Is6() {
		return addressAt(8, a)
	}
	return addressAt(12, a)
}

func destination(a netip.Addr) []expr.Any {
	if a.Is6() {
		return addressAt(24, a)
	}
	return addressAt(16, a)
}

func addressAt(offset uint32, a netip.Addr) []expr.Any {
	family := families[0]
	if a.Is6() {
		family = families[1]
	}
	return append(is(expr.MetaKeyNFPROTO, family.number),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: family.length},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: a.AsSlice()})
}

// Redirect makes a host send TCP connections to one of its own addresses on to
// another host, as administrators publish a server: destination NAT.
func Redirect(h *host.Host, from, to netip.Addr) error {
	err := table(h, "lab-redirect", true, func(b builder) {
		chain := b.chain("pre", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
		family := families[0]
		if to.Is6() {
			family = families[1]
		}
		b.rule(chain, destination(from), is(expr.MetaKeyL4PROTO, unix.IPPROTO_TCP), []expr.Any{
			&expr.Immediate{Register: 1, Data: to.AsSlice()},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(family.number), RegAddrMin: 1},
		})
	})
	if err != nil {
		return fmt.Errorf("make %s redirect with nftables: %w", h.Name, err)
	}
	return nil
}
