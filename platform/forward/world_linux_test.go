package forward

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A world is a client, a gateway and a resource: hosts of their own in a row.
// A cable named tunnel stands for the tunnel. The test itself is the gateway;
// the resource knows no way to the client's address.
type world struct {
	t                         *testing.T
	client, resource, gateway *os.File
}

const tunnel = "tun-test"

var (
	client4, client6     = netip.MustParseAddr("100.64.0.5"), netip.MustParseAddr("fd00:2021:1111::5")
	resource4, resource6 = netip.MustParseAddr("10.9.0.10"), netip.MustParseAddr("fd00:10:9::10")
)

func newWorld(t *testing.T) *world {
	inNamespace(t)
	w := &world{t: t, gateway: here(t)}
	w.client, w.resource = namespace(t), namespace(t)
	cable(t, tunnel, w.client, "100.64.0.1/32", "fd00:2021:1111::1/128")
	cable(t, "eth0", w.resource, "10.9.0.1/24", "fd00:10:9::1/64")
	for _, r := range []string{"100.64.0.0/11", "fd00:2021:1111::/107"} {
		route(t, tunnel, r, "")
	}
	route(t, "eth0", "0.0.0.0/0", "10.9.0.10")
	route(t, "eth0", "::/0", "fd00:10:9::10")
	w.in(w.client, func() {
		address(t, "eth0", "100.64.0.5/32", "fd00:2021:1111::5/128")
		route(t, "eth0", "0.0.0.0/0", "")
		route(t, "eth0", "::/0", "")
	})
	w.in(w.resource, func() {
		address(t, "eth0", "10.9.0.10/24", "fd00:10:9::10/64")
		for _, a := range []string{"10.9.0.10:80", "[fd00:10:9::10]:80"} {
			l, err := net.Listen("tcp", a)
			must(t, err)
			t.Cleanup(func() { l.Close() })
			go echo(l)
		}
	})
	// No neighbour discovery: on both cables everybody answers for everything.
	w.in(w.client, func() { neighbours(t, "eth0", w.gateway, tunnel, "10.9.0.10", "fd00:10:9::10") })
	neighbours(t, tunnel, w.client, "eth0", "100.64.0.5", "fd00:2021:1111::5")
	return w
}

// echo answers each connection with the caller's address, then with what it says.
func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			fmt.Fprintf(c, "%-64s", c.RemoteAddr())
			io.Copy(c, c)
		}()
	}
}

// reach connects from the client to the resource and returns as whom it came.
func (w *world) reach(to netip.Addr) (netip.Addr, error) {
	c, err := w.dial(w.client, to)
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	return greeting(c)
}

func greeting(c net.Conn) (netip.Addr, error) {
	c.SetDeadline(time.Now().Add(2 * time.Second))
	text := make([]byte, 64)
	if _, err := io.ReadFull(c, text); err != nil {
		return netip.Addr{}, err
	}
	from, err := netip.ParseAddrPort(strings.TrimSpace(string(text)))
	return from.Addr(), err
}

func (w *world) dial(from *os.File, to netip.Addr) (c net.Conn, err error) {
	w.in(from, func() { c, err = net.DialTimeout("tcp", netip.AddrPortFrom(to, 80).String(), 400*time.Millisecond) })
	return c, err
}

// passes proves that both families go through, masqueraded.
func (w *world) passes() {
	w.t.Helper()
	for to, as := range map[netip.Addr]string{resource4: "10.9.0.1", resource6: "fd00:10:9::1"} {
		if from, err := w.reach(to); err != nil || from.String() != as {
			w.t.Errorf("reached %v as %v, want %s: %v", to, from, as, err)
		}
	}
}

// stuck proves that neither family goes through.
func (w *world) stuck() {
	w.t.Helper()
	for _, to := range []netip.Addr{resource4, resource6} {
		if from, err := w.reach(to); err == nil {
			w.t.Errorf("reached %v as %v", to, from)
		}
	}
}

// in runs f in another namespace, on a thread that ends with it.
func (w *world) in(ns *os.File, f func()) {
	w.t.Helper()
	var g sync.WaitGroup
	g.Go(func() {
		runtime.LockOSThread()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			w.t.Error(err)
			return
		}
		f()
	})
	g.Wait()
}

func here(t *testing.T) *os.File {
	f, err := os.Open("/proc/thread-self/ns/net")
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// namespace makes an empty network namespace.
func namespace(t *testing.T) (ns *os.File) {
	var g sync.WaitGroup
	g.Go(func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err == nil {
			ns, _ = os.Open("/proc/thread-self/ns/net")
		}
	})
	g.Wait()
	if ns == nil {
		t.Fatal("no network namespace")
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// cable connects this namespace with eth0 of another.
func cable(t *testing.T, name string, other *os.File, addrs ...string) {
	t.Helper()
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(other.Fd()))}))
	address(t, name, addrs...)
}

func address(t *testing.T, name string, addrs ...string) {
	l, err := netlink.LinkByName(name)
	must(t, err)
	must(t, netlink.LinkSetUp(l))
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(a)
		must(t, err)
		addr.Flags = unix.IFA_F_NODAD
		must(t, netlink.AddrAdd(l, addr))
	}
}

func route(t *testing.T, name, dst, via string) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	_, to, err := net.ParseCIDR(dst)
	must(t, err)
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: to, Gw: net.ParseIP(via)}))
}

// neighbours makes the link layer address of the far end known for addrs.
func neighbours(t *testing.T, name string, far *os.File, farName string, addrs ...string) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	var mac net.HardwareAddr
	(&world{t: t}).in(far, func() {
		if l, err := netlink.LinkByName(farName); err == nil {
			mac = l.Attrs().HardwareAddr
		}
	})
	for _, a := range addrs {
		must(t, netlink.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, IP: net.ParseIP(a), HardwareAddr: mac, State: netlink.NUD_PERMANENT}))
	}
}

// load feeds a file of testdata to a tool of the firewall.
func load(t testing.TB, name string) {
	t.Helper()
	switch filepath.Ext(name) {
	case ".v4":
		tool(t, "iptables-nft-restore", "-n", "testdata/"+name)
	case ".v6":
		tool(t, "ip6tables-nft-restore", "-n", "testdata/"+name)
	default:
		tool(t, "nft", "-f", "testdata/"+name)
	}
}

// tool runs a program in this namespace and returns what it prints.
func tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("NOT TESTED: %s is missing; install nftables and iptables", name)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// foreign prints all rules but ours.
func foreign(t *testing.T) string {
	t.Helper()
	text := tool(t, "nft", "-s", "list", "ruleset")
	if a := strings.Index(text, "table inet "+TableName+" {"); a >= 0 {
		end := a + strings.Index(text[a:], "\n}\n") + 3
		text = text[:a] + text[end:]
	}
	return text
}

// A logbook collects what is logged.
type logbook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logbook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }
