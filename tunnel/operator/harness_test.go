package operator

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"stile/platform/clock"
	"stile/tunnel/core"
	"stile/tunnel/engine"
	"stile/tunnel/gateway"
	"stile/tunnel/id"
	"stile/tunnel/nat"
	"stile/tunnel/packet"
	"stile/tunnel/wire"
)

// An engineFor runs nothing and lets a gateway be looked at.
type engineFor struct {
	mu    sync.Mutex
	core  *gateway.Core
	looks int
}

func (e *engineFor) Inspect(f func(core.Role, time.Time)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.looks++
	f(e.core, clock.Now())
}

func (e *engineFor) Traffic() engine.Traffic {
	return engine.Traffic{PacketsIn: 1, BytesIn: 20, PacketsOut: 300, BytesOut: 4000}
}

func (e *engineFor) Counters() []core.Counter {
	return []core.Counter{{Name: "engine forged", Value: 7}}
}

var (
	alice, bob = id.Client{0xa1, 15: 1}, id.Client{0xb0, 15: 2}
	wiki, lab  = id.Resource{15: 1}, id.Resource{15: 2}
	quiet      = slog.New(slog.DiscardHandler)
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// proxies are the addresses that stand for a client's n-th name.
func proxies(n byte) (list []netip.Addr) {
	for i := range byte(4) {
		list = append(list, netip.AddrFrom4([4]byte{100, 96, n, 1 + i}))
	}
	return list
}

// newGateway is one that has just been started again: clients with sessions of
// before come back, with authorizations, and are being connected to. Alice has
// a session by name on the wiki, and n in the lab; Bob has one.
func newGateway(t testing.TB, n int) *engineFor {
	t.Helper()
	now := clock.Now()
	snapshot := append([]byte("stile gateway 1\n"), binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixMilli()))...)
	snapshot = appendClient(t, snapshot, alice, "100.64.0.7", "fd00:2021:1111::7", n, now)
	snapshot = appendClient(t, snapshot, bob, "100.64.0.9", "fd00:2021:1111::9", 0, now)
	c := gateway.New(gateway.Config{Rand: rand.NewChaCha8([32]byte{}), Wall: time.Now()}, now)
	if clients, _, err := c.Restore(snapshot, now); err != nil || clients != 2 {
		t.Fatalf("%d clients restored, %v", clients, err)
	}
	c.PortalUp(now)
	c.Message(wire.GatewayInit{
		IPv4: addr("100.64.0.1"), IPv6: addr("fd00:2021:1111::1"),
		Relays: []wire.Relay{{ID: id.Relay{15: 1}, Addr: netip.MustParseAddrPort("203.0.113.5:3478"), Username: "u", Password: "p", ExpiresAt: now.Add(time.Hour).Unix()}},
	}, now)
	for i, who := range []id.Client{alice, bob} {
		name := []string{"alice@corp.example", "bob@corp.example"}[i]
		address := []string{"100.64.0.7", "100.64.0.9"}[i]
		for _, r := range []wire.GatewayResource{
			{ID: wiki, Type: wire.DNS, Name: "Wiki", Address: "*.corp.example", Filters: []wire.Filter{{Protocol: wire.TCP, First: 443, Last: 443}, {Protocol: wire.ICMP}}},
			{ID: lab, Type: wire.CIDR, Name: "Lab", Address: "10.9.0.0/16"},
		} {
			if who == bob && r.ID == lab {
				continue
			}
			c.Message(wire.CreateAuthorization{
				Ref: "r", Resource: r, Client: who, ClientKey: wire.Key{1, byte(i)}, PresharedKey: wire.Key{2, byte(i)},
				ClientIPv4: addr(address), ClientIPv6: addr("fd00:2021:1111::" + address[len(address)-1:]), ExpiresAt: time.Now().Add(time.Hour).Unix(),
				ClientICE:   wire.ICECredentials{Username: "cccc", Password: strings.Repeat("c", 22)},
				GatewayICE:  wire.ICECredentials{Username: "gggg", Password: strings.Repeat("g", 22)},
				IngestToken: tokenOf(name),
			}, now)
		}
	}
	return &engineFor{core: c}
}

func tokenOf(email string) string {
	claims := fmt.Sprintf(`{"policy_id":"66bb0000-0000-4000-8000-000000000001","initiator_actor_id":"44cc0000-0000-4000-8000-000000000002","initiator_actor_name":"A","initiator_actor_email":%q}`, email)
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".AA"
}

// appendClient appends what a gateway keeps of a client over a restart.
func appendClient(t testing.TB, b []byte, who id.Client, v4, v6 string, n int, now time.Time) []byte {
	t.Helper()
	began := now.Add(-time.Minute)
	table := nat.New(nat.Config{Rand: rand.New(rand.NewPCG(1, 2)), NewPerSecond: 1 << 30, Burst: 1 << 30}, began)
	real := nat.Outcome{Addrs: []netip.Addr{addr("10.0.0.7")}}
	if !table.Announce("wiki.corp.example", wiki, proxies(who[0]), began) {
		t.Fatal("not announced")
	}
	table.Answer("wiki.corp.example", proxies(who[0]), real, nat.Outcome{}, began)
	from := addr(v4)
	pass := func(r id.Resource, from, to netip.AddrPort, at time.Time) {
		p, err := packet.Parse(packet.AppendUDP(nil, from, to, make([]byte, 100)))
		if err != nil {
			t.Fatal(err)
		}
		if v := table.OutFor(r, p, at); v != nat.Forward {
			t.Fatalf("%v to %v: %d", from, to, v)
		}
	}
	pass(wiki, netip.AddrPortFrom(from, 5000), netip.AddrPortFrom(proxies(who[0])[0], 443), now.Add(-30*time.Second))
	table.Answer("wiki.corp.example", proxies(who[0]), nat.Outcome{Addrs: []netip.Addr{addr("10.0.0.8")}}, nat.Outcome{}, now.Add(-20*time.Second))
	for i := range n {
		pass(lab, netip.AddrPortFrom(from, uint16(10000+i)), netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}), 53), now.Add(-10*time.Second))
	}
	a4, a6 := from.As4(), addr(v6).As16()
	b = append(append(append(b, who[:]...), a4[:]...), a6[:]...)
	state := table.AppendSnapshot(nil, now)
	return append(binary.BigEndian.AppendUint32(b, uint32(len(state))), state...)
}
