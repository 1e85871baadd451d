package engine

import (
	"bytes"
	"net/netip"
	"testing"
	"testing/synctest"

	"stile/platform/sock"
	"stile/tunnel/packet"
	"stile/tunnel/packet/cut"
)

// Fragments are carried like other packets, a mark of congestion on the way
// included; what becomes of them is for the roles to decide.
func TestFragmentsAreCarried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _, _ := pair(t)
		for _, ends := range [][2]string{{"100.64.0.1:5000", "10.0.0.1:7"}, {"[fd00:2021:1111::1]:5000", "[2001:db8::1]:7"}} {
			whole := packet.AppendUDP(nil, netip.MustParseAddrPort(ends[0]), netip.MustParseAddrPort(ends[1]), bytes.Repeat([]byte("fragment"), 500))
			whole[1] |= 2 // IPv4: it knows of congestion marks
			if whole[0]>>4 == 6 {
				whole[1] = 2 << 4
			} else {
				cut.WithChecksums(whole)
			}
			fragments := cut.Apart(whole, packet.MaxSize, 9)
			a.device.in <- fragments
			for i, want := range fragments {
				if got := <-b.device.out; !bytes.Equal(got, want) {
					t.Errorf("%s: fragment %d changed", ends[0], i)
				}
			}
			a.end.ether.intercept(func(m *sock.Message) bool { m.ECN = ce; return true })
			a.device.in <- fragments
			var marked [][]byte
			for range fragments {
				got := <-b.device.out
				p, err := packet.ParseFragment(got)
				if err != nil || p.ECN() != ce || !p.ValidChecksums() {
					t.Fatalf("%s: marked on the way, arrived as % x: %v", ends[0], got[:20], err)
				}
				marked = append(marked, got)
			}
			if got, _, ok := cut.Together(marked...); !ok || !cut.Sound(got) {
				t.Errorf("%s: the fragments do not fit together", ends[0])
			}
			a.end.ether.intercept(nil)
		}
		if n := a.counter("engine malformed"); n != 0 {
			t.Errorf("%d malformed", n)
		}
		a.finish()
		b.finish()
	})
}
