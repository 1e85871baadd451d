package wg

import (
	"errors"
	"io"
	"net/netip"
	"time"
)

var (
	// ErrUnanswered means that the peer answered no handshake for 20 s: the
	// connection is dead and a new one has to be asked for.
	ErrUnanswered = errors.New("handshake unanswered")
	// ErrExpired means that there was no handshake for 540 s: the connection
	// is dead, the peer has forgotten it as well.
	ErrExpired = errors.New("no handshake for nine minutes")
)

// remembered is how many handshakes a Session remembers. They are told apart
// by the low bits of the index.
const remembered = 8

// Config is what a Session is made from.
type Config struct {
	Identity *Identity
	Remote   [32]byte // the peer's public key
	PSK      [32]byte
	Index    uint32    // of the connection, 24 bits, unique within the node
	Rand     io.Reader // for jitter; reading from it must not fail
	// Renew makes this side keep a session that can send at any time: it starts
	// a handshake before its own session runs out, used or not, and when one
	// expired that the peer had initiated and should have renewed. A client
	// sets it: its gateway must see a new session every few minutes (spec
	// connectivity.md 1.7).
	Renew bool
}

// A Session is the WireGuard side of one connection. It is dead once Err is
// not nil: it does nothing any more then.
type Session struct {
	identity    *Identity
	remote, psk [32]byte
	rand        io.Reader
	renew       bool

	index   uint32 // of the next handshake: the connection's, and a counter in the low byte
	keys    [remembered]*Keys
	current *Keys // of the newest session in use; nil: there was none
	usable  bool  // current may send
	err     error

	// Handshakes.
	pending   [2]*pending // our last initiations, newest first
	stamp     [12]byte    // the peer's last
	mac1Key   [32]byte    // for messages to the peer
	cookieKey [32]byte    // for cookie replies from the peer
	lastMAC1  [macLen]byte
	lastIndex uint32 // of the message that had lastMAC1
	cookie    [macLen]byte
	cookieAt  time.Time // when we got it; zero: never
	timers
	out [][]byte
}

// New makes the session of one connection. Nothing happens before Initiate or
// Accept.
func New(c Config) *Session {
	return &Session{
		identity:  c.Identity,
		remote:    c.Remote,
		psk:       c.PSK,
		rand:      c.Rand,
		renew:     c.Renew,
		index:     c.Index << 8,
		mac1Key:   mac1Key(c.Remote),
		cookieKey: cookieKey(c.Remote),
	}
}

// Initiate starts a handshake because the nominated pair changed, an
// authorization was renewed, or there is a packet but no keys to seal it with.
// It does nothing, and says so, while a handshake is in flight or if the last
// call that did something is less than 20 s ago (spec connectivity.md 1.5).
func (s *Session) Initiate(now time.Time) bool {
	if s.err != nil || s.inFlight() || within(now, s.proactive, proactiveGap) {
		return false
	}
	s.proactive = now
	s.initiate(now)
	return s.err == nil
}

// Accept answers an initiation from this connection's peer. It reports false
// for one that is not newer than those before it: a replay, or a retry that
// was overtaken.
func (s *Session) Accept(in Initiator, now time.Time) bool {
	return s.err == nil && in.Static == s.remote && s.respond(in, now)
}

// Handle takes a handshake response or cookie reply whose index names this
// connection. src is where it came from. It reports whether the message was
// genuine. msg is borrowed.
func (s *Session) Handle(msg []byte, src netip.AddrPort, now time.Time) bool {
	if s.err != nil {
		return false
	}
	switch Classify(msg) {
	case Response:
		return s.complete(msg, src, now)
	case Cookie:
		return s.keepCookie(msg, now)
	}
	return false
}

// Find returns the keys for an incoming data message by its receiver index,
// or nil.
func (s *Session) Find(index uint32) *Keys {
	if k := s.keys[index%remembered]; k != nil && k.local == index {
		return k
	}
	return nil
}

// Send returns the keys to seal with, or nil: before the first handshake, and
// when the last one is 170 s old and we initiated it, or 180 s old. Who has a
// packet then holds it and calls Initiate, unless the peer is to do that.
func (s *Session) Send() *Keys {
	if !s.usable {
		return nil
	}
	return s.current
}

// Sent tells that an application packet is about to be sealed with the keys
// that Send returned.
func (s *Session) Sent(now time.Time) {
	if !s.usable {
		return
	}
	s.current.sent = true
	s.keepalive = time.Time{}
	if s.unheard.IsZero() {
		s.unheard = now
	}
}

// Received tells that k opened a message. empty is whether it had no
// plaintext. With false the message is to be dropped: it is a replay, older
// than the window, or its session has ended.
func (s *Session) Received(k *Keys, counter uint64, empty bool, now time.Time) bool {
	if s.err != nil || s.Find(k.local) != k || !k.window.accept(counter) {
		return false
	}
	s.unheard = time.Time{}
	if !k.confirmed {
		k.confirmed = true
		s.use(k)
		s.settle() // the peer is there: our own attempt, if any, may end
	}
	if empty {
		return true
	}
	k.received = true
	if s.keepalive.IsZero() {
		s.keepalive = now.Add(keepaliveAfter)
	}
	return true
}

// Established reports whether a handshake has ever been completed: the peer
// answered ours, or used the keys of its own.
func (s *Session) Established() bool { return !s.handshake.IsZero() }

// LastHandshake returns when the newest session in use was agreed on, the
// zero time if none ever was.
func (s *Session) LastHandshake() time.Time { return s.handshake }

// Err says why the connection is dead; nil: it is not.
func (s *Session) Err() error { return s.err }

// Drain appends the messages to be sent along the nominated way, oldest first,
// and forgets them. They are the caller's.
func (s *Session) Drain(dst [][]byte) [][]byte {
	dst = append(dst, s.out...)
	clear(s.out)
	s.out = s.out[:0]
	return dst
}

// add remembers k, whose index is the connection's latest.
func (s *Session) add(k *Keys, now time.Time) {
	k.established = now
	slot := &s.keys[k.local%remembered]
	if *slot != nil {
		s.drop(*slot)
	}
	*slot = k
	s.agreed = now
}

// use makes k what we send with, unless newer keys are in use already.
func (s *Session) use(k *Keys) {
	if !k.established.Before(s.handshake) {
		s.current, s.usable, s.handshake = k, true, k.established
	}
}

// drop forgets k: messages for it are unknown from here on.
func (s *Session) drop(k *Keys) {
	s.keys[k.local%remembered] = nil
	k.retire()
	if s.current == k {
		s.usable = false
	}
}

// fail ends the session.
func (s *Session) fail(err error) {
	s.err = err
	for _, k := range s.keys {
		if k != nil {
			s.drop(k)
		}
	}
	s.settle()
}
