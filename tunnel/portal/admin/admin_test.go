package admin

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"stile/platform/ipcsock"
	"stile/tunnel/id"
	"stile/tunnel/portal/config"
	"stile/tunnel/portal/store"
	"stile/tunnel/wire"
)

const password = "correct horse battery staple"

// A newcomer's first hour, with the portal stopped.
func TestStopped(t *testing.T) {
	m := newHost(t)
	out, _ := m.ok(password+"\n", "init", "--email", "alice@example.com", "--slug", "acme", "--url", "https://portal.example.com", "--data-dir", m.data, "--socket", m.socket)
	for _, want := range []string{"Wrote " + m.config, "stile-server portal run --config " + m.config, "token create --gateway Office", "wss://portal.example.com", "https://portal.example.com/acme"} {
		if !strings.Contains(out, want) {
			t.Errorf("init does not say %q:\n%s", want, out)
		}
	}
	m.fails("x\n", "is there already", "init", "--email", "a@b.c")

	out, warnings := m.ok("", "check-config")
	if !strings.Contains(out, "is valid: 1 sites, 2 groups, 1 resources, 1 policies") || warnings != "" {
		t.Errorf("check-config: %s%s", out, warnings)
	}
	m.edit("alice@example.com", "bob@example.com")
	if _, warnings = m.ok("", "check-config"); !strings.Contains(warnings, m.config+":") || !strings.Contains(warnings, "there is no user bob@example.com; add one with") {
		t.Errorf("check-config with a stranger: %s", warnings)
	}

	if _, hint := m.ok(password+"\n", "user", "add", "carol@example.com", "--name", "Carol"); !strings.Contains(hint, "is in no group but Everyone") {
		t.Errorf("user add: %s", hint)
	}
	if _, hint := m.ok(password+"\n", "user", "add", "bob@example.com"); hint != "" {
		t.Errorf("user add of a member: %s", hint)
	}
	m.fails(password+"\n", "user passwd bob@example.com", "user", "add", "bob@example.com")
	m.fails(password+"\n", "there is no user \"dave@example.com\"", "user", "passwd", "dave@example.com")
	m.ok("another "+password+"\r\n", "user", "passwd", "carol@example.com")
	m.fails("", "no password on standard input", "user", "passwd", "carol@example.com")
	m.fails("short\n", "", "user", "add", "erin@example.com")

	m.fails("", `there is no site "Ofice"; there are: Office`, "token", "create", "--gateway", "Ofice")
	m.fails("", "user add zoe@example.com", "token", "create", "--client", "zoe@example.com")
	m.fails("", "is in the past", "token", "create", "--relay", "--expires", "2020-01-01T00:00:00Z")
	m.fails("", "neither a length of time", "token", "create", "--relay", "--expires", "soon")
	tokens := map[string]TokenCreated{}
	for kind, args := range map[string][]string{"gateway": {"--gateway", "Office"}, "relay": {"--relay"}, "client": {"--client", "Carol@example.com", "--expires", "90d", "--name", "kiosk"}} {
		out, _ := m.ok("", append([]string{"token", "create", "--json"}, args...)...)
		var made TokenCreated
		if err := json.Unmarshal([]byte(out), &made); err != nil || made.Kind != kind || !strings.HasPrefix(made.Token, ".") {
			t.Errorf("%s: %v", out, err)
		}
		tokens[kind] = made
	}
	if ends := time.Unix(tokens["client"].ExpiresAt, 0); time.Until(ends) < 89*24*time.Hour || tokens["client"].For != "carol@example.com" {
		t.Errorf("client token %+v", tokens["client"])
	}
	out, note := m.ok("", "token", "create", "--service", "Backup")
	if out == "" || !strings.Contains(note, "clients of Backup") || !strings.Contains(note, "services: [Backup]") {
		t.Errorf("token create --service: %q", note)
	}
	out, note = m.ok("", "token", "create", "--relay")
	if strings.Count(out, "\n") != 1 || !strings.Contains(note, "token revoke ") || !strings.Contains(note, "never expires") {
		t.Errorf("token create: %q, %q", out, note)
	}

	m.withStore(func(s *store.Store) {
		for kind, made := range tokens {
			found, err := s.Authenticate(made.Token)
			if err != nil || string(found.Kind) != kind || found.ID != made.ID {
				t.Errorf("%s token: %+v, %v", kind, found, err)
			}
		}
		if _, ok, _ := s.CheckPassword(t.Context(), "carol@example.com", "another "+password); !ok {
			t.Error("the new password does not work")
		}
	})
	if found := m.grep(tokens["gateway"].Token, password); found != "" {
		t.Errorf("a secret stands in %s", found)
	}

	m.ok("", "token", "revoke", tokens["relay"].ID.String())
	m.fails("", "there is no token", "token", "revoke", tokens["relay"].ID.String())
	m.fails("", "is not the ID of a token", "token", "revoke", tokens["gateway"].Token)
	out, _ = m.ok("", "token", "list")
	if strings.Contains(out, tokens["relay"].ID.String()) || !strings.Contains(out, "Office") || !strings.Contains(out, "kiosk") {
		t.Errorf("token list:\n%s", out)
	}
	out, _ = m.ok("", "status")
	for _, want := range []string{"account acme: stopped", "4 users, 1 sites, 1 resources, 1 policies, 0 authorizations", "warning: "} {
		if strings.Contains(out, want) == (want == "warning: ") {
			t.Errorf("status: %q wrong in\n%s", want, out)
		}
	}
}

