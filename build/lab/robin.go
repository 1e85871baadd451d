//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"stile/build/lab/host"
	"stile/build/lab/nat"
	"stile/build/lab/serve"
)

// A name whose answers change all the time: one address each, another each
// time, good for a second.
const (
	robinName    = "robin.corp.example"
	robinServers = 8
	robinRate    = 10 // resolutions a second, by all applications together
	robinApps    = 5
)

// robinForm is how much of it is played.
type robinForm struct {
	turns             int // resolutions that the site's DNS server must have seen
	tcp, udp          int // conversations that go on
	sleepers          int // more of each that are silent until the end
	longSleep, idling bool
}

func (s *stage) robinForm() robinForm {
	if s.order.Short {
		return robinForm{turns: 250, tcp: 250, udp: 50, sleepers: 25}
	}
	// Sleepers sleep longer than a mapping is held for them (gateway-nat.md 7.1,
	// T_ACTIVE), so that new connections go elsewhere while they keep theirs.
	return robinForm{turns: 1000, tcp: 900, udp: 90, sleepers: 100, longSleep: true, idling: true}
}

// runRoundRobin: connections stay with the server they were opened to while DNS
// answers otherwise with every question.
func runRoundRobin(s *stage) error {
	v := &visit{stage: s}
	if err := v.begin(nat.PortRestricted, resource{Name: "Robin", Address: robinName}); err != nil {
		return err
	}
	f := s.robinForm()
	var proxies [2][]netip.Addr // in either family
	var busy, sleepers, idle, all crowd
	join := func(to *crowd, network string, n int, addrs ...netip.Addr) error {
		var servers []netip.AddrPort
		for _, a := range addrs {
			servers = append(servers, netip.AddrPortFrom(a, tellPort))
		}
		c, err := s.gather(v.net.laptop, network, n, servers...)
		*to, all = append(*to, c...), append(all, c...)
		return err
	}
	return s.all(
		step{fmt.Sprintf("the name turns through %d addresses in each family", robinServers), v.turn},
		step{"four addresses stand for it in each family", func() error {
			for i, kind := range []string{"A", "AAAA"} {
				addrs, err := v.proxies(robinName, kind)
				if err != nil {
					return err
				}
				if len(addrs) != 4 {
					return fmt.Errorf("%s: %v", kind, addrs)
				}
				proxies[i] = addrs
			}
			return nil
		}},
		step{fmt.Sprintf("%d TCP and %d UDP conversations are open, and %d of each that are about to sleep", f.tcp, f.udp, f.sleepers), func() error {
			four, six := proxies[0], proxies[1]
			err := errors.Join(
				join(&busy, "tcp", f.tcp/2, four[0], four[1]), join(&busy, "tcp", f.tcp-f.tcp/2, six[0], six[1]),
				join(&busy, "udp", f.udp/2, four[0], four[1]), join(&busy, "udp", f.udp-f.udp/2, six[0], six[1]),
				join(&sleepers, "tcp", f.sleepers/2, four[3]), join(&sleepers, "tcp", f.sleepers-f.sleepers/2, six[3]),
				join(&sleepers, "udp", f.sleepers/2, four[3]), join(&sleepers, "udp", f.sleepers-f.sleepers/2, six[3]))
			if err == nil && f.idling {
				err = join(&idle, "tcp", 1, four[1])
			}
			v.metric("open", float64(len(all)))
			return err
		}},
		step{fmt.Sprintf("none is cut while the name is resolved %d times more", f.turns), func() error {
			return v.turns(f, busy, idle, [2]netip.Addr{proxies[0][2], proxies[1][2]})
		}},
		step{"those that slept wake up where they were", func() error { return v.wake(f, sleepers, [2]netip.Addr{proxies[0][3], proxies[1][3]}) }},
		step{"no conversation was cut or led elsewhere", func() error {
			err := errors.Join(busy.speakOnce(s.ctx, 5*time.Second), idle.speakOnce(s.ctx, 5*time.Second))
			lost, _, why := all.fate()
			v.metric("cut", float64(lost))
			return errors.Join(err, why)
		}},
		step{"all programs end when they are told to", v.end},
	)
}

// turn gives the wiki more addresses, and the name all of them in turn.
func (v *visit) turn() error {
	a := serve.Answer{Rotate: true, TTL: 1}
	for i := range robinServers {
		v4 := netip.AddrFrom4([4]byte{10, 9, 0, byte(101 + i)})
		v6 := netip.MustParseAddr(fmt.Sprintf("fd00:10:9::%d", 101+i))
		if err := v.net.wikiEnd.Add(netip.PrefixFrom(v4, 24), netip.PrefixFrom(v6, 64)); err != nil {
			return err
		}
		a.Addrs = append(a.Addrs, v4, v6)
	}
	v.net.private.Set(robinName, a)
	return v.serveTell(v.net.wiki, a.Addrs...)
}

