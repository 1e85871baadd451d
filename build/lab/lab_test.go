//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stile/build/lab/host"
)

// nobody is a user without any rights.
const nobody = 65534

// TestMain lets the test program be the lab: whatever it starts in namespaces
// and hosts is itself.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == "as-nobody":
		asNobody(os.Args[2:])
	case len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-test."):
		main()
	default:
		os.Exit(m.Run())
	}
}

// lab prepares this program as the lab, with logs in dir.
func lab(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exec.Command(self, append([]string{args[0], "--log-dir", dir}, args[1:]...)...)
}

func TestWorld(t *testing.T) {
	wantOK(t, lab(t, t.TempDir(), "run", "world", "--json"))
}

func TestWorldAsAnOrdinaryUser(t *testing.T) {
	if !host.Privileged() {
		t.Skip("not root: TestWorld is this test")
	}
	dir, err := os.MkdirTemp("", "lab-nobody-") // t.TempDir is for its owner only
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "lab")
	if err := os.WriteFile(program, self, 0o755); err != nil {
		t.Fatal(err)
	}
	// Systems with udev let everybody open /dev/net/tun; this one may not.
	tun := filepath.Join(dir, "tun")
	if err := unix.Mknod(tun, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 200))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(tun, 0o666); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program, "as-nobody", tun, program, "run", "--log-dir", dir, "world", "--json")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	wantOK(t, c)
}

// asNobody runs a command as a user without rights, in a mount namespace where
// args[0] is the TUN device.
func asNobody(args []string) {
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if err == nil {
		err = unix.Mount(args[0], "/dev/net/tun", "", unix.MS_BIND, "")
	}
	if err == nil {
		err = syscall.Setgroups(nil)
	}
	if err == nil {
		err = syscall.Setgid(nobody)
	}
	if err == nil {
		err = syscall.Setuid(nobody)
	}
	if err == nil {
		err = unix.Exec(args[1], args[1:], []string{"PATH=/usr/bin:/bin"})
	}
	fmt.Fprintln(os.Stderr, "as nobody:", err)
	os.Exit(1)
}

// wantOK runs the lab and wants one good result line from it.
func wantOK(t *testing.T, c *exec.Cmd) {
	t.Helper()
	c.Stderr = os.Stderr
	out, err := c.Output()
	var r result
	if bad := json.Unmarshal(out, &r); bad != nil {
		t.Fatalf("the lab printed %q: %v, %v", out, bad, err)
	}
	if !r.OK || err != nil {
		t.Errorf("%s, %v", out, err)
	}
}

// Whatever ends the lab ends all that runs in it, programs that refuse to end
// and programs that came in by "lab shell" included.
func TestNothingOutlivesTheLab(t *testing.T) {
	for _, end := range []struct {
		name   string
		second bool // the signal goes to process 1 of the enclosure
		signal syscall.Signal
	}{
		{"kill -9", false, unix.SIGKILL},
		{"kill -9 of process 1", true, unix.SIGKILL},
		{"SIGTERM", false, unix.SIGTERM},
		{"Ctrl-C", false, unix.SIGINT},
	} {
		t.Run(end.name, func(t *testing.T) {
			dir := t.TempDir()
			first := lab(t, dir, "run", "up", "--keep", "--json")
			first.Stdout = io.Discard
			started(t, first, "kept:")

			r, err := newest(dir)
			if err != nil {
				t.Fatal(err)
			}
			second, err := unix.PidfdOpen(r.PID, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(second)
			pids, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", r.PID))
			if err != nil {
				t.Fatal(err)
			}
			// A shell that will not end, and a grandchild that has left it.
			guest := lab(t, dir, "shell", "laptop", "--", "sh", "-c",
				`trap "" INT TERM HUP; setsid sleep 1000 & hostname >&2; while :; do sleep 1000; done`)
			started(t, guest, "laptop")

			if end.second {
				err = unix.PidfdSendSignal(second, end.signal, nil, 0)
			} else {
				err = first.Process.Signal(end.signal)
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := first.Wait(); err != nil && end.signal != unix.SIGKILL {
				t.Errorf("after %v: %v; want status 0", end.name, err)
			}
			guest.Wait()
			if err := await(second, unix.POLLIN, 5*time.Second); err != nil {
				t.Errorf("process 1 of the enclosure still runs: %v", err)
			}
			for _, process := range members(pids) {
				t.Errorf("process %s outlives the lab", process)
			}
			if _, err := newest(dir); err == nil {
				t.Error("the lab still counts as running")
			}
		})
	}
}

// members lists the processes in a PID namespace, but for the dead who wait to
// be noticed by their parent.
func members(pids string) []string {
	links, _ := filepath.Glob("/proc/[0-9]*/ns/pid")
	var found []string
	for _, l := range links {
		dir := filepath.Dir(filepath.Dir(l))
		to, _ := os.Readlink(l)
		stat, _ := os.ReadFile(dir + "/stat")
		if _, state, _ := strings.Cut(string(stat), ") "); to == pids && !strings.HasPrefix(state, "Z") {
			found = append(found, filepath.Base(dir))
		}
	}
	return found
}

// started starts a command and waits until it says something on standard error.
// Whatever happens, it is gone at the end of the test.
func started(t *testing.T, c *exec.Cmd, says string) {
	t.Helper()
	out, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	c.WaitDelay = time.Second // a survivor may hold its output open
	alarm := time.AfterFunc(30*time.Second, func() { c.Process.Kill() })
	t.Cleanup(func() { alarm.Stop(); c.Process.Kill() })
	var heard []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		heard = append(heard, lines.Text())
		if strings.Contains(lines.Text(), says) {
			return
		}
	}
	t.Fatalf("%v never says %q, only %q", c.Args, says, heard)
}

func TestTheLabTellsWhatItCannotDo(t *testing.T) {
	for _, row := range []struct {
		args []string
		says string
	}{
		{[]string{"run", "nosuch"}, `no scenario "nosuch": see lab list`},
		{[]string{"bench", "world"}, `no benchmark "world": see lab list`},
		{[]string{"shell", "laptop"}, "no lab runs here"},
		{[]string{"demo", "--bin-dir", t.TempDir(), "--check"}, "build it with make build, or say where it is with --bin-dir"},
	} {
		c := lab(t, t.TempDir(), row.args...)
		out, err := c.CombinedOutput()
		if err == nil || !strings.Contains(string(out), row.says) {
			t.Errorf("lab %v: got %q, %v; want an error that says %q", row.args, out, err, row.says)
		}
	}
}

// A user without an entry in the user namespace may not make another: it is the
// refusal that is easiest to get.
func TestARefusalSaysWhatFailedAndThatRootHelps(t *testing.T) {
	c := lab(t, t.TempDir(), "run", "up", "--json")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}
	out, err := c.Output()
	for _, want := range []string{`"ok":false`, "start a process in new namespaces", "operation not permitted", "run the lab as root"} {
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("got %q, %v; want an error that says %q", out, err, want)
		}
	}
}
