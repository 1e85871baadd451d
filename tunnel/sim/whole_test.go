package sim_test

import (
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
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
	"stile/tunnel/wire"
)

// A whole is a client and a gateway, whole roles both, with a portal that
// grants everything, an application on the laptop, and a host behind the
// gateway. Uplinks are 5 ms one way; portal and relay hang on the core.
type whole struct {
	t *testing.T
	*sim.Internet
	client, gateway *sim.Role
	clientKey       wire.Key
	gatewayKey      wire.Key
	relay           *sim.Relay
	site            id.Site
	resources       []wire.Resource
	records         map[string][]netip.Addr // what the gateway's resolvers say
	lookupTime      time.Duration

	app    [][]byte // packets that reached the application
	host   [][]byte // packets that reached the host behind the gateway
	asked  []time.Time
	tun    core.TUN
	silent bool // the host does not answer
}

var (
	laptop4  = netip.MustParseAddr("100.64.0.10")
	laptop6  = netip.MustParseAddr("fd00:2021:1111::a")
	clientID = id.Client{0: 1}
	gateID   = id.Gateway{0: 2}
)

func newWhole(t *testing.T, seed uint64, home, office sim.NAT, resources ...wire.Resource) *whole {
	return newWholeOn(t, seed, sim.Link{Delay: uplink}, home, office, resources...)
}

