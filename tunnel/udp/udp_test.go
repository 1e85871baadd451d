package udp

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"stile/platform/sock"
)

func TestDatagramsArriveInOrder(t *testing.T) {
	needRoot(t)
	a, b := opened(t, 0), opened(t, 0)
	for f, ip := range []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()} {
		to := netip.AddrPortFrom(ip, port(t, b, f))
		rng := rand.New(rand.NewPCG(7, uint64(f)))
		batch, r := NewBatch(), sock.NewReceiver(8)
		for round := range 20 {
			var sent [][]byte
			for i := range 1 + rng.IntN(150) {
				size := 1312
				if rng.IntN(6) == 0 {
					size = 12 + rng.IntN(1300)
				}
				d := bytes.Repeat([]byte{byte(i)}, size)
				copy(d, fmt.Sprintf("%04d/%04d", round, i))
				sent = append(sent, d)
				batch.Add(netip.Addr{}, to, 0, d)
			}
			if batch.Len() != len(sent) {
				t.Fatalf("%d wait, want %d", batch.Len(), len(sent))
			}
			if lost, err := batch.Flush(a); lost > 0 || err != nil {
				t.Fatal(lost, err)
			}
			got := receive(t, b, f, r, len(sent))
			for i := range sent {
				if !bytes.Equal(got[i], sent[i]) {
					t.Fatalf("family %d round %d: datagram %d is %.9s with %d bytes, want %.9s with %d", f, round, i, got[i], len(got[i]), sent[i], len(sent[i]))
				}
			}
		}
	}
}

func TestRunsKeepTheOrderOfEachDestination(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		b := NewBatch()
		want := map[netip.AddrPort][]string{}
		for i := range 300 {
			to := netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), uint16(1+rng.IntN(20)))
			d := []byte(fmt.Sprintf("%d %s", i, bytes.Repeat([]byte("x"), []int{1300, 1300, 1300, 1280, 100}[rng.IntN(5)])))
			want[to] = append(want[to], string(d))
			b.Add(netip.Addr{}, to, 0, d)
		}
		got := map[netip.AddrPort][]string{}
		for i, r := range b.runs[0] {
			total := 0
			for j, d := range r.Datagrams {
				if total += len(d); len(d) != len(r.Datagrams[0]) && (j != len(r.Datagrams)-1 || len(d) > len(r.Datagrams[0])) {
					t.Fatalf("seed %d: run %d has sizes that do not fit", seed, i)
				}
				got[r.Remote] = append(got[r.Remote], string(d))
			}
			if len(r.Datagrams) > sock.MaxRun || total > sock.MaxRunBytes {
				t.Fatalf("seed %d: run %d holds %d datagrams, %d bytes", seed, i, len(r.Datagrams), total)
			}
		}
		for to, list := range want {
			if fmt.Sprint(got[to]) != fmt.Sprint(list) {
				t.Fatalf("seed %d: order towards %v changed", seed, to)
			}
		}
	}
}

func TestBatchDoesNotAllocate(t *testing.T) {
	needRoot(t)
	a, b := opened(t, 0), opened(t, 0)
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port(t, b, 0))
	batch, d := NewBatch(), make([]byte, 1312)
	send := func() {
		for range 64 {
			batch.Add(netip.Addr{}, to, 0, d)
		}
		batch.Flush(a)
	}
	send()
	if n := testing.AllocsPerRun(50, send); n > 0 {
		t.Errorf("%v allocations in a batch", n)
	}
}

func TestTakenPortFallsBackToAnother(t *testing.T) {
	needRoot(t)
	first := opened(t, 0)
	p := port(t, first, 0)
	second := opened(t, p)
	if got := port(t, second, 0); got == p || got == 0 {
		t.Errorf("the second got port %d, the first has %d", got, p)
	}
}

func TestReadersFollowRebindAndEndWithClose(t *testing.T) {
	needRoot(t)
	s := opened(t, 0)
	result := make(chan error, 1)
	messages := make(chan string, 1)
	go func() {
		r := sock.NewReceiver(4)
		for {
			m, _, err := s.Receive(0, r)
			if err != nil {
				result <- err
				return
			}
			messages <- string(m[0].Payload)
		}
	}()
	for i := range 3 {
		if i > 0 {
			if err := s.Rebind(); err != nil {
				t.Fatal(err)
			}
		}
		conn, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", port(t, s, 0)))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "hello %d", i)
		select {
		case got := <-messages:
			if want := fmt.Sprintf("hello %d", i); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("nothing arrived after rebinding")
		}
		conn.Close()
	}
	s.Close()
	if err := <-result; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if err := s.Rebind(); !errors.Is(err, net.ErrClosed) {
		t.Error("closed sockets were opened again:", err)
	}
}

