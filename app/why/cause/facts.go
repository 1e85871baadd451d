package cause

import (
	"net/netip"
	"slices"
	"time"

	"stile/tunnel/ipc"
)

// Facts are what was found out about a target, each independent of the others.
// What was not found out has its zero value, and nothing is concluded from it.
type Facts struct {
	Target Target

	Contact Contact
	Said    *ipc.Problem // what the service says about Contact; nil: nothing
	// State is the service's, from after the attempts. Nil: it was not heard.
	State *ipc.State
	// Before and After are what the service knew before the attempts and after
	// them. Nil: it did not say.
	Before, After *ipc.Knowledge

	Names Names
	// Targets are the addresses that were tried: the target's own, or what its
	// name leads to; if resources have some of those, only them.
	Targets []netip.Addr
	// Ways are by which interfaces programs' packets leave: to Targets, to the
	// service's resolvers, and to those that it asks itself.
	Ways []Way
	// Default is the interface of packets that are nobody's in particular.
	Default string
	// NoWayOut tells that there is no such interface, of no family.
	NoWayOut bool
	// Down tells that the tunnel interface is there and was switched off.
	Down bool

	Attempts     []Attempt
	Began, Ended time.Time // of the attempts
}

// Contact is whether the service speaks to us.
type Contact string

// Values of Contact.
const (
	InContact    Contact = ""
	NotRunning   Contact = "not-running"
	NotAllowed   Contact = "not-allowed"
	Unresponsive Contact = "unresponsive" // it takes connections and says nothing
	Stranger     Contact = "stranger"     // somebody else answers in its place
	OtherVersion Contact = "other-version"
	Broken       Contact = "broken" // it is stopping, is too busy or broke off
)

// Names are how the target's name is resolved.
type Names struct {
	System Lookup // as programs are told
	Ours   Lookup // as the service answers when asked directly
	// Alive tells that the service answered a question about no host at all.
	Alive bool
	// Resolvers are whom programs ask, if that is known.
	Resolvers []netip.Addr
	// Hosts is what the hosts file says about the name.
	Hosts []netip.Addr
}

// A Lookup is how one resolver answered.
type Lookup struct {
	Outcome Answer
	Addrs   []netip.Addr // of Found
}

// An Answer is the kind of a Lookup's result.
type Answer string

// Answers.
const (
	NotAsked  Answer = ""
	Found     Answer = "found"
	NoName    Answer = "no-name"    // there is no such name
	NoAddress Answer = "no-address" // the name has no address
	Failed    Answer = "failed"     // the resolver says that it failed
	NoAnswer  Answer = "no-answer"  // in time
)

// A Way is by which interface packets to an address leave.
type Way struct {
	Addr      netip.Addr
	Interface string // "": there is no route
}

// An Attempt is one TCP connection that was tried.
type Attempt struct {
	To      netip.AddrPort
	Outcome Outcome
	By      netip.Addr // who said so, in a message of ICMP; the zero one: not known
	Took    time.Duration
}

// An Outcome is how an Attempt ended.
type Outcome string

// Outcomes.
const (
	Opened      Outcome = "opened"
	Refused     Outcome = "refused"     // nothing listens
	Reset       Outcome = "reset"       // cut off while it was opened
	Forbidden   Outcome = "forbidden"   // a firewall says so
	Unreachable Outcome = "unreachable" // a router, a gateway or this machine says so
	Silent      Outcome = "silent"      // nobody said anything
	Strange     Outcome = "strange"
)

// covered reports whether a resource has the target; known is false if the
// service did not say.
func (f *Facts) covered() (covered, known bool) {
	if f.After == nil {
		return false, false
	}
	return f.After.Verdict != ipc.NotCovered, true
}

// private reports whether a resource has the target's name: then the service
// answers for it. Others may have the addresses that a public name leads to.
func (f *Facts) private() bool {
	covered, _ := f.covered()
	return covered && f.After.Name != ""
}

// access is how far the way to the target's resource has come; nil: there is
// none.
func (f *Facts) access() *ipc.Access {
	if f.After == nil || len(f.After.Access) == 0 {
		return nil
	}
	return &f.After.Access[0]
}

func (f *Facts) opened() bool { return f.ended(Opened) }

// ended reports whether an attempt ended with one of the outcomes.
func (f *Facts) ended(outcomes ...Outcome) bool {
	return slices.ContainsFunc(f.Attempts, func(a Attempt) bool { return slices.Contains(outcomes, a.Outcome) })
}

// lacking reports whether the gateway said that the name has no address of the
// family that was asked for, or of none.
func (f *Facts) lacking() bool {
	a, t := f.access(), f.Target.Addr
	if a == nil || a.State != ipc.AccessAuthorized {
		return false
	}
	return (a.LacksIPv4 || t.Is6()) && (a.LacksIPv6 || t.Is4())
}

// silent reports whether no attempt was answered, however.
func (f *Facts) silent() bool {
	return !slices.ContainsFunc(f.Attempts, func(a Attempt) bool { return a.Outcome != Silent })
}

// tried is for how long the attempts went on.
func (f *Facts) tried() time.Duration { return f.Ended.Sub(f.Began) }

// isOurs reports whether an address is one that stands for the target's name.
func (f *Facts) isOurs(a netip.Addr) bool {
	if slices.Contains(f.Names.Ours.Addrs, a) {
		return true
	}
	return f.After != nil && slices.Contains(f.After.Proxies, a)
}
