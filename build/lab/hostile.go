//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"stile/build/lab/host"
	"stile/build/lab/link"
	"stile/build/lab/nat"
)

// How hostile the client is and what others must keep.
const (
	hostileRate  = 20000 // packets a second: all machines of the lab share a few cores, so that more would only tell how fast they are
	hostileKept  = 0.9
	hostileTurns = 3

	// hostileGrowth is what the gateway may grow by: 16,384 sessions of the
	// hostile client (gateway-nat.md 7.1) at 2 kB, and as much again.
	hostileGrowth = 64 // MB

	steadyPort = 5003
	steadyRate = 100e6 // bits a second that the other client wants, in all its streams
	streams    = 4
)

var malloryPlace = at("203.0.113.102/30", "2001:db8:0:102::2/64")

// runHostileClient: a client opens flows as fast as it can, and another does
// not suffer. As all share the machine's cores, each measurement has a second
// baseline: as many packets of the same size, in flows that are open.
func runHostileClient(s *stage) error {
	if err := s.order.ourGateway("to limit how fast a client opens flows (N49)"); err != nil {
		return err
	}
	v := &visit{stage: s}
	if err := v.begin(nat.PortRestricted, wikiByName, site4); err != nil {
		return err
	}
	var m *mallory
	var rss float64
	figures := map[string][]float64{}
	steps := []step{
		{"another client joins, from another network", func() (err error) { m, err = v.join(); return err }},
		{"it reaches the site", func() error { return m.reaches() }},
		{"servers for the ordinary user", func() error {
			rss = residentMB(v.stile.gate.pid)
			discard, err := v.net.wiki.ListenPacket("udp", fmt.Sprintf(":%d", discardPort))
			if err != nil {
				return err
			}
			s.spawn("discard server", func(ctx context.Context) error { <-ctx.Done(); return discard.Close() })
			return errors.Join(s.serveLoad(v.net.wiki), v.serveSteady())
		}},
	}
	for turn := range hostileTurns {
		for _, leg := range []struct {
			name string
			kind assault
		}{{"alone", nothing}, {"polite", openFlows}, {"hostile", newFlows}} {
			steps = append(steps, step{fmt.Sprintf("round %d: %s", turn+1, leg.kind), func() error { return v.suffer(m, leg.name, leg.kind, figures) }})
		}
	}
	return s.all(append(steps,
		step{fmt.Sprintf("the ordinary user keeps %.0f %%", 100*hostileKept), func() error {
			keep := map[string]float64{}
			for _, demand := range []string{"steady", "greedy"} {
				for _, base := range []string{"alone", "polite"} {
					keep[demand+base] = median(figures["hostile_"+demand]) / median(figures[base+"_"+demand])
					v.metric(demand+"_kept_of_"+base, keep[demand+base])
				}
			}
			for name, f := range figures {
				v.metric(name, median(f))
			}
			v.note("who wants %.0f Mbit/s keeps %.2f of what it has alone; who wants all there is keeps %.2f of what as many packets in open flows leave, and %.2f of what it has alone, with attacker, gateway and user on the same cores",
				steadyRate/1e6, keep["steadyalone"], keep["greedypolite"], keep["greedyalone"])
			if keep["steadyalone"] < hostileKept || keep["greedypolite"] < hostileKept {
				return fmt.Errorf("kept %.2f of a steady load and %.2f of a greedy one", keep["steadyalone"], keep["greedypolite"])
			}
			return nil
		}},
		step{"the user's new connections work meanwhile, and the gateway's memory is bounded", func() error {
			stop := m.assail(s.ctx, newFlows)
			defer stop()
			if err := pause(s.ctx, 5*time.Second); err != nil {
				return err
			}
			r, err := v.wiki("http://" + wikiName + "/")
			if err != nil {
				return err
			}
			v.metric("new_ms", ms(r.TTF))
			grown := residentMB(v.stile.gate.pid) - rss
			v.metric("gateway_mb", rss+grown)
			v.metric("gateway_grown_mb", grown)
			v.note("first byte of a new connection after %s; the gateway holds %.0f MB, %.0f more than before", milliseconds(r.TTF), rss+grown, grown)
			if r.TTF > time.Second || grown > hostileGrowth {
				return fmt.Errorf("first byte after %s (limit 1 s), the gateway grew by %.0f MB (limit %d)", milliseconds(r.TTF), grown, hostileGrowth)
			}
			return nil
		}},
		step{"all programs end when they are told to", v.end})...)
}

