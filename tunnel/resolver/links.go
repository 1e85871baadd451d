package resolver

import (
	"net/netip"
	"slices"
	"strings"

	"stile/tunnel/id"
	"stile/tunnel/packet"
	"stile/tunnel/policy"
	"stile/tunnel/wire"
)

// A Resource is a DNS resource: the names it covers and what it lets through.
type Resource struct {
	ID      id.Resource
	Pattern policy.Pattern
	Stack   wire.IPStack
	Filters policy.Filters // borrowed until the resource is replaced or removed

	place int // in its list of links.bySuffix
}

// supports tells whether the resource is reached by addresses of a's family (14).
func (r *Resource) supports(a netip.Addr) bool {
	return r.Stack != wire.IPv6Only && a.Is4() || r.Stack != wire.IPv4Only && a.Is6()
}

// links tell which resources cover a name. Patterns are filed under the labels
// they end in, up to the first wildcard, so that a query looks at few of them
// however many there are. The links of a name are found when they are needed
// and count until any resource changes.
type links struct {
	resources map[id.Resource]*Resource
	bySuffix  map[string][]*Resource
	changes   uint64 // how often resources changed
}

func (l *links) init() {
	l.resources = make(map[id.Resource]*Resource)
	l.bySuffix = make(map[string][]*Resource)
}

func (l *links) upsert(r Resource) {
	l.remove(r.ID)
	l.resources[r.ID] = &r
	suffix := literalSuffix(r.Pattern)
	r.place = len(l.bySuffix[suffix])
	l.bySuffix[suffix] = append(l.bySuffix[suffix], &r)
	l.changes++
}

func (l *links) remove(r id.Resource) {
	old := l.resources[r]
	if old == nil {
		return
	}
	delete(l.resources, r)
	suffix := literalSuffix(old.Pattern)
	list := l.bySuffix[suffix]
	last := list[len(list)-1]
	list[old.place], last.place = last, old.place
	list[len(list)-1] = nil
	if l.bySuffix[suffix] = list[:len(list)-1]; len(list) == 1 {
		delete(l.bySuffix, suffix)
	}
	l.changes++
}

// literalSuffix returns the labels after the last one with a wildcard; all
// names that p matches end in them.
func literalSuffix(p policy.Pattern) string {
	s := p.String()
	wild := strings.LastIndexAny(s, "*?")
	if wild < 0 {
		return s
	}
	dot := strings.IndexByte(s[wild:], '.')
	if dot < 0 {
		return ""
	}
	return s[wild+dot+1:]
}

// each calls f with the resources that cover name until f returns false.
func (l *links) each(name string, f func(*Resource) bool) {
	for suffix, more := name, true; more; {
		for _, r := range l.bySuffix[suffix] {
			if r.Pattern.Match(name) && !f(r) {
				return
			}
		}
		if suffix == "" {
			return
		}
		if _, suffix, more = strings.Cut(suffix, "."); !more {
			suffix, more = "", true
		}
	}
}

// covered reports whether a resource covers name.
func (l *links) covered(name string) (yes bool) {
	l.each(name, func(*Resource) bool { yes = true; return false })
	return yes
}

// of returns the resources that cover n, best first: more specific pattern,
// then higher ID (12.4).
func (l *links) of(n *Name) []*Resource {
	if n.linked != l.changes {
		n.linked = l.changes
		n.links = n.links[:0]
		l.each(n.FQDN, func(r *Resource) bool { n.links = append(n.links, r); return true })
		slices.SortFunc(n.links, func(a, b *Resource) int {
			if a.Pattern != b.Pattern {
				return policy.ComparePatterns(a.Pattern, b.Pattern)
			}
			return b.ID.Compare(a.ID)
		})
	}
	return n.links
}

// families tells for which families a resource of n has addresses (14).
func (l *links) families(n *Name) (v4, v6 bool) {
	for _, r := range l.of(n) {
		v4 = v4 || r.Stack != wire.IPv6Only
		v6 = v6 || r.Stack != wire.IPv4Only
	}
	return v4, v6
}

// Find returns the name that proxy address a stands for and the resource a
// packet of proto to or from port of it belongs to: of those that cover the
// name and have addresses of this family, the best that permits the packet, or
// the best of all if none does. It does not allocate unless resources changed
// since the name was last looked at.
//
// policy.None: no name has a, or no resource covers it.
func (r *Resolver) Find(a netip.Addr, proto packet.Proto, port uint16) (*Name, id.Resource, policy.Verdict) {
	n := r.byAddr[a]
	if n == nil {
		return nil, id.Resource{}, policy.None
	}
	var denied *Resource
	for _, res := range r.links.of(n) {
		switch {
		case !res.supports(a):
		case res.Filters.Permits(proto, port):
			return n, res.ID, policy.Permitted
		case denied == nil:
			denied = res
		}
	}
	if denied == nil {
		return n, id.Resource{}, policy.None
	}
	return n, denied.ID, policy.Denied
}

// Resources appends the IDs of the resources that cover n, best first.
func (r *Resolver) Resources(n *Name, dst []id.Resource) []id.Resource {
	for _, res := range r.links.of(n) {
		dst = append(dst, res.ID)
	}
	return dst
}

// ProxyAddrs returns the addresses by which n is reached through a resource,
// IPv4 first: eight, or four if the resource has one family only; none if it
// does not cover n.
func (r *Resolver) ProxyAddrs(n *Name, resource id.Resource) []netip.Addr {
	for _, res := range r.links.of(n) {
		if res.ID != resource {
			continue
		}
		list := make([]netip.Addr, 0, len(n.V4)+len(n.V6))
		if res.supports(n.V4[0]) {
			list = append(list, n.V4[:]...)
		}
		if res.supports(n.V6[0]) {
			list = append(list, n.V6[:]...)
		}
		return list
	}
	return nil
}
