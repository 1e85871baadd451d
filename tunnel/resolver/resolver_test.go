package resolver

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/packet"
	"stile/tunnel/policy"
	"stile/tunnel/wire"
)

var (
	start    = time.Unix(1_800_000_000, 0)
	app      = netip.MustParseAddrPort("100.64.12.7:40000")
	sentinel = netip.MustParseAddrPort("100.100.111.1:53")
	server   = netip.MustParseAddrPort("192.168.1.1:53")
)

// What the table of section 6 can say about a query.
const (
	isForwarded = "forwarded"
	isDropped   = "dropped"
)

// TestAnswerPerQueryType is the table of section 6.
func TestAnswerPerQueryType(t *testing.T) {
	const a4 = "NOERROR 100.96.0.5 100.96.0.6 100.96.0.7 100.96.0.8"
	const a6 = "NOERROR fd00:2021:1111:8000::4 fd00:2021:1111:8000::5 fd00:2021:1111:8000::6 fd00:2021:1111:8000::7"
	for _, c := range []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"use-application-dns.net.", dns.TypeA, "NXDOMAIN"},
		{"use-application-dns.net.", dns.TypeAAAA, "NXDOMAIN"},
		{"Use-Application-DNS.net.", dns.TypeTXT, "NXDOMAIN"},
		{"www.use-application-dns.net.", dns.TypeA, isForwarded},

		{"wiki.corp.example.", dns.TypeA, a4},
		{"WiKi.CoRp.example.", dns.TypeA, a4},
		{"v4.example.", dns.TypeA, a4},
		{"v6.example.", dns.TypeA, "NOERROR"},
		{"www.example.", dns.TypeA, isForwarded},

		{"wiki.corp.example.", dns.TypeAAAA, a6},
		{"v6.example.", dns.TypeAAAA, a6},
		{"v4.example.", dns.TypeAAAA, "NOERROR"},
		{"www.example.", dns.TypeAAAA, isForwarded},

		{"both.example.", dns.TypeA, a4}, // one resource of each family
		{"both.example.", dns.TypeAAAA, a6},

		{"wiki.corp.example.", dns.TypeHTTPS, "NOERROR"},
		{"www.example.", dns.TypeHTTPS, isForwarded},
		{"wiki.corp.example.", dns.TypeSVCB, "NOERROR"},
		{"www.example.", dns.TypeSVCB, isForwarded},

		{"wiki.corp.example.", dns.TypeSRV, "SERVFAIL"},
		{"wiki.corp.example.", dns.TypeTXT, "SERVFAIL"},
		{"_ldap._tcp.deep.example.", dns.TypeSRV, "SERVFAIL"},
		{"www.example.", dns.TypeSRV, isForwarded},
		{"www.example.", dns.TypeTXT, isForwarded},

		{"1.0.96.100.in-addr.arpa.", dns.TypePTR, "NOERROR known.example."},
		{"1.0.96.100.IN-ADDR.ARPA.", dns.TypePTR, "NOERROR known.example."},
		{"3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.1.1.1.1.1.2.0.2.0.0.d.f.ip6.arpa.", dns.TypePTR, "NOERROR known.example."},
		{"3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.1.1.1.1.1.2.0.2.0.0.D.F.ip6.arpa.", dns.TypePTR, "NOERROR known.example."},
		{"200.0.96.100.in-addr.arpa.", dns.TypePTR, isForwarded}, // unassigned
		{"1.1.0.96.100.in-addr.arpa.", dns.TypePTR, isForwarded},
		{"0.96.100.in-addr.arpa.", dns.TypePTR, isForwarded},
		{"001.0.96.100.in-addr.arpa.", dns.TypePTR, isForwarded},
		{"8.8.8.8.in-addr.arpa.", dns.TypePTR, isForwarded},
		{"0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.1.1.1.1.1.2.0.2.0.0.d.f.ip6.arpa.", dns.TypePTR, isForwarded},
		{"xx.ip6.arpa.", dns.TypePTR, isForwarded},
		{"1.111.100.100.in-addr.arpa.", dns.TypePTR, "NXDOMAIN"}, // a sentinel
		{"7.12.64.100.in-addr.arpa.", dns.TypePTR, "NXDOMAIN"},   // a tunnel address
		{"wiki.corp.example.", dns.TypePTR, isForwarded},         // its name encodes no address

		{"wiki.corp.example.", dns.TypeCNAME, isForwarded},
		{"wiki.corp.example.", dns.TypeMX, isForwarded},
		{"wiki.corp.example.", dns.TypeNS, isForwarded},
		{"wiki.corp.example.", dns.TypeSOA, isForwarded},
		{"wiki.corp.example.", dns.TypeCAA, isForwarded},
		{"wiki.corp.example.", dns.TypeNAPTR, isForwarded},

		{"wiki.corp.example.", dns.TypeANY, a4 + strings.TrimPrefix(a6, "NOERROR")},
		{"v4.example.", dns.TypeANY, a4},
		{"www.example.", dns.TypeANY, isForwarded},

		{`wi\.ki.corp.example.`, dns.TypeA, "NXDOMAIN"}, // "wi.ki" is one label, as the pattern wants; but no host is called that
		{`a\.b.deep.example.`, dns.TypeA, "NXDOMAIN"},
		{`a\000b.deep.example.`, dns.TypeA, "NXDOMAIN"},
		{".", dns.TypeNS, isForwarded},
	} {
		r := fixture(t)
		q := new(dns.Msg).SetQuestion(c.name, c.qtype)
		if got := outcome(t, r, q); got != c.want {
			t.Errorf("%s %s: got %s, want %s", c.name, dns.TypeToString[c.qtype], got, c.want)
		}
	}
}

