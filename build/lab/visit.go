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

// A visit is one scenario's internet with Stile in it, and what is measured on
// the way.
type visit struct {
	*stage
	net   *internet
	stile *deployment
}

// Resources that most scenarios have.
var (
	wikiByName = resource{Name: "Wiki", Address: wikiName}
	site4      = resource{Name: "Site", Address: siteInside.v4.Masked().String()}
	site6      = resource{Name: "Site over IPv6", Address: siteInside.v6.Masked().String()}
)

// begin brings up the world and Stile in it.
func (v *visit) begin(kind nat.Kind, resources ...resource) error {
	if err := v.world(kind, resources...); err != nil {
		return err
	}
	return v.stile.up(v.stage)
}

// world brings up an internet in which Stile is about to be started.
func (v *visit) world(kind nat.Kind, resources ...resource) error {
	err := v.all(
		step{"an internet of its own comes up", func() (err error) { v.net, err = newInternet(v.stage, kind, kind); return err }},
		step{fmt.Sprintf("both routers are of kind %v", kind), v.routers},
	)
	if err != nil {
		return err
	}
	n := v.net
	v.stile = &deployment{
		portal: n.portal, relay: n.relay, gateway: n.gateway, laptop: n.laptop, gatewayEnd: n.gatewayEnd,
		relayPlace: relayPlace, authority: n.authority, resources: resources,
	}
	return nil
}

func (v *visit) routers() error {
	return errors.Join(
		v.net.prove(v.stage, v.net.homeRouter, v.net.laptopEnd, homeOutside),
		v.net.prove(v.stage, v.net.siteRouter, v.net.gatewayEnd, siteOutside))
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

// proxies returns the addresses that stand for a name on the laptop, of type A
// or AAAA.
func (v *visit) proxies(name, kind string) ([]netip.Addr, error) {
	all, err := lookup(v.ctx, v.net.laptop, name, 1, "--type", kind)
	if err != nil {
		return nil, err
	}
	if all[0].Error != "" || len(all[0].Records) == 0 {
		return nil, fmt.Errorf("%s %s: %s %v %s", name, kind, all[0].Rcode, all[0].Records, all[0].Error)
	}
	var addrs []netip.Addr
	for _, r := range all[0].Records {
		a, err := netip.ParseAddr(r)
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}

// flows opens a flow by TCP and one by UDP to the wiki's echo servers, by name
// in either family. The authorization is there when they begin.
func (v *visit) flows(networks ...string) (flows []*flow, err error) {
	for _, kind := range []string{"A", "AAAA"} {
		addrs, err := v.proxies(wikiName, kind)
		if err != nil {
			return nil, err
		}
		for _, network := range networks {
			f, err := v.open(v.net.laptop, network, netip.AddrPortFrom(addrs[0], 7))
			if err != nil {
				return nil, err
			}
			flows = append(flows, f)
		}
	}
	return flows, nil
}

// relayed returns how many bytes the relay receives while something is done.
func (v *visit) relayed(do func() error) (uint64, error) {
	before, err := v.net.relayEnd.Received()
	if err != nil {
		return 0, err
	}
	if err := do(); err != nil {
		return 0, err
	}
	after, err := v.net.relayEnd.Received()
	return after - before, err
}

// megabyte fetches so many bytes of the wiki.
func (v *visit) megabyte(hostname string) error {
	_, err := get(v.ctx, v.net.laptop, fmt.Sprintf("http://%s/bytes/%d", hostname, megabyte), "", "--timeout", "15s")
	return err
}

const megabyte = 1_000_000

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

// end stops all roles, the last that was started first.
func (v *visit) end() error {
	var errs []error
	for _, r := range slices.Backward(v.roles) {
		errs = append(errs, r.stop())
	}
	return errors.Join(errs...)
}
