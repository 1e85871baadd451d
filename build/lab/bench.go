//go:build linux

package main

import (
	"fmt"
	"math"
	"net/netip"

	"stile/build/lab/host"
	"stile/build/lab/link"
	"stile/build/lab/nat"
	"stile/build/lab/serve"
)

// A short world is what throughput is measured in: a client next to a gateway,
// a server behind it, and a host for all services. No link takes time. The
// server has one address for each way to it.
type shortWorld struct {
	client, gateway, server, services *host.Host
	clientEnd, gatewayEnd, serverEnd  *link.End
	names                             *serve.DNS
	authority                         *serve.Authority
}

// Where the hosts of the short world stand.
var (
	shortClient   = at("203.0.113.2/30", "2001:db8:0:1::2/64")
	shortServices = at("203.0.113.10/30", "2001:db8:0:2::2/64")
	shortGateway  = at("10.9.0.1/24", "fd00:10:9::1/64")
	shortServer   = at("10.9.0.10/24", "fd00:10:9::10/64")

	overWireguard = netip.MustParseAddr("10.9.0.20") // the server, for the baseline
	overStile     = netip.MustParseAddr("10.9.0.30") // the server, for us

	wireguardClient  = netip.MustParsePrefix("10.77.0.1/32")
	wireguardGateway = netip.MustParsePrefix("10.77.0.2/32")
)

func newShortWorld(s *stage) (*shortWorld, error) {
	w := &shortWorld{names: serve.NewDNS()}
	var err error
	if w.authority, err = serve.NewAuthority(); err != nil {
		return nil, err
	}
	hosts, err := s.furnish(w.authority, []string{shortServices.v4.Addr().String()}, "client", "gateway", "server", "services")
	if err != nil {
		return nil, err
	}
	w.client, w.gateway, w.server, w.services = hosts[0], hosts[1], hosts[2], hosts[3]
	if err := link.Forward(w.gateway); err != nil {
		return nil, err
	}
	var toClient, toServices *link.End
	if w.clientEnd, toClient, err = link.Veth(w.client, "eth0", w.gateway, "client"); err != nil {
		return nil, err
	}
	if err := uplink(w.clientEnd, toClient, shortClient); err != nil {
		return nil, err
	}
	services, toServices, err := link.Veth(w.services, "eth0", w.gateway, "services")
	if err != nil {
		return nil, err
	}
	if err := uplink(services, toServices, shortServices); err != nil {
		return nil, err
	}
	if w.serverEnd, w.gatewayEnd, err = link.Veth(w.server, "eth0", w.gateway, "server"); err != nil {
		return nil, err
	}
	for _, a := range []netip.Addr{overWireguard, overStile} {
		if err := w.serverEnd.Add(netip.PrefixFrom(a, 24)); err != nil {
			return nil, err
		}
	}
	if err := local(w.gatewayEnd, shortGateway, member{w.serverEnd, shortServer}); err != nil {
		return nil, err
	}
	if err := s.serveDNS(w.services, w.names); err != nil {
		return nil, err
	}
	if err := s.serveLoad(w.server); err != nil {
		return nil, err
	}
	// The gateway masquerades on every way, so that the kernel does the same
	// for each.
	return w, nat.Router{Outside: w.gatewayEnd, Kind: nat.PortRestricted}.Apply()
}

// A leg is one way from client to server, and the processes that carry it.
type leg struct {
	name   string
	server netip.Addr
	roles  []*role
}

// shape is one form of load.
type shape struct {
	down    bool
	streams int
}

func (p shape) String() string {
	if p.down {
		return fmt.Sprintf("down_%d", p.streams)
	}
	return fmt.Sprintf("up_%d", p.streams)
}

var shapes = []shape{{false, 1}, {false, 4}, {true, 1}, {true, 4}}

// rounds is how often each leg is measured, in turn with the others.
const rounds = 3

// runThroughput compares our tunnel with none and with wireguard-go's.
func runThroughput(s *stage) error {
	var w *shortWorld
	if err := s.step("client, gateway and server come up", func() (err error) { w, err = newShortWorld(s); return err }); err != nil {
		return err
	}
	legs := []leg{{name: "plain", server: shortServer.v4.Addr()}}
	if err := s.step("wireguard-go comes up", func() error {
		roles, err := w.wireguard(s)
		legs = append(legs, leg{"wireguard_go", overWireguard, roles})
		return err
	}); err != nil {
		return err
	}
	roles, missing := w.stile(s) // without it the others are still worth measuring
	if missing == nil {
		legs = append(legs, leg{"stile", overStile, roles})
	}
	measured := map[string][]traffic{} // "leg shape"
	for round := range rounds {
		for _, p := range shapes {
			for _, l := range legs {
				if err := s.measure(w, l, p, measured); err != nil {
					return fmt.Errorf("round %d, %s %v: %w", round+1, l.name, p, err)
				}
			}
		}
	}
	s.report(legs, measured)
	return missing
}

