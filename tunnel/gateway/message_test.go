package gateway

import (
	"slices"
	"strings"
	"testing"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/packet"
	"stile/tunnel/path"
	"stile/tunnel/wire"
)

// Spec portal.md 3.4, 3.5 and 4: what the portal says and hears.

func TestInitConfiguresTheTUN(t *testing.T) {
	b := &bench{t: t, now: boot, paths: &fakePaths{peers: make(map[id.Peer]path.Peer)}}
	b.c = build(Config{Rand: noise(1), Wall: epoch}, b.paths, b.now)
	b.do(func() { b.c.PortalUp(b.now) })
	b.want("join", "portal: wire.SetCapabilities")
	init := wire.GatewayInit{IPv4: own4, IPv6: own6, Relays: make([]wire.Relay, 2)}
	b.fails = true
	b.message(init)
	b.want("init", "configure 100.64.0.1 fd00:2021:1111::1 [100.64.0.0/11 fd00:2021:1111::/107]")
	b.fails = false
	b.at(5)
	b.want("retry", "configure 100.64.0.1 fd00:2021:1111::1 [100.64.0.0/11 fd00:2021:1111::/107]")
	b.message(init)
	b.want("the same again")
	init.IPv4 = c4(9)
	b.message(init)
	b.want("another address", "configure 100.64.1.9 fd00:2021:1111::1 [100.64.0.0/11 fd00:2021:1111::/107]")
	b.slow = true
	for _, a := range []byte{10, 11, 12} { // one wish at a time, the last one counts
		init.IPv4 = c4(a)
		b.message(init)
	}
	b.do(func() { b.c.Done(core.Configured{}, b.now) })
	b.do(func() { b.c.Done(core.Configured{}, b.now) })
	b.want("many addresses", "configure 100.64.1.10 fd00:2021:1111::1 [100.64.0.0/11 fd00:2021:1111::/107]",
		"configure 100.64.1.12 fd00:2021:1111::1 [100.64.0.0/11 fd00:2021:1111::/107]")
	if want := slices.Repeat([]string{"relays -0 +2"}, 6); !slices.Equal(b.paths.calls, want) {
		t.Errorf("%v, want %v", b.paths.calls, want)
	}
}

func TestAuthorizationIsAcceptedBeforeItsCandidates(t *testing.T) {
	b := newBench(t)
	b.message(authorization(1, cidr(1, "10.0.0.0/24")))
	b.want("authorization", "portal: accepted ref-1", "portal: candidates for 1: [candidate], invalidate false")
	got := b.paths.peers[id.PeerOf(who(1))]
	want := path.Peer{ID: id.PeerOf(who(1)), Key: wire.Key{1, 1}, PSK: wire.Key{2, 1},
		Local:  wire.ICECredentials{Username: "gggg", Password: strings.Repeat("g", 22)},
		Remote: wire.ICECredentials{Username: "cccc", Password: strings.Repeat("c", 22)}}
	if got != want {
		t.Errorf("peer %+v, want %+v", got, want)
	}
}

func TestAuthorizationsThatCannotBeServed(t *testing.T) {
	b := newBench(t)
	iceless := authorization(1, cidr(1, "10.0.0.0/24"))
	iceless.Iceless = true
	foreign := authorization(1, cidr(1, "10.0.0.0/24"))
	foreign.ClientIPv4 = addrA
	proxy := authorization(1, cidr(1, "10.0.0.0/24"))
	proxy.ClientIPv6 = proxies(1)[1]
	ours := authorization(1, cidr(1, "10.0.0.0/24"))
	ours.ClientIPv4 = own4
	for _, m := range []wire.Message{iceless, foreign, proxy, ours, authorization(1, cidr(1, "10.0.0.0/99")),
		authorization(1, wire.GatewayResource{ID: res(1), Type: wire.StaticDevicePool})} {
		b.message(m)
		b.want("authorization")
	}
	if got := b.counter("authorizations ignored: invalid"); got != 6 || len(b.paths.peers) != 0 {
		t.Errorf("%d ignored, %d peers", got, len(b.paths.peers))
	}
}

// Without relays there is no ack, and nothing is permitted.
func TestAuthorizationWithoutRelays(t *testing.T) {
	b := newBench(t)
	b.paths.refuse = path.ErrNoRelay
	b.message(authorization(1, cidr(1, "10.0.0.0/24")))
	b.want("authorization", "portal: wire.NoRelays")
	b.paths.refuse = nil
	b.paths.peers[id.PeerOf(who(1))] = path.Peer{}
	b.refused(1, udp(c4(1), addrA, 5000, 53), "dropped: not allowed", "to client 1: error 3/13 10.0.0.1 → 100.64.1.1")
}

