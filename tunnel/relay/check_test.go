package relay

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v3"
)

// The order of checks: integrity, username, nonce, UUID, nonce, password.
func TestAuthenticationOrder(t *testing.T) {
	w := dual(t)
	c := w.client(alice, "alice")
	good := func(parts ...string) *stun.Message { // the named parts of a request
		m := c.request(stun.MethodRefresh)
		for _, p := range parts {
			kind, value, _ := strings.Cut(p, "=")
			switch kind {
			case "user":
				m.Add(stun.AttrUsername, []byte(value))
			case "nonce":
				m.Add(stun.AttrNonce, []byte(value))
			case "sign":
				key := c.key()
				if value == "wrong" {
					key = stun.NewLongTermIntegrity(c.username, Realm, "wrong")
				}
				if err := key.AddTo(m); err != nil {
					t.Fatal(err)
				}
			}
		}
		return m
	}
	nonce := "nonce=" + w.server.nonces.current(alice)
	stale := "nonce=7d1d6c50-3c1c-4b5e-9d0b-2f6f6a3f7c11"
	user := "user=" + c.username
	expiredName, _ := Credentials(secret, start.Unix()-1, "alice")
	otherName, _ := Credentials(strings.Repeat("ab", 32), start.Unix()+1, "alice")
	for _, test := range []struct {
		parts  []string
		code   int
		signed bool // the answer
	}{
		{nil, 401, false},
		{[]string{user}, 401, true},
		{[]string{user, nonce}, 401, true},
		{[]string{user, stale}, 401, true}, // integrity comes first
		{[]string{"sign=right"}, 401, false},
		{[]string{stale, "sign=right"}, 401, false}, // username comes before nonce
		{[]string{user, "sign=right"}, 401, true},
		{[]string{user, "nonce=abc", "sign=right"}, 401, true},
		{[]string{user, stale, "sign=right"}, 438, true},
		{[]string{user, stale, "sign=wrong"}, 438, true}, // nonce comes before password
		{[]string{user, nonce, "sign=wrong"}, 401, true},
		{[]string{"user=" + expiredName, nonce, "sign=right"}, 401, true},
		{[]string{"user=" + otherName, nonce, "sign=wrong"}, 401, true},
		{[]string{"user=nobody", nonce, "sign=right"}, -1, false},
		{[]string{"user=nobody"}, -1, false},
		{[]string{"user=1893456000:a:b", nonce, "sign=right"}, -1, false},
		{[]string{"user=-5:a", nonce, "sign=right"}, -1, false},
		{[]string{"user=99999999999999999999999:a", nonce, "sign=right"}, -1, false},
		{[]string{user, nonce, "sign=right"}, 437, true},
	} {
		request := good(test.parts...)
		m := c.exchange(request.Raw)
		if got := codeOf(m); got != test.code {
			t.Errorf("%v: got %d, want %d", test.parts, got, test.code)
			continue
		}
		if m == nil {
			continue
		}
		signed := m.Contains(stun.AttrMessageIntegrity)
		if signed != test.signed {
			t.Errorf("%v: signed %v", test.parts, signed)
		}
		if username, err := request.Get(stun.AttrUsername); err == nil && signed {
			key, _, _ := w.server.credentials(string(username))
			if key.Check(m) != nil {
				t.Errorf("%v: answer is not signed with the request's username", test.parts)
			}
		}
		want := "SOFTWARE ERROR-CODE"
		if test.code == 401 || test.code == 438 {
			want += " REALM NONCE"
		}
		if test.signed {
			want += " MESSAGE-INTEGRITY"
		}
		if got := shape(m); got != want {
			t.Errorf("%v: got %s, want %s", test.parts, got, want)
		}
	}
}

