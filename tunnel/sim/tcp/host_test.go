package tcp_test

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"stile/tunnel/sim"
	"stile/tunnel/sim/tcp"
)

var (
	alice = netip.MustParseAddr("192.0.2.1")
	bob   = netip.MustParseAddr("192.0.2.2")
)

const delay = 10 * time.Millisecond

// couple is two hosts on a wire that delays, and may lose packets.
func couple(t *testing.T, i *sim.Internet, lost func() bool) (a, b *tcp.Host) {
	carry := func(to **tcp.Host) func([]byte) {
		return func(p []byte) {
			if !lost() {
				i.After(delay, func() { (*to).Receive(p) })
			}
		}
	}
	a = tcp.New(i, 1500, carry(&b), alice)
	b = tcp.New(i, 1500, carry(&a), bob)
	t.Cleanup(a.Close)
	t.Cleanup(b.Close)
	return a, b
}

func TestLossIsRepaired(t *testing.T) {
	for seed := range uint64(5) {
		i := sim.New(seed)
		chance := rand.New(rand.NewPCG(seed, 1))
		a, b := couple(t, i, func() bool { return chance.IntN(50) == 0 })
		sent := make([]byte, 300_000)
		for n := range sent {
			sent[n] = byte(chance.Uint32())
		}
		var got []byte
		b.Listen(80, func(c *tcp.Conn) {
			c.Data = func(b []byte) { got = append(got, b...) }
			c.Finished = func() { s := sha256.Sum256(got); c.Write(s[:]); c.CloseWrite() }
		})
		c := a.Dial(5000, netip.AddrPortFrom(bob, 80))
		var answer []byte
		c.Data = func(b []byte) { answer = append(answer, b...) }
		c.Write(sent)
		c.CloseWrite()
		ok := i.Until(time.Minute, func() bool { return c.EOF })
		want := sha256.Sum256(sent)
		t.Logf("seed %d: %d bytes in %v", seed, len(got), i.Since(sim.Epoch))
		if !ok || !bytes.Equal(answer, want[:]) {
			t.Errorf("seed %d: after %v %d of %d bytes came; %v, %s", seed, i.Since(sim.Epoch), len(got), len(sent), c.Err, c.State())
		}
	}
}

// The stacks' goroutines have done all there is to do before time goes on: a
// thousand handshakes take three ways each, and not a nanosecond more.
func TestNothingIsLate(t *testing.T) {
	i := sim.New(1)
	a, b := couple(t, i, func() bool { return false })
	served := 0
	b.Listen(80, func(*tcp.Conn) { served++ })
	for n := range 1000 {
		began := i.Now()
		c := a.Dial(uint16(2000+n), netip.AddrPortFrom(bob, 80))
		if !i.Until(time.Second, func() bool { return served > n }) || i.Since(began) != 3*delay {
			t.Fatalf("handshake %d takes %v: %s", n, i.Since(began), c.State())
		}
		c.Abort()
	}
}
