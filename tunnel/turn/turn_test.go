package turn

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v3"
)

const (
	username = "1893456000:kF8o3vGOqsBa5vErLDRSdEr69ibaE0PVezlbVE4FGbY"
	password = "/VP7bP2whqaMF4tnP1uq32bt0kgD/AmO5aw2beOS2n8"
	nonce    = "7d1d6c50-3c1c-4b5e-9d0b-2f6f6a3f7c11"
)

var (
	start0   = time.Unix(1000, 0)
	relay4   = ap("198.51.100.1:3478")
	relay6   = ap("[2001:db8::1]:3478")
	host4    = ap("192.168.1.5:52625")
	mapped4  = ap("203.0.113.7:40001")
	relayed4 = ap("198.51.100.9:50001")
	relayed6 = ap("[2001:db8:2::9]:50001")
	peer4    = ap("198.51.100.9:40001")
	signed   = credentials{username, stun.NewLongTermIntegrity(username, realm, password)}
)

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		panic(err)
	}
	return b
}

func TestVectors(t *testing.T) {
	id := transactionID(unhex("a0a1a2a3a4a5a6a7a8a9aaab"))
	for _, c := range []struct {
		name  string
		r     request
		nonce string
		want  string
	}{
		{"B.6", request{method: binding}, "", "0001000c 2112a442 a0a1a2a3 a4a5a6a7 a8a9aaab 80220007 736e6f77 6e657400"},
		{"B.7", request{method: allocate}, "", `
			0003007c 2112a442 a0a1a2a3 a4a5a6a7 a8a9aaab 00190004 11000000 80000004
			02000000 80220007 736e6f77 6e657400 00060036 31383933 34353630 30303a6b
			46386f33 76474f71 73426135 7645724c 44525364 45723639 69626145 30505665
			7a6c6256 45344647 62590000 00140008 66697265 7a6f6e65 00080014 71bce2ba
			4e7d4ce6 500ea97e 93441d22 e7b71f53`},
		{"B.8", request{method: allocate}, nonce, `
			000300a4 2112a442 a0a1a2a3 a4a5a6a7 a8a9aaab 00190004 11000000 80000004
			02000000 80220007 736e6f77 6e657400 00060036 31383933 34353630 30303a6b
			46386f33 76474f71 73426135 7645724c 44525364 45723639 69626145 30505665
			7a6c6256 45344647 62590000 00140008 66697265 7a6f6e65 00150024 37643164
			36633530 2d336331 632d3462 35652d39 6430622d 32663666 36613366 37633131
			00080014 152ce404 8288c54f 8ffea0d8 9a9d9b57 061b1a0e`},
		{"B.9", request{method: channelBind, channel: &channel{number: 0x4000, peer: peer4}}, nonce, `
			000900a8 2112a442 a0a1a2a3 a4a5a6a7 a8a9aaab 00120008 0001bd53 e721c04b
			000c0004 40000000 80220007 736e6f77 6e657400 00060036 31383933 34353630
			30303a6b 46386f33 76474f71 73426135 7645724c 44525364 45723639 69626145
			30505665 7a6c6256 45344647 62590000 00140008 66697265 7a6f6e65 00150024
			37643164 36633530 2d336331 632d3462 35652d39 6430622d 32663666 36613366
			37633131 00080014 ecaa9769 43908dd1 17341076 f1977c79 b82eacb2`},
	} {
		c.r.id = id
		if got := c.r.encode(signed, c.nonce); !bytes.Equal(got, unhex(c.want)) {
			t.Errorf("%s:\ngot  %x\nwant %x", c.name, got, unhex(c.want))
		}
	}
	if got := AppendChannelData(nil, 0x4000, []byte("hello")); !bytes.Equal(got, unhex("40000005 68656c6c6f")) {
		t.Errorf("B.10: got %x", got)
	}
	del := request{method: remove, id: id}
	m := decode(t, del.encode(signed, nonce))
	if v, _ := m.Get(stun.AttrLifetime); m.Type != requestType[refresh] || !bytes.Equal(v, []byte{0, 0, 0, 0}) || m.Attributes[3].Type != stun.AttrLifetime {
		t.Errorf("delete: %v", m)
	}
}

func TestParseChannelData(t *testing.T) {
	for _, c := range []struct {
		name, in string
		channel  uint16
		payload  string
		ok       bool
	}{
		{"B.10", "40000005 68656c6c6f", 0x4000, "hello", true},
		{"last number", "4fff0000", 0x4fff, "", true},
		{"padded", "40000005 68656c6c6f 000000", 0, "", false},
		{"cut", "40000005 68656c6c", 0, "", false},
		{"number below", "3fff0000", 0, "", false},
		{"number above", "50000000", 0, "", false},
		{"no header", "400000", 0, "", false},
	} {
		channel, payload, ok := ParseChannelData(unhex(c.in))
		if channel != c.channel || string(payload) != c.payload || ok != c.ok {
			t.Errorf("%s: got %x %q %v", c.name, channel, payload, ok)
		}
	}
}

