package path

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/turn"
	"stile/tunnel/wire"
)

func TestMergeRelays(t *testing.T) {
	a, b := id.Relay{1}, id.Relay{2}
	v4, v6 := netip.MustParseAddrPort("192.0.2.1:3478"), netip.MustParseAddrPort("[2001:db8::1]:3478")
	got := merge([]wire.Relay{
		{ID: a, Addr: v4, Username: "u", Password: "p"},
		{ID: a, Addr: v6, Username: "u", Password: "p"},
		{ID: b, Addr: v6, Username: "v", Password: "q"},
		{ID: id.Relay{3}},
	})
	want := []description{
		{a, turn.Config{V4: v4, V6: v6, Username: "u", Password: "p"}},
		{b, turn.Config{V6: v6, Username: "v", Password: "q"}},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
}

// Relays are told apart by the round-trip time: which are near enough?
func TestNearRelays(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		rtts []time.Duration
		want time.Duration
	}{
		{[]time.Duration{20 * ms}, 30 * ms},
		{[]time.Duration{40 * ms, 20 * ms}, 30 * ms},
		{[]time.Duration{10 * ms, 12 * ms, 50 * ms}, 18 * ms},          // median 12, deviation 2
		{[]time.Duration{10 * ms, 10 * ms, 10 * ms, 11 * ms}, 16 * ms}, // the deviation has a floor of 2 ms
		{[]time.Duration{10 * ms, 20 * ms, 30 * ms, 90 * ms}, 55 * ms}, // median 25, deviations 5 5 15 65
	} {
		rtts := slices.Clone(c.rtts)
		if got := tolerable(c.rtts); got != c.want {
			t.Errorf("%v: up to %v, want %v", rtts, got, c.want)
		}
	}
}

func TestRelaysThatWereGivenUpAreRemembered(t *testing.T) {
	var s relays
	for i := range 100 {
		s.forget(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
	}
	if len(s.former) != maxFormer || s.former[maxFormer-1] != netip.AddrFrom4([4]byte{10, 0, 0, 99}) {
		t.Errorf("%d remembered, the last %v", len(s.former), s.former[len(s.former)-1])
	}
}
