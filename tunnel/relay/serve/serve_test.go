package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/relay"
	"stile/tunnel/turn"
	"stile/tunnel/wire"
)

const secret = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

// fakePortal joins at once, and refuses when told to.
type fakePortal struct{ refuse chan error }

func (p fakePortal) Run(ctx context.Context, _ wire.Key, deliver func(core.PortalEvent)) error {
	deliver(core.PortalEvent{Up: true})
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-p.refuse:
		deliver(core.PortalEvent{Down: true})
		return err
	}
}

// running is a relay on the loopback interface.
type running struct {
	t      *testing.T
	config Config
	portal fakePortal
	result chan error
}

// start runs a relay on free ports until the test ends.
func start(t *testing.T) *running {
	r := &running{t: t, portal: fakePortal{make(chan error)}, result: make(chan error, 1)}
	r.config = Config{
		Relay: relay.Config{
			StampSecret: secret,
			PublicV4:    netip.MustParseAddr("127.0.0.1"),
			PublicV6:    netip.MustParseAddr("::1"),
			ListenPort:  freePort(t),
			Rand:        rand.NewChaCha8([32]byte{1}),
		},
		BindV4: netip.MustParseAddr("127.0.0.1"),
		BindV6: netip.MustParseAddr("::1"),
		Portal: r.portal,
		Health: "127.0.0.1:" + fmt.Sprint(freePort(t)),
		Log:    slog.New(slog.DiscardHandler),
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { r.result <- Run(ctx, r.config) }()
	t.Cleanup(func() {
		cancel()
		<-r.result
	})
	r.eventually("healthy", func() bool { return r.health("/healthz") == 200 })
	return r
}

// freePort finds a port that is free for UDP and TCP on both addresses.
func freePort(t *testing.T) uint16 {
	for range 100 {
		port := uint16(20000 + rand.IntN(10000))
		u4, err4 := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)})
		u6, err6 := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback, Port: int(port)})
		tcp, errT := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
		for i, c := range []interface{ Close() error }{u4, u6, tcp} {
			if []error{err4, err6, errT}[i] == nil {
				c.Close()
			}
		}
		if err4 == nil && err6 == nil && errT == nil {
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

func (r *running) health(path string) int {
	response, err := http.Get("http://" + r.config.Health + path)
	if err != nil {
		return 0
	}
	response.Body.Close()
	return response.StatusCode
}

// eventually asks again until the answer is yes. The sockets are real, and so
// is the time.
func (r *running) eventually(what string, f func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !f(); {
		if time.Now().After(deadline) {
			r.t.Fatalf("not %s after 10 s", what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// A client is our own TURN client on a real socket.
type client struct {
	r     *running
	conn  *net.UDPConn
	addr  netip.AddrPort
	alloc *turn.Allocation
	data  []string // ChannelData that arrived, as "peer text"
}

// client connects over IPv4, or over IPv6.
func (r *running) client(salt string, overV6 bool) *client {
	conn := udp(r.t, map[bool]string{false: "127.0.0.1:0", true: "[::1]:0"}[overV6])
	c := &client{r: r, conn: conn, addr: conn.LocalAddr().(*net.UDPAddr).AddrPort()}
	config := turn.Config{Rand: rand.NewChaCha8([32]byte{2})}
	if overV6 {
		config.V6 = netip.AddrPortFrom(r.config.Relay.PublicV6, r.config.Relay.ListenPort)
	} else {
		config.V4 = netip.AddrPortFrom(r.config.Relay.PublicV4, r.config.Relay.ListenPort)
	}
	config.Username, config.Password = relay.Credentials(secret, time.Now().Unix()+3600, salt)
	c.alloc = turn.New(config, time.Now())
	r.eventually("allocated", func() bool {
		c.step()
		return c.relayed(false).IsValid() && c.relayed(true).IsValid()
	})
	return c
}

func (c *client) relayed(v6 bool) netip.AddrPort {
	if v6 {
		return c.alloc.Relayed(netip.IPv6Loopback())
	}
	return c.alloc.Relayed(netip.MustParseAddr("127.0.0.1"))
}

// step sends what is to be sent and reads one datagram, if there is one.
func (c *client) step() {
	now := time.Now()
	c.alloc.Advance(now)
	for _, s := range c.alloc.Drain(nil) {
		if _, err := c.conn.WriteToUDPAddrPort(s.Payload, s.To); err != nil {
			c.r.t.Fatal(err)
		}
	}
	b, from := receive(c.conn, 20*time.Millisecond)
	if b == nil || c.alloc.Handle(b, c.addr, from, now) {
		return
	}
	channel, payload, ok := turn.ParseChannelData(b)
	if !ok {
		c.r.t.Errorf("got %x", b)
		return
	}
	peer, ok := c.alloc.Unwrap(channel, now)
	if ok {
		c.data = append(c.data, fmt.Sprint(peer, " ", string(payload)))
	}
}

// bind binds a channel and waits until it is bound.
func (c *client) bind(peer netip.AddrPort) (channel uint16) {
	c.alloc.Bind(peer, time.Now())
	c.r.eventually("bound", func() bool {
		c.step()
		number, _ := c.alloc.Channel(peer, time.Now())
		_, bound := c.alloc.Unwrap(number, time.Now())
		channel = number
		return bound
	})
	return channel
}

func (c *client) send(channel uint16, text string) {
	to := netip.AddrPortFrom(c.r.config.Relay.PublicV4, c.r.config.Relay.ListenPort)
	if c.addr.Addr().Is6() {
		to = netip.AddrPortFrom(c.r.config.Relay.PublicV6, to.Port())
	}
	if _, err := c.conn.WriteToUDPAddrPort(turn.AppendChannelData(nil, channel, []byte(text)), to); err != nil {
		c.r.t.Error(err)
	}
}

func (c *client) want(line string) {
	c.r.t.Helper()
	c.r.eventually("received: "+line, func() bool {
		c.step()
		return slices.Contains(c.data, line)
	})
}

func udp(t *testing.T, addr string) *net.UDPConn {
	a, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenUDP("udp", a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func receive(conn *net.UDPConn, wait time.Duration) ([]byte, netip.AddrPort) {
	buf := make([]byte, 2000)
	_ = conn.SetReadDeadline(time.Now().Add(wait))
	n, from, err := conn.ReadFromUDPAddrPort(buf)
	if err != nil {
		return nil, netip.AddrPort{}
	}
	return buf[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
}

// Real sockets: client over each family, peers of both.
func TestRelaysBothWays(t *testing.T) {
	r := start(t)
	for i, overV6 := range []bool{false, true} {
		c := r.client(fmt.Sprint(i), overV6)
		for _, v6 := range []bool{false, true} {
			peer := udp(t, map[bool]string{false: "127.0.0.1:0", true: "[::1]:0"}[v6])
			addr := peer.LocalAddr().(*net.UDPAddr).AddrPort()
			channel := c.bind(addr)
			for _, text := range []string{"hello", "", strings.Repeat("x", 1312)} { // any length, unpadded
				c.send(channel, text)
				got, from := receive(peer, 5*time.Second)
				if string(got) != text || from != c.relayed(v6) {
					t.Fatalf("peer got %d bytes from %v, want %d from %v", len(got), from, len(text), c.relayed(v6))
				}
				if _, err := peer.WriteToUDPAddrPort([]byte(text+"back"), from); err != nil {
					t.Fatal(err)
				}
				c.want(fmt.Sprint(addr, " ", text+"back"))
			}
		}
	}
}

// Two clients of the relay, over one family each.
func TestTwoClientsMeet(t *testing.T) {
	r := start(t)
	a, b := r.client("a", false), r.client("b", true)
	toB, toA := a.bind(b.relayed(false)), b.bind(a.relayed(false))
	a.send(toB, "from a")
	b.want(a.relayed(false).String() + " from a")
	b.send(toA, "from b")
	a.want(b.relayed(false).String() + " from b")
}

func TestDeletedAllocationsFreeTheirPort(t *testing.T) {
	r := start(t)
	first := r.client("one user", false).relayed(false)
	r.client("one user", false) // elsewhere: the first allocation ends
	r.eventually("closed", func() bool {
		conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(first))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

func TestReadiness(t *testing.T) {
	r := start(t)
	r.eventually("ready", func() bool { return r.health("/readyz") == 200 })
	if got := r.health("/metrics"); got != 404 {
		t.Errorf("got %d for an unknown page", got)
	}
	refused := errors.New("token rejected")
	r.portal.refuse <- refused
	if err := <-r.result; !errors.Is(err, refused) {
		t.Errorf("Run returned %v", err)
	}
	r.result <- nil // for the cleanup
}

func TestOccupiedPorts(t *testing.T) {
	r := start(t)
	if err := Run(t.Context(), r.config); err == nil || !strings.Contains(err.Error(), "stop that one") {
		t.Errorf("got %v", err)
	}
	other := r.config
	other.Relay.ListenPort = freePort(t)
	if err := Run(t.Context(), other); err == nil || !strings.Contains(err.Error(), "--health-check-addr") {
		t.Errorf("got %v", err)
	}
}

// Garbage and large datagrams, at the port for clients and at an allocation's.
func TestGarbage(t *testing.T) {
	r := start(t)
	c := r.client("a", false)
	noise := udp(t, "127.0.0.1:0")
	rng := rand.New(rand.NewPCG(1, 1))
	for range 500 {
		b := make([]byte, rng.IntN(3000))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		if len(b) > 0 {
			b[0] &= 0x43 // STUN or ChannelData, often
		}
		for _, to := range []netip.AddrPort{c.relayed(false), netip.AddrPortFrom(r.config.Relay.PublicV4, r.config.Relay.ListenPort)} {
			if _, err := noise.WriteToUDPAddrPort(b, to); err != nil {
				t.Fatal(err)
			}
		}
	}
	peer := udp(t, "127.0.0.1:0")
	channel := c.bind(peer.LocalAddr().(*net.UDPAddr).AddrPort())
	c.send(channel, strings.Repeat("x", maxPayload)) // with its header longer than what is relayed
	c.send(channel, "still there")
	if got, _ := receive(peer, 5*time.Second); string(got) != "still there" {
		t.Errorf("got %.20q", got)
	}
}

// Many clients at once, so that the race detector sees the shell at work.
func TestManyClients(t *testing.T) {
	r := start(t)
	var g sync.WaitGroup
	for i := range 20 {
		c := r.client(fmt.Sprint(i), i%2 == 0)
		peer := udp(t, "127.0.0.1:0")
		channel := c.bind(peer.LocalAddr().(*net.UDPAddr).AddrPort())
		g.Go(func() {
			for n := range 50 {
				c.send(channel, fmt.Sprint(n))
				if got, _ := receive(peer, 5*time.Second); !bytes.Equal(got, fmt.Append(nil, n)) {
					t.Errorf("client %d: got %q, want %d", i, got, n)
				}
			}
		})
	}
	g.Wait()
}