func newWholeOn(t *testing.T, seed uint64, link sim.Link, home, office sim.NAT, resources ...wire.Resource) *whole {
	w := &whole{t: t, Internet: sim.New(seed), resources: resources, site: id.Site{0: 9}, lookupTime: ms,
		records: map[string][]netip.Addr{"wiki.corp.example": {netip.MustParseAddr("10.1.0.80"), netip.MustParseAddr("2001:db8::80")}}}
	for i := range w.resources {
		w.resources[i].Sites = []wire.Site{{ID: w.site}}
	}
	w.relay = w.Relay(sim.Dual, sim.Link{})
	w.gateway = w.Role(w.Site(office, sim.Dual, link), func(private wire.Key, chance *rand.ChaCha8) core.Role {
		w.gatewayKey = public(private)
		return gateway.New(gateway.Config{Private: private, Rand: chance, Wall: w.Now()}, w.Now())
	})
	w.client = w.Role(w.Site(home, sim.Dual, link), func(private wire.Key, chance *rand.ChaCha8) core.Role {
		w.clientKey = public(private)
		return client.New(client.Config{Private: private, Rand: chance, Wall: w.Now(), InternetOn: true}, w.Now())
	})
	w.client.TUN = func(p []byte) { w.app = append(w.app, slices.Clone(p)) }
	w.gateway.TUN = w.serve
	w.client.Act = w.clientActs
	w.gateway.Act = w.gatewayActs

	w.gateway.Do(core.Role.PortalUp)
	w.toGateway(wire.GatewayInit{IPv4: netip.MustParseAddr("100.64.0.20"), IPv6: netip.MustParseAddr("fd00:2021:1111::14"), Relays: w.relay.Describe(gateID.String(), sim.Epoch.AddDate(1, 0, 0))})
	w.client.Do(func(c core.Role, now time.Time) {
		c.Done(core.SystemResolvers{Servers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")}}, now)
		c.PortalUp(now)
	})
	w.join()
	w.Run(time.Second) // candidates are gathered before they are needed
	return w
}

func public(private wire.Key) wire.Key {
	k, err := ecdh.X25519().NewPrivateKey(private[:])
	if err != nil {
		panic(err)
	}
	return wire.Key(k.PublicKey().Bytes())
}

// join is the portal's first word to the client.
func (w *whole) join() {
	w.toClient(wire.ClientInit{Interface: wire.Interface{IPv4: laptop4, IPv6: laptop6}, Resources: w.resources, Relays: w.relay.Describe(clientID.String(), sim.Epoch.AddDate(1, 0, 0))})
}

func (w *whole) toClient(m wire.Message) {
	w.After(uplink, func() { w.client.Do(func(c core.Role, now time.Time) { c.Message(m, now) }) })
}

func (w *whole) toGateway(m wire.Message) {
	w.After(uplink, func() { w.gateway.Do(func(c core.Role, now time.Time) { c.Message(m, now) }) })
}

func (w *whole) clientActs(a core.Action) {
	switch a := a.(type) {
	case core.Tell:
		w.After(uplink, func() { w.fromClient(a.Message) })
	case core.Configure:
		w.tun = a.TUN
		w.After(0, func() { w.client.Do(func(c core.Role, now time.Time) { c.Done(core.Configured{}, now) }) })
	case core.Reconnect:
		w.clientKey = a.PublicKey
		w.After(4*uplink, func() { w.client.Do(core.Role.PortalUp) })
		w.After(4*uplink, w.join)
	}
}

func (w *whole) gatewayActs(a core.Action) {
	switch a := a.(type) {
	case core.Tell:
		w.After(uplink, func() { w.fromGateway(a.Message) })
	case core.Configure:
		w.After(0, func() { w.gateway.Do(func(c core.Role, now time.Time) { c.Done(core.Configured{}, now) }) })
	case core.Lookup:
		w.asked = append(w.asked, w.Now())
		looked := core.Looked{ID: a.ID}
		for _, r := range w.records[a.Name] {
			if r.Is4() {
				looked.V4 = append(looked.V4, r)
			} else {
				looked.V6 = append(looked.V6, r)
			}
		}
		w.After(w.lookupTime, func() { w.gateway.Do(func(c core.Role, now time.Time) { c.Done(looked, now) }) })
	}
}

// fromClient is the portal.
func (w *whole) fromClient(m wire.Message) {
	switch m := m.(type) {
	case wire.RequestAuthorization:
		c := w.credentials()
		i := slices.IndexFunc(w.resources, func(r wire.Resource) bool { return r.ID == m.Resource })
		if i < 0 {
			return
		}
		r := w.resources[i]
		w.toGateway(wire.CreateAuthorization{
			Ref: r.ID.String(), Resource: wire.GatewayResource{ID: r.ID, Type: r.Type, Name: r.Name, Address: r.Address, Filters: r.Filters},
			Client: clientID, ClientKey: w.clientKey, PresharedKey: c.psk, ClientIPv4: laptop4, ClientIPv6: laptop6, ClientICE: c.client, GatewayICE: c.gateway,
		})
	case wire.ClientCandidates:
		w.toGateway(wire.PeerCandidates{Client: clientID, Candidates: m.Candidates, Invalidate: m.Invalidate})
	case wire.NoRelays:
		w.toClient(wire.RelaysPresence{Connected: w.relay.Describe(clientID.String(), sim.Epoch.AddDate(1, 0, 0))})
	}
}

func (w *whole) fromGateway(m wire.Message) {
	switch m := m.(type) {
	case wire.AuthorizationAccepted:
		c := w.credentials()
		var resource id.Resource
		if resource.UnmarshalText([]byte(m.Ref)) != nil {
			w.t.Errorf("ref %q", m.Ref)
		}
		w.toClient(wire.AuthorizationCreated{
			Resource: resource, Gateway: gateID, GatewayKey: w.gatewayKey, Site: w.site, PresharedKey: c.psk, ClientICE: c.client, GatewayICE: c.gateway,
			GatewayIPv4: netip.MustParseAddr("100.64.0.20"), GatewayIPv6: netip.MustParseAddr("fd00:2021:1111::14"),
		})
	case wire.BroadcastCandidates:
		w.toClient(wire.GatewayCandidates{Gateway: gateID, Candidates: m.Candidates, Invalidate: m.Invalidate})
	}
}

type credentials struct {
	psk             wire.Key
	client, gateway wire.ICECredentials
}

// credentials depend on nothing but the keys of both.
func (w *whole) credentials() credentials {
	sum := sha256.Sum256(append(w.clientKey[:], w.gatewayKey[:]...))
	h := strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))
	return credentials{psk: sha256.Sum256(sum[:]), client: wire.ICECredentials{Username: h[:4], Password: h[4:26]}, gateway: wire.ICECredentials{Username: h[26:30], Password: h[30:52]}}
}

