package cause

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"stile/tunnel/ipc"
)

// broken is a finding that accuses; next are full sentences.
func broken(code Code, cause, next string) finding {
	return finding{code: code, cause: cause, next: next, detail: cause}
}

func service(f *Facts) finding {
	switch f.Contact {
	case NotRunning:
		return broken(ServiceNotRunning, "The tunnel service is not running.", f.Said)
	case NotAllowed:
		return broken(ServiceNotAllowed, "You may not speak to the tunnel service of this machine.", f.Said)
	case Unresponsive:
		return broken(ServiceSilent, "The tunnel service does not respond.", f.Said)
	case Stranger:
		return broken(ServiceUntrusted, "A program of another user answers in place of the tunnel service.", f.Said)
	case OtherVersion:
		return broken(ServiceVersion, "This program and the tunnel service do not understand each other.", f.Said)
	case Broken:
		return broken(ServiceBroken, "The tunnel service broke off.", f.Said)
	}
	if f.State == nil {
		return finding{}
	}
	return finding{detail: "version " + f.State.Version + " answers"}
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
	return broken(NoNetwork, "This machine has no way out: it is in no network, or in one without a router.", "Connect it to a network. Stile connects by itself then.")
}

func session(f *Facts) finding {
	if f.State == nil {
		return finding{}
	}
	s := &f.State.Session
	said := ""
	if s.Problem != nil {
		said = s.Problem.Text
	}
	switch s.Phase {
	case ipc.SignedOut:
		return signedOut(s)
	case ipc.Ending:
		return broken(SessionChanging, "The session is being ended.", "Wait a moment, then sign in with: stile sign-in")
	case ipc.Connecting, ipc.Raising:
		if s.Problem == nil {
			return broken(SessionChanging, "The session is just being set up.", "Wait a moment and ask again.")
		}
		return notConnected(f, s.Problem)
	}
	if s.Problem != nil && s.Problem.Code == ipc.TunnelFailed {
		return notConnected(f, s.Problem)
	}
	if f.Down {
		return broken(InterfaceDown, fmt.Sprintf("The tunnel interface %s was switched off on this machine.", f.State.Tunnel.Interface),
			"Switch it on again, or restart the service: sudo systemctl restart stiled")
	}
	detail := "signed in"
	if s.Actor != "" {
		detail += " as " + s.Actor
	}
	if !s.PortalUp {
		detail += "; the portal is away: " + said
	}
	return finding{detail: detail}
}

func signedOut(s *ipc.Session) finding {
	if s.Problem != nil && s.Problem.Code == ipc.PortalUnknown {
		return broken(PortalUnknown, "The tunnel service was not told which portal is its.", s.Problem.Text)
	}
	if s.Problem != nil {
		return broken(TokenRejected, "The portal ended your sign-in: it has expired or was revoked.", "Sign in again with: stile sign-in")
	}
	return broken(SignedOut, "Nobody is signed in on this machine.", "Sign in with: stile sign-in")
}

// notConnected tells why a session does not come about.
func notConnected(f *Facts, p *ipc.Problem) finding {
	portal := f.State.Session.Portal
	trouble := ""
	if f.After != nil {
		trouble = f.After.PortalTrouble
	}
	switch {
	case p.Code == ipc.TunnelFailed:
		return broken(TunnelFailed, "The tunnel cannot be set up on this machine.", p.Text)
	case p.Code == ipc.PortalRefused:
		return broken(PortalRefused, "The portal refuses this device.", p.Text)
	case p.Code == ipc.PortalUnknown:
		return broken(PortalUnknown, "The tunnel service was not told which portal is its.", p.Text)
	case p.Code == ipc.PortalUnreachable && trouble == ipc.TroubleName:
		return broken(PortalName, fmt.Sprintf("The name of the portal, %s, cannot be resolved.", portal),
			"Check that this machine is connected to a network whose DNS works. It is tried again by itself. "+p.Text)
	case p.Code == ipc.PortalUnreachable && trouble == ipc.TroubleCertificate:
		return broken(PortalCertificate, fmt.Sprintf("The certificate of the portal, %s, is not trusted.", portal),
			"Check the date of this machine, and whether a network that wants you to log in, such as a hotel's, is in between; else tell your administrator. "+p.Text)
	case p.Code == ipc.PortalUnreachable:
		return broken(PortalUnreachable, fmt.Sprintf("The portal, %s, does not answer.", portal),
			"Check that this machine is connected to the Internet. It is tried again by itself. "+p.Text)
	}
	return broken(Unclear, "The session does not come about.", p.Text)
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
		return finding{detail: "resolves to " + list(n.System.Addrs)}
	case !known:
		return finding{result: Open, detail: "does not resolve, which may be for want of the tunnel"}
	}
	return publicName(f)
}