func TestCandidatesAndRelaysArePassedOn(t *testing.T) {
	b := newBench(t)
	b.paths.calls = nil
	b.message(wire.PeerCandidates{Client: who(1), Candidates: []string{"a", "b"}})
	b.message(wire.PeerCandidates{Client: who(1), Candidates: []string{"a"}, Invalidate: true})
	b.message(wire.RelaysPresence{Disconnected: make([]id.Relay, 1), Connected: make([]wire.Relay, 2)})
	b.do(func() { b.c.NetworkChanged(wire.Key{}, b.now) })
	want := []string{"add 1 [a b]", "remove 1 [a]", "relays -1 +2", "relays -0 +0"}
	if !slices.Equal(b.paths.calls, want) {
		t.Errorf("%v, want %v", b.paths.calls, want)
	}
	b.message(wire.Unknown{Name: "something"})
	if b.counter("portal messages ignored") != 1 {
		t.Error("an unknown message was not counted")
	}
}

// A snapshot: what is not listed is revoked, also of clients not listed at all.
func TestInitIsASnapshot(t *testing.T) {
	b := newBench(t)
	for n := range byte(3) {
		b.grant(n+1, cidr(1, "10.0.0.0/24"), 0)
		b.grant(n+1, cidr(2, "10.0.1.0/24"), 0)
	}
	b.message(wire.GatewayInit{IPv4: own4, IPv6: own6, Authorizations: []wire.Authorization{
		{Client: who(1), Resource: res(1), ExpiresAt: epoch.Unix() + 100},
		{Client: who(2), Resource: res(2), ExpiresAt: epoch.Unix() + 200},
		{Client: who(9), Resource: res(1), ExpiresAt: epoch.Unix() + 200},
	}})
	b.want("init")
	b.passes(1, udp(c4(1), addrA, 5000, 53), addrA)
	b.refused(1, udp(c4(1), in2, 5000, 53), "dropped: not allowed", "to client 1: error 3/13 10.0.1.1 → 100.64.1.1")
	b.refused(2, udp(c4(2), addrA, 5000, 53), "dropped: not allowed", "to client 2: error 3/13 10.0.0.1 → 100.64.1.2")
	b.refused(3, udp(c4(3), in2, 5000, 53), "dropped: not allowed", "to client 3: error 3/13 10.0.1.1 → 100.64.1.3")
	b.at(0.6)
	b.want("half a second later", "to client 3: goodbye")
	b.at(99.999)
	b.passes(1, udp(c4(1), addrA, 5000, 53), addrA)
	b.passes(2, udp(c4(2), in2, 5000, 53), in2)
	b.at(100)
	b.refused(1, udp(c4(1), addrA, 5000, 53), "dropped: not allowed", "to client 1: error 3/13 10.0.0.1 → 100.64.1.1")
}

func TestResourceUpdatedReplacesFiltersOnly(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(1, "10.0.0.0/24", tcpOnly(80)), 0)
	b.grant(2, cidr(1, "10.0.0.0/24", tcpOnly(80)), 50)
	b.grant(1, dns(2, "wiki.corp.example", tcpOnly(80)), 0)
	b.name(1, 2, "wiki.corp.example", proxies(1), addrB)
	p := proxies(1)[0]
	b.refused(1, tcp(c4(1), addrA, 5000, 443, packet.SYN), "dropped: filtered", "to client 1: error 3/13 10.0.0.1 → 100.64.1.1")
	b.refused(1, tcp(c4(1), p, 5000, 443, packet.SYN), "dropped: filtered", "to client 1: error 3/13 100.96.1.1 → 100.64.1.1")

	b.message(wire.GatewayResourceUpdated{GatewayResource: cidr(1, "10.9.9.0/24", tcpOnly(443))})
	b.message(wire.GatewayResourceUpdated{GatewayResource: dns(2, "other.example", tcpOnly(443))})
	b.message(wire.GatewayResourceUpdated{GatewayResource: cidr(7, "10.9.9.0/24")})
	b.want("updates")
	b.passes(1, tcp(c4(1), addrA, 5000, 443, packet.SYN), addrA)
	b.passes(2, tcp(c4(2), addrA, 5000, 443, packet.SYN), addrA)
	b.passes(1, tcp(c4(1), p, 5001, 443, packet.SYN), addrB)
	b.at(50)
	b.refused(2, tcp(c4(2), addrA, 5000, 443, packet.ACK), "dropped: not allowed", "to client 2: error 3/13 10.0.0.1 → 100.64.1.2")

	b.message(wire.GatewayResourceUpdated{GatewayResource: dns(1, "other.example")})
	if b.counter("resource updates refused: another type") == 0 {
		t.Error("another type was not refused")
	}
	b.refused(1, tcp(c4(1), addrA, 5000, 80, packet.SYN), "dropped: filtered", "to client 1: error 3/13 10.0.0.1 → 100.64.1.1")
}

