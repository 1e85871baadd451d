package config

import (
	"fmt"
	"reflect"
	"slices"

	"stile/tunnel/id"
	"stile/tunnel/portal"
	"stile/tunnel/wire"
)

// A Change is the difference between two configurations.
type Change struct {
	// Account tells whether the running portal has something to apply.
	Account bool
	// Restart are settings that count only after a restart.
	Restart []string
	// Summary has a line for each thing that was added, removed or changed,
	// and ends early if there are very many.
	Summary []string
}

// maxSummary is the number of lines of a summary.
const maxSummary = 20

// Diff compares what runs with what was read.
func Diff(old, new *Config) Change {
	d := differ{}
	a, b := &old.Account, &new.Account
	compare(&d, "site", a.Sites, b.Sites, func(s wire.Site) id.Site { return s.ID }, func(s wire.Site) string { return s.Name })
	compare(&d, "group", a.Groups, b.Groups, func(g portal.Group) id.Group { return g.ID }, func(g portal.Group) string { return g.Name })
	compare(&d, "resource", a.Resources, b.Resources, func(r portal.Resource) id.Resource { return r.ID }, func(r portal.Resource) string { return r.Name })
	compare(&d, "policy", a.Policies, b.Policies, func(p portal.Policy) id.Policy { return p.ID }, func(p portal.Policy) string { return policyName(p, b, a) })
	d.setting("name", a.Name, b.Name)
	d.setting("slug", a.Slug, b.Slug)
	d.setting("search_domain", a.SearchDomain, b.SearchDomain)
	d.setting("upstream_dns", fmt.Sprint(a.Do53, a.DoH), fmt.Sprint(b.Do53, b.DoH))
	d.setting("sessions", fmt.Sprint(old.ClientSession, old.BrowserSession), fmt.Sprint(new.ClientSession, new.BrowserSession))
	c := Change{Account: d.count > 0, Summary: d.lines}
	if more := d.count - len(d.lines); more > 0 {
		c.Summary = append(c.Summary, fmt.Sprintf("%d further changes", more))
	}
	for _, s := range []struct {
		name    string
		changed bool
	}{
		{"listeners", !reflect.DeepEqual(old.Listeners, new.Listeners)},
		{"external_url", old.ExternalURL != new.ExternalURL},
		{"socket", old.Socket != new.Socket},
		{"data_dir", old.DataDir != new.DataDir},
	} {
		if s.changed {
			c.Restart = append(c.Restart, s.name)
		}
	}
	return c
}

// A differ counts changes and describes the first ones.
type differ struct {
	count int
	lines []string
}

func (d *differ) add(describe func() string) {
	if d.count++; len(d.lines) < maxSummary {
		d.lines = append(d.lines, describe())
	}
}

func (d *differ) setting(name, old, new string) {
	if old != new {
		d.add(func() string { return fmt.Sprintf("%s changed from %q to %q", name, old, new) })
	}
}

// compare matches elements by ID and reports them in the order of their lists.
func compare[E any, I uuid](d *differ, kind string, old, new []E, key func(E) I, name func(E) string) {
	before, after := map[I]E{}, map[I]bool{}
	for _, e := range old {
		before[key(e)] = e
	}
	for _, e := range new {
		after[key(e)] = true
		was, known := before[key(e)]
		switch {
		case !known:
			d.add(func() string { return fmt.Sprintf("%s %q added", kind, name(e)) })
		case !reflect.DeepEqual(was, e):
			d.add(func() string { return fmt.Sprintf("%s %q changed", kind, name(e)) })
		}
	}
	for _, e := range old {
		if !after[key(e)] {
			d.add(func() string { return fmt.Sprintf("%s %q removed", kind, name(e)) })
		}
	}
}

// policyName is "GROUP → RESOURCE", from whichever account knows them.
func policyName(p portal.Policy, accounts ...*portal.Account) string {
	var group, resource string
	for _, a := range accounts {
		if i := slices.IndexFunc(a.Groups, func(g portal.Group) bool { return g.ID == p.Group }); i >= 0 && group == "" {
			group = a.Groups[i].Name
		}
		if i := slices.IndexFunc(a.Resources, func(r portal.Resource) bool { return r.ID == p.Resource }); i >= 0 && resource == "" {
			resource = a.Resources[i].Name
		}
	}
	return group + " → " + resource
}
