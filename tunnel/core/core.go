// Package core is the contract between a role (client or gateway), which
// decides, and the engine, which acts. Roles and engine meet nowhere else.
//
// The life of a packet read from the TUN: the engine parses it and calls
// [Role.Outbound] under its lock; the role answers with a [Route]; unlocked,
// the engine seals the packet in place with the route's key snapshot and
// writes it along the route's [Way].
//
// The life of a datagram read from a socket: the engine calls
// [Role.Datagram] under its lock; STUN and handshakes are consumed, a data
// message comes back as [Sealed]; unlocked, the engine opens it in place; under
// the lock again, [Role.Inbound] checks the replay window and policy,
// translates in place and says whether the packet goes to the TUN.
package core

import (
	"errors"
	"net/netip"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/packet"
	"stile/tunnel/wg"
	"stile/tunnel/wire"
)

// Headroom is the number of free bytes the engine keeps in front of each
// packet it reads from the TUN: ChannelData header (4), WireGuard header (16).
const Headroom = 4 + wg.HeaderLen

// MaxDatagram is the largest UDP payload a peer may send us: 1280 bytes of
// packet, 32 of WireGuard, 4 of ChannelData, and 20 that the 2025 gateways may
// add (spec connectivity.md 2.1).
const MaxDatagram = 1336

// A Datagram is one UDP payload and the two ends it travels between. Local is
// where it arrived, or what it must be sent from; a Local with an unspecified
// or invalid address leaves the source to the operating system. Payload is
// borrowed where a Datagram is an argument, and owned by the receiver where it
// comes out of Drain.
type Datagram struct {
	Local, Remote netip.AddrPort
	Payload       []byte
}

// A Way is an immutable snapshot of where sealed packets for one connection
// go: straight to Remote, or, if Channel is not zero, to the relay at Remote
// with a ChannelData header in front (RFC 8656 §12.4).
type Way struct {
	Local, Remote netip.AddrPort
	Channel       uint16 // 0x4000–0x4FFF; 0: direct
}

// A Route is all the engine needs to send one packet after unlocking. A Route
// without Keys means that there is nothing to send: the packet was consumed,
// held, answered or dropped.
type Route struct {
	Keys *wg.Keys
	Way  *Way
}

// Sealed is a WireGuard data message on its way in. Message aliases the
// datagram's payload, ChannelData header stripped. Sealed without Keys means
// that the datagram was consumed.
type Sealed struct {
	Keys    *wg.Keys
	Message []byte
}

// Held is a packet that waited inside the role and may go out now. Packet is
// the plaintext, owned by the receiver.
type Held struct {
	Route  Route
	Packet []byte
}

// A Role is one of the two cores, client or gateway. The engine holds its lock
// around every call. now is always the last parameter and never goes
// backwards (platform/clock). Slices passed in are borrowed until return.
type Role interface {
	// Outbound decides about a packet read from the TUN, which may be a fragment
	// (packet.ParseFragment). It may rewrite the packet in place (the gateway's
	// NAT does).
	Outbound(p packet.Packet, now time.Time) Route
	// Datagram decides about a datagram read from a socket.
	Datagram(d Datagram, now time.Time) Sealed
	// Inbound decides about a decrypted data message: k opened it, counter is
	// its WireGuard counter, plain its plaintext (empty: a keepalive). The
	// result is the packet for the TUN, rewritten in place and aliasing plain,
	// or nil when nothing is to be delivered.
	Inbound(k *wg.Keys, counter uint64, plain []byte, now time.Time) []byte

	// Message takes a portal message. Up and Down tell that the portal channel
	// was joined or lost.
	Message(m wire.Message, now time.Time)
	PortalUp(now time.Time)
	PortalDown(now time.Time)

	// Done takes the result of an Action that asked for one.
	Done(r Result, now time.Time)
	// NetworkChanged tells that the machine moved to another network or woke
	// from sleep (spec connectivity.md 7.2). private is a fresh WireGuard key.
	NetworkChanged(private wire.Key, now time.Time)

	// Advance runs what is due. Next says when that is; zero: never.
	Advance(now time.Time)
	Next() time.Time
	// Drain moves out all that the role wants done, appending to o.
	Drain(o *Output)
	// Stop closes all connections, telling the peers. Drain follows once.
	Stop(now time.Time)
	// Report fills r with what a watcher may see.
	Report(r *Report, now time.Time)
}

// Output is what a role wants done. The engine empties it by Reset and hands
// the same one in again, so that its slices are recycled.
type Output struct {
	Datagrams []Datagram // STUN, TURN, handshakes: sent at once, in order
	Held      []Held     // packets released from a buffer: sealed and sent at once, in order
	Packets   [][]byte   // answers for the TUN: DNS replies, ICMP errors
	Actions   []Action   // slow work, in order, off the packet path
	Flows     []Flow     // for whoever keeps a log of them; nothing is lost but a line if nobody does
	Notes     []Note     // likewise for whoever keeps a record of them
}

// Reset empties o and keeps its memory.
func (o *Output) Reset() {
	clear(o.Datagrams)
	clear(o.Held)
	clear(o.Packets)
	clear(o.Actions)
	clear(o.Flows)
	clear(o.Notes)
	*o = Output{o.Datagrams[:0], o.Held[:0], o.Packets[:0], o.Actions[:0], o.Flows[:0], o.Notes[:0]}
}

// Empty reports whether there is nothing to do. Flows and Notes are nothing to do.
func (o *Output) Empty() bool {
	return len(o.Datagrams)+len(o.Held)+len(o.Packets)+len(o.Actions) == 0
}

