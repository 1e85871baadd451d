package relay

import (
	"net/netip"
	"time"

	"github.com/pion/stun/v3"
)

// requested handles a STUN message. All but requests is dropped.
func (s *Server) requested(d Datagram, now time.Time) {
	if stun.Decode(d.Payload, &s.request) != nil || s.request.Type.Class != stun.ClassRequest {
		s.stats.Dropped++
		return
	}
	r := &request{from: d, message: &s.request, id: s.request.TransactionID, method: s.request.Type.Method}
	r.from.Payload = nil // borrowed
	if r.method == stun.MethodBinding {
		s.bind(r, now)
		return
	}
	if err := r.read(); err != nil {
		if s.mayAnswer(r, now) {
			s.refuse(r, 400, nil)
		}
		return
	}
	var key stun.MessageIntegrity
	var expiry uint64
	if r.named {
		var err error
		if key, expiry, err = s.credentials(r.username); err != nil {
			s.stats.Dropped++
			return
		}
	}
	if code := s.authenticate(r, key, expiry, now); code != 0 {
		if s.mayAnswer(r, now) {
			s.refuse(r, code, key)
		}
		return
	}
	s.serve(r, key, now)
}

// bind answers a BINDING request, which needs no credentials.
func (s *Server) bind(r *request, now time.Time) {
	if !s.mayAnswer(r, now) {
		return
	}
	a := newAnswer(r, stun.ClassSuccessResponse)
	a.address(stun.AttrXORMappedAddress, r.from.Remote)
	s.send(a, nil)
}

// mayAnswer limits answers to addresses that may be forged.
func (s *Server) mayAnswer(r *request, now time.Time) bool {
	if s.clients[r.from.Remote] != nil || s.limit.allow(r.from.Remote.Addr(), now) {
		return true
	}
	s.stats.Limited++
	return false
}

// authenticate checks in the order of connectivity.md 4.7 and returns the
// error code, or 0.
func (s *Server) authenticate(r *request, key stun.MessageIntegrity, expiry uint64, now time.Time) stun.ErrorCode {
	if !r.integrity || !r.named || !r.nonced {
		return 401
	}
	switch s.nonces.check(r.from.Remote, r.nonce) {
	case errNotUUID:
		return 401
	case errStale:
		return 438
	}
	if expiry < uint64(max(0, now.Unix())) || key.Check(r.message) != nil {
		return 401
	}
	s.nonces.use(r.from.Remote, now)
	s.wake(now)
	return 0
}

// serve does what an authenticated request asks for.
func (s *Server) serve(r *request, key stun.MessageIntegrity, now time.Time) {
	var code stun.ErrorCode
	switch r.method {
	case stun.MethodAllocate:
		code = s.allocate(r, key, now)
	case stun.MethodRefresh:
		code = s.refresh(r, key, now)
	case stun.MethodChannelBind:
		code = s.bindChannel(r, now)
		if code == 0 {
			s.send(newAnswer(r, stun.ClassSuccessResponse), key)
		}
	case stun.MethodCreatePermission: // there is nothing to permit
		s.send(newAnswer(r, stun.ClassSuccessResponse), key)
	}
	if code != 0 {
		s.refuse(r, code, key)
	}
}

// allocate starts an allocation. It is answered once its port is open. The
// result is an error code, or 0.
func (s *Server) allocate(r *request, key stun.MessageIntegrity, now time.Time) stun.ErrorCode {
	if a := s.clients[r.from.Remote]; a != nil && a.live(now) {
		if a.request.id != r.id {
			return 437
		}
		if a.open {
			s.granted(a) // the answer was lost
		}
		return 0
	}
	if r.transport != udp {
		return 400
	}
	v4, v6, code := s.families(r)
	if code != 0 {
		return code
	}
	if a := s.clients[r.from.Remote]; a != nil {
		s.remove(a) // expired
	}
	if a := s.users[r.username]; a != nil {
		s.remove(a) // the user has moved
	}
	network := household(r.from.Remote.Addr())
	if s.addresses[network] >= maxPerAddress {
		return 486
	}
	a := &allocation{
		client:   r.from.Remote,
		local:    r.from.Local,
		user:     r.username,
		request:  *r,
		key:      key,
		lifetime: lifetime(r),
		hasV4:    v4,
		hasV6:    v6,
		channels: map[uint16]*channel{},
		peers:    map[netip.AddrPort]*channel{},
	}
	a.request.message = nil // its memory is reused
	a.expires = now.Add(a.lifetime)
	if !s.openPort(a) {
		return 508
	}
	s.clients[a.client], s.users[a.user] = a, a
	s.addresses[network]++
	return 0
}

