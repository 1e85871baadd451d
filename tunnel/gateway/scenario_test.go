package gateway

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/packet"
	"stile/tunnel/wire"
)

// The rows of spec gateway-nat.md 8.2 where announcements, resolutions, policy
// or the connection matter; the others are in tunnel/nat. T is TCP 5000→P:443.

const hour = 3600 // seconds

var (
	pp = proxies(1)[0] // P of the table
	tt = tcp(c4(1), pp, 5000, 443, ack)
)

// connect opens a TCP connection of client 1 and returns its outside port.
func (b *bench) connect(port uint16, p, x netip.Addr) (outside uint16) {
	b.t.Helper()
	outside = b.passes(1, tcp(c4(1), p, port, 443, syn), x).SrcPort()
	b.arrives(tcp(x, c4(1), 443, outside, syn|ack), p)
	b.passes(1, tcp(c4(1), p, port, 443, ack), x)
	return outside
}

// foo returns a gateway with T on A, the only address of foo.corp.example.
func foo(t *testing.T) *bench {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.name(1, 1, "foo.corp.example", proxies(1), addrA)
	b.connect(5000, pp, addrA)
	return b
}

// again announces foo once more and lets the resolution end like r.
func (b *bench) again(r core.Looked) {
	b.t.Helper()
	b.announce(1, 1, "foo.corp.example", proxies(1))
	b.lines = nil
	r.ID = b.looks[0].ID
	b.looked(r)
}

func TestS05ResolutionFails(t *testing.T) {
	b := foo(t)
	b.at(5)
	b.again(core.Looked{Err4: errLookup, Err6: errLookup})
	b.want("status", "to client 1: status 1 foo.corp.example true <nil>")
	b.at(6)
	b.passes(1, tt, addrA)
	b.passes(1, tcp(c4(1), pp, 5001, 443, syn), addrA)
}

func TestS06NoSuchName(t *testing.T) {
	b := foo(t)
	b.at(5)
	b.again(core.Looked{})
	b.want("status", "to client 1: status 1 foo.corp.example true <nil>")
	b.at(6)
	b.passes(1, tt, addrA)
	b.at(7)
	b.refused(1, tcp(c4(1), proxies(1)[2], 5000, 443, syn), "dropped: unresolved", "to client 1: error 3/0 100.96.1.2 → 100.64.1.1")
}

func TestS11ProxiesOfAnotherName(t *testing.T) {
	b := foo(t)
	q := proxies(2)[0] // P5
	b.name(1, 1, "qux.corp.example", proxies(2), addrA)
	outside := b.connect(5000, q, addrA)
	b.name(1, 1, "bar.corp.example", proxies(1), in2)
	b.passes(1, tt, in2) // not to A
	b.lost(tcp(addrA, c4(1), 443, 5000, ack), "dropped: no session")
	b.arrives(tcp(in2, c4(1), 443, 5000, ack), pp)
	b.passes(1, tcp(c4(1), q, 5000, 443, ack), addrA)
	b.arrives(tcp(addrA, c4(1), 443, outside, ack), q)
}

func TestS12AuthorizedAgain(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(9, "192.0.2.0/24"), 0) // keeps the connection
	b.grant(1, dns(1, "*.corp.example"), 100)
	b.name(1, 1, "foo.corp.example", proxies(1), addrA)
	outside := b.connect(5000, pp, addrA)
	b.at(99.999)
	b.passes(1, tt, addrA)
	b.at(100)
	b.refused(1, tt, "dropped: expired authorization", "to client 1: error 3/13 100.96.1.1 → 100.64.1.1")
	b.at(130)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.at(131)
	if got := b.passes(1, tt, addrA).SrcPort(); got != outside {
		t.Errorf("it goes on from port %d, was %d", got, outside)
	}
}

// Each hop is another router, the first one this gateway. What they quote is
// the packet that the client sent, though its port is another one outside.
func TestS15Traceroute(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.name(1, 1, "foo.corp.example", proxies(1), addrA)
	b.name(1, 1, "bar.corp.example", proxies(2), addrA)
	b.passes(1, udp(c4(1), proxies(2)[0], 33000, 53), addrA)
	for ttl := range byte(5) {
		probe := udp(c4(1), pp, 33000, 33434+uint16(ttl))
		out := b.passes(1, probe, addrA)
		if out.SrcPort() == 33000 {
			t.Fatal("nothing is translated")
		}
		router := netip.AddrFrom4([4]byte{192, 0, 2, ttl})
		if ttl == 0 {
			router = own4
		}
		p := b.arrives(icmpError(router, c4(1), 11, 0, out.Bytes()), pp)
		q, ok := p.Quote()
		if !ok || q.Src() != c4(1) || q.SrcPort() != 33000 || q.Dst() != pp || q.DstPort() != 33434+uint16(ttl) {
			t.Errorf("hop %d quotes %v:%d → %v:%d", ttl, q.Src(), q.SrcPort(), q.Dst(), q.DstPort())
		}
	}
}