func TestRunning(t *testing.T) {
	m := newHost(t)
	m.ok(password+"\n", "init", "--email", "alice@example.com", "--data-dir", m.data, "--socket", m.socket)
	s, err := store.Open(m.data)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	account, _ := s.Account()
	text, _ := os.ReadFile(m.config)
	c, err := config.Parse(text, config.Options{Account: account.ID, Zones: time.LoadLocation})
	if err != nil {
		t.Fatal(err)
	}
	gateway, err := s.ConnectGateway(c.Account.Sites[0].ID, store.Device{ExternalID: "g", Name: "gw-1", PublicKey: wire.Key{1}})
	if err != nil {
		t.Fatal(err)
	}
	var revoked []id.Token
	b := &Backend{
		Store: s, Config: func() *config.Config { return c }, Revoked: func(t id.Token) { revoked = append(revoked, t) },
		Online: func(s *Status) {
			s.Version, s.StartedAt, s.ConfigError = "0.1.0", 1_700_000_000, "portal.yaml:1:1: no"
			for i := range s.Gateways {
				s.Gateways[i].Online = s.Gateways[i].ID == gateway.Client().String()
			}
		},
	}
	stop := m.serve(b)

	m.edit("account:", "acount: [") // the running portal keeps what it has
	var made TokenCreated
	out, _ := m.ok("", "token", "create", "--json", "--gateway", "Office")
	json.Unmarshal([]byte(out), &made)
	m.ok("", "token", "revoke", made.ID.String())
	if len(revoked) != 1 || revoked[0] != made.ID {
		t.Errorf("revoked %v, want %v", revoked, made.ID)
	}
	m.ok(password+"\n", "user", "add", "bob@example.com")
	m.fails("", "there is no site", "token", "create", "--gateway", "Paris")

	out, _ = m.ok("", "status")
	for _, want := range []string{"portal 0.1.0", "running since", "gateways (1 of 1 online)", "gw-1", "online", "not in force:\nportal.yaml:1:1: no", "no relay is online"} {
		if !strings.Contains(out, want) {
			t.Errorf("status does not say %q:\n%s", want, out)
		}
	}
	out, _ = m.ok("", "status", "--json")
	var status Status
	if err := json.Unmarshal([]byte(out), &status); err != nil || !status.Running || status.Users != 2 || len(status.Gateways) != 1 || !status.Gateways[0].Online {
		t.Errorf("status --json: %v\n%s", err, out)
	}
	if _, err := Listen(m.socket); !errors.Is(err, ipcsock.ErrInUse) {
		t.Errorf("second portal: %v", err)
	}
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("Serve: %v", err)
	}
	m.fails("", "cannot be read", "token", "create", "--gateway", "Office")
	if out, _ = m.ok("", "status"); !strings.Contains(out, "stopped") || !strings.Contains(out, m.config+":") {
		t.Errorf("status when stopped:\n%s", out)
	}
}

