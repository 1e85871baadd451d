package relay

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v3"
)

const secret = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

var (
	start    = time.Unix(1700000000, 0)
	publicV4 = netip.MustParseAddr("203.0.113.10")
	publicV6 = netip.MustParseAddr("2001:db8::10")
	alice    = netip.MustParseAddrPort("192.0.2.1:52625")
	peerA    = netip.MustParseAddrPort("198.51.100.9:40001")
	peerB    = netip.MustParseAddrPort("198.51.100.10:40002")
	peer6    = netip.MustParseAddrPort("[2001:db8:1::9]:40001")
)

// A world is a server, the ports its shell holds, and a clock.
type world struct {
	t      testing.TB
	server *Server
	now    time.Time
	open   map[uint16]Port
	taken  map[uint16]bool // ports that somebody else holds
	out    []Datagram
}

func newWorld(t testing.TB, c Config) *world {
	if c.Rand == nil {
		c.Rand = rand.NewChaCha8([32]byte{1})
	}
	c.StampSecret = secret
	return &world{t: t, server: New(c, start), now: start, open: map[uint16]Port{}, taken: map[uint16]bool{}}
}

func dual(t testing.TB) *world { return newWorld(t, Config{PublicV4: publicV4, PublicV6: publicV6}) }

// drain does what the server wants done.
func (w *world) drain() {
	for w.server.Pending() {
		var o Output
		w.server.Drain(&o)
		for _, p := range o.Close {
			if _, ok := w.open[p]; !ok {
				w.t.Fatalf("port %d closed twice or never opened", p)
			}
			delete(w.open, p)
		}
		for _, p := range o.Open {
			ok := !w.taken[p.Number]
			if ok {
				w.open[p.Number] = p
			}
			w.server.Opened(p.Number, ok, w.now)
		}
		w.out = append(w.out, o.Datagrams...)
	}
}

func (w *world) pass(d time.Duration) {
	end := w.now.Add(d)
	for {
		next := w.server.Next()
		if next.IsZero() || next.After(end) {
			break
		}
		w.now = next
		w.server.Advance(w.now)
		if again := w.server.Next(); !again.IsZero() && !again.After(w.now) {
			w.t.Fatal("due again at once")
		}
		w.drain()
	}
	w.now = end
}

// A client signs its requests as stock peers do.
type client struct {
	w                  *world
	addr               netip.AddrPort
	username, password string
	nonce              string
	id                 byte
}

func (w *world) client(addr netip.AddrPort, salt string) *client {
	c := &client{w: w, addr: addr}
	c.username, c.password = Credentials(secret, start.Unix()+365*86400, salt)
	return c
}

func (c *client) key() stun.MessageIntegrity {
	return stun.NewLongTermIntegrity(c.username, Realm, c.password)
}

type attr struct {
	t stun.AttrType
	v []byte
}

var (
	transport  = attr{stun.AttrRequestedTransport, []byte{17, 0, 0, 0}}
	additional = attr{attrAdditionalAddressFamily, []byte{2, 0, 0, 0}}
)

func seconds(n int) attr {
	return attr{stun.AttrLifetime, []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}}
}

func number(n uint16) attr {
	return attr{stun.AttrChannelNumber, []byte{byte(n >> 8), byte(n), 0, 0}}
}

// request builds a request without credentials.
func (c *client) request(method stun.Method, attrs ...attr) *stun.Message {
	c.id++
	m := stun.New()
	m.Type = stun.NewType(method, stun.ClassRequest)
	m.TransactionID[0] = c.id
	m.WriteHeader()
	for _, a := range attrs {
		if addr, err := netip.ParseAddrPort(string(a.v)); err == nil && a.t == stun.AttrXORPeerAddress {
			x := stun.XORMappedAddress{IP: addr.Addr().AsSlice(), Port: int(addr.Port())}
			if err := x.AddToAs(m, a.t); err != nil {
				c.w.t.Fatal(err)
			}
			continue
		}
		m.Add(a.t, a.v)
	}
	return m
}

func (c *client) sign(m *stun.Message) *stun.Message {
	m.Add(stun.AttrUsername, []byte(c.username))
	m.Add(stun.AttrRealm, []byte(Realm))
	if c.nonce != "" {
		m.Add(stun.AttrNonce, []byte(c.nonce))
	}
	if err := c.key().AddTo(m); err != nil {
		c.w.t.Fatal(err)
	}
	return m
}

