// Package tcp puts computers with a whole TCP/IP, gVisor's, into the simulated
// internet of package sim: connections that repeat what was lost, slow down,
// close by halves and give up, all on virtual time.
package tcp

import (
	"fmt"
	"math/rand"
	"net/netip"
	"slices"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"stile/tunnel/sim"
)

// A Host is one computer. All of its methods, and those of its connections,
// return when there is nothing left to do at this instant.
type Host struct {
	internet  *sim.Internet
	send      func(p []byte)
	clock     *clock
	stack     *stack.Stack
	link      *channel.Endpoint
	addrs     []netip.Addr
	listeners []listener
	conns     []*Conn
	settling  bool
}

type listener struct {
	tcpip.Endpoint
	port  uint16
	serve func(*Conn)
}

const (
	nic   = 1
	queue = 4096 // packets that the link holds before they are taken
)

// New returns a host with these addresses on a link with an MTU in bytes. send
// takes each packet that it sends, and owns it. Close must be called.
func New(i *sim.Internet, mtu uint32, send func(p []byte), addrs ...netip.Addr) *Host {
	h := &Host{internet: i, send: send, clock: newClock(i), link: channel.New(queue, mtu, ""), addrs: addrs}
	h.clock.ran = h.settle
	h.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
		Clock:              h.clock,
		RandSource:         &lockedSource{Source: rand.NewSource(i.Chance.Int64())},
		SecureRNG:          &lockedSource{Source: rand.NewSource(i.Chance.Int64())},
	})
	must(h.stack.CreateNIC(nic, h.link))
	for _, a := range addrs {
		proto := tcpip.NetworkProtocolNumber(ipv4.ProtocolNumber)
		if a.Is6() {
			proto = ipv6.ProtocolNumber
		}
		must(h.stack.AddProtocolAddress(nic, tcpip.ProtocolAddress{Protocol: proto, AddressWithPrefix: tcpip.AddrFromSlice(a.AsSlice()).WithPrefix()}, stack.AddressProperties{}))
	}
	h.stack.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}, {Destination: header.IPv6EmptySubnet, NIC: nic}})
	h.settle()
	return h
}

// Close ends the host without a word to anybody.
func (h *Host) Close() {
	h.send = func([]byte) {}
	h.stack.Destroy()
}

// Receive takes a packet from the link; p is only read.
func (h *Host) Receive(p []byte) {
	h.clock.wake()
	proto := header.IPv4ProtocolNumber
	if p[0]>>4 == 6 {
		proto = header.IPv6ProtocolNumber
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(p)})
	h.link.InjectInbound(proto, pkt)
	pkt.DecRef()
	h.settle()
}

// Listen has serve called with each new connection to a port, of any of the
// host's addresses.
func (h *Host) Listen(port uint16, serve func(*Conn)) {
	h.clock.wake()
	for _, a := range h.addrs {
		ep := h.endpoint(a)
		must(ep.Bind(full(netip.AddrPortFrom(a, port))))
		must(ep.Listen(1024))
		h.listeners = append(h.listeners, listener{ep, port, serve})
	}
	h.settle()
}

// Unlisten has the host refuse further connections to a port.
func (h *Host) Unlisten(port uint16) {
	h.clock.wake()
	h.listeners = slices.DeleteFunc(h.listeners, func(l listener) bool {
		if l.port == port {
			l.Close()
		}
		return l.port == port
	})
	h.settle()
}

// Dial begins a connection from a port of the host.
func (h *Host) Dial(from uint16, to netip.AddrPort) *Conn {
	h.clock.wake()
	ep := h.endpoint(to.Addr())
	ep.SocketOptions().SetReuseAddress(true) // a client may use a port again
	for _, a := range h.addrs {
		if a.Is4() == to.Addr().Is4() {
			must(ep.Bind(full(netip.AddrPortFrom(a, from))))
			break
		}
	}
	c := h.add(ep)
	if err := ep.Connect(full(to)); err != nil {
		if _, ok := err.(*tcpip.ErrConnectStarted); !ok {
			c.fail(err)
		}
	}
	h.settle()
	return c
}

func (h *Host) endpoint(like netip.Addr) tcpip.Endpoint {
	proto := header.IPv4ProtocolNumber
	if like.Is6() {
		proto = header.IPv6ProtocolNumber
	}
	ep, err := h.stack.NewEndpoint(tcp.ProtocolNumber, proto, new(waiter.Queue))
	must(err)
	return ep
}

func (h *Host) add(ep tcpip.Endpoint) *Conn {
	c := &Conn{host: h, ep: ep}
	h.conns = append(h.conns, c)
	return c
}

// settle waits until the stack rests, serves applications as long as they have
// something to do, and carries on what came of it.
func (h *Host) settle() {
	if h.settling { // an application acts while it is served
		return
	}
	h.settling = true
	defer func() { h.settling = false }()
	for busy := true; busy; {
		rest()
		busy = false
		for _, l := range h.listeners {
			for {
				ep, _, err := l.Accept(nil)
				if err != nil {
					break
				}
				busy = true
				l.serve(h.add(ep))
			}
		}
		for _, c := range slices.Clone(h.conns) { // applications begin and end some
			busy = c.pump() || busy
		}
		h.conns = slices.DeleteFunc(h.conns, func(c *Conn) bool { return c.over })
	}
	h.clock.arm()
	for pkt := h.link.Read(); pkt != nil; pkt = h.link.Read() {
		view := pkt.ToView()
		p := append([]byte(nil), view.AsSlice()...)
		view.Release()
		pkt.DecRef()
		h.internet.After(0, func() { h.send(p) })
	}
}

func full(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFromSlice(a.Addr().AsSlice()), Port: a.Port()}
}

// must stops what cannot go wrong unless this package is.
func must(err tcpip.Error) {
	if err != nil {
		panic(fmt.Sprint("sim/tcp: ", err))
	}
}
