// Package nat is the session table of a gateway: it swaps the proxy addresses
// that clients see for the real addresses of DNS resources, and back, and it
// lets replies in only where a client asked.
//
// The heart: before the mapping of a proxy address is replaced, look whether a
// session uses it. A session stays pinned to its real address for as long as
// it lives, whatever DNS says; and while a client sent a packet on one within
// the last minute, new sessions go to the same address, and the new answer
// waits ([Table.Answer], binding.settle).
//
// There is one [Table] per client, for all that the client sends: traffic that
// needs no translation has sessions, too, so that its ports never collide with
// translated ones and nothing comes in unasked. Inside is the client's end,
// outside the resource's. Rule numbers (N1…) are those of spec gateway-nat.md 7.
//
// A Table opens nothing and knows no policy: its caller decides who may pass,
// packet by packet, before it tells the Table.
package nat

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"stile/tunnel/packet"
	"stile/tunnel/policy"
)

// Times of spec gateway-nat.md 7.1.
const (
	holdFor     = 60 * time.Second // a client packet keeps its mapping for new sessions that long
	unconfirmed = 60 * time.Second
	tcpOpening  = 4 * time.Minute // also of closed sessions
	tcpHalf     = 2*time.Hour + 4*time.Minute
	tcpOpen     = 24 * time.Hour
	udpLife     = 5 * time.Minute
	icmpLife    = 2 * time.Minute
	otherLife   = 10 * time.Minute

	bindingGC  = 10 * time.Minute // a proxy address without resource and session
	staleAfter = 24 * time.Hour   // an answer that could not be confirmed since
)

// Bounds of one Table.
const (
	maxSessions  = 16384
	maxProxies   = 4096 * 8 // 4096 names
	maxResources = 16       // on one proxy address; the oldest goes
)

// Config of a Table. Rand is required; zero limits stand for the defaults.
type Config struct {
	Rand        *rand.Rand // source of outside ports; shared and not guarded
	MaxSessions int
	// New sessions per second, and how many may come at once (N49).
	NewPerSecond, Burst int
	// Flows collects starts and ends for Events.
	Flows bool
	// Spread, if it is not zero, lets the proxies of each name begin at an address
	// that depends on it, not at the lowest (O1). It should differ between clients
	// and be the same whenever one returns.
	Spread uint64
	// Usable tells which addresses a name may point at (N19); nil stands for
	// policy.IsUsable. Answers are expected to have no others; what Restore reads
	// is checked.
	Usable func(netip.Addr) bool
	// Answered, if it is not nil, hears how long the first answer took of each
	// session that a client began.
	Answered func(took time.Duration)
	// Memory gives room for many sessions; nil stands for the heap.
	Memory Memory
	// Literal holds as in April 2025: failures are no evidence (N6), and closed
	// sessions hold for a minute like others (N7).
	Literal bool
}

// A Table translates the packets of one client. All methods take the current
// time, which must not go backwards.
type Table struct {
	// What each packet needs, side by side.
	now             time.Time // the latest that was told
	nowAt           instant   // the same
	awaited         []ref     // those that will fail if nobody answers (failing)
	hasher          hasher
	inside, outside index
	rows            rows
	bound           []*binding       // by slot
	host            [2]packet.Addr16 // the gateway's own tunnel addresses
	took            func(time.Duration)
	literal         bool
	flows           bool

	evictable   [numClasses]list // sessions that may make room for others (N47), latest base first
	wheel       *wheel           // the others; nil if there was none since the table was empty
	opening     list             // sessions that shake hands, latest client packet first
	bindings    map[netip.Addr]*binding
	unbound     []slot    // free ones of bound
	past        past      // sessions that have ended
	start       time.Time // instants count from here
	collectAt   instant   // when to look for bindings nobody needs
	woken       []string  // names that came into use since Woken
	events      []Event
	lostEvents  uint64
	maxSessions int
	rng         *rand.Rand
	pace        pace
	spread      uint64
	usable      func(netip.Addr) bool
	memory      Memory
}

// A Memory gives room for the sessions of the tables that share it; it is not
// guarded. Get returns size bytes of zeros, aligned to 8 bytes, and to 64 from 4 KiB
// on. Put takes back all of what Get returned, which nobody uses any more.
type Memory interface {
	Get(size int) []byte
	Put([]byte)
}

type ordinary struct{}

func (ordinary) Get(size int) []byte { return make([]byte, size) }
func (ordinary) Put([]byte)          {}

// An instant is a time since the Table was made.
type instant time.Duration

// New returns an empty Table.
func New(c Config, now time.Time) *Table {
	if c.MaxSessions == 0 {
		c.MaxSessions = maxSessions
	}
	if c.Usable == nil {
		c.Usable = policy.IsUsable
	}
	if c.Memory == nil {
		c.Memory = ordinary{}
	}
	return &Table{
		rng:         c.Rand,
		maxSessions: c.MaxSessions,
		literal:     c.Literal,
		flows:       c.Flows,
		spread:      c.Spread,
		usable:      c.Usable,
		took:        c.Answered,
		memory:      c.Memory,
		pace:        newPace(c.NewPerSecond, c.Burst),
		start:       now,
		hasher:      hasher{c.Rand.Uint64(), c.Rand.Uint64()},
		opening:     list{by: byOpening},
		bindings:    make(map[netip.Addr]*binding),
	}
}

// SetHost tells the gateway's own tunnel addresses. With them, the far port is
// part of a UDP session, too: a client that may use one service of the host,
// or answer one, must not reach others (N45).
func (t *Table) SetHost(v4, v6 netip.Addr) {
	t.host = [2]packet.Addr16{}
	for i, a := range []netip.Addr{v4, v6} {
		if a.IsValid() {
			t.host[i] = packet.Addr16Of(a)
		}
	}
}

func (t *Table) isHost(a packet.Addr16) bool { return a == t.host[0] || a == t.host[1] }

// at is asked for the same time again and again while a batch is worked on.
func (t *Table) at(now time.Time) instant {
	if now != t.now {
		t.now, t.nowAt = now, instant(now.Sub(t.start))
	}
	return t.nowAt
}

// Len returns the number of rows, among them some whose time is over.
func (t *Table) Len() int { return t.inside.n }

// A Verdict says what became of a packet.
type Verdict uint8

const (
	Forward    Verdict = iota // rewritten in place; it may go on
	NoSession                 // a packet that only an existing session could take
	BadFlags                  // TCP flags that no session starts with, or no stack sends
	NoBinding                 // to a proxy address that nobody announced
	Unresolved                // to a proxy address whose name has no address
	NoFamily                  // to a proxy address whose name has addresses of the other family only
	Exhausted                 // no port is left for another session
	NotAllowed                // a protocol that cannot be translated
	Full                      // no room for another session (N47)
	TooFast                   // too many new sessions (N49)
)