// One family is enough, on any port if ours is taken.
func TestFamilies(t *testing.T) {
	needRoot(t)
	lack := errors.New("address family not supported by protocol")
	for _, c := range []struct {
		name    string
		refused func(sock.Family, uint16) error
		want    []uint16 // asked for
		sockets int
		err     error
	}{
		{"both", func(sock.Family, uint16) error { return nil }, []uint16{9999, 9999}, 2, nil},
		{"port taken", func(f sock.Family, port uint16) error {
			if port == 9999 && f == sock.IPv4 {
				return errors.New("address already in use")
			}
			return nil
		}, []uint16{9999, 0, 9999}, 2, nil},
		{"no IPv6", func(f sock.Family, _ uint16) error {
			if f == sock.IPv6 {
				return lack
			}
			return nil
		}, []uint16{9999, 9999, 0}, 1, nil},
		{"neither", func(sock.Family, uint16) error { return lack }, []uint16{9999, 0, 9999, 0}, 0, lack},
		{"mark refused", func(f sock.Family, _ uint16) error {
			if f == sock.IPv6 {
				return sock.ErrMark
			}
			return nil
		}, []uint16{9999, 9999}, 0, sock.ErrMark},
	} {
		t.Run(c.name, func(t *testing.T) {
			var asked []uint16
			s, err := open(9999, sock.BufferSizes{}, func(f sock.Family, port uint16, b sock.BufferSizes) (*sock.UDP, error) {
				asked = append(asked, port)
				if err := c.refused(f, port); err != nil {
					return nil, err
				}
				return sock.Listen(f, 0, b)
			})
			if !slices.Equal(asked, c.want) {
				t.Errorf("asked for ports %v, want %v", asked, c.want)
			}
			if c.err != nil {
				if !errors.Is(err, c.err) {
					t.Errorf("%v, want %v", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if n := len(s.Describe()); n != c.sockets {
				t.Errorf("%d sockets, want %d", n, c.sockets)
			}
		})
	}
}

// What is meant for a missing family is lost, and its reader waits for Close.
func TestMissingFamily(t *testing.T) {
	needRoot(t)
	s, err := open(0, sock.BufferSizes{}, func(f sock.Family, port uint16, b sock.BufferSizes) (*sock.UDP, error) {
		if f == sock.IPv6 {
			return nil, errors.New("address family not supported by protocol")
		}
		return sock.Listen(f, port, b)
	})
	if err != nil {
		t.Fatal(err)
	}
	b := NewBatch()
	b.Add(netip.Addr{}, netip.MustParseAddrPort("[::1]:9"), 0, []byte("a"))
	b.Add(netip.Addr{}, netip.MustParseAddrPort("[::1]:9"), 0, []byte("b"))
	b.Add(netip.Addr{}, netip.MustParseAddrPort("127.0.0.1:9"), 0, []byte("a"))
	if lost, err := b.Flush(s); lost != 2 || !errors.Is(err, errNoFamily) {
		t.Errorf("lost %d, %v, want 2 and errNoFamily", lost, err)
	}
	done := make(chan error)
	go func() {
		_, _, err := s.Receive(1, sock.NewReceiver(1))
		done <- err
	}()
	s.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// A rebind that fails leaves nothing; the next one may succeed, and the readers
// are still there.
func TestFailedRebind(t *testing.T) {
	needRoot(t)
	var broken atomic.Bool
	s, err := open(0, sock.BufferSizes{}, func(f sock.Family, port uint16, b sock.BufferSizes) (*sock.UDP, error) {
		if broken.Load() {
			return nil, errors.New("too many open files")
		}
		return sock.Listen(f, port, b)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got := make(chan string)
	go func() {
		m, _, err := s.Receive(0, sock.NewReceiver(1))
		if err != nil {
			got <- err.Error()
			return
		}
		got <- string(m[0].Payload)
	}()
	broken.Store(true)
	if s.Rebind() == nil || len(s.Describe()) != 0 {
		t.Error("the rebind succeeded")
	}
	broken.Store(false)
	if err := s.Rebind(); err != nil {
		t.Fatal(err)
	}
	b := NewBatch()
	b.Add(netip.Addr{}, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port(t, s, 0)), 0, []byte("hello"))
	if lost, err := b.Flush(s); lost != 0 {
		t.Fatal(err)
	}
	if g := <-got; g != "hello" {
		t.Errorf("got %q", g)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: sockets that bypass the tunnel need root; run the tests as root")
	}
}

func opened(t *testing.T, port uint16) *Sockets {
	t.Helper()
	s, err := Open(port, sock.BufferSizes{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func port(t *testing.T, s *Sockets, family int) uint16 {
	t.Helper()
	for _, d := range s.Describe() {
		if d.Family == Families[family] {
			return d.Port
		}
	}
	t.Fatal("the family is missing")
	return 0
}

func receive(t *testing.T, s *Sockets, family int, r *sock.Receiver, n int) [][]byte {
	t.Helper()
	var got [][]byte
	for len(got) < n {
		messages, _, err := s.Receive(family, r)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			for p := m.Payload; len(p) > 0; {
				size := min(m.Segment, len(p))
				got = append(got, bytes.Clone(p[:size]))
				p = p[size:]
			}
		}
	}
	return got
}