func (s *stage) measure(w *shortWorld, l leg, p shape, measured map[string][]traffic) error {
	var pids []int
	for _, r := range l.roles {
		pids = append(pids, r.pid)
	}
	t, err := load{w.client, netip.AddrPortFrom(l.server, 0), p.streams, p.down}.run(s.ctx, pids...)
	if err != nil {
		return err
	}
	key := l.name + " " + p.String()
	measured[key] = append(measured[key], t)
	s.note("%-13s %-7v %6.0f Mbit/s  %5.2f CPU s/GB of its processes, %5.2f of the machine", l.name, p, t.mbit(), t.perGB(t.cpu), t.perGB(t.machine))
	return nil
}

// report turns the measurements into metrics: medians of rate and cost for each
// leg and shape, memory and buffers, and how we compare with wireguard-go over
// all shapes (geometric mean of the ratios of rates).
func (s *stage) report(legs []leg, measured map[string][]traffic) {
	rate := map[string]float64{}
	for _, l := range legs {
		for _, p := range shapes {
			var mbit, cost, machine []float64
			for _, t := range measured[l.name+" "+p.String()] {
				mbit, cost, machine = append(mbit, t.mbit()), append(cost, t.perGB(t.cpu)), append(machine, t.perGB(t.machine))
			}
			key := l.name + "_" + p.String()
			rate[key] = median(mbit)
			s.metric(key+"_mbit", rate[key])
			s.metric(key+"_machine_cpu_s_per_gb", median(machine))
			if len(l.roles) > 0 {
				s.metric(key+"_cpu_s_per_gb", median(cost))
			}
		}
		for _, r := range l.roles {
			key := l.name + "_" + r.host.Name
			s.metric(key+"_resident_mb", residentMB(r.pid))
			send, receive, err := udpBuffers(r.pid)
			if err != nil {
				s.note("%v", err)
			}
			s.metric(key+"_sndbuf_bytes", float64(send))
			s.metric(key+"_rcvbuf_bytes", float64(receive))
		}
	}
	s.metric("mtu", tunnelMTU)
	if legs[len(legs)-1].name != "stile" {
		return
	}
	product := 1.0
	for _, p := range shapes {
		ratio := rate["stile_"+p.String()] / rate["wireguard_go_"+p.String()]
		s.metric("ratio_wireguard_go_"+p.String(), ratio)
		product *= ratio
	}
	s.metric("ratio_wireguard_go", math.Pow(product, 1/float64(len(shapes))))
}

// wireguard brings up a wireguard-go tunnel between client and gateway.
func (w *shortWorld) wireguard(s *stage) ([]*role, error) {
	const name = "wg0"
	configs, err := wireguardConfigs(
		[2]netip.Addr{w.clientEnd.Addrs[0].Addr(), shortClient.v4.Addr().Prev()},
		[2]netip.Prefix{wireguardClient, netip.PrefixFrom(overWireguard, 32)})
	if err != nil {
		return nil, err
	}
	var roles []*role
	for i, end := range []struct {
		host        *host.Host
		address, to netip.Prefix
	}{{w.client, wireguardClient, netip.PrefixFrom(overWireguard, 32)}, {w.gateway, wireguardGateway, wireguardClient}} {
		r, err := s.launchTold(end.host, configs[i], "up", "wireguard", name)
		if err != nil {
			return nil, err
		}
		roles = append(roles, r)
		device, err := link.Adopt(end.host, name)
		if err != nil {
			return nil, err
		}
		if err := device.Add(end.address); err != nil {
			return nil, err
		}
		if err := device.Route(end.to, netip.Addr{}, end.address.Addr()); err != nil {
			return nil, err
		}
	}
	return roles, nil
}

// stile brings up our own tunnel between client and gateway.
func (w *shortWorld) stile(s *stage) ([]*role, error) {
	w.names.Set(portalName, fixed(shortServices))
	d := &deployment{
		portal: w.services, relay: w.services, gateway: w.gateway, laptop: w.client,
		relayPlace: shortServices, authority: w.authority,
		resources: []resource{{Name: "Server", Address: overStile.String()}},
	}
	if err := d.up(s); err != nil {
		return nil, err
	}
	return []*role{d.client, d.gate}, nil
}
