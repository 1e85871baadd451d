package policy

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/packet"
	"stile/tunnel/wire"
)

var epoch = time.Unix(1_800_000_000, 0)

// Spec client-dns.md 16.1, gateway-nat.md 1.4.
func TestPermits(t *testing.T) {
	web := Filters{{Protocol: wire.TCP, First: 80, Last: 80}, {Protocol: wire.TCP, First: 440, Last: 443}}
	mixed := Filters{{Protocol: wire.UDP, First: 0, Last: 65535}, {Protocol: wire.ICMP}}
	tests := []struct {
		name    string
		filters Filters
		proto   packet.Proto
		port    uint16
		want    bool
	}{
		{"empty list", nil, packet.TCP, 22, true},
		{"empty list, other protocol", nil, 47, 0, true},
		{"one port", web, packet.TCP, 80, true},
		{"below the range", web, packet.TCP, 439, false},
		{"first of the range", web, packet.TCP, 440, true},
		{"last of the range", web, packet.TCP, 443, true},
		{"above the range", web, packet.TCP, 444, false},
		{"other protocol, same port", web, packet.UDP, 80, false},
		{"ICMP without a filter for it", web, packet.ICMP, 0, false},
		{"ICMPv6 without a filter for it", web, packet.ICMPv6, 0, false},
		{"all ports", mixed, packet.UDP, 65535, true},
		{"port 0", mixed, packet.UDP, 0, true},
		{"ICMP", mixed, packet.ICMP, 0, true},
		{"ICMPv6", mixed, packet.ICMPv6, 0, true},
		{"TCP not listed", mixed, packet.TCP, 80, false},
		{"GRE", mixed, 47, 0, false},
	}
	for _, test := range tests {
		if got := test.filters.Permits(test.proto, test.port); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// Spec client-dns.md 15.2: the order of candidates.
func TestFindOrder(t *testing.T) {
	tcp80 := Filters{{Protocol: wire.TCP, First: 80, Last: 80}}
	tcp443 := Filters{{Protocol: wire.TCP, First: 443, Last: 443}}
	proxy := netip.MustParsePrefix("100.96.0.1/32")
	tests := []struct {
		name    string
		entries []Entry
		to      string
		port    uint16
		want    byte // last byte of the resource's id
		verdict Verdict
	}{
		{"nothing", nil, "10.0.0.1", 80, 0, None},
		{"outside", []Entry{cidr(1, "10.0.0.0/24", nil)}, "10.0.1.1", 80, 0, None},
		{"inside", []Entry{cidr(1, "10.0.0.0/24", nil)}, "10.0.0.1", 80, 1, Permitted},
		{"denied", []Entry{cidr(1, "10.0.0.0/24", tcp443)}, "10.0.0.1", 80, 1, Denied},
		{"longer prefix", []Entry{cidr(1, "10.0.0.0/8", nil), cidr(2, "10.0.0.0/24", nil)}, "10.0.0.1", 80, 2, Permitted},
		{"permitting before longer", []Entry{cidr(1, "10.0.0.0/8", nil), cidr(2, "10.0.0.0/24", tcp443)}, "10.0.0.1", 80, 1, Permitted},
		{"both deny: longer", []Entry{cidr(1, "10.0.0.0/8", tcp443), cidr(2, "10.0.0.0/24", tcp443)}, "10.0.0.1", 80, 2, Denied},
		{"same prefix: higher id", []Entry{cidr(2, "10.0.0.0/8", nil), cidr(1, "10.0.0.0/8", nil)}, "10.0.0.1", 80, 2, Permitted},
		{"same prefix: permitting one", []Entry{cidr(2, "10.0.0.0/8", tcp443), cidr(1, "10.0.0.0/8", tcp80)}, "10.0.0.1", 80, 1, Permitted},
		{"more specific pattern", []Entry{dns(t, 1, proxy, "wiki.corp.example"), dns(t, 2, proxy, "*.corp.example")}, "100.96.0.1", 80, 1, Permitted},
		{"IPv6", []Entry{cidr(1, "2001:db8::/32", nil), cidr(2, "2001:db8::/64", tcp443)}, "2001:db8::1", 80, 1, Permitted},
	}
	for _, test := range tests {
		for _, reversed := range []bool{false, true} {
			var table Table
			entries := slices.Clone(test.entries)
			if reversed {
				slices.Reverse(entries)
			}
			for _, e := range entries {
				table.Add(e)
			}
			e, verdict := table.Find(netip.MustParseAddr(test.to), packet.TCP, test.port, epoch)
			if verdict != test.verdict || e.Resource != resource(test.want) {
				t.Errorf("%s: resource %v %v, want %d %v", test.name, e.Resource, verdict, test.want, test.verdict)
			}
		}
	}
}

// Spec gateway-nat.md N44.
func TestN44ExpiryIsExact(t *testing.T) {
	var table Table
	e := cidr(1, "10.0.0.0/8", nil)
	e.Expires = epoch.Add(time.Minute)
	table.Add(e)
	to := netip.MustParseAddr("10.1.2.3")
	if _, v := table.Find(to, packet.UDP, 1, e.Expires.Add(-1)); v != Permitted {
		t.Errorf("just before: %v", v)
	}
	if _, v := table.Find(to, packet.UDP, 1, e.Expires); v != None {
		t.Errorf("at the instant: %v", v)
	}
	e.Expires = time.Time{}
	table.Add(e)
	if _, v := table.Find(to, packet.UDP, 1, epoch.AddDate(100, 0, 0)); v != Permitted {
		t.Errorf("without expiry: %v", v)
	}
}

// Removing one resource leaves the others on the same addresses alone.
func TestTableAgainstModel(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 15))
		var table Table
		var list []Entry // the whole model
		now := epoch
		for step := range 60 {
			switch rng.IntN(6) {
			case 0:
				r := resource(byte(rng.IntN(8)))
				table.RemoveResource(r)
				list = slices.DeleteFunc(list, func(e Entry) bool { return e.Resource == r })
			case 1:
				if len(list) > 0 {
					e := list[rng.IntN(len(list))]
					table.Remove(e.Resource, e.Prefix)
					list = slices.DeleteFunc(list, func(o Entry) bool { return o.Resource == e.Resource && o.Prefix == e.Prefix })
				}
			case 2:
				now = now.Add(time.Duration(rng.IntN(20)) * time.Second)
			default:
				e := anyEntry(rng, now)
				table.Add(e)
				list = slices.DeleteFunc(list, func(o Entry) bool { return o.Resource == e.Resource && o.Prefix == e.Prefix })
				list = append(list, e)
			}
			for range 5 {
				to, port := anyAddr(rng), uint16(rng.IntN(3))
				got, verdict := table.Find(to, packet.TCP, port, now)
				want, wantVerdict := find(list, to, port, now)
				if verdict != wantVerdict || got.Resource != want.Resource || got.Prefix != want.Prefix {
					t.Fatalf("seed %d step %d: %v port %d is %v of %v, want %v of %v", seed, step, to, port, verdict, got, wantVerdict, want)
				}
			}
		}
		for i := range byte(8) {
			table.RemoveResource(resource(i))
		}
		if table.Len() != 0 || len(table.prefixes) != 0 {
			t.Fatalf("seed %d: %d prefixes are left", seed, table.Len())
		}
	}
}

