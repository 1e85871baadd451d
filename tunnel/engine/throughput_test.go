package engine

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
	wgdevice "golang.zx2c4.com/wireguard/device"
	wgtun "golang.zx2c4.com/wireguard/tun"

	"stile/platform/clock"
	"stile/platform/sock"
	"stile/platform/tun"
	"stile/tunnel/packet"
	"stile/tunnel/udp"
)

// BenchmarkTCP moves one TCP stream through two real TUN devices, and UDP
// sockets joined by a veth pair, in two network namespaces: our engines, and
// beside them two devices of wireguard-go. Both ends of the tunnel and of the
// stream share the machine. cpu-s/GB counts all of it.
func BenchmarkTCP(b *testing.B) {
	for _, c := range []struct {
		name string
		join func(testing.TB, *world)
	}{{"engine", joinEngines}, {"wireguard-go", joinWireGuard}} {
		b.Run(c.name, func(b *testing.B) {
			w := newWorld(b)
			c.join(b, w)
			w.transfer(b, 1<<20)
			const size = 256 << 20
			b.SetBytes(size)
			before := processorTime()
			for b.Loop() {
				w.transfer(b, size)
			}
			b.ReportMetric((processorTime()-before).Seconds()/(float64(b.N)*size/1e9), "cpu-s/GB")
			b.ReportMetric(float64(b.N)*size*8/1e9/b.Elapsed().Seconds(), "Gbit/s")
		})
	}
}

// The same in short, to be run with the race detector.
func TestTCPThroughTheKernel(t *testing.T) {
	w := newWorld(t)
	joinEngines(t, w)
	for range 3 {
		w.transfer(t, 20<<20)
	}
}

// A world is two hosts with a link between them.
type world struct {
	hosts [2]chan func() // runs functions in each namespace
}

func newWorld(t testing.TB) *world {
	if unix.Geteuid() != 0 {
		t.Skip("SKIPPED, NEEDS ROOT")
	}
	w := new(world)
	var threads [2]int
	for i := range w.hosts {
		w.hosts[i] = make(chan func())
		go func() {
			runtime.LockOSThread() // never unlocked: the namespace ends with the thread
			for f := range w.hosts[i] {
				f()
			}
		}()
		t.Cleanup(func() { close(w.hosts[i]) })
		w.in(t, i, func() error { threads[i] = unix.Gettid(); return unix.Unshare(unix.CLONE_NEWNET) })
	}
	w.in(t, 0, func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0", PeerNamespace: netlink.NsPid(threads[1])})
	})
	for i := range w.hosts {
		w.in(t, i, func() error { return address("eth0", "10.1.0.%d/24", i) })
	}
	return w
}

// address gives an interface an address that ends in the host's number, and
// switches it on.
func address(name, format string, host int) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(fmt.Sprintf(format, host+1))
	if err != nil {
		return err
	}
	return errors.Join(netlink.AddrAdd(link, a), netlink.LinkSetUp(link))
}

// in runs f on a host.
func (w *world) in(t testing.TB, host int, f func() error) {
	t.Helper()
	done := make(chan error)
	w.hosts[host] <- func() { done <- f() }
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// joinEngines runs an engine on each host.
func joinEngines(t testing.TB, w *world) {
	var engines [2]*Engine
	pa, pb := newPeers(t, clock.Now(), netip.MustParseAddrPort("10.1.0.1:52625"), netip.MustParseAddrPort("10.1.0.2:52625"))
	for i, p := range []*peer{pa, pb} {
		w.in(t, i, func() error {
			d, err := tun.Open("tun0", packet.MaxSize)
			if err != nil {
				return err
			}
			s, err := udp.Open(udp.Port, sock.BufferSizes{})
			if err != nil {
				return err
			}
			engines[i] = New(Config{
				Role: p, TUN: func() (Device, error) { return d, nil }, Sockets: func() (Sockets, error) { return s, nil },
				Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
			})
			return address("tun0", "10.9.0.%d/24", i)
		})
	}
	var g sync.WaitGroup
	for _, e := range engines {
		g.Go(func() {
			if err := e.Run(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		g.Wait() // the test's context has ended
		if t.Failed() {
			t.Log(engines[0].Report().Counters, engines[1].Report().Counters)
		}
	})
}

// joinWireGuard runs a device of wireguard-go on each host.
func joinWireGuard(t testing.TB, w *world) {
	pa, pb := newPeers(t, clock.Now(), netip.AddrPort{}, netip.AddrPort{})
	private, public := [2][32]byte{pa.private, pb.private}, [2][32]byte{pa.identity.Public(), pb.identity.Public()}
	for i := range 2 {
		w.in(t, i, func() error {
			d, err := wgtun.CreateTUN("tun0", packet.MaxSize)
			if err != nil {
				return err
			}
			dev := wgdevice.NewDevice(d, conn.NewDefaultBind(), wgdevice.NewLogger(wgdevice.LogLevelError, ""))
			t.Cleanup(dev.Close)
			err = dev.IpcSet(fmt.Sprintf("private_key=%s\nlisten_port=52625\npublic_key=%s\nallowed_ip=0.0.0.0/0\nendpoint=10.1.0.%d:52625\n",
				hex.EncodeToString(private[i][:]), hex.EncodeToString(public[1-i][:]), 2-i))
			if err != nil {
				return err
			}
			return errors.Join(dev.Up(), address("tun0", "10.9.0.%d/24", i))
		})
	}
}

// transfer sends size bytes through the tunnel and waits until all have
// arrived.
func (w *world) transfer(t testing.TB, size int64) {
	t.Helper()
	var l net.Listener
	var c net.Conn
	w.in(t, 1, func() (err error) { l, err = net.Listen("tcp4", "10.9.0.2:5001"); return err })
	defer l.Close()
	w.in(t, 0, func() (err error) { c, err = net.DialTimeout("tcp4", "10.9.0.2:5001", 30*time.Second); return err })
	var sending sync.WaitGroup
	sending.Go(func() {
		defer c.Close()
		io.CopyN(c, zeros{}, size)
	})
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	n := int64(0)
	buf := make([]byte, 256<<10)
	for {
		k, err := in.Read(buf)
		n += int64(k)
		if err != nil {
			break
		}
	}
	sending.Wait()
	if n != size {
		t.Fatalf("%d bytes of %d arrived", n, size)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// processorTime is what this process has used so far.
func processorTime() time.Duration {
	var u unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
