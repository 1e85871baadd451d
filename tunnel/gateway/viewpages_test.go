package gateway

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"stile/tunnel/id"
)

// A table as full as it may be is told page by page, and each page is short:
// packets wait for it. What one takes is in BenchmarkPage.
func TestEachSessionIsOnOnePage(t *testing.T) {
	const clients, perClient = 13, 16384
	b := crowded(t, clients, perClient)
	if took, seen := b.pages(clients); seen != clients*perClient || len(took) < seen/PageSize {
		t.Errorf("%d sessions on %d pages", seen, len(took))
	}
}

func (b *bench) pages(clients int) (took []time.Duration, seen int) {
	var page []Session
	for n := range clients {
		for cursor := uint32(0); ; {
			began := time.Now()
			page, cursor = b.c.SessionsOf(page[:0], who(byte(n+1)), cursor, b.moment())
			took = append(took, time.Since(began))
			if seen += len(page); len(page) > PageSize {
				b.t.Fatalf("%d sessions on a page", len(page))
			}
			if cursor == 0 {
				break
			}
		}
	}
	return took, seen
}

// crowded is a gateway whose clients have many sessions.
func crowded(t testing.TB, clients, perClient int) *bench {
	b := newBench(t)
	const burst = 4096 // N49
	for first := 0; first < perClient; first += burst {
		b.now = b.now.Add(5 * time.Second)
		for n := range clients {
			who := byte(n + 1)
			b.grant(who, cidr(2, "10.0.0.0/8"), 0)
			k := b.c.clients[id.Client{15: who}]
			for i := first; i < min(first+burst, perClient); i++ {
				p := parse(t, udp(c4(who), netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), uint16(1024+i), 53))
				if v := k.nat.OutFor(res(2), p, b.now); v != 0 {
					t.Fatalf("session %d: %d", i, v)
				}
			}
		}
	}
	return b
}

// BenchmarkPage is what packets wait for while somebody looks at a million
// sessions.
func BenchmarkPage(b *testing.B) {
	const clients, perClient = 62, 16384
	bench := crowded(b, clients, perClient)
	b.ResetTimer()
	for b.Loop() {
		took, seen := bench.pages(clients)
		slices.Sort(took)
		b.ReportMetric(float64(seen), "sessions")
		b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs/page")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		b.ReportMetric(float64(took[len(took)-1].Microseconds()), "max-µs")
	}
}
