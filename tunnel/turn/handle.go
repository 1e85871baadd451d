package turn

import (
	"net/netip"
	"time"

	"github.com/pion/stun/v3"
)

// Handle takes a STUN message that came from an address of this relay and
// arrived on local. False means that it had no effect. b is borrowed.
func (a *Allocation) Handle(b []byte, local, from netip.AddrPort, now time.Time) bool {
	m, err := parseResponse(b)
	if err != nil || a.gone {
		return false
	}
	for _, r := range a.requests {
		if r.id == m.id && r.to == from && requestType[r.method].Method == m.method {
			return a.respond(r, m, local, now)
		}
	}
	return false
}

func (a *Allocation) respond(r *request, m response, local netip.AddrPort, now time.Time) bool {
	if r.method != binding && !m.signedBy(a.creds) {
		return false // anybody could have written this, so the request goes on
	}
	if !a.complete(r, m) {
		return false
	}
	a.answered = true
	a.measure(now.Sub(r.sent))
	if m.code == 0 {
		a.finish(r)
		a.succeed(r, m, local, now)
	} else {
		a.fail(r, m, now)
	}
	a.reckon()
	return true
}

// complete reports whether a response says all that it must, so that the
// request is over.
func (a *Allocation) complete(r *request, m response) bool {
	if m.code != 0 {
		return r.method != binding // a relay has no reason to refuse one
	}
	switch r.method {
	case binding:
		return m.mapped.IsValid() && m.mapped.Addr().Is4() == r.to.Addr().Is4()
	case allocate:
		return m.hasLife && len(m.relayed) > 0
	case refresh, remove:
		return m.hasLife
	}
	return true
}

func (a *Allocation) measure(sample time.Duration) {
	if a.rtt == 0 {
		a.rtt = sample
	}
	a.rtt = (7*a.rtt + sample) / 8
}

func (a *Allocation) succeed(r *request, m response, local netip.AddrPort, now time.Time) {
	switch r.method {
	case binding:
		a.learn(r.to, local, m.mapped, now)
		if !a.active.IsValid() {
			a.active = r.to
			a.allocate(now)
		}
	case allocate:
		a.grant(m, now)
	case refresh, remove:
		if m.lifetime == 0 {
			a.invalidate()
			a.allocate(now)
			return
		}
		a.lease(m.lifetime, now)
	case channelBind:
		a.bound(r.channel, now)
	}
}

// learn keeps how we look from the relay.
func (a *Allocation) learn(relay, host, mapped netip.AddrPort, now time.Time) {
	s := &a.servers[0]
	if s.addr != relay {
		s = &a.servers[1]
	}
	if s.host != host || s.mapped != mapped {
		s.host, s.mapped = host, mapped
		a.events = append(a.events, Mapped{host, mapped})
	}
	s.ping = now.Add(keepalive)
}

// grant takes over the allocated addresses, one of each family at most.
func (a *Allocation) grant(m response, now time.Time) {
	a.lease(m.lifetime, now)
	for _, addr := range m.relayed {
		i := 0
		if !addr.Addr().Is4() {
			i = 1
		}
		if !a.relayed[i].IsValid() {
			a.relayed[i] = addr
			a.events = append(a.events, a.allocated(addr))
		}
	}
	queue := a.queue
	a.queue = nil
	for _, peer := range queue {
		a.Bind(peer, now)
		if c := a.byPeer[peer]; c != nil {
			c.late = true
		}
	}
}

func (a *Allocation) lease(lifetime time.Duration, now time.Time) {
	a.refresh, a.expires = now.Add(lifetime/2), now.Add(lifetime)
}

// fail obeys an error response (connectivity.md 4.4).
func (a *Allocation) fail(r *request, m response, now time.Time) {
	switch {
	case m.code == int(stun.CodeUnauthorized) && !r.hadNonce && m.realm == realm && m.nonce != "":
		a.nonce = m.nonce
		a.transmit(r, now)
	case m.code == int(stun.CodeUnauthorized), m.code == int(stun.CodeUnknownAttribute):
		// The credentials are void, or we do not speak the same language.
		a.invalidate()
		a.gone = true
	case m.code == int(stun.CodeStaleNonce) && m.nonce != "":
		a.nonce = m.nonce
		if r.stale++; r.stale <= staleRetries {
			a.transmit(r, now)
		}
	case m.code == int(stun.CodeAllocMismatch):
		a.finish(r)
		a.mismatch(r, now)
	default:
		a.finish(r)
		switch r.method {
		case allocate:
			a.queue = nil
		case channelBind:
			a.forget(r.channel)
		}
	}
}

// mismatch: the relay holds an allocation of our socket that we do not know
// of, or none that we believed in.
func (a *Allocation) mismatch(r *request, now time.Time) {
	rebind := a.pendingBinds()
	if r.method == channelBind {
		rebind = append(rebind, r.channel.peer)
	}
	a.invalidate()
	if r.method == allocate {
		a.start(&request{method: remove, to: a.active}, now)
	} else {
		a.allocate(now)
	}
	for _, peer := range rebind {
		a.Bind(peer, now)
	}
}
