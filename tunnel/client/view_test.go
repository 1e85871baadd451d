package client

import (
	"slices"
	"testing"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/path"
	"stile/tunnel/policy"
	"stile/tunnel/wire"
)

// TestLookFollowsTheWay looks at a name after each step towards it.
func TestLookFollowsTheWay(t *testing.T) {
	b := newBench(t, dnsResource(1, "*.example", ports(wire.TCP, 80, 80)), dnsResource(3, "wiki.example", ports(wire.TCP, 22, 22)), cidrResource(2, "10.0.0.0/8"))
	look := func(port uint16) View { return b.c.Look("Wiki.Example.", port, b.now) }
	step := func(when string, what bool) {
		t.Helper()
		if !what {
			t.Errorf("%s: %+v", when, look(80))
		}
	}

	v := look(80)
	step("nobody asked", v.Verdict == policy.Permitted && v.Name == "wiki.example" && v.Proxies == nil && len(v.Access) == 2)
	step("the one that permits the port comes first", v.Access[0].ID == res(1) && v.Access[1].ID == res(3) && !v.Access[0].Wanted && v.Access[0].Asked.IsZero())
	step("looking gives no addresses", b.c.resolver.Len() == 0)
	step("there is a relay", v.Relays == 1)
	if v := look(22); v.Access[0].ID != res(3) {
		t.Errorf("port 22 goes to %v", v.Access[0].ID)
	}
	if v := look(443); v.Verdict != policy.Denied || v.Access[0].ID != res(3) {
		t.Errorf("port 443: %+v", v)
	}
	if v := look(0); v.Verdict != policy.Permitted || v.Access[0].ID != res(3) {
		t.Errorf("no port: %+v", v)
	}

	b.resolved("wiki.example")
	v = look(80)
	step("the name has addresses", len(v.Proxies) == 8 && v.Proxies[0] == addr("100.96.0.1"))
	b.send(syn("100.96.0.1", 1, 80))
	a := look(80).Access[0]
	step("a packet was seen", a.Seen.Equal(b.now) && look(443).Access[0].Seen.IsZero())
	step("the portal was asked", a.Wanted && a.Asked.Equal(b.now) && a.Waiting == 1 && !a.Authorized)
	b.message(wire.AuthorizationFailed{Resource: res(1), Reason: wire.ReasonForbidden, Violated: []string{"remote_ip"}})
	a = look(80).Access[0]
	step("the portal refused", !a.Wanted && a.Refusal.Reason == wire.ReasonForbidden && slices.Equal(a.Refusal.Violated, []string{"remote_ip"}) && a.Refusal.At.Equal(b.now))
	b.wait(askGap)
	b.send(syn("100.96.0.1", 1, 80))
	b.message(granted(1, 2))
	a = look(80).Access[0]
	step("the portal granted", a.Authorized && a.Gateway == gw(2) && a.Refusal.At.IsZero() && a.Bound && a.Binding == BindingPending && a.Connection.Relayed)
	b.up(2)
	b.status(2, 1, "wiki.example", false)
	step("the gateway cannot resolve it", look(80).Access[0].Binding == BindingFailed)
	b.wait(time.Second)
	b.send(syn("100.96.0.1", 1, 80))
	step("another packet was seen", look(80).Access[0].Seen.Equal(b.now))
	b.resolved("wiki.example")
	b.status(2, 1, "wiki.example", true)
	step("the gateway can", look(80).Access[0].Binding == BindingConfirmed)
	if by := b.c.Look("100.96.0.1", 80, b.now); by.Name != "wiki.example" || len(by.Proxies) != 1 || by.Access[0].Binding != BindingConfirmed {
		t.Errorf("by address: %+v", by)
	}
	b.do(func() { b.paths.event(path.Failed{Peer: id.PeerOf(gw(2))}) })
	a = look(80).Access[0]
	step("the connection failed", !a.Authorized && a.Broke.Equal(b.now))
}

// TestLookAgreesWithTheTable compares Look with the table that packets go by.
func TestLookAgreesWithTheTable(t *testing.T) {
	b := newBench(t,
		cidrResource(1, "10.0.0.0/8"), cidrResource(2, "10.1.0.0/16", ports(wire.TCP, 443, 443)), cidrResource(3, "10.1.2.0/24", ports(wire.TCP, 80, 90)),
		cidrResource(4, "10.1.2.0/24", ports(wire.UDP, 1, 9)), cidrResource(5, "192.168.0.0/16", ports(wire.UDP, 53, 53)), internetResource(6),
	)
	for _, host := range []string{"10.0.0.1", "10.1.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "fd00::1"} {
		for _, port := range []uint16{1, 53, 80, 443} {
			entry, verdict := b.c.networks.Find(addr(host), 6, port, b.now)
			v := b.c.Look(host, port, b.now)
			if v.Verdict != verdict || verdict == policy.Permitted && v.Access[0].ID != entry.Resource || (len(v.Access) == 0) != (verdict == policy.None) {
				t.Errorf("%s:%d: %+v, want %v %v", host, port, v, verdict, entry.Resource)
			}
		}
	}
	if v := b.c.Look("9.9.9.9", 443, b.now); v.Verdict != policy.Permitted || v.Access[0].ID != res(6) {
		t.Errorf("the Internet: %+v", v)
	}
	if v := b.c.Look("100.96.0.77", 443, b.now); v.Verdict != policy.None || v.Name != "" {
		t.Errorf("an address that stands for nothing: %+v", v)
	}
}
