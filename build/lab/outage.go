//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"stile/build/lab/nat"
	"stile/build/lab/serve"
)

// Limits while the site's DNS server fails.
const (
	outageConnect  = time.Second // first byte of a new connection to a name that was resolved before
	outageRestored = 5 * time.Second
)

// outagePhases are the ways in which the server fails. A client that starts
// anew waits for the gateway to confirm its names: it may give a silent server
// 1.8 s (gateway-nat.md N24, T_STALE_REPLY), and one that fails none.
var outagePhases = []struct {
	name     string
	how      serve.Breakage
	comeback time.Duration // limit on its first byte
}{
	{"silent", serve.Silent, 2500 * time.Millisecond},
	{"servfail", serve.Fails, time.Second},
}

// runDNSOutage: while the site's DNS server fails, first silently and then with
// an error, the names that it told before go on working.
func runDNSOutage(s *stage) error {
	phase := 5 * time.Minute
	if s.order.Short {
		phase = 30 * time.Second
	}
	v := &visit{stage: s}
	if err := v.begin(nat.PortRestricted, resource{Name: "Corp", Address: "*.corp.example"}); err != nil {
		return err
	}
	var open crowd
	var addrs []netip.Addr
	speaking, hush := context.WithCancel(s.ctx)
	var g sync.WaitGroup
	defer g.Wait()
	defer hush()
	steps := []step{
		{"conversations are open", func() error {
			if err := v.serveTell(v.net.wiki, wikiPlace.v4.Addr(), wikiPlace.v6.Addr()); err != nil {
				return err
			}
			for _, kind := range []string{"A", "AAAA"} {
				a, err := v.proxies(wikiName, kind)
				if err != nil {
					return err
				}
				addrs = append(addrs, a...)
			}
			var servers []netip.AddrPort
			for _, a := range addrs {
				servers = append(servers, netip.AddrPortFrom(a, tellPort))
			}
			for _, network := range []string{"tcp", "udp"} {
				c, err := s.gather(v.net.laptop, network, 32, servers...)
				if err != nil {
					return err
				}
				open = append(open, c...)
			}
			g.Go(func() { open.keepUp(speaking, time.Second) })
			return nil
		}},
	}
	for _, b := range outagePhases {
		steps = append(steps,
			step{fmt.Sprintf("for %v the site's DNS server is %s: new connections work on its last answer", phase, b.name), func() error {
				v.net.private.Break(b.how)
				open.mark()
				return v.newcomers(b.name, phase, open)
			}},
			step{"conversations did not notice", func() error {
				lost, longest, err := open.fate()
				v.metric(b.name+"_cut", float64(lost))
				v.metric(b.name+"_silence_ms", ms(longest))
				if err == nil && longest > time.Second+unnoticed {
					err = fmt.Errorf("one was silent for %s", milliseconds(longest))
				}
				return err
			}},
			step{"a client that starts anew is told at once that the name works", func() error { return v.comesBack(b.name, b.comeback) }},
			step{"those conversations go on as well", func() error {
				err := open.speakOnce(s.ctx, 10*time.Second)
				_, _, why := open.fate()
				return errors.Join(err, why)
			}},
		)
	}
	return s.all(append(steps,
		step{"DNS works again: a name that was not known before is reached", func() error {
			const fresh = "fresh.corp.example"
			v.net.private.Set(fresh, fixed(wikiPlace))
			if _, err := v.wiki("http://"+fresh+"/", "--timeout", "1s"); err == nil {
				return errors.New("it is reached though DNS does not work yet")
			}
			v.net.private.Break(serve.Works)
			took, err := v.within(time.Now(), outageRestored, func() error {
				_, err := v.wiki("http://"+fresh+"/", "--timeout", "1s")
				return err
			})
			v.metric("restored_ms", ms(took))
			return err
		}},
		step{"all programs end when they are told to", v.end})...)
}

// newcomers opens a connection by name each second, as a program would that
// resolves it anew, until a phase is over.
func (v *visit) newcomers(phase string, last time.Duration, open crowd) error {
	began, before := time.Now(), v.net.private.Asked(wikiName)
	var took []time.Duration
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for turn := 0; time.Since(began) < last; turn++ {
		select {
		case <-v.ctx.Done():
			return context.Cause(v.ctx)
		case <-tick.C:
		}
		r, err := v.wiki("http://"+wikiName+"/", "--network", [...]string{"tcp4", "tcp6"}[turn%2])
		if err != nil {
			return fmt.Errorf("%v into it, a new connection: %w", time.Since(began).Round(time.Second), err)
		}
		if took = append(took, r.TTF); r.TTF > outageConnect {
			return fmt.Errorf("%v into it a new connection takes %s (its name %s, its handshake until %s); the limit is %v", time.Since(began).Round(time.Second),
				milliseconds(r.TTF), milliseconds(r.Lookup), milliseconds(r.Connect), outageConnect)
		}
		if lost, _, err := open.fate(); lost > 0 {
			return err
		}
	}
	asked := v.net.private.Asked(wikiName) - before
	v.metric(phase+"_new", float64(len(took)))
	v.metric(phase+"_new_ms", ms(median(took)))
	v.metric(phase+"_new_worst_ms", ms(slices.Max(took)))
	v.metric(phase+"_asked", float64(asked))
	v.note("%d new connections, first byte after %s, worst %s; DNS was asked %d times in vain", len(took), milliseconds(median(took)), milliseconds(slices.Max(took)), asked)
	if asked == 0 {
		return errors.New("DNS was never asked: nothing is proven")
	}
	return nil
}

// comesBack starts the client anew, so that the gateway must confirm the name
// once more before anything is sent to it.
func (v *visit) comesBack(phase string, limit time.Duration) error {
	if err := v.stile.client.stop(); err != nil {
		return err
	}
	if err := v.stile.startClient(v.stage); err != nil {
		return err
	}
	r, err := v.wiki("http://"+wikiName+"/", "--timeout", "15s")
	if err != nil {
		return err
	}
	v.metric(phase+"_comeback_ms", ms(r.TTF))
	v.note("first byte after %s", milliseconds(r.TTF))
	if r.TTF > limit {
		return fmt.Errorf("the first byte comes after %s; the limit is %v", milliseconds(r.TTF), limit)
	}
	return nil
}
