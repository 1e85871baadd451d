package tun

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func bytesOf(v unix.Iovec) []byte { return unsafe.Slice(v.Base, int(v.Len)) }

func TestOpen(t *testing.T) {
	inNamespace(t)
	d, err := Open("tun-test", 1280)
	must(t, err)
	link, err := netlink.LinkByName("tun-test")
	must(t, err)
	if a := link.Attrs(); a.MTU != 1280 || d.Name() != "tun-test" {
		t.Errorf("MTU %d, name %q", a.MTU, d.Name())
	}
	if !d.Offloads().TCP {
		t.Error("no offloads")
	}
	if _, err := Open("tun-test", 1280); !errors.Is(err, ErrBusy) {
		t.Errorf("second time: %v, want ErrBusy", err)
	}
	if _, err := Open("a-name-that-is-too-long", 1280); err == nil {
		t.Error("a long name was taken")
	}
	must(t, d.Close())
	if _, err := netlink.LinkByName("tun-test"); err == nil {
		t.Error("the device outlives Close")
	}
}

func TestCloseUnblocks(t *testing.T) {
	inNamespace(t)
	d, err := Open("tun-test", 1280)
	must(t, err)
	done := make(chan error)
	go func() {
		_, err := d.Read([][]byte{make([]byte, 1280)}, make([]int, 1), 0)
		done <- err
	}()
	d.Close()
	if err := <-done; !errors.Is(err, os.ErrClosed) {
		t.Errorf("read: %v, want ErrClosed", err)
	}
	if lost, err := d.Write([][]byte{{0x45}, {0x45}}); lost != 2 || !errors.Is(err, os.ErrClosed) {
		t.Errorf("write: lost %d, %v, want 2 and ErrClosed", lost, err)
	}
}

// Somebody may delete the device under us.
func TestRemovedDevice(t *testing.T) {
	inNamespace(t)
	d, err := Open("tun-test", 1280)
	must(t, err)
	defer d.Close()
	done := make(chan error)
	go func() {
		_, err := d.Read([][]byte{make([]byte, 1280)}, make([]int, 1), 0)
		done <- err
	}()
	link, err := netlink.LinkByName("tun-test")
	must(t, err)
	must(t, netlink.LinkDel(link))
	if err := <-done; !errors.Is(err, os.ErrClosed) {
		t.Errorf("%v, want ErrClosed", err)
	}
}

func TestPermission(t *testing.T) {
	needRoot(t)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here
		var none [2]unix.CapUserData
		err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0])
		if err == nil {
			_, err = Open("tun-test", 1280)
		}
		done <- err
	}()
	err := <-done
	if !errors.Is(err, ErrPermission) {
		t.Fatalf("%v, want ErrPermission", err)
	}
	t.Log(err)
}

// Without /dev/net/tun the user is told how to get it; with enough rights it is
// made.
func TestMissingDeviceNode(t *testing.T) {
	inNamespace(t)
	must(t, unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS))
	must(t, unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(t, unix.Mount("tmpfs", "/dev", "tmpfs", 0, ""))
	d, err := Open("tun-test", 1280)
	must(t, err)
	must(t, d.Close())

	must(t, os.Remove(clonePath))
	must(t, unix.Mount("none", "/dev", "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	_, err = Open("tun-test", 1280)
	if !errors.Is(err, ErrNoDriver) {
		t.Fatalf("%v, want ErrNoDriver", err)
	}
	t.Log(err)
}

// A real TCP connection over two devices, pumped by reading and writing, with
// data that is checked.
func TestTCPThroughDevices(t *testing.T) {
	for _, family := range []string{"4", "6"} {
		t.Run("IPv"+family, func(t *testing.T) {
			w := newWire(t, openDevice)
			const size = 50 << 20
			got, want := w.transfer(t, family, size)
			if got != want {
				t.Error("the data changed")
			}
			if n, calls := w.packets.Load(), w.reads.Load(); n < 5*calls {
				t.Errorf("%d packets in %d reads: no batches", n, calls)
			}
		})
	}
}

// UDP of mixed sizes, in frames where the kernel takes them.
func TestUDPThroughDevices(t *testing.T) {
	w := newWire(t, openDevice)
	from, err := w.listenUDP(0)
	must(t, err)
	to, err := w.listenUDP(1)
	must(t, err)
	raw, err := from.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, 400)
	}))
	must(t, err)
	for n := 1; n < 20_000; n += 777 {
		sent := make([]byte, n)
		for i := range sent {
			sent[i] = byte(i / 400)
		}
		_, err := from.WriteTo(sent, to.LocalAddr())
		must(t, err)
		buf := make([]byte, 2000)
		for at := 0; at < n; {
			k, _, err := to.ReadFrom(buf)
			must(t, err)
			if k != min(400, n-at) || buf[0] != byte(at/400) || buf[k-1] != byte((at+k-1)/400) {
				t.Fatalf("of %d: %d bytes of number %d at %d", n, k, buf[0], at)
			}
			at += k
		}
	}
}

// BenchmarkTCP moves TCP over two devices.
func BenchmarkTCP(b *testing.B) {
	w := newWire(b, openDevice)
	b.SetBytes(100 << 20)
	for b.Loop() {
		w.transfer(b, "4", 100<<20)
	}
	b.ReportMetric(float64(w.packets.Load())/float64(w.reads.Load()), "packets/read")
}

