package admin

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/portal/config"
	"stile/tunnel/portal/store"
)

// A Status is what there is and who is there. Lists are sorted by name.
type Status struct {
	Running   bool     `json:"running"`
	Version   string   `json:"version,omitempty"`    // of the running portal
	StartedAt int64    `json:"started_at,omitempty"` // Unix seconds
	Account   string   `json:"account,omitempty"`    // slug
	URL       string   `json:"url,omitempty"`        // where browsers and peers find it
	Listeners []string `json:"listeners,omitempty"`  // addresses, as bound if running
	// ConfigError says why the file as it stands is not in force; "": it is.
	ConfigError string   `json:"config_error,omitempty"`
	Warnings    []string `json:"warnings,omitempty"`

	Users          int      `json:"users"`
	Sites          int      `json:"sites"`
	Resources      int      `json:"resources"`
	Policies       int      `json:"policies"`
	Authorizations int      `json:"authorizations"` // that have not expired
	Clients        []Device `json:"clients"`
	Gateways       []Device `json:"gateways"`
	Relays         []Relay  `json:"relays"` // online ones
}

// A Device is a client or a gateway that has connected once.
type Device struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`
	Owner      string     `json:"owner"` // e-mail address or site
	IPv4       netip.Addr `json:"ipv4"`  // tunnel addresses
	IPv6       netip.Addr `json:"ipv6"`
	UserAgent  string     `json:"user_agent"`
	RemoteIP   string     `json:"remote_ip"`
	LastSeenAt int64      `json:"last_seen_at"` // Unix seconds
	Online     bool       `json:"online"`
}

// A Relay is one that is connected now.
type Relay struct {
	ID    string   `json:"id"`
	Name  string   `json:"name"`
	Addrs []string `json:"addrs"` // IP:port, one or two
}

// Status gathers what the store and the configuration know, then asks Online.
func (b *Backend) Status() (Status, error) {
	users, err := b.Store.Users()
	if err != nil {
		return Status{}, err
	}
	devices, err := b.Store.Devices()
	if err != nil {
		return Status{}, err
	}
	authorizations, err := b.Store.Authorizations()
	if err != nil {
		return Status{}, err
	}
	s := Status{Users: len(users), Clients: []Device{}, Gateways: []Device{}, Relays: []Relay{}}
	now := time.Now().Unix()
	for _, a := range authorizations {
		if a.ExpiresAt > now {
			s.Authorizations++
		}
	}
	c := b.config()
	if c != nil {
		s.describe(c, users)
	}
	s.devices(c, users, devices)
	if b.Online != nil {
		s.Running = true
		b.Online(&s)
	}
	return s, nil
}

func (s *Status) describe(c *config.Config, users []store.User) {
	a := &c.Account
	s.Account, s.URL = a.Slug, c.ExternalURL
	s.Sites, s.Resources, s.Policies = len(a.Sites), len(a.Resources), len(a.Policies)
	for _, l := range c.Listeners {
		s.Listeners = append(s.Listeners, l.Address)
	}
	for _, w := range slices.Concat(c.Warnings, unknownEmails(c, users)) {
		s.Warnings = append(s.Warnings, w.String())
	}
}

func unknownEmails(c *config.Config, users []store.User) config.Problems {
	known := map[string]bool{}
	for _, u := range users {
		known[strings.ToLower(u.Email)] = true
	}
	return c.UnknownEmails(func(email string) bool { return known[email] })
}

func (s *Status) devices(c *config.Config, users []store.User, devices []store.Device) {
	owner := map[id.Actor]string{}
	for _, u := range users {
		owner[u.ID] = cmp.Or(u.Email, u.Name)
	}
	for _, d := range devices {
		view := Device{
			ID: d.Client().String(), Name: d.Name, IPv4: d.IPv4, IPv6: d.IPv6, UserAgent: d.UserAgent, LastSeenAt: d.LastSeenAt,
		}
		if d.LastIP.IsValid() {
			view.RemoteIP = d.LastIP.String()
		}
		if d.Gateway {
			view.Owner = siteName(c, d.Site)
			s.Gateways = append(s.Gateways, view)
		} else {
			view.Owner = cmp.Or(owner[d.Actor], "(removed user)")
			s.Clients = append(s.Clients, view)
		}
	}
	byName := func(a, b Device) int {
		return cmp.Or(cmp.Compare(a.Owner, b.Owner), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	}
	slices.SortFunc(s.Clients, byName)
	slices.SortFunc(s.Gateways, byName)
}

// siteName is the name of a configured site. A token or gateway of another one
// belongs to a site that was removed or renamed.
func siteName(c *config.Config, site id.Site) string {
	if c != nil {
		for _, s := range c.Account.Sites {
			if s.ID == site {
				return s.Name
			}
		}
	}
	return "(removed site)"
}

// A TokenView is a stored token; the secret is not known.
type TokenView struct {
	ID         id.Token `json:"id"`
	Kind       string   `json:"kind"`
	For        string   `json:"for,omitempty"` // site or e-mail address
	Name       string   `json:"name,omitempty"`
	SignIn     bool     `json:"sign_in"`    // made by a sign-in, not by a command
	CreatedAt  int64    `json:"created_at"` // Unix seconds
	ExpiresAt  int64    `json:"expires_at"` // 0: never
	LastSeenAt int64    `json:"last_seen_at"`
}

func (b *Backend) tokens() ([]TokenView, error) {
	tokens, err := b.Store.Tokens()
	if err != nil {
		return nil, err
	}
	list := []TokenView{}
	for _, t := range tokens {
		v := TokenView{ID: t.ID, Kind: string(t.Kind), Name: t.Name, SignIn: t.Provider != "", CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt, LastSeenAt: t.LastSeenAt}
		switch t.Kind {
		case store.GatewayToken:
			v.For = siteName(b.config(), t.Site)
		case store.ClientToken:
			if u, err := b.Store.User(t.Actor); err == nil {
				v.For = cmp.Or(u.Email, u.Name)
			}
		}
		list = append(list, v)
	}
	return list, nil
}

// print writes s for people.
func (s *Status) print(w io.Writer, now time.Time) {
	switch {
	case s.Running && s.StartedAt > 0:
		fmt.Fprintf(w, "portal %s of account %s: running since %s, %s\n", s.Version, s.Account, time.Unix(s.StartedAt, 0).Format(time.DateTime), s.URL)
	case s.Running:
		fmt.Fprintf(w, "portal of account %s: running, %s\n", s.Account, s.URL)
	default:
		fmt.Fprintf(w, "portal of account %s: stopped\n", cmp.Or(s.Account, "(unknown)"))
	}
	for _, l := range s.Listeners {
		fmt.Fprintf(w, "  listener %s\n", l)
	}
	fmt.Fprintf(w, "%d users, %d sites, %d resources, %d policies, %d authorizations\n", s.Users, s.Sites, s.Resources, s.Policies, s.Authorizations)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	section := func(title string, list []Device) {
		fmt.Fprintf(t, "%s (%d of %d online)\n", title, online(list), len(list))
		for _, d := range list {
			state := "online"
			if !d.Online {
				state = "seen " + ago(d.LastSeenAt, now)
			}
			fmt.Fprintf(t, "  %s\t%s\t%s\t%v\t%s\n", d.Owner, d.Name, state, d.IPv4, d.UserAgent)
		}
	}
	section("gateways", s.Gateways)
	section("clients", s.Clients)
	fmt.Fprintf(t, "relays (%d online)\n", len(s.Relays))
	for _, r := range s.Relays {
		fmt.Fprintf(t, "  %s\t%v\n", cmp.Or(r.Name, r.ID), r.Addrs)
	}
	t.Flush()
	if s.ConfigError != "" {
		fmt.Fprintf(w, "the configuration file is not in force:\n%s\n", s.ConfigError)
	}
	for _, warning := range s.Warnings {
		fmt.Fprintf(w, "warning: %s\n", warning)
	}
	if s.Running && len(s.Relays) == 0 {
		fmt.Fprintln(w, "warning: no relay is online, so no tunnel can be built; start one with: stile-server relay")
	}
}

func online(list []Device) (n int) {
	for _, d := range list {
		if d.Online {
			n++
		}
	}
	return n
}

// ago is the distance of a Unix time in the largest sensible unit.
func ago(at int64, now time.Time) string {
	if at == 0 {
		return "never"
	}
	d := now.Sub(time.Unix(at, 0))
	switch {
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return fmt.Sprintf("%d minutes ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours ago", int(d.Hours()))
	}
	return fmt.Sprintf("%d days ago", int(d.Hours()/24))
}

// printTokens writes a list of tokens for people.
func printTokens(w io.Writer, list []TokenView, now time.Time) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tKIND\tFOR\tNAME\tEXPIRES\tLAST SEEN")
	for _, v := range list {
		expires := "never"
		if v.ExpiresAt != 0 {
			expires = time.Unix(v.ExpiresAt, 0).Format(time.DateTime)
		}
		if v.ExpiresAt != 0 && v.ExpiresAt <= now.Unix() {
			expires = "expired"
		}
		name := v.Name
		if v.SignIn {
			name = cmp.Or(name, "(sign-in)")
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", v.ID, v.Kind, v.For, name, expires, ago(v.LastSeenAt, now))
	}
	t.Flush()
}
