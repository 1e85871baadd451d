package cli

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"stile/platform/desktop"
)

// newHome is the home of a user who has set nothing, and this program.
func newHome(t *testing.T) (home, self string) {
	t.Helper()
	home = t.TempDir()
	for _, v := range []string{"XDG_DATA_HOME", "XDG_CONFIG_HOME"} {
		t.Setenv(v, "")
	}
	t.Setenv("HOME", home)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return home, self
}

func TestTheDesktopForgets(t *testing.T) {
	home, self := newHome(t)
	desktop.Register(self) // the tools that it needs may be missing; the entry is written first
	if err := errors.Join(desktop.List(self, "<svg/>"), desktop.StartAtLogin(true, self)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		run{}.run(t, "", "unregister").want(t, done, "knows nothing", "")
	}
	for _, file := range []string{".config/autostart/stile.desktop", ".local/share/applications/stile-url.desktop", ".local/share/applications/stile.desktop"} {
		if _, err := os.Stat(filepath.Join(home, file)); err == nil {
			t.Errorf("%s is left", file)
		}
	}
}

// Root, by sudo, writes and removes nothing in a folder where the user may have
// put links to files of others.
func TestSudoLeavesTheDesktopAlone(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NEEDS ROOT")
	}
	home, self := newHome(t)
	registered := 0
	p := &program{register: func(string) error { registered++; return nil }}
	if err := p.registerScheme(); err != nil || registered != 1 {
		t.Errorf("without sudo: %v, registered %d times", err, registered)
	}
	if err := desktop.StartAtLogin(true, self); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SUDO_UID", "4711")
	t.Setenv("SUDO_GID", "4711")
	if err := p.registerScheme(); err == nil || registered != 1 {
		t.Errorf("by sudo: %v, registered %d times", err, registered)
	}
	run{}.run(t, "", "unregister").want(t, failed, "", "without sudo")
	if _, err := os.Stat(filepath.Join(home, ".config/autostart/stile.desktop")); err != nil {
		t.Error(err)
	}
}
