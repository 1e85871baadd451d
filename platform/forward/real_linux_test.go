package forward

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The real ufw, with settings of its own: what we tell the administrator to
// type works, and what we arrange ourselves outlives a reload and leaves
// nothing behind.
func TestBesideTheRealUfw(t *testing.T) {
	w := newWorld(t)
	own(t, "/etc/ufw", "/etc/default", "/var/lib/ufw", "/run")
	tool(t, "ufw", "--force", "enable")
	const advice = "sudo ufw route allow in on " + tunnel
	advised(t, w, advice)
	tool(t, "ufw", "route", "delete", "allow", "in", "on", tunnel)
	arranged(t, w, func() { tool(t, "ufw", "reload") })
}

// The real firewalld, on a bus of its own.
func TestBesideTheRealFirewalld(t *testing.T) {
	w := newWorld(t)
	own(t, "/etc/firewalld", "/run")
	must(t, os.Mkdir("/run/dbus", 0o755))
	daemon(t, "dbus-daemon", "--system", "--nofork", "--nopidfile")
	eventually(t, "the bus", func() bool { _, err := os.Stat("/run/dbus/system_bus_socket"); return err == nil })
	daemon(t, "firewalld", "--nofork", "--nopid")
	eventually(t, "firewalld", func() bool { return exec.Command("firewall-cmd", "--state").Run() == nil })
	const advice = "sudo firewall-cmd --permanent --zone=trusted --add-interface=" + tunnel + " && sudo firewall-cmd --reload"
	advised(t, w, advice)
	tool(t, "firewall-cmd", "--permanent", "--zone=trusted", "--remove-interface="+tunnel)
	tool(t, "firewall-cmd", "--reload")
	arranged(t, w, func() { tool(t, "firewall-cmd", "--reload") })
}

// advised does what Check says.
func advised(t *testing.T, w *world, advice string) {
	t.Helper()
	f := New(Config{Interface: tunnel, Log: quiet})
	must(t, f.Enable())
	w.stuck()
	problems := f.Check()
	if len(problems) == 0 {
		t.Error("no problem seen")
	}
	for _, p := range problems {
		if p.Kind != Blocked || p.Help != advice {
			t.Errorf("%v, want %s", p, advice)
		}
	}
	for _, command := range strings.Split(advice, " && ") {
		words := strings.Fields(strings.TrimPrefix(command, "sudo "))
		tool(t, words[0], words[1:]...)
	}
	if p := f.Check(); len(p) > 0 {
		t.Errorf("after the advice: %v", p)
	}
	w.passes()
	must(t, f.Close())
}

// arranged lets us do it, through a reload of the other firewall.
func arranged(t *testing.T, w *world, reload func()) {
	t.Helper()
	before := foreign(t)
	var book logbook
	f := New(Config{Interface: tunnel, Integrate: true, Log: book.logger()})
	must(t, f.Enable())
	w.passes()
	stop := running(t, w, f)
	reload()
	eventually(t, "traffic after the reload", func() bool { _, err := w.reach(resource4); return err == nil })
	w.passes()
	stop()
	must(t, f.Close())
	if got := foreign(t); got != before {
		t.Errorf("others' rules after\n%s\nbefore\n%s\nlog\n%s", got, before, book.String())
	}
}

// own gives this test copies of folders, for what it starts to see and change.
func own(t *testing.T, dirs ...string) {
	t.Helper()
	must(t, unix.Unshare(unix.CLONE_NEWNS))
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	for _, d := range dirs {
		switch _, err := os.Stat(d); {
		case err != nil && d == "/var/lib/ufw": // not every version keeps something there
			continue
		case err != nil:
			t.Skipf("NOT TESTED: %s is missing; install ufw, firewalld and dbus", d)
		}
		kept := t.TempDir()
		if d != "/run" {
			tool(t, "cp", "-a", d+"/.", kept)
		}
		must(t, unix.Mount("tmpfs", d, "tmpfs", 0, "mode=755"))
		tool(t, "cp", "-a", kept+"/.", d)
	}
}

func daemon(t *testing.T, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("NOT TESTED: %s is missing; install ufw, firewalld and dbus", name)
	}
	c := exec.Command(path, args...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	must(t, c.Start())
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for began := time.Now(); !is(); {
		if time.Since(began) > 15*time.Second {
			t.Fatalf("%s: not in 15 s", what)
		}
		unix.Nanosleep(&unix.Timespec{Nsec: 50e6}, nil)
	}
}
