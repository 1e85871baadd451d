package wg

import (
	"crypto/cipher"
	"fmt"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
)

var sizes = []int{0, 64, 1280}

func rawAEAD(b *testing.B) (cipher.AEAD, []byte) {
	c, err := chacha20poly1305.New(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	return c, make([]byte, 12)
}

// The raw AEAD is beside ours in the same run: the difference is our cost.
func BenchmarkSeal(b *testing.B) {
	p := newPair(b, 1)
	p.connect()
	k := p.a.session.Send()
	raw, nonce := rawAEAD(b)
	for _, n := range sizes {
		buf := make([]byte, n+Overhead)
		b.Run(fmt.Sprintf("raw/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(n))
			for b.Loop() {
				raw.Seal(buf[16:16], nonce, buf[16:16+n], nil)
			}
		})
		b.Run(fmt.Sprintf("wg/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(n))
			for b.Loop() {
				k.Seal(buf, n)
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	p := newPair(b, 1)
	p.connect()
	k, peer := p.a.session.Send(), p.b.session.Send()
	raw, nonce := rawAEAD(b)
	for _, n := range sizes {
		sealed := k.Seal(make([]byte, n+Overhead), n)
		rawSealed := raw.Seal(nil, nonce, make([]byte, n), nil)
		buf := make([]byte, len(sealed))
		b.Run(fmt.Sprintf("raw/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(n))
			for b.Loop() {
				copy(buf, rawSealed)
				if _, err := raw.Open(buf[:0], nonce, buf[:n+TagLen], nil); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("wg/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(n))
			for b.Loop() {
				copy(buf, sealed)
				if _, _, ok := peer.Open(buf); !ok {
					b.Fatal("not opened")
				}
			}
		})
	}
}

// What the lock is held for, per packet.
func BenchmarkReceived(b *testing.B) {
	p := newPair(b, 1)
	p.connect()
	s, k, counter := p.b.session, p.b.session.Send(), uint64(1)
	b.ReportAllocs()
	for b.Loop() {
		s.Received(k, counter, false, p.now)
		counter++
	}
}

func BenchmarkNext(b *testing.B) {
	p := newPair(b, 1)
	p.connect()
	b.ReportAllocs()
	for b.Loop() {
		p.a.session.Next()
	}
}

func BenchmarkHandshake(b *testing.B) {
	p := newPair(b, 1)
	b.ReportAllocs()
	for b.Loop() {
		p.now = p.now.Add(sec)
		p.a.session.initiate(p.now)
		in, _, _ := p.b.identity.Initiator(p.a.session.Drain(nil)[0], p.a.addr, p.now)
		p.b.session.Accept(in, p.now)
		if !p.a.session.Handle(p.b.session.Drain(nil)[0], p.b.addr, p.now) {
			b.Fatal("no handshake")
		}
		p.a.session.Drain(nil)
	}
}

func TestSealAndOpenDoNotAllocate(t *testing.T) {
	p := newPair(t, 1)
	p.connect()
	k, peer := p.a.session.Send(), p.b.session.Send()
	buf := make([]byte, 1280+Overhead)
	if n := testing.AllocsPerRun(100, func() {
		if _, _, ok := peer.Open(k.Seal(buf, 1280)); !ok {
			t.Fatal("not opened")
		}
	}); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}
