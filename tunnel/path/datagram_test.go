package path_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"stile/tunnel/core"
	"stile/tunnel/path"
	"stile/tunnel/turn"
)

func addr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func TestDemultiplexing(t *testing.T) {
	w := connected(t)
	// A channel of the gateway, so that the relay can carry something to it.
	relay := netip.AddrPortFrom(w.relay.Host.V4, 3478)
	msg := func() []byte { return w.sealed(t, 10).Payload }
	wrapped := func(channel uint16) []byte { return turn.AppendChannelData(nil, channel, msg()) }
	anywhere := addr("198.51.100.200:1")
	garbled := msg()
	garbled[5]++ // the receiver index
	for _, c := range []struct {
		name   string
		from   netip.AddrPort
		msg    []byte
		sealed bool
	}{
		{"from the nominated address", w.sealed(t, 1).Remote, msg(), true},
		{"from anywhere", anywhere, msg(), true},
		{"from port 3478 of no relay", addr("198.51.100.200:3478"), msg(), true},
		{"unknown index", anywhere, garbled, false},
		{"over a channel", relay, wrapped(turn.MinChannel), true},
		{"over an unbound channel", relay, wrapped(turn.MaxChannel), false},
		{"over a channel, not from the relay", anywhere, wrapped(turn.MinChannel), false},
		{"over a channel, from port 3478 of no relay", addr("198.51.100.200:3478"), wrapped(turn.MinChannel), false},
		{"padded ChannelData", relay, append(wrapped(turn.MinChannel), 0, 0), false},
		{"cut ChannelData", relay, wrapped(turn.MinChannel)[:40], false},
		{"IPv4 in IPv6", netip.AddrPortFrom(netip.AddrFrom16(relay.Addr().As16()), relay.Port()), wrapped(turn.MinChannel), true},
		{"nothing", relay, nil, false},
		{"one byte", relay, []byte{0x40}, false},
	} {
		got := w.gateway.Path.Datagram(core.Datagram{Local: addr("192.0.2.1:52625"), Remote: c.from, Payload: c.msg}, w.Now())
		if (got.Keys != nil) != c.sealed {
			t.Errorf("%s: sealed %v, want %v", c.name, got.Keys != nil, c.sealed)
		}
		if got.Keys == nil {
			continue
		}
		if plain, _, ok := got.Keys.Open(got.Message); !ok || len(plain) != 10 {
			t.Errorf("%s: does not open", c.name)
		}
	}
}

// Data of a relay that was given up is dropped, as is its STUN.
func TestFormerRelay(t *testing.T) {
	w := connected(t)
	relay := netip.AddrPortFrom(w.relay.Host.V4, 3478)
	payload := turn.AppendChannelData(nil, turn.MinChannel, w.sealed(t, 10).Payload)
	d := core.Datagram{Local: addr("192.0.2.1:52625"), Remote: relay, Payload: payload}
	if w.gateway.Path.Datagram(d, w.Now()).Keys == nil {
		t.Fatal("not carried to begin with")
	}
	w.portal.SetRelays()
	w.Run(100 * ms)
	if w.gateway.Path.Datagram(d, w.Now()).Keys != nil {
		t.Error("taken from a relay that is gone")
	}
}

func TestReplaysAndStrangers(t *testing.T) {
	w := connected(t)
	d := w.sealed(t, 10)
	s := w.gateway.Path.Datagram(d, w.Now())
	_, counter, ok := s.Keys.Open(s.Message)
	if !ok {
		t.Fatal("does not open")
	}
	if from, ok := w.gateway.Path.Received(s.Keys, counter, 10, w.Now()); !ok || from != w.client.ID {
		t.Errorf("from %v, %v", from, ok)
	}
	if _, ok := w.gateway.Path.Received(s.Keys, counter, 10, w.Now()); ok {
		t.Error("taken twice")
	}
	w.gateway.Path.Close(w.client.ID, false, w.Now())
	if _, ok := w.gateway.Path.Received(s.Keys, counter+1, 10, w.Now()); ok {
		t.Error("taken from a closed connection")
	}
}

