//go:build linux

package link

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"stile/build/lab/host"
)

// TestMain lets the test program be process 1 of an enclosure: it runs the
// tests there again.
func TestMain(m *testing.M) {
	if os.Getpid() == 1 {
		if err := host.Settle(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// enclosed runs the calling test again in an enclosure. It returns true in
// there, and false outside when that is over.
func enclosed(t *testing.T) bool {
	t.Helper()
	if os.Getpid() == 1 {
		return true
	}
	c := host.Enclosed(t.Context(), 0, "-test.run=^"+t.Name()+"$", "-test.v")
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	if err := host.Enclose(c); err != nil {
		t.Fatal(err)
	}
	return false
}

// A sample is what a line did to a row of datagrams.
type sample struct {
	sent     int
	order    []uint32 // what arrived, in that order
	min, max time.Duration
}

func TestALineIsAsItsQualitySays(t *testing.T) {
	if !enclosed(t) {
		return
	}
	w := newWire(t)
	const slack = 3 * time.Millisecond // this process may have to wait for a core
	for _, row := range []struct {
		name    string
		quality Quality
		least   time.Duration // no datagram is faster
		most    time.Duration // the fastest is hardly slower than that
		loss    float64
		sorted  bool
	}{
		{"delay", Quality{Delay: 5 * time.Millisecond}, 5 * time.Millisecond, 5 * time.Millisecond, 0, true},
		{"jitter keeps the order", Quality{Delay: 2 * time.Millisecond, Jitter: 4 * time.Millisecond}, 2 * time.Millisecond, 5 * time.Millisecond, 0, true},
		{"loss", Quality{Delay: time.Millisecond, Loss: 0.3}, time.Millisecond, time.Millisecond, 0.3, true},
		{"reordering", Quality{Delay: time.Millisecond, Reorder: 0.2}, time.Millisecond, time.Millisecond, 0, false},
	} {
		w.line.Set(row.quality)
		s := w.send(t, 400)
		t.Logf("%s: %d of %d, %v to %v", row.name, len(s.order), s.sent, s.min, s.max)
		if s.min < row.least || s.min > row.most+slack {
			t.Errorf("%s: the fastest datagram takes %v; want %v", row.name, s.min, row.least)
		}
		if lost := 1 - float64(len(s.order))/float64(s.sent); lost < row.loss-0.1 || lost > row.loss+0.1 {
			t.Errorf("%s: %.2f are lost; want %.2f", row.name, lost, row.loss)
		}
		if got := slices.IsSorted(s.order); got != row.sorted {
			t.Errorf("%s: in order %v; want %v", row.name, got, row.sorted)
		}
	}
}

// Segmentation offload survives the line: TCP is not slowed down to what a
// device of 1,500-byte packets would do.
func TestALineCarriesTCP(t *testing.T) {
	if !enclosed(t) {
		return
	}
	w := newWire(t)
	l, err := w.right.Host.Listen("tcp", netip.AddrPortFrom(w.right.Addrs[0].Addr(), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const size = 64 << 20
	var g sync.WaitGroup
	defer g.Wait()
	g.Go(func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		if _, err := io.CopyN(c, zeros{}, size); err != nil {
			t.Error(err)
		}
	})
	c, err := w.left.Host.Dial(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	began := time.Now()
	if n, err := io.Copy(io.Discard, c); n != size || err != nil {
		t.Fatalf("%d bytes arrive, %v; want %d", n, err, size)
	}
	frames, _ := w.line.Counts()
	t.Logf("%.0f Mbit/s, %d bytes in each frame", size*8/time.Since(began).Seconds()/1e6, size/frames)
	if size/frames < 3000 {
		t.Errorf("a frame holds %d bytes: segments are split before the line", size/frames)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// A wire is two hosts and a line between them.
type wire struct {
	line        *Line
	left, right *End
}

func newWire(t *testing.T) *wire {
	t.Helper()
	hosts, err := host.All([]host.Config{{Name: "left"}, {Name: "right"}})
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{}
	if w.line, w.left, w.right, err = NewLine(hosts[0], "a", hosts[1], "b", Quality{}, 1); err != nil {
		t.Fatal(err)
	}
	for end, address := range map[*End]string{w.left: "192.0.2.1/24", w.right: "192.0.2.2/24"} {
		if err := end.Add(netip.MustParsePrefix(address)); err != nil {
			t.Fatal(err)
		}
	}
	if err := Acquaint(w.left, w.right); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var g sync.WaitGroup
	g.Go(func() {
		if err := w.line.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); g.Wait() })
	return w
}

// send sends n datagrams from left to right, one each half millisecond, and
// reports what arrived.
func (w *wire) send(t *testing.T, n int) sample {
	t.Helper()
	from, err := w.left.Host.ListenPacket("udp", netip.AddrPortFrom(w.left.Addrs[0].Addr(), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := w.right.Host.ListenPacket("udp", netip.AddrPortFrom(w.right.Addrs[0].Addr(), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	sent := make([]time.Time, n)
	var mu sync.Mutex // guards sent
	var g sync.WaitGroup
	g.Go(func() {
		for i := range n {
			mu.Lock()
			sent[i] = time.Now()
			mu.Unlock()
			if _, err := from.WriteTo(binary.BigEndian.AppendUint32(nil, uint32(i)), to.LocalAddr()); err != nil {
				t.Error(err)
			}
			<-time.After(500 * time.Microsecond)
		}
	})
	s := sample{sent: n, min: time.Hour}
	buf := make([]byte, 64)
	for len(s.order) < n {
		to.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		if _, _, err := to.ReadFrom(buf); err != nil {
			break
		}
		i := binary.BigEndian.Uint32(buf)
		mu.Lock()
		took := time.Since(sent[i])
		mu.Unlock()
		s.order, s.min, s.max = append(s.order, i), min(s.min, took), max(s.max, took)
	}
	g.Wait()
	if len(s.order) == 0 {
		t.Fatal("nothing arrives")
	}
	return s
}
