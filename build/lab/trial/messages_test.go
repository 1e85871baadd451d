//go:build linux

package trial

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"stile/platform/cmdline"
)

const failed, misused = cmdline.Failed, cmdline.Misused

// The three programs of the tunnel as they start on a machine where all is
// well, but for a portal that does not answer.
const (
	client  = "stiled --api-url wss://127.0.0.1"
	gateway = "stile-server gateway --api-url wss://127.0.0.1"
	relay   = "stile-server relay --public-ip4-addr 127.0.0.1 --api-url wss://127.0.0.1"
)

const token = "STILE_TOKEN=.abcdef"

// TestOneSentence goes through what somebody may get wrong. The program ends
// with the right status and says one thing: what is wrong and what to do.
func TestOneSentence(t *testing.T) {
	for _, row := range []struct {
		name    string
		prepare func(m *machine)
		program program
		status  int
		says    []string
	}{
		// The command line.
		{"client: unknown option", nil, typed("stiled --api-ulr wss://portal.test"), misused, []string{"unknown flag --api-ulr", "see stiled --help"}},
		{"client: a word too much", nil, typed(client + " start"), misused, []string{"unexpected argument start"}},
		{"client: no portal", nil, typed("stiled").with(token), failed, []string{"which portal? Set --api-url or STILE_API_URL"}},
		{"client: no such log level", nil, typed(client).with(token, "STILE_LOG_LEVEL=loud"), misused, []string{"--log-level", "is no log filter"}},
		{"client: no such DNS control", nil, typed(client + " --dns-control magic").with(token), misused, []string{"use auto, etc-resolv-conf or disabled"}},
		{"client: no duration", nil, typed(client + " --max-partition-time soon").with(token), misused, []string{"use forms like 90s"}},
		{"gateway: no portal", nil, typed("stile-server gateway").with(token), misused, []string{"which portal?"}},
		{"gateway: no duration", nil, typed(gateway + " --max-partition-time=-1h").with(token), misused, []string{"use forms like 90s"}},
		{"relay: no address", nil, typed("stile-server relay --api-url wss://127.0.0.1").with(token), misused, []string{"PUBLIC_IP4_ADDR"}},
		{"relay: port too high", nil, typed(relay + " --listen-port 70000").with(token), misused, []string{"--listen-port", "70000"}},
		{"relay: no portal", nil, typed("stile-server relay --public-ip4-addr 127.0.0.1").with(token), misused, []string{"which portal?"}},
		{"portal: token for whom", nil, typed("stile-server portal token create"), misused, []string{"--gateway=SITE or --relay or --client=EMAIL"}},
		{"server: no such command", nil, typed("stile-server getaway"), misused, []string{"did you mean \"gateway\""}},

		// The portal's URL.
		{"client: foreign scheme", nil, typed("stiled --api-url ftp://portal.test").with(token), misused, []string{"has the scheme ftp", "wss://portal.example.com"}},
		{"client: plain by option", nil, typed("stiled --api-url ws://portal.test").with(token), misused, []string{"refusing to send the token unencrypted: use wss://"}},
		{"client: no URL", nil, typed("stiled --api-url x:y:z").with(token), misused, []string{"is no URL", "wss://portal.example.com"}},
		{"client: no host", nil, typed("stiled --api-url wss://").with(token), misused, []string{"wss://portal.example.com"}},
		{"client: port 0", nil, typed("stiled --api-url wss://portal.test:0").with(token), misused, []string{"has no port between 1 and 65535"}},
		{"gateway: foreign scheme", nil, typed("stile-server gateway --api-url tcp://portal.test").with(token), misused, []string{"has the scheme tcp"}},
		{"relay: foreign scheme", nil, typed("stile-server relay --public-ip4-addr 127.0.0.1 --api-url udp://portal.test").with(token), misused, []string{"has the scheme udp"}},

		// The token.
		{"gateway: no token", nil, typed(gateway), failed, []string{"no token", "portal token create --gateway SITE", "/etc/stile/gateway-token (mode 0600) or STILE_TOKEN"}},
		{"relay: no token", nil, typed(relay), failed, []string{"no token", "portal token create --relay", "STILE_TOKEN"}},
		{"client: token for all to read", secret("/etc/stile/token", 0o644), typed(client), failed, []string{"has mode 0644, which lets others read the token", "chmod 0600 /etc/stile/token"}},
		{"gateway: token for all to read", secret("/etc/stile/gateway-token", 0o644), typed(gateway), failed, []string{"mode 0644", "chmod 0600"}},
		{"relay: token for all to read", secret("/etc/stile/t", 0o604), typed(relay + " --token-file /etc/stile/t"), failed, []string{"mode 0604", "chmod 0600"}},
		{"client: token of somebody else", func(m *machine) {
			secret("/etc/stile/token", 0o600)(m)
			needSecondUser(m)
			must(m.t, m.Do(func() error { return os.Chown("/etc/stile/token", nobody, nobody) }))
		}, typed(client), failed, []string{"belongs to user 65534, not to root", "chown root:root /etc/stile/token"}},
		{"client: a folder for a token", nil, typed(client + " --token-path /etc"), failed, []string{"/etc is not a token file"}},
		{"client: garbage for a token", func(m *machine) { m.write("/etc/stile/token", "\x7fELF\x02\x01", 0o600) }, typed(client), failed, []string{"/etc/stile/token is not a token file"}},
		{"gateway: garbage for a token", nil, typed(gateway).with("STILE_TOKEN=a\xff"), failed, []string{"holds no token"}},

		// The certificates to trust.
		{"client: no CA file", nil, typed(client + " --ca-file /nowhere/ca.pem").with(token), failed, []string{"/nowhere/ca.pem", "or leave --ca-file out"}},
		{"client: garbage for a CA file", func(m *machine) { m.write("/run/ca", "garbage", 0o644) }, typed(client + " --ca-file /run/ca").with(token), failed, []string{"CA file /run/ca holds no certificate in PEM"}},
		{"client: checked", func(m *machine) { m.write("/run/ca", "garbage", 0o644) }, typed(client + " --check --ca-file /run/ca").with(token), failed, []string{"CA file /run/ca holds no certificate in PEM"}},
		{"client: checked without a token", nil, typed(client + " --check"), failed, []string{"a headless client needs one in /etc/stile/token (mode 0600) or STILE_TOKEN", "stile sign-in"}},
		{"gateway: no CA file", nil, typed(gateway + " --ca-file /nowhere").with(token), failed, []string{"/nowhere"}},
		{"relay: garbage for a CA file", func(m *machine) { m.write("/run/ca", "garbage", 0o644) }, typed(relay + " --ca-file /run/ca").with(token), failed, []string{"holds no certificate in PEM"}},

		// The machine.
		{"client: no TUN driver", noDriver, typed(client).with(token), failed, []string{"no driver for tunnel devices", "modprobe tun", "--device /dev/net/tun"}},
		{"gateway: no TUN driver", noDriver, typed(gateway).with(token), failed, []string{"no driver for tunnel devices", "modprobe tun"}},
		{"client: not root", nil, typed(client).with(token).asUser(), failed, []string{"run as root or with CAP_NET_ADMIN"}},
		{"gateway: not root", nil, typed(gateway).with(token).asUser(), failed, []string{"run as root or with CAP_NET_ADMIN"}},
		{"client: not root, root's token", secret("/etc/stile/token", 0o600), typed(client).asUser(), failed, []string{"/etc/stile/token: permission denied; run as root"}},
		{"relay: not root, low port", highPorts, typed(relay + " --listen-port 53").with(token).asUser(), failed, []string{"permission denied", "CAP_NET_BIND_SERVICE"}},
		{"relay: port taken", occupied("udp4", ":3478"), typed(relay).with(token), failed, []string{"0.0.0.0:3478", "address already in use", "stop that one"}},
		{"relay: health port taken", occupied("tcp4", ":8080"), typed(relay).with(token), failed, []string{"--health-check-addr"}},
		{"client: linked resolv.conf", linked, typed(client).with(token), failed, []string{"systemd-resolved manages DNS here", "replace the link by a regular file, or use --dns-control disabled"}},
		{"client: no resolv.conf", func(m *machine) { must(m.t, m.Do(func() error { return os.Remove("/etc/resolv.conf") })) }, typed(client).with(token), failed, []string{"/etc/resolv.conf does not exist: create it", "--dns-control disabled"}},
		{"client: a folder for resolv.conf", func(m *machine) {
			must(m.t, m.Do(func() error { return os.Remove("/etc/resolv.conf") }))
			must(m.t, m.Do(func() error { return os.Mkdir("/etc/resolv.conf", 0o755) }))
		}, typed(client).with(token), failed, []string{"/etc/resolv.conf is not a regular file"}},
		{"client: a file for the state folder", nil, typed(client + " --state-dir /etc/hosts").with(token), failed, []string{"/etc/hosts", "name another folder with --state-dir"}},
		{"gateway: read-only folder for the device id", func(m *machine) {
			must(m.t, m.Do(func() error { return os.WriteFile("/etc/machine-id", nil, 0o644) }))
			m.mount("/var/lib/stile", unix.MS_RDONLY, "")
		}, typed(gateway).with(token), failed, []string{"store the device id", "read-only file system", "--state-dir", "--id"}},

		// The portal.
		{"portal: no configuration", nil, typed("stile-server portal run"), failed, []string{"there is no configuration /etc/stile/portal.yaml", "stile-server portal init"}},
		{"portal: no configuration, status", nil, typed("stile-server portal status"), failed, []string{"there is no configuration /etc/stile/portal.yaml", "stile-server portal init"}},
		{"portal: unreadable configuration", func(m *machine) { m.write("/etc/stile/portal.yaml", "", 0o600) }, typed("stile-server portal run").asUser(), failed, []string{"permission denied", "it must be readable for the user the portal runs as"}},
		{"portal: unreadable configuration, check", func(m *machine) { m.write("/etc/stile/portal.yaml", "", 0o600) }, typed("stile-server portal check-config").asUser(), failed, []string{"may not be read by this user", "as root or as the portal's own user"}},
		{"portal: init, not root", nil, typed("stile-server portal init --email alice@example.com").reading("long enough").asUser(), failed, []string{"permission denied", "run it as root, or name other places with --config"}},
		{"portal: commands of others", func(m *machine) { m.portal() }, typed("stile-server portal status").asUser(), failed, []string{"not allowed to use this socket", "as root or as the portal's own user"}},
		{"portal: short password", nil, typed("stile-server portal init --email alice@example.com").reading("short"), failed, []string{"at least 8 characters"}},
		{"portal: no password", nil, typed("stile-server portal init --email alice@example.com"), failed, []string{"no password on standard input"}},
		{"portal: port taken", func(m *machine) {
			m.init()
			occupied("tcp4", ":8443")(m)
		}, typed("stile-server portal run"), failed, []string{"listener :8443", "address already in use", "stop it or give this listener another address"}},
		{"portal: low port, not root", func(m *machine) {
			m.initAt("https://portal.test")
			highPorts(m)
			m.giveAwayPortal()
		}, typed("stile-server portal run").asUser(), failed, []string{"listener :443", "CAP_NET_BIND_SERVICE"}},
		{"portal: data of root, not root", func(m *machine) { m.init() }, typed("stile-server portal run").asUser(), failed, []string{"open the store", "permission denied", "must belong to the user the portal runs as"}},
		{"portal: key of root, not root", func(m *machine) {
			m.init()
			m.giveAwayPortal()
			must(m.t, m.Do(func() error { return os.Chown("/etc/stile/portal.key", 0, 0) }))
		}, typed("stile-server portal run").asUser(), failed, []string{"/etc/stile/portal.key: permission denied", "readable for the user the portal runs as"}},
		{"portal: no certificate", func(m *machine) {
			m.init()
			must(m.t, m.Do(func() error { return os.Remove("/etc/stile/portal.pem") }))
		}, typed("stile-server portal run"), failed, []string{"/etc/stile/portal.pem", "no such file"}},
		{"portal: read-only data folder", func(m *machine) {
			m.init()
			must(m.t, m.Do(func() error { return os.RemoveAll("/var/lib/stile/portal") }))
			m.mount("/var/lib/stile/portal", unix.MS_RDONLY, "")
		}, typed("stile-server portal run"), failed, []string{"open the store", "read-only file system"}},
		{"portal: garbage for a store", func(m *machine) {
			m.init()
			m.write("/var/lib/stile/portal/portal.db", strings.Repeat("garbage", 1000), 0o600)
		}, typed("stile-server portal run"), failed, []string{"/var/lib/stile/portal/portal.db", "not a database", "move it away"}},
		{"portal: running already", func(m *machine) { m.portal() }, typed("stile-server portal run"), failed, []string{"another process answers at this socket"}},
		{"portal: no such token", func(m *machine) { m.init() }, typed("stile-server portal token revoke abc"), failed, []string{"token list"}},
		{"portal: no such site", func(m *machine) { m.init() }, typed("stile-server portal token create --gateway Nowhere"), failed, []string{"there is no site \"Nowhere\"; there are: Office"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := newMachine(t)
			if row.prepare != nil {
				row.prepare(m)
			}
			got := m.run(row.program)
			said := got.said()
			t.Logf("status %d: %s", got.status, strings.Join(said, "\n"))
			if got.status != row.status {
				t.Errorf("status %d, want %d", got.status, row.status)
			}
			name := filepath.Base(row.program.args[0])
			if len(said) != 1 || !strings.HasPrefix(said[0], name+": ") {
				t.Fatalf("want one line that begins with %q:\n%s", name+":", got.err)
			}
			for _, what := range row.says {
				if !strings.Contains(said[0], what) {
					t.Errorf("it does not say %q", what)
				}
			}
		})
	}
}

