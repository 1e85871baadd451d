package resolver

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/miekg/dns"

	"stile/tunnel/core"
	"stile/tunnel/policy"
)

// TestProxyAddresses are acceptance tests 4 and 5.
func TestProxyAddresses(t *testing.T) {
	r := New(Config{Rand: noise(1)})
	ready(r)
	r.Upsert(Resource{ID: resource(1), Pattern: pattern("*.example.com")})
	for _, c := range []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"foo.example.com.", dns.TypeA, "NOERROR 100.96.0.1 100.96.0.2 100.96.0.3 100.96.0.4"},
		{"bar.example.com.", dns.TypeAAAA, "NOERROR fd00:2021:1111:8000::4 fd00:2021:1111:8000::5 fd00:2021:1111:8000::6 fd00:2021:1111:8000::7"},
		{"bar.example.com.", dns.TypeA, "NOERROR 100.96.0.5 100.96.0.6 100.96.0.7 100.96.0.8"},
		{"foo.example.com.", dns.TypeAAAA, "NOERROR fd00:2021:1111:8000:: fd00:2021:1111:8000::1 fd00:2021:1111:8000::2 fd00:2021:1111:8000::3"},
		{"FOO.example.com.", dns.TypeA, "NOERROR 100.96.0.1 100.96.0.2 100.96.0.3 100.96.0.4"},
	} {
		if got := outcome(t, r, new(dns.Msg).SetQuestion(c.name, c.qtype)); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
	if r.Len() != 2 {
		t.Errorf("%d names", r.Len())
	}
}

// TestNamesOutliveTheProcess: acceptance test 6, across a restart.
func TestNamesOutliveTheProcess(t *testing.T) {
	r := New(Config{Rand: noise(1)})
	want := make(map[string]*Name)
	for i := range 100 {
		name := fmt.Sprintf("h%d.example", i)
		want[name] = r.get(name)
	}
	again := New(Config{Rand: noise(1), Names: r.Names()})
	if again.Len() != 100 {
		t.Fatalf("%d names", again.Len())
	}
	for name, n := range want {
		if got := again.Named(name); got.V4 != n.V4 || got.V6 != n.V6 {
			t.Errorf("%s: got %v, want %v", name, got, n)
		}
	}
	if n := again.get("new.example"); n.V4[0] != netip.MustParseAddr("100.96.1.145") || again.NameOf(n.V6[3]) != n {
		t.Errorf("the next name got %v", n)
	}
}

// TestBadSeeds: a damaged file costs the names in it, nothing else.
func TestBadSeeds(t *testing.T) {
	good := core.ProxyName{Name: "a.example", Addrs: addrs("100.96.0.1 100.96.0.2 100.96.0.3 100.96.0.4 fd00:2021:1111:8000:: fd00:2021:1111:8000::1 fd00:2021:1111:8000::2 fd00:2021:1111:8000::3")}
	with := func(name string, f func(a []netip.Addr) []netip.Addr) core.ProxyName {
		return core.ProxyName{Name: name, Addrs: f(slices.Clone(good.Addrs))}
	}
	set := func(i int, a string) func([]netip.Addr) []netip.Addr {
		return func(list []netip.Addr) []netip.Addr { list[i] = netip.MustParseAddr(a); return list }
	}
	for _, bad := range []core.ProxyName{
		with("", set(0, "100.96.0.1")),
		with("UPPER.example", set(0, "100.96.0.1")),
		with("dot.example.", set(0, "100.96.0.1")),
		with("space .example", set(0, "100.96.0.1")),
		with("none.example", func([]netip.Addr) []netip.Addr { return nil }),
		with("seven.example", func(a []netip.Addr) []netip.Addr { return a[:7] }),
		with("nine.example", func(a []netip.Addr) []netip.Addr { return append(a, netip.MustParseAddr("100.96.0.9")) }),
		with("five.example", set(4, "100.96.0.9")),
		with("twice.example", set(1, "100.96.0.1")),
		with("network.example", set(0, "100.96.0.0")),
		with("broadcast.example", set(0, "100.127.255.255")),
		with("sentinel.example", set(0, "100.100.111.7")),
		with("sentinel6.example", set(4, "fd00:2021:1111:8000:100:100:111:7")),
		with("peer.example", set(0, "100.64.0.1")),
		with("public.example", set(0, "8.8.8.8")),
		with("low.example", set(4, "::1")),
		with("zone.example", set(4, "fd00:2021:1111:8000::9%eth0")),
		with("mapped.example", set(4, "::ffff:100.96.0.9")),
		{Name: "invalid.example", Addrs: make([]netip.Addr, 8)},
	} {
		r := New(Config{Rand: noise(1), Names: []core.ProxyName{bad, good, good, {Name: "other.example", Addrs: good.Addrs}}})
		if r.Len() != 1 || r.Named("a.example") == nil || count(r, seedsSkipped) != 3 {
			t.Errorf("%q %v: %d names, %d skipped", bad.Name, bad.Addrs, r.Len(), count(r, seedsSkipped))
		}
	}
}

