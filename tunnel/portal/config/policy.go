package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"stile/tunnel/id"
	"stile/tunnel/portal"
)

// everyoneName is the group that needs no list: all users, no service
// accounts (spec portal.md 9.1).
const everyoneName = "Everyone"

func (p *parser) group(n *node) {
	var g portal.Group
	var emails, services *node
	p.fields(n,
		field{"name", p.textInto(&g.Name)},
		field{"emails", func(n *node) { emails = n }},
		field{"services", func(n *node) { services = n }},
		field{"id", idInto(p, &g.ID)},
	)
	if !p.named(n, g.Name) {
		return
	}
	if strings.EqualFold(g.Name, everyoneName) {
		p.fail(n, "the group "+everyoneName+" exists already and has all users", "give yours another name")
		return
	}
	if emails != nil {
		p.emails(emails, &g)
	}
	if services != nil {
		p.services(services, &g)
	}
	var ok bool
	if g.ID, ok = p.groups.add(&p.reader, n, p.Account, g.Name, g.ID); ok {
		p.config.Account.Groups = append(p.config.Account.Groups, g)
	}
}

func (p *parser) emails(n *node, g *portal.Group) {
	seen := map[string]bool{}
	p.each(n, func(n *node) {
		s, ok := p.text(n)
		if !ok {
			return
		}
		local, domain, at := strings.Cut(s, "@")
		lower := strings.ToLower(s)
		switch {
		case !at || local == "" || domain == "" || len(s) > 254 || strings.ContainsAny(s, " \t,;<>") || strings.Contains(domain, "@"):
			p.fail(n, fmt.Sprintf("%.60q is not an e-mail address", s), "members of a group are named by the e-mail address they sign in with")
		case seen[lower]:
			p.warn(n, s+" is in this group twice", "")
		default:
			seen[lower] = true
			g.Emails = append(g.Emails, s)
			p.config.emails = append(p.config.emails, mention{lower, n.problem("", "")})
		}
	})
}

// services reads the names of service accounts: whatever token create was given.
func (p *parser) services(n *node, g *portal.Group) {
	p.each(n, func(n *node) {
		switch s, ok := p.text(n); {
		case !ok:
		case strings.Contains(s, "@"):
			p.fail(n, fmt.Sprintf("%.60q is the e-mail address of a user", s), "users are listed under emails; services has the names given to: token create --service NAME")
		case slices.ContainsFunc(g.Services, func(t string) bool { return strings.EqualFold(s, t) }):
			p.warn(n, s+" is in this group twice", "")
		default:
			g.Services = append(g.Services, s)
		}
	})
}

// everyone adds the group that is always there.
func (p *parser) everyone() {
	g := portal.Group{Name: everyoneName, Everyone: true}
	g.ID, _ = p.groups.add(&p.reader, &node{Node: &yaml.Node{}}, p.Account, g.Name, g.ID)
	p.config.Account.Groups = append(p.config.Account.Groups, g)
}

// policy reads one permission; a list of resources makes one for each.
func (p *parser) policy(n *node) {
	var base portal.Policy
	var name string
	var group, resource, resources, conditions, expires, explicit *node
	keep := func(dst **node) func(*node) { return func(n *node) { *dst = n } }
	before := len(p.problems) + p.hidden
	p.fields(n,
		field{"name", p.textInto(&name)},
		field{"group", keep(&group)},
		field{"resource", keep(&resource)},
		field{"resources", keep(&resources)},
		field{"conditions", keep(&conditions)},
		field{"expires", keep(&expires)},
		field{"disabled", p.boolInto(&base.Disabled)},
		field{"id", func(n *node) { explicit = n; idInto(p, &base.ID)(n) }},
	)
	if len(p.problems)+p.hidden > before || n.Kind != yaml.MappingNode {
		return
	}
	switch {
	case group == nil:
		p.fail(n, "does not say which group", "add `group:` with a name from groups, or Everyone")
	case (resource == nil) == (resources == nil):
		p.fail(n, "needs either resource or resources", "add `resource:` with a name from resources")
	case resources != nil && explicit != nil:
		p.fail(explicit, "one id cannot be that of several policies", "remove it, or write one policy for each resource")
	}
	groupName := p.policyGroup(group, &base)
	if conditions != nil {
		p.conditions(conditions, &base)
	}
	if expires != nil {
		p.expires(expires, &base)
	}
	if len(p.problems)+p.hidden > before {
		return
	}
	grant := func(n *node) { p.grant(n, base, groupName, name) }
	if resource != nil {
		grant(resource)
	} else {
		p.each(resources, grant)
	}
}

