//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"

	"stile/build/lab/host"
	"stile/build/lab/serve"
)

// A deployment is Stile installed in a world: which host plays which role, and
// what the portal knows.
type deployment struct {
	portal, relay, gateway, laptop *host.Host
	relayPlace                     place
	authority                      *serve.Authority
	resources                      []resource

	client, gate *role // stiled on the laptop, and the gateway
}

// A resource is one entry of the portal's list, open to every user.
type resource struct{ Name, Address string }

// Names of the deployment.
const (
	siteName = "Office"
	userMail = "ada@example.net"

	portalConfig = "/etc/stile/portal.yaml"
	portalSocket = "/run/stile/portal.sock"
	portalCert   = "/etc/stile/portal.crt"
	portalKey    = "/etc/stile/portal.key"
	portalURL    = "wss://" + portalName

	clientToken = "/etc/stile/token"
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
  - {name: "{{.Name}}", address: "{{.Address}}"}
{{- end}}
policies:
{{- range .}}
  - {group: Everyone, resource: "{{.Name}}"}
{{- end}}
`))

// server and daemon are our programs as a host sees them.
const (
	server = host.BinDir + "/stile-server"
	daemon = host.BinDir + "/stiled"
)

// built tells whether the products can be run at all.
func (s *stage) built() error {
	for _, path := range []string{server, daemon} {
		name := filepath.Base(path)
		if _, err := os.Stat(filepath.Join(s.order.Bin, name)); err != nil {
			return fmt.Errorf("%s is not in %s: build it with make build, or say where it is with --bin-dir", name, s.order.Bin)
		}
	}
	return nil
}

// up starts all roles, each when the one before is ready, as steps of the scenario.
func (d *deployment) up(s *stage) error {
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"the programs are built", s.built},
		{"the portal answers", func() error { return d.startPortal(s) }},
		{"the relay is registered", func() error { return d.startRelay(s) }},
		{"the gateway is online", func() error { return d.startGateway(s) }},
		{"the laptop's resolver is Stile's", func() error { return d.startClient(s) }},
	} {
		if err := s.step(step.what, step.do); err != nil {
			return err
		}
	}
	return nil
}

// startPortal writes the portal's files, starts it and adds the user.
func (d *deployment) startPortal(s *stage) error {
	cert, key, err := d.authority.Issue(portalName)
	if err != nil {
		return err
	}
	var config bytes.Buffer
	if err := portalYAML.Execute(&config, d.resources); err != nil {
		return err
	}
	if err := errors.Join(
		d.portal.WriteFile(portalConfig, config.Bytes(), 0o644),
		d.portal.WriteFile(portalCert, cert, 0o644),
		d.portal.WriteFile(portalKey, key, 0o600),
	); err != nil {
		return err
	}
	r, err := s.start(d.portal, "portal", nil, server, "portal", "run", "--config", portalConfig)
	if err != nil {
		return err
	}
	if err := s.ready(r, d.listens); err != nil {
		return err
	}
	if err := s.ready(r, d.shows(func(s portalStatus) bool { return s.Running })); err != nil {
		return err
	}
	_, err = d.ask(s.ctx, "a long lab password\n", "user", "add", userMail)
	return err
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
	r, err := s.start(d.relay, "relay", []string{
		"STILE_TOKEN=" + token, "STILE_API_URL=" + portalURL,
		"PUBLIC_IP4_ADDR=" + d.relayPlace.v4.Addr().String(), "PUBLIC_IP6_ADDR=" + d.relayPlace.v6.Addr().String(),
	}, server, "relay")
	if err != nil {
		return err
	}
	return s.ready(r, d.shows(portalStatus.hasRelay))
}

func (d *deployment) startGateway(s *stage) error {
	token, err := d.token(s.ctx, "--gateway", siteName)
	if err != nil {
		return err
	}
	d.gate, err = s.start(d.gateway, "gateway", []string{"STILE_TOKEN=" + token, "STILE_API_URL=" + portalURL}, server, "gateway")
	if err != nil {
		return err
	}
	return s.ready(d.gate, d.shows(portalStatus.hasGateway))
}

// startClient gives the laptop a token file, as an administrator of headless
// machines would, and starts stiled.
func (d *deployment) startClient(s *stage) error {
	token, err := d.token(s.ctx, "--client", userMail)
	if err != nil {
		return err
	}
	if err := d.laptop.WriteFile(clientToken, []byte(token+"\n"), 0o600); err != nil {
		return err
	}
	return d.startStiled(s)
}

// startStiled starts the service and waits until the laptop asks it for names.
func (d *deployment) startStiled(s *stage) (err error) {
	if d.client, err = s.start(d.laptop, "stiled", []string{"STILE_API_URL=" + portalURL, "STILE_TOKEN_PATH=" + clientToken}, daemon); err != nil {
		return err
	}
	return s.ready(d.client, func(context.Context) error {
		resolv, err := d.laptop.ReadFile("/etc/resolv.conf")
		if err == nil && !namesSentinel(string(resolv)) {
			err = fmt.Errorf("/etc/resolv.conf names no sentinel:\n%s", resolv)
		}
		return err
	})
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
		c.Env = append(append(c.Env, "STILE_LOG_LEVEL=debug"), env...)
		return c
	})
}

// ask runs a command of the portal on its host and returns what it prints.
func (d *deployment) ask(ctx context.Context, input string, args ...string) (string, error) {
	c := d.portal.Command(ctx, server, append([]string{"portal"}, append(args, "--config", portalConfig)...)...)
	c.Stdin = strings.NewReader(input)
	var complaint bytes.Buffer
	c.Stderr = &complaint
	out, err := d.portal.Output(c)
	if err != nil {
		return "", fmt.Errorf("stile-server portal %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(complaint.String()))
	}
	return string(out), nil
}

// token makes a token and returns it.
func (d *deployment) token(ctx context.Context, args ...string) (string, error) {
	out, err := d.ask(ctx, "", append([]string{"token", "create"}, args...)...)
	if err != nil {
		return "", err
	}
	words := strings.Fields(out)
	if len(words) == 0 {
		return "", fmt.Errorf("token create %v prints nothing", args)
	}
	return words[len(words)-1], nil
}

// A portalStatus is what the lab reads of "portal status --json".
type portalStatus struct {
	Running  bool `json:"running"`
	Gateways []struct {
		Online bool `json:"online"`
	} `json:"gateways"`
	Relays []struct {
		Name string `json:"name"`
	} `json:"relays"` // those online
}

// hasGateway and hasRelay tell whether one is online.
func (s portalStatus) hasGateway() bool {
	for _, g := range s.Gateways {
		if g.Online {
			return true
		}
	}
	return false
}
func (s portalStatus) hasRelay() bool { return len(s.Relays) > 0 }

func (d *deployment) status(ctx context.Context) (status portalStatus, err error) {
	out, err := d.ask(ctx, "", "status", "--json")
	if err != nil {
		return status, err
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		return status, fmt.Errorf("portal status --json prints %q: %w", out, err)
	}
	return status, nil
}

// shows returns a check that the running portal shows something.
func (d *deployment) shows(what func(portalStatus) bool) func(context.Context) error {
	return func(ctx context.Context) error {
		status, err := d.status(ctx)
		if err == nil && !what(status) {
			err = fmt.Errorf("the portal's status does not show it yet: %+v", status)
		}
		return err
	}
}
