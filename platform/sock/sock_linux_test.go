package sock

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var families = []struct {
	family Family
	lo     netip.Addr
}{
	{IPv4, netip.MustParseAddr("127.0.0.1")},
	{IPv6, netip.MustParseAddr("::1")},
}

// Whatever sizes leave, the same datagrams arrive in the same order, with and
// without segmentation and coalescing.
func TestRunsRoundTrip(t *testing.T) {
	for _, f := range families {
		for _, off := range []string{"", "gso", "gro", "gso gro"} {
			t.Run(fmt.Sprint("ipv", f.family, " without ", off), func(t *testing.T) {
				from, to := listen(t, f.family), listen(t, f.family)
				if off == "gso" || off == "gso gro" {
					from.gso.Store(false)
				}
				if off == "gro" || off == "gso gro" {
					must(t, option(to, unix.IPPROTO_UDP, unix.UDP_GRO, 0))
					to.gro = false
				}
				for seed := range uint64(30) {
					rng := rand.New(rand.NewPCG(seed, 0))
					runs := anyRuns(rng, netip.AddrPortFrom(f.lo, to.Port()))
					roundTrip(t, seed, from, to, runs)
				}
			})
		}
	}
}

func roundTrip(t *testing.T, seed uint64, from, to *UDP, runs []Run) {
	t.Helper()
	var want [][]byte
	for _, r := range runs {
		want = append(want, r.Datagrams...)
	}
	if lost, err := NewSender().Send(from, runs); lost != 0 || err != nil {
		t.Fatalf("seed %d: lost %d: %v", seed, lost, err)
	}
	got := receive(t, to, len(want))
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("seed %d: datagram %d: got %d bytes, want %d", seed, i, len(got[i]), len(want[i]))
		}
	}
}

// The largest run that there is passes in one piece.
func TestLargestRun(t *testing.T) {
	for _, f := range families {
		from, to := listen(t, f.family), listen(t, f.family)
		var full [][]byte
		for range min(MaxRun, MaxRunBytes/1316) {
			full = append(full, bytes.Repeat([]byte{7}, 1316))
		}
		for _, run := range [][][]byte{full, slices.Repeat([][]byte{{1}}, MaxRun)} {
			roundTrip(t, 0, from, to, []Run{{Remote: netip.AddrPortFrom(f.lo, to.Port()), Datagrams: run}})
			if !from.gso.Load() {
				t.Errorf("IPv%d: segmentation was switched off", f.family)
			}
		}
	}
}

func TestAddressesBothWays(t *testing.T) {
	inNamespace(t)
	for _, f := range []struct {
		family         Family
		source, remote netip.Addr
	}{
		{IPv4, netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("192.0.2.8")},
		{IPv6, netip.MustParseAddr("2001:db8::7"), netip.MustParseAddr("2001:db8::8")},
	} {
		addAddress(t, f.source)
		addAddress(t, f.remote)
		from, to := listen(t, f.family), listen(t, f.family)
		for _, n := range []int{1, 3} {
			run := Run{Source: f.source, Remote: netip.AddrPortFrom(f.remote, to.Port()), ECN: 2, Datagrams: slices.Repeat([][]byte{[]byte("hello")}, n)}
			if lost, err := NewSender().Send(from, []Run{run}); lost != 0 || err != nil {
				t.Fatalf("IPv%d, run of %d: lost %d: %v", f.family, n, lost, err)
			}
			got, err := NewReceiver(4).Receive(to)
			must(t, err)
			want := Message{Local: f.remote, Remote: netip.AddrPortFrom(f.source, from.Port()), ECN: 2, Segment: 5, Payload: bytes.Repeat([]byte("hello"), n)}
			if g := got[0]; len(got) != 1 || g.Local != want.Local || g.Remote != want.Remote || g.ECN != want.ECN || g.Segment != want.Segment || !bytes.Equal(g.Payload, want.Payload) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		}
	}
}

// A driver that cannot segment says so only when asked: the run arrives all the
// same, and the next one is not tried.
func TestSegmentationRefused(t *testing.T) {
	for _, f := range families {
		from, to := listen(t, f.family), listen(t, f.family)
		if f.family == IPv4 {
			must(t, option(from, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1))
		} else {
			must(t, option(from, unix.IPPROTO_UDP, unix.UDP_NO_CHECK6_TX, 1))
			must(t, option(to, unix.IPPROTO_UDP, unix.UDP_NO_CHECK6_RX, 1))
		}
		remote := netip.AddrPortFrom(f.lo, to.Port())
		sizes := [][]int{{100}, {200, 200, 200, 60}, {10, 10}}
		for range 3 {
			roundTrip(t, 0, from, to, runsOf(remote, sizes...))
		}
		if from.gso.Load() {
			t.Errorf("IPv%d: segmentation is still on", f.family)
		}
	}
}

