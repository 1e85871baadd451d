package client

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"stile/tunnel/core"
	"stile/tunnel/wire"
)

const fixed = "100.64.0.0/11 100.96.0.0/11 100.100.111.0/24 fd00:2021:1111::/107 fd00:2021:1111:8000::/107 fd00:2021:1111:8000:100:100:111:0/120"

func prefixes(list ...string) string {
	var ps []netip.Prefix
	for _, s := range strings.Fields(strings.Join(list, " ")) {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	slices.SortFunc(ps, netip.Prefix.Compare)
	return join(ps)
}

func join(ps []netip.Prefix) string {
	var words []string
	for _, p := range ps {
		words = append(words, p.String())
	}
	return strings.Join(words, " ")
}

// TestConfiguration: 23.2 and what changes it, each with the flush behind it.
func TestConfiguration(t *testing.T) {
	b := emptyBench(t, Config{})
	b.do(func() {
		b.c.Done(core.SystemResolvers{Servers: []netip.AddrPort{netip.MustParseAddrPort("192.168.1.1:53")}}, b.now)
	})
	b.do(func() { b.c.PortalUp(b.now) })
	b.want("before init", "tell set_snownet_capabilities")
	face := wire.Interface{IPv4: own4, IPv6: own6, SearchDomain: "corp.example"}
	b.message(wire.ClientInit{Interface: face, Resources: []wire.Resource{
		cidrResource(2, "10.0.0.0/8"), cidrResource(3, "2001:db8::/32"), cidrResource(4, "10.0.0.0/8"), dnsResource(5, "*.example"), internetResource(6)}})
	b.want("init", "configure", "flush")
	want := func(when, routes string, byDefault bool, sentinels ...string) {
		t.Helper()
		if join(b.tun.Routes) != prefixes(routes) || b.tun.Default != byDefault || b.tun.IPv4 != own4 || b.tun.IPv6 != own6 {
			t.Errorf("%s: got %+v", when, b.tun)
		}
		var list []string
		for _, s := range b.tun.Sentinels {
			list = append(list, s.String())
		}
		if !slices.Equal(list, sentinels) {
			t.Errorf("%s: sentinels %v", when, list)
		}
	}
	want("init", fixed+" 10.0.0.0/8 2001:db8::/32", false, "100.100.111.1")
	if b.tun.SearchDomain != "corp.example" {
		t.Errorf("search domain %q", b.tun.SearchDomain)
	}
	for _, c := range []struct {
		name      string
		message   wire.Message
		lines     []string
		routes    string
		sentinels string
	}{
		{"one of two resources with the prefix", wire.ResourceDeleted{ID: res(4)}, []string{"flush"}, fixed + " 10.0.0.0/8 2001:db8::/32", "100.100.111.1"},
		{"the other", wire.ResourceDeleted{ID: res(2)}, []string{"configure", "flush"}, fixed + " 2001:db8::/32", "100.100.111.1"},
		{"one that is not there", wire.ResourceDeleted{ID: res(77)}, nil, fixed + " 2001:db8::/32", "100.100.111.1"},
		{"a new one", upserted(cidrResource(7, "192.0.2.1/32")), []string{"configure", "flush"}, fixed + " 2001:db8::/32 192.0.2.1/32", "100.100.111.1"},
		{"the same again", upserted(cidrResource(7, "192.0.2.1/32")), nil, fixed + " 2001:db8::/32 192.0.2.1/32", "100.100.111.1"},
		{"another prefix", upserted(cidrResource(7, "192.0.2.2/32")), []string{"configure", "flush"}, fixed + " 2001:db8::/32 192.0.2.2/32", "100.100.111.1"},
		{"a DNS resource", upserted(dnsResource(8, "*.test")), []string{"flush"}, fixed + " 2001:db8::/32 192.0.2.2/32", "100.100.111.1"},
		{"portal resolver", wire.ConfigChanged{Interface: wire.Interface{IPv4: own4, IPv6: own6, UpstreamDo53: []netip.Addr{addr("9.9.9.9")}}}, []string{"configure", "flush"}, fixed + " 2001:db8::/32 192.0.2.2/32", "100.100.111.2"},
	} {
		b.message(c.message)
		b.want(c.name, c.lines...)
		want(c.name, c.routes, false, c.sentinels)
	}
}

// TestNewSystemResolvers: a change of order is no change (acceptance test 3);
// none at all counts after 5 s.
func TestNewSystemResolvers(t *testing.T) {
	b := newBench(t)
	set := func(list ...string) {
		var servers []netip.AddrPort
		for _, s := range list {
			servers = append(servers, netip.AddrPortFrom(addr(s), 53))
		}
		b.do(func() { b.c.Done(core.SystemResolvers{Servers: servers}, b.now) })
	}
	set("192.168.1.1", "1.1.1.1")
	b.want("another", "configure", "flush")
	set("1.1.1.1", "192.168.1.1")
	b.want("another order")
	set()
	b.want("none")
	b.wait(5 * time.Second)
	b.want("none for 5 s", "configure", "flush")
	if len(b.tun.Sentinels) != 0 {
		t.Errorf("sentinels %v", b.tun.Sentinels)
	}
}

// TestInternetSwitch: acceptance test 24 as far as the core goes, and 15.
func TestInternetSwitch(t *testing.T) {
	b := emptyBench(t, Config{})
	b.init(internetResource(3))
	b.took()
	b.send(udp("9.9.9.9", 1, ""))
	b.want("off")
	b.do(func() { b.c.Done(internetOn, b.now) })
	b.want("on", "configure", "flush")
	if !b.tun.Default {
		t.Error("no default routes")
	}
	b.do(func() { b.c.Done(internetOn, b.now) })
	b.want("on again")
	for _, dst := range []string{"100.100.111.200", "100.97.0.1", "fd00:2021:1111:8000::77"} {
		b.send(udp(dst, 1, ""))
		b.want("acceptance test 15: " + dst)
	}
	b.send(udp("9.9.9.9", 1, "a"))
	b.grant(3, 3)
	b.up(3)
	b.want("used", "request 3 []", "sent udp 9.9.9.9:4000>1 a to 3")
	b.do(func() { b.c.Done(internetOff, b.now) })
	b.want("off", "configure", "flush")
	if b.tun.Default || b.paths.log[len(b.paths.log)-1] != "close 3 goodbye true" {
		t.Errorf("default routes %v, %s", b.tun.Default, b.paths.log[len(b.paths.log)-1])
	}
	b.do(func() { b.c.Done(internetOn, b.now) })
	b.took()
	b.message(wire.ResourceDeleted{ID: res(3)})
	b.want("the portal takes it away", "configure", "flush")
	if b.tun.Default {
		t.Error("default routes without the resource")
	}
	b.message(upserted(internetResource(3)))
	b.want("and gives it back: the switch is still on", "configure", "flush")
	b.message(upserted(internetResource(4)))
	b.want("two of them: one counts", "flush")
	if b.c.internet.ID != res(4) {
		t.Errorf("active: %v", b.c.internet.ID)
	}
}

// TestOneConfigurationAtATime: while one is in work, changes gather.
func TestOneConfigurationAtATime(t *testing.T) {
	b := emptyBench(t, Config{})
	b.slow = true
	b.init(cidrResource(1, "10.0.0.0/8"))
	b.want("init", "tell set_snownet_capabilities", "configure", "flush")
	for i := range 100 {
		b.message(upserted(cidrResource(byte(i+2), netip.AddrFrom4([4]byte{172, 16, 0, byte(i)}).String()+"/32")))
	}
	b.want("busy")
	b.do(func() { b.c.Done(core.Configured{}, b.now) })
	b.want("done", "configure", "flush")
	if len(b.tun.Routes) != 6+101 {
		t.Errorf("%d routes", len(b.tun.Routes))
	}
	b.do(func() { b.c.Done(core.Configured{}, b.now) })
	b.want("nothing new")
}

// TestConfigurationIsTriedAgain after it could not be made so.
func TestConfigurationIsTriedAgain(t *testing.T) {
	b := emptyBench(t, Config{})
	b.slow = true
	b.init()
	b.took()
	b.do(func() { b.c.Done(core.Configured{Err: errors.New("no such device")}, b.now) })
	b.want("failed")
	b.wait(5 * time.Second)
	b.want("after 5 s", "configure", "flush")
	b.do(func() { b.c.Done(core.Configured{}, b.now) })
	b.wait(time.Minute)
	b.want("it worked")
}

// TestManyResources: 100,000 of them neither stall init nor a change.
func TestManyResources(t *testing.T) {
	list := make([]wire.Resource, 100_000)
	for i := range list {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(i))
		r := cidrResource(0, netip.AddrFrom4([4]byte{10, n[1], n[2], n[3]}).String()+"/32")
		if i%2 == 0 {
			r = dnsResource(0, "*.h"+strings.ToLower(netip.AddrFrom4(n).String()[2:])+".example")
		}
		binary.BigEndian.PutUint32(r.ID[12:], uint32(i+1))
		list[i] = r
	}
	b := emptyBench(t, Config{InternetOn: true})
	began := time.Now()
	b.init(list...)
	t.Logf("init took %v", time.Since(began))
	b.resolved("wiki.h0.0.8.example")
	b.send(syn("100.96.0.1", 1, 80))
	b.took()
	changes := time.Now()
	for i := range 100 {
		b.message(upserted(cidrResource(byte(i), netip.AddrFrom4([4]byte{172, 16, 0, byte(i)}).String()+"/32")))
		b.send(syn("100.96.0.1", 1, 80))
	}
	t.Logf("100 changes took %v", time.Since(changes))
	b.message(initOf(list...))
	b.message(initOf())
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("all of it took %v", took)
	}
	if len(b.c.resources) != 0 || len(b.tun.Routes) != 6 {
		t.Errorf("%d resources, %d routes are left", len(b.c.resources), len(b.tun.Routes))
	}
}

// TestRemember: names are stored soon after they are new, all at once, and
// when the client stops.
func TestRemember(t *testing.T) {
	b := newBench(t, dnsResource(1, "**.example"))
	b.resolved("a.example")
	b.resolved("b.example")
	if len(b.remembered) != 0 {
		t.Fatal("at once: the disk would be in the way of the first packets")
	}
	b.wait(time.Second)
	b.resolved("b.example")
	b.wait(time.Minute)
	b.query("c.example", dns.TypeAAAA)
	b.do(func() { b.c.Stop(b.now) })
	if !slices.Equal(b.remembered, []int{2, 3}) {
		t.Errorf("stored %v", b.remembered)
	}
}
