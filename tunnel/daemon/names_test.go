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
	if got := loadNames(path, quiet); got != nil {
		t.Fatalf("without a file: %v", got)
	}
	if err := saveNames(path, want); err != nil {
		t.Fatal(err)
	}
	if got := loadNames(path, quiet); !reflect.DeepEqual(got, want) {
		t.Fatalf("%v", got)
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
		if got := loadNames(path, quiet); len(got) != 0 {
			t.Errorf("%s: %v", text, got)
		}
		if kept, err := os.ReadFile(path + ".bad"); err != nil || string(kept) != text {
			t.Errorf("%s was lost: %q, %v", text, kept, err)
		}
	}
}

func TestAFileThatCannotBePutAsideDoesNotStopTheService(t *testing.T) {
	path := filepath.Join(t.TempDir(), "names.json")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(path+".bad", "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got := loadNames(path, quiet); got != nil {
		t.Errorf("%v", got)
	}
}

func FuzzNames(f *testing.F) {
	f.Add([]byte(`{"version":1,"names":[{"name":"a","addrs":["100.96.0.1","fd00:2021:1111:8000::"]}]}`))
	f.Add([]byte(`{"version":1,"names":[{"name":"a","addrs":["::ffff:100.96.0.1"]},{"name":"\ud800","addrs":null}]}`))
	f.Add([]byte(`{"version":1,"names":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := parseNames(text)
		if err != nil {
			return
		}
		path := filepath.Join(t.TempDir(), "names.json")
		if err := saveNames(path, list); err != nil {
			t.Fatal(err)
		}
		if again := loadNames(path, quiet); !reflect.DeepEqual(again, list) && len(list) > 0 {
			t.Fatalf("%v, want %v", again, list)
		}
	})
}
