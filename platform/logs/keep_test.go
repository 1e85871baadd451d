package logs

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestKeep(t *testing.T) {
	l := open(t, Config{Mode: 0o600})
	text := func(s string) func(io.Writer) error {
		return func(w io.Writer) error { _, err := io.WriteString(w, s); return err }
	}
	dir := l.Dir()
	left := filepath.Join(dir, "flight-left-by-a-crash.jsonl.partial")
	other := filepath.Join(dir, "flights-of-others.jsonl")
	for _, path := range []string{left, other} {
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var paths []string
	for i, name := range []string{"a", "b", "c", "d"} {
		path, err := l.Keep("flight", name, 3, text(name))
		if err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(time.Duration(i-10) * time.Minute)
		os.Chtimes(path, at, at)
		paths = append(paths, path)
	}
	full := errors.New("disk full")
	if _, err := l.Keep("flight", "e", 3, func(io.Writer) error { return full }); !errors.Is(err, full) {
		t.Error(err)
	}
	for i, path := range paths {
		got, err := os.ReadFile(path)
		if gone := errors.Is(err, os.ErrNotExist); gone != (i == 0) || !gone && string(got) != string(rune('a'+i)) {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	if info, err := os.Stat(paths[3]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if found, _ := filepath.Glob(filepath.Join(dir, "*.partial")); len(found) > 0 {
		t.Errorf("left behind: %v", found)
	}
	if _, err := os.Stat(other); err != nil {
		t.Error(err)
	}

	// It counts, and goes before the log of the folder does.
	if err := Prune([]string{dir}, 1, time.Now().Add(time.Hour)); err != nil {
		t.Error(err)
	}
	found, _ := filepath.Glob(filepath.Join(dir, "*.*"))
	if !slices.ContainsFunc(found, func(p string) bool { return strings.HasSuffix(p, ".log") }) || slices.ContainsFunc(found, func(p string) bool { return isKept(p) }) {
		t.Errorf("after pruning: %v", found)
	}
	if _, err := l.Keep("flight", "f", 3, text("f")); err != nil {
		t.Fatal(err)
	}
	if err := l.Clear(); err != nil {
		t.Error(err)
	}
	if found, _ := filepath.Glob(filepath.Join(dir, "*.jsonl")); len(found) > 0 {
		t.Errorf("after clearing: %v", found)
	}
}

func TestKeepNeedsAFolder(t *testing.T) {
	l, err := Open(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.Keep("flight", "a", 3, func(io.Writer) error { return nil }); err == nil {
		t.Error("there is no folder")
	}
}
