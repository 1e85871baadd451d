package forward

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A ruleset is what all programs together have told nf_tables.
type ruleset struct {
	chains []*chainOf
	sets   func(family byte, table, set string) ([]nftables.SetElement, error)
}

// A chainOf is one chain; a base chain hangs on a hook.
type chainOf struct {
	family      byte
	table, name string
	base, drop  bool // drop is its policy
	kind        string
	hook        uint32
	priority    int32
	rules       []*ruleOf
}

func (c *chainOf) String() string {
	return fmt.Sprintf("table %s %s, chain %s", familyName(c.family), c.table, c.name)
}

// A ruleOf is one rule. An expression that we do not know is nil.
type ruleOf struct {
	family       byte
	table, chain string
	handle       uint64
	exprs        []expr.Any
	comment      string
}

func familyName(family byte) string {
	switch family {
	case unix.NFPROTO_IPV4:
		return "ip"
	case unix.NFPROTO_IPV6:
		return "ip6"
	case unix.NFPROTO_INET:
		return "inet"
	}
	return fmt.Sprint("family ", family)
}

// read lists the chains and rules of the families that see forwarded packets.
func (f *firewall) read() (*ruleset, error) {
	r := &ruleset{sets: elements}
	for _, family := range []byte{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6, unix.NFPROTO_INET} {
		list, err := f.dump(unix.NFT_MSG_GETCHAIN, family)
		if err != nil {
			return nil, fmt.Errorf("list the firewall's chains: %w", err)
		}
		chains := map[[2]string]*chainOf{}
		for _, m := range list {
			c, err := parseChain(m)
			if err != nil {
				return nil, err
			}
			chains[[2]string{c.table, c.name}] = c
			r.chains = append(r.chains, c)
		}
		rules, err := f.rules(family, "")
		if err != nil {
			return nil, err
		}
		for _, rule := range rules {
			if c := chains[[2]string{rule.table, rule.chain}]; c != nil {
				c.rules = append(c.rules, rule)
			}
		}
	}
	return r, nil
}

// rules lists the rules of one table, or of all with table "".
func (f *firewall) rules(family byte, table string) ([]*ruleOf, error) {
	var only []netlink.Attribute
	if table != "" {
		only = append(only, text(unix.NFTA_RULE_TABLE, table))
	}
	list, err := f.dump(unix.NFT_MSG_GETRULE, family, only...)
	if err != nil {
		return nil, fmt.Errorf("list the firewall's rules: %w", err)
	}
	var rules []*ruleOf
	for _, m := range list {
		r, err := parseRule(m)
		if err != nil {
			return nil, err
		}
		if table == "" || r.table == table {
			rules = append(rules, r)
		}
	}
	return rules, nil
}

func parseChain(m netlink.Message) (*chainOf, error) {
	c := &chainOf{family: m.Data[0]}
	err := decode(body(m), func(d *netlink.AttributeDecoder) {
		switch d.Type() {
		case unix.NFTA_CHAIN_TABLE:
			c.table = d.String()
		case unix.NFTA_CHAIN_NAME:
			c.name = d.String()
		case unix.NFTA_CHAIN_TYPE:
			c.kind = d.String()
		case unix.NFTA_CHAIN_POLICY:
			c.drop = d.Uint32() == 0
		case unix.NFTA_CHAIN_HOOK:
			c.base = true
			d.Nested(func(d *netlink.AttributeDecoder) error {
				for d.Next() {
					switch d.Type() {
					case unix.NFTA_HOOK_HOOKNUM:
						c.hook = d.Uint32()
					case unix.NFTA_HOOK_PRIORITY:
						c.priority = d.Int32()
					}
				}
				return nil
			})
		}
	})
	return c, err
}

func parseRule(m netlink.Message) (*ruleOf, error) {
	r := &ruleOf{family: m.Data[0]}
	err := decode(body(m), func(d *netlink.AttributeDecoder) {
		switch d.Type() {
		case unix.NFTA_RULE_TABLE:
			r.table = d.String()
		case unix.NFTA_RULE_CHAIN:
			r.chain = d.String()
		case unix.NFTA_RULE_HANDLE:
			r.handle = d.Uint64()
		case unix.NFTA_RULE_USERDATA:
			r.comment = comment(d.Bytes())
		case unix.NFTA_RULE_EXPRESSIONS:
			decode(d.Bytes(), func(d *netlink.AttributeDecoder) {
				r.exprs = append(r.exprs, parseExpr(r.family, d.Bytes()))
			})
		}
	})
	return r, err
}

// comment reads what the nft tool shows as a rule's comment.
func comment(data []byte) string {
	for len(data) >= 2 && len(data) >= 2+int(data[1]) {
		if userdata.Type(data[0]) == userdata.TypeComment {
			s := data[2 : 2+data[1]]
			for len(s) > 0 && s[len(s)-1] == 0 {
				s = s[:len(s)-1]
			}
			return string(s)
		}
		data = data[2+data[1]:]
	}
	return ""
}

// parseExpr returns nil for an expression that has no type here.
func parseExpr(family byte, element []byte) expr.Any {
	var name string
	var data []byte
	if decode(element, func(d *netlink.AttributeDecoder) {
		switch d.Type() {
		case unix.NFTA_EXPR_NAME:
			name = d.String()
		case unix.NFTA_EXPR_DATA:
			data = d.Bytes()
		}
	}) != nil {
		return nil
	}
	kinds := map[string]expr.Any{
		"meta": &expr.Meta{}, "cmp": &expr.Cmp{}, "ct": &expr.Ct{}, "payload": &expr.Payload{}, "bitwise": &expr.Bitwise{},
		"lookup": &expr.Lookup{}, "range": &expr.Range{}, "immediate": &expr.Immediate{}, "counter": &expr.Counter{},
		"log": &expr.Log{}, "match": &expr.Match{}, "target": &expr.Target{}, "reject": &expr.Reject{},
	}
	e := kinds[name]
	if e == nil || expr.Unmarshal(family, data, e) != nil {
		return nil
	}
	if i, ok := e.(*expr.Immediate); ok && i.Register == unix.NFT_REG_VERDICT {
		v := &expr.Verdict{}
		if expr.Unmarshal(family, data, v) != nil {
			return nil
		}
		return v
	}
	return e
}

// elements lists what a set or a verdict map holds.
func elements(family byte, table, set string) ([]nftables.SetElement, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, err
	}
	return c.GetSetElements(&nftables.Set{Name: set, Table: &nftables.Table{Name: table, Family: nftables.TableFamily(family)}})
}
