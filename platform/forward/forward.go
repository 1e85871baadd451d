// Package forward makes a gateway's host pass packets between the tunnel and
// the networks around it: kernel forwarding, masquerading, and a firewall that
// lets only answers into the tunnel. Spec gateway-nat.md 1.3, L1 to L7.
//
// Everything lives in one nftables table of ours, "inet stile", which the
// kernel removes when this process ends, however it ends. Kernel settings are
// written down before they are changed and put back by Restore. Tables of
// other programs are read, to tell which of them would drop the tunnel's
// packets, and changed only with Config.Integrate.
package forward

import "log/slog"

// TableName is the name of our nftables table, of family inet.
const TableName = "stile"

// Config says how to forward.
type Config struct {
	Interface string // the tunnel's

	// Integrate adds a rule to a chain of another program that would drop the
	// tunnel's packets by default: right where it would drop them, so that
	// whatever that program says about particular packets holds. The rules
	// carry a comment by which Restore finds them.
	Integrate bool

	Log *slog.Logger
}

// New prepares forwarding; Enable begins it. Close must follow.
func New(c Config) *Forwarding { return &Forwarding{cfg: c} }

// A Kind names a sort of problem for programs.
type Kind string

// What Check finds.
const (
	ForwardingOff Kind = "forwarding-off" // the kernel does not forward
	NoMasquerade  Kind = "no-masquerade"  // our table is gone or somebody changed it
	Blocked       Kind = "blocked"        // another program's rules drop by default
	Dropped       Kind = "dropped"        // packets are lost between our rules and the last ones
	TableFull     Kind = "conntrack-full" // connection tracking is nearly out of room
)

// A Problem keeps packets from passing. Help is what to do, often a command
// line; it may be empty.
type Problem struct {
	Kind Kind   `json:"kind"`
	Text string `json:"text"`
	Help string `json:"help,omitempty"`
}

func (p Problem) String() string {
	if p.Help == "" {
		return p.Text
	}
	return p.Text + ": " + p.Help
}

// Tracked is how full the kernel's connection tracking is. It is all of this
// host's connections, ours and others'. Max 0: nothing is tracked yet.
type Tracked struct {
	Count int `json:"count"`
	Max   int `json:"max"`
}

// Full reports whether new connections will soon be refused.
func (t Tracked) Full() bool { return t.Max > 0 && t.Count >= t.Max/10*9 }