// idleBeat is between two bytes of the idle connection.
const idleBeat = 50 * time.Second

// turns keeps the crowd up while applications resolve the name and others open
// short connections by it.
func (v *visit) turns(f robinForm, busy, idle crowd, beside [2]netip.Addr) error {
	ctx, cancel := context.WithCancel(v.ctx)
	var g sync.WaitGroup
	defer g.Wait()
	defer cancel()
	g.Go(func() { busy.keepUp(ctx, 5*time.Second) })
	g.Go(func() { idle.keepUp(ctx, idleBeat) })

	began, before := time.Now(), v.net.private.AskedType(robinName, dns.TypeA)
	var answered atomic.Int64
	for i := range robinApps {
		g.Go(func() { v.keepAsking(ctx, i, &answered) })
	}
	seen := map[string]int{} // servers of newcomers
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for turn := 0; ; turn++ {
		done := v.net.private.AskedType(robinName, dns.TypeA) - before
		if done >= f.turns {
			break
		}
		if since := time.Since(began); since > 20*time.Second && float64(done) < since.Seconds()*robinRate/4 {
			return fmt.Errorf("the site's DNS server saw %d resolutions in %v; the applications ask %d times a second and had %d answers",
				done, since.Round(time.Second), robinRate, answered.Load())
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		t, err := talk(ctx, v.net.laptop, "tcp", netip.AddrPortFrom(beside[turn%2], tellPort))
		if err != nil {
			return fmt.Errorf("turn %d: a new connection: %w", turn, err)
		}
		t.conn.Close()
		seen[t.server]++
		if lost, _, err := busy.fate(); lost > 0 {
			return err
		}
	}
	took := time.Since(began)
	done := v.net.private.AskedType(robinName, dns.TypeA) - before
	v.metric("resolutions", float64(done))
	v.metric("resolutions_s", took.Seconds())
	v.metric("newcomers_servers", float64(len(seen)))
	if len(seen) < 2 {
		return fmt.Errorf("newcomers are all led to %v: nothing has changed, so nothing is proven", seen)
	}
	v.note("%d resolutions in %v (%d answers to applications); newcomers were led to %d servers", done, took.Round(time.Second), answered.Load(), len(seen))
	return nil
}

// keepAsking is an application that resolves the name again and again.
func (v *visit) keepAsking(ctx context.Context, number int, answered *atomic.Int64) {
	c, err := dnsOf(ctx, v.net.laptop)
	if err != nil {
		v.fail(err)
		return
	}
	defer c.Close()
	// Questions that come together are one resolution: the applications take turns.
	if pause(ctx, time.Duration(number)*time.Second/robinRate) != nil {
		return
	}
	tick := time.NewTicker(robinApps * time.Second / robinRate)
	defer tick.Stop()
	for i := number; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		q := new(dns.Msg).SetQuestion(dns.Fqdn(robinName), [...]uint16{dns.TypeA, dns.TypeAAAA}[i%2])
		r, _, err := new(dns.Client).ExchangeWithConnContext(ctx, q, &dns.Conn{Conn: c})
		switch {
		case ctx.Err() != nil:
			return
		case err != nil || len(r.Answer) == 0:
			v.fail(fmt.Errorf("an application that asks for %s gets no address: %v", robinName, err))
			return
		}
		answered.Add(1)
	}
}

// dnsOf connects to the resolver that a host's programs ask, over UDP.
func dnsOf(ctx context.Context, h *host.Host) (net.Conn, error) {
	resolv, err := h.ReadFile(resolvConf)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(resolv)) {
		if address, ok := strings.CutPrefix(strings.TrimSpace(line), "nameserver "); ok {
			return h.Dial(ctx, "udp", net.JoinHostPort(address, "53"))
		}
	}
	return nil, fmt.Errorf("%s names no server", resolvConf)
}

// wake has the sleepers speak. If they slept so long that their mapping was not
// held for them, new connections by the same addresses go elsewhere meanwhile.
func (v *visit) wake(f robinForm, sleepers crowd, by [2]netip.Addr) error {
	if f.longSleep {
		where := sleepers.servers()
		fresh := map[string]int{}
		for _, a := range by {
			for range 3 {
				t, err := talk(v.ctx, v.net.laptop, "tcp", netip.AddrPortFrom(a, tellPort))
				if err != nil {
					return fmt.Errorf("a new connection: %w", err)
				}
				t.conn.Close()
				if where[t.server] == 0 {
					fresh[t.server]++
				}
				if err := pause(v.ctx, 200*time.Millisecond); err != nil {
					return err
				}
			}
		}
		v.metric("moved_beside_sleepers", float64(len(fresh)))
		v.note("sleepers are with %v; new connections by the same addresses with %v", where, fresh)
		if len(fresh) == 0 {
			return errors.New("new connections are all led to the servers of those that sleep: nothing has changed, so nothing is proven")
		}
	}
	return sleepers.speakOnce(v.ctx, 5*time.Second)
}
