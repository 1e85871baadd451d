package client

import (
	"cmp"
	"slices"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/id"
)

// What a report says about a resource.
const (
	unknown = "unknown"
	online  = "online"
	offline = "offline"
)

// Report fills r. Resources are sorted by name.
func (c *Core) Report(r *core.Report, now time.Time) {
	*r = core.Report{
		PortalUp:    c.portalUp,
		TUN:         c.tun.last,
		Connections: c.paths.Report(nil),
		Resources:   make([]core.Resource, 0, len(c.resources)),
		Counters:    c.counters(),
	}
	r.TUN.Routes = slices.Clone(r.TUN.Routes)
	r.TUN.Sentinels = slices.Clone(r.TUN.Sentinels)
	sites := c.sites(now)
	named := make(map[id.Site]string)
	for _, res := range c.resources {
		out := core.Resource{
			ID: res.ID, Name: res.Name, Address: res.Address, Description: res.Description, Type: res.Type,
			State: stateOf(res, sites),
		}
		for _, s := range res.Sites {
			out.Sites = append(out.Sites, s.Name)
			named[s.ID] = s.Name
		}
		r.Resources = append(r.Resources, out)
	}
	for i := range r.Connections {
		if g := c.gateways[id.GatewayOf(r.Connections[i].Peer)]; g != nil {
			r.Connections[i].Site = named[g.site]
		}
	}
	slices.SortFunc(r.Resources, func(a, b core.Resource) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.ID.Compare(b.ID))
	})
}

// Brief implements core.Briefer.
func (c *Core) Brief(r *core.Report, _ time.Time) {
	*r = core.Report{PortalUp: c.portalUp, Connections: c.paths.Report(nil), Counters: c.counters()}
	for i := range r.Connections {
		if g := c.gateways[id.GatewayOf(r.Connections[i].Peer)]; g != nil {
			r.Connections[i].Site = g.site.String()
		}
	}
}

// sites tells what is known about sites: those with a gateway that we are
// connected to are online, those the portal said so about are offline for a
// while.
func (c *Core) sites(now time.Time) map[id.Site]string {
	known := make(map[id.Site]string)
	for s, until := range c.offline {
		if now.Before(until) {
			known[s] = offline
		}
	}
	for _, g := range c.gateways {
		if g.up {
			known[g.site] = online
		}
	}
	return known
}

func stateOf(r *resource, sites map[id.Site]string) string {
	state := unknown
	for _, s := range r.Sites {
		switch sites[s.ID] {
		case online:
			return online
		case offline:
			state = offline
		}
	}
	return state
}