func TestUnfriendlyCallers(t *testing.T) {
	m := newHost(t)
	s, err := store.Open(m.data)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	m.serve(&Backend{Store: s})
	for _, row := range []struct{ name, say, want string }{
		{"garbage", "\x00\xff\n", "not understood"},
		{"cut off", `{"version":1`, "not understood"},
		{"endless", strings.Repeat("x", maxRequest+10), "not understood"},
		{"of another version", `{"version":2,"do":"status"}` + "\n", "restart the portal"},
		{"unknown command", `{"version":1,"do":"format disk"}` + "\n", "does not know"},
		{"wrong arguments", `{"version":1,"do":"token create","args":[1]}` + "\n", "arguments"},
		{"no arguments", `{"version":1,"do":"token create"}` + "\n", "arguments"},
	} {
		conn, err := ipcsock.Dial(m.socket)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			conn.Write([]byte(row.say))
			conn.(*net.UnixConn).CloseWrite()
		}()
		var r response
		if err := json.NewDecoder(conn).Decode(&r); err != nil || !strings.Contains(r.Error, row.want) {
			t.Errorf("%s: %+v, %v", row.name, r, err)
		}
		conn.Close()
	}
	if info, err := os.Stat(m.socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info.Mode(), err)
	}
	if !allowed(0) || !allowed(uint32(os.Geteuid())) || allowed(uint32(os.Geteuid())+12345) {
		t.Error("the wrong ones are allowed")
	}
}

func TestHelpfulErrors(t *testing.T) {
	m := newHost(t)
	m.fails("", "stile-server portal init", "status")
	os.WriteFile(m.config, []byte("acount:\n  slug: x\nlisteners: 7\nsocket: "+m.socket+"\ndata_dir: "+m.data+"\n"), 0o600)
	m.fails("", m.config+":1:1: unknown setting \"acount\"; did you mean account?\n", "check-config")
	m.fails("", m.config+":3:12: listeners: is a single value", "check-config")
	m.fails("", m.config+": external_url: is missing", "check-config")
	m.fails("", "has no data in "+m.data+" yet", "status")
	m.fails("x\n", "--url", "init", "--config", m.config+"2", "--email", "a@b.c", "--url", "nonsense")
	m.fails("x\n", "is not an e-mail address", "init", "--config", m.config+"2", "--email", "alice")
	m.fails("x\n", "go together", "init", "--config", m.config+"2", "--email", "a@b.c", "--cert", "/c")
	if _, err := os.Stat(m.config + "2"); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a failed init left a file")
	}
}

func TestSelfSigned(t *testing.T) {
	m := newHost(t)
	out, _ := m.ok(password+"\n", "init", "--email", "a@b.c", "--url", "https://portal.lab:8443", "--self-signed", "--data-dir", m.data, "--socket", m.socket)
	dir := filepath.Dir(m.config)
	authority, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{filepath.Join(dir, "ca.pem"), "update-ca-certificates", "--ca-file ca.pem"} {
		if !strings.Contains(out, want) {
			t.Errorf("init does not say %q:\n%s", want, out)
		}
	}
	if _, warnings := m.ok("", "check-config"); warnings != "" {
		t.Errorf("check-config: %s", warnings)
	}
	text, _ := os.ReadFile(m.config)
	c, err := config.Parse(text, config.Options{Zones: time.LoadLocation})
	if err != nil || c.Listeners[0].Address != ":8443" {
		t.Fatalf("%+v, %v", c, err)
	}
	if info, err := os.Stat(c.Listeners[0].KeyFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key: %v, %v", info, err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	leaf := loadLeaf(t, c.Listeners[0])
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "portal.lab"}); err != nil {
		t.Error(err)
	}
	ip, err := selfSign(t.TempDir(), "192.0.2.7", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := loadLeaf(t, config.Listener{CertFile: ip.CertFile, KeyFile: ip.KeyFile}).VerifyHostname("192.0.2.7"); err != nil {
		t.Error(err)
	}
}

