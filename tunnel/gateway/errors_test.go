package gateway

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/nat"
	"stile/tunnel/packet"
	"stile/tunnel/wg"
	"stile/tunnel/wire"
)

// Spec gateway-nat.md 1.5: what a client hears of a packet that is dropped, for
// both families. The error comes from where the packet went, at once.
func TestN38CodesAndSource(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(1, "10.0.0.0/24", tcpOnly(443)), 0)
	b.grant(1, cidr(2, "2001:db8::/64", tcpOnly(443)), 0)
	b.grant(1, dns(3, "*.corp.example", udpOnly(443)), 0)
	b.grant(2, internet(4), 0)
	b.name(1, 3, "four.corp.example", proxies(1), addrA)
	b.name(1, 3, "six.corp.example", proxies(2), addrD)
	b.name(1, 3, "none.corp.example", proxies(3))
	for _, test := range []struct {
		what   string
		client byte
		to     string
		port   uint16
		answer string
	}{
		{"no resource", 1, "192.0.2.1", 443, "3/13"},
		{"no resource", 1, "2001:db8:1::1", 443, "1/1"},
		{"filtered", 1, "10.0.0.1", 443, "3/13"},
		{"filtered", 1, "2001:db8::1", 443, "1/1"},
		{"filtered by a name's resource", 1, "100.96.1.1", 80, "3/13"},
		{"filtered by a name's resource", 1, "fd00:2021:1111:8000::200", 80, "1/1"},
		{"never announced", 1, "100.96.9.1", 443, "3/13"},
		{"never announced", 1, "fd00:2021:1111:8000::900", 443, "1/1"},
		{"another client", 1, "100.64.1.2", 443, "3/13"},
		{"another client", 1, "fd00:2021:1111::1:2", 443, "1/1"},
		{"a port of the gateway", 1, "100.64.0.1", 22, "3/13"},
		{"a port of the gateway", 1, "fd00:2021:1111::1", 22, "1/1"},
		{"a sentinel", 1, "100.100.111.1", 53, "3/13"},
		{"a sentinel", 1, "fd00:2021:1111:8000:100:100:111:1", 53, "1/1"},
		{"no address at all", 1, "100.96.3.1", 443, "3/0"},
		{"no address at all", 1, "fd00:2021:1111:8000::300", 443, "1/3"},
		{"none of this family", 1, "100.96.2.1", 443, "3/0"},
		{"none of this family", 1, "fd00:2021:1111:8000::100", 443, "1/3"},
		{"no part of the Internet", 2, "192.168.1.1", 443, "3/0"},
		{"no part of the Internet", 2, "fd12::1", 443, "1/3"},
		{"multicast", 1, "224.0.0.251", 5353, ""},
		{"multicast", 1, "ff02::fb", 5353, ""},
		{"broadcast", 1, "255.255.255.255", 67, ""},
		{"reserved", 1, "240.0.0.1", 67, ""},
		{"nobody", 1, "0.0.0.0", 67, ""},
		{"nobody", 1, "::", 67, ""},
	} {
		to, from := addr(test.to), c4(test.client)
		if to.Is6() {
			from = c6(test.client)
		}
		sent := udp(from, to, 5000, test.port)
		b.lines = nil
		if b.send(test.client, sent) != nil {
			t.Errorf("%s: to %v passed", test.what, to)
		}
		if test.answer == "" {
			b.want(test.what)
			continue
		}
		b.want(test.what, fmt.Sprintf("to client %d: error %s %v → %v", test.client, test.answer, to, from))
		e := parse(t, b.last)
		if ttl := b.last[8]; to.Is4() && ttl != 20 {
			t.Errorf("%s: TTL %d", test.what, ttl)
		}
		if limit := b.last[7]; to.Is6() && limit != 20 {
			t.Errorf("%s: hop limit %d", test.what, limit)
		}
		if !e.ValidChecksums() || !bytes.Equal(e.Payload(), sent) {
			t.Errorf("%s: quote % x, want % x", test.what, e.Payload(), sent)
		}
	}
}

// The quote is cut so that the error has at most 576 bytes, of IPv6 1280.
func TestN38QuoteSizes(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(1, "10.0.0.0/24"), 0)
	for _, test := range []struct {
		payload int
		v6      bool
		want    int
	}{
		{0, false, 28 + 28}, {548 - 28, false, 576}, {549 - 28, false, 576}, {1252, false, 576},
		{0, true, 48 + 48}, {1232 - 48, true, 1280}, {1232, true, 1280},
	} {
		from, to := c4(1), addr("192.0.2.1")
		if test.v6 {
			from, to = c6(1), addr("2001:db8::1")
		}
		sent := packet.AppendUDP(nil, netip.AddrPortFrom(from, 1), netip.AddrPortFrom(to, 2), bytes.Repeat([]byte{7}, test.payload))
		b.refused(1, sent, "dropped: not allowed", describeError(to, from, 13, 1))
		if e := parse(t, b.last); len(b.last) != test.want || !bytes.HasPrefix(sent, e.Payload()) {
			t.Errorf("%d bytes, IPv6 %v: %d bytes of error, want %d", test.payload, test.v6, len(b.last), test.want)
		}
	}
}

