package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"stile/tunnel/id"
	"stile/tunnel/portal"
	"stile/tunnel/wire"
)

// Options are what the file does not say.
type Options struct {
	Account id.Account   // of the store; all derived IDs depend on it
	Zones   portal.Zones // finds the time zones of conditions
}

// Parse reads a file. The error is of type Problems and names every mistake
// that was found; there is no Config then.
func Parse(text []byte, o Options) (*Config, error) {
	p := &parser{
		Options: o, sites: newNames[id.Site]("site"), groups: newNames[id.Group]("group"),
		resources: newNames[id.Resource]("resource"), policies: newNames[id.Policy]("policy"),
		config: &Config{
			Socket: DefaultSocket, DataDir: DefaultDataDir,
			ClientSession: DefaultClientSession, BrowserSession: DefaultBrowserSession,
		},
	}
	p.config.Account.ID = o.Account
	if root, ok := p.document(text); ok {
		p.file(root)
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	p.config.Warnings = p.warnings.sorted()
	return p.config, nil
}

type parser struct {
	reader
	Options
	config    *Config
	sites     *names[id.Site]
	groups    *names[id.Group]
	resources *names[id.Resource]
	policies  *names[id.Policy]
}

// file reads the whole. Lists whose elements name each other are read in the
// order of that, wherever they stand in the file.
func (p *parser) file(root *node) {
	c := p.config
	var account, external, listeners, sites, groups, resources, policies *node
	keep := func(dst **node) func(*node) { return func(n *node) { *dst = n } }
	p.fields(root,
		field{"account", keep(&account)},
		field{"external_url", keep(&external)},
		field{"listeners", keep(&listeners)},
		field{"socket", p.pathInto(&c.Socket)},
		field{"data_dir", p.pathInto(&c.DataDir)},
		field{"sessions", p.sessions},
		field{"upstream_dns", p.upstreamDNS},
		field{"search_domain", p.searchDomain},
		field{"sites", keep(&sites)},
		field{"groups", keep(&groups)},
		field{"resources", keep(&resources)},
		field{"policies", keep(&policies)},
	)
	p.required(root, "account", account, p.account, "write at least a slug, the account's name in addresses: `account: {slug: acme}`")
	p.required(root, "external_url", external, p.externalURL, "write where browsers and clients find the portal, as in `external_url: https://portal.example.com`")
	p.required(root, "listeners", listeners, p.listeners, "write where to accept connections")
	optional := func(n *node, read func(*node)) {
		if n != nil {
			p.each(n, read)
		}
	}
	optional(sites, p.site)
	optional(groups, p.group)
	p.everyone()
	optional(resources, p.resource)
	optional(policies, p.policy)
	p.crowded()
	p.unreachable()
}

// required reads a part that has to be there.
func (p *parser) required(root *node, name string, n *node, read func(*node), help string) {
	if n == nil {
		p.fail(&node{Node: &yaml.Node{}, parent: root, key: name}, "is missing", help)
		return
	}
	read(n)
}

func (p *parser) account(n *node) {
	a := &p.config.Account
	p.fields(n,
		field{"slug", func(n *node) {
			s, ok := p.text(n)
			if ok && (len(s) > 100 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "") {
				p.fail(n, fmt.Sprintf("%.40q cannot stand in a URL", s), "use lower-case letters, digits, - and _")
			}
			a.Slug = s
		}},
		field{"name", p.textInto(&a.Name)},
	)
	if a.Slug == "" && n.Kind == yaml.MappingNode {
		p.fail(n, "the slug is missing", "write the account's name in addresses: `slug: acme`")
	}
	if a.Name == "" {
		a.Name = a.Slug
	}
}

func (p *parser) externalURL(n *node) {
	s, ok := p.text(n)
	if !ok {
		return
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		p.fail(n, fmt.Sprintf("%.60q is not a URL", s), "write it like https://portal.example.com")
		return
	case u.Scheme != "https" && u.Scheme != "http":
		p.fail(n, "the scheme is "+quote(u.Scheme), "use https")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		p.fail(n, "has more than scheme, host, port and path", "remove the rest")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		p.warn(n, "clients will send their tokens in clear text", "use https")
	}
	p.config.ExternalURL = strings.TrimSuffix(u.String(), "/")
	p.config.Account.APIURL = p.config.ExternalURL + "/"
}

// pathInto reads the absolute path of a file: a service's working directory is
// nobody's choice.
func (p *parser) pathInto(dst *string) func(*node) {
	return func(n *node) {
		s, ok := p.text(n)
		switch {
		case !ok:
		case !path.IsAbs(s):
			p.fail(n, fmt.Sprintf("%.60q is not an absolute path", s), "begin it with /")
		default:
			*dst = s
		}
	}
}

func (p *parser) sessions(n *node) {
	p.fields(n,
		field{"client", p.durationInto(&p.config.ClientSession)},
		field{"browser", p.durationInto(&p.config.BrowserSession)},
	)
}

func (p *parser) upstreamDNS(n *node) {
	a := &p.config.Account
	p.each(n, func(n *node) {
		s, ok := p.text(n)
		if !ok {
			return
		}
		if strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://") {
			p.doh(n, s)
			return
		}
		addr, err := netip.ParseAddr(s)
		switch {
		case err != nil || addr.Zone() != "":
			p.fail(n, fmt.Sprintf("%.60q is neither an IP address nor an https URL", s), "write resolvers like 9.9.9.9 or https://dns.quad9.net/dns-query")
		case overlapsTunnel(netip.PrefixFrom(addr, addr.BitLen())):
			p.fail(n, s+" is inside the tunnel's own range", "a resolver cannot be there")
		default:
			a.Do53 = append(a.Do53, addr)
		}
	})
	if len(a.Do53) > 0 && len(a.DoH) > 0 {
		p.fail(n, "has both addresses and URLs", "clients use one kind; keep that")
	}
}

