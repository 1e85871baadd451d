package support

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOpenLog(t *testing.T) {
	home := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", home)
	l := OpenLog("debug", nil)
	l.Logger().Debug("hello")
	if err := l.Close(); err != nil || l.Dir() != AppLogs()[0] {
		t.Fatal(err, l.Dir())
	}
	text, err := os.ReadFile(filepath.Join(l.Dir(), "stile.latest"))
	if err != nil || !strings.Contains(string(text), `"started log"`) || !strings.Contains(string(text), `"hello"`) {
		t.Errorf("%s, %v", text, err)
	}

	var said bytes.Buffer
	l = OpenLog("loud", slog.NewTextHandler(&said, nil)) // a filter that somebody misspelt
	l.Close()
	if l.Filter() != "info" || l.Dir() == "" || !strings.Contains(said.String(), "loud") {
		t.Errorf("%s: %s", l.Filter(), said.String())
	}

	said.Reset()
	file := filepath.Join(home, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CACHE_HOME", file)
	l = OpenLog("", slog.NewTextHandler(&said, nil))
	l.Logger().Info("goes on")
	l.Close()
	if l.Dir() != "" || !strings.Contains(said.String(), "not as it should be") || !strings.Contains(said.String(), "goes on") {
		t.Error(said.String())
	}
}
