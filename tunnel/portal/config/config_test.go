package config

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/portal"
	"stile/tunnel/wire"
)

// head is the least that a file needs besides what a test is about.
const head = `account: {slug: acme}
external_url: https://portal.example.com
listeners: [{address: "127.0.0.1:8080", plain: true}]
`

var options = Options{Account: id.Account{1}, Zones: time.LoadLocation}

func TestWholeFile(t *testing.T) {
	c, err := Parse([]byte(`
account: {slug: acme, name: ACME Inc.}
external_url: https://portal.example.com/stile/
listeners:
  - address: ":443"
    tls: {certificate: /etc/stile/cert.pem, key: /etc/stile/key.pem}
  - {address: "192.0.2.1:8080", plain: true, behind_proxy: true, trusted_proxies: [192.0.2.9, 10.1.2.3/8]}
socket: /tmp/p.sock
data_dir: /tmp/p
sessions: {client: 30d, browser: 90m}
upstream_dns: [9.9.9.9, "2620:fe::fe"]
search_domain: Corp.Example.
policies:
  - group: Admins
    resources: [Lab, db]
    expires: 2027-01-31T18:00:00+01:00
    conditions:
      - {property: remote_ip, operator: is_in_cidr, values: [192.0.2.0/24]}
      - {property: current_utc_datetime, operator: is_in_day_of_week_time_ranges, values: ["M/09:00-17:00/Europe/Berlin"]}
  - {group: Everyone, resource: "*.wiki.corp.example", disabled: true}
  - {group: Everyone, resource: Internet Resource}
sites: [Berlin, {name: Paris, id: 8a6f0c55-0d5b-4b8c-8f0e-6f2f0d9f3a01}]
groups: [{name: Admins, emails: [Alice@Example.com], services: [Backup]}]
resources:
  - {address: "*.wiki.corp.example", site: Berlin, ip_stack: ipv4_only, filters: [tcp/443, "tcp/80,8000-8100", icmp, udp]}
  - {name: Lab, address: 10.20.0.0/16, site: Paris, description: the lab, id: 5d1f0a3e-6f0b-4c57-9c8e-0a4d1f6b2c11}
  - {name: db, address: 10.30.0.7, site: Berlin}
  - {type: internet, site: Berlin}
`), options)
	if err != nil {
		t.Fatal(err)
	}
	a := c.Account
	wiki, lab, db, internet := a.Resources[0], a.Resources[1], a.Resources[2], a.Resources[3]
	paris, err := id.Parse[struct{}]("8a6f0c55-0d5b-4b8c-8f0e-6f2f0d9f3a01")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		what      string
		got, want any
	}{
		{"slug", a.Slug, "acme"},
		{"account id", a.ID, options.Account},
		{"external URL", c.ExternalURL, "https://portal.example.com/stile"},
		{"API URL", a.APIURL, "https://portal.example.com/stile/"},
		{"listeners", c.Listeners, []Listener{
			{Address: ":443", CertFile: "/etc/stile/cert.pem", KeyFile: "/etc/stile/key.pem"},
			{Address: "192.0.2.1:8080", BehindProxy: true, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.9/32"), netip.MustParsePrefix("10.0.0.0/8")}},
		}},
		{"paths", []string{c.Socket, c.DataDir}, []string{"/tmp/p.sock", "/tmp/p"}},
		{"sessions", []time.Duration{c.ClientSession, c.BrowserSession}, []time.Duration{30 * 24 * time.Hour, 90 * time.Minute}},
		{"resolvers", a.Do53, []netip.Addr{netip.MustParseAddr("9.9.9.9"), netip.MustParseAddr("2620:fe::fe")}},
		{"search domain", a.SearchDomain, "corp.example"},
		{"sites", a.Sites, []wire.Site{{ID: wiki.Site, Name: "Berlin"}, {ID: id.Site(paris), Name: "Paris"}}},
		{"groups", []string{a.Groups[0].Name, a.Groups[0].Emails[0], a.Groups[1].Name}, []string{"Admins", "Alice@Example.com", "Everyone"}},
		{"service accounts", [][]string{a.Groups[0].Services, a.Groups[1].Services}, [][]string{{"Backup"}, nil}},
		{"Everyone", []bool{a.Groups[0].Everyone, a.Groups[1].Everyone}, []bool{false, true}},
		{"wiki", wiki, portal.Resource{ID: wiki.ID, Type: portal.DNS, Name: "*.wiki.corp.example", Address: "*.wiki.corp.example", Site: a.Sites[0].ID, IPStack: wire.IPv4Only,
			Filters: []wire.Filter{{Protocol: wire.TCP, First: 443, Last: 443}, {Protocol: wire.TCP, First: 80, Last: 80}, {Protocol: wire.TCP, First: 8000, Last: 8100}, {Protocol: wire.ICMP}, {Protocol: wire.UDP, Last: 65535}}}},
		{"lab", []string{string(lab.Type), lab.ID.String(), lab.Description}, []string{"cidr", "5d1f0a3e-6f0b-4c57-9c8e-0a4d1f6b2c11", "the lab"}},
		{"lab's site", lab.Site, id.Site(paris)},
		{"db", db.Type, portal.IP},
		{"internet", []string{string(internet.Type), internet.Name, internet.Address}, []string{"internet", "Internet Resource", ""}},
		{"policies", len(a.Policies), 4},
		{"granted", []id.Resource{a.Policies[0].Resource, a.Policies[1].Resource, a.Policies[2].Resource}, []id.Resource{lab.ID, db.ID, wiki.ID}},
		{"expiry", a.Policies[1].Expires.Unix(), int64(1801414800)},
		{"conditions", len(a.Policies[0].Conditions), 2},
		{"disabled", a.Policies[2].Disabled, true},
		{"warnings", c.Warnings, Problems(nil)},
	} {
		if !reflect.DeepEqual(row.got, row.want) {
			t.Errorf("%s: got %+v, want %+v", row.what, row.got, row.want)
		}
	}
	if _, err := portal.New(portal.Config{Account: a, Zones: time.LoadLocation}, time.Unix(0, 0)); err != nil {
		t.Errorf("the portal refuses the account: %v", err)
	}
}