// families chooses the families of an allocation by connectivity.md 4.7: what
// is asked for, IPv4 without wish; an additional family is a mere wish.
func (s *Server) families(r *request) (v4, v6 bool, code stun.ErrorCode) {
	has4, has6 := s.v4.IsValid(), s.v6.IsValid()
	switch {
	case r.another == ipv4, r.another != noFamily && r.requested != noFamily:
		return false, false, 400
	case r.another == ipv6:
		return has4, has6, 0
	case r.requested == ipv6:
		v6 = has6
	default:
		v4 = has4
	}
	if !v4 && !v6 {
		return false, false, 440
	}
	return v4, v6, 0
}

// Opened tells what became of a port that Drain asked to open. If it is taken
// by somebody else, another one is tried.
func (s *Server) Opened(port uint16, ok bool, now time.Time) {
	a := s.ports[port]
	switch {
	case a == nil:
		if ok {
			s.out.Close = append(s.out.Close, port) // removed meanwhile
		}
	case a.open:
	case ok:
		a.open = true
		s.granted(a)
	default:
		delete(s.ports, port)
		if a.attempts++; a.attempts >= maxAttempts || !s.openPort(a) {
			s.remove(a)
			s.refuse(&a.request, 508, a.key)
		}
	}
}

// granted answers the request that made a.
func (s *Server) granted(a *allocation) {
	r := newAnswer(&a.request, stun.ClassSuccessResponse)
	if a.hasV4 {
		r.address(stun.AttrXORRelayedAddress, a.relayed(s.v4))
	}
	if a.hasV6 {
		r.address(stun.AttrXORRelayedAddress, a.relayed(s.v6))
	}
	r.address(stun.AttrXORMappedAddress, a.client)
	r.lifetime(a.lifetime)
	s.send(r, a.key)
}

// refresh prolongs or, with a lifetime of 0, deletes an allocation.
func (s *Server) refresh(r *request, key stun.MessageIntegrity, now time.Time) stun.ErrorCode {
	a := s.clients[r.from.Remote]
	if a == nil || !a.live(now) {
		return 437
	}
	d := lifetime(r)
	if r.timed && r.lifetime == 0 {
		d = 0
		s.remove(a)
	}
	a.expires = now.Add(d)
	answer := newAnswer(r, stun.ClassSuccessResponse)
	answer.lifetime(d)
	s.send(answer, key)
	return 0
}

// lifetime is what a request gets: what it asks for, up to an hour. An
// allocation for no time at all is not worth having.
func lifetime(r *request) time.Duration {
	if !r.timed || r.lifetime == 0 {
		return defaultLifetime
	}
	return min(r.lifetime, maxLifetime)
}

// bindChannel binds or renews a channel.
func (s *Server) bindChannel(r *request, now time.Time) stun.ErrorCode {
	a := s.clients[r.from.Remote]
	switch {
	case a == nil || !a.live(now) || !a.open:
		return 437
	case r.peer.Addr().Is4() && !a.hasV4, r.peer.Addr().Is6() && !a.hasV6:
		return 443
	case !s.routable(r.peer):
		return 403
	}
	s.channels -= a.forget(a.channels[r.channel], now) + a.forget(a.peers[r.peer], now)
	byNumber, byPeer := a.channels[r.channel], a.peers[r.peer]
	if byNumber != byPeer {
		return 400
	}
	if byNumber == nil {
		if s.channels >= maxChannels {
			return 508
		}
		s.channels++
		from := a.relayed(s.v4)
		if r.peer.Addr().Is6() {
			from = a.relayed(s.v6)
		}
		byNumber = &channel{number: r.channel, peer: r.peer, from: from}
		a.channels[r.channel], a.peers[r.peer] = byNumber, byNumber
	}
	byNumber.expires = now.Add(channelLifetime)
	return 0
}

// routable refuses peers that can only be this machine itself, or many. Any
// other address and port will do.
func (s *Server) routable(peer netip.AddrPort) bool {
	a := peer.Addr()
	if a.IsLoopback() { // fine where the relay itself is nowhere else
		return s.v4.IsLoopback() || s.v6.IsLoopback()
	}
	return peer.Port() != 0 && !a.IsUnspecified() && !a.IsMulticast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}
