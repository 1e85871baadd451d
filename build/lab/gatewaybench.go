//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"stile/build/lab/host"
	"stile/build/lab/nat"
	"stile/build/lab/serve"
)

const (
	benchName   = "server.corp.example"
	benchFlows  = 2000 // connections that are opened and closed: fewer than a client may open at once (gateway-nat.md N49)
	benchAtOnce = 16
)

// runGateway compares what our gateway translates with what a Linux router
// does, by destination NAT and masquerading. The router neither encrypts nor
// decrypts, and no client sits before it: it is the bound, not a rival.
func runGateway(s *stage) error {
	var w *shortWorld
	legs := []leg{{name: "kernel", server: shortGateway.v4.Addr()}}
	err := s.all(
		step{"client, gateway and server come up", func() (err error) { w, err = newShortWorld(s); return err }},
		step{"the gateway's host redirects one of its addresses to the server", func() error {
			l, err := w.server.Listen("tcp", fmt.Sprintf(":%d", tellPort))
			if err != nil {
				return err
			}
			s.spawn("telling server", func(ctx context.Context) error { return serve.Tell(ctx, l) })
			return nat.Redirect(w.gateway, shortGateway.v4.Addr(), shortServer.v4.Addr())
		}},
	)
	if err != nil {
		return err
	}
	w.names.Set(portalName, fixed(shortServices))
	w.names.Set(benchName, serve.Fixed(overStile.String()))
	d := &deployment{
		portal: w.services, relay: w.services, gateway: w.gateway, laptop: w.client,
		relayPlace: shortServices, authority: w.authority,
		resources: []resource{{Name: "Server", Address: benchName}},
	}
	if err := d.up(s); err != nil {
		return err
	}
	v := &visit{stage: s, net: &internet{laptop: w.client}}
	addrs, err := v.proxies(benchName, "A")
	if err != nil {
		return err
	}
	legs = append(legs, leg{"stile", addrs[0], []*role{d.gate}})

	measured := map[string][]traffic{} // "leg shape"
	opened := map[string][]float64{}   // connections a second, by leg
	waited := map[string][]time.Duration{}
	for round := range rounds {
		for _, l := range legs {
			for _, p := range shapes {
				if err := s.measure(w, l, p, measured); err != nil {
					return fmt.Errorf("round %d, %s %v: %w", round+1, l.name, p, err)
				}
			}
			rate, wait, err := s.openMany(w.client, netip.AddrPortFrom(l.server, tellPort))
			if err != nil {
				return fmt.Errorf("round %d, %s: %w", round+1, l.name, err)
			}
			opened[l.name], waited[l.name] = append(opened[l.name], rate), append(waited[l.name], wait)
			s.note("%-13s %.0f connections a second, each open after %s", l.name, rate, milliseconds(wait))
		}
	}
	for _, l := range legs {
		for _, p := range shapes {
			var mbit, cost, machine []float64
			for _, t := range measured[l.name+" "+p.String()] {
				mbit, cost, machine = append(mbit, t.mbit()), append(cost, t.perGB(t.cpu)), append(machine, t.perGB(t.machine))
			}
			key := l.name + "_" + p.String()
			s.metric(key+"_mbit", median(mbit))
			s.metric(key+"_machine_cpu_s_per_gb", median(machine))
			if len(l.roles) > 0 {
				s.metric(key+"_gateway_cpu_s_per_gb", median(cost))
			}
		}
		s.metric(l.name+"_connections_per_s", median(opened[l.name]))
		s.metric(l.name+"_connect_ms", ms(median(waited[l.name])))
	}
	s.metric("gateway_resident_mb", residentMB(d.gate.pid))
	return nil
}

// openMany opens and closes connections, some at a time, and returns how many
// that were in a second, and the median time until one was open.
func (s *stage) openMany(h *host.Host, to netip.AddrPort) (rate float64, wait time.Duration, err error) {
	errs := make([]error, benchAtOnce)
	took := make([]time.Duration, benchFlows)
	var g sync.WaitGroup
	began := time.Now()
	for k := range benchAtOnce {
		g.Go(func() {
			errs[k] = h.InNetwork(func() error {
				d := net.Dialer{Timeout: 5 * time.Second}
				for i := k; i < benchFlows; i += benchAtOnce {
					asked := time.Now()
					c, err := d.DialContext(s.ctx, "tcp", to.String())
					if err != nil {
						return err
					}
					took[i] = time.Since(asked)
					c.Close()
				}
				return nil
			})
		})
	}
	g.Wait()
	return benchFlows / time.Since(began).Seconds(), median(took), errors.Join(errs...)
}
