//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"stile/build/lab/nat"
)

// Limits on what a user waits for, with uplinks of 5 ms each way.
const (
	coldDirect    = 300 * time.Millisecond // first byte by name, nothing authorized, no connection
	coldNATDirect = 400 * time.Millisecond
	warmRatio     = 1.3                  // first byte by name beside the same through a forwarded port
	privateAnswer = 2 * time.Millisecond // DNS answer for a private name
)

// samples is how many requests a median is taken of; a comparison takes them
// in turns of a few, so that a busy machine slows both sides down alike.
const samples, inTurn = 15, 5

// runDirect: no router translates, every host that speaks to the outside has a
// public address.
func runDirect(s *stage) error { return byName(s, nat.None, coldDirect) }

// runNATDirect: both routers are of the most common kind.
func runNATDirect(s *stage) error { return byName(s, nat.PortRestricted, coldNATDirect) }

// byName reaches the wiki by name through the tunnel, cold and warm.
func byName(s *stage, kind nat.Kind, cold time.Duration) error {
	v := &visit{stage: s}
	if err := v.begin(kind, wikiByName); err != nil {
		return err
	}
	return s.all(
		step{"the wiki shows its first byte, cold, by name", func() error { return v.cold("http://"+wikiName+"/", cold) }},
		step{"the wiki answers warm as fast as through a forwarded port", func() error { return v.warm("http://" + wikiName + "/") }},
		step{"its name resolves without leaving the laptop", v.resolves},
		step{"its name resolves to an IPv6 address that works too", func() error {
			_, err := v.wiki("http://"+wikiName+"/", "--network", "tcp6")
			return err
		}},
		step{"nothing of it passes the relay", v.straight},
		step{"public names resolve and lead past the tunnel", func() error { return s.public(v.net, "http://"+publicSite+"/") }},
		step{"stiled ends and leaves the resolver as it was", v.leaves},
		step{"the other programs end when they are told to", v.end},
	)
}

// runCIDR reaches the site's network by address.
func runCIDR(s *stage) error {
	v := &visit{stage: s}
	if err := v.begin(nat.PortRestricted,
		site4, site6); err != nil {
		return err
	}
	v4, v6 := wikiPlace.v4.Addr(), wikiPlace.v6.Addr()
	return s.all(
		step{"the wiki shows its first byte, cold, by address", func() error { return v.cold("http://"+v4.String()+"/", coldNATDirect) }},
		step{"the wiki answers warm as fast as through a forwarded port", func() error { return v.warm("http://" + v4.String() + "/") }},
		step{"the wiki answers at its IPv6 address", func() error { _, err := v.wiki("http://[" + v6.String() + "]/"); return err }},
		step{"UDP is echoed", func() error { return v.echoes("udp", v4, v6) }},
		step{"TCP is echoed", func() error { return v.echoes("tcp", v4, v6) }},
		step{"nothing of it passes the relay", func() error { return v.straightTo(v4.String()) }},
		step{"all programs end when they are told to", v.end},
	)
}

// firstBytes returns the times to the first byte of a page of the wiki, each
// request on a connection of its own.
func (v *visit) firstBytes(url string) ([]time.Duration, error) {
	all, err := fetch(v.ctx, v.net.laptop, url, "--times", fmt.Sprint(inTurn))
	if err != nil {
		return nil, err
	}
	var took []time.Duration
	for _, r := range all {
		if r.Error != "" || !strings.Contains(r.Body, "This is wiki") {
			return nil, fmt.Errorf("%s shows %q: %s", url, r.Body, r.Error)
		}
		took = append(took, r.TTF)
	}
	return took, nil
}

// coldTimes is how often a first request is measured, each time with a stiled
// that has just been started: no connection, nothing authorized.
const coldTimes = 3

