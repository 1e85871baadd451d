//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
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

// A visit is one scenario's internet with Stile in it, and what is measured on
// the way.
type visit struct {
	*stage
	net   *internet
	stile *deployment
}

// runDirect: no router translates, every host that speaks to the outside has a
// public address.
func runDirect(s *stage) error { return byName(s, nat.None, coldDirect) }

// runNATDirect: both routers are of the most common kind.
func runNATDirect(s *stage) error { return byName(s, nat.PortRestricted, coldNATDirect) }

// byName reaches the wiki by name through the tunnel, cold and warm.
func byName(s *stage, kind nat.Kind, cold time.Duration) error {
	v := &visit{stage: s}
	if err := v.begin(kind, resource{"Wiki", wikiName}); err != nil {
		return err
	}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"the wiki shows its first byte, cold, by name", func() error { return v.cold("http://"+wikiName+"/", cold) }},
		{"the wiki answers warm as fast as through a forwarded port", func() error { return v.warm("http://" + wikiName + "/") }},
		{"its name resolves without leaving the laptop", v.resolves},
		{"its name resolves to an IPv6 address that works too", func() error {
			_, err := v.wiki("http://"+wikiName+"/", "--network", "tcp6")
			return err
		}},
		{"nothing of it passes the relay", v.straight},
		{"public names resolve and lead past the tunnel", func() error { return s.public(v.net, "http://"+publicSite+"/") }},
		{"stiled ends and leaves the resolver as it was", v.leaves},
		{"the other programs end when they are told to", v.end},
	} {
		if err := s.step(step.what, step.do); err != nil {
			return err
		}
	}
	return nil
}

// runCIDR reaches the site's network by address.
func runCIDR(s *stage) error {
	v := &visit{stage: s}
	if err := v.begin(nat.PortRestricted,
		resource{"Site", siteInside.v4.Masked().String()}, resource{"Site over IPv6", siteInside.v6.Masked().String()}); err != nil {
		return err
	}
	v4, v6 := wikiPlace.v4.Addr(), wikiPlace.v6.Addr()
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"the wiki shows its first byte, cold, by address", func() error { return v.cold("http://"+v4.String()+"/", coldNATDirect) }},
		{"the wiki answers warm as fast as through a forwarded port", func() error { return v.warm("http://" + v4.String() + "/") }},
		{"the wiki answers at its IPv6 address", func() error { _, err := v.wiki("http://[" + v6.String() + "]/"); return err }},
		{"UDP is echoed", func() error { return v.echoes("udp", v4, v6) }},
		{"TCP is echoed", func() error { return v.echoes("tcp", v4, v6) }},
		{"nothing of it passes the relay", func() error { return v.straightTo(v4.String()) }},
		{"all programs end when they are told to", v.end},
	} {
		if err := s.step(step.what, step.do); err != nil {
			return err
		}
	}
	return nil
}

// begin brings up the world and Stile in it.
func (v *visit) begin(kind nat.Kind, resources ...resource) error {
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"an internet of its own comes up", func() (err error) { v.net, err = newInternet(v.stage, kind, kind); return err }},
		{fmt.Sprintf("both routers are of kind %v", kind), v.routers},
	} {
		if err := v.step(step.what, step.do); err != nil {
			return err
		}
	}
	n := v.net
	v.stile = &deployment{
		portal: n.portal, relay: n.relay, gateway: n.gateway, laptop: n.laptop,
		relayPlace: relayPlace, authority: n.authority, resources: resources,
	}
	return v.stile.up(v.stage)
}

func (v *visit) routers() error {
	return errors.Join(
		v.net.prove(v.stage, v.net.homeRouter, v.net.laptopEnd, homeOutside),
		v.net.prove(v.stage, v.net.siteRouter, v.net.gatewayEnd, siteOutside))
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

// wiki fetches a page of the wiki and checks that it saw the gateway ask.
func (v *visit) wiki(url string, flags ...string) (fetched, error) {
	r, err := get(v.ctx, v.net.laptop, url, "This is wiki", flags...)
	if err != nil {
		return r, err
	}
	for _, a := range []netip.Addr{gatewayPlace.v4.Addr(), gatewayPlace.v6.Addr()} {
		if strings.Contains(r.Body, " to "+a.String()+":") || strings.Contains(r.Body, " to ["+a.String()+"]:") {
			return r, nil
		}
	}
	return r, fmt.Errorf("the wiki was not asked by the gateway: %q", r.Body)
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
			if err := v.stile.startStiled(v.stage); err != nil {
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
	const size = 1_000_000
	before, err := v.net.relayEnd.Received()
	if err != nil {
		return err
	}
	if _, err := get(v.ctx, v.net.laptop, fmt.Sprintf("http://%s/bytes/%d", hostname, size), ""); err != nil {
		return err
	}
	after, err := v.net.relayEnd.Received()
	if err == nil && after-before > size/10 {
		err = fmt.Errorf("the relay received %d bytes meanwhile", after-before)
	}
	return err
}

// echoes sends a text to the wiki's echo servers and wants it back.
func (v *visit) echoes(network string, addrs ...netip.Addr) error {
	for _, a := range addrs {
		if err := v.echo(network, netip.AddrPortFrom(a, 7)); err != nil {
			return fmt.Errorf("%s %v: %w", network, a, err)
		}
	}
	return nil
}

func (v *visit) echo(network string, to netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(v.ctx, 5*time.Second)
	defer cancel()
	c, err := v.net.laptop.Dial(ctx, network, to.String())
	if err != nil {
		return err
	}
	defer c.Close()
	return echo(c, "there and back")
}

func echo(c net.Conn, text string) error {
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	back := make([]byte, len(text))
	if _, err := io.ReadFull(c, back); err != nil {
		return err
	}
	if string(back) != text {
		return fmt.Errorf("%q comes back", back)
	}
	return nil
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

// end stops all roles, the last that was started first.
func (v *visit) end() error {
	var errs []error
	for _, r := range slices.Backward(v.roles) {
		errs = append(errs, r.stop())
	}
	return errors.Join(errs...)
}
