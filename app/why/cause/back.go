package cause

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"stile/app/words"
	"stile/tunnel/ipc"
)

// resource wants one to have the host and let the port pass.
func resource(f *Facts) finding {
	covered, known := f.covered()
	a := f.access()
	switch {
	case !known:
		return finding{}
	case !covered && f.Unassigned():
		return because(AddressUnassigned, with{"address": f.Target.Addr})
	case !covered:
		return finding{detail: detail("outside", nil)}
	case a == nil:
		return finding{result: Open, detail: detail("inside", nil)}
	}
	var filters []string
	everything := false
	for _, r := range f.After.Access {
		filters, everything = append(filters, r.Filters...), everything || len(r.Filters) == 0
	}
	slices.Sort(filters)
	filters = slices.Compact(filters)
	places := with{"resource": a.Name, "address": "", "port": f.Target.Port, "filters": strings.Join(filters, ", ")}
	denied := f.After.Verdict == ipc.Denied
	if denied && passes(filters, "udp", f.Target.Port) || f.Target.Port == 0 && !everything && !passes(filters, "tcp", 0) {
		return because(TCPNotAllowed, places)
	}
	if denied {
		return because(FilterDeniesPort, places)
	}
	if a.Address != "" {
		places["address"] = " (" + a.Address + ")"
	}
	return finding{detail: detail("resource", places)}
}

// Addresses that stand for names; those of resolvers lie between them.
var proxies = []netip.Prefix{netip.MustParsePrefix("100.96.0.0/11"), netip.MustParsePrefix("fd00:2021:1111:8000::/107")}

// Unassigned reports whether the target is an address of the tunnel's that
// leads nowhere at present: it need not be tried.
func (f *Facts) Unassigned() bool {
	covered, known := f.covered()
	return known && !covered && Proxied(f.Target.Addr)
}

// Proxied reports whether an address is one of those that stand for names.
func Proxied(a netip.Addr) bool {
	return slices.ContainsFunc(proxies, func(p netip.Prefix) bool { return p.Contains(a) })
}

// proxied reports whether it was an address that stands for a name where a
// connection was opened: no other tunnel has those.
func (f *Facts) proxied() bool {
	return slices.ContainsFunc(f.Attempts, func(a Attempt) bool { return a.Outcome == Opened && Proxied(a.To.Addr()) })
}

// A filter is what a resource lets pass, such as "tcp/80-90", in parts.
type filter struct {
	protocol    string
	first, last uint16
}

func parseFilter(s string) filter {
	protocol, ports, limited := strings.Cut(s, "/")
	f := filter{protocol, 0, 65535}
	if limited {
		n, _ := fmt.Sscanf(ports, "%d-%d", &f.first, &f.last)
		switch n {
		case 0:
			return filter{} // of a newer service
		case 1:
			f.last = f.first
		}
	}
	return f
}

// passes reports whether filters let something pass to a port, or at all if it
// is 0.
func passes(filters []string, protocol string, port uint16) bool {
	return slices.ContainsFunc(filters, func(s string) bool {
		f := parseFilter(s)
		return f.protocol == protocol && (port == 0 || f.first <= port && port <= f.last)
	})
}

// TCPPorts are ports that filters let pass, of a range the first; all means
// that everything may.
func TCPPorts(k *ipc.Knowledge) (ports []uint16, all bool) {
	for _, a := range k.Access {
		all = all || len(a.Filters) == 0
		for _, s := range a.Filters {
			switch f := parseFilter(s); {
			case f.protocol != "tcp":
			case f.first == 0:
				all = true
			case !slices.Contains(ports, f.first):
				ports = append(ports, f.first)
			}
		}
	}
	return ports, all
}

// route wants packets to come into the tunnel, and the tunnel to see them.
func route(f *Facts) finding {
	covered, _ := f.covered()
	if !covered || f.State == nil {
		return finding{}
	}
	found := misled(f, f.Targets)
	if found.code == "" && f.unseen() {
		return because(LocalFirewall, with{"interface": f.State.Tunnel.Interface})
	}
	return found
}

// unseenAfter is how long packets must have been sent without a trace: the
// system repeats the first one after a second.
const unseenAfter = 2 * time.Second

// unseen reports whether the tunnel saw nothing of the attempts.
func (f *Facts) unseen() bool {
	a, before := f.access(), f.Before
	if a == nil || before == nil || len(before.Access) == 0 || len(f.Attempts) == 0 || f.opened() {
		return false
	}
	if f.silent() && f.tried() < unseenAfter {
		return false
	}
	if a.Seen.IsZero() { // never, or not told
		return a.State == ipc.AccessIdle && a.Refusal == nil && a.Failed.IsZero() && !later(a.Asked, before.Access[0].Asked) && f.State.Session.PortalUp
	}
	const conversion = 5 * time.Millisecond // between the clocks of service and program
	return f.Began.Sub(a.Seen) > conversion
}

