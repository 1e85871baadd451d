// Package resolver decides about DNS queries to our sentinels: which it
// answers itself, and whom to ask about the others.
//
// It owns three tables: upstreams, each with the sentinel that stands for it
// (mapping.go); patterns of DNS resources (links.go); names and their proxy
// addresses (names.go). It opens no socket: a query to be forwarded leaves as
// an [Ask], whose answer comes back through [Resolver.Answered].
//
// Sections are those of spec client-dns.md.
package resolver

import (
	"encoding/binary"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/policy"
)

const (
	// maxInFlight is how many forwarded queries may wait for an answer; more
	// are dropped, applications ask again (9.2).
	maxInFlight = 1000
	// canary is the name by which Firefox asks whether to turn on its own
	// encrypted DNS, past us. NXDOMAIN means no (6).
	canary = "use-application-dns.net"
)

// Config is what a Resolver is made from.
type Config struct {
	// Names are remembered from earlier: the same names get the same
	// addresses. Invalid ones are skipped.
	Names []core.ProxyName
	// Rand gives query IDs; reading from it must not fail.
	Rand io.Reader
	// Tunnelled reports whether a plain DNS server that the portal named has
	// to be asked through the tunnel (9.1). It is called by Query.
	Tunnelled func(server netip.Addr, now time.Time) bool
}

// A Resolver answers queries. See the package comment.
type Resolver struct {
	rand      io.Reader
	tunnelled func(netip.Addr, time.Time) bool

	mapping
	links
	names

	lastAsk  uint64
	inFlight map[uint64]question
	counts   [numCounters]uint64
}

// A question is a forwarded query whose answer is awaited. It is keyed by a
// number of our own: two applications may use one query ID at the same time.
type question struct {
	app, sentinel netip.AddrPort
	query         []byte // as the application sent it
	limit         int    // bytes of UDP payload the application can take
}

// An Ask is a query to be sent to a server outside the tunnel.
type Ask struct {
	ID     uint64 // never 0
	Server netip.AddrPort
	Query  []byte // owned by the receiver
}

// A Decision is what becomes of one query. All of it may be zero: the query
// was dropped.
type Decision struct {
	Reply []byte // the answer for the application, owned by the receiver; nil: none yet
	Ask   *Ask   // a server to be asked; nil: none
	// Name is set if an application asked for its addresses: packets to them
	// will follow.
	Name *Name
}

// A Reply is the late answer to a forwarded query: UDP from Sentinel to App.
type Reply struct {
	Sentinel, App netip.AddrPort
	Message       []byte // owned by the receiver
}

// New returns a Resolver without upstreams and resources.
func New(c Config) *Resolver {
	r := &Resolver{rand: c.Rand, tunnelled: c.Tunnelled, inFlight: make(map[uint64]question)}
	r.links.init()
	r.names.init(c.Names, &r.counts[seedsSkipped])
	return r
}

// Query decides about the UDP payload that app sent to port 53 of sentinel.
// payload is borrowed. The order of checks is that of 4.2, 5 and 6.
func (r *Resolver) Query(app, sentinel netip.AddrPort, payload []byte, now time.Time) Decision {
	up, ok := r.upstreamOf(sentinel.Addr())
	if !ok {
		return r.drop(unassigned)
	}
	if len(payload) < headerLen || payload[2]&flagQR != 0 {
		return r.drop(notAQuery)
	}
	if opcode := int(payload[2] >> 3 & 0xf); opcode != dns.OpcodeQuery {
		r.counts[notImplemented]++
		return Decision{Reply: bare(payload, dns.RcodeNotImplemented)}
	}
	var q dns.Msg
	if questionEnd(payload) == 0 || q.Unpack(payload) != nil || len(q.Question) != 1 || binary.BigEndian.Uint16(payload[4:]) != 1 {
		r.counts[malformed]++
		return Decision{Reply: bare(payload, dns.RcodeFormatError)}
	}
	if d, ours := r.local(&q); ours {
		return d
	}
	return r.forward(up, question{app: app, sentinel: sentinel, query: append([]byte(nil), payload...), limit: limitOf(&q)}, now)
}

// local answers what needs no upstream: section 6, row by row.
func (r *Resolver) local(q *dns.Msg) (d Decision, ours bool) {
	asked := q.Question[0]
	if asked.Qclass != dns.ClassINET {
		return d, false
	}
	name, odd := fold(asked.Name)
	if name == canary {
		return r.answer(q, canaries, dns.RcodeNameError), true
	}
	if asked.Qtype == dns.TypePTR {
		return r.reverse(q, name)
	}
	if !r.covered(name) {
		return d, false
	}
	if odd { // bytes no resource name can have, under a private suffix
		return r.answer(q, oddNames, dns.RcodeNameError), true
	}
	switch asked.Qtype {
	case dns.TypeA, dns.TypeAAAA, dns.TypeANY:
		return r.addresses(q, name), true
	case dns.TypeHTTPS, dns.TypeSVCB:
		// Their hints would show real addresses and lead around the tunnel.
		return r.answer(q, answered, dns.RcodeSuccess), true
	case dns.TypeSRV, dns.TypeTXT:
		// Only the gateway may be asked; without a way there, nobody is.
		return r.answer(q, needTunnel, dns.RcodeServerFailure), true
	}
	return d, false
}