// Neither resets nor errors nor foreign packets are ever answered, and they
// leave the rate to those that are.
func TestN38NeverAnswered(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(1, "10.0.0.0/24", tcpOnly(443)), 0)
	first := slices.Clone(udp(c4(1), addrA, 5000, 53))
	first[6] = 0x20 // the first fragment of more
	later := slices.Clone(first)
	later[7] = 1
	for range 200 {
		b.send(1, tcp(c4(1), addrA, 5000, 80, rst))
		b.send(1, tcp(c4(1), addrA, 5000, 80, rst|ack))
		b.send(1, icmpError(c4(1), addrA, 3, 3, udp(addrA, c4(1), 53, 5000)))
		b.send(1, udp(c4(2), addrA, 5000, 53))
		b.send(1, udp(c4(1), addr("224.0.0.1"), 5000, 53))
		b.send(1, udp(c4(1), addr("255.255.255.255"), 5000, 53))
		b.send(1, later)
	}
	b.want("none of them")
	if n := b.counter("ICMP errors suppressed: too many"); n != 0 {
		t.Errorf("%d counted as suppressed", n)
	}
	b.refused(1, udp(c4(1), addrA, 5000, 53), "dropped: filtered", "to client 1: error 3/13 10.0.0.1 → 100.64.1.1")
}

// A hundred at once, then a hundred per second, for each client; what is kept
// back is counted apart from the drop.
func TestN38Rate(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(1, "10.0.0.0/24", tcpOnly(443)), 0)
	b.grant(2, cidr(1, "10.0.0.0/24", tcpOnly(443)), 0)
	flood := func(n byte, packets int) (answered int) {
		b.lines = nil
		for range packets {
			b.send(n, udp(c4(n), addrA, 5000, 53))
		}
		return len(b.lines)
	}
	if n := flood(1, 150); n != 100 {
		t.Errorf("%d of a burst answered", n)
	}
	if n := flood(2, 100); n != 100 {
		t.Errorf("%d of another client's burst answered", n)
	}
	b.at(0.1)
	if n := flood(1, 20); n != 10 {
		t.Errorf("%d answered after a tenth of a second", n)
	}
	b.at(10)
	if n := flood(1, 150); n != 100 {
		t.Errorf("%d answered after a rest", n)
	}
	sent, quiet, dropped := b.counter("ICMP errors sent"), b.counter("ICMP errors suppressed: too many"), b.counter("dropped: filtered")
	if sent != 310 || quiet != 110 || dropped != 420 {
		t.Errorf("%d sent, %d suppressed, %d dropped", sent, quiet, dropped)
	}
}

// N32, N49: new sessions above the rate are refused by an error that does not
// sound like a missing authorization; those that exist go on.
func TestN49TooManyNewSessions(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(1, "10.0.0.0/24"), 0)
	b.grant(1, cidr(2, "2001:db8::/64"), 0)
	for port := range uint16(4096) {
		b.passes(1, udp(c4(1), addrA, 1024+port, 53), addrA)
	}
	b.refused(1, udp(c4(1), addrA, 9000, 53), "dropped: rate", "to client 1: error 3/1 10.0.0.1 → 100.64.1.1")
	b.refused(1, udp(c6(1), addrD, 9000, 53), "dropped: rate", "to client 1: error 1/3 2001:db8::1 → fd00:2021:1111::1:1")
	b.passes(1, udp(c4(1), addrA, 1024, 53), addrA)
	b.at(0.001)
	b.passes(1, udp(c4(1), addrA, 9000, 53), addrA)
	b.refused(1, udp(c4(1), addrA, 9001, 53), "dropped: rate", "to client 1: error 3/1 10.0.0.1 → 100.64.1.1")
}

// S18: with all places taken by connections that are in use, there is no other.
func TestN47FullTable(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(1, "10.0.0.0/24"), 0)
	for i := range 16384 {
		port := uint16(1024 + i)
		if i >= 4096 {
			b.now = b.now.Add(time.Millisecond)
		}
		b.passes(1, tcp(c4(1), addrA, port, 443, syn), addrA)
		b.arrives(tcp(addrA, c4(1), 443, port, syn|ack), addrA)
		b.passes(1, tcp(c4(1), addrA, port, 443, ack), addrA)
	}
	b.now = b.now.Add(time.Second)
	b.refused(1, tcp(c4(1), addrA, 1000, 443, syn), "dropped: quota", "to client 1: error 3/1 10.0.0.1 → 100.64.1.1")
	b.passes(1, tcp(c4(1), addrA, 2000, 443, ack|fin), addrA)
	b.arrives(tcp(addrA, c4(1), 443, 2000, ack|fin), addrA)
	b.passes(1, tcp(c4(1), addrA, 1000, 443, syn), addrA)
}

