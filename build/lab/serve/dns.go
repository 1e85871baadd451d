//go:build linux

package serve

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// An Answer is what a DNS server says about one name. The zero Answer is "the
// name exists and has no records".
type Answer struct {
	Addrs  []netip.Addr // A and AAAA records
	Rotate bool         // one address per answer, each time the next
	Others []string     // other records, in zone-file form without the name: "300 IN TXT x"
	Rcode  int          // dns.RcodeServerFailure and so on; no records then
	Delay  time.Duration
	TTL    uint32 // of address records, in seconds; 0: a minute
}

// Fixed is the Answer with these addresses, all of them each time.
func Fixed(addrs ...string) Answer {
	var a Answer
	for _, s := range addrs {
		a.Addrs = append(a.Addrs, netip.MustParseAddr(s))
	}
	return a
}

// usualTTL is that of address records unless the answer says otherwise.
const usualTTL = 60

// A DNS is a server with scripted answers, which may be changed at any time.
type DNS struct {
	// Parent is asked for names that have no answer here. Nil: they do not exist.
	Parent func(ctx context.Context, query *dns.Msg) (*dns.Msg, error)

	mu      sync.Mutex // guards the rest
	answers map[string]Answer
	asked   map[string]int // questions so far: "name TYPE"
	broken  Breakage
}

// NewDNS makes a server that knows no name.
func NewDNS() *DNS {
	return &DNS{answers: map[string]Answer{}, asked: map[string]int{}}
}

// Set scripts the answer for a name, from the next question on.
func (s *DNS) Set(name string, a Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[dns.CanonicalName(name)] = a
}

// Asked returns how often a name was asked for, whatever the type.
func (s *DNS) Asked(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for question, times := range s.asked {
		if strings.HasPrefix(question, dns.CanonicalName(name)+" ") {
			n += times
		}
	}
	return n
}

// AskedType returns how often a name was asked for by questions of one type.
func (s *DNS) AskedType(name string, kind uint16) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[dns.CanonicalName(name)+" "+dns.TypeToString[kind]]
}

// A Breakage is how a server fails to answer.
type Breakage uint8

const (
	Works  Breakage = iota
	Silent          // no question is answered
	Fails           // each question is answered with SERVFAIL
)

// Break breaks the server, or repairs it, from the next question on.
func (s *DNS) Break(b Breakage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = b
}

// Run answers on the two sockets until ctx ends, and closes them.
func (s *DNS) Run(ctx context.Context, packets net.PacketConn, listener net.Listener) error {
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		if r := s.answer(ctx, q); r != nil {
			if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
				r.Truncate(room(q))
			}
			w.WriteMsg(r) // whoever asked has gone, or waits in vain: as on any network
		}
	})
	servers := []*dns.Server{{PacketConn: packets, Handler: handler}, {Listener: listener, Handler: handler}}
	var g sync.WaitGroup
	errs := make([]error, len(servers))
	for i, server := range servers {
		g.Go(func() { errs[i] = server.ActivateAndServe() })
	}
	<-ctx.Done()
	packets.Close()
	listener.Close()
	g.Wait()
	for i := range errs {
		if errors.Is(errs[i], net.ErrClosed) {
			errs[i] = nil
		}
	}
	return errors.Join(errs...)
}

// room is how large an answer over UDP may be.
func room(q *dns.Msg) int {
	if o := q.IsEdns0(); o != nil {
		return max(dns.MinMsgSize, int(o.UDPSize()))
	}
	return dns.MinMsgSize
}

// answer returns the response to a query, nil for none.
func (s *DNS) answer(ctx context.Context, q *dns.Msg) *dns.Msg {
	if len(q.Question) != 1 {
		return new(dns.Msg).SetRcode(q, dns.RcodeFormatError)
	}
	question := q.Question[0]
	a, known, broken := s.next(question)
	switch broken {
	case Silent:
		return nil
	case Fails:
		return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
	}
	if !known && s.Parent != nil {
		r, err := s.Parent(ctx, q)
		if err != nil {
			return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
		}
		return r
	}
	if a.Delay > 0 {
		select {
		case <-time.After(a.Delay):
		case <-ctx.Done():
			return nil
		}
	}
	r := new(dns.Msg).SetReply(q)
	r.Authoritative, r.RecursionAvailable = true, true
	if r.Rcode = a.Rcode; !known {
		r.Rcode = dns.RcodeNameError
	}
	if r.Rcode == dns.RcodeSuccess {
		r.Answer = a.records(question)
	}
	if o := q.IsEdns0(); o != nil {
		r.SetEdns0(1232, false)
	}
	return r
}

// next looks up the answer for a question, counts the question and turns a
// rotating answer.
func (s *DNS) next(q dns.Question) (a Answer, known bool, broken Breakage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := dns.CanonicalName(q.Name)
	turn := s.asked[name+" "+dns.TypeToString[q.Qtype]]
	s.asked[name+" "+dns.TypeToString[q.Qtype]]++
	a, known = s.answers[name]
	if !a.Rotate {
		return a, known, s.broken
	}
	var family []netip.Addr
	for _, addr := range a.Addrs {
		if addr.Is4() == (q.Qtype == dns.TypeA) {
			family = append(family, addr)
		}
	}
	if len(family) > 0 {
		a.Addrs = family[turn%len(family):][:1]
	}
	return a, known, s.broken
}

// records returns the records of the answer that fit the question.
func (a Answer) records(q dns.Question) []dns.RR {
	var rrs []dns.RR
	ttl := cmp.Or(a.TTL, usualTTL)
	header := func(t uint16) dns.RR_Header {
		return dns.RR_Header{Name: q.Name, Rrtype: t, Class: dns.ClassINET, Ttl: ttl}
	}
	for _, addr := range a.Addrs {
		switch {
		case addr.Is4() && q.Qtype == dns.TypeA:
			rrs = append(rrs, &dns.A{Hdr: header(dns.TypeA), A: addr.AsSlice()})
		case addr.Is6() && q.Qtype == dns.TypeAAAA:
			rrs = append(rrs, &dns.AAAA{Hdr: header(dns.TypeAAAA), AAAA: addr.AsSlice()})
		}
	}
	for _, text := range a.Others {
		rr, err := dns.NewRR(q.Name + " " + text)
		if err != nil {
			panic("scripted record: " + err.Error())
		}
		if rr.Header().Rrtype == q.Qtype || rr.Header().Rrtype == dns.TypeCNAME {
			rrs = append(rrs, rr)
		}
	}
	return rrs
}