// What cannot be interpreted is answered without integrity, before anybody
// asks who sent it.
func TestUninterpretableRequests(t *testing.T) {
	w := dual(t)
	c := w.client(alice, "alice")
	c.allocate()
	peer := attr{stun.AttrXORPeerAddress, []byte(peerA.String())}
	for _, test := range []struct {
		name   string
		method stun.Method
		attrs  []attr
	}{
		{"no transport", stun.MethodAllocate, nil},
		{"short transport", stun.MethodAllocate, []attr{{stun.AttrRequestedTransport, []byte{17}}}},
		{"unknown family", stun.MethodAllocate, []attr{transport, {stun.AttrRequestedAddressFamily, []byte{3, 0, 0, 0}}}},
		{"unknown additional family", stun.MethodAllocate, []attr{transport, {attrAdditionalAddressFamily, []byte{0, 0, 0, 0}}}},
		{"no channel", stun.MethodChannelBind, []attr{peer}},
		{"channel too low", stun.MethodChannelBind, []attr{peer, number(0x3fff)}},
		{"channel too high", stun.MethodChannelBind, []attr{peer, number(0x5000)}},
		{"no peer", stun.MethodChannelBind, []attr{number(0x4000)}},
		{"short peer", stun.MethodChannelBind, []attr{number(0x4000), {stun.AttrXORPeerAddress, []byte{0, 1, 2, 3, 4}}}},
		{"long lifetime", stun.MethodRefresh, []attr{{stun.AttrLifetime, make([]byte, 8)}}},
		{"unknown method", stun.Method(0x0ff), nil},
		{"Send as a request", stun.MethodSend, nil},
		{"long username", stun.MethodRefresh, []attr{{stun.AttrUsername, make([]byte, 509)}}},
	} {
		m := c.exchange(c.sign(c.request(test.method, test.attrs...)).Raw)
		if codeOf(m) != 400 || m.Contains(stun.AttrMessageIntegrity) {
			t.Errorf("%s: %d", test.name, codeOf(m))
		}
	}
}

func TestDroppedSilently(t *testing.T) {
	w := dual(t)
	c := w.client(alice, "alice")
	relayed := c.allocate()[0]
	c.bind(0x4000, peerA)
	before := w.server.Stats().Dropped
	indication := c.request(stun.MethodSend)
	indication.SetType(stun.NewType(stun.MethodSend, stun.ClassIndication))
	response := c.request(stun.MethodBinding)
	response.SetType(stun.BindingSuccess)
	garbage := [][]byte{
		{}, {0}, {1, 1}, make([]byte, 20), indication.Raw, response.Raw, // no cookie, no requests
		{0x40}, {0x40, 0, 0}, {0x40, 0, 0, 1}, {0x40, 0, 0xff, 0xff, 1}, // shorter than they say
		{0x40, 1, 0, 1, 'x'}, {0x50, 0, 0, 1, 'x'}, {0x7f, 0, 0, 1, 'x'}, // not bound, not in use
		{0x10}, []byte("GET / HTTP/1.0\r\n"), {0x80, 0xff},
	}
	for _, b := range garbage {
		if m := c.exchange(b); m != nil {
			t.Errorf("%x answered", b)
		}
	}
	if _, ok := w.fromPeer(relayed, peerB, "x"); ok {
		t.Error("relayed from a peer without channel")
	}
	if _, ok := w.fromPeer(netip.AddrPortFrom(publicV4, relayed.Port()+1), peerA, "x"); ok {
		t.Error("relayed from a port that is not allocated")
	}
	if m := w.client(netip.MustParseAddrPort("192.0.2.1:0"), "x").exchange(bytesOf(t, b6)); m != nil {
		t.Error("answered to port 0")
	}
	if got := int(w.server.Stats().Dropped - before); got != len(garbage)+3 {
		t.Errorf("counted %d drops, want %d", got, len(garbage)+3)
	}
}

