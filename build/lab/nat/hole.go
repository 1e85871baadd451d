//go:build linux

package nat

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"stile/build/lab/host"
	"stile/build/lab/link"
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

// A Barrier drops, while it is down, what peers send through WireGuard tunnels as
// it reaches a router, and nothing else: they stay connected.
//
// Moving it changes no firewall rule. The kernel lets nobody change those while
// packets are looking at them, which takes seconds when all its cores carry
// packets. What the rule asks instead is the group of the device.
type Barrier struct {
	outside *link.End
	device  netlink.Link
}

// loweredGroup is the group of a device with the barrier down.
const loweredGroup = 77

// NewBarrier makes a barrier at the outer device of a router, which is up.
func NewBarrier(outside *link.End, peers ...netip.Addr) (*Barrier, error) {
	device, err := outside.Host.Links.LinkByName(outside.Name)
	if err != nil {
		return nil, fmt.Errorf("find %s of %s: %w", outside.Name, outside.Host.Name, err)
	}
	err = table(outside.Host, "lab-barrier", true, func(b builder) {
		chain := b.chain("pre", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
		for _, a := range peers {
			b.rule(chain, lowered(), source(a), is(expr.MetaKeyL4PROTO, unix.IPPROTO_UDP), []expr.Any{
				&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 8, Len: 4},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{4, 0, 0, 0}}, // transport data
			}, verdict(expr.VerdictDrop))
		}
	})
	if err != nil {
		return nil, fmt.Errorf("make %s drop with nftables: %w", outside.Host.Name, err)
	}
	return &Barrier{outside, device}, nil
}

func lowered() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFGROUP, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(loweredGroup)},
	}
}

// Lower shuts the peers out, Raise lets them by again.
func (b *Barrier) Lower() error { return b.group(loweredGroup) }
func (b *Barrier) Raise() error { return b.group(0) }

func (b *Barrier) group(n int) error {
	if err := b.outside.Host.Links.LinkSetGroup(b.device, n); err != nil {
		return fmt.Errorf("put %s of %s into group %d: %w", b.outside.Name, b.outside.Host.Name, n, err)
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
