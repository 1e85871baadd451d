//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"stile/build/lab/nat"
)

// Routers as most people have them.
const defaultHome, defaultSite = nat.PortRestricted, nat.PortRestricted

// runWorld proves that the internet is what scenarios take it for.
func runWorld(s *stage) error {
	var n *internet
	steps := []step{
		{"an internet of its own comes up", func() (err error) { n, err = newInternet(s, defaultHome, defaultSite); return err }},
		{"nothing of the machine shows in it", func() error { return s.apart(n) }},
		{"the laptop reaches a public page by name", func() error { return s.public(n, "http://"+publicSite+"/") }},
		{"the laptop trusts the public page's certificate", func() error { return s.public(n, "https://"+publicSite+"/") }},
		{"curl does both too", func() error { return s.curl(n) }},
		{"the uplinks delay by 5 ms each way", func() error { return s.delays(n) }},
		{"the wiki is, rightly, unreachable from the laptop", func() error { return s.unreachable(n) }},
		{"the site itself reaches the wiki by name", func() error {
			_, err := get(s.ctx, n.gateway, "http://"+wikiName+"/", "This is wiki")
			return err
		}},
		{"the wiki is reached through a forwarded port", func() error {
			_, err := get(s.ctx, n.laptop, n.forwarded(), "This is wiki")
			return err
		}},
		{"a program that refuses to end stays behind, for the end of the lab to remove", func() error { return s.leave(n) }},
	}
	for _, k := range []nat.Kind{nat.FullCone, nat.PortRestricted, nat.Symmetric, nat.None} {
		steps = append(steps, step{fmt.Sprintf("NAT kind %v behaves as RFC 4787 names it", k), func() error { return s.kind(n, k) }})
	}
	return s.all(steps...)
}

// apart checks that a host sees nothing of the machine's resolver and bus.
func (s *stage) apart(n *internet) error {
	return n.laptop.Do(func() error {
		resolv, err := os.ReadFile("/etc/resolv.conf")
		if err != nil {
			return err
		}
		info, err := os.Lstat("/etc/resolv.conf")
		if err != nil {
			return err
		}
		var errs []error
		if !info.Mode().IsRegular() || !strings.Contains(string(resolv), dnsPlace.v4.Addr().String()) {
			errs = append(errs, fmt.Errorf("/etc/resolv.conf is %v and holds %q", info.Mode(), resolv))
		}
		for _, path := range []string{"/run/dbus", "/run/systemd", "/run/NetworkManager"} {
			if _, err := os.Stat(path); err == nil {
				errs = append(errs, fmt.Errorf("%s is visible", path))
			}
		}
		if devices, err := filepath.Glob("/sys/class/net/*"); err == nil && len(devices) > 0 {
			for _, d := range devices {
				if name := filepath.Base(d); name != "lo" && name != "eth0" {
					errs = append(errs, fmt.Errorf("/sys shows a network device %s", name))
				}
			}
		}
		// A program may replace the file, not just write to it.
		errs = append(errs, os.WriteFile("/etc/resolv.conf.new", resolv, 0o644), os.Rename("/etc/resolv.conf.new", "/etc/resolv.conf"))
		return errors.Join(errs...)
	})
}

func (s *stage) public(n *internet, url string) error {
	r, err := get(s.ctx, n.laptop, url, "This is web")
	if err != nil {
		return err
	}
	s.note("looked up after %s, connected after %s, first byte after %s", milliseconds(r.Lookup), milliseconds(r.Connect), milliseconds(r.TTF))
	return nil
}

// curl checks that the host's files serve a program that is not written in Go.
func (s *stage) curl(n *internet) error {
	path, err := findProgram("curl")
	if err != nil {
		s.note("curl is not installed: not tried")
		return nil
	}
	for _, url := range []string{"http://" + publicSite + "/", "https://" + publicSite + "/"} {
		out, err := n.laptop.Output(n.laptop.Command(s.ctx, path, "--silent", "--show-error", "--max-time", "5", url))
		if err != nil {
			return fmt.Errorf("curl %s: %w%s", url, err, tail(n.laptop.Log, 3))
		}
		if !strings.Contains(string(out), "This is web") {
			return fmt.Errorf("curl %s shows %q", url, out)
		}
	}
	return nil
}

// delays measures a round trip from the laptop to the core: two uplink delays.
func (s *stage) delays(n *internet) error {
	all, err := lookup(s.ctx, n.laptop, publicSite, 11)
	if err != nil {
		return err
	}
	var took []time.Duration
	for _, a := range all {
		if a.Error != "" || a.Rcode != "NOERROR" {
			return fmt.Errorf("look up %s: %s %s", publicSite, a.Rcode, a.Error)
		}
		took = append(took, a.Took)
	}
	trip := median(took)
	s.metric("rtt_laptop_core_ms", ms(trip))
	if trip < 2*uplinkDelay || trip > 4*uplinkDelay {
		return fmt.Errorf("a round trip to the core takes %s", milliseconds(trip))
	}
	s.note("median round trip %s", milliseconds(trip))
	return nil
}

// unreachable checks that neither the wiki's name nor its address leads there.
func (s *stage) unreachable(n *internet) error {
	for _, url := range []string{
		"http://" + wikiName + "/",
		"http://" + wikiPlace.v4.Addr().String() + "/",
		"http://[" + wikiPlace.v6.Addr().String() + "]/",
	} {
		r, err := get(s.ctx, n.laptop, url, "", "--timeout", "1s")
		if err == nil {
			return fmt.Errorf("%s answers: %q", url, r.Body)
		}
		s.note("%v", err)
	}
	if n.public.Asked(wikiName) == 0 {
		return errors.New("the laptop did not ask the public DNS server")
	}
	return nil
}

// kind makes both routers of one kind and probes them.
func (s *stage) kind(n *internet, k nat.Kind) error {
	// Without translation the outside must know the way to the inside.
	if k == nat.None {
		if err := reach(n.homeCore, homeOutside, homeInside); err != nil {
			return err
		}
		if err := reach(n.siteCore, siteOutside, siteInside); err != nil {
			return err
		}
	}
	n.homeRouter.Kind, n.siteRouter.Kind = k, k
	if err := errors.Join(n.homeRouter.Apply(), n.siteRouter.Apply()); err != nil {
		return err
	}
	if err := n.prove(s, n.homeRouter, n.laptopEnd, homeOutside); err != nil {
		return fmt.Errorf("home: %w", err)
	}
	if err := n.prove(s, n.siteRouter, n.gatewayEnd, siteOutside); err != nil {
		return fmt.Errorf("site: %w", err)
	}
	return nil
}

// leave starts a program that ignores every request to end, and a descendant
// that has left its session. [host.Enclose] reports what outlives the lab.
func (s *stage) leave(n *internet) error {
	sh, err := findProgram("sh")
	if err != nil {
		return err
	}
	out, err := n.wiki.Output(n.wiki.Command(s.ctx, sh, "-c",
		`(trap "" INT TERM HUP; exec sleep 1000) >/dev/null 2>&1 & echo started`))
	if err == nil && string(out) != "started\n" {
		err = fmt.Errorf("the shell says %q", out)
	}
	return err
}
