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
	hostileRate = 20000 // packets a second: all machines of the lab share a few cores, so that more would only tell how fast they are
	hostileKept = 0.9

	// Turns in which it is shut out and let by, and how long each lasts. What it
	// may do at once (gateway-nat.md N49) it has done before the measurement.
	hostileTurns, steadyTurns    = 30, 10
	hostileSettle, hostileMoment = 250 * time.Millisecond, 500 * time.Millisecond

	// A turn in which programs outside of the lab used more than that many cores
	// tells what they do, not what the client does. It is taken again, so often.
	foreignMost  = 0.15
	hostileAgain = 2

	// hostileGrowth is what the gateway may grow by: 16,384 sessions of the
	// hostile client (gateway-nat.md 7.1) at 2 kB, and as much again.
	hostileGrowth = 64 // MB

	steadyPort = 5003
	steadyRate = 100e6 // bits a second that the other client wants, in all its streams
	streams    = 4
)

var malloryPlace = at("203.0.113.102/30", "2001:db8:0:102::2/64")

// runHostileClient: a client opens flows as fast as it can, and another does
// not suffer.
//
// All machines of the lab share its cores, so that the hostile client takes
// computing time from everybody merely by being busy, which in life is its own.
// What is measured is therefore what the ordinary user gets beside it, compared
// with what the same user gets beside the same client at the same work, whose
// packets come as far as the site's router and are dropped there, right before
// the gateway. And the gateway has a core of its own, as on a small machine of
// its own, which it shares with what the kernel does when it sends: all the way
// to the servers of the site and back. The difference is what these make of the
// packets. Both are measured in turns, within the same connections, and the
// median of the ratios of neighbouring turns counts: other work on this machine
// comes and goes. Turns while there is much of it do not count.
//
// The user wants 100 Mbit/s in one measurement, which tells, too, what one of
// those packets costs the gateway, and all there is in another.
func runHostileClient(s *stage) error {
	if err := s.order.ourGateway("to limit how fast a client opens flows (N49)"); err != nil {
		return err
	}
	v := &visit{stage: s}
	if err := v.begin(nat.PortRestricted, wikiByName, site4); err != nil {
		return err
	}
	var m *mallory
	var barrier *nat.Barrier
	var rss float64
	steps := []step{
		{"the gateway has a core of its own", func() error {
			own, err := s.ownCore(v.stile.gate)
			if !own {
				v.note("this machine has one only: what the ordinary user loses is in part what all programs of the lab lose")
			}
			return err
		}},
		{"another client joins, from another network", func() (err error) { m, err = v.join(); return err }},
		{"it reaches the site", func() error { return m.reaches() }},
		{"it can be shut out right before the gateway", func() (err error) {
			barrier, err = nat.NewBarrier(v.net.siteRouter.Outside, malloryPlace.addrs()...)
			return err
		}},
		{"servers for the ordinary user", func() error {
			rss = residentMB(v.stile.gate.pid)
			return errors.Join(s.serveLoad(v.net.wiki), v.serveSteady())
		}},
	}
	return s.all(append(steps,
		step{fmt.Sprintf("who wants %.0f Mbit/s keeps %.0f %% of them", steadyRate/1e6, 100*hostileKept), func() error {
			return v.suffer(m, barrier, "steady", steadyPort, steadyTurns)
		}},
		step{fmt.Sprintf("who wants all there is keeps %.0f %%", 100*hostileKept), func() error {
			return v.suffer(m, barrier, "greedy", downloads, hostileTurns)
		}},
		step{"the user's new connections work meanwhile, and the gateway's memory is bounded", func() error {
			if err := barrier.Raise(); err != nil {
				return err
			}
			stop := m.assail(s.ctx)
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

// suffer measures what the ordinary user receives from a port of the wiki while
// the hostile client is shut out, and while it is let by.
func (v *visit) suffer(m *mallory, barrier *nat.Barrier, name string, port uint16, turns int) error {
	addrs, err := v.proxies(wikiName, "A")
	if err != nil {
		return err
	}
	bytes, hangUp, err := v.listen(netip.AddrPortFrom(addrs[0], port))
	if err != nil {
		return err
	}
	defer hangUp()
	stop := m.assail(v.ctx)
	defer stop()
	if err := pause(v.ctx, loadWarmUp); err != nil {
		return err
	}
	var ratios, out, by []float64
	var spent, took [2]time.Duration
	sent, began, machine, ours := m.sent.Load(), time.Now(), cpuOfMachine(), v.used()
	disturbed := 0
	for len(out) < turns {
		t, err := v.takeTurn(barrier, len(out), bytes)
		if err != nil {
			return err
		}
		if t.foreign > foreignMost {
			if disturbed++; disturbed > hostileAgain*turns {
				return fmt.Errorf("other programs use this machine: only %d of %d turns were quiet enough to tell anything; run it when nothing else does", len(out), len(out)+disturbed)
			}
			continue
		}
		out, by = append(out, t.rate[0]), append(by, t.rate[1])
		if t.rate[0] > 0 {
			ratios = append(ratios, t.rate[1]/t.rate[0])
		}
		for let := range t.rate {
			spent[let], took[let] = spent[let]+t.spent[let], took[let]+t.took[let]
		}
	}
	pps := float64(m.sent.Load()-sent) / time.Since(began).Seconds()
	if pps < hostileRate/2 || len(ratios) == 0 {
		return fmt.Errorf("the other client sends %.0f packets a second, the user receives %.0f Mbit/s: nothing is proven", pps, median(by))
	}
	kept, cores := median(ratios), [2]float64{spent[0].Seconds() / took[0].Seconds(), spent[1].Seconds() / took[1].Seconds()}
	for key, value := range map[string]float64{
		"kept": kept, "mbit_shut_out": median(out), "mbit_let_by": median(by), "pps": pps,
		"gateway_cores_shut_out": cores[0], "gateway_cores_let_by": cores[1],
	} {
		v.metric(name+"_"+key, value)
	}
	v.note("%.0f Mbit/s while it is shut out, %.0f while it is let by: %.2f of it; %.0f packets a second; the gateway uses %.2f and %.2f cores",
		median(out), median(by), kept, pps, cores[0], cores[1])
	if name == "steady" { // the same work but for them
		v.metric("gateway_us_per_packet", (cores[1]-cores[0])/pps*1e6)
		v.note("each of its packets costs the gateway %.1f µs", (cores[1]-cores[0])/pps*1e6)
	}
	if disturbed > 0 {
		v.note("%d turns were taken again because other programs used the machine", disturbed)
	}
	others := (cpuOfMachine() - machine - v.used() + ours).Seconds() / time.Since(began).Seconds()
	v.metric(name+"_cores_of_others", others)
	if kept < hostileKept {
		return fmt.Errorf("the user keeps %.2f; other programs and the kernel used %.1f cores meanwhile", kept, others)
	}
	return nil
}

// A turn is a moment in which the hostile client is shut out (0) and one in which
// it is let by (1).
type turn struct {
	rate        [2]float64 // Mbit/s that the user receives
	spent, took [2]time.Duration
	foreign     float64 // cores that programs outside of the lab used
}

// takeTurn takes the n-th one. Neither moment is always the first.
func (v *visit) takeTurn(barrier *nat.Barrier, n int, received *atomic.Int64) (t turn, err error) {
	began, foreign, gate := time.Now(), v.foreign(), []int{v.stile.gate.pid}
	for i := range t.rate {
		let, move := 0, barrier.Lower
		if (i+n)%2 == 1 {
			let, move = 1, barrier.Raise
		}
		if err := errors.Join(move(), pause(v.ctx, hostileSettle)); err != nil {
			return t, err
		}
		from, before, cpu := time.Now(), received.Load(), cpuOf(gate)
		if err := pause(v.ctx, hostileMoment); err != nil {
			return t, err
		}
		t.took[let], t.spent[let] = time.Since(from), cpuOf(gate)-cpu
		t.rate[let] = float64(received.Load()-before) * 8 / t.took[let].Seconds() / 1e6
	}
	t.foreign = (v.foreign() - foreign).Seconds() / time.Since(began).Seconds()
	return t, nil
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

// listen receives in a few connections until it is told to hang up.
func (v *visit) listen(from netip.AddrPort) (bytes *atomic.Int64, hangUp func(), err error) {
	ctx, cancel := context.WithCancel(v.ctx)
	var g sync.WaitGroup
	hangUp = func() { cancel(); g.Wait() }
	bytes = new(atomic.Int64)
	for range streams {
		dial, stop := context.WithTimeout(ctx, 5*time.Second)
		c, err := v.net.laptop.Dial(dial, "tcp", from.String())
		stop()
		if err != nil {
			hangUp()
			return nil, nil, err
		}
		g.Go(func() { move(ctx, c, false, bytes) })
	}
	return bytes, hangUp, nil
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
func (m *mallory) assail(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var g sync.WaitGroup
	g.Go(func() {
		if err := m.host.InNetwork(func() error { return m.flood(ctx) }); err != nil && ctx.Err() == nil {
			m.visit.fail(fmt.Errorf("the other client: %w", err))
		}
	})
	return func() { cancel(); g.Wait() }
}

// flood sends SYNs and datagrams in turn, each from another port or to another,
// at the rate until ctx ends.
func (m *mallory) flood(ctx context.Context) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_RAW)
	if err != nil {
		return fmt.Errorf("raw socket: %w", os.NewSyscallError("socket", err))
	}
	defer unix.Close(fd)
	rng := rand.New(rand.NewPCG(m.visit.order.Seed, 1))
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
			make := m.datagram
			if sent%2 == 0 {
				make = m.syn
			}
			p := make(to, uint16(1024+rng.IntN(64000)), uint16(1+rng.IntN(65000)))
			err := unix.Sendto(fd, p, 0, &unix.SockaddrInet4{Addr: to.As4()})
			if err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EAGAIN) {
				return fmt.Errorf("send: %w", err)
			}
			m.sent.Add(1)
		}
	}
}

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
