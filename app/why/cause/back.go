package cause

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

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
		return broken(AddressUnassigned, fmt.Sprintf("%v is an address that stands for a name in the tunnel, but for none at present.", f.Target.Addr),
			"Use the name, and restart programs that remember the address.")
	case !covered:
		return finding{detail: "none has it: it is reached past the tunnel"}
	case a == nil:
		return finding{result: Open, detail: "one has it"}
	}
	var filters []string
	everything := false
	for _, r := range f.After.Access {
		filters, everything = append(filters, r.Filters...), everything || len(r.Filters) == 0
	}
	slices.Sort(filters)
	filters = slices.Compact(filters)
	const ask = "If you need it, ask your administrator to let it pass."
	denied := f.After.Verdict == ipc.Denied
	if denied && passes(filters, "udp", f.Target.Port) || f.Target.Port == 0 && !everything && !passes(filters, "tcp", 0) {
		return broken(TCPNotAllowed, fmt.Sprintf("The resource “%s” lets no TCP pass here, only %s, which cannot be tried from here.", a.Name, strings.Join(filters, ", ")),
			"Try it with the program that uses it. "+ask)
	}
	if denied {
		return broken(FilterDeniesPort, fmt.Sprintf("The resource “%s” does not let port %d pass; it lets pass %s.", a.Name, f.Target.Port, strings.Join(filters, ", ")), ask)
	}
	detail := "“" + a.Name + "”"
	if a.Address != "" {
		detail += " (" + a.Address + ")"
	}
	return finding{detail: detail + " has it and lets it pass"}
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
		return broken(LocalFirewall, "Packets for it leave programs and do not arrive in the tunnel.",
			fmt.Sprintf("A firewall on this machine stops them. Let packets pass on the interface %s.", f.State.Tunnel.Interface))
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
	const wait = "Ask again in a moment."
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
		next := "What was granted before goes on; new access works again when the portal is back. It is tried again by itself."
		if p := f.State.Session.Problem; p != nil {
			next = p.Text
		}
		return broken(PortalAway, fmt.Sprintf("Access to “%s” has to be asked for, and the portal is away.", a.Name), next)
	case a.State == ipc.AccessAsked, a.State == ipc.AccessWaiting:
		return broken(AccessPending, fmt.Sprintf("The portal was asked for access to “%s” and has not answered yet.", a.Name), wait)
	case a.State == ipc.AccessIdle && !a.Failed.IsZero() && f.Ended.Sub(a.Failed) < recently:
		return noPath(f, a)
	case a.State == ipc.AccessIdle:
		return broken(Unclear, fmt.Sprintf("Nothing asked for access to “%s” yet.", a.Name), wait)
	}
	return finding{}
}

func noRelay(a *ipc.Access) finding {
	return broken(NoRelay, fmt.Sprintf("There is no relay to begin a connection to “%s” by: none is online, or none answers.", a.Name),
		"If it works from another network, the one that you are in blocks UDP; else tell your administrator that no relay is online.")
}

func granted(a *ipc.Access) finding {
	if a == nil || a.State != ipc.AccessAuthorized {
		return finding{}
	}
	return finding{detail: "the portal granted it" + at(a)}
}

// at names the site of an Access.
func at(a *ipc.Access) string {
	if len(a.Sites) == 0 {
		return ""
	}
	return " at “" + strings.Join(a.Sites, "”, “") + "”"
}

// conditions are the properties of conditions in words for people.
var conditions = map[string]string{
	"remote_ip_location_region": "the country that you are in",
	"remote_ip":                 "the network that you are in",
	"auth_provider_id":          "the way you signed in",
	"current_utc_datetime":      "the time of day",
	"client_verified":           "that this device is verified",
}