func TestChannelDataDoesNotAllocate(t *testing.T) {
	buf := unhex("40000005 68656c6c6f")
	if n := testing.AllocsPerRun(100, func() {
		_, payload, _ := ParseChannelData(buf)
		PutHeader(buf, 0x4001, len(payload))
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParseChannelData(f *testing.F) {
	f.Add(unhex("40000005 68656c6c6f"))
	f.Add(unhex("4fff0000"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if channel, payload, ok := ParseChannelData(b); ok && !bytes.Equal(AppendChannelData(nil, channel, payload), b) {
			t.Fatalf("%x does not survive", b)
		}
	})
}

// FuzzHandle feeds an allocation whatever a relay, or somebody with its
// address, may send while requests of each kind are in flight.
func FuzzHandle(f *testing.F) {
	l := newLink(nil)
	l.a.Bind(peer4, start0)
	for _, s := range l.a.out {
		f.Add(l.answer(s, nil))
		f.Add(s.Payload)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l := newLink(nil)
		l.run(start0)
		l.a.Bind(peer4, start0)
		l.a.Handle(b, host4, relay4, start0)
		l.a.Advance(start0.Add(time.Hour))
	})
}

// A link joins an allocation with a relay that answers at once. Answers can
// be changed or swallowed.
type link struct {
	a      *Allocation
	sent   []string // requests by name, in order
	events []Event
	// override gives the answer to a request by its name; nil: the usual one,
	// an empty one: none.
	override func(name string, m *stun.Message) []byte
	nonce    string
}

func newLink(override func(string, *stun.Message) []byte) *link {
	return &link{
		a:        New(Config{V4: relay4, Username: username, Password: password, Rand: rand.NewChaCha8([32]byte{})}, start0),
		override: override, nonce: nonce,
	}
}

// run carries messages until nothing more is said at this time.
func (l *link) run(now time.Time) {
	for {
		l.a.Advance(now)
		sends := l.a.Drain(nil)
		l.events = l.a.Events(l.events)
		if len(sends) == 0 {
			return
		}
		for _, s := range sends {
			if reply := l.answer(s, &l.sent); len(reply) > 0 {
				l.a.Handle(reply, host4, s.To, now)
			}
		}
	}
}

// until runs from the first to the last moment.
func (l *link) until(from, to time.Time) {
	for now := from; !now.After(to); {
		l.run(now)
		next := l.a.Next()
		if next.IsZero() || next.After(to) {
			return
		}
		now = next
	}
}

func (l *link) answer(s Send, sent *[]string) []byte {
	m := new(stun.Message)
	if _, err := m.Write(s.Payload); err != nil {
		panic(err)
	}
	name := nameOf(m)
	if sent != nil {
		*sent = append(*sent, name)
	}
	if l.override != nil {
		if reply := l.override(name, m); reply != nil {
			return reply
		}
	}
	if m.Type.Method == stun.MethodBinding {
		return success(m, func(r *stun.Message) { addXORAddress(r, stun.AttrXORMappedAddress, mapped4) })
	}
	if given, _ := m.Get(stun.AttrNonce); string(given) != l.nonce {
		return failure(m, 401, l.nonce)
	}
	switch name {
	case "ALLOCATE":
		return granted(m)
	case "REFRESH":
		return success(m, lifetime(600))
	case "DELETE":
		return success(m, lifetime(0))
	}
	return success(m)
}

func nameOf(m *stun.Message) string {
	switch m.Type.Method {
	case stun.MethodBinding:
		return "BINDING"
	case stun.MethodAllocate:
		return "ALLOCATE"
	case stun.MethodChannelBind:
		return "BIND"
	}
	if m.Contains(stun.AttrLifetime) {
		return "DELETE"
	}
	return "REFRESH"
}

func lifetime(seconds uint32) func(*stun.Message) {
	return func(r *stun.Message) {
		r.Add(stun.AttrLifetime, binary.BigEndian.AppendUint32(nil, seconds))
	}
}

func relayedAt(addrs ...netip.AddrPort) func(*stun.Message) {
	return func(r *stun.Message) {
		for _, a := range addrs {
			addXORAddress(r, stun.AttrXORRelayedAddress, a)
		}
	}
}

func granted(m *stun.Message) []byte {
	return success(m, relayedAt(relayed4, relayed6), lifetime(600))
}

func success(m *stun.Message, parts ...func(*stun.Message)) []byte {
	return reply(m, stun.ClassSuccessResponse, parts...)
}

func failure(m *stun.Message, code stun.ErrorCode, nonce string) []byte {
	return reply(m, stun.ClassErrorResponse, func(r *stun.Message) {
		_ = stun.ErrorCodeAttribute{Code: code, Reason: []byte("no")}.AddTo(r)
		if nonce != "" {
			_ = stun.NewRealm(realm).AddTo(r)
			_ = stun.NewNonce(nonce).AddTo(r)
		}
	})
}

func reply(m *stun.Message, class stun.MessageClass, parts ...func(*stun.Message)) []byte {
	r := unsigned(m, class, parts...)
	if m.Type.Method != stun.MethodBinding {
		_ = signed.key.AddTo(r)
	}
	return r.Raw
}

func unsigned(m *stun.Message, class stun.MessageClass, parts ...func(*stun.Message)) *stun.Message {
	r := stun.New()
	r.Type, r.TransactionID = stun.NewType(m.Type.Method, class), m.TransactionID
	r.WriteHeader()
	for _, part := range parts {
		part(r)
	}
	return r
}

func decode(t *testing.T, b []byte) *stun.Message {
	t.Helper()
	m := new(stun.Message)
	if _, err := m.Write(b); err != nil {
		t.Fatal(err)
	}
	return m
}

func (l *link) want(t *testing.T, what string, sent []string, events []Event) {
	t.Helper()
	if !slices.Equal(l.sent, sent) {
		t.Errorf("%s: sent %v, want %v", what, l.sent, sent)
	}
	if !slices.Equal(l.events, events) {
		t.Errorf("%s: events %v, want %v", what, l.events, events)
	}
	l.sent, l.events = nil, nil
}
