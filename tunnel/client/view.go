package client

import (
	"net/netip"
	"slices"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/packet"
	"stile/tunnel/policy"
	"stile/tunnel/wire"
)

// A View is what the client knows about one host, for people who want to know
// why they cannot reach it. All of it is a copy.
type View struct {
	Name    string       // lower case; "" if none belongs to the address
	Proxies []netip.Addr // that stand for Name and some resource is reached by; none before it was asked for
	Verdict policy.Verdict
	// Access is one entry for each resource that covers the host: first the one
	// that a TCP packet to the port would go to, or whose filters deny it.
	Access []Access
	// Relays is how many relays there are to begin connections by.
	Relays int
}

// Access is how far the way to a resource has come.
type Access struct {
	wire.Resource // shares lists that nobody changes

	Wanted  bool      // traffic waits for an authorization
	Asked   time.Time // when the portal was last asked; zero: never on this network
	NoRelay bool      // granted, but there is no relay to connect by
	Waiting int       // packets, wherever they wait
	Refusal Refusal   // zero At: none since access was granted
	Broke   time.Time // when the last connection failed; zero: never
	Seen    time.Time // when programs last sent a packet for it that may pass; zero: never

	Authorized bool
	Gateway    id.Gateway
	Connection core.Connection

	Bound      bool // the gateway was, or is to be, told of the name
	Binding    Binding
	BoundSince time.Time // since when an answer is awaited, if one is
	// Lacks4 and Lacks6 tell that the gateway knows no address of that family,
	// as it said with its latest answer.
	Lacks4, Lacks6 bool
}

// A Refusal is why the portal refused access, and when.
type Refusal struct {
	Reason   string
	Violated []string
	At       time.Time
}

// A Binding is what a gateway said about a name.
type Binding uint8

// Values of Binding.
const (
	BindingPending   Binding = iota // no answer yet
	BindingConfirmed                // it knows addresses of the name
	BindingRenewing                 // it did, and was or will be asked again
	BindingFailed                   // it cannot resolve the name
)

// Look tells what is known about a host: an address, or a name that is not one.
// port is of TCP; 0 asks about a packet that every filter lets through. It gives
// no addresses to a name that has none.
func (c *Core) Look(host string, port uint16, now time.Time) View {
	var v View
	if a, err := netip.ParseAddr(host); err == nil {
		v = c.lookAddr(a.Unmap(), port, now)
	} else {
		v = c.lookName(host, port, now)
	}
	v.Relays = len(c.paths.ReportRelays(nil))
	return v
}

func (c *Core) lookName(host string, port uint16, now time.Time) View {
	v := View{Name: lower(host)}
	n := c.resolver.Named(v.Name)
	var list []*resource
	for _, r := range c.sortedResources() {
		if !r.pattern.IsZero() && r.pattern.Match(v.Name) {
			list = append(list, r)
		}
	}
	slices.SortStableFunc(list, func(a, b *resource) int {
		if a.pattern != b.pattern {
			return policy.ComparePatterns(a.pattern, b.pattern)
		}
		return b.ID.Compare(a.ID)
	})
	c.judge(&v, list, port)
	for _, r := range list {
		if n == nil {
			break
		}
		for _, a := range c.resolver.ProxyAddrs(n, r.ID) {
			if !slices.Contains(v.Proxies, a) {
				v.Proxies = append(v.Proxies, a)
			}
		}
	}
	return c.describe(v, list, now)
}

// lookAddr is Look for an address: one that stands for a name, or lies in a
// network, or in the Internet.
func (c *Core) lookAddr(a netip.Addr, port uint16, now time.Time) View {
	if policy.IsProxy(a) {
		n := c.resolver.NameOf(a)
		if n == nil {
			return View{}
		}
		v := c.lookName(n.FQDN, port, now)
		v.Proxies = []netip.Addr{a}
		return v
	}
	var v View
	var list []*resource
	for _, r := range c.sortedResources() {
		if r.prefix.IsValid() && r.prefix.Contains(a) {
			list = append(list, r)
		}
	}
	slices.SortStableFunc(list, func(x, y *resource) int {
		if x.prefix.Bits() != y.prefix.Bits() {
			return y.prefix.Bits() - x.prefix.Bits()
		}
		return y.ID.Compare(x.ID)
	})
	if len(list) == 0 && c.internet != nil && policy.IsInternet(a) {
		list = append(list, c.internet)
	}
	c.judge(&v, list, port)
	return c.describe(v, list, now)
}

// judge finds the verdict, and puts the resource that it comes from first.
func (c *Core) judge(v *View, list []*resource, port uint16) {
	if len(list) == 0 {
		return
	}
	v.Verdict = policy.Denied
	for i, r := range list {
		if port == 0 || policy.Filters(r.Filters).Permits(packet.TCP, port) {
			v.Verdict = policy.Permitted
			copy(list[1:i+1], list[:i])
			list[0] = r
			return
		}
	}
}

func (c *Core) describe(v View, list []*resource, now time.Time) View {
	n := c.resolver.Named(v.Name)
	for _, r := range list {
		a := Access{Resource: r.Resource, Wanted: r.request != nil, Asked: r.asked, Refusal: r.refusal, Broke: r.broke, Seen: r.seen}
		if r.request != nil {
			a.NoRelay = r.request.granted != nil
			a.Waiting = len(r.request.queue.packets)
		}
		if g := r.gateway; g != nil {
			a.Authorized, a.Gateway = true, g.id
			a.Connection, _ = c.paths.ReportOf(g.peer)
			a.Waiting += len(g.queue.packets)
		}
		if n != nil {
			if b := c.bindings.find(n, r); b != nil {
				b.tell(&a)
			}
		}
		v.Access = append(v.Access, a)
	}
	return v
}

// tell says how far the gateway's view of a name is.
func (b *binding) tell(a *Access) {
	a.Bound, a.Waiting = true, a.Waiting+len(b.queue.packets)
	a.Lacks4, a.Lacks6 = b.v4 == wire.No, b.v6 == wire.No
	switch b.state {
	case confirmed:
		a.Binding = BindingConfirmed
	case recreating:
		a.Binding = BindingRenewing
	case failed:
		a.Binding = BindingFailed
	case pending:
		a.Binding, a.BoundSince = BindingPending, b.began
		if !b.buffering { // packets go on meanwhile
			a.Binding = BindingRenewing
		}
	}
}
