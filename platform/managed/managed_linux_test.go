package managed

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
)

func TestReadFile(t *testing.T) {
	us := uint32(os.Getuid())
	for _, row := range []struct {
		name, text string
		mode       os.FileMode
		owner      uint32
		want       map[string]any
		err        string
	}{
		{"good", `{"apiURL":"wss://portal.example","connectOnStart":true,"checkForUpdates":0}`, 0o644, us, map[string]any{"apiURL": "wss://portal.example", "connectOnStart": true, "checkForUpdates": 0.0}, ""},
		{"empty object", `{}`, 0o600, us, map[string]any{}, ""},
		{"group may write", `{}`, 0o664, us, nil, "chmod go-w"},
		{"all may write", `{}`, 0o646, us, nil, "chmod go-w"},
		{"of another user", `{}`, 0o644, us + 1, nil, "chown root:"},
		{"not JSON", `apiURL=x`, 0o644, us, nil, "not a JSON object"},
		{"a list", `[]`, 0o644, us, nil, "not a JSON object"},
		{"more than an object", `{} {}`, 0o644, us, nil, "not a JSON object"},
		{"too long", `{"a":"` + strings.Repeat("x", maxFile) + `"}`, 0o644, us, nil, "more than"},
	} {
		path := filepath.Join(t.TempDir(), "policy.json")
		if err := os.WriteFile(path, []byte(row.text), 0o600); err != nil {
			t.Fatal(err)
		}
		os.Chmod(path, row.mode)
		got, err := readFile(path, row.owner)
		if !reflect.DeepEqual(got, row.want) || (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) {
			t.Errorf("%s: %v, %v", row.name, got, err)
		}
	}
}

func TestNoPolicyAndNoFile(t *testing.T) {
	dir := t.TempDir()
	if got, err := readFile(filepath.Join(dir, "none"), 0); got != nil || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, pipe} {
		if got, err := readFile(path, uint32(os.Getuid())); got != nil || err == nil {
			t.Errorf("%s: %v, %v", path, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"apiURL":"wss://portal.example","connectOnStart":1,"x":{"y":[null]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if values, err := parse(text); err != nil && values != nil || len(values) > maxValues {
			t.Errorf("%v, %v", values, err)
		}
	})
}
