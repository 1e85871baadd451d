package gateway

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/packet"
	"stile/tunnel/wg"
)

// A herd is clients with many sessions each, and a batch of packets to and from
// them.
type herd struct {
	*bench
	keys    []*wg.Keys
	each    int
	out, in []byte
	plain   [batchLen][]byte
	packets [batchLen]packet.Packet
}

const batchLen = 128

func newHerd(t testing.TB, clients byte, each int) *herd {
	h := &herd{bench: newBench(t), each: each}
	h.paths.way = new(core.Way)
	for n := range clients {
		h.grant(n+1, cidr(1, "10.0.0.0/24"), 0)
		h.keys = append(h.keys, h.paths.keysOf(who(n+1)))
		for i := range each {
			if i%1000 == 999 {
				h.now = h.now.Add(time.Second) // N49
			}
			h.connect(t, n, h.port(i))
		}
	}
	h.out, h.in = tcp(c4(1), addrA, 0, 443, ack), tcp(addrA, c4(1), 443, 0, ack)
	for i := range h.plain {
		h.plain[i] = make([]byte, len(h.out))
	}
	return h
}

// connect lets a client open a TCP connection.
func (h *herd) connect(t testing.TB, client byte, port uint16) {
	p, err := packet.Parse(tcp(addrA, c4(client+1), 443, port, syn|ack))
	if err != nil {
		t.Fatal(err)
	}
	if h.c.Inbound(h.keys[client], 1, tcp(c4(client+1), addrA, port, 443, syn), h.now) == nil ||
		h.c.Outbound(p, h.now).Keys == nil ||
		h.c.Inbound(h.keys[client], 1, tcp(c4(client+1), addrA, port, 443, ack), h.now) == nil {
		t.Fatalf("client %d may not connect from port %d", client, port)
	}
}

func (h *herd) port(session int) uint16 { return uint16(1024 + session) }

// there and back carry a batch of packets of a client, each of a session that is
// chosen at random; prefetched: the core is shown them before.
func (h *herd) there(rng *rand.Rand, prefetched bool) (carried int) {
	client := byte(rng.IntN(len(h.keys)))
	a := c4(client + 1).As4()
	for _, b := range h.plain {
		copy(b, h.out)
		copy(b[12:], a[:])
		binary.BigEndian.PutUint16(b[20:], h.port(rng.IntN(h.each)))
		if prefetched {
			h.c.PrefetchIn(b)
		}
	}
	if prefetched {
		h.c.Prefetch()
	}
	for _, b := range h.plain {
		if h.c.Inbound(h.keys[client], 1, b, h.now) != nil {
			carried++
		}
	}
	return carried
}

func (h *herd) back(rng *rand.Rand, prefetched bool) (carried int) {
	a := c4(byte(rng.IntN(len(h.keys))) + 1).As4()
	for i, b := range h.plain {
		copy(b, h.in)
		copy(b[16:], a[:])
		binary.BigEndian.PutUint16(b[22:], h.port(rng.IntN(h.each)))
		h.packets[i], _ = packet.Parse(b)
		if prefetched {
			h.c.PrefetchOut(h.packets[i])
		}
	}
	if prefetched {
		h.c.Prefetch()
	}
	for _, p := range h.packets {
		if h.c.Outbound(p, h.now).Keys != nil {
			carried++
		}
	}
	return carried
}

// Being shown a batch changes no decision, takes no memory, and leaves nothing
// behind.
func TestPrefetch(t *testing.T) {
	h := newHerd(t, 3, 1000)
	for _, raw := range [][]byte{nil, {0x45}, tcp(c4(99), addrA, 1, 2, syn)} { // of nobody
		h.c.PrefetchIn(raw)
	}
	if n := len(h.c.lookahead.looks); n != 0 {
		t.Errorf("%d looks at nothing", n)
	}
	h.c.PrefetchIn(tcp(c4(2), addrA, h.port(5), 443, ack))
	p, err := packet.Parse(tcp(addrA, c4(3), 443, h.port(5), ack))
	if err != nil {
		t.Fatal(err)
	}
	h.c.PrefetchOut(p)
	if n := len(h.c.lookahead.looks); n != 2 {
		t.Errorf("%d looks at two packets", n)
	}
	for range 10 * maxLooks {
		h.c.PrefetchOut(p)
	}
	h.c.Prefetch()
	if f := h.c.lookahead; len(f.looks) != 0 || cap(f.looks) > 2*maxLooks || f.k != nil {
		t.Errorf("%d of %d looks are left", len(f.looks), cap(f.looks))
	}
	rng := rand.New(rand.NewPCG(1, 2))
	n := testing.AllocsPerRun(100, func() {
		if there, back := h.there(rng, true), h.back(rng, true); there != batchLen || back != batchLen {
			t.Errorf("%d and %d packets of %d are carried", there, back, batchLen)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A gateway with few sessions looks at one batch of a hundred.
func TestPrefetchRests(t *testing.T) {
	h := newHerd(t, 2, 16)
	for n := range 3 * (restFor + 1) {
		if rests := h.c.lookahead.rest > 0; rests != (n%(restFor+1) > 0) {
			t.Fatalf("batch %d: %v", n, rests)
		}
		h.c.PrefetchIn(tcp(c4(1), addrA, h.port(1), 443, ack))
		h.c.Prefetch()
	}
	for n := range uint16(500) {
		h.connect(t, 0, 20000+n)
	}
	for h.c.Prefetch(); h.c.lookahead.rest > 0; h.c.Prefetch() {
	}
	for range 10 {
		h.c.PrefetchIn(tcp(c4(1), addrA, h.port(1), 443, ack))
		if len(h.c.lookahead.looks) != 1 {
			t.Fatal("not looked at")
		}
		h.c.Prefetch()
	}
}

// What a packet of a batch costs the gateway, of clients with few sessions and
// with many; the baseline is not shown it before.
func BenchmarkPrefetch(b *testing.B) {
	for _, each := range []int{16, 16000} {
		h := newHerd(b, 100, each)
		for _, prefetched := range []bool{false, true} {
			name := fmt.Sprintf("clients=%d/sessions=%d/%s", len(h.keys), each, map[bool]string{false: "baseline", true: "prefetched"}[prefetched])
			b.Run(name, func(b *testing.B) {
				rng := rand.New(rand.NewPCG(3, 4))
				b.ReportAllocs()
				for b.Loop() {
					if h.there(rng, prefetched)+h.back(rng, prefetched) != 2*batchLen {
						b.Fatal("dropped")
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(2*batchLen), "ns/packet")
			})
		}
	}
}
