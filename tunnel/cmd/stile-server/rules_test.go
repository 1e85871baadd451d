package main

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"stile/tunnel/gateway"
)

func TestGatewayRules(t *testing.T) {
	parse := func(args ...string) (*gatewayCommand, error) {
		var c commands
		parser, err := kong.New(&c, kong.Vars{"version": "test"}, kong.Exit(func(int) { t.Fatal("the parser ended the program") }))
		if err != nil {
			t.Fatal(err)
		}
		_, err = parser.Parse(append([]string{"gateway", "--api-url", "wss://portal.example"}, args...))
		return &c.Gateway.Serve, err
	}
	for _, test := range []struct {
		name string
		args []string
		env  string
		want gatewayRules
		err  string
	}{
		{"nothing", nil, "", gatewayRules{}, ""},
		{"ports", []string{"--host-ports", "tcp/22,udp/161"}, "", gatewayRules{HostPorts: "tcp/22,udp/161"}, ""},
		{"ports of the environment", nil, "tcp/22", gatewayRules{HostPorts: "tcp/22"}, ""},
		{"the option wins", []string{"--host-ports="}, "tcp/22", gatewayRules{}, ""},
		{"all", []string{"--spread", "--tell-families", "--allow-link-local", "169.254.10.0/24"}, "", gatewayRules{LinkLocal: "169.254.10.0/24", Spread: true, TellFamilies: true}, ""},
		{"resolvers", []string{"--resolvers", "10.0.0.53,[fd00::53]:5353"}, "", gatewayRules{Resolvers: "10.0.0.53,[fd00::53]:5353"}, ""},
		{"not a resolver", []string{"--resolvers", "dns.corp.example"}, "", gatewayRules{}, `--resolvers: "dns.corp.example" is no address; write it like 10.0.0.53 or [fd00::53]:5353`},
		{"too many resolvers", []string{"--resolvers", "10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4,10.0.0.5,10.0.0.6,10.0.0.7,10.0.0.8,10.0.0.9"}, "", gatewayRules{}, "--resolvers: at most 8"},
		{"not a port", []string{"--host-ports", "ssh"}, "", gatewayRules{}, `--host-ports: "ssh": the protocol or the port is missing; write it like tcp/22 or udp/8000-8010`},
		{"not a port, of the environment", nil, "tcp/99999", gatewayRules{}, `--host-ports: "tcp/99999": "99999" is no port from 1 to 65535`},
		{"not link-local", []string{"--allow-link-local", "0.0.0.0/0"}, "", gatewayRules{}, `--allow-link-local: "0.0.0.0/0" is not link-local`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("STILE_HOST_PORTS", test.env)
			g, err := parse(test.args...)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("got %v, want %s", err, test.err)
				}
				return
			}
			if err != nil || g.Rules != test.want {
				t.Errorf("%+v, %v", g.Rules, err)
			}
		})
	}
}

func TestGatewayRulesAreApplied(t *testing.T) {
	var c gateway.Config
	r := gatewayRules{HostPorts: "tcp/22,udp/161", LinkLocal: "169.254.10.1", Spread: true, TellFamilies: true}
	if err := r.apply(&c); err != nil {
		t.Fatal(err)
	}
	if len(c.HostPorts) != 2 || len(c.LinkLocal) != 1 || !c.Spread || !c.TellFamilies {
		t.Errorf("%+v", c)
	}
}

// Without the option, names are looked up as the system does; with it, by those
// resolvers alone.
func TestResolvers(t *testing.T) {
	system := func() ([]netip.AddrPort, error) {
		return []netip.AddrPort{netip.MustParseAddrPort("127.0.0.53:53")}, nil
	}
	for text, want := range map[string]string{
		"":          "[127.0.0.53:53]",
		"10.0.0.53": "[10.0.0.53:53]",
		" 10.0.0.53:5353 , fd00::53,[fd00::54]:1": "[10.0.0.53:5353 [fd00::53]:53 [fd00::54]:1]",
	} {
		servers, err := gatewayRules{Resolvers: text}.resolvers(system)
		if err != nil {
			t.Fatal(text, err)
		}
		if got, err := servers(); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%q: %v, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{",", "10.0.0.53,", "0.0.0.0", "::", "224.0.0.1", "10.0.0.53:0", "10.0.0.53:x"} {
		if _, err := (gatewayRules{Resolvers: text}).resolvers(system); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