// A device is what the tests pump.
type device interface {
	Read(bufs [][]byte, sizes []int, offset int) (int, error)
	Write(packets [][]byte) (int, error)
	Close() error
}

func openDevice(name string) (device, error) { return Open(name, 1280) }

// A wire is two namespaces whose devices are joined.
type wire struct {
	ends           [2]chan func() // runs functions in each namespace
	reads, packets atomic.Int64   // of the first device
}

func newWire(t testing.TB, open func(name string) (device, error)) *wire {
	needRoot(t)
	w := new(wire)
	var devices [2]device
	for i := range w.ends {
		w.ends[i] = make(chan func())
		go func() {
			runtime.LockOSThread() // never unlocked: the namespace ends with the thread
			for f := range w.ends[i] {
				f()
			}
		}()
		t.Cleanup(func() { close(w.ends[i]) })
		w.in(i, func() error {
			must(t, unix.Unshare(unix.CLONE_NEWNET))
			d, err := open("tun-test")
			must(t, err)
			devices[i] = d
			link, err := netlink.LinkByName("tun-test")
			must(t, err)
			for _, a := range []string{"10.9.0.%d/24", "fd09::%d/64"} {
				addr, err := netlink.ParseAddr(fmt.Sprintf(a, i+1))
				must(t, err)
				addr.Flags = unix.IFA_F_NODAD
				must(t, netlink.AddrAdd(link, addr))
			}
			must(t, netlink.LinkSetUp(link))
			for { // the kernel makes IPv6 addresses usable a little later
				c, err := net.Dial("udp6", fmt.Sprintf("[fd09::%d]:9", 2-i))
				if err == nil {
					return c.Close()
				}
			}
		})
	}
	var pumps sync.WaitGroup
	pumps.Go(func() { w.pump(devices[0], devices[1], &w.reads, &w.packets) })
	pumps.Go(func() { w.pump(devices[1], devices[0], new(atomic.Int64), new(atomic.Int64)) })
	t.Cleanup(func() {
		devices[0].Close()
		devices[1].Close()
		pumps.Wait()
	})
	return w
}

// in runs f in a namespace.
func (w *wire) in(end int, f func() error) (err error) {
	done := make(chan struct{})
	w.ends[end] <- func() { err = f(); close(done) }
	<-done
	return err
}

func (w *wire) pump(from, to device, reads, packets *atomic.Int64) {
	const offset = 32
	bufs, sizes, out := make([][]byte, batchSize), make([]int, batchSize), make([][]byte, 0, batchSize)
	for i := range bufs {
		bufs[i] = make([]byte, 1400, 70_000) // some devices coalesce into the capacity
	}
	for {
		n, err := from.Read(bufs, sizes, offset)
		if err != nil {
			return
		}
		reads.Add(1)
		packets.Add(int64(n))
		out = out[:0]
		for i := range n {
			out = append(out, bufs[i][offset:offset+sizes[i]])
		}
		to.Write(out)
	}
}

func (w *wire) listenUDP(end int) (c *net.UDPConn, err error) {
	err = w.in(end, func() (err error) {
		c, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 9, 0, byte(end+1))})
		return err
	})
	return c, err
}

// transfer sends size bytes from one end to the other and returns the sum of
// what arrived and of what was sent.
func (w *wire) transfer(t testing.TB, family string, size int) (got, want [32]byte) {
	address := map[string]string{"4": "10.9.0.2:5001", "6": "[fd09::2]:5001"}[family]
	var l net.Listener
	var c net.Conn
	must(t, w.in(1, func() (err error) { l, err = net.Listen("tcp"+family, address); return err }))
	defer l.Close()
	must(t, w.in(0, func() (err error) { c, err = net.Dial("tcp"+family, address); return err }))
	_, bench := t.(*testing.B)
	var sender sync.WaitGroup
	sender.Go(func() {
		defer c.Close()
		sum := sha256.New()
		chunk := make([]byte, 256<<10)
		for sent := 0; sent < size; sent += len(chunk) {
			if !bench {
				for i := range chunk {
					chunk[i] = byte((sent + i) * 2654435761 >> 13)
				}
				sum.Write(chunk)
			}
			if _, err := c.Write(chunk); err != nil {
				return
			}
		}
		sum.Sum(want[:0])
	})
	in, err := l.Accept()
	must(t, err)
	defer in.Close()
	sum := sha256.New()
	if bench {
		_, err = io.Copy(struct{ io.Writer }{io.Discard}, in)
	} else {
		_, err = io.Copy(sum, in)
	}
	must(t, err)
	sum.Sum(got[:0])
	sender.Wait()
	return got, want
}

func needRoot(t testing.TB) {
	if unix.Geteuid() != 0 {
		t.Skip("SKIPPED, NEEDS ROOT")
	}
}

// inNamespace moves the test into an empty network namespace of its own. Its
// thread ends with it.
func inNamespace(t *testing.T) {
	needRoot(t)
	runtime.LockOSThread()
	must(t, unix.Unshare(unix.CLONE_NEWNET))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
