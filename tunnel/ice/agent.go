// Package ice decides which way two peers talk: it pairs their candidates,
// checks the pairs with STUN and nominates the best (RFC 8445 with the
// schedule and the deviations of connectivity.md 3).
//
// Compared with RFC 8445: no gathering (candidates are learnt elsewhere), no
// frozen pairs, no pacing, no restart. Every pair is checked for as long as the
// connection lives; these checks are consent and NAT keepalive at once. The
// roles are fixed by who asked for the connection, so there is nothing to
// resolve when a peer claims ours: its role attribute is not looked at.
package ice

import (
	"cmp"
	"encoding/binary"
	"io"
	"net/netip"
	"slices"
	"time"

	"stile/tunnel/wire"
)

// Bounds on what a peer can make us remember. The lowest priority goes first.
const (
	maxPairs   = 100
	maxRemotes = 100
)

// A Profile says how patiently pairs are checked (connectivity.md 1.9).
type Profile struct {
	InitialRTO, MaxRTO time.Duration
	Attempts           int // unanswered ones until a pair is given up
}

var (
	ClientActive = Profile{250 * time.Millisecond, 1500 * time.Millisecond, 12}
	ClientIdle   = Profile{25 * time.Second, 25 * time.Second, 4}
	ServerActive = Profile{250 * time.Millisecond, 15 * time.Second, 45}
	ServerIdle   = Profile{25 * time.Second, 25 * time.Second, 40}
)

// delay before the attempt that follows n others.
func (p Profile) delay(n int) time.Duration {
	if n == 0 {
		return 0
	}
	d := p.InitialRTO
	for ; n > 1 && d < p.MaxRTO; n-- {
		d *= 2
	}
	return min(d, p.MaxRTO)
}

// State of an agent as connectivity.md 3.10 names it.
type State uint8

const (
	Checking     State = iota // neither of the others
	Connected                 // a pair is nominated, others are viable
	Completed                 // a pair is nominated, no other is viable
	Disconnected              // candidates on both sides, no viable pair
)

// Config of an agent. All of it stays constant for the agent's life.
type Config struct {
	Controlling   bool // our side asked for the connection
	Local, Remote wire.ICECredentials
	Profile       Profile
	Rand          io.Reader // transaction IDs and tie-breaker; must not fail
}

// A Transmit is a STUN message to be sent from Local, which is the base of a
// local candidate, to Remote. Payload is owned by the receiver.
type Transmit struct {
	Local, Remote netip.AddrPort
	Payload       []byte
	ID            TransactionID
	Request       bool // its response will carry ID
}

// An Agent finds and keeps the way between us and one peer.
type Agent struct {
	config     Config
	username   string // in our requests
	tieBreaker uint64
	profile    Profile
	paced      time.Time // when the profile changed: the peer's pace, too

	locals   []Candidate
	assigned map[slot]int // how many local preferences were given out
	remotes  []*remote
	pairs    []*pair // highest priority first
	selected *pair
	silenced bool   // the last pair, which had been in use, stopped answering
	elected  uint64 // counts nominations: the later of two equals wins
	next     time.Time
	out      []Transmit
}

type slot struct {
	kind Kind
	v4   bool
}

// A remote is a candidate of the peer. One that the peer withdrew stays, so
// that its checks are ignored.
type remote struct {
	Candidate
	discarded bool
}

// New returns an agent without candidates.
func New(c Config) *Agent {
	var tie [8]byte
	mustRead(c.Rand, tie[:])
	return &Agent{
		config:     c,
		username:   c.Remote.Username + ":" + c.Local.Username,
		tieBreaker: binary.BigEndian.Uint64(tie[:]),
		profile:    c.Profile,
		assigned:   make(map[slot]int),
	}
}

func mustRead(r io.Reader, b []byte) {
	if _, err := io.ReadFull(r, b); err != nil {
		panic("no randomness: " + err.Error())
	}
}

// AddLocal adds a candidate of ours and returns it with its priority; false
// means that it adds nothing and is not to be signalled.
func (a *Agent) AddLocal(c Candidate, now time.Time) (Candidate, bool) {
	if !Usable(c.Addr) || slices.ContainsFunc(a.locals, func(d Candidate) bool { return d.Addr == c.Addr && d.Base == c.Base }) {
		return Candidate{}, false
	}
	s := slot{c.Kind, c.Addr.Addr().Is4()}
	c.Priority = priority(c.Kind.typePreference(), c.Kind.localPreference(c.Addr.Addr(), a.assigned[s], c.CrossFamily))
	a.assigned[s]++
	a.locals = append(a.locals, c)
	for _, r := range a.remotes {
		if !r.discarded {
			a.join(c, r, now)
		}
	}
	return c, true
}

// RemoveLocal removes a candidate of ours and returns it as it was announced;
// false means that the agent did not have it.
func (a *Agent) RemoveLocal(addr netip.AddrPort, kind Kind, now time.Time) (Candidate, bool) {
	i := slices.IndexFunc(a.locals, func(c Candidate) bool { return c.Addr == addr && c.Kind == kind })
	if i < 0 {
		return Candidate{}, false
	}
	c := a.locals[i]
	a.locals = slices.Delete(a.locals, i, i+1)
	a.drop(func(p *pair) bool { return p.local == c }, now)
	return c, true
}

// Locals returns our candidates, best first, as they are to be signalled.
func (a *Agent) Locals() []Candidate {
	return slices.SortedFunc(slices.Values(a.locals), func(c, d Candidate) int { return cmp.Compare(d.Priority, c.Priority) })
}

