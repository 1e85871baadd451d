package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/portal"
	"stile/tunnel/wire"
)

func TestAccountIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir)
	a, err := first.Account()
	must(t, err)
	if a.ID.IsZero() || len(a.IngestKey) != 32 {
		t.Fatalf("%+v", a)
	}
	first.Close()
	if b, err := open(t, dir).Account(); err != nil || !reflect.DeepEqual(a, b) {
		t.Errorf("%+v became %+v, %v", a, b, err)
	}
	info, err := os.Stat(filepath.Join(dir, fileName))
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("others may read the store: %v", info.Mode())
	}
}

func TestManyOpenANewStoreAtOnce(t *testing.T) {
	for range 5 {
		dir := t.TempDir()
		result := make(chan error, 8)
		for range cap(result) {
			go func() {
				s, err := Open(dir)
				if err == nil {
					err = s.Close()
				}
				result <- err
			}()
		}
		for range cap(result) {
			must(t, <-result)
		}
	}
}

func TestNewerStoreIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	_, err := s.db.Exec(`PRAGMA user_version = 99`)
	must(t, err)
	s.Close()
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "newer version") {
		t.Error(err)
	}
}

func TestUsersAndPasswords(t *testing.T) {
	s := open(t, t.TempDir())
	u, err := s.AddUser(" Alice@Corp.example ", "Alice", "correct horse")
	must(t, err)
	check := func(email, password string, want bool) {
		t.Helper()
		got, ok, err := s.CheckPassword(t.Context(), email, password)
		if err != nil || ok != want || ok && got != u {
			t.Errorf("%s %q: %+v, %v, %v", email, password, got, ok, err)
		}
	}
	check("alice@corp.EXAMPLE", "correct horse", true)
	check("alice@corp.example", "wrong horse", false)
	check("alice@corp.example", "", false)
	check("bob@corp.example", "correct horse", false)

	if _, err := s.AddUser("ALICE@corp.example", "", "another password"); !errors.Is(err, ErrExists) {
		t.Error("twice:", err)
	}
	for _, email := range []string{"", "alice", "@corp", "a@", "a b@c"} {
		if _, err := s.AddUser(email, "", "long enough"); err == nil {
			t.Errorf("%q was taken for an address", email)
		}
	}
	if _, err := s.AddUser("bob@corp.example", "", "short"); err == nil || !strings.Contains(err.Error(), "8 characters") {
		t.Error(err)
	}
	must(t, s.SetPassword("alice@corp.example", "battery staple"))
	check("alice@corp.example", "correct horse", false)
	check("alice@corp.example", "battery staple", true)
	if err := s.SetPassword("bob@corp.example", "battery staple"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}

	robot, err := s.ServiceAccount("backup robot")
	must(t, err)
	_, err = s.ServiceAccount("second robot") // without address like the first
	must(t, err)
	if again, err := s.ServiceAccount("Backup Robot"); err != nil || again != robot {
		t.Errorf("the account of that name is %+v, %v", again, err)
	}
	for _, bad := range []string{"", "alice@corp.example", "two\nlines", strings.Repeat("a", 101)} {
		if _, err := s.ServiceAccount(bad); err == nil {
			t.Errorf("there is a service account %q", bad)
		}
	}
	if _, ok, _ := s.CheckPassword(t.Context(), "", ""); ok {
		t.Error("a service account was signed in")
	}
	if got, err := s.User(robot.ID); err != nil || got != robot {
		t.Errorf("%+v, %v", got, err)
	}
	if list, err := s.Users(); err != nil || len(list) != 3 || list[0] != u {
		t.Errorf("%+v, %v", list, err)
	}
	text, err := os.ReadFile(filepath.Join(s.dir(t), fileName))
	must(t, err)
	if bytes.Contains(text, []byte("battery staple")) {
		t.Error("a password is in the file")
	}
}

func TestPasswordChecksAreBounded(t *testing.T) {
	s := open(t, t.TempDir())
	for range hashers {
		s.busy <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, ok, err := s.CheckPassword(ctx, "a@b", "x"); ok || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(ok, err)
	}
}