func TestErrorCodes(t *testing.T) {
	w := dual(t)
	c := w.client(alice, "alice")
	peer := func(a netip.AddrPort) attr { return attr{stun.AttrXORPeerAddress, []byte(a.String())} }
	want := func(name string, code int, m *stun.Message) {
		t.Helper()
		if got := codeOf(m); got != code {
			t.Errorf("%s: got %d, want %d", name, got, code)
		}
		if m != nil && c.key().Check(m) != nil {
			t.Errorf("%s: not signed", name)
		}
	}
	want("REFRESH without allocation", 437, c.do(stun.MethodRefresh))
	want("CHANNEL-BIND without allocation", 437, c.do(stun.MethodChannelBind, peer(peerA), number(0x4000)))
	want("CreatePermission without allocation", 0, c.do(stun.MethodCreatePermission, peer(peerA)))
	want("TCP", 400, c.do(stun.MethodAllocate, attr{stun.AttrRequestedTransport, []byte{6, 0, 0, 0}}))
	want("ALLOCATE", 0, c.do(stun.MethodAllocate, transport))
	want("ALLOCATE with allocation", 437, c.do(stun.MethodAllocate, transport))
	want("ALLOCATE over TCP with allocation", 437, c.do(stun.MethodAllocate, attr{stun.AttrRequestedTransport, []byte{6, 0, 0, 0}}))
	want("IPv6 peer of an IPv4 allocation", 443, c.do(stun.MethodChannelBind, peer(peer6), number(0x4000)))
	want("bind", 0, c.do(stun.MethodChannelBind, peer(peerA), number(0x4000)))
	want("bind again", 0, c.do(stun.MethodChannelBind, peer(peerA), number(0x4000)))
	want("peer has another channel", 400, c.do(stun.MethodChannelBind, peer(peerA), number(0x4001)))
	want("channel has another peer", 400, c.do(stun.MethodChannelBind, peer(peerB), number(0x4000)))
	want("second bind", 0, c.do(stun.MethodChannelBind, peer(peerB), number(0x4001)))
	want("crossed", 400, c.do(stun.MethodChannelBind, peer(peerA), number(0x4001)))
	for _, a := range []string{"127.0.0.1:53", "0.0.0.0:53", "224.0.0.1:53", "255.255.255.255:53", "198.51.100.9:0"} {
		want(a, 403, c.do(stun.MethodChannelBind, peer(netip.MustParseAddrPort(a)), number(0x4002)))
	}
	want("EVEN-PORT and others are ignored", 437, c.do(stun.MethodAllocate, transport,
		attr{stun.AttrEvenPort, []byte{0x80}}, attr{stun.AttrDontFragment, nil}, attr{stun.AttrType(0x7abc), []byte("x")}))
	m := c.sign(c.request(stun.MethodRefresh))
	m.Add(stun.AttrFingerprint, []byte{1, 2, 3, 4})
	want("FINGERPRINT is ignored", 0, c.exchange(m.Raw))
}

// Attributes behind MESSAGE-INTEGRITY are not the sender's.
func TestAttributesBehindIntegrity(t *testing.T) {
	w := dual(t)
	c := w.client(alice, "alice")
	c.allocate()
	m := c.sign(c.request(stun.MethodRefresh))
	m.Add(stun.AttrLifetime, []byte{0, 0, 0, 0})
	if m := c.exchange(m.Raw); codeOf(m) != 0 || len(w.open) != 1 {
		t.Errorf("%d, %d allocations left", codeOf(m), len(w.open))
	}
}

func TestLifetimes(t *testing.T) {
	for _, test := range []struct {
		ask, want int // seconds
	}{{-1, 600}, {1, 1}, {600, 600}, {3600, 3600}, {3601, 3600}, {0, 600}} {
		w := dual(t)
		c := w.client(alice, "alice")
		attrs := []attr{transport}
		if test.ask >= 0 {
			attrs = append(attrs, seconds(test.ask))
		}
		m := c.do(stun.MethodAllocate, attrs...)
		v, _ := m.Get(stun.AttrLifetime)
		if got := seconds(test.want).v; !slices.Equal(v, got) {
			t.Errorf("asked for %d, got %v", test.ask, v)
		}
		c.bind(0x4000, peerA)
		w.pass(min(time.Duration(test.want)*time.Second, channelLifetime) - 1)
		if _, ok := c.data("\x40\x00\x00\x00"); !ok {
			t.Errorf("%d: not relayed at the end of its life", test.want)
		}
		w.pass(1)
		if _, ok := c.data("\x40\x00\x00\x00"); ok {
			t.Errorf("%d: relayed after its life", test.want)
		}
		w.pass(time.Duration(test.want)*time.Second + sweepEvery)
		if len(w.open) != 0 {
			t.Errorf("%d: port still open", test.want)
		}
	}
}

