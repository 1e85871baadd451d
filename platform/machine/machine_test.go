package machine

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var quiet = slog.New(slog.DiscardHandler)

func TestStoredDeviceIDWins(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, idFile), []byte(`{"id":"laptop-7"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := DeviceID(dir, quiet); err != nil || got != "laptop-7" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestDeviceIDIsStable(t *testing.T) {
	dir := t.TempDir()
	first, err := DeviceID(dir, quiet)
	if err != nil || len(first) != 64 {
		t.Fatalf("%q, %v", first, err)
	}
	if second, _ := DeviceID(dir, quiet); second != first {
		t.Errorf("%q, then %q", first, second)
	}
}

func TestUnreadableDeviceIDIsKeptAside(t *testing.T) {
	for _, text := range []string{"", "{", "\x00\xff", strings.Repeat(" ", maxFile) + `{"id":"a"}`, `{"id":""}`, `{"id":"a b"}`, `{"id":"` + strings.Repeat("x", 256) + `"}`, `{"id":7}`} {
		dir := t.TempDir()
		path := filepath.Join(dir, idFile)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := DeviceID(dir, quiet); err != nil || !usable(got) {
			t.Errorf("%q: %q, %v", text, got, err)
		}
		if kept, err := os.ReadFile(path + ".bad"); err != nil || string(kept) != text {
			t.Errorf("%q is lost: %q, %v", text, kept, err)
		}
	}
}

func TestDerivedIDHidesItsSource(t *testing.T) {
	const source = "0123456789abcdef0123456789abcdef"
	if a, b := derive(source), derive(source[1:]+"0"); a == b || strings.Contains(a, source) {
		t.Error(a, b)
	}
}

func TestDescribe(t *testing.T) {
	if o := Describe(); o.Name == "" || o.Version == "" || o.Arch == "" || strings.Contains(o.Name, "/") {
		t.Errorf("%+v", o)
	}
}

func TestOddStateFolders(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := DeviceID(file, quiet); err == nil || !strings.Contains(err.Error(), "--state-dir") {
		t.Errorf("a file as the folder: %v", err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, idFile), 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := DeviceID(dir, quiet); err != nil || !usable(got) {
		t.Errorf("a folder as the file: %q, %v", got, err)
	}
	if info, err := os.Stat(filepath.Join(dir, idFile+".bad")); err != nil || !info.IsDir() {
		t.Errorf("the folder is lost: %v", err)
	}
}

func FuzzDeviceID(f *testing.F) {
	f.Add([]byte(`{"id":"laptop-7"}`))
	f.Add([]byte(`{"ID":"a","id":"b"}`))
	f.Add([]byte(`{"id":"a b"}`))
	f.Add([]byte(`[{"id":"a"}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if id, err := parseID(text); err == nil && !usable(id) || err != nil && id != "" {
			t.Fatalf("%q, %v", id, err)
		}
	})
}
