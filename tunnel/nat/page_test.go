package nat

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"stile/tunnel/packet"
)

// crowded returns a table with n UDP sessions without translation.
func crowded(t testing.TB, n int, now time.Time) *Table {
	t.Helper()
	table := New(Config{Rand: rand.New(rand.NewPCG(1, 2)), NewPerSecond: 1 << 30, Burst: 1 << 30}, now)
	from := netip.AddrFrom4([4]byte{100, 64, 1, 1})
	for i := range n {
		to := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		p, err := packet.Parse(packet.AppendUDP(nil, netip.AddrPortFrom(from, uint16(1024+i)), netip.AddrPortFrom(to, 53), nil))
		if err != nil {
			t.Fatal(err)
		}
		if v := table.Out(p, now); v != Forward {
			t.Fatalf("session %d: %d", i, v)
		}
	}
	return table
}

// Page by page, each session comes once, whatever the size of the pages.
func TestPages(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, n := range []int{0, 1, 63, 64, 65, 1000} {
		table := crowded(t, n, now)
		for _, limit := range []int{1, 7, 64, 1000, 2000} {
			seen, pages := map[uint16]int{}, 0
			for cursor := uint32(0); ; pages++ {
				count := 0
				cursor = table.FlowsFrom(cursor, limit, now, func(f Flow) { seen[f.Client]++; count++ })
				if count > limit {
					t.Fatalf("%d in a page of %d", count, limit)
				}
				if cursor == 0 {
					break
				}
			}
			if len(seen) != n || pages > n/limit+1 {
				t.Errorf("%d sessions in pages of %d: %d seen on %d pages", n, limit, len(seen), pages)
			}
			for port, times := range seen {
				if times != 1 {
					t.Errorf("session %d came %d times", port, times)
				}
			}
		}
	}
	table := crowded(t, 10, now)
	if next := table.FlowsFrom(math.MaxUint32, 100, now, func(Flow) { t.Error("behind the last") }); next != 0 {
		t.Errorf("go on at %d", next)
	}
	if next := table.FlowsFrom(0, 100, now.Add(time.Hour), func(Flow) { t.Error("it is over") }); next != 0 {
		t.Errorf("go on at %d", next)
	}
}

// What packets wait for is a page's size, and neither how many sessions there are
// nor how many there were: time is no measure on a machine that others use, so
// places beyond the page are taken away, where a look at one falls.
func TestPagesAreShort(t *testing.T) {
	const n, limit = 4096, 64
	now := time.Unix(1000, 0)
	for _, gone := range []time.Duration{0, time.Hour} {
		table := crowded(t, n, now)
		last, _ := chunkOf(limit - 1)
		clear(table.rows.chunks[last+1:])
		count := 0
		next := table.FlowsFrom(0, limit, now.Add(gone), func(Flow) { count++ })
		if want := map[time.Duration]int{0: limit}[gone]; count != want || next != limit {
			t.Errorf("%v later: %d on the page, want %d; go on at %d", gone, count, want, next)
		}
	}
}

// What one proxy address stands for, without disturbing it.
func TestBindingOf(t *testing.T) {
	w := newWorld(t)
	if _, ok := w.Binding(p4(foo, 0), w.now); ok || w.NameOf(p4(foo, 0)) != "" || len(w.Proxies(nil)) != 0 {
		t.Fatal("nothing was announced")
	}
	w.announce("foo", foo, addrA)
	w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA)
	w.answer("foo", foo, addrB)
	if n := len(w.Proxies(nil)); n != len(foo) || w.NameOf(p6(foo, 3)) != "foo" {
		t.Errorf("%d proxies, %q", n, w.NameOf(p6(foo, 3)))
	}
	b, ok := w.Binding(p4(foo, 0), w.now)
	if !ok || b.Current != addrA || b.Pending != addrB || !b.Waiting || !b.Held || b.Holder.Client != 6000 || !b.HeldUntil.Equal(w.now.Add(time.Minute)) {
		t.Errorf("held: %+v", b)
	}
	b, ok = w.Binding(p4(foo, 0), w.now.Add(time.Minute))
	if !ok || b.Current != addrB || b.Waiting || b.Held {
		t.Errorf("a minute later: %+v", b)
	}
	w.at(59 * time.Second)
	w.goes(udp(client4, p4(foo, 0), 6001, 53), addrA) // looking ahead has changed nothing
}
