package forward

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Check looks for what keeps the tunnel's packets from passing. It reads only.
func (f *Forwarding) Check() []Problem {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.firewall == nil {
		return nil
	}
	var found []Problem
	for _, s := range []struct{ name, what string }{{"ipv4/ip_forward", "IPv4"}, {"ipv6/conf/all/forwarding", "IPv6"}} {
		if v, err := read(proc + s.name); err == nil && v != 1 {
			key := strings.ReplaceAll("net."+s.name, "/", ".")
			found = append(found, Problem{ForwardingOff, "the kernel does not forward " + s.what, "sudo sysctl -w " + key + "=1, and find out what turned it off: grep -r " + key + " /etc/sysctl.conf /etc/sysctl.d /etc/ufw/sysctl.conf"})
		}
	}
	if is, err := f.firewall.fingerprint(); err == nil && (is == "" || is != f.installed) {
		found = append(found, Problem{NoMasquerade, fmt.Sprintf("the firewall table \"inet %s\" was removed or changed, so no masquerade applies to the tunnel", TableName), "restart the gateway"})
	}
	blocked := f.blockedLocked()
	for _, b := range blocked {
		found = append(found, b.problem(f.cfg.Interface))
	}
	if p, any := f.droppedLocked(len(blocked) > 0); any {
		found = append(found, p)
	}
	if t, err := Conntrack(); err == nil && t.Full() {
		found = append(found, Problem{TableFull, fmt.Sprintf("the kernel tracks %d connections of at most %d; new ones will be refused, which looks like random loss", t.Count, t.Max),
			fmt.Sprintf("sudo sysctl -w net.netfilter.nf_conntrack_max=%d", 2*t.Max)})
	}
	return found
}

// A blocked is a chain that drops the tunnel's packets.
type blocked struct {
	block
	set     *ruleset
	family  byte
	in, out bool // what begins in the tunnel; answers to it
}

// blockedLocked finds the places where other programs' rules drop. f.mu is held.
func (f *Forwarding) blockedLocked() []*blocked {
	set, err := f.firewall.read()
	if err != nil {
		f.cfg.Log.Debug("the firewall's rules cannot be read", "error", err)
		return nil
	}
	var found []*blocked
	for _, p := range f.probes() {
		for _, b := range set.blocks(p) {
			i := slices.IndexFunc(found, func(o *blocked) bool { return o.at == b.at && o.rule == b.rule })
			if i < 0 {
				i = len(found)
				found = append(found, &blocked{block: b, set: set, family: p.family})
			}
			found[i].in = found[i].in || !p.answer
			found[i].out = found[i].out || p.answer
			found[i].named = found[i].named || b.named
		}
	}
	return found
}

// probes are a new connection and an answer to one, for each family, by the
// interfaces with a default route; by all others if there is none.
func (f *Forwarding) probes() []probe {
	tunnel := uint32(0)
	if l, err := netlink.LinkByName(f.cfg.Interface); err == nil {
		tunnel = uint32(l.Attrs().Index)
	}
	var list []probe
	for _, family := range []struct {
		proto byte
		af    int
		from  []byte
	}{
		{unix.NFPROTO_IPV4, unix.AF_INET, peers4.Addr().Next().AsSlice()},
		{unix.NFPROTO_IPV6, unix.AF_INET6, peers6.Addr().Next().AsSlice()},
	} {
		for _, l := range f.uplinks(family.af) {
			index := uint32(l.Attrs().Index)
			list = append(list,
				probe{family.proto, f.cfg.Interface, l.Attrs().Name, tunnel, index, false, family.from},
				probe{family.proto, l.Attrs().Name, f.cfg.Interface, index, tunnel, true, family.from})
		}
	}
	return list
}

func (f *Forwarding) uplinks(family int) []netlink.Link {
	var found, others []netlink.Link
	links, err := netlink.LinkList()
	if err != nil {
		return nil
	}
	routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil
	}
	for _, l := range links {
		a := l.Attrs()
		if a.Flags&net.FlagUp == 0 || a.Flags&net.FlagLoopback != 0 || a.Name == f.cfg.Interface {
			continue
		}
		toAll, any := false, false
		for _, r := range routes {
			if r.LinkIndex != a.Index || r.Dst != nil && r.Dst.IP.IsLinkLocalUnicast() {
				continue
			}
			any = true
			if r.Dst == nil || r.Dst.IP.IsUnspecified() {
				toAll = true
			}
		}
		if toAll {
			found = append(found, l)
		} else if any {
			others = append(others, l)
		}
	}
	if len(found) == 0 {
		return others
	}
	return found
}

