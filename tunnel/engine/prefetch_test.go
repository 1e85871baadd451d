package engine

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/packet"
	"stile/tunnel/wg"
)

// A prefetching role writes down what it hears.
type prefetching struct {
	*peer
	heard []string
}

func (f *prefetching) PrefetchOut(p packet.Packet) { f.hear("out", p.Bytes()) }
func (f *prefetching) PrefetchIn(plain []byte)     { f.hear("in", packet.Trim(plain)) }
func (f *prefetching) Prefetch()                   { f.heard = append(f.heard, "all") }

func (f *prefetching) hear(way string, b []byte) {
	f.heard = append(f.heard, fmt.Sprintf("see %d %s", len(b), way))
}

func (f *prefetching) Outbound(p packet.Packet, now time.Time) core.Route {
	f.heard = append(f.heard, fmt.Sprintf("decide %d out", len(p.Bytes())))
	return f.peer.Outbound(p, now)
}

func (f *prefetching) Inbound(k *wg.Keys, counter uint64, plain []byte, now time.Time) []byte {
	f.heard = append(f.heard, fmt.Sprintf("decide %d in", len(packet.Trim(plain))))
	return f.peer.Inbound(k, counter, plain, now)
}

// A role that likes to is shown a batch before it decides about the first packet
// of it; single packets it is not shown.
func TestPrefetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pa, pb := newPeers(t, time.Now(), netip.MustParseAddrPort(here), netip.MustParseAddrPort(there))
		fa, fb := &prefetching{peer: pa}, &prefetching{peer: pb}
		e := new(ether)
		a, b := start(t, e, here, Config{Role: fa}), start(t, e, there, Config{Role: fb})
		a.device.in <- [][]byte{udpPacket(0, 0, 0)} // waits for the handshake
		<-b.device.out
		synctest.Wait()
		fa.heard, fb.heard = nil, nil
		a.device.in <- [][]byte{udpPacket(0, 1, 1), {1, 2, 3}, udpPacket(0, 2, 1)}
		<-b.device.out
		<-b.device.out
		a.device.in <- [][]byte{udpPacket(0, 3, 2)}
		<-b.device.out
		synctest.Wait()
		for _, test := range []struct {
			way string
			got []string
		}{{"out", fa.heard}, {"in", fb.heard}} {
			want := []string{"see 29 " + test.way, "see 29 " + test.way, "all", "decide 29 " + test.way, "decide 29 " + test.way, "decide 30 " + test.way}
			if !slices.Equal(test.got, want) {
				t.Errorf("%s: heard %q, want %q", test.way, test.got, want)
			}
		}
		a.finish()
		b.finish()
	})
}