// The same resource again: filters and expiry are replaced (1.4).
func TestAuthorizationAgain(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(1, "10.0.0.0/24", tcpOnly(80)), 10)
	b.grant(1, cidr(1, "10.0.0.0/24", tcpOnly(443)), 20)
	b.at(15)
	b.passes(1, tcp(c4(1), addrA, 5000, 443, packet.SYN), addrA)
	b.refused(1, tcp(c4(1), addrA, 5000, 80, packet.SYN), "dropped: filtered", "to client 1: error 3/13 10.0.0.1 → 100.64.1.1")
	b.grant(1, cidr(1, "10.0.1.0/24"), 0) // another network, for ever
	b.at(30)
	b.passes(1, udp(c4(1), in2, 5000, 53), in2)
	b.refused(1, tcp(c4(1), addrA, 5000, 443, packet.ACK), "dropped: not allowed", "to client 1: error 3/13 10.0.0.1 → 100.64.1.1")
	b.grant(1, cidr(1, "10.0.1.0/24"), 5) // in the past
	b.refused(1, udp(c4(1), in2, 5000, 53), "dropped: not allowed", "to client 1: error 3/13 10.0.1.1 → 100.64.1.1")
}

func TestRejectAccess(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(1, "10.0.0.0/24"), 0)
	b.grant(1, internet(2), 0)
	b.message(wire.RejectAccess{Client: who(1), Resource: res(1)})
	b.message(wire.RejectAccess{Client: who(1), Resource: res(7)})
	b.message(wire.RejectAccess{Client: who(7), Resource: res(1)})
	b.refused(1, udp(c4(1), addrA, 5000, 53), "dropped: not allowed", "to client 1: error 3/0 10.0.0.1 → 100.64.1.1")
	b.passes(1, udp(c4(1), addr("8.8.8.8"), 5000, 53), addr("8.8.8.8"))
	b.at(10)
	b.want("something is left")
	b.message(wire.RejectAccess{Client: who(1), Resource: res(2)})
	b.refused(1, udp(c4(1), addr("8.8.8.8"), 5000, 53), "dropped: not allowed", "to client 1: error 3/13 8.8.8.8 → 100.64.1.1")
	b.at(11)
	b.want("nothing is left", "to client 1: goodbye")
}

// Rejected and authorized again at once: the client notices nothing.
func TestRejectedAndAuthorizedAgain(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(1, "10.0.0.0/24"), 0)
	b.message(wire.RejectAccess{Client: who(1), Resource: res(1)})
	b.at(0.3)
	b.grant(1, cidr(2, "10.0.1.0/24"), 0)
	b.at(10)
	b.want("no goodbye")
	b.passes(1, udp(c4(1), in2, 5000, 53), in2)
}

func TestStopSaysGoodbye(t *testing.T) {
	b := newBench(t)
	b.grant(2, cidr(1, "10.0.0.0/24"), 0)
	b.grant(1, cidr(1, "10.0.0.0/24"), 0)
	b.do(func() { b.c.Stop(b.now) })
	b.want("stop", "to client 1: goodbye", "to client 2: goodbye")
}

func TestReport(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(1, "10.0.0.0/24"), 0)
	b.refused(1, udp(c4(2), addrA, 5000, 53), "dropped: spoofed source")
	b.refused(1, udp(c4(2), addrA, 5000, 53), "dropped: spoofed source")
	var r core.Report
	b.c.Report(&r, b.now)
	if !r.PortalUp || r.TUN.IPv4 != own4 || len(r.Connections) != 1 || len(r.Counters) != 1 || r.Counters[0].Value != 2 {
		t.Errorf("%+v", r)
	}
	b.do(func() { b.c.PortalDown(b.now) })
	if b.c.Report(&r, b.now); r.PortalUp {
		t.Error("the portal is up")
	}
	b.passes(1, udp(c4(1), addrA, 5000, 53), addrA) // without the portal, too
	for i, name := range counterNames {
		if (name == "") != (counter(i) == passed) {
			t.Errorf("counter %d is called %q", i, name)
		}
	}
}

// The wall clock counts at the start only.
func TestExpiryIsInUnixSeconds(t *testing.T) {
	b := newBench(t)
	if got := b.c.expiry(epoch.Unix() + 60); !got.Equal(boot.Add(time.Minute)) {
		t.Errorf("%v", got)
	}
}
