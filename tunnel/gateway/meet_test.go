package gateway_test

import (
	"crypto/ecdh"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"stile/tunnel/client"
	"stile/tunnel/core"
	"stile/tunnel/gateway"
	"stile/tunnel/id"
	"stile/tunnel/packet"
	"stile/tunnel/sim"
	"stile/tunnel/turn"
	"stile/tunnel/wg"
	"stile/tunnel/wire"
)

// Both roles with everything below them, through NAT routers, on virtual time.

const uplink = 5 * time.Millisecond

var (
	laptop4 = netip.MustParseAddr("100.64.0.7")
	wiki    = wire.GatewayResource{ID: id.Resource{1}, Type: wire.DNS, Name: "Wiki", Address: "*.corp.example"}
	server  = netip.MustParseAddr("10.0.0.80")
	other   = netip.MustParseAddr("10.0.0.81")
)

func TestNameIsReachedThroughTheTunnel(t *testing.T) {
	for _, kinds := range [][2]sim.NAT{{sim.FullCone, sim.PortRestricted}, {sim.Symmetric, sim.Symmetric}} {
		t.Run(fmt.Sprint(kinds), func(t *testing.T) {
			w := newWorld(t, kinds[0], kinds[1])
			asked := w.net.Now()
			proxy := w.query("wiki.corp.example")
			w.laptop.send(packet.AppendUDP(nil, netip.AddrPortFrom(laptop4, 5000), netip.AddrPortFrom(proxy, 8080), []byte("hello")))
			got := w.site.await(t, w.net)
			if got.Src() != laptop4 || got.Dst() != server || string(got.Payload()) != "hello" || !got.ValidChecksums() {
				t.Fatalf("%v → %v %q", got.Src(), got.Dst(), got.Payload())
			}
			t.Logf("first packet after %v", w.net.Since(asked))

			w.site.send(packet.AppendUDP(nil, netip.AddrPortFrom(server, 8080), netip.AddrPortFrom(laptop4, got.SrcPort()), []byte("world")))
			back := w.laptop.await(t, w.net)
			if back.Src() != proxy || back.DstPort() != 5000 || string(back.Payload()) != "world" || !back.ValidChecksums() {
				t.Fatalf("%v:%d %q", back.Src(), back.DstPort(), back.Payload())
			}

			// The name moves; what is open stays where it is.
			w.site.answer = []netip.Addr{other}
			w.query("wiki.corp.example")
			w.net.Run(100 * time.Millisecond)
			w.laptop.send(packet.AppendUDP(nil, netip.AddrPortFrom(laptop4, 5000), netip.AddrPortFrom(proxy, 8080), nil))
			if got := w.site.await(t, w.net); got.Dst() != server {
				t.Fatalf("an open session moved to %v", got.Dst())
			}

			w.portal(w.site, wire.RejectAccess{Client: id.Client{7}, Resource: wiki.ID})
			w.laptop.send(packet.AppendUDP(nil, netip.AddrPortFrom(laptop4, 5000), netip.AddrPortFrom(proxy, 8080), nil))
			w.net.Run(50 * time.Millisecond)
			if len(w.site.tun) != 0 {
				t.Fatal("a packet passed without authorization")
			}
		})
	}
}

// The gateway's Stop tells the client, whose next packet asks for access anew.
func TestGatewayStops(t *testing.T) {
	w := newWorld(t, sim.PortRestricted, sim.PortRestricted)
	proxy := w.query("wiki.corp.example")
	hello := packet.AppendUDP(nil, netip.AddrPortFrom(laptop4, 5000), netip.AddrPortFrom(proxy, 8080), []byte("hello"))
	w.laptop.send(hello)
	w.site.await(t, w.net)
	w.net.Run(3 * time.Second) // a client asks every two seconds at most
	before := w.requests
	w.site.role.Stop(w.net.Now())
	w.net.Run(100 * time.Millisecond)
	w.laptop.send(hello)
	w.net.Run(100 * time.Millisecond)
	if w.requests != before+1 {
		t.Errorf("%d requests, want %d", w.requests, before+1)
	}
}

type world struct {
	t            *testing.T
	net          *sim.Internet
	laptop, site *machine
	requests     int
}

