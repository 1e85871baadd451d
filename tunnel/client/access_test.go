package client

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"stile/tunnel/id"
	"stile/tunnel/packet"
	"stile/tunnel/path"
	"stile/tunnel/wire"
)

// TestWhatTriggersARequest is the first table of 17.
func TestWhatTriggersARequest(t *testing.T) {
	b := newBench(t, dnsResource(1, "*.example"), cidrResource(2, "10.0.0.0/8", ports(wire.TCP, 80, 80)), internetResource(3))
	b.query("wiki.example", dns.TypeA)
	b.want("A query", "answered dns NOERROR 4")
	b.query("wiki.example", dns.TypeAAAA)
	b.want("AAAA query", "answered dns NOERROR 4")
	b.send(syn("100.96.0.1", 1, 80))
	b.want("first packet to a proxy address", "request 1 []")
	b.send(syn("10.0.0.1", 1, 80))
	b.want("first packet to a CIDR address", "request 2 []")
	b.send(syn("9.9.9.9", 1, 80))
	b.want("first packet to the Internet", "request 3 []")

	b = newBench(t, cidrResource(2, "10.0.0.0/8", ports(wire.TCP, 80, 80)))
	b.send(syn("10.0.0.1", 1, 81))
	b.want("packet denied by filters", "answered icmp 3/13 from 10.0.0.1")
	if n := b.count("authorizations requested"); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// TestProhibitedFromAGatewayAsksAgain: 17, the requirement.
func TestProhibitedFromAGatewayAsksAgain(t *testing.T) {
	for _, c := range []struct {
		name  string
		error []byte
		want  []string
	}{
		{"3/13", icmp(addr("10.0.0.1"), own4, 3, 13, udp("10.0.0.1", 9, "")), []string{"request 2 [2 1 3]"}},
		{"1/1 for a name", icmp(addr("fd00:2021:1111:8000::"), own6, 1, 1, udp("fd00:2021:1111:8000::", 9, "")), nil}, // another gateway's
		{"3/13 for the Internet", icmp(addr("9.9.9.9"), own4, 3, 13, udp("9.9.9.9", 9, "")), nil},
		{"port unreachable", icmp(addr("10.0.0.1"), own4, 3, 3, udp("10.0.0.1", 9, "")), nil},
		{"network unreachable", icmp(addr("10.0.0.1"), own4, 3, 0, udp("10.0.0.1", 9, "")), nil},
		{"time exceeded", icmp(addr("198.51.100.1"), own4, 11, 0, udp("10.0.0.1", 9, "")), nil},
		{"about somebody else's packet", icmp(addr("10.0.0.1"), own4, 3, 13, datagram(addr("10.0.0.2"), addr("10.0.0.1"), 1, 2, "")), nil},
	} {
		b := connected(t)
		b.wait(askGap)
		b.receive(gw(2), c.error)
		b.want(c.name, c.want...)
	}

	b := connected(t)
	b.wait(askGap)
	prohibited := icmp(addr("100.96.0.1"), own4, 3, 13, syn("100.96.0.1", 1, 80))
	b.receive(gw(1), prohibited)
	b.want("a name", "request 1 [1 2 3]")
	b.receive(gw(1), prohibited)
	b.want("throttled")
	b.send(tcp("100.96.0.1", 1, 80, packet.ACK, ""))
	b.want("nothing is held back meanwhile", "sent tcp 100.96.0.1:1>80  to 1")
	b.grant(1, 1)
	b.want("granted again on the same gateway: its NAT may be new", "sent names 1 wiki.example 100.96.0.1+7 to 1")
	b.send(tcp("100.96.0.1", 1, 80, packet.ACK, "1"))
	b.want("so packets wait")
	b.status(1, 1, "wiki.example", true)
	b.want("and go on", "sent tcp 100.96.0.1:1>80 1 to 1")
}

// TestThrottle: one request per resource in 2 s, repeated by traffic only.
func TestThrottle(t *testing.T) {
	b := newBench(t, cidrResource(1, "10.0.0.0/8"), cidrResource(2, "172.16.0.0/12"))
	b.send(udp("10.0.0.1", 1, "a"))
	b.want("at 0 s", "request 1 []")
	b.send(udp("172.16.0.1", 1, "a"))
	b.want("another resource", "request 2 []")
	b.wait(1999 * time.Millisecond)
	b.send(udp("10.0.0.1", 1, "b"))
	b.want("at 1.999 s: too soon")
	b.wait(time.Millisecond)
	b.want("at 2 s: traffic wanted it", "request 1 []")
	b.wait(time.Minute)
	b.want("without traffic")
	b.send(udp("10.0.0.1", 1, "c"))
	b.want("at 62 s", "request 1 []")
	b.wait(2 * time.Second)
	b.send(udp("10.0.0.1", 1, "d"))
	b.want("2 s later", "request 1 []")
}

// TestGrantForNetworks: packets are routed again from the start, wait for the
// session, and leave in order. At most 128 survive (acceptance test 23).
func TestGrantForNetworks(t *testing.T) {
	b := newBench(t, cidrResource(1, "10.0.0.0/8"))
	for i := range 129 {
		b.send(udp("10.0.0.1", 7, fmt.Sprint(i)))
	}
	b.want("waiting", "request 1 []")
	b.grant(1, 1)
	b.want("granted")
	if got := b.paths.log[len(b.paths.log)-1]; got != "upsert 1" {
		t.Errorf("got %s", got)
	}
	b.send(udp("10.0.0.1", 7, "129"))
	b.want("no session yet")
	b.up(1)
	var want []string
	for i := 2; i < 130; i++ {
		want = append(want, fmt.Sprintf("sent udp 10.0.0.1:4000>7 %d to 1", i))
	}
	b.want("session", want...)
	b.send(udp("10.0.0.1", 7, "now"))
	b.want("afterwards", "sent udp 10.0.0.1:4000>7 now to 1")
}

// TestGrantForNames: every name resolved so far is announced; of 129 packets
// for one name the newest 32 survive (acceptance test 23).
func TestGrantForNames(t *testing.T) {
	b := newBench(t, dnsResource(1, "*.example"))
	b.resolved("wiki.example")
	b.resolved("git.example")
	b.resolved("wiki.example")
	for i := range 129 {
		b.send(udp("100.96.0.1", 7, fmt.Sprint(i)))
	}
	b.want("waiting", "request 1 []")
	b.grant(1, 1)
	b.want("granted")
	b.up(1)
	b.want("session", "sent names 1 wiki.example 100.96.0.1+7 to 1", "sent names 1 git.example 100.96.0.5+7 to 1")
	b.status(1, 1, "git.example", true)
	b.want("the other name")
	b.status(1, 1, "WIKI.example", true)
	var want []string
	for i := 97; i < 129; i++ {
		want = append(want, fmt.Sprintf("sent udp 100.96.0.1:4000>7 %d to 1", i))
	}
	b.want("active", want...)
}

// TestGatewayPreference: where it is authorized, where it was last, those
// connected, the others by ID.
func TestGatewayPreference(t *testing.T) {
	list := []wire.Resource{cidrResource(1, "10.1.0.0/16"), cidrResource(2, "10.2.0.0/16"), cidrResource(3, "10.3.0.0/16"), cidrResource(4, "10.4.0.0/16")}
	b := newBench(t, list...)
	for n, g := range map[byte]byte{1: 9, 2: 5, 3: 7} {
		b.send(syn(fmt.Sprintf("10.%d.0.1", n), 1, 80))
		b.grant(n, g)
		b.up(g)
	}
	b.took()
	b.send(syn("10.4.0.1", 1, 80))
	b.want("all connected, none used for it", "request 4 [5 7 9]")
	b.message(wire.ResourceDeleted{ID: res(2)}) // gateway 5 has nothing left
	b.took()
	b.wait(askGap)
	b.send(syn("10.4.0.1", 1, 81))
	b.want("connected first, then the known", "request 4 [7 9 5]")

	b.do(func() { b.c.NetworkChanged(wire.Key{1}, b.now) })
	b.init(list...)
	b.took()
	b.send(syn("10.1.0.1", 1, 80))
	b.want("after a roam: where it was", "request 1 [9 5 7]")
	b.grant(1, 7)
	b.send(syn("10.3.0.1", 1, 80))
	b.want("7 is not connected yet, but was last", "request 3 [7 5 9]")
}

func TestPreferenceIsBounded(t *testing.T) {
	b := newBench(t, cidrResource(1, "10.1.0.0/16"))
	for i := range 5000 {
		b.c.memory.used(id.Resource{1, byte(i >> 8), byte(i)}, id.Gateway{2, byte(i >> 8), byte(i)})
	}
	if got := b.c.preferred(b.c.resources[res(1)]); len(got) != maxPreferred || !slices.IsSortedFunc(got, id.Gateway.Compare) {
		t.Errorf("%d gateways", len(got))
	}
	if len(b.c.memory.known) > maxKnown || len(b.c.memory.last) > maxLast {
		t.Errorf("%d known, %d last", len(b.c.memory.known), len(b.c.memory.last))
	}
}

// TestFailures is the last table of 17. All drop the buffer; traffic asks
// again after 2 s.
func TestFailures(t *testing.T) {
	for _, c := range []struct {
		reason  string
		notify  bool
		offline bool
	}{
		{wire.ReasonOffline, true, true},
		{wire.ReasonVersionMismatch, true, false},
		{wire.ReasonNotFound, false, false},
		{wire.ReasonForbidden, false, false},
		{wire.ReasonDisabled, false, false},
		{"ambiguous_address", false, false},
		{"missing_address", false, false},
		{"invalid_address", false, false},
		{"unknown", false, false},
		{"", false, false},
	} {
		b := newBench(t, cidrResource(1, "10.0.0.0/8"))
		b.send(udp("10.0.0.1", 1, "a"))
		b.took()
		refuse := func() { b.message(wire.AuthorizationFailed{Resource: res(1), Reason: c.reason}) }
		refuse()
		var want []string
		if c.notify {
			want = []string{"notify 1"}
		}
		b.want(c.reason, want...)
		if b.c.held != 0 {
			t.Errorf("%s: %d packets held", c.reason, b.c.held)
		}
		if got := b.stateOf(1) == offline; got != c.offline {
			t.Errorf("%s: state %s", c.reason, b.stateOf(1))
		}
		b.wait(askGap)
		b.want(c.reason + ", nobody wants it")
		b.send(udp("10.0.0.1", 1, "b"))
		b.want(c.reason+", traffic after 2 s", "request 1 []")
		refuse()
		b.took()
		b.send(udp("10.0.0.1", 1, "c"))
		b.want(c.reason + ", traffic at once")
		b.wait(askGap)
		b.want(c.reason+", has to wait for 2 s", "request 1 []")
		refuse()
		b.want(c.reason + ", again: the user knows")
	}
}

// TestOfflineMark lasts 5 minutes, or until success.
func TestOfflineMark(t *testing.T) {
	b := newBench(t, cidrResource(1, "10.0.0.0/8"), cidrResource(2, "172.16.0.0/12"), internetResource(3))
	b.send(udp("10.0.0.1", 1, ""))
	b.message(wire.AuthorizationFailed{Resource: res(1), Reason: wire.ReasonOffline})
	if b.stateOf(1) != offline || b.stateOf(2) != offline || b.stateOf(3) != unknown {
		t.Errorf("got %s, %s, %s: all resources of the site share its state", b.stateOf(1), b.stateOf(2), b.stateOf(3))
	}
	b.wait(5*time.Minute - 1)
	if b.stateOf(1) != offline {
		t.Errorf("before 5 min: %s", b.stateOf(1))
	}
	b.wait(1)
	if b.stateOf(1) != unknown {
		t.Errorf("after 5 min: %s", b.stateOf(1))
	}
	b.send(udp("10.0.0.1", 1, ""))
	b.message(wire.AuthorizationFailed{Resource: res(1), Reason: wire.ReasonOffline})
	b.wait(askGap)
	b.send(udp("10.0.0.1", 1, ""))
	b.grant(1, 1)
	if b.stateOf(1) != unknown {
		t.Errorf("granted: %s", b.stateOf(1))
	}
	b.up(1)
	if b.stateOf(1) != online || b.stateOf(2) != online {
		t.Errorf("connected: %s, %s", b.stateOf(1), b.stateOf(2))
	}
}

// TestOfflineClosesTheTunnel that served the resource (spec portal.md 3.2).
func TestOfflineClosesTheTunnel(t *testing.T) {
	b := connected(t)
	b.wait(askGap)
	b.receive(gw(2), icmp(addr("10.0.0.1"), own4, 3, 13, udp("10.0.0.1", 9, "")))
	b.message(wire.AuthorizationFailed{Resource: res(2), Reason: wire.ReasonOffline})
	if got := b.paths.log[len(b.paths.log)-1]; got != "close 2 goodbye true" {
		t.Errorf("got %s", got)
	}
}

// TestAuthorizationsNobodyAskedFor are ignored, as are those that cannot be.
func TestAuthorizationsNobodyAskedFor(t *testing.T) {
	b := newBench(t, cidrResource(1, "10.0.0.0/8"))
	b.grant(1, 1)
	b.grant(77, 1)
	b.message(wire.AuthorizationFailed{Resource: res(1), Reason: wire.ReasonOffline})
	b.message(wire.AuthorizationFailed{Resource: res(77), Reason: wire.ReasonOffline})
	b.want("not asked for")
	if n := b.count("authorizations ignored: not asked for"); n != 4 {
		t.Errorf("counted %d", n)
	}
	b.send(udp("10.0.0.1", 1, "a"))
	b.took()
	for _, spoil := range []func(*wire.AuthorizationCreated){
		func(m *wire.AuthorizationCreated) { m.Iceless = true },
		func(m *wire.AuthorizationCreated) { m.GatewayKey = wire.Key{} },
		func(m *wire.AuthorizationCreated) { m.GatewayIPv4 = addr("10.0.0.1") },
		func(m *wire.AuthorizationCreated) { m.GatewayIPv6 = addr("2001:db8::1") },
	} {
		m := granted(1, 1)
		spoil(&m)
		b.message(m)
	}
	if n := b.count("authorizations ignored: invalid"); n != 4 || len(b.c.gateways) != 0 {
		t.Errorf("counted %d, %d gateways", n, len(b.c.gateways))
	}
	b.grant(1, 1)
	b.up(1)
	b.want("the request was still there", "sent udp 10.0.0.1:4000>1 a to 1")
}

// TestNoRelay: the portal is asked for relays; the authorization waits for
// them instead of for another one.
func TestNoRelay(t *testing.T) {
	b := newBench(t, cidrResource(1, "10.0.0.0/8"))
	b.send(udp("10.0.0.1", 1, "a"))
	b.took()
	b.paths.noRelay = true
	b.grant(1, 1)
	b.want("no relay", "tell no_relays")
	b.paths.noRelay = false
	b.message(wire.RelaysPresence{})
	b.up(1)
	b.want("relays came", "sent udp 10.0.0.1:4000>1 a to 1")
}

// TestPortalAway: packets wait for the portal; on a new channel everything
// unanswered is asked again after init, once.
func TestPortalAway(t *testing.T) {
	list := []wire.Resource{cidrResource(1, "10.0.0.0/8"), cidrResource(2, "172.16.0.0/12")}
	b := newBench(t, list...)
	b.send(udp("172.16.0.1", 1, "asked before"))
	b.took()
	b.do(func() { b.c.PortalDown(b.now) })
	b.send(udp("10.0.0.1", 1, "a"))
	b.want("down")
	b.wait(time.Minute)
	b.do(func() { b.c.PortalUp(b.now) })
	b.want("up", "tell set_snownet_capabilities")
	b.message(initOf(list...))
	b.want("init", "request 2 []", "request 1 []")
	b.message(initOf(list...))
	b.want("init again")
	b.grant(1, 1)
	b.up(1)
	b.want("granted", "sent udp 10.0.0.1:4000>1 a to 1")
	if got := strings.Join(b.paths.log[len(b.paths.log)-5:], ", "); got != "down, up, relays, relays, upsert 1" {
		t.Errorf("got %s", got)
	}
}

// TestAnotherGateway: a resource moves; the one left without any is told.
func TestAnotherGateway(t *testing.T) {
	b := connected(t)
	b.wait(askGap)
	b.receive(gw(2), icmp(addr("10.0.0.1"), own4, 3, 13, udp("10.0.0.1", 9, "")))
	b.grant(2, 8)
	b.up(8)
	b.took()
	if !slices.Contains(b.paths.log, "close 2 goodbye true") || b.c.gateways[gw(2)] != nil {
		t.Error("the former gateway was not told")
	}
	b.send(udp("10.0.0.1", 9, ""))
	b.want("packet", "sent udp 10.0.0.1:4000>9  to 8")
	if b.receive(gw(8), datagram(addr("10.0.0.1"), own4, 9, 4000, "")) != true {
		t.Error("reply not delivered")
	}
}

// TestRestartedGateway comes with another key and knows of nothing.
func TestRestartedGateway(t *testing.T) {
	b := newBench(t, cidrResource(1, "10.1.0.0/16"), cidrResource(2, "10.2.0.0/16"))
	b.send(syn("10.1.0.1", 1, 80))
	b.grant(1, 1)
	b.up(1)
	b.took()
	b.send(syn("10.2.0.1", 1, 80))
	b.want("second resource", "request 2 [1]")
	m := granted(2, 1)
	m.GatewayKey = wire.Key{77}
	b.message(m)
	b.want("no session with the new one")
	b.wait(askGap)
	b.send(syn("10.1.0.1", 1, 80))
	b.want("the first resource has to be asked for", "request 1 [1]")
	b.up(1)
	b.want("session", "sent tcp 10.2.0.1:1>80  to 1")
}

// TestFailedConnection: what waited is dropped, the next packet asks again
// (connectivity.md 1.8).
func TestFailedConnection(t *testing.T) {
	b := newBench(t, dnsResource(1, "*.example"))
	b.resolved("wiki.example")
	b.send(syn("100.96.0.1", 1, 80))
	b.grant(1, 1)
	b.up(1)
	b.took()
	delete(b.paths.up, id.PeerOf(gw(1)))
	b.paths.event(path.Failed{Peer: id.PeerOf(gw(1)), Reason: path.NoWay})
	b.do(func() {})
	if b.c.held != 0 || len(b.c.bindings.list) != 0 || len(b.c.gateways) != 0 || len(b.c.byAddr) != 0 {
		t.Errorf("%d held, %d bindings, %d gateways are left", b.c.held, len(b.c.bindings.list), len(b.c.gateways))
	}
	b.wait(askGap)
	b.send(syn("100.96.0.1", 1, 80))
	b.want("next packet", "request 1 [1]")
	b.grant(1, 1)
	b.up(1)
	b.want("announced again", "sent names 1 wiki.example 100.96.0.1+7 to 1")
}

// TestSessionLostMeanwhile: packets wait for the next one, in order.
func TestSessionLostMeanwhile(t *testing.T) {
	b := connected(t)
	keys := b.paths.up[id.PeerOf(gw(2))]
	delete(b.paths.up, id.PeerOf(gw(2)))
	b.send(udp("10.0.0.1", 1, "a"))
	b.paths.up[id.PeerOf(gw(2))] = keys
	b.send(udp("10.0.0.1", 1, "b")) // not past the first
	b.want("no session")
	b.up(2)
	b.want("again", "sent udp 10.0.0.1:4000>1 a to 2", "sent udp 10.0.0.1:4000>1 b to 2")
}

func TestCandidatesPassThrough(t *testing.T) {
	b := connected(t)
	b.paths.event(path.Candidates{Peer: id.PeerOf(gw(1)), Texts: []string{"x"}})
	b.paths.event(path.Candidates{Peer: id.PeerOf(gw(1)), Texts: []string{"x"}, Invalidate: true})
	b.do(func() {})
	b.want("ours", "candidates for 1 [x] false", "candidates for 1 [x] true")
	b.message(wire.GatewayCandidates{Gateway: gw(2), Candidates: []string{"y"}})
	b.message(wire.GatewayCandidates{Gateway: gw(2), Candidates: []string{"y"}, Invalidate: true})
	if got := b.paths.log[len(b.paths.log)-2:]; !slices.Equal(got, []string{"candidates of 2: [y]", "not candidates of 2: [y]"}) {
		t.Errorf("got %q", got)
	}
}
