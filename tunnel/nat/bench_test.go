package nat

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"stile/platform/arena"
	"stile/tunnel/id"
	"stile/tunnel/packet"
)

// A crowd is what a busy gateway holds: many clients with as many established
// TCP sessions each, on four names.
type crowd struct {
	tables []*Table
	memory arena.Arena
	now    time.Time
}

// four addresses of the name, so that no two sessions want one port.
var four = [4]netip.Addr{addrA, addrB, addrC, addrC.Next()}

const burst = 32 // packets that arrive together are mostly of one client

func newCrowd(b *testing.B, clients, each int) *crowd {
	if need := clients * each / 4 << 10; need > available()/2 {
		b.Skipf("SKIPPED: %d sessions need %d MB of memory, %d MB are free", clients*each, need>>20, available()>>20)
	}
	c := &crowd{now: epoch}
	open, answer, data := prepare(b, outs(syn)), prepare(b, ins(syn|ack)), prepare(b, outs(ack))
	rng := rand.New(rand.NewPCG(1, 2))
	for range clients {
		t := New(Config{Rand: rng, NewPerSecond: 1e9, Burst: 1 << 30, Memory: &c.memory}, epoch)
		t.Announce("foo", wiki, foo, c.now)
		t.Answer("foo", foo, Outcome{Addrs: four[:]}, Outcome{}, c.now)
		c.tables = append(c.tables, t)
		for n := range each {
			which, port := n%4, uint16(1024+n/4)
			if v := t.Out(open.at(0, which, port, 20), c.now); v != Forward {
				b.Fatal(v)
			}
			p := answer.at(0, which, port, 22)
			t.In(t.Match(p, c.now), p, c.now)
			t.Out(data.at(0, which, port, 20), c.now)
		}
	}
	return c
}

// available is the memory that is free, in bytes.
func available() int {
	text, _ := os.ReadFile("/proc/meminfo")
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "MemAvailable:" {
			n, _ := strconv.Atoi(f[1])
			return n << 10
		}
	}
	return 1 << 30
}

// outs and ins are packets to the four proxy addresses and from what is behind.
func outs(flags packet.TCPFlags) (texts [4][]byte) {
	for i := range texts {
		texts[i] = tcp(client4, p4(foo, i), 1024, 443, flags)
	}
	return texts
}

func ins(flags packet.TCPFlags) (texts [4][]byte) {
	for i := range texts {
		texts[i] = tcp(four[i], client4, 443, 1024, flags)
	}
	return texts
}

// prepared packets, one of each proxy address and real address; only the
// client's port changes. Their checksums are wrong, which costs the same.
type prepared struct {
	bytes [4][44]byte
	views [burst]packet.Packet
	room  [burst][44]byte
}

func prepare(b *testing.B, texts [4][]byte) *prepared {
	p := new(prepared)
	for i := range p.bytes {
		if copy(p.bytes[i][:], texts[i]) != 44 {
			b.Fatal("not 44 bytes")
		}
	}
	for i := range p.room {
		p.room[i] = p.bytes[0]
		p.views[i] = parse(b, p.room[i][:])
	}
	return p
}

func (p *prepared) at(i, which int, port uint16, offset int) packet.Packet {
	p.room[i] = p.bytes[which]
	binary.BigEndian.PutUint16(p.room[i][offset:], port)
	return p.views[i]
}

