package netmon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func watch(ctx context.Context, ignore string, changed func()) error {
	done := make(chan struct{})
	routes, addrs := make(chan netlink.RouteUpdate, 64), make(chan netlink.AddrUpdate, 64)
	broken := make(chan error, 2)
	fail := func(err error) {
		select {
		case broken <- err:
		default:
		}
	}
	if err := netlink.RouteSubscribeWithOptions(routes, done, netlink.RouteSubscribeOptions{ErrorCallback: fail}); err != nil {
		return fmt.Errorf("watch routes: %w", err)
	}
	if err := netlink.AddrSubscribeWithOptions(addrs, done, netlink.AddrSubscribeOptions{ErrorCallback: fail}); err != nil {
		close(done)
		return fmt.Errorf("watch addresses: %w", err)
	}
	defer func() { // the subscriptions end by closing their channels
		close(done)
		for range routes {
		}
		for range addrs {
		}
	}()

	was := wayOut(ignore)
	quiet := time.NewTimer(time.Hour)
	quiet.Stop()
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-broken:
			return fmt.Errorf("watch the network: %w", err)
		case _, open := <-routes:
			if !open {
				return errors.New("watch routes: the kernel closed the subscription")
			}
			quiet.Reset(settle)
		case _, open := <-addrs:
			if !open {
				return errors.New("watch addresses: the kernel closed the subscription")
			}
			quiet.Reset(settle)
		case <-quiet.C:
			if is := wayOut(ignore); is != was && is != "" { // "": between two networks
				was = is
				changed()
			}
		}
	}
}

// wayOut prints the default routes of the main table and the addresses of
// their interfaces; two equal texts are the same network.
func wayOut(ignore string) string {
	var lines []string
	seen := map[int]bool{}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		if err != nil {
			continue
		}
		for _, r := range routes {
			if ones := 0; r.Dst != nil {
				if ones, _ = r.Dst.Mask.Size(); ones > 0 {
					continue
				}
			}
			link, err := netlink.LinkByIndex(r.LinkIndex)
			if err != nil || link.Attrs().Name == ignore || link.Attrs().Flags&net.FlagUp == 0 {
				continue
			}
			lines = append(lines, fmt.Sprintf("route %s via %v metric %d", link.Attrs().Name, r.Gw, r.Priority))
			seen[r.LinkIndex] = true
		}
	}
	for index := range seen {
		link, err := netlink.LinkByIndex(index)
		if err != nil {
			continue
		}
		addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
		if err != nil {
			continue
		}
		for _, a := range addrs {
			// A temporary IPv6 address comes and goes on the same network.
			if a.Scope == int(netlink.SCOPE_UNIVERSE) && a.Flags&(unix.IFA_F_TEMPORARY|unix.IFA_F_DEPRECATED|unix.IFA_F_TENTATIVE) == 0 {
				lines = append(lines, fmt.Sprintf("addr %s %v", link.Attrs().Name, a.IPNet))
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
