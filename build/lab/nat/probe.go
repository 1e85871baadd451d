//go:build linux

package nat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"stile/build/lab/host"
)

// A Behaviour is what probing shows of a router.
type Behaviour struct {
	Translates  bool // the address seen outside is not that of the socket inside
	SameMapping bool // it is the same for every destination
	ThirdHost   bool // a host never asked reaches the mapping
	OtherPort   bool // another port of a host that was asked reaches it
}

// Want is what probing must show of a kind.
func (k Kind) Want() Behaviour {
	return map[Kind]Behaviour{
		None:           {Translates: false, SameMapping: true, ThirdHost: true, OtherPort: true},
		FullCone:       {Translates: true, SameMapping: true, ThirdHost: true, OtherPort: true},
		PortRestricted: {Translates: true, SameMapping: true, ThirdHost: false, OtherPort: false},
		Symmetric:      {Translates: true, SameMapping: false, ThirdHost: false, OtherPort: false},
	}[k]
}

func (b Behaviour) String() string {
	yes := map[bool]string{true: "yes", false: "no"}
	return fmt.Sprintf("translates %-3s  same mapping %-3s  third host arrives %-3s  other port arrives %-3s",
		yes[b.Translates], yes[b.SameMapping], yes[b.ThirdHost], yes[b.OtherPort])
}

// A Probe asks a router how it behaves, in one address family.
type Probe struct {
	Inside         *host.Host // behind the router
	Outer          netip.Addr // the router's address outside
	Server, Third  *host.Host // two hosts outside
	ServerAddr     netip.Addr
	ThirdAddr      netip.Addr
	InsideAddr     netip.Addr
	Port           uint16        // of the socket inside, not used before
	Quiet, Timeout time.Duration // how long what must not come is waited for; how long what must come
}

// probing is one run of a probe: a socket inside, two ports of the server, one
// of the third host.
type probing struct {
	Probe
	inside, server, other, third net.PacketConn
}

// Run does what a client and two servers would do, and reports what arrived.
func (p Probe) Run(ctx context.Context) (Behaviour, error) {
	r := probing{Probe: p}
	for _, s := range []struct {
		conn *net.PacketConn
		h    *host.Host
		a    netip.AddrPort
	}{
		{&r.inside, p.Inside, netip.AddrPortFrom(p.InsideAddr, p.Port)},
		{&r.server, p.Server, netip.AddrPortFrom(p.ServerAddr, 0)},
		{&r.other, p.Server, netip.AddrPortFrom(p.ServerAddr, 0)},
		{&r.third, p.Third, netip.AddrPortFrom(p.ThirdAddr, 0)},
	} {
		conn, err := s.h.ListenPacket("udp", s.a.String())
		if err != nil {
			return Behaviour{}, err
		}
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		*s.conn = conn
	}
	return r.run()
}

func (r *probing) run() (b Behaviour, err error) {
	// A packet before anything was asked must leave no trace in the router.
	early := net.UDPAddrFromAddrPort(netip.AddrPortFrom(r.Outer, r.Port))
	if _, err := r.third.WriteTo([]byte("early"), early); err != nil {
		return b, err
	}
	mapping, err := r.ask(r.server)
	if err != nil {
		return b, err
	}
	b.Translates = mapping.String() != r.inside.LocalAddr().String()
	if b.ThirdHost, b.OtherPort, err = r.reach(mapping); err != nil {
		return b, err
	}
	b.SameMapping = true
	for _, s := range []net.PacketConn{r.other, r.third} {
		m, err := r.ask(s)
		if err != nil {
			return b, err
		}
		b.SameMapping = b.SameMapping && m.String() == mapping.String()
	}
	return b, nil
}

// ask sends from inside and returns where the packet came from, seen outside.
func (r *probing) ask(server net.PacketConn) (from net.Addr, err error) {
	if _, err := r.inside.WriteTo([]byte("ask"), server.LocalAddr()); err != nil {
		return nil, err
	}
	buf := make([]byte, 64)
	if err := server.SetReadDeadline(time.Now().Add(r.Timeout)); err != nil {
		return nil, err
	}
	if _, from, err = server.ReadFrom(buf); err != nil {
		return nil, fmt.Errorf("nothing arrives outside: %w", err)
	}
	return from, nil
}

// reach tells whether the third host and the server's other port reach the
// socket inside by its mapping. The server itself, which was asked, must.
func (r *probing) reach(mapping net.Addr) (third, other bool, err error) {
	for _, s := range []struct {
		from net.PacketConn
		text string
	}{{r.third, "third"}, {r.other, "other"}, {r.server, "answer"}} {
		if _, err := s.from.WriteTo([]byte(s.text), mapping); err != nil {
			return false, false, err
		}
	}
	buf := make([]byte, 64)
	answered, deadline := false, time.Now().Add(r.Timeout)
	for {
		if err := r.inside.SetReadDeadline(deadline); err != nil {
			return false, false, err
		}
		n, _, err := r.inside.ReadFrom(buf)
		var late net.Error
		switch {
		case errors.As(err, &late) && late.Timeout() && answered:
			return third, other, nil
		case err != nil:
			return false, false, fmt.Errorf("the answer does not come back: %w", err)
		case bytes.Equal(buf[:n], []byte("answer")):
			// The others went first; what is not here soon never comes.
			answered, deadline = true, time.Now().Add(r.Quiet)
		case bytes.Equal(buf[:n], []byte("third")):
			third = true
		case bytes.Equal(buf[:n], []byte("other")):
			other = true
		}
	}
}