// privateName wants programs to be told what the service answers.
func privateName(f *Facts) finding {
	n := &f.Names
	host := f.Target.Host
	stray := slices.IndexFunc(n.System.Addrs, func(a netip.Addr) bool { return !f.isOurs(a) })
	switch {
	case n.System.Outcome == Found && stray < 0:
		return finding{detail: "resolves to " + list(n.System.Addrs) + ", which stands for it in the tunnel"}
	case len(n.Hosts) > 0 && n.System.Outcome == Found:
		return broken(HostsFile, fmt.Sprintf("The hosts file of this machine says that %s is %s, which is not in the tunnel.", host, list(n.Hosts)),
			fmt.Sprintf("Delete the line with %s from the hosts file.", host))
	case n.Ours.Outcome == NoAddress:
		return withoutAddress(f)
	case n.Ours.Outcome != Found:
		return lost(f)
	case f.State != nil && f.State.DNS.Mode == "disabled":
		return broken(DNSControlOff, fmt.Sprintf("The tunnel service was told to leave the DNS of this machine alone, so that %s is asked of others, who do not know it.", host),
			"Start the service without --dns-control disabled, or have your resolver ask "+list(f.State.DNS.Sentinels)+" for private names.")
	case f.bypassed() && n.Resolvers[0].IsLoopback():
		return broken(DNSBypassed, fmt.Sprintf("The resolver of this machine, %v, does not ask Stile for %s, or has an old answer.", n.Resolvers[0], host),
			"Empty its cache, and have it ask "+list(f.State.DNS.Sentinels)+"; restarting Stile may do that: sudo systemctl restart stiled")
	case f.bypassed(), len(n.Resolvers) == 0:
		return broken(DNSBypassed, fmt.Sprintf("This machine asks %s for names, not Stile, so that %s leads nowhere or past the tunnel.", orOthers(n.Resolvers), host),
			"Another program, such as another VPN, has changed the DNS of this machine. Switch that off, then restart Stile: sudo systemctl restart stiled")
	case n.System.Outcome == Found:
		return broken(DNSStale, fmt.Sprintf("Programs on this machine are told that %s is %s, which is not in the tunnel, though DNS leads to Stile.", host, n.System.Addrs[stray]),
			"A cache or another resolver on this machine remembers it. Empty it, or wait some minutes, and restart programs that have been open for long.")
	}
	return broken(Unclear, fmt.Sprintf("%s does not resolve on this machine, though Stile knows it.", host), "Ask again; if it stays so, export the logs for your administrator.")
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
		return finding{result: Open, detail: "was not asked for"}
	}
	if found := misled(f, f.State.DNS.Sentinels); found.code != "" {
		return found
	}
	if f.Names.Alive || f.Names.Ours.Outcome != NoAnswer {
		return broken(Unclear, fmt.Sprintf("Stile did not answer for %s in time.", f.Target.Host), "Ask again; if it stays so, export the logs for your administrator.")
	}
	return broken(DNSQuestionsLost, fmt.Sprintf("Questions for names do not reach Stile at %s.", list(f.State.DNS.Sentinels)),
		"A firewall on this machine drops packets into the tunnel. Let DNS pass on the interface "+f.State.Tunnel.Interface+".")
}

// publicName tells why a name that no resource has is not resolved.
func publicName(f *Facts) finding {
	n := &f.Names
	host := f.Target.Host
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
			return broken(NameIncomplete, fmt.Sprintf("%q is not a whole name, and nobody knows it.", host), fmt.Sprintf("Write the whole name, such as %s.corp.example.", host))
		}
		if outcome == NoAddress {
			return broken(NameWithoutAddress, fmt.Sprintf("%s is not one of your resources, and public DNS knows no address of it.", host), "Check how it is written. If it is private, ask your administrator for access to it.")
		}
		return broken(NameUnknown, fmt.Sprintf("%s is not one of your resources, and public DNS does not know it.", host),
			"Check how it is written. If it is private, ask your administrator for access to it.")
	case Failed, NoAnswer:
		if n.Ours.Outcome == Found {
			return broken(DNSBypassed, fmt.Sprintf("This machine asks %s for names, who do not answer; Stile knows %s.", orOthers(n.Resolvers), host),
				"Another program has changed the DNS of this machine. Switch that off, then restart Stile: sudo systemctl restart stiled")
		}
		asked := "The resolvers of this network"
		if f.State != nil && len(f.State.DNS.Upstream) > 0 {
			var servers []netip.Addr
			for _, u := range f.State.DNS.Upstream {
				servers = append(servers, u.Addr())
			}
			asked += ", " + list(servers) + ","
		}
		return broken(DNSUpstream, fmt.Sprintf("%s do not answer for %s, which is not one of your resources.", asked, host),
			"Check the network of this machine. If the name is private, ask your administrator for access to it.")
	}
	return finding{}
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
			return finding{detail: fmt.Sprintf("packets to %v go into %s", w.Addr, tunnel)}
		case stray == nil:
			stray = w
		}
	}
	switch {
	case stray == nil:
		return finding{}
	case stray.Interface == "":
		return broken(RouteMissing, fmt.Sprintf("This machine has no route to %v, which should lead into the tunnel.", stray.Addr),
			"Another program has deleted the routes of Stile. Restart it: sudo systemctl restart stiled")
	case stray.Interface == f.Default:
		return broken(RouteMissing, fmt.Sprintf("The routes into the tunnel are gone: packets to %v leave by %s like all others.", stray.Addr, stray.Interface),
			"Another program has deleted the routes of Stile. Restart it: sudo systemctl restart stiled")
	}
	return broken(RouteElsewhere, fmt.Sprintf("Packets to %v leave by %s, not by the tunnel.", stray.Addr, stray.Interface),
		fmt.Sprintf("Another program, such as another VPN, leads them to %s. Switch that off, or have it leave %v alone.", stray.Interface, stray.Addr))
}

func list(addrs []netip.Addr) string {
	var texts []string
	for _, a := range addrs {
		texts = append(texts, a.String())
	}
	if len(texts) > 4 {
		texts = append(texts[:3], fmt.Sprintf("%d more", len(texts)-3))
	}
	return strings.Join(texts, ", ")
}

func orOthers(resolvers []netip.Addr) string {
	if len(resolvers) == 0 {
		return "others"
	}
	return list(resolvers)
}