func TestDamagedHashLetsNobodyIn(t *testing.T) {
	good := hashPassword("correct horse")
	if !verifyPassword(good, "correct horse") {
		t.Fatal("the good one fails")
	}
	for _, hash := range []string{"", "x", "$argon2id$v=19$m=32768,t=3,p=1$$", "$argon2id$v=19$m=32768,t=0,p=1$YWFhYWFhYWFhYWFhYWFhYQ$",
		strings.Replace(good, "argon2id", "argon2i", 1), strings.Replace(good, "m=32768", "m=4294967295", 1), good[:len(good)-4]} {
		if verifyPassword(hash, "correct horse") || verifyPassword(hash, "") {
			t.Errorf("%q lets in", hash)
		}
	}
}

func TestTokens(t *testing.T) {
	s := open(t, t.TempDir())
	u, err := s.AddUser("alice@corp.example", "", "correct horse")
	must(t, err)
	tok, fragment, err := s.NewToken(Token{Kind: ClientToken, Actor: u.ID, Provider: "password", Name: "laptop", ExpiresAt: 2_000_000_000}, "abc123")
	must(t, err)
	secret := "abc123" + fragment
	got, err := s.Authenticate(secret)
	must(t, err)
	if got.LastSeenAt == 0 {
		t.Error("the use left no trace")
	}
	got.LastSeenAt = 0
	if got != tok {
		t.Errorf("got %+v, want %+v", got, tok)
	}
	flipped := []byte(secret)
	flipped[len(flipped)-3] ^= 1
	for _, bad := range []string{"", ".", fragment, "abd123" + fragment, secret + "A", secret[:len(secret)-1], string(flipped), "abc123", secret + ".x", strings.Repeat("x", 1<<16)} {
		if _, err := s.Authenticate(bad); !errors.Is(err, ErrNotFound) {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
	s.now = func() time.Time { return time.Unix(2_000_000_000, 0) }
	if _, err := s.Authenticate(secret); !errors.Is(err, ErrNotFound) {
		t.Error("expired:", err)
	}
	s.now = time.Now
	must(t, s.RevokeToken(tok.ID))
	if _, err := s.Authenticate(secret); !errors.Is(err, ErrNotFound) {
		t.Error("revoked:", err)
	}
	if err := s.RevokeToken(tok.ID); !errors.Is(err, ErrNotFound) {
		t.Error("twice:", err)
	}
	for _, bad := range []Token{{Kind: ClientToken}, {Kind: GatewayToken}, {Kind: "admin"}} {
		if _, _, err := s.NewToken(bad, ""); err == nil {
			t.Errorf("%+v was made", bad)
		}
	}
	if _, _, err := s.NewToken(Token{Kind: RelayToken}, "a.b"); err == nil {
		t.Error("a nonce with a dot was taken")
	}
}

func TestDevicesKeepWhoTheyAre(t *testing.T) {
	s := open(t, t.TempDir())
	alice, bob, site := id.Actor{1}, id.Actor{2}, id.Site{3}
	d := Device{ExternalID: "laptop", Name: "Laptop", PublicKey: wire.Key{1}, Serial: "S1", LastIP: netip.MustParseAddr("203.0.113.7")}
	first, err := s.ConnectClient(alice, d)
	must(t, err)
	d.Name, d.PublicKey, d.Serial, d.UUID = "Renamed", wire.Key{2}, "", "U1"
	again, err := s.ConnectClient(alice, d)
	must(t, err)
	if again.ID != first.ID || again.IPv4 != first.IPv4 || again.IPv6 != first.IPv6 || again.PSKBase != first.PSKBase {
		t.Errorf("%+v became %+v", first, again)
	}
	if again.Name != "Renamed" || again.PublicKey != (wire.Key{2}) || again.Serial != "S1" || again.UUID != "U1" || again.LastIP != d.LastIP {
		t.Errorf("%+v", again)
	}
	other, err := s.ConnectClient(bob, d)
	must(t, err)
	gw, err := s.ConnectGateway(site, d)
	must(t, err)
	if other.ID == first.ID || gw.ID == first.ID || other.IPv4 == first.IPv4 || gw.IPv4 == other.IPv4 || !gw.Gateway || gw.Site != site || other.Actor != bob {
		t.Errorf("%+v %+v", other, gw)
	}
	for _, a := range []Device{first, other, gw} {
		if !netip.MustParsePrefix("100.64.0.0/11").Contains(a.IPv4) || !netip.MustParsePrefix("fd00:2021:1111::/107").Contains(a.IPv6) {
			t.Errorf("addresses %v %v", a.IPv4, a.IPv6)
		}
	}
	if list, err := s.Devices(); err != nil || len(list) != 3 || !list[0].Gateway {
		t.Errorf("%+v, %v", list, err)
	}
	for _, bad := range []Device{{}, {ExternalID: strings.Repeat("x", 256)}, {ExternalID: "x", Name: strings.Repeat("x", 256)}} {
		if _, err := s.ConnectClient(alice, bad); err == nil {
			t.Errorf("%+v was stored", bad)
		}
	}
}

func TestAddressesAtTheEnds(t *testing.T) {
	v4, v6 := addresses(slots - 2)
	if v4.String() != "100.95.255.254" || v6.String() != "fd00:2021:1111::1f:fffe" {
		t.Error(v4, v6)
	}
}

func TestAuthorizations(t *testing.T) {
	s := open(t, t.TempDir())
	a := portal.Authorization{ID: portal.AuthorizationID{1}, Client: id.Client{2}, Gateway: id.Gateway{3}, Resource: id.Resource{4}, Policy: id.Policy{5}, Token: id.Token{6},
		Actor: portal.Actor{ID: id.Actor{7}, Name: "Alice", Email: "alice@corp.example"}, Basis: "b", CreatedAt: 8, ExpiresAt: 9}
	newer, other := a, a
	newer.ID, newer.ExpiresAt = portal.AuthorizationID{10}, 11
	other.ID, other.Resource = portal.AuthorizationID{12}, id.Resource{13}
	for _, x := range []portal.Authorization{a, newer, other} {
		must(t, s.SaveAuthorization(x))
	}
	if got, err := s.Authorizations(); err != nil || !reflect.DeepEqual(got, []portal.Authorization{newer, other}) {
		t.Errorf("%+v, %v", got, err)
	}
	must(t, s.DropAuthorization(newer.ID))
	must(t, s.DropAuthorization(newer.ID))
	if got, _ := s.Authorizations(); len(got) != 1 {
		t.Errorf("%+v", got)
	}
}

// TestKilledWriterLosesNothingItReported runs a copy of this test that writes
// and reports until it is killed.
func TestKilledWriterLosesNothingItReported(t *testing.T) {
	if dir := os.Getenv("STILE_TEST_STORE"); dir != "" {
		s := open(t, dir)
		for i := 0; ; i++ {
			d, err := s.ConnectClient(id.Actor{1}, Device{ExternalID: fmt.Sprint(i), Name: "x"})
			must(t, err)
			must(t, s.SaveAuthorization(portal.Authorization{ID: portal.AuthorizationID(d.ID), Client: d.Client()}))
			fmt.Printf("wrote %d\n", i)
		}
	}
	dir := t.TempDir()
	reported := 0
	for round := range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWriterLosesNothingItReported$")
		cmd.Env = append(os.Environ(), "STILE_TEST_STORE="+dir)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		last := -1
		for last < 20*(round+1) {
			if _, err := fmt.Fscanf(out, "wrote %d\n", &last); err != nil {
				t.Fatal(err)
			}
		}
		cmd.Process.Kill()
		cmd.Wait()
		reported = max(reported, last+1)

		s := open(t, dir)
		devices, err := s.Devices()
		must(t, err)
		granted, err := s.Authorizations()
		must(t, err)
		if len(devices) < reported || len(granted) < reported {
			t.Fatalf("round %d: %d were reported, %d devices and %d authorizations are left", round, reported, len(devices), len(granted))
		}
		s.Close()
	}
}

func (s *Store) dir(t *testing.T) string {
	t.Helper()
	var seq int
	var name, path string
	must(t, s.db.QueryRow(`PRAGMA database_list`).Scan(&seq, &name, &path))
	return filepath.Dir(path)
}

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsNoStoreIsRefused(t *testing.T) {
	for name, content := range map[string]string{
		"garbage":            strings.Repeat("garbage ", 1000),
		"header and garbage": "SQLite format 3\x00" + strings.Repeat("\xff", 10_000),
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, fileName)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(dir)
		if err == nil {
			s.Close()
			t.Fatalf("%s: it was opened", name)
		}
		if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "move it away") {
			t.Errorf("%s: %v", name, err)
		}
		if kept, err := os.ReadFile(path); err != nil || string(kept) != content {
			t.Errorf("%s: the file was changed (%v)", name, err)
		}
	}
}
