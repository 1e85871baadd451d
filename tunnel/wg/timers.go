package wg

import (
	"encoding/binary"
	"time"
)

// The timers of spec connectivity.md 1.7, ICE mode.
const (
	keepaliveAfter = 10 * time.Second // since the first unanswered application packet
	unheardAfter   = 15 * time.Second // since we sent one and heard nothing

	retryAfter   = 5 * time.Second        // plus jitter
	retryJitter  = 333 * time.Millisecond // at most
	giveUpAfter  = 20 * time.Second       // since the first unanswered initiation
	proactiveGap = 20 * time.Second

	// Ages of a session. The first three concern only who initiated it.
	rekeySent     = 120 * time.Second // if we sent on it
	rekeyReceived = 165 * time.Second // if we received on it, or renew sessions
	unusable      = 170 * time.Second // for sending
	expiry        = 180 * time.Second // and renewed even if nobody used it

	deadAfter = 540 * time.Second // since the last session was agreed on
)

// firstRetries are the retry intervals of a connection's first handshake.
// Packets wait for it, and the first message easily gets lost while the way
// settles; responders take a newer initiation at any time.
var firstRetries = [...]time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second}

// timers is when what happened. A zero time means that it did not, or that
// nothing is to be done about it.
type timers struct {
	first, retry time.Time // the handshake in flight: its first initiation, when to send another
	retries      int       // of the first handshake
	proactive    time.Time // the last handshake that Initiate started
	keepalive    time.Time // when to answer with a keepalive
	unheard      time.Time // the first application packet sent since we last heard
	handshake    time.Time // when the current session was agreed on
	agreed       time.Time // when the newest session was agreed on, or the connection began
}

// Advance does what is due. Early calls are harmless.
func (s *Session) Advance(now time.Time) {
	if s.err != nil {
		return
	}
	if s.agreed.IsZero() {
		s.agreed = now
	}
	switch {
	case due(now, s.agreed.Add(deadAfter)):
		s.fail(ErrExpired)
		return
	case s.inFlight() && due(now, s.first.Add(giveUpAfter)):
		s.fail(ErrUnanswered)
		return
	}
	s.age(now)
	if due(now, s.keepalive) {
		s.answer()
	}
	if due(now, s.retry) || due(now, s.rekey()) {
		s.initiate(now)
	}
}

// Next returns when Advance is due; the zero time means never.
func (s *Session) Next() time.Time {
	if s.err != nil || s.agreed.IsZero() {
		return s.retry
	}
	next := s.agreed.Add(deadAfter)
	for _, k := range s.keys {
		if k != nil {
			next = earlier(next, k.established.Add(expiry))
		}
	}
	if s.inFlight() {
		next = earlier(next, s.first.Add(giveUpAfter))
	}
	for _, t := range [...]time.Time{s.keepalive, s.retry, s.rekey(), s.spent()} {
		next = earlier(next, t)
	}
	return next
}

// inFlight reports whether an initiation of ours waits for its answer.
func (s *Session) inFlight() bool { return !s.first.IsZero() }

// started notes that an initiation was sent.
func (s *Session) started(now time.Time) {
	if !s.inFlight() {
		s.first = now
	}
	var b [8]byte
	fill(s.rand, b[:])
	jitter := time.Duration(binary.LittleEndian.Uint64(b[:]) % uint64(retryJitter+1))
	wait := retryAfter
	if !s.Established() && s.retries < len(firstRetries) {
		wait = firstRetries[s.retries]
		jitter = jitter * wait / retryAfter
		s.retries++
	}
	s.retry = now.Add(wait + jitter)
	s.unheard = time.Time{}
}

// settle ends our attempt: there is a session that works.
func (s *Session) settle() {
	s.pending = [2]*pending{}
	s.first, s.retry, s.unheard = time.Time{}, time.Time{}, time.Time{}
}

// age retires keys that may not send any more and drops those that have
// expired.
func (s *Session) age(now time.Time) {
	if due(now, s.spent()) {
		s.current.retire()
		s.usable = false
	}
	for _, k := range s.keys {
		if k != nil && due(now, k.established.Add(expiry)) {
			s.drop(k)
		}
	}
}

// spent is when the current keys may not send any more.
func (s *Session) spent() time.Time {
	switch {
	case !s.usable:
		return time.Time{}
	case s.current.initiator:
		return s.current.established.Add(unusable)
	}
	return s.current.established.Add(expiry)
}

// rekey is when to start a handshake unless one is in flight.
func (s *Session) rekey() time.Time {
	if s.inFlight() || s.current == nil {
		return time.Time{}
	}
	var t time.Time
	if !s.unheard.IsZero() {
		t = s.unheard.Add(unheardAfter)
	}
	k := s.current
	switch {
	case !k.initiator && s.renew:
		return earlier(t, k.established.Add(expiry+retryAfter)) // the peer's turn comes first
	case !k.initiator:
		return t
	case k.sent:
		return earlier(t, k.established.Add(rekeySent))
	case k.received, s.renew: // who renews leaves no gap in which a packet would have to wait
		return earlier(t, k.established.Add(rekeyReceived))
	}
	return earlier(t, k.established.Add(expiry))
}

// due reports whether the time t has come; it never does if t is zero.
func due(now, t time.Time) bool { return !t.IsZero() && !now.Before(t) }

// within reports whether t was less than d ago.
func within(now, t time.Time, d time.Duration) bool { return !t.IsZero() && now.Sub(t) < d }

// earlier returns the earlier of two times of which zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
