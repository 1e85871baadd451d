package client

import (
	"encoding/binary"
	"fmt"
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
	"stile/tunnel/path"
	"stile/tunnel/wg"
	"stile/tunnel/wire"
)

var (
	epoch = time.Unix(1_800_000_000, 0)
	own4  = netip.MustParseAddr("100.64.12.7")
	own6  = netip.MustParseAddr("fd00:2021:1111::c:7")
)

// A bench is a Core with everything around it played by the test: paths that
// are up when the test says so, a portal, and applications. What the core
// wants done is collected as lines of text.
type bench struct {
	t     testing.TB
	c     *Core
	paths *fakePaths
	now   time.Time
	lines []string
	out   core.Output
	tun   core.TUN // last configured
	slow  bool     // the test answers Configure itself

	remembered []int    // how many names were to be stored, each time
	noted      []string // what each core.Note says, with its reason
}

// newBench returns a client that has joined, knows one system resolver and
// holds the given resources.
func newBench(t testing.TB, resources ...wire.Resource) *bench {
	b := emptyBench(t, Config{InternetOn: true})
	b.init(resources...)
	b.lines = nil
	return b
}

func emptyBench(t testing.TB, config Config) *bench {
	b := &bench{t: t, now: epoch, paths: &fakePaths{up: make(map[id.Peer]*wg.Keys), peers: make(map[id.Peer]path.Peer)}}
	config.Rand = noise(1)
	b.c = build(config, b.paths, b.now)
	return b
}

func (b *bench) init(resources ...wire.Resource) {
	b.do(func() {
		b.c.Done(core.SystemResolvers{Servers: []netip.AddrPort{netip.MustParseAddrPort("192.168.1.1:53")}}, b.now)
	})
	b.do(func() { b.c.PortalUp(b.now) })
	b.message(wire.ClientInit{Interface: wire.Interface{IPv4: own4, IPv6: own6}, Resources: resources})
}

// do runs one input and notes what comes out.
func (b *bench) do(input func()) {
	b.t.Helper()
	input()
	for {
		b.out.Reset()
		b.c.Drain(&b.out)
		for _, n := range b.out.Notes {
			b.noted = append(b.noted, strings.Join(strings.Fields(n.What+" "+n.Name+" "+n.Reason), " "))
		}
		if b.out.Empty() {
			return
		}
		var answers []core.Result
		for _, h := range b.out.Held {
			b.note("sent %s to %s", describe(h.Packet), b.paths.owner(h.Route.Keys))
		}
		for _, p := range b.out.Packets {
			b.note("answered %s", describe(p))
		}
		for _, a := range b.out.Actions {
			if remember, ok := a.(core.Remember); ok {
				b.remembered = append(b.remembered, len(remember.Names))
				continue
			}
			b.note("%s", describeAction(a))
			if configure, ok := a.(core.Configure); ok {
				b.tun = configure.TUN
				if !b.slow {
					answers = append(answers, core.Configured{})
				}
			}
		}
		for _, r := range answers {
			b.c.Done(r, b.now)
		}
	}
}

func (b *bench) note(format string, args ...any) {
	b.lines = append(b.lines, fmt.Sprintf(format, args...))
}

// took returns what was noted since it was last called.
func (b *bench) took() []string {
	lines := b.lines
	b.lines = nil
	return lines
}

