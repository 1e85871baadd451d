package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/packet"
	"stile/tunnel/wire"
)

func (b *bench) moment() Moment { return Moment{b.now, epoch.Add(b.now.Sub(boot))} }

func (b *bench) wantJSON(what string, got any, want string) {
	b.t.Helper()
	text, err := json.Marshal(got)
	if err != nil {
		b.t.Fatal(err)
	}
	if string(text) != want {
		b.t.Errorf("%s:\n got %s\nwant %s", what, text, want)
	}
}

// sessions returns all of a client's.
func (b *bench) sessions(n byte) (list []Session) {
	for cursor := uint32(0); ; {
		if list, cursor = b.c.SessionsOf(list, who(n), cursor, b.moment()); cursor == 0 {
			return list
		}
	}
}

// How the fields of a client are called is a promise.
func TestViewOfAClient(t *testing.T) {
	b := newBench(t)
	m := authorization(1, dns(1, "*.corp.example", tcpOnly(443), wire.Filter{Protocol: wire.UDP, First: 8000, Last: 8100}, wire.Filter{Protocol: wire.ICMP}, wire.Filter{Protocol: wire.TCP, Last: 65535}))
	m.IngestToken = tokenOf("Alice", "alice@corp.example")
	m.ExpiresAt = epoch.Unix() + 3600
	b.message(m)
	b.grant(1, cidr(2, "10.0.0.0/16"), 60)
	b.passes(1, udp(c4(1), addrA, 5000, 53), addrA)
	b.arrives(udp(addrA, c4(1), 53, 5000), addrA)

	v, ok := b.c.Client(who(1), b.moment())
	const alice = `{"resource_id":"00000000-0000-0000-0000-000000000001","resource":"name","type":"dns","address":"*.corp.example","filters":["tcp/443","udp/8000-8100","icmp","tcp"],"actor":"alice@corp.example","policy_id":"` + alicePolicy + `","expires_at":"2027-01-15T09:00:00Z"}`
	if !ok {
		t.Fatal("no such client")
	}
	b.wantJSON("a client", v, `{"id":"00000000-0000-0000-0000-000000000001","ipv4":"100.64.1.1","ipv6":"fd00:2021:1111::1:1","actor":"alice@corp.example","state":"direct","bytes_out":7,"bytes_in":5,"sessions":1,"authorizations":[`+alice+
		`,{"resource_id":"00000000-0000-0000-0000-000000000002","resource":"net","type":"cidr","address":"10.0.0.0/16","filters":[],"expires_at":"2027-01-15T08:01:00Z"}]}`)

	b.at(60) // the second is over, at this very instant
	if v, _ = b.c.Client(who(1), b.moment()); len(v.Authorizations) != 1 {
		t.Errorf("%d authorizations", len(v.Authorizations))
	}
	b.paths.down[id.PeerOf(who(1))] = true
	if v, _ = b.c.Client(who(1), b.moment()); v.State != "connecting" {
		t.Errorf("state %s", v.State)
	}
	b.message(wire.RejectAccess{Client: who(1), Resource: res(1)})
	b.at(70)
	v, _ = b.c.Client(who(1), b.moment())
	if want := epoch.Add(60*time.Second + closeAfter + parkFor); v.State != "away" || !v.KeptUntil.Equal(want) || v.Sessions != 1 || v.Actor != "alice@corp.example" {
		t.Errorf("away: %+v, want it kept until %v", v, want)
	}
	b.grant(2, cidr(2, "10.0.0.0/16"), 0)
	if v, _ = b.c.Client(who(2), b.moment()); v.State != "relayed" || !v.Authorizations[0].ExpiresAt.IsZero() {
		t.Errorf("%+v", v)
	}
	if all := b.c.Clients(nil); len(all) != 2 {
		t.Errorf("clients %v", all)
	}
	if _, ok := b.c.Client(who(9), b.moment()); ok {
		t.Error("nobody is there")
	}
}