// Nothing is allocated for a data packet.
func TestFastPathDoesNotAllocate(t *testing.T) {
	w := connected(t)
	direct, now := w.sealed(t, 1000), w.Now()
	relayed := core.Datagram{
		Remote:  netip.AddrPortFrom(w.relay.Host.V4, 3478),
		Payload: turn.AppendChannelData(nil, turn.MinChannel, direct.Payload),
	}
	client, gateway := w.client.Path, w.gateway.Path
	var counter uint64 = 1000
	if n := testing.AllocsPerRun(1000, func() {
		if client.Route(w.gateway.ID, 1000, now).Keys == nil {
			t.Fatal("no route")
		}
		s := gateway.Datagram(direct, now)
		if s.Keys == nil || gateway.Datagram(relayed, now).Keys == nil {
			t.Fatal("not recognised")
		}
		counter++
		if _, ok := gateway.Received(s.Keys, counter, 1000, now); !ok {
			t.Fatal("dropped")
		}
	}); n != 0 {
		t.Errorf("%v allocations for three packets", n)
	}
}

// FuzzDatagram throws anything at a connected node, as a relay, as the peer
// and as a stranger, in good and in random order.
func FuzzDatagram(f *testing.F) {
	w := connected(f)
	f.Add([]byte(w.sealed(f, 3).Payload), uint8(0))
	f.Add(turn.AppendChannelData(nil, turn.MinChannel, w.sealed(f, 3).Payload), uint8(1))
	f.Add([]byte("\x00\x01\x00\x00\x21\x12\xa4\x42............"), uint8(2))
	f.Add(append([]byte{1}, make([]byte, 147)...), uint8(0))
	f.Add(append([]byte{2}, make([]byte, 91)...), uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, from uint8) {
		g, _ := w.gateway.Connection(w.client.ID)
		d := core.Datagram{Local: g.Local, Remote: g.Remote, Payload: b}
		switch from % 3 {
		case 1:
			d.Remote = netip.AddrPortFrom(w.relay.Host.V4, 3478)
		case 2:
			d.Remote = addr("198.51.100.200:1")
		}
		s := w.gateway.Path.Datagram(d, w.Now())
		if s.Keys != nil {
			s.Keys.Open(s.Message)
		}
		var o path.Output
		w.gateway.Path.Drain(&o)
		if len(o.Datagrams) > 10 {
			t.Fatalf("%d datagrams in answer to one", len(o.Datagrams))
		}
	})
}

// A gateway with many clients: what the packets of one cost.
func crowd(b *testing.B, clients int) (w *world, n *path.Node) {
	b.Helper()
	w = connected(b)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range clients {
		_, peer := w.portal.Peers(w.client, w.gateway)
		peer.ID = [16]byte{15: byte(i), 14: byte(i >> 8), 13: 1}
		for j := range peer.Key {
			peer.Key[j] = byte(rng.Uint32())
		}
		peer.Remote.Username += string(rune('a' + i%26))
		if err := w.gateway.Path.Upsert(peer, w.Now()); err != nil {
			b.Fatal(err)
		}
	}
	return w, w.gateway.Path
}

func BenchmarkRoute(b *testing.B) {
	w, n := crowd(b, 1000)
	now := w.Now()
	for b.Loop() {
		n.Route(w.client.ID, 1280, now)
	}
}

func BenchmarkDatagram(b *testing.B) {
	w, n := crowd(b, 1000)
	d, now := w.sealed(b, 1280), w.Now()
	for b.Loop() {
		n.Datagram(d, now)
	}
}

func BenchmarkRelayedDatagram(b *testing.B) {
	w, n := crowd(b, 1000)
	d, now := w.sealed(b, 1280), w.Now()
	d.Remote, d.Payload = netip.AddrPortFrom(w.relay.Host.V4, 3478), turn.AppendChannelData(nil, turn.MinChannel, d.Payload)
	for b.Loop() {
		n.Datagram(d, now)
	}
}

func BenchmarkReceived(b *testing.B) {
	w, n := crowd(b, 1000)
	keys, now := n.Datagram(w.sealed(b, 1280), w.Now()).Keys, w.Now()
	counter := uint64(1000)
	for b.Loop() {
		counter++
		n.Received(keys, counter, 1280, now)
	}
}
