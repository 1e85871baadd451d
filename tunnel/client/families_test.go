package client

import (
	"testing"

	"github.com/miekg/dns"

	"stile/tunnel/packet"
	"stile/tunnel/wire"
)

// families is a gateway's answer that tells of which families a name has
// addresses.
func (b *bench) families(g, n byte, name string, v4, v6 wire.Optional) {
	b.t.Helper()
	s := wire.DomainStatus{Resource: res(n), Domain: name, Active: true, V4: v4, V6: v6}
	b.receive(gw(g), packet.AppendControl(nil, wire.EventDomainStatus, s.Append(nil)))
	b.took()
}

// answers compares what applications get for a name.
func (b *bench) answers(when, name string, a, aaaa int) {
	b.t.Helper()
	for qtype, want := range map[uint16]int{dns.TypeA: a, dns.TypeAAAA: aaaa, dns.TypeANY: a + aaaa} {
		b.took()
		b.query(name, qtype)
		got := b.took()
		if text := map[int]string{0: "answered dns NOERROR 0", 4: "answered dns NOERROR 4", 8: "answered dns NOERROR 8"}[want]; got[len(got)-1] != text {
			b.t.Errorf("%s: %s %s: %q, want %q", when, dns.TypeToString[qtype], name, got, text)
		}
	}
}

// Spec gateway-nat.md O2: what a gateway knows no address for is not offered to
// applications, as long as it says so and something else is left.
func TestO2OnlyFamiliesThatWork(t *testing.T) {
	const name = "wiki.example"
	b := connected(t)
	b.answers("as stock gateways have it", name, 4, 4)
	b.families(1, 1, name, wire.Yes, wire.No)
	b.answers("IPv4 only", name, 4, 0)
	b.send(udp("100.96.0.1", 1, "a"))
	b.want("an address that was given out", "sent udp 100.96.0.1:4000>1 a to 1")
	b.answers("another name", "other.example", 4, 4)
	b.families(1, 1, name, wire.No, wire.Yes)
	b.answers("IPv6 only", name, 0, 4)
	b.families(1, 1, name, wire.No, wire.No)
	b.answers("neither: the application shall hear it from the gateway", name, 4, 4)
	b.families(1, 1, name, wire.Yes, wire.Unsaid)
	b.answers("half said", name, 4, 4)
	b.families(1, 1, name, wire.Yes, wire.No)
	b.status(1, 1, name, false)
	b.answers("a resolution that failed says nothing", name, 4, 4)
	b.families(1, 1, name, wire.Yes, wire.No)
	b.message(wire.ResourceDeleted{ID: res(1)})
	b.message(wire.ResourceUpserted{Resource: dnsResource(1, "*.example")})
	b.answers("the resource came anew", name, 4, 4)
}

// With two resources on a name, a family is missing if both lack it.
func TestO2TwoResources(t *testing.T) {
	const name = "wiki.example"
	b := newBench(t, dnsResource(1, "*.example", ports(wire.TCP, 80, 80)), dnsResource(2, "**.example", ports(wire.TCP, 22, 22)))
	b.resolved(name)
	b.send(syn("100.96.0.1", 1, 80))
	b.grant(1, 1)
	b.up(1)
	b.families(1, 1, name, wire.Yes, wire.No)
	b.answers("the only one lacks it", name, 4, 0)
	b.send(syn("100.96.0.1", 1, 22))
	b.grant(2, 1)
	b.answers("the other has said nothing", name, 4, 4)
	b.families(1, 2, name, wire.Yes, wire.No)
	b.answers("both lack it", name, 4, 0)
	b.families(1, 2, name, wire.Yes, wire.Yes)
	b.answers("one has it", name, 4, 4)
	b.message(wire.ResourceDeleted{ID: res(2)})
	b.answers("the other one is left", name, 4, 0)
}
