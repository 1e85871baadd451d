package support

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"stile/app/prefs"
	"stile/app/words"
	"stile/platform/ipcsock"
	"stile/platform/machine"
	"stile/platform/route"
	"stile/tunnel/id"
	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
)

// A house is a service that answers Collect with files of a test.
type house struct {
	state ipc.State
	files []ipc.FilePart
}

func (h *house) Handle(context.Context, link.Caller, ipc.Command) error { return nil }
func (h *house) State() ipc.State                                       { return h.state }
func (h *house) Inform(_ context.Context, _ link.Caller, _ ipc.Command, put func(ipc.Part) error) error {
	for _, f := range h.files {
		if err := put(ipc.Part{File: &f}); err != nil {
			return err
		}
	}
	return nil
}

// serve runs h until the test ends, and returns its socket.
func serve(t testing.TB, h link.Service) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := link.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var g sync.WaitGroup
	g.Go(func() {
		link.New(link.Config{Service: h, Version: "9.9.9", Log: slog.New(slog.DiscardHandler)}).Run(ctx, l)
	})
	t.Cleanup(func() { cancel(); g.Wait() })
	return path
}

// unzip reads an archive: name below the root → content.
func unzip(t testing.TB, path string) (root string, files map[string]string) {
	t.Helper()
	z, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	files = map[string]string{}
	for _, f := range z.File {
		top, rest, _ := strings.Cut(f.Name, "/")
		if root == "" {
			root = top
		}
		if top != root || rest == "" || f.Mode().Perm() != 0o600 || time.Since(f.Modified) > 24*time.Hour*365*3 {
			t.Errorf("%s in %s, %v, %v", f.Name, root, f.Mode(), f.Modified)
		}
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
		files[rest] = string(text)
	}
	return root, files
}

func capital(word string) string { return strings.ToUpper(word[:1]) + word[1:] }

// plant makes values that must not be found in an export.
func plant(rng *rand.Rand) (secrets, names []string) {
	bytesOf := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	word := func() string {
		const consonants, vowels = "bcdfghjklmnprstvwz", "aeiou"
		w := make([]byte, 8)
		for i := range w {
			if i%2 == 0 {
				w[i] = consonants[rng.IntN(len(consonants))]
			} else {
				w[i] = vowels[rng.IntN(len(vowels))]
			}
		}
		return string(w)
	}
	for range 20 {
		nonce := hex.EncodeToString(bytesOf(32))
		secrets = append(secrets,
			base64.StdEncoding.EncodeToString(bytesOf(32)),                      // a WireGuard key
			nonce+".SFMyNTY."+base64.RawURLEncoding.EncodeToString(bytesOf(60)), // a token
			hex.EncodeToString(bytesOf(16)), base64.RawURLEncoding.EncodeToString(bytesOf(48)),
			"pw-"+word(), // after "password"
		)
	}
	for range 20 {
		names = append(names,
			capital(word())+" "+capital(word()), // a person, known from the state
			word()+"."+word()+".corp."+word(),   // a host
			fmt.Sprintf("10.%d.%d.%d", rng.IntN(256), rng.IntN(256), 10+rng.IntN(240)),
			netip.AddrFrom16([16]byte(append([]byte{0xfd, 0x17}, bytesOf(14)...))).String(),
			word()+"."+word()+"@"+word()+".example.org",
		)
	}
	return secrets, names
}