// The IDs are a promise to existing tokens and authorizations: they may not
// change from one release to the next.
func TestIDsAreStable(t *testing.T) {
	text := head + "sites: [Berlin]\ngroups: [{name: A}]\nresources: [{name: Wiki, address: wiki.corp.example}]\npolicies: [{group: A, resource: Wiki}]\n"
	a := mustParse(t, text).Account
	got := []string{a.Sites[0].ID.String(), a.Groups[0].ID.String(), a.Groups[1].ID.String(), a.Resources[0].ID.String(), a.Policies[0].ID.String()}
	want := []string{
		"ca00f7ff-2ace-8fac-911a-3d904802122a", "2881ecaf-ff20-85e5-965a-cad93c6b2334", "91adb521-5478-83f0-8920-ebd19158b0cc",
		"5f935109-9865-8753-ad4e-ae346ad9a32d", "4f282784-0540-89fd-8a3a-7378cd5c0e25",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	other, err := Parse([]byte(text), Options{Account: id.Account{2}, Zones: time.LoadLocation})
	if err != nil || other.Account.Sites[0].ID == a.Sites[0].ID {
		t.Errorf("two accounts share IDs (%v)", err)
	}
	moved := mustParse(t, strings.Replace(text, "wiki.corp.example", "wiki2.corp.example", 1)).Account
	if moved.Resources[0].ID != a.Resources[0].ID || moved.Policies[0].ID != a.Policies[0].ID {
		t.Error("another address made another ID")
	}
}

// One row for each mistake: what is told, and where.
func TestMistakes(t *testing.T) {
	site := head + "sites: [Berlin]\n"
	wiki := site + "resources: [{name: Wiki, address: wiki.corp.example}]\n"
	resource := func(fields string) string { return site + "resources:\n  - {name: R, " + fields + "}\n" }
	listener := func(fields string) string {
		return "account: {slug: acme}\nexternal_url: https://p.example.com\nlisteners:\n  - {" + fields + "}\n"
	}
	for _, row := range []struct{ name, text, want string }{
		{"empty", "", "the file is empty"},
		{"not YAML", "account: [\n", "1:1: this is not YAML"},
		{"a tab", "account:\n\tslug: a\n", "2:1: this is not YAML"},
		{"a list", "- a\n", "1:1: the file is a list, not settings"},
		{"two documents", head + "---\na: b\n", "more than one document"},
		{"nothing in it", "{}\n", "account: is missing"},
		{"nothing in it", "{}\n", "external_url: is missing"},
		{"nothing in it", "{}\n", "listeners: is missing"},
		{"unknown setting", head + "ressources: []\n", `4:1: unknown setting "ressources"; did you mean resources?`},
		{"unknown setting, far off", head + "frobnicate: 1\n", "there are account, external_url"},
		{"unknown setting in a list", resource("addres: a"), `6:15: resources[0]: unknown setting "addres"; did you mean address?`},
		{"given twice", head + "socket: /a\nsocket: /b\n", "5:1: socket: is given twice"},
		{"alias", "x: &x a\n" + head, `unknown setting "x"`},
		{"alias used", head + "sites: [&x Berlin, *x]\n", "sites[1]: aliases are not supported"},
		{"merge", head + "sites: [{<<: {name: a}}]\n", `unknown setting "<<"`},
		{"tag", head + "socket: !!binary aGFsbG8=\n", "has the tag !!binary"},
		{"no slug", strings.Replace(head, "slug: acme", "name: A", 1), "1:10: account: the slug is missing"},
		{"bad slug", strings.Replace(head, "acme", "Ac/me", 1), "account.slug: \"Ac/me\" cannot stand in a URL"},
		{"URL without scheme", strings.Replace(head, "https://portal.example.com", "portal.example.com", 1), "2:15: external_url: \"portal.example.com\" is not a URL"},
		{"URL of another kind", strings.Replace(head, "https://", "ftp://", 1), "external_url: the scheme is \"ftp\""},
		{"URL with a query", strings.Replace(head, ".com", ".com?a=b", 1), "external_url: has more than"},
		{"no listener", strings.Replace(head, "[{address: \"127.0.0.1:8080\", plain: true}]", "[]", 1), "there is no listener"},
		{"listener without address", listener("plain: true"), "4:5: listeners[0]: has no address"},
		{"listener without port", listener("address: example.com, plain: true"), "is not HOST:PORT"},
		{"listener of no kind", listener("address: ':443'"), "listeners[0]: is neither tls nor plain"},
		{"listener of both kinds", listener("address: ':443', plain: true, tls: {certificate: /c, key: /k}"), "is both tls and plain"},
		{"TLS without key", listener("address: ':443', tls: {certificate: /c}"), "needs both certificate and key"},
		{"TLS with a relative path", listener("address: ':443', tls: {certificate: c.pem, key: /k}"), "is not an absolute path"},
		{"TLS behind a proxy", listener("address: ':443', tls: {certificate: /c, key: /k}, behind_proxy: true"), "are for plain listeners"},
		{"plain off loopback", listener("address: '192.0.2.1:80', plain: true"), "4:5: listeners[0]: a plain listener that others can reach"},
		{"plain on every address", listener("address: ':8080', plain: true"), "a plain listener that others can reach"},
		{"proxy unnamed", listener("address: ':8080', plain: true, behind_proxy: true"), "behind_proxy does not say which proxy"},
		{"proxy without behind_proxy", listener("address: ':8080', plain: true, insecure: true, trusted_proxies: [10.0.0.1]"), "is for listeners behind a proxy"},
		{"everybody a proxy", listener("address: ':8080', plain: true, behind_proxy: true, trusted_proxies: [0.0.0.0/0]"), "trusts everybody"},
		{"insecure and behind a proxy", listener("address: ':8080', plain: true, insecure: true, behind_proxy: true, trusted_proxies: [10.0.0.1]"), "is both behind_proxy and insecure"},
		{"two on one address", head[:len(head)-2] + ", {address: '127.0.0.1:8080', plain: true}]\n", "listeners[1]: the address 127.0.0.1:8080 stands in line 3 already"},
		{"session too short", head + "sessions: {client: 5m}\n", "4:20: sessions.client: 5m is not between 1h and 90d"},
		{"session without unit", head + "sessions: {client: 7}\n", "is not a length of time; write it like 12h or 7d"},
		{"resolver name", head + "upstream_dns: [dns.example]\n", "upstream_dns[0]: \"dns.example\" is neither"},
		{"resolver in the tunnel", head + "upstream_dns: [100.100.111.1]\n", "inside the tunnel's own range"},
		{"resolvers of both kinds", head + "upstream_dns: [9.9.9.9, 'https://dns.quad9.net/dns-query']\n", "has both addresses and URLs"},
		{"DoH without TLS", head + "upstream_dns: ['http://dns.quad9.net/dns-query']\n", "is not an https URL"},
		{"search domain", head + "search_domain: a..b\n", "is not a domain name"},
		{"site twice", head + "sites:\n  - Berlin\n  - Berlin\n", `6:5: sites[1]: the site "Berlin" stands in line 5 already`},
		{"site without name", head + "sites: [{id: 8a6f0c55-0d5b-4b8c-8f0e-6f2f0d9f3a01}]\n", "has no name"},
		{"bad id", head + "sites: [{name: a, id: 7}]\n", "sites[0].id: \"7\" is not a UUID"},
		{"one id for two", head + "sites:\n  - {name: a, id: 8a6f0c55-0d5b-4b8c-8f0e-6f2f0d9f3a01}\n  - {name: b, id: 8a6f0c55-0d5b-4b8c-8f0e-6f2f0d9f3a01}\n", "the id is that of the site in line 5"},
		{"bad e-mail", head + "groups: [{name: g, emails: [alice]}]\n", "groups[0].emails[0]: \"alice\" is not an e-mail address"},
		{"user as service", head + "groups: [{name: g, services: [a@b.c]}]\n", "users are listed under emails"},
		{"reserved group", head + "groups: [{name: everyone}]\n", "the group Everyone exists already"},
		{"resource without address", resource("site: Berlin"), "resources[0]: has no address"},
		{"resource without site", head + "sites: [a, b]\nresources: [{address: wiki.corp.example}]\n", "does not say through which site"},
		{"unknown site", resource("address: a.corp, site: Berln"), `there is no site "Berln"; did you mean "Berlin"?`},
		{"URL as address", resource("address: 'https://wiki.corp.example/'"), "is not a domain name"},
		{"wildcard in the TLD", resource("address: 'wiki.*'"), "resources[0].address"},
		{"everything", resource("address: '**.com'"), "covers all names under .com"},
		{"IP as DNS", resource("address: 10.0.0.1, type: dns"), "is an IP address"},
		{"name as IP", resource("address: wiki.corp, type: ip"), "is not of type ip"},
		{"full tunnel as CIDR", resource("address: 0.0.0.0/0"), "covers everything"},
		{"loopback", resource("address: 127.0.0.1"), "is a loopback address"},
		{"the tunnel's range", resource("address: 100.127.0.0/16"), "overlaps the tunnel's own addresses"},
		{"a range around the tunnel's", resource("address: 'fd00::/8'"), "overlaps the tunnel's own addresses"},
		{"pool", resource("type: static_device_pool"), "device pools are not supported"},
		{"unknown type", resource("type: vpn, address: a.corp"), "is not a type of resource"},
		{"two internets", site + "resources: [{type: internet}, {name: b, type: internet}]\n", "there is an internet resource already"},
		{"internet with filters", site + "resources: [{type: internet, filters: [tcp]}]\n", "an internet resource has no filters"},
		{"ip_stack of a network", resource("address: 10.0.0.0/8, ip_stack: dual"), "is for DNS resources"},
		{"ip_stack", resource("address: a.corp, ip_stack: ipv5"), "use dual, ipv4_only or ipv6_only"},
		{"filter protocol", resource("address: a.corp, filters: [sctp]"), "6:42: resources[0].filters[0]"},
		{"filter port", resource("address: a.corp, filters: [tcp/70000]"), "is no port or range"},
		{"filter backwards", resource("address: a.corp, filters: [tcp/90-80]"), "is no port or range"},
		{"filter port zero", resource("address: a.corp, filters: [tcp/0]"), "is no port or range"},
		{"ICMP port", resource("address: a.corp, filters: [icmp/8]"), "ICMP has no ports"},
		{"filters overlap", resource("address: a.corp, filters: [tcp/80-90, tcp/85]"), "repeats ports"},
		{"resource twice", wiki[:len(wiki)-2] + ", {name: Wiki, address: a.corp}]\n", "the resource \"Wiki\" stands in line 5 already"},
		{"policy without group", wiki + "policies: [{resource: Wiki}]\n", "does not say which group"},
		{"policy without resource", wiki + "policies: [{group: Everyone}]\n", "needs either resource or resources"},
		{"policy of nobody", wiki + "policies: [{group: Admin, resource: Wiki}]\n", "there is no group \"Admin\""},
		{"policy for nothing", wiki + "policies: [{group: Everyone, resource: Wikki}]\n", "did you mean \"Wiki\"?"},
		{"policy twice", wiki + "policies:\n  - {group: Everyone, resource: Wiki}\n  - {group: Everyone, resource: Wiki}\n", "line 7 has a policy for this group and resource already"},
		{"one id, many policies", wiki + "policies: [{group: Everyone, resources: [Wiki], id: 8a6f0c55-0d5b-4b8c-8f0e-6f2f0d9f3a01}]\n", "one id cannot be that of several policies"},
		{"expiry", wiki + "policies: [{group: Everyone, resource: Wiki, expires: 2027-01-31}]\n", "is not a date with time and zone"},
		{"condition half", wiki + "policies: [{group: Everyone, resource: Wiki, conditions: [{property: remote_ip}]}]\n", "needs property, operator and values"},
		{"condition property", wiki + "policies: [{group: Everyone, resource: Wiki, conditions: [{property: mood, operator: is, values: [good]}]}]\n", "unknown property \"mood\""},
		{"condition value", wiki + "policies: [{group: Everyone, resource: Wiki, conditions: [{property: remote_ip, operator: is_in_cidr, values: [home]}]}]\n", "6:59: policies[0].conditions[0]"},
		{"condition zone", wiki + "policies: [{group: Everyone, resource: Wiki, conditions: [{property: current_utc_datetime, operator: is_in_day_of_week_time_ranges, values: [M/true/Mars/Olympus]}]}]\n", "no such time zone"},
		{"condition twice", wiki + "policies: [{group: Everyone, resource: Wiki, conditions: [{property: client_verified, operator: is, values: ['true']}, {property: client_verified, operator: is, values: ['true']}]}]\n", "has another condition on client_verified"},
		{"text where a list belongs", head + "sites: Berlin\n", "4:8: sites: is a single value; write a list"},
		{"list where text belongs", head + "socket: [a]\n", "socket: is a list; write one value"},
		{"nothing where text belongs", head + "socket:\n", "socket: is empty"},
		{"bool", strings.Replace(head, "plain: true", "plain: yes", 1), "\"yes\" is neither true nor false"},
	} {
		_, err := Parse([]byte(row.text), options)
		problems, is := errors.AsType[Problems](err)
		if !is || !strings.Contains(problems.Error(), row.want) {
			t.Errorf("%s:\ngot  %v\nwant %s", row.name, err, row.want)
		}
	}
}

func TestWarnings(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"insecure", strings.Replace(head, `"127.0.0.1:8080", plain: true`, `":8080", plain: true, insecure: true`, 1), "the insecure listener on :8080 shows tokens"},
		{"no sign-in", strings.Replace(head, `"127.0.0.1:8080", plain: true`, `":8080", plain: true, insecure: true`, 1), "nobody can sign in with a browser"},
		{"port 80", strings.Replace(head, `127.0.0.1:8080`, `127.0.0.1:80`, 1), "clients and gateways cannot dial port 80"},
		{"clear text", strings.Replace(head, "https://", "http://", 1), "clients will send their tokens in clear text"},
		{"host bits", head + "sites: [a]\nresources: [{name: n, address: 10.1.2.3/8}]\n", "10.1.2.3/8 is taken as 10.0.0.0/8"},
		{"no policy", head + "sites: [a]\nresources: [{name: n, address: 10.0.0.0/8}]\n", `5:1: nobody may reach the resource "n"`},
		{"too many for a client", crowd(fewEnough + 1), `the group "Everyone" may reach 20001 resources`},
		{"member twice", head + "groups: [{name: g, emails: [a@b.c, A@B.C]}]\n", "A@B.C is in this group twice"},
	} {
		c := mustParse(t, row.text)
		if got := c.Warnings.Error(); !strings.Contains(got, row.want) {
			t.Errorf("%s: got %q, want %q", row.name, got, row.want)
		}
	}
}