// One packet each way, in bursts of 32 packets of one client, for which another
// one is chosen each time. The clock goes on by a microsecond per packet, as
// at a million packets a second. The baseline does the same to the packets and
// reads and writes one line of memory for each, at random in an array of the
// size that two lines of each session have; it searches nothing. How much more
// many sessions take than few, in times-the-first, is the same on a slow machine.
func BenchmarkTranslate(b *testing.B) {
	const clients = 1000
	least := 0.0 // of the table with the fewest sessions
	for _, each := range []int{16, 1000, 16000} {
		name := fmt.Sprintf("clients=%d/sessions=%d", clients, each)
		b.Run(name+"/baseline", func(b *testing.B) {
			lines := make([][16]uint64, clients*each)
			for i := range lines {
				lines[i][0], lines[i][8] = 1, 1 // the kernel gives memory when it is written
			}
			out, in := prepare(b, outs(ack)), prepare(b, ins(ack))
			rng := rand.New(rand.NewPCG(3, 4))
			a, c := packet.Addr16Of(addrA), packet.Addr16Of(p4(foo, 0))
			b.ReportAllocs()
			done := 0
			for b.Loop() {
				client := rng.IntN(clients) * each
				for i := range burst {
					n := rng.IntN(each)
					lines[client+n][0]++
					out.at(i, n%4, uint16(1024+n/4), 20).SetDst16(a)
				}
				for i := range burst {
					n := rng.IntN(each)
					lines[client+n][8]++
					in.at(i, n%4, uint16(1024+n/4), 22).SetSrc16(c)
				}
				done += 2 * burst
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(done), "ns/packet")
		})
		b.Run(name+"/table", func(b *testing.B) {
			crowd := newCrowd(b, clients, each)
			out, in := prepare(b, outs(ack)), prepare(b, ins(ack))
			rng := rand.New(rand.NewPCG(3, 4))
			var looks [burst]Look
			b.ReportAllocs()
			done := 0
			for b.Loop() {
				t := crowd.tables[rng.IntN(clients)]
				for i := range burst {
					n := rng.IntN(each)
					looks[i] = t.LookOut(out.at(i, n%4, uint16(1024+n/4), 20))
				}
				Prefetch(looks[:])
				for i := range burst {
					if t.Out(out.views[i], crowd.now) != Forward {
						b.Fatal("refused")
					}
				}
				for i := range burst {
					n := rng.IntN(each)
					looks[i] = t.LookIn(in.at(i, n%4, uint16(1024+n/4), 22))
				}
				Prefetch(looks[:])
				for i := range burst {
					s := t.Match(in.views[i], crowd.now)
					if s == nil {
						b.Fatal("no session")
					}
					t.In(s, in.views[i], crowd.now)
				}
				done += 2 * burst
				crowd.now = crowd.now.Add(2 * burst * time.Microsecond)
			}
			took := float64(b.Elapsed().Nanoseconds()) / float64(done)
			b.ReportMetric(took, "ns/packet")
			if least == 0 {
				least = took
			}
			b.ReportMetric(took/least, "times-the-first")
		})
	}
}

// What a session takes, and what an idle client takes, in bytes.
func BenchmarkMemory(b *testing.B) {
	used := func(crowds ...*crowd) (bytes uint64) {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		bytes = m.HeapAlloc
		for _, c := range crowds {
			bytes += uint64(c.memory.Held())
		}
		return bytes
	}
	for b.Loop() {
		before := used()
		crowd := newCrowd(b, 1000, 1000)
		full := used(crowd)
		idle := newCrowd(b, 1000, 0)
		end := used(crowd, idle)
		b.ReportMetric(float64(full-before)/1e6, "B/session")
		b.ReportMetric(float64(end-full)/1000, "B/idle-client")
		runtime.KeepAlive(crowd)
		runtime.KeepAlive(idle)
	}
}

// A million sessions of a thousand clients end at once; a sweep visits the
// clients in steps as the gateway does. worst-ms is the longest of some thousand
// steps; on a machine that has other things to do, p99.9-ms tells more.
func BenchmarkSweep(b *testing.B) {
	const step = 256
	for _, end := range []struct {
		name string
		wait time.Duration
	}{{"none", time.Minute}, {"all", 25 * time.Hour}} {
		b.Run("million/over="+end.name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				crowd := newCrowd(b, 1000, 1000) // most of the time, but not of worst-ms
				for _, t := range crowd.tables {
					for freed := step; freed == step; {
						began := time.Now()
						freed = t.Sweep(func(id.Resource) bool { return true }, step, crowd.now.Add(end.wait))
						took = append(took, time.Since(began))
					}
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)-1])/1e6, "worst-ms")
			b.ReportMetric(float64(took[len(took)*999/1000])/1e6, "p99.9-ms")
		})
	}
}