// An assault is what the other client does.
type assault uint8

const (
	nothing   assault = iota
	openFlows         // datagrams in a few open flows
	newFlows          // SYNs and datagrams, each from another port or to another
)

func (a assault) String() string {
	return [...]string{"an ordinary user alone", "beside as many packets in open flows", "beside a client that opens flows"}[a]
}

// suffer measures what the ordinary user gets, wanting a certain rate and
// wanting all there is.
func (v *visit) suffer(m *mallory, name string, kind assault, figures map[string][]float64) error {
	stop := m.assail(v.ctx, kind)
	defer stop()
	if err := pause(v.ctx, 500*time.Millisecond); err != nil {
		return err
	}
	addrs, err := v.proxies(wikiName, "A")
	if err != nil {
		return err
	}
	sent, began := m.sent.Load(), time.Now()
	spent := cpuOf([]int{v.stile.gate.pid})
	steady, err := v.steady(netip.AddrPortFrom(addrs[0], steadyPort))
	if err != nil {
		return err
	}
	greedy, err := load{v.net.laptop, netip.AddrPortFrom(addrs[0], 0), streams, true}.run(v.ctx)
	if err != nil {
		return err
	}
	took := time.Since(began).Seconds()
	rate := float64(m.sent.Load()-sent) / took
	busy := (cpuOf([]int{v.stile.gate.pid}) - spent).Seconds() / took
	if kind != nothing && rate < hostileRate/2 {
		return fmt.Errorf("the other client sends only %.0f packets a second: nothing is proven", rate)
	}
	for suffix, value := range map[string]float64{"_steady": steady, "_greedy": greedy.mbit(), "_pps": rate} {
		figures[name+suffix] = append(figures[name+suffix], value)
	}
	v.note("%.0f Mbit/s of %.0f, or %.0f Mbit/s greedily; %.0f packets a second beside it; the gateway uses %.2f cores", steady, steadyRate/1e6, greedy.mbit(), rate, busy)
	return nil
}

// serveSteady starts a server that sends no faster than the user wants.
func (v *visit) serveSteady() error {
	l, err := v.net.wiki.Listen("tcp", fmt.Sprintf(":%d", steadyPort))
	if err != nil {
		return err
	}
	v.spawn("steady server", func(ctx context.Context) error {
		var g sync.WaitGroup
		defer g.Wait()
		defer context.AfterFunc(ctx, func() { l.Close() })()
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return nil
			} else if err != nil {
				return err
			}
			g.Go(func() {
				defer c.Close()
				defer context.AfterFunc(ctx, func() { c.Close() })()
				chunk := make([]byte, 16<<10)
				began := time.Now()
				for sent := 0; ; sent += len(chunk) {
					due := began.Add(time.Duration(float64(sent) * 8 * streams / steadyRate * float64(time.Second)))
					if pause(ctx, time.Until(due)) != nil {
						return
					}
					if _, err := c.Write(chunk); err != nil {
						return
					}
				}
			})
		}
	})
	return nil
}

// steady returns how many Mbit/s come of the rate that the user wants.
func (v *visit) steady(from netip.AddrPort) (float64, error) {
	ctx, cancel := context.WithCancel(v.ctx)
	var g sync.WaitGroup
	defer g.Wait()
	defer cancel()
	var bytes atomic.Int64
	for range streams {
		dial, stop := context.WithTimeout(ctx, 5*time.Second)
		c, err := v.net.laptop.Dial(dial, "tcp", from.String())
		stop()
		if err != nil {
			return 0, err
		}
		g.Go(func() { move(ctx, c, false, &bytes) })
	}
	if err := pause(ctx, loadWarmUp); err != nil {
		return 0, err
	}
	began, moved := time.Now(), bytes.Load()
	err := pause(ctx, loadMeasure)
	return float64(bytes.Load()-moved) * 8 / time.Since(began).Seconds() / 1e6, err
}

// mallory is a client that may use the site like everybody, and floods it.
type mallory struct {
	visit *visit
	host  *host.Host
	stile *deployment
	addr  netip.Addr // in the tunnel
	sent  atomic.Int64
}