// HasLocals reports whether we have any candidate.
func (a *Agent) HasLocals() bool { return len(a.locals) > 0 }

// Remotes returns the peer's candidates that it has not withdrawn, in order of
// arrival.
func (a *Agent) Remotes() []Candidate {
	var all []Candidate
	for _, r := range a.remotes {
		if !r.discarded {
			all = append(all, r.Candidate)
		}
	}
	return all
}

// AddRemote adds a candidate that the peer signalled, and those it suggests.
func (a *Agent) AddRemote(c Candidate, now time.Time) {
	c.Base = netip.AddrPort{}
	a.addRemote(c, now)
	for _, guess := range a.optimistic(c) {
		if !slices.ContainsFunc(a.remotes, func(r *remote) bool { return r.Addr == guess.Addr }) {
			a.addRemote(guess, now)
		}
	}
}

func (a *Agent) addRemote(c Candidate, now time.Time) {
	r, changed := a.remoteFor(c)
	if r == nil {
		return
	}
	paired := slices.ContainsFunc(a.pairs, func(p *pair) bool { return p.remote == r })
	if paired && !changed {
		return
	}
	r.discarded = false
	for _, l := range a.locals {
		a.join(l, r, now)
	}
	a.sort(now)
	a.reckon(now)
}

// remoteFor finds or makes the entry of a signalled candidate; nil: no room. A
// peer-reflexive one becomes what is signalled for the same address, and
// changed says so.
func (a *Agent) remoteFor(c Candidate) (r *remote, changed bool) {
	for _, r := range a.remotes {
		switch {
		case r.Addr != c.Addr:
		case r.Kind == c.Kind:
			return r, false
		case r.Kind == PeerReflexive:
			r.Candidate = c
			return r, true
		}
	}
	return a.newRemote(c), false
}

func (a *Agent) newRemote(c Candidate) *remote {
	r := &remote{Candidate: c}
	if len(a.remotes) < maxRemotes {
		a.remotes = append(a.remotes, r)
		return r
	}
	for i, old := range a.remotes {
		if !slices.ContainsFunc(a.pairs, func(p *pair) bool { return p.remote == old }) {
			a.remotes = append(slices.Delete(a.remotes, i, i+1), r)
			return r
		}
	}
	return nil
}

// optimistic guesses addresses: a peer whose NAT is symmetric may still have
// its host port forwarded on its public address. Two at most per addition
// (connectivity.md 3.6).
func (a *Agent) optimistic(c Candidate) []Candidate {
	var guesses []Candidate
	guess := func(public, host Candidate) {
		addr := netip.AddrPortFrom(public.Addr.Addr(), host.Addr.Port())
		if addr != public.Addr && len(guesses) < 2 {
			guesses = append(guesses, Candidate{Kind: ServerReflexive, Addr: addr, Related: public.Related, Priority: public.Priority})
		}
	}
	if !c.Addr.Addr().Is4() {
		return nil
	}
	for _, r := range a.remotes {
		switch {
		case r.discarded || !r.Addr.Addr().Is4():
		case c.Kind == ServerReflexive && r.Kind == Host:
			guess(c, r.Candidate)
		case c.Kind == Host && r.Kind == ServerReflexive:
			guess(r.Candidate, c)
		}
	}
	return guesses
}

// RemoveRemote withdraws a candidate of the peer: its pairs end, and checks
// from it are ignored until it is announced again.
func (a *Agent) RemoveRemote(c Candidate, now time.Time) {
	for _, r := range a.remotes {
		if r.matches(c) {
			r.discarded = true
			a.drop(func(p *pair) bool { return p.remote == r }, now)
		}
	}
}

// SetProfile changes the pace of all checks.
func (a *Agent) SetProfile(profile Profile, now time.Time) {
	if a.profile == profile {
		return
	}
	a.profile, a.paced = profile, now
	for _, p := range a.pairs {
		p.remembered = min(p.remembered, profile.Attempts)
		p.run = min(p.run, profile.Attempts)
		p.schedule(profile, now)
	}
	a.reckon(now)
}

// State tells how the agent is doing.
func (a *Agent) State() State {
	switch {
	case a.selected != nil && len(a.pairs) > 1:
		return Connected
	case a.selected != nil:
		return Completed
	case len(a.pairs) == 0 && len(a.locals) > 0 && len(a.remotes) > 0:
		return Disconnected
	}
	return Checking
}

// Silenced tells that the peer was reached and has stopped answering on all
// ways, the last one by silence: nobody has announced that another will follow.
func (a *Agent) Silenced() bool { return a.silenced && a.State() == Disconnected }

// Selected returns the nominated pair to send on.
func (a *Agent) Selected() (local, remote Candidate, ok bool) {
	if a.selected == nil {
		return Candidate{}, Candidate{}, false
	}
	return a.selected.local, a.selected.remote.Candidate, true
}

// RTT is the round trip of checks over the nominated pair; 0: unknown.
func (a *Agent) RTT() time.Duration {
	if a.selected == nil {
		return 0
	}
	return a.selected.rtt
}

// Doubtful reports whether the nominated pair has gone silent.
func (a *Agent) Doubtful(now time.Time) bool {
	return a.selected != nil && a.suspect(a.selected, now)
}

// Next returns when Advance is due; the zero time means never.
func (a *Agent) Next() time.Time { return a.next }

// Drain appends what is to be sent, in order.
func (a *Agent) Drain(dst []Transmit) []Transmit {
	dst = append(dst, a.out...)
	clear(a.out)
	a.out = a.out[:0]
	return dst
}
