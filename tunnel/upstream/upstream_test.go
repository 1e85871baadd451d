package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestLookupTakesBothFamilies(t *testing.T) {
	r := resolver(t, serve(t, func(q *dns.Msg) *dns.Msg {
		if q.Question[0].Qtype == dns.TypeA {
			return reply(q, "wiki.test. 1 IN A 10.0.0.1", "wiki.test. 1 IN A 10.0.0.2")
		}
		return reply(q, "wiki.test. 1 IN AAAA 2001:db8::1")
	}))
	got := r.Lookup(t.Context(), "Wiki.test")
	if got.Err4 != nil || got.Err6 != nil {
		t.Fatal(got.Err4, got.Err6)
	}
	want(t, got.V4, "10.0.0.1", "10.0.0.2")
	want(t, got.V6, "2001:db8::1")
}

func TestLookupFollowsAliases(t *testing.T) {
	r := resolver(t, serve(t, func(q *dns.Msg) *dns.Msg {
		if q.Question[0].Qtype == dns.TypeAAAA {
			return reply(q, "wiki.test. 1 IN CNAME a.test.")
		}
		return reply(q, "b.test. 1 IN A 10.0.0.7", "wiki.test. 1 IN CNAME a.test.", "a.test. 1 IN CNAME b.test.", "other.test. 1 IN A 10.9.9.9")
	}))
	got := r.Lookup(t.Context(), "wiki.test")
	want(t, got.V4, "10.0.0.7")
	want(t, got.V6)
	if got.Err6 != nil {
		t.Error("an alias without address is no failure:", got.Err6)
	}
}

func TestAliasLoopEnds(t *testing.T) {
	r := resolver(t, serve(t, func(q *dns.Msg) *dns.Msg {
		return reply(q, "wiki.test. 1 IN CNAME a.test.", "a.test. 1 IN CNAME wiki.test.")
	}))
	want(t, r.Lookup(t.Context(), "wiki.test").V4)
}

func TestHowLongAnAnswerHolds(t *testing.T) {
	const soa = "test. %d IN SOA ns.test. admin.test. 1 2 3 4 %d"
	tests := []struct {
		name      string
		records   []string
		soa       []any // its TTL, and the minimum in it
		noSuch    bool
		want      time.Duration
		addresses int
	}{
		{"the first record that is over counts", []string{"wiki.test. 300 IN A 10.0.0.1", "wiki.test. 20 IN A 10.0.0.2"}, nil, false, 20 * time.Second, 2},
		{"an alias counts", []string{"wiki.test. 7 IN CNAME a.test.", "a.test. 300 IN A 10.0.0.1"}, nil, false, 7 * time.Second, 1},
		{"others do not", []string{"wiki.test. 300 IN A 10.0.0.1", "other.test. 1 IN A 10.0.0.1", "wiki.test. 1 IN TXT x"}, nil, false, 300 * time.Second, 1},
		{"nor does authority", []string{"wiki.test. 300 IN A 10.0.0.1"}, []any{5, 5}, false, 300 * time.Second, 1},
		{"zero", []string{"wiki.test. 0 IN A 10.0.0.1"}, nil, false, 0, 1},
		{"beyond 31 bits is zero", []string{"wiki.test. 2147483648 IN A 10.0.0.1"}, nil, false, 0, 1},
		{"no data, the SOA's minimum", nil, []any{600, 30}, false, 30 * time.Second, 0},
		{"no data, the SOA's own TTL", nil, []any{10, 30}, false, 10 * time.Second, 0},
		{"no such name", nil, []any{600, 45}, true, 45 * time.Second, 0},
		{"no data behind an alias", []string{"wiki.test. 7 IN CNAME a.test."}, []any{600, 45}, false, 7 * time.Second, 0},
		{"no data, and nobody says how long", []string{"wiki.test. 7 IN CNAME a.test."}, nil, false, 0, 0},
	}
	for _, test := range tests {
		r := resolver(t, serve(t, func(q *dns.Msg) *dns.Msg {
			if q.Question[0].Qtype == dns.TypeAAAA {
				return reply(q, "wiki.test. 77 IN AAAA 2001:db8::1")
			}
			m := reply(q, test.records...)
			if test.soa != nil {
				m.Ns = reply(q, fmt.Sprintf(soa, test.soa...)).Answer
			}
			if test.noSuch {
				m.Rcode = dns.RcodeNameError
			}
			return m
		}))
		got := r.Lookup(t.Context(), "wiki.test")
		if got.Err4 != nil || got.Err6 != nil {
			t.Fatal(test.name, got.Err4, got.Err6)
		}
		if got.TTL4 != test.want || got.TTL6 != 77*time.Second || len(got.V4) != test.addresses {
			t.Errorf("%s: %v and %v with %d addresses, want %v and 77s with %d", test.name, got.TTL4, got.TTL6, len(got.V4), test.want, test.addresses)
		}
	}
}

