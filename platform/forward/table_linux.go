package forward

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The ranges of clients' tunnel addresses (spec gateway-nat.md 1.1).
var (
	peers4 = netip.MustParsePrefix("100.64.0.0/11")
	peers6 = netip.MustParsePrefix("fd00:2021:1111::/107")
)

// Priorities of our chains. What may not pass is dropped before others look at
// it; packets are counted again after everybody has; an address that an
// administrator's own rules (at 100) have translated stays as it is.
const (
	priorityForward     = -160
	priorityPassed      = 1000
	priorityPostrouting = 120
)

// tableOwner is NFT_TABLE_F_OWNER, Linux 5.12: only the socket that made the
// table may change it, "nft flush ruleset" of others leaves it alone, and it
// goes with the socket.
const tableOwner = 0x2

// tableHandle is NFTA_TABLE_HANDLE, Linux 4.17: numbers are never used twice.
const tableHandle = 4

const inet = unix.NFPROTO_INET

// install puts our table for the tunnel iface in place of whatever bears its
// name, in one transaction. owned reports whether the kernel guards it.
func (f *firewall) install(iface string) (owned bool, err error) {
	if err := f.commit(ours(iface, tableOwner)); err == nil {
		return true, nil
	} else if errors.Is(err, unix.EPERM) {
		return false, f.explain(iface, err)
	}
	if err := f.commit(ours(iface, 0)); err != nil {
		return false, f.explain(iface, err)
	}
	return false, nil
}

// ours is the transaction that makes our table. It ends a hold.
func ours(iface string, flags uint32) []netlink.Message {
	m := append(removalOf(TableName), newTable(TableName, flags))
	m = append(m, filterChain(TableName, "forward", priorityForward), filterChain(TableName, "passed", priorityPassed), natChain(TableName))
	in, out := ifname(expr.MetaKeyIIFNAME, iface, expr.CmpOpEq), ifname(expr.MetaKeyOIFNAME, iface, expr.CmpOpEq)
	m = append(m,
		rule(TableName, "forward", in, out, count(), verdict(expr.VerdictDrop)), // client to client is no forwarding of ours
		rule(TableName, "forward", in, count(), verdict(expr.VerdictAccept)),
		rule(TableName, "forward", out, answersOnly(), count(), verdict(expr.VerdictAccept)),
		rule(TableName, "forward", out, count(), verdict(expr.VerdictDrop)),
		rule(TableName, "passed", in, count()),
		rule(TableName, "passed", out, count()),
	)
	outside := slices.Concat(ifname(expr.MetaKeyOIFNAME, "lo", expr.CmpOpNeq), ifname(expr.MetaKeyOIFNAME, iface, expr.CmpOpNeq))
	for _, p := range []netip.Prefix{peers4, peers6} {
		m = append(m, rule(TableName, "postrouting", source(p), outside, count(), masquerade()))
	}
	return append(m, removalOf(holdName)...)
}

// removalOf deletes a table whether it exists or not.
func removalOf(table string) []netlink.Message {
	return []netlink.Message{
		change(unix.NFT_MSG_NEWTABLE, netlink.Create, inet, text(unix.NFTA_TABLE_NAME, table)), // so that the deletion finds one
		change(unix.NFT_MSG_DELTABLE, 0, inet, text(unix.NFTA_TABLE_NAME, table)),
	}
}

func newTable(name string, flags uint32) netlink.Message {
	return change(unix.NFT_MSG_NEWTABLE, netlink.Create, inet, text(unix.NFTA_TABLE_NAME, name), number(unix.NFTA_TABLE_FLAGS, flags))
}

func filterChain(table, name string, priority int32) netlink.Message {
	return chainMessage(table, name, "filter", unix.NF_INET_FORWARD, priority)
}

func natChain(table string) netlink.Message {
	return chainMessage(table, "postrouting", "nat", unix.NF_INET_POST_ROUTING, priorityPostrouting)
}

func chainMessage(table, name, kind string, hook uint32, priority int32) netlink.Message {
	return change(unix.NFT_MSG_NEWCHAIN, netlink.Create, inet,
		text(unix.NFTA_CHAIN_TABLE, table), text(unix.NFTA_CHAIN_NAME, name), text(unix.NFTA_CHAIN_TYPE, kind),
		nested(unix.NFTA_CHAIN_HOOK, number(unix.NFTA_HOOK_HOOKNUM, hook), number(unix.NFTA_HOOK_PRIORITY, uint32(priority))),
		number(unix.NFTA_CHAIN_POLICY, 1)) // accept
}

func rule(table, chain string, parts ...[]expr.Any) netlink.Message {
	return change(unix.NFT_MSG_NEWRULE, netlink.Create|netlink.Append, inet,
		text(unix.NFTA_RULE_TABLE, table), text(unix.NFTA_RULE_CHAIN, chain), expressions(inet, slices.Concat(parts...)...))
}