// later reports whether a is a later moment than b. The service's times are
// converted from clock to clock, which may differ by a little each time.
func later(a, b time.Time) bool { return a.Sub(b) > 100*time.Millisecond }

// newlyRefused reports whether the portal has refused access since.
func newlyRefused(a, was *ipc.Access) bool {
	return a.Refusal != nil && (was.Refusal == nil || later(a.Refusal.At, was.Refusal.At))
}

// Settled reports whether waiting for attempts is in vain: meanwhile the
// service has heard why they will fail.
func Settled(f *Facts) bool {
	a := f.access()
	if a == nil || f.Before == nil || len(f.Before.Access) == 0 {
		return false
	}
	return newlyRefused(a, &f.Before.Access[0]) || a.State == ipc.AccessAuthorized && a.Binding == ipc.BindingFailed
}

// access wants the portal to grant it.
func access(f *Facts) finding {
	a := f.access()
	if a == nil || f.opened() {
		return granted(a)
	}
	places := with{"resource": a.Name}
	if f.After.NoRelay && a.State != ipc.AccessAuthorized && len(f.Attempts) > 0 { // nor has the gateway one, so that it does not answer
		return noRelay(a)
	}
	if a.Refusal != nil && (a.State == ipc.AccessIdle || a.State == ipc.AccessAsked && !a.Asked.After(a.Refusal.At)) {
		return refused(a)
	}
	switch {
	case a.State == ipc.AccessAuthorized:
		return granted(a)
	case a.State == ipc.AccessNoRelay:
		return noRelay(a)
	case len(f.Attempts) == 0:
		return finding{}
	case f.State != nil && !f.State.Session.PortalUp:
		return orSaid(PortalAway, f.State.Session.Problem, places)
	case a.State == ipc.AccessAsked, a.State == ipc.AccessWaiting:
		return because(AccessPending, places)
	case a.State == ipc.AccessIdle && !a.Failed.IsZero() && f.Ended.Sub(a.Failed) < recently:
		return noPath(f, a)
	case a.State == ipc.AccessIdle:
		return becauseOf(Unclear, "unasked", places)
	}
	return finding{}
}

func noRelay(a *ipc.Access) finding {
	return because(NoRelay, with{"resource": a.Name})
}

func granted(a *ipc.Access) finding {
	if a == nil || a.State != ipc.AccessAuthorized {
		return finding{}
	}
	return finding{detail: detail("granted", with{"site": at(a)})}
}

// refused tells why the portal refused access.
func refused(a *ipc.Access) finding {
	places := with{"site": named(a), "resource": a.Name, "reason": a.Refusal.Reason, "conditions": conditions(a.Refusal.Violated)}
	switch a.Refusal.Reason {
	case "offline":
		return because(SiteOffline, places)
	case "version_mismatch":
		return because(GatewayVersion, places)
	case "not_found":
		return because(ResourceGone, places)
	case "forbidden":
		if len(a.Refusal.Violated) == 0 {
			return because(AccessForbidden, places)
		}
		return because(ConditionViolated, places)
	}
	return because(AccessRefused, places)
}

// conditions names the properties of those that are not met.
func conditions(violated []string) text {
	return func(w *words.Words) string {
		var said []string
		for _, v := range violated {
			said = append(said, cmp.Or(w.Causes().Conditions[v], v))
		}
		return strings.Join(said, ", ")
	}
}

// Times of connections to gateways.
const (
	recently = 15 * time.Second
	// connectTime is what a connection takes at most where it works.
	connectTime = 2 * time.Second
	// A gateway is heard every one and a half seconds while there is traffic.
	heardLately = 2200 * time.Millisecond
	heardOf     = 4 * time.Second
)

// gateway wants the connection to stand.
func gateway(f *Facts) finding {
	a := f.access()
	if a == nil || a.State != ipc.AccessAuthorized {
		return finding{}
	}
	age := max(0, f.Ended.Sub(a.Heard))
	places := with{"site": at(a), "age": age, "way": way(a), "heard": heard(a, age)}
	ok := finding{detail: detail("gateway", places)}
	switch {
	case len(f.Attempts) == 0, !f.silent():
		return ok
	case a.Connection == "connecting":
		return noPath(f, a)
	case a.Heard.IsZero(), f.Ended.Sub(a.Heard) <= heardLately:
		return ok
	case f.Ended.Sub(a.Heard) < heardOf:
		return becauseOf(Unclear, "heard", places)
	}
	return because(GatewayLost, places)
}

// way is how the gateway of an Access is connected.
func way(a *ipc.Access) text {
	return func(w *words.Words) string {
		how := cmp.Or(a.Path, "connected")
		return cmp.Or(w.Causes().Ways[how], how)
	}
}

