package nat

import (
	"net/netip"
	"testing"
	"time"

	"stile/tunnel/packet"
)

// Rule N34 of spec gateway-nat.md 7.3, and the goal that holds, expiry and
// eviction cost the same whatever the number of sessions. Time is no measure on
// a machine that others use; what is looked at is: all rows of a large table are
// taken away, but those that the operation names and their neighbours in the
// lists. Whoever looked through the others would fall.

// among is how many sessions the table has.
const among = 1 << 12

// keepOnly takes all rows away but those of some sessions, of their neighbours
// and of both ends of each list, and returns what brings them back. Rows live in
// chunks: of some hundred, a few stay.
func keepOnly(t *Table, sessions ...*Session) (back func()) {
	keep := map[ref]bool{t.rows.vacant: true, t.rows.used: true}
	ends := func(l *list) { keep[l.front], keep[l.back] = true, true }
	for c := range t.evictable {
		ends(&t.evictable[c])
	}
	if t.wheel != nil {
		for _, first := range t.wheel.first {
			keep[first] = true
		}
	}
	ends(&t.opening)
	for _, b := range t.bindings {
		ends(&b.idle)
		for _, p := range b.pins {
			ends(&p.warm)
		}
	}
	for _, r := range t.awaited[:min(len(t.awaited), 1)] {
		keep[r] = true
	}
	for r := range keep { // what leaves an end has a neighbour there
		if r != 0 && r <= t.rows.room {
			sessions = append(sessions, t.rows.at(r))
		}
	}
	for _, s := range sessions {
		keep[s.self] = true
		for _, l := range s.links {
			if l.prev&bucketMark == 0 {
				keep[l.prev] = true
			}
			keep[l.next] = true
		}
	}
	delete(keep, 0)
	all := append([][]Session(nil), t.rows.chunks...)
	clear(t.rows.chunks)
	for r := range keep {
		if chunk, _ := chunkOf(r - 1); chunk < len(all) {
			t.rows.chunks[chunk] = all[chunk]
		}
	}
	return func() { copy(t.rows.chunks, all) }
}

// fullTable has a table of as many TCP connections as fit, on one proxy address,
// each opened a little after the one before.
func fullTable(t *testing.T) *world {
	w := newWorld(t)
	w.pace = unpaced
	w.maxSessions = among
	w.announce("foo", foo, addrA)
	w.announce("bar", bar, addrB)
	for n := range among {
		w.at(time.Duration(n) * time.Millisecond)
		w.handshake(1024+uint16(n), p4(foo, 0), addrA)
	}
	return w
}

func TestN34CostDoesNotGrow(t *testing.T) {
	const middle = 1024 + among/2
	tests := []struct {
		name string
		wait time.Duration
		do   func(w *world)
	}{
		{"a packet of a session", 0, func(w *world) { w.goes(tcp(client4, p4(foo, 0), middle, 443, ack), addrA) }},
		{"a reply", 0, func(w *world) { w.comes(tcp(addrA, client4, 443, middle, ack), p4(foo, 0)) }},
		{"an error", 0, func(w *world) {
			p := parse(w, icmpError(addrA, client4, 3, tcp(client4, addrA, middle, 443, ack)))
			w.InError(w.MatchError(p, w.now), p, addrA, w.now)
		}},
		{"a reset", 0, func(w *world) { w.comes(tcp(addrA, client4, 443, middle, rst), p4(foo, 0)) }},
		{"a restart", time.Minute, func(w *world) { w.goes(tcp(client4, p4(foo, 0), middle, 443, syn), addrA) }},
		{"a packet for nobody", 0, func(w *world) { w.dropped(tcp(addrB, client4, 443, middle, ack)) }},
		{"one more than there is room for", 0, func(w *world) { w.out(tcp(client4, p4(foo, 0), 40000, 443, syn), Full) }},
		{"one that takes the place of another", 3 * time.Hour, func(w *world) { w.goes(tcp(client4, p4(bar, 0), 40000, 443, syn), addrB) }},
		{"one that takes the place of one that is over", 24*time.Hour - 2*time.Second, func(w *world) {
			w.goes(tcp(client4, p4(bar, 0), 40000, 443, syn), addrB)
		}},
		{"an answer while the address is held", 0, func(w *world) { w.answer("foo", foo, addrC) }},
		{"whether it is held", 0, func(w *world) {
			if b := w.bindings[p4(foo, 0)]; w.holder(b, w.Table.at(w.now)) == nil {
				w.Error("not held")
			}
		}},
		{"an answer when nothing holds", time.Hour, func(w *world) { w.answer("foo", foo, addrC) }},
		{"whether packets find their way", 0, func(w *world) { w.Usable("foo", foo, w.now) }},
		{"a sweep with nothing to free", 0, func(w *world) { w.Sweep(nobody, 256, w.now) }},
	}
	for _, test := range tests {
		w := fullTable(t)
		w.at(w.now.Sub(epoch) + test.wait)
		w.ripen(w.Table.at(w.now), all) // which looks at each session once in the time after which it may go
		for _, b := range w.bindings {
			w.holder(b, w.Table.at(w.now)) // which looks at each session once for each packet it sent
		}
		k := keyTo(packet.Addr16Of(p4(foo, 0)), packet.TCP, false).with(middle, 443)
		back := keepOnly(w.Table, w.byInside(k))
		func() {
			defer func() {
				if problem := recover(); problem != nil {
					t.Errorf("%s: looked at a session that it has nothing to do with: %v", test.name, problem)
				}
			}()
			test.do(w)
		}()
		back()
		if err := sound(w.Table); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// What a table keeps of so many sessions is there to be looked through, if
// somebody does: the test above can fail.
func TestN34ALookAtAllIsNoticed(t *testing.T) {
	w := fullTable(t)
	back := keepOnly(w.Table)
	defer back()
	kept := 0
	for _, c := range w.rows.chunks {
		if c != nil {
			kept++
		}
	}
	if all := len(w.rows.chunks); kept > all/4 {
		t.Errorf("%d of %d chunks are kept", kept, all)
	}
	defer func() {
		if recover() == nil {
			t.Error("going through all sessions is not noticed")
		}
	}()
	for range w.Flows(w.now) {
	}
}

// One name of a thousand, each with sessions: an answer and an announcement
// look at the sessions of none.
func TestN34NamesDoNotLookAtEachOthersSessions(t *testing.T) {
	w := newWorld(t)
	w.pace = unpaced
	name := func(n int) []netip.Addr {
		return []netip.Addr{netip.AddrFrom4([4]byte{100, 97, byte(n >> 8), byte(n)})}
	}
	for n := range 1000 {
		text := "n" + string(rune('a'+n%26)) + string(rune('a'+n/26%26)) + string(rune('a'+n/676))
		w.announce(text, name(n), addrA)
		for port := range uint16(10) {
			w.goes(udp(client4, name(n)[0], 5000+port*1000+uint16(n), 53), addrA)
		}
	}
	back := keepOnly(w.Table)
	defer back()
	clear(w.rows.chunks) // not even those
	w.announce("another", foo, addrB)
	if !w.Announce("naaa", wiki, name(0), w.now) {
		t.Error("refused")
	}
}
