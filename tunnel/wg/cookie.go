package wg

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"io"
	"net/netip"
	"time"

	"golang.org/x/crypto/blake2s"
	"golang.org/x/crypto/chacha20poly1305"
)

const (
	macLen  = 16
	macsLen = 2 * macLen // MAC1 and MAC2 end initiations and responses

	cookieLife = 120 * time.Second // a cookie's, and its secret's
)

func mac1Key(receiver [32]byte) [32]byte {
	return blake2s.Sum256(append([]byte("mac1----"), receiver[:]...))
}

func cookieKey(receiver [32]byte) [32]byte {
	return blake2s.Sum256(append([]byte("cookie--"), receiver[:]...))
}

// mac is keyed BLAKE2s-128.
func mac(key []byte, text []byte) (sum [macLen]byte) {
	h, err := blake2s.New128(key)
	if err != nil {
		panic(err) // only for keys longer than 32 bytes
	}
	h.Write(text)
	h.Sum(sum[:0])
	return sum
}

// checkMAC1 checks MAC1 of an initiation or response. key is the receiver's.
func checkMAC1(key [32]byte, msg []byte) bool {
	n := len(msg) - macsLen
	want := mac(key[:], msg[:n])
	return subtle.ConstantTimeCompare(want[:], msg[n:n+macLen]) == 1
}

// appendMACs ends an initiation or response. cookie is nil without one; MAC2
// is zero then.
func appendMACs(msg []byte, key [32]byte, cookie *[macLen]byte) []byte {
	mac1 := mac(key[:], msg)
	msg = append(msg, mac1[:]...)
	var mac2 [macLen]byte
	if cookie != nil {
		mac2 = mac(cookie[:], msg)
	}
	return append(msg, mac2[:]...)
}

// A cookieJar makes the cookies that prove to a node under load that a sender
// receives at its address. A cookie is a MAC of that address under a secret
// which changes every two minutes, so there is nothing to remember.
type cookieJar struct {
	key    [32]byte // encrypts replies
	secret [32]byte
	since  time.Time // the secret's; zero: there is none yet
}

func (j *cookieJar) cookie(src netip.Addr, rng io.Reader, now time.Time) [macLen]byte {
	if j.since.IsZero() || now.Sub(j.since) >= cookieLife {
		fill(rng, j.secret[:])
		j.since = now
	}
	addr := src.As16()
	return mac(j.secret[:], addr[:])
}

// check reports whether MAC2 of an initiation or response is right.
func (j *cookieJar) check(msg []byte, src netip.Addr, rng io.Reader, now time.Time) bool {
	cookie := j.cookie(src, rng, now)
	n := len(msg) - macLen
	want := mac(cookie[:], msg[:n])
	return subtle.ConstantTimeCompare(want[:], msg[n:]) == 1
}

// reply answers an initiation or response with the sender's cookie: type,
// receiver index, 24 bytes of nonce, the sealed cookie bound to MAC1.
func (j *cookieJar) reply(msg []byte, src netip.Addr, rng io.Reader, now time.Time) []byte {
	cookie := j.cookie(src, rng, now)
	out := make([]byte, 8+chacha20poly1305.NonceSizeX, cookieLen)
	binary.LittleEndian.PutUint32(out, uint32(Cookie))
	copy(out[4:8], msg[4:8]) // the sender's index
	fill(rng, out[8:])
	n := len(msg) - macsLen
	return box(j.key).Seal(out, out[8:], cookie[:], msg[n:n+macLen])
}

// openCookie returns the cookie in a reply to the message that had mac1.
func openCookie(key [32]byte, msg []byte, mac1 [macLen]byte) (cookie [macLen]byte, ok bool) {
	plain, err := box(key).Open(nil, msg[8:32], msg[32:], mac1[:])
	if err != nil {
		return cookie, false
	}
	return [macLen]byte(plain), true
}

func box(key [32]byte) cipher.AEAD {
	c, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		panic(err) // the key has the right length
	}
	return c
}

func fill(rng io.Reader, b []byte) {
	if _, err := io.ReadFull(rng, b); err != nil {
		panic("wg: no randomness: " + err.Error())
	}
}
