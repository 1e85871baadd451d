package ipc

import (
	"errors"
	"net/netip"
	"strings"
	"time"

	"stile/tunnel/id"
)

// Questions are commands that change nothing. What they bring comes in Parts,
// before the Answer.
type (
	// Inspect asks what the service knows about a host: one Part, with
	// Knowledge.
	Inspect struct {
		Host string // a name without trailing dot or an address, at most 253 bytes
		Port uint16 // of TCP; 0: none in particular
	}
	// Collect asks for the service's part of an export of logs: Parts with Files.
	// They hold no tokens and no keys, but names of people and hosts.
	Collect struct{}
)

func (Inspect) name() string { return "inspect" }
func (Collect) name() string { return "collect" }

func (c Inspect) check() error {
	if c.Host == "" || !isLine(c.Host, 253) || strings.ContainsAny(c.Host, " \\") {
		return errors.New("host: not a name or an address")
	}
	return nil
}
func (Collect) check() error { return nil }

// IsQuestion reports whether a command brings Parts.
func IsQuestion(c Command) bool {
	switch c.(type) {
	case Inspect, Collect:
		return true
	}
	return false
}

type inspectJSON struct {
	Host string `json:"host"`
	Port uint16 `json:"port,omitempty"`
}

// A Part is a piece of what a question brings; one field is set besides ID.
type Part struct {
	ID        uint64     `json:"id"` // of the request
	Knowledge *Knowledge `json:"knowledge,omitempty"`
	File      *FilePart  `json:"file,omitempty"`
}

// MaxFilePart is how much of a file one Part has at most, in bytes.
const MaxFilePart = 256 << 10

// A FilePart is a piece of a file, in the order of the file; it ends at the end
// of a line if it can. Files come one after the other.
type FilePart struct {
	// Name is made of letters, digits, "-", "_", "." and "/", without "..":
	// "logs/tunnel-service.2026-11-23-08-00-00.log".
	Name string `json:"name"`
	Data []byte `json:"data,omitempty"` // base64
	// Left is how many bytes are still to come, of all files, about.
	Left int64 `json:"left"`
	// Missing says why the file, or the rest of it, is not there.
	Missing string `json:"missing,omitempty"`
}

// IsFileName reports whether the name of a FilePart is one: whoever makes a
// file of it need not look at it again.
func IsFileName(s string) bool {
	const allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_./"
	if s == "" || len(s) > 200 || strings.Trim(s, allowed) != "" {
		return false
	}
	for element := range strings.SplitSeq(s, "/") {
		if element == "" || strings.HasPrefix(element, ".") || strings.HasSuffix(element, ".") {
			return false
		}
	}
	return true
}

// Verdicts of Knowledge.
const (
	NotCovered = "none"      // no resource has the host
	Denied     = "denied"    // one has, but its filters let nothing to the port
	Permitted  = "permitted" // one has, and lets it pass
)

// Knowledge is what the service knows about one host and port, as it was at one
// moment. Times are of the calendar; zero ones are absent.
type Knowledge struct {
	Name string `json:"name,omitzero"` // lower case; "" if none belongs to the address
	// Proxies are the addresses that stand for Name; none before anybody has
	// looked it up.
	Proxies []netip.Addr `json:"proxies,omitzero"`
	Verdict string       `json:"verdict"`
	// Access is one entry for each resource that covers the host: first the one
	// that a packet would go to, or whose filters deny it.
	Access []Access `json:"access,omitzero"`
	// PortalTrouble is the kind of what keeps the portal away: one of the
	// Trouble constants; "" if nothing is known.
	PortalTrouble string `json:"portal_trouble,omitzero"`
	// NoRelay tells that there is no relay, by which all connections are begun:
	// the portal named none, or none of them answers.
	NoRelay bool `json:"no_relay,omitzero"`
}

// Kinds of trouble with the portal.
const (
	TroubleName        = "name"        // its name cannot be resolved
	TroubleCertificate = "certificate" // its certificate is not trusted, or for another name, or expired
	TroubleOther       = "other"
)

// Access is how far the way to one resource has come.
type Access struct {
	Resource id.Resource `json:"resource"`
	Name     string      `json:"name"`
	Type     string      `json:"type"`
	Address  string      `json:"address,omitzero"`
	Sites    []string    `json:"sites,omitzero"`
	Filters  []string    `json:"filters,omitzero"` // "tcp/443", "icmp"; none: everything may pass
	// State is one of the Access constants.
	State   string    `json:"state"`
	Asked   time.Time `json:"asked,omitzero"`   // when the portal was last asked
	Waiting int       `json:"waiting,omitzero"` // packets
	// Seen is when programs last sent something for it that filters let pass, as
	// far as the tunnel saw.
	Seen    time.Time `json:"seen,omitzero"`
	Refusal *Refusal  `json:"refusal,omitzero"` // the portal's last word, unless it granted access since
	// Gateway is where access was granted; Connection how that is connected.
	Gateway    id.Gateway `json:"gateway,omitzero"`
	Connection string     `json:"connection,omitzero"` // "connecting", "connected" or "idle"
	Path       string     `json:"path,omitzero"`       // Direct or Relayed
	Began      time.Time  `json:"began,omitzero"`      // when the connection was begun
	Heard      time.Time  `json:"heard,omitzero"`      // when the gateway was last heard, of about a minute
	Failed     time.Time  `json:"failed,omitzero"`     // when the last connection failed
	Received   uint64     `json:"received,omitzero"`   // bytes of packets
	// Binding is what the gateway said about the name: one of the Binding
	// constants; "" for networks, and before the gateway was told of it.
	Binding      string    `json:"binding,omitzero"`
	BindingSince time.Time `json:"binding_since,omitzero"` // when the gateway was first asked; of pending and renewing
	// LacksIPv4 and LacksIPv6 tell that the gateway said that the name has no
	// address of that family. Not all gateways tell.
	LacksIPv4 bool `json:"lacks_ipv4,omitzero"`
	LacksIPv6 bool `json:"lacks_ipv6,omitzero"`
}

// States of Access, in the order in which they follow each other.
const (
	AccessIdle       = "idle"       // nothing asked for it yet
	AccessWaiting    = "waiting"    // traffic wants it, and the portal cannot be asked or was not yet
	AccessAsked      = "asked"      // the portal was asked
	AccessNoRelay    = "no-relay"   // granted; there is no relay to connect by
	AccessAuthorized = "authorized" // granted; the connection is another question
)

// States of a name on a gateway.
const (
	BindingPending   = "pending"   // announced; no answer
	BindingRenewing  = "renewing"  // works; announced again
	BindingConfirmed = "confirmed" // the gateway knows addresses of it
	BindingFailed    = "failed"    // the gateway cannot resolve it
)

// A Refusal is why the portal refused access.
type Refusal struct {
	Reason   string    `json:"reason"` // the portal's word: "offline", "forbidden", …
	Violated []string  `json:"violated,omitzero"`
	At       time.Time `json:"at"`
}
