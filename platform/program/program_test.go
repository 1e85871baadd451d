package program

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The test starts itself anew: once it is told to, then it says what it got.
func TestMain(m *testing.M) {
	switch os.Getenv("PROGRAM_TEST") {
	case "":
		os.Exit(m.Run())
	case "first":
		os.Setenv("PROGRAM_TEST", "second")
		fmt.Println(Restart("one", "two words"))
		os.Exit(1)
	default:
		fmt.Printf("again %q", os.Args[1:])
		os.Exit(0)
	}
}

func TestRestart(t *testing.T) {
	// A copy, because it is replaced while it runs, as by an update.
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		if self, err = os.ReadFile(os.Args[0]); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "program.exe")
	if err := os.WriteFile(path, self, 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(path)
	c.Env = append(os.Environ(), "PROGRAM_TEST=first")
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), `again ["one" "two words"]`) {
		t.Errorf("%q, %v", out, err)
	}
}

func TestPathIsAFile(t *testing.T) {
	path, err := Path()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func TestPackaging(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "deb",
		"NAME=Debian\nID=debian\n":    "deb",
		"ID=ubuntu\nID_LIKE=debian\n": "deb",
		"ID=fedora\n":                 "rpm",
		"ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n": "rpm",
		"ID=opensuse-leap\n":                             "rpm",
		"ID=sles\nID_LIKE='suse'\n":                      "rpm",
		"PRETTY_NAME=\"not fedora\"\nID=arch":            "deb",
	} {
		if got := packaging(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
	if h := Here(); h.OS == "" || h.Arch == "" {
		t.Error(h)
	}
}
