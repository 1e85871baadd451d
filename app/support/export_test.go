package support

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"stile/build/need"
	"stile/platform/logs"
	"stile/tunnel/id"
	"stile/tunnel/ipc"
)

// A planting is 216 values, secrets and names of all forms, and texts with them.
type planting struct {
	g       *generator
	planted []planted
}

type planted struct {
	form         string
	secret, bare bool
	value        string
	parts        []string
}

func plantAll(seed uint64) *planting {
	p := &planting{g: &generator{rand.New(rand.NewPCG(seed, 0))}}
	for range 6 {
		for _, m := range makers {
			value, parts := m.make(p.g)
			p.planted = append(p.planted, planted{m.name, m.secret, m.bare, value, parts})
		}
	}
	return p
}

// marker begins a sentence that is in every file.
const marker = "followed:"

// sentences has each value, in a surrounding that a program would give it.
func (p *planting) sentences(say func(text string)) {
	say(marker + " follow.zanzibar.example 203.0.113.77 0a:1b:2c:3d:4e:5f Zoë O'Neil & Sons;")
	for _, v := range p.planted {
		ways := around
		switch {
		case !v.bare && v.secret:
			ways = secretFields
		case !v.bare:
			ways = nameFields
		}
		for {
			way := ways[p.g.IntN(len(ways))]
			if strings.Contains(way, "://") && !v.bare || !strings.Contains(way, "://") {
				say(strings.ReplaceAll(way, "V", v.value))
				break
			}
		}
	}
}

