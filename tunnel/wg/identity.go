package wg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/flynn/noise"
	"golang.org/x/crypto/curve25519"
)

const (
	handshakesPerSecond = 100 // beyond it, only initiators that hold a cookie are heard

	// tai64 is the label of 1970-01-01 (TAI64: 2^62, plus the 10 s by which
	// TAI was ahead then). Only the order of stamps matters.
	tai64 = 1<<62 + 10
)

var (
	suite    = noise.NewCipherSuite(noise.DH25519, noise.CipherChaChaPoly, noise.HashBLAKE2s)
	prologue = []byte("WireGuard v1 zx2c4 Jason@zx2c4.com")
)

// An Identity is what all connections of a node share: the static key pair,
// the source of time stamps, and the defence against floods of handshakes.
type Identity struct {
	static noise.DHKey
	rand   io.Reader

	wall, start time.Time // the wall clock was at wall when now was start
	stamped     time.Time // the last stamp given out

	mac1Key [32]byte // for messages to us
	cookies cookieJar
	second  time.Time // when the current second of counting began
	count   int       // handshake messages in it
}

// NewIdentity makes an identity from a private key. wall is the wall clock's
// time at now: stamps count on from there with the monotonic time of now,
// because a clock stepped backwards would make peers refuse every handshake.
// rng is the source of ephemeral keys; reading from it must not fail.
func NewIdentity(private [32]byte, wall, now time.Time, rng io.Reader) *Identity {
	public, err := curve25519.X25519(private[:], curve25519.Basepoint)
	if err != nil {
		panic(err) // cannot be: the base point has no low order
	}
	i := &Identity{
		static: noise.DHKey{Private: private[:], Public: public},
		rand:   rng,
		wall:   wall,
		start:  now,
	}
	i.mac1Key = mac1Key(i.Public())
	i.cookies.key = cookieKey(i.Public())
	return i
}

// Public returns the public key.
func (i *Identity) Public() [32]byte { return [32]byte(i.static.Public) }

// An Initiator is who sent a handshake initiation: authenticated, but neither
// known to us nor checked for replay. Session.Accept does the latter.
type Initiator struct {
	Static [32]byte // public key

	stamp  [12]byte // TAI64N
	sender uint32   // index for messages to it
	state  *noise.HandshakeState
}

// Initiator reads a handshake initiation that came from src: MAC1, then MAC2
// if handshakes arrive faster than 100 per second, then the initiator's key.
// With ok false there is nobody to answer, but reply, if not nil, is a cookie
// reply to be sent back to src. msg is borrowed; reply is the caller's.
func (i *Identity) Initiator(msg []byte, src netip.AddrPort, now time.Time) (in Initiator, reply []byte, ok bool) {
	if Classify(msg) != Initiation || !checkMAC1(i.mac1Key, msg) {
		return in, nil, false
	}
	if i.loaded(now) && !i.cookies.check(msg, src.Addr(), i.rand, now) {
		return in, i.cookies.reply(msg, src.Addr(), i.rand, now), false
	}
	in.sender = binary.LittleEndian.Uint32(msg[4:])
	in.state = i.handshake(false, nil, nil)
	stamp, _, _, err := in.state.ReadMessage(nil, msg[8:initiationLen-macsLen])
	if err != nil || len(stamp) != len(in.stamp) {
		return in, nil, false
	}
	in.Static, in.stamp = [32]byte(in.state.PeerStatic()), [12]byte(stamp)
	return in, nil, true
}

// loaded counts one handshake message and reports whether it is one too many
// for this second.
func (i *Identity) loaded(now time.Time) bool {
	if now.Sub(i.second) >= time.Second {
		i.second, i.count = now, 0
	}
	i.count++
	return i.count > handshakesPerSecond
}

// handshake prepares the state for one handshake, whose preshared key takes
// part in the second message. A responder knows neither remote nor psk yet: a
// static key given to it would make it refuse the first message.
func (i *Identity) handshake(initiator bool, remote, psk []byte) *noise.HandshakeState {
	h, err := noise.NewHandshakeState(noise.Config{
		CipherSuite:           suite,
		Random:                i.rand,
		Pattern:               noise.HandshakeIK,
		Initiator:             initiator,
		Prologue:              prologue,
		StaticKeypair:         i.static,
		PeerStatic:            remote,
		PresharedKey:          psk,
		PresharedKeyPlacement: 2,
	})
	if err != nil {
		panic(err) // only for a preshared key of the wrong length
	}
	return h
}

// stamp returns a TAI64N label larger than all before it.
func (i *Identity) stamp(now time.Time) [12]byte {
	t := i.wall.Add(now.Sub(i.start))
	if !t.After(i.stamped) {
		t = i.stamped.Add(1)
	}
	i.stamped = t
	var label [12]byte
	binary.BigEndian.PutUint64(label[:], uint64(tai64+t.Unix()))
	binary.BigEndian.PutUint32(label[8:], uint32(t.Nanosecond()))
	return label
}

var errLowOrder = errors.New("low-order public key")

// guard refuses an ephemeral key of low order. The handshake state does not
// survive being fed one, so that a forged response could end a handshake; any
// scalar finds such a point out (spec connectivity.md 1.12).
func guard(ephemeral []byte) error {
	scalar := [32]byte{0: 8, 31: 64}
	if _, err := curve25519.X25519(scalar[:], ephemeral); err != nil {
		return fmt.Errorf("%w: %w", errLowOrder, err)
	}
	return nil
}
