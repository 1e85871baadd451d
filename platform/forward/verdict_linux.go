package forward

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// A probe is a packet of which only that is known which every packet of the
// tunnel has: where it comes from and goes to, and whether it is an answer.
type probe struct {
	family            byte   // NFPROTO_IPV4 or NFPROTO_IPV6
	in, out           string // interfaces
	inIndex, outIndex uint32
	answer            bool
	tunnel            []byte // the client's tunnel address: source, or destination of an answer
}

// A block is where a base chain drops a probe: at a rule, or by its policy
// when rule is nil.
type block struct {
	base  *chainOf
	at    *chainOf // the chain of the rule
	rule  *ruleOf
	named bool // the rule, or one that led to it, names the tunnel's interface
}

// blocks returns where base chains of other programs drop a probe that none of
// their rules singles out. A match on what is unknown of the probe, such as a
// port, does not apply.
func (r *ruleset) blocks(p probe) []block {
	var found []block
	for _, c := range r.chains {
		mine := c.table == TableName && c.family == inet
		if !c.base || mine || c.kind != "filter" || c.hook != unix.NF_INET_FORWARD || c.family != inet && c.family != p.family {
			continue
		}
		w := walk{set: r, probe: p}
		switch w.chain(c, 0) {
		case dropped:
			found = append(found, block{c, w.at, w.rule, w.named})
		case passedOn:
			if c.drop {
				found = append(found, block{base: c, at: c})
			}
		}
	}
	return found
}

type outcome int

const (
	passedOn outcome = iota // the end of the chain, or return
	accepted
	dropped
)

// A walk is the way of one probe through one base chain. Registers are known
// byte by byte.
type walk struct {
	set   *ruleset
	probe probe
	data  [64]byte
	known [64]bool
	named bool
	at    *chainOf
	rule  *ruleOf
}

// deepest is how many jumps the kernel allows.
const deepest = 16

func (w *walk) chain(c *chainOf, depth int) outcome {
	if depth > deepest {
		return passedOn
	}
	for _, r := range c.rules {
		names := false
		v := w.eval(r, &names)
		if v == nil {
			continue
		}
		was := w.named
		w.named = w.named || names
		switch v.Kind {
		case expr.VerdictAccept, expr.VerdictQueue, expr.VerdictStolen:
			return accepted
		case expr.VerdictDrop:
			w.at, w.rule = c, r
			return dropped
		case expr.VerdictReturn:
			w.named = was
			return passedOn
		case expr.VerdictJump, expr.VerdictGoto:
			if to := w.set.find(c, v.Chain); to != nil {
				if o := w.chain(to, depth+1); o != passedOn {
					return o
				}
			}
			if v.Kind == expr.VerdictGoto {
				return passedOn
			}
		}
		w.named = was
	}
	return passedOn
}

func (r *ruleset) find(from *chainOf, name string) *chainOf {
	i := slices.IndexFunc(r.chains, func(c *chainOf) bool {
		return c.family == from.family && c.table == from.table && c.name == name
	})
	if i < 0 {
		return nil
	}
	return r.chains[i]
}

// eval returns the rule's verdict, nil if it does not match the probe for sure
// or has none. names is set if it compares an interface with the tunnel's.
func (w *walk) eval(r *ruleOf, names *bool) *expr.Verdict {
	w.known = [64]bool{}
	drop := &expr.Verdict{Kind: expr.VerdictDrop}
	for _, e := range r.exprs {
		match := true
		switch e := e.(type) {
		case *expr.Counter, *expr.Log:
		case *expr.Verdict:
			return e
		case *expr.Reject:
			return drop
		case *expr.Target:
			if e.Name == "REJECT" || e.Name == "DROP" {
				return drop
			}
		case *expr.Meta:
			match = !e.SourceRegister && w.meta(e)
		case *expr.Ct:
			w.load(e.Register, w.ct(e.Key), 16)
		case *expr.Payload:
			w.load(e.DestRegister, w.payload(e), int(e.Len))
		case *expr.Immediate:
			w.load(e.Register, e.Data, len(e.Data))
		case *expr.Bitwise:
			w.bitwise(e)
		case *expr.Cmp:
			*names = *names || w.isTunnel(e.Data)
			match = w.compare(e)
		case *expr.Range:
			got, ok := w.value(e.Register, len(e.FromData))
			inside := ok && bytes.Compare(got, e.FromData) >= 0 && bytes.Compare(got, e.ToData) <= 0
			match = ok && inside == (e.Op == expr.CmpOpEq)
		case *expr.Lookup:
			var v *expr.Verdict
			if match, v = w.lookup(r, e); match && v != nil {
				return v
			}
		case *expr.Match:
			match = w.extension(e)
		default:
			match = false // who knows
		}
		if !match {
			return nil
		}
	}
	return nil
}

// isTunnel reports whether data, as a rule compares it, is the tunnel's name.
func (w *walk) isTunnel(data []byte) bool {
	tunnel := w.probe.in
	if w.probe.answer {
		tunnel = w.probe.out
	}
	return string(bytes.TrimRight(data, "\x00")) == tunnel
}