func (p *parser) doh(n *node, s string) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		p.fail(n, fmt.Sprintf("%.60q is not an https URL without a query", s), "write it like https://dns.quad9.net/dns-query")
		return
	}
	p.config.Account.DoH = append(p.config.Account.DoH, s)
}

func (p *parser) searchDomain(n *node) {
	s, ok := p.text(n)
	if !ok {
		return
	}
	s = strings.ToLower(strings.TrimSuffix(s, "."))
	if !isDomain(s) {
		p.fail(n, fmt.Sprintf("%.60q is not a domain name", s), "write it like corp.example.com")
		return
	}
	p.config.Account.SearchDomain = s
}

func isDomain(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}

// site reads a name, or a mapping with a name and an explicit ID.
func (p *parser) site(n *node) {
	var s wire.Site
	if n.Kind == yaml.ScalarNode {
		s.Name, _ = p.text(n)
	} else {
		p.fields(n, field{"name", p.textInto(&s.Name)}, field{"id", idInto(p, &s.ID)})
	}
	if !p.named(n, s.Name) {
		return
	}
	var ok bool
	if s.ID, ok = p.sites.add(&p.reader, n, p.Account, s.Name, s.ID); ok {
		p.config.Account.Sites = append(p.config.Account.Sites, s)
	}
}

const maxName = 200 // bytes

// named complains about a name that is missing or endless.
func (p *parser) named(n *node, name string) bool {
	switch {
	case len(name) > maxName:
		p.fail(n, fmt.Sprintf("the name is longer than %d bytes", maxName), "")
		return false
	case name == "" && n.Kind == yaml.MappingNode:
		p.fail(n, "has no name", "write `name: …`")
	}
	return name != ""
}

// idInto reads an explicit ID.
func idInto[K any](p *parser, dst *id.ID[K]) func(*node) {
	return func(n *node) {
		s, ok := p.text(n)
		if !ok {
			return
		}
		if err := dst.UnmarshalText([]byte(s)); err != nil || dst.IsZero() {
			p.fail(n, fmt.Sprintf("%.40q is not a UUID", s), "remove the line: an ID is derived from the name")
		}
	}
}

func quote(s string) string {
	if len(s) > 60 {
		s = s[:60] + "…"
	}
	return strconv.Quote(s)
}

func itoa(n int) string { return strconv.Itoa(n) }
