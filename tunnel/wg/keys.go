package wg

import (
	"crypto/cipher"
	"encoding/binary"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// retired is the send counter of keys that may not send. No session lives long
// enough to count that far, and far enough below the wrap that concurrent
// calls cannot reach it.
const retired = 1 << 62

// Keys are the transport keys of one completed handshake. All but the send
// counter and the caller-locked bookkeeping at the end is immutable.
type Keys struct {
	send, receive cipher.AEAD
	local, remote uint32 // receiver indices: in messages to us, in messages to the peer
	counter       atomic.Uint64

	// What follows belongs to the Session and its caller's lock.
	window      window
	initiator   bool // we sent the initiation
	confirmed   bool // the peer is known to have the keys
	established time.Time
	sent        bool // an application packet was sent
	received    bool // an application packet was received
}

func newKeys(send, receive [32]byte) *Keys {
	s, err := chacha20poly1305.New(send[:])
	if err != nil {
		panic(err) // the key has the right length
	}
	r, err := chacha20poly1305.New(receive[:])
	if err != nil {
		panic(err)
	}
	return &Keys{send: s, receive: r}
}

// LocalIndex is the receiver index in messages sealed by the peer.
func (k *Keys) LocalIndex() uint32 { return k.local }

// Seal seals the n bytes of plaintext at buf[HeaderLen:] in place and returns
// the message, which begins at buf[0] and is n + Overhead bytes long. The
// capacity of buf must allow for it. The result is nil once the keys may not
// send any more. Seal is safe for concurrent use and does not allocate.
func (k *Keys) Seal(buf []byte, n int) []byte {
	counter := k.counter.Add(1) - 1
	if counter >= retired {
		return nil
	}
	msg := buf[:HeaderLen+n+TagLen]
	binary.LittleEndian.PutUint32(msg, uint32(Data))
	// The nonce is four zero bytes and the counter: the header itself while
	// the index is zero. An array on the stack would escape.
	binary.LittleEndian.PutUint32(msg[4:], 0)
	binary.LittleEndian.PutUint64(msg[8:], counter)
	k.send.Seal(msg[HeaderLen:HeaderLen], msg[4:HeaderLen], msg[HeaderLen:HeaderLen+n], nil)
	binary.LittleEndian.PutUint32(msg[4:], k.remote)
	return msg
}

// Open authenticates a data message and decrypts it in place. plain aliases
// msg; it is empty for a keepalive, and may have padding behind the inner
// packet. Replays are not noticed here: give the counter to Session.Received.
// After a failure msg is spoilt. Open is safe for concurrent use and does not
// allocate.
func (k *Keys) Open(msg []byte) (plain []byte, counter uint64, ok bool) {
	if Classify(msg) != Data || binary.LittleEndian.Uint32(msg[4:]) != k.local {
		return nil, 0, false
	}
	counter = binary.LittleEndian.Uint64(msg[8:])
	binary.LittleEndian.PutUint32(msg[4:], 0) // the nonce, see Seal
	plain, err := k.receive.Open(msg[HeaderLen:HeaderLen], msg[4:HeaderLen], msg[HeaderLen:], nil)
	binary.LittleEndian.PutUint32(msg[4:], k.local)
	return plain, counter, err == nil
}

// retire makes every later Seal fail, also for those who still hold k.
func (k *Keys) retire() { k.counter.Store(retired) }
