package engine

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"stile/platform/clock"
	"stile/platform/sock"
	"stile/tunnel/core"
	"stile/tunnel/flight"
	"stile/tunnel/packet"
	"stile/tunnel/udp"
	"stile/tunnel/wg"
)

// Two engines with the system's sockets and clock; only the devices are made
// up. Run with the race detector.
func TestRealSockets(t *testing.T) {
	a, b := realPair(t)
	devices := [2]*device{a.device.(*device), b.device.(*device)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	for _, e := range []*Engine{a, b} {
		go func() { ended <- e.Run(ctx) }()
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		from, to := devices[0], devices[1]
		if round%3 == 2 {
			from, to = to, from
		}
		var batch [][]byte
		for i := range 1 + rng.IntN(128) {
			batch = append(batch, udpPacket(round, i, []int{1252, 1252, 1252, 40, rng.IntN(1252)}[rng.IntN(5)]))
		}
		from.in <- batch
		for i, want := range batch {
			select {
			case got := <-to.out:
				if !bytes.Equal(got, want) {
					t.Fatalf("round %d: packet %d of %d differs", round, i, len(batch))
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("round %d: packet %d of %d is missing", round, i, len(batch))
			}
		}
	}
	cancel()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// The way from a batch of packets to the system call and back makes no garbage.
func TestBatchesDoNotAllocate(t *testing.T) {
	a, b := realPair(t)
	a.c.Flight, b.c.Flight = flight.New(clock.Now), flight.New(clock.Now)
	l := newLane(t, a, b)
	l.fill()
	send, receive := l.engineOut, l.engineIn
	send()
	receive()
	if n := testing.AllocsPerRun(200, func() { l.fill(); send(); receive() }); n != 0 {
		t.Errorf("%v allocations for a batch there and back", n)
	}
}

// BenchmarkOutbound carries batches of full packets from memory to a socket on
// loopback: the engine, and beside it a bare loop with the same copy, the same
// cipher and the same system call. The other end is read, but not opened.
func BenchmarkOutbound(b *testing.B) {
	x, y := realPair(b)
	l := newLane(b, x, y)
	for _, c := range []struct {
		name string
		send func()
	}{{"bare", l.bareOut}, {"engine", l.engineOut}} {
		b.Run(c.name, func(b *testing.B) {
			l.bench(b, func() { l.fill(); c.send(); l.drain() })
		})
	}
}

// BenchmarkInbound carries them from the socket to a device that ignores them.
// Sealing and sending is part of both numbers.
func BenchmarkInbound(b *testing.B) {
	x, y := realPair(b)
	l := newLane(b, x, y)
	for _, c := range []struct {
		name    string
		receive func()
	}{{"bare", l.bareIn}, {"engine", l.engineIn}} {
		b.Run(c.name, func(b *testing.B) {
			l.bench(b, func() { l.fill(); l.bareOut(); c.receive() })
		})
	}
}

// laneSize is how many full packets one run of datagrams holds.
const laneSize = sock.MaxRunBytes / (packet.MaxSize + wg.Overhead)

// A lane is one goroutine's batch from engine a to engine b, driven by hand.
type lane struct {
	t        testing.TB
	a, b     *carrier
	keys     [2]*wg.Keys // of a, of b
	template []byte
	slots    [][]byte
	sizes    []int
	packets  []packet.Packet
	routes   []core.Route

	sockets  [2]*udp.Sockets
	remote   netip.AddrPort
	sender   *sock.Sender
	receiver *sock.Receiver
	run      []sock.Run
	batch    []arrival
}

func newLane(t testing.TB, a, b *Engine) *lane {
	slots, sizes := makeSlots(laneSize)
	l := &lane{
		t: t, a: a.newCarrier(), b: b.newCarrier(), template: udpPacket(0, 0, packet.MaxSize-28), slots: slots, sizes: sizes,
		packets: make([]packet.Packet, laneSize), routes: make([]core.Route, laneSize),
		sockets: [2]*udp.Sockets{a.sockets.(*udp.Sockets), b.sockets.(*udp.Sockets)},
		remote:  a.role.(*peer).way.Remote, sender: sock.NewSender(), receiver: sock.NewReceiver(receiveMessages),
		run: []sock.Run{{}}, batch: make([]arrival, 0, receiveBatch),
	}
	a.device, b.device = sink{}, sink{}
	pa, pb := a.role.(*peer), b.role.(*peer)
	now := clock.Now()
	pa.session.Initiate(now)
	for range 3 { // initiation, response, keepalive
		for _, m := range pa.session.Drain(nil) {
			meet(pb, m, pb.way.Remote, now)
		}
		for _, m := range pb.session.Drain(nil) {
			meet(pa, m, pa.way.Remote, now)
		}
	}
	if l.keys = [2]*wg.Keys{pa.session.Send(), pb.session.Send()}; l.keys[0] == nil || l.keys[1] == nil {
		t.Fatal("no session")
	}
	return l
}

// meet gives a WireGuard message to a peer.
func meet(p *peer, m []byte, from netip.AddrPort, now time.Time) {
	if s := p.datagram(core.Datagram{Remote: from, Payload: m}, now); s.Keys != nil {
		if plain, counter, ok := s.Keys.Open(s.Message); ok {
			p.inbound(s.Keys, counter, plain, now)
		}
	}
}

// fill puts packets into the slots, as a read of the TUN device does.
func (l *lane) fill() {
	for i, s := range l.slots {
		l.sizes[i] = copy(s[core.Headroom:], l.template)
	}
}

func (l *lane) engineOut() { l.a.outbound(l.slots, l.sizes, l.packets, l.routes) }

func (l *lane) bareOut() {
	r := &l.run[0]
	r.Remote, r.Datagrams = l.remote, r.Datagrams[:0]
	for i, s := range l.slots {
		r.Datagrams = append(r.Datagrams, l.keys[0].Seal(s[channelHeader:], l.sizes[i]))
	}
	if lost, err := l.sockets[0].Send(0, l.sender, l.run); lost != 0 {
		l.t.Fatal(err)
	}
}

// drain reads a batch and forgets it.
func (l *lane) drain() { l.read(func(sock.Message, uint16) {}) }

func (l *lane) read(f func(sock.Message, uint16)) {
	for n := 0; n < laneSize; {
		messages, port, err := l.sockets[1].Receive(0, l.receiver)
		if err != nil {
			l.t.Fatal(err)
		}
		for _, m := range messages {
			n += (len(m.Payload) + m.Segment - 1) / m.Segment
			f(m, port)
		}
	}
}

func (l *lane) bareIn() {
	l.read(func(m sock.Message, _ uint16) {
		for rest := m.Payload; len(rest) > 0; {
			n := min(m.Segment, len(rest))
			if _, _, ok := l.keys[1].Open(rest[:n]); !ok {
				l.t.Fatal("forged")
			}
			rest = rest[n:]
		}
	})
}

func (l *lane) engineIn() {
	for n := 0; n < laneSize; {
		messages, port, err := l.sockets[1].Receive(0, l.receiver)
		if err != nil {
			l.t.Fatal(err)
		}
		for _, m := range messages {
			n += (len(m.Payload) + m.Segment - 1) / m.Segment
		}
		l.batch = l.b.receive(messages, port, l.batch)
	}
}

// bench times each batch on its own and tells the tenth part of the fastest:
// what it costs while nobody else wants the processor.
func (l *lane) bench(b *testing.B, batch func()) {
	b.ReportAllocs()
	b.SetBytes(laneSize * packet.MaxSize)
	took := make([]time.Duration, 0, 1<<20)
	for b.Loop() {
		begin := time.Now()
		batch()
		if len(took) < cap(took) {
			took = append(took, time.Since(begin))
		}
	}
	slices.Sort(took)
	best := took[len(took)/10].Seconds()
	b.ReportMetric(best*1e9/laneSize, "ns/packet")
	b.ReportMetric(laneSize/best, "packets/s")
}

// A sink is a device that ignores what is written.
type sink struct{ Device }

func (sink) Write(packets [][]byte) (int, error) { return 0, nil }

// realPair makes two engines on loopback that know each other, not running.
func realPair(t testing.TB) (a, b *Engine) {
	var sockets [2]*udp.Sockets
	var addrs [2]netip.AddrPort
	for i := range sockets {
		s, err := udp.Open(0, sock.BufferSizes{})
		if errors.Is(err, sock.ErrMark) {
			t.Skip("SKIPPED, NEEDS ROOT: ", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		sockets[i], addrs[i] = s, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), s.Describe()[0].Port)
	}
	pa, pb := newPeers(t, clock.Now(), addrs[0], addrs[1])
	engines := [2]*Engine{}
	for i, p := range []*peer{pa, pb} {
		d := newDevice()
		e := New(Config{Role: p, TUN: func() (Device, error) { return d, nil }, Sockets: func() (Sockets, error) { return sockets[i], nil }, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
		e.device, e.sockets, e.ctx = d, sockets[i], t.Context()
		engines[i] = e
	}
	return engines[0], engines[1]
}
