//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"stile/build/lab/nat"
)

// fragmentSizes are payloads of datagrams, from the largest that needs no
// fragments in either family to the largest there is over IPv4, with 53. The
// second is the smallest that needs them over IPv4.
var fragmentSizes = []int{1232, 1253, 1400, 2000, 2500, 4000, 4096, 8000, 65507}

const (
	fragmentTimes = 10 // datagrams of each size on each way
	fragmentTries = 3  // the first large answer over IPv6 is lost: its sender learns from it how large packets may be
)

// ourGateway fails where a scenario proves what only our gateway promises.
func (e external) ourGateway(what string) error {
	if e.GatewayCmd != "" {
		return fmt.Errorf("%s is a promise of our own gateway, and was not tried with --gateway-cmd", what)
	}
	return nil
}

// oursThroughout fails where a scenario needs what only our client and our
// gateway have.
func (e external) oursThroughout(what string) error {
	if e.ClientCmd != "" {
		return fmt.Errorf("%s is a promise of our own client and gateway together, and was not tried with --client-cmd", what)
	}
	return e.ourGateway(what)
}

// runFragments: datagrams that are larger than the tunnel's packets arrive, and
// so do answers.
func runFragments(s *stage) error {
	if err := s.order.oursThroughout("to carry fragments"); err != nil {
		return err
	}
	v := &visit{stage: s}
	if err := v.begin(nat.PortRestricted, wikiByName, site4, site6); err != nil {
		return err
	}
	var errs []error
	lost := 0
	steps := []step{
		{"large datagrams are echoed inside the site", func() error {
			return v.large(v.net.gateway.Dial, netip.AddrPortFrom(wikiPlace.v4.Addr(), 7), 65507, 1)
		}},
		{"the first packet ever to the site, a datagram of 65,507 bytes, comes back", v.largeFirst},
	}
	for _, way := range []struct {
		name string
		kind string
		addr netip.Addr
	}{
		{"by name, over IPv4", "A", netip.Addr{}}, {"by name, over IPv6", "AAAA", netip.Addr{}},
		{"by address, over IPv4", "", wikiPlace.v4.Addr()}, {"by address, over IPv6", "", wikiPlace.v6.Addr()},
	} {
		steps = append(steps, step{fmt.Sprintf("datagrams of %d to %d bytes, %s", fragmentSizes[0], fragmentSizes[len(fragmentSizes)-1], way.name), func() error {
			to := way.addr
			if way.kind != "" {
				addrs, err := v.proxies(wikiName, way.kind)
				if err != nil {
					return err
				}
				to = addrs[0]
			}
			for _, size := range fragmentSizes {
				if err := v.large(v.net.laptop.Dial, netip.AddrPortFrom(to, 7), size, fragmentTimes); err != nil {
					errs = append(errs, fmt.Errorf("%d bytes %s: %w", size, way.name, err))
					lost++
					v.note("%5d bytes: %v", size, err)
					break // larger ones would cost time only
				}
			}
			return nil // all ways are tried; the last step tells
		}})
	}
	for _, size := range []int{4000, 20000} {
		steps = append(steps, step{fmt.Sprintf("ping -s %d is answered, by name and by address, over IPv4 and IPv6", size), func() error {
			return v.largePings(size)
		}})
	}
	steps = append(steps, step{"large datagrams to a closed port are refused, by name and by address, over IPv4 and IPv6", v.refuseLargeDatagrams})
	return s.all(append(steps,
		step{"all of them came back whole", func() error { v.metric("sizes_lost", float64(lost)); return errors.Join(errs...) }},
		step{"many at a time, of different flows", func() error { return v.largeTogether() }},
		step{"all programs end when they are told to", v.end})...)
}

