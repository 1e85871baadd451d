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

// moveOver is how long after a program's first attempt new connections may fail
// that one of two servers no longer takes: two SYNs and three seconds of silence
// are the evidence (gateway-nat.md N6).
const moveOver = 3500 * time.Millisecond

// A death is a way in which one of two servers stops, of a name of its own.
type death struct {
	name, what string
	network    string
	dead, live netip.Addr
	stop       func() error
	keeps      bool // the connections that it has go on
}

// runServerDies: one of a name's two servers stops, and programs that try again
// reach the other, though DNS still tells of both and nobody asks it.
func runServerDies(s *stage) error {
	if err := s.order.ourGateway("to leave a server that fails (gateway-nat.md N6)"); err != nil {
		return err
	}
	v := &visit{stage: s}
	if err := v.begin(nat.PortRestricted, resource{Name: "Twins", Address: "*.twin.corp.example"}); err != nil {
		return err
	}
	var deaths []*death
	steps := []step{{"each name has two servers", func() (err error) { deaths, err = v.twins(); return err }}}
	for i := range 6 {
		var open crowd
		steps = append(steps,
			step{"conversations with both servers are open", func() (err error) { open, err = v.withBoth(deaths[i]); return err }},
			step{"one server stops: new connections reach the other in time", func() error { return v.outlive(deaths[i], open) }})
	}
	return s.all(append(steps, step{"all programs end when they are told to", v.end})...)
}

// twins gives the wiki pairs of addresses, and each pair a name.
func (v *visit) twins() (deaths []*death, err error) {
	holes := []netip.Addr{}
	for i, kind := range []struct{ name, what string }{
		{"silent", "a server that answers nothing any more"},
		{"refused", "a server that takes no connection any more"},
		{"gone", "a server that has left the network"},
	} {
		for j, network := range []string{"tcp4", "tcp6"} {
			d := &death{name: kind.name + network[3:] + ".twin.corp.example", what: kind.what, network: network}
			n, bits := 101+4*i+2*j, 24
			d.dead, d.live = netip.AddrFrom4([4]byte{10, 9, 0, byte(n)}), netip.AddrFrom4([4]byte{10, 9, 0, byte(n + 1)})
			if network == "tcp6" {
				bits = 64
				d.dead, d.live = netip.MustParseAddr(fmt.Sprintf("fd00:10:9::%d", n)), netip.MustParseAddr(fmt.Sprintf("fd00:10:9::%d", n+1))
			}
			if err := v.net.wikiEnd.Add(netip.PrefixFrom(d.dead, bits), netip.PrefixFrom(d.live, bits)); err != nil {
				return nil, err
			}
			listener, err := v.tellAt(v.net.wiki, d.dead)
			if err != nil {
				return nil, err
			}
			if _, err := v.tellAt(v.net.wiki, d.live); err != nil {
				return nil, err
			}
			switch kind.name {
			case "silent":
				d.stop = func() error { holes = append(holes, d.dead); return nat.Hole(v.net.wiki, holes...) }
			case "refused":
				d.stop, d.keeps = listener.Close, true
			case "gone":
				d.stop = func() error { return v.net.wikiEnd.Remove(d.dead) }
			}
			v.net.private.Set(d.name, serve.Fixed(d.dead.String(), d.live.String()))
			deaths = append(deaths, d)
		}
	}
	return deaths, nil
}

// tellAt starts a telling server, TCP and UDP, at one address. Closing its
// listener leaves the connections that it has.
func (v *visit) tellAt(h *host.Host, a netip.Addr) (net.Listener, error) {
	l, err := h.Listen("tcp", netip.AddrPortFrom(a, tellPort).String())
	if err != nil {
		return nil, err
	}
	p, err := h.ListenPacket("udp", netip.AddrPortFrom(a, tellPort).String())
	if err != nil {
		return nil, err
	}
	v.spawn("telling TCP server at "+a.String(), func(ctx context.Context) error { return serve.Tell(ctx, l) })
	v.spawn("telling UDP server at "+a.String(), func(ctx context.Context) error { return serve.TellPackets(ctx, p) })
	return l, nil
}