// refused tells why the portal refused access.
func refused(a *ipc.Access) finding {
	site := ""
	if len(a.Sites) > 0 {
		site = " “" + strings.Join(a.Sites, "”, “") + "”"
	}
	switch a.Refusal.Reason {
	case "offline":
		return broken(SiteOffline, fmt.Sprintf("No gateway of the site%s is online.", site), "Tell your administrator. It is tried again with the next use.")
	case "version_mismatch":
		return broken(GatewayVersion, fmt.Sprintf("The gateways of the site%s are of versions that do not work with this client.", site), "Update Stile, or tell your administrator to update the gateways.")
	case "not_found":
		return broken(ResourceGone, fmt.Sprintf("The portal does not know “%s” any more, or not for you.", a.Name), "Sign out and in again; if it stays so, ask your administrator.")
	case "forbidden":
		if len(a.Refusal.Violated) == 0 {
			return broken(AccessForbidden, fmt.Sprintf("The portal refuses access to “%s”: no policy permits it.", a.Name), "Ask your administrator for access.")
		}
		var words []string
		for _, v := range a.Refusal.Violated {
			word, known := conditions[v]
			if !known {
				word = v
			}
			words = append(words, word)
		}
		return broken(ConditionViolated, fmt.Sprintf("The policy for “%s” permits it under conditions that are not met now: %s.", a.Name, strings.Join(words, ", ")),
			"Try again when they are, or ask your administrator.")
	}
	return broken(AccessRefused, fmt.Sprintf("The portal refuses access to “%s”: %s.", a.Name, a.Refusal.Reason), "Ask your administrator.")
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
	way := "connected"
	if a.Path != "" {
		way = a.Path
	}
	ok := finding{detail: way}
	if !a.Heard.IsZero() {
		ok.detail += ", heard " + brief(max(0, f.Ended.Sub(a.Heard))) + " ago"
	}
	switch {
	case len(f.Attempts) == 0, !f.silent():
		return ok
	case a.Connection == "connecting":
		return noPath(f, a)
	case a.Heard.IsZero(), f.Ended.Sub(a.Heard) <= heardLately:
		return ok
	case f.Ended.Sub(a.Heard) < heardOf:
		return broken(Unclear, fmt.Sprintf("The gateway%s was heard %s ago: it is too early to tell whether it is silent, or the host behind it.", at(a), brief(f.Ended.Sub(a.Heard))), "Ask again in a moment.")
	}
	return broken(GatewayLost, fmt.Sprintf("The gateway%s was connected and is not heard any more, for %s.", at(a), brief(f.Ended.Sub(a.Heard))),
		"Check the network of this machine. Another path or gateway is looked for by itself; if it stays so, tell your administrator.")
}

// noPath tells that a connection does not come about.
func noPath(f *Facts, a *ipc.Access) finding {
	failed := !a.Failed.IsZero() && f.Ended.Sub(a.Failed) < recently
	if !failed && (a.Began.IsZero() || f.Ended.Sub(a.Began) < connectTime) {
		return broken(GatewayConnecting, fmt.Sprintf("The connection to the gateway%s has just been begun.", at(a)), "Ask again in a moment.")
	}
	return broken(GatewayUnreachable, fmt.Sprintf("No path to the gateway%s is found: neither a direct one nor through a relay.", at(a)),
		"The network that you are in, or the gateway's, probably blocks UDP: try another network, or ask its administrator to let UDP pass. If it does not, the gateway is in trouble: tell your administrator.")
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
	switch {
	case a.Binding == ipc.BindingFailed:
		return broken(GatewayCannotResolve, fmt.Sprintf("The gateway%s cannot resolve %s.", at(a), host),
			"Check how the name is written. If it is right, tell your administrator: the DNS server of the site does not know it, or does not answer.")
	case f.lacking():
		return withoutAddress(f)
	case a.Binding == ipc.BindingPending && f.silent():
		if a.BindingSince.IsZero() || f.Ended.Sub(a.BindingSince) < dnsTime {
			return broken(Unclear, fmt.Sprintf("The gateway%s was asked for %s and has not answered yet.", at(a), host), "Ask again in a moment.")
		}
		return broken(GatewayDNSSilent, fmt.Sprintf("The gateway%s still waits for the DNS server of its site, which does not answer for %s.", at(a), host),
			"Tell your administrator that the DNS server of the site does not answer.")
	}
	return finding{detail: "the gateway knows addresses of " + host}
}

func withoutAddress(f *Facts) finding {
	host, family := f.Target.Host, ""
	if f.Target.Addr.IsValid() {
		if family = " of the family IPv4"; f.Target.Addr.Is6() {
			family = " of the family IPv6"
		}
		if f.After.Name != "" {
			host = f.After.Name
		}
	}
	site := ""
	if a := f.access(); a != nil {
		site = at(a)
	}
	return broken(GatewayNoAddress, fmt.Sprintf("The gateway%s knows no address%s of %s.", site, family, host),
		"Check how the name is written. If it is right, tell your administrator: the DNS server of the site has no such name, or no address for it.")
}

