package route

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Tables, and the priorities of the rules that lead to them.
const (
	tableResources = 0x2021fd00
	tableOnLink    = 0x2021fd01
	tableDefault   = 0x2021fd02
)

var rules = []struct{ priority, table int }{{100, tableResources}, {200, tableOnLink}, {300, tableDefault}}

var families = []int{unix.AF_INET, unix.AF_INET6}

const queueLength = 10000

// netlinkMu serialises everything: the kernel allows one dump per socket, and
// two runs of set must not interleave.
var netlinkMu sync.Mutex

func set(iface string, c Config) error {
	netlinkMu.Lock()
	defer netlinkMu.Unlock()
	link, err := netlink.LinkByName(iface)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", iface, err)
	}
	if err := bringUp(link); err != nil {
		return fmt.Errorf("bring %s up: %w", iface, err)
	}
	if err := setAddrs(link, c.Addrs); err != nil {
		return fmt.Errorf("give %s its addresses: %w", iface, err)
	}
	var defaults []netip.Prefix
	if c.Default {
		defaults = []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}
	}
	var failed [2]error // a family that the system lacks must not stop the other
	for i, family := range families {
		failed[i] = errors.Join(
			setRoutes(link, family, tableResources, c.Routes),
			setRoutes(link, family, tableDefault, defaults),
			copyOnLink(family),
			setRules(family),
		)
	}
	if failed[0] != nil && failed[1] != nil {
		return fmt.Errorf("set the routes of %s: %w", iface, errors.Join(failed[:]...))
	}
	return nil
}

func bringUp(link netlink.Link) error {
	name := link.Attrs().Name
	// No link-local address: nothing but our own may leave through the tunnel.
	// Without IPv6 the file does not exist.
	os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/addr_gen_mode", []byte("1"), 0)
	if link.Attrs().MTU != MTU {
		if err := netlink.LinkSetMTU(link, MTU); err != nil {
			return err
		}
	}
	if link.Attrs().TxQLen != queueLength {
		if err := netlink.LinkSetTxQLen(link, queueLength); err != nil {
			return err
		}
	}
	if link.Attrs().Flags&net.FlagUp != 0 {
		return nil
	}
	return netlink.LinkSetUp(link)
}

func setAddrs(link netlink.Link, want []netip.Addr) error {
	missing := map[netip.Addr]bool{}
	for _, a := range want {
		missing[a] = true
	}
	have, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, a := range have {
		addr, _ := netip.AddrFromSlice(a.IP)
		addr = addr.Unmap()
		if ones, bits := a.Mask.Size(); missing[addr] && ones == bits {
			delete(missing, addr)
			continue
		}
		if err := netlink.AddrDel(link, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return err
		}
	}
	var errs []error
	for _, a := range want {
		if !missing[a] {
			continue
		}
		err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, a.BitLen())), Flags: unix.IFA_F_NODAD})
		if err != nil && !errors.Is(err, unix.EEXIST) {
			errs = append(errs, fmt.Errorf("%v: %w", a, err))
		}
	}
	if len(errs) == len(want) && len(want) > 0 {
		return errors.Join(errs...)
	}
	return nil
}

// setRoutes makes a table of one family hold exactly these prefixes of it.
func setRoutes(link netlink.Link, family, table int, want []netip.Prefix) error {
	missing := map[netip.Prefix]bool{}
	for _, p := range want {
		if p.Addr().Is4() == (family == unix.AF_INET) {
			missing[p.Masked()] = true
		}
	}
	have, err := routes(family, table)
	if err != nil {
		return err
	}
	for _, r := range have {
		if p := prefix(r, family); missing[p] && r.LinkIndex == link.Attrs().Index {
			delete(missing, p)
		} else if err := del(r); err != nil {
			return err
		}
	}
	for p := range missing {
		r := netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(p), Table: table, Family: family,
			Protocol: unix.RTPROT_STATIC, Scope: netlink.SCOPE_UNIVERSE}
		if err := netlink.RouteReplace(&r); err != nil && !absent(err) {
			return fmt.Errorf("lead %v into the tunnel: %w", p, err)
		}
	}
	return nil
}

func refresh() error {
	netlinkMu.Lock()
	defer netlinkMu.Unlock()
	var errs []error
	for _, family := range families {
		errs = append(errs, copyOnLink(family))
	}
	return errors.Join(errs...)
}

