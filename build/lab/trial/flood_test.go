//go:build linux

package trial

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"stile/tunnel/wire"
)

// A flood is as many datagrams as fit into floodTime, from as many addresses as
// the loopback network has.
const (
	floodTime    = 1500 * time.Millisecond
	floodSockets = 256
	growth       = 60 // megabytes that a program may take more than before
)

// TestFloods sends garbage to the ports that everybody reaches. The programs
// live, stay small, and serve.
func TestFloods(t *testing.T) {
	for _, row := range []struct {
		name, program string
		port          uint16
		then          func(p *peer)
		works         func(m *machine, p *peer) error
	}{
		{"relay", "stile-server relay --public-ip4-addr 127.0.0.1" + fakeOptions, 3478, func(p *peer) { p.say(wire.RelayInit{}) },
			func(m *machine, _ *peer) error { return m.answersSTUN() }},
		{"client", "stiled" + fakeOptions, 52625, func(p *peer) { p.say(toClients[0]) },
			func(m *machine, _ *peer) error { return m.resolves("wiki.corp.example") }},
		{"gateway", "stile-server gateway" + fakeOptions, 52625, func(p *peer) { p.say(toGateways[0]) },
			func(_ *machine, p *peer) error { return p.authorizes() }},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := newMachine(t)
			joined := make(chan *peer, 1)
			m.fake(session(t, func(p *peer) { row.then(p); joined <- p; p.stay() }))
			r := m.start(typed(row.program).with(token))
			p := <-joined
			eventually(t, func() error { return row.works(m, p) })
			before := r.megabytes()
			sent := m.flood(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), row.port))
			r.lives()
			eventually(t, func() error { return row.works(m, p) })
			after := r.megabytes()
			t.Logf("%d datagrams; %d MB before, %d MB after", sent, before, after)
			if sent < 10_000 || after > before+growth {
				t.Errorf("%d datagrams; %d MB before, %d MB after", sent, before, after)
			}
			if got := r.stop(syscall.SIGTERM); got.status != 0 {
				t.Errorf("status %d", got.status)
			}
		})
	}
}

// flood sends garbage to an address until its time is over.
func (m *machine) flood(to netip.AddrPort) (sent int) {
	m.t.Helper()
	rng := rand.New(rand.NewPCG(1, uint64(to.Port())))
	var sockets []net.PacketConn
	for i := range floodSockets {
		s, err := m.ListenPacket("udp4", fmt.Sprintf("127.%d.%d.%d:0", 1+rng.IntN(250), rng.IntN(256), 1+i%250))
		must(m.t, err)
		defer s.Close()
		sockets = append(sockets, s)
	}
	var payloads [][]byte
	for range 2000 {
		payloads = append(payloads, garbage(rng))
	}
	address := net.UDPAddrFromAddrPort(to)
	for end := time.Now().Add(floodTime); time.Now().Before(end); sent++ {
		sockets[sent%len(sockets)].WriteTo(payloads[sent%len(payloads)], address) // what does not fit is lost
	}
	return sent
}

// garbage makes a datagram that looks like something, or like nothing.
func garbage(rng *rand.Rand) []byte {
	b := make([]byte, rng.IntN(1500))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	fill := func(n int) {
		for len(b) < n {
			b = append(b, byte(rng.Uint32()))
		}
	}
	switch rng.IntN(10) {
	case 0: // STUN, any method and class
		fill(20)
		binary.BigEndian.PutUint16(b, uint16(rng.IntN(0x4000)))
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)-20)&^3)
		binary.BigEndian.PutUint32(b[4:], 0x2112a442)
		b = b[:20+(len(b)-20)&^3]
	case 1: // an Allocate request with attributes that say anything
		b = []byte{0, 3, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(rng.Uint32())}
		for range rng.IntN(6) {
			value := make([]byte, 4*rng.IntN(20))
			b = binary.BigEndian.AppendUint16(b, []uint16{6, 8, 0x12, 0x14, 0x15, 0x17, 0x19, 0x8022, 0x8028, uint16(rng.Uint32())}[rng.IntN(10)])
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(value))), value...)
		}
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)-20))
	case 2: // ChannelData
		fill(4)
		binary.BigEndian.PutUint16(b, 0x4000+uint16(rng.IntN(0x1000)))
		binary.BigEndian.PutUint16(b[2:], uint16(rng.IntN(len(b)+2)))
	case 3: // a WireGuard handshake
		fill(148)
		b = b[:148]
		binary.LittleEndian.PutUint32(b, 1)
	case 4: // its answer, or a cookie
		n := []int{92, 64}[rng.IntN(2)]
		fill(n)
		b = b[:n]
		binary.LittleEndian.PutUint32(b, map[int]uint32{92: 2, 64: 3}[n])
	case 5: // WireGuard data for indexes that may exist
		fill(32)
		binary.LittleEndian.PutUint32(b, 4)
		binary.LittleEndian.PutUint32(b[4:], uint32(rng.IntN(1<<16)))
	case 6: // larger than anybody sends
		b = make([]byte, 2000+rng.IntN(60_000))
	case 7:
		b = b[:min(len(b), rng.IntN(24))]
	}
	return b
}

