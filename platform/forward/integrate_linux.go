package forward

import (
	"errors"
	"fmt"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// mark is the comment of the rules that we add to other programs' chains.
const mark = "stile gateway"

// integrateLocked adds a rule right where another program would drop the
// tunnel's packets by default. What a rule says that names the tunnel stays:
// somebody meant it. Adding one may reveal a next one. f.mu is held.
func (f *Forwarding) integrateLocked() {
	for range 8 {
		added := false
		for _, b := range f.blockedLocked() {
			key := "integrate " + b.at.String()
			if b.named {
				continue
			}
			if err := f.firewall.admit(b, f.cfg.Interface); err != nil {
				if !f.told[key] {
					f.cfg.Log.Warn("another firewall refuses our rule", "where", b.at.String(), "error", err)
				}
				f.told[key] = true
				continue
			}
			added = true
			f.cfg.Log.Info("another firewall was told to let the tunnel by", "where", b.at.String())
		}
		if !added {
			return
		}
	}
}

// admit adds the rules for one place, in a form that iptables shows as its
// own. That only answers enter the tunnel is for our own table to see to.
func (f *firewall) admit(b *blocked, iface string) error {
	var batch []netlink.Message
	for _, d := range []struct {
		wanted bool
		key    expr.MetaKey
	}{{b.in, expr.MetaKeyIIFNAME}, {b.out, expr.MetaKeyOIFNAME}} {
		if !d.wanted {
			continue
		}
		exprs := []expr.Any{
			&expr.Meta{Key: d.key, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: append([]byte(iface), 0)},
			&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept},
		}
		attrs := []netlink.Attribute{
			text(unix.NFTA_RULE_TABLE, b.at.table), text(unix.NFTA_RULE_CHAIN, b.at.name), expressions(b.at.family, exprs...),
			{Type: unix.NFTA_RULE_USERDATA, Data: userdata.AppendString(nil, userdata.TypeComment, mark)},
		}
		flags := netlink.HeaderFlags(netlink.Create | netlink.Append)
		if b.rule != nil {
			flags = netlink.Create // before
			attrs = append(attrs, long(unix.NFTA_RULE_POSITION, b.rule.handle))
		}
		batch = append(batch, change(unix.NFT_MSG_NEWRULE, flags, b.at.family, attrs...))
	}
	return f.commit(batch)
}

// retract removes our rules from other programs' chains.
func (f *firewall) retract() error {
	var errs []error
	for _, family := range []byte{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6, unix.NFPROTO_INET} {
		rules, err := f.rules(family, "")
		if err != nil {
			if !lacking(err) {
				errs = append(errs, err)
			}
			continue
		}
		for _, r := range rules {
			if r.comment != mark {
				continue
			}
			err := f.commit([]netlink.Message{change(unix.NFT_MSG_DELRULE, 0, family,
				text(unix.NFTA_RULE_TABLE, r.table), text(unix.NFTA_RULE_CHAIN, r.chain), long(unix.NFTA_RULE_HANDLE, r.handle))})
			if err != nil && !errors.Is(err, unix.ENOENT) {
				errs = append(errs, fmt.Errorf("remove our rule from table %s %s, chain %s: %w", familyName(family), r.table, r.chain, err))
			}
		}
	}
	return errors.Join(errs...)
}