func TestFamiliesFailApart(t *testing.T) {
	r := resolver(t, serve(t, func(q *dns.Msg) *dns.Msg {
		if q.Question[0].Qtype == dns.TypeAAAA {
			m := reply(q)
			m.Rcode = dns.RcodeServerFailure
			return m
		}
		return reply(q, "wiki.test. 1 IN A 10.0.0.1")
	}))
	got := r.Lookup(t.Context(), "wiki.test")
	want(t, got.V4, "10.0.0.1")
	if got.Err4 != nil || got.Err6 == nil || !strings.Contains(got.Err6.Error(), "SERVFAIL") {
		t.Error(got.Err4, got.Err6)
	}
}

func TestNoSuchNameIsAnAnswer(t *testing.T) {
	r := resolver(t, serve(t, func(q *dns.Msg) *dns.Msg {
		m := reply(q)
		m.Rcode = dns.RcodeNameError
		return m
	}))
	got := r.Lookup(t.Context(), "nope.test")
	if got.Err4 != nil || got.Err6 != nil || len(got.V4)+len(got.V6) > 0 {
		t.Errorf("%+v", got)
	}
	if _, err := got.Addrs(); err == nil {
		t.Error("Addrs of nothing is no error")
	}
}

func TestSecondServerIsAskedWhenTheFirstFailsOrIsSilent(t *testing.T) {
	good := serve(t, func(q *dns.Msg) *dns.Msg { return reply(q, q.Question[0].Name+" 1 IN A 10.0.0.1") })
	failing := serve(t, func(q *dns.Msg) *dns.Msg {
		m := reply(q)
		m.Rcode = dns.RcodeRefused
		return m
	})
	silent := serve(t, func(q *dns.Msg) *dns.Msg { return nil })
	for _, first := range []netip.AddrPort{failing, silent} {
		start := time.Now()
		got := resolver(t, first, good).Lookup(t.Context(), "wiki.test")
		want(t, got.V4, "10.0.0.1")
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("took %v", took)
		}
	}
}

func TestCutAnswerIsFetchedOverTCP(t *testing.T) {
	pc, l := listen(t)
	h := func(tcp bool) dns.Handler {
		return dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			m := reply(q)
			if m.Truncated = !tcp; tcp && q.Question[0].Qtype == dns.TypeA {
				m = reply(q, "wiki.test. 1 IN A 10.0.0.1")
			}
			w.WriteMsg(m)
		})
	}
	run(t, &dns.Server{PacketConn: pc, Handler: h(false)})
	run(t, &dns.Server{Listener: l, Handler: h(true)})
	got := resolver(t, netip.MustParseAddrPort(pc.LocalAddr().String())).Lookup(t.Context(), "wiki.test")
	want(t, got.V4, "10.0.0.1")
}

func TestHostsFileWins(t *testing.T) {
	r := resolver(t, serve(t, func(q *dns.Msg) *dns.Msg { return reply(q, "wiki.test. 1 IN A 10.0.0.1") }))
	r.Hosts = filepath.Join(t.TempDir(), "hosts")
	text := "# comment\n10.1.1.1 other wiki.TEST # trailing\n2001:db8::9\twiki.test\nbad line\n"
	if err := os.WriteFile(r.Hosts, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got := r.Lookup(t.Context(), "wiki.test.")
	want(t, got.V4, "10.1.1.1")
	want(t, got.V6, "2001:db8::9")
}

func TestNoServers(t *testing.T) {
	if got := resolver(t).Lookup(t.Context(), "wiki.test"); !errors.Is(got.Err4, ErrNoServers) {
		t.Error(got.Err4)
	}
}

func TestLookupEndsWithItsContext(t *testing.T) {
	r := resolver(t, serve(t, func(*dns.Msg) *dns.Msg { return nil }))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if got := r.Lookup(ctx, "wiki.test"); got.Err4 == nil || time.Since(start) > 2*time.Second {
		t.Error(got.Err4, time.Since(start))
	}
}

func TestExchangeIgnoresWhatDoesNotAnswer(t *testing.T) {
	pc, _ := listen(t)
	go func() { // wrong ID, wrong question, a query, garbage, then the answer
		buf := make([]byte, 1500)
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		q := new(dns.Msg)
		q.Unpack(buf[:n])
		wrongID, wrongName := reply(q), reply(q)
		wrongID.Id++
		wrongName.Question = []dns.Question{{Name: "other.test.", Qtype: dns.TypeA, Qclass: dns.ClassINET}}
		for _, m := range []*dns.Msg{wrongID, wrongName, q, reply(q, "wiki.test. 1 IN A 10.0.0.1")} {
			b, _ := m.Pack()
			pc.WriteTo(b, from)
			pc.WriteTo([]byte{1}, from)
		}
	}()
	q := new(dns.Msg)
	q.SetQuestion("Wiki.test.", dns.TypeA)
	b, _ := q.Pack()
	got, err := resolver(t).Exchange(t.Context(), netip.MustParseAddrPort(pc.LocalAddr().String()), b)
	if err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(got); err != nil || m.Id != q.Id || len(m.Answer) != 1 {
		t.Fatal(err, m)
	}
}

func TestErrorsStayOnOneLine(t *testing.T) {
	refusing := netip.MustParseAddrPort("127.0.0.1:1")
	for _, row := range []struct {
		name, says string
		servers    []netip.AddrPort
		err        error
	}{
		{"two dead servers", "ask 127.0.0.1:1 for AAAA name.test", []netip.AddrPort{refusing, refusing}, nil},
		{"no server", "the system names no DNS resolver", nil, nil},
		{"unreadable configuration", "no permission", nil, errors.New("no permission")},
	} {
		r := &Resolver{Servers: func() ([]netip.AddrPort, error) { return row.servers, row.err }}
		_, err := r.Host(t.Context(), "name.test")
		if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %v", row.name, err)
		}
		if row.servers == nil && strings.Count(err.Error(), row.says) != 1 {
			t.Errorf("%s: both families say the same: %v", row.name, err)
		}
	}
}

