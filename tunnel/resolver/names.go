package resolver

import (
	"net/netip"
	"slices"
	"strings"

	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/policy"
)

// maxRecent is how many names the resolver can tell the last users of.
const maxRecent = 256

// A Name is a domain name with the proxy addresses that stand for it. It has
// them for good: whatever an application remembers stays true (13).
type Name struct {
	FQDN   string // lower case, without trailing dot
	V4, V6 [4]netip.Addr
	// Index counts names from 0 in the order of their making: a key for
	// tables beside this one.
	Index int

	lacks4, lacks6 bool // addresses of a family, as a gateway says

	links  []*Resource // what covers the name
	linked uint64      // links.changes when links was found
}

// never is a count of changes that is not reached.
const never = ^uint64(0)

// names give out proxy addresses.
type names struct {
	list   []*Name
	byName map[string]*Name
	byAddr map[netip.Addr]*Name
	pool4  pool
	pool6  pool
	recent []*Name // that applications asked for in this process, oldest first, each once
}

func (t *names) init(seeds []core.ProxyName, skipped *uint64) {
	t.byName = make(map[string]*Name)
	t.byAddr = make(map[netip.Addr]*Name)
	t.pool4 = newPool(policy.ProxyV4)
	t.pool6 = newPool(policy.ProxyV6)
	for _, s := range seeds {
		if !t.seed(s) {
			*skipped++
		}
	}
}

// seed restores a name. It refuses what we would not have given out.
func (t *names) seed(s core.ProxyName) bool {
	n := Name{FQDN: s.Name}
	if _, known := t.byName[s.Name]; known || !plausible(s.Name) || len(s.Addrs) != len(n.V4)+len(n.V6) {
		return false
	}
	four := n.V4[:0]
	six := n.V6[:0]
	for _, a := range s.Addrs {
		if _, taken := t.byAddr[a]; taken || slices.Contains(four, a) || slices.Contains(six, a) {
			return false
		}
		switch {
		case t.pool4.has(a) && len(four) < len(n.V4):
			four = append(four, a)
		case t.pool6.has(a) && len(six) < len(n.V6):
			six = append(six, a)
		default:
			return false
		}
	}
	for i := range n.V4 {
		t.pool4.take(n.V4[i])
		t.pool6.take(n.V6[i])
	}
	t.add(&n)
	return true
}

// plausible tells whether name could have come out of a query.
func plausible(name string) bool {
	return name != "" && len(name) <= 253 && name == strings.ToLower(name) && name[len(name)-1] != '.' && !strings.ContainsAny(name, "\\ \x00")
}

// get returns the name with its addresses, which it gets if it has none; nil
// if none are left.
func (t *names) get(name string) *Name {
	if n := t.byName[name]; n != nil {
		return n
	}
	n := &Name{FQDN: name}
	if t.pool4.left < len(n.V4) || t.pool6.left < len(n.V6) {
		return nil
	}
	free := func(a netip.Addr) bool { return t.byAddr[a] == nil }
	for i := range n.V4 {
		n.V4[i] = t.pool4.next(free)
		n.V6[i] = t.pool6.next(free)
	}
	t.add(n)
	return n
}

func (t *names) add(n *Name) {
	n.Index = len(t.list)
	n.linked = never
	t.list = append(t.list, n)
	t.byName[n.FQDN] = n
	for i := range n.V4 {
		t.byAddr[n.V4[i]], t.byAddr[n.V6[i]] = n, n
	}
}

// touch notes that an application asked for n.
func (t *names) touch(n *Name) {
	if i := slices.Index(t.recent, n); i >= 0 {
		t.recent = slices.Delete(t.recent, i, i+1)
	} else if len(t.recent) == maxRecent {
		t.recent = slices.Delete(t.recent, 0, 1)
	}
	t.recent = append(t.recent, n)
}

// Lack tells that the servers of n have no addresses of a family, as far as
// gateways said (spec gateway-nat.md O2). New queries are not answered with
// proxy addresses of it then; those that were given out mean what they meant.
func (r *Resolver) Lack(n *Name, v4, v6 bool) { n.lacks4, n.lacks6 = v4, v6 }

// Len returns the number of names that have addresses. It only grows.
func (r *Resolver) Len() int { return len(r.list) }

// Names returns all names with their addresses, to be remembered.
func (r *Resolver) Names() []core.ProxyName {
	list := make([]core.ProxyName, len(r.list))
	for i, n := range r.list {
		list[i] = core.ProxyName{Name: n.FQDN, Addrs: slices.Concat(n.V4[:], n.V6[:])}
	}
	return list
}

// NameOf returns the name that proxy address a stands for, or nil.
func (r *Resolver) NameOf(a netip.Addr) *Name { return r.byAddr[a] }

// Named returns the record of a name, given in lower case without the root's
// dot, or nil.
func (r *Resolver) Named(fqdn string) *Name { return r.byName[fqdn] }

// Recent returns the names under a resource that applications asked for in
// this process, the last asked first; at most 256 of all resources together
// are known.
func (r *Resolver) Recent(resource id.Resource) []*Name {
	var list []*Name
	for _, n := range slices.Backward(r.recent) {
		if slices.ContainsFunc(r.links.of(n), func(res *Resource) bool { return res.ID == resource }) {
			list = append(list, n)
		}
	}
	return list
}
