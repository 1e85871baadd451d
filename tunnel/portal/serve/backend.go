package serve

import (
	"context"
	"net"
	"net/netip"
	"time"

	"stile/build/stamp"
	"stile/tunnel/id"
	"stile/tunnel/portal"
	"stile/tunnel/portal/admin"
)

// askTime is how long a command waits for the hub.
const askTime = 5 * time.Second

// backend is what the commands of this machine reach of a running portal.
func (s *server) backend(addrs []net.Addr) *admin.Backend {
	started := time.Now().Unix()
	return &admin.Backend{
		Store: s.store, Config: s.config.Load, Revoked: s.revoked,
		Online: func(st *admin.Status) {
			st.Version, st.StartedAt, st.Listeners = stamp.String(), started, nil
			for _, a := range addrs {
				st.Listeners = append(st.Listeners, a.String())
			}
			if err := s.trouble.get(); err != nil {
				st.ConfigError = err.Error()
			}
			s.online(st)
		},
	}
}

// revoked ends what a token that is gone had permitted.
func (s *server) revoked(token id.Token) {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	if err := s.hub.ask(ctx, func(now time.Time) { s.hub.role.Revoke(token, now) }); err != nil {
		s.log.Error("a revoked token is refused from now on, but who is connected with it stays so", "token", token, "error", err)
	}
}

// online marks the devices that are connected, and adds the relays.
func (s *server) online(st *admin.Status) {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	var clients []portal.Client
	var gateways []portal.Gateway
	var relays []portal.Relay
	if err := s.hub.ask(ctx, func(time.Time) { clients, gateways, relays = s.hub.role.Joined() }); err != nil {
		return
	}
	here := map[string]bool{}
	for _, c := range clients {
		here[c.ID.String()] = true
	}
	for _, g := range gateways {
		here[g.ID.String()] = true
	}
	for _, list := range [][]admin.Device{st.Clients, st.Gateways} {
		for i := range list {
			list[i].Online = here[list[i].ID]
		}
	}
	for _, r := range relays {
		view := admin.Relay{ID: r.ID().String(), Name: r.Name}
		for _, a := range []netip.Addr{r.IPv4, r.IPv6} {
			if a.IsValid() {
				view.Addrs = append(view.Addrs, netip.AddrPortFrom(a, r.Port).String())
			}
		}
		st.Relays = append(st.Relays, view)
	}
}