// An Action is slow work: one of the types below.
type Action interface{ action() }

type (
	// Tell sends a message to the portal; it is dropped while the channel is
	// not open (spec portal.md 2.8).
	Tell struct{ Message wire.Message }
	// Reconnect drops the portal channel and opens a new one that announces
	// PublicKey.
	Reconnect struct{ PublicKey wire.Key }
	// Rebind closes the sockets and opens new ones.
	Rebind struct{}
	// Configure states how the TUN device, routes and DNS shall be. It is the
	// whole wish, never a delta; the answer is Configured.
	Configure struct{ TUN TUN }
	// Flush empties the operating system's DNS cache.
	Flush struct{}
	// Lookup resolves A and AAAA of Name with the system's resolvers; the
	// answer is Looked.
	Lookup struct {
		ID   uint64
		Name string // without trailing dot
	}
	// Exchange sends one DNS query to Server outside the tunnel; the answer is
	// Exchanged.
	Exchange struct {
		ID     uint64
		Server netip.AddrPort
		Query  []byte // owned by the engine
	}
	// Remember stores proxy addresses on disk, all of them.
	Remember struct{ Names []ProxyName }
	// Notify tells the log something. Text is a full sentence that names nothing
	// that users reach.
	Notify struct {
		Resource id.Resource
		Text     string
	}
	// Fail ends the engine's Run with Err.
	Fail struct{ Err error }
)

func (Tell) action()      {}
func (Reconnect) action() {}
func (Rebind) action()    {}
func (Configure) action() {}
func (Flush) action()     {}
func (Lookup) action()    {}
func (Exchange) action()  {}
func (Remember) action()  {}
func (Notify) action()    {}
func (Fail) action()      {}

// ErrTimeout is the Err of an Exchanged whose server did not answer: say
// nothing to the application, it asks again by itself (spec client-dns.md 7.2).
var ErrTimeout = errors.New("no answer in time")

// A Result is what became of slow work: one of the types below.
type Result interface{ result() }

type (
	// Looked answers Lookup. Each family has its own outcome: addresses, or
	// none with a nil error (no such data), or an error (unknown, try later).
	// The TTLs say how long the first two may be kept; zero: nobody said.
	Looked struct {
		ID         uint64
		V4, V6     []netip.Addr
		Err4, Err6 error
		TTL4, TTL6 time.Duration
	}
	// Exchanged answers Exchange. Reply is owned by the role.
	Exchanged struct {
		ID    uint64
		Reply []byte
		Err   error // ErrTimeout: no answer in time
	}
	// Configured answers Configure.
	Configured struct{ Err error }
	// SystemResolvers tells the operating system's resolvers, at start and
	// after each change; a client only.
	SystemResolvers struct{ Servers []netip.AddrPort }
	// InternetResource switches the Internet resource on or off; a client only.
	InternetResource struct{ On bool }
)

func (Looked) result()           {}
func (Exchanged) result()        {}
func (Configured) result()       {}
func (SystemResolvers) result()  {}
func (InternetResource) result() {}

// TUN is how the tunnel interface and what points at it shall be.
type TUN struct {
	IPv4, IPv6   netip.Addr
	Routes       []netip.Prefix // sorted, without the default routes
	Default      bool           // 0.0.0.0/0 and ::/0 as well (spec client-dns.md 23.3, third table)
	Sentinels    []netip.Addr   // resolvers the system shall ask; a client only
	SearchDomain string         // "" for none
}

// Equal reports whether two wishes are the same.
func (t TUN) Equal(u TUN) bool {
	return t.IPv4 == u.IPv4 && t.IPv6 == u.IPv6 && t.Default == u.Default && t.SearchDomain == u.SearchDomain &&
		equal(t.Routes, u.Routes) && equal(t.Sentinels, u.Sentinels)
}

func equal[E comparable](a, b []E) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// A ProxyName is a name and the proxy addresses that stand for it.
type ProxyName struct {
	Name  string // lower case, without trailing dot
	Addrs []netip.Addr
}

// A PortalEvent is Up, Down, or a message if both are false.
type PortalEvent struct {
	Up, Down bool
	Message  wire.Message
}

// Report is what a watcher may see of a role. All of it is a copy.
type Report struct {
	PortalUp    bool
	TUN         TUN
	Connections []Connection
	Resources   []Resource // a client: what the portal granted
	Counters    []Counter  // drops by reason and the like, sorted by name
}

// A Connection is one peer.
type Connection struct {
	Peer           id.Peer
	Site           string // a client: the name of the gateway's site
	State          string // "connecting", "connected", "idle"
	Relayed        bool
	Local, Remote  netip.AddrPort // of the nominated pair; invalid while none is
	RTT            time.Duration  // of that pair; 0: unknown
	LastHandshake  time.Time
	Index          uint32    // 24 bits; WireGuard indices of its sessions begin with it
	Began, Heard   time.Time // when it was begun; when the peer was last heard, zero: never
	Sent, Received uint64    // bytes of packets
}

// A Relay is one that the portal gave us.
type Relay struct {
	ID        id.Relay
	Addr      netip.AddrPort // invalid while it has not answered
	RTT       time.Duration  // 0: unknown
	Allocated []netip.AddrPort
}

// A Resource is something a client may reach.
type Resource struct {
	ID            id.Resource
	Name, Address string
	Description   string
	Type          wire.ResourceType
	Sites         []string // names
	State         string   // "unknown", "online", "offline"
}

// A Counter is a named number that only grows.
type Counter struct {
	Name  string
	Value uint64
}
