package daemon

import (
	"net/netip"
	"time"

	"stile/platform/clock"
	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
)

// silence is how long the portal may take before users are told that it does
// not answer.
const silence = 5 * time.Second

// State implements link.Service.
func (d *daemon) State() ipc.State { return d.stateOf(d.seen()) }

// Show implements link.Discreet: a session is its holder's to see.
func (d *daemon) Show() (ipc.State, func(link.Caller) bool) {
	v := d.seen()
	return d.stateOf(v), v.of
}

// holder is the user whose session it is, or was while it ends.
func (v view) holder() string {
	if v.session != nil && v.wish.Token == "" {
		return v.session.wish.Holder
	}
	return v.wish.Holder
}

// of reports whether c may see the session: also one that ends is still that of
// who signed in.
func (v view) of(c link.Caller) bool {
	return v.wish.of(c) && (v.session == nil || v.session.wish.of(c))
}

func (d *daemon) stateOf(v view) ipc.State {
	settings := d.settings(v.wish, v.policy)
	s := ipc.State{
		Version: d.Version,
		Session: ipc.Session{
			Phase: v.phase, Since: v.since, Problem: v.problem, Token: v.wish.Source,
			Account: v.wish.Account, Actor: v.wish.Actor, Holder: userName(v.holder()), Portal: settings.APIURL, AuthURL: settings.AuthURL,
		},
		Settings: settings,
		Internet: ipc.Internet{On: v.wish.Internet || d.Internet},
		DNS:      ipc.DNS{Mode: string(d.DNS), Upstream: v.upstream},
	}
	if d.Logs != nil {
		s.Logs = ipc.Logs{Dir: d.Logs.Dir(), Filter: d.Logs.Filter()}
	}
	if v.session != nil && !samePortal(v.session.portal, settings.APIURL) {
		s.Session.Portal = v.session.portal
		if s.Session.AuthURL == "" { // the next sign-in is at another portal
			s.Session.AuthURL = forPeople(settings.APIURL)
		}
	}
	// The wish counts at once, also before the owner has come to it.
	blocked, why := v.wish.obstacle(settings)
	switch {
	case v.session != nil && v.session.token() != v.wish.Token:
		s.Session.Phase = ipc.Ending
	case v.session == nil && blocked && why != nil:
		s.Session.Phase, s.Session.Problem = ipc.SignedOut, why
	case v.session == nil && !blocked && v.phase == ipc.SignedOut:
		s.Session.Phase = ipc.Connecting
	}
	if v.session == nil {
		return s
	}
	r := v.session.engine.Report()
	s.Session.PortalUp = r.PortalUp
	if !r.PortalUp && s.Session.Problem == nil && v.phase != ipc.Ending {
		s.Session.Problem = d.away(v)
	}
	d.describe(&s, &r)
	return s
}

// away tells why the portal is, once that is known or it has been silent for long.
func (d *daemon) away(v view) *ipc.Problem {
	if err := v.session.why(); err != nil {
		return ipc.SayPortalUnreachable.With("portal", v.session.portal, "reason", reason(err))
	}
	if time.Since(v.since) > silence {
		return ipc.SayPortalSilent.With("portal", v.session.portal)
	}
	return nil
}

// describe takes over what the engine reports.
func (d *daemon) describe(s *ipc.State, r *core.Report) {
	if r.TUN.IPv4.IsValid() || r.TUN.IPv6.IsValid() {
		s.Tunnel = ipc.Tunnel{Interface: tunName, IPv4: r.TUN.IPv4, IPv6: r.TUN.IPv6, Routes: r.TUN.Routes}
		if r.TUN.Default {
			s.Tunnel.Routes = append([]netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}, s.Tunnel.Routes...)
		}
		s.DNS.Sentinels, s.DNS.SearchDomain = r.TUN.Sentinels, r.TUN.SearchDomain
	}
	for _, res := range r.Resources {
		s.Internet.Available = s.Internet.Available || res.Type == "internet"
		s.Resources = append(s.Resources, resource(res, s))
	}
	ipc.SortResources(s.Resources)
	for _, c := range r.Connections {
		out := ipc.Connection{
			Gateway: id.GatewayOf(c.Peer), Site: c.Site, State: c.State, Local: c.Local, Remote: c.Remote,
			LastHandshake: ipc.Wall(c.LastHandshake, clock.Now(), time.Now()), Sent: c.Sent, Received: c.Received, RTTMicros: c.RTT.Microseconds(),
		}
		switch {
		case c.Relayed:
			out.Path = ipc.Relayed
		case c.Remote.IsValid():
			out.Path = ipc.Direct
		}
		s.Connections = append(s.Connections, out)
	}
	for _, c := range r.Counters {
		if c.Value > 0 {
			s.Counters = append(s.Counters, ipc.Counter(c))
		}
	}
}

func resource(r core.Resource, s *ipc.State) ipc.Resource {
	out := ipc.Resource{
		ID: r.ID, Type: string(r.Type), Name: r.Name, Address: r.Address, Description: r.Description, Sites: r.Sites, State: ipc.ResourceState(r.State),
	}
	switch {
	case r.Type == "internet" && !s.Internet.On:
		out.Problem = ipc.SayInternetIsOff.With()
	case out.State == ipc.Offline:
		out.Problem = ipc.SaySiteOffline.With()
	case !s.Session.PortalUp:
		out.Problem = ipc.SayNotConnected.With()
	}
	return out
}