// newWorld joins a laptop and a site's gateway behind routers, and lets a
// scripted portal introduce them.
func newWorld(t *testing.T, home, office sim.NAT) *world {
	w := &world{t: t, net: sim.New(1)}
	relay := w.net.Relay(sim.Dual, sim.Link{})
	now := w.net.Now()
	key := func(n uint64) (k wire.Key) {
		_, _ = chaos(n).Read(k[:]) // never fails
		return k
	}
	w.laptop = &machine{world: w, role: client.New(client.Config{Private: key(1), Rand: chaos(2), Wall: now}, now)}
	w.site = &machine{world: w, role: gateway.New(gateway.Config{Private: key(3), Rand: chaos(4), Wall: now}, now), answer: []netip.Addr{server}}
	w.net.Site(home, sim.Dual, sim.Link{Delay: uplink}).Add(w.laptop, sim.Port)
	w.net.Site(office, sim.Dual, sim.Link{Delay: uplink}).Add(w.site, sim.Port)

	until := now.AddDate(1, 0, 0)
	w.laptop.role.Done(core.SystemResolvers{Servers: []netip.AddrPort{netip.MustParseAddrPort("192.168.1.1:53")}}, now)
	w.laptop.role.PortalUp(now)
	w.laptop.role.Message(wire.ClientInit{
		Interface: wire.Interface{IPv4: laptop4, IPv6: netip.MustParseAddr("fd00:2021:1111::7")},
		Relays:    relay.Describe("laptop", until),
		Resources: []wire.Resource{{ID: wiki.ID, Type: wiki.Type, Name: wiki.Name, Address: wiki.Address, Sites: []wire.Site{{ID: id.Site{1}}}}},
	}, now)
	w.site.role.PortalUp(now)
	w.site.role.Message(wire.GatewayInit{
		IPv4: netip.MustParseAddr("100.64.0.1"), IPv6: netip.MustParseAddr("fd00:2021:1111::1"), Relays: relay.Describe("site", until),
	}, now)
	w.net.Run(time.Second)
	return w
}

// portal delivers a message to a peer after the way there.
func (w *world) portal(to *machine, m wire.Message) {
	w.net.After(uplink, func() { to.role.Message(m, w.net.Now()) })
}

// told is the portal's reaction to what a peer says.
func (w *world) told(m wire.Message) {
	ours := wire.ICECredentials{Username: "cccc", Password: strings.Repeat("c", 22)}
	theirs := wire.ICECredentials{Username: "gggg", Password: strings.Repeat("g", 22)}
	laptop, site := id.Client{7}, id.Gateway{1}
	switch m := m.(type) {
	case wire.RequestAuthorization:
		w.requests++
		w.portal(w.site, wire.CreateAuthorization{
			Ref: "ref", Resource: wiki, Client: laptop, ClientKey: public(w.t, w.laptop), PresharedKey: wire.Key{9},
			ClientIPv4: laptop4, ClientIPv6: netip.MustParseAddr("fd00:2021:1111::7"), ClientICE: ours, GatewayICE: theirs,
			ExpiresAt: w.net.Now().Add(time.Hour).Unix(),
		})
	case wire.AuthorizationAccepted:
		w.portal(w.laptop, wire.AuthorizationCreated{
			Resource: wiki.ID, Gateway: site, GatewayKey: public(w.t, w.site), PresharedKey: wire.Key{9}, Site: id.Site{1},
			GatewayIPv4: netip.MustParseAddr("100.64.0.1"), GatewayIPv6: netip.MustParseAddr("fd00:2021:1111::1"), ClientICE: ours, GatewayICE: theirs,
		})
	case wire.ClientCandidates:
		w.portal(w.site, wire.PeerCandidates{Client: laptop, Candidates: m.Candidates, Invalidate: m.Invalidate})
	case wire.BroadcastCandidates:
		w.portal(w.laptop, wire.GatewayCandidates{Gateway: site, Candidates: m.Candidates, Invalidate: m.Invalidate})
	}
}

// public is the key that the portal learned when the peer connected.
func public(t *testing.T, m *machine) wire.Key {
	t.Helper()
	seed := uint64(1)
	if m == m.world.site {
		seed = 3
	}
	var private wire.Key
	_, _ = chaos(seed).Read(private[:])
	key, err := ecdh.X25519().NewPrivateKey(private[:])
	if err != nil {
		t.Fatal(err)
	}
	return wire.Key(key.PublicKey().Bytes())
}

