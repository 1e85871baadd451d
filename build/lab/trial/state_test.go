//go:build linux

package trial

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// TestWhatIsNoReasonNotToRun starts a client on a machine where something is
// wrong that it can live with: it says so, and the tunnel stands.
func TestWhatIsNoReasonNotToRun(t *testing.T) {
	garbageIn := func(file string) func(*machine) {
		return func(m *machine) { m.write("/var/lib/stile/"+file, "\x00garbage", 0o600) }
	}
	for _, row := range []struct {
		name    string
		prepare func(*machine)
		options string
		says    []string
	}{
		{"garbage for a device id", garbageIn("device-id.json"), "", []string{"the stored device id is unreadable and was put aside"}},
		{"garbage for proxy addresses", garbageIn("proxy-addresses.json"), "", []string{"proxy addresses are unreadable", "was put aside"}},
		{"garbage for settings", garbageIn("settings.json"), "", []string{"a file is unreadable", "was put aside"}},
		{"garbage in a folder that cannot be written", func(m *machine) {
			m.mount("/var/lib/stile", 0, "")
			garbageIn("proxy-addresses.json")(m)
			must(m.t, m.Do(func() error { return unix.Mount("", "/var/lib/stile", "", unix.MS_REMOUNT|unix.MS_RDONLY, "") }))
		}, "", []string{"could not be put aside", "proxy addresses could not be stored", "read-only file system"}},
		{"a full state folder", func(m *machine) {
			m.mount("/var/lib/stile", 0, "size=64k")
			m.Do(func() error { return os.WriteFile("/var/lib/stile/full", make([]byte, 1<<20), 0o600) })
		}, "", []string{"proxy addresses could not be stored", "no space left on device"}},
		{"a read-only state folder", func(m *machine) { m.mount("/var/lib/stile", unix.MS_RDONLY, "") }, "", []string{"proxy addresses could not be stored", "read-only file system"}},
		{"port 52625 taken", func(m *machine) {
			occupied("udp4", ":52625")(m)
			occupied("udp6", "[::]:52625")(m)
		}, " --log-level debug", []string{"UDP socket"}},
		{"DNS of a run that was killed", func(m *machine) {
			m.write("/etc/resolv.conf.before-stile", "nameserver 127.0.0.53\n", 0o644)
			m.write("/etc/resolv.conf", "# BEGIN Stile DNS configuration\nnameserver 100.100.111.1\n", 0o644)
		}, "", nil},
		{"garbage for the hosts file", func(m *machine) { m.write("/etc/hosts", "\x00\xff\n::::: x\n127.0.0.1\tportal.test\n", 0o644) }, "", nil},
		{"garbage for os-release", func(m *machine) {
			// Often a link into /usr, which is not this machine's alone.
			must(m.t, m.Do(func() error { return os.RemoveAll("/etc/os-release") }))
			m.write("/etc/os-release", "\x00\xff=\nNAME=\"\xff\"\n", 0o644)
		}, "", nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := newMachine(t)
			row.prepare(m)
			m.fake(session(t, func(p *peer) { p.say(toClients[0]); p.stay() }))
			r := m.start(typed("stiled" + fakeOptions + row.options).with(token))
			eventually(t, func() error { return m.resolves("wiki.corp.example") })
			for _, what := range row.says {
				r.says(what)
			}
			if got := r.stop(syscall.SIGTERM); got.status != 0 {
				t.Errorf("status %d", got.status)
			}
			if got := m.read("/etc/resolv.conf"); got != "nameserver 127.0.0.53\n" {
				t.Errorf("resolv.conf afterwards:\n%s", got)
			}
		})
	}
}

// TestASecondOneLeavesTheFirstAlone starts each program twice.
func TestASecondOneLeavesTheFirstAlone(t *testing.T) {
	for _, row := range []struct {
		name, first, ready, second string
		then                       func(*peer)
	}{
		{"clients", "stiled" + fakeOptions, "the tunnel stands", "stiled" + fakeOptions, func(p *peer) { p.say(toClients[0]) }},
		{"client and gateway", "stiled" + fakeOptions, "the tunnel stands", "stile-server gateway" + fakeOptions, func(p *peer) { p.say(toClients[0]) }},
		{"gateways", "stile-server gateway" + fakeOptions, "the gateway stands", "stile-server gateway" + fakeOptions, func(p *peer) { p.say(toGateways[0]) }},
		{"gateway and client", "stile-server gateway" + fakeOptions, "the gateway stands", "stiled" + fakeOptions, func(p *peer) { p.say(toGateways[0]) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := newMachine(t)
			m.fake(session(t, func(p *peer) { row.then(p); p.stay() }))
			first := m.start(typed(row.first).with(token))
			first.says(row.ready)
			before := m.settings()
			got := m.run(typed(row.second).with(token))
			t.Logf("status %d: %s", got.status, strings.Join(got.said(), "\n"))
			if said := got.said(); got.status != failed || len(said) != 1 || !strings.Contains(said[0], "stop the other") {
				t.Errorf("status %d, said %q", got.status, said)
			}
			first.lives()
			if after := m.settings(); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
		})
	}
}

// TestFullDiskUnderThePortal fills the disk of a running portal. Nobody new is
// let in, and each is told why; when there is room again all goes on by itself.
func TestFullDiskUnderThePortal(t *testing.T) {
	m := newMachine(t)
	m.mount("/var/lib/stile/portal", 0, "size=2m")
	portal := m.portal()
	token := m.token("--gateway Office")
	full := func() error { return os.WriteFile("/var/lib/stile/portal/full", make([]byte, 4<<20), 0o600) }
	if err := m.Do(full); err == nil {
		t.Fatal("the disk takes everything")
	}
	got := m.run(typed("stile-server portal user add bob@example.com").reading("long enough"))
	t.Logf("status %d: %s", got.status, got.err)
	if said := got.said(); got.status != failed || len(said) != 1 || !strings.Contains(said[0], "full (13); make room on its disk") {
		t.Errorf("user add: status %d: %q", got.status, said)
	}
	gateway := m.start(typed("stile-server gateway" + realOptions).with("STILE_TOKEN=" + token))
	gateway.says("its store does not answer")
	portal.says("full (13); make room on its disk")
	must(t, m.Do(func() error { return os.Remove("/var/lib/stile/portal/full") }))
	gateway.says("the gateway stands")
	if got := m.run(typed("stile-server portal user add bob@example.com").reading("long enough")); got.status != 0 {
		t.Errorf("user add: status %d: %s", got.status, got.err)
	}
}

// settings is what programs change on a machine: DNS, rules, forwarding and
// the firewall.
func (m *machine) settings() string {
	var b bytes.Buffer
	fmt.Fprintln(&b, m.read("/etc/resolv.conf"), m.read("/proc/sys/net/ipv4/ip_forward"))
	rules, err := m.Links.RuleList(unix.AF_UNSPEC)
	must(m.t, err)
	for _, r := range rules {
		fmt.Fprintln(&b, r.Priority, r.Table, r.Mark)
	}
	must(m.t, m.InNetwork(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		tables, err := c.ListTables()
		for _, table := range tables {
			fmt.Fprintln(&b, table.Name)
		}
		return err
	}))
	return b.String()
}