func TestRefreshProlongs(t *testing.T) {
	w := dual(t)
	c := w.client(alice, "alice")
	c.allocate()
	for range 10 {
		w.pass(300 * time.Second)
		if code := codeOf(c.do(stun.MethodRefresh)); code != 0 {
			t.Fatalf("REFRESH: %d", code)
		}
	}
	w.pass(600 * time.Second)
	if code := codeOf(c.do(stun.MethodRefresh)); code != 437 {
		t.Errorf("REFRESH of an expired allocation: %d", code)
	}
	c.allocate() // expired: a new one is fine
}

func TestChannelLifetimeAndQuarantine(t *testing.T) {
	w := dual(t)
	c := w.client(alice, "alice")
	relayed := c.allocate(seconds(3600))[0]
	c.bind(0x4000, peerA)
	for range 59 { // data does not prolong it
		w.pass(10 * time.Second)
		_, out := c.data("\x40\x00\x00\x01x")
		_, in := w.fromPeer(relayed, peerA, "x")
		if !out || !in {
			t.Fatal("not relayed")
		}
	}
	w.pass(10 * time.Second)
	_, out := c.data("\x40\x00\x00\x01x")
	_, in := w.fromPeer(relayed, peerA, "x")
	if out || in {
		t.Error("relayed after 600 s")
	}
	w.pass(299 * time.Second)
	if got := c.bind(0x4000, peerB); got != 400 {
		t.Errorf("number for another peer in quarantine: %d", got)
	}
	if got := c.bind(0x4001, peerA); got != 400 {
		t.Errorf("peer with another number in quarantine: %d", got)
	}
	if got := c.bind(0x4000, peerA); got != 0 {
		t.Errorf("same combination in quarantine: %d", got)
	}
	if _, ok := c.data("\x40\x00\x00\x01x"); !ok {
		t.Error("not relayed after rebinding")
	}
	w.pass(900 * time.Second)
	if got := c.bind(0x4000, peerB); got != 0 {
		t.Errorf("number for another peer after quarantine: %d", got)
	}
	if got := c.bind(0x4001, peerA); got != 0 {
		t.Errorf("peer with another number after quarantine: %d", got)
	}
}

func TestPaddedChannelDataIsCut(t *testing.T) {
	w := dual(t)
	c := w.client(alice, "alice")
	c.allocate()
	c.bind(0x4000, peerA)
	if f, ok := c.data("\x40\x00\x00\x05hello\x00\x00\x00"); !ok || string(f.Payload) != "hello" {
		t.Errorf("got %q", f.Payload)
	}
}

func TestCrossFamily(t *testing.T) {
	w := dual(t)
	c := w.client(alice, "alice")
	relayed := c.allocate()
	c.bind(0x4006, peer6)
	f, ok := c.data("\x40\x06\x00\x01x")
	if !ok || f.Local != relayed[1] || f.Remote != peer6 {
		t.Errorf("to an IPv6 peer: %+v", f)
	}
	f, ok = w.fromPeer(relayed[1], peer6, "x")
	if !ok || f.Remote != alice || f.Channel != 0x4006 {
		t.Errorf("from an IPv6 peer: %+v", f)
	}
}

