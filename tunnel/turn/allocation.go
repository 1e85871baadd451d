// Package turn keeps our allocation on one relay: addresses over there under
// which peers reach us when nothing else works, and from where we learn how we
// look from outside (RFC 8656 as connectivity.md 4 restricts it).
package turn

import (
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/pion/stun/v3"
)

const (
	keepalive      = 25 * time.Second // between BINDINGs that keep NAT mappings
	firstRetry     = time.Second      // each further interval is 1.5 times longer
	giveUp         = 8 * time.Second  // a retry due later than this is a failure
	staleRetries   = 3                // immediate ones, after that the timer decides
	maxQueuedBinds = 100
)

// Config of an allocation: one relay as the portal describes it.
type Config struct {
	V4, V6             netip.AddrPort // of the relay; either may be invalid
	Username, Password string
	Rand               io.Reader // transaction IDs; must not fail
}

// A Send is a message for the relay. The operating system chooses the source.
// Payload is owned by the receiver.
type Send struct {
	To      netip.AddrPort
	Payload []byte
}

// An Event is something learnt: one of Mapped, Allocated, Lost, Late.
type Event interface{ event() }

type (
	// Mapped: we send to the relay from Host, and it sees Addr. Raised again
	// only when one of them changes.
	Mapped struct{ Host, Addr netip.AddrPort }
	// Allocated: we are reachable at Addr on the relay. CrossFamily tells that
	// we speak another family to the relay.
	Allocated struct {
		Addr        netip.AddrPort
		CrossFamily bool
	}
	// Lost: an allocated address is not ours any more.
	Lost struct{ Addr netip.AddrPort }
	// Late: the relay carries data between us and Peer only from here on. What
	// was sent since Bind is lost; normally nothing is, because the relay
	// reads the CHANNEL-BIND before the data behind it.
	Late struct{ Peer netip.AddrPort }
)

func (Mapped) event()    {}
func (Allocated) event() {}
func (Lost) event()      {}
func (Late) event()      {}

// An Allocation is our side of one relay. It is over once Gone reports true.
type Allocation struct {
	config Config
	creds  credentials
	nonce  string
	gone   bool

	servers  [2]server      // IPv4, IPv6
	active   netip.AddrPort // the address of the relay that we use; zero: none answered
	answered bool
	rtt      time.Duration // smoothed; 0: unknown
	requests []*request

	relayed [2]netip.AddrPort // IPv4, IPv6; valid while allocated
	refresh time.Time         // when to refresh the allocation
	expires time.Time

	channels map[uint16]*channel
	byPeer   map[netip.AddrPort]*channel
	order    []*channel // of creation
	number   uint16     // of the next channel
	queue    []netip.AddrPort

	due    time.Time
	out    []Send
	events []Event
}

// A server is one address of the relay.
type server struct {
	addr         netip.AddrPort
	host, mapped netip.AddrPort
	ping         time.Time // when to send a BINDING to keep the mapping
}

// A request waits for its response.
type request struct {
	method   method
	id       transactionID
	to       netip.AddrPort
	channel  *channel // of a CHANNEL-BIND
	hadNonce bool
	patience time.Duration // a retry due later than this after the first attempt is a failure

	first, sent, due time.Time
	interval         time.Duration
	stale            int
}

// New begins an allocation: it asks the relay at both addresses who we are.
func New(c Config, now time.Time) *Allocation {
	a := &Allocation{
		config:   c,
		creds:    credentials{c.Username, stun.NewLongTermIntegrity(c.Username, realm, c.Password)},
		channels: make(map[uint16]*channel),
		byPeer:   make(map[netip.AddrPort]*channel),
		number:   MinChannel,
	}
	for i, addr := range []netip.AddrPort{c.V4, c.V6} {
		if addr.IsValid() {
			a.servers[i].addr = addr
			a.start(&request{method: binding, to: addr}, now)
		}
	}
	a.gone = len(a.requests) == 0
	return a
}

// Config returns what the allocation was made from.
func (a *Allocation) Config() Config { return a.config }

// Serves reports whether addr is the relay's own.
func (a *Allocation) Serves(addr netip.AddrPort) bool {
	return addr.IsValid() && (addr == a.servers[0].addr || addr == a.servers[1].addr)
}

// Gone reports whether the relay is of no use any more: it does not answer or
// refuses our credentials.
func (a *Allocation) Gone() bool {
	return a.gone || !a.active.IsValid() && len(a.requests) == 0
}

// Answered reports whether the relay has answered anything.
func (a *Allocation) Answered() bool { return a.answered }

// RTT returns the smoothed round-trip time; 0: unknown.
func (a *Allocation) RTT() time.Duration { return a.rtt }

// Active returns the relay's address that ChannelData goes to; the zero value
// while the relay has not answered.
func (a *Allocation) Active() netip.AddrPort { return a.active }

// Known returns what Mapped and Allocated events told so far and is still
// true.
func (a *Allocation) Known() []Event {
	var known []Event
	for _, s := range a.servers {
		if s.mapped.IsValid() {
			known = append(known, Mapped{s.host, s.mapped})
		}
	}
	for _, addr := range a.relayed {
		if addr.IsValid() {
			known = append(known, a.allocated(addr))
		}
	}
	return known
}

func (a *Allocation) allocated(addr netip.AddrPort) Allocated {
	return Allocated{addr, addr.Addr().Is4() != a.active.Addr().Is4()}
}

// Relays reports whether addr is one of the allocated addresses.
func (a *Allocation) Relays(addr netip.AddrPort) bool {
	return addr.IsValid() && (addr == a.relayed[0] || addr == a.relayed[1])
}

// Relayed returns the allocated address of the family of peer, if any.
func (a *Allocation) Relayed(peer netip.Addr) netip.AddrPort {
	if peer.Is4() {
		return a.relayed[0]
	}
	return a.relayed[1]
}

