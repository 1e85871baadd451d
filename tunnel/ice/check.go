package ice

import (
	"net/netip"
	"slices"
	"time"
)

// Advance sends the checks that are due and gives up pairs that are dead.
// Early calls are harmless.
func (a *Agent) Advance(now time.Time) {
	if a.next.IsZero() || now.Before(a.next) {
		return
	}
	before := len(a.pairs)
	a.pairs = slices.DeleteFunc(a.pairs, func(p *pair) bool { return !p.due.After(now) && p.dead(a.profile, now) })
	if len(a.pairs) != before {
		a.silenced = len(a.pairs) == 0 && a.selected != nil
		a.elect(now)
	}
	a.check(now, a.unannounced)
	a.check(now, func(*pair) bool { return true })
	a.elect(now) // the nominated pair may have become suspect
	a.check(now, a.unannounced)
	a.reckon(now)
}

// unannounced pairs are those whose nomination the peer has to be told of.
func (a *Agent) unannounced(p *pair) bool {
	return a.config.Controlling && p.nominated > 0 && !p.announced
}

func (a *Agent) check(now time.Time, condition func(*pair) bool) {
	for _, p := range a.pairs {
		if !p.due.After(now) && condition(p) {
			a.request(p, now)
		}
	}
}

func (a *Agent) request(p *pair, now time.Time) {
	var id TransactionID
	mustRead(a.config.Rand, id[:])
	use := a.config.Controlling && p.nominated > 0
	p.announced = p.announced || use
	p.attempt(id, a.profile, now)
	a.out = append(a.out, Transmit{
		Local: p.base(), Remote: p.remote.Addr, ID: id, Request: true,
		Payload: request{
			id:            id,
			username:      a.username,
			controlling:   a.config.Controlling,
			tieBreaker:    a.tieBreaker,
			priority:      p.local.checkPriority(),
			useCandidate:  use,
			peersPassword: a.config.Remote.Password,
		}.encode(),
	})
}

// reckon finds when Advance is due: for a check, or because the controlled
// side's pair becomes suspect without anything happening.
func (a *Agent) reckon(now time.Time) {
	a.next = time.Time{}
	for _, p := range a.pairs {
		if a.next.IsZero() || p.due.Before(a.next) {
			a.next = p.due
		}
	}
	if a.selected == nil || a.config.Controlling {
		return
	}
	if at := a.silentSince(a.selected).Add(a.silence() + 1); at.After(now) && at.Before(a.next) {
		a.next = at
	}
}

// Trigger has an unanswered pair checked at once: something that kept checks
// from arriving is gone. False means that there is no such pair.
func (a *Agent) Trigger(base, remote netip.AddrPort, now time.Time) bool {
	p := a.find(base, remote)
	if p == nil || p.succeeded {
		return false
	}
	p.due = now
	a.reckon(now)
	return true
}

// triggerGap is the least time between two triggered checks of a pair: where
// requests pass but responses do not, each side's would trigger the other's
// for ever.
const triggerGap = 250 * time.Millisecond

// trigger obeys RFC 8445 §7.3.1.4.
func (a *Agent) trigger(p *pair, now time.Time) {
	if p.succeeded || !p.triggered.IsZero() && now.Sub(p.triggered) < triggerGap {
		return
	}
	p.triggered, p.due = now, now
	a.reckon(now)
}

// Handle takes a check or a response that arrived from remote on local, where
// local is the address of a host or relayed candidate. False means that it
// was not for us and had no effect.
func (a *Agent) Handle(m Message, local, remote netip.AddrPort, now time.Time) bool {
	if m.Response {
		return a.handleResponse(m, local, remote, now)
	}
	return a.handleRequest(m, local, remote, now)
}

func (a *Agent) handleResponse(m Message, local, remote netip.AddrPort, now time.Time) bool {
	// Symmetric only: a response from elsewhere proves nothing about this way.
	p := a.find(local, remote)
	if p == nil || !m.verify(a.config.Remote.Password) || !p.answered(m.ID, a.profile, now) {
		return false
	}
	a.elect(now)
	a.reckon(now)
	return true
}

func (a *Agent) handleRequest(m Message, local, remote netip.AddrPort, now time.Time) bool {
	if m.To != a.config.Local.Username || m.From != a.config.Remote.Username || !m.verify(a.config.Local.Password) {
		return false
	}
	p := a.pairOf(local, remote, m.Priority, now)
	if p == nil {
		return false
	}
	a.out = append(a.out, Transmit{
		Local: local, Remote: remote, Payload: encodeResponse(m.ID, remote, a.config.Local.Password),
	})
	p.requested = now
	a.trigger(p, now)
	if m.UseCandidate && !a.config.Controlling {
		if p.nominated == 0 {
			a.nominate(p)
		}
		a.elect(now)
	}
	return true
}

// pairOf finds or makes the pair on which an authenticated request arrived.
// Nil: we do not answer there.
func (a *Agent) pairOf(local, addr netip.AddrPort, priority uint32, now time.Time) *pair {
	if p := a.find(local, addr); p != nil {
		return p
	}
	i := slices.IndexFunc(a.locals, func(c Candidate) bool { return c.Addr == local && c.Base == local })
	if i < 0 || !Usable(addr) {
		return nil
	}
	var r *remote
	for _, known := range a.remotes {
		if known.Addr == addr && (r == nil || r.discarded) {
			r = known
		}
	}
	if r == nil {
		r = a.newRemote(Candidate{Kind: PeerReflexive, Addr: addr, Priority: priority})
	}
	if r == nil || r.discarded {
		return nil
	}
	a.join(a.locals[i], r, now)
	return a.find(local, addr)
}

// Follow tells that an authenticated handshake began over this pair. A peer
// sends its handshakes where it last nominated, also when that is a downgrade
// which no USE-CANDIDATE can express, so a controlled agent goes there, too.
// Should a better pair be alive after all, the peer's next check renominates
// it. It also stands in for a lost first nomination.
func (a *Agent) Follow(local, remote netip.AddrPort, now time.Time) {
	p := a.find(local, remote)
	if a.config.Controlling || p == nil || p == a.selected {
		return
	}
	for _, better := range a.pairs {
		if better == p {
			break
		}
		better.nominated = 0
	}
	p.requested = now
	a.nominate(p)
	a.elect(now)
}