// answer tells how the host itself answered.
func answer(f *Facts) finding {
	covered, known := f.covered()
	target := f.Target.String()
	found := finding{detail: attempts(f)}
	switch {
	case f.opened() && (covered || f.proxied()):
		found.code, found.cause = Reachable, target+" answers, through the tunnel."
		if f.Target.Port == 0 {
			found.cause = fmt.Sprintf("%s answers at port %d, through the tunnel.", target, f.openPort())
		}
		found.next = "If a program fails all the same, restart it. Browsers may have to be told not to use a DNS server of their own."
		return found
	case f.opened():
		found.code, found.cause = ReachableOutside, target+" answers. It is not one of your resources, so that it is reached past the tunnel."
		if !known {
			found.cause = target + " answers. Whether it is reached through the tunnel is not known."
		}
		return found
	case len(f.Attempts) == 0 || !known:
		found.code, found.cause, found.next = Unclear, "What was found does not tell why "+target+" cannot be reached.", "Ask again; if it stays so, export the logs for your administrator."
		return found
	case !covered:
		found.code, found.cause, found.next = outside(f)
		return found
	}
	found.code, found.cause, found.next = server(f)
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
func server(f *Facts) (code Code, cause, next string) {
	target := f.Target.String()
	port := "that port"
	if f.Target.Port == 0 {
		port = "the ports that were tried"
	}
	site := at(f.access())
	switch {
	case f.ended(Refused):
		return ServerRefuses, fmt.Sprintf("%s is reached through the tunnel, and nothing listens at %s.", target, port), "Check the port. If it is right, the program on that host does not run: tell whoever runs it."
	case f.ended(Reset):
		return ServerResets, fmt.Sprintf("%s is reached through the tunnel, and cuts the connection off.", target), "Tell whoever runs the host."
	case f.ended(Forbidden):
		return GatewayDenies, fmt.Sprintf("The gateway%s, or a firewall on it or behind it, denies the connection to %s.", site, target), "Tell your administrator: a firewall at the site does not let the gateway connect there."
	case f.ended(Silent):
		return ServerSilent, fmt.Sprintf("The gateway%s works, but %s behind it does not answer.", site, target), "The host is down, or a firewall is before it: tell your administrator."
	case f.ended(Unreachable) && f.access().Binding != "":
		return ServerUnreachable, fmt.Sprintf("The gateway%s finds no way to %s: it has no address for the name, or it, or a router behind it, no way to that.", site, target),
			"Check how the name is written. If it is right, tell your administrator: the DNS server of the site does not know the name, or the host is off, or its network is gone."
	case f.ended(Unreachable):
		return ServerUnreachable, fmt.Sprintf("The gateway%s, or a router behind it, finds no way to %s.", site, target), "The host is off, or its network is gone: tell your administrator."
	}
	return Unclear, "What was found does not tell why " + target + " cannot be reached.", "Ask again; if it stays so, export the logs for your administrator."
}

// outside tells why a host past the tunnel does not take a connection.
func outside(f *Facts) (code Code, cause, next string) {
	target, a := f.Target.String(), f.Target.Addr
	const past = "%s is not one of your resources, so that it is tried past the tunnel; "
	const ask = "If it is private, ask your administrator for access to it; else it, or your network, has a problem."
	switch {
	case f.ended(Refused, Reset):
		return OutsideRefuses, fmt.Sprintf(past+"it refuses the connection.", target), "Check the port. " + ask
	case a.IsValid() && a.IsPrivate():
		return AddressNotCovered, fmt.Sprintf("No resource of yours has the private address %v.", a), "If it belongs to a name, use the name, and restart programs that have been open for long; else ask your administrator for access to it."
	case f.State != nil && f.State.Internet.Available && !f.State.Internet.On && !a.IsPrivate():
		return InternetOff, fmt.Sprintf(past+"it does not answer, and the Internet resource, which would carry it, is switched off.", target), "Switch it on with: stile internet on"
	case f.silent():
		return OutsideSilent, fmt.Sprintf(past+"nobody answers.", target), ask
	}
	return OutsideNoWay, fmt.Sprintf(past+"there is no way to it.", target), ask
}
