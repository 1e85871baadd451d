package owner

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The test runs itself, because nobody comes back from Become.
func TestMain(m *testing.M) {
	if dir := os.Getenv("BECOME_OWNER_OF"); dir != "" {
		err := Become(dir)
		werr := os.WriteFile(filepath.Join(dir, "made"), nil, 0o600)
		fmt.Println(os.Getuid(), os.Getgid(), err, werr)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestBecome(t *testing.T) {
	dir := t.TempDir()
	want := fmt.Sprintf("%d %d <nil> <nil>", os.Getuid(), os.Getgid())
	if os.Getuid() == 0 {
		if err := os.Chown(dir, 12345, 23456); err == nil { // not in a user namespace with one user
			want = "12345 23456 <nil> <nil>"
			os.Chmod(filepath.Dir(dir), 0o755)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(self)
	child.Env = append(os.Environ(), "BECOME_OWNER_OF="+dir)
	out, err := child.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != want {
		t.Errorf("got %s, %v; want %s", out, err, want)
	}
}