func TestAsManyAsAClientCanBeToldAreNoReasonToWarn(t *testing.T) {
	if got := mustParse(t, crowd(fewEnough)).Warnings; len(got) != 0 {
		t.Errorf("%v", got)
	}
}

// crowd grants everyone n resources.
func crowd(n int) string {
	var b strings.Builder
	b.WriteString(head + "sites: [Berlin]\nresources:\n")
	names := ""
	for i := range n {
		fmt.Fprintf(&b, "  - {name: r%d, address: host%d.corp.example}\n", i, i)
		names += fmt.Sprintf("r%d, ", i)
	}
	return b.String() + "policies: [{group: Everyone, resources: [" + names + "]}]\n"
}

func TestUnknownEmails(t *testing.T) {
	c := mustParse(t, head+"groups:\n  - {name: a, emails: [Alice@b.c, bob@b.c]}\n  - {name: b, emails: [bob@b.c]}\n")
	got := c.UnknownEmails(func(email string) bool { return email == "alice@b.c" })
	if len(got) != 1 || got[0].Line != 5 || got[0].Path != "groups[0].emails[1]" || !strings.Contains(got[0].String(), "user add bob@b.c") {
		t.Errorf("got %v", got)
	}
}

func TestExampleIsValid(t *testing.T) {
	for _, s := range []Start{
		{Slug: "acme", ExternalURL: "https://portal.example.com", Email: "a@b.c", Address: ":443", CertFile: "/c.pem", KeyFile: "/k.pem"},
		{Slug: "acme", ExternalURL: "https://portal.example.com", Email: "a@b.c", Address: "127.0.0.1:8080", DataDir: "/tmp/d", Socket: "/tmp/s"},
	} {
		c, err := Parse(Example(s), options)
		if err != nil || len(c.Warnings) != 0 || len(c.Account.Resources) != 1 || len(c.Account.Policies) != 1 || s.DataDir != "" && c.DataDir != s.DataDir {
			t.Errorf("%+v: %v, %v", s, c, err)
		}
	}
}

