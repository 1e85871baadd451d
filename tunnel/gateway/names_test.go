package gateway

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/packet"
	"stile/tunnel/policy"
	"stile/tunnel/wire"
)

var errLookup = errors.New("no answer")

// Spec connectivity.md 5.3, gateway-nat.md 2: setting a name up.
func TestNameIsResolvedAndAnswered(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.announce(1, 1, "Wiki.Corp.Example.", proxies(1))
	b.want("announcement", "look up wiki.corp.example")
	b.refused(1, udp(c4(1), proxies(1)[0], 5000, 53), "dropped: unresolved", "to client 1: error 3/0 100.96.1.1 → 100.64.1.1")
	b.resolved(addrA, addrB, addrD)
	b.want("answer", "to client 1: status 1 Wiki.Corp.Example. true <nil>")
	for i, want := range []netip.Addr{addrA, addrD, addrB, addrD, addrA, addrD, addrB, addrD} {
		p := proxies(1)[i]
		src := c4(1)
		if p.Is6() {
			src = c6(1)
		}
		b.passes(1, udp(src, p, 5000, 53), want)
	}
}

func TestNameWithoutAnyAddress(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.announce(1, 1, "x.corp.example", proxies(1))
	b.lines = nil
	b.looked(core.Looked{ID: b.looks[0].ID})
	b.want("empty answer", "to client 1: status 1 x.corp.example true <nil>")
	b.refused(1, udp(c4(1), proxies(1)[0], 5000, 53), "dropped: unresolved", "to client 1: error 3/0 100.96.1.1 → 100.64.1.1")
}

// If both families fail, nothing changes; if one does, the other counts.
func TestFailedResolution(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.name(1, 1, "x.corp.example", proxies(1), addrA, addrD)
	b.announce(1, 1, "x.corp.example", proxies(1))
	b.lines = nil
	b.looked(core.Looked{ID: b.looks[0].ID, Err4: errLookup, Err6: errLookup})
	b.want("failed, but there is an address", "to client 1: status 1 x.corp.example true <nil>")
	b.passes(1, udp(c4(1), proxies(1)[0], 5000, 53), addrA)

	b.announce(1, 1, "y.corp.example", proxies(2))
	b.lines = nil
	b.looked(core.Looked{ID: b.looks[0].ID, Err4: errLookup, Err6: errLookup})
	b.want("failed", "to client 1: status 1 y.corp.example false <nil>")

	b.announce(1, 1, "x.corp.example", proxies(1))
	b.lines = nil
	b.looked(core.Looked{ID: b.looks[0].ID, Err4: errLookup, V6: []netip.Addr{addrD.Next()}})
	b.want("half failed", "to client 1: status 1 x.corp.example true <nil>")
	b.passes(1, udp(c4(1), proxies(1)[2], 5000, 53), addrA)
	b.passes(1, udp(c6(1), proxies(1)[1], 5000, 53), addrD.Next())
}

// While DNS is silent, a client hears in time of a name that flows find their
// way to by an earlier answer. The answer, when it comes, counts all the same.
func TestN24SilentDNS(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.name(1, 1, "x.corp.example", proxies(1), addrA, addrD)
	b.at(100)
	b.announce(1, 1, "x.corp.example", proxies(1))
	b.announce(1, 1, "y.corp.example", proxies(2)) // nothing is known of this one
	b.at(101)
	b.announce(1, 1, "X.corp.example", proxies(1))
	b.lines = nil
	b.at(101.799)
	b.want("1.8 s are not over")
	b.at(101.8)
	b.want("1.8 s after the first", "to client 1: status 1 x.corp.example true <nil>")
	b.at(102.8)
	b.want("1.8 s after the second", "to client 1: status 1 X.corp.example true <nil>")
	b.announce(1, 1, "x.corp.example", proxies(1))
	b.lines = nil
	b.at(103)
	b.looked(core.Looked{ID: b.looks[0].ID, V4: []netip.Addr{addrB}})
	b.want("the answer", "to client 1: status 1 x.corp.example true <nil>") // for the third
	b.passes(1, udp(c4(1), proxies(1)[0], 5000, 53), addrB)
	b.at(110)
	b.looked(core.Looked{ID: b.looks[0].ID, Err4: errLookup, Err6: errLookup})
	b.want("y fails", "to client 1: status 1 y.corp.example false <nil>")
}

