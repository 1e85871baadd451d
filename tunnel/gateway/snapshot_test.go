package gateway

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/path"
	"stile/tunnel/wire"
)

// restarted is the next gateway on the same host, gap after this one has
// written down what it knows. Its clock begins somewhere else.
func (b *bench) restarted(gap time.Duration) *bench {
	b.t.Helper()
	text := b.c.AppendSnapshot(nil, b.now)
	wall := epoch.Add(b.now.Sub(boot)).Add(gap)
	next := &bench{t: b.t, now: boot, paths: &fakePaths{peers: make(map[id.Peer]path.Peer), down: make(map[id.Peer]bool)}}
	next.c = build(Config{Rand: noise(2), Wall: wall}, next.paths, next.now)
	if _, _, err := next.c.Restore(text, next.now); err != nil {
		b.t.Fatal(err)
	}
	next.do(func() { next.c.PortalUp(next.now) })
	next.message(wire.GatewayInit{IPv4: own4, IPv6: own6})
	next.lines = nil
	return next
}

// established is a gateway with a connection by name and one by address.
func established(t *testing.T) *bench {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.grant(1, cidr(2, "10.0.1.0/24"), 0)
	b.name(1, 1, "x.corp.example", proxies(1), addrA)
	p := proxies(1)[0]
	b.passes(1, tcp(c4(1), p, 5000, 443, syn), addrA)
	b.arrives(tcp(addrA, c4(1), 443, 5000, syn|ack), p)
	b.passes(1, tcp(c4(1), p, 5000, 443, ack), addrA)
	b.passes(1, tcp(c4(1), in2, 5001, 22, syn), in2)
	b.arrives(tcp(in2, c4(1), 22, 5001, syn|ack), in2)
	return b
}

func TestO3SessionsOutliveTheGateway(t *testing.T) {
	b := established(t).restarted(2 * time.Second)
	p := proxies(1)[0]
	b.lost(tcp(addrA, c4(1), 443, 5000, ack), "dropped: no peer") // nobody is authorized yet
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.arrives(tcp(addrA, c4(1), 443, 5000, ack), p)
	b.passes(1, tcp(c4(1), p, 5000, 443, ack), addrA)
	b.lost(tcp(in2, c4(1), 22, 5001, ack), "dropped: not allowed")
	b.grant(1, cidr(2, "10.0.1.0/24"), 0)
	b.arrives(tcp(in2, c4(1), 22, 5001, ack), in2)
	b.passes(1, tcp(c4(1), p, 5002, 443, syn), addrA) // the name is known, too
}

// The time between two gateways counts: what would be over is.
func TestO3TimeGoesOnMeanwhile(t *testing.T) {
	for _, test := range []struct {
		gap  time.Duration
		open bool
	}{{99 * time.Second, true}, {100 * time.Second, false}} {
		b := established(t)
		p := proxies(1)[0]
		b.passes(1, udp(c4(1), p, 6000, 53), addrA)
		b.arrives(udp(addrA, c4(1), 53, 6000), p)
		b.at(200) // of 300 seconds
		b = b.restarted(test.gap)
		b.grant(1, dns(1, "*.corp.example"), 0)
		if got := b.receive(udp(addrA, c4(1), 53, 6000)) != nil; got != test.open {
			t.Errorf("%v later it goes on: %v, want %v", test.gap, got, test.open)
		}
	}
}

// Where names may point, sessions may go on, and nowhere else: an administrator
// may have changed his mind. Other clients' sessions are not concerned.
func TestO3AllowedAddresses(t *testing.T) {
	allowed := Config{LinkLocal: []netip.Prefix{netip.MustParsePrefix("169.254.10.0/24")}}
	b := newBenchWith(t, allowed)
	far := addr("169.254.10.1")
	for n := byte(1); n <= 2; n++ {
		b.grant(n, dns(1, "*.corp.example"), 0)
		b.name(n, 1, "x.corp.example", proxies(1), [...]netip.Addr{1: far, 2: addrA}[n])
	}
	b.passes(1, udp(c4(1), proxies(1)[0], 5000, 53), far)
	b.passes(2, udp(c4(2), proxies(1)[0], 5000, 53), addrA)
	text := b.c.AppendSnapshot(nil, b.now)
	for _, test := range []struct {
		c       Config
		clients int
		err     error
	}{{allowed, 2, nil}, {Config{}, 1, ErrSnapshot}} {
		next := newBenchWith(t, test.c)
		if clients, sessions, err := next.c.Restore(text, next.now); clients != test.clients || sessions != test.clients || err != test.err {
			t.Errorf("%v allowed: %d clients, %d sessions, %v", test.c.LinkLocal, clients, sessions, err)
		}
		next.grant(2, dns(1, "*.corp.example"), 0)
		next.passes(2, udp(c4(2), proxies(1)[0], 5000, 53), addrA)
	}
}

func TestO3OnlyForTheSameAddressesAndForAWhile(t *testing.T) {
	p := proxies(1)[0]
	data := tcp(c4(1), p, 5000, 443, ack)
	for name, c := range map[string]struct {
		gap    time.Duration
		back   float64
		change func(*wire.CreateAuthorization)
		known  bool
	}{
		"in time":          {0, 119.999, nil, true},
		"too late":         {0, 120, nil, false},
		"written long ago": {121 * time.Second, 0, nil, false},
		"clock set back":   {-time.Hour, 1, nil, true},
		"another address":  {0, 1, func(m *wire.CreateAuthorization) { m.ClientIPv6 = c6(77) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := established(t).restarted(c.gap)
			b.now = boot.Add(time.Duration(c.back * float64(time.Second)))
			m := authorization(1, dns(1, "*.corp.example"))
			if c.change != nil {
				c.change(&m)
			}
			b.message(m)
			b.lines = nil
			if got := b.send(1, data) != nil; got != c.known {
				t.Errorf("the connection goes on: %v, want %v", got, c.known)
			}
		})
	}
}

func TestO3WhatCannotBeReadHarmsNothing(t *testing.T) {
	b := established(t)
	good := b.c.AppendSnapshot(nil, b.now)
	fresh := func() *Core { return build(Config{Rand: noise(2), Wall: epoch}, &fakePaths{}, boot) }
	for n := range good {
		c := fresh()
		if _, _, err := c.Restore(good[:n], boot); n != len(snapshotMagic)+8 && !errors.Is(err, ErrSnapshot) || len(c.clients) > 0 {
			t.Fatalf("the first %d bytes are taken: %v", n, err)
		}
	}
	if _, _, err := b.c.Restore(good, b.now); !errors.Is(err, ErrSnapshot) {
		t.Errorf("a gateway at work took it: %v", err)
	}
}

func FuzzRestore(f *testing.F) {
	b := newBench(f)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.name(1, 1, "x.corp.example", proxies(1), addrA)
	b.passes(1, udp(c4(1), proxies(1)[0], 5000, 53), addrA)
	f.Add(b.c.AppendSnapshot(nil, b.now))
	f.Add([]byte(snapshotMagic))
	f.Fuzz(func(t *testing.T, text []byte) {
		c := build(Config{Rand: noise(2), Wall: epoch}, &fakePaths{}, boot)
		clients, _, _ := c.Restore(text, boot)
		if clients != len(c.clients) || len(c.byAddr) != 2*clients {
			t.Fatalf("%d clients, %d are known by ID and %d by address", clients, len(c.clients), len(c.byAddr))
		}
		c.Advance(boot.Add(time.Hour))
		if len(c.clients) > 0 {
			t.Fatal("somebody is still waited for")
		}
	})
}