// TestGarbageIntoTheTunnel sends what no program should to the addresses that
// lead into the tunnel: broken queries and other noise to the resolver that
// stiled is, packets of all sizes to resources that nobody has authorized.
func TestGarbageIntoTheTunnel(t *testing.T) {
	m := newMachine(t)
	m.fake(session(t, func(p *peer) { p.say(toClients[0]); p.stay() }))
	r := m.start(typed("stiled" + fakeOptions).with(token))
	eventually(t, func() error { return m.resolves("wiki.corp.example") })
	before := r.megabytes()
	server, err := m.resolver()
	must(t, err)

	rng := rand.New(rand.NewPCG(2, 2))
	s, err := m.ListenPacket("udp4", ":0")
	must(t, err)
	defer s.Close()
	to := func(host string, port int) net.Addr { return &net.UDPAddr{IP: net.ParseIP(host), Port: port} }
	sent := 0
	for end := time.Now().Add(floodTime); time.Now().Before(end); sent++ {
		s.WriteTo(query(rng), to(server, 53))
		switch rng.IntN(6) {
		case 0:
			s.WriteTo(garbage(rng), to(server, 1+rng.IntN(65535)))
		case 1:
			s.WriteTo(garbage(rng), to("10.1.2.3", 1+rng.IntN(65535)))
		case 2:
			s.WriteTo(make([]byte, rng.IntN(65_000)), to(fmt.Sprintf("10.1.%d.%d", rng.IntN(256), rng.IntN(256)), 53)) // in fragments
		case 3:
			s.WriteTo(garbage(rng), to(fmt.Sprintf("100.96.%d.%d", rng.IntN(256), rng.IntN(256)), 80)) // proxy addresses, few of them in use
		}
	}
	var g sync.WaitGroup
	for _, address := range []string{server + ":53", server + ":853", "10.1.2.3:80", "100.96.0.99:443"} {
		for range 20 {
			g.Go(func() {
				m.InNetwork(func() error {
					c, err := net.DialTimeout("tcp", address, 300*time.Millisecond)
					if err == nil {
						c.Write(garbage(rand.New(rand.NewPCG(3, 3))))
						c.Close()
					}
					return nil
				})
			})
		}
	}
	g.Wait()
	r.lives()
	eventually(t, func() error { return m.resolves("wiki.corp.example") })
	if after := r.megabytes(); after > before+growth {
		t.Errorf("%d queries; %d MB before, %d MB after", sent, before, after)
	} else {
		t.Logf("%d queries; %d MB before, %d MB after", sent, before, after)
	}
	if got := r.stop(syscall.SIGTERM); got.status != 0 {
		t.Errorf("status %d", got.status)
	}
	if server, _ := m.resolver(); server != "127.0.0.53" {
		t.Errorf("the resolver is %s afterwards", server)
	}
}

// query makes something like a DNS query.
func query(rng *rand.Rand) []byte {
	b := []byte{byte(rng.Uint32()), byte(rng.Uint32()), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	b = append(b, "\x04wiki\x04corp\x07example\x00\x00\x01\x00\x01"...)
	for range rng.IntN(4) {
		switch rng.IntN(4) {
		case 0:
			b[rng.IntN(len(b))] = byte(rng.Uint32())
		case 1:
			b = b[:1+rng.IntN(len(b))]
		case 2:
			b = append(b, garbage(rng)...)
		case 3: // compression that leads anywhere
			b = append(b, 0xc0|byte(rng.IntN(64)), byte(rng.Uint32()))
		}
	}
	return b[:min(len(b), 1200)]
}