// malformed are answers of spec gateway-nat.md 8.4 to a question for A of
// wiki.test, with what is to be made of them: none, or so many addresses.
func malformed() (query []byte, list []malformedAnswer) {
	q := new(dns.Msg)
	q.SetQuestion("wiki.test.", dns.TypeA)
	q.Id = 0x1234
	query, _ = q.Pack()
	add := func(name string, addresses int, m *dns.Msg, edit func(b []byte) []byte) {
		b, err := m.Pack()
		if err != nil {
			panic(err)
		}
		if edit != nil {
			b = edit(b)
		}
		list = append(list, malformedAnswer{name, b, addresses})
	}
	const a = "wiki.test. 1 IN A 10.0.0.1"
	at := func(i int, v byte) func([]byte) []byte {
		return func(b []byte) []byte { b[i] = v; return b }
	}
	fromEnd := func(i int, v byte) func([]byte) []byte {
		return func(b []byte) []byte { b[len(b)-i] = v; return b }
	}
	add("right", 1, reply(q, a), nil)
	add("wrong ID", none, reply(q, a), at(0, 0x99))
	add("a query", none, reply(q, a), at(2, 1))
	add("another question", none, reply(q, a), at(13, 'v'))
	add("another type asked for", none, reply(q, a), at(24, 28))
	add("another class asked for", none, reply(q, a), at(26, 3))
	add("no question", none, reply(q, a), at(5, 0))
	add("two questions", none, reply(q, a), at(5, 2))
	add("cut off in the header", none, reply(q, a), func(b []byte) []byte { return b[:11] })
	add("cut off in the question", none, reply(q, a), func(b []byte) []byte { return b[:20] })
	add("cut off in the answer", none, reply(q, a), func(b []byte) []byte { return b[:len(b)-2] })
	add("more answers than there are", 1, reply(q, a), at(7, 9))
	add("aliases in a circle", 0, reply(q, "wiki.test. 1 IN CNAME a.test.", "a.test. 1 IN CNAME b.test.", "b.test. 1 IN CNAME wiki.test."), nil)
	add("an alias of itself", 0, reply(q, "wiki.test. 1 IN CNAME wiki.test."), nil)
	add("a name that points at itself", none, reply(q, a), func(b []byte) []byte { b[12], b[13] = 0xc0, 12; return b })
	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprintf("wiki.test. 1 IN A 10.0.%d.%d", i>>8, i&255))
	}
	compressed := reply(q, many...)
	compressed.Compress = true
	add("1000 addresses", maxAddrs, compressed, nil)
	add("TTL 0", 1, reply(q, "wiki.test. 0 IN A 10.0.0.1"), nil)
	add("TTL 2³¹", 1, reply(q, "wiki.test. 2147483648 IN A 10.0.0.1"), nil)
	add("class CHAOS", 0, reply(q, "wiki.test. 1 CH A 10.0.0.1"), nil)
	add("address of 3 bytes", none, reply(q, a), func(b []byte) []byte { b[len(b)-5] = 3; return b[:len(b)-1] })
	add("address of 5 bytes", none, reply(q, a), func(b []byte) []byte { b[len(b)-5] = 5; return append(b, 0) })
	add("length beyond the end", none, reply(q, a), fromEnd(6, 255))
	add("answer for another name", 0, reply(q, "other.test. 1 IN A 10.0.0.1"), nil)
	add("answer of the other family", 0, reply(q, "wiki.test. 1 IN AAAA 2001:db8::1"), nil)
	return query, list
}

