//go:build !windows

package dirs

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestPrivateFolders(t *testing.T) {
	base := t.TempDir()
	path := filepath.Join(base, "above", "mine")
	for range 2 {
		if err := Private(path); err != nil {
			t.Fatal(err)
		}
		if info, _ := os.Stat(path); info.Mode().Perm() != 0o700 {
			t.Error(info.Mode())
		}
		os.Chmod(path, 0o777) // the second time, it is put right
	}

	file, link := filepath.Join(base, "file"), filepath.Join(base, "link")
	os.WriteFile(file, nil, 0o600)
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{file, link} {
		if err := Private(p); err == nil || !strings.Contains(err.Error(), "not a folder") {
			t.Errorf("%s: %v", p, err)
		}
	}
	if os.Getuid() == 0 {
		theirs := filepath.Join(base, "theirs")
		os.Mkdir(theirs, 0o700)
		os.Chown(theirs, 4711, 0)
		if err := Private(theirs); err == nil || !strings.Contains(err.Error(), "4711") {
			t.Error(err)
		}
	}
}

func TestFolderOfTheSession(t *testing.T) {
	dir, temp := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", temp)
	t.Setenv("XDG_RUNTIME_DIR", dir)
	if got := Session(); got != filepath.Join(dir, "stile") {
		t.Error(got)
	}
	uid := strconv.Itoa(os.Geteuid())
	want := filepath.Join(temp, "stile-"+uid)
	if _, err := os.Stat("/run/user/" + uid); err == nil {
		want = "/run/user/" + uid + "/stile"
	}
	unusables := []string{"", "relative", filepath.Join(dir, "none")}
	if os.Getuid() == 0 { // root must leave nothing of its own in a user's folder
		theirs := filepath.Join(dir, "theirs")
		if err := errors.Join(os.Mkdir(theirs, 0o700), os.Chown(theirs, 4711, 0)); err != nil {
			t.Fatal(err)
		}
		unusables = append(unusables, theirs)
	}
	for _, unusable := range unusables {
		t.Setenv("XDG_RUNTIME_DIR", unusable)
		if got := Session(); got != want {
			t.Errorf("%q: %s", unusable, got)
		}
	}
}

func TestFilesHaveTheirModeWhateverTheUmask(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "state.json")
	for _, mode := range []os.FileMode{0o600, 0o644} {
		if err := WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
		if info, _ := os.Stat(path); info.Mode().Perm() != mode {
			t.Errorf("%v instead of %v", info.Mode(), mode)
		}
	}
	if err := WriteSecret(path, nil); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if info, _ := os.Stat(p); info.Mode().Perm() != want {
			t.Errorf("%s: %v", p, info.Mode())
		}
	}
}
