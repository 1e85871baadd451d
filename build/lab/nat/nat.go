//go:build linux

// Package nat makes routers of the lab translate addresses in the ways that
// home and office routers do, and proves by probing that they do.
package nat

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"stile/build/lab/link"
)

// A Kind is a way to translate, named after what it does to UDP (RFC 4787):
// how a socket inside maps to an address outside, and who may answer there.
// Every kind but None drops what comes from outside unasked.
type Kind uint8

const (
	None           Kind = iota // a plain router: no translation, no filter
	FullCone                   // one mapping for all destinations; anybody may answer
	PortRestricted             // one mapping for all destinations; only the address and port asked may answer
	Symmetric                  // a mapping for each destination; only the address and port asked may answer
)

func (k Kind) String() string {
	return [...]string{"none", "full-cone", "port-restricted", "symmetric"}[k]
}

// tableName is the nftables table of the lab in each router.
const tableName = "lab"

// coneLifetime is how long a full cone lets anybody in after the last packet out.
const coneLifetime = 2 * time.Minute

// A Forwarding lets the outside reach a TCP port of a host inside.
type Forwarding struct {
	Port uint16 // on the router's outside
	To   netip.AddrPort
}

// A Router translates between the networks inside and one device outside. A
// mapping keeps the port of the socket inside, so two hosts inside must not use
// the same UDP port towards the same destination.
type Router struct {
	Outside  *link.End
	Kind     Kind
	Forwards []Forwarding
}

// Apply makes the router what its fields say, from now on: what it translated
// before is forgotten.
func (r Router) Apply() error {
	h := r.Outside.Host
	err := h.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		table := &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}
		c.AddTable(table) // so that there is one to delete
		c.DelTable(table)
		c.AddTable(table)
		b := builder{c: c, table: table, outside: r.Outside.Name}
		b.incoming(r)
		b.outgoing(r)
		b.filter(r)
		if err := c.Flush(); err != nil {
			return err
		}
		return b.err
	})
	if err != nil {
		return fmt.Errorf("make %s a router of kind %v with nftables: %w", h.Name, r.Kind, err)
	}
	if err := h.Links.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
		return fmt.Errorf("flush the connections of %s: %w", h.Name, err)
	}
	return nil
}

// Masquerade makes a host translate what leaves by one device, and nothing
// else: what installers of gateways are told to set up.
func Masquerade(outside *link.End) error {
	err := outside.Host.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		table := &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}
		c.AddTable(table) // so that there is one to delete
		c.DelTable(table)
		c.AddTable(table)
		b := builder{c: c, table: table, outside: outside.Name}
		b.outgoing(Router{Kind: PortRestricted})
		return c.Flush()
	})
	if err != nil {
		return fmt.Errorf("make %s masquerade with nftables: %w", outside.Host.Name, err)
	}
	return nil
}

// A builder collects the rules of one router.
type builder struct {
	c       *nftables.Conn
	table   *nftables.Table
	outside string // the outer device
	cones   [2]*nftables.Set
	err     error
}

// The IP families as a router sees them: number, where the source address lies
// in the header, and the type of map that leads from a port to an address.
var families = [2]struct {
	number         byte
	source, length uint32
	address        nftables.SetDatatype
}{
	{unix.NFPROTO_IPV4, 12, 4, nftables.TypeIPAddr},
	{unix.NFPROTO_IPV6, 8, 16, nftables.TypeIP6Addr},
}