// Two clients of one relay meet inside it.
func TestBothPeersOnOneRelay(t *testing.T) {
	w := dual(t)
	a, b := w.client(alice, "alice"), w.client(netip.MustParseAddrPort("192.0.2.2:52625"), "bob")
	ra, rb := a.allocate()[0], b.allocate()[0]
	a.bind(0x4000, rb)
	if _, ok := a.data("\x40\x00\x00\x02hi"); ok {
		t.Error("relayed to a client that has bound no channel")
	}
	b.bind(0x4567, ra)
	f, ok := a.data("\x40\x00\x00\x02hi")
	if !ok || f.Remote != b.addr || string(f.Append(nil)) != "\x45\x67\x00\x02hi" {
		t.Errorf("got %+v", f)
	}
}

func TestOneAllocationPerUser(t *testing.T) {
	w := dual(t)
	a := w.client(alice, "alice")
	first := a.allocate()[0]
	moved := w.client(netip.MustParseAddrPort("192.0.2.77:1"), "alice")
	second := moved.allocate()[0]
	if _, ok := w.open[first.Port()]; ok || len(w.open) != 1 {
		t.Errorf("open: %v", w.open)
	}
	if code := codeOf(a.do(stun.MethodRefresh)); code != 437 {
		t.Errorf("REFRESH of the old one: %d", code)
	}
	w.client(netip.MustParseAddrPort("192.0.2.77:2"), "bob").allocate()
	if _, ok := w.open[second.Port()]; !ok || len(w.open) != 2 {
		t.Errorf("another user took it away: %v", w.open)
	}
}

// A relay that is out of ports, or whose ports others hold.
func TestPorts(t *testing.T) {
	w := newWorld(t, Config{PublicV4: publicV4, LowestPort: 50000, HighestPort: 50003})
	w.taken[50001] = true
	var relayed []uint16
	for i := range 3 {
		relayed = append(relayed, w.client(netip.AddrPortFrom(alice.Addr(), uint16(1000+i)), fmt.Sprint(i)).allocate()[0].Port())
	}
	slices.Sort(relayed)
	if want := []uint16{50000, 50002, 50003}; !slices.Equal(relayed, want) {
		t.Errorf("got %v", relayed)
	}
	late := w.client(netip.AddrPortFrom(alice.Addr(), 2000), "late")
	if code := codeOf(late.do(stun.MethodAllocate, transport)); code != 508 {
		t.Errorf("got %d, want 508", code)
	}
	w.pass(700 * time.Second)
	late.allocate()
}

func TestListeningPortIsNotAllocated(t *testing.T) {
	w := newWorld(t, Config{PublicV4: publicV4, ListenPort: 50000, LowestPort: 50000, HighestPort: 50001})
	if w.server.openPort(&allocation{}); len(w.server.out.Open) != 1 || w.server.out.Open[0].Number != 50001 {
		t.Errorf("got %+v", w.server.out.Open)
	}
}

// An ALLOCATE sent again with its transaction ID was not answered audibly.
func TestRetransmittedAllocate(t *testing.T) {
	w := dual(t)
	c := w.client(alice, "alice")
	c.nonce = w.server.nonces.current(alice)
	raw := c.sign(c.request(stun.MethodAllocate, transport)).Raw
	first, second := c.exchange(raw), c.exchange(raw)
	if codeOf(first) != 0 || codeOf(second) != 0 || !slices.Equal(first.Raw, second.Raw) {
		t.Errorf("got %d, %d", codeOf(first), codeOf(second))
	}
	// While the port is not open there is no answer yet.
	c = w.client(netip.AddrPortFrom(alice.Addr(), 9), "bob")
	c.nonce = w.server.nonces.current(c.addr)
	raw = c.sign(c.request(stun.MethodAllocate, transport)).Raw
	d := Datagram{netip.AddrPortFrom(publicV4, DefaultPort), c.addr, raw}
	w.server.Datagram(d, w.now)
	w.server.Datagram(d, w.now)
	var o Output
	w.server.Drain(&o)
	if len(o.Datagrams) != 0 || len(o.Open) != 1 {
		t.Errorf("got %+v", o)
	}
}