func TestN16AnnouncementsThatAreRefused(t *testing.T) {
	good := proxies(1)
	v4 := []netip.Addr{good[0], good[2], good[4], good[6]}
	v6 := []netip.Addr{good[1], good[3], good[5], good[7]}
	with := func(i int, a string) []netip.Addr {
		list := slices.Clone(good)
		list[i] = addr(a)
		return list
	}
	tests := []struct {
		name     string
		resource byte
		domain   string
		proxies  []netip.Addr
		ok       bool
	}{
		{"eight", 1, "x.corp.example", good, true},
		{"four of IPv4", 1, "x.corp.example", v4, true},
		{"four of IPv6", 1, "x.corp.example", v6, true},
		{"in any order", 1, "x.corp.example", append(slices.Clone(v6), v4...), true},
		{"upper case", 1, "X.CORP.EXAMPLE", good, true},
		{"resource not authorized", 7, "x.corp.example", good, false},
		{"resource expired", 4, "x.corp.example", good, false},
		{"resource of another type", 2, "x.corp.example", good, false},
		{"Internet resource", 3, "x.corp.example", good, false},
		{"pattern does not match", 1, "corp.evil.example", good, false},
		{"pattern cannot be read", 5, "x.corp.example", good, false},
		{"none", 1, "x.corp.example", nil, false},
		{"three", 1, "x.corp.example", v4[:3], false},
		{"seven", 1, "x.corp.example", good[:7], false},
		{"five and three", 1, "x.corp.example", with(1, "100.96.9.9"), false},
		{"twice the same", 1, "x.corp.example", with(2, good[0].String()), false},
		{"outside the proxy range", 1, "x.corp.example", with(0, "10.0.0.1"), false},
		{"outside the proxy range, IPv6", 1, "x.corp.example", with(1, "2001:db8::1"), false},
		{"the peer range", 1, "x.corp.example", with(0, "100.64.1.1"), false},
		{"a sentinel", 1, "x.corp.example", with(0, "100.100.111.1"), false},
		{"a sentinel, IPv6", 1, "x.corp.example", with(1, "fd00:2021:1111:8000:100:100:111:1"), false},
		{"IPv4-mapped", 1, "x.corp.example", with(1, "::ffff:100.96.0.1"), false},
	}
	for _, test := range tests {
		b := newBench(t)
		b.grant(1, dns(1, "*.corp.example"), 0)
		b.grant(1, cidr(2, "192.0.2.0/24"), 0)
		b.grant(1, internet(3), 0)
		b.grant(1, dns(4, "*.corp.example"), 10)
		b.grant(1, dns(5, "[a]"), 0)
		b.at(10)
		b.announce(1, test.resource, test.domain, test.proxies)
		want := "look up x.corp.example"
		if !test.ok {
			want = fmt.Sprintf("to client 1: status %d %s false <nil>", test.resource, test.domain)
		}
		b.want(test.name, want)
		for _, p := range test.proxies {
			if _, known := b.c.clients[who(1)].nat.Resources(p); known != test.ok {
				t.Errorf("%s: %v known: %v", test.name, p, known)
			}
		}
	}
}

func TestN16WhatDoesNotDecodeGetsNoReply(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	for _, payload := range []string{"", "{", "[]", `{"resource":"x"}`, `{"resource":"00000000-0000-0000-0000-000000000001","domain":"x.corp.example"}`,
		`{"resource":"00000000-0000-0000-0000-000000000001","domain":"x.corp.example","proxy_ips":["100.96.1.x"]}`} {
		b.send(1, packet.AppendControl(nil, wire.EventAssignedIPs, []byte(payload)))
		b.want(payload)
	}
	if got := b.counter("control packets: malformed"); got != 6 {
		t.Errorf("%d counted", got)
	}
	// A stock client may say more than we know.
	b.send(1, packet.AppendControl(nil, wire.EventAssignedIPs,
		[]byte(`{"new":1,"resource":"00000000-0000-0000-0000-000000000001","domain":"x.corp.example","proxy_ips":["100.96.0.1","100.96.0.2","100.96.0.3","100.96.0.4"]}`)))
	b.want("unknown member", "look up x.corp.example")
}

