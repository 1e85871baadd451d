package cause

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"stile/app/words"
	"stile/tunnel/ipc"
)

func service(f *Facts) finding {
	switch f.Contact {
	case NotRunning:
		return because(ServiceNotRunning, nil)
	case NotAllowed:
		return orSaid(ServiceNotAllowed, f.Said, nil)
	case Unresponsive:
		return because(ServiceSilent, nil)
	case Stranger:
		return because(ServiceUntrusted, nil)
	case OtherVersion:
		return orSaid(ServiceVersion, f.Said, nil)
	case Broken:
		return orSaid(ServiceBroken, f.Said, nil)
	}
	if f.State == nil {
		return finding{}
	}
	return finding{detail: detail("service", with{"version": f.State.Version})}
}

// orSaid is because, but what to do is the service's to say if it did.
func orSaid(code Code, said *ipc.Problem, places with) finding {
	if said == nil {
		return because(code, places)
	}
	all := with{"said": said}
	maps.Copy(all, places)
	return becauseOf(code, "said", all)
}

// network wants a way out of this machine. There are networks without one where
// all that is needed is near: then resolvers are, too. That the portal is away
// is noticed late.
func network(f *Facts) finding {
	if f.State == nil || !f.NoWayOut || f.opened() {
		return finding{}
	}
	resolvers := 0
	for _, u := range f.State.DNS.Upstream {
		if u.Addr().IsLoopback() {
			continue
		}
		resolvers++
		if slices.ContainsFunc(f.Ways, func(w Way) bool { return w.Addr == u.Addr() && w.Interface != "" }) {
			return finding{}
		}
	}
	if resolvers == 0 && f.State.Session.PortalUp {
		return finding{}
	}
	return because(NoNetwork, nil)
}

func session(f *Facts) finding {
	if f.State == nil {
		return finding{}
	}
	s := &f.State.Session
	switch s.Phase {
	case ipc.SignedOut:
		return signedOut(s)
	case ipc.Ending:
		return becauseOf(SessionChanging, "ends", nil)
	case ipc.Connecting, ipc.Raising:
		if s.Problem == nil {
			return because(SessionChanging, nil)
		}
		return notConnected(f, s.Problem)
	}
	if s.Problem != nil && s.Problem.Code == ipc.TunnelFailed {
		return notConnected(f, s.Problem)
	}
	if f.Down {
		return because(InterfaceDown, with{"interface": f.State.Tunnel.Interface})
	}
	return finding{detail: detail("session", with{"actor": actor(s), "away": away(s)})}
}

// actor names who is signed in, if that is known.
func actor(s *ipc.Session) text {
	return func(w *words.Words) string {
		if s.Actor == "" {
			return ""
		}
		return w.Causes().As(s.Actor)
	}
}

// away tells that the portal is, if so.
func away(s *ipc.Session) text {
	return func(w *words.Words) string {
		switch {
		case s.PortalUp:
			return ""
		case s.Problem == nil:
			return w.Causes().Away
		}
		return w.Causes().AwaySaid(w.Problem(s.Problem))
	}
}

func signedOut(s *ipc.Session) finding {
	switch p := s.Problem; {
	case p == nil:
		return because(SignedOut, nil)
	case p.Code == ipc.PortalUnknown:
		return because(PortalUnknown, with{"said": p})
	case p.Code == ipc.TokenRejected:
		return because(TokenRejected, nil)
	default: // somebody else is, or the portal is another one by now
		return orSaid(SignedOut, p, nil)
	}
}

// notConnected tells why a session does not come about.
func notConnected(f *Facts, p *ipc.Problem) finding {
	said := with{"portal": f.State.Session.Portal, "said": p}
	trouble := ""
	if f.After != nil {
		trouble = f.After.PortalTrouble
	}
	switch {
	case p.Code == ipc.TunnelFailed:
		return because(TunnelFailed, said)
	case p.Code == ipc.PortalRefused:
		return because(PortalRefused, said)
	case p.Code == ipc.PortalUnknown:
		return because(PortalUnknown, said)
	case p.Code == ipc.PortalUnreachable && trouble == ipc.TroubleName:
		return because(PortalName, said)
	case p.Code == ipc.PortalUnreachable && trouble == ipc.TroubleCertificate:
		return because(PortalCertificate, said)
	case p.Code == ipc.PortalUnreachable:
		return because(PortalUnreachable, said)
	}
	return becauseOf(Unclear, "session", said)
}

// name looks at how the name is resolved. Only of names that a resource has it
// matters who resolves them.
func name(f *Facts) finding {
	_, known := f.covered()
	n := &f.Names
	switch {
	case f.Target.Addr.IsValid(), n.System.Outcome == NotAsked:
		return finding{}
	case f.private():
		return privateName(f)
	case n.System.Outcome == Found:
		return finding{detail: detail("resolves", with{"addresses": n.System.Addrs})}
	case !known:
		return finding{result: Open, detail: detail("unresolved", nil)}
	}
	return publicName(f)
}

