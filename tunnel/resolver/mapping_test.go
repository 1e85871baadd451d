package resolver

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"stile/tunnel/policy"
	"stile/tunnel/wire"
)

// TestEffectiveUpstreams is the table of 2.2 with its clean-up.
func TestEffectiveUpstreams(t *testing.T) {
	const url = "https://dns.quad9.net/dns-query"
	for _, c := range []struct {
		name             string
		do53, dns, https string // the portal's
		system           string
		want             string
	}{
		{"Do53 first", "9.9.9.9 2620:fe::fe", "8.8.8.8", url, "192.168.1.1", "0 9.9.9.9:53, 0 [2620:fe::fe]:53"},
		{"legacy list", "", "8.8.8.8", url, "192.168.1.1", "0 8.8.8.8:53"},
		{"then DoH", "", "", url, "192.168.1.1", "1 " + url},
		{"then the system", "", "", "", "192.168.1.1 1.1.1.1", "2 192.168.1.1:53, 2 1.1.1.1:53"},
		{"nothing", "", "", "", "", ""},
		{"sentinels dropped", "100.100.111.1 fd00:2021:1111:8000:100:100:111:0", "", "", "100.100.111.3 10.0.0.1", "2 10.0.0.1:53"},
		{"duplicates dropped, order kept", "1.1.1.1 9.9.9.9 1.1.1.1 ::ffff:9.9.9.9", "", "", "", "0 1.1.1.1:53, 0 9.9.9.9:53"},
		{"unspecified and own addresses dropped", "", "", "", "0.0.0.0 :: 100.64.12.7 fd00:2021:1111::c:7 10.0.0.1", "2 10.0.0.1:53"},
		{"link-local with its zone", "", "", "", "fe80::1%eth0", "2 [fe80::1%eth0]:53"},
	} {
		r := New(Config{Rand: noise(1)})
		i := wire.Interface{IPv4: app.Addr(), IPv6: netip.MustParseAddr("fd00:2021:1111::c:7"), UpstreamDo53: addrs(c.do53)}
		for _, a := range addrs(c.dns) {
			i.UpstreamDNS = append(i.UpstreamDNS, netip.AddrPortFrom(a, 5353)) // the port is ignored
		}
		if c.https != "" {
			i.UpstreamDoH = []string{c.https}
		}
		r.SetSystem(servers(c.system), start)
		r.SetPortal(i, start)
		var got []string
		for _, s := range r.Sentinels() {
			u := r.bySent[s]
			switch u.kind {
			case do53:
				got = append(got, fmt.Sprint("0 ", u.server))
			case doh:
				got = append(got, "1 "+u.url)
			case system:
				got = append(got, fmt.Sprint("2 ", u.server))
			}
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

// TestSentinels are acceptance tests 1 to 3 and the rows of section 3.
func TestSentinels(t *testing.T) {
	r := New(Config{Rand: noise(1)})
	want := func(when, list string) {
		t.Helper()
		if got := r.Sentinels(); !slices.Equal(got, addrs(list)) {
			t.Errorf("%s: got %v, want %s", when, got, list)
		}
	}
	own := wire.Interface{IPv4: app.Addr()}
	r.SetSystem(servers("192.168.1.1 2001:db8::53 1.1.1.1"), start)
	want("before the portal told our addresses", "")
	r.SetPortal(own, start)
	want("two v4 and one v6 resolvers, in their order", "100.100.111.1 fd00:2021:1111:8000:100:100:111:0 100.100.111.2")

	before := &r.Sentinels()[0]
	r.SetSystem(servers("1.1.1.1 192.168.1.1 2001:db8::53"), start)
	if want("another order", "100.100.111.1 fd00:2021:1111:8000:100:100:111:0 100.100.111.2"); before != &r.Sentinels()[0] {
		t.Error("another order: a new mapping")
	}

	own.UpstreamDo53 = addrs("9.9.9.9")
	r.SetPortal(own, start)
	want("the portal names a server", "100.100.111.3")
	own.UpstreamDo53 = nil
	r.SetPortal(own, start)
	want("and takes it back: the system's present order", "100.100.111.1 100.100.111.2 fd00:2021:1111:8000:100:100:111:0")
	own.UpstreamDoH = []string{"https://dns.google/dns-query"}
	r.SetPortal(own, start)
	want("DoH has a v4 sentinel", "100.100.111.3")

	if _, ok := r.upstreamOf(netip.MustParseAddr("100.100.111.1")); ok {
		t.Error("a former sentinel is still assigned")
	}
}

// TestTransientEmptyListKeepsTheMapping: the requirement of 2.2.
func TestTransientEmptyListKeepsTheMapping(t *testing.T) {
	r := New(Config{Rand: noise(1)})
	ready(r)
	first := r.Sentinels()
	r.SetSystem(nil, start)
	if !slices.Equal(r.Sentinels(), first) || r.Next() != start.Add(5*time.Second) {
		t.Fatalf("at once: %v, due %v", r.Sentinels(), r.Next())
	}
	r.SetSystem([]netip.AddrPort{server}, start.Add(time.Second))
	if !slices.Equal(r.Sentinels(), first) || !r.Next().IsZero() {
		t.Fatalf("back again: %v, due %v", r.Sentinels(), r.Next())
	}

	r.SetSystem(nil, start.Add(2*time.Second))
	r.Advance(start.Add(6 * time.Second))
	if !slices.Equal(r.Sentinels(), first) {
		t.Fatal("given up early")
	}
	r.Advance(start.Add(7 * time.Second))
	if len(r.Sentinels()) != 0 || !r.Next().IsZero() {
		t.Fatalf("after 5 s: %v, due %v", r.Sentinels(), r.Next())
	}
	r.SetSystem([]netip.AddrPort{server}, start.Add(8*time.Second))
	if got := r.Sentinels(); len(got) != 1 || got[0] == first[0] {
		t.Errorf("after an empty mapping: %v, before it %v", got, first)
	}
}

func TestMoreUpstreamsThanSentinels(t *testing.T) {
	r := New(Config{Rand: noise(1)})
	var list []netip.AddrPort
	for i := range 300 {
		list = append(list, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 53))
	}
	r.SetSystem(list, start)
	r.SetPortal(wire.Interface{}, start)
	got := r.Sentinels()
	if len(got) != 254 || got[253] != netip.MustParseAddr("100.100.111.254") {
		t.Fatalf("%d sentinels, last %v", len(got), got[len(got)-1])
	}
	skipped := count(r, upstreamsSkipped)
	r.SetSystem(list, start)
	if skipped != 46 || count(r, upstreamsSkipped) != skipped {
		t.Errorf("skipped %d, then %d", skipped, count(r, upstreamsSkipped))
	}
	for i, s := range r.Sentinels() {
		if !policy.IsSentinel(s) || r.bySent[s].server != list[i] {
			t.Fatalf("sentinel %v", s)
		}
	}
}

func addrs(list string) []netip.Addr {
	var as []netip.Addr
	for _, s := range strings.Fields(list) {
		as = append(as, netip.MustParseAddr(s))
	}
	return as
}

func servers(list string) []netip.AddrPort {
	var as []netip.AddrPort
	for _, a := range addrs(list) {
		as = append(as, netip.AddrPortFrom(a, 53))
	}
	return as
}