// cold fetches for the first time, several times, and holds the median against
// the limit.
func (v *visit) cold(url string, limit time.Duration) error {
	var took []time.Duration
	for i := range coldTimes {
		if i > 0 {
			if err := v.stile.client.stop(); err != nil {
				return err
			}
			if err := v.stile.startClient(v.stage); err != nil {
				return err
			}
		}
		first, err := v.first(url)
		if err != nil {
			return err
		}
		took = append(took, first)
	}
	v.metric("cold_ms", ms(median(took)))
	v.metric("cold_worst_ms", ms(slices.Max(took)))
	if median(took) > limit {
		return fmt.Errorf("the median first byte comes after %s; the limit is %s", milliseconds(median(took)), milliseconds(limit))
	}
	return nil
}

// first fetches once and returns when the first byte came. The client waits
// longer than any limit, so that a slow first byte is told from none.
func (v *visit) first(url string) (time.Duration, error) {
	r, err := v.wiki(url, "--timeout", "15s")
	if err != nil {
		return 0, fmt.Errorf("%w%s", err, tail(v.net.laptop.Log, 8))
	}
	v.note("looked up after %s, connected to %s after %s, first byte after %s", milliseconds(r.Lookup), r.Remote, milliseconds(r.Connect), milliseconds(r.TTF))
	return r.TTF, nil
}

// warm compares a page through the tunnel with the same page through the port
// that the site's router forwards.
func (v *visit) warm(url string) error {
	var through, past []time.Duration
	for range samples / inTurn {
		for _, side := range []struct {
			url string
			to  *[]time.Duration
		}{{url, &through}, {v.net.forwarded(), &past}} {
			took, err := v.firstBytes(side.url)
			if err != nil {
				return err
			}
			*side.to = append(*side.to, took...)
		}
	}
	ratio := float64(median(through)) / float64(median(past))
	v.metric("warm_ms", ms(median(through)))
	v.metric("forwarded_ms", ms(median(past)))
	v.metric("warm_ratio", ratio)
	v.note("median first byte after %s through the tunnel, %s through the port", milliseconds(median(through)), milliseconds(median(past)))
	if ratio > warmRatio {
		return fmt.Errorf("it takes %.2f times as long; the limit is %.2f", ratio, warmRatio)
	}
	return nil
}

func (v *visit) resolves() error {
	all, err := lookup(v.ctx, v.net.laptop, wikiName, samples)
	if err != nil {
		return err
	}
	var took []time.Duration
	for _, a := range all {
		if a.Error != "" || len(a.Records) == 0 {
			return fmt.Errorf("%s: %s %v %s", wikiName, a.Rcode, a.Records, a.Error)
		}
		took = append(took, a.Took)
	}
	v.metric("dns_ms", ms(median(took)))
	v.note("median answer after %s: %s", milliseconds(median(took)), strings.Join(all[0].Records, " "))
	if median(took) > privateAnswer {
		return fmt.Errorf("the answer takes %s; the limit is %s", milliseconds(median(took)), milliseconds(privateAnswer))
	}
	if n := v.net.public.Asked(wikiName); n > 0 {
		return fmt.Errorf("the public DNS server was asked %d times for the private name", n)
	}
	return nil
}

func (v *visit) straight() error { return v.straightTo(wikiName) }

// straightTo fetches a megabyte and checks that the relay's link did not see it.
func (v *visit) straightTo(hostname string) error {
	n, err := v.relayed(func() error { return v.megabyte(hostname) })
	if err == nil && n > megabyte/10 {
		err = fmt.Errorf("the relay received %d bytes meanwhile", n)
	}
	return err
}

// leaves stops stiled and looks at what it leaves behind.
func (v *visit) leaves() error {
	began := time.Now()
	if err := v.stile.client.stop(); err != nil {
		return err
	}
	v.metric("stop_ms", ms(time.Since(began)))
	resolv, err := v.net.laptop.ReadFile("/etc/resolv.conf")
	if err != nil {
		return err
	}
	if namesSentinel(string(resolv)) || !strings.Contains(string(resolv), dnsPlace.v4.Addr().String()) {
		return fmt.Errorf("/etc/resolv.conf holds\n%s", resolv)
	}
	if r, err := get(v.ctx, v.net.laptop, "http://"+wikiName+"/", "", "--timeout", "1s"); err == nil {
		return fmt.Errorf("the wiki still answers: %q", r.Body)
	}
	return nil
}
