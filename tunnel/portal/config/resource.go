package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"stile/tunnel/policy"
	"stile/tunnel/portal"
	"stile/tunnel/wire"
)

// Ranges that resources and resolvers may not touch, because the tunnel's own
// addresses are in them (spec portal.md 5.2).
var reserved = []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("fd00:2021:1111::/48")}

func overlapsTunnel(p netip.Prefix) bool {
	return slices.ContainsFunc(reserved, p.Overlaps)
}

func (p *parser) resource(n *node) {
	var r portal.Resource
	var kind, address, site, stack, filters *node
	keep := func(dst **node) func(*node) { return func(n *node) { *dst = n } }
	before := len(p.problems) + p.hidden
	p.fields(n,
		field{"name", p.textInto(&r.Name)},
		field{"type", keep(&kind)},
		field{"address", keep(&address)},
		field{"site", keep(&site)},
		field{"description", p.textInto(&r.Description)},
		field{"ip_stack", keep(&stack)},
		field{"filters", keep(&filters)},
		field{"id", idInto(p, &r.ID)},
	)
	if len(p.problems)+p.hidden > before {
		return
	}
	p.resourceType(n, kind, address, &r)
	p.resourceAddress(n, address, &r)
	p.resourceSite(n, site, &r)
	if stack != nil {
		p.ipStack(stack, &r)
	}
	if filters != nil {
		p.filters(filters, &r)
	}
	if r.Name == "" {
		r.Name = r.Address
	}
	if len(p.problems)+p.hidden > before || !p.named(n, r.Name) {
		return
	}
	var ok bool
	if r.ID, ok = p.resources.add(&p.reader, n, p.Account, r.Name, r.ID); ok {
		p.config.Account.Resources = append(p.config.Account.Resources, r)
	}
}

// resourceType reads the type or tells it from the address.
func (p *parser) resourceType(n, kind, address *node, r *portal.Resource) {
	if kind == nil {
		r.Type = wire.DNS
		if address != nil {
			r.Type = typeOf(address.Value)
		}
		return
	}
	s, ok := p.text(kind)
	if !ok {
		return
	}
	switch r.Type = wire.ResourceType(s); r.Type {
	case portal.DNS, portal.CIDR, portal.IP:
	case portal.Internet:
		for _, other := range p.config.Account.Resources {
			if other.Type == portal.Internet {
				p.fail(kind, "there is an internet resource already, "+quote(other.Name), "an account has at most one")
			}
		}
	case wire.StaticDevicePool, wire.DynamicDevicePool:
		p.fail(kind, "device pools are not supported", "remove the resource; reach devices through a gateway in their network")
	default:
		p.fail(kind, fmt.Sprintf("%.40q is not a type of resource", s), "use dns, cidr, ip or internet, or leave the line out")
	}
}

func typeOf(address string) wire.ResourceType {
	if _, err := netip.ParsePrefix(address); err == nil {
		return portal.CIDR
	}
	if _, err := netip.ParseAddr(address); err == nil {
		return portal.IP
	}
	return portal.DNS
}

// resourceAddress checks the rules of spec portal.md 9.2.
func (p *parser) resourceAddress(n, address *node, r *portal.Resource) {
	if r.Type == portal.Internet {
		if address != nil {
			p.fail(address, "an internet resource has no address", "remove the line")
		}
		if r.Name == "" {
			r.Name = "Internet Resource"
		}
		return
	}
	if address == nil {
		p.fail(n, "has no address", "write `address:` with a name like *.corp.example, a prefix or an IP address")
		return
	}
	s, ok := p.text(address)
	if !ok {
		return
	}
	r.Address = s
	switch r.Type {
	case portal.DNS:
		p.pattern(address, r)
	case portal.CIDR, portal.IP:
		p.prefix(address, r)
	}
}

func (p *parser) pattern(n *node, r *portal.Resource) {
	if strings.ContainsAny(r.Address, ":/@") {
		p.fail(n, fmt.Sprintf("%.60q is not a domain name", r.Address), "write the name alone, without scheme, port or path; ports go into filters")
	} else if err := policy.CheckPattern(r.Address); err != nil {
		p.fail(n, err.Error(), "write a name like wiki.corp.example or *.corp.example")
	}
}

