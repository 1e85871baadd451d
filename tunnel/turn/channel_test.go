package turn

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/pion/stun/v3"
)

func TestChannels(t *testing.T) {
	l := newLink(nil)
	l.a.Bind(peer4, start0) // before there is an allocation
	l.a.Bind(peer4, start0)
	if _, ok := l.a.Channel(peer4, start0); ok {
		t.Error("a channel without allocation")
	}
	l.run(start0)
	l.want(t, "queued bind", append(birth[:3:3], "BIND"), append(learnt[:3:3], Late{peer4}))
	if n, ok := l.a.Channel(peer4, start0); n != MinChannel || !ok {
		t.Errorf("channel %x, %v", n, ok)
	}
	if p, ok := l.a.Unwrap(MinChannel, start0); p != peer4 || !ok {
		t.Errorf("peer %v, %v", p, ok)
	}
	if _, ok := l.a.Unwrap(MinChannel+1, start0); ok {
		t.Error("an unbound channel")
	}
	l.a.Bind(peer4, start0)
	l.run(start0)
	l.want(t, "bound already", nil, nil)

	second := ap("[2001:db8::7]:1")
	l.a.Bind(second, start0)
	if n, ok := l.a.Channel(second, start0); n != MinChannel+1 || !ok {
		t.Errorf("in flight: %x, %v, want it usable", n, ok)
	}
}

func TestChannelOfMissingFamily(t *testing.T) {
	l := newLink(func(name string, m *stun.Message) []byte {
		if given, _ := m.Get(stun.AttrNonce); name == "ALLOCATE" && len(given) > 0 {
			return success(m, relayedAt(relayed4), lifetime(600))
		}
		return nil
	})
	l.a.Bind(ap("[2001:db8::7]:1"), start0)
	l.run(start0)
	l.want(t, "no IPv6 address", birth, learnt[:2])
}

func TestChannelRefreshAndExpiry(t *testing.T) {
	l := newLink(nil)
	l.a.Bind(peer4, start0)
	l.run(start0)
	bindsBy := func(now time.Time) int {
		l.sent = nil
		l.until(l.a.Next(), now)
		return count(l.sent, "BIND")
	}
	l.a.Unwrap(MinChannel, start0.Add(time.Second))
	if n := bindsBy(start0.Add(599 * time.Second)); n != 1 {
		t.Errorf("%d refreshes of a used channel, want one at 300 s", n)
	}
	// Nothing received since: it is left to expire 600 s after the refresh.
	if n := bindsBy(start0.Add(899 * time.Second)); n != 0 {
		t.Errorf("%d refreshes of an unused channel", n)
	}
	if _, ok := l.a.Channel(peer4, start0.Add(901*time.Second)); ok {
		t.Error("still usable after 600 s")
	}
	if _, ok := l.a.Unwrap(MinChannel, start0.Add(901*time.Second)); ok {
		t.Error("still receiving after 600 s")
	}
	// The relay keeps the pair of number and peer for another 300 s.
	l.a.Bind(ap("198.51.100.9:2"), start0.Add(902*time.Second))
	l.a.Bind(peer4, start0.Add(902*time.Second))
	if n, _ := l.a.Channel(peer4, start0.Add(902*time.Second)); n != MinChannel {
		t.Errorf("bound again as %x", n)
	}
}

func TestChannelNumbersWrapAndRest(t *testing.T) {
	l := newLink(nil)
	l.run(start0)
	peer := func(i int) netip.AddrPort { return netip.AddrPortFrom(peer4.Addr(), uint16(1+i)) }
	for i := range MaxChannel - MinChannel + 2 {
		l.a.Bind(peer(i), start0)
	}
	l.run(start0)
	if n := count(l.sent, "BIND"); n != 4096 {
		t.Errorf("%d binds, want one for each number", n)
	}
	if n, _ := l.a.Channel(peer(4095), start0); n != MaxChannel {
		t.Errorf("last channel %x", n)
	}
	later := start0.Add(901 * time.Second)
	l.until(start0, later)
	l.a.Bind(peer(5000), later)
	if n, ok := l.a.Channel(peer(5000), later); n != MinChannel || !ok {
		t.Errorf("got %x, %v, want the first number again", n, ok)
	}
}

func TestQueueOfBindsIsBounded(t *testing.T) {
	l := newLink(nil)
	for i := range 200 {
		l.a.Bind(netip.AddrPortFrom(peer4.Addr(), uint16(1+i)), start0)
	}
	l.run(start0)
	if n := count(l.sent, "BIND"); n != maxQueuedBinds {
		t.Errorf("%d binds, want %d", n, maxQueuedBinds)
	}
}

func count(list []string, what string) int {
	return len(slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s != what }))
}