func TestDiff(t *testing.T) {
	base := head + "sites: [Berlin]\ngroups: [{name: A}]\nresources: [{name: Wiki, address: wiki.corp.example}]\npolicies: [{group: A, resource: Wiki}]\n"
	for _, row := range []struct {
		name, old, new string
		account        bool
		restart        []string
		summary        []string
	}{
		{"nothing", "", "", false, nil, nil},
		{"address", "wiki.corp", "wiki2.corp", true, nil, []string{`resource "Wiki" changed`}},
		{"rename", "Wiki", "Wikis", true, nil, []string{`resource "Wikis" added`, `resource "Wiki" removed`, `policy "A → Wikis" added`, `policy "A → Wiki" removed`}},
		{"member", "name: A", "name: A, emails: [a@b.c]", true, nil, []string{`group "A" changed`}},
		{"slug", "acme", "acme2", true, nil, []string{`name changed from "acme" to "acme2"`, `slug changed from "acme" to "acme2"`}},
		{"listener", "8080", "8081", false, []string{"listeners"}, nil},
		{"data_dir", "sites:", "data_dir: /x\nsites:", false, []string{"data_dir"}, nil},
	} {
		got := Diff(mustParse(t, base), mustParse(t, strings.ReplaceAll(base, row.old, row.new)))
		if want := (Change{row.account, row.restart, row.summary}); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", row.name, got, want)
		}
	}
	many := Diff(mustParse(t, head), mustParse(t, manyResources(100)))
	if len(many.Summary) != maxSummary+1 || !strings.Contains(many.Summary[maxSummary], "further changes") {
		t.Errorf("%q", many.Summary)
	}
}

