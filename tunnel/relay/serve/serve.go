// Package serve runs a relay: the sockets, the clock, the registration with
// the portal and the health endpoint around package relay.
package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/relay"
	"stile/tunnel/turn"
	"stile/tunnel/wire"
)

const (
	// maxPayload is the largest datagram that is relayed, in bytes: what fits
	// an Ethernet frame, and more than peers send (spec connectivity.md 2.4).
	maxPayload = 1500
	// Buffers of the listening sockets, in bytes, as far as the system grants.
	receiveBuffer, sendBuffer = 4 << 20, 4 << 20
	// advanceEvery is how often expired allocations are looked for.
	advanceEvery = time.Second
)

// A Portal makes the relay known to peers; *dial.Channel implements it. Run
// returns when ctx ends or the portal refused us for good.
type Portal interface {
	Run(ctx context.Context, publicKey wire.Key, deliver func(core.PortalEvent)) error
}

// Config says what to serve.
type Config struct {
	Relay relay.Config
	// BindV4 and BindV6 are the addresses of the sockets; zero stands for all.
	// On a host with several addresses name the one that the public address
	// leads to, or answers leave from another.
	BindV4, BindV6 netip.Addr
	Portal         Portal // nil: none
	// Health is HOST:PORT of the health endpoint; "" for none.
	Health string
	Log    *slog.Logger
}

// A shell is a running relay.
type shell struct {
	config Config
	group  sync.WaitGroup
	joined atomic.Bool // for readiness: the portal knows us

	mu      sync.Mutex // guards what follows
	server  *relay.Server
	listen  pair
	ports   map[uint16]pair
	stopped bool
}

// A pair is a port's sockets. Either may be nil.
type pair struct{ v4, v6 *net.UDPConn }

func (p pair) of(a netip.Addr) *net.UDPConn {
	if a.Is4() {
		return p.v4
	}
	return p.v6
}

func (p pair) close() {
	for _, c := range []*net.UDPConn{p.v4, p.v6} {
		if c != nil {
			c.Close()
		}
	}
}

// Run serves until ctx ends or the portal refuses the relay for good.
func Run(ctx context.Context, c Config) error {
	port := or(c.Relay.ListenPort, relay.DefaultPort)
	listen, err := bind(c, port, c.Relay.PublicV4.IsValid(), c.Relay.PublicV6.IsValid())
	if err != nil {
		return explain(err)
	}
	for _, conn := range []*net.UDPConn{listen.v4, listen.v6} {
		if conn != nil { // a smaller buffer is no reason not to serve
			_ = conn.SetReadBuffer(receiveBuffer)
			_ = conn.SetWriteBuffer(sendBuffer)
		}
	}
	s := &shell{config: c, server: relay.New(c.Relay, time.Now()), listen: listen, ports: map[uint16]pair{}}
	health, err := s.listenHealth()
	if err != nil {
		listen.close()
		return err
	}
	c.Log.Info("relay is listening", "id", s.server.ID(), "ipv4", c.Relay.PublicV4, "ipv6", c.Relay.PublicV6, "port", port)
	return s.run(ctx, health)
}

// explain says what to do about a port for clients that cannot be opened.
func explain(err error) error {
	advice := "if another program has it (ss -lunp shows which), stop that one; other ports than 3478 are of no use to stock peers"
	if errors.Is(err, fs.ErrPermission) {
		advice = "ports below 1024 need CAP_NET_BIND_SERVICE, and stock peers need 3478: leave --listen-port out"
	}
	return fmt.Errorf("open the port for clients: %w; %s", err, advice)
}

// run starts all goroutines and waits for them. The first to fail ends the
// others.
func (s *shell) run(ctx context.Context, health net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.read(s.port(), s.listen)
	s.group.Go(func() { s.advance(ctx) })
	if s.config.Portal != nil {
		s.group.Go(func() { cancel(s.register(ctx)) })
	}
	if health != nil {
		s.group.Go(func() { cancel(s.serveHealth(ctx, health)) })
	}
	<-ctx.Done()
	s.stop()
	s.group.Wait()
	return context.Cause(ctx)
}