// addresses answers A, AAAA and ANY for a name that a resource covers.
func (r *Resolver) addresses(q *dns.Msg, name string) Decision {
	n := r.names.get(name)
	if n == nil {
		return r.answer(q, exhausted, dns.RcodeServerFailure)
	}
	r.names.touch(n)
	var list []netip.Addr
	v4, v6 := r.links.families(n)
	if any4, any6 := v4 && !n.lacks4, v6 && !n.lacks6; any4 || any6 {
		v4, v6 = any4, any6 // of a name without any address, the gateway tells the application
	}
	if qtype := q.Question[0].Qtype; v4 && qtype != dns.TypeAAAA {
		list = append(list, n.V4[:]...)
	}
	if qtype := q.Question[0].Qtype; v6 && qtype != dns.TypeA {
		list = append(list, n.V6[:]...)
	}
	d := r.answer(q, answered, dns.RcodeSuccess, addressRecords(q.Question[0].Name, list)...)
	d.Name = n
	return d
}

// reverse answers PTR. Unassigned proxy addresses are asked about like any
// other; those that only this tunnel uses are nobody else's business.
func (r *Resolver) reverse(q *dns.Msg, name string) (Decision, bool) {
	a, ok := parseReverse(name)
	if !ok {
		return Decision{}, false
	}
	if n := r.names.byAddr[a]; n != nil {
		return r.answer(q, answered, dns.RcodeSuccess, pointerRecord(q.Question[0].Name, n.FQDN)), true
	}
	if policy.IsPeer(a) || policy.IsSentinel(a) {
		return r.answer(q, answered, dns.RcodeNameError), true
	}
	return Decision{}, false
}

// forward hands the query to its sentinel's upstream (9.1), byte for byte but
// for the ID: a fresh one makes answers hard to guess.
func (r *Resolver) forward(up upstream, q question, now time.Time) Decision {
	if up.kind == doh || up.kind == do53 && r.tunnelled(up.server.Addr(), now) {
		r.counts[needTunnel]++
		return Decision{Reply: failure(q.query)}
	}
	if len(r.inFlight) >= maxInFlight {
		return r.drop(tooMany)
	}
	r.lastAsk++
	r.inFlight[r.lastAsk] = q
	r.counts[forwarded]++
	ask := &Ask{ID: r.lastAsk, Server: up.server, Query: append([]byte(nil), q.query...)}
	io.ReadFull(r.rand, ask.Query[:2])
	return Decision{Ask: ask}
}

// Answered takes the outcome of an Ask. reply is borrowed. The result is the
// answer for the application; ok is false if there is none: after
// core.ErrTimeout, applications ask again by themselves (7.2).
func (r *Resolver) Answered(ask uint64, reply []byte, err error) (_ Reply, ok bool) {
	q, ok := r.inFlight[ask]
	if !ok {
		return Reply{}, false
	}
	delete(r.inFlight, ask)
	out := Reply{Sentinel: q.sentinel, App: q.app}
	switch {
	case err == core.ErrTimeout:
		r.counts[timeouts]++
		return Reply{}, false
	case err != nil || len(reply) < headerLen || reply[2]&flagQR == 0:
		r.counts[failures]++
		out.Message = failure(q.query)
	default:
		out.Message = relay(reply, q.query, q.limit)
	}
	return out, true
}

// Upsert adds a DNS resource or replaces the one with the same ID. Names keep
// their addresses.
func (r *Resolver) Upsert(res Resource) { r.links.upsert(res) }

// Remove takes a resource away. Its names keep their addresses.
func (r *Resolver) Remove(res id.Resource) { r.links.remove(res) }

// answer builds a reply of our own and counts it.
func (r *Resolver) answer(q *dns.Msg, count counter, rcode int, records ...dns.RR) Decision {
	r.counts[count]++
	return Decision{Reply: synthesize(q, rcode, records)}
}

func (r *Resolver) drop(why counter) Decision {
	r.counts[why]++
	return Decision{}
}

// fold returns a name as resources and the tables spell it: lower case,
// without the root's dot. odd reports bytes that no host name has; each is
// replaced, so that a dot inside a label does not become a separator.
func fold(presented string) (name string, odd bool) {
	if !strings.ContainsRune(presented, '\\') {
		return strings.ToLower(strings.TrimSuffix(presented, ".")), false
	}
	b := make([]byte, 0, len(presented))
	for i := 0; i < len(presented); i++ {
		if presented[i] != '\\' {
			b = append(b, presented[i])
			continue
		}
		b = append(b, '_')
		if i++; i < len(presented) && '0' <= presented[i] && presented[i] <= '9' {
			i += 2 // \DDD
		}
	}
	return strings.ToLower(strings.TrimSuffix(string(b), ".")), true
}
