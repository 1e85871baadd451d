package gateway

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/packet"
	"stile/tunnel/wire"
)

const (
	alicePolicy = "66bb0000-0000-4000-8000-000000000001"
	aliceActor  = "44cc0000-0000-4000-8000-000000000002"
)

// tokenOf is what the portal sends along with Alice's authorizations.
func tokenOf(name, email string) string {
	claims := fmt.Sprintf(`{"policy_id":%q,"initiator_actor_id":%q,"initiator_actor_name":%q,"initiator_actor_email":%q}`, alicePolicy, aliceActor, name, email)
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".AA"
}

// said moves out the flows told since the last time, as text.
func (b *bench) said() (lines []string) {
	for _, f := range b.flows {
		lines = append(lines, describeFlow(f))
	}
	b.flows = nil
	return lines
}

func (b *bench) wantFlows(when string, want ...string) {
	b.t.Helper()
	if got := b.said(); !slices.Equal(got, want) {
		b.t.Errorf("%s:\n got %s\nwant %s", when, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

func describeFlow(f core.Flow) string {
	s := fmt.Sprintf("%v %v", f.At.Sub(boot).Seconds(), f.Kind)
	if f.Reason != "" {
		s += " (" + f.Reason + ")"
	}
	if f.Inbound {
		s += " inbound"
	}
	s += fmt.Sprintf(" client %d proto %d %v:%d", f.Client[15], f.Proto, f.ClientAddr, f.ClientPort)
	if f.Proxy.IsValid() {
		s += fmt.Sprintf(" to %v", f.Proxy)
	}
	if f.Real.IsValid() && f.Real != f.Proxy {
		s += fmt.Sprintf(" at %v", f.Real)
	}
	s += fmt.Sprintf(":%d", f.Port)
	if f.Name != "" {
		s += " " + f.Name
	}
	if f.Grant != nil {
		s += fmt.Sprintf(" by %d %s %s", f.Grant.Resource[15], f.Grant.ResourceName, f.Grant.ActorName)
	}
	return s + fmt.Sprintf(" out %d/%d in %d/%d", f.PacketsOut, f.BytesOut, f.PacketsIn, f.BytesIn)
}

// A session is told of when it begins and when it ends, with all that is known
// of it, also when its authorization has gone meanwhile.
func TestSessionsAreTold(t *testing.T) {
	b := newBenchWith(t, Config{Flows: true})
	m := authorization(1, dns(1, "*.corp.example"))
	m.IngestToken = tokenOf("Alice", "alice@corp.example")
	b.message(m)
	b.grant(1, cidr(2, "10.0.0.0/16"), 0)
	b.grant(1, cidr(3, "10.0.1.0/24"), 0)
	b.name(1, 1, "wiki.corp.example", proxies(1), addrA)
	b.wantFlows("nothing flows yet")

	b.passes(1, tcp(c4(1), proxies(1)[0], 5000, 443, packet.SYN), addrA)
	b.wantFlows("a connection by name", "0 started client 1 proto 6 100.64.1.1:5000 to 100.96.1.1 at 10.0.0.1:443 wiki.corp.example by 1 name alice@corp.example out 1/44 in 0/0")
	b.passes(1, udp(c4(1), in2, 6000, 53), in2)
	b.wantFlows("a network, the more specific one", "0 started client 1 proto 17 100.64.1.1:6000 to 10.0.1.1:53 by 3 net  out 1/32 in 0/0")

	b.at(0.5)
	b.receive(udp(own4, c4(1), 161, 7000))
	b.wantFlows("the gateway host itself", "0.5 started client 1 proto 17 100.64.1.1:7000 to 100.64.0.1:161 out 0/0 in 1/32")

	b.at(1)
	b.arrives(tcp(addrA, c4(1), 443, 5000, packet.SYN|packet.ACK), proxies(1)[0])
	b.passes(1, tcp(c4(1), proxies(1)[0], 5000, 443, packet.ACK), addrA)
	b.arrives(tcp(addrA, c4(1), 443, 5000, packet.FIN|packet.ACK), proxies(1)[0])
	b.passes(1, tcp(c4(1), proxies(1)[0], 5000, 443, packet.FIN|packet.ACK), addrA)
	b.message(wire.RejectAccess{Client: who(1), Resource: res(1)})
	b.wantFlows("packets are not told of")
	b.at(400)
	b.wantFlows("the UDP sessions were not answered, the connection was closed",
		"60 ended (unanswered) client 1 proto 17 100.64.1.1:6000 to 10.0.1.1:53 by 3 net  out 1/32 in 0/0",
		"60.5 ended (unanswered) client 1 proto 17 100.64.1.1:7000 to 100.64.0.1:161 out 0/0 in 1/32",
		"241 ended (finished) client 1 proto 6 100.64.1.1:5000 to 100.96.1.1 at 10.0.0.1:443 wiki.corp.example by 1 name alice@corp.example out 3/132 in 2/88")

	b.passes(1, udp(c4(1), in2, 6001, 53), in2)
	b.said()
	b.message(wire.RejectAccess{Client: who(1), Resource: res(2)})
	b.message(wire.RejectAccess{Client: who(1), Resource: res(3)})
	other := authorization(1, cidr(2, "10.0.0.0/16"))
	other.ClientIPv4 = c4(9)
	b.message(other)
	b.wantFlows("its address is another: it begins anew", "400 ended (cleared) client 1 proto 17 100.64.1.1:6001 to 10.0.1.1:53 by 3 net  out 1/32 in 0/0")
}

// The first packet of each kind of denial is told at once, those that follow
// as a number after a minute.
func TestDenialsAreToldTogether(t *testing.T) {
	b := newBenchWith(t, Config{Flows: true})
	b.grant(1, cidr(2, "10.0.0.0/16", tcpOnly(443)), 0)
	refused := tcp(c4(1), addrA, 5000, 80, packet.SYN)
	for range 5 {
		b.send(1, refused)
	}
	b.receive(udp(addrB, c4(1), 53, 7000))
	b.wantFlows("at once", "0 denied (filtered) client 1 proto 6 100.64.1.1:5000 to 10.0.0.1:80 by 2 net  out 1/44 in 0/0",
		"0 denied (no session) inbound client 1 proto 17 100.64.1.1:0 at 10.0.0.2:53 out 0/0 in 1/32")
	b.at(59)
	b.send(1, tcp(c4(1), addrA, 5001, 80, packet.SYN))
	b.wantFlows("within the minute")
	b.at(61)
	b.wantFlows("after it", "59 denied (filtered) client 1 proto 6 100.64.1.1:5000 to 10.0.0.1:80 by 2 net  out 5/220 in 0/0")
	b.at(100)
	b.send(1, refused)
	b.wantFlows("still the same kind")
	b.at(122)
	b.wantFlows("the second minute", "100 denied (filtered) client 1 proto 6 100.64.1.1:5000 to 10.0.0.1:80 by 2 net  out 1/44 in 0/0")
	b.at(190)
	b.wantFlows("a minute of silence")
	b.send(1, refused)
	b.wantFlows("a kind that was forgotten is told at once", "190 denied (filtered) client 1 proto 6 100.64.1.1:5000 to 10.0.0.1:80 by 2 net  out 1/44 in 0/0")
}

// A client that tries everything fills a few lines, not the disk.
func TestManyKindsOfDenialsShareALine(t *testing.T) {
	b := newBenchWith(t, Config{Flows: true})
	b.grant(1, cidr(2, "10.0.0.0/16", tcpOnly(443)), 0)
	for port := range uint16(1000) {
		b.send(1, tcp(c4(1), addrA, 5000, 1000+port, packet.SYN))
	}
	b.at(61)
	lines := b.said()
	if len(lines) != maxDenied+2 {
		t.Fatalf("%d lines", len(lines))
	}
	if got, want := lines[maxDenied+1], "0 denied (filtered) client 1 proto 0 100.64.1.1:0:0 out 935/41140 in 0/0"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// Whatever happens: all packets that were dropped are in the flows, and each
// start has one end.
func TestFlowsAddUp(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 0))
		b := newBenchWith(t, Config{Flows: true})
		now := 0.0
		for n := byte(1); n <= 3; n++ {
			b.grant(n, cidr(2, "10.0.0.0/16", wire.Filter{Protocol: wire.UDP, First: 1, Last: 30}), 0)
		}
		for range 2000 {
			n, port := byte(1+rng.IntN(3)), uint16(1+rng.IntN(200))
			x := netip.AddrFrom4([4]byte{10, byte(rng.IntN(2)), 0, byte(rng.IntN(4))})
			switch rng.IntN(8) {
			case 0:
				now += rng.Float64() * 40
				b.at(now)
			case 1:
				b.receive(udp(x, c4(n), port, uint16(rng.IntN(20))))
			case 2:
				if rng.IntN(50) == 0 { // begins anew
					m := authorization(n, cidr(2, "10.0.0.0/16", wire.Filter{Protocol: wire.UDP, First: 1, Last: 30}))
					m.ClientIPv6 = c6(n + byte(10*rng.IntN(5)))
					b.message(m)
				}
			default:
				b.send(n, udp(c4(n), x, uint16(rng.IntN(20)), port))
			}
		}
		b.at(now + 24*3600)
		for range 3 {
			b.send(1, udp(c4(1), addrA, 1, 100))
		}
		b.do(func() { b.c.Stop(b.now) })
		var dropped, told uint64
		for _, c := range b.counters() {
			if strings.HasPrefix(c.Name, "dropped: ") {
				dropped += c.Value
			}
		}
		open := map[string]int{}
		for _, f := range b.flows {
			key := fmt.Sprint(f.Client, f.ClientAddr, f.ClientPort, f.Proxy, f.Started)
			switch f.Kind {
			case core.FlowStarted:
				open[key]++
			case core.FlowEnded:
				open[key]--
			case core.FlowDenied:
				told += f.PacketsOut + f.PacketsIn
			}
		}
		if told != dropped || dropped == 0 {
			t.Errorf("seed %d: %d packets dropped, %d told", seed, dropped, told)
		}
		for key, n := range open {
			if n != 0 {
				t.Errorf("seed %d: %d starts without an end of %s", seed, n, key)
			}
		}
		if b.c.lostFlows() != 0 || len(open) == 0 {
			t.Errorf("seed %d: %d sessions, %d flows lost", seed, len(open), b.c.lostFlows())
		}
	}
}

// What cannot be handed on is counted, and the memory for it is bounded.
func TestFlowsAreBounded(t *testing.T) {
	b := newBenchWith(t, Config{Flows: true})
	for range maxFlows + 10 {
		b.c.tellFlow(core.Flow{})
	}
	b.do(func() {})
	if len(b.flows) != maxFlows || b.c.lostFlows() != 10 {
		t.Errorf("%d told, %d lost", len(b.flows), b.c.lostFlows())
	}
	if cap(b.c.out.Flows) > keepFlows {
		t.Errorf("room for %d is kept", cap(b.c.out.Flows))
	}
}

// Nothing is collected for nobody, and packets cost no memory.
func TestFlowsAreOff(t *testing.T) {
	for _, on := range []bool{false, true} {
		b := newBenchWith(t, Config{Flows: on})
		b.grant(1, cidr(2, "10.0.0.0/16"), 0)
		keys := b.paths.keysOf(who(1))
		out, in := udp(c4(1), addrA, 5000, 53), udp(addrA, c4(1), 53, 5000)
		scratch := make([]byte, 64)
		p, _ := packet.Parse(append(scratch[:0], in...))
		var o core.Output
		step := func() {
			if b.c.Inbound(keys, 1, append(scratch[:0], out...), b.now) == nil {
				t.Fatal("did not pass")
			}
			o.Reset()
			b.c.Drain(&o)
			copy(scratch, in)
			b.c.Outbound(p, b.now)
		}
		b.paths.way = new(core.Way)
		step()
		if n := testing.AllocsPerRun(100, step); n != 0 {
			t.Errorf("flows %v: %v allocations for a packet there and back", on, n)
		}
		if b.c.nat(1).LostEvents() != 0 {
			t.Error("events pile up")
		}
		b.send(1, udp(c4(1), in2.Prev(), 1, 1))
		b.send(1, udp(c4(1), addr("192.0.2.1"), 1, 1))
		if told := len(b.flows) > 0; told != on {
			t.Errorf("flows %v: %v", on, b.said())
		}
	}
}

// nat is the session table of client n.
func (c *Core) nat(n byte) interface{ LostEvents() uint64 } { return c.clients[who(n)].nat }

// Whom an authorization is for is kept as the portal told it, and nothing else
// is made up.
func TestGrantOf(t *testing.T) {
	m := authorization(1, cidr(2, "10.0.0.0/16"))
	if g := grantOf(m); *g != (core.Grant{Resource: res(2), ResourceName: "net"}) {
		t.Errorf("without a token: %+v", g)
	}
	m.IngestToken = tokenOf("backup", "")
	actor, _ := id.Parse[struct{}](aliceActor)
	if g := grantOf(m); g.ActorName != "backup" || id.Actor(actor) != g.Actor || g.Policy.String() != alicePolicy {
		t.Errorf("a service account: %+v", g)
	}
	k := &client{known: map[id.Resource]*core.Grant{}}
	if k.grantFor(id.Resource{}) != nil || *k.grantFor(res(7)) != (core.Grant{Resource: res(7)}) {
		t.Error("unknown resources")
	}
}