// Other reasons for EINVAL do not switch segmentation off, and lose only the
// run concerned.
func TestOneBadRunLosesNothingElse(t *testing.T) {
	from, to := listen(t, IPv4), listen(t, IPv4)
	runs := runsOf(netip.AddrPortFrom(families[0].lo, to.Port()), []int{50, 50}, []int{60, 60, 60}, []int{70})
	runs[1].Source = netip.MustParseAddr("203.0.113.99") // not ours
	lost, err := NewSender().Send(from, runs)
	if lost != 3 || err == nil {
		t.Errorf("lost %d, %v, want 3 and a reason", lost, err)
	}
	if got := receive(t, to, 3); len(got[0]) != 50 || len(got[2]) != 70 {
		t.Errorf("got %d and %d bytes", len(got[0]), len(got[2]))
	}
	if !from.gso.Load() {
		t.Error("segmentation was switched off")
	}
}

// Datagrams that no link takes whole are lost: they must not be fragmented.
func TestTooLargeForTheLink(t *testing.T) {
	inNamespace(t)
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetMTU(lo, 1300))
	for _, f := range families {
		from, to := listen(t, f.family), listen(t, f.family)
		runs := runsOf(netip.AddrPortFrom(f.lo, to.Port()), []int{1290, 1290}, []int{1200, 1200})
		if lost, err := NewSender().Send(from, runs); lost != 2 || !errors.Is(err, unix.EMSGSIZE) {
			t.Errorf("IPv%d: lost %d, %v, want 2 and EMSGSIZE", f.family, lost, err)
		}
		receive(t, to, 2)
		if !from.gso.Load() {
			t.Error("segmentation was switched off")
		}
	}
}

func TestMark(t *testing.T) {
	want := uint32(Mark)
	for _, f := range families {
		if got, err := value(listen(t, f.family), unix.SOL_SOCKET, unix.SO_MARK); uint32(got) != want || err != nil {
			t.Errorf("IPv%d: mark %#x, %v", f.family, got, err)
		}
	}
	l, err := (&net.ListenConfig{Control: Control}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	raw, err := l.(*net.TCPListener).SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) {
		if got, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK); uint32(got) != want || err != nil {
			t.Errorf("TCP: mark %#x, %v", got, err)
		}
	}))
}

// Without the right to mark, there is no socket at all.
func TestMarkRefused(t *testing.T) {
	withoutCapabilities(t, func() {
		if _, err := Listen(IPv4, 0, BufferSizes{}); !errors.Is(err, ErrMark) {
			t.Errorf("UDP: %v, want ErrMark", err)
		}
		if _, err := (&net.Dialer{Control: Control}).Dial("udp", "127.0.0.1:9"); !errors.Is(err, ErrMark) {
			t.Errorf("dial: %v, want ErrMark", err)
		}
	})
}

func TestBuffers(t *testing.T) {
	needRoot(t)
	if got := listen(t, IPv4).Buffers(); got != DefaultBuffers {
		t.Errorf("got %v, want %v: root may exceed the system's maximum", got, DefaultBuffers)
	}
	u, err := Listen(IPv6, 0, BufferSizes{Send: 128 << 10, Receive: 256 << 10})
	must(t, err)
	defer u.Close()
	if got, want := u.Buffers(), (BufferSizes{128 << 10, 256 << 10}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestRefusedBuffersAreHalved(t *testing.T) {
	var asked []int
	grow(1<<20, func(bytes int) error {
		asked = append(asked, bytes)
		if bytes > 256<<10 {
			return unix.ENOBUFS
		}
		return nil
	})
	if want := []int{1 << 20, 512 << 10, 256 << 10}; !slices.Equal(asked, want) {
		t.Errorf("asked for %v, want %v", asked, want)
	}
	asked = nil
	grow(300<<10, func(bytes int) error { asked = append(asked, bytes); return unix.ENOBUFS })
	if want := []int{300 << 10, 150 << 10, 75 << 10, 75 << 9}; !slices.Equal(asked, want) {
		t.Errorf("asked for %v, want %v", asked, want)
	}
}

func TestOccupiedPort(t *testing.T) {
	if _, err := Listen(IPv4, listen(t, IPv4).Port(), BufferSizes{}); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("%v, want EADDRINUSE", err)
	}
}

func TestCloseUnblocks(t *testing.T) {
	u := listen(t, IPv4)
	done := make(chan error)
	go func() {
		_, err := NewReceiver(1).Receive(u)
		done <- err
	}()
	u.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("receive: %v, want ErrClosed", err)
	}
	lost, err := NewSender().Send(u, runsOf(netip.MustParseAddrPort("127.0.0.1:9"), []int{5, 5}, []int{5}))
	if lost != 3 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("send: lost %d, %v, want 3 and ErrClosed", lost, err)
	}
}

