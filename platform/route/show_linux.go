package route

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func to(a netip.Addr) (string, error) {
	netlinkMu.Lock()
	defer netlinkMu.Unlock()
	list, err := netlink.RouteGet(a.AsSlice())
	if err != nil {
		return "", fmt.Errorf("find the route to %v: %w", a, err)
	}
	if len(list) == 0 {
		return "", fmt.Errorf("find the route to %v: %w", a, unix.ENETUNREACH)
	}
	link, err := netlink.LinkByIndex(list[0].LinkIndex)
	if err != nil {
		return "", fmt.Errorf("find the interface of the route to %v: %w", a, err)
	}
	return link.Attrs().Name, nil
}

// shown bounds how many routes are shown; a router may have a million.
const shown = 2000

func show() (string, error) {
	netlinkMu.Lock()
	defer netlinkMu.Unlock()
	var b strings.Builder
	links, err := netlink.LinkList()
	if err != nil {
		return "", fmt.Errorf("list interfaces: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		at := l.Attrs()
		names[at.Index] = at.Name
		fmt.Fprintf(&b, "interface %s type %s mtu %d state %s", at.Name, l.Type(), at.MTU, at.OperState)
		addrs, err := netlink.AddrList(l, unix.AF_UNSPEC)
		if err != nil {
			return "", fmt.Errorf("list the addresses of %s: %w", at.Name, err)
		}
		for _, a := range addrs {
			fmt.Fprintf(&b, " addr %v", a.IPNet)
		}
		b.WriteByte('\n')
	}
	for _, family := range families {
		if list, err := netlink.RuleList(family); err == nil { // a family that the system lacks has none
			for _, r := range list {
				fmt.Fprintf(&b, "rule %d table %d%s\n", r.Priority, r.Table, ruleText(&r))
			}
		}
	}
	for _, family := range families {
		list, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if err != nil {
			continue
		}
		for i, r := range slices.DeleteFunc(list, func(r netlink.Route) bool { return r.Table == unix.RT_TABLE_LOCAL }) {
			if i == shown {
				fmt.Fprintf(&b, "… and %d routes more\n", len(list)-shown)
				break
			}
			fmt.Fprintf(&b, "route %s table %d dev %s", destination(&r, family), r.Table, names[r.LinkIndex])
			if r.Gw != nil {
				fmt.Fprintf(&b, " via %v", r.Gw)
			}
			fmt.Fprintf(&b, " metric %d\n", r.Priority)
		}
	}
	return b.String(), nil
}

func ruleText(r *netlink.Rule) string {
	text := ""
	if r.Mark != 0 {
		text = fmt.Sprintf(" fwmark %#x", r.Mark)
		if r.Invert {
			text = " not" + text
		}
	}
	if r.Src != nil {
		text += fmt.Sprintf(" from %v", r.Src)
	}
	if r.Dst != nil {
		text += fmt.Sprintf(" to %v", r.Dst)
	}
	return text
}

func destination(r *netlink.Route, family int) string {
	if r.Dst != nil {
		return r.Dst.String()
	}
	if family == unix.AF_INET {
		return "0.0.0.0/0"
	}
	return "::/0"
}
