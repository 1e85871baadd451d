//go:build linux

package trial

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// head is a configuration without resources.
const head = `
account: {slug: acme}
external_url: "https://portal.test:8443"
listeners: [{address: ":8443", tls: {certificate: /etc/stile/portal.pem, key: /etc/stile/portal.key}}]
sites: [Office]
`

// TestBombs gives the portal files that are made to cost much. It refuses them
// soon, without much memory, and says where it hurts.
func TestBombs(t *testing.T) {
	aliases := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		aliases += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 9), ","))
	}
	for _, row := range []struct{ name, text, says string }{
		{"a billion laughs", aliases + head, "unknown setting"},
		{"aliases in place of values", head + "groups: &g [*g]\n", "aliases are not supported"},
		{"a million lists", head + "groups: " + strings.Repeat("[", 1_000_000), "portal.yaml"},
		{"a million mappings", head + "groups: " + strings.Repeat("{a: ", 1_000_000), "portal.yaml"},
		{"too many values", head + "groups: [" + strings.Repeat("a,", 3_000_000) + "]\n", "more than about"},
		{"200,000 mistakes", head + "groups: [" + strings.Repeat("a,", 200_000) + "]\n", "further problems are not shown"},
		{"100 MB", head + "# " + strings.Repeat("x", 100<<20), "the limit is"},
		{"garbage", "\x00\x01\xff\xfe", "portal.yaml"},
		{"a mistake", head + "groups: [{name: 7, emials: []}]\n", "did you mean emails?"},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := newMachine(t)
			m.init()
			m.write("/etc/stile/portal.yaml", row.text, 0o644)
			for _, line := range []string{"stile-server portal check-config", "stile-server portal run"} {
				start := time.Now()
				p := m.start(typed(line))
				used := p.peak()
				got := p.wait()
				t.Logf("%s: %v, %d MB: %.300s", line, time.Since(start).Round(time.Millisecond), used, strings.Join(got.said(), "\n"))
				if got.status != failed || !strings.Contains(got.err, row.says) || !strings.Contains(got.err, "/etc/stile/portal.yaml") || len(got.err) > 20_000 {
					t.Errorf("%s: status %d: %.500s", line, got.status, got.err)
				}
				if used > 1000 {
					t.Errorf("%s: uses %d MB", line, used)
				}
			}
		})
	}
}

// TestABadFileChangesNothing gives a running portal a bomb: it says so, and
// goes on with what it has.
func TestABadFileChangesNothing(t *testing.T) {
	m := newMachine(t)
	portal := m.portal()
	m.write("/etc/stile/portal.yaml", head+"groups: "+strings.Repeat("[", 1_000_000), 0o644)
	portal.says("the last good configuration stays in force")
	if got := m.run(typed("stile-server portal status")); got.status != 0 || !strings.Contains(got.out, "the configuration file is not in force") {
		t.Errorf("status says\n%s%s", got.out, got.err)
	}
	gateway := m.start(typed("stile-server gateway" + realOptions).with("STILE_TOKEN=" + m.token("--gateway Office")))
	gateway.says("the gateway stands")
}

// TestManyResources grants one user 100,000 of them. That is more than a
// client can be told: the administrator learns it when the file is read and when
// the user connects, and the client works with those that fit.
func TestManyResources(t *testing.T) {
	m := newMachine(t)
	m.init()
	const many = 100_000
	var b strings.Builder
	b.WriteString(head + "resources:\n")
	names := make([]string, many)
	for i := range many {
		names[i] = fmt.Sprint("r", i)
		fmt.Fprintf(&b, "  - {name: r%d, address: h%d.corp.example, site: Office, filters: [tcp/443]}\n", i, i)
	}
	fmt.Fprintf(&b, "policies: [{group: Everyone, resources: [%s]}]\n", strings.Join(names, ", "))
	m.write("/etc/stile/portal.yaml", b.String(), 0o644)

	start := time.Now()
	portal := m.start(typed("stile-server portal run"))
	portal.says("may reach 100000 resources; clients can be told of about 20000; grant fewer")
	portal.says("listening")
	t.Logf("%.1f MB of configuration: the portal listens after %v with %d MB", float64(b.Len())/1e6, time.Since(start).Round(time.Millisecond), portal.megabytes())
	client := m.start(typed("stiled" + realOptions).with("STILE_TOKEN=" + m.token("--client alice@example.com")))
	client.says("the tunnel stands")
	portal.says("a user may reach more resources than a client can be told")
	eventually(t, func() error { return m.resolves("h10000.corp.example") })
	t.Logf("the client has %d MB, the portal %d MB", client.megabytes(), portal.megabytes())
	if n := strings.Count(client.err.String(), "connected to the portal"); n != 1 {
		t.Errorf("the client connected %d times", n)
	}
	if got := client.stop(syscall.SIGTERM); got.status != 0 {
		t.Errorf("status %d", got.status)
	}
	if used := portal.megabytes(); used > 1000 {
		t.Errorf("the portal uses %d MB", used)
	}
}