func TestViewOfSessions(t *testing.T) {
	b := newBench(t)
	m := authorization(1, dns(1, "*.corp.example"))
	m.IngestToken = tokenOf("Alice", "alice@corp.example")
	b.message(m)
	b.grant(1, cidr(2, "10.0.0.0/16"), 0)
	b.name(1, 1, "wiki.corp.example", proxies(1), addrA)
	b.passes(1, tcp(c4(1), proxies(1)[0], 5000, 443, packet.SYN), addrA)
	b.at(1)
	b.arrives(tcp(addrA, c4(1), 443, 5000, packet.SYN|packet.ACK), proxies(1)[0])
	b.wantJSON("by name", b.sessions(1), `[{"client_id":"00000000-0000-0000-0000-000000000001","client_ip":"100.64.1.1","client_port":5000,"actor":"alice@corp.example","protocol":"tcp","name":"wiki.corp.example","proxy_ip":"100.96.1.1","real_ip":"10.0.0.1","port":443,"outside_port":5000,"resource_id":"00000000-0000-0000-0000-000000000001","resource":"name","state":"opening","started_at":"2027-01-15T08:00:00Z","last_at":"2027-01-15T08:00:01Z","last_out_at":"2027-01-15T08:00:00Z","ends_at":"2027-01-15T08:04:01Z","packets_out":1,"packets_in":1,"bytes_out":44,"bytes_in":44}]`)
	b.at(400)
	if list := b.sessions(1); len(list) != 0 {
		t.Errorf("it is over: %+v", list)
	}
	b.passes(1, echo(c4(1), addrB, 9, true), addrB)
	b.wantJSON("without translation", b.sessions(1), `[{"client_id":"00000000-0000-0000-0000-000000000001","client_ip":"100.64.1.1","client_port":9,"actor":"alice@corp.example","protocol":"icmp","real_ip":"10.0.0.2","outside_port":9,"resource_id":"00000000-0000-0000-0000-000000000002","resource":"net","state":"unconfirmed","started_at":"2027-01-15T08:06:40Z","last_at":"2027-01-15T08:06:40Z","last_out_at":"2027-01-15T08:06:40Z","ends_at":"2027-01-15T08:07:40Z","packets_out":1,"packets_in":0,"bytes_out":28,"bytes_in":0}]`)
	if list, next := b.c.SessionsOf(nil, who(9), 5, b.moment()); list != nil || next != 0 {
		t.Errorf("of nobody: %v, %d", list, next)
	}
}

// Why an address is kept, what waits for it, and which server is avoided.
func TestViewOfProxies(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.name(1, 1, "wiki.corp.example", proxies(1), addrA)
	b.passes(1, udp(c4(1), proxies(1)[0], 5000, 53), addrA)
	b.at(10)
	b.name(1, 1, "wiki.corp.example", proxies(1), addrB)
	view := func(a netip.Addr) []Proxy {
		return b.c.ProxiesOf(nil, who(1), []netip.Addr{a, addr("100.96.9.9")}, b.moment())
	}
	b.wantJSON("held", view(proxies(1)[0]), `[{"proxy_ip":"100.96.1.1","real_ip":"10.0.0.1","waiting":true,"pending_ip":"10.0.0.2","held_until":"2027-01-15T08:01:00Z","held_by":{"protocol":"udp","client_port":5000,"port":53}}]`)
	b.wantJSON("free", view(proxies(1)[2]), `[{"proxy_ip":"100.96.1.2","real_ip":"10.0.0.2"}]`)
	if v := view(proxies(1)[0])[0]; v.Name != "wiki.corp.example" || !slices.Equal(v.Resources, []id.Resource{res(1)}) || !slices.Equal(v.Latest, []netip.Addr{addrB}) {
		t.Errorf("%+v", v)
	}
	for range 2 { // nobody answers at B
		b.passes(1, tcp(c4(1), proxies(1)[2], 6000, 443, packet.SYN), addrB)
		b.at(b.now.Sub(boot).Seconds() + 2)
	}
	b.at(b.now.Sub(boot).Seconds() + 2)
	v := view(proxies(1)[2])[0]
	if len(v.Avoided) != 1 || v.Avoided[0].Real != addrB || v.Avoided[0].Port != 443 || !v.Avoided[0].Until.After(b.moment().Wall) {
		t.Errorf("%+v", v.Avoided)
	}
	if all := b.c.ProxyAddrs(nil, who(1)); len(all) != 8 {
		t.Errorf("%v", all)
	}
	if b.c.ProxyAddrs(nil, who(9)) != nil || b.c.ProxiesOf(nil, who(9), proxies(1), b.moment()) != nil {
		t.Error("of nobody")
	}
}

