package gateway

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"stile/platform/arena"
	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/packet"
	"stile/tunnel/path"
	"stile/tunnel/wg"
	"stile/tunnel/wire"
)

var (
	epoch = time.Unix(1_800_000_000, 0)
	// The clock of a role has nothing to do with the wall's.
	boot = time.Unix(5000, 0)

	own4 = netip.MustParseAddr("100.64.0.1")
	own6 = netip.MustParseAddr("fd00:2021:1111::1")

	addrA = netip.MustParseAddr("10.0.0.1")
	addrB = netip.MustParseAddr("10.0.0.2")
	addrD = netip.MustParseAddr("2001:db8::1")
	in2   = netip.MustParseAddr("10.0.1.1") // of the second network
)

// A bench is a Core with everything around it played by the test: paths that
// are up at once, a portal, clients and the network behind the TUN. What the
// core wants done is collected as lines of text.
type bench struct {
	t     testing.TB
	c     *Core
	paths *fakePaths
	now   time.Time
	lines []string
	out   core.Output
	fails bool // Configure does
	slow  bool // the test answers Configure itself
	looks []core.Lookup
	flows []core.Flow // all that were told
	last  []byte      // the latest packet that the core itself sent to a client

	refresh func(core.Lookup) core.Looked // answers those that nobody announced; nil: DNS fails
}

// newBench returns a gateway that has joined and was configured.
func newBench(t testing.TB, authorizations ...wire.Authorization) *bench {
	return newBenchWith(t, Config{}, authorizations...)
}

func newBenchWith(t testing.TB, c Config, authorizations ...wire.Authorization) *bench {
	b := &bench{t: t, now: boot, paths: &fakePaths{peers: make(map[id.Peer]path.Peer), down: make(map[id.Peer]bool)}}
	c.Rand, c.Wall = noise(1), epoch
	if c.Memory == nil {
		c.Memory = new(arena.Arena)
	}
	b.c = build(c, b.paths, b.now)
	b.do(func() { b.c.PortalUp(b.now) })
	b.message(wire.GatewayInit{IPv4: own4, IPv6: own6, Authorizations: authorizations})
	b.lines = nil
	return b
}

// at moves the clock to that many seconds after the start, timer by timer.
func (b *bench) at(seconds float64) {
	b.t.Helper()
	b.until(boot.Add(time.Duration(seconds * float64(time.Second))))
}

func (b *bench) until(end time.Time) {
	b.t.Helper()
	for next := b.c.Next(); !next.IsZero() && !next.After(end); next = b.c.Next() {
		if next.After(b.now) {
			b.now = next
		}
		before := next
		b.do(func() { b.c.Advance(b.now) })
		if b.c.Next().Equal(before) {
			b.t.Fatalf("Next stays at %v after Advance", before)
		}
	}
	b.now = end
}

// do runs one input and notes what comes out.
func (b *bench) do(input func()) {
	b.t.Helper()
	input()
	for {
		b.out.Reset()
		b.c.Drain(&b.out)
		b.flows = append(b.flows, b.out.Flows...)
		if b.out.Empty() {
			return
		}
		var answers []core.Result
		for _, h := range b.out.Held {
			b.note("to %s: %s", b.paths.owner(h.Route), describe(h.Packet))
			b.last = h.Packet
		}
		for _, a := range b.out.Actions {
			switch a := a.(type) {
			case core.Tell:
				b.note("portal: %s", describeMessage(a.Message))
			case core.Configure:
				b.note("configure %v %v %v", a.TUN.IPv4, a.TUN.IPv6, a.TUN.Routes)
				r := core.Configured{}
				if b.fails {
					r.Err = errors.New("no")
				}
				if !b.slow {
					answers = append(answers, r)
				}
			case core.Lookup:
				if len(b.c.lookups.by[a.ID].events) == 0 { // nobody announced it: a refresh
					answers = append(answers, b.refreshed(a))
					continue
				}
				b.note("look up %s", a.Name)
				b.looks = append(b.looks, a)
			default:
				b.note("%T", a)
			}
		}
		for _, r := range answers {
			b.c.Done(r, b.now)
		}
	}
}