// A hundred thousand resources are a file of 10 MB.
func TestManyResources(t *testing.T) {
	text := []byte(manyResources(100_000))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	c, err := Parse(text, options)
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	took, allocated := time.Since(start), (after.TotalAlloc-before.TotalAlloc)>>20
	t.Logf("%d MB: %v, %d MB allocated", len(text)>>20, took, allocated)
	if len(c.Account.Resources) != 100_000 || took > time.Minute || allocated > 1500 {
		t.Errorf("%d resources", len(c.Account.Resources))
	}
}

func manyResources(n int) string {
	var b strings.Builder
	b.WriteString(head + "sites: [Berlin]\npolicies: [{group: Everyone, resource: r0}]\nresources:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - name: r%d\n    address: host%d.corp.example\n    site: Berlin\n    filters: [tcp/443, tcp/80, icmp]\n", i, i)
	}
	return b.String()
}

// What is made to hurt must be refused quickly.
func TestBombs(t *testing.T) {
	laughs := "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
	for i := range 30 {
		laughs += fmt.Sprintf("a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n", i+1, i+1, i, i, i, i, i, i, i, i)
	}
	deep := func(open, shut string, n int) string {
		return "sites: " + strings.Repeat(open, n) + strings.Repeat(shut, n)
	}
	for _, row := range []struct{ name, text string }{
		{"aliases", laughs},
		{"alias to itself", "sites: &a [*a]\n" + head},
		{"deep lists", head + deep("[", "]", 9000)},
		{"deeper lists", head + deep("[", "]", 1_000_000)},
		{"deep mappings", head + deep("{a: ", "}", 1_000_000)},
		{"deep dashes", head + "sites:\n  " + strings.Repeat("- ", 1_000_000)},
		{"too many commas", head + "sites: [" + strings.Repeat("a,", 5_000_000) + "]"},
		{"many commas", head + "sites: [" + strings.Repeat("a,", 100_000) + "]"},
		{"many unknown settings", strings.Repeat("k: v\n", 20_000)},
		{"too large", head + "# " + strings.Repeat("x", maxBytes)},
		{"comments", strings.Repeat("#\n", 100_000)},
		{"comments in a list", head + "sites:\n" + strings.Repeat("  #\n", 50_000) + "  - 7: 8\n"},
		{"question marks", strings.Repeat("? ", 100_000)},
		{"anchors", strings.Repeat("&a ", 100_000)},
		{"long name", head + "sites: [" + strings.Repeat("x", 500_000) + "]"},
		{"binary", "\x00\x01\xff\xfe"},
	} {
		start := time.Now()
		_, err := Parse([]byte(row.text), options)
		took := time.Since(start)
		if problems, is := errors.AsType[Problems](err); !is || len(problems) > maxProblems+1 || len(err.Error()) > 20_000 {
			t.Errorf("%s: %.300v", row.name, err)
		}
		if took > 20*time.Second {
			t.Errorf("%s: %v", row.name, took)
		}
		t.Logf("%s: %v", row.name, took.Round(time.Millisecond))
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(head))
	f.Add(Example(Start{Slug: "acme", ExternalURL: "https://portal.example.com", Email: "a@b.c", Address: ":443", CertFile: "/c.pem", KeyFile: "/k.pem"}))
	f.Add([]byte(head + "sites: [{name: a}]\nresources: [{address: 10.1.2.3/8, filters: [tcp/1-2]}]\npolicies: [{group: Everyone, resources: [10.0.0.0/8]}]\n"))
	f.Add([]byte("a: &a [*a]\n? x\n: <<: *a"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse(text, options)
		if err != nil {
			if _, is := errors.AsType[Problems](err); !is {
				t.Fatalf("%T", err)
			}
			return
		}
		// What parses, the portal accepts, and twice is the same.
		if _, err := portal.New(portal.Config{Account: c.Account, Zones: time.LoadLocation}, time.Unix(0, 0)); err != nil {
			t.Fatalf("%v in %q", err, text)
		}
		again, err := Parse(text, options)
		if err != nil || !reflect.DeepEqual(again, c) || len(Diff(c, again).Summary) != 0 {
			t.Fatalf("%+v, then %+v, %v", c, again, err)
		}
	})
}

func mustParse(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Parse([]byte(text), options)
	if err != nil {
		t.Fatalf("%v\nin %s", err, text)
	}
	return c
}

func TestLocate(t *testing.T) {
	for _, row := range []struct{ text, socket, dataDir string }{
		{"", DefaultSocket, DefaultDataDir},
		{"socket: /a\ndata_dir: /b\nfrobnicate: [1\n", "/a", "/b"},
		{"x: [1\n  socket: /a\ndata_dir: relative\n", DefaultSocket, DefaultDataDir},
		{"listeners: none\nsocket: /a\ndata_dir: /b\n", "/a", "/b"},
		{head, DefaultSocket, DefaultDataDir},
	} {
		if socket, dataDir := Locate([]byte(row.text)); socket != row.socket || dataDir != row.dataDir {
			t.Errorf("%q: %s, %s", row.text, socket, dataDir)
		}
	}
}