func TestN19UnusableAddressesAreRemoved(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	bad := []string{"0.0.0.0", "127.0.0.1", "169.254.169.254", "224.0.0.1", "240.0.0.1", "255.255.255.255", "100.64.0.9", "100.96.0.9",
		"::", "::1", "fe80::1", "ff02::1", "::ffff:10.0.0.1", "fd00:2021:1111::9", "fd00:2021:1111:8000::9"}
	r := core.Looked{V4: []netip.Addr{addrA}, V6: []netip.Addr{addrD, addr("fe80::1%eth0")}}
	for _, s := range bad {
		r.V4, r.V6 = append(r.V4, addr(s)), append(r.V6, addr(s))
	}
	b.announce(1, 1, "x.corp.example", proxies(1))
	r.ID = b.looks[0].ID
	b.looked(r)
	for _, p := range proxies(1) {
		src, want := c4(1), addrA
		if p.Is6() {
			src, want = c6(1), addrD
		}
		b.passes(1, udp(src, p, 5000, 53), want)
	}
}

// Some link-local addresses may be allowed; that lets no others in.
func TestN19AllowedLinkLocalAddresses(t *testing.T) {
	allowed, err := policy.ParseLinkLocal("169.254.10.0/24,fe80::7")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		c    Config
		want []string // where the proxies of each family lead, in turn
	}{
		{Config{}, []string{"10.0.0.1", "2001:db8::1", "10.0.0.1", "2001:db8::1"}},
		{Config{LinkLocal: allowed}, []string{"10.0.0.1", "2001:db8::1", "169.254.10.9", "fe80::7"}},
	} {
		b := newBenchWith(t, test.c)
		b.grant(1, dns(1, "*.corp.example"), 0)
		b.name(1, 1, "x.corp.example", proxies(1), addr("169.254.10.9"), addr("169.254.169.254"), addr("127.0.0.1"), addrA, addrD, addr("fe80::7"), addr("fe80::8"))
		for i, want := range test.want {
			p := proxies(1)[i]
			src := c4(1)
			if p.Is6() {
				src = c6(1)
			}
			b.passes(1, udp(src, p, 5000, 53), addr(want))
		}
	}
}

// O1: with many addresses, clients do not all begin at the lowest; each has the
// same ones whenever it comes.
func TestO1Spread(t *testing.T) {
	first := func(c Config, n byte, proxy netip.Addr) netip.Addr {
		b := newBenchWith(t, c)
		b.grant(n, dns(1, "*.corp.example"), 0)
		b.name(n, 1, "x.corp.example", proxies(1), addrA, addrB, in2, in2.Next())
		p := parse(t, b.send(n, udp(c4(n), proxy, 5000, 53)))
		return p.Dst()
	}
	proxy := proxies(1)[0]
	met := make(map[netip.Addr]int)
	for n := byte(1); n <= 40; n++ {
		a := first(Config{Spread: true}, n, proxy)
		if again := first(Config{Spread: true}, n, proxy); again != a {
			t.Fatalf("client %d begins at %v, then at %v", n, a, again)
		}
		if a := first(Config{}, n, proxy); a != addrA {
			t.Fatalf("without the option, client %d begins at %v", n, a)
		}
		met[a]++
	}
	if len(met) != 4 {
		t.Errorf("40 clients begin at %v", met)
	}
}

// S17: a result of before the goodbye must not overwrite a newer one.
func TestN21LateResultOfAFormerLife(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.announce(1, 1, "x.corp.example", proxies(1))
	b.at(1)
	b.send(1, packet.AppendControl(nil, wire.EventGoodbye, nil))
	b.at(1.5)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.announce(1, 1, "x.corp.example", proxies(1))
	late := b.looks[0]
	b.looks = b.looks[1:]
	b.at(2)
	b.resolved(addrB)
	b.at(5)
	b.lines = nil
	b.do(func() { b.c.Done(core.Looked{ID: late.ID, V4: []netip.Addr{addrA}}, b.now) })
	b.want("late result")
	b.passes(1, udp(c4(1), proxies(1)[0], 5000, 53), addrB)
}

// S16: one resolution, an answer for each announcement.
func TestN22AnnouncementsJoin(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.grant(1, dns(2, "**.example"), 0)
	for i := range 10 {
		b.announce(1, byte(1+i%2), "x.corp.example", proxies(1))
	}
	b.want("announcements", "look up x.corp.example")
	b.resolved(addrA)
	var want []string
	for i := range 10 {
		want = append(want, fmt.Sprintf("to client 1: status %d x.corp.example true <nil>", 1+i%2))
	}
	b.want("answers", want...)
	b.announce(1, 1, "x.corp.example", proxies(1))
	b.want("the next one", "look up x.corp.example")
}