// problem tells the administrator what to say to the program whose chain it is.
func (b *blocked) problem(iface string) Problem {
	what := "new connections from the tunnel"
	switch {
	case b.in && b.out:
		what = "the tunnel's packets"
	case b.out:
		what = "answers to the tunnel"
	}
	how := "by its policy"
	if b.rule != nil {
		how = "by a rule"
		if b.at != b.base {
			how = "by a rule of chain " + b.at.name
		}
	}
	p := Problem{Kind: Blocked, Text: fmt.Sprintf("another firewall drops %s %s (%v)", what, how, b.base)}
	if b.named {
		p.Text = fmt.Sprintf("another firewall drops %s %s that names %s (%v)", what, how, iface, b.base)
		p.Help = "if that is not meant so, remove it there"
		return p
	}
	p.Help = b.remedy(iface)
	return p
}

// remedy is the command that makes the owner of the chain accept.
func (b *blocked) remedy(iface string) string {
	has := func(name string) bool { return b.set.find(b.base, name) != nil }
	tool := "iptables"
	if b.base.family == unix.NFPROTO_IPV6 {
		tool = "ip6tables"
	}
	var rules []string
	each := func(format string) string {
		rules = nil
		if b.in {
			rules = append(rules, fmt.Sprintf(format, "-i "+iface))
		}
		if b.out {
			rules = append(rules, fmt.Sprintf(format, "-o "+iface+" -m conntrack --ctstate ESTABLISHED,RELATED"))
		}
		return strings.Join(rules, " && ")
	}
	switch {
	case b.base.table == "firewalld":
		return "sudo firewall-cmd --permanent --zone=trusted --add-interface=" + iface + " && sudo firewall-cmd --reload"
	case has("ufw-before-forward"), has("ufw6-before-forward"):
		return "sudo ufw route allow in on " + iface
	case has("DOCKER-USER"):
		return each("sudo "+tool+" -I DOCKER-USER %s -j ACCEPT") + " (Docker keeps these until the host restarts)"
	case b.base.name == "FORWARD" && b.base.table == "filter" && b.base.family != inet:
		return each("sudo "+tool+" -I FORWARD %s -j ACCEPT") + ", and save it with your rules"
	}
	chain := familyName(b.base.family) + " " + b.base.table + " " + b.base.name
	if b.in {
		rules = append(rules, fmt.Sprintf("sudo nft insert rule %s iifname %s accept", chain, iface))
	}
	if b.out {
		rules = append(rules, fmt.Sprintf("sudo nft insert rule %s oifname %s ct state established,related accept", chain, iface))
	}
	return strings.Join(rules, " && ") + ", and save it with your rules"
}

// droppedLocked compares what our first chain let by with what came to our
// last: it sees even those rules that nf_tables does not show, of
// iptables-legacy. explained: another problem says why.
func (f *Forwarding) droppedLocked(explained bool) (Problem, bool) {
	// The earlier counters are read first: packets that are between the two
	// chains can only make the loss seem smaller.
	rules, err := f.firewall.rules(inet, TableName)
	if err != nil {
		return Problem{}, false
	}
	counters := map[string][]uint64{}
	for _, r := range rules {
		for _, e := range r.exprs {
			if c, ok := e.(*expr.Counter); ok {
				counters[r.chain] = append(counters[r.chain], c.Packets)
			}
		}
	}
	first, last := counters["forward"], counters["passed"]
	if len(first) != 4 || len(last) != 2 {
		return Problem{}, false
	}
	var fresh uint64
	for i, entered := range []uint64{first[1], first[2]} {
		lost := entered - min(entered, last[i])
		fresh += lost - min(lost, f.lost[i])
		f.lost[i] = max(f.lost[i], lost)
	}
	if fresh == 0 || explained {
		return Problem{}, false
	}
	p := Problem{Dropped, fmt.Sprintf("another firewall has dropped %d packets of the tunnel since the last look", fresh),
		"list all rules of the forward hook: sudo nft list ruleset; sudo iptables-save; sudo ip6tables-save"}
	if legacy() {
		p.Help = fmt.Sprintf("its rules were probably made with iptables-legacy: sudo iptables-legacy -I FORWARD -i %[1]s -j ACCEPT && sudo iptables-legacy -I FORWARD -o %[1]s -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT (for IPv6: ip6tables-legacy)", f.cfg.Interface)
	}
	return p, true
}

// legacy reports whether tables of the older kernel interface are in use.
func legacy() bool {
	for _, name := range []string{"ip_tables_names", "ip6_tables_names"} {
		if text, err := os.ReadFile("/proc/thread-self/net/" + name); err == nil && len(text) > 0 {
			return true
		}
	}
	return false
}
