package route

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var wish = Config{
	Addrs:  []netip.Addr{netip.MustParseAddr("100.64.0.5"), netip.MustParseAddr("fd00:2021:1111::5")},
	Routes: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/11"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00:2021:1111::/107")},
}

func TestSetIsExactAndRepeatable(t *testing.T) {
	inNamespace(t)
	before := state(t)
	tun(t, "tun-test")
	for range 2 {
		must(t, Set("tun-test", wish))
		want(t, table(t, tableResources), "10.0.0.0/8", "100.64.0.0/11", "fd00:2021:1111::/107")
		want(t, table(t, tableDefault))
		want(t, addrs(t, "tun-test"), "100.64.0.5/32", "fd00:2021:1111::5/128")
	}
	if n := ourRules(t); n != 6 {
		t.Errorf("%d rules, want 3 for each family", n)
	}

	other := wish
	other.Addrs = []netip.Addr{netip.MustParseAddr("100.64.0.6")}
	other.Routes, other.Default = other.Routes[:1], true
	must(t, Set("tun-test", other))
	want(t, table(t, tableResources), "100.64.0.0/11")
	want(t, table(t, tableDefault), "0.0.0.0/0", "::/0")
	want(t, addrs(t, "tun-test"), "100.64.0.6/32")

	link, _ := netlink.LinkByName("tun-test")
	must(t, netlink.LinkDel(link))
	for range 2 {
		must(t, Restore())
	}
	if after := state(t); after != before {
		t.Errorf("left behind:\n%s\nwas:\n%s", after, before)
	}
}

func TestMarkedPacketsBypassAndOthersEnter(t *testing.T) {
	inNamespace(t)
	tun(t, "uplink")
	uplink, _ := netlink.LinkByName("uplink")
	must(t, netlink.AddrAdd(uplink, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("192.168.1.2/24"))}))
	must(t, netlink.LinkSetUp(uplink))
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: uplink.Attrs().Index, Gw: []byte{192, 168, 1, 1}}))
	tun(t, "tun-test")
	c := wish
	c.Default = true
	must(t, Set("tun-test", c))
	inside, _ := netlink.LinkByName("tun-test")

	for _, row := range []struct {
		dst  string
		mark uint32
		want netlink.Link
	}{
		{"10.1.2.3", 0, inside},
		{"10.1.2.3", Mark, uplink},
		{"8.8.8.8", 0, inside},
		{"8.8.8.8", Mark, uplink},
		{"192.168.1.9", 0, uplink}, // the local network stays reachable
	} {
		got, err := netlink.RouteGetWithOptions(netip.MustParseAddr(row.dst).AsSlice(), &netlink.RouteGetOptions{Mark: row.mark})
		if err != nil || len(got) != 1 || got[0].LinkIndex != row.want.Attrs().Index {
			t.Errorf("%s with mark %#x: %v, %v; want %s", row.dst, row.mark, got, err, row.want.Attrs().Name)
		}
	}

	must(t, netlink.AddrAdd(uplink, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("172.20.0.2/16"))}))
	must(t, Refresh())
	want(t, table(t, tableOnLink), "172.20.0.0/16", "192.168.1.0/24")
}

func TestNoSuchInterface(t *testing.T) {
	inNamespace(t)
	if err := Set("tun-none", wish); err == nil || !strings.Contains(err.Error(), "tun-none") {
		t.Error(err)
	}
}

// inNamespace moves the test into a network namespace of its own, which ends
// with the thread.
func inNamespace(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: routes need root; run the tests as root")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	must(t, unix.Unshare(unix.CLONE_NEWNET))
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))
}

func tun(t *testing.T, name string) {
	t.Helper()
	must(t, netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TUN, Flags: netlink.TUNTAP_NO_PI}))
}

func table(t *testing.T, id int) []string {
	t.Helper()
	var texts []string
	for _, family := range families {
		list, err := routes(family, id)
		must(t, err)
		for _, r := range list {
			texts = append(texts, prefix(r, family).String())
		}
	}
	slices.Sort(texts)
	return texts
}

func addrs(t *testing.T, name string) []string {
	t.Helper()
	link, err := netlink.LinkByName(name)
	must(t, err)
	list, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	must(t, err)
	var texts []string
	for _, a := range list {
		texts = append(texts, a.IPNet.String())
	}
	slices.Sort(texts)
	return texts
}

func ourRules(t *testing.T) (n int) {
	t.Helper()
	for _, family := range families {
		list, err := netlink.RuleList(family)
		must(t, err)
		for _, r := range list {
			if r.Priority <= 300 && r.Priority >= 100 && r.Invert && r.Mark == Mark {
				n++
			}
		}
	}
	return n
}

// state prints every rule and route of the namespace.
func state(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, family := range families {
		list, err := netlink.RuleList(family)
		must(t, err)
		for _, r := range list {
			fmt.Fprintln(&b, r)
		}
		all, err := netlink.RouteListFiltered(family, &netlink.Route{}, netlink.RT_FILTER_TABLE)
		must(t, err)
		for _, r := range all {
			fmt.Fprintln(&b, r)
		}
	}
	return b.String()
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestShowAndTo(t *testing.T) {
	inNamespace(t)
	tun(t, "uplink")
	uplink, _ := netlink.LinkByName("uplink")
	must(t, netlink.AddrAdd(uplink, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("192.168.1.2/24"))}))
	must(t, netlink.LinkSetUp(uplink))
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: uplink.Attrs().Index, Gw: []byte{192, 168, 1, 1}}))
	tun(t, "tun-test")
	must(t, Set("tun-test", wish))
	for a, want := range map[string]string{"10.1.2.3": "tun-test", "203.0.113.1": "uplink", "fd00:2021:1111::9": "tun-test"} {
		if got, err := To(netip.MustParseAddr(a)); got != want || err != nil {
			t.Errorf("To(%s) = %q, %v; want %q", a, got, err, want)
		}
	}
	if got, err := To(netip.MustParseAddr("2001:db8::1")); err == nil {
		t.Errorf("To an address without a route = %q", got)
	}
	text, err := Show()
	must(t, err)
	for _, want := range []string{
		"interface uplink ", "addr 192.168.1.2/24", "route 10.0.0.0/8 table " + fmt.Sprint(tableResources) + " dev tun-test",
		"route 0.0.0.0/0 table 254 dev uplink via 192.168.1.1", " not fwmark 0x",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("Show lacks %q:\n%s", want, text)
		}
	}
}
