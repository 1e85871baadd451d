//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"stile/build/lab/host"
	"stile/build/lab/nat"
)

// runClientKill: a client that is killed leaves the laptop as it made it. The
// next start puts everything back, whether somebody is signed in or not.
func runClientKill(s *stage) error {
	v := &visit{stage: s}
	if err := v.world(nat.PortRestricted, wikiByName, site4); err != nil {
		return err
	}
	var before hostState
	err := s.all(
		step{"the laptop has rules, routes and a firewall of its own", func() error { return furnishOwn(v.net.laptop) }},
		step{"its state is noted", func() (err error) {
			before, err = stateOf(v.net.laptop)
			v.note("%v", before)
			return err
		}},
	)
	if err != nil {
		return err
	}
	v.stile.headless = true // or it would be signed in again after the kill
	if err := v.stile.up(s); err != nil {
		return err
	}
	wiki := func() error { _, err := v.first("http://" + wikiName + "/"); return err }
	asBefore := func() error { return v.asBefore(before) }
	return s.all(
		step{"the wiki answers", wiki},
		step{"the laptop is not as before", func() error {
			if asBefore() == nil {
				return errors.New("the comparison sees no difference")
			}
			return nil
		}},
		step{"the client is killed", func() error { return v.stile.client.kill() }},
		step{"a start with nobody signed in puts everything back", func() error { return v.startSignedOut(before) }},
		step{"names resolve", func() error { return s.public(v.net, "http://"+publicSite+"/") }},
		step{"signed in again, the wiki answers", func() error {
			if err := v.stile.startClient(s); err != nil {
				return err
			}
			return wiki()
		}},
		step{"the client is killed once more, and started at once", func() error {
			if err := v.stile.client.kill(); err != nil {
				return err
			}
			if err := v.stile.startClient(s); err != nil {
				return err
			}
			// What the killed one left looks ready, until the next puts it back on its
			// way to the tunnel: a name may be asked of the public in between.
			return s.ready(v.stile.client, func(context.Context) error { return wiki() })
		}},
		step{"the client ends in order", func() error {
			began := time.Now()
			err := v.stile.client.stop()
			v.metric("stop_ms", ms(time.Since(began)))
			return err
		}},
		step{"everything is as before", asBefore},
		step{"names resolve", func() error { return s.public(v.net, "http://"+publicSite+"/") }},
		step{"all programs end when they are told to", v.end},
	)
}

func (v *visit) asBefore(before hostState) error {
	after, err := stateOf(v.net.laptop)
	if err != nil {
		return err
	}
	return after.same(before)
}

// startSignedOut starts the client without a token and waits until the laptop
// is as before. Our own service stays, waiting for somebody to sign in; one
// without that may end, and say that it has no token.
func (v *visit) startSignedOut(before hostState) error {
	began := time.Now()
	ctx, cancel := context.WithCancel(v.ctx)
	defer cancel()
	var c *exec.Cmd
	if line := v.order.ClientCmd; line != "" {
		shell, err := findProgram("sh")
		if err != nil {
			return err
		}
		c = v.net.laptop.Command(ctx, shell, "-c", line)
		c.Env = append(c.Env, "FIREZONE_API_URL="+plainURL, "FIREZONE_DNS_CONTROL=etc-resolv-conf")
		c.Cancel = func() error { return unix.Kill(-c.Process.Pid, unix.SIGTERM) }
	} else {
		c = v.net.laptop.Command(ctx, daemon, "--token-path", "/etc/stile/no-token")
		c.Env = append(c.Env, "STILE_API_URL="+portalURL, "STILE_LOG_LEVEL=debug")
	}
	if err := v.net.laptop.Start(c); err != nil {
		return err
	}
	took, err := v.within(began, afterRestart, func() error { return v.asBefore(before) })
	v.metric("repair_ms", ms(took))
	cancel()
	c.Wait() // however it ends
	if err != nil {
		return fmt.Errorf("%w%s", err, tail(v.net.laptop.Log, 4))
	}
	return v.asBefore(before)
}

// furnishOwn gives a host what a user may have set up: none of it is ours to touch.
func furnishOwn(h *host.Host) error {
	rule := netlink.NewRule()
	rule.Priority, rule.Table, rule.Mark = 4711, 77, 0x77
	lo, err := h.Links.LinkByName("lo")
	if err != nil {
		return err
	}
	route := &netlink.Route{LinkIndex: lo.Attrs().Index, Table: 77, Dst: netlink.NewIPNet([]byte{192, 0, 2, 99})}
	if err := errors.Join(h.Links.RuleAdd(rule), h.Links.RouteAdd(route)); err != nil {
		return fmt.Errorf("a rule and a route of the user: %w", err)
	}
	return h.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "own"})
		chain := c.AddChain(&nftables.Chain{Name: "in", Table: table, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter})
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}})
		return c.Flush()
	})
}