// TestChecked: a good configuration is checked without a word.
func TestChecked(t *testing.T) {
	m := newMachine(t)
	for _, p := range []program{
		typed(client + " --check").with(token),
		typed("stiled --check").with(token, "STILE_API_URL=wss://127.0.0.1"),
	} {
		if got := m.run(p); got.status != 0 || len(got.said()) > 0 {
			t.Errorf("%q: status %d: %q", p.args, got.status, got.said())
		}
	}
}

// TestStopsInOrder asks each program to stop, in both ways and twice at once.
func TestStopsInOrder(t *testing.T) {
	for _, line := range []string{client, gateway, relay, "stile-server portal run"} {
		for _, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
			t.Run(fmt.Sprint(line, " ", signal), func(t *testing.T) {
				m := newMachine(t)
				ready := "no connection to the portal"
				if strings.HasSuffix(line, "portal run") {
					m.init()
					ready = "listening"
				}
				p := m.start(typed(line).with(token))
				p.says(ready)
				must(t, p.cmd.Process.Signal(signal))
				if got := p.stop(signal); got.status != 0 || len(got.said()) != 0 {
					t.Errorf("status %d, said %q", got.status, got.said())
				}
			})
		}
	}
}

// secret writes a file that holds a token.
func secret(path string, mode os.FileMode) func(*machine) {
	return func(m *machine) { m.write(path, ".abcdef\n", mode) }
}