func TestSummary(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(2, "10.0.0.0/16", tcpOnly(443)), 0)
	b.grant(2, dns(1, "*.corp.example"), 0)
	b.passes(1, tcp(c4(1), addrA, 5000, 443, packet.SYN), addrA)
	b.send(1, tcp(c4(1), addrA, 5000, 80, packet.SYN))
	for i, r := range []core.Looked{
		{V4: []netip.Addr{addrA}, Err6: errors.New("no")}, {}, {Err4: errors.New("no"), Err6: errors.New("no")}, {Err4: errors.New("no")},
	} {
		b.announce(2, 1, fmt.Sprintf("n%d.corp.example", i), proxies(byte(i)))
		b.at(b.now.Sub(boot).Seconds() + []float64{0.005, 0.0051, 10, 20}[i])
		r.ID = b.looks[0].ID
		b.looked(r)
	}
	for i := range maxLookupsPerClient + 3 {
		b.announce(2, 1, fmt.Sprintf("m%d.corp.example", i), proxies(byte(10+i)))
	}
	s := b.c.Summary()
	if !s.PortalUp || s.IPv4 != own4 || s.IPv6 != own6 || s.Clients != 2 || s.Sessions != 1 {
		t.Errorf("%+v", s)
	}
	if s.Drops["filtered"] != 1 || s.Events["names not resolved"] != 1 {
		t.Errorf("drops %v, events %v", s.Drops, s.Events)
	}
	for name := range s.Drops {
		if strings.Contains(name, "dropped") || s.Events[name] != 0 {
			t.Errorf("%q is no reason", name)
		}
	}
	r := s.Resolutions
	if r.Running != maxLookupsPerClient || r.Waiting != 3 || r.Addresses != 1 || r.Empty != 2 || r.Failed != 1 {
		t.Errorf("%+v", r)
	}
	if want := []uint64{1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1}; !slices.Equal(r.Took.Counts, want) || len(r.Took.Bounds) != len(want)-1 || r.Took.Sum != 30*time.Second+10100*time.Microsecond {
		t.Errorf("%+v", r.Took)
	}
	if len(s.Relays) != 1 || s.Relays[0].RTT != 12.5 {
		t.Errorf("%+v", s.Relays)
	}
}

// How long resources take to answer is told of their sessions' first answers.
func TestFirstAnswersAreTimed(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.name(1, 1, "wiki.corp.example", proxies(1), addrA)
	for i, wait := range []float64{0.001, 0.0011, 0.2, 40} {
		port := uint16(5000 + i)
		b.passes(1, udp(c4(1), proxies(1)[0], port, 53), addrA)
		if i == 2 { // it repeats itself meanwhile
			b.passes(1, udp(c4(1), proxies(1)[0], port, 53), addrA)
		}
		b.at(b.now.Sub(boot).Seconds() + wait)
		b.arrives(udp(addrA, c4(1), 53, port), proxies(1)[0])
		b.arrives(udp(addrA, c4(1), 53, port), proxies(1)[0])
	}
	b.passes(1, udp(c4(1), proxies(1)[0], 6000, 53), addrA) // nobody answers
	b.receive(udp(own4, c4(1), 161, 7000))                  // the host's own do not count
	b.receive(udp(own4, c4(1), 161, 7000))
	h := b.c.Summary().Answers
	if want := []uint64{1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1}; !slices.Equal(h.Counts, want) || len(h.Bounds) != len(want)-1 || h.Sum != 40202100*time.Microsecond {
		t.Errorf("%+v", h)
	}
	b.c.clients[who(1)].nat.Clear(b.now)
	if n := len(b.c.Summary().Answers.Counts); n != 12 {
		t.Errorf("%d", n)
	}
}

// What happened and was no drop has a name of its own, also before it happens.
func TestEachEventHasAName(t *testing.T) {
	s := newBench(t).c.Summary()
	if n := len(s.Events); n != int(numCounters-1-lastDrop) || s.Events[""] != 0 {
		t.Errorf("%d names for %d counters", n, numCounters-1-lastDrop)
	}
}