// want compares what was noted with a list of lines.
func (b *bench) want(when string, want ...string) {
	b.t.Helper()
	if got := b.took(); !slices.Equal(got, want) {
		b.t.Errorf("%s:\n got %s\nwant %s", when, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

func (b *bench) message(m wire.Message) {
	b.t.Helper()
	b.do(func() { b.c.Message(m, b.now) })
}

// send is a packet from an application.
func (b *bench) send(raw []byte) {
	b.t.Helper()
	p, err := packet.Parse(raw)
	if err != nil {
		b.t.Fatalf("%x: %v", raw, err)
	}
	b.do(func() {
		if r := b.c.Outbound(p, b.now); r.Keys != nil {
			b.note("sent %s to %s", describe(raw), b.paths.owner(r.Keys))
		}
	})
}

// receive is a packet from a gateway; it reports whether it was delivered.
func (b *bench) receive(from id.Gateway, raw []byte) (delivered bool) {
	b.t.Helper()
	b.do(func() { delivered = b.c.Inbound(b.paths.keys(from), 1, raw, b.now) != nil })
	return delivered
}

// wait lets time pass, timer by timer.
func (b *bench) wait(d time.Duration) {
	b.t.Helper()
	end := b.now.Add(d)
	for {
		next := b.c.Next()
		if next.IsZero() || next.After(end) {
			break
		}
		if next.After(b.now) {
			b.now = next
		}
		before := b.c.Next()
		b.do(func() { b.c.Advance(b.now) })
		if after := b.c.Next(); after.Equal(before) {
			b.t.Fatalf("Next stays at %v after Advance", after)
		}
	}
	b.now = end
}

// query is a DNS query of an application to the first sentinel.
func (b *bench) query(name string, qtype uint16) {
	b.t.Helper()
	raw, _ := new(dns.Msg).SetQuestion(name+".", qtype).Pack()
	sentinel := b.tun.Sentinels[0]
	src := own4
	if sentinel.Is6() {
		src = own6
	}
	b.send(packet.AppendUDP(nil, netip.AddrPortFrom(src, 5000), netip.AddrPortFrom(sentinel, 53), raw))
}

// resolved asks for a name and forgets what that led to.
func (b *bench) resolved(name string) {
	b.t.Helper()
	b.query(name, dns.TypeA)
	b.lines = nil
}

// grant answers a request: resource n through gateway g.
func (b *bench) grant(n, g byte) {
	b.t.Helper()
	b.message(granted(n, g))
}

func granted(n, g byte) wire.AuthorizationCreated {
	return wire.AuthorizationCreated{
		Resource: res(n), Gateway: gw(g), GatewayKey: wire.Key{31: g},
		GatewayIPv4: netip.AddrFrom4([4]byte{100, 64, 0, g}), GatewayIPv6: netip.MustParseAddr(fmt.Sprintf("fd00:2021:1111::%x", g)),
		Site: site(1), PresharedKey: wire.Key{1},
	}
}

// up makes the session with a gateway.
func (b *bench) up(g byte) {
	b.t.Helper()
	b.paths.up[id.PeerOf(gw(g))] = new(wg.Keys)
	b.paths.event(path.Established{Peer: id.PeerOf(gw(g))})
	b.do(func() { b.c.Datagram(core.Datagram{}, b.now) }) // the handshake's last message
}

// status is a gateway's answer to an announcement.
func (b *bench) status(g, n byte, name string, active bool) {
	b.t.Helper()
	s := wire.DomainStatus{Resource: res(n), Domain: name, Active: active}
	b.receive(gw(g), packet.AppendControl(nil, wire.EventDomainStatus, s.Append(nil)))
}

func (b *bench) count(name string) uint64 {
	var r core.Report
	b.c.Report(&r, b.now)
	for _, c := range r.Counters {
		if c.Name == name {
			return c.Value
		}
	}
	return 0
}

func (b *bench) stateOf(n byte) string {
	var r core.Report
	b.c.Report(&r, b.now)
	for _, resource := range r.Resources {
		if resource.ID == res(n) {
			return resource.State
		}
	}
	return "not listed"
}

// fakePaths plays path.Node.
type fakePaths struct {
	peers   map[id.Peer]path.Peer
	up      map[id.Peer]*wg.Keys
	noRelay bool
	log     []string
	out     path.Output
}

func (f *fakePaths) event(e path.Event) { f.out.Events = append(f.out.Events, e) }
func (f *fakePaths) note(format string, args ...any) {
	f.log = append(f.log, fmt.Sprintf(format, args...))
}
func (f *fakePaths) keys(g id.Gateway) *wg.Keys { return f.up[id.PeerOf(g)] }
func (f *fakePaths) owner(k *wg.Keys) string {
	for p, keys := range f.up {
		if keys == k {
			return name(p)
		}
	}
	return "nobody"
}

func (f *fakePaths) PublicKey() wire.Key                        { return wire.Key{0xfe} }
func (f *fakePaths) Relays([]id.Relay, []wire.Relay, time.Time) { f.note("relays") }
func (f *fakePaths) AddCandidates(p id.Peer, c []string, _ time.Time) {
	f.note("candidates of %s: %v", name(p), c)
}
func (f *fakePaths) RemoveCandidates(p id.Peer, c []string, _ time.Time) {
	f.note("not candidates of %s: %v", name(p), c)
}
func (f *fakePaths) Datagram(core.Datagram, time.Time) core.Sealed { return core.Sealed{} }
func (f *fakePaths) PortalUp(time.Time)                            { f.note("up") }
func (f *fakePaths) PortalDown(time.Time)                          { f.note("down") }
func (f *fakePaths) Advance(time.Time)                             {}
func (f *fakePaths) Next() time.Time                               { return time.Time{} }
func (f *fakePaths) Report(dst []core.Connection) []core.Connection {
	return append(dst, make([]core.Connection, len(f.peers))...)
}

func (f *fakePaths) ReportOf(p id.Peer) (core.Connection, bool) {
	return core.Connection{Peer: p, State: "connected", Relayed: true}, true
}

func (f *fakePaths) ReportRelays(dst []core.Relay) []core.Relay {
	if f.noRelay {
		return dst
	}
	return append(dst, core.Relay{})
}

func (f *fakePaths) Upsert(p path.Peer, _ time.Time) error {
	if f.noRelay {
		f.event(path.NoRelays{})
		return path.ErrNoRelay
	}
	f.note("upsert %s", name(p.ID))
	if old, ok := f.peers[p.ID]; ok && old != p {
		delete(f.up, p.ID)
	}
	f.peers[p.ID] = p
	return nil
}

func (f *fakePaths) Close(p id.Peer, goodbye bool, _ time.Time) {
	f.note("close %s goodbye %v", name(p), goodbye)
	delete(f.peers, p)
	delete(f.up, p)
}

func (f *fakePaths) Reset(wire.Key, time.Time) {
	f.note("reset")
	clear(f.peers)
	clear(f.up)
}

func (f *fakePaths) Received(k *wg.Keys, counter uint64, size int, _ time.Time) (id.Peer, bool) {
	for p, keys := range f.up {
		if keys == k && counter > 0 {
			return p, true
		}
	}
	return id.Peer{}, false
}

var way = new(core.Way)

func (f *fakePaths) Route(p id.Peer, _ int, _ time.Time) core.Route {
	if k := f.up[p]; k != nil {
		return core.Route{Keys: k, Way: way}
	}
	return core.Route{}
}

func (f *fakePaths) Control(p id.Peer, b []byte, now time.Time) bool {
	r := f.Route(p, len(b), now)
	if r.Keys == nil {
		return false
	}
	f.out.Held = append(f.out.Held, core.Held{Route: r, Packet: b})
	return true
}

func (f *fakePaths) Drain(o *path.Output) {
	o.Held = append(o.Held, f.out.Held...)
	o.Events = append(o.Events, f.out.Events...)
	f.out.Reset()
}

// describe says in a line what a packet is.
func describe(raw []byte) string {
	p, err := packet.Parse(raw)
	if err != nil {
		return fmt.Sprintf("garbage (%v)", err)
	}
	if event, payload, ok := p.Control(); ok {
		a, err := wire.ParseAssignedIPs(payload)
		if event != wire.EventAssignedIPs || err != nil {
			return fmt.Sprintf("control %d", event)
		}
		return fmt.Sprintf("names %s %s %v+%d", name(a.Resource), a.Domain, a.ProxyIPs[0], len(a.ProxyIPs)-1)
	}
	if typ, code, ok := p.ICMP(); ok && p.IsICMPError() {
		return fmt.Sprintf("icmp %d/%d from %v", typ, code, p.Src())
	}
	if p.Proto() == packet.UDP && p.SrcPort() == 53 {
		var m dns.Msg
		if m.Unpack(p.Payload()) == nil {
			return fmt.Sprintf("dns %s %d", dns.RcodeToString[m.Rcode], len(m.Answer))
		}
	}
	switch p.Proto() {
	case packet.TCP:
		return fmt.Sprintf("tcp %v:%d>%d %s", p.Dst(), p.SrcPort(), p.DstPort(), p.Payload())
	case packet.UDP:
		return fmt.Sprintf("udp %v:%d>%d %s", p.Dst(), p.SrcPort(), p.DstPort(), p.Payload())
	}
	return fmt.Sprintf("proto %d %v", p.Proto(), p.Dst())
}

func describeAction(a core.Action) string {
	switch a := a.(type) {
	case core.Tell:
		switch m := a.Message.(type) {
		case wire.RequestAuthorization:
			var list []string
			for _, g := range m.ConnectedGateways {
				list = append(list, name(g))
			}
			return fmt.Sprintf("request %s %v", name(m.Resource), list)
		case wire.ClientCandidates:
			return fmt.Sprintf("candidates for %s %v %v", name(m.Gateways[0]), m.Candidates, m.Invalidate)
		}
		return "tell " + a.Message.Event(wire.V2)
	case core.Configure:
		return "configure"
	case core.Flush:
		return "flush"
	case core.Exchange:
		return fmt.Sprintf("ask %v", a.Server)
	case core.Notify:
		if strings.Contains(a.Text, "10.0.0.0/8") { // the resource's name: this is logged
			return "notify by name " + name(a.Resource)
		}
		return "notify " + name(a.Resource)
	case core.Reconnect:
		return "reconnect"
	case core.Rebind:
		return "rebind"
	}
	return fmt.Sprintf("%T", a)
}

// name is the last byte of an ID: enough for tests.
func name[K any](i id.ID[K]) string { return fmt.Sprint(i[15]) }

func res(n byte) id.Resource { return id.Resource{15: n} }
func gw(n byte) id.Gateway   { return id.Gateway{15: n} }
func site(n byte) id.Site    { return id.Site{15: n} }

func dnsResource(n byte, pattern string, filters ...wire.Filter) wire.Resource {
	return wire.Resource{ID: res(n), Type: wire.DNS, Name: "dns " + pattern, Address: pattern, Sites: []wire.Site{{ID: site(1)}}, Filters: filters}
}

func cidrResource(n byte, prefix string, filters ...wire.Filter) wire.Resource {
	return wire.Resource{ID: res(n), Type: wire.CIDR, Name: "net " + prefix, Address: prefix, Sites: []wire.Site{{ID: site(1)}}, Filters: filters}
}

func internetResource(n byte) wire.Resource {
	return wire.Resource{ID: res(n), Type: wire.Internet, Name: "Internet Resource", Sites: []wire.Site{{ID: site(9)}}}
}

func ports(proto wire.Protocol, first, last uint16) wire.Filter {
	return wire.Filter{Protocol: proto, First: first, Last: last}
}

// udp is a datagram from an application.
func udp(dst string, port uint16, text string) []byte {
	return datagram(ownFor(netip.MustParseAddr(dst)), netip.MustParseAddr(dst), 4000, port, text)
}

func datagram(src, dst netip.Addr, from, to uint16, text string) []byte {
	return packet.AppendUDP(nil, netip.AddrPortFrom(src, from), netip.AddrPortFrom(dst, to), []byte(text))
}

func ownFor(a netip.Addr) netip.Addr {
	if a.Is4() {
		return own4
	}
	return own6
}

// raw is an IP packet with an arbitrary protocol; checksums of transport
// headers are left alone.
func raw(src, dst netip.Addr, proto packet.Proto, body []byte) []byte {
	b := packet.AppendUDP(nil, netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0), append(make([]byte, 0, len(body)), body[min(8, len(body)):]...))
	if src.Is4() {
		b[9] = byte(proto)
		b[10], b[11] = 0, 0
		copy(b[20:], body)
		var sum uint32
		for i := 0; i < 20; i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
		for sum > 0xffff {
			sum = sum>>16 + sum&0xffff
		}
		binary.BigEndian.PutUint16(b[10:], ^uint16(sum))
		return b
	}
	b[6] = byte(proto)
	copy(b[40:], body)
	return b
}

// tcp is a segment from an application.
func tcp(dst string, from, to uint16, flags packet.TCPFlags, text string) []byte {
	d := netip.MustParseAddr(dst)
	return segment(ownFor(d), d, from, to, flags, text)
}

func segment(src, dst netip.Addr, from, to uint16, flags packet.TCPFlags, text string) []byte {
	h := make([]byte, 20, 20+len(text))
	binary.BigEndian.PutUint16(h, from)
	binary.BigEndian.PutUint16(h[2:], to)
	h[12], h[13] = 5<<4, byte(flags)
	return raw(src, dst, packet.TCP, append(h, text...))
}

func syn(dst string, from, to uint16) []byte { return tcp(dst, from, to, packet.SYN, "") }

// icmp is a message of type and code with a body behind the 8-byte header.
func icmp(src, dst netip.Addr, typ, code byte, body []byte) []byte {
	proto := packet.ICMP
	if src.Is6() {
		proto = packet.ICMPv6
	}
	return raw(src, dst, proto, append([]byte{typ, code, 0, 0, 0, 0, 0, 0}, body...))
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// noise is a source of chance that repeats itself.
func noise(seed uint64) *rand.ChaCha8 {
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	return rand.NewChaCha8(key)
}

var (
	errTimeout  = core.ErrTimeout
	internetOff = core.InternetResource{On: false}
	internetOn  = core.InternetResource{On: true}
)

func exchanged(ask uint64, reply []byte, err error) core.Exchanged {
	return core.Exchanged{ID: ask, Reply: reply, Err: err}
}

func upserted(r wire.Resource) wire.ResourceUpserted { return wire.ResourceUpserted{Resource: r} }

func initOf(resources ...wire.Resource) wire.ClientInit {
	return wire.ClientInit{Interface: wire.Interface{IPv4: own4, IPv6: own6}, Resources: resources}
}