// Probe tests whether the relay still knows our allocation. One attempt, as
// when the relay list changed without mentioning it (connectivity.md 7.3), or
// two when hasty conclusions would cost more.
func (a *Allocation) Probe(attempts int, now time.Time) {
	if a.active.IsValid() && !a.pending(refresh, a.active) {
		patience := time.Duration(attempts-1) * firstRetry * 3 / 2
		a.begin(&request{method: refresh, to: a.active, patience: patience}, now)
	}
}

// Next returns when Advance is due; the zero time means never.
func (a *Allocation) Next() time.Time { return a.due }

// Drain appends what is to be sent, in order.
func (a *Allocation) Drain(dst []Send) []Send {
	dst = append(dst, a.out...)
	clear(a.out)
	a.out = a.out[:0]
	return dst
}

// Events appends what was learnt, in order.
func (a *Allocation) Events(dst []Event) []Event {
	dst = append(dst, a.events...)
	clear(a.events)
	a.events = a.events[:0]
	return dst
}

// Advance repeats requests, refreshes what runs out and gives up what is
// dead. Early calls are harmless.
func (a *Allocation) Advance(now time.Time) {
	if a.due.IsZero() || now.Before(a.due) {
		return
	}
	for _, r := range slices.Clone(a.requests) {
		if !r.due.After(now) {
			a.retry(r, now)
		}
	}
	if !a.expires.IsZero() && !now.Before(a.expires) {
		a.invalidate() // the machine slept
		a.allocate(now)
	}
	if !a.refresh.IsZero() && !now.Before(a.refresh) {
		a.refresh = time.Time{}
		a.start(&request{method: refresh, to: a.active}, now)
	}
	a.advanceChannels(now)
	a.ping(now)
	a.reckon()
}

// ping keeps the NAT mappings towards the relay, and notices when they
// change, as long as there is an allocation.
func (a *Allocation) ping(now time.Time) {
	for i := range a.servers {
		s := &a.servers[i]
		if a.isAllocated() && !s.ping.IsZero() && !now.Before(s.ping) {
			s.ping = time.Time{}
			a.start(&request{method: binding, to: s.addr}, now)
		}
	}
}

func (a *Allocation) isAllocated() bool { return !a.expires.IsZero() }

// start sends a new request.
func (a *Allocation) start(r *request, now time.Time) {
	r.patience = giveUp
	a.begin(r, now)
}

func (a *Allocation) begin(r *request, now time.Time) {
	if a.gone {
		return
	}
	r.first, r.interval = now, firstRetry
	a.requests = append(a.requests, r)
	a.transmit(r, now)
}

// transmit sends a request, again or for the first time. BINDINGs keep their
// transaction ID, all others get a new one.
func (a *Allocation) transmit(r *request, now time.Time) {
	if r.method != binding || r.sent.IsZero() {
		if _, err := io.ReadFull(a.config.Rand, r.id[:]); err != nil {
			panic("no randomness: " + err.Error())
		}
	}
	r.hadNonce, r.sent = a.nonce != "", now
	r.due = now.Add(r.interval)
	a.out = append(a.out, Send{r.to, r.encode(a.creds, a.nonce)})
	a.wake(r.due)
}

// retry repeats a request that is due, or gives it up.
func (a *Allocation) retry(r *request, now time.Time) {
	if now.Sub(r.first) < r.patience {
		r.interval = r.interval * 3 / 2
		if r.channel != nil {
			r.channel.late = !r.channel.bound
		}
		a.transmit(r, now)
		return
	}
	a.finish(r)
	if r.channel != nil {
		a.forget(r.channel)
	}
	if r.to != a.active {
		return
	}
	a.active = netip.AddrPort{}
	a.invalidate()
	for _, s := range a.servers { // the other family may still work
		if s.mapped.IsValid() && s.addr != r.to && !a.pending(binding, s.addr) {
			a.start(&request{method: binding, to: s.addr}, now)
		}
	}
}

func (a *Allocation) pending(m method, to netip.AddrPort) bool {
	return slices.ContainsFunc(a.requests, func(r *request) bool { return r.method == m && r.to == to })
}

func (a *Allocation) allocate(now time.Time) {
	if a.active.IsValid() && !a.pending(allocate, a.active) {
		a.start(&request{method: allocate, to: a.active}, now)
	}
}

// finish forgets a request.
func (a *Allocation) finish(r *request) {
	a.requests = slices.DeleteFunc(a.requests, func(q *request) bool { return q == r })
}

// invalidate ends the allocation on our side.
func (a *Allocation) invalidate() {
	for _, addr := range a.relayed {
		if addr.IsValid() {
			a.events = append(a.events, Lost{addr})
		}
	}
	a.relayed = [2]netip.AddrPort{}
	a.refresh, a.expires = time.Time{}, time.Time{}
	clear(a.channels)
	clear(a.byPeer)
	a.order = nil
	// Whatever asked for an allocation that is no more.
	a.requests = slices.DeleteFunc(a.requests, func(r *request) bool { return r.method != binding })
}

// wake makes sure that Advance is called at t.
func (a *Allocation) wake(t time.Time) {
	if !t.IsZero() && (a.due.IsZero() || t.Before(a.due)) {
		a.due = t
	}
}

// reckon finds when Advance is due.
func (a *Allocation) reckon() {
	a.due = time.Time{}
	for _, r := range a.requests {
		a.wake(r.due)
	}
	a.wake(a.refresh)
	a.wake(a.expires)
	if a.isAllocated() {
		a.wake(a.servers[0].ping)
		a.wake(a.servers[1].ping)
	}
	for _, c := range a.order {
		a.wake(c.due())
	}
}
