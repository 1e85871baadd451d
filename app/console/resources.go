package console

import (
	"slices"
	"strings"

	"stile/app/menu"
	"stile/tunnel/ipc"
)

// fewRows is how many resources are shown until the user wants all.
const fewRows = 100

// A resourcesPage lists what can be reached.
type resourcesPage struct {
	*frame
	Query, Show string
	Chips       []chip
	Rows        []row
	Found       int
	Hidden      int
	More        string // address of a page that shows all; "": this one does
	Empty       string // why there is nothing
}

// A chip chooses which resources are shown.
type chip struct {
	Title, Link string
	Count       int
	Current     bool
}

type row struct {
	ID, Name, Address, Description, URL string
	Sites                               []string
	Dot, State, Reason, Why             string
	Internet, Switch, On, Favorite      bool
}

func (p *resourcesPage) fill(bool) {
	p.Query, p.Show = p.q.q, p.q.show
	var all, favorites, blocked int
	if s := p.view.State; s != nil {
		for i := range s.Resources {
			r := &s.Resources[i]
			if !menu.Listed(r) || !matches(p.Query, r.Name, r.Address, r.Description, strings.Join(r.Sites, "\n")) {
				continue
			}
			favorite, bad := slices.Contains(p.view.Favorites, r.ID), isBlocked(r)
			all++
			if favorite {
				favorites++
			}
			if bad {
				blocked++
			}
			if p.Show == "favorites" && !favorite || p.Show == "blocked" && !bad {
				continue
			}
			if p.Found++; len(p.Rows) < fewRows || p.q.all {
				p.Rows = append(p.Rows, p.row(s, r, favorite))
			}
		}
	}
	for _, c := range []struct {
		title, show string
		count       int
	}{{p.T.All, "", all}, {p.T.Favorites, "favorites", favorites}, {p.T.Blocked, "blocked", blocked}} {
		p.Chips = append(p.Chips, chip{c.title, p.link(query{q: p.Query, show: c.show}), c.count, p.Show == c.show})
	}
	if p.Hidden = p.Found - len(p.Rows); p.Hidden > 0 {
		p.More = p.link(query{q: p.Query, show: p.Show, all: true})
	}
	p.Empty = p.empty()
}

func (p *resourcesPage) link(q query) string {
	return p.Base + "/" + string(menu.ResourcesPage) + q.String()
}

func (p *resourcesPage) empty() string {
	switch s := p.view.State; {
	case s == nil || s.Session.Phase != ipc.Connected && len(s.Resources) == 0:
		return p.T.EmptyOut
	case p.Query != "":
		return p.T.EmptySearch
	case p.Show == "favorites":
		return p.T.EmptyFavorites
	case p.Show == "blocked":
		return p.T.EmptyBlocked
	}
	return p.T.EmptyAll
}

func (p *resourcesPage) row(s *ipc.State, r *ipc.Resource, favorite bool) row {
	w := row{ID: r.ID.String(), Name: menu.Name(r), Address: menu.Plain(r.Address), Favorite: favorite}
	for _, site := range r.Sites {
		w.Sites = append(w.Sites, menu.Plain(site))
	}
	if menu.IsWeb(r.Description) {
		w.URL = r.Description
	} else {
		w.Description = menu.Plain(r.Description)
	}
	dot, standing := menu.Standing(p.W, s, r)
	w.Dot, w.State = dot.String(), standing
	if menu.IsInternet(r) {
		w.Internet, w.Switch, w.On = true, true, s.Internet.On
	}
	if isBlocked(r) {
		if r.Problem != nil {
			w.Reason = menu.Plain(p.W.Problem(r.Problem))
		}
		if !w.Internet {
			w.Why = p.Base + "/why" + query{why: w.Address}.String()
		}
	}
	return w
}