func (b *bench) refreshed(a core.Lookup) core.Looked {
	if b.refresh == nil {
		return core.Looked{ID: a.ID, Err4: errLookup, Err6: errLookup}
	}
	r := b.refresh(a)
	r.ID = a.ID
	return r
}

func (b *bench) note(format string, args ...any) {
	b.lines = append(b.lines, fmt.Sprintf(format, args...))
}

// want compares what was noted since the last time with a list of lines.
func (b *bench) want(when string, want ...string) {
	b.t.Helper()
	got := b.lines
	b.lines = nil
	if !slices.Equal(got, want) {
		b.t.Errorf("%s:\n got %s\nwant %s", when, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

func (b *bench) message(m wire.Message) {
	b.t.Helper()
	b.do(func() { b.c.Message(m, b.now) })
}

// grant authorizes client n for a resource until a number of seconds after the
// start, 0 for ever, and forgets what that led to.
func (b *bench) grant(n byte, r wire.GatewayResource, until int64) {
	b.t.Helper()
	m := authorization(n, r)
	if until != 0 {
		m.ExpiresAt = epoch.Unix() + until
	}
	b.message(m)
	b.lines = nil
}

// send is a packet of client n; the result goes to the TUN.
func (b *bench) send(n byte, raw []byte) (out []byte) {
	b.t.Helper()
	b.do(func() { out = b.c.Inbound(b.paths.keysOf(who(n)), 1, slices.Clone(raw), b.now) })
	return out
}

// passes is send for a packet that must go to x.
func (b *bench) passes(n byte, raw []byte, x netip.Addr) packet.Packet {
	b.t.Helper()
	out := b.send(n, raw)
	if out == nil {
		b.t.Fatalf("at %v: %s did not pass: %v %v", b.now.Sub(boot), describe(raw), b.lines, b.counters())
	}
	p := parse(b.t, out)
	if p.Dst() != x || !p.ValidChecksums() {
		b.t.Fatalf("at %v: %s, want to %v", b.now.Sub(boot), describe(out), x)
	}
	return p
}

// refused is send for a packet that must not pass; lines are what the client
// hears.
func (b *bench) refused(n byte, raw []byte, counter string, lines ...string) {
	b.t.Helper()
	b.lines = nil
	before := b.counter(counter)
	if out := b.send(n, raw); out != nil {
		b.t.Errorf("at %v: %s passed as %s", b.now.Sub(boot), describe(raw), describe(out))
	}
	if b.counter(counter) != before+1 {
		b.t.Errorf("at %v: %s was not counted as %q: %v", b.now.Sub(boot), describe(raw), counter, b.counters())
	}
	b.want(describe(raw), lines...)
}

// receive is a packet from the TUN; the result is what the client gets.
func (b *bench) receive(raw []byte) (out []byte) {
	b.t.Helper()
	raw = slices.Clone(raw)
	b.do(func() {
		if r := b.c.Outbound(parse(b.t, raw), b.now); r.Keys != nil {
			out = raw
		}
	})
	return out
}

// arrives is receive for a packet that must reach a client from addr.
func (b *bench) arrives(raw []byte, addr netip.Addr) packet.Packet {
	b.t.Helper()
	out := b.receive(raw)
	if out == nil {
		b.t.Fatalf("at %v: %s did not arrive: %v", b.now.Sub(boot), describe(raw), b.counters())
	}
	p := parse(b.t, out)
	if p.Src() != addr || !p.ValidChecksums() {
		b.t.Fatalf("at %v: %s, want from %v", b.now.Sub(boot), describe(out), addr)
	}
	return p
}

// lost is receive for a packet that must not reach anybody.
func (b *bench) lost(raw []byte, counter string) {
	b.t.Helper()
	before := b.counter(counter)
	if out := b.receive(raw); out != nil {
		b.t.Errorf("at %v: %s arrived as %s", b.now.Sub(boot), describe(raw), describe(out))
	}
	if b.counter(counter) != before+1 {
		b.t.Errorf("at %v: %s was not counted as %q: %v", b.now.Sub(boot), describe(raw), counter, b.counters())
	}
	b.want(describe(raw))
}

// announce is AssignedIPs of client n.
func (b *bench) announce(n, resource byte, name string, proxies []netip.Addr) {
	b.t.Helper()
	a := wire.AssignedIPs{Resource: res(resource), Domain: name, ProxyIPs: proxies}
	b.send(n, packet.AppendControl(nil, wire.EventAssignedIPs, a.Append(nil)))
}

// resolved answers the oldest look-up.
func (b *bench) resolved(addrs ...netip.Addr) {
	b.t.Helper()
	r := core.Looked{ID: b.looks[0].ID}
	for _, a := range addrs {
		if a.Is4() {
			r.V4 = append(r.V4, a)
		} else {
			r.V6 = append(r.V6, a)
		}
	}
	b.looked(r)
}

func (b *bench) looked(r core.Looked) {
	b.t.Helper()
	b.looks = b.looks[1:]
	b.do(func() { b.c.Done(r, b.now) })
}

// name announces and resolves at once, and forgets what that led to.
func (b *bench) name(n, resource byte, name string, proxies []netip.Addr, addrs ...netip.Addr) {
	b.t.Helper()
	b.announce(n, resource, name, proxies)
	b.resolved(addrs...)
	b.lines = nil
}

func (b *bench) counters() []core.Counter {
	var r core.Report
	b.c.Report(&r, b.now)
	return r.Counters
}

func (b *bench) counter(name string) uint64 {
	for _, c := range b.counters() {
		if c.Name == name {
			return c.Value
		}
	}
	return 0
}

// fakePaths are connections that are up as soon as they are asked for.
type fakePaths struct {
	peers  map[id.Peer]path.Peer
	down   map[id.Peer]bool
	order  []id.Peer // keys are known by their index here
	keys   []*wg.Keys
	refuse error
	way    *core.Way // given out, if not nil
	out    path.Output
	calls  []string
}

func (f *fakePaths) keysOf(c id.Client) *wg.Keys {
	i := slices.Index(f.order, id.PeerOf(c))
	if i < 0 {
		f.order = append(f.order, id.PeerOf(c))
		f.keys = append(f.keys, new(wg.Keys))
		i = len(f.order) - 1
	}
	return f.keys[i]
}

func (f *fakePaths) owner(r core.Route) string {
	return fmt.Sprintf("client %d", f.order[slices.Index(f.keys, r.Keys)][15])
}

func (f *fakePaths) Relays(remove []id.Relay, add []wire.Relay, _ time.Time) {
	f.calls = append(f.calls, fmt.Sprintf("relays -%d +%d", len(remove), len(add)))
}

func (f *fakePaths) Upsert(p path.Peer, _ time.Time) error {
	if f.refuse != nil {
		f.out.Events = append(f.out.Events, path.NoRelays{})
		return f.refuse
	}
	f.peers[p.ID] = p
	f.out.Events = append(f.out.Events, path.Candidates{Peer: p.ID, Texts: []string{"candidate"}})
	return nil
}

func (f *fakePaths) Close(p id.Peer, goodbye bool, now time.Time) {
	if goodbye {
		f.Control(p, packet.AppendControl(nil, wire.EventGoodbye, nil), now)
	}
	delete(f.peers, p)
}

func (f *fakePaths) AddCandidates(p id.Peer, texts []string, _ time.Time) {
	f.calls = append(f.calls, fmt.Sprintf("add %d %v", p[15], texts))
}

func (f *fakePaths) RemoveCandidates(p id.Peer, texts []string, _ time.Time) {
	f.calls = append(f.calls, fmt.Sprintf("remove %d %v", p[15], texts))
}

func (f *fakePaths) Datagram(core.Datagram, time.Time) core.Sealed { return core.Sealed{} }

func (f *fakePaths) Received(k *wg.Keys, _ uint64, _ int, _ time.Time) (id.Peer, bool) {
	p := f.order[slices.Index(f.keys, k)]
	_, ok := f.peers[p]
	return p, ok
}

func (f *fakePaths) Route(p id.Peer, _ int, _ time.Time) core.Route {
	if _, ok := f.peers[p]; !ok || f.down[p] {
		return core.Route{}
	}
	way := f.way
	if way == nil {
		way = new(core.Way)
	}
	return core.Route{Keys: f.keysOf(id.ClientOf(p)), Way: way}
}

func (f *fakePaths) Control(p id.Peer, packet []byte, now time.Time) bool {
	route := f.Route(p, len(packet), now)
	if route.Keys == nil {
		return false
	}
	f.out.Held = append(f.out.Held, core.Held{Route: route, Packet: packet})
	return true
}

func (f *fakePaths) PortalUp(time.Time)   {}
func (f *fakePaths) PortalDown(time.Time) {}
func (f *fakePaths) Advance(time.Time)    {}
func (f *fakePaths) Next() time.Time      { return time.Time{} }

func (f *fakePaths) Drain(o *path.Output) {
	o.Held = append(o.Held, f.out.Held...)
	o.Events = append(o.Events, f.out.Events...)
	f.out.Reset()
}

func (f *fakePaths) Report(dst []core.Connection) []core.Connection {
	for p := range f.peers {
		dst = append(dst, core.Connection{Peer: p})
	}
	return dst
}

func (f *fakePaths) ReportOf(p id.Peer) (core.Connection, bool) {
	if _, ok := f.peers[p]; !ok {
		return core.Connection{}, false
	}
	if f.down[p] {
		return core.Connection{Peer: p, State: "connecting"}, true
	}
	return core.Connection{Peer: p, State: "connected", Relayed: p[15]%2 == 0, Sent: 5, Received: 7}, true
}

func (f *fakePaths) ReportRelays(dst []core.Relay) []core.Relay {
	return append(dst, core.Relay{ID: id.Relay{15: 1}, RTT: 12500 * time.Microsecond})
}

func who(n byte) id.Client   { return id.Client{15: n} }
func res(n byte) id.Resource { return id.Resource{15: n} }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func c4(n byte) netip.Addr { return netip.AddrFrom4([4]byte{100, 64, 1, n}) }
func c6(n byte) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("fd00:2021:1111::1:%x", n)) }

func authorization(n byte, r wire.GatewayResource) wire.CreateAuthorization {
	return wire.CreateAuthorization{
		Ref: fmt.Sprintf("ref-%d", n), Resource: r, Client: who(n), ClientKey: wire.Key{1, n}, PresharedKey: wire.Key{2, n},
		ClientIPv4: c4(n), ClientIPv6: c6(n),
		ClientICE:  wire.ICECredentials{Username: "cccc", Password: strings.Repeat("c", 22)},
		GatewayICE: wire.ICECredentials{Username: "gggg", Password: strings.Repeat("g", 22)},
	}
}

func cidr(n byte, prefix string, filters ...wire.Filter) wire.GatewayResource {
	return wire.GatewayResource{ID: res(n), Type: wire.CIDR, Name: "net", Address: prefix, Filters: filters}
}

func dns(n byte, pattern string, filters ...wire.Filter) wire.GatewayResource {
	return wire.GatewayResource{ID: res(n), Type: wire.DNS, Name: "name", Address: pattern, Filters: filters}
}

func internet(n byte) wire.GatewayResource {
	return wire.GatewayResource{ID: res(n), Type: wire.Internet}
}

func tcpOnly(port uint16) wire.Filter {
	return wire.Filter{Protocol: wire.TCP, First: port, Last: port}
}

func udpOnly(port uint16) wire.Filter {
	return wire.Filter{Protocol: wire.UDP, First: port, Last: port}
}

// proxies are the eight addresses of the n-th name, four of each family in
// turn.
func proxies(n byte) []netip.Addr {
	var list []netip.Addr
	for i := range byte(4) {
		list = append(list, netip.AddrFrom4([4]byte{100, 96, n, 1 + i}),
			netip.AddrFrom16([16]byte{0: 0xfd, 2: 0x20, 3: 0x21, 4: 0x11, 5: 0x11, 6: 0x80, 14: n, 15: i}))
	}
	return list
}

func parse(t testing.TB, b []byte) packet.Packet {
	t.Helper()
	p, err := packet.Parse(b)
	if err != nil {
		t.Fatalf("% x: %v", b, err)
	}
	return p
}

func udp(src, dst netip.Addr, sport, dport uint16) []byte {
	return packet.AppendUDP(nil, netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport), []byte("data"))
}

