//go:build linux

package main

import (
	"errors"
	"fmt"
	"time"

	"stile/build/lab/nat"
)

const (
	unnoticed    = 500 * time.Millisecond // a silence that a busy machine explains
	afterRestart = 5 * time.Second
	afterKill    = 20 * time.Second // ICE must find out by itself
	neverHangs   = time.Minute      // TCP may wait almost twice as long as what stopped it
)

// runPortalRestart: what is open does not need the portal.
func runPortalRestart(s *stage) error {
	v := &visit{stage: s}
	if err := v.begin(nat.PortRestricted, wikiByName); err != nil {
		return err
	}
	var flows []*flow
	return s.all(
		step{"connections are open", func() (err error) { flows, err = v.flows("tcp", "udp"); return err }},
		step{"the portal ends", func() error { mark(flows); return v.stile.control.stop() }},
		step{"new connections work while it is gone", func() error { _, err := v.wiki("http://" + wikiName + "/"); return err }},
		step{"the portal is there again", func() error { return v.stile.startPortal(s) }},
		step{"everybody comes back to it", func() error {
			took, err := v.within(time.Now(), 30*time.Second, func() error {
				return v.stile.shows(func(p portalStatus) bool { return p.hasClient() && p.hasGateway() && p.hasRelay() })(s.ctx)
			})
			v.metric("back_ms", ms(took))
			return err
		}},
		step{"the connections noticed nothing", func() error { return v.quiet("portal_restart_silence_ms", flows, unnoticed) }},
		step{"a client that starts now is served", func() error {
			if err := v.stile.client.stop(); err != nil {
				return err
			}
			if err := v.stile.startClient(s); err != nil {
				return err
			}
			_, err := v.first("http://" + wikiName + "/")
			return err
		}},
		step{"all programs end when they are told to", v.end},
	)
}

func mark(flows []*flow) {
	for _, f := range flows {
		f.mark()
	}
}

// quiet records the longest silence of the flows since the mark, and fails if
// one was longer than limit or was cut.
func (v *visit) quiet(metric string, flows []*flow, limit time.Duration) error {
	var longest time.Duration
	for _, f := range flows {
		silence, err := f.silence()
		if err != nil {
			return err
		}
		if longest = max(longest, silence); silence > limit {
			err = fmt.Errorf("%s was silent for %s; the limit is %v", f.name, milliseconds(silence), limit)
		}
		if err != nil {
			v.metric(metric, ms(longest))
			return err
		}
	}
	v.metric(metric, ms(longest))
	return nil
}

// runRelayRestart: a relay that ended is replaced by the one that comes, in
// connections that go on.
func runRelayRestart(s *stage) error {
	v := &visit{stage: s}
	if err := v.begin(nat.Symmetric, wikiByName); err != nil {
		return err
	}
	var flows []*flow
	var began time.Time
	return s.all(
		step{"connections are open, through the relay", func() (err error) {
			if flows, err = v.flows("tcp", "udp"); err != nil {
				return err
			}
			return v.throughRelay()
		}},
		step{"the relay ends", func() error { mark(flows); began = time.Now(); return v.stile.turn.stop() }},
		step{"the relay is there again", func() error { return v.stile.startRelay(s) }},
		step{"new connections work", func() error {
			took, err := v.within(began, afterKill, func() error {
				_, err := v.wiki("http://"+wikiName+"/", "--timeout", "1s")
				return err
			})
			v.metric("new_ms", ms(took))
			return err
		}},
		step{"the connections go on", func() error { return v.survive("relay_restart", flows, began, afterKill) }},
		step{"all programs end when they are told to", v.end},
	)
}

// survive waits until each flow goes on or was cut, and records the worst.
func (v *visit) survive(prefix string, flows []*flow, began time.Time, limit time.Duration) error {
	var worst time.Duration
	var cuts, stalls int
	var errs []error
	for _, f := range flows {
		took, cut, err := f.settled(v.ctx, began, limit)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if cut {
			cuts++
		} else {
			stalls++
		}
		worst = max(worst, took)
		how := map[bool]string{true: "was ended after", false: "goes on; its longest silence was"}[cut]
		v.note("%s %s %s", f.name, how, milliseconds(took))
	}
	v.metric(prefix+"_worst_ms", ms(worst))
	v.metric(prefix+"_cut", float64(cuts))
	v.metric(prefix+"_went_on", float64(stalls))
	if worst > limit {
		errs = append(errs, fmt.Errorf("%s; the limit is %v", milliseconds(worst), limit))
	}
	return errors.Join(errs...)
}

// runGatewayRestart: a gateway that is started again serves at once, and one
// that died as soon as ICE has noticed.
func runGatewayRestart(s *stage) error {
	v := &visit{stage: s}
	if err := v.begin(nat.PortRestricted, wikiByName, site4); err != nil {
		return err
	}
	var flows []*flow
	var began time.Time
	steps := []step{}
	for _, end := range []struct {
		name      string
		limit     time.Duration // until new connections work
		openLimit time.Duration // until open ones go on or were ended
		do        func() error
	}{
		{"restart", afterRestart, afterRestart, func() error { return v.stile.gate.stop() }},
		{"kill", afterKill, neverHangs, func() error { return v.stile.gate.kill() }},
	} {
		steps = append(steps,
			step{"connections are open", func() (err error) { flows, err = v.flows("tcp", "udp"); return err }},
			step{"the gateway ends by " + end.name, func() error { mark(flows); began = time.Now(); return end.do() }},
			step{"the gateway is there again", func() error { return v.stile.startGateway(s) }},
			step{"new connections work", func() error {
				took, err := v.within(began, end.limit, func() error {
					_, err := v.wiki("http://"+wikiName+"/", "--timeout", "400ms")
					return err
				})
				v.metric(end.name+"_new_ms", ms(took))
				return err
			}},
			step{"those that were open go on, or were ended", func() error { return v.survive(end.name, flows, began, end.openLimit) }},
		)
	}
	return s.all(append(steps, step{"all programs end when they are told to", v.end})...)
}
