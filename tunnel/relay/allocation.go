package relay

import (
	"encoding/binary"
	"io"
	"net/netip"
	"time"

	"github.com/pion/stun/v3"

	"stile/tunnel/turn"
)

const (
	defaultLifetime = 600 * time.Second
	maxLifetime     = time.Hour

	// A channel lives this long after it was bound; data does not prolong it.
	channelLifetime = 600 * time.Second
	// For so much longer its number and peer belong to each other, so that
	// late packets do not reach a stranger.
	channelQuarantine = 300 * time.Second

	// maxPerAddress bounds the allocations of one client address: offices
	// behind one address are large, but the ports are for all.
	maxPerAddress = 1024
	// maxChannels bounds the channels of all allocations.
	maxChannels = 1 << 18
	// maxAttempts is how many ports are tried for one allocation.
	maxAttempts = 8
)

// An allocation relays between one client socket and the peers of its
// channels.
type allocation struct {
	client   netip.AddrPort
	local    netip.AddrPort // where the client sends to
	user     string
	port     uint16
	hasV4    bool
	hasV6    bool
	open     bool
	attempts int // ports that could not be opened

	request  request // that made it
	key      stun.MessageIntegrity
	lifetime time.Duration
	expires  time.Time

	channels map[uint16]*channel
	peers    map[netip.AddrPort]*channel // the same ones
}

// A channel is a number that stands for a peer.
type channel struct {
	number  uint16
	peer    netip.AddrPort
	from    netip.AddrPort // the relayed address of the peer's family
	expires time.Time
}

func (a *allocation) live(now time.Time) bool { return now.Before(a.expires) }

func (a *allocation) relayed(public netip.Addr) netip.AddrPort {
	return netip.AddrPortFrom(public, a.port)
}

// clear forgets channels whose quarantine is over and returns how many.
func (a *allocation) clear(now time.Time) (cleared int) {
	for _, c := range a.channels {
		cleared += a.forget(c, now)
	}
	return cleared
}

// forget is clear for one channel, which may be nil.
func (a *allocation) forget(c *channel, now time.Time) (cleared int) {
	if c == nil || now.Before(c.expires.Add(channelQuarantine)) {
		return 0
	}
	delete(a.channels, c.number)
	delete(a.peers, c.peer)
	return 1
}

// openPort gives a a free port, chosen at random, and asks for its sockets.
func (s *Server) openPort(a *allocation) bool {
	free := int(s.highest) - int(s.lowest) + 1
	var b [4]byte
	if _, err := io.ReadFull(s.rand, b[:]); err != nil {
		panic("relay: no randomness: " + err.Error())
	}
	start := int(binary.LittleEndian.Uint32(b[:]) % uint32(free))
	for i := range free {
		port := s.lowest + uint16((start+i)%free)
		if s.ports[port] == nil && port != s.listen {
			a.port = port
			s.ports[port] = a
			s.out.Open = append(s.out.Open, Port{port, a.hasV4, a.hasV6})
			return true
		}
	}
	return false
}

// remove ends an allocation and closes its port.
func (s *Server) remove(a *allocation) {
	if s.ports[a.port] == a {
		delete(s.ports, a.port)
		s.out.Close = append(s.out.Close, a.port)
	}
	if s.clients[a.client] == a {
		delete(s.clients, a.client)
		network := household(a.client.Addr())
		if s.addresses[network]--; s.addresses[network] <= 0 {
			delete(s.addresses, network)
		}
	}
	if s.users[a.user] == a {
		delete(s.users, a.user)
	}
	s.channels -= len(a.channels)
	clear(a.channels)
	clear(a.peers)
}

// fromClient relays ChannelData to the channel's peer. What is behind the
// length that the header tells is padding.
func (s *Server) fromClient(d Datagram, now time.Time) (f Forward, ok bool) {
	if len(d.Payload) < turn.HeaderLen {
		return f, false
	}
	number := binary.BigEndian.Uint16(d.Payload)
	payload := d.Payload[turn.HeaderLen:]
	n := int(binary.BigEndian.Uint16(d.Payload[2:]))
	a := s.clients[d.Remote]
	if a == nil || n > len(payload) || !a.live(now) {
		return f, false
	}
	c := a.channels[number]
	if c == nil || !now.Before(c.expires) {
		return f, false
	}
	payload = payload[:n]
	s.stats.ToPeers++
	s.stats.Bytes += uint64(n)
	if c.peer.Addr() == c.from.Addr() && s.ports[c.peer.Port()] != nil {
		// Both peers are our clients. A host behind a translating router
		// cannot send to its own public address.
		return s.fromPeer(c.peer.Port(), c.from, payload, now)
	}
	return Forward{Local: c.from, Remote: c.peer, Payload: payload}, true
}

// fromPeer relays what a peer sent to an allocation's port, if a channel is
// bound to it.
func (s *Server) fromPeer(port uint16, peer netip.AddrPort, payload []byte, now time.Time) (f Forward, ok bool) {
	a := s.ports[port]
	if a == nil || !a.live(now) {
		return f, false
	}
	c := a.peers[peer]
	if c == nil || !now.Before(c.expires) || len(payload) > 0xffff {
		return f, false
	}
	s.stats.ToClients++
	s.stats.Bytes += uint64(len(payload))
	return Forward{Local: a.local, Remote: a.client, Payload: payload, Channel: c.number}, true
}