func (p *parser) policyGroup(n *node, base *portal.Policy) string {
	if n == nil {
		return ""
	}
	name, ok := p.text(n)
	if ok {
		base.Group, _ = p.groups.find(&p.reader, n, name)
	}
	return name
}

// grant adds the policy for the resource that is named at n. Its ID comes from
// the names of group, resource and policy, so that two for the same pair need
// names of their own.
func (p *parser) grant(n *node, policy portal.Policy, group, name string) {
	resource, ok := p.text(n)
	if !ok {
		return
	}
	if policy.Resource, ok = p.resources.find(&p.reader, n, resource); !ok {
		return
	}
	full := group + " → " + resource
	if name != "" {
		full += " (" + name + ")"
	}
	if line, taken := p.policies.at[full]; taken {
		p.fail(n, "line "+itoa(line)+" has a policy for this group and resource already", "give one of them a `name:`")
		return
	}
	if policy.ID, ok = p.policies.add(&p.reader, n, p.Account, full, policy.ID); ok {
		p.config.Account.Policies = append(p.config.Account.Policies, policy)
	}
}

// conditions reads what must hold besides; at most one for each property (spec
// portal.md 9.4).
func (p *parser) conditions(n *node, policy *portal.Policy) {
	seen := map[portal.Property]bool{}
	p.each(n, func(n *node) {
		var c portal.Condition
		var property string
		before := len(p.problems) + p.hidden
		p.fields(n,
			field{"property", p.textInto(&property)},
			field{"operator", p.textInto(&c.Operator)},
			field{"values", func(n *node) {
				p.each(n, func(n *node) {
					s, _ := p.text(n)
					c.Values = append(c.Values, s)
				})
			}},
		)
		if len(p.problems)+p.hidden > before {
			return
		}
		c.Property = portal.Property(property)
		if property == "" || c.Operator == "" || len(c.Values) == 0 {
			p.fail(n, "needs property, operator and values", "write them like {property: remote_ip, operator: is_in_cidr, values: [192.0.2.0/24]}")
			return
		}
		if err := c.Check(p.Zones); err != nil {
			p.fail(n, err.Error(), "")
			return
		}
		if seen[c.Property] {
			p.fail(n, "has another condition on "+property, "put all values into one condition")
			return
		}
		seen[c.Property] = true
		policy.Conditions = append(policy.Conditions, c)
	})
}

func (p *parser) expires(n *node, policy *portal.Policy) {
	s, ok := p.text(n)
	if !ok {
		return
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		p.fail(n, fmt.Sprintf("%.40q is not a date with time and zone", s), "write it like 2027-01-31T18:00:00Z")
		return
	}
	policy.Expires = t
}

// unreachable warns of resources that no policy permits to anybody.
func (p *parser) unreachable() {
	granted := map[id.Resource]bool{}
	for _, policy := range p.config.Account.Policies {
		granted[policy.Resource] = true
	}
	for _, r := range p.config.Account.Resources {
		if !granted[r.ID] {
			at := &node{Node: &yaml.Node{Line: p.resources.at[r.Name], Column: 1}}
			p.warn(at, "nobody may reach the resource "+quote(r.Name), "add a policy for it")
		}
	}
}

// fewEnough is about how many resources fit into the one message that tells a
// client of all of them (wire.MaxFrame).
const fewEnough = 20_000

// crowded warns of groups whose members may reach more than they can be told.
func (p *parser) crowded() {
	type pair struct {
		group    id.Group
		resource id.Resource
	}
	seen, count := map[pair]bool{}, map[id.Group]int{}
	for _, policy := range p.config.Account.Policies {
		if key := (pair{policy.Group, policy.Resource}); !seen[key] {
			seen[key] = true
			count[policy.Group]++
		}
	}
	for _, g := range p.config.Account.Groups {
		if n := count[g.ID]; n > fewEnough {
			at := &node{Node: &yaml.Node{Line: p.groups.at[g.Name], Column: 1}}
			p.warn(at, fmt.Sprintf("the group %s may reach %d resources; clients can be told of about %d", quote(g.Name), n, fewEnough),
				"grant fewer, or cover many with one resource such as *.example.com or 10.0.0.0/8")
		}
	}
}

// A mention is where an e-mail address stands.
type mention struct {
	email string // lower case
	at    Problem
}

// UnknownEmails warns of members of groups who are not users yet. known is
// asked with addresses in lower case.
func (c *Config) UnknownEmails(known func(email string) bool) Problems {
	var list Problems
	told := map[string]bool{}
	for _, m := range c.emails {
		if told[m.email] || known(m.email) {
			continue
		}
		told[m.email] = true
		w := m.at
		w.Text, w.Help = "there is no user "+m.email, "add one with `stile-server portal user add "+m.email+"`, or correct the address"
		list = append(list, w)
	}
	return list
}