// TestSeedAtTheEndOfThePool: what was passed over is used, nothing twice.
func TestSeedAtTheEndOfThePool(t *testing.T) {
	r := New(Config{Rand: noise(1), Names: []core.ProxyName{{
		Name:  "last.example",
		Addrs: addrs("100.127.255.254 100.127.255.253 100.127.255.252 100.96.0.2 fd00:2021:1111:8000::1f:ffff fd00:2021:1111:8000::2 fd00:2021:1111:8000::3 fd00:2021:1111:8000::4"),
	}}})
	if r.Len() != 1 {
		t.Fatal("not restored")
	}
	n := r.get("next.example")
	if got, want := n.V4[:], addrs("100.96.0.1 100.96.0.3 100.96.0.4 100.96.0.5"); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := n.V6[:], addrs("fd00:2021:1111:8000:: fd00:2021:1111:8000::1 fd00:2021:1111:8000::5 fd00:2021:1111:8000::6"); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestExhaustedPoolSaysServfail(t *testing.T) {
	r := fixture(t)
	if want := 1<<21 - 256 - 2 - 4; r.pool4.left != want || r.pool6.left != 1<<21-4 {
		t.Errorf("%d and %d addresses left, want %d of IPv4", r.pool4.left, r.pool6.left, want)
	}
	r.pool4.left = 11
	for i, want := range []bool{true, true, false} {
		if n := r.get(fmt.Sprintf("h%d.example", i)); (n != nil) != want {
			t.Errorf("name %d: got %v", i, n)
		}
	}
	if got := outcome(t, r, new(dns.Msg).SetQuestion("late.corp.example.", dns.TypeA)); got != "SERVFAIL" {
		t.Errorf("a new name: got %s", got)
	}
	if got := outcome(t, r, new(dns.Msg).SetQuestion("known.example.", dns.TypeA)); got == "SERVFAIL" {
		t.Errorf("an old name: got %s", got)
	}
}

// TestAllocationAgainstModel compares with a model that keeps all addresses
// in use in one list and always looks for the first one behind the last.
func TestAllocationAgainstModel(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 0))
		m := model{names: make(map[string][]netip.Addr), last4: policy.ProxyV4.Addr(), last6: policy.ProxyV6.Addr().Prev()}
		if rng.IntN(2) == 0 { // close to the sentinels
			m.last4 = netip.AddrFrom4([4]byte{100, 100, 110, byte(rng.IntN(256))})
		}
		r := New(Config{Rand: noise(seed)})
		r.pool4.cursor = r.pool4.offset(m.last4) + 1
		for range 150 {
			name := fmt.Sprintf("h%d.example", rng.IntN(200))
			if rng.IntN(50) == 0 { // a restart
				cursor := r.pool4.cursor
				if r = New(Config{Rand: noise(seed), Names: r.Names()}); r.Len() == 0 {
					r.pool4.cursor = cursor
				}
			}
			n := r.get(name)
			if got, want := slices.Concat(n.V4[:], n.V6[:]), m.get(name); !slices.Equal(got, want) {
				t.Fatalf("seed %d: %s got %v, want %v", seed, name, got, want)
			}
			for _, a := range m.names[name] {
				if r.NameOf(a) != n {
					t.Fatalf("seed %d: %v leads to %v", seed, a, r.NameOf(a))
				}
			}
		}
	}
}

type model struct {
	names        map[string][]netip.Addr
	last4, last6 netip.Addr
}

func (m *model) get(name string) []netip.Addr {
	if list := m.names[name]; list != nil {
		return list
	}
	var list []netip.Addr
	for len(list) < 4 {
		if m.last4 = m.last4.Next(); policy.IsProxy(m.last4) {
			list = append(list, m.last4)
		}
	}
	for len(list) < 8 {
		m.last6 = m.last6.Next()
		list = append(list, m.last6)
	}
	m.names[name] = list
	return list
}

// TestRecent: the newest come first, and memory is bounded.
func TestRecent(t *testing.T) {
	r := New(Config{Rand: noise(1)})
	ready(r)
	r.Upsert(Resource{ID: resource(1), Pattern: pattern("*.one.example")})
	r.Upsert(Resource{ID: resource(2), Pattern: pattern("*.two.example")})
	ask := func(name string) { outcome(t, r, new(dns.Msg).SetQuestion(name+".", dns.TypeA)) }
	for _, name := range []string{"a.one.example", "b.two.example", "c.one.example", "a.one.example"} {
		ask(name)
	}
	var got []string
	for _, n := range r.Recent(resource(1)) {
		got = append(got, n.FQDN)
	}
	if want := []string{"a.one.example", "c.one.example"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for i := range 300 {
		ask(fmt.Sprintf("h%d.two.example", i))
	}
	if list := r.Recent(resource(2)); len(list) != 256 || list[0].FQDN != "h299.two.example" || len(r.Recent(resource(1))) != 0 {
		t.Errorf("%d names", len(list))
	}
	fresh := New(Config{Rand: noise(1), Names: r.Names()})
	fresh.Upsert(Resource{ID: resource(1), Pattern: pattern("*.one.example")})
	if list := fresh.Recent(resource(1)); len(list) != 0 {
		t.Errorf("after a restart: %v", list)
	}
}