// serve is the host behind the gateway: it answers each TCP segment with SYN
// ACK and each datagram with its own text.
func (w *whole) serve(raw []byte) {
	p, err := packet.Parse(slices.Clone(raw))
	if err != nil {
		w.t.Errorf("to the host: %v", err)
		return
	}
	w.host = append(w.host, p.Bytes())
	if w.silent {
		return
	}
	if !p.ValidChecksums() {
		w.t.Errorf("wrong checksum towards the host: %x", raw)
	}
	var reply []byte
	switch p.Proto() {
	case packet.TCP:
		reply = segment(p.Dst(), p.Src(), p.DstPort(), p.SrcPort(), packet.SYN|packet.ACK)
	case packet.UDP:
		reply = packet.AppendUDP(nil, netip.AddrPortFrom(p.Dst(), p.DstPort()), netip.AddrPortFrom(p.Src(), p.SrcPort()), p.Payload())
	default:
		return
	}
	w.After(0, func() {
		if err := w.gateway.Send(reply); err != nil {
			w.t.Error(err)
		}
	})
}

// resolve is what an application does first. It takes no time.
func (w *whole) resolve(name string, qtype uint16) []netip.Addr {
	w.t.Helper()
	query, _ := new(dns.Msg).SetQuestion(name+".", qtype).Pack()
	before := len(w.app)
	w.fromApp(packet.AppendUDP(nil, netip.AddrPortFrom(laptop4, 5353), netip.AddrPortFrom(w.tun.Sentinels[0], 53), query))
	if len(w.app) != before+1 {
		w.t.Fatal("no DNS answer at once")
	}
	p, _ := packet.Parse(w.app[before])
	w.app = w.app[:before]
	var m dns.Msg
	if err := m.Unpack(p.Payload()); err != nil || p.Src() != w.tun.Sentinels[0] {
		w.t.Fatalf("answer from %v: %v", p.Src(), err)
	}
	var list []netip.Addr
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			a, _ := netip.AddrFromSlice(rr.A.To4())
			list = append(list, a)
		case *dns.AAAA:
			a, _ := netip.AddrFromSlice(rr.AAAA)
			list = append(list, a)
		}
	}
	return list
}

func (w *whole) fromApp(raw []byte) {
	w.t.Helper()
	if err := w.client.Send(raw); err != nil {
		w.t.Fatal(err)
	}
}

// connect opens a TCP connection and returns how long it took until the SYN
// ACK was there.
func (w *whole) connect(dst netip.Addr, port uint16) (time.Duration, bool) {
	w.t.Helper()
	src := laptop4
	if dst.Is6() {
		src = laptop6
	}
	begin, from := w.Now(), uint16(20000+w.Chance.IntN(20000))
	syn := segment(src, dst, from, port, packet.SYN)
	arrived := func() bool {
		return slices.ContainsFunc(w.app, func(b []byte) bool {
			p, err := packet.Parse(b)
			return err == nil && p.Src() == dst && p.SrcPort() == port && p.DstPort() == from && p.TCPFlags().Has(packet.SYN|packet.ACK) && p.ValidChecksums()
		})
	}
	for _, timeout := range []time.Duration{1, 2, 4, 8, 16, 32} { // as an operating system repeats it
		w.fromApp(slices.Clone(syn))
		if w.Until(timeout*time.Second, arrived) {
			return w.Since(begin), true
		}
	}
	return w.Since(begin), false
}