func TestPasswordsAreAskedTwice(t *testing.T) {
	lines := []string{"one", "two", "same", "same"}
	var prompts bytes.Buffer
	term := &terminal{err: &prompts, hidden: func() ([]byte, error) {
		line := lines[0]
		lines = lines[1:]
		return []byte(line), nil
	}}
	if p, err := term.newPassword("alice"); err == nil {
		t.Errorf("different answers gave %q", p)
	}
	if p, err := term.newPassword("alice"); p != "same" || err != nil {
		t.Errorf("%q, %v", p, err)
	}
	if strings.Contains(prompts.String(), "same") {
		t.Error("the password shows")
	}
}

// A host has a configuration and a store of its own.
type host struct {
	t                    *testing.T
	config, data, socket string
}

func newHost(t *testing.T) *host {
	dir := t.TempDir()
	short, err := os.MkdirTemp("", "adm") // the path of a socket has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(short) })
	return &host{t, filepath.Join(dir, "portal.yaml"), filepath.Join(dir, "data"), filepath.Join(short, "s")}
}

// run parses and runs one command as the program does.
func (m *host) run(stdin string, args ...string) (out, errOut string, err error) {
	m.t.Helper()
	var c Commands
	parser, err := kong.New(&c, kong.Name("stile-server portal"), kong.Exit(func(int) { m.t.Error("exit") }))
	if err != nil {
		m.t.Fatal(err)
	}
	if !strings.Contains(strings.Join(args, " "), "--config") {
		args = append(args, "--config", m.config)
	}
	chosen, err := parser.Parse(args)
	if err != nil {
		return "", "", err
	}
	var o, e bytes.Buffer
	term := &terminal{in: strings.NewReader(stdin), out: &o, err: &e}
	command := chosen.Selected().Target.Addr().Interface().(interface {
		run(context.Context, *terminal) error
	})
	err = command.run(m.t.Context(), term)
	return o.String(), e.String(), err
}

func (m *host) ok(stdin string, args ...string) (out, errOut string) {
	m.t.Helper()
	out, errOut, err := m.run(stdin, args...)
	if err != nil {
		m.t.Fatalf("%v: %v", args, err)
	}
	return out, errOut
}

func (m *host) fails(stdin, want string, args ...string) {
	m.t.Helper()
	if out, _, err := m.run(stdin, args...); err == nil || !strings.Contains(err.Error(), want) {
		m.t.Errorf("%v: %q, %v; want an error with %q", args, out, err, want)
	}
}

func (m *host) edit(old, new string) {
	m.t.Helper()
	text, err := os.ReadFile(m.config)
	if err != nil || !strings.Contains(string(text), old) {
		m.t.Fatalf("%q is not in the file (%v)", old, err)
	}
	if err := os.WriteFile(m.config, []byte(strings.Replace(string(text), old, new, 1)), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

func (m *host) withStore(f func(*store.Store)) {
	m.t.Helper()
	s, err := store.Open(m.data)
	if err != nil {
		m.t.Fatal(err)
	}
	defer s.Close()
	f(s)
}

// grep returns the file of the store that holds one of secrets.
func (m *host) grep(secrets ...string) (found string) {
	filepath.WalkDir(filepath.Dir(m.config), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		for _, s := range secrets {
			if bytes.Contains(content, []byte(s)) {
				found = path
			}
		}
		return err
	})
	return found
}

// serve runs the socket until the test or stop ends it.
func (m *host) serve(b *Backend) (stop func() error) {
	m.t.Helper()
	l, err := ipcsock.Listen(m.socket, 0o600)
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var g sync.WaitGroup
	g.Go(func() { err = Serve(ctx, l, b, slog.New(slog.DiscardHandler)) })
	stop = func() error {
		cancel()
		g.Wait()
		return err
	}
	m.t.Cleanup(func() { stop() })
	return stop
}

func loadLeaf(t *testing.T, l config.Listener) *x509.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(l.CertFile, l.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}