// S26: a grant makes a client announce all its names at once.
func TestN22ManyNamesWaitTheirTurn(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.grant(2, dns(1, "*.corp.example"), 0)
	for i := range 500 {
		b.announce(1, 1, fmt.Sprintf("n%d.corp.example", i), proxies(byte(i)))
	}
	if len(b.looks) != maxLookupsPerClient {
		t.Fatalf("%d look-ups run", len(b.looks))
	}
	b.announce(2, 1, "other.corp.example", proxies(1)) // is not delayed
	if len(b.looks) != maxLookupsPerClient+1 {
		t.Errorf("%d look-ups run", len(b.looks))
	}
	b.lines = nil
	for len(b.looks) > 0 {
		b.resolved(addrA)
	}
	active := 0
	for _, l := range b.lines {
		var name string
		if n, _ := fmt.Sscanf(l, "to client 1: status 1 %s true <nil>", &name); n == 1 {
			active++
		}
	}
	if active != 500 {
		t.Errorf("%d answers, want 500", active)
	}
}

// With all places taken by others, a client gets the next one that is free.
func TestN22PlacesAreSharedByClients(t *testing.T) {
	b := newBench(t)
	for n := range byte(20) {
		b.grant(n+1, dns(1, "*.corp.example"), 0)
		for i := range 70 {
			b.announce(n+1, 1, fmt.Sprintf("n%d.corp.example", i), proxies(byte(i)))
		}
	}
	if len(b.looks) != maxLookups {
		t.Fatalf("%d look-ups run, want %d", len(b.looks), maxLookups)
	}
	b.lines = nil
	for len(b.looks) > 0 {
		b.resolved(addrA)
	}
	if len(b.c.lookups.by)+len(b.c.lookups.starved) != 0 {
		t.Errorf("%d look-ups and %d clients are left", len(b.c.lookups.by), len(b.c.lookups.starved))
	}
	for n := range byte(20) {
		if r := b.c.clients[who(n+1)].names; len(r.queue)+r.running+r.waiting != 0 || r.starved {
			t.Errorf("client %d: %+v", n+1, r)
		}
	}
}

func TestAnnouncementsAreLimited(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	for range 2000 {
		b.announce(1, 7, "x.corp.example", proxies(1))
	}
	if got := len(b.lines); got != 1024 {
		t.Errorf("%d answers, want 1024", got)
	}
	if got := b.counter("names announced too fast"); got != 2000-1024 {
		t.Errorf("%d dropped", got)
	}
}

// S11: P1–P4 = foo with a session; then they are bar's.
func TestN25RenumberedProxies(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.name(1, 1, "foo.corp.example", proxies(1), addrA)
	b.name(1, 1, "baz.corp.example", proxies(2), addrA)
	p, q := proxies(1)[0], proxies(2)[0]
	b.passes(1, tcp(c4(1), p, 5000, 443, syn), addrA)
	b.passes(1, tcp(c4(1), q, 5001, 443, syn), addrA)
	b.announce(1, 1, "bar.corp.example", proxies(1))
	b.lines = nil
	b.refused(1, tcp(c4(1), p, 5000, 443, ack), "dropped: unresolved", "to client 1: error 3/0 100.96.1.1 → 100.64.1.1")
	b.lost(tcp(addrA, c4(1), 443, 5000, ack), "dropped: no session")
	b.resolved(addrB)
	b.passes(1, tcp(c4(1), p, 5000, 443, ack), addrB)
	b.passes(1, tcp(c4(1), q, 5001, 443, ack), addrA)
	b.announce(1, 1, "FOO.corp.example.", proxies(2)) // the case of letters does not make another name
	b.announce(1, 1, "foo.Corp.example", proxies(2))
	b.resolved(addrB)
	b.passes(1, tcp(c4(1), q, 5002, 443, syn), addrB)
}

