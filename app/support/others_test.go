package support

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"stile/build/need"
)

// A guest is a user whose folders root exports, as with sudo -E.
type guest struct {
	t            *testing.T
	home, secret string // secret is a file that only root may read
	logs, config string
}

const (
	guestID  = 4711
	confided = "SIX-ELEPHANTS" // is in secret
)

func newGuest(t *testing.T) *guest {
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: this needs root, who reads another user's folders")
	}
	top := t.TempDir()
	g := &guest{t: t, home: filepath.Join(top, "home"), secret: filepath.Join(top, "root", "secret.log")}
	g.logs, g.config = filepath.Join(g.home, ".cache", "stile", "logs"), filepath.Join(g.home, ".config", "stile", "config")
	g.do(os.Chmod(filepath.Dir(top), 0o755), os.Mkdir(filepath.Dir(g.secret), 0o755), os.WriteFile(g.secret, []byte(`{"message":"`+confided+`"}`+"\n"), 0o600))
	g.do(os.MkdirAll(g.logs, 0o700), os.MkdirAll(g.config, 0o700))
	g.file(filepath.Join(g.logs, "own.log"), `{"message":"seven mice"}`+"\n")
	g.file(filepath.Join(g.config, "general_settings.json"), `{"start_minimized":true}`)
	t.Setenv("HOME", g.home)
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("SUDO_UID", "4711")
	t.Setenv("SUDO_GID", "4711")
	g.own()
	return g
}

func (g *guest) do(errs ...error) {
	g.t.Helper()
	if err := errors.Join(errs...); err != nil {
		g.t.Fatal(err)
	}
}

func (g *guest) file(path, text string) { g.do(os.WriteFile(path, []byte(text), 0o600)) }

// own gives all folders and files of the home to the guest, but for those that
// have a name elsewhere, too.
func (g *guest) own() {
	out, err := exec.Command("find", g.home, "-links", "+1", "-type", "f", "-o", "-exec", "chown", "-h", "4711:4711", "{}", "+").CombinedOutput()
	if err != nil {
		g.t.Fatalf("%v, %s", err, out)
	}
}

// export exports to the guest's home, and looks at what is in the archive.
func (g *guest) export() (Result, map[string]string) {
	g.t.Helper()
	o := Options{Socket: filepath.Join(g.home, "none"), Full: true, Out: g.home, system: &surroundings{
		nil, func() (string, error) { return "", nil }, func() []byte { return nil }, time.Minute,
	}}
	r, err := Export(g.t.Context(), o, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	_, files := unzip(g.t, r.Path)
	for name, text := range files {
		if strings.Contains(text, confided) {
			g.t.Errorf("what only root may read is in %s", name)
		}
	}
	if !strings.Contains(files["app/logs/own.log"], "seven mice") || !strings.Contains(files["app/general_settings.json"], "start_minimized") {
		g.t.Errorf("the user's own files are missing: %q", files)
	}
	return r, files
}

// A user may have anything in the own folders: root must not be led to what the
// user may not read, nor to what never ends.
func TestRootExportsOnlyWhatTheUserMayRead(t *testing.T) {
	need.Tools(t, "coreutils findutils", "mkfifo", "find")
	g := newGuest(t)
	for _, dir := range []string{g.logs, g.config} {
		ending := map[string]string{g.logs: ".log", g.config: ".json"}[dir]
		at := func(name string) string { return filepath.Join(dir, name+ending) }
		g.do(os.Symlink(g.secret, at("link")), os.Link(g.secret, at("hard")), os.Symlink(filepath.Join(dir, "none"), at("dangling")),
			os.Symlink("/dev/zero", at("device")), os.Symlink(at("loop"), at("loop")), exec.Command("mkfifo", at("pipe")).Run(), os.Mkdir(at("folder"), 0o700))
	}
	g.do(os.Symlink("none", filepath.Join(g.logs, "stile.latest")))
	g.own()
	if r, files := g.export(); len(files) != r.Files || r.DiskFull {
		t.Errorf("%+v", r)
	}
}

func TestRootIsNotLedToAnotherFolder(t *testing.T) {
	g := newGuest(t)
	elsewhere := filepath.Join(g.home, "logs")
	g.do(os.Rename(g.logs, elsewhere), os.Symlink(filepath.Dir(g.secret), g.logs))
	g.own()
	o := Options{Socket: filepath.Join(g.home, "none"), Full: true, Out: g.home, AppLogs: []string{elsewhere, g.logs}}
	r, err := Export(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, files := unzip(t, r.Path); files["app/logs/own.log"] == "" || files["app/logs/secret.log"] != "" {
		t.Errorf("%q", files)
	}
}

// What is looked at may be another file a moment later.
func TestRootIsNotLedAstrayByAFileThatChanges(t *testing.T) {
	g := newGuest(t)
	stop, path := make(chan struct{}), filepath.Join(g.logs, "a.log")
	var swaps sync.WaitGroup
	swaps.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			next := filepath.Join(g.logs, "next")
			if i%2 == 0 {
				os.Symlink(g.secret, next)
			} else {
				os.WriteFile(next, []byte("{}\n"), 0o644)
			}
			os.Rename(next, path)
		}
	})
	defer swaps.Wait()
	defer close(stop)
	for range 100 {
		if g.export(); t.Failed() {
			return
		}
	}
}

// The archive belongs to whoever ran sudo, wherever it is.
func TestTheArchiveBelongsToWhoeverRanSudo(t *testing.T) {
	g := newGuest(t)
	for _, dir := range []string{g.home, filepath.Dir(g.secret)} { // the latter is root's
		o := Options{Socket: filepath.Join(g.home, "none"), Out: filepath.Join(dir, "x.zip")}
		if _, err := Export(t.Context(), o, nil); err != nil {
			t.Fatal(err)
		}
		g.do(exec.Command("sh", "-c", `[ "$(stat -c '%u %g %a' "$0")" = "4711 4711 600" ]`, o.Out).Run())
	}
	// Nothing is written for the user where the user could not.
	theirs := filepath.Join(filepath.Dir(g.home), "theirs")
	g.do(os.Mkdir(theirs, 0o755), os.Chown(theirs, guestID+1, guestID+1), os.Symlink(filepath.Dir(g.secret), filepath.Join(g.home, "way")))
	for _, dir := range []string{theirs, filepath.Join(g.home, "way")} {
		_, err := Export(t.Context(), Options{Socket: filepath.Join(g.home, "none"), Out: filepath.Join(dir, "y.zip")}, nil)
		if !errors.Is(err, ErrNothing) || !errors.Is(err, os.ErrPermission) {
			t.Errorf("%s: %v", dir, err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*.zip-partial")); len(left) > 0 {
			t.Error("left behind:", left)
		}
	}
}
