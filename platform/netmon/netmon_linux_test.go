package netmon

import (
	"context"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestOnlyAnotherWayOutCounts(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: watching the network needs a namespace, that is root; run the tests as root")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	must(t, unix.Unshare(unix.CLONE_NEWNET))
	here, err := os.Open("/proc/thread-self/ns/net")
	must(t, err)
	defer here.Close()
	first, second := link(t, "home", "192.168.1.2/24"), link(t, "office", "10.9.0.2/16")
	tunnel := link(t, "tun-stile", "100.64.0.5/32")
	must(t, netlink.RouteAdd(via(first, "192.168.1.1")))

	ctx, cancel := context.WithCancel(t.Context())
	changes, result := make(chan struct{}, 8), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(int(here.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- err
			return
		}
		result <- Watch(ctx, "tun-stile", func() { changes <- struct{}{} })
	}()
	quiet := func(what string) {
		t.Helper()
		select {
		case <-changes:
			t.Errorf("%s was reported", what)
		case <-time.After(3 * settle):
		}
	}
	quiet("the start")

	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: tunnel.Attrs().Index, Dst: cidr("0.0.0.0/1"), Table: 77}))
	must(t, netlink.AddrAdd(tunnel, &netlink.Addr{IPNet: cidr("100.64.0.6/32")}))
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: second.Attrs().Index, Dst: cidr("10.77.0.0/16")}))
	quiet("our own doing, or a route beside")

	must(t, netlink.RouteDel(via(first, "192.168.1.1")))
	quiet("being between two networks")
	must(t, netlink.RouteAdd(via(second, "10.9.0.1")))
	select {
	case <-changes:
	case <-time.After(5 * time.Second):
		t.Error("the move was not noticed")
	}
	quiet("the same move again")

	cancel()
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func link(t *testing.T, name, addr string) netlink.Link {
	t.Helper()
	must(t, netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TUN, Flags: netlink.TUNTAP_NO_PI}))
	l, err := netlink.LinkByName(name)
	must(t, err)
	must(t, netlink.AddrAdd(l, &netlink.Addr{IPNet: cidr(addr)}))
	must(t, netlink.LinkSetUp(l))
	return l
}

func via(l netlink.Link, gateway string) *netlink.Route {
	return &netlink.Route{LinkIndex: l.Attrs().Index, Gw: net.ParseIP(gateway)}
}

func cidr(s string) *net.IPNet {
	ip, n, err := net.ParseCIDR(s)
	if err != nil {
		panic(err)
	}
	n.IP = ip
	return n
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
