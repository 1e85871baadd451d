// Package relay decides for a TURN server: who may allocate, which datagram
// goes where (spec connectivity.md 4.7, RFC 8656).
//
// Peers of the Firezone protocol are picky: they discard answers whose
// integrity is missing, errors included, and ChannelData that is padded. What
// is here serves them and whoever uses channels over UDP; there are no Send or
// Data indications, no TCP, no permissions.
//
// A shell owns the sockets. It hands every datagram to [Server.Datagram],
// sends what that returns at once, and does what [Server.Drain] says.
package relay

import (
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/pion/stun/v3"

	"stile/tunnel/id"
	"stile/tunnel/turn"
)

// Defaults of Config. Peers know relay traffic by its port 3478.
const (
	DefaultPort    = 3478
	DefaultLowest  = 49152
	DefaultHighest = 65535
)

// sweepEvery is how often what has expired is cleared away. Deadlines are
// looked at on every use, so that nothing depends on it but memory.
const sweepEvery = 5 * time.Second

// Config is what a Server is made from.
type Config struct {
	// StampSecret derives passwords and the relay's ID: 64 hexadecimal
	// characters, random for each process.
	StampSecret string
	// PublicV4 and PublicV6 are the addresses that peers see; one may be zero.
	PublicV4, PublicV6 netip.Addr
	// ListenPort is where clients send to, LowestPort to HighestPort are for
	// allocations. Zero stands for the defaults.
	ListenPort, LowestPort, HighestPort uint16
	// Rand is the source of nonces and ports; reading from it must not fail.
	Rand io.Reader
}

// A Datagram is one UDP payload and the two ends it travels between. Of Local
// only the address family and the port matter. Payload is borrowed where a
// Datagram is an argument, and owned by the receiver where it comes out of
// Drain.
type Datagram struct {
	Local, Remote netip.AddrPort
	Payload       []byte
}

// A Forward is a datagram to be relayed at once. Payload aliases what was
// received. If Channel is not zero, a ChannelData header goes in front.
type Forward struct {
	Local, Remote netip.AddrPort
	Payload       []byte
	Channel       uint16
}

// Append appends what goes on the wire. A shell with four free bytes in front
// of Payload writes the header there instead.
func (f Forward) Append(dst []byte) []byte {
	if f.Channel != 0 {
		return turn.AppendChannelData(dst, f.Channel, f.Payload)
	}
	return append(dst, f.Payload...)
}

// A Port is an allocation's: a socket of each family named.
type Port struct {
	Number uint16
	V4, V6 bool
}

// Output is what the shell is to do: first close, then open, then send. For
// each port to open it calls Opened, and drains again.
type Output struct {
	Close     []uint16
	Open      []Port
	Datagrams []Datagram
}

// Reset empties o and keeps its memory.
func (o *Output) Reset() {
	clear(o.Datagrams)
	*o = Output{o.Close[:0], o.Open[:0], o.Datagrams[:0]}
}

// Stats are numbers of the moment and counters since the start.
type Stats struct {
	Allocations, Channels int
	ToPeers, ToClients    uint64 // datagrams relayed
	Bytes                 uint64 // of their payloads
	Dropped               uint64 // datagrams that fit nothing
	Limited               uint64 // requests not answered because of their number
	Answers               uint64 // responses, errors included
	Errors                uint64 // error responses
}

// A Server is a TURN server without sockets.
type Server struct {
	secret  string
	v4, v6  netip.Addr // public; invalid: none
	listen  uint16
	lowest  uint16
	highest uint16
	rand    io.Reader

	clients   map[netip.AddrPort]*allocation // by the client's address
	ports     map[uint16]*allocation
	users     map[string]*allocation // by username
	addresses map[netip.Prefix]int   // allocations by client address
	channels  int                    // of all allocations
	nonces    nonces
	limit     limiter

	request stun.Message // its memory is reused
	sweep   time.Time    // when to clear away; zero: there is nothing
	out     Output
	stats   Stats
}

// New makes a server without allocations. Here and in all methods now carries
// the wall clock's time: credentials expire by it.
func New(c Config, now time.Time) *Server {
	s := &Server{
		secret:    c.StampSecret,
		v4:        c.PublicV4,
		v6:        c.PublicV6,
		listen:    or(c.ListenPort, DefaultPort),
		lowest:    or(c.LowestPort, DefaultLowest),
		highest:   or(c.HighestPort, DefaultHighest),
		rand:      c.Rand,
		clients:   map[netip.AddrPort]*allocation{},
		ports:     map[uint16]*allocation{},
		users:     map[string]*allocation{},
		addresses: map[netip.Prefix]int{},
	}
	s.nonces = newNonces(c.Rand)
	s.limit = limiter{key: s.nonces.key, second: now}
	return s
}

func or(port, otherwise uint16) uint16 {
	if port == 0 {
		return otherwise
	}
	return port
}

// ID returns the relay's ID, by which the portal makes it known to peers.
func (s *Server) ID() id.Relay { return relayID(s.secret) }

// Datagram takes what arrived at the listening port or at an allocation's. With
// ok, f is to be sent on; it aliases d.Payload. Answers come out of Drain.
// Relaying does not allocate memory.
func (s *Server) Datagram(d Datagram, now time.Time) (f Forward, ok bool) {
	d.Remote = netip.AddrPortFrom(d.Remote.Addr().Unmap(), d.Remote.Port())
	switch {
	case d.Remote.Port() == 0:
	case d.Local.Port() != s.listen:
		f, ok = s.fromPeer(d.Local.Port(), d.Remote, d.Payload, now)
	case len(d.Payload) == 0:
	case d.Payload[0] <= 3:
		s.requested(d, now)
		return f, false
	case d.Payload[0]>>4 == turn.MinChannel>>12:
		f, ok = s.fromClient(d, now)
	}
	if !ok {
		s.stats.Dropped++
	}
	return f, ok
}

// Drain moves out what the shell is to do, appending to o.
func (s *Server) Drain(o *Output) {
	o.Close = append(o.Close, s.out.Close...)
	o.Open = append(o.Open, s.out.Open...)
	o.Datagrams = append(o.Datagrams, s.out.Datagrams...)
	s.out.Reset()
}

// Pending reports whether Drain has something.
func (s *Server) Pending() bool {
	return len(s.out.Close)+len(s.out.Open)+len(s.out.Datagrams) > 0
}

// Next returns when Advance is due; the zero time means never.
func (s *Server) Next() time.Time { return s.sweep }

// Advance clears away what has expired. Early calls are harmless.
func (s *Server) Advance(now time.Time) {
	if s.sweep.IsZero() || now.Before(s.sweep) {
		return
	}
	var expired []uint16
	for port, a := range s.ports {
		if a.live(now) {
			s.channels -= a.clear(now)
		} else {
			expired = append(expired, port)
		}
	}
	slices.Sort(expired) // the order is visible
	for _, port := range expired {
		s.remove(s.ports[port])
	}
	s.nonces.clear(now)
	s.sweep = time.Time{}
	if len(s.ports)+len(s.nonces.used) > 0 {
		s.sweep = now.Add(sweepEvery)
	}
}

// wake makes Advance due soon, now that there is something to clear away.
func (s *Server) wake(now time.Time) {
	if s.sweep.IsZero() {
		s.sweep = now.Add(sweepEvery)
	}
}

// Stats returns the numbers of this moment.
func (s *Server) Stats() Stats {
	stats := s.stats
	stats.Allocations, stats.Channels = len(s.ports), s.channels
	return stats
}
