package nat

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// With no room for another name, whole names go: those that were neither
// announced nor used for longest. One with a session on any address keeps all.
func TestN22LeastRecentlyUsedNamesMakeRoom(t *testing.T) {
	const names = maxProxies / 8
	w := newWorld(t)
	list := func(n int) (list []netip.Addr) {
		for i := range 8 {
			list = append(list, netip.AddrFrom4([4]byte{100, 97 + byte(n>>13), byte(n >> 5), byte(n<<3 + i)}))
		}
		return list
	}
	for n := range names {
		w.at(time.Duration(n) * time.Millisecond)
		w.announce(fmt.Sprint("n", n), list(n), addrA)
		if n < 2 {
			w.goes(udp(client4, list(n)[3], uint16(6000+n), 53), addrA)
		}
	}
	w.at(70 * time.Second) // the first two sessions are over
	w.goes(udp(client4, list(0)[5], 7000, 53), addrA)
	w.goes(udp(client4, list(2)[5], 7002, 53), addrA)
	w.at(140 * time.Second)
	w.goes(udp(client4, list(3)[5], 7003, 53), addrA)
	w.Announce("n4", wiki, list(4), w.now)
	if !w.Announce("new", wiki, list(names), w.now) {
		t.Fatal("refused")
	}
	for n, kept := range map[int]bool{
		0: true, // used after all others were announced
		1: false,
		2: true, 3: true, 4: true, 5: false, 6: false, names / 16: false, names - 1: true, names: true,
	} {
		known := 0
		for _, p := range list(n) {
			if _, ok := w.Resources(p); ok {
				known++
			}
		}
		if want := map[bool]int{true: 8}[kept]; known != want {
			t.Errorf("name %d has %d addresses left, want %d", n, known, want)
		}
	}
	if got := len(w.bindings); got > maxProxies-maxProxies/8+8 {
		t.Errorf("%d addresses are left: so many must not be searched for each name", got)
	}
}
