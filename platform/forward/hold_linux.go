package forward

import (
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Between two gateways on one host nothing translates answers back to clients.
// They then are for an address and a port of the host itself, which has no such
// connection and resets it: the resource would end what the next gateway could
// go on with. So a table of its own, which nobody owns, drops those answers
// until the next gateway stands, or until its time is over.

// holdName is the name of that table.
const holdName = TableName + "_hold"

// priorityHold comes right after connection tracking has named the packet's
// connection, and before anybody's address translation.
const priorityHold = -150

// Hold has the kernel drop answers to clients for a while, instead of refusing
// them as if they were meant for this host: call it when a gateway is about to
// end whose connections the next one will take up. The next Enable ends it, and
// otherwise the kernel does after d, at most an hour; an empty table is left
// then, for Restore or a reboot to remove. Zero ends it at once. After Hold,
// Close leaves it alone.
func (f *Forwarding) Hold(d time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.firewall
	if w == nil { // nothing was ever forwarded
		return nil
	}
	batch := removalOf(holdName)
	if d > 0 {
		batch = append(batch, holding(min(d, time.Hour))...)
	}
	if err := w.commit(batch); err != nil {
		return fmt.Errorf("set the firewall table \"inet %s\": %w", holdName, err)
	}
	f.held = d > 0
	return nil
}

// holding is what makes the table. The ranges are members of sets for as long
// as they count.
func holding(d time.Duration) []netlink.Message {
	const chain = "prerouting"
	m := []netlink.Message{
		newTable(holdName, 0),
		chainMessage(holdName, chain, "filter", unix.NF_INET_PRE_ROUTING, priorityHold),
	}
	for i, p := range []netip.Prefix{peers4, peers6} {
		name, first := fmt.Sprintf("peers%d", p.Addr().BitLen()), p.Masked().Addr().AsSlice()
		m = append(m,
			change(unix.NFT_MSG_NEWSET, netlink.Create, inet,
				text(unix.NFTA_SET_TABLE, holdName), text(unix.NFTA_SET_NAME, name), number(unix.NFTA_SET_ID, uint32(i+1)),
				number(unix.NFTA_SET_FLAGS, unix.NFT_SET_TIMEOUT),
				number(unix.NFTA_SET_KEY_TYPE, addressType(p)), number(unix.NFTA_SET_KEY_LEN, uint32(len(first))),
				long(unix.NFTA_SET_TIMEOUT, uint64(d.Milliseconds()))),
			change(unix.NFT_MSG_NEWSETELEM, netlink.Create, inet,
				text(unix.NFTA_SET_ELEM_LIST_TABLE, holdName), text(unix.NFTA_SET_ELEM_LIST_SET, name),
				nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS, nested(unix.NFTA_LIST_ELEM,
					nested(unix.NFTA_SET_ELEM_KEY, netlink.Attribute{Type: unix.NFTA_DATA_VALUE, Data: first})))),
			rule(holdName, chain, answersTo(p), []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: name, SetID: uint32(i + 1)}},
				count(), verdict(expr.VerdictDrop)),
		)
	}
	return m
}

// answersTo matches answers in connections of p's family and leaves the range
// of p's length that the connection began from in register 1.
func answersTo(p netip.Prefix) []expr.Any {
	family, length := byte(unix.NFPROTO_IPV4), uint32(4)
	if p.Addr().Is6() {
		family, length = unix.NFPROTO_IPV6, 16
	}
	const reply = 1
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Ct{Key: expr.CtKeyDIRECTION, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{reply}},
		&origin{family: family},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: length, Mask: maskOf(p), Xor: make([]byte, length)},
	}
}

// An origin loads into register 1 where a packet's connection began from. The
// library knows only NFT_CT_SRC, which nft cannot list in a table for both
// families.
type origin struct {
	expr.Any // to be in a list with others; never called
	family   byte
}

func (o *origin) element() netlink.Attribute {
	key := uint32(19) // NFT_CT_SRC_IP, Linux 4.17
	if o.family == unix.NFPROTO_IPV6 {
		key = 21 // NFT_CT_SRC_IP6
	}
	const original = 0
	return nested(unix.NFTA_LIST_ELEM, text(unix.NFTA_EXPR_NAME, "ct"), nested(unix.NFTA_EXPR_DATA,
		number(unix.NFTA_CT_KEY, key), number(unix.NFTA_CT_DREG, 1), netlink.Attribute{Type: unix.NFTA_CT_DIRECTION, Data: []byte{original}}))
}

// addressType is how nft knows addresses of p's family. It cannot list a set of
// members that have no type.
func addressType(p netip.Prefix) uint32 {
	if p.Addr().Is6() {
		return 8 // ipv6_addr
	}
	return 7 // ipv4_addr
}

func maskOf(p netip.Prefix) []byte {
	mask := make([]byte, p.Addr().BitLen()/8)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return mask
}

// Recover is Restore for a gateway that is about to start: a hold goes on.
func Recover(log *slog.Logger) error { return undo(log, TableName) }