// The shell opens a port whose allocation is gone by then.
func TestOpenedTooLate(t *testing.T) {
	w := dual(t)
	w.server.Opened(50000, true, w.now)
	var o Output
	w.server.Drain(&o)
	if !slices.Equal(o.Close, []uint16{50000}) {
		t.Errorf("got %+v", o)
	}
	w.server.Opened(50000, false, w.now)
	if w.server.Pending() {
		t.Error("something to do for a port that was not opened")
	}
}

func TestNonceUses(t *testing.T) {
	w := dual(t)
	c := w.client(alice, "alice")
	c.allocate() // one use
	first := c.nonce
	for i := 1; i < nonceUses; i++ {
		if code := codeOf(c.exchange(c.sign(c.request(stun.MethodCreatePermission)).Raw)); code != 0 {
			t.Fatalf("use %d: %d", i+1, code)
		}
	}
	m := c.exchange(c.sign(c.request(stun.MethodCreatePermission)).Raw)
	if codeOf(m) != 438 {
		t.Fatalf("use 10001: %d", codeOf(m))
	}
	c.adopt(m)
	if code := codeOf(c.do(stun.MethodRefresh)); code != 0 || c.nonce == first {
		t.Errorf("with the new nonce: %d", code)
	}
	other := w.client(netip.AddrPortFrom(alice.Addr(), 9), "alice")
	other.nonce = c.nonce
	if code := codeOf(other.exchange(other.sign(other.request(stun.MethodCreatePermission)).Raw)); code != 438 {
		t.Errorf("nonce of another socket: %d", code)
	}
}

// Requests from forged addresses leave nothing behind, and get few answers.
func TestFloodCostsNothing(t *testing.T) {
	w := dual(t)
	rng := rand.New(rand.NewPCG(1, 1))
	c := w.client(alice, "alice")
	for i := range 20_000 {
		c.addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(rng.Uint32()), byte(i % 4)}), uint16(1+rng.IntN(65535)))
		m := c.request(stun.MethodBinding)
		if i%2 == 0 {
			m = c.sign(c.request(stun.MethodAllocate, transport))
		}
		c.exchange(m.Raw)
	}
	s := w.server
	if len(s.clients)+len(s.nonces.used)+len(s.ports)+len(s.users)+len(s.addresses) != 0 || !s.Next().IsZero() {
		t.Error("a flood left something behind")
	}
	c.addr = alice
	answered := 0
	for range 1000 {
		if c.exchange(c.request(stun.MethodBinding).Raw) != nil {
			answered++
		}
	}
	if answered > answersPerSecond {
		t.Errorf("%d answers to one address within a second", answered)
	}
	w.pass(time.Second)
	c.allocate()
	for i := range 200 { // a client of ours is not limited
		if c.exchange(c.request(stun.MethodBinding).Raw) == nil {
			t.Fatalf("BINDING %d of a client was not answered", i)
		}
	}
}

func TestAllocationsPerAddress(t *testing.T) {
	w := dual(t)
	for i := range maxPerAddress {
		w.now = w.now.Add(20 * time.Millisecond)
		w.client(netip.AddrPortFrom(alice.Addr(), uint16(1000+i)), fmt.Sprint(i)).allocate()
	}
	c := w.client(netip.AddrPortFrom(alice.Addr(), 9), "late")
	if code := codeOf(c.do(stun.MethodAllocate, transport)); code != 486 {
		t.Errorf("got %d, want 486", code)
	}
	w.client(netip.MustParseAddrPort("192.0.2.200:9"), "elsewhere").allocate()
	w.pass(700 * time.Second)
	c.allocate()
}