// holder, expiry and eviction, one of each beside n sessions: the work must not
// grow with n (TestN34CostDoesNotGrow). The time does, as memory is farther away
// the more of it there is; the baseline does nothing but touch as much of it as
// the end of one session and the start of another need: a line at each of four
// random places in tables as large as the index, and the next row.
func BenchmarkOne(b *testing.B) {
	sizes := []int{1 << 10, 1 << 14, 1 << 17, 1 << 20}
	world := func(b *testing.B, n int) (*Table, func(n int) packet.Packet) {
		t := New(Config{Rand: rand.New(rand.NewPCG(1, 2)), MaxSessions: n, NewPerSecond: 1e9, Burst: 1 << 30, Memory: new(arena.Arena)}, epoch)
		var many, servers []netip.Addr
		for i := range 32 { // of 60,000 ports each
			many = append(many, netip.AddrFrom4([4]byte{100, 97, 0, byte(1 + i)}))
			servers = append(servers, netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + i)}))
		}
		t.Announce("many", wiki, many, epoch)
		t.Answer("many", many, Outcome{Addrs: servers}, Outcome{}, epoch)
		text := udp(client4, many[0], 1024, 53)
		p := parse(b, text)
		return t, func(n int) packet.Packet {
			a := many[n%32].As4()
			copy(text[16:], a[:])
			binary.BigEndian.PutUint16(text[20:], uint16(1024+n/32%60000))
			return p
		}
	}
	fill := func(b *testing.B, t *Table, at func(int) packet.Packet, n int, now time.Time) {
		for i := range n {
			if v := t.Out(at(i), now); v != Forward {
				b.Fatalf("session %d of %d: %v", i, n, v)
			}
		}
	}
	for _, n := range sizes {
		b.Run(fmt.Sprintf("holder/sessions=%d", n), func(b *testing.B) {
			t, at := world(b, n)
			fill(b, t, at, n, epoch)
			binding := t.bindings[netip.AddrFrom4([4]byte{100, 97, 0, 1})]
			b.ReportAllocs()
			for b.Loop() {
				if t.holder(binding, t.at(epoch)) == nil {
					b.Fatal("not held")
				}
			}
		})
		b.Run(fmt.Sprintf("memory/sessions=%d/baseline", n), func(b *testing.B) {
			var index [2][]uint64
			for i := range index {
				index[i] = make([]uint64, 2*n)
				for j := range index[i] {
					index[i][j] = 1 // the kernel gives memory when it is written
				}
			}
			rows := make([]Session, n)
			for i := range rows {
				rows[i].self = 1
			}
			rng := rand.New(rand.NewPCG(1, 2))
			mask, i := uint64(2*n-1), 0
			b.ReportAllocs()
			for b.Loop() {
				for range 2 { // one is taken out, one put in
					where := rng.Uint64()
					index[0][where&mask]++
					index[1][where>>32&mask]++
				}
				i = (i + 1) % n
				rows[i].inside.rest++
				rows[i].sent.packets++
				rows[i].links[byClass].prev++
			}
		})
		b.Run(fmt.Sprintf("evict/sessions=%d", n), func(b *testing.B) {
			t, at := world(b, n)
			fill(b, t, at, n, epoch)
			i, now := n, epoch
			b.ReportAllocs()
			for b.Loop() { // each takes the place of the oldest
				if t.Out(at(i), now) != Forward {
					b.Fatal("no room")
				}
				i++
				now = now.Add(time.Microsecond)
			}
		})
		b.Run(fmt.Sprintf("expire/sessions=%d", n), func(b *testing.B) {
			t, at := world(b, n+1)
			pace := unconfirmed / time.Duration(n) // n live at a time
			now, i := epoch, 0
			for ; i < n; i++ {
				t.Out(at(i), now)
				now = now.Add(pace)
			}
			b.ReportAllocs()
			for b.Loop() {
				t.Out(at(i), now)
				t.retireAll(t.at(now))
				i++
				now = now.Add(pace)
			}
			if t.Len() > n+1 {
				b.Fatalf("%d rows", t.Len())
			}
		})
	}
}

func BenchmarkNewSession(b *testing.B) {
	w := newWorld(b)
	w.announce("foo", foo, addrA)
	p := parse(b, udp(client4, p4(foo, 0), 0, 53))
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		w.at(time.Duration(n) * 5 * time.Millisecond) // 12,000 at a time
		p.SetSrcPort(uint16(n)%60000 + 1024)
		p.SetDst(p4(foo, 0))
		if w.Out(p, w.now) != Forward {
			b.Fatal("refused")
		}
	}
}
