package portal

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/wire"
)

// An Account is all that an administrator has decided. It is a value: the
// portal keeps it, nobody changes it afterwards.
type Account struct {
	ID         id.Account
	Name, Slug string
	Sites      []wire.Site
	Groups     []Group
	Resources  []Resource
	Policies   []Policy

	Do53         []netip.Addr // resolvers for clients; none: the system's
	DoH          []string     // https URLs; counts only without Do53
	SearchDomain string       // "" for none
	APIURL       string       // base URL for uploads of flow logs, which are off
}

// A Group is a set of actors. Everyone has all users, but no service accounts.
type Group struct {
	ID       id.Group
	Name     string
	Everyone bool
	Emails   []string // of users; compared without regard to case
	Services []string // names of service accounts; compared without regard to case
}

// An Actor is a user or a service account.
type Actor struct {
	ID      id.Actor
	Name    string
	Email   string
	Service bool
}

// The types of resources that gateways serve. IP is one address; it travels
// as CIDR with a full-length mask.
const (
	DNS      = wire.DNS
	CIDR     = wire.CIDR
	Internet = wire.Internet
	IP       = wire.ResourceType("ip")
)

// A Resource is something private in one site.
type Resource struct {
	ID          id.Resource
	Type        wire.ResourceType // DNS, CIDR, IP or Internet; see served
	Name        string
	Address     string // by type: pattern, prefix, address, ""
	Description string
	Site        id.Site
	IPStack     wire.IPStack
	Filters     []wire.Filter
}

// served reports whether gateways give access to r. Device pools, where
// clients would do so, are neither shown nor found.
func (r *Resource) served() bool {
	return r.Type == DNS || r.Type == CIDR || r.Type == IP || r.Type == Internet
}

// A Policy permits a group a resource while all conditions hold.
type Policy struct {
	ID         id.Policy
	Group      id.Group
	Resource   id.Resource
	Disabled   bool
	Conditions []Condition
	Expires    time.Time // when the permission ends for good; zero: never
}

// rules are an account made ready for questions.
type rules struct {
	Account
	resources map[id.Resource]*Resource
	sites     map[id.Site]wire.Site
	groups    map[id.Group]*group
	policies  map[id.Policy]*policy
	enabled   []*policy // in the order of the account
	granting  map[id.Resource][]*policy
	timed     bool // some policy depends on the time
}

type group struct {
	Group
	emails map[string]bool // lower case
}

type policy struct {
	Policy
	group      *group
	resource   *Resource
	conditions []condition
	// basis stands for everything an authorization rests on. One made on
	// another basis is void, also after a restart.
	basis string
}

// compile checks what references what. zones finds the time zones of
// conditions.
func (a Account) compile(zones Zones) (*rules, error) {
	r := &rules{
		Account: a, resources: map[id.Resource]*Resource{}, sites: map[id.Site]wire.Site{}, groups: map[id.Group]*group{},
		policies: map[id.Policy]*policy{}, granting: map[id.Resource][]*policy{},
	}
	for _, s := range a.Sites {
		r.sites[s.ID] = s
	}
	for _, g := range a.Groups {
		compiled := &group{Group: g, emails: map[string]bool{}}
		for _, email := range g.Emails {
			compiled.emails[strings.ToLower(email)] = true
		}
		r.groups[g.ID] = compiled
	}
	for i := range a.Resources {
		res := &a.Resources[i]
		if _, ok := r.sites[res.Site]; !ok && res.served() {
			return nil, fmt.Errorf("resource %q is in no known site", res.Name)
		}
		r.resources[res.ID] = res
	}
	for _, p := range a.Policies {
		if err := r.addPolicy(p, zones); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *rules) addPolicy(p Policy, zones Zones) error {
	compiled := &policy{Policy: p, group: r.groups[p.Group], resource: r.resources[p.Resource]}
	if compiled.group == nil || compiled.resource == nil {
		return fmt.Errorf("policy %s names an unknown group or resource", p.ID)
	}
	for _, c := range p.Conditions {
		condition, err := c.compile(zones)
		if err != nil {
			return fmt.Errorf("policy of group %q for %q: %w", compiled.group.Name, compiled.resource.Name, err)
		}
		compiled.conditions = append(compiled.conditions, condition)
	}
	compiled.basis = basis(p, compiled.resource)
	r.policies[p.ID] = compiled
	if !p.Disabled && compiled.resource.served() {
		r.enabled = append(r.enabled, compiled)
		r.granting[p.Resource] = append(r.granting[p.Resource], compiled)
		r.timed = r.timed || compiled.timed()
	}
	return nil
}

// timed reports whether p permits at some times only.
func (p *policy) timed() bool {
	return !p.Expires.IsZero() || slices.ContainsFunc(p.conditions, func(c condition) bool { return c.property == CurrentTime })
}

// basis digests what voids authorizations when it changes (spec portal.md
// 4.7): the policy, and the resource but for its name, description, filters.
func basis(p Policy, r *Resource) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", []string{
		p.ID.String(), p.Group.String(), p.Expires.UTC().String(), fmt.Sprintf("%q", p.Conditions),
		r.ID.String(), string(r.Type), r.Address, string(r.IPStack), r.Site.String(),
	}))
	return hex.EncodeToString(sum[:16])
}

