package client

import (
	"testing"

	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/packet"
	"stile/tunnel/wg"
	"stile/tunnel/wire"
)

// connected returns a bench with a DNS resource on gateway 1, networks on 2
// and the Internet on 3, all in use.
func connected(t testing.TB) *bench {
	b := newBench(t, dnsResource(1, "*.example"), cidrResource(2, "10.0.0.0/8"), internetResource(3), cidrResource(4, "172.16.0.0/12"))
	b.resolved("wiki.example")
	for n, dst := range map[byte]string{1: "100.96.0.1", 2: "10.0.0.1", 3: "9.9.9.9"} {
		b.send(syn(dst, 1000, 80))
		b.grant(n, n)
		b.up(n)
	}
	b.status(1, 1, "wiki.example", true)
	b.took()
	return b
}

// TestPacketsFromGateways is the table of 15.4.
func TestPacketsFromGateways(t *testing.T) {
	b := connected(t)
	for _, c := range []struct {
		name    string
		from    byte
		packet  []byte
		deliver bool
	}{
		{"3 the gateway itself", 1, datagram(addr("100.64.0.1"), own4, 1, 2, ""), true},
		{"3 the gateway itself v6", 1, datagram(addr("fd00:2021:1111::1"), own6, 1, 2, ""), true},
		{"3 another gateway", 1, datagram(addr("100.64.0.2"), own4, 1, 2, ""), false},
		{"4 announced name", 1, datagram(addr("100.96.0.4"), own4, 1, 2, ""), true},
		{"4 announced name v6", 1, datagram(addr("fd00:2021:1111:8000::"), own6, 1, 2, ""), true},
		{"4 name announced to another gateway", 2, datagram(addr("100.96.0.4"), own4, 1, 2, ""), false},
		{"4 name announced to another, from the Internet's", 3, datagram(addr("100.96.0.4"), own4, 1, 2, ""), false},
		{"4 no name", 1, datagram(addr("100.96.0.5"), own4, 1, 2, ""), false},
		{"4 network", 2, datagram(addr("10.255.0.1"), own4, 1, 2, ""), true},
		{"4 network of another gateway", 1, datagram(addr("10.255.0.1"), own4, 1, 2, ""), false},
		{"4 network not authorized", 2, datagram(addr("172.16.0.1"), own4, 1, 2, ""), false},
		{"4 the Internet", 3, datagram(addr("203.0.113.1"), own4, 1, 2, ""), true},
		{"4 private from the Internet's gateway", 3, datagram(addr("192.168.1.1"), own4, 1, 2, ""), false},
		{"5 a sentinel", 3, datagram(addr("100.100.111.1"), own4, 53, 2, ""), false},
		{"destination is not ours", 2, datagram(addr("10.0.0.1"), addr("192.168.1.7"), 1, 2, ""), false},
		{"destination is multicast", 2, datagram(addr("10.0.0.1"), addr("224.0.0.1"), 1, 2, ""), false},
		{"padding is cut off", 2, append(datagram(addr("10.0.0.1"), own4, 1, 2, ""), 0, 0, 0), true},
		{"garbage", 2, []byte("garbage"), false},
		{"keepalive", 2, nil, false},

		{"error from a router beside the resource", 2, icmp(addr("198.51.100.1"), own4, 11, 0, udp("10.0.0.1", 9, "")), true},
		{"error from the resource", 2, icmp(addr("10.0.0.1"), own4, 3, 3, udp("10.0.0.1", 9, "")), true},
		{"error about a packet not ours", 2, icmp(addr("10.0.0.1"), own4, 3, 3, datagram(addr("10.0.0.2"), addr("10.0.0.1"), 1, 2, "")), false},
		{"error about another gateway's", 2, icmp(addr("10.0.0.1"), own4, 3, 3, udp("100.96.0.1", 9, "")), false},
		{"error about nothing", 2, icmp(addr("10.0.0.1"), own4, 3, 3, nil), false},
		{"error about a packet to the gateway", 2, icmp(addr("100.64.0.2"), own4, 3, 3, udp("100.64.0.2", 9, "")), true},
	} {
		if got := b.receive(gw(c.from), c.packet); got != c.deliver {
			t.Errorf("%s: delivered %v, want %v", c.name, got, c.deliver)
		}
	}
}

