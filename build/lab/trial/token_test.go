//go:build linux

package trial

import (
	"path/filepath"
	"strings"
	"testing"
)

const realOptions = " --api-url wss://portal.test:8443 --ca-file /etc/stile/ca.pem"

// token has the portal make a token.
func (m *machine) token(line string) string {
	m.t.Helper()
	got := m.run(typed("stile-server portal token create " + line))
	if got.status != 0 {
		m.t.Fatalf("token create %s: %s", line, got.err)
	}
	return strings.TrimSpace(got.out)
}

// TestWrongTokens has each program meet a portal that does not want its token:
// it says what to do and ends.
func TestWrongTokens(t *testing.T) {
	m := newMachine(t)
	portal := m.portal()
	ofRelay, ofGateway := m.token("--relay"), m.token("--gateway Office")
	revoked := m.token("--client alice@example.com")
	list := m.run(typed("stile-server portal token list"))
	for line := range strings.Lines(list.out) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[1] == "client" {
			if got := m.run(typed("stile-server portal token revoke " + fields[0])); got.status != 0 {
				t.Fatal(got.err)
			}
		}
	}
	const make = "stile-server portal token create "
	for _, row := range []struct{ name, line, token, says string }{
		{"client, made up", "stiled" + realOptions, ".abcdef", make + "--client USER"},
		{"client, revoked", "stiled" + realOptions, revoked, make + "--client USER"},
		{"client, a gateway's", "stiled" + realOptions, ofGateway, make + "--client USER"},
		{"gateway, made up", "stile-server gateway" + realOptions, "a", make + "--gateway SITE"},
		{"gateway, a relay's", "stile-server gateway" + realOptions, ofRelay, make + "--gateway SITE"},
		{"gateway, long", "stile-server gateway" + realOptions, strings.Repeat("a", 8000), make + "--gateway SITE"},
		{"relay, a gateway's", "stile-server relay --public-ip4-addr 127.0.0.1" + realOptions, ofGateway, make + "--relay"},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := &machine{m.Host, t}
			got := m.run(typed(row.line).with("STILE_TOKEN=" + row.token))
			said := got.said()
			t.Logf("status %d: %s", got.status, strings.Join(said, "\n"))
			name := filepath.Base(typed(row.line).args[0])
			if got.status != failed || len(said) != 1 || !strings.HasPrefix(said[0], name+": ") ||
				!strings.Contains(said[0], "the portal rejects the token") || !strings.Contains(said[0], row.says) {
				t.Errorf("want %q:\n%s", row.says, got.err)
			}
			if strings.Contains(got.err+portal.err.String(), row.token[:min(len(row.token), 20)]) && len(row.token) > 10 {
				t.Error("a log has the token")
			}
		})
	}
	portal.lives()
}