// none: it is not taken for an answer at all.
const none = -1

type malformedAnswer struct {
	name      string
	b         []byte
	addresses int
}

func TestMalformedAnswers(t *testing.T) {
	query, list := malformed()
	for _, test := range list {
		got := none
		var m, q dns.Msg
		if q.Unpack(query) != nil {
			t.Fatal("query")
		}
		if answers(query, test.b) && m.Unpack(test.b) == nil {
			addrs, ttl := collect(&m, q.Question[0])
			if got = len(addrs); ttl < 0 || ttl > time.Second {
				t.Errorf("%s: holds for %v", test.name, ttl)
			}
		}
		if got != test.addresses {
			t.Errorf("%s: %d addresses, want %d", test.name, got, test.addresses)
		}
	}
}

func FuzzAnswers(f *testing.F) {
	query, list := malformed()
	for _, m := range list {
		f.Add(query, m.b)
	}
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		q := new(dns.Msg)
		q.SetQuestion("wiki.test.", qtype)
		b, _ := q.Pack()
		r, _ := reply(q, "wiki.test. 1 IN CNAME a.test.", "a.test. 1 IN A 10.0.0.1", "a.test. 1 IN AAAA ::ffff:10.0.0.1", "a.test. 1 IN AAAA 2001:db8::1").Pack()
		f.Add(b, r)
		f.Add(b, r[:len(r)-3])
		f.Add(b, []byte{})
	}
	f.Fuzz(func(t *testing.T, query, reply []byte) {
		if !answers(query, reply) {
			return
		}
		if len(reply) < 12 {
			t.Fatal("a reply without header was taken")
		}
		var q, m dns.Msg
		if q.Unpack(query) != nil || len(q.Question) != 1 || m.Unpack(reply) != nil {
			return
		}
		addrs, ttl := collect(&m, q.Question[0])
		if ttl < 0 || ttl >= 1<<31*time.Second {
			t.Fatal(ttl)
		}
		for _, a := range addrs {
			if !a.IsValid() || a.Is4In6() || a.Is4() != (q.Question[0].Qtype == dns.TypeA) {
				t.Fatalf("%v for a question of type %d", a, q.Question[0].Qtype)
			}
		}
	})
}

func FuzzHosts(f *testing.F) {
	f.Add("127.0.0.1 localhost # here\n::1 localhost ip6-localhost\n10.0.0.7\twiki.test. WIKI\n", "wiki.test")
	f.Add("fe80::1%eth0 wiki\n::ffff:10.0.0.1 wiki\nwiki 10.0.0.1\n10.0.0.1 #wiki\n\x00 wiki", "wiki")
	f.Fuzz(func(t *testing.T, text, name string) {
		for _, a := range addrsOf(strings.NewReader(text), name) {
			if !a.IsValid() || a.Zone() != "" {
				t.Fatalf("%v for %q", a, name)
			}
		}
	})
}

func resolver(t *testing.T, servers ...netip.AddrPort) *Resolver {
	t.Helper()
	return &Resolver{Servers: func() ([]netip.AddrPort, error) { return servers, nil }}
}

// serve runs a UDP name server on loopback; a nil answer is silence.
func serve(t *testing.T, answer func(q *dns.Msg) *dns.Msg) netip.AddrPort {
	t.Helper()
	pc, _ := listen(t)
	run(t, &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		if m := answer(q); m != nil {
			w.WriteMsg(m)
		}
	})})
	return netip.MustParseAddrPort(pc.LocalAddr().String())
}

// listen opens UDP and TCP on one loopback port.
func listen(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", pc.LocalAddr().String())
		if err != nil {
			pc.Close()
			continue
		}
		t.Cleanup(func() { pc.Close(); l.Close() })
		return pc, l
	}
	t.Fatal("no port free for both UDP and TCP")
	return nil, nil
}

func run(t *testing.T, s *dns.Server) {
	t.Helper()
	started := make(chan struct{})
	s.NotifyStartedFunc = func() { close(started) }
	go s.ActivateAndServe()
	<-started
	t.Cleanup(func() { s.Shutdown() })
}

func reply(q *dns.Msg, records ...string) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(q)
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			panic(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	return m
}

func want(t *testing.T, got []netip.Addr, texts ...string) {
	t.Helper()
	var w []netip.Addr
	for _, s := range texts {
		w = append(w, netip.MustParseAddr(s))
	}
	if !slices.Equal(got, w) {
		t.Errorf("got %v, want %v", got, w)
	}
}