func TestOtherClassesAreForwarded(t *testing.T) {
	q := new(dns.Msg).SetQuestion("wiki.corp.example.", dns.TypeA)
	q.Question[0].Qclass = dns.ClassCHAOS
	if got := outcome(t, fixture(t), q); got != isForwarded {
		t.Errorf("got %s", got)
	}
}

// TestPrivateServiceRecordsAreNeverForwarded: until there is a way to the
// gateway's resolver, nobody is asked, and it is counted.
func TestPrivateServiceRecordsAreNeverForwarded(t *testing.T) {
	r := fixture(t)
	for _, qtype := range []uint16{dns.TypeSRV, dns.TypeTXT} {
		outcome(t, r, new(dns.Msg).SetQuestion("wiki.corp.example.", qtype))
	}
	if got := count(r, needTunnel); got != 2 {
		t.Errorf("counted %d, want 2", got)
	}
}

// TestSynthesisedHeader is the table of 7.1.
func TestSynthesisedHeader(t *testing.T) {
	r := fixture(t)
	q := new(dns.Msg).SetQuestion("wIkI.CorP.example.", dns.TypeA)
	q.Id, q.CheckingDisabled, q.AuthenticatedData = 0xbeef, true, true
	m := reply(t, r, q)
	if m.Id != 0xbeef || m.Opcode != dns.OpcodeQuery || !m.RecursionDesired {
		t.Errorf("ID, opcode, RD: got %v", m.MsgHdr)
	}
	if m.Question[0] != q.Question[0] {
		t.Errorf("question: got %v, want %v", m.Question[0], q.Question[0])
	}
	if !m.Response || m.Authoritative || !m.RecursionAvailable || m.AuthenticatedData || !m.CheckingDisabled || m.Truncated {
		t.Errorf("flags: got %v", m.MsgHdr)
	}
	for _, rr := range m.Answer {
		if h := rr.Header(); h.Ttl != 1 || h.Name != "wIkI.CorP.example." {
			t.Errorf("record: got %v", rr)
		}
	}
	if m.IsEdns0() != nil {
		t.Error("OPT without a reason")
	}
	q.RecursionDesired = false
	if reply(t, r, q).RecursionDesired {
		t.Error("RD was not copied")
	}
}