// noDriver covers the device nodes with a node of nothing.
func noDriver(m *machine) {
	m.mount("/dev/net", unix.MS_RDONLY, "")
}

func linked(m *machine) {
	must(m.t, m.Do(func() error {
		if err := os.Remove("/etc/resolv.conf"); err != nil {
			return err
		}
		return os.Symlink("../run/systemd/resolve/stub-resolv.conf", "/etc/resolv.conf")
	}))
}

// highPorts leaves ports below 1024 to root, which the enclosure's kernel may
// not do by itself.
func highPorts(m *machine) { must(m.t, m.Sysctl("net.ipv4.ip_unprivileged_port_start", "1024")) }

// occupied has another program take a port, for as long as the test lasts.
func occupied(network, address string) func(*machine) {
	return func(m *machine) {
		must(m.t, m.InNetwork(func() error {
			if strings.HasPrefix(network, "tcp") {
				l, err := net.Listen(network, address)
				if err == nil {
					m.t.Cleanup(func() { l.Close() })
				}
				return err
			}
			c, err := new(net.ListenConfig).ListenPacket(context.Background(), network, address)
			if err == nil {
				m.t.Cleanup(func() { c.Close() })
			}
			return err
		}))
	}
}

func needSecondUser(m *machine) {
	if _, err := os.Stat("/proc/self/uid_map"); err == nil {
		if err := m.Do(func() error { return os.Chown("/run", 0, 0) }); err != nil {
			m.t.Skip("NOT TESTED: a second user needs root; run the tests as root")
		}
	}
}
