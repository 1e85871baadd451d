//go:build linux

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"stile/build/lab/nat"
)

// runInternet: all traffic of the laptop leaves by the site, or none does.
func runInternet(s *stage) error {
	v := &visit{stage: s}
	if err := v.world(nat.PortRestricted, wikiByName, resource{Name: "Internet", Type: "internet"}); err != nil {
		return err
	}
	v.stile.internet = true
	if err := v.stile.up(s); err != nil {
		return err
	}
	return s.all(
		step{"public pages see the site's address", func() error { return v.leavesBy(siteOutside) }},
		step{"the wiki answers as well", func() error { _, err := v.wiki("http://" + wikiName + "/"); return err }},
		step{"the local network stays in reach", v.reachesRouter},
		step{"started without the Internet resource, public pages see the laptop's own", func() error {
			if err := v.stile.client.stop(); err != nil {
				return err
			}
			v.stile.internet = false
			if err := v.stile.startClient(s); err != nil {
				return err
			}
			return v.leavesBy(homeOutside)
		}},
		step{"the wiki answers still", func() error { _, err := v.wiki("http://" + wikiName + "/"); return err }},
		step{"all programs end when they are told to", v.end},
	)
}

// leavesBy wants a public page, in either family, to be asked from a place.
func (v *visit) leavesBy(p place) error {
	var errs []error
	for network, from := range map[string]netip.Addr{"tcp4": p.v4.Addr(), "tcp6": p.v6.Addr()} {
		began := time.Now()
		r, err := get(v.ctx, v.net.laptop, "https://"+publicSite+"/", "This is web", "--network", network, "--timeout", "15s")
		if err == nil && !strings.Contains(r.Body, " to "+netip.AddrPortFrom(from, 0).String()[:len(netip.AddrPortFrom(from, 0).String())-1]) {
			err = fmt.Errorf("%s shows %q; want it asked from %v", publicSite, r.Body, from)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", network, err))
			continue
		}
		v.note("%s: first byte after %s, page after %s", network, milliseconds(r.TTF), milliseconds(time.Since(began)))
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
