package desktop

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const address = "https://portal.example.net/acme?as=gui-client&x=$(id)"

// pretend installs programs that are shell scripts, and nothing else.
func pretend(t *testing.T, scripts map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, script := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	t.Setenv("DISPLAY", ":7")
	t.Setenv("WAYLAND_DISPLAY", "")
}

func TestTheAddressArrivesAsItIs(t *testing.T) {
	for _, name := range []string{"xdg-open", "gio", "sensible-browser"} {
		told := filepath.Join(t.TempDir(), "told")
		pretend(t, map[string]string{name: `echo "$@" > ` + told})
		if err := Open(t.Context(), address); err != nil {
			t.Error(err)
		}
		if b, _ := os.ReadFile(told); strings.TrimPrefix(strings.TrimSpace(string(b)), "open ") != address {
			t.Errorf("%s was told %q", name, b)
		}
	}
}

func TestFailuresAreTold(t *testing.T) {
	pretend(t, map[string]string{"xdg-open": "exit 3"})
	if err := Open(t.Context(), address); err == nil || errors.Is(err, ErrNoDesktop) {
		t.Error(err)
	}
	pretend(t, nil)
	if err := Open(t.Context(), address); !errors.Is(err, ErrNoDesktop) {
		t.Error(err)
	}
	pretend(t, map[string]string{"xdg-open": ""})
	t.Setenv("DISPLAY", "")
	if err := Open(t.Context(), address); !errors.Is(err, ErrNoDesktop) {
		t.Error(err)
	}
	t.Setenv("WAYLAND_DISPLAY", "wayland-0")
	if err := Open(t.Context(), address); err != nil {
		t.Error(err)
	}
}

func TestABrowserThatStaysIsNotWaitedFor(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "end"), 0o600); err != nil {
		t.Fatal(err)
	}
	pretend(t, map[string]string{"xdg-open": "read line < " + dir + "/end"})
	if err := Open(t.Context(), address); err != nil {
		t.Error(err)
	}
	end, err := os.OpenFile(filepath.Join(dir, "end"), os.O_WRONLY|syscall.O_NONBLOCK, 0) // fails if nobody reads
	if err != nil {
		t.Fatal("the browser was ended:", err)
	}
	end.Close()
}

func TestOnlyTheWebIsOpened(t *testing.T) {
	pretend(t, map[string]string{"xdg-open": ""})
	for _, a := range []string{"", "/etc/passwd", "file:///etc/passwd", "javascript:alert(1)", "-h", "--version", "https:", "http:///x", "ssh://host", "%"} {
		if err := Open(t.Context(), a); err == nil {
			t.Errorf("%q was opened", a)
		}
	}
}
