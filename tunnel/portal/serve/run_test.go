package serve

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"stile/platform/ipcsock"
	"stile/tunnel/portal/admin"
	"stile/tunnel/portal/store"
)

// freePort is a port that nobody listens at, most probably.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// A site is a portal run from a file, as in life.
type site struct {
	t         *testing.T
	dir, file string
	port      int
	log       *safeBuffer
	ask       chan os.Signal
	end       func() error
}

const resources = `resources:
  - {name: Wiki, address: wiki.corp.example}
  - {name: Lab, address: 10.20.0.0/16}
policies:
  - {group: staff, resources: [Wiki, Lab]}
`

// yaml is a configuration with rest as its end.
func (s *site) yaml(rest string) string {
	return fmt.Sprintf(`account: {slug: acme}
external_url: http://127.0.0.1:%d
listeners:
  - {address: "127.0.0.1:%d", plain: true}
socket: %s/portal.sock
data_dir: %s/data
sites: [Berlin]
groups:
  - {name: staff, emails: [alice@example.com, ghost@example.com]}
%s`, s.port, s.port, s.dir, s.dir, rest)
}

// write replaces the file as editors and deployment tools do, by renaming.
func (s *site) write(text string) {
	s.t.Helper()
	if err := os.WriteFile(s.file+".new", []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(s.file+".new", s.file); err != nil {
		s.t.Fatal(err)
	}
}

func newSite(t *testing.T) *site {
	dir := t.TempDir()
	s := &site{t: t, dir: dir, file: filepath.Join(dir, "portal.yaml"), port: freePort(t), log: &safeBuffer{}, ask: make(chan os.Signal, 1)}
	s.write(s.yaml(resources))
	return s
}

// run starts the portal and returns when it listens.
func (s *site) run() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{
			Config: s.file, Log: slog.New(slog.NewTextHandler(s.log, nil)), Reload: s.ask, Ready: func([]net.Addr) { close(ready) },
		})
	}()
	select {
	case <-ready:
	case err := <-ended:
		s.t.Fatalf("the portal ended: %v", err)
	}
	s.end = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	s.t.Cleanup(func() {
		s.end()
		if s.t.Failed() {
			s.t.Log(s.log.String())
		}
	})
}

