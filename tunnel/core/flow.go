package core

import (
	"net/netip"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/packet"
)

// A FlowKind says what happened to a flow.
type FlowKind uint8

const (
	FlowStarted FlowKind = iota // a session of the gateway's table begins
	FlowEnded                   // and ends; the counts are of its whole life
	FlowDenied                  // packets were dropped
)

var flowKinds = [...]string{"started", "ended", "denied"}

func (k FlowKind) String() string { return flowKinds[k] }

// A Flow tells of one decision of a gateway about traffic. It is a value that
// may be kept; what it points to is shared and does not change. Times are those
// of the clock that the role is told.
//
// Equal denials are told together: the first at once, then, after a while, how
// many more there were. A denial whose Proto is 0 stands for many of different
// kinds, which had no room of their own.
type Flow struct {
	Kind    FlowKind
	At      time.Time
	Reason  string // of an end or a denial: a few words
	Inbound bool   // of a denial: the packet was on its way to the client

	Client     id.Client
	ClientAddr netip.Addr // tunnel address
	Grant      *Grant     // by which it may pass, or by which it might have; nil: none is known

	Proto      packet.Proto
	ClientPort uint16     // or echo identifier
	Proxy      netip.Addr // what the client sends to: a proxy address, or Real itself
	Real       netip.Addr // where that is; invalid: not known
	Port       uint16     // the resource's; 0: none
	Outside    uint16     // the client's port or echo identifier as the resource sees it; 0: not known
	Name       string     // what the proxy address stands for; "": it is none

	Started              time.Time // of a session; of a denial, the first of those packets
	PacketsOut, BytesOut uint64    // from the client
	PacketsIn, BytesIn   uint64    // to the client
}

// A Grant is what the portal said when it let a client use a resource.
type Grant struct {
	Resource     id.Resource
	ResourceName string
	// The portal need not tell whom it asked and why; then these are zero.
	Actor     id.Actor
	ActorName string // name or e-mail address
	Policy    id.Policy
}