func tcp(src, dst netip.Addr, sport, dport uint16, flags packet.TCPFlags) []byte {
	b := make([]byte, 20, 24)
	binary.BigEndian.PutUint16(b, sport)
	binary.BigEndian.PutUint16(b[2:], dport)
	b[12], b[13] = 0x50, byte(flags)
	return ip(src, dst, packet.TCP, append(b, "data"...))
}

func echo(src, dst netip.Addr, id uint16, request bool) []byte {
	typ := byte(0)
	if request {
		typ = 8
	}
	return ip(src, dst, packet.ICMP, []byte{typ, 0, 0, 0, byte(id >> 8), byte(id), 0, 1})
}

func icmpError(src, dst netip.Addr, typ, code byte, about []byte) []byte {
	return ip(src, dst, packet.ICMP, append([]byte{typ, code, 0, 0, 0, 0, 0, 0}, about...))
}

// ip puts an IPv4 header in front of body and computes the checksums.
func ip(src, dst netip.Addr, proto packet.Proto, body []byte) []byte {
	n := 20 + len(body)
	b := []byte{0x45, 0, byte(n >> 8), byte(n), 0, 0, 0x40, 0, 64, byte(proto), 0, 0}
	b = append(append(append(b, src.AsSlice()...), dst.AsSlice()...), body...)
	sum := 0
	for i := 0; i < 20; i += 2 {
		sum += int(binary.BigEndian.Uint16(b[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum>>16+sum&0xffff))
	p, err := packet.Parse(b)
	if err != nil {
		return b
	}
	p.Resum()
	return b
}

func describe(raw []byte) string {
	p, err := packet.Parse(raw)
	if err != nil {
		return err.Error()
	}
	if event, payload, ok := p.Control(); ok {
		switch event {
		case wire.EventDomainStatus:
			s, err := wire.ParseDomainStatus(payload)
			return fmt.Sprintf("status %d %s %v %v", s.Resource[15], s.Domain, s.Active, err)
		case wire.EventGoodbye:
			return "goodbye"
		}
		return fmt.Sprintf("control %d", event)
	}
	if typ, code, ok := p.ICMP(); ok && p.IsICMPError() {
		return fmt.Sprintf("error %d/%d %v → %v", typ, code, p.Src(), p.Dst())
	}
	return fmt.Sprintf("%d %v:%d → %v:%d", p.Proto(), p.Src(), p.SrcPort(), p.Dst(), p.DstPort())
}

func describeMessage(m wire.Message) string {
	switch m := m.(type) {
	case wire.AuthorizationAccepted:
		return "accepted " + m.Ref
	case wire.BroadcastCandidates:
		return fmt.Sprintf("candidates for %d: %v, invalidate %v", m.Clients[0][15], m.Candidates, m.Invalidate)
	}
	return fmt.Sprintf("%T", m)
}

// noise is randomness that is the same each time.
type noise byte

func (n noise) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(n) + byte(i)
	}
	return len(b), nil
}