// Two resources on one name: the packet passes if any of them permits it, and
// losing one does not touch sessions.
func TestN26SeveralResourcesOfOneName(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example", tcpOnly(443)), 0)
	b.grant(1, dns(2, "**.example", tcpOnly(22)), 0)
	b.name(1, 1, "x.corp.example", proxies(1), addrA)
	p := proxies(1)[0]
	b.refused(1, tcp(c4(1), p, 5000, 22, syn), "dropped: filtered", "to client 1: error 3/13 100.96.1.1 → 100.64.1.1")
	b.name(1, 2, "x.corp.example", proxies(1), addrA)
	b.passes(1, tcp(c4(1), p, 5000, 22, syn), addrA)
	b.passes(1, tcp(c4(1), p, 5001, 443, syn), addrA)
	b.message(wire.RejectAccess{Client: who(1), Resource: res(1)})
	b.passes(1, tcp(c4(1), p, 5000, 22, ack), addrA)
	b.arrives(tcp(addrA, c4(1), 22, 5000, ack), p)
	b.refused(1, tcp(c4(1), p, 5001, 443, ack), "dropped: filtered", "to client 1: error 3/13 100.96.1.1 → 100.64.1.1")
	b.lost(tcp(addrA, c4(1), 443, 5001, ack), "dropped: filtered")
}

// S12: denied in between, then the same tuple again; denied packets count for
// nothing.
func TestN27ReauthorizationResumesTheFlow(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(9, "192.0.2.0/24"), 0)
	b.grant(1, dns(1, "*.corp.example"), 100)
	b.name(1, 1, "x.corp.example", proxies(1), addrA)
	p := proxies(1)[0]
	b.passes(1, tcp(c4(1), p, 5000, 443, syn), addrA)
	b.arrives(tcp(addrA, c4(1), 443, 5000, syn|ack), p)
	b.at(99.999)
	b.passes(1, tcp(c4(1), p, 5000, 443, ack), addrA)
	b.at(100)
	b.refused(1, tcp(c4(1), p, 5000, 443, rst), "dropped: expired authorization")
	b.refused(1, tcp(c4(1), p, 5000, 443, ack), "dropped: expired authorization", "to client 1: error 3/13 100.96.1.1 → 100.64.1.1")
	b.lost(tcp(addrA, c4(1), 443, 5000, rst), "dropped: expired authorization")
	b.at(130)
	b.grant(1, dns(1, "*.corp.example"), 1000)
	b.at(131)
	if got := b.passes(1, tcp(c4(1), p, 5000, 443, ack), addrA).SrcPort(); got != 5000 {
		t.Errorf("outside port %d", got)
	}
	b.arrives(tcp(addrA, c4(1), 443, 5000, ack), p)
}

// What was announced for a resource counts no longer when that becomes another
// one: neither its former names nor open sessions on them may be used.
func TestResourceWithAnotherAddress(t *testing.T) {
	for name, changed := range map[string]wire.GatewayResource{
		"pattern": dns(1, "db.corp.example"),
		"type":    cidr(1, "10.0.0.0/8"),
		"all":     internet(1),
	} {
		b := newBench(t)
		b.grant(1, cidr(9, "192.0.2.0/24"), 0)
		b.grant(1, dns(1, "*.corp.example"), 0)
		b.grant(1, dns(2, "**.example", tcpOnly(443)), 0)
		b.name(1, 1, "wiki.corp.example", proxies(1), addrA)
		b.name(1, 1, "db.corp.example", proxies(2), addrB)
		b.name(1, 1, "mail.corp.example", proxies(3), addrA)
		b.name(1, 2, "mail.corp.example", proxies(3), addrA)
		wiki, db, mail := proxies(1)[0], proxies(2)[0], proxies(3)[0]
		b.passes(1, tcp(c4(1), wiki, 5000, 443, syn), addrA)
		b.arrives(tcp(addrA, c4(1), 443, 5000, syn|ack), wiki)
		b.passes(1, tcp(c4(1), db, 5000, 443, syn), addrB)

		b.message(wire.RejectAccess{Client: who(1), Resource: res(1)})
		b.grant(1, changed, 0)
		b.refused(1, tcp(c4(1), wiki, 5000, 443, ack), "dropped: expired authorization", "to client 1: error 3/13 100.96.1.1 → 100.64.1.1")
		b.refused(1, tcp(c4(1), wiki, 5001, 443, syn), "dropped: expired authorization", "to client 1: error 3/13 100.96.1.1 → 100.64.1.1")
		b.lost(tcp(addrA, c4(1), 443, 5000, ack), "dropped: expired authorization")
		if name == "pattern" { // what it still covers goes on
			b.passes(1, tcp(c4(1), db, 5000, 443, ack), addrB)
		} else {
			b.refused(1, tcp(c4(1), db, 5000, 443, ack), "dropped: expired authorization", "to client 1: error 3/13 100.96.2.1 → 100.64.1.1")
		}
		b.passes(1, tcp(c4(1), mail, 5002, 443, syn), addrA) // by the other resource
		b.refused(1, tcp(c4(1), mail, 5003, 80, syn), "dropped: filtered", "to client 1: error 3/13 100.96.3.1 → 100.64.1.1")

		b.message(wire.RejectAccess{Client: who(1), Resource: res(1)})
		b.grant(1, dns(1, "*.corp.example"), 0)
		b.refused(1, tcp(c4(1), wiki, 5001, 443, syn), "dropped: expired authorization", "to client 1: error 3/13 100.96.1.1 → 100.64.1.1")
		b.name(1, 1, "wiki.corp.example", proxies(1), addrA)
		b.passes(1, tcp(c4(1), wiki, 5000, 443, ack), addrA)
	}
}