// privateName wants programs to be told what the service answers.
func privateName(f *Facts) finding {
	n := &f.Names
	places := with{"host": f.Target.Host, "addresses": n.System.Addrs, "resolvers": orOthers(n.Resolvers)}
	if f.State != nil {
		places["sentinels"] = f.State.DNS.Sentinels
	}
	stray := slices.IndexFunc(n.System.Addrs, func(a netip.Addr) bool { return !f.isOurs(a) })
	switch {
	case n.System.Outcome == Found && stray < 0:
		return finding{detail: detail("resolves-inside", places)}
	case len(n.Hosts) > 0 && n.System.Outcome == Found:
		places["addresses"] = n.Hosts
		return because(HostsFile, places)
	case n.Ours.Outcome == NoAddress:
		return withoutAddress(f)
	case n.Ours.Outcome != Found:
		return lost(f)
	case f.State != nil && f.State.DNS.Mode == "disabled":
		return because(DNSControlOff, places)
	case f.bypassed() && n.Resolvers[0].IsLoopback():
		places["resolver"] = n.Resolvers[0]
		return becauseOf(DNSBypassed, "local", places)
	case f.bypassed(), len(n.Resolvers) == 0:
		return because(DNSBypassed, places)
	case n.System.Outcome == Found:
		places["address"] = n.System.Addrs[stray]
		return because(DNSStale, places)
	}
	return becauseOf(Unclear, "name", places)
}

// bypassed reports whether programs ask others than us in the first place.
func (f *Facts) bypassed() bool {
	if len(f.Names.Resolvers) == 0 || f.State == nil {
		return false
	}
	return !slices.Contains(f.State.DNS.Sentinels, f.Names.Resolvers[0])
}

// lost tells why our resolver does not answer a question that it answers by
// itself.
func lost(f *Facts) finding {
	if f.Names.Ours.Outcome == NotAsked {
		return finding{result: Open, detail: detail("unasked", nil)}
	}
	if found := misled(f, f.State.DNS.Sentinels); found.code != "" {
		return found
	}
	if f.Names.Alive || f.Names.Ours.Outcome != NoAnswer {
		return becauseOf(Unclear, "late", with{"host": f.Target.Host})
	}
	return because(DNSQuestionsLost, with{"sentinels": f.State.DNS.Sentinels, "interface": f.State.Tunnel.Interface})
}

// publicName tells why a name that no resource has is not resolved.
func publicName(f *Facts) finding {
	n := &f.Names
	host := f.Target.Host
	places := with{"host": host, "resolvers": orOthers(n.Resolvers), "servers": upstream(f.State)}
	sentinels := f.State != nil && len(f.State.DNS.Sentinels) > 0 && !f.bypassed()
	if sentinels && n.System.Outcome == NoAnswer && !n.Alive && n.Ours.Outcome == NoAnswer {
		return lost(f)
	}
	outcome := n.System.Outcome
	if outcome == NoName && n.Ours.Outcome == NoAddress { // programs are not told the difference
		outcome = NoAddress
	}
	switch outcome {
	case NoName, NoAddress:
		if !strings.Contains(host, ".") {
			return because(NameIncomplete, places)
		}
		if outcome == NoAddress {
			return because(NameWithoutAddress, places)
		}
		return because(NameUnknown, places)
	case Failed, NoAnswer:
		if n.Ours.Outcome == Found {
			return becauseOf(DNSBypassed, "silent", places)
		}
		return because(DNSUpstream, places)
	}
	return finding{}
}

// upstream names the resolvers of this network, if they are known.
func upstream(s *ipc.State) text {
	return func(w *words.Words) string {
		if s == nil || len(s.DNS.Upstream) == 0 {
			return ""
		}
		var servers []netip.Addr
		for _, u := range s.DNS.Upstream {
			servers = append(servers, u.Addr())
		}
		return w.Causes().Aside(list(w, servers))
	}
}

// misled tells why packets to addresses of ours would not go into the tunnel.
// One address that leads there is enough: programs try them all.
func misled(f *Facts, addrs []netip.Addr) finding {
	if f.State == nil || f.State.Tunnel.Interface == "" {
		return finding{}
	}
	tunnel := f.State.Tunnel.Interface
	var stray *Way
	for i := range f.Ways {
		w := &f.Ways[i]
		switch {
		case !slices.Contains(addrs, w.Addr):
		case w.Interface == tunnel:
			return finding{detail: detail("route", with{"address": w.Addr, "interface": tunnel})}
		case stray == nil:
			stray = w
		}
	}
	if stray == nil {
		return finding{}
	}
	places := with{"address": stray.Addr, "interface": stray.Interface}
	switch stray.Interface {
	case "":
		return becauseOf(RouteMissing, "none", places)
	case f.Default:
		return because(RouteMissing, places)
	}
	return because(RouteElsewhere, places)
}