func (p *parser) prefix(n *node, r *portal.Resource) {
	prefix, err := parsePrefix(r.Address)
	single := !strings.Contains(r.Address, "/")
	switch {
	case err != nil || single != (r.Type == portal.IP):
		p.fail(n, fmt.Sprintf("%.60q is not of type %s", r.Address, r.Type), "write 10.1.0.0/16 for cidr, 10.1.2.3 for ip, or leave type out")
		return
	case prefix.Bits() == 0:
		p.fail(n, "covers everything", "use a resource with `type: internet`")
	case prefix.Addr().IsLoopback():
		p.fail(n, "is a loopback address, which means another machine to everyone", "use the address in the gateway's network")
	case overlapsTunnel(prefix):
		p.fail(n, "overlaps the tunnel's own addresses, 100.64.0.0/10 and fd00:2021:1111::/48", "such a network cannot be a resource; use a DNS resource for machines in it")
	}
	if !single && prefix.String() != r.Address {
		p.warn(n, r.Address+" is taken as "+prefix.String(), "write that to be clear")
		r.Address = prefix.String()
	}
}

// resourceSite reads the site; an account with one site need not name it.
func (p *parser) resourceSite(n, site *node, r *portal.Resource) {
	sites := p.config.Account.Sites
	switch {
	case site != nil:
		if name, ok := p.text(site); ok {
			r.Site, _ = p.sites.find(&p.reader, site, name)
		}
	case len(sites) == 1:
		r.Site = sites[0].ID
	default:
		p.fail(n, "does not say through which site it is reached", "add `site:` with a name from sites")
	}
}

func (p *parser) ipStack(n *node, r *portal.Resource) {
	s, ok := p.text(n)
	if !ok {
		return
	}
	r.IPStack = wire.IPStack(s)
	switch {
	case r.Type != portal.DNS:
		p.fail(n, "is for DNS resources", "remove the line")
	case r.IPStack != wire.Dual && r.IPStack != wire.IPv4Only && r.IPStack != wire.IPv6Only:
		p.fail(n, fmt.Sprintf("%.40q is unknown", s), "use dual, ipv4_only or ipv6_only")
	}
}

// filters reads the list of what is let through: tcp, tcp/443, tcp/80,443,
// udp/5000-5010, icmp (spec portal.md 9.3).
func (p *parser) filters(n *node, r *portal.Resource) {
	if r.Type == portal.Internet {
		p.fail(n, "an internet resource has no filters", "remove them")
		return
	}
	p.each(n, func(n *node) {
		s, ok := p.text(n)
		if !ok {
			return
		}
		parsed, err := parseFilter(s)
		if err != nil {
			p.fail(n, err.Error(), "write it like tcp/443, tcp/8000-8100, udp or icmp")
			return
		}
		for _, f := range parsed {
			if overlap := slices.IndexFunc(r.Filters, func(g wire.Filter) bool { return overlaps(f, g) }); overlap >= 0 {
				p.fail(n, fmt.Sprintf("%.60q repeats ports of another filter", s), "keep one of them")
				return
			}
			r.Filters = append(r.Filters, f)
		}
	})
}

func overlaps(f, g wire.Filter) bool {
	return f.Protocol == g.Protocol && f.First <= g.Last && g.First <= f.Last
}

func parseFilter(s string) ([]wire.Filter, error) {
	name, ports, hasPorts := strings.Cut(strings.ReplaceAll(s, " ", ""), "/")
	f := wire.Filter{Last: 65535}
	switch name {
	case "tcp":
		f.Protocol = wire.TCP
	case "udp":
		f.Protocol = wire.UDP
	case "icmp":
		if hasPorts {
			return nil, fmt.Errorf("%.60q: ICMP has no ports", s)
		}
		return []wire.Filter{{Protocol: wire.ICMP}}, nil
	default:
		return nil, fmt.Errorf("%.60q: the protocol is not tcp, udp or icmp", s)
	}
	if !hasPorts {
		return []wire.Filter{f}, nil
	}
	var list []wire.Filter
	for text := range strings.SplitSeq(ports, ",") {
		first, last, isRange := strings.Cut(text, "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil || from == 0 || from > to {
			return nil, fmt.Errorf("%.60q: %.20q is no port or range of 1 to 65535", s, text)
		}
		f.First, f.Last = uint16(from), uint16(to)
		list = append(list, f)
	}
	return list, nil
}
