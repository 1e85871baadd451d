package daemon

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"stile/tunnel/core"
)

var quiet = slog.New(slog.DiscardHandler)

func TestNamesSurvive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "names.json")
	want := []core.ProxyName{
		{Name: "wiki.corp.example", Addrs: []netip.Addr{netip.MustParseAddr("100.96.0.1"), netip.MustParseAddr("fd00:2021:1111:8000::")}},
		{Name: "git.corp.example", Addrs: []netip.Addr{netip.MustParseAddr("100.96.0.5")}},
	}
	if got, err := loadNames(path, quiet); err != nil || got != nil {
		t.Fatalf("without a file: %v, %v", got, err)
	}
	if err := saveNames(path, want); err != nil {
		t.Fatal(err)
	}
	if got, err := loadNames(path, quiet); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%v, %v", got, err)
	}
}

func TestUnusableNamesAreKeptAside(t *testing.T) {
	for _, text := range []string{
		"", "{", "[]", `{"version":2}`,
		`{"version":1,"names":[{"name":"a","addrs":["10.0.0.1"]}]}`,
		`{"version":1,"names":[{"name":"a","addrs":["100.100.111.1"]}]}`,
		`{"version":1,"names":[{"name":"","addrs":["100.96.0.1"]}]}`,
		`{"version":1,"names":[{"name":"a","addrs":["100.96.0.1"]},{"name":"b","addrs":["100.96.0.1"]}]}`,
	} {
		path := filepath.Join(t.TempDir(), "names.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := loadNames(path, quiet); err != nil || len(got) != 0 {
			t.Errorf("%s: %v, %v", text, got, err)
		}
		if kept, err := os.ReadFile(path + ".bad"); err != nil || string(kept) != text {
			t.Errorf("%s was lost: %q, %v", text, kept, err)
		}
	}
}

func FuzzNames(f *testing.F) {
	f.Add([]byte(`{"version":1,"names":[{"name":"a","addrs":["100.96.0.1","fd00:2021:1111:8000::"]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := parseNames(text)
		if err != nil {
			return
		}
		path := filepath.Join(t.TempDir(), "names.json")
		if err := saveNames(path, list); err != nil {
			t.Fatal(err)
		}
		again, err := loadNames(path, quiet)
		if err != nil || len(again) != len(list) {
			t.Fatalf("%v, %v", again, err)
		}
	})
}