func TestSynthesisedEDNS(t *testing.T) {
	r := fixture(t)
	for _, do := range []bool{false, true} {
		q := new(dns.Msg).SetQuestion("wiki.corp.example.", dns.TypeA)
		q.SetEdns0(4096, do)
		m := reply(t, r, q)
		opt := m.IsEdns0()
		if opt == nil || opt.UDPSize() != 1212 || opt.Version() != 0 || opt.Do() != do {
			t.Errorf("DO %v: got %v", do, opt)
		}
	}
	q := new(dns.Msg).SetQuestion("wiki.corp.example.", dns.TypeA)
	q.SetEdns0(4096, false)
	q.IsEdns0().SetVersion(1)
	if m := reply(t, r, q); m.Rcode != dns.RcodeBadVers || len(m.Answer) != 0 || m.IsEdns0().Version() != 0 {
		t.Errorf("version 1: got %v", m)
	}
}

// TestMalformedInput is the table of 4.2, with its requirements.
func TestMalformedInput(t *testing.T) {
	good, _ := new(dns.Msg).SetQuestion("wiki.corp.example.", dns.TypeA).Pack()
	edit := func(f func(b []byte) []byte) []byte { return f(slices.Clone(good)) }
	for _, c := range []struct {
		name    string
		payload []byte
		want    string
	}{
		{"empty", nil, isDropped},
		{"half a header", good[:11], isDropped},
		{"a response", edit(func(b []byte) []byte { b[2] |= 0x80; return b }), isDropped},
		{"no question", edit(func(b []byte) []byte { b[5] = 0; return b[:12] }), "FORMERR"},
		{"header only", good[:12], "FORMERR"},
		{"two questions", edit(func(b []byte) []byte { b[5] = 2; return append(b, b[12:]...) }), "FORMERR"},
		{"half a question", good[:20], "FORMERR"},
		{"pointer to itself", edit(func(b []byte) []byte { b[12], b[13] = 0xc0, 12; return b }), "FORMERR"},
		{"question without its class", good[:len(good)-2], "FORMERR"},
		{"status request", edit(func(b []byte) []byte { b[2] |= dns.OpcodeStatus << 3; return b }), "NOTIMP"},
		{"update", edit(func(b []byte) []byte { b[2] |= dns.OpcodeUpdate << 3; return b }), "NOTIMP"},
		{"unassigned opcode, garbage behind", append(edit(func(b []byte) []byte { b[2] |= 0x78; return b[:12] }), 1, 2, 3), "NOTIMP"},
	} {
		r := fixture(t)
		d := r.Query(app, sentinel, c.payload, start)
		got := isDropped
		if d.Reply != nil {
			if !slices.Equal(d.Reply[:2], good[:2]) {
				t.Errorf("%s: ID not copied", c.name)
			}
			var m dns.Msg
			if err := m.Unpack(d.Reply); err != nil || !m.Response {
				t.Errorf("%s: reply %x: %v", c.name, d.Reply, err)
			}
			got = dns.RcodeToString[m.Rcode]
		}
		if got != c.want || d.Ask != nil || d.Name != nil {
			t.Errorf("%s: got %s %v, want %s", c.name, got, d, c.want)
		}
	}
}

func TestQueryToUnassignedSentinelIsDropped(t *testing.T) {
	r := fixture(t)
	q, _ := new(dns.Msg).SetQuestion("wiki.corp.example.", dns.TypeA).Pack()
	if d := r.Query(app, netip.MustParseAddrPort("100.100.111.200:53"), q, start); d.Reply != nil || d.Ask != nil {
		t.Errorf("got %v", d)
	}
}