// Denied packets do not keep a session alive.
func TestN27DeniedPacketsDoNotRefresh(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(1, "10.0.0.0/24"), 0)
	b.passes(1, udp(c4(1), addrA, 5000, 53), addrA)
	b.message(wire.GatewayResourceUpdated{GatewayResource: cidr(1, "10.0.0.0/24", tcpOnly(1))})
	b.at(59)
	b.refused(1, udp(c4(1), addrA, 5000, 53), "dropped: filtered", "to client 1: error 3/13 10.0.0.1 → 100.64.1.1")
	b.lost(udp(addrA, c4(1), 53, 5000), "dropped: filtered")
	b.message(wire.GatewayResourceUpdated{GatewayResource: cidr(1, "10.0.0.0/24")})
	b.at(60)
	b.lost(udp(addrA, c4(1), 53, 5000), "dropped: no session")
}

// S28: the last authorization goes.
func TestN28LastAuthorization(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 100)
	b.name(1, 1, "x.corp.example", proxies(1), addrA)
	p := proxies(1)[0]
	b.passes(1, tcp(c4(1), p, 5000, 443, syn), addrA)
	b.arrives(tcp(addrA, c4(1), 443, 5000, syn|ack), p)
	b.at(100)
	b.refused(1, tcp(c4(1), p, 5000, 443, ack), "dropped: expired authorization", "to client 1: error 3/13 100.96.1.1 → 100.64.1.1")
	b.at(101)
	b.want("goodbye", "to client 1: goodbye")
	if len(b.paths.peers) != 0 {
		t.Error("the connection is not closed")
	}
	b.lost(tcp(addrA, c4(1), 443, 5000, ack), "dropped: no peer")
	b.at(300)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.passes(1, tcp(c4(1), p, 5000, 443, ack), addrA)
	b.arrives(tcp(addrA, c4(1), 443, 5000, ack), p)
}

// S19: goodbye at 0, back at 200: continues; after 300 it is too late.
func TestN28GoodbyeParks(t *testing.T) {
	for _, test := range []struct {
		back    float64
		resumes bool
	}{{200, true}, {299.999, true}, {300, false}, {301, false}} {
		b := newBench(t)
		b.grant(1, dns(1, "*.corp.example"), 0)
		b.name(1, 1, "x.corp.example", proxies(1), addrA)
		p := proxies(1)[0]
		b.passes(1, tcp(c4(1), p, 5000, 443, syn), addrA)
		b.arrives(tcp(addrA, c4(1), 443, 5000, syn|ack), p)
		b.passes(1, tcp(c4(1), p, 5000, 443, ack), addrA)
		b.send(1, packet.AppendControl(nil, wire.EventGoodbye, nil))
		b.want("goodbye is not answered")
		b.lost(tcp(addrA, c4(1), 443, 5000, ack), "dropped: no peer")
		b.now = boot.Add(time.Duration(test.back * float64(time.Second))) // whether timers ran does not count
		b.grant(1, dns(1, "*.corp.example"), 0)
		if !test.resumes {
			b.refused(1, tcp(c4(1), p, 5000, 443, ack), "dropped: no binding", "to client 1: error 3/13 100.96.1.1 → 100.64.1.1")
			continue
		}
		b.passes(1, tcp(c4(1), p, 5000, 443, ack), addrA)
		b.arrives(tcp(addrA, c4(1), 443, 5000, ack), p)
	}
}

