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
	err := h.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		table := &nftables.Table{Family: nftables.TableFamilyINet, Name: holeTable}
		c.AddTable(table) // so that there is one to delete
		c.DelTable(table)
		if len(addrs) == 0 {
			return c.Flush()
		}
		c.AddTable(table)
		b := builder{c: c, table: table}
		chain := b.chain("input", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter)
		for _, a := range addrs {
			b.rule(chain, destination(a), verdict(expr.VerdictDrop))
		}
		return c.Flush()
	})
	if err != nil {
		return fmt.Errorf("make %s deaf with nftables: %w", h.Name, err)
	}
	return nil
}

// destination matches packets to an address.
func destination(a netip.Addr) []expr.Any {
	family, offset := families[0], uint32(16)
	if a.Is6() {
		family, offset = families[1], 24
	}
	return append(is(expr.MetaKeyNFPROTO, family.number),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: family.length},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: a.AsSlice()})
}

// Redirect makes a host send TCP connections to one of its own addresses on to
// another host, as administrators publish a server: destination NAT.
func Redirect(h *host.Host, from, to netip.Addr) error {
	err := h.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		table := &nftables.Table{Family: nftables.TableFamilyINet, Name: "lab-redirect"}
		c.AddTable(table) // so that there is one to delete
		c.DelTable(table)
		c.AddTable(table)
		b := builder{c: c, table: table}
		chain := b.chain("pre", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
		family := families[0]
		if to.Is6() {
			family = families[1]
		}
		b.rule(chain, destination(from), is(expr.MetaKeyL4PROTO, unix.IPPROTO_TCP), []expr.Any{
			&expr.Immediate{Register: 1, Data: to.AsSlice()},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(family.number), RegAddrMin: 1},
		})
		return c.Flush()
	})
	if err != nil {
		return fmt.Errorf("make %s redirect with nftables: %w", h.Name, err)
	}
	return nil
}