// TestUpstreamOutcomes is the table of 7.2, local part.
func TestUpstreamOutcomes(t *testing.T) {
	q := new(dns.Msg).SetQuestion("www.example.", dns.TypeA)
	for _, c := range []struct {
		name  string
		reply []byte
		err   error
		want  string
	}{
		{"answer", upstreamAnswer(t, q, 1, 0), nil, "NOERROR 10.0.0.0"},
		{"time-out", nil, core.ErrTimeout, isDropped},
		{"other error", nil, errors.New("refused"), "SERVFAIL"},
		{"too short to be one", []byte{1, 2, 3}, nil, "SERVFAIL"},
		{"a query", make([]byte, 12), nil, "SERVFAIL"},
	} {
		r := fixture(t)
		q.Id = 77
		ask := forwardedAs(t, r, q)
		out, ok := r.Answered(ask.ID, c.reply, c.err)
		got := isDropped
		if ok {
			got = describe(t, out.Message)
			if binary.BigEndian.Uint16(out.Message) != 77 || out.App != app || out.Sentinel != sentinel {
				t.Errorf("%s: went to %v from %v", c.name, out.App, out.Sentinel)
			}
		}
		if got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
		if _, again := r.Answered(ask.ID, c.reply, c.err); again || len(r.inFlight) != 0 {
			t.Errorf("%s: the slot is not free", c.name)
		}
	}
}

// TestServfailKeepsTheQuestion: stubs match answers by it.
func TestServfailKeepsTheQuestion(t *testing.T) {
	r := fixture(t)
	q := new(dns.Msg).SetQuestion("wWw.example.", dns.TypeA)
	q.SetEdns0(1232, true)
	out, _ := r.Answered(forwardedAs(t, r, q).ID, nil, errors.New("refused"))
	var m dns.Msg
	if err := m.Unpack(out.Message); err != nil || len(m.Question) != 1 || m.Question[0] != q.Question[0] || m.Id != q.Id || !m.RecursionAvailable || !m.RecursionDesired {
		t.Errorf("got %v, %v", &m, err)
	}
}

