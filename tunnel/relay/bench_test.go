package relay

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun/v3"
)

// crowd is a relay with n clients of ten channels each.
func crowd(t testing.TB, n int) (w *world, c *client, relayed netip.AddrPort) {
	w = newWorld(t, Config{PublicV4: publicV4, PublicV6: publicV6})
	for i := range n {
		w.now = w.now.Add(20 * time.Millisecond)
		c = w.client(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}), 52625), fmt.Sprint(i))
		relayed = c.allocate(seconds(3600))[0]
		for j := range 10 {
			if c.bind(0x4000+uint16(j), netip.AddrPortFrom(peerA.Addr(), uint16(1+j))) != 0 {
				t.Fatal("not bound")
			}
		}
	}
	return w, c, relayed
}

// relay sends one packet each way.
func (w *world) relay(c *client, relayed netip.AddrPort, out, in []byte) bool {
	peer := netip.AddrPortFrom(peerA.Addr(), 5)
	f, ok := w.server.Datagram(Datagram{netip.AddrPortFrom(publicV4, DefaultPort), c.addr, out}, w.now)
	if !ok || f.Remote != peer {
		return false
	}
	f, ok = w.server.Datagram(Datagram{relayed, peer, in}, w.now)
	return ok && f.Channel == 0x4004
}

func BenchmarkRelayBothWays(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprint(n, " clients"), func(b *testing.B) {
			w, c, relayed := crowd(b, n)
			in := make([]byte, 1312)
			out := append([]byte{0x40, 4, 5, 0x20}, in...)
			b.ReportAllocs()
			for b.Loop() {
				if !w.relay(c, relayed, out, in) {
					b.Fatal("not relayed")
				}
			}
		})
	}
}

func BenchmarkRefresh(b *testing.B) {
	w, c, _ := crowd(b, 1)
	b.ReportAllocs()
	for b.Loop() {
		m := c.exchange(c.sign(c.request(stun.MethodRefresh)).Raw)
		if code := codeOf(m); code == 438 {
			c.adopt(m)
		} else if code != 0 {
			b.Fatal(code)
		}
		w.out = nil
	}
}

func TestRelayingDoesNotAllocate(t *testing.T) {
	w, c, relayed := crowd(t, 3)
	in := make([]byte, 1312)
	out := append([]byte{0x40, 4, 5, 0x20}, in...)
	if n := testing.AllocsPerRun(100, func() {
		if !w.relay(c, relayed, out, in) {
			t.Fatal("not relayed")
		}
	}); n != 0 {
		t.Errorf("%v allocations for a packet each way", n)
	}
}
