package operator

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"stile/tunnel/gateway"
	"stile/tunnel/id"
	"stile/tunnel/wire"
)

// Resources are those that clients are authorized for, sorted by name.
type Resources struct {
	Time      time.Time  `json:"time"`
	Matched   int        `json:"matched_names"` // that stand for something, of all resources
	Shown     int        `json:"shown_names"`   // of them
	Resources []Resource `json:"resources"`
}

// A Resource is something that clients are authorized for.
type Resource struct {
	ID      id.Resource       `json:"id"`
	Name    string            `json:"name"`
	Type    wire.ResourceType `json:"type"`
	Address string            `json:"address"`
	Filters []string          `json:"filters"` // none: all is permitted
	Clients []Grantee         `json:"clients"` // sorted by tunnel address
	Names   []Name            `json:"names"`   // of a DNS resource: what clients resolved, sorted
}

// A Grantee is a client that may use a resource.
type Grantee struct {
	Client    id.Client  `json:"client_id"`
	IPv4      netip.Addr `json:"ipv4"`
	Actor     string     `json:"actor,omitempty"`
	ExpiresAt time.Time  `json:"expires_at,omitzero"` // missing: never
}

// A Name is what a client resolved, and its proxy addresses.
type Name struct {
	Name    string          `json:"name"`
	Client  id.Client       `json:"client_id"`
	IPv4    netip.Addr      `json:"client_ipv4"`
	Actor   string          `json:"actor,omitempty"`
	Answer  []netip.Addr    `json:"answer"` // of DNS, the latest
	Proxies []gateway.Proxy `json:"proxies"`
}

// Resources looks at one client after the other. A name that was announced for
// several resources is with each of them.
func (o *Operator) Resources(q Query) Resources {
	r := Resources{Time: time.Now().UTC().Truncate(time.Millisecond), Resources: []Resource{}}
	at := map[id.Resource]*Resource{}
	for _, k := range o.clients() {
		if !q.matchClient(&k) {
			continue
		}
		for _, a := range k.Authorizations {
			res := at[a.Resource]
			if res == nil {
				res = &Resource{ID: a.Resource, Name: a.Name, Type: a.Type, Address: a.Address, Filters: a.Filters, Clients: []Grantee{}, Names: []Name{}}
				at[a.Resource] = res
			}
			res.Clients = append(res.Clients, Grantee{k.ID, k.IPv4, k.Actor, a.ExpiresAt})
		}
		r.addNames(o.proxies(k.ID), &k, at, q)
	}
	for _, res := range at {
		if len(res.Names) > 0 || q.matchName(res.Name, res.Address) {
			slices.SortStableFunc(res.Names, func(a, b Name) int { return strings.Compare(a.Name, b.Name) })
			r.Resources = append(r.Resources, *res)
		}
	}
	slices.SortFunc(r.Resources, func(a, b Resource) int { return cmp.Or(strings.Compare(a.Name, b.Name), a.ID.Compare(b.ID)) })
	return r
}

// proxies looks at a client's proxy addresses page by page, and returns them
// sorted by name, then address.
func (o *Operator) proxies(who id.Client) (list []gateway.Proxy) {
	var addrs []netip.Addr
	o.inspect(func(c *gateway.Core, _ gateway.Moment) { addrs = c.ProxyAddrs(nil, who) })
	for page := range slices.Chunk(addrs, gateway.PageSize/4) {
		o.inspect(func(c *gateway.Core, m gateway.Moment) { list = c.ProxiesOf(list, who, page, m) })
	}
	slices.SortFunc(list, func(a, b gateway.Proxy) int { return cmp.Or(strings.Compare(a.Name, b.Name), a.Addr.Compare(b.Addr)) })
	return list
}

// addNames gives a client's names to the resources they were announced for.
func (r *Resources) addNames(list []gateway.Proxy, k *gateway.Client, at map[id.Resource]*Resource, q Query) {
	for len(list) > 0 {
		n := slices.IndexFunc(list, func(p gateway.Proxy) bool { return p.Name != list[0].Name })
		if n < 0 {
			n = len(list)
		}
		name := Name{Name: list[0].Name, Client: k.ID, IPv4: k.IPv4, Actor: k.Actor, Answer: []netip.Addr{}, Proxies: list[:n]}
		var resources []id.Resource
		for _, p := range name.Proxies {
			name.Answer = append(name.Answer, p.Latest...)
			resources = append(resources, p.Resources...)
		}
		name.Answer = sortedSet(name.Answer, netip.Addr.Compare)
		for _, which := range sortedSet(resources, id.Resource.Compare) {
			res := at[which]
			if res == nil || !q.matchName(name.Name, res.Name) {
				continue
			}
			if r.Matched++; r.Shown < q.Limit {
				r.Shown++
				res.Names = append(res.Names, name)
			}
		}
		list = list[n:]
	}
}

func sortedSet[E comparable](list []E, compare func(E, E) int) []E {
	slices.SortFunc(list, compare)
	return slices.Compact(list)
}