// log writes all values with the writer of the real logs.
func (p *planting) log(t *testing.T, dir, base string) {
	l, err := logs.Open(logs.Config{Dir: dir, Base: base, Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	l.Logger().Info("signed in", "actor", "Zoë O'Neil & Sons", "account", "acmeslug")
	p.sentences(func(text string) {
		l.Logger().Info(text)
		l.Flush() // none is lost
		l.Logger().Warn("odd", "error", errors.New(text), "list", []string{text}, "more", map[string]string{"x": text})
	})
	for _, v := range p.planted {
		switch {
		case v.bare:
			l.Logger().Info("as it is", "value", v.value, "also", fmt.Sprintf("%q", []string{v.value}))
		case v.secret:
			l.Logger().Info("as it is", "password", v.value)
		default:
			l.Logger().Info("as it is", "actor", v.value)
			l.Logger().Info("Then " + v.value + " went away.")
		}
		l.Flush()
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// flight writes a flight record.
func (p *planting) flight() []byte {
	var b bytes.Buffer
	for _, v := range p.planted {
		line := map[string]any{"time": "2026-11-23T09:00:00.000000001Z", "severity": "DEBUG", "message": "packet outbound", "target": "tunnel/flight"}
		switch {
		case v.bare:
			line["source"], line["destination"], line["src"], line["name"], line["peer"], line["counts"] = v.value, v.value, []any{v.value, map[string]any{v.value: 1}}, v.value, v.value, map[string]any{v.value: 1}
		case v.secret:
			line["psk"] = map[string]any{"old": v.value, "all": []string{v.value, v.value}}
		default:
			line["name"], line["resource"], line["user"], line["sites"] = v.value, v.value, v.value, []string{v.value}
		}
		text, err := json.Marshal(line)
		if err != nil {
			panic(err)
		}
		b.Write(append(text, '\n'))
	}
	return b.Bytes()
}

// state has each value somewhere.
func (p *planting) state() (s ipc.State) {
	s.Session = ipc.Session{Phase: ipc.Connected, Portal: "wss://portal.example", Actor: "Zoë O'Neil & Sons", Account: "acmeslug", Holder: "zoneil"}
	s.DNS.Upstream = []netip.AddrPort{netip.MustParseAddrPort("9.9.9.149:53")}
	p.sentences(func(text string) {
		r := ipc.Resource{ID: id.Resource{14: byte(len(s.Resources) >> 8), 15: byte(len(s.Resources))}, Type: "dns", Name: "x", Description: text, Sites: []string{}, Problem: ipc.Problemf(ipc.NotConnected, "%s", text)}
		if strings.HasPrefix(text, marker) {
			r.Description = "" // else it would be known as a whole
		}
		s.Resources = append(s.Resources, r)
	})
	for i, v := range p.planted {
		if r := &s.Resources[i+1]; !v.secret {
			r.Name, r.Address, r.Sites = v.value, v.value, []string{v.value}
		}
	}
	return s
}

// TestDefaultExport plants values of all forms in all that an export is made of.
func TestDefaultExport(t *testing.T) {
	for seed := range uint64(2) {
		p := plantAll(seed)
		if len(p.planted) < 200 {
			t.Fatal(len(p.planted))
		}
		dir := t.TempDir()
		t.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "config"))
		apps, service := filepath.Join(dir, "app"), filepath.Join(dir, "service")
		p.log(t, apps, "stile")
		p.log(t, service, "tunnel-service")
		var system, settings bytes.Buffer
		p.sentences(func(text string) { system.WriteString(text + "\n") })
		texts := map[string]string{}
		p.sentences(func(text string) { texts[fmt.Sprint(len(texts))] = text; texts[text] = "x" })
		if err := json.NewEncoder(&settings).Encode(texts); err != nil {
			t.Fatal(err)
		}
		hosts, prefs := filepath.Join(dir, "hosts"), filepath.Join(dir, "config", "stile", "config", "prefs.json")
		named := filepath.Join(apps, "laptop.zanzibar.example.log")
		if err := errors.Join(os.WriteFile(hosts, system.Bytes(), 0o600), os.MkdirAll(filepath.Dir(prefs), 0o700), os.WriteFile(prefs, settings.Bytes(), 0o600), os.WriteFile(named, []byte("{}\n"), 0o600)); err != nil {
			t.Fatal(err)
		}

		h := &house{state: p.state()}
		give := func(name string, text []byte) {
			for len(text) > 0 { // in parts that end anywhere
				n := min(len(text), 10_000)
				h.files = append(h.files, ipc.FilePart{Name: name, Data: text[:n]})
				text = text[n:]
			}
		}
		give("service/settings.json", settings.Bytes())
		give("service/flight/2026-11-23.jsonl", p.flight())
		give("service/flight/zoneil-0.jsonl", p.flight()[:5000])
		give("service/notes.txt", system.Bytes())
		files, _ := filepath.Glob(filepath.Join(service, "*.log"))
		for _, path := range files {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			give("service/logs/"+filepath.Base(path), text)
		}
		socket := serve(t, h)
		for _, mode := range []string{"default", "full", "without the service"} {
			out := filepath.Join(t.TempDir(), "zoneil.zip")
			o := Options{Socket: socket, Out: out, Full: mode == "full", AppLogs: []string{apps}, system: &surroundings{
				[]string{hosts}, func() (string, error) { return system.String(), nil }, system.Bytes, time.Minute,
			}}
			if mode == "without the service" {
				o.Socket = filepath.Join(dir, "none")
			}
			if _, err := Export(t.Context(), o, nil); err != nil {
				t.Fatal(err)
			}
			p.search(t, seed, mode, out)
		}
	}
}

// search looks for all values in an archive.
func (p *planting) search(t *testing.T, seed uint64, mode, path string) {
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, files := unzip(t, path)
	files["(the archive itself)"] = string(raw)
	if mode != "full" {
		p.planted = append(p.planted, planted{form: "more", parts: []string{"zanzibar", "o'neil", "zoneil", "acmeslug", "9.9.9.149"}})
		defer func() { p.planted = p.planted[:len(p.planted)-1] }()
	}
	names := 0
	for name, text := range files {
		low := strings.ToLower(text + name)
		for _, v := range p.planted {
			for _, part := range v.parts {
				for _, form := range []string{part, quoted(part), slogQuoted(part)} {
					at := strings.Index(low, strings.ToLower(form))
					switch {
					case at < 0:
					case mode == "full" && !v.secret:
						names++
					default:
						t.Errorf("seed %d, %s: %s %q is in %s: …%s…", seed, mode, v.form, part, name, low[max(0, at-80):min(len(low), at+80)])
					}
				}
			}
		}
		valid := strings.HasSuffix(name, ".json") && json.Valid([]byte(text))
		if strings.HasSuffix(name, ".log") || strings.HasSuffix(name, ".jsonl") {
			valid = true
			for line := range strings.Lines(text) {
				valid = valid && (json.Valid([]byte(line)) || name == "service/flight/zoneil-0.jsonl" || !strings.HasSuffix(line, "\n"))
			}
		}
		if !valid && strings.Contains(name, ".js") {
			t.Errorf("seed %d, %s: %s is no JSON", seed, mode, name)
		}
		if strings.Contains(text, "no value") {
			t.Errorf("%s has a gap: %s", name, text)
		}
	}
	var same string // who is followed has one name in all files
	found := 0
	for name, text := range files {
		for rest := text; ; found++ {
			_, after, more := strings.Cut(rest, marker)
			if rest = after; !more {
				break
			}
			if after, _, _ = strings.Cut(after, ";"); same == "" && mode != "full" {
				same = after
			}
			if mode != "full" && (after != same || !regexp.MustCompile(`^ h\d+\.d\d+\.invalid wan\d+\.77 mac-\d+ user-\d+$`).MatchString(after)) {
				t.Errorf("seed %d, %s: in %s it is %q, elsewhere %q", seed, mode, name, after, same)
			}
		}
	}
	if found < 9 {
		t.Errorf("seed %d, %s: it is found %d times", seed, mode, found)
	}
	if mode == "full" && names < 1000 {
		t.Errorf("seed %d: a full export has names in %d places only", seed, names)
	}
	runJQ(t, files)
}

func slogQuoted(s string) string { return strings.Trim(fmt.Sprintf("%q", s), `"`) }

// runJQ reads the exported logs with the command of the specification.
func runJQ(t *testing.T, files map[string]string) {
	need.Tools(t, "jq", "jq")
	for _, folder := range []string{"app/logs", "service/logs"} {
		dir, found := t.TempDir(), 0
		for name, text := range files {
			if strings.HasPrefix(name, folder+"/stile.") || strings.HasPrefix(name, folder+"/tunnel-service.") {
				found++
				if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		if found == 0 {
			continue
		}
		command := exec.Command("sh", "-c", `cat *.log | jq -r '"\(.time) \(.severity) \(.message)"'`)
		command.Dir = dir
		out, err := command.CombinedOutput()
		if err != nil || !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z INFO started log\n`).Match(out) || bytes.Contains(out, []byte("null")) {
			t.Errorf("%s: %v\n%.2000s", folder, err, out)
		}
	}
}
