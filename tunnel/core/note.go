package core

import (
	"net/netip"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/packet"
)

// A Note is a step or a decision of a role, for people who will ask what it did
// and why. Fields that do not apply are zero.
type Note struct {
	What     string // one of a few fixed texts
	Reason   string // a few words more
	Name     string // of what the user wants to reach
	Resource id.Resource
	Peer     id.Peer
	Relay    id.Relay

	// Of a connection: its index, and its nominated pair.
	Connection    uint32
	Relayed       bool
	Local, Remote netip.AddrPort
}

// A Briefer is a role that can report in short.
type Briefer interface {
	// Brief fills r with what changes from second to second: PortalUp,
	// Connections, with the ID of a site for its name, and Counters.
	Brief(r *Report, now time.Time)
}

// A Prefetcher is a role that has the memory brought near which it needs for a
// batch of packets: it is shown all of them, then Prefetch is called, and only then
// is it asked about each. It decides the same without; what it is shown may never
// come, or be no packet at all.
type Prefetcher interface {
	PrefetchOut(p packet.Packet) // Outbound will be asked about it
	PrefetchIn(plain []byte)     // Inbound will be
	Prefetch()
}

// An Explainer is a role that can say what became of a packet that goes nowhere:
// the one it was last given, by Outbound or Inbound. The text is a fixed one,
// such as "held", and begins with "dropped" if the packet was.
type Explainer interface{ Outcome() string }