// TestForwardedQueriesAreUntouchedButForTheID, and so are their answers (7.3).
func TestForwardedQueriesAreUntouchedButForTheID(t *testing.T) {
	r := fixture(t)
	q := new(dns.Msg).SetQuestion("wWw.ExAmple.", dns.TypeA)
	q.SetEdns0(1400, true)
	q.IsEdns0().Option = append(q.IsEdns0().Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcdef"})
	raw, _ := q.Pack()
	d := r.Query(app, sentinel, raw, start)
	if d.Ask == nil || d.Ask.Server != server || !slices.Equal(d.Ask.Query[2:], raw[2:]) {
		t.Fatalf("got %v", d.Ask)
	}
	answer := upstreamAnswer(t, q, 3, 0)
	copy(answer, d.Ask.Query[:2])
	out, ok := r.Answered(d.Ask.ID, answer, nil)
	if !ok || !slices.Equal(out.Message[2:], answer[2:]) || !slices.Equal(out.Message[:2], raw[:2]) {
		t.Errorf("got %x, want %x", out.Message, answer)
	}
}

// TestEqualIDsOfDifferentApplications: all queries carry ID 1, answers come
// back in another order, and each finds its application (9.2).
func TestEqualIDsOfDifferentApplications(t *testing.T) {
	r := fixture(t)
	asks := make(map[uint64]int)
	for i := range 50 {
		q := new(dns.Msg).SetQuestion("www.example.", dns.TypeA)
		q.Id = 1
		raw, _ := q.Pack()
		d := r.Query(netip.AddrPortFrom(app.Addr(), uint16(1000+i)), sentinel, raw, start)
		asks[d.Ask.ID] = i
	}
	if len(asks) != 50 {
		t.Fatalf("%d different asks, want 50", len(asks))
	}
	for ask, i := range asks {
		q := new(dns.Msg).SetQuestion("www.example.", dns.TypeA)
		out, ok := r.Answered(ask, upstreamAnswer(t, q, i+1, 0), nil)
		var m dns.Msg
		if !ok || m.Unpack(out.Message) != nil || m.Id != 1 || int(out.App.Port()) != 1000+i {
			t.Fatalf("ask %d: got %v for %v", ask, out.App, i)
		}
	}
}

func TestInFlightIsBounded(t *testing.T) {
	r := fixture(t)
	q := new(dns.Msg).SetQuestion("www.example.", dns.TypeA)
	var first *Ask
	for i := range maxInFlight {
		if ask := forwardedAs(t, r, q); i == 0 {
			first = ask
		}
	}
	if got := outcome(t, r, q); got != isDropped {
		t.Fatalf("query %d: got %s", maxInFlight+1, got)
	}
	r.Answered(first.ID, nil, core.ErrTimeout)
	if got := outcome(t, r, q); got != isForwarded {
		t.Errorf("after a slot was freed: got %s", got)
	}
}

// TestTruncation is the rest of 7.3: limit = min(1212, max(512, advertised)),
// 512 without OPT.
func TestTruncation(t *testing.T) {
	for _, c := range []struct {
		advertised uint16 // 0: no OPT
		size       int    // of the upstream's answer
		cut        bool
	}{
		{0, 512, false}, {0, 513, true},
		{100, 512, false}, {100, 513, true}, // less than the minimum of RFC 6891 counts as the minimum
		{600, 600, false}, {600, 601, true},
		{1212, 1212, false}, {1212, 1213, true},
		{4096, 1212, false}, {4096, 1213, true}, {4096, 1300, true}, {4096, 4000, true},
	} {
		r := fixture(t)
		q := new(dns.Msg).SetQuestion("www.example.", dns.TypeTXT)
		if c.advertised != 0 {
			q.SetEdns0(c.advertised, true)
		}
		ask := forwardedAs(t, r, q)
		out, _ := r.Answered(ask.ID, upstreamAnswer(t, q, 1, c.size), nil)
		var m dns.Msg
		if err := m.Unpack(out.Message); err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		if m.Truncated != c.cut || m.Id != q.Id || len(m.Question) != 1 || m.Question[0] != q.Question[0] {
			t.Errorf("%+v: got %v", c, m.MsgHdr)
		}
		if c.cut && (len(m.Answer)+len(m.Ns)+len(m.Extra) != 0 || !m.RecursionAvailable) {
			t.Errorf("%+v: more than the question is left: %v", c, &m)
		}
		if !c.cut && len(out.Message) != c.size {
			t.Errorf("%+v: %d bytes", c, len(out.Message))
		}
	}
}

func TestTruncatedUpstreamAnswerIsPassedOn(t *testing.T) {
	r := fixture(t)
	q := new(dns.Msg).SetQuestion("www.example.", dns.TypeA)
	answer := upstreamAnswer(t, q, 1, 0)
	answer[2] |= flagTC
	out, _ := r.Answered(forwardedAs(t, r, q).ID, answer, nil)
	if !slices.Equal(out.Message[2:], answer[2:]) {
		t.Errorf("got %x, want %x", out.Message, answer)
	}
}

// TestForwardingDecision is the table of 9.1 as far as this package decides.
func TestForwardingDecision(t *testing.T) {
	inTunnel := netip.MustParseAddr("10.1.1.53")
	for _, c := range []struct {
		name   string
		portal wire.Interface
		system string
		want   string
	}{
		{"system resolver", wire.Interface{}, "192.168.1.1", isForwarded},
		{"system resolver inside a resource", wire.Interface{}, "10.1.1.53", isForwarded},
		{"portal Do53", wire.Interface{UpstreamDo53: []netip.Addr{netip.MustParseAddr("9.9.9.9")}}, "10.1.1.53", isForwarded},
		{"portal Do53 inside a resource", wire.Interface{UpstreamDo53: []netip.Addr{inTunnel}}, "192.168.1.1", "SERVFAIL"},
		{"portal DoH", wire.Interface{UpstreamDoH: []string{"https://dns.quad9.net/dns-query"}}, "192.168.1.1", "SERVFAIL"},
	} {
		r := New(Config{Rand: noise(1), Tunnelled: func(a netip.Addr, _ time.Time) bool { return a == inTunnel }})
		r.SetSystem([]netip.AddrPort{netip.MustParseAddrPort(c.system + ":53")}, start)
		r.SetPortal(c.portal, start)
		if got := outcome(t, r, new(dns.Msg).SetQuestion("www.example.", dns.TypeA)); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

// TestStackChangeTakesEffectAtOnce: section 14, acceptance test 25.
func TestStackChangeTakesEffectAtOnce(t *testing.T) {
	r := fixture(t)
	q := new(dns.Msg).SetQuestion("wiki.corp.example.", dns.TypeA)
	if got := len(reply(t, r, q).Answer); got != 4 {
		t.Fatalf("dual: %d addresses", got)
	}
	r.Upsert(Resource{ID: resource(1), Pattern: pattern("*.corp.example"), Stack: wire.IPv6Only})
	if got := len(reply(t, r, q).Answer); got != 0 {
		t.Errorf("ipv6_only: %d addresses", got)
	}
	r.Upsert(Resource{ID: resource(1), Pattern: pattern("*.corp.example"), Stack: wire.Dual})
	if got := reply(t, r, q).Answer; len(got) != 4 || got[0].(*dns.A).A.String() != "100.96.0.5" {
		t.Errorf("dual again: %v", got)
	}
	r.Upsert(Resource{ID: resource(1), Pattern: pattern("other.example")})
	if got := outcome(t, r, q); got != isForwarded {
		t.Errorf("another pattern: got %s", got)
	}
}

// TestFindPrefersPermissionThenPatternThenID: 12.4, 15.2.
func TestFindPrefersPermissionThenPatternThenID(t *testing.T) {
	web := policy.Filters{{Protocol: wire.TCP, First: 80, Last: 80}}
	ssh := policy.Filters{{Protocol: wire.TCP, First: 22, Last: 22}}
	r := New(Config{Rand: noise(1)})
	ready(r)
	r.Upsert(Resource{ID: resource(1), Pattern: pattern("**.example"), Filters: ssh})
	r.Upsert(Resource{ID: resource(2), Pattern: pattern("wiki.example"), Filters: web})
	r.Upsert(Resource{ID: resource(4), Pattern: pattern("wiki.example"), Filters: web, Stack: wire.IPv4Only})
	r.Upsert(Resource{ID: resource(3), Pattern: pattern("wiki.example"), Filters: web, Stack: wire.IPv4Only})
	outcome(t, r, new(dns.Msg).SetQuestion("wiki.example.", dns.TypeA))
	n := r.Named("wiki.example")
	for _, c := range []struct {
		addr    netip.Addr
		port    uint16
		want    id.Resource
		verdict policy.Verdict
	}{
		{n.V4[0], 80, resource(4), policy.Permitted}, // the highest ID
		{n.V4[3], 22, resource(1), policy.Permitted}, // permission before pattern
		{n.V4[0], 443, resource(4), policy.Denied},
		{n.V6[0], 80, resource(2), policy.Permitted}, // 3 and 4 have no IPv6
		{n.V6[1], 22, resource(1), policy.Permitted},
		{netip.MustParseAddr("100.97.0.1"), 80, id.Resource{}, policy.None},
	} {
		_, got, verdict := r.Find(c.addr, packet.TCP, c.port)
		if got != c.want || verdict != c.verdict {
			t.Errorf("%v port %d: got %v %v, want %v %v", c.addr, c.port, got, verdict, c.want, c.verdict)
		}
	}
	if got := testing.AllocsPerRun(100, func() { r.Find(n.V4[0], packet.TCP, 80) }); got != 0 {
		t.Errorf("Find allocates %v times", got)
	}
	for i := range byte(5) {
		r.Remove(resource(i))
	}
	if _, _, verdict := r.Find(n.V4[0], packet.TCP, 80); verdict != policy.None {
		t.Errorf("without resources: %v", verdict)
	}
}

func TestProxyAddrsFollowTheStack(t *testing.T) {
	r := fixture(t)
	for name, want := range map[string]int{"wiki.corp.example.": 8, "v4.example.": 4, "v6.example.": 4} {
		q := new(dns.Msg).SetQuestion(name, dns.TypeA)
		outcome(t, r, q)
		n := r.Named(strings.TrimSuffix(name, "."))
		best := r.Resources(n, nil)[0]
		got := r.ProxyAddrs(n, best)
		if len(got) != want || got[0].Is6() != strings.HasPrefix(name, "v6") {
			t.Errorf("%s: got %v", name, got)
		}
		if list := r.ProxyAddrs(n, resource(99)); list != nil {
			t.Errorf("%s through a stranger: %v", name, list)
		}
	}
}

// TestManyResources: a query and a change look at few of 100,000 patterns.
func TestManyResources(t *testing.T) {
	r := New(Config{Rand: noise(1)})
	ready(r)
	ids := make([]id.Resource, 100_000)
	for i := range ids {
		binary.BigEndian.PutUint32(ids[i][12:], uint32(i+1))
		r.Upsert(Resource{ID: ids[i], Pattern: pattern("*.s" + digits(i) + ".corp.example")})
	}
	began := time.Now()
	for i := range 1000 {
		q := new(dns.Msg).SetQuestion("wiki.s"+digits(i*97)+".corp.example.", dns.TypeA)
		if got := reply(t, r, q); len(got.Answer) != 4 {
			t.Fatalf("got %v", got)
		}
	}
	for _, res := range ids {
		r.Remove(res)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("1,000 queries and 100,000 removals took %v", took)
	}
	if len(r.bySuffix)+len(r.resources) != 0 {
		t.Errorf("%d suffixes, %d resources are left", len(r.bySuffix), len(r.resources))
	}
}

func BenchmarkQueryForPrivateName(b *testing.B) {
	r := New(Config{Rand: noise(1)})
	ready(r)
	r.Upsert(Resource{ID: resource(1), Pattern: pattern("**.corp.example")})
	q, _ := new(dns.Msg).SetQuestion("wiki.corp.example.", dns.TypeA).Pack()
	b.ReportAllocs()
	for b.Loop() {
		r.Query(app, sentinel, q, start)
	}
}

func BenchmarkFind(b *testing.B) {
	r := New(Config{Rand: noise(1)})
	ready(r)
	r.Upsert(Resource{ID: resource(1), Pattern: pattern("**.corp.example")})
	q, _ := new(dns.Msg).SetQuestion("wiki.corp.example.", dns.TypeA).Pack()
	n := r.Query(app, sentinel, q, start).Name
	b.ReportAllocs()
	for b.Loop() {
		r.Find(n.V4[2], packet.TCP, 80)
	}
}

// fixture knows one upstream, the resources the tables above speak of, and a
// name with the first four addresses of each pool.
func fixture(t testing.TB) *Resolver {
	t.Helper()
	r := New(Config{Rand: noise(1), Tunnelled: func(netip.Addr, time.Time) bool { return false }})
	ready(r)
	r.Upsert(Resource{ID: resource(9), Pattern: pattern("known.example")})
	reply(t, r, new(dns.Msg).SetQuestion("known.example.", dns.TypeA))
	r.Upsert(Resource{ID: resource(1), Pattern: pattern("*.corp.example")})
	r.Upsert(Resource{ID: resource(2), Pattern: pattern("**.deep.example")})
	r.Upsert(Resource{ID: resource(3), Pattern: pattern("both.example"), Stack: wire.IPv4Only})
	r.Upsert(Resource{ID: resource(4), Pattern: pattern("both.example"), Stack: wire.IPv6Only})
	r.Upsert(Resource{ID: resource(6), Pattern: pattern("v4.example"), Stack: wire.IPv4Only})
	r.Upsert(Resource{ID: resource(7), Pattern: pattern("v6.example"), Stack: wire.IPv6Only})
	return r
}

func ready(r *Resolver) {
	r.SetSystem([]netip.AddrPort{server}, start)
	r.SetPortal(wire.Interface{IPv4: app.Addr(), IPv6: netip.MustParseAddr("fd00:2021:1111::c:7")}, start)
}

// outcome puts q to the resolver and says in a line what became of it.
func outcome(t testing.TB, r *Resolver, q *dns.Msg) string {
	t.Helper()
	raw, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	d := r.Query(app, sentinel, raw, start)
	switch {
	case d.Ask != nil && d.Reply != nil:
		t.Fatalf("both a reply and a question: %v", d)
	case d.Ask != nil:
		return isForwarded
	case d.Reply == nil:
		return isDropped
	}
	return describe(t, d.Reply)
}

func describe(t testing.TB, b []byte) string {
	t.Helper()
	var m dns.Msg
	if err := m.Unpack(b); err != nil {
		t.Fatal(err)
	}
	words := []string{dns.RcodeToString[m.Rcode]}
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			words = append(words, rr.A.String())
		case *dns.AAAA:
			words = append(words, rr.AAAA.String())
		case *dns.PTR:
			words = append(words, rr.Ptr)
		}
	}
	return strings.Join(words, " ")
}

func reply(t testing.TB, r *Resolver, q *dns.Msg) *dns.Msg {
	t.Helper()
	raw, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(r.Query(app, sentinel, raw, start).Reply); err != nil {
		t.Fatalf("no reply: %v", err)
	}
	return m
}

func forwardedAs(t testing.TB, r *Resolver, q *dns.Msg) *Ask {
	t.Helper()
	raw, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	d := r.Query(app, sentinel, raw, start)
	if d.Ask == nil {
		t.Fatal("not forwarded")
	}
	return d.Ask
}

// upstreamAnswer is what a real resolver says: the address 10.0.0.0 n times
// over, or, if size is not zero, size bytes of TXT.
func upstreamAnswer(t testing.TB, q *dns.Msg, n, size int) []byte {
	t.Helper()
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	if size == 0 {
		for i := range n {
			m.Answer = append(m.Answer, addressRecords(q.Question[0].Name, []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})})...)
		}
		b, _ := m.Pack()
		return b
	}
	text := &dns.TXT{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 60}}
	m.Answer = []dns.RR{text}
	for m.Len() < size {
		text.Txt = append(text.Txt, strings.Repeat("x", min(255, max(0, size-m.Len()-1))))
	}
	b, err := m.Pack()
	if err != nil || len(b) != size {
		t.Fatalf("%d bytes instead of %d: %v", len(b), size, err)
	}
	return b
}

func count(r *Resolver, c counter) uint64 { return r.counts[c] }

func resource(n byte) id.Resource { return id.Resource{15: n} }

func pattern(s string) policy.Pattern {
	p, err := policy.ParsePattern(s)
	if err != nil {
		panic(err)
	}
	return p
}

func digits(i int) string {
	if i == 0 {
		return "0"
	}
	var s string
	for ; i > 0; i /= 10 {
		s = string(rune('0'+i%10)) + s
	}
	return s
}

// noise is a source of chance that repeats itself.
func noise(seed uint64) *rand.ChaCha8 {
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	return rand.NewChaCha8(key)
}
