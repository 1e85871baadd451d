package nat

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// Who asks when a name was used hears of packets to any of its addresses, and
// only of those that went on.
func TestN23LastUse(t *testing.T) {
	w := newWorld(t)
	check := func(when, name string, proxies []netip.Addr, want time.Time, known bool) {
		t.Helper()
		if got, ok := w.Used(name, proxies); !got.Equal(want) || ok != known {
			t.Errorf("%s: %s used at %v, %v; want %v, %v", when, name, got, ok, want, known)
		}
	}
	check("before all", "foo", foo, time.Time{}, false)
	w.announce("foo", foo, addrA)
	w.announce("bar", bar, addrB)
	check("announced", "foo", foo, time.Time{}, true)
	w.at(time.Second)
	w.goes(udp(client4, p4(foo, 1), 5000, 53), addrA)
	first := w.now
	check("a packet", "foo", foo, first, true)
	check("a packet to another name", "bar", bar, time.Time{}, true)
	w.at(2 * time.Second)
	w.comes(udp(addrA, client4, 53, 5000), p4(foo, 1))
	w.Out(parse(t, tcp(client4, p4(foo, 2), 5000, 443, syn|fin)), w.now)
	check("nothing that a client sent on", "foo", foo, first, true)
	w.at(3 * time.Second)
	w.goes(udp(client4, p4(foo, 1), 5000, 53), addrA)
	check("another packet", "foo", foo, w.now, true)
	check("some of its addresses", "foo", foo[:1], time.Time{}, true)
	w.Announce("bar", wiki, foo, w.now)
	check("renamed", "foo", foo, time.Time{}, false)
	check("renamed", "bar", foo, time.Time{}, true)
}

// A name is told of when it comes into use, after a minute of silence on the
// address, and not with each packet.
func TestN23NamesThatComeIntoUse(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.announce("bar", bar, addrB)
	for _, step := range []struct {
		at    time.Duration
		proxy netip.Addr
		want  []string
	}{
		{0, p4(foo, 1), []string{"foo"}},
		{30 * time.Second, p4(foo, 1), nil},
		{40 * time.Second, p4(bar, 1), []string{"bar"}},
		{89 * time.Second, p4(foo, 1), nil},
		{149*time.Second - 1, p4(foo, 1), nil},
		{209*time.Second - 1, p4(foo, 1), []string{"foo"}},
		{time.Hour, p4(foo, 1), []string{"foo"}},
	} {
		w.at(step.at)
		w.goes(udp(client4, step.proxy, 5000, 53), map[bool]netip.Addr{true: addrA, false: addrB}[step.proxy == p4(foo, 1)])
		if got := w.Woken(nil); !slices.Equal(got, step.want) {
			t.Errorf("at %v: %q, want %q", step.at, got, step.want)
		}
	}
	for n := range 4 { // nobody asks
		w.goes(udp(client4, p4(bar, n), 6000, 53), addrB)
	}
	if got := w.Woken(nil); !slices.Equal(got, []string{"bar", "bar", "bar", "bar"}) {
		t.Errorf("four addresses of a name: %q", got)
	}
	if got := w.Woken(nil); len(got) != 0 {
		t.Errorf("told twice: %q", got)
	}
}
