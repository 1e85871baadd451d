// Package portal decides who may reach what, through which gateway, and until
// when (spec portal.md 3–5). It is told which peers joined, what they said,
// and what the administrator wants; it answers with messages for peers,
// connections to close, and authorizations to store.
//
// The shell authenticates peers, frames messages and keeps the order: what
// [Portal.Drain] gives is carried out in sequence, one queue for each
// connection. On that rests the one ordering rule peers depend on: either end
// of a tunnel learns of an authorization before it gets a candidate of the
// other (4.4, 4.5).
//
// Time is the wall clock. Deadlines of a few seconds follow its monotonic
// part; expiries, which are dates, follow the calendar and are looked at every
// minute at least, so that a clock that was set is noticed.
package portal

import (
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/wire"
)

const (
	ackTime              = 15 * time.Second // for a gateway to accept an authorization (4.4)
	evaluationTime       = time.Minute      // between looks at conditions (4.1)
	presenceDelay        = time.Second      // from a relay's coming or going to the news of it (4.8)
	relaysPerPeer        = 2
	forever        int64 = 2145916800 // 2038-01-01, in Unix seconds: what "never expires" is on the wire (5.5)
)

// A Conn names one connection of a peer. The shell chooses it and never uses
// it again for another.
type Conn uint64

type authorization struct{}

// An AuthorizationID names a stored authorization.
type AuthorizationID = id.ID[authorization]

// An Authorization is a permission that a gateway was told: one for each
// client, resource and gateway.
type Authorization struct {
	ID        AuthorizationID
	Client    id.Client
	Gateway   id.Gateway
	Resource  id.Resource
	Policy    id.Policy
	Token     id.Token // the client's
	Actor     Actor    // as last known
	Basis     string   // what it rests on; opaque
	CreatedAt int64    // Unix seconds
	ExpiresAt int64    // Unix seconds
}

// Config is what a Portal needs. Account may be replaced later by Reconfigure.
type Config struct {
	Account   Account
	Zones     Zones      // time zones of conditions
	IngestKey []byte     // signs ingest tokens; 32 bytes, kept for ever
	Seed      *rand.Rand // chooses gateways and relays
	Random    io.Reader  // for IDs and references: crypto/rand.Reader outside tests
	// Live are the authorizations of an earlier run; those that have expired
	// or lost their basis meanwhile are dropped.
	Live []Authorization
}

// A Portal is the control plane of one account. Methods that take now must be
// called with a now that does not go back in its monotonic part.
type Portal struct {
	zones     Zones
	ingestKey []byte
	seed      *rand.Rand
	random    io.Reader
	rules     *rules

	clients  table[id.Client, client]
	gateways table[id.Gateway, gateway]
	relays   table[id.Relay, relay]
	live     ledger
	revoked  map[id.Token]bool // by Revoke, ever since New: a peer may be on its way in

	asked      []*request            // in the order of their deadlines
	patients   []*patient            // who wait for a gateway to come back, in the order of their requests
	deserted   map[id.Site]time.Time // when the last gateway of a site left, if that is not long ago
	presence   time.Time             // when to tell of changed relays; zero: nothing to tell
	evaluation time.Time             // when to look at conditions again
	expiry     time.Time             // no token expires before; zero: none expires at all

	out []Action
}

// An Action is something the shell shall do: one of the types below.
type Action interface{ action() }

type (
	// Push sends a message; it is lost if the connection is gone.
	Push struct {
		To      Conn
		Message wire.Message
	}
	// Close ends a connection behind everything pushed to it so far.
	Close struct{ Conn Conn }
	// Save stores an authorization in place of an older one with the same
	// client, resource and gateway. It must be durable before later pushes.
	Save struct{ Authorization Authorization }
	// Drop removes a stored authorization.
	Drop struct{ ID AuthorizationID }
)

func (Push) action()  {}
func (Close) action() {}
func (Save) action()  {}
func (Drop) action()  {}