// segment is a TCP segment without options and payload.
func segment(src, dst netip.Addr, from, to uint16, flags packet.TCPFlags) []byte {
	b := packet.AppendUDP(nil, netip.AddrPortFrom(src, from), netip.AddrPortFrom(dst, to), make([]byte, 12))
	at := 20
	if src.Is6() {
		at, b[6] = 40, byte(packet.TCP)
	} else {
		b[9] = byte(packet.TCP)
		b[10], b[11] = 0, 0
		binary.BigEndian.PutUint16(b[10:], ^sum(0, b[:20]))
	}
	binary.BigEndian.PutUint32(b[at+4:], 1)
	b[at+12], b[at+13] = 5<<4, byte(flags)
	pseudo := append(src.AsSlice(), dst.AsSlice()...)
	s := sum(uint32(packet.TCP)+20, pseudo)
	b[at+16], b[at+17] = 0, 0
	binary.BigEndian.PutUint16(b[at+16:], ^sum(uint32(s), b[at:]))
	return b
}

func sum(s uint32, b []byte) uint16 {
	for i := 0; i < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

func byName(filters ...wire.Filter) wire.Resource {
	return wire.Resource{ID: id.Resource{0: 5}, Type: wire.DNS, Name: "wiki", Address: "*.corp.example", Filters: filters}
}

func network(prefix string) wire.Resource {
	return wire.Resource{ID: id.Resource{0: 6}, Type: wire.CIDR, Name: prefix, Address: prefix}
}

// TestWholePathByName is what the product is for: DNS query, proxy address,
// SYN at the real host, SYN ACK from the proxy address, through every pair of
// NATs. Nothing is connected or authorized before.
func TestWholePathByName(t *testing.T) {
	for _, home := range sim.Kinds {
		for _, office := range sim.Kinds {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
				w := newWhole(t, 1, home, office, byName())
				addrs := w.resolve("wiki.corp.example", qtype)
				if len(addrs) != 4 {
					t.Fatalf("%d addresses", len(addrs))
				}
				cold, ok := w.connect(addrs[2], 80)
				if !ok {
					t.Fatalf("%v to %v: no connection; host saw %d packets; %s", home, office, len(w.host), w.state())
				}
				p, _ := packet.Parse(w.host[0])
				if want := w.records["wiki.corp.example"][qtype/dns.TypeAAAA]; p.Dst() != want || p.DstPort() != 80 {
					t.Errorf("the host saw a packet to %v:%d", p.Dst(), p.DstPort())
				}
				warm, ok := w.connect(addrs[0], 80)
				if !ok || warm > rtt+ms {
					t.Errorf("warm: %v, %v", warm, ok)
				}
				t.Logf("%v to %v: cold %v, warm %v", home, office, cold, warm)
				if limit := 300 * ms; cold > limit {
					t.Errorf("%v to %v: cold %v", home, office, cold)
				}
			}
		}
	}
}

// TestWholePathByAddress has no name to announce.
func TestWholePathByAddress(t *testing.T) {
	w := newWhole(t, 1, sim.PortRestricted, sim.PortRestricted, network("10.0.0.0/8"))
	cold, ok := w.connect(netip.MustParseAddr("10.1.0.80"), 80)
	if !ok {
		t.Fatalf("no connection: %s", w.state())
	}
	t.Logf("cold %v", cold)
	if _, ok := w.connect(netip.MustParseAddr("10.77.0.1"), 443); !ok || len(w.host) != 2 {
		t.Errorf("another host: %v, %d packets", ok, len(w.host))
	}
}

// TestWholePathRoams: the machine moves to another network while a connection
// is open; the next packet finds its way with the same proxy address.
func TestWholePathRoams(t *testing.T) {
	w := newWhole(t, 1, sim.PortRestricted, sim.PortRestricted, byName())
	addrs := w.resolve("wiki.corp.example", dns.TypeA)
	if _, ok := w.connect(addrs[0], 80); !ok {
		t.Fatal("no connection")
	}
	w.client.Host.Move(w.Site(sim.Symmetric, sim.Dual, sim.Link{Delay: uplink}))
	w.client.Do(func(c core.Role, now time.Time) { c.NetworkChanged(wire.Key{1, 2, 3}, now) })
	took, ok := w.connect(addrs[0], 80)
	if !ok {
		t.Fatalf("no connection after the move: %s", w.state())
	}
	t.Logf("after the move: %v", took)
	if again := w.resolve("wiki.corp.example", dns.TypeA); !slices.Equal(again, addrs) {
		t.Errorf("addresses %v, before %v", again, addrs)
	}
}