// query asks the laptop's resolver for a name and returns the first address.
func (w *world) query(name string) netip.Addr {
	w.t.Helper()
	var r core.Report
	w.laptop.role.Report(&r, w.net.Now())
	q, _ := new(dns.Msg).SetQuestion(name+".", dns.TypeA).Pack()
	w.laptop.send(packet.AppendUDP(nil, netip.AddrPortFrom(laptop4, 4000), netip.AddrPortFrom(r.TUN.Sentinels[0], 53), q))
	var reply dns.Msg
	if err := reply.Unpack(w.laptop.await(w.t, w.net).Payload()); err != nil || len(reply.Answer) == 0 {
		w.t.Fatalf("%v: %v", err, reply)
	}
	a, _ := netip.AddrFromSlice(reply.Answer[0].(*dns.A).A.To4())
	return a
}

// A machine is a role with its shell played by the test.
type machine struct {
	*world
	role   core.Role
	tun    []packet.Packet // delivered
	out    []core.Datagram
	answer []netip.Addr // of every look-up
}

// send is a packet that the kernel routes into the TUN.
func (m *machine) send(raw []byte) {
	p, err := packet.Parse(append([]byte(nil), raw...))
	if err != nil {
		m.t.Fatal(err)
	}
	m.seal(m.role.Outbound(p, m.net.Now()), p.Bytes())
}

// await runs until a packet came out of the TUN.
func (m *machine) await(t *testing.T, net *sim.Internet) packet.Packet {
	t.Helper()
	if !net.Until(2*time.Second, func() bool { return len(m.tun) > 0 }) {
		var r core.Report
		m.role.Report(&r, net.Now())
		t.Fatalf("nothing arrived: %+v", r)
	}
	p := m.tun[0]
	m.tun = m.tun[1:]
	return p
}

func (m *machine) deliver(raw []byte) {
	p, err := packet.Parse(raw)
	if err != nil {
		m.t.Fatalf("% x for the TUN: %v", raw, err)
	}
	m.tun = append(m.tun, p)
}

func (m *machine) seal(r core.Route, plain []byte) {
	if r.Keys == nil {
		return
	}
	buf := make([]byte, wg.HeaderLen+len(plain)+wg.TagLen)
	copy(buf[wg.HeaderLen:], plain)
	msg := r.Keys.Seal(buf, len(plain))
	if r.Way.Channel != 0 {
		msg = turn.AppendChannelData(nil, r.Way.Channel, msg)
	}
	m.out = append(m.out, core.Datagram{Local: r.Way.Local, Remote: r.Way.Remote, Payload: msg})
}

// Receive implements sim.Machine.
func (m *machine) Receive(d core.Datagram, now time.Time) {
	s := m.role.Datagram(d, now)
	if s.Keys == nil {
		return
	}
	plain, counter, ok := s.Keys.Open(s.Message)
	if !ok {
		return
	}
	if raw := m.role.Inbound(s.Keys, counter, plain, now); raw != nil {
		m.deliver(raw)
	}
}

// Advance implements sim.Machine.
func (m *machine) Advance(now time.Time) { m.role.Advance(now) }

// Next implements sim.Machine.
func (m *machine) Next() time.Time { return m.role.Next() }

// Collect implements sim.Machine.
func (m *machine) Collect() []core.Datagram {
	for {
		var o core.Output
		m.role.Drain(&o)
		if o.Empty() {
			break
		}
		m.out = append(m.out, o.Datagrams...)
		for _, h := range o.Held {
			m.seal(h.Route, h.Packet)
		}
		for _, raw := range o.Packets {
			m.deliver(raw)
		}
		for _, a := range o.Actions {
			m.do(a)
		}
	}
	out := m.out
	m.out = nil
	return out
}

func (m *machine) do(a core.Action) {
	switch a := a.(type) {
	case core.Tell:
		m.net.After(uplink, func() { m.told(a.Message) })
	case core.Configure:
		m.role.Done(core.Configured{}, m.net.Now())
	case core.Lookup:
		m.net.After(time.Millisecond, func() { m.role.Done(core.Looked{ID: a.ID, V4: m.answer}, m.net.Now()) })
	}
}

func chaos(seed uint64) *rand.ChaCha8 {
	var s [32]byte
	s[0] = byte(seed)
	return rand.NewChaCha8(s)
}