// copyOnLink copies the main table's on-link routes of interfaces that are up.
// The tunnel is the interface that resources are led into; its own routes are
// not local network.
func copyOnLink(family int) error {
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	up := map[int]bool{}
	for _, l := range links {
		a := l.Attrs()
		up[a.Index] = a.Flags&net.FlagUp != 0 && a.Flags&net.FlagLoopback == 0
	}
	inside, err := routes(family, tableResources)
	if err != nil {
		return err
	}
	for _, r := range inside {
		up[r.LinkIndex] = false
	}
	main, err := routes(family, unix.RT_TABLE_MAIN)
	if err != nil {
		return err
	}
	missing := map[string]netlink.Route{}
	for _, r := range main {
		if r.Gw == nil && r.Via == nil && len(r.MultiPath) == 0 && r.Dst != nil && prefix(r, family).Bits() > 0 && up[r.LinkIndex] && r.Type == unix.RTN_UNICAST {
			missing[key(r)] = netlink.Route{LinkIndex: r.LinkIndex, Dst: r.Dst, Src: r.Src, Table: tableOnLink, Family: family,
				Protocol: unix.RTPROT_STATIC, Scope: r.Scope, Priority: r.Priority}
		}
	}
	have, err := routes(family, tableOnLink)
	if err != nil {
		return err
	}
	for _, r := range have {
		if _, wanted := missing[key(r)]; wanted {
			delete(missing, key(r))
		} else if err := del(r); err != nil {
			return err
		}
	}
	for _, r := range missing {
		if err := netlink.RouteReplace(&r); err != nil && !absent(err) {
			return fmt.Errorf("copy the route to %v: %w", r.Dst, err)
		}
	}
	return nil
}

func key(r netlink.Route) string {
	return fmt.Sprint(r.Dst, " ", r.LinkIndex, " ", r.Src, " ", r.Priority)
}

func setRules(family int) error {
	for _, want := range rules {
		r := rule(family, want.priority, want.table)
		if err := netlink.RuleAdd(r); err != nil && !errors.Is(err, unix.EEXIST) && !absent(err) {
			return fmt.Errorf("add rule %d: %w", want.priority, err)
		}
	}
	return nil
}

func restore() error {
	netlinkMu.Lock()
	defer netlinkMu.Unlock()
	var errs []error
	for _, family := range families {
		have, err := netlink.RuleList(family)
		if err != nil && !absent(err) {
			errs = append(errs, err)
		}
		for _, r := range have {
			for _, ours := range rules {
				if r.Priority == ours.priority && r.Table == ours.table {
					r.Family = family
					errs = append(errs, tolerate(netlink.RuleDel(&r)))
				}
			}
		}
		for _, ours := range rules {
			left, err := routes(family, ours.table)
			errs = append(errs, err)
			for _, r := range left {
				errs = append(errs, del(r))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove our routes and rules: %w", err)
	}
	return nil
}

func rule(family, priority, table int) *netlink.Rule {
	r := netlink.NewRule()
	r.Family, r.Priority, r.Table = family, priority, table
	r.Mark, r.Invert, r.Protocol = Mark, true, unix.RTPROT_KERNEL
	return r
}

// routes lists one table. A table that was never used has no routes.
func routes(family, table int) ([]netlink.Route, error) {
	list, err := netlink.RouteListFiltered(family, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
	if err != nil && !absent(err) {
		return nil, fmt.Errorf("list table %#x: %w", table, err)
	}
	return list, nil
}

func del(r netlink.Route) error { return tolerate(netlink.RouteDel(&r)) }

// tolerate forgives what is gone already.
func tolerate(err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || absent(err) {
		return nil
	}
	return err
}

// absent reports whether the kernel lacks the family or feature altogether.
func absent(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT)
}

func prefix(r netlink.Route, family int) netip.Prefix {
	if r.Dst == nil {
		if family == unix.AF_INET {
			return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		}
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	a, _ := netip.AddrFromSlice(r.Dst.IP)
	if family == unix.AF_INET {
		a = a.Unmap()
	}
	ones, _ := r.Dst.Mask.Size()
	return netip.PrefixFrom(a, ones)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
