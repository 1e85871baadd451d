package forward

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The ranges of clients' tunnel addresses (spec gateway-nat.md 1.1).
var (
	peers4 = netip.MustParsePrefix("100.64.0.0/11")
	peers6 = netip.MustParsePrefix("fd00:2021:1111::/107")
)

func enable(iface string, log *slog.Logger) error {
	if err := setKernel(log); err != nil {
		return err
	}
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	table := &nftables.Table{Name: TableName, Family: nftables.TableFamilyINet}
	c.AddTable(table) // so that the deletion finds one
	c.DelTable(table)
	c.AddTable(table)

	accept := nftables.ChainPolicyAccept
	forward := c.AddChain(&nftables.Chain{Name: "forward", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &accept})
	rule := func(chain *nftables.Chain, parts ...[]expr.Any) {
		var exprs []expr.Any
		for _, p := range parts {
			exprs = append(exprs, p...)
		}
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: exprs})
	}
	in, out := ifname(expr.MetaKeyIIFNAME, iface, expr.CmpOpEq), ifname(expr.MetaKeyOIFNAME, iface, expr.CmpOpEq)
	rule(forward, in, verdict(expr.VerdictAccept))
	rule(forward, out, answersOnly(), verdict(expr.VerdictAccept))
	rule(forward, out, []expr.Any{&expr.Counter{}}, verdict(expr.VerdictDrop))

	post := c.AddChain(&nftables.Chain{Name: "postrouting", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource, Policy: &accept})
	outside := append(ifname(expr.MetaKeyOIFNAME, "lo", expr.CmpOpNeq), ifname(expr.MetaKeyOIFNAME, iface, expr.CmpOpNeq)...)
	for _, p := range []netip.Prefix{peers4, peers6} {
		rule(post, source(p), outside, []expr.Any{&expr.Counter{}, &expr.Masq{}})
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("set the firewall table \"inet %s\" (the kernel needs nf_tables with NAT for the inet family, Linux 5.2 or later): %w", TableName, err)
	}
	return nil
}

func restore(log *slog.Logger) error {
	return errors.Join(dropTable(), restoreKernel(log))
}

func dropTable() error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EPROTONOSUPPORT) {
			return nil // no nftables, no table
		}
		return fmt.Errorf("list the firewall's tables: %w", err)
	}
	for _, t := range tables {
		if t.Name == TableName {
			c.DelTable(t)
			if err := c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("remove the firewall table \"inet %s\": %w", TableName, err)
			}
		}
	}
	return nil
}

func ifname(key expr.MetaKey, name string, op expr.CmpOp) []expr.Any {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: padded}}
}

// answersOnly matches connections that began in the tunnel.
func answersOnly() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Xor: binaryutil.NativeEndian.PutUint32(0),
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(0)},
	}
}

// source matches packets of p's family whose source address lies in p.
func source(p netip.Prefix) []expr.Any {
	family, offset, length := byte(unix.NFPROTO_IPV4), uint32(12), uint32(4)
	if p.Addr().Is6() {
		family, offset, length = unix.NFPROTO_IPV6, 8, 16
	}
	mask := make([]byte, length)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: length, Mask: mask, Xor: make([]byte, length)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }
