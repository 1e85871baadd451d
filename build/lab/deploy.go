//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"

	"stile/build/lab/host"
	"stile/build/lab/link"
	"stile/build/lab/nat"
	"stile/build/lab/serve"
)

// A deployment is Stile installed in a world: which host plays which role, and
// what the portal knows.
type deployment struct {
	portal, relay, gateway, laptop *host.Host
	gatewayEnd                     *link.End // where a foreign gateway's packets leave; nil: it is seen to
	relayPlace                     place
	authority                      *serve.Authority
	resources                      []resource
	internet                       bool // the client takes the Internet resource
	headless                       bool // the client has a token of the administrator's; nobody signs in
	gatewayEnv                     []string

	control, turn, gate, client *role // the portal, the relay, the gateway, stiled
	tokens                      map[string]string
}

// A resource is one entry of the portal's list, open to every user unless it is
// closed. Type "" is told by the address.
type resource struct {
	Name, Address, Type string
	Filters             []string
	Closed              bool
}

// Names of the deployment.
const (
	siteName = "Office"
	userMail = "ada@example.net"

	userPassword = "a long lab password"

	portalConfig = "/etc/stile/portal.yaml"
	portalSocket = "/run/stile/portal.sock"
	portalCert   = "/etc/stile/portal.crt"
	portalKey    = "/etc/stile/portal.key"
	portalURL    = "wss://" + portalName

	clientToken = "/etc/stile/token"
	resolvConf  = "/etc/resolv.conf"
)

// portalYAML is the portal's configuration: TLS for our own programs, and a
// plain listener for stock ones, which bring their own list of authorities.
var portalYAML = template.Must(template.New("portal").Parse(`account: {slug: lab}
external_url: https://` + portalName + `
listeners:
  - address: ":443"
    tls: {certificate: ` + portalCert + `, key: ` + portalKey + `}
  - address: ":8081"
    plain: true
    insecure: true
sites: [` + siteName + `]
resources:
{{- range .}}
  - name: {{.Name}}
{{- with .Type}}
    type: {{.}}
{{- end}}
{{- with .Address}}
    address: "{{.}}"
{{- end}}
{{- with .Filters}}
    filters: [{{range .}}{{.}},{{end}}]
{{- end}}
{{- end}}
policies:
{{- range .}}{{if not .Closed}}
  - {group: Everyone, resource: {{.Name}}}
{{- end}}{{end}}
`))

// server and daemon are our programs as a host sees them.
const (
	server = host.BinDir + "/stile-server"
	daemon = host.BinDir + "/stiled"
)

// built tells whether the products can be run at all.
func (s *stage) built() error {
	for _, path := range []string{server, daemon, user} {
		name := filepath.Base(path)
		if _, err := os.Stat(filepath.Join(s.order.Bin, name)); err != nil {
			return fmt.Errorf("%s is not in %s: build it with make build, or say where it is with --bin-dir", name, s.order.Bin)
		}
	}
	return nil
}

// up starts all roles, each when the one before is ready, as steps of the scenario.
func (d *deployment) up(s *stage) error {
	return s.all(
		step{"the programs are built", s.built},
		step{"the portal answers", func() error { return d.installPortal(s) }},
		step{"the relay is registered", func() error { return d.startRelay(s) }},
		step{"the gateway is online", func() error { return d.startGateway(s) }},
		step{d.arrival(s), func() error { return d.startClient(s) }},
	)
}

// arrival says how the laptop joins.
func (d *deployment) arrival(s *stage) string {
	if d.isHeadless(s) {
		return "the laptop's resolver is Stile's"
	}
	return "a user signs in with a browser, and the laptop's resolver is Stile's"
}

func (d *deployment) isHeadless(s *stage) bool { return d.headless || s.order.ClientCmd != "" }

// installPortal writes the portal's files, starts it and adds the user.
func (d *deployment) installPortal(s *stage) error {
	cert, key, err := d.authority.Issue(portalName)
	if err != nil {
		return err
	}
	if err := errors.Join(
		d.configure(),
		d.portal.WriteFile(portalCert, cert, 0o644),
		d.portal.WriteFile(portalKey, key, 0o600),
	); err != nil {
		return err
	}
	if err := d.startPortal(s); err != nil {
		return err
	}
	_, err = d.ask(s.ctx, userPassword+"\n", "user", "add", userMail)
	return err
}

// configure writes the portal's configuration as an editor would, under another
// name first. A running portal notices.
func (d *deployment) configure() error {
	var config bytes.Buffer
	if err := portalYAML.Execute(&config, d.resources); err != nil {
		return err
	}
	if err := d.portal.WriteFile(portalConfig+".new", config.Bytes(), 0o644); err != nil {
		return err
	}
	return d.portal.Do(func() error { return os.Rename(portalConfig+".new", portalConfig) })
}

func (d *deployment) startPortal(s *stage) (err error) {
	if d.control, err = s.start(d.portal, "portal", nil, server, "portal", "run", "--config", portalConfig); err != nil {
		return err
	}
	if err := s.ready(d.control, d.listens); err != nil {
		return err
	}
	return s.ready(d.control, d.shows(func(s portalStatus) bool { return s.Running }))
}

// listens tells whether the portal takes commands.
func (d *deployment) listens(context.Context) error {
	return d.portal.Do(func() error { _, err := os.Stat(portalSocket); return err })
}

// startRelay registers a relay under its address in the core.
func (d *deployment) startRelay(s *stage) error {
	token, err := d.token(s.ctx, "--relay")
	if err != nil {
		return err
	}
	d.turn, err = s.begin(part{
		host: d.relay, name: "relay", token: token,
		shared: []string{"PUBLIC_IP4_ADDR=" + d.relayPlace.v4.Addr().String(), "PUBLIC_IP6_ADDR=" + d.relayPlace.v6.Addr().String()},
		own:    []string{server, "relay"}, ownEnv: []string{"STILE_TOKEN=" + token},
		foreign: s.order.RelayCmd,
	})
	if err != nil {
		return err
	}
	return s.ready(d.turn, d.shows(portalStatus.hasRelay))
}

// startGateway starts the site's gateway. Foreign ones leave it to others to
// make their host a router.
func (d *deployment) startGateway(s *stage) error {
	token, err := d.token(s.ctx, "--gateway", siteName)
	if err != nil {
		return err
	}
	if s.order.GatewayCmd != "" && d.gatewayEnd != nil {
		if err := errors.Join(link.Forward(d.gateway), nat.Masquerade(d.gatewayEnd)); err != nil {
			return err
		}
	}
	d.gate, err = s.begin(part{
		host: d.gateway, name: "gateway", token: token,
		own: []string{server, "gateway"}, ownEnv: append([]string{"STILE_TOKEN=" + token}, d.gatewayEnv...),
		foreign: s.order.GatewayCmd,
	})
	if err != nil {
		return err
	}
	return s.ready(d.gate, d.shows(portalStatus.hasGateway))
}

// startClient starts the client, has a user sign in unless one is, and waits
// until the laptop asks it for names.
func (d *deployment) startClient(s *stage) error {
	if d.isHeadless(s) {
		if err := d.startHeadless(s); err != nil {
			return err
		}
	} else if err := d.startIdle(s); err != nil {
		return err
	} else if err := d.signedIn(s); err != nil {
		return err
	}
	if err := s.ready(d.client, d.resolves); err != nil {
		return err
	}
	return s.ready(d.client, d.shows(portalStatus.hasClient))
}

// startHeadless starts the client with a token, as an administrator of headless
// machines would.
func (d *deployment) startHeadless(s *stage) error {
	token, err := d.token(s.ctx, "--client", userMail)
	if err != nil {
		return err
	}
	p := part{
		host: d.laptop, name: "client", token: token,
		own: []string{daemon}, ownEnv: []string{"STILE_TOKEN_PATH=" + clientToken},
		foreign: s.order.ClientCmd, theirs: []string{"FIREZONE_DNS_CONTROL=etc-resolv-conf"},
	}
	if d.internet {
		p.theirs = append(p.theirs, "FIREZONE_ACTIVATE_INTERNET_RESOURCE=true")
		p.own = append(p.own, "--activate-internet-resource")
	}
	if p.foreign == "" {
		if err := d.laptop.WriteFile(clientToken, []byte(token+"\n"), 0o600); err != nil {
			return err
		}
	}
	d.client, err = s.begin(p)
	return err
}

// resolves tells whether the laptop asks the client for names.
func (d *deployment) resolves(context.Context) error {
	resolv, err := d.laptop.ReadFile(resolvConf)
	if err == nil && !namesSentinel(string(resolv)) {
		err = fmt.Errorf("%s names no sentinel:\n%s", resolvConf, resolv)
	}
	return err
}

// sentinels are the addresses that stand for resolvers (spec client-dns.md 1).
var sentinels = []netip.Prefix{
	netip.MustParsePrefix("100.100.111.0/24"),
	netip.MustParsePrefix("fd00:2021:1111:8000:100:100:111:0/120"),
}

func namesSentinel(resolv string) bool {
	for line := range strings.Lines(resolv) {
		if address, ok := strings.CutPrefix(strings.TrimSpace(line), "nameserver "); ok {
			a, err := netip.ParseAddr(address)
			for _, p := range sentinels {
				if err == nil && p.Contains(a) {
					return true
				}
			}
		}
	}
	return false
}

// start starts one of our programs on a host.
func (s *stage) start(h *host.Host, name string, env []string, path string, args ...string) (*role, error) {
	return s.launch(h, name, func(ctx context.Context) *exec.Cmd {
		c := h.Command(ctx, path, args...)
		c.Env = append(append(c.Env, "STILE_LOG_LEVEL=debug", "STILE_LAB_CLOCK="+clockFile), env...)
		return c
	})
}