// New makes a Portal without connections. It fails if the account contradicts
// itself.
func New(c Config, now time.Time) (*Portal, error) {
	rules, err := c.Account.compile(c.Zones)
	if err != nil {
		return nil, err
	}
	p := &Portal{
		zones: c.Zones, ingestKey: c.IngestKey, seed: c.Seed, random: c.Random, rules: rules,
		clients: newTable[id.Client, client](), gateways: newTable[id.Gateway, gateway](), relays: newTable[id.Relay, relay](),
		live: newLedger(), revoked: map[id.Token]bool{}, deserted: map[id.Site]time.Time{}, evaluation: now.Add(evaluationTime),
	}
	for i := range c.Live {
		a := c.Live[i]
		if a.ExpiresAt <= now.Unix() || !p.rules.bears(&a) {
			p.emit(Drop{a.ID})
			continue
		}
		p.live.put(&a)
	}
	return p, nil
}

// Message takes what a joined peer said. Messages that are not for a portal
// are ignored.
func (p *Portal) Message(from Conn, m wire.Message, now time.Time) {
	if c := p.clients.at(from); c != nil {
		p.fromClient(c, m, now)
	} else if g := p.gateways.at(from); g != nil {
		p.fromGateway(g, m, now)
	}
}

func (p *Portal) fromClient(c *client, m wire.Message, now time.Time) {
	switch m := m.(type) {
	case wire.RequestAuthorization:
		p.authorize(c, m, now)
	case wire.ClientCandidates:
		for _, to := range once(m.Gateways) {
			if g := p.gateways.of(to); g != nil && p.live.connects(c.ID, to, now) {
				p.push(g.conn, wire.PeerCandidates{Client: c.ID, Candidates: m.Candidates, Invalidate: m.Invalidate})
			}
		}
	case wire.ResolvePoolDomain:
		p.push(c.conn, wire.PoolDomainFailed{Resource: m.Resource, Domain: m.Domain, Reason: wire.ReasonNotFound})
	case wire.NoRelays:
		p.offerRelays(&c.peer)
	}
}

func (p *Portal) fromGateway(g *gateway, m wire.Message, now time.Time) {
	switch m := m.(type) {
	case wire.AuthorizationAccepted:
		p.accepted(g, m.Ref, now)
	case wire.BroadcastCandidates:
		for _, to := range once(m.Clients) {
			if c := p.clients.of(to); c != nil && p.live.connects(to, g.ID, now) {
				p.push(c.conn, wire.GatewayCandidates{Gateway: g.ID, Candidates: m.Candidates, Invalidate: m.Invalidate})
			}
		}
	case wire.NoRelays:
		p.offerRelays(&g.peer)
	}
}

// once returns list without repetitions: a short message of one peer must not
// become thousands for another.
func once[T comparable](list []T) []T {
	seen := make(map[T]bool, len(list))
	return slices.DeleteFunc(slices.Clone(list), func(x T) bool {
		again := seen[x]
		seen[x] = true
		return again
	})
}

// Advance does what is due. Early calls are harmless.
func (p *Portal) Advance(now time.Time) {
	p.expireRequests(now)
	p.expirePatients(now)
	if due(p.presence, now) {
		p.presence = time.Time{}
		p.tellPresence()
	}
	tick := due(p.evaluation, now)
	if tick || due(p.expiry, now) {
		p.expireTokens(now)
	}
	if tick {
		p.evaluation = now.Add(evaluationTime)
		p.expireAuthorizations(now)
		p.evaluate(now)
	}
}

// evaluate looks at what time alone changes.
func (p *Portal) evaluate(now time.Time) {
	if !p.rules.timed {
		return
	}
	for _, c := range p.clients.all() {
		p.refresh(c, nil, now)
	}
}

func due(at, now time.Time) bool { return !at.IsZero() && !now.Before(at) }

// Next returns when Advance is due.
func (p *Portal) Next() time.Time {
	next := p.evaluation
	deadlines := []time.Time{p.presence, p.expiry, p.nextPatient()}
	if len(p.asked) > 0 {
		deadlines = append(deadlines, p.asked[0].due)
	}
	for _, at := range deadlines {
		if !at.IsZero() && at.Before(next) {
			next = at
		}
	}
	return next
}

// Drain moves out what the shell shall do, in order.
func (p *Portal) Drain() []Action {
	out := p.out
	p.out = nil
	return out
}

func (p *Portal) emit(a Action) { p.out = append(p.out, a) }

func (p *Portal) push(to Conn, m wire.Message) { p.emit(Push{to, m}) }

// random16 is what IDs and references are made of.
func (p *Portal) random16() (b [16]byte) {
	if _, err := io.ReadFull(p.random, b[:]); err != nil {
		panic(err) // a source of randomness that fails leaves nothing safe to do
	}
	return b
}