func TestPlan(t *testing.T) {
	tests := []struct {
		addr                                    string
		peer, proxy, sentinel, usable, internet bool
	}{
		{"100.64.0.1", true, false, false, false, false},
		{"100.95.255.255", true, false, false, false, false},
		{"100.96.0.1", false, true, false, false, false},
		{"100.127.255.255", false, true, false, false, false},
		{"100.128.0.0", false, false, false, true, true},
		{"100.100.110.255", false, true, false, false, false},
		{"100.100.111.1", false, false, true, false, false},
		{"fd00:2021:1111::1", true, false, false, false, false},
		{"fd00:2021:1111:8000::", false, true, false, false, false},
		{"fd00:2021:1111:8000::1f:ffff", false, true, false, false, false},
		{"fd00:2021:1111:8000::20:0", false, false, false, true, false},
		{"fd00:2021:1111:8000:100:100:111:1", false, false, true, false, false},
		{"10.0.0.1", false, false, false, true, false},
		{"192.168.1.1", false, false, false, true, false},
		{"fd12::1", false, false, false, true, false},
		{"8.8.8.8", false, false, false, true, true},
		{"2001:db8::1", false, false, false, true, true},
		{"127.0.0.1", false, false, false, false, false},
		{"169.254.169.254", false, false, false, false, false},
		{"224.0.0.1", false, false, false, false, false},
		{"255.255.255.255", false, false, false, false, false},
		{"0.0.0.0", false, false, false, false, false},
		{"::", false, false, false, false, false},
		{"::1", false, false, false, false, false},
		{"::ffff:10.0.0.1", false, false, false, false, false},
		{"fe80::1", false, false, false, false, false},
		{"ff02::1", false, false, false, false, false},
	}
	for _, test := range tests {
		a := netip.MustParseAddr(test.addr)
		got := []bool{IsPeer(a), IsProxy(a), IsSentinel(a), IsUsable(a), IsInternet(a)}
		want := []bool{test.peer, test.proxy, test.sentinel, test.usable, test.internet}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v (peer, proxy, sentinel, usable, Internet)", test.addr, got, want)
		}
	}
	if IsUsable(netip.Addr{}) {
		t.Error("no address is usable")
	}
}