// TestDefaultExportHasNeitherSecretsNorNames plants 200 values in all places.
func TestDefaultExportHasNeitherSecretsNorNames(t *testing.T) {
	for seed := range uint64(1) {
		rng := rand.New(rand.NewPCG(seed, 0))
		secrets, names := plant(rng)
		if len(secrets)+len(names) != 200 {
			t.Fatal(len(secrets), len(names))
		}
		var log bytes.Buffer
		l := slog.New(slog.NewJSONHandler(&log, nil))
		for i, s := range secrets {
			if strings.HasPrefix(s, "pw-") {
				l.Info("refused", "password", s)
				fmt.Fprintf(&log, `{"message":"dial https://alice:%s@portal.example.org/x?password=%s failed"}`+"\n", s, s)
				fmt.Fprintf(&log, "password: %s\n", s)
				continue
			}
			l.Info("got "+s, "value", s, "in", []string{s})
			fmt.Fprintf(&log, `{"message":"a=%s, b=(%s) Authorization: Bearer %s"}`+"\n", s, s, secrets[(i+1)%len(secrets)])
		}
		h := &house{state: ipc.State{
			Session: ipc.Session{Phase: ipc.Connected, Actor: names[0], Account: "acmeslug", Portal: "wss://" + names[1], Problem: ipc.SayPortalUnreachable.With("portal", "wss://"+names[1], "reason", "dial "+names[2]+":443")},
			DNS:     ipc.DNS{SearchDomain: names[6], Upstream: []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr(names[7]), 53)}},
			Tunnel:  ipc.Tunnel{Routes: []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr(names[12]), 24)}},
		}}
		for i := 0; i < len(names); i += 5 {
			h.state.Resources = append(h.state.Resources, ipc.Resource{ID: id.Resource{15: byte(i)}, Type: "dns", Name: names[i], Address: "*." + names[i+1], Description: names[i] + "’s machine", Sites: []string{names[i] + " & Sons"}})
			for _, n := range names[i : i+5] {
				l.Info("query for "+n+". answered", "name", n, "remote", n+":52625", "list", []string{n}, "err", "lookup "+n+" on "+n+": no such host")
				l.Info(`"`+strings.ToUpper(n)+`" and <`+n+`>`, "path", "/srv/"+n+"/x")
				fmt.Fprintf(&log, "plain %s, [%s]:80 (%s) host=%s; %s/32 x-%s\n", n, n, n, n, n, n)
			}
		}
		h.files = []ipc.FilePart{
			{Name: "service/settings.json", Data: []byte(`{"actor":"` + names[0] + `","token":"` + secrets[1] + `"}` + "\n")},
			{Name: "service/logs/a.log", Data: log.Bytes()},
			{Name: "../../etc/passwd", Data: []byte("x")}, {Name: "service/../../x", Data: []byte("x")},
		}
		apps := t.TempDir()
		if err := os.WriteFile(filepath.Join(apps, "app.log"), log.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		socket, out := serve(t, h), filepath.Join(t.TempDir(), "x.zip")
		for _, full := range []bool{false, true} {
			r, err := Export(t.Context(), Options{Socket: socket, Out: out, Full: full, AppLogs: []string{apps}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, files := unzip(t, out)
			if len(files) != r.Files || files["service/logs/a.log"] == "" || files["app/logs/app.log"] == "" {
				t.Errorf("seed %d: %d files, %v", seed, len(files), r)
			}
			found := 0
			for name, text := range files {
				if strings.Contains(name, "..") || strings.Contains(name, "passwd") {
					t.Errorf("a file named %s", name)
				}
				if strings.HasSuffix(name, ".json") && !json.Valid([]byte(text)) {
					t.Errorf("seed %d: %s is no JSON: %s", seed, name, text)
				}
				low := strings.ToLower(text)
				for i, s := range secrets {
					if strings.Contains(low, strings.ToLower(s)) {
						t.Errorf("seed %d, full %v: secret %d, %q, is in %s", seed, full, i, s, name)
					}
				}
				for i, n := range names {
					if strings.Contains(low, strings.ToLower(n)) {
						if found++; !full {
							at := strings.Index(low, strings.ToLower(n))
							t.Errorf("seed %d: name %d, %q, is in %s: …%s…", seed, i, n, name, text[max(0, at-60):min(len(text), at+60)])
						}
					}
				}
			}
			if full && found < len(names) {
				t.Errorf("seed %d: a full export has only %d names", seed, found)
			}
		}
	}
}

func TestLogLinesStayJSON(t *testing.T) {
	r := newRedactor(false)
	r.learn(aUser, `Zoë "Zed" O'Neil\`)
	r.learn(aResource, "R&D <wiki>")
	for _, row := range []struct{ in, want string }{
		{`{"time":"2026-11-23T09:00:00.123456789Z","severity":"INFO","message":"x","target":"tunnel/daemon"}`, ""},
		{`{"logging.googleapis.com/sourceLocation":{"file":"tunnel/daemon/daemon.go","line":"17"},"after":"1.5s","n":12345678901}`, ""},
		{`{"resource":"0190a1b2-1111-7000-8000-0123456789ab","v":"0.1.0 (1f2e3d4c5b6a)"}`, `{"resource":"id-1","v":"0.1.0 (1f2e3d4c5b6a)"}`},
		{`{"m":"by 100.100.111.1 127.0.0.53:53 0.0.0.0/0 ::/0 100.96.0.0/11 fd00:2021:1111::/107"}`, ""},
		{`{"m":"from 100.64.0.7 to 100.96.0.9:443, fd00:2021:1111:8000::9"}`, `{"m":"from peer1.7 to proxy1.9:443, proxy6-1:1"}`},
		{`{"m":"to 192.168.1.7:53 and 192.168.1.9, 8.8.8.8; fe80::1%eth0 [2001:db8::5]:443"}`, `{"m":"to lan1.7:53 and lan1.9, wan1.8; lan6-1:2%eth0 [wan6-1:3]:443"}`},
		{`{"m":"wiki.corp.example. and *.corp.example and corp.example"}`, `{"m":"h1.d1.invalid. and *.d1.invalid and d1.invalid"}`},
		{`{"m":"by Zoë \"Zed\" O'Neil\\ at R\u0026D \u003cwiki\u003e\nnext"}`, `{"m":"by user-1 at resource-1\nnext"}`},
		{`{"token":"abc","token_source":"file","psk":"x\"y","count":5}`, `{"token":"[secret]","token_source":"file","psk":"[secret]","count":5}`},
		{`{"m":"“Build Server” cannot be reached"}`, `{"m":"“resource-2” cannot be reached"}`},
		{`{"m":"enx001122aabbcc 00:11:22:aa:bb:cc"}`, `{"m":"mac-1 mac-1"}`},
		{`{"m":"/home/alice/x C:\\Users\\bob"}`, `{"m":"/home/user-2/x C:\\Users\\user-3"}`},
		{`{"url":"wss://user:pw@portal.corp.example:443/x"}`, `{"url":"wss://[secret]@h2.d1.invalid:443/x"}`},
	} {
		want := row.want
		if want == "" {
			want = row.in
		}
		got := string(r.redact(nil, []byte(row.in), jsons))
		if got != want || !json.Valid([]byte(got)) {
			t.Errorf("%s\n→ %s, want\n  %s", row.in, got, want)
		}
	}
}

func TestSystemFilesAreReadAsText(t *testing.T) {
	r := newRedactor(false)
	r.learn(aLabel, "printer")
	in := "127.0.0.1 localhost\n10.1.2.3 printer printer.lan # x\nsearch corp.example home.arpa\nnameserver 100.100.111.1\nroute 10.1.0.0/16 table 254 dev eth0 via 10.1.2.1 metric 100\n"
	want := "127.0.0.1 localhost\nlan1.3 h1 d1.invalid # x\nsearch d2.invalid home.arpa\nnameserver 100.100.111.1\nroute lan2.0/16 table 254 dev eth0 via lan1.1 metric 100\n"
	if got := string(r.redact(nil, []byte(in), text)); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	stacks := "1 @ 0x1 0x2\n#\t0x1\truntime.gopark+0x1\tstile/tunnel/engine.(*Engine).Run\tnet.(*netFD).Read\n"
	if got := string(r.redact(nil, []byte(stacks), code)); got != stacks {
		t.Errorf("%s", got)
	}
}

func FuzzRedact(f *testing.F) {
	f.Add([]byte(`{"token":"abc","m":"“x” 10.0.0.1 a.b.example \u00e9 \\"}`), true)
	f.Add([]byte("-----BEGIN KEY-----\nx\n-----END KEY----- Bearer abcdef"), false)
	f.Fuzz(func(t *testing.T, b []byte, json bool) {
		r := newRedactor(false)
		r.learn(aUser, "Alice Example")
		form := text
		if json {
			form = jsons
		}
		once := r.redact(nil, b, form)
		if bytes.Contains(bytes.ToLower(once), []byte(" alice example ")) {
			t.Errorf("%q", once)
		}
		keep := newRedactor(true)
		keep.redact(nil, b, form)
	})
}

func TestServiceIsDown(t *testing.T) {
	out := filepath.Join(t.TempDir(), "x.zip")
	apps := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	settings, err := prefs.Path()
	if err := errors.Join(err, prefs.Defaults().Save(settings), os.WriteFile(filepath.Join(apps, "a.log"), []byte(`{"message":"hello"}`+"\n"), 0o600), os.Symlink("/nowhere", filepath.Join(apps, "dangling.log")), os.Mkdir(filepath.Join(apps, "dir.log"), 0o700)); err != nil {
		t.Fatal(err)
	}
	var calls int
	r, err := Export(t.Context(), Options{Socket: filepath.Join(t.TempDir(), "none"), Out: out, AppLogs: []string{apps}}, func(done, total int64) {
		if calls++; done > total || done < 0 {
			t.Errorf("%d of %d", done, total)
		}
	})
	if err != nil || calls == 0 {
		t.Fatal(err, calls)
	}
	if !strings.Contains(strings.Join(r.Missing, "\n"), "only the service knows") {
		t.Errorf("%q", r.Missing)
	}
	if german := r.Say(&words.German); len(german) != len(r.Missing) || !strings.Contains(strings.Join(german, "\n"), "Was nur der Dienst weiß (sein Zustand, seine Einstellungen und seine Aufzeichnung): der Dienst läuft nicht.") {
		t.Errorf("%q", german)
	}
	if read := (&Result{Missing: []string{"x"}}).Say(&words.German); !slices.Equal(read, []string{"x"}) {
		t.Errorf("%q", read)
	}
	root, files := unzip(t, out)
	if !strings.HasPrefix(root, "stile_logs_") || files["app/logs/a.log"] == "" || !strings.Contains(files["missing.txt"], "service") || files["manifest.json"] == "" || !strings.Contains(files["summary.html"], "does not answer") || files["app/logs/dangling.log"] != "" || !strings.Contains(files["app/general_settings.json"], "start_minimized") {
		t.Errorf("%s: %v", root, slices.Sorted(func(yield func(string) bool) {
			for n := range files {
				if !yield(n) {
					return
				}
			}
		}))
	}
	if info, err := os.Stat(out); err != nil || info.Mode().Perm() != 0o600 || info.Size() != r.Bytes {
		t.Errorf("%v, %v", info, err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(out), ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A service that hangs holds nobody up for long, and what it gave before counts.
func TestServiceHangs(t *testing.T) {
	h := &hanging{house{files: []ipc.FilePart{{Name: "service/settings.json", Data: []byte("{}\n")}}}}
	out := filepath.Join(t.TempDir(), "x.zip")
	r, err := Export(t.Context(), Options{Socket: serve(t, h), Out: out, AppLogs: []string{}, system: &surroundings{nil, route.Show, machine.Vitals, 4 * time.Second}}, nil)
	if err != nil || !strings.Contains(strings.Join(r.Missing, "\n"), "stopped answering") {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, files := unzip(t, out); files["service/settings.json"] == "" || files["summary.html"] == "" {
		t.Error(files)
	}
}

type hanging struct{ house }

func (h *hanging) Inform(ctx context.Context, c link.Caller, q ipc.Command, put func(ipc.Part) error) error {
	err := h.house.Inform(ctx, c, q, put)
	<-ctx.Done()
	return err
}

func TestCancelledExportLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Export(ctx, Options{Socket: filepath.Join(dir, "none"), Out: filepath.Join(dir, "x.zip")}, nil); !errors.Is(err, ErrNothing) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := Export(t.Context(), Options{Out: filepath.Join(dir, "no", "x.zip")}, nil); !errors.Is(err, ErrNothing) {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestFullDiskKeepsWhatFits has the disk fail at every place.
func TestFullDiskKeepsWhatFits(t *testing.T) {
	write := func(path string, room int64) (*archive, error) {
		a, err := create(path, "root")
		if err != nil {
			t.Fatal(err)
		}
		defer a.abandon()
		for i := range 5 {
			if room >= 0 && a.full == nil && a.size >= room {
				a.full = errors.New("no space left on device")
			}
			a.begin(fmt.Sprintf("f%d.log", i), time.Now())
			a.put(bytes.Repeat([]byte{byte('a' + i)}, 1000))
			a.end()
		}
		return a, a.finish()
	}
	path := filepath.Join(t.TempDir(), "x.zip")
	whole, err := write(path, -1)
	if err != nil || len(whole.entries) != 5 {
		t.Fatal(err)
	}
	for i, e := range whole.entries {
		a, err := write(path, e.end)
		if err != nil || len(a.entries) != i+1 || a.lost != 4-i {
			t.Fatalf("after file %d: %d files, %d lost, %v", i, len(a.entries), a.lost, err)
		}
		if i == 4 {
			continue // nothing came after it
		}
		_, files := unzip(t, path)
		if len(files) != i+1 || files[fmt.Sprintf("f%d.log", i)] != strings.Repeat(string(rune('a'+i)), 1000) {
			t.Errorf("after file %d: %d files", i, len(files))
		}
		if info, err := os.Stat(path); err != nil || info.Size() != a.size {
			t.Errorf("%v, %d bytes, %v", info.Size(), a.size, err)
		}
	}
	if _, err := write(path, 0); err == nil {
		t.Error("an archive of nothing")
	}
}

// benchmarkLogs are 100 MB of log lines in files: half of them are packets of a
// flight record, which hardly repeat.
func benchmarkLogs(b *testing.B) (files []ipc.FilePart, total int64) {
	rng := rand.New(rand.NewPCG(1, 0))
	for i := 0; total < 100<<20; i++ {
		var part bytes.Buffer
		l := slog.New(slog.NewJSONHandler(&part, nil))
		for n := 0; part.Len() < ipc.MaxFilePart-500; n++ {
			if n%2 == 0 {
				l.Info("the network changed; connecting anew", "iface", "eth0", "remote", netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 168, byte(n >> 8), byte(n)}), 443), "name", fmt.Sprintf("host%d.corp.example", n%50), "after", time.Duration(n))
				continue
			}
			fmt.Fprintf(&part, `{"time":"2026-11-23T09:00:00.%09dZ","severity":"DEBUG","message":"packet outbound","target":"tunnel/flight","protocol":"tcp","source":"100.64.0.7:%d","destination":"100.96.%d.%d:443","flags":"A","packets":%d,"bytes":%d,"connection":"%08x"}`+"\n",
				rng.IntN(1e9), 1024+rng.IntN(64000), rng.IntN(256), rng.IntN(256), rng.IntN(100), rng.IntN(150000), rng.Uint32())
		}
		files = append(files, ipc.FilePart{Name: fmt.Sprintf("service/logs/f%d.log", i/40), Data: part.Bytes()})
		total += int64(part.Len())
	}
	return files, total
}

// BenchmarkExport exports 100 MB of logs that the service has, and packs the same
// without looking at it.
func BenchmarkExport(b *testing.B) {
	h := &house{state: ipc.State{Session: ipc.Session{Actor: "Alice Example"}}}
	for i := range 500 {
		h.state.Resources = append(h.state.Resources, ipc.Resource{Name: fmt.Sprintf("Resource number %d", i), Address: fmt.Sprintf("r%d.corp.example", i)})
	}
	var total int64
	h.files, total = benchmarkLogs(b)
	b.Run("export", func(b *testing.B) {
		socket := serve(b, h)
		b.SetBytes(total)
		for b.Loop() {
			if _, err := Export(b.Context(), Options{Socket: socket, Out: filepath.Join(b.TempDir(), "x.zip"), AppLogs: []string{}}, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("plain zip", func(b *testing.B) {
		b.SetBytes(total)
		for b.Loop() {
			out, err := os.Create(filepath.Join(b.TempDir(), "x.zip"))
			if err != nil {
				b.Fatal(err)
			}
			z, name := zip.NewWriter(out), ""
			var w io.Writer
			for _, f := range h.files {
				if f.Name != name {
					w, err = z.Create(f.Name)
					name = f.Name
				}
				if err == nil {
					_, err = w.Write(f.Data)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			if err := errors.Join(z.Close(), out.Close()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// What the service kept when something went wrong is taken even if it runs no
// more, and nothing else that lies beside the logs.
func TestFolderHasLogsAndKeptRecords(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.log", "flight-panic-1.jsonl", "flight-panic-2.jsonl.partial", "a.crash"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("{}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, s := range new(export).folder("service/logs", dir, false) {
		got = append(got, s.name)
	}
	if want := []string{"service/logs/a.log", "service/flight/flight-panic-1.jsonl"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// Why there is no service is said in the user's language, too.
func TestWhyThereIsNoService(t *testing.T) {
	for _, err := range []error{
		ipcsock.ErrNobody, ipcsock.ErrDenied, link.ErrSilent, link.ErrStranger, link.ErrGone, ipc.ErrFrame, ipc.ErrMessage, errIdle, ipc.SayStopping.With(),
	} {
		got := explain(&words.German, fmt.Errorf("ask: %w", err))
		if got == "" || strings.Contains(got, err.Error()) || strings.HasSuffix(got, ".") || got == explain(&words.English, err) {
			t.Errorf("%v: %q", err, got)
		}
	}
}