// TestWholePathAccessComesBack: the gateway was told to refuse, the client was
// not; the refusal makes it ask again, and the portal says yes.
func TestWholePathAccessComesBack(t *testing.T) {
	w := newWhole(t, 1, sim.PortRestricted, sim.PortRestricted, byName(), network("10.0.0.0/8"))
	addrs := w.resolve("wiki.corp.example", dns.TypeA)
	if _, ok := w.connect(addrs[0], 80); !ok {
		t.Fatal("no connection")
	}
	if _, ok := w.connect(netip.MustParseAddr("10.1.0.80"), 80); !ok {
		t.Fatal("no connection to the network") // so that the tunnel stays up
	}
	w.Run(3 * time.Second)
	w.toGateway(wire.RejectAccess{Client: clientID, Resource: byName().ID})
	w.Run(time.Second)
	took, ok := w.connect(addrs[0], 80)
	if !ok {
		t.Fatalf("no connection: %s", w.state())
	}
	t.Logf("with the second SYN: %v", took)
	if took > 1100*ms {
		t.Errorf("took %v", took)
	}
}

// TestWholePathStop: both sides forget each other at once.
func TestWholePathStop(t *testing.T) {
	w := newWhole(t, 1, sim.PortRestricted, sim.PortRestricted, byName())
	if _, ok := w.connect(w.resolve("wiki.corp.example", dns.TypeA)[0], 80); !ok {
		t.Fatal("no connection")
	}
	w.client.Do(core.Role.Stop)
	w.Run(100 * ms)
	for _, r := range []*sim.Role{w.client, w.gateway} {
		var report core.Report
		r.Core.Report(&report, w.Now())
		if len(report.Connections) != 0 {
			t.Errorf("left: %v", report.Connections)
		}
	}
}

// TestWholePathWithLoss: announcements, answers and handshakes get lost. A lost
// handshake costs five seconds (spec connectivity.md 1.7).
func TestWholePathWithLoss(t *testing.T) {
	for seed := range uint64(100) {
		w := newWhole(t, seed, sim.PortRestricted, sim.PortRestricted, byName())
		addrs := w.resolve("wiki.corp.example", dns.TypeA)
		lossy := rand.New(rand.NewPCG(seed, 1))
		w.Block = func(_, _ netip.AddrPort) bool { return lossy.IntN(10) == 0 }
		if took, ok := w.connect(addrs[0], 80); !ok {
			t.Errorf("seed %d: no connection in %v: %s", seed, took, w.state())
		}
	}
}

// TestWholePathIsDeterministic: the same seed, the same trace.
func TestWholePathIsDeterministic(t *testing.T) {
	run := func(seed uint64) uint64 {
		w := newWhole(t, seed, sim.Symmetric, sim.PortRestricted, byName(), network("10.0.0.0/8"))
		w.connect(w.resolve("wiki.corp.example", dns.TypeA)[0], 80)
		w.connect(netip.MustParseAddr("10.1.0.80"), 80)
		return w.Trace()
	}
	for seed := range uint64(5) {
		if a, b := run(seed), run(seed); a != b {
			t.Errorf("seed %d: traces %x and %x", seed, a, b)
		}
	}
}

// state is what both sides report, for a failure's text.
func (w *whole) state() string {
	var b strings.Builder
	for _, r := range []*sim.Role{w.client, w.gateway} {
		var report core.Report
		r.Core.Report(&report, w.Now())
		fmt.Fprintf(&b, "\n  connections %v\n  counters %v", report.Connections, report.Counters)
	}
	return b.String()
}