// withBoth opens conversations by all addresses that stand for the name.
func (v *visit) withBoth(d *death) (crowd, error) {
	kind := map[string]string{"tcp4": "A", "tcp6": "AAAA"}[d.network]
	addrs, err := v.proxies(d.name, kind)
	if err != nil {
		return nil, err
	}
	var servers []netip.AddrPort
	for _, a := range addrs {
		servers = append(servers, netip.AddrPortFrom(a, tellPort))
	}
	var open crowd
	for _, network := range []string{"tcp", "udp"} {
		c, err := v.gather(v.net.laptop, network, 16, servers...)
		if err != nil {
			return nil, err
		}
		open = append(open, c...)
	}
	if m := open.servers(); m[d.dead.String()] == 0 || m[d.live.String()] == 0 {
		return nil, fmt.Errorf("they are not with both servers: %v", m)
	}
	return open, nil
}

// outlive stops the one server and holds new connections, by an address that
// led to it, against the limit.
func (v *visit) outlive(d *death, open crowd) error {
	var away, stay crowd
	var by netip.AddrPort
	for _, t := range open {
		if t.server != d.dead.String() || d.keeps {
			stay = append(stay, t)
		} else {
			away = append(away, t)
		}
		if t.server == d.dead.String() {
			by = netip.MustParseAddrPort(t.conn.RemoteAddr().String())
		}
	}
	ctx, cancel := context.WithCancel(v.ctx)
	var g sync.WaitGroup
	defer g.Wait()
	defer cancel()
	g.Go(func() { open.keepUp(ctx, 200*time.Millisecond) })
	if err := pause(ctx, 400*time.Millisecond); err != nil {
		return err
	}
	if err := d.stop(); err != nil {
		return err
	}
	stay.mark()
	took, server, attempts, err := v.insist(by)
	key := d.name[:len(d.name)-len(".twin.corp.example")]
	v.metric(key+"_ms", ms(took))
	v.metric(key+"_attempts", float64(attempts))
	v.note("%s: %s, at attempt %d", d.what+" ("+d.network+")", milliseconds(took), attempts)
	if err != nil {
		return err
	}
	if server != d.live.String() {
		return fmt.Errorf("%s answers; want %v", server, d.live)
	}
	if took > moveOver {
		return fmt.Errorf("%s: a new connection is there %s after the first attempt; the limit is %v", d.what, milliseconds(took), moveOver)
	}
	lost, longest, err := stay.fate()
	v.metric(key+"_cut", float64(lost))
	v.metric(key+"_silence_ms", ms(longest))
	if err == nil && longest > 200*time.Millisecond+unnoticed {
		err = fmt.Errorf("a conversation with the other server was silent for %s", milliseconds(longest))
	}
	for _, t := range away {
		if _, _, bad := t.state(); bad != nil && t.stream {
			err = errors.Join(err, fmt.Errorf("a conversation with the server that stopped was not left to wait: %w", bad))
		}
	}
	return err
}

// insist tries a new connection every quarter of a second, whatever becomes of
// those before, until one is there. It returns how long after the first attempt
// that was, who answers and which attempt it was.
func (v *visit) insist(by netip.AddrPort) (took time.Duration, server string, attempts int, err error) {
	ctx, cancel := context.WithTimeout(v.ctx, 3*moveOver)
	var g sync.WaitGroup
	defer g.Wait()
	defer cancel()
	type outcome struct {
		at      time.Time
		server  string
		attempt int
	}
	won := make(chan outcome, 64)
	began := time.Now()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		attempts++
		number := attempts
		g.Go(func() {
			if t, err := talk(ctx, v.net.laptop, "tcp", by); err == nil {
				won <- outcome{time.Now(), t.server, number}
				t.conn.Close()
			}
		})
		select {
		case o := <-won:
			return o.at.Sub(began), o.server, o.attempt, nil
		case <-ctx.Done():
			return time.Since(began), "", attempts, fmt.Errorf("none of %d new connections to %v in %v", attempts, by, 3*moveOver)
		case <-tick.C:
		}
	}
}
