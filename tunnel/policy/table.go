package policy

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/gaissmai/bart"

	"stile/tunnel/id"
	"stile/tunnel/packet"
)

// An Entry says that the addresses of Prefix belong to a resource.
type Entry struct {
	Prefix   netip.Prefix // without host bits; IPv4 not in mapped form
	Resource id.Resource
	Pattern  Pattern   // of the DNS resource that Prefix stands for; zero otherwise
	Filters  Filters   // borrowed for as long as the entry is in a table
	Expires  time.Time // the entry counts before this instant only; zero: for ever
}

// A Verdict is what a Table says about a packet.
type Verdict uint8

const (
	None      Verdict = iota // no resource has the address
	Denied                   // resources have it, but no filter lets the packet through
	Permitted                // the resource found lets it through
)

// A Table finds the resource of an address. The zero Table is empty and ready.
//
// All resources whose prefixes cover an address are candidates. Those that
// permit the packet come first, then the more specific pattern, the longer
// prefix, the higher resource id (spec client-dns.md 15.2); so a packet passes
// if any of them permits it.
//
// Each prefix keeps the sorted list of all candidates, also those of the
// prefixes around it: Find is one lookup, and changes pay for it.
type Table struct {
	nodes    bart.Table[*node]
	prefixes map[id.Resource][]netip.Prefix // where each resource has entries
}

type node struct {
	own        []*Entry // entries of exactly this prefix
	candidates []*Entry // and of those around it, best first
}

// Add puts e into the table. It replaces the entry of the same resource and
// prefix, if there is one.
func (t *Table) Add(e Entry) {
	n, ok := t.nodes.Get(e.Prefix)
	if !ok {
		n = &node{}
		t.nodes.Insert(e.Prefix, n)
	}
	if i := slices.IndexFunc(n.own, func(o *Entry) bool { return o.Resource == e.Resource }); i >= 0 {
		n.own[i] = &e
	} else {
		n.own = append(n.own, &e)
		if t.prefixes == nil {
			t.prefixes = make(map[id.Resource][]netip.Prefix)
		}
		t.prefixes[e.Resource] = append(t.prefixes[e.Resource], e.Prefix)
	}
	t.collect(e.Prefix)
}

// RemoveResource takes all entries of a resource out of the table. Entries of
// others on the same addresses stay.
func (t *Table) RemoveResource(r id.Resource) {
	for _, p := range t.prefixes[r] {
		t.remove(r, p)
	}
	delete(t.prefixes, r)
}

// Remove takes one entry of a resource out of the table.
func (t *Table) Remove(r id.Resource, p netip.Prefix) {
	i := slices.Index(t.prefixes[r], p)
	if i < 0 {
		return
	}
	t.prefixes[r] = slices.Delete(t.prefixes[r], i, i+1)
	if len(t.prefixes[r]) == 0 {
		delete(t.prefixes, r)
	}
	t.remove(r, p)
}

// Len returns the number of different prefixes in the table.
func (t *Table) Len() int { return t.nodes.Size() }

// Find returns the best candidate for a packet of proto between a, which is
// the resource's end, and its port (0 for protocols without). The Entry is
// zero if the verdict is None.
func (t *Table) Find(a netip.Addr, proto packet.Proto, port uint16, now time.Time) (Entry, Verdict) {
	n, ok := t.nodes.Lookup(a)
	if !ok {
		return Entry{}, None
	}
	var denied *Entry
	for _, e := range n.candidates {
		switch {
		case !e.Expires.IsZero() && !now.Before(e.Expires):
		case e.Filters.Permits(proto, port):
			return *e, Permitted
		case denied == nil:
			denied = e
		}
	}
	if denied == nil {
		return Entry{}, None
	}
	return *denied, Denied
}

func (t *Table) remove(r id.Resource, p netip.Prefix) {
	n, ok := t.nodes.Get(p)
	if !ok {
		return
	}
	n.own = slices.DeleteFunc(n.own, func(e *Entry) bool { return e.Resource == r })
	if len(n.own) == 0 {
		t.nodes.Delete(p)
	}
	t.collect(p)
}

// collect computes the candidates of p and of the prefixes inside it anew.
func (t *Table) collect(p netip.Prefix) {
	for inner, n := range t.nodes.Subnets(p) {
		n.candidates = n.candidates[:0:0]
		for _, around := range t.nodes.Supernets(inner) {
			n.candidates = append(n.candidates, around.own...)
		}
		slices.SortFunc(n.candidates, compareEntries)
	}
}

// compareEntries orders candidates, best first. An entry without a pattern
// comes after those with one.
func compareEntries(a, b *Entry) int {
	if a.Pattern != b.Pattern {
		switch {
		case a.Pattern.IsZero():
			return 1
		case b.Pattern.IsZero():
			return -1
		}
		return ComparePatterns(a.Pattern, b.Pattern)
	}
	return cmp.Or(cmp.Compare(b.Prefix.Bits(), a.Prefix.Bits()), b.Resource.Compare(a.Resource))
}