// exchange sends raw bytes to the listening port and returns the only answer,
// nil if there is none.
func (c *client) exchange(raw []byte) *stun.Message {
	c.w.t.Helper()
	local := netip.AddrPortFrom(publicV4, DefaultPort)
	if c.addr.Addr().Is6() {
		local = netip.AddrPortFrom(publicV6, DefaultPort)
	}
	c.w.out = nil
	if _, ok := c.w.server.Datagram(Datagram{local, c.addr, slices.Clone(raw)}, c.w.now); ok {
		c.w.t.Fatal("a request was relayed")
	}
	c.w.drain()
	if len(c.w.out) == 0 {
		return nil
	}
	if len(c.w.out) != 1 || c.w.out[0].Remote != c.addr || c.w.out[0].Local != local {
		c.w.t.Fatalf("got answers %v", c.w.out)
	}
	m := stun.New()
	if err := stun.Decode(c.w.out[0].Payload, m); err != nil {
		c.w.t.Fatal(err)
	}
	return m
}

// do sends a signed request; it takes the nonce from 401 and 438 and tries
// again.
func (c *client) do(method stun.Method, attrs ...attr) *stun.Message {
	c.w.t.Helper()
	m := c.exchange(c.sign(c.request(method, attrs...)).Raw)
	if code := codeOf(m); code == 438 || code == 401 && c.nonce == "" {
		c.adopt(m)
		m = c.exchange(c.sign(c.request(method, attrs...)).Raw)
	}
	return m
}

func (c *client) adopt(m *stun.Message) {
	v, _ := m.Get(stun.AttrNonce)
	c.nonce = string(v)
}

// codeOf returns 0 for success, -1 without an answer.
func codeOf(m *stun.Message) int {
	if m == nil {
		return -1
	}
	if m.Type.Class == stun.ClassSuccessResponse {
		return 0
	}
	var e stun.ErrorCodeAttribute
	if e.GetFrom(m) != nil {
		return -2
	}
	return int(e.Code)
}

func (c *client) allocate(attrs ...attr) (relayed []netip.AddrPort) {
	c.w.t.Helper()
	m := c.do(stun.MethodAllocate, append([]attr{transport, additional}, attrs...)...)
	if codeOf(m) != 0 {
		c.w.t.Fatalf("allocate: %d", codeOf(m))
	}
	return addresses(m)
}

func addresses(m *stun.Message) (relayed []netip.AddrPort) {
	for _, a := range m.Attributes {
		if a.Type == stun.AttrXORRelayedAddress {
			one := *m
			one.Attributes = stun.Attributes{a}
			r := request{message: &one}
			addr, _ := r.address(stun.AttrXORRelayedAddress)
			relayed = append(relayed, addr)
		}
	}
	return relayed
}

func (c *client) bind(channel uint16, peer netip.AddrPort) int {
	c.w.t.Helper()
	return codeOf(c.do(stun.MethodChannelBind, attr{stun.AttrXORPeerAddress, []byte(peer.String())}, number(channel)))
}

func (c *client) data(raw string) (Forward, bool) {
	return c.w.server.Datagram(Datagram{netip.AddrPortFrom(publicV4, DefaultPort), c.addr, []byte(raw)}, c.w.now)
}

func (w *world) fromPeer(relayed, peer netip.AddrPort, text string) (Forward, bool) {
	return w.server.Datagram(Datagram{relayed, peer, []byte(text)}, w.now)
}

// shape lists the attributes of an answer in order.
func shape(m *stun.Message) string {
	var names []string
	for _, a := range m.Attributes {
		names = append(names, a.Type.String())
	}
	return strings.Join(names, " ")
}