// incoming adds what happens to packets from outside before they are routed.
func (b *builder) incoming(r Router) {
	chain := b.chain("pre", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	for _, f := range r.Forwards {
		family := families[0]
		if f.To.Addr().Is6() {
			family = families[1]
		}
		b.rule(chain, b.from(), is(expr.MetaKeyNFPROTO, family.number), is(expr.MetaKeyL4PROTO, unix.IPPROTO_TCP),
			destinationPort(1),
			[]expr.Any{
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(f.Port)},
				&expr.Immediate{Register: 1, Data: f.To.Addr().AsSlice()},
				&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(f.To.Port())},
				&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(family.number), RegAddrMin: 1, RegProtoMin: 2},
			})
	}
	if r.Kind != FullCone {
		return
	}
	for i, family := range families {
		b.cones[i] = &nftables.Set{
			Table: b.table, Name: fmt.Sprintf("cone%d", i), IsMap: true, Dynamic: true, HasTimeout: true, Timeout: coneLifetime,
			KeyType: nftables.TypeInetService, DataType: family.address,
		}
		if err := b.c.AddSet(b.cones[i], nil); err != nil {
			b.err = err
		}
		b.rule(chain, b.from(), is(expr.MetaKeyNFPROTO, family.number), is(expr.MetaKeyL4PROTO, unix.IPPROTO_UDP),
			destinationPort(1),
			[]expr.Any{
				&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: b.cones[i].Name, SetID: b.cones[i].ID},
				&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(family.number), RegAddrMin: 1},
			})
	}
}

// outgoing adds the translation of packets that leave to the outside.
func (b *builder) outgoing(r Router) {
	if r.Kind == None {
		return
	}
	chain := b.chain("post", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	b.rule(chain, b.to(), []expr.Any{&expr.Masq{FullyRandom: r.Kind == Symmetric}})
	if r.Kind != FullCone {
		return
	}
	learn := b.chain("learn", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityMangle)
	for i, family := range families {
		b.rule(learn, b.to(), is(expr.MetaKeyNFPROTO, family.number), is(expr.MetaKeyL4PROTO, unix.IPPROTO_UDP),
			[]expr.Any{
				&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2},
				&expr.Payload{DestRegister: 2, Base: expr.PayloadBaseNetworkHeader, Offset: family.source, Len: family.length},
				&expr.Dynset{
					SrcRegKey: 1, SrcRegData: 2, SetName: b.cones[i].Name, SetID: b.cones[i].ID,
					Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: coneLifetime,
				},
			})
	}
}

// filter drops what comes from outside and answers nothing. The input hook
// matters to UDP: without it a packet that comes early would leave an entry in
// the connection table, the inside host would be mapped to another port towards
// its sender, and every kind would look symmetric.
func (b *builder) filter(r Router) {
	if r.Kind == None {
		return
	}
	for _, at := range []struct {
		name string
		hook *nftables.ChainHook
	}{{"input", nftables.ChainHookInput}, {"forward", nftables.ChainHookForward}} {
		chain := b.chain(at.name, nftables.ChainTypeFilter, at.hook, nftables.ChainPriorityFilter)
		b.rule(chain, b.from(), connection(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), verdict(expr.VerdictAccept))
		b.rule(chain, b.from(), connection(expr.CtKeySTATUS, ipsDstNAT), verdict(expr.VerdictAccept))
		b.rule(chain, b.from(), verdict(expr.VerdictDrop))
	}
}

// ipsDstNAT is the bit of a connection whose destination was translated
// (linux/netfilter/nf_conntrack_common.h).
const ipsDstNAT = 1 << 5

func (b *builder) chain(name string, t nftables.ChainType, hook *nftables.ChainHook, p *nftables.ChainPriority) *nftables.Chain {
	return b.c.AddChain(&nftables.Chain{Name: name, Table: b.table, Type: t, Hooknum: hook, Priority: p})
}

func (b *builder) rule(chain *nftables.Chain, parts ...[]expr.Any) {
	r := &nftables.Rule{Table: b.table, Chain: chain}
	for _, p := range parts {
		r.Exprs = append(r.Exprs, p...)
	}
	b.c.AddRule(r)
}

// from matches packets that came in from outside, to those that leave there.
func (b *builder) from() []expr.Any { return device(expr.MetaKeyIIFNAME, b.outside) }
func (b *builder) to() []expr.Any   { return device(expr.MetaKeyOIFNAME, b.outside) }

func device(key expr.MetaKey, name string) []expr.Any {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: padded}}
}

// is matches a property of the packet that is one byte long.
func is(key expr.MetaKey, value byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{value}}}
}

// destinationPort loads the port that a TCP or UDP packet is for.
func destinationPort(register uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}}
}

// connection matches packets of connections that have one of the bits.
func connection(key expr.CtKey, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

func verdict(k expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: k}} }