// explain finds out which feature is missing, by asking for one after the
// other in transactions that leave nothing behind.
func (f *firewall) explain(iface string, cause error) error {
	const name = TableName + "_probe"
	parts := []struct {
		message netlink.Message
		missing string
	}{
		{newTable(name, 0), "nf_tables for the inet family (CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET; try: modprobe nf_tables)"},
		{filterChain(name, "forward", priorityForward), "filter chains of nf_tables for the inet family (CONFIG_NF_TABLES_INET)"},
		{rule(name, "forward", answersOnly()), "connection tracking in nf_tables (CONFIG_NF_CONNTRACK, CONFIG_NFT_CT; try: modprobe nft_ct)"},
		{natChain(name), "NAT chains of nf_tables for the inet family (CONFIG_NFT_NAT, Linux 5.2 or later; try: modprobe nft_chain_nat)"},
		{rule(name, "postrouting", masquerade()), "masquerading in nf_tables (CONFIG_NFT_MASQ; try: modprobe nft_masq)"},
	}
	var so []netlink.Message
	for _, p := range parts {
		so = append(so, p.message)
		err := f.commit(append(slices.Clone(so), change(unix.NFT_MSG_DELTABLE, 0, inet, text(unix.NFTA_TABLE_NAME, name))))
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("set the firewall table \"inet %s\": a gateway needs root or CAP_NET_ADMIN: %w", TableName, err)
		}
		if err != nil {
			return fmt.Errorf("the kernel lacks %s; install a kernel with it, or run the gateway on another host: %w", p.missing, err)
		}
	}
	if errors.Is(cause, unix.EPERM) {
		return fmt.Errorf("the firewall table \"inet %s\" belongs to another process, probably a second gateway; stop that one (nft list tables tells its name): %w", TableName, cause)
	}
	return fmt.Errorf("set the firewall table \"inet %s\" for %s: %w", TableName, iface, cause)
}

// remove deletes tables of ours, of those that exist, unless somebody alive
// owns them.
func (f *firewall) remove(ours ...string) error {
	tables, err := f.dump(unix.NFT_MSG_GETTABLE, inet)
	if lacking(err) {
		return nil // no nftables, no table
	}
	if err != nil {
		return fmt.Errorf("list the firewall's tables: %w", err)
	}
	for _, m := range tables {
		name := ""
		if err := decode(body(m), func(d *netlink.AttributeDecoder) {
			if d.Type() == unix.NFTA_TABLE_NAME {
				name = d.String()
			}
		}); err != nil {
			return err
		}
		if !slices.Contains(ours, name) {
			continue
		}
		switch err := f.commit(removalOf(name)); {
		case errors.Is(err, unix.EPERM):
			return fmt.Errorf("the firewall table \"inet %s\" belongs to another process, probably a second gateway; stop that one: %w", name, err)
		case err != nil:
			return fmt.Errorf("remove the firewall table \"inet %s\": %w", name, err)
		}
	}
	return nil
}

func lacking(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EINVAL)
}

// fingerprint prints what our table consists of, "" without one. Two equal
// texts are the same table, unchanged in between: handles are never reused.
func (f *firewall) fingerprint() (string, error) {
	var lines []string
	tables, err := f.dump(unix.NFT_MSG_GETTABLE, inet)
	if err != nil {
		return "", err
	}
	chains, err := f.dump(unix.NFT_MSG_GETCHAIN, inet)
	if err != nil {
		return "", err
	}
	for _, m := range tables {
		var name string
		var flags uint32
		var handle uint64
		if err := decode(body(m), func(d *netlink.AttributeDecoder) {
			switch d.Type() {
			case unix.NFTA_TABLE_NAME:
				name = d.String()
			case unix.NFTA_TABLE_FLAGS:
				flags = d.Uint32()
			case tableHandle:
				handle = d.Uint64()
			}
		}); err != nil {
			return "", err
		}
		if name == TableName {
			lines = append(lines, fmt.Sprintf("table %d flags %d", handle, flags))
		}
	}
	for _, m := range chains {
		c, err := parseChain(m)
		if err != nil {
			return "", err
		}
		if c.table == TableName {
			lines = append(lines, fmt.Sprintf("chain %s %s %d %d %v", c.name, c.kind, c.hook, c.priority, c.drop))
		}
	}
	rules, err := f.rules(inet, TableName)
	if err != nil {
		return "", err
	}
	slices.SortStableFunc(rules, func(a, b *ruleOf) int { return cmp.Compare(a.chain, b.chain) })
	for _, r := range rules {
		lines = append(lines, fmt.Sprintf("rule %s %d", r.chain, r.handle))
	}
	return strings.Join(lines, "\n"), nil
}

func ifname(key expr.MetaKey, name string, op expr.CmpOp) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: interfaceName(name)}}
}

// interfaceName is how the kernel keeps and compares an interface's name.
func interfaceName(name string) []byte {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return padded
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
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: length, Mask: maskOf(p), Xor: make([]byte, length)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }
func count() []expr.Any                        { return []expr.Any{&expr.Counter{}} }
func masquerade() []expr.Any                   { return []expr.Any{&expr.Masq{}} }