// bytesOf reads the hexadecimal of appendix B.
func bytesOf(t testing.TB, text string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The scripted life of one stock client, from BINDING to deletion.
func TestLifeOfAnAllocation(t *testing.T) {
	w := dual(t)
	c := w.client(alice, "alice")

	m := c.exchange(c.request(stun.MethodBinding, attr{stun.AttrSoftware, []byte("snownet")}).Raw)
	if got := shape(m); got != "SOFTWARE XOR-MAPPED-ADDRESS" {
		t.Errorf("BINDING answered with %s", got)
	}
	m = c.exchange(c.sign(c.request(stun.MethodAllocate, transport, additional)).Raw)
	if codeOf(m) != 401 || shape(m) != "SOFTWARE ERROR-CODE REALM NONCE MESSAGE-INTEGRITY" || c.key().Check(m) != nil {
		t.Fatalf("first ALLOCATE: %d %s", codeOf(m), shape(m))
	}
	c.adopt(m)
	if len(c.nonce) != 36 {
		t.Errorf("nonce %q is no UUID", c.nonce)
	}
	m = c.do(stun.MethodAllocate, transport, additional)
	if shape(m) != "SOFTWARE XOR-RELAYED-ADDRESS XOR-RELAYED-ADDRESS XOR-MAPPED-ADDRESS LIFETIME MESSAGE-INTEGRITY" || c.key().Check(m) != nil {
		t.Fatalf("ALLOCATE: %d %s", codeOf(m), shape(m))
	}
	relayed := addresses(m)
	if relayed[0].Addr() != publicV4 || relayed[1].Addr() != publicV6 || relayed[0].Port() != relayed[1].Port() || relayed[0].Port() < 49152 {
		t.Errorf("relayed addresses %v", relayed)
	}
	if p := w.open[relayed[0].Port()]; !p.V4 || !p.V6 {
		t.Errorf("opened %+v", p)
	}
	if code := c.bind(0x4000, peerA); code != 0 {
		t.Fatalf("CHANNEL-BIND: %d", code)
	}
	f, ok := c.data("\x40\x00\x00\x05hello")
	if !ok || f.Local != relayed[0] || f.Remote != peerA || string(f.Append(nil)) != "hello" {
		t.Errorf("to the peer: %+v", f)
	}
	f, ok = w.fromPeer(relayed[0], peerA, "hello")
	if !ok || f.Local.Port() != DefaultPort || f.Remote != alice || string(f.Append(nil)) != "\x40\x00\x00\x05hello" {
		t.Errorf("from the peer: %+v", f)
	}
	m = c.do(stun.MethodRefresh)
	if codeOf(m) != 0 || shape(m) != "SOFTWARE LIFETIME MESSAGE-INTEGRITY" || c.key().Check(m) != nil {
		t.Errorf("REFRESH: %s", shape(m))
	}
	m = c.do(stun.MethodRefresh, seconds(0))
	if v, _ := m.Get(stun.AttrLifetime); codeOf(m) != 0 || !bytes.Equal(v, make([]byte, 4)) || len(w.open) != 0 {
		t.Errorf("deletion: %d, %d ports open", codeOf(m), len(w.open))
	}
	if _, ok := c.data("\x40\x00\x00\x05hello"); ok {
		t.Error("relayed after deletion")
	}
	w.pass(2 * time.Hour)
	if !w.server.Next().IsZero() || w.server.channels+len(w.server.users)+len(w.server.clients)+len(w.server.addresses) != 0 {
		t.Error("something is left behind")
	}
}

func TestCredentialVectors(t *testing.T) {
	user, pass := Credentials(secret, 1893456000, "kF8o3vGOqsBa5vErLDRSdEr69ibaE0PVezlbVE4FGbY")
	if user != "1893456000:kF8o3vGOqsBa5vErLDRSdEr69ibaE0PVezlbVE4FGbY" || pass != "/VP7bP2whqaMF4tnP1uq32bt0kgD/AmO5aw2beOS2n8" {
		t.Errorf("B.3: got %s, %s", user, pass)
	}
	s := New(Config{StampSecret: secret, Rand: rand.NewChaCha8([32]byte{})}, start)
	key, expiry, err := s.credentials(user)
	if hex.EncodeToString(key) != "ea6bb11d527106439a1b6259778b344d" || expiry != 1893456000 || err != nil {
		t.Errorf("B.3: key %x, expiry %d, %v", []byte(key), expiry, err)
	}
	if got := s.ID().String(); got != "2a8abfa8-cb99-4629-8437-854193ca6bca" {
		t.Errorf("B.3: relay id %s", got)
	}
	if got := relayID(strings.Repeat("ab", 32)).String(); got != "271a413b-d339-4570-9fdc-eaec41f14f11" {
		t.Errorf("portal.md 5.5: relay id %s", got)
	}
	if _, pass := Credentials(strings.Repeat("ab", 32), 1800000000, "kF8o3vGOqsBa5vErLDRSdEr69ibaE0PVezlbVE4FGbY"); pass != "vCYapEYJEOlx3OAa4k1eUknm2kNK8IamYMH2HP3amFg" {
		t.Errorf("portal.md 5.5: password %s", pass)
	}
}

const (
	b6 = `0001000c 2112a442 a0a1a2a3 a4a5a6a7 a8a9aaab 80220007 736e6f77 6e657400`
	b7 = `0003007c 2112a442 a0a1a2a3 a4a5a6a7 a8a9aaab 00190004 11000000 80000004
02000000 80220007 736e6f77 6e657400 00060036 31383933 34353630 30303a6b
46386f33 76474f71 73426135 7645724c 44525364 45723639 69626145 30505665
7a6c6256 45344647 62590000 00140008 66697265 7a6f6e65 00080014 71bce2ba
4e7d4ce6 500ea97e 93441d22 e7b71f53`
	b8 = `000300a4 2112a442 a0a1a2a3 a4a5a6a7 a8a9aaab 00190004 11000000 80000004
02000000 80220007 736e6f77 6e657400 00060036 31383933 34353630 30303a6b
46386f33 76474f71 73426135 7645724c 44525364 45723639 69626145 30505665
7a6c6256 45344647 62590000 00140008 66697265 7a6f6e65 00150024 37643164
36633530 2d336331 632d3462 35652d39 6430622d 32663666 36613366 37633131
00080014 152ce404 8288c54f 8ffea0d8 9a9d9b57 061b1a0e`
	b9 = `000900a8 2112a442 a0a1a2a3 a4a5a6a7 a8a9aaab 00120008 0001bd53 e721c04b
000c0004 40000000 80220007 736e6f77 6e657400 00060036 31383933 34353630
30303a6b 46386f33 76474f71 73426135 7645724c 44525364 45723639 69626145
30505665 7a6c6256 45344647 62590000 00140008 66697265 7a6f6e65 00150024
37643164 36633530 2d336331 632d3462 35652d39 6430622d 32663666 36613366
37633131 00080014 ecaa9769 43908dd1 17341076 f1977c79 b82eacb2`
	b10 = `40000005 68656c6c6f`
)

func TestRequestVectors(t *testing.T) {
	w := dual(t)
	c := &client{w: w, addr: alice, username: "1893456000:kF8o3vGOqsBa5vErLDRSdEr69ibaE0PVezlbVE4FGbY", password: "/VP7bP2whqaMF4tnP1uq32bt0kgD/AmO5aw2beOS2n8"}
	if m := c.exchange(bytesOf(t, b6)); codeOf(m) != 0 {
		t.Errorf("B.6: %d", codeOf(m))
	}
	if m := c.exchange(bytesOf(t, b7)); codeOf(m) != 401 || c.key().Check(m) != nil {
		t.Errorf("B.7: %d", codeOf(m))
	}
	for name, vector := range map[string]string{"B.8": b8, "B.9": b9} {
		if m := c.exchange(bytesOf(t, vector)); codeOf(m) != 438 || c.key().Check(m) != nil {
			t.Errorf("%s: %d, want 438 for a nonce of another relay", name, codeOf(m))
		}
		m := stun.New()
		if err := stun.Decode(bytesOf(t, vector), m); err != nil {
			t.Fatal(err)
		}
		r := request{message: m, method: m.Type.Method}
		if err := r.read(); err != nil || c.key().Check(m) != nil {
			t.Errorf("%s: %v, or integrity", name, err)
		}
		if r.method == stun.MethodChannelBind && (r.channel != 0x4000 || r.peer != peerA) {
			t.Errorf("B.9: channel %x, peer %v", r.channel, r.peer)
		}
		if r.method == stun.MethodAllocate && (r.transport != 17 || r.another != ipv6 || r.requested != noFamily) {
			t.Errorf("B.8: %+v", r)
		}
	}
	c.allocate()
	c.bind(0x4000, peerA)
	if f, ok := c.data(string(bytesOf(t, b10))); !ok || string(f.Payload) != "hello" {
		t.Errorf("B.10: %+v", f)
	}
}

func TestAddressFamilies(t *testing.T) {
	want4, want6 := attr{stun.AttrRequestedAddressFamily, []byte{1, 0, 0, 0}}, attr{stun.AttrRequestedAddressFamily, []byte{2, 0, 0, 0}}
	also4 := attr{attrAdditionalAddressFamily, []byte{1, 0, 0, 0}}
	columns := [][]attr{{}, {want4}, {want6}, {additional}, {want4, additional}, {want6, additional}, {also4}, {want6, also4}}
	for _, row := range []struct {
		name   string
		config Config
		want   [8]string
	}{
		{"IPv4 only", Config{PublicV4: publicV4}, [8]string{"4", "4", "440", "4", "400", "400", "400", "400"}},
		{"IPv6 only", Config{PublicV6: publicV6}, [8]string{"440", "440", "6", "6", "400", "400", "400", "400"}},
		{"dual", Config{PublicV4: publicV4, PublicV6: publicV6}, [8]string{"4", "4", "6", "46", "400", "400", "400", "400"}},
	} {
		for i, attrs := range columns {
			w := newWorld(t, row.config)
			m := w.client(alice, "alice").do(stun.MethodAllocate, append([]attr{transport}, attrs...)...)
			got := ""
			for _, a := range addresses(m) {
				got += map[bool]string{true: "4", false: "6"}[a.Addr().Is4()]
			}
			if code := codeOf(m); code != 0 {
				got = fmt.Sprint(code)
			}
			if got != row.want[i] {
				t.Errorf("%s, column %d: got %s, want %s", row.name, i, got, row.want[i])
			}
		}
	}
}