// largeFirst sends a large datagram when nothing is known yet, neither the
// gateway nor its view of the name. All of it waits for that.
func (v *visit) largeFirst() error {
	addrs, err := v.proxies(wikiName, "A")
	if err != nil {
		return err
	}
	c, err := v.net.laptop.Dial(v.ctx, "udp", netip.AddrPortFrom(addrs[0], 7).String())
	if err != nil {
		return err
	}
	defer c.Close()
	sent, began := bytes.Repeat([]byte("first, and whole. "), 65507/18+1)[:65507], time.Now()
	if _, err := exchange(c, sent, make([]byte, 65536), 10*time.Second); err != nil {
		return err
	}
	v.metric("first_ms", float64(time.Since(began).Microseconds())/1000)
	return nil
}

// largePings has ping send large requests. The first one over IPv6 may be lost,
// as large answers are.
func (v *visit) largePings(size int) error {
	to, err := v.wikiAddrs()
	if err != nil {
		return err
	}
	for _, a := range to {
		_, err := v.tool(true, `(?m)^5 packets transmitted, [45] received`, "ping", "-n", "-c", "5", "-i", "0.2", "-W", "2", "-s", fmt.Sprint(size), a.String())
		if err != nil {
			return err
		}
	}
	return nil
}

// refuseLargeDatagrams wants the wiki's ICMP errors about datagrams that it put
// together to find the program that sent them.
func (v *visit) refuseLargeDatagrams() error {
	to, err := v.wikiAddrs()
	if err != nil {
		return err
	}
	for _, a := range to {
		c, err := v.net.laptop.Dial(v.ctx, "udp", netip.AddrPortFrom(a, 9).String())
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Write(make([]byte, 4000)); err != nil {
			return err
		}
		if err := c.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
			return err
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNREFUSED) {
			return fmt.Errorf("%v: %v, want connection refused", a, err)
		}
	}
	return nil
}

// wikiAddrs are the wiki's own addresses and one of each family that stands for
// it.
func (v *visit) wikiAddrs() ([]netip.Addr, error) {
	to := []netip.Addr{wikiPlace.v4.Addr(), wikiPlace.v6.Addr()}
	for _, kind := range []string{"A", "AAAA"} {
		addrs, err := v.proxies(wikiName, kind)
		if err != nil {
			return nil, err
		}
		to = append(to, addrs[0])
	}
	return to, nil
}

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// large sends datagrams of one size and wants each back as it was.
func (v *visit) large(dial dialer, to netip.AddrPort, size, times int) error {
	c, err := dial(v.ctx, "udp", to.String())
	if err != nil {
		return err
	}
	defer c.Close()
	rng := rand.New(rand.NewPCG(v.order.Seed, uint64(size)))
	sent, got := make([]byte, size), make([]byte, 65536)
	for i := range times {
		for k := range sent {
			sent[k] = byte(rng.Uint32())
		}
		n, err := 0, error(nil)
		for range fragmentTries {
			if n, err = exchange(c, sent, got, time.Second); err == nil {
				break
			}
		}
		if err != nil {
			return fmt.Errorf("datagram %d: %w", i, err)
		}
		if !bytes.Equal(got[:n], sent) {
			return fmt.Errorf("datagram %d comes back with %d bytes, or others", i, n)
		}
	}
	return nil
}

// exchange waits for an answer that is what was sent.
func exchange(c net.Conn, sent, got []byte, patience time.Duration) (int, error) {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	if _, err := c.Write(sent); err != nil {
		return 0, err
	}
	for {
		n, err := c.Read(got)
		if err != nil || n == len(sent) && bytes.Equal(got[:n], sent) {
			return n, err
		} // else the late answer to an earlier try
	}
}

// largeTogether has several flows send at once, so that their fragments mix.
func (v *visit) largeTogether() error {
	addrs, err := v.proxies(wikiName, "A")
	if err != nil {
		return err
	}
	const flows = 16
	errs := make(chan error, flows)
	for i := range flows {
		go func() {
			errs <- v.large(v.net.laptop.Dial, netip.AddrPortFrom(addrs[i%len(addrs)], 7), 3000+i, fragmentTimes)
		}()
	}
	var all []error
	for range flows {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}
