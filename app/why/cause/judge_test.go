package cause

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/ipc"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func addrs(texts ...string) (list []netip.Addr) {
	for _, s := range texts {
		list = append(list, addr(s))
	}
	return list
}

const (
	proxy4, proxy6       = "100.96.0.1", "fd00:2021:1111:8000::1"
	sentinel4, sentinel6 = "100.100.111.1", "fd00:2021:1111:8000:100:100:111:0"
)

// works is what is found of a host that answers through the tunnel.
func works() *Facts {
	known := func() *ipc.Knowledge {
		return &ipc.Knowledge{
			Name: "wiki.corp.example", Proxies: addrs(proxy4, proxy6), Verdict: ipc.Permitted,
			Access: []ipc.Access{{
				Resource: id.Resource{7}, Name: "Wiki", Type: "dns", Address: "wiki.corp.example", Sites: []string{"Munich"},
				State: ipc.AccessAuthorized, Asked: noon.Add(-time.Minute), Seen: noon.Add(time.Millisecond), Gateway: id.Gateway{9}, Connection: "connected", Path: ipc.Direct,
				Began: noon.Add(-time.Minute), Heard: noon.Add(time.Second), Binding: ipc.BindingConfirmed,
			}},
		}
	}
	return &Facts{
		Target: Target{Host: "wiki.corp.example", Port: 443},
		State: &ipc.State{
			Version: "1.2.3", Session: ipc.Session{Phase: ipc.Connected, PortalUp: true, Portal: "wss://portal.example.net", Actor: "Ada"},
			Tunnel: ipc.Tunnel{Interface: "tun-stile"}, DNS: ipc.DNS{Mode: "auto", Sentinels: addrs(sentinel4, sentinel6), Upstream: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")}},
		},
		Before: known(), After: known(),
		Names: Names{
			System: Lookup{Found, addrs(proxy4, proxy6)}, Ours: Lookup{Found, addrs(proxy4, proxy6)}, Alive: true, Resolvers: addrs(sentinel4, sentinel6),
		},
		Targets: addrs(proxy4, proxy6),
		Ways:    []Way{{addr(proxy4), "tun-stile"}, {addr(proxy6), "tun-stile"}, {addr(sentinel4), "tun-stile"}, {addr(sentinel6), "tun-stile"}},
		Default: "eth0", Began: noon, Ended: noon.Add(20 * time.Millisecond),
		Attempts: []Attempt{{To: netip.MustParseAddrPort(proxy4 + ":443"), Outcome: Opened, Took: 20 * time.Millisecond}},
	}
}

// With these, what works breaks.
func (f *Facts) end(outcomes ...Outcome) {
	f.Attempts = nil
	for i, o := range outcomes {
		a := Attempt{To: netip.AddrPortFrom(addr([]string{proxy4, proxy6}[i%2]), 443), Outcome: o, Took: 20 * time.Millisecond}
		if o == Silent {
			a.Took, f.Ended = 2300*time.Millisecond, noon.Add(2300*time.Millisecond)
		}
		f.Attempts = append(f.Attempts, a)
	}
}

func (f *Facts) silence() *ipc.Access {
	f.end(Silent, Silent)
	return &f.After.Access[0]
}

func (f *Facts) phase(p ipc.Phase, code ipc.Code) {
	f.State.Session.Phase, f.State.Session.PortalUp = p, false
	f.State.Tunnel, f.State.DNS.Sentinels = ipc.Tunnel{}, nil
	if code != "" {
		f.State.Session.Problem = ipc.Problemf(code, "It is so. Do this.")
	}
	f.Before, f.After = &ipc.Knowledge{Verdict: ipc.NotCovered}, &ipc.Knowledge{Verdict: ipc.NotCovered}
	f.Names = Names{System: Lookup{Outcome: NoName}}
	f.Attempts, f.Ways = nil, nil
}

func (f *Facts) contact(c Contact) {
	f.Contact, f.State, f.Before, f.After = c, nil, nil, nil
	f.Names = Names{System: Lookup{Outcome: NoName}}
	f.Attempts, f.Ways = nil, nil
}

// uncovered makes the target one that no resource has.
func (f *Facts) uncovered(host string, outcome Answer, attempts ...Outcome) {
	f.Target.Host = host
	f.Target.Addr, _ = netip.ParseAddr(host)
	f.Before, f.After = &ipc.Knowledge{Verdict: ipc.NotCovered}, &ipc.Knowledge{Verdict: ipc.NotCovered}
	l := Lookup{Outcome: outcome}
	if outcome == Found {
		l.Addrs = addrs("198.51.100.7")
	}
	f.Names.System, f.Names.Ours = l, l
	f.past(attempts...)
}

// past is end for a host past the tunnel.
func (f *Facts) past(outcomes ...Outcome) {
	f.end(outcomes...)
	for i := range f.Attempts {
		f.Attempts[i].To = netip.MustParseAddrPort("198.51.100.7:443")
	}
}

// idle makes access be refused, or waited for.
func (f *Facts) idle(state string, refusal *ipc.Refusal) *ipc.Access {
	for _, k := range []*ipc.Knowledge{f.Before, f.After} {
		a := &k.Access[0]
		a.State, a.Gateway, a.Connection, a.Path, a.Binding = ipc.AccessIdle, id.Gateway{}, "", "", ""
		a.Began, a.Heard = time.Time{}, time.Time{}
	}
	a := f.silence()
	a.State, a.Refusal, a.Asked = state, refusal, noon.Add(10*time.Millisecond)
	return a
}

func refusal(reason string, violated ...string) *ipc.Refusal {
	return &ipc.Refusal{Reason: reason, Violated: violated, At: noon.Add(30 * time.Millisecond)}
}

// A row is a way in which a cause comes about.
type row struct {
	want Code
	why  string
	make func(f *Facts)
}

// rows has at least one for each code, in the order of the chain.
func rows() []row {
	return []row{
		{Reachable, "all is well", func(f *Facts) {}},
		{Reachable, "the portal is away, and what it granted goes on", func(f *Facts) {
			f.State.Session.PortalUp = false
			f.State.Session.Problem = ipc.Problemf(ipc.PortalUnreachable, "Away.")
		}},
		{Reachable, "one family is enough", func(f *Facts) { f.end(Opened, Unreachable) }},
		{Reachable, "there is no way out, and none is needed", func(f *Facts) { f.NoWayOut, f.Default = true, "" }},
		{Reachable, "at one of its ports", func(f *Facts) { f.Target.Port = 0 }},
		{ReachableOutside, "no resource has it", func(f *Facts) { f.uncovered("www.example.net", Found, Opened) }},
		{ReachableOutside, "the tunnel does not matter then", func(f *Facts) {
			f.contact(NotRunning)
			f.Names.System = Lookup{Found, addrs("198.51.100.7")}
			f.past(Opened)
		}},
		{Reachable, "the service does not speak to this user, but works", func(f *Facts) {
			f.contact(NotAllowed)
			f.Names.System = Lookup{Found, addrs(proxy4, proxy6)}
			f.end(Opened)
		}},
		{ServiceNotRunning, "", func(f *Facts) { f.contact(NotRunning) }},
		{ServiceNotAllowed, "", func(f *Facts) { f.contact(NotAllowed) }},
		{ServiceSilent, "", func(f *Facts) { f.contact(Unresponsive) }},
		{ServiceUntrusted, "", func(f *Facts) { f.contact(Stranger) }},
		{ServiceVersion, "", func(f *Facts) { f.contact(OtherVersion) }},
		{ServiceBroken, "", func(f *Facts) { f.contact(Broken) }},
		{ServiceNotAllowed, "it says what to do", func(f *Facts) {
			f.contact(NotAllowed)
			f.Said = ipc.SayNotAllowed.With("command", "sudo usermod -aG stile ada")
		}},
		{ServiceVersion, "it says what to do", func(f *Facts) {
			f.contact(OtherVersion)
			f.Said = ipc.SayOldProgram.With("program", "1", "service", "2")
		}},
		{ServiceBroken, "it says what to do", func(f *Facts) {
			f.contact(Broken)
			f.Said = ipc.SayStopping.With()
		}},
		{NoNetwork, "", func(f *Facts) {
			f.phase(ipc.Connecting, ipc.PortalUnreachable)
			f.NoWayOut, f.Default = true, ""
		}},
		{NoNetwork, "while connected", func(f *Facts) {
			f.silence().Heard = noon.Add(-10 * time.Second)
			f.NoWayOut, f.Default = true, ""
		}},
		{ServerSilent, "the portal is in the same network, and all else, too", func(f *Facts) {
			f.silence()
			f.NoWayOut, f.Default = true, ""
			f.Ways = append(f.Ways, Way{addr("192.0.2.53"), "eth0"})
		}},
		{SignedOut, "", func(f *Facts) { f.phase(ipc.SignedOut, "") }},
		{SignedOut, "another user of the machine is signed in", func(f *Facts) {
			f.phase(ipc.SignedOut, "")
			f.State.Session.Problem = ipc.HeldBy("bob")
		}},
		{TokenRejected, "", func(f *Facts) { f.phase(ipc.SignedOut, ipc.TokenRejected) }},
		{PortalUnknown, "", func(f *Facts) { f.phase(ipc.SignedOut, ipc.PortalUnknown) }},
		{PortalName, "", func(f *Facts) {
			f.phase(ipc.Connecting, ipc.PortalUnreachable)
			f.After.PortalTrouble = ipc.TroubleName
		}},
		{PortalCertificate, "", func(f *Facts) {
			f.phase(ipc.Connecting, ipc.PortalUnreachable)
			f.After.PortalTrouble = ipc.TroubleCertificate
		}},
		{PortalUnreachable, "", func(f *Facts) { f.phase(ipc.Connecting, ipc.PortalUnreachable) }},
		{PortalRefused, "", func(f *Facts) { f.phase(ipc.Connecting, ipc.PortalRefused) }},
		{TunnelFailed, "while it is raised", func(f *Facts) { f.phase(ipc.Raising, ipc.TunnelFailed) }},
		{TunnelFailed, "tried again", func(f *Facts) { f.phase(ipc.Connecting, ipc.TunnelFailed) }},
		{SessionChanging, "it begins", func(f *Facts) { f.phase(ipc.Connecting, "") }},
		{SessionChanging, "it ends", func(f *Facts) { f.phase(ipc.Ending, "") }},
		{InterfaceDown, "", func(f *Facts) { f.Down = true; f.silence() }},
		{DNSQuestionsLost, "a private name", func(f *Facts) {
			f.Names.Alive, f.Names.System, f.Names.Ours = false, Lookup{Outcome: NoAnswer}, Lookup{Outcome: NoAnswer}
			f.Attempts = nil
		}},
		{DNSQuestionsLost, "any name", func(f *Facts) {
			f.uncovered("www.example.net", NoAnswer)
			f.Names.Alive = false
		}},
		{HostsFile, "", func(f *Facts) {
			f.Names.Hosts, f.Names.System = addrs("10.9.0.10"), Lookup{Found, addrs("10.9.0.10")}
			f.silence()
		}},
		{HostsFile, "though something answers there", func(f *Facts) {
			f.Names.Hosts, f.Names.System = addrs("10.9.0.10"), Lookup{Found, addrs("10.9.0.10")}
		}},
		{DNSControlOff, "", func(f *Facts) {
			f.State.DNS.Mode, f.Names.Resolvers = "disabled", addrs("192.0.2.53")
			f.Names.System, f.Attempts = Lookup{Outcome: NoName}, nil
		}},
		{DNSBypassed, "others do not know it", func(f *Facts) {
			f.Names.Resolvers, f.Names.System, f.Attempts = addrs("192.0.2.53"), Lookup{Outcome: NoName}, nil
		}},
		{DNSBypassed, "others know another address", func(f *Facts) {
			f.Names.Resolvers, f.Names.System = addrs("192.0.2.53", sentinel4), Lookup{Found, addrs("10.9.0.10")}
			f.silence()
		}},
		{DNSBypassed, "it is not known whom this machine asks", func(f *Facts) {
			f.Names.Resolvers, f.Names.System = nil, Lookup{Found, addrs("10.9.0.10")}
			f.silence()
		}},
		{DNSBypassed, "a resolver of the machine's own", func(f *Facts) {
			f.Names.Resolvers, f.Names.System = addrs("127.0.0.53"), Lookup{Found, addrs("10.9.0.10")}
			f.silence()
		}},
		{DNSBypassed, "others do not answer, not even for public names", func(f *Facts) {
			f.uncovered("www.example.net", NoAnswer)
			f.Names.Resolvers, f.Names.Ours = addrs("192.0.2.54"), Lookup{Found, addrs("198.51.100.7")}
		}},
		{DNSStale, "", func(f *Facts) {
			f.Names.System = Lookup{Found, addrs("10.9.0.10")}
			f.silence()
		}},
		{DNSUpstream, "silence", func(f *Facts) { f.uncovered("www.example.net", NoAnswer) }},
		{DNSUpstream, "failure", func(f *Facts) { f.uncovered("www.example.net", Failed) }},
		{NameIncomplete, "", func(f *Facts) { f.uncovered("wiki", NoName) }},
		{NameUnknown, "", func(f *Facts) { f.uncovered("wiki.elsewhere.example", NoName) }},
		{NameWithoutAddress, "", func(f *Facts) { f.uncovered("mail.example.net", NoAddress) }},
		{NameWithoutAddress, "programs are told that there is no name", func(f *Facts) {
			f.uncovered("mail.example.net", NoAddress)
			f.Names.System.Outcome = NoName
		}},
		{FilterDeniesPort, "", func(f *Facts) {
			f.After.Verdict, f.After.Access[0].Filters = ipc.Denied, []string{"tcp/80", "icmp"}
			f.end(Unreachable, Forbidden)
		}},
		{TCPNotAllowed, "UDP passes at this port", func(f *Facts) {
			f.After.Verdict, f.After.Access[0].Filters = ipc.Denied, []string{"udp/443"}
			f.end(Forbidden)
		}},
		{TCPNotAllowed, "UDP passes at many ports", func(f *Facts) {
			f.After.Verdict, f.After.Access[0].Filters = ipc.Denied, []string{"udp/400-500"}
			f.end(Forbidden)
		}},
		{TCPNotAllowed, "nothing else passes at all", func(f *Facts) {
			f.Target.Port, f.After.Access[0].Filters, f.Attempts = 0, []string{"udp/53", "icmp"}, nil
		}},
		{InternetOff, "", func(f *Facts) {
			f.uncovered("www.example.net", Found, Silent)
			f.State.Internet.Available = true
		}},
		{AddressNotCovered, "", func(f *Facts) { f.uncovered("10.9.0.10", NotAsked, Silent) }},
		{AddressUnassigned, "", func(f *Facts) { f.uncovered("100.96.7.7", NotAsked) }},
		{OutsideRefuses, "", func(f *Facts) { f.uncovered("www.example.net", Found, Refused) }},
		{OutsideSilent, "", func(f *Facts) { f.uncovered("www.example.net", Found, Silent) }},
		{OutsideNoWay, "", func(f *Facts) { f.uncovered("www.example.net", Found, Unreachable) }},
		{RouteMissing, "packets leave like all others", func(f *Facts) {
			f.Ways[0].Interface, f.Ways[1].Interface = "eth0", "eth0"
			f.silence()
		}},
		{RouteMissing, "to a network that a public name leads to", func(f *Facts) {
			f.Target.Host, f.Targets, f.Ways = "build.example.net", addrs("10.9.0.10"), []Way{{addr("10.9.0.10"), "eth0"}}
			f.Names.System, f.Names.Ours = Lookup{Found, addrs("10.9.0.10")}, Lookup{Found, addrs("10.9.0.10")}
			f.After.Name, f.After.Proxies, f.After.Access[0].Binding = "", nil, ""
			f.silence()
		}},
		{RouteMissing, "there is no way at all", func(f *Facts) {
			f.Ways[0].Interface, f.Ways[1].Interface = "", ""
			f.end(Unreachable, Unreachable)
		}},
		{RouteMissing, "not even questions get through", func(f *Facts) {
			for i := range f.Ways {
				f.Ways[i].Interface = "eth0"
			}
			f.Names.Alive, f.Names.System, f.Names.Ours = false, Lookup{Outcome: NoAnswer}, Lookup{Outcome: NoAnswer}
			f.Attempts = nil
		}},
		{RouteElsewhere, "", func(f *Facts) {
			f.Ways[0].Interface, f.Ways[1].Interface = "wg0", "wg0"
			f.silence()
		}},
		{LocalFirewall, "nothing ever came", func(f *Facts) {
			a := f.idle(ipc.AccessIdle, nil)
			a.Asked, a.Seen = time.Time{}, time.Time{}
		}},
		{LocalFirewall, "nothing came since", func(f *Facts) { f.silence().Seen = noon.Add(-20 * time.Second) }},
		{LocalFirewall, "nothing came since, and the gateway rests", func(f *Facts) {
			a := f.silence()
			a.Seen, a.Heard, a.Connection = noon.Add(-20*time.Second), noon.Add(-20*time.Second), "idle"
		}},
		{LocalFirewall, "it refuses at once", func(f *Facts) {
			f.end(Refused, Refused)
			f.After.Access[0].Seen = noon.Add(-time.Second)
		}},
		{PortalAway, "", func(f *Facts) {
			f.idle(ipc.AccessWaiting, nil)
			f.State.Session.PortalUp = false
		}},
		{PortalAway, "and it is known why", func(f *Facts) {
			f.idle(ipc.AccessWaiting, nil)
			f.State.Session.PortalUp = false
			f.State.Session.Problem = ipc.SayPortalSilent.With("portal", "wss://portal.example.net")
		}},
		{AccessPending, "", func(f *Facts) { f.idle(ipc.AccessAsked, nil) }},
		{AccessPending, "refused before, asked again", func(f *Facts) {
			f.idle(ipc.AccessAsked, refusal("offline")).Asked = noon.Add(time.Second)
		}},
		{ConditionViolated, "", func(f *Facts) { f.idle(ipc.AccessIdle, refusal("forbidden", "current_utc_datetime")) }},
		{AccessForbidden, "", func(f *Facts) { f.idle(ipc.AccessIdle, refusal("forbidden")) }},
		{ResourceGone, "", func(f *Facts) { f.idle(ipc.AccessIdle, refusal("not_found")) }},
		{SiteOffline, "", func(f *Facts) { f.idle(ipc.AccessIdle, refusal("offline")) }},
		{GatewayVersion, "", func(f *Facts) { f.idle(ipc.AccessIdle, refusal("version_mismatch")) }},
		{AccessRefused, "", func(f *Facts) { f.idle(ipc.AccessIdle, refusal("disabled")) }},
		{NoRelay, "", func(f *Facts) { f.idle(ipc.AccessNoRelay, nil) }},
		{NoRelay, "the gateway has none, either, and does not answer", func(f *Facts) {
			f.idle(ipc.AccessAsked, nil)
			f.After.NoRelay = true
		}},
		{NoRelay, "so that the portal takes it for offline", func(f *Facts) {
			f.idle(ipc.AccessIdle, refusal("offline"))
			f.After.NoRelay = true
		}},
		{GatewayConnecting, "", func(f *Facts) {
			a := f.silence()
			a.Connection, a.Path, a.Heard, a.Began, a.Binding, a.Waiting = "connecting", "", time.Time{}, f.Ended.Add(-time.Second), ipc.BindingPending, 2
		}},
		{GatewayUnreachable, "it takes too long", func(f *Facts) {
			a := f.silence()
			a.Connection, a.Path, a.Heard, a.Began, a.Binding, a.Waiting = "connecting", "", time.Time{}, f.Ended.Add(-3*time.Second), ipc.BindingPending, 2
		}},
		{GatewayUnreachable, "it has just failed", func(f *Facts) {
			f.idle(ipc.AccessIdle, nil).Failed = noon.Add(time.Second)
		}},
		{GatewayLost, "", func(f *Facts) { f.silence().Heard = noon.Add(-6 * time.Second) }},
		{GatewayCannotResolve, "", func(f *Facts) {
			f.After.Access[0].Binding = ipc.BindingFailed
			f.end(Unreachable, Unreachable)
		}},
		{GatewayDNSSilent, "", func(f *Facts) {
			a := f.silence()
			a.Binding, a.BindingSince, a.Waiting = ipc.BindingPending, noon, 2
		}},
		{GatewayNoAddress, "of either family", func(f *Facts) {
			f.After.Access[0].LacksIPv4, f.After.Access[0].LacksIPv6 = true, true
			f.end(Unreachable, Unreachable)
		}},
		{GatewayNoAddress, "of the only one that the resource has", func(f *Facts) {
			f.Names.System, f.Names.Ours, f.Attempts = Lookup{Outcome: NoName}, Lookup{Outcome: NoAddress}, nil
		}},
		{GatewayNoAddress, "of this one", func(f *Facts) {
			f.Target.Host, f.Target.Addr, f.Names.System = proxy6, addr(proxy6), Lookup{}
			f.After.Access[0].LacksIPv6 = true
			f.end(Unreachable)
		}},
		{ServerRefuses, "", func(f *Facts) { f.end(Refused, Refused) }},
		{ServerRefuses, "at all ports", func(f *Facts) {
			f.Target.Port = 0
			f.end(Refused, Refused)
		}},
		{ServerRefuses, "the other family does not exist there", func(f *Facts) { f.end(Refused, Unreachable) }},
		{ServerResets, "", func(f *Facts) { f.end(Reset, Reset) }},
		{GatewayDenies, "", func(f *Facts) { f.end(Unreachable, Forbidden) }},
		{ServerSilent, "", func(f *Facts) { f.silence() }},
		{ServerSilent, "the other family does not exist there", func(f *Facts) { f.end(Silent, Unreachable) }},
		{ServerUnreachable, "", func(f *Facts) { f.end(Unreachable, Unreachable) }},
		{ServerUnreachable, "it has no address of the other family", func(f *Facts) {
			f.After.Access[0].LacksIPv6 = true
			f.end(Unreachable)
		}},
		{ServerUnreachable, "by address", func(f *Facts) {
			f.Target.Host, f.Target.Addr, f.Names.System = "10.9.0.10", addr("10.9.0.10"), Lookup{}
			f.Targets, f.Ways = addrs("10.9.0.10"), nil
			f.After.Name, f.After.Proxies, f.After.Access[0].Binding = "", nil, ""
			f.end(Unreachable)
		}},
		{Unclear, "a newer service has another reason", func(f *Facts) { f.phase(ipc.Connecting, "of-tomorrow") }},
		{Unclear, "programs are told that there is no such name", func(f *Facts) { f.Names.System, f.Attempts = Lookup{Outcome: NoName}, nil }},
		{Unclear, "our resolver is late", func(f *Facts) {
			f.Names.System, f.Names.Ours, f.Attempts = Lookup{Outcome: NoAnswer}, Lookup{Outcome: NoAnswer}, nil
		}},
		{Unclear, "our resolver was not asked", func(f *Facts) {
			f.Names.System, f.Names.Ours, f.Attempts = Lookup{Outcome: NoName}, Lookup{}, nil
		}},
		{Unclear, "nothing asked for access", func(f *Facts) { f.idle(ipc.AccessIdle, nil) }},
		{Unclear, "the service does not know the name, nor does anybody", func(f *Facts) {
			f.Before, f.After, f.Names.System, f.Attempts = nil, nil, Lookup{Outcome: NoName}, nil
		}},
		{Unclear, "the gateway was heard some time ago", func(f *Facts) { f.silence().Heard = noon.Add(-700 * time.Millisecond) }},
		{Unclear, "the gateway was asked a moment ago", func(f *Facts) {
			a := f.silence()
			a.Binding, a.BindingSince, a.Waiting = ipc.BindingPending, f.Ended.Add(-time.Second), 2
		}},
		{Unclear, "the service says nothing about it", func(f *Facts) {
			f.Before, f.After = nil, nil
			f.silenceAll()
		}},
	}
}

func TestEachCauseHasFacts(t *testing.T) {
	seen := map[Code]bool{}
	for _, row := range rows() {
		f := works()
		row.make(f)
		r := Judge(*f)
		if r.Code != row.want {
			t.Errorf("%s (%s): %s: %s\n%v", row.want, row.why, r.Code, r.Cause, r.Steps)
		}
		if r.Reachable != f.opened() || r.Target == "" || len(r.Steps) == 0 {
			t.Errorf("%s (%s): %+v", row.want, row.why, r)
		}
		texts := append([]string{r.Cause, r.Next}, details(r)...)
		if r.Code == Reachable || r.Code == ReachableOutside {
			texts[1] = "."
		}
		for i, text := range texts {
			if text == "" || strings.Contains(text, "%!") || i == 0 && !strings.HasSuffix(text, ".") || strings.Contains(text, "  ") {
				t.Errorf("%s (%s): a text is wrong: %q", row.want, row.why, text)
			}
		}
		seen[row.want] = true
	}
	for _, m := range Meanings {
		if !seen[m.Code] {
			t.Errorf("no row for %s", m.Code)
		}
	}
}

func (f *Facts) silenceAll() {
	f.end(Silent, Silent)
}

func details(r Report) (texts []string) {
	for _, s := range r.Steps {
		texts = append(texts, s.Detail)
	}
	return texts
}

// TestTheFirstBrokenLinkCounts breaks all links from one on: it is that one
// which is blamed.
func TestTheFirstBrokenLinkCounts(t *testing.T) {
	breaks := []struct {
		want   Code
		break_ func(f *Facts)
	}{
		{ServerSilent, func(f *Facts) { f.silence() }},
		{GatewayDNSSilent, func(f *Facts) {
			a := f.silence()
			a.Binding, a.BindingSince, a.Waiting = ipc.BindingPending, noon, 2
		}},
		{GatewayLost, func(f *Facts) { f.silence().Heard = noon.Add(-6 * time.Second) }},
		{SiteOffline, func(f *Facts) { f.idle(ipc.AccessIdle, refusal("offline")) }},
		{RouteElsewhere, func(f *Facts) { f.Ways[0].Interface, f.Ways[1].Interface = "wg0", "wg0" }},
		{FilterDeniesPort, func(f *Facts) { f.After.Verdict, f.After.Access[0].Filters = ipc.Denied, []string{"tcp/80"} }},
		{DNSBypassed, func(f *Facts) { f.Names.Resolvers, f.Names.System = addrs("192.0.2.53"), Lookup{Outcome: NoName} }},
		{InterfaceDown, func(f *Facts) { f.Down = true }},
		{ServiceBroken, func(f *Facts) { f.Contact, f.Said = Broken, ipc.SayStopping.With() }},
	}
	f := works()
	for _, b := range breaks {
		b.break_(f)
		if r := Judge(*f); r.Code != b.want {
			t.Errorf("%s: %s: %s", b.want, r.Code, r.Cause)
		}
	}
}

// TestNothingIsConcludedFromNothing takes facts away: it may become unclear, but
// nobody else is accused.
func TestNothingIsConcludedFromNothing(t *testing.T) {
	for _, outcome := range []Outcome{Silent, Unreachable, Strange} {
		for i := range 1 << 6 {
			f := works()
			f.end(outcome)
			full := Judge(*f).Code
			for bit, remove := range []func(){
				func() { f.State = nil }, func() { f.Before = nil }, func() { f.After = nil }, func() { f.Names = Names{} },
				func() { f.Ways, f.Default = nil, "" }, func() { f.Attempts = nil },
			} {
				if i&(1<<bit) != 0 {
					remove()
				}
			}
			if got := Judge(*f).Code; got != full && got != Unclear {
				t.Errorf("%s without %06b: %s, with all %s", outcome, i, got, full)
			}
		}
	}
}

func TestMeaningsAreComplete(t *testing.T) {
	text, err := os.ReadFile("codes.go")
	if err != nil {
		t.Fatal(err)
	}
	declared := strings.Count(string(text), " Code = \"")
	if len(Meanings) != declared {
		t.Errorf("%d meanings of %d codes", len(Meanings), declared)
	}
	var codes []Code
	for _, m := range Meanings {
		if slices.Contains(codes, m.Code) || m.Text == "" || !strings.HasSuffix(m.Text, ".") || strings.Trim(string(m.Code), "abcdefghijklmnopqrstuvwxyz-") != "" ||
			!slices.ContainsFunc(chain, func(l link) bool { return l.name == m.Link }) {
			t.Errorf("%+v", m)
		}
		codes = append(codes, m.Code)
	}
	if _, known := MeaningOf("nonsense"); known {
		t.Error("nonsense has a meaning")
	}
}
