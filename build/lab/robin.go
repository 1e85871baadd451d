//go:build linux

package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"stile/build/lab/nat"
	"stile/build/lab/serve"
)

// A name whose answers change all the time.
const (
	robinName  = "robin.corp.example"
	robinTurns = 120 // a second each
	robinFlows = 50
	idleTurns  = 50 // between two bytes of the idle connection
)

// runRoundRobin: each answer for the name has one address, another each time,
// good for a second. Connections stay with the server they were opened to.
func runRoundRobin(s *stage) error {
	v := &visit{stage: s}
	if err := v.begin(nat.PortRestricted, resource{Name: "Robin", Address: robinName}); err != nil {
		return err
	}
	var flows []net.Conn
	var idle net.Conn
	defer func() {
		for _, c := range flows {
			c.Close()
		}
	}()
	return s.all(
		step{"the name turns through eight addresses", v.turn},
		step{fmt.Sprintf("%d connections and an idle one are open", robinFlows), func() error {
			for range robinFlows + 1 {
				addrs, err := v.proxies(robinName, "A")
				if err != nil {
					return err
				}
				c, err := v.net.laptop.Dial(s.ctx, "tcp", netip.AddrPortFrom(addrs[len(flows)%len(addrs)], 7).String())
				if err == nil {
					flows = append(flows, c)
					err = echo(c, "the first")
				}
				if err != nil {
					return err
				}
			}
			idle, flows = flows[robinFlows], flows[:robinFlows]
			return nil
		}},
		step{fmt.Sprintf("none is cut in %d turns, while others come and go", robinTurns), func() error { return v.turns(flows, idle) }},
		step{"all programs end when they are told to", v.end},
	)
}

// turn gives the wiki more addresses, and the name all of them in turn.
func (v *visit) turn() error {
	a := serve.Answer{Rotate: true, TTL: 1}
	for i := range 8 {
		v4 := netip.AddrFrom4([4]byte{10, 9, 0, byte(101 + i)})
		if err := v.net.wikiEnd.Add(netip.PrefixFrom(v4, 24)); err != nil {
			return err
		}
		a.Addrs = append(a.Addrs, v4)
	}
	v.net.private.Set(robinName, a)
	return nil
}

// turns uses every connection once a second, resolves the name, and opens a
// connection by it.
func (v *visit) turns(flows []net.Conn, idle net.Conn) error {
	defer idle.Close()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var cut []error
	for turn := range robinTurns {
		select {
		case <-v.ctx.Done():
			return v.ctx.Err()
		case <-tick.C:
		}
		if _, err := v.proxies(robinName, "A"); err != nil {
			return fmt.Errorf("turn %d: %w", turn, err)
		}
		if _, err := v.wiki("http://" + robinName + "/"); err != nil {
			return fmt.Errorf("turn %d: a new connection: %w", turn, err)
		}
		for i, c := range flows {
			if err := echo(c, "once more"); err != nil {
				cut = append(cut, fmt.Errorf("turn %d: connection %d was cut: %w", turn, i, err))
			}
		}
		if turn%idleTurns == idleTurns-1 {
			if err := echo(idle, "."); err != nil {
				cut = append(cut, fmt.Errorf("turn %d: the idle connection was cut: %w", turn, err))
			}
		}
		if len(cut) > 0 {
			break
		}
	}
	v.metric("cut", float64(len(cut)))
	v.metric("asked_at_site", float64(v.net.private.Asked(robinName)))
	return errors.Join(cut...)
}
