package client

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"stile/tunnel/core"
	"stile/tunnel/packet"
	"stile/tunnel/wire"
)

// Whoever reads the notes knows what the client did, in order.
func TestNotes(t *testing.T) {
	b := newBench(t, dnsResource(1, "*.example"), cidrResource(2, "10.0.0.0/8"))
	noted := func(when string, want ...string) {
		t.Helper()
		if got := b.noted; !slices.Equal(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", when, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
		}
		b.noted = nil
	}
	noted("beginning", "system resolvers [192.168.1.1:53]", "portal joined", "told everything by the portal 2 resources, 0 addresses of relays",
		"configuration asked 7 routes, default false, sentinels [100.100.111.1]", "configuration done")
	b.query("wiki.example", dns.TypeA)
	noted("query", "name answered wiki.example")
	b.query("elsewhere.test", dns.TypeA)
	noted("a query about nothing of ours is nobody's business")
	b.send(syn("100.96.0.1", 1, 80))
	noted("first packet", "authorization asked")
	b.grant(1, 1)
	noted("granted", "authorization granted")
	b.up(1)
	noted("session", "name announced wiki.example")
	b.status(1, 1, "wiki.example", true)
	noted("status", "name confirmed wiki.example")
	b.send(tcp("100.96.0.1", 1, 80, packet.ACK, ""))
	noted("a packet on its way")
	b.send(syn("10.0.0.1", 1, 80))
	b.message(wire.AuthorizationFailed{Resource: res(2), Reason: "forbidden"})
	noted("refused", "authorization asked", "authorization refused forbidden")
	b.grant(2, 1)
	noted("not asked for", "authorization ignored not asked for")
	b.do(func() { b.c.PortalDown(b.now) })
	b.do(func() { b.c.NetworkChanged(wire.Key{1}, b.now) })
	noted("on the move", "portal lost", "network changed")
	b.do(func() { b.c.Done(core.Exchanged{ID: 1, Err: errors.New("refused")}, b.now) })
	noted("no answer", "query not answered refused")
}

// The client can say of each packet that goes nowhere what became of it.
func TestOutcomes(t *testing.T) {
	b := newBench(t, dnsResource(1, "*.example"), cidrResource(2, "10.0.0.0/8", ports(wire.TCP, 80, 80)))
	for _, c := range []struct {
		name, want string
		raw        []byte
	}{
		{"query for a name of ours", "answered", query("wiki.example")},
		{"query for another", "asked of a resolver", query("elsewhere.test")},
		{"no query", "dropped: query", datagram(own4, addr("100.100.111.1"), 4000, 53, "?")},
		{"first packet", "held", syn("10.0.0.1", 1, 80)},
		{"a port that is not open", "prohibited by filters", syn("10.0.0.1", 1, 81)},
		{"nowhere", "dropped: no resource has the address", syn("9.9.9.9", 1, 80)},
		{"somebody else's", "dropped: source is not our address", datagram(addr("10.1.1.1"), addr("10.0.0.1"), 1, 2, "")},
	} {
		b.send(c.raw)
		if got := b.c.Outcome(); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	b = connected(t)
	for _, c := range []struct {
		name, want string
		raw        []byte
	}{
		{"from nowhere", "dropped: from a gateway, not its address", datagram(addr("9.9.9.9"), own4, 80, 1, "")},
		{"not for us", "dropped: from a gateway, not for us", datagram(addr("10.0.0.1"), addr("10.0.0.2"), 80, 1, "")},
		{"no packet", "dropped: malformed", []byte{1}},
		{"what the gateway has to say", "goodbyes received", packet.AppendControl(nil, wire.EventGoodbye, nil)},
	} {
		b.receive(gw(2), c.raw)
		if got := b.c.Outcome(); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// query is a packet that asks for addresses.
func query(name string) []byte {
	q, _ := new(dns.Msg).SetQuestion(name+".", dns.TypeA).Pack()
	return datagram(own4, addr("100.100.111.1"), 4000, 53, string(q))
}
