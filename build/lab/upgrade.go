//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"stile/build/lab/host"
	"stile/build/lab/nat"
)

// What the upgrade of a gateway may cost, and to how many.
const (
	upgradeBusy, upgradeIdle = 100, 1000 // TCP connections
	upgradeTwins             = 200       // of the idle ones: four have the same port of the laptop
	upgradeDatagrams         = 20        // UDP flows
	upgradeBeat              = 100 * time.Millisecond
	upgradeStall             = 2 * time.Second
)

// runGatewayUpgrade: a gateway that ends in order and is started again, as a
// package's upgrade does, cuts no connection.
func runGatewayUpgrade(s *stage) error {
	if err := s.order.ourGateway("to keep open connections over its restart (O3)"); err != nil {
		return err
	}
	v := &visit{stage: s}
	if err := v.begin(nat.PortRestricted, wikiByName, site4); err != nil {
		return err
	}
	var busy, datagrams, idle crowd
	var resets int
	ctx, hush := context.WithCancel(s.ctx)
	var g sync.WaitGroup
	defer g.Wait()
	defer hush()
	return s.all(
		step{fmt.Sprintf("%d busy connections, %d UDP flows and %d idle connections are open", upgradeBusy, upgradeDatagrams, upgradeIdle), func() error {
			if err := v.serveTell(v.net.wiki, wikiPlace.v4.Addr(), wikiPlace.v6.Addr()); err != nil {
				return err
			}
			var four []netip.AddrPort
			servers := []netip.AddrPort{netip.AddrPortFrom(wikiPlace.v4.Addr(), tellPort)} // by address
			for _, kind := range []string{"A", "AAAA"} {
				addrs, err := v.proxies(wikiName, kind)
				if err != nil {
					return err
				}
				for _, a := range addrs { // and by name
					servers = append(servers, netip.AddrPortFrom(a, tellPort))
				}
				if kind == "A" {
					four = servers[len(servers)-len(addrs):]
				}
			}
			for _, c := range []struct {
				to      *crowd
				network string
				n       int
			}{{&busy, "tcp", upgradeBusy}, {&datagrams, "udp", upgradeDatagrams}, {&idle, "tcp", upgradeIdle - upgradeTwins}} {
				var err error
				if *c.to, err = s.gather(v.net.laptop, c.network, c.n, servers...); err != nil {
					return err
				}
			}
			// A gateway that forgot which port it gave to whom cuts three in four of these.
			twins, err := s.gatherTwins(v.net.laptop, upgradeTwins, four...)
			if err != nil {
				return err
			}
			idle = append(idle, twins...)
			g.Go(func() { busy.keepUp(ctx, upgradeBeat) })
			g.Go(func() { datagrams.keepUp(ctx, upgradeBeat) })
			return pause(ctx, 10*upgradeBeat)
		}},
		step{"the gateway is told to end, and started again", func() error {
			busy.mark()
			datagrams.mark()
			began := time.Now()
			var err error
			if resets, err = cutOf(v.net.wiki); err != nil {
				return err
			}
			if err := v.stile.gate.stop(); err != nil {
				return err
			}
			v.metric("stop_ms", ms(time.Since(began)))
			if err := v.stile.startGateway(s); err != nil {
				return err
			}
			v.metric("online_ms", ms(time.Since(began)))
			v.note("it ended after %.0f ms, and was online again by %.0f ms", v.metrics["stop_ms"], v.metrics["online_ms"])
			return nil
		}},
		step{fmt.Sprintf("busy connections go on after %v at the latest", upgradeStall), func() error {
			if err := pause(ctx, upgradeStall+10*upgradeBeat); err != nil {
				return err
			}
			// While nothing translates, the gateway's host might take answers for
			// clients for its own, and refuse them.
			after, err := cutOf(v.net.wiki)
			if err != nil {
				return err
			}
			v.metric("cut_at_server", float64(after-resets))
			_, silent, err := datagrams.fate()
			v.metric("udp_silence_ms", ms(silent))
			cut, stalled, why := busy.fate()
			v.metric("busy_cut", float64(cut))
			v.metric("stall_ms", ms(stalled))
			v.note("nothing passed for %s; the longest silence of a connection was %s", milliseconds(silent), milliseconds(stalled))
			if err = errors.Join(err, why); err == nil && after > resets {
				err = fmt.Errorf("%d connections were reset at the server", after-resets)
			}
			if err == nil && stalled > upgradeStall {
				err = fmt.Errorf("one was silent for %s", milliseconds(stalled))
			}
			return err
		}},
		step{"idle connections have not noticed", func() error {
			began := time.Now()
			err := idle.speakOnce(ctx, 10*time.Second)
			cut, _, why := idle.fate()
			v.metric("idle_cut", float64(cut))
			v.metric("idle_answered_ms", ms(time.Since(began)))
			return errors.Join(err, why)
		}},
		step{"new connections work", func() error { _, err := v.wiki("http://" + wikiName + "/"); return err }},
		step{"all programs end when they are told to", v.end},
	)
}

// cutOf returns how many of a host's connections the other side has reset.
func cutOf(h *host.Host) (n int, err error) {
	err = h.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		var names []string
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) == 0 || f[0] != "Tcp:" {
				continue
			}
			if i := slices.Index(names, "EstabResets"); i >= 0 && i < len(f) {
				n, err = strconv.Atoi(f[i])
				return err
			}
			names = f
		}
		return errors.New("the kernel does not count resets")
	})
	return n, err
}
