package daemon

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"stile/platform/clock"
	"stile/tunnel/client"
	"stile/tunnel/id"
	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
	"stile/tunnel/phoenix/dial"
	"stile/tunnel/wire"
)

func TestInspectTellsWhatTheClientKnows(t *testing.T) {
	run(t, Config{}, wish{Token: "abc", Source: ipc.TokenFromSignIn}, func(h *house) {
		now := clock.Now()
		role := client.New(client.Config{Rand: rand.Reader, Wall: time.Now()}, now)
		role.Message(wire.ClientInit{Resources: []wire.Resource{{
			ID: id.Resource{15: 1}, Type: wire.DNS, Name: "Wiki", Address: "*.corp.example", Sites: []wire.Site{{ID: id.Site{1}, Name: "Office"}},
			Filters: []wire.Filter{{Protocol: wire.TCP, First: 80, Last: 80}, {Protocol: wire.UDP, Last: 65535}, {Protocol: wire.TCP, First: 8000, Last: 8100}, {Protocol: wire.ICMP}},
		}}}, now)
		h.engine.role = role
		h.away = fmt.Errorf("connect: %w", fmt.Errorf("%w portal.example: gone", dial.ErrLookup))
		var k *ipc.Knowledge
		err := h.Inform(h.t.Context(), link.Caller{}, ipc.Inspect{Host: "wiki.corp.example", Port: 443}, func(p ipc.Part) error { k = p.Knowledge; return nil })
		if err != nil || k == nil || k.Verdict != ipc.Denied || k.PortalTrouble != ipc.TroubleName || len(k.Access) != 1 {
			t.Fatalf("%+v, %v", k, err)
		}
		if a := k.Access[0]; a.Name != "Wiki" || a.State != ipc.AccessIdle || !slices.Equal(a.Sites, []string{"Office"}) || !slices.Equal(a.Filters, []string{"tcp/80", "udp", "tcp/8000-8100", "icmp"}) {
			t.Errorf("%+v", a)
		}
	})
}

func TestKindsOfTrouble(t *testing.T) {
	for err, want := range map[error]string{
		fmt.Errorf("%w x: y", dial.ErrLookup):                 ipc.TroubleName,
		fmt.Errorf("tls: %w", x509.UnknownAuthorityError{}):   ipc.TroubleCertificate,
		fmt.Errorf("tls: %w", x509.CertificateInvalidError{}): ipc.TroubleCertificate,
		errors.New("refused"):                                 ipc.TroubleOther,
	} {
		if got := kind(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
	if kind(nil) != "" {
		t.Error("trouble without an error")
	}
}

// fakeLogs are files in a folder.
type fakeLogs struct {
	Logs
	dir string
}

func (f fakeLogs) Dir() string    { return f.dir }
func (f fakeLogs) Filter() string { return "info" }

func (f fakeLogs) SetUsual(string) error { return nil }

func TestCollectHandsOverFilesWithoutTheToken(t *testing.T) {
	dir := t.TempDir()
	const token = "n0nce.fragment-of-a-token"
	long := strings.Repeat("x", ipc.MaxFilePart-40) + "\n" + strings.Repeat("y", 30) + token + " z\n" + strings.Repeat("w", 3*ipc.MaxFilePart)
	write := func(name, text string, age time.Duration) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chtimes(path, time.Time{}, time.Now().Add(-age))); err != nil {
			t.Fatal(err)
		}
	}
	write("tunnel-service.1.log", "old\n", time.Hour)
	write("tunnel-service.2.log", long, time.Minute)
	write("flight-panic-1.jsonl", "{}\n", 2*time.Hour)
	write("secrets.txt", "not a log", 0)
	write("sp ace.log", "not a name of ours", 0)
	os.Symlink("/etc/shadow", filepath.Join(dir, "shadow.log"))
	run(t, Config{Logs: fakeLogs{dir: dir}}, wish{Token: token, Source: ipc.TokenFromSignIn, Actor: "Alice"}, func(h *house) {
		files, order, left := map[string][]byte{}, []string{}, int64(-1)
		err := h.Inform(h.t.Context(), link.Caller{}, ipc.Collect{}, func(p ipc.Part) error {
			if len(p.File.Data) > ipc.MaxFilePart+len("[redacted]") || !ipc.IsFileName(p.File.Name) || p.File.Missing != "" {
				t.Errorf("%s: %d bytes, %s", p.File.Name, len(p.File.Data), p.File.Missing)
			}
			if !slices.Contains(order, p.File.Name) {
				order = append(order, p.File.Name)
			}
			files[p.File.Name] = append(files[p.File.Name], p.File.Data...)
			left = p.File.Left
			return nil
		})
		if err != nil || left != 0 {
			t.Fatal(left, err)
		}
		want := []string{"service/settings.json", "service/goroutines.txt", "service/flight/record.jsonl", "service/logs/tunnel-service.2.log", "service/logs/tunnel-service.1.log", "service/flight/flight-panic-1.jsonl"}
		if !slices.Equal(order, want) {
			t.Errorf("%v", order)
		}
		if got := string(files[want[3]]); got != strings.ReplaceAll(long, token, "[redacted]") {
			t.Errorf("%d bytes, want %d", len(got), len(long))
		}
		for name, text := range files {
			if bytes.Contains(text, []byte(token)) {
				t.Errorf("%s holds the token", name)
			}
		}
		if !json.Valid(files[want[0]]) || !bytes.Contains(files[want[0]], []byte("Alice")) {
			t.Errorf("%s", files[want[0]])
		}
	})
}

func TestOneExportAtATime(t *testing.T) {
	run(t, Config{}, wish{}, func(h *house) {
		ask := func(put func(ipc.Part) error) error {
			return h.Inform(context.Background(), link.Caller{}, ipc.Collect{}, put)
		}
		gone := errors.New("gone")
		err := ask(func(ipc.Part) error {
			if p, is := errors.AsType[*ipc.Problem](ask(nil)); !is || p.Code != ipc.Busy {
				t.Error("a second export ran at the same time")
			}
			return gone
		})
		if err != gone {
			t.Error(err)
		}
		if err := ask(func(ipc.Part) error { return nil }); err != nil {
			t.Error("after the first:", err)
		}
	})
}
