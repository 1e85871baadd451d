//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"stile/build/lab/host"
)

// prohibited tells whether an error is what Linux makes of ICMP type 3 code 13
// or of ICMPv6 type 1 code 1.
func prohibited(err error) bool {
	return errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.EACCES)
}

// A hostState is all that a client may change about a host: the resolver's
// file, devices, and rules, routes and the firewall as the kernel tells them.
type hostState map[string][]string

// stateOf reads the state of a host.
func stateOf(h *host.Host) (state hostState, err error) {
	state = hostState{}
	resolv, err := h.ReadFile(resolvConf)
	if err != nil {
		return nil, err
	}
	state[resolvConf] = []string{fmt.Sprintf("%q", resolv)}
	links, err := h.Links.LinkList()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		state["devices"] = append(state["devices"], fmt.Sprintf("%s mtu %d up %v", l.Attrs().Name, l.Attrs().MTU, l.Attrs().Flags))
	}
	routes, err := h.Links.RouteListFiltered(unix.AF_UNSPEC, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("list the routes of %s: %w", h.Name, err)
	}
	for _, r := range routes {
		state["routes"] = append(state["routes"], fmt.Sprintf("%+v", r))
	}
	err = h.Do(func() error {
		for _, d := range dumps {
			messages, err := dump(d.protocol, d.request, d.family)
			if err != nil {
				return fmt.Errorf("list the %s of %s: %w", d.what, h.Name, err)
			}
			state[d.what] = append(state[d.what], messages...)
		}
		return nil
	})
	for _, list := range state {
		slices.Sort(list)
	}
	return state, err
}

// tableRequest asks nf_tables for a list.
func tableRequest(message int) int { return unix.NFNL_SUBSYS_NFTABLES<<8 | message }

// dumps are the lists that are compared as the kernel writes them.
var dumps = []struct {
	what              string
	protocol, request int
	family            uint8
}{
	{"IPv4 rules", unix.NETLINK_ROUTE, unix.RTM_GETRULE, unix.AF_INET},
	{"IPv6 rules", unix.NETLINK_ROUTE, unix.RTM_GETRULE, unix.AF_INET6},
	{"firewall tables", unix.NETLINK_NETFILTER, tableRequest(unix.NFT_MSG_GETTABLE), unix.AF_UNSPEC},
	{"firewall chains", unix.NETLINK_NETFILTER, tableRequest(unix.NFT_MSG_GETCHAIN), unix.AF_UNSPEC},
	{"firewall rules", unix.NETLINK_NETFILTER, tableRequest(unix.NFT_MSG_GETRULE), unix.AF_UNSPEC},
	{"firewall sets", unix.NETLINK_NETFILTER, tableRequest(unix.NFT_MSG_GETSET), unix.AF_UNSPEC},
}

// dump returns the messages of a list, in hexadecimal.
func dump(protocol, request int, family uint8) (texts []string, err error) {
	r := nl.NewNetlinkRequest(request, unix.NLM_F_DUMP)
	if protocol == unix.NETLINK_NETFILTER {
		r.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})
	} else {
		r.AddData(nl.NewIfInfomsg(int(family)))
	}
	messages, err := r.Execute(protocol, 0)
	for _, m := range messages {
		if protocol == unix.NETLINK_NETFILTER {
			m = bytes.Clone(m)
			clear(m[2:4]) // counts the changes of the whole firewall
		}
		texts = append(texts, fmt.Sprintf("%x", m))
	}
	return texts, err
}

// same tells how a state differs from the one before.
func (s hostState) same(before hostState) error {
	var errs []error
	all := maps.Clone(before)
	maps.Copy(all, s)
	for _, what := range slices.Sorted(maps.Keys(all)) {
		for _, line := range missing(before[what], s[what]) {
			errs = append(errs, fmt.Errorf("%s: gone: %s", what, line))
		}
		for _, line := range missing(s[what], before[what]) {
			errs = append(errs, fmt.Errorf("%s: left over: %s", what, line))
		}
	}
	return errors.Join(errs...)
}

// missing lists what all has and some has not, or not so often.
func missing(all, some []string) (lines []string) {
	left := slices.Clone(some)
	for _, line := range all {
		if i := slices.Index(left, line); i >= 0 {
			left = slices.Delete(left, i, i+1)
		} else {
			lines = append(lines, line)
		}
	}
	return lines
}

func (s hostState) String() string {
	var b strings.Builder
	for _, what := range slices.Sorted(maps.Keys(s)) {
		fmt.Fprintf(&b, "%d %s, ", len(s[what]), what)
	}
	return strings.TrimSuffix(b.String(), ", ")
}