// Another tunnel address, or an address given to somebody else: nothing is
// kept.
func TestN28ChangedAddresses(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.grant(1, cidr(2, "10.0.0.0/24"), 0)
	b.name(1, 1, "x.corp.example", proxies(1), addrA)
	b.passes(1, tcp(c4(1), proxies(1)[0], 5000, 443, syn), addrA)
	m := authorization(1, dns(1, "*.corp.example"))
	m.ClientIPv4 = c4(77)
	b.message(m)
	b.want("no goodbye", "portal: accepted ref-1", "portal: candidates for 1: [candidate], invalidate false")
	b.lost(tcp(addrA, c4(1), 443, 5000, ack), "dropped: no peer")
	b.lost(tcp(addrA, c4(77), 443, 5000, ack), "dropped: no session")
	b.refused(1, udp(c4(77), addrA, 5000, 53), "dropped: not allowed", "to client 1: error 3/13 10.0.0.1 → 100.64.1.77")
	b.refused(1, udp(c4(1), proxies(1)[0], 5000, 53), "dropped: spoofed source")

	other := authorization(2, cidr(2, "10.0.0.0/24"))
	other.ClientIPv4 = c4(77)
	b.message(other)
	b.want("the address is another's", "to client 1: goodbye", "portal: accepted ref-2", "portal: candidates for 2: [candidate], invalidate false")
	b.passes(2, udp(c4(77), addrA, 5000, 53), addrA)
	b.arrives(udp(addrA, c4(77), 53, 5000), addrA)
	if len(b.c.clients) != 1 || len(b.c.byAddr) != 2 {
		t.Errorf("%d clients, %d addresses", len(b.c.clients), len(b.c.byAddr))
	}
}

// The authorization went while the name was being resolved.
func TestResolutionOfARevokedResource(t *testing.T) {
	b := newBench(t)
	b.grant(1, cidr(9, "192.0.2.0/24"), 0)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.announce(1, 1, "x.corp.example", proxies(1))
	b.lines = nil
	b.message(wire.RejectAccess{Client: who(1), Resource: res(1)})
	b.resolved(addrA)
	b.want("answer", "to client 1: status 1 x.corp.example false <nil>")
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.refused(1, udp(c4(1), proxies(1)[0], 5000, 53), "dropped: unresolved", "to client 1: error 3/0 100.96.1.1 → 100.64.1.1")
}

// S1, S2, S5: the life of one connection while DNS gives other answers.
func TestScenarioOfTheHold(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.name(1, 1, "x.corp.example", proxies(1), addrA)
	p := proxies(1)[0]
	b.passes(1, tcp(c4(1), p, 5000, 443, syn), addrA)
	b.arrives(tcp(addrA, c4(1), 443, 5000, syn|ack), p)
	b.passes(1, tcp(c4(1), p, 5000, 443, ack), addrA)
	b.at(10)
	b.name(1, 1, "x.corp.example", proxies(1), addrB)
	b.at(11)
	b.passes(1, tcp(c4(1), p, 5000, 443, ack), addrA)
	b.passes(1, tcp(c4(1), p, 5001, 443, syn), addrA)
	b.at(70.999)
	b.announce(1, 1, "x.corp.example", proxies(1))
	b.looked(core.Looked{ID: b.looks[0].ID, Err4: errLookup, Err6: errLookup})
	b.at(71)
	b.passes(1, tcp(c4(1), p, 5002, 443, syn), addrB)
	b.at(72)
	b.passes(1, tcp(c4(1), p, 5000, 443, ack), addrA)
	b.arrives(tcp(addrA, c4(1), 443, 5000, ack), p)
}

// S20: a clock that jumps behaves like waiting.
func TestN51JumpOfTheClock(t *testing.T) {
	b := newBench(t)
	b.grant(1, dns(1, "*.corp.example"), 0)
	b.name(1, 1, "x.corp.example", proxies(1), addrA)
	p := proxies(1)[0]
	b.passes(1, tcp(c4(1), p, 5000, 443, syn), addrA)
	b.arrives(tcp(addrA, c4(1), 443, 5000, syn|ack), p)
	b.now = b.now.Add(25 * time.Hour)
	b.do(func() { b.c.Advance(b.now) })
	b.lost(tcp(addrA, c4(1), 443, 5000, ack), "dropped: no session")
	b.passes(1, tcp(c4(1), p, 5000, 443, syn), addrA)
	b.arrives(tcp(addrA, c4(1), 443, 5000, syn|ack), p)
}