func TestChannelsInAll(t *testing.T) {
	w := dual(t)
	c := w.client(alice, "alice")
	c.allocate(seconds(3600))
	w.server.channels = maxChannels
	if code := c.bind(0x4000, peerA); code != 508 {
		t.Errorf("got %d, want 508", code)
	}
	w.server.channels = 0
	for i := range 100 {
		c.bind(0x4000+uint16(i), netip.AddrPortFrom(peerA.Addr(), uint16(1+i)))
	}
	if w.server.Stats().Channels != 100 {
		t.Errorf("%d channels counted", w.server.Stats().Channels)
	}
	w.pass(905 * time.Second)
	if w.server.Stats().Channels != 0 {
		t.Errorf("%d channels left after quarantine", w.server.Stats().Channels)
	}
}

// The relay counts what it holds, whatever clients do.
func TestRandomClients(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 0))
		w := newWorld(t, Config{PublicV4: publicV4, PublicV6: publicV6, LowestPort: 50000, HighestPort: 50007, Rand: rand.NewChaCha8([32]byte{byte(seed)})})
		w.taken[50003] = true
		var clients []*client
		for i := range 12 {
			clients = append(clients, w.client(netip.AddrPortFrom(alice.Addr(), uint16(1000+i)), fmt.Sprint(i%9)))
		}
		type binding struct {
			peer  netip.AddrPort
			until time.Time
		}
		model := map[*client]map[uint16]binding{} // channels that must work
		for range 300 {
			c := clients[rng.IntN(len(clients))]
			switch rng.IntN(6) {
			case 0:
				m := c.do(stun.MethodAllocate, transport, additional)
				if codeOf(m) == 0 {
					for _, other := range clients {
						if other.username == c.username {
							delete(model, other)
						}
					}
					model[c] = map[uint16]binding{}
				}
			case 1:
				if codeOf(c.do(stun.MethodRefresh, seconds(0))) == 0 {
					delete(model, c)
				}
			case 2, 3:
				n := uint16(0x4000 + rng.IntN(4))
				peer := netip.AddrPortFrom(peerA.Addr(), uint16(1+rng.IntN(4)))
				if c.bind(n, peer) == 0 {
					if model[c] == nil {
						t.Fatalf("seed %d: bound without allocation", seed)
					}
					model[c][n] = binding{peer, w.now.Add(600 * time.Second)}
				}
			case 4:
				c.do(stun.MethodRefresh)
			case 5:
				w.pass(time.Duration(rng.IntN(100)) * time.Second)
			}
			channels := 0
			for _, a := range w.server.ports {
				channels += len(a.channels)
				if len(a.channels) != len(a.peers) || w.server.clients[a.client] != a || w.server.users[a.user] != a {
					t.Fatalf("seed %d: inconsistent allocation %+v", seed, a)
				}
			}
			sv := w.server
			if channels != sv.channels || len(w.open) != len(sv.ports) || len(sv.clients) != len(sv.ports) || len(sv.users) != len(sv.ports) {
				t.Fatalf("seed %d: counted %d of %d channels; %d ports open, %d allocated", seed, sv.channels, channels, len(w.open), len(sv.ports))
			}
			for c, bound := range model {
				a := sv.clients[c.addr]
				if a == nil || !a.live(w.now) {
					delete(model, c)
					continue
				}
				for n, b := range bound {
					f, ok := c.data(string([]byte{byte(n >> 8), byte(n), 0, 1, 'x'}))
					if want := w.now.Before(b.until); ok != want || ok && f.Remote != b.peer {
						t.Fatalf("seed %d: channel %x: relayed %v to %v, want %v to %v", seed, n, ok, f.Remote, want, b.peer)
					}
				}
			}
		}
	}
}

func TestExpiredCredentials(t *testing.T) {
	w := dual(t)
	c := w.client(alice, "alice")
	c.username, c.password = Credentials(secret, start.Unix()+1, "alice")
	c.allocate()
	w.now = w.now.Add(time.Second) // until the end of it
	if code := codeOf(c.do(stun.MethodRefresh)); code != 0 {
		t.Errorf("got %d at the last second", code)
	}
	w.now = w.now.Add(time.Second)
	if code := codeOf(c.do(stun.MethodRefresh)); code != 401 {
		t.Errorf("got %d after it", code)
	}
}
