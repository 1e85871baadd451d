//go:build linux

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"stile/build/lab/nat"
)

// runInternet: all traffic of the laptop leaves by the site, or none does.
func runInternet(s *stage) error {
	v := &visit{stage: s}
	if err := v.world(nat.PortRestricted, wikiByName, resource{Name: "Internet", Type: "internet"}); err != nil {
		return err
	}
	v.stile.internet, v.stile.headless = true, true
	if err := v.stile.up(s); err != nil {
		return err
	}
	wiki := step{"the wiki answers as well", func() error { _, err := v.wiki("http://" + wikiName + "/"); return err }}
	through := step{"public pages see the site's address", func() error { return v.leavesBy("through", siteOutside) }}
	past := step{"public pages see the laptop's own address", func() error { return v.leavesBy("past", homeOutside) }}
	steps := []step{through, wiki,
		{"the local network stays in reach", v.reachesRouter},
		{"the client starts anew without the Internet resource, and a user signs in", func() error {
			if err := v.stile.client.stop(); err != nil {
				return err
			}
			v.stile.internet, v.stile.headless = false, false
			if err := v.net.laptop.Do(func() error { return os.RemoveAll(clientToken) }); err != nil {
				return err
			}
			return v.stile.startClient(s)
		}},
		past, wiki,
	}
	if s.order.ClientCmd == "" { // others are switched by how they are started
		steps = append(steps,
			step{"the user switches it on", func() error { _, err := v.command("internet", "on"); return err }}, through, wiki,
			step{"the user switches it off", func() error { _, err := v.command("internet", "off"); return err }}, past, wiki)
	}
	return s.all(append(steps, step{"all programs end when they are told to", v.end})...)
}

// leavesBy wants a public page, in either family, to be asked from a place, and
// records how long the first byte takes.
func (v *visit) leavesBy(way string, p place) error {
	var errs []error
	for _, family := range []struct {
		network string
		from    netip.Addr
	}{{"tcp4", p.v4.Addr()}, {"tcp6", p.v6.Addr()}} {
		r, err := get(v.ctx, v.net.laptop, "https://"+publicSite+"/", "This is web", "--network", family.network, "--timeout", "15s")
		from := strings.TrimSuffix(netip.AddrPortFrom(family.from, 0).String(), "0") // "address:", in brackets if need be
		if err == nil && !strings.Contains(r.Body, " to "+from) {
			err = fmt.Errorf("%s shows %q; want it asked from %v", publicSite, r.Body, family.from)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", family.network, err))
			continue
		}
		v.metric(way+"_"+family.network+"_ms", ms(r.TTF))
	}
	return errors.Join(errs...)
}

// reachesRouter talks to the home router by its address in the local network.
func (v *visit) reachesRouter() error {
	if err := v.serveEcho(v.net.home, ":7"); err != nil {
		return err
	}
	return v.echoes("tcp", homeInside.v4.Addr(), homeInside.v6.Addr())
}