// meta loads what the key says. It reports false where nothing can follow.
func (w *walk) meta(e *expr.Meta) bool {
	p := w.probe
	var value []byte
	length := 4
	switch e.Key {
	case expr.MetaKeyIIFNAME:
		value = interfaceName(p.in)
	case expr.MetaKeyOIFNAME:
		value = interfaceName(p.out)
	case expr.MetaKeyIIF:
		value = binary.NativeEndian.AppendUint32(nil, p.inIndex)
	case expr.MetaKeyOIF:
		value = binary.NativeEndian.AppendUint32(nil, p.outIndex)
	case expr.MetaKeyNFPROTO:
		value = []byte{p.family}
	case expr.MetaKeyMARK:
		value = make([]byte, 4)
	case expr.MetaKeyPROTOCOL:
		value = []byte{0x08, 0x00}
		if p.family == unix.NFPROTO_IPV6 {
			value = []byte{0x86, 0xdd}
		}
	}
	w.load(e.Register, value, max(len(value), length))
	return true
}

func (w *walk) ct(key expr.CtKey) []byte {
	switch key {
	case expr.CtKeySTATE:
		state := uint32(expr.CtStateBitNEW)
		if w.probe.answer {
			state = expr.CtStateBitESTABLISHED
		}
		return binary.NativeEndian.AppendUint32(nil, state)
	case expr.CtKeyDIRECTION:
		if w.probe.answer {
			return []byte{1}
		}
		return []byte{0}
	}
	return nil
}

// payload returns the tunnel address where the rule reads just that.
func (w *walk) payload(e *expr.Payload) []byte {
	at := uint32(12)
	if w.probe.family == unix.NFPROTO_IPV6 {
		at = 8
	}
	if w.probe.answer {
		at += uint32(len(w.probe.tunnel))
	}
	if e.Base != expr.PayloadBaseNetworkHeader || e.Offset != at || int(e.Len) > len(w.probe.tunnel) {
		return nil
	}
	return w.probe.tunnel[:e.Len]
}

// register returns a register's place: four of 16 bytes lie over sixteen of
// four.
func register(n uint32) int {
	switch {
	case n >= unix.NFT_REG_1 && n <= unix.NFT_REG_4:
		return int(n-unix.NFT_REG_1) * 16
	case n >= unix.NFT_REG32_00 && n <= unix.NFT_REG32_15:
		return int(n-unix.NFT_REG32_00) * 4
	}
	return 64
}

// load puts value into a register; nil makes length bytes unknown.
func (w *walk) load(reg uint32, value []byte, length int) {
	at := register(reg)
	for i := at; i < min(at+max(length, len(value)), 64); i++ {
		w.known[i] = value != nil
		w.data[i] = 0
	}
	copy(w.data[min(at, 64):], value)
}

func (w *walk) value(reg uint32, length int) ([]byte, bool) {
	at := register(reg)
	if at+length > 64 || slices.Contains(w.known[at:at+length], false) {
		return nil, false
	}
	return w.data[at : at+length], true
}

func (w *walk) bitwise(e *expr.Bitwise) {
	got, ok := w.value(e.SourceRegister, int(e.Len))
	if !ok || len(e.Mask) != len(got) || len(e.Xor) != len(got) {
		w.load(e.DestRegister, nil, int(e.Len))
		return
	}
	out := make([]byte, len(got))
	for i := range out {
		out[i] = got[i]&e.Mask[i] ^ e.Xor[i]
	}
	w.load(e.DestRegister, out, len(out))
}

func (w *walk) compare(e *expr.Cmp) bool {
	got, ok := w.value(e.Register, len(e.Data))
	if !ok {
		return false
	}
	order := bytes.Compare(got, e.Data)
	switch e.Op {
	case expr.CmpOpEq:
		return order == 0
	case expr.CmpOpNeq:
		return order != 0
	case expr.CmpOpLt:
		return order < 0
	case expr.CmpOpLte:
		return order <= 0
	case expr.CmpOpGt:
		return order > 0
	case expr.CmpOpGte:
		return order >= 0
	}
	return false
}

// lookup finds the register in a set or a verdict map. Sets of intervals are
// as good as unknown.
func (w *walk) lookup(r *ruleOf, e *expr.Lookup) (bool, *expr.Verdict) {
	list, err := w.set.sets(r.family, r.table, e.SetName)
	if err != nil || len(list) == 0 || slices.ContainsFunc(list, func(s nftables.SetElement) bool { return s.IntervalEnd || len(s.KeyEnd) > 0 }) {
		return false, nil
	}
	got, ok := w.value(e.SourceRegister, len(list[0].Key))
	if !ok {
		return false, nil
	}
	i := slices.IndexFunc(list, func(s nftables.SetElement) bool { return bytes.Equal(s.Key, got) })
	if e.IsDestRegSet {
		if i >= 0 && e.DestRegister == unix.NFT_REG_VERDICT {
			return true, list[i].VerdictData
		}
		if i >= 0 {
			w.load(e.DestRegister, nil, 16)
		}
		return i >= 0, nil
	}
	return (i >= 0) != e.Invert, nil
}

// extension evaluates a match of iptables.
func (w *walk) extension(e *expr.Match) bool {
	var flags, invert, states uint16
	switch info := e.Info.(type) {
	case *xt.Comment:
		return true
	case *xt.ConntrackMtinfo1:
		flags, invert, states = info.MatchFlags, info.InvertFlags, uint16(info.StateMask)
	case *xt.ConntrackMtinfo2:
		flags, invert, states = info.MatchFlags, info.InvertFlags, info.StateMask
	case *xt.ConntrackMtinfo3:
		flags, invert, states = info.MatchFlags, info.InvertFlags, info.StateMask
	}
	if flags&^uint16(xt.ConntrackStateAlias) != uint16(xt.ConntrackState) {
		return false
	}
	state := binary.NativeEndian.Uint32(w.ct(expr.CtKeySTATE))
	return (uint32(states)&state != 0) != (invert&uint16(xt.ConntrackState) != 0)
}
