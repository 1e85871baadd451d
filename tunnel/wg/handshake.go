package wg

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/flynn/noise"
)

// A pending is an initiation of ours that may still be answered. Each has its
// own state: ephemeral key, time stamp and index are never used twice.
type pending struct {
	index uint32
	state *noise.HandshakeState
}

// initiate sends a handshake initiation: type, sender index, 108 bytes of
// Noise with the time stamp as payload, MAC1, MAC2.
func (s *Session) initiate(now time.Time) {
	p := &pending{s.nextIndex(), s.identity.handshake(true, s.remote[:], s.psk[:])}
	msg := make([]byte, 8, initiationLen)
	binary.LittleEndian.PutUint32(msg, uint32(Initiation))
	binary.LittleEndian.PutUint32(msg[4:], p.index)
	stamp := s.identity.stamp(now)
	msg, _, _, err := p.state.WriteMessage(msg, stamp[:])
	if err != nil {
		s.fail(fmt.Errorf("peer's public key: %w", err)) // of low order: no handshake can succeed
		return
	}
	s.pending[1], s.pending[0] = s.pending[0], p
	s.finish(msg, now)
	s.started(now)
}

// respond answers in: type, sender index, receiver index, 48 bytes of Noise
// with an empty payload, MAC1, MAC2. The keys wait for the peer to use them.
func (s *Session) respond(in Initiator, now time.Time) bool {
	if bytes.Compare(in.stamp[:], s.stamp[:]) <= 0 {
		return false
	}
	if err := in.state.SetPresharedKey(s.psk[:]); err != nil {
		panic(err) // the key has the right length
	}
	msg := make([]byte, 12, responseLen)
	index := s.nextIndex()
	binary.LittleEndian.PutUint32(msg, uint32(Response))
	binary.LittleEndian.PutUint32(msg[4:], index)
	binary.LittleEndian.PutUint32(msg[8:], in.sender)
	msg, receive, send, err := in.state.WriteMessage(msg, nil)
	if err != nil {
		return false // an ephemeral key of low order
	}
	s.stamp = in.stamp
	k := newKeys(send.UnsafeKey(), receive.UnsafeKey())
	k.local, k.remote = index, in.sender
	s.add(k, now)
	s.finish(msg, now)
	return true
}

// complete reads the response to either of our last two initiations and, as
// the responder may not send before it received, confirms it at once.
func (s *Session) complete(msg []byte, src netip.AddrPort, now time.Time) bool {
	i := s.identity
	p := s.answered(Index(msg))
	if p == nil || !checkMAC1(i.mac1Key, msg) {
		return false
	}
	if i.loaded(now) && !i.cookies.check(msg, src.Addr(), i.rand, now) {
		s.out = append(s.out, i.cookies.reply(msg, src.Addr(), i.rand, now))
		return false
	}
	noisy := msg[12 : responseLen-macsLen]
	if guard(noisy[:32]) != nil {
		return false
	}
	_, send, receive, err := p.state.ReadMessage(nil, noisy)
	if err != nil {
		return false
	}
	k := newKeys(send.UnsafeKey(), receive.UnsafeKey())
	k.local, k.remote = p.index, binary.LittleEndian.Uint32(msg[4:])
	k.initiator, k.confirmed = true, true
	s.add(k, now)
	s.use(k)
	s.settle()
	s.answer()
	return true
}

// answered returns the initiation with this index, or nil.
func (s *Session) answered(index uint32) *pending {
	for _, p := range s.pending {
		if p != nil && p.index == index {
			return p
		}
	}
	return nil
}

// keepCookie keeps the cookie for the next handshake message. Only a reply to
// the last one counts.
func (s *Session) keepCookie(msg []byte, now time.Time) bool {
	if Index(msg) != s.lastIndex {
		return false
	}
	cookie, ok := openCookie(s.cookieKey, msg, s.lastMAC1)
	if ok {
		s.cookie, s.cookieAt = cookie, now
	}
	return ok
}

// finish puts the MACs to an initiation or response and sends it.
func (s *Session) finish(msg []byte, now time.Time) {
	var cookie *[macLen]byte
	if within(now, s.cookieAt, cookieLife) {
		cookie = &s.cookie
	}
	msg = appendMACs(msg, s.mac1Key, cookie)
	s.lastIndex = binary.LittleEndian.Uint32(msg[4:])
	s.lastMAC1 = [macLen]byte(msg[len(msg)-macsLen:])
	s.out = append(s.out, msg)
}

// answer sends an empty data message, if we may send.
func (s *Session) answer() {
	s.keepalive = time.Time{}
	if !s.usable {
		return
	}
	if msg := s.current.Seal(make([]byte, Overhead), 0); msg != nil {
		s.out = append(s.out, msg)
	}
}

// nextIndex counts through the low byte of the connection's indices, past the
// slot of the keys in use.
func (s *Session) nextIndex() uint32 {
	for {
		s.index = s.index&^0xff | (s.index+1)&0xff
		if k := s.keys[s.index%remembered]; k == nil || k != s.current {
			return s.index
		}
	}
}