func TestS16OneResolutionForAll(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	for n := range 10 {
		b.at(float64(n) / 100)
		b.announce(1, 1, "foo.corp.example", proxies(1))
	}
	b.want("announcements", "look up foo.corp.example")
	b.resolved(addrA)
	if got := strings.Count(strings.Join(b.lines, "\n"), "to client 1: status 1 foo.corp.example true <nil>"); got != 10 || len(b.lines) != 10 {
		t.Errorf("%d replies, want 10: %v", got, b.lines)
	}
}

func TestS17ResultOfAFormerLife(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.announce(1, 1, "foo.corp.example", proxies(1))
	first := b.looks[0]
	b.at(1)
	b.send(1, packet.AppendControl(nil, wire.EventGoodbye, nil))
	b.at(1.5)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.announce(1, 1, "foo.corp.example", proxies(1))
	b.at(2)
	b.looks = b.looks[1:]
	b.resolved(addrB)
	b.at(5)
	b.do(func() { b.c.Done(core.Looked{ID: first.ID, V4: []netip.Addr{addrA}}, b.now) })
	b.passes(1, tcp(c4(1), pp, 5000, 443, syn), addrB)
}

func TestS19BackAfterGoodbye(t *testing.T) {
	for _, back := range []float64{200, 301} {
		b := foo(t)
		b.send(1, packet.AppendControl(nil, wire.EventGoodbye, nil))
		b.at(back)
		b.grant(1, dns(1, "*.corp.example"), 0)
		if back == 200 {
			b.passes(1, tt, addrA)
			b.arrives(tcp(addrA, c4(1), 443, 5000, ack), pp)
			continue
		}
		b.lost(tcp(addrA, c4(1), 443, 5000, ack), "dropped: no session")
		b.name(1, 1, "foo.corp.example", proxies(1), addrB)
		b.passes(1, tt, addrB)
	}
}

func TestS22OnlyIPv6(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.name(1, 1, "foo.corp.example", proxies(1), addrD)
	b.refused(1, tcp(c4(1), pp, 5000, 443, syn), "dropped: family", "to client 1: error 3/0 100.96.1.1 → 100.64.1.1")
	p := proxies(1)[1]
	b.passes(1, udp(c6(1), p, 5000, 53), addrD)
	b.arrives(udp(addrD, c6(1), 53, 5000), p)
}

func TestS26AllNamesAtOnce(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	name := func(n int) []netip.Addr { // 500 sets that differ
		list := proxies(byte(n))
		for i, p := range list {
			a := p.As16()
			if a[13] = byte(n >> 8); p.Is4() {
				a[13] = 96 + byte(n>>8)
			}
			list[i] = netip.AddrFrom16(a).Unmap()
		}
		return list
	}
	for n := range 500 {
		b.now = boot.Add(time.Duration(n) * 2 * time.Microsecond) // within a millisecond
		b.announce(1, 1, fmt.Sprintf("n%d.corp.example", n), name(n))
	}
	for len(b.looks) > 0 {
		b.resolved(addrA)
	}
	active := 0
	for _, l := range b.lines {
		if strings.HasPrefix(l, "to client 1: status 1 ") && strings.HasSuffix(l, ".corp.example true <nil>") {
			active++
		}
	}
	if active != 500 {
		t.Errorf("%d × Active", active)
	}
	for n := range 500 {
		b.passes(1, udp(c4(1), name(n)[0], 5000, 53), addrA)
	}
}

func TestS27NothingAges(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.name(1, 1, "foo.corp.example", proxies(1), addrA)
	b.refresh = nil // DNS is down
	b.at(25 * hour)
	b.passes(1, udp(c4(1), pp, 5000, 53), addrA)
}

func TestS28LastResourceExpires(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 100)
	b.name(1, 1, "foo.corp.example", proxies(1), addrA)
	b.connect(5000, pp, addrA)
	b.at(100)
	b.refused(1, tt, "dropped: expired authorization", "to client 1: error 3/13 100.96.1.1 → 100.64.1.1")
	b.at(101)
	b.want("by 101", "to client 1: goodbye")
	if len(b.paths.peers) != 0 {
		t.Error("the connection is not closed")
	}
}
