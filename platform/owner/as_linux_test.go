package owner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const guest = 12345

// asRoot returns a folder that every user may pass through.
func asRoot(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: this needs root, who can act as another user")
	}
	top := t.TempDir()
	t.Setenv("SUDO_UID", "")
	do(t, os.Chmod(filepath.Dir(top), 0o755))
	return top
}

func do(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestAs(t *testing.T) {
	top := asRoot(t)
	mine, theirs, open := filepath.Join(top, "mine"), filepath.Join(top, "theirs"), filepath.Join(top, "open")
	do(t, os.Mkdir(mine, 0o700), os.Mkdir(theirs, 0o700), os.Mkdir(open, 0o700), os.Chmod(open, 0o777), os.Mkdir(filepath.Join(open, "below"), 0o700))
	do(t, os.Mkdir(filepath.Join(theirs, "roots"), 0o755), os.Chown(theirs, guest, 0))
	do(t, os.Symlink(theirs, filepath.Join(mine, "to-theirs")), os.Symlink(mine, filepath.Join(theirs, "to-mine")), os.Lchown(filepath.Join(theirs, "to-mine"), guest, guest))
	do(t, os.Symlink("../mine/to-theirs", filepath.Join(mine, "there")), os.Symlink("loop", filepath.Join(mine, "loop")))
	me, them := "0", fmt.Sprint(guest)
	for _, row := range []struct{ path, sudo, want string }{
		{"/", "", me},
		{mine, "", me},
		{mine, "54321", me}, // sudo changes nothing about what is root's
		{mine + "/to-theirs", "", them},
		{mine + "/there/roots", "", them},
		{mine + "/loop", "", "too many"},
		{open, "", me},
		{open + "/below", "", "exchange"},
		{theirs, "", them},
		{theirs + "/", "", them},
		{theirs + "/roots", "", them},
		{theirs + "/to-mine", "", them},
		{theirs + "/to-mine/../../mine", "", me}, // the same without the dots
		{theirs + "/none", "", them},
		{theirs, "54321", "54321"},
		{theirs, "0", them},
		{theirs, "-1", them},
		{theirs, "x", them},
		{mine + "/none", "", "no such file"},
	} {
		t.Setenv("SUDO_UID", row.sudo)
		t.Setenv("SUDO_GID", row.sudo)
		got := ""
		if err := As(row.path, func() error { got = fmt.Sprint(os.Geteuid()); return nil }); err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, row.want) {
			t.Errorf("%s, sudo %q: %s, want %s", row.path, row.sudo, got, row.want)
		}
		if os.Geteuid() != 0 {
			t.Fatal("root is not root any more")
		}
	}
	if err := As(theirs, func() error { return errors.ErrUnsupported }); err != errors.ErrUnsupported {
		t.Error(err)
	}
}

// Whoever acts as a user has no capability and no group of root's.
func TestAsHasNoRightsOfRoot(t *testing.T) {
	top := asRoot(t)
	theirs, secret := filepath.Join(top, "theirs"), filepath.Join(top, "secret")
	do(t, os.Mkdir(theirs, 0o700), os.Chown(theirs, guest, 0), os.WriteFile(secret, nil, 0o640))
	var status []byte
	do(t, As(theirs, func() (err error) {
		for _, path := range []string{secret, "/proc/1/root/etc"} {
			if _, err := os.ReadFile(path); !errors.Is(err, fs.ErrPermission) {
				t.Errorf("%s: %v", path, err)
			}
		}
		status, err = os.ReadFile("/proc/thread-self/status")
		return err
	}))
	lines := strings.Split(strings.ReplaceAll(string(status), "\t", " "), "\n")
	for _, want := range []string{"Uid: 0 12345 0 12345", "Gid: 0 65534 0 65534", "Groups:  ", "CapEff: 0000000000000000"} {
		if !slices.Contains(lines, want) {
			t.Errorf("there is no %q in %q", want, lines)
		}
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	do(t, os.WriteFile(at("file"), []byte("text"), 0o600), os.Symlink("file", at("link")), os.Symlink("none", at("dangling")),
		os.Symlink("/dev/null", at("device")), exec.Command("mkfifo", at("pipe")).Run())
	for name, want := range map[string]error{"file": nil, "link": nil, "dangling": fs.ErrNotExist, "none": fs.ErrNotExist, "pipe": ErrNoFile, "device": ErrNoFile, ".": ErrNoFile} {
		f, info, err := Open(at(name))
		if !errors.Is(err, want) || err == nil && info.Size() != 4 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
		f.Close() // of nil, it does nothing
	}
}
