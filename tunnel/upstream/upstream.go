// Package upstream speaks DNS to real resolvers: it looks names up for the
// portal channel and for a gateway's resources, and passes single queries on
// for the client's stub. Its sockets bypass the tunnel.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	// ExchangeTimeout bounds one forwarded query (spec client-dns.md 9.2).
	ExchangeTimeout = 5 * time.Second
	// stagger is how long one resolver may think before the next is asked too.
	stagger = 800 * time.Millisecond
	// udpSize is the largest answer taken over UDP, and the EDNS size offered.
	udpSize = 4096
	// maxAddrs bounds the addresses taken from one answer.
	maxAddrs = 256
)

// ErrNoServers means that the system names no resolver: say so to the user,
// nothing can be looked up until it does.
var ErrNoServers = errors.New("the system names no DNS resolver")

// A Resolver asks the resolvers that Servers names. It has no state and may be
// used by many goroutines.
type Resolver struct {
	// Servers returns the resolvers to ask, best first. It is called for each
	// look-up, so that a change of network is noticed.
	Servers func() ([]netip.AddrPort, error)
	// Hosts is the path of the hosts file, which wins over DNS; "" for none.
	Hosts string
	// Dialer opens the sockets; its Control sets the mark that bypasses the
	// tunnel (platform/sock). The zero value opens plain ones.
	Dialer net.Dialer
}

// A LookupResult holds each family's own outcome: addresses, or none with a
// nil error (the name has no such data), or an error (not known). The TTLs say
// how long the first two may be kept; zero: nobody said.
type LookupResult struct {
	V4, V6     []netip.Addr
	Err4, Err6 error
	TTL4, TTL6 time.Duration
}

// Addrs returns all addresses, IPv4 first, and an error only if there are
// none.
func (r LookupResult) Addrs() ([]netip.Addr, error) {
	all := slices.Concat(r.V4, r.V6)
	if len(all) > 0 {
		return all, nil
	}
	switch {
	case r.Err4 == nil && r.Err6 == nil:
		return nil, errors.New("the name has no addresses")
	case r.Err4 == nil, r.Err4 == r.Err6:
		return nil, r.Err6
	}
	return nil, and(r.Err4, r.Err6)
}

// and keeps two errors on one line. Either may be nil.
func and(a, b error) error {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return fmt.Errorf("%w; %w", a, b)
}

// Lookup resolves A and AAAA of name in parallel. An IP literal answers
// itself; the hosts file, if it knows the name, answers for both families. ctx
// bounds the whole look-up.
func (r *Resolver) Lookup(ctx context.Context, name string) LookupResult {
	if a, err := netip.ParseAddr(name); err == nil {
		return split([]netip.Addr{a})
	}
	name = strings.TrimSuffix(name, ".")
	if addrs := r.hosts(name); len(addrs) > 0 {
		return split(addrs)
	}
	if strings.EqualFold(name, "localhost") {
		return split([]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()})
	}
	servers, err := r.Servers()
	if err == nil && len(servers) == 0 {
		err = ErrNoServers
	}
	if err != nil {
		return LookupResult{Err4: err, Err6: err}
	}

	var out LookupResult
	done := make(chan struct{})
	go func() {
		defer close(done)
		out.V6, out.TTL6, out.Err6 = r.ask(ctx, servers, name, dns.TypeAAAA)
	}()
	out.V4, out.TTL4, out.Err4 = r.ask(ctx, servers, name, dns.TypeA)
	<-done
	return out
}

// Host is Lookup for a dialer: any address will do.
func (r *Resolver) Host(ctx context.Context, name string) ([]netip.Addr, error) {
	return r.Lookup(ctx, name).Addrs()
}