// heard tells for how long a gateway was not, if it ever was.
func heard(a *ipc.Access, age time.Duration) text {
	return func(w *words.Words) string {
		if a.Heard.IsZero() {
			return ""
		}
		return w.Causes().Heard(brief(w, age))
	}
}

// noPath tells that a connection does not come about.
func noPath(f *Facts, a *ipc.Access) finding {
	failed := !a.Failed.IsZero() && f.Ended.Sub(a.Failed) < recently
	if !failed && (a.Began.IsZero() || f.Ended.Sub(a.Began) < connectTime) {
		return because(GatewayConnecting, with{"site": at(a)})
	}
	return because(GatewayUnreachable, with{"site": at(a)})
}

// dnsTime is how long a gateway may take for a name before it is its DNS
// server that is slow.
const dnsTime = 1200 * time.Millisecond

// resolve wants the gateway to know an address of the name.
func resolve(f *Facts) finding {
	a := f.access()
	if a == nil || a.State != ipc.AccessAuthorized || a.Binding == "" || f.opened() {
		return finding{}
	}
	host := f.Target.Host
	if f.Target.Addr.IsValid() && f.After.Name != "" {
		host = f.After.Name
	}
	places := with{"site": at(a), "host": host}
	switch {
	case a.Binding == ipc.BindingFailed:
		return because(GatewayCannotResolve, places)
	case f.lacking():
		return withoutAddress(f)
	case a.Binding == ipc.BindingPending && f.silent():
		if a.BindingSince.IsZero() || f.Ended.Sub(a.BindingSince) < dnsTime {
			return becauseOf(Unclear, "resolving", places)
		}
		return because(GatewayDNSSilent, places)
	}
	return finding{detail: detail("resolved", places)}
}

func withoutAddress(f *Facts) finding {
	host, family := f.Target.Host, ""
	if f.Target.Addr.IsValid() {
		if family = "IPv4"; f.Target.Addr.Is6() {
			family = "IPv6"
		}
		if f.After.Name != "" {
			host = f.After.Name
		}
	}
	return because(GatewayNoAddress, with{"site": at(f.access()), "host": host, "family": text(func(w *words.Words) string {
		if family == "" {
			return ""
		}
		return w.Causes().Family(family)
	})})
}

// answer tells how the host itself answered.
func answer(f *Facts) finding {
	covered, known := f.covered()
	var found finding
	places := with{"target": f.Target.String(), "port": f.openPort(), "site": at(f.access()), "address": f.Target.Addr}
	switch {
	case f.opened() && (covered || f.proxied()) && f.Target.Port == 0:
		found = becauseOf(Reachable, "port", places)
	case f.opened() && (covered || f.proxied()):
		found = because(Reachable, places)
	case f.opened() && !known:
		found = becauseOf(ReachableOutside, "unknown", places)
	case f.opened():
		found = because(ReachableOutside, places)
	case len(f.Attempts) == 0 || !known:
		found = because(Unclear, places)
	case !covered:
		found = outside(f, places)
	default:
		found = server(f, places)
	}
	if tried := attempts(f); tried != nil {
		found.detail = tried
	}
	return found
}

func (f *Facts) openPort() uint16 {
	for _, a := range f.Attempts {
		if a.Outcome == Opened {
			return a.To.Port()
		}
	}
	return 0
}

// server tells why a host behind a gateway does not take a connection. What
// says most about it counts, whichever family it came by.
func server(f *Facts, places with) finding {
	switch {
	case f.ended(Refused) && f.Target.Port == 0:
		return becauseOf(ServerRefuses, "ports", places)
	case f.ended(Refused):
		return because(ServerRefuses, places)
	case f.ended(Reset):
		return because(ServerResets, places)
	case f.ended(Forbidden):
		return because(GatewayDenies, places)
	case f.ended(Silent):
		return because(ServerSilent, places)
	case f.ended(Unreachable) && f.access().Binding != "":
		return becauseOf(ServerUnreachable, "name", places)
	case f.ended(Unreachable):
		return because(ServerUnreachable, places)
	}
	return because(Unclear, places)
}

// outside tells why a host past the tunnel does not take a connection.
func outside(f *Facts, places with) finding {
	a := f.Target.Addr
	switch {
	case f.ended(Refused, Reset):
		return because(OutsideRefuses, places)
	case a.IsValid() && a.IsPrivate():
		return because(AddressNotCovered, places)
	case f.State != nil && f.State.Internet.Available && !f.State.Internet.On && !a.IsPrivate():
		return because(InternetOff, places)
	case f.silent():
		return because(OutsideSilent, places)
	}
	return because(OutsideNoWay, places)
}