func TestNothingIsAllocated(t *testing.T) {
	from, to := listen(t, IPv4), listen(t, IPv4)
	s, r := NewSender(), NewReceiver(4)
	runs := runsOf(netip.AddrPortFrom(families[0].lo, to.Port()), []int{100, 100, 100}, []int{50})
	runs[0].Source, runs[1].ECN = families[0].lo, 1
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := s.Send(from, runs); err != nil {
			t.Fatal(err)
		}
		for n := 0; n < 4; {
			ms, err := r.Receive(to)
			must(t, err)
			for _, m := range ms {
				n += (len(m.Payload) + m.Segment - 1) / m.Segment
			}
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations for each batch", allocs)
	}
}

// BenchmarkSend compares a run of 48 datagrams with and without segmentation,
// received by a socket that coalesces.
func BenchmarkSend(b *testing.B) {
	for _, gso := range []bool{true, false} {
		b.Run(fmt.Sprintf("gso=%v", gso), func(b *testing.B) {
			from, to := listen(b, IPv4), listen(b, IPv4)
			from.gso.Store(gso)
			s, r := NewSender(), NewReceiver(8)
			runs := runsOf(netip.AddrPortFrom(families[0].lo, to.Port()), slices.Repeat([]int{1312}, 48))
			b.SetBytes(48 * 1312)
			b.ReportAllocs()
			for b.Loop() {
				s.Send(from, runs)
				for n := 0; n < 48; {
					ms, err := r.Receive(to)
					must(b, err)
					for _, m := range ms {
						n += (len(m.Payload) + m.Segment - 1) / m.Segment
					}
				}
			}
		})
	}
}

// anyRuns makes up to 40 runs of any shape that a Run may have.
func anyRuns(rng *rand.Rand, remote netip.AddrPort) []Run {
	var shapes [][]int
	for range 1 + rng.IntN(40) {
		size := 1 + rng.IntN(1336)
		shape := slices.Repeat([]int{size}, 1+rng.IntN(min(MaxRun, MaxRunBytes/size)-1))
		if rng.IntN(2) == 0 {
			shape[len(shape)-1] = 1 + rng.IntN(size)
		}
		shapes = append(shapes, shape)
	}
	return runsOf(remote, shapes...)
}

// runsOf makes runs of datagrams of the given sizes with random content.
func runsOf(remote netip.AddrPort, shapes ...[]int) []Run {
	var runs []Run
	for _, shape := range shapes {
		r := Run{Remote: remote}
		for _, n := range shape {
			d := make([]byte, n)
			for i := range d {
				d[i] = byte(rand.Uint32())
			}
			r.Datagrams = append(r.Datagrams, d)
		}
		runs = append(runs, r)
	}
	return runs
}

// receive reads n datagrams.
func receive(t testing.TB, u *UDP, n int) [][]byte {
	t.Helper()
	var got [][]byte
	r := NewReceiver(8)
	for len(got) < n {
		ms, err := r.Receive(u)
		must(t, err)
		for _, m := range ms {
			for d := range slices.Chunk(m.Payload, max(m.Segment, 1)) {
				got = append(got, bytes.Clone(d))
			}
		}
	}
	return got
}

func listen(t testing.TB, f Family) *UDP {
	t.Helper()
	u, err := Listen(f, 0, BufferSizes{})
	if errors.Is(err, ErrMark) {
		t.Skip("SKIPPED, NEEDS ROOT: ", err)
	}
	must(t, err)
	t.Cleanup(func() { u.Close() })
	return u
}

func option(u *UDP, level, name, value int) error {
	return control(u.raw, func(fd uintptr) error { return unix.SetsockoptInt(int(fd), level, name, value) })
}

func value(u *UDP, level, name int) (v int, err error) {
	err = control(u.raw, func(fd uintptr) (err error) { v, err = unix.GetsockoptInt(int(fd), level, name); return err })
	return v, err
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
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))
}

// addAddress gives lo an address and waits until it is reachable, which the
// kernel arranges a little later for IPv6.
func addAddress(t *testing.T, a netip.Addr) {
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.AddrAdd(lo, &netlink.Addr{Flags: unix.IFA_F_NODAD, IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}}))
	for {
		if rs, err := netlink.RouteGet(a.AsSlice()); err == nil && len(rs) == 1 && rs[0].Type == unix.RTN_LOCAL {
			return
		}
	}
}

// withoutCapabilities runs f on a thread that has lost all of root's rights.
func withoutCapabilities(t *testing.T, f func()) {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here
		var none [2]unix.CapUserData
		err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0])
		if err == nil {
			f()
		}
		done <- err
	}()
	must(t, <-done)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