// join brings another client into the world, with a network of its own.
func (v *visit) join() (*mallory, error) {
	hosts, err := v.furnish(v.net.authority, []string{dnsPlace.v4.Addr().String(), dnsPlace.v6.Addr().String()}, "mallory")
	if err != nil {
		return nil, err
	}
	end, core, err := link.Veth(hosts[0], "eth0", v.net.core, "mallory")
	if err != nil {
		return nil, err
	}
	if err := uplink(end, core, malloryPlace); err != nil {
		return nil, err
	}
	d := *v.stile
	d.laptop, d.headless, d.client = hosts[0], true, nil
	m := &mallory{visit: v, host: hosts[0], stile: &d}
	return m, d.startClient(v.stage)
}

// reaches opens a flow to the site, so that the client is connected.
func (m *mallory) reaches() error {
	_, err := m.visit.within(time.Now(), 10*time.Second, func() error {
		ctx, cancel := context.WithTimeout(m.visit.ctx, time.Second)
		defer cancel()
		c, err := m.host.Dial(ctx, "tcp", netip.AddrPortFrom(wikiPlace.v4.Addr(), 7).String())
		if err != nil {
			return err
		}
		defer c.Close()
		m.addr = c.LocalAddr().(*net.TCPAddr).AddrPort().Addr()
		return echo(c, "hello")
	})
	return err
}

// assail begins the assault and returns what ends it.
func (m *mallory) assail(ctx context.Context, kind assault) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var g sync.WaitGroup
	if kind != nothing {
		g.Go(func() {
			if err := m.host.InNetwork(func() error { return m.flood(ctx, kind) }); err != nil && ctx.Err() == nil {
				m.visit.fail(fmt.Errorf("the other client: %w", err))
			}
		})
	}
	return func() { cancel(); g.Wait() }
}

// flood sends packets at the rate until ctx ends: SYNs and datagrams in turn,
// or datagrams only.
func (m *mallory) flood(ctx context.Context, kind assault) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_RAW)
	if err != nil {
		return fmt.Errorf("raw socket: %w", os.NewSyscallError("socket", err))
	}
	defer unix.Close(fd)
	rng := rand.New(rand.NewPCG(m.visit.order.Seed, uint64(kind)))
	to := wikiPlace.v4.Addr()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for sent := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		due := int(time.Since(began).Seconds() * hostileRate)
		if due-sent > hostileRate/10 {
			sent = due - hostileRate/10 // we were not given the time; do not make up for all of it
		}
		for ; sent < due; sent++ {
			p := m.datagram(to, uint16(40000+sent%16), discardPort)
			if kind == newFlows {
				source, destination := uint16(1024+rng.IntN(64000)), uint16(1+rng.IntN(65000))
				if sent%2 == 0 {
					p = m.syn(to, source, destination)
				} else {
					p = m.datagram(to, source, destination)
				}
			}
			err := unix.Sendto(fd, p, 0, &unix.SockaddrInet4{Addr: to.As4()})
			if err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EAGAIN) {
				return fmt.Errorf("send: %w", err)
			}
			m.sent.Add(1)
		}
	}
}

// discardPort of the wiki hears datagrams and answers none.
const discardPort = 9

// datagram makes a packet of 40 bytes, as large as a SYN.
func (m *mallory) datagram(to netip.Addr, source, destination uint16) []byte {
	udp := binary.BigEndian.AppendUint16(nil, source)
	udp = binary.BigEndian.AppendUint16(udp, destination)
	udp = append(udp, 0, 20, 0, 0) // its length; without checksum
	return m.packet(unix.IPPROTO_UDP, to, append(udp, make([]byte, 12)...))
}

func (m *mallory) syn(to netip.Addr, source, destination uint16) []byte {
	tcp := binary.BigEndian.AppendUint16(nil, source)
	tcp = binary.BigEndian.AppendUint16(tcp, destination)
	tcp = append(tcp, 1, 2, 3, 4, 0, 0, 0, 0, 5<<4, 2, 0xff, 0xff, 0, 0, 0, 0)
	from, into := m.addr.As4(), to.As4()
	binary.BigEndian.PutUint16(tcp[16:], checksum(from[:], into[:], []byte{0, unix.IPPROTO_TCP, 0, 20}, tcp))
	return m.packet(unix.IPPROTO_TCP, to, tcp)
}

// packet adds an IPv4 header; the kernel adds its checksum.
func (m *mallory) packet(protocol byte, to netip.Addr, body []byte) []byte {
	from, into := m.addr.As4(), to.As4()
	p := []byte{0x45, 0, 0, byte(20 + len(body)), 0, 0, 0, 0, 64, protocol, 0, 0}
	return append(append(append(p, from[:]...), into[:]...), body...)
}