// ask queries the servers one after the other without waiting for the slow
// ones, and takes the first answer that decides.
func (r *Resolver) ask(ctx context.Context, servers []netip.AddrPort, name string, qtype uint16) ([]netip.Addr, time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	type outcome struct {
		addrs []netip.Addr
		ttl   time.Duration
		err   error
	}
	results := make(chan outcome, len(servers))
	running, next := 0, 0
	start := func() {
		server := servers[next]
		next++
		running++
		go func() {
			addrs, ttl, err := r.query(ctx, server, name, qtype)
			results <- outcome{addrs, ttl, err}
		}()
	}
	defer func() { // whoever starts a goroutine waits for it
		cancel()
		for ; running > 0; running-- {
			<-results
		}
	}()

	var failed error
	tick := time.NewTicker(stagger)
	defer tick.Stop()
	start()
	for {
		select {
		case o := <-results:
			running--
			if o.err == nil {
				return o.addrs, o.ttl, nil
			}
			failed = and(failed, o.err)
			if next < len(servers) {
				start()
			} else if running == 0 {
				return nil, 0, failed
			}
		case <-tick.C:
			if next < len(servers) {
				start()
			}
		}
	}
}

// query asks one server, over UDP and, if the answer is cut, over TCP.
func (r *Resolver) query(ctx context.Context, server netip.AddrPort, name string, qtype uint16) ([]netip.Addr, time.Duration, error) {
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), qtype)
	q.SetEdns0(udpSize, false)
	wrap := func(err error) error {
		return fmt.Errorf("ask %v for %s %s: %w", server, dns.TypeToString[qtype], name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, ExchangeTimeout)
	defer cancel()

	packed, err := q.Pack()
	if err != nil {
		return nil, 0, wrap(err)
	}
	reply, err := r.udp(ctx, server, packed)
	if err != nil {
		return nil, 0, wrap(err)
	}
	answer := new(dns.Msg)
	if err := answer.Unpack(reply); err != nil && !answer.Truncated {
		return nil, 0, wrap(err)
	}
	if answer.Truncated {
		if answer, err = r.tcp(ctx, server, q); err != nil {
			return nil, 0, wrap(err)
		}
	}
	switch answer.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError:
		addrs, ttl := collect(answer, q.Question[0])
		return addrs, ttl, nil
	}
	return nil, 0, wrap(errors.New(dns.RcodeToString[answer.Rcode]))
}

// Exchange sends one query and returns the reply, both as they are on the
// wire. The reply has the query's ID and question; anything else that arrives
// is ignored. The error is os.ErrDeadlineExceeded if nothing came in
// [ExchangeTimeout]. query is borrowed, the reply is the caller's.
func (r *Resolver) Exchange(ctx context.Context, server netip.AddrPort, query []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, ExchangeTimeout)
	defer cancel()
	return r.udp(ctx, server, query)
}

func (r *Resolver) udp(ctx context.Context, server netip.AddrPort, query []byte) ([]byte, error) {
	conn, err := r.dial(ctx, "udp", server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	buf := make([]byte, udpSize)
	for {
		n, err := conn.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if cause := ctx.Err(); cause != nil && !errors.Is(cause, context.DeadlineExceeded) {
				return nil, cause
			}
			return nil, os.ErrDeadlineExceeded
		}
		if err != nil {
			return nil, err
		}
		if answers(query, buf[:n]) {
			return slices.Clone(buf[:n]), nil
		}
	}
}