func TestFindDoesNotAllocate(t *testing.T) {
	var table Table
	table.Add(cidr(1, "10.0.0.0/8", nil))
	table.Add(cidr(2, "10.0.0.0/24", Filters{{Protocol: wire.UDP}}))
	to := netip.MustParseAddr("10.0.0.1")
	if n := testing.AllocsPerRun(100, func() { table.Find(to, packet.TCP, 80, epoch) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkFind(b *testing.B) {
	var table Table
	rng := rand.New(rand.NewPCG(1, 1))
	for range 1000 {
		table.Add(anyEntry(rng, epoch))
	}
	to := netip.MustParseAddr("10.0.0.1")
	b.ReportAllocs()
	for b.Loop() {
		table.Find(to, packet.TCP, 80, epoch)
	}
}

// find is Table.Find, slow and obvious.
func find(list []Entry, to netip.Addr, port uint16, now time.Time) (Entry, Verdict) {
	var live []Entry
	for _, e := range list {
		if e.Prefix.Contains(to) && (e.Expires.IsZero() || now.Before(e.Expires)) {
			live = append(live, e)
		}
	}
	if len(live) == 0 {
		return Entry{}, None
	}
	denies := func(e Entry) int {
		if e.Filters.Permits(packet.TCP, port) {
			return 0
		}
		return 1
	}
	best := slices.MinFunc(live, func(a, b Entry) int {
		return cmp.Or(denies(a)-denies(b), cmp.Compare(b.Prefix.Bits(), a.Prefix.Bits()), b.Resource.Compare(a.Resource))
	})
	return best, Permitted - Verdict(denies(best))
}

func anyEntry(rng *rand.Rand, now time.Time) Entry {
	prefix, _ := anyAddr(rng).Prefix([]int{0, 8, 24, 31, 32}[rng.IntN(5)])
	e := Entry{Prefix: prefix, Resource: resource(byte(rng.IntN(8)))}
	if rng.IntN(2) == 0 {
		e.Filters = Filters{{Protocol: wire.TCP, First: uint16(rng.IntN(3)), Last: uint16(rng.IntN(3))}}
	}
	if rng.IntN(2) == 0 {
		e.Expires = now.Add(time.Duration(rng.IntN(60)) * time.Second)
	}
	return e
}

func anyAddr(rng *rand.Rand) netip.Addr {
	if rng.IntN(3) == 0 {
		return netip.AddrFrom16([16]byte{0: byte(rng.IntN(2)), 3: byte(rng.IntN(2))})
	}
	return netip.AddrFrom4([4]byte{10, byte(rng.IntN(2)), 0, byte(rng.IntN(4))})
}

func cidr(n byte, prefix string, f Filters) Entry {
	return Entry{Prefix: netip.MustParsePrefix(prefix), Resource: resource(n), Filters: f}
}

func dns(t *testing.T, n byte, prefix netip.Prefix, pattern string) Entry {
	return Entry{Prefix: prefix, Resource: resource(n), Pattern: mustPattern(t, pattern)}
}

func resource(n byte) id.Resource { return id.Resource{15: n} }
