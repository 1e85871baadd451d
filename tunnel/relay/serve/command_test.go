package serve

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"stile/platform/keystore"
	"stile/tunnel/wire"
)

// parse reads a command line as the main does.
func parse(t *testing.T, args ...string) (Command, error) {
	var c Command
	parser, err := kong.New(&c)
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(args)
	return c, err
}

func TestEnvironmentOfStockRelays(t *testing.T) {
	for name, value := range map[string]string{
		"PUBLIC_IP4_ADDR": "203.0.113.10", "PUBLIC_IP6_ADDR": "2001:db8::10", "BIND_IP4_ADDR": "10.0.0.1", "BIND_IP6_ADDR": "fd00::1",
		"LISTEN_PORT": "3479", "LOWEST_PORT": "50000", "HIGHEST_PORT": "50010",
		"FIREZONE_API_URL": "wss://api.example.net", "FIREZONE_NAME": "stock", "FIREZONE_CA_FILE": "/ca.pem", "HEALTH_CHECK_ADDR": "127.0.0.1:1",
		"STILE_NAME": "ours",
	} {
		t.Setenv(name, value)
	}
	got, err := parse(t)
	if err != nil {
		t.Fatal(err)
	}
	want := Command{
		PublicIP4Addr: netip.MustParseAddr("203.0.113.10"), PublicIP6Addr: netip.MustParseAddr("2001:db8::10"),
		BindIP4Addr: netip.MustParseAddr("10.0.0.1"), BindIP6Addr: netip.MustParseAddr("fd00::1"),
		ListenPort: 3479, LowestPort: 50000, HighestPort: 50010,
		APIURL: "wss://api.example.net", Name: "ours", CAFile: "/ca.pem", HealthCheckAddr: "127.0.0.1:1",
	}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestDefaultsAndRegistration(t *testing.T) {
	c, err := parse(t, "--public-ip4-addr", "203.0.113.10", "--api-url", "wss://api.example.net")
	if err != nil {
		t.Fatal(err)
	}
	if c.ListenPort != 3478 || c.LowestPort != 49152 || c.HighestPort != 65535 || c.HealthCheckAddr != "0.0.0.0:8080" {
		t.Errorf("defaults: %+v", c)
	}
	d := c.portal("token", secret, slog.New(slog.DiscardHandler))
	if got := d.Params.Encode(); got != "ipv4=203.0.113.10&port=3478" || d.Kind != "relay" || d.Join != (wire.RelayJoin{StampSecret: secret}) {
		t.Errorf("registration: %s, %s, %v", got, d.Kind, d.Join)
	}
	if !strings.Contains(d.UserAgent, "relay/0.1.0") {
		t.Errorf("user agent %s", d.UserAgent)
	}
}

func TestBadOptions(t *testing.T) {
	url, v4 := "--api-url=wss://api.example.net", "--public-ip4-addr=203.0.113.10"
	for _, test := range []struct {
		args []string
		say  string
	}{
		{[]string{url}, "PUBLIC_IP4_ADDR"},
		{[]string{v4}, "STILE_API_URL"},
		{[]string{url, "--public-ip4-addr=::1"}, "not an IPv4 address"},
		{[]string{url, "--public-ip6-addr=1.2.3.4"}, "not an IPv6 address"},
		{[]string{url, v4, "--bind-ip4-addr=::"}, "BIND_IP4_ADDR"},
		{[]string{url, v4, "--bind-ip6-addr=1.2.3.4"}, "BIND_IP6_ADDR"},
		{[]string{url, v4, "--lowest-port=60000", "--highest-port=50000"}, "HIGHEST_PORT"},
		{[]string{url, v4, "--lowest-port=0"}, "LOWEST_PORT"},
		{[]string{url, v4, "--listen-port=70000"}, "listen-port"},
		{[]string{url, "--public-ip4-addr=nowhere"}, "public-ip4-addr"},
	} {
		if _, err := parse(t, test.args...); err == nil || !strings.Contains(err.Error(), test.say) {
			t.Errorf("%v: got %v, want something about %s", test.args, err, test.say)
		}
	}
}

func TestTokenLeavesTheEnvironment(t *testing.T) {
	t.Setenv("STILE_TOKEN", "ours")
	t.Setenv("FIREZONE_TOKEN", "stock")
	var c Command
	if token, err := c.token(); err != nil || token.Reveal() != "ours" {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{"STILE_TOKEN", "FIREZONE_TOKEN"} {
		if _, set := os.LookupEnv(name); set {
			t.Errorf("%s is still there", name)
		}
	}
	if _, err := c.token(); !errors.Is(err, keystore.ErrNoToken) || !strings.Contains(err.Error(), "token create --relay") {
		t.Errorf("without token: %v", err)
	}
}
