package menu

import (
	"slices"

	"stile/tunnel/id"
	"stile/tunnel/ipc"
)

// A list of more than longList resources is cut into parts of partOf, so that
// a menu fits the screen.
const (
	longList = 30
	partOf   = 25
)

const internetType = "internet"

// resources adds the list of what can be reached: favourites and the Internet
// resource up here, if there are any favourites, the others below.
func (b *builder) resources() {
	var listed, favorites, others []*ipc.Resource
	for i := range b.State.Resources {
		r := &b.State.Resources[i]
		switch r.Type {
		case "dns", "cidr", internetType:
		default:
			continue // pools of devices have no address of their own to reach
		}
		listed = append(listed, r)
		if r.Type == internetType || b.isFavorite(r.ID) {
			favorites = append(favorites, r)
		} else {
			others = append(others, r)
		}
	}
	if !slices.ContainsFunc(listed, func(r *ipc.Resource) bool { return b.isFavorite(r.ID) }) {
		favorites, others = nil, listed
	}
	switch {
	case len(listed) == 0:
		b.text("resources", b.w.NoResources)
	case len(favorites) == 0:
		b.text("resources", b.w.Resources)
		b.items = append(b.items, b.list(others)...)
	default:
		b.text("resources", b.w.FavoriteResources)
		b.items = append(b.items, b.list(favorites)...)
		if len(others) > 0 {
			b.separator("before-others")
			b.items = append(b.items, Item{Key: "others", Kind: Sub, Title: b.w.OtherResources, Items: b.list(others)})
		}
	}
}

func (b *builder) isFavorite(r id.Resource) bool { return slices.Contains(b.Favorites, r) }

// list is one item for each resource, or one for each part of a long list. The
// key of a part is that of its first resource.
func (b *builder) list(resources []*ipc.Resource) []Item {
	if len(resources) <= longList {
		items := make([]Item, 0, len(resources))
		for _, r := range resources {
			items = append(items, b.resource(r))
		}
		return items
	}
	var items []Item
	if resources[0].Type == internetType { // its switch stays at hand
		items, resources = append(items, b.resource(resources[0])), resources[1:]
	}
	for part := range slices.Chunk(resources, partOf) {
		first, last := part[0], part[len(part)-1]
		items = append(items, Item{
			Key: "from/" + first.ID.String(), Kind: Sub, Items: b.list(part),
			Title: line(b.w.Range(name(first), name(last))),
		})
	}
	return items
}

// name is what a resource is called; an administrator may have left it empty.
func name(r *ipc.Resource) string {
	if n := plain(r.Name); n != "" {
		return n
	}
	return plain(r.Address)
}

// resource is the sub-menu of one resource.
func (b *builder) resource(r *ipc.Resource) Item {
	key := r.ID.String()
	s := builder{View: b.View, w: b.w}
	title := line(name(r))
	if r.Type == internetType {
		title = s.internet(key, title)
	} else {
		s.named(key, r)
	}
	dot, standing := b.standing(r)
	if len(r.Sites) > 0 {
		s.separator(key + "/before-site")
		s.text(key+"/site", b.w.Site)
		s.action(key+"/site-name", r.Sites[0], Copy{plain(r.Sites[0])})
	}
	s.items = append(s.items, Item{Key: key + "/standing", Kind: Action, Title: standing, Dot: dot, Command: Copy{standing}})
	if r.Problem != nil && r.Problem.Code != ipc.InternetIsOff {
		s.action(key+"/why", b.w.Why, Show{ResourcesPage})
	}
	return Item{Key: key, Kind: Sub, Title: title, Items: s.items}
}

// internet adds the switch of the Internet resource and returns its title.
func (b *builder) internet(key, title string) string {
	b.text(key+"/all", b.w.AllTraffic)
	b.separator(key + "/before-switch")
	on := b.State.Internet.On
	if on {
		b.action(key+"/switch", b.w.DisableInternet, SetInternet{false})
		return line("<-> " + title)
	}
	b.action(key+"/switch", b.w.EnableInternet, SetInternet{true})
	return line("— " + title)
}

// named adds what is known of a resource with a name.
func (b *builder) named(key string, r *ipc.Resource) {
	switch description := plain(r.Description); {
	case web(r.Description):
		b.action(key+"/description", "<"+r.Description+">", Open{r.Description})
	case description != "":
		b.action(key+"/description", description, Copy{description})
	default:
		b.action(key+"/description", r.Address, Copy{plain(r.Address)})
	}
	b.separator(key + "/before-name")
	b.text(key+"/resource", b.w.Resource)
	b.action(key+"/name", name(r), Copy{name(r)})
	b.action(key+"/address", r.Address, Copy{plain(r.Address)})
	on := b.isFavorite(r.ID)
	title := b.w.AddFavorite
	if on {
		title = b.w.RemoveFavorite
	}
	b.items = append(b.items, Item{Key: key + "/favorite", Kind: Check, Title: title, On: on, Command: Favorite{r.ID, !on}})
}

// standing tells how the gateways of a resource stand.
func (b *builder) standing(r *ipc.Resource) (Dot, string) {
	if r.Problem != nil {
		return b.trouble(r.Problem)
	}
	switch r.State {
	case ipc.Offline:
		return Red, b.w.Offline
	case ipc.Online:
		return Green, b.connection(r)
	}
	return Grey, b.w.NoActivity
}

func (b *builder) trouble(p *ipc.Problem) (Dot, string) {
	switch p.Code {
	case ipc.SiteOffline:
		return Red, b.w.Offline
	case ipc.GatewayTooOld:
		return Red, b.w.GatewayOld
	case ipc.AccessForbidden:
		return Red, b.w.Forbidden
	case ipc.NotConnected:
		return Grey, b.w.NotNow
	case ipc.InternetIsOff:
		return Grey, b.w.InternetOff
	}
	return Red, line(b.w.Problem(p))
}

// connection tells which way packets to a resource's site go.
func (b *builder) connection(r *ipc.Resource) string {
	for _, c := range b.State.Connections {
		if !slices.Contains(r.Sites, c.Site) {
			continue
		}
		switch c.Path {
		case ipc.Direct:
			return b.w.Direct
		case ipc.Relayed:
			return b.w.Relayed
		}
	}
	return b.w.Connected
}
