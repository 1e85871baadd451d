package nat

import (
	"net/netip"
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