// peers makes a client and a gateway that are online.
func (s *site) peers() (client, gateway *peer) {
	s.t.Helper()
	st, err := store.Open(filepath.Join(s.dir, "data"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer st.Close()
	alice, err := st.AddUser("alice@example.com", "Alice", password)
	if err != nil {
		s.t.Fatal(err)
	}
	account, err := st.Account()
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := readConfig(s.file, account.ID)
	if err != nil {
		s.t.Fatal(err)
	}
	_, clientToken, err := st.NewToken(store.Token{Kind: store.ClientToken, Actor: alice.ID}, "")
	if err != nil {
		s.t.Fatal(err)
	}
	_, gatewayToken, err := st.NewToken(store.Token{Kind: store.GatewayToken, Site: c.Account.Sites[0].ID}, "")
	if err != nil {
		s.t.Fatal(err)
	}
	r := &running{t: s.t, urls: []string{fmt.Sprintf("http://127.0.0.1:%d", s.port)}}
	client, gateway = r.dial(asClient(clientToken)), r.dial(asGateway(gatewayToken))
	gateway.join()
	client.join()
	return client, gateway
}

// A renamed file takes effect within a second, on both ends.
func TestReload(t *testing.T) {
	s := newSite(t)
	s.run()
	client, gateway := s.peers()
	account := func() string {
		st, err := store.Open(filepath.Join(s.dir, "data"))
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		a, err := st.Account()
		if err != nil {
			t.Fatal(err)
		}
		c, err := readConfig(s.file, a.ID)
		if err != nil {
			t.Fatal(err)
		}
		return c.Account.Resources[0].ID.String()
	}
	wiki := account()
	client.say("request_authorization", `{"resource_id":"`+wiki+`","connected_gateway_ids":[]}`)
	ask := gateway.hears("create_authorization")
	gateway.say("authorization_created", `{"ref":"`+ask["ref"].(string)+`"}`)
	client.hears("authorization_created")

	// Garbage changes nothing, and is not silent.
	s.write("account: {slug: [")
	s.waitFor("last good configuration stays in force")
	// Taking the policy away ends access.
	s.write(s.yaml(strings.Replace(resources, "[Wiki, Lab]", "[Lab]", 1)))
	begun := time.Now()
	if got := gateway.hears("reject_access"); got["resource_id"] != wiki {
		t.Errorf("gateway was told %v", got)
	}
	if f, err := client.read(); err != nil || f.Event != "resource_deleted" || string(f.Payload) != `"`+wiki+`"` {
		t.Errorf("client was told %s %s %v", f.Event, f.Payload, err)
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("took %v", took)
	}
	// And back, on request.
	s.write(s.yaml(resources + "search_domain: corp.example\n"))
	s.ask <- os.Interrupt
	client.hears("config_changed")
	client.hears("resource_created_or_updated")
	if n := strings.Count(s.log.String(), "there is no user ghost@example.com"); n < 2 {
		t.Errorf("%d warnings about a user who does not exist, want one for each reading", n)
	}
	s.write(strings.Replace(s.yaml(resources), "/data\n", "/elsewhere\n", 1))
	s.waitFor("count only after a restart: data_dir")
	if err := s.end(); err != nil {
		t.Errorf("asked to stop, it ended with %v", err)
	}
}

// waitFor waits until the log says text.
func (s *site) waitFor(text string) {
	s.t.Helper()
	for range 400 {
		if strings.Contains(s.log.String(), text) {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	s.t.Fatalf("the log does not say %q", text)
}

// command sends one request to the socket for commands.
func (s *site) command(do, args string, result any) {
	s.t.Helper()
	conn, err := net.Dial("unix", filepath.Join(s.dir, "portal.sock"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, `{"version":1,"do":%q,"args":%s}`+"\n", do, args)
	var r struct {
		Error  string
		Result json.RawMessage
	}
	if err := json.NewDecoder(conn).Decode(&r); err != nil || r.Error != "" {
		s.t.Fatalf("%s: %v %s", do, err, r.Error)
	}
	if err := json.Unmarshal(r.Result, result); err != nil {
		s.t.Fatal(err)
	}
}

// Commands see who is online, and a revoked token ends what it began.
func TestCommandsReachTheRunningPortal(t *testing.T) {
	s := newSite(t)
	s.run()
	client, _ := s.peers()
	var status admin.Status
	s.command("status", "null", &status)
	if !status.Running || status.Version == "" || status.ConfigError != "" || len(status.Listeners) != 1 || strings.HasSuffix(status.Listeners[0], ":0") {
		t.Errorf("status is %+v", status)
	}
	if len(status.Clients) != 1 || !status.Clients[0].Online || len(status.Gateways) != 1 || !status.Gateways[0].Online || status.Relays == nil {
		t.Errorf("status knows clients %+v, gateways %+v", status.Clients, status.Gateways)
	}
	var made admin.TokenCreated
	s.command("token create", `{"relay":true}`, &made)
	r := &running{t: t, urls: []string{fmt.Sprintf("http://127.0.0.1:%d", s.port)}}
	relay := r.dial(asRelay(made.Token))
	relay.join()
	s.command("status", "null", &status)
	if len(status.Relays) != 1 || status.Relays[0].ID != "271a413b-d339-4570-9fdc-eaec41f14f11" || len(status.Relays[0].Addrs) != 2 {
		t.Errorf("status knows relays %+v", status.Relays)
	}
	s.command("token revoke", `"`+made.ID.String()+`"`, new(any))
	relay.closed()

	s.write("garbage")
	s.waitFor("last good configuration stays in force")
	s.command("status", "null", &status)
	if !strings.Contains(status.ConfigError, "portal.yaml") || status.Resources != 2 {
		t.Errorf("status says %q about garbage and knows %d resources", status.ConfigError, status.Resources)
	}
	client.say("no_relays", "{}") // not concerned by any of this
	client.hears("relays_presence")
}

// A second portal on the same socket would work on the same store.
func TestSecondPortalDoesNotStart(t *testing.T) {
	s := newSite(t)
	s.run()
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	second := filepath.Join(s.dir, "second.yaml")
	port := fmt.Sprintf("127.0.0.1:%d", s.port)
	if err := os.WriteFile(second, bytes.Replace(text, []byte(`"`+port+`"`), fmt.Appendf(nil, "%q", fmt.Sprintf("127.0.0.1:%d", freePort(t))), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	err = Run(t.Context(), Options{Config: second, Log: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, ipcsock.ErrInUse) {
		t.Errorf("it ends with %v", err)
	}
}

func TestStartFailsWithAdvice(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for name, c := range map[string]struct {
		prepare func(*site)
		want    []string
	}{
		"no file":       {func(s *site) { os.Remove(s.file) }, []string{"there is no configuration", "portal init"}},
		"a folder":      {func(s *site) { os.Remove(s.file); os.Mkdir(s.file, 0o700) }, []string{"is a directory"}},
		"mistakes":      {func(s *site) { s.write("account: {}\nsites: 5\n") }, []string{"portal.yaml:\n", "2:8: sites"}},
		"occupied port": {func(s *site) { s.port = busy.Addr().(*net.TCPAddr).Port; s.write(s.yaml("")) }, []string{"listener 127.0.0.1:", "address already in use", "stop it or give this listener another address"}},
		"no certificate": {func(s *site) {
			s.write(strings.Replace(s.yaml(""), "plain: true", "tls: {certificate: /nowhere/cert.pem, key: /nowhere/key.pem}", 1))
		}, []string{"certificate /nowhere/cert.pem"}},
		"no room for data": {func(s *site) { os.WriteFile(filepath.Join(s.dir, "data"), nil, 0o600) }, []string{"open the store"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			c.prepare(s)
			err := Run(t.Context(), Options{Config: s.file, Log: slog.New(slog.DiscardHandler)})
			if err == nil {
				t.Fatal("it started")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the message does not say %q:\n%v", want, err)
				}
			}
		})
	}
}

// A certificate that is renewed is used at once; a bad one never.
func TestCertificateIsRenewed(t *testing.T) {
	s := newSite(t)
	cert, key := filepath.Join(s.dir, "cert.pem"), filepath.Join(s.dir, "key.pem")
	writeCertificate(t, cert, key, 1)
	text := strings.Replace(s.yaml(resources), "plain: true", fmt.Sprintf("tls: {certificate: %s, key: %s}", cert, key), 1)
	s.write(strings.Replace(text, "external_url: http:", "external_url: https:", 1))
	s.run()
	serial := func() int64 {
		conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if got := serial(); got != 1 {
		t.Fatalf("serial %d", got)
	}
	if err := os.WriteFile(cert, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.waitFor("the old certificate stays in use")
	if got := serial(); got != 1 {
		t.Errorf("serial %d after junk", got)
	}
	writeCertificate(t, cert, key, 2)
	s.waitFor("certificate read")
	if got := serial(); got != 2 {
		t.Errorf("serial %d after the renewal", got)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	res, err := client.Get(fmt.Sprintf("https://127.0.0.1:%d/acme", s.port))
	if err != nil || res.StatusCode != 200 || res.ProtoMajor != 2 {
		t.Errorf("a browser gets %v %v", res, err)
	}
	res.Body.Close()
}

func writeCertificate(t *testing.T, cert, key string, serial int64) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "portal"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: raw}} {
		var b bytes.Buffer
		pem.Encode(&b, block)
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