// has reports whether actor is in the group.
func (g *group) has(actor Actor) bool {
	if actor.Service {
		return slices.ContainsFunc(g.Services, func(name string) bool { return strings.EqualFold(name, actor.Name) })
	}
	return g.Everyone || actor.Email != "" && g.emails[strings.ToLower(actor.Email)]
}

// A grant is a policy that permits, and until when; zero: for ever.
type grant struct {
	policy *policy
	until  time.Time
}

// better reports whether g lasts longer than h.
func (g grant) better(h grant) bool {
	return h.policy == nil || !h.until.IsZero() && (g.until.IsZero() || g.until.After(h.until))
}

// conforms returns the grant of p if all its conditions hold now; violated are
// the properties of those that do not, each once.
func (p *policy) conforms(at Circumstances, now time.Time) (g grant, violated []Property) {
	g = grant{policy: p, until: p.Expires}
	if !p.Expires.IsZero() && !now.Before(p.Expires) {
		return grant{}, nil
	}
	for i := range p.conditions {
		c := &p.conditions[i]
		if !c.holds(at, now) {
			if !slices.Contains(violated, c.property) {
				violated = append(violated, c.property)
			}
			continue
		}
		if until := c.until(now); !until.IsZero() && (g.until.IsZero() || until.Before(g.until)) {
			g.until = until
		}
	}
	if violated != nil {
		return grant{}, violated
	}
	return g, nil
}

// decide answers whether actor may reach a resource: by the grant that lasts
// longest (spec portal.md 5.8). Without one, violated tells the conditions in
// the way, and known whether the actor may learn that the resource exists.
func (r *rules) decide(resource id.Resource, actor Actor, at Circumstances, now time.Time) (best grant, violated []Property, known bool) {
	for _, p := range r.granting[resource] {
		if !p.group.has(actor) {
			continue
		}
		g, broken := p.conforms(at, now)
		if g.policy != nil && g.better(best) {
			best = g
		}
		for _, property := range broken {
			if !slices.Contains(violated, property) {
				violated = append(violated, property)
			}
		}
		known = known || g.policy != nil || broken != nil
	}
	if best.policy != nil {
		return best, nil, true
	}
	return grant{}, violated, known
}

// visible returns what actor may reach now, in the account's order.
func (r *rules) visible(actor Actor, at Circumstances, now time.Time) []*Resource {
	var list []*Resource
	seen := map[id.Resource]bool{}
	for _, p := range r.enabled {
		if seen[p.Resource] || !p.group.has(actor) {
			continue
		}
		if g, _ := p.conforms(at, now); g.policy != nil {
			seen[p.Resource] = true
			list = append(list, p.resource)
		}
	}
	return list
}

// clientView is r as clients see it (spec portal.md 3.1.4).
func (r *rules) clientView(res *Resource) wire.Resource {
	v := wire.Resource{
		ID: res.ID, Type: res.Type, Name: res.Name, Address: wireAddress(res), Description: res.Description,
		Sites: []wire.Site{r.sites[res.Site]}, Filters: res.Filters,
	}
	switch res.Type {
	case DNS:
		v.IPStack = res.IPStack
	case IP:
		v.Type = CIDR
	}
	return v
}

// gatewayView is r as gateways see it (spec portal.md 3.1.5).
func gatewayView(res *Resource) wire.GatewayResource {
	v := wire.GatewayResource{ID: res.ID, Type: res.Type, Name: res.Name, Address: wireAddress(res), Filters: res.Filters}
	switch res.Type {
	case IP:
		v.Type = CIDR
	case Internet:
		v = wire.GatewayResource{ID: res.ID, Type: Internet}
	}
	return v
}

// wireAddress writes prefixes without host bits and single addresses with
// full-length masks; peers refuse others (spec portal.md 0.3).
func wireAddress(res *Resource) string {
	switch res.Type {
	case CIDR:
		if p, err := netip.ParsePrefix(res.Address); err == nil {
			return p.Masked().String()
		}
	case IP:
		if a, err := netip.ParseAddr(res.Address); err == nil {
			return netip.PrefixFrom(a, a.BitLen()).String()
		}
	}
	return res.Address
}