func (r *Resolver) tcp(ctx context.Context, server netip.AddrPort, q *dns.Msg) (*dns.Msg, error) {
	conn, err := r.dial(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	c := &dns.Conn{Conn: conn}
	if err := c.WriteMsg(q); err != nil {
		return nil, err
	}
	answer, err := c.ReadMsg()
	if err != nil {
		return nil, err
	}
	if answer.Id != q.Id || len(answer.Question) != 1 || !sameQuestion(answer.Question[0], q.Question[0]) {
		return nil, errors.New("the answer belongs to another question")
	}
	return answer, nil
}

func (r *Resolver) dial(ctx context.Context, network string, server netip.AddrPort) (net.Conn, error) {
	return r.Dialer.DialContext(ctx, network, server.String())
}

// answers reports whether reply is a response with the ID and question of
// query. Both are raw messages; a question is compared byte for byte but for
// the case of letters.
func answers(query, reply []byte) bool {
	if len(query) < 12 || len(reply) < 12 || reply[2]&0x80 == 0 || query[0] != reply[0] || query[1] != reply[1] {
		return false
	}
	q, ok := question(query)
	if !ok {
		return true // a query without exactly one question: only the ID can tell
	}
	a, ok := question(reply)
	if !ok { // a server that cannot parse may leave the question out
		return reply[3]&0x0f != dns.RcodeSuccess
	}
	return strings.EqualFold(string(q), string(a))
}

// question returns the raw question of a message that has exactly one.
func question(m []byte) ([]byte, bool) {
	if m[4] != 0 || m[5] != 1 {
		return nil, false
	}
	for i := 12; i < len(m); i += int(m[i]) + 1 {
		switch {
		case m[i] == 0:
			if i+5 > len(m) {
				return nil, false
			}
			return m[12 : i+5], true
		case m[i] > 63:
			return nil, false
		}
	}
	return nil, false
}

// collect returns the addresses that answer q, following aliases inside the
// answer, and how long that holds: until the first record on the way is over.
// Of an answer without addresses, the zone's SOA says it (RFC 2308 §5). Loops
// end because there are no more hops than records.
func collect(m *dns.Msg, q dns.Question) (addrs []netip.Addr, ttl time.Duration) {
	owner, lifetime := q.Name, lifetime{}
	for hop := 0; hop <= len(m.Answer); hop++ {
		alias, aliasTTL := "", uint32(0)
		for _, rr := range m.Answer {
			if !strings.EqualFold(rr.Header().Name, owner) || rr.Header().Class != dns.ClassINET {
				continue
			}
			var ip net.IP
			switch rr := rr.(type) {
			case *dns.A:
				ip = rr.A
			case *dns.AAAA:
				ip = rr.AAAA
			case *dns.CNAME:
				alias, aliasTTL = rr.Target, rr.Hdr.Ttl
			}
			if rr.Header().Rrtype != q.Qtype {
				continue
			}
			if a, ok := netip.AddrFromSlice(ip); ok && len(addrs) < maxAddrs {
				a = a.Unmap()
				if a.Is4() == (q.Qtype == dns.TypeA) && !slices.Contains(addrs, a) {
					addrs = append(addrs, a)
					lifetime.limit(rr.Header().Ttl)
				}
			}
		}
		if len(addrs) > 0 {
			return addrs, lifetime.of()
		}
		if alias == "" {
			break
		}
		owner = alias
		lifetime.limit(aliasTTL)
	}
	return nil, lifetime.withoutData(m.Ns)
}

// A lifetime is the least of several TTLs.
type lifetime struct {
	seconds uint32
	known   bool
}

// limit takes one into account. A number with the highest bit set is a mistake
// and means zero (RFC 2181 §8).
func (l *lifetime) limit(ttl uint32) {
	if ttl >= 1<<31 {
		ttl = 0
	}
	if !l.known || ttl < l.seconds {
		*l = lifetime{ttl, true}
	}
}

func (l *lifetime) of() time.Duration { return time.Duration(l.seconds) * time.Second }

// withoutData is how long it holds that there is no data, if authority has the
// SOA that says so; otherwise nobody said.
func (l *lifetime) withoutData(authority []dns.RR) time.Duration {
	for _, rr := range authority {
		if soa, ok := rr.(*dns.SOA); ok {
			l.limit(soa.Hdr.Ttl)
			l.limit(soa.Minttl)
			return l.of()
		}
	}
	return 0
}

func sameQuestion(a, b dns.Question) bool {
	return a.Qtype == b.Qtype && a.Qclass == b.Qclass && strings.EqualFold(a.Name, b.Name)
}

func split(addrs []netip.Addr) LookupResult {
	var r LookupResult
	for _, a := range addrs {
		if a = a.Unmap(); a.Is4() {
			r.V4 = append(r.V4, a)
		} else {
			r.V6 = append(r.V6, a)
		}
	}
	return r
}
