//go:build linux

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"stile/build/lab/nat"
)

const (
	refusal = 100 * time.Millisecond // a port that is not open is refused within
	obeyed  = time.Second            // the portal's file is renamed until it holds
	granted = 2 * time.Second        // until somebody who tries sees that it holds
)

// runFilters: what a resource's filters do not name is refused by a message,
// on the laptop and, for a client that does not know better, at the gateway.
func runFilters(s *stage) error {
	v := &visit{stage: s}
	narrow, wide := wikiByName, wikiByName
	narrow.Filters, wide.Filters = []string{"tcp/80"}, []string{"tcp/80", "tcp/7", "udp/7"}
	if err := v.begin(nat.PortRestricted, narrow); err != nil {
		return err
	}
	page := func() error { _, err := v.wiki("http://" + wikiName + "/"); return err }
	return s.all(
		step{"the open port answers", page},
		step{"the laptop refuses the others at once", func() error { _, err := v.refused("client_refusal_ms"); return err }},
		step{"they answer once the filters name them", func() error {
			took, err := v.change(granted, v.answers, wide)
			v.metric("opened_ms", ms(took))
			return err
		}},
		step{"the portal is out of the laptop's reach", v.losePortal},
		step{"the gateway refuses what the laptop still lets through, at once", func() error {
			took, err := v.change(obeyed, v.refusedThere, narrow)
			v.metric("closed_ms", ms(took))
			return err
		}},
		step{"the open port still answers", page},
		step{"all programs end when they are told to", v.end},
	)
}

// refusedThere wants the refusal to come from the gateway: it takes the way
// there and back.
func (v *visit) refusedThere() error {
	fastest, err := v.refused("gateway_refusal_ms")
	if err == nil && fastest < 4*uplinkDelay {
		err = fmt.Errorf("it was refused after %s, by the laptop itself", milliseconds(fastest))
	}
	return err
}

// refused wants TCP and UDP to the wiki's echo servers refused, in either
// family, and records how long the slowest took. It returns how long the fastest
// took.
func (v *visit) refused(metric string) (fastest time.Duration, err error) {
	fastest = time.Hour
	var slowest time.Duration
	for _, kind := range []string{"A", "AAAA"} {
		addrs, err := v.proxies(wikiName, kind)
		if err != nil {
			return 0, err
		}
		for _, network := range []string{"tcp", "udp"} {
			took, err := v.refusedAtOnce(v.net.laptop, network, netip.AddrPortFrom(addrs[0], 7), refusal)
			if err != nil {
				return 0, err
			}
			fastest, slowest = min(fastest, took), max(slowest, took)
		}
	}
	v.metric(metric, ms(slowest))
	return fastest, nil
}

// answers wants the wiki's echo servers to answer at its proxy addresses.
func (v *visit) answers() error {
	for _, kind := range []string{"A", "AAAA"} {
		addrs, err := v.proxies(wikiName, kind)
		if err != nil {
			return err
		}
		if err := errors.Join(v.echoes("tcp", addrs[0]), v.echoes("udp", addrs[0])); err != nil {
			return err
		}
	}
	return nil
}

// change rewrites the portal's file and waits until it holds. It returns how
// long that took.
func (v *visit) change(limit time.Duration, holds func() error, resources ...resource) (time.Duration, error) {
	v.stile.resources = resources
	if err := v.stile.configure(); err != nil {
		return 0, err
	}
	return v.within(time.Now(), limit, holds)
}

// losePortal drops what passes between laptop and portal, so that the laptop
// learns of no change. The packets vanish in the router: nobody is told.
func (v *visit) losePortal() error {
	const nowhere = 78 // a table of the router
	links := v.net.home.Links
	for _, a := range []netip.Addr{portalPlace.v4.Addr(), portalPlace.v6.Addr()} {
		portal := netlink.NewIPNet(a.AsSlice())
		family, any := netlink.FAMILY_V4, "0.0.0.0/0"
		if a.Is6() {
			family, any = netlink.FAMILY_V6, "::/0"
		}
		all, err := netlink.ParseIPNet(any)
		if err != nil {
			return err
		}
		from := netlink.NewRule()
		from.Family, from.Src, from.Table, from.Priority = family, portal, nowhere, 1
		if err := errors.Join(
			links.RouteAdd(&netlink.Route{Dst: portal, Type: unix.RTN_BLACKHOLE}),
			links.RouteAdd(&netlink.Route{Dst: all, Type: unix.RTN_BLACKHOLE, Table: nowhere}),
			links.RuleAdd(from),
		); err != nil {
			return fmt.Errorf("drop what passes to and from %v: %w", a, err)
		}
	}
	return nil
}

// runPolicyRemoved: access ends, for connections that are open as for new
// ones, when the policy is gone from the portal's file.
func runPolicyRemoved(s *stage) error {
	v := &visit{stage: s}
	open := []resource{wikiByName, site4}
	closed := slices.Clone(open)
	closed[0].Closed, closed[1].Closed = true, true
	if err := v.begin(nat.PortRestricted, open...); err != nil {
		return err
	}
	var flows []*flow
	return s.all(
		step{"connections are open, by name and by address", func() (err error) {
			if flows, err = v.flows("tcp", "udp"); err != nil {
				return err
			}
			f, err := v.open(v.net.laptop, "tcp", netip.AddrPortFrom(wikiPlace.v4.Addr(), 7))
			flows = append(flows, f)
			return err
		}},
		step{"access ends when the policies leave the file", func() error {
			began := time.Now()
			_, err := v.change(granted, func() error {
				for _, f := range flows {
					if time.Since(f.heard()) < 10*beat {
						return fmt.Errorf("%s goes on", f.name)
					}
				}
				return nil
			}, closed...)
			last := began
			for _, f := range flows {
				if f.heard().After(last) {
					last = f.heard()
				}
			}
			v.metric("ended_ms", ms(last.Sub(began)))
			if err == nil && last.Sub(began) > obeyed {
				err = fmt.Errorf("the last echo came after %s; the limit is %v", milliseconds(last.Sub(began)), obeyed)
			}
			return err
		}},
		step{"new connections get nowhere", func() error {
			if r, err := get(v.ctx, v.net.laptop, "http://"+wikiName+"/", "", "--timeout", "1s"); err == nil {
				return fmt.Errorf("the wiki still answers: %q", r.Body)
			}
			if r, err := get(v.ctx, v.net.laptop, "http://"+wikiPlace.v4.Addr().String()+"/", "", "--timeout", "1s"); err == nil {
				return fmt.Errorf("the wiki still answers by address: %q", r.Body)
			}
			return nil
		}},
		step{"access comes back with them", func() error {
			took, err := v.change(granted, func() error {
				_, err := v.wiki("http://"+wikiName+"/", "--timeout", "400ms")
				return err
			}, open...)
			v.metric("restored_ms", ms(took))
			return err
		}},
		step{"all programs end when they are told to", v.end},
	)
}