func or(port, otherwise uint16) uint16 {
	if port == 0 {
		return otherwise
	}
	return port
}

// register keeps the portal informed that we are here.
func (s *shell) register(ctx context.Context) error {
	err := s.config.Portal.Run(ctx, wire.Key{}, func(e core.PortalEvent) {
		switch {
		case e.Up:
			s.joined.Store(true)
			s.config.Log.Info("registered with the portal")
		case e.Down:
			s.joined.Store(false)
			s.config.Log.Warn("lost the portal; relaying goes on")
		}
	})
	s.joined.Store(false)
	return fmt.Errorf("register with the portal: %w", err)
}

// advance keeps the server's clock going.
func (s *shell) advance(ctx context.Context) {
	tick := time.NewTicker(advanceEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.mu.Lock()
			s.server.Advance(now)
			todo := s.drainLocked()
			s.mu.Unlock()
			s.perform(todo)
		}
	}
}

// bind opens the sockets of one port.
func bind(c Config, port uint16, v4, v6 bool) (p pair, err error) {
	if v4 {
		if p.v4, err = open("udp4", c.BindV4, netip.IPv4Unspecified(), port); err != nil {
			return pair{}, err
		}
	}
	if v6 {
		if p.v6, err = open("udp6", c.BindV6, netip.IPv6Unspecified(), port); err != nil {
			p.close()
			return pair{}, err
		}
	}
	return p, nil
}

func open(network string, addr, any netip.Addr, port uint16) (*net.UDPConn, error) {
	if !addr.IsValid() {
		addr = any
	}
	return net.ListenUDP(network, net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, port)))
}

// headroom is what a buffer keeps free in front of a datagram, for a
// ChannelData header.
const headroom = turn.HeaderLen

// read starts a reader for each socket of p; they end when it is closed.
func (s *shell) read(port uint16, p pair) {
	for _, end := range []struct {
		conn *net.UDPConn
		addr netip.Addr
	}{{p.v4, s.config.Relay.PublicV4}, {p.v6, s.config.Relay.PublicV6}} {
		if end.conn != nil {
			local := netip.AddrPortFrom(end.addr, port)
			s.group.Go(func() { s.readSocket(end.conn, local) })
		}
	}
}

// readSocket relays what arrives at one socket.
func (s *shell) readSocket(conn *net.UDPConn, local netip.AddrPort) {
	buf := make([]byte, headroom+maxPayload+1)
	for {
		n, remote, err := conn.ReadFromUDPAddrPort(buf[headroom:])
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n > maxPayload { // the latter is cut
			continue
		}
		s.received(relay.Datagram{Local: local, Remote: remote, Payload: buf[headroom : headroom+n]}, buf)
	}
}

// received relays d, which begins behind the headroom in buf, or does what it
// asks for.
func (s *shell) received(d relay.Datagram, buf []byte) {
	s.mu.Lock()
	f, ok := s.server.Datagram(d, time.Now())
	var out *net.UDPConn
	if ok {
		out = s.socketLocked(f.Local)
	}
	todo := s.drainLocked()
	s.mu.Unlock()
	if out != nil {
		// The network may drop; so may we.
		_, _ = out.WriteToUDPAddrPort(framed(f, d.Local.Port() == s.port(), buf), f.Remote)
	}
	s.perform(todo)
}

func (s *shell) port() uint16 { return or(s.config.Relay.ListenPort, relay.DefaultPort) }

// framed puts the ChannelData header in front of f's payload, if there is to
// be one. The payload lies in buf behind the headroom, and behind the header
// that it came with if a client sent it.
func framed(f relay.Forward, fromClient bool, buf []byte) []byte {
	if f.Channel == 0 {
		return f.Payload
	}
	at := 0
	if fromClient {
		at = turn.HeaderLen
	}
	turn.PutHeader(buf[at:], f.Channel, len(f.Payload))
	return buf[at : at+turn.HeaderLen+len(f.Payload)]
}

func (s *shell) socketLocked(local netip.AddrPort) *net.UDPConn {
	if local.Port() == s.port() {
		return s.listen.of(local.Addr())
	}
	return s.ports[local.Port()].of(local.Addr())
}
