//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"stile/build/lab/link"
	"stile/build/lab/nat"
	"stile/build/lab/serve"
)

// coldRelayed is the limit on the first byte where no direct path exists: the
// relay is chosen without waiting for all direct checks to fail.
const coldRelayed = time.Second

// runNATRelay: no packet of either side passes the other's router, unless the
// relay sends it.
func runNATRelay(s *stage) error {
	v := &visit{stage: s}
	if err := v.begin(nat.Symmetric, wikiByName); err != nil {
		return err
	}
	return s.all(
		step{"the wiki shows its first byte, cold, by name", func() error { return v.cold("http://"+wikiName+"/", coldRelayed) }},
		step{"the wiki answers warm as fast as through a forwarded port", func() error { return v.warm("http://" + wikiName + "/") }},
		step{"its name resolves to an IPv6 address that works too", func() error {
			_, err := v.wiki("http://"+wikiName+"/", "--network", "tcp6")
			return err
		}},
		step{"all of it passes the relay", v.throughRelay},
		step{"all programs end when they are told to", v.end},
	)
}

// throughRelay fetches a megabyte and checks that the relay saw it.
func (v *visit) throughRelay() error {
	began := time.Now()
	n, err := v.relayed(func() error { return v.megabyte(wikiName) })
	if err != nil {
		return err
	}
	v.metric("megabyte_ms", ms(time.Since(began)))
	if n < megabyte {
		return fmt.Errorf("the relay received %d bytes only", n)
	}
	return nil
}

// sixName is a name of the site that has no IPv4 address.
const sixName = "six.corp.example"

// runIPv6: laptop and site have no IPv4 towards the internet. The site keeps
// it inside.
func runIPv6(s *stage) error {
	v := &visit{stage: s}
	if err := v.world(nat.PortRestricted, wikiByName, resource{Name: "Six", Address: sixName}); err != nil {
		return err
	}
	if err := s.step("IPv4 to the outside is taken away", v.loseIPv4); err != nil {
		return err
	}
	if err := v.stile.up(s); err != nil {
		return err
	}
	return s.all(
		step{"the wiki shows its first byte, cold, by name", func() error { return v.cold("http://"+wikiName+"/", coldNATDirect) }},
		step{"the wiki answers over IPv4 inside the tunnel", func() error {
			_, err := v.wiki("http://"+wikiName+"/", "--network", "tcp4")
			return err
		}},
		step{"a name without IPv4 address is reached", func() error { return v.reachesSix() }},
		step{"nothing of it passes the relay", func() error { return v.straightTo(wikiName) }},
		step{"public names resolve and lead past the tunnel", func() error { return s.public(v.net, "http://"+publicSite+"/") }},
		step{"all programs end when they are told to", v.end},
	)
}

// loseIPv4 leaves the uplinks with IPv6 only, and the laptop without any IPv4.
func (v *visit) loseIPv4() error {
	n := v.net
	for _, end := range []*link.End{n.homeRouter.Outside, n.siteRouter.Outside, n.laptopEnd} {
		if err := end.Remove(end.Addr(netip.IPv4Unspecified())); err != nil {
			return err
		}
	}
	n.private.Set(sixName, serve.Fixed(wikiPlace.v6.Addr().String()))
	n.sixOnly.Store(true)
	if _, err := get(v.ctx, n.laptop, n.forwarded(), "", "--timeout", "500ms"); err == nil {
		return fmt.Errorf("IPv4 still leads from the laptop to the site")
	}
	return n.laptop.WriteFile(resolvConf, []byte("nameserver "+dnsPlace.v6.Addr().String()+"\n"), 0o644)
}

func (v *visit) reachesSix() error {
	r, err := v.wiki("http://" + sixName + "/")
	if err != nil {
		return err
	}
	v.note("connected to %s", r.Remote)
	r, err = v.wiki("http://"+sixName+"/", "--network", "tcp6")
	if err == nil && !strings.HasPrefix(r.Remote, "[") {
		err = fmt.Errorf("it was reached at %s", r.Remote)
	}
	return err
}
