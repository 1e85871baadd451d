package console

import (
	"cmp"
	"slices"
	"time"

	"stile/app/menu"
	"stile/tunnel/ipc"
)

// A statusPage tells how things stand.
type statusPage struct {
	sessionPart
	Active   bool // there is a session, or was a moment ago
	Total    graph
	Gateways []gateway
	Machine  facts
	Routes   []string
}

// A graph is the traffic of the last minutes.
type graph struct {
	In, Out, Peak, Label        string // the latest rates, the top of the scale, all of it in words
	Width, Height               int
	Grid, Area, InLine, OutLine string // of an SVG
}

type gateway struct {
	ID, Title, Dot, Path string
	Graph                graph
	Facts                facts
}

func (p *statusPage) fill(bool) {
	p.fillSession()
	p.c.past.mu.Lock()
	h := &p.c.past.history
	p.Total = p.graph(&h.total)
	if s := p.view.State; s != nil {
		p.Active = s.Session.Phase == ipc.Connected || len(s.Connections) > 0
		p.gateways(s, h)
	}
	p.c.past.mu.Unlock()
	if s := p.view.State; s != nil && s.Tunnel.Interface != "" {
		p.machine(s)
	}
}

func (f *frame) graph(c *course) graph {
	in, out := c.in.rates(f.now), c.out.rates(f.now)
	peak := most(in, out)
	top := nice(peak)
	g := graph{
		In: rateText(f.T, in[len(in)-1]), Out: rateText(f.T, out[len(out)-1]),
		Width: graphWidth, Height: graphHeight, Grid: grid,
		InLine: curve(in, top), OutLine: curve(out, top),
	}
	g.Area = area(g.InLine)
	if peak > 0 {
		g.Peak = rateText(f.T, top)
	}
	g.Label = f.T.GraphLabel(g.In, g.Out, rateText(f.T, peak))
	return g
}

// grid are the lines at the top, the middle and the bottom of a graph.
const grid = "M0 6H300M0 32.5H300M0 59H300"

// gateways lists connections, the sites in order.
func (p *statusPage) gateways(s *ipc.State, h *history) {
	all := slices.Clone(s.Connections)
	slices.SortStableFunc(all, func(a, b ipc.Connection) int {
		return cmp.Or(cmp.Compare(a.Site, b.Site), a.Gateway.Compare(b.Gateway))
	})
	for i := range all {
		n := &all[i]
		g := gateway{ID: n.Gateway.String(), Title: menu.Plain(n.Site), Dot: "grey"}
		if g.Title == "" {
			g.Title = p.T.NoSite
		}
		switch {
		case n.State == "connecting":
			g.Path = p.T.StateConnecting
		case n.State == "idle":
			g.Path = p.T.StateIdle
		case n.Path == ipc.Direct:
			g.Path, g.Dot = p.T.PathDirect, "green"
		case n.Path == ipc.Relayed:
			g.Path, g.Dot = p.T.PathRelayed, "green"
		}
		c := h.of[n.Gateway]
		if c == nil {
			c = &course{}
		}
		g.Graph = p.graph(c)
		if n.RTTMicros > 0 {
			g.Facts.add(p.T.RoundTrip, tripText(p.T, time.Duration(n.RTTMicros)*time.Microsecond))
		}
		if !n.LastHandshake.IsZero() {
			g.Facts.add(p.T.Handshake, agoText(p.T, p.now.Sub(n.LastHandshake)))
		}
		g.Facts.add(p.T.Received, bytesText(p.T, n.Received))
		g.Facts.add(p.T.Sent, bytesText(p.T, n.Sent))
		if n.Remote.IsValid() {
			g.Facts.add(p.T.Address, n.Remote.String())
		}
		if n.Local.IsValid() {
			g.Facts.add(p.T.Uplink, n.Local.String())
		}
		g.Facts.add(p.T.Gateway, g.ID[:8])
		p.Gateways = append(p.Gateways, g)
	}
}

func (p *statusPage) machine(s *ipc.State) {
	p.Machine.add(p.T.Interface, menu.Plain(s.Tunnel.Interface))
	if a := s.Tunnel.IPv4; a.IsValid() {
		p.Machine.add("IPv4", a.String())
	}
	if a := s.Tunnel.IPv6; a.IsValid() {
		p.Machine.add("IPv6", a.String())
	}
	p.Machine = append(p.Machine, p.dns(s)...)
	for _, r := range s.Tunnel.Routes {
		p.Routes = append(p.Routes, r.String())
	}
}

// dns is how names are resolved.
func (f *frame) dns(s *ipc.State) (l facts) {
	l.add(f.T.DNSMode, menu.Plain(s.DNS.Mode))
	l.add(f.T.Resolvers, list(s.DNS.Sentinels))
	l.add(f.T.Upstream, joined(s.DNS.Upstream))
	l.add(f.T.SearchDomain, menu.Plain(s.DNS.SearchDomain))
	return l
}