// TestRestoredPacketAliasesItsBuffer: the engine relies on it.
func TestRestoredPacketAliasesItsBuffer(t *testing.T) {
	b := connected(t)
	plain := append(datagram(addr("10.0.0.1"), own4, 1, 2, "x"), 0, 0)
	got := b.c.Inbound(b.paths.keys(gw(2)), 1, plain, b.now)
	if len(got) != len(plain)-2 || &got[0] != &plain[0] {
		t.Errorf("%d bytes of %d", len(got), len(plain))
	}
}

func TestReplayedAndForeignMessagesAreDropped(t *testing.T) {
	b := connected(t)
	p := datagram(addr("10.0.0.1"), own4, 1, 2, "")
	if b.c.Inbound(b.paths.keys(gw(2)), 0, p, b.now) != nil || b.c.Inbound(new(wg.Keys), 1, p, b.now) != nil {
		t.Error("delivered")
	}
}

// TestGoodbye: connectivity.md 5.3. The next packet asks again.
func TestGoodbye(t *testing.T) {
	b := connected(t)
	b.wait(askGap)
	b.receive(gw(2), packet.AppendControl(nil, wire.EventGoodbye, nil))
	if got := b.paths.log[len(b.paths.log)-1]; got != "close 2 goodbye false" {
		t.Errorf("got %s", got)
	}
	b.took()
	b.send(syn("10.0.0.1", 1000, 80))
	b.want("next packet", "request 2 [2 1 3]")
}

func TestUnknownControlPacketsAreIgnored(t *testing.T) {
	b := connected(t)
	b.receive(gw(1), packet.AppendControl(nil, 7, []byte("?")))
	b.receive(gw(1), packet.AppendControl(nil, wire.EventAssignedIPs, []byte("{}")))
	b.receive(gw(1), packet.AppendControl(nil, wire.EventDomainStatus, []byte("{")))
	b.status(1, 1, "unknown.example", true)
	b.status(2, 1, "wiki.example", false) // not its
	b.status(1, 77, "wiki.example", false)
	b.want("all")
	b.send(tcp("100.96.0.1", 1, 80, packet.ACK, ""))
	b.want("the name works still", "sent tcp 100.96.0.1:1>80  to 1")
}

// FuzzInbound: whatever a gateway sends, nothing leaves the rules of 15.4.
func FuzzInbound(f *testing.F) {
	f.Add(byte(1), datagram(addr("100.96.0.4"), own4, 1, 2, "x"))
	f.Add(byte(2), icmp(addr("198.51.100.1"), own4, 3, 13, udp("10.0.0.1", 9, "")))
	f.Add(byte(1), packet.AppendControl(nil, wire.EventGoodbye, nil))
	f.Add(byte(1), packet.AppendControl(nil, wire.EventDomainStatus, wire.DomainStatus{Resource: res(1), Domain: "wiki.example"}.Append(nil)))
	f.Fuzz(func(t *testing.T, from byte, plain []byte) {
		b := connected(t)
		keys := b.paths.keys(gw(from%3 + 1))
		got := b.c.Inbound(keys, 1, plain, b.now)
		var out core.Output
		b.c.Drain(&out)
		if got == nil {
			return
		}
		p, err := packet.Parse(got)
		if err != nil || p.Dst() != own4 && p.Dst() != own6 {
			t.Fatalf("delivered %x: %v", got, err)
		}
	})
}

// FuzzOutbound: whatever an application sends, it goes to a gateway only where
// a resource is authorized, and nothing panics.
func FuzzOutbound(f *testing.F) {
	f.Add(syn("100.96.0.1", 1, 80))
	f.Add(icmp(own4, addr("10.0.0.1"), 3, 3, datagram(addr("10.0.0.1"), own4, 53, 4000, "late")))
	f.Add(datagram(own6, addr("fd00:2021:1111:8000:100:100:111:0"), 1, 53, "?"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		b := connected(t)
		p, err := packet.Parse(raw)
		if err != nil {
			return
		}
		r := b.c.Outbound(p, b.now)
		var out core.Output
		b.c.Drain(&out)
		if r.Keys == nil {
			return
		}
		g := b.c.gateways[b.gatewayOf(r)]
		if dst := p.Dst(); g == nil || !g.is(dst) && !b.c.reaches(g, dst, b.now) || p.Src() != own4 && p.Src() != own6 {
			t.Fatalf("%x went to %v", raw, g)
		}
	})
}

func (b *bench) gatewayOf(r core.Route) id.Gateway {
	for p, k := range b.paths.up {
		if k == r.Keys {
			return id.GatewayOf(p)
		}
	}
	return id.Gateway{}
}