// What a session table refuses has a counter each, and an answer that does not
// sound like a missing authorization where there is no room (N32).
func TestN32RefusalsOfTheTable(t *testing.T) {
	for verdict, test := range map[nat.Verdict]struct {
		counter string
		answer  answerKind
	}{
		nat.NoSession:  {"no session", silent},
		nat.BadFlags:   {"bad flags", silent},
		nat.NoBinding:  {"no binding", prohibited},
		nat.Unresolved: {"unresolved", unreachable},
		nat.NoFamily:   {"family", unreachable},
		nat.Exhausted:  {"exhausted", exhausted},
		nat.Full:       {"quota", exhausted},
		nat.TooFast:    {"rate", exhausted},
	} {
		reason := fromNAT[verdict]
		if got := counterNames[reason]; got != "dropped: "+test.counter || answers[reason] != test.answer {
			t.Errorf("verdict %d: %q, answer %d", verdict, got, answers[reason])
		}
	}
}

func describeError(from, to netip.Addr, code4, code6 int) string {
	if from.Is4() {
		return fmt.Sprintf("to client 1: error 3/%d %v → %v", code4, from, to)
	}
	return fmt.Sprintf("to client 1: error 1/%d %v → %v", code6, from, to)
}

// floods are packets of client 1 that are dropped each time.
var floods = map[string]func(testing.TB) (*bench, *wg.Keys, []byte){
	"malformed":     flooded(Config{}, []byte{0x45, 0, 0, 0}),
	"spoofed":       flooded(Config{}, udp(c4(2), addrA, 5000, 53)),
	"multicast":     flooded(Config{}, udp(c4(1), addr("224.0.0.1"), 5000, 53)),
	"not allowed":   flooded(Config{}, udp(c4(1), addr("192.0.2.1"), 5000, 53)),
	"filtered":      flooded(Config{}, udp(c4(1), addrA, 5000, 53)),
	"told":          flooded(Config{Flows: true}, udp(c4(1), addrA, 5000, 53)),
	"no binding":    flooded(Config{}, udp(c4(1), proxies(9)[0], 5000, 53)),
	"unresolved":    flooded(Config{}, udp(c4(1), proxies(1)[0], 5000, 53)),
	"bad flags":     flooded(Config{}, tcp(c4(1), addrA, 5000, 443, syn|fin)),
	"host port":     flooded(Config{}, tcp(c4(1), own4, 5000, 22, syn)),
	"icmp error":    flooded(Config{}, icmpError(c4(1), addrA, 3, 3, udp(addrA, c4(1), 53, 5000))),
	"announcements": flooded(Config{}, packet.AppendControl(nil, wire.EventAssignedIPs, wire.AssignedIPs{Resource: res(2), Domain: "x.corp.example", ProxyIPs: proxies(1)}.Append(nil))),
	"garbage":       flooded(Config{}, packet.AppendControl(nil, wire.EventAssignedIPs, []byte("{\"resource\":"))),
	"rate": func(t testing.TB) (*bench, *wg.Keys, []byte) {
		b, keys, _ := flooded(Config{}, nil)(t)
		for port := range uint16(4096) {
			b.passes(1, tcp(c4(1), addrA, 1024+port, 443, syn), addrA)
		}
		return b, keys, tcp(c4(1), addrA, 1000, 443, syn)
	},
}

func flooded(c Config, raw []byte) func(testing.TB) (*bench, *wg.Keys, []byte) {
	return func(t testing.TB) (*bench, *wg.Keys, []byte) {
		b := newBenchWith(t, c)
		b.grant(1, cidr(1, "10.0.0.0/24", tcpOnly(443)), 0)
		b.grant(1, dns(2, "*.corp.example"), 0)
		b.name(1, 2, "none.corp.example", proxies(1))
		b.paths.way = new(core.Way)
		return b, b.paths.keysOf(who(1)), raw
	}
}

// A client that floods must not cost more than its packets' way in: whatever is
// refused allocates nothing once the rate of errors is used up.
func TestDropsDoNotAllocate(t *testing.T) {
	for name, flood := range floods {
		b, keys, raw := flood(t)
		scratch := make([]byte, 1280)
		drop := func() {
			if b.c.Inbound(keys, 1, scratch[:copy(scratch, raw)], b.now) != nil {
				t.Fatalf("%s: passed", name)
			}
		}
		for range 2000 {
			drop()
		}
		if n := testing.AllocsPerRun(500, drop); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkDrop(b *testing.B) {
	names := make([]string, 0, len(floods))
	for name := range floods {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		b.Run(strings.ReplaceAll(name, " ", "-"), func(b *testing.B) {
			w, keys, raw := floods[name](b)
			scratch := make([]byte, 1280)
			for range 2000 {
				w.c.Inbound(keys, 1, scratch[:copy(scratch, raw)], w.now)
			}
			b.ReportAllocs()
			for b.Loop() {
				if w.c.Inbound(keys, 1, scratch[:copy(scratch, raw)], w.now) != nil {
					b.Fatal("passed")
				}
			}
		})
	}
}
