package desktop

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"stile/app/menu"
	"stile/app/words"
	"stile/platform/tray/traytest"
	"stile/tunnel/ipc"
)

// soon is how long the app may show what is not so any more.
const soon = 2 * time.Second

func (d *desk) within(what string, limit time.Duration, is func(m traytest.Menu) bool) {
	d.t.Helper()
	if took := d.panel.Until(what, is); took > limit {
		d.t.Errorf("%s: only after %v", what, took)
	}
}

func TestAServiceThatIsRestartedUnderTheApp(t *testing.T) {
	d := open(t)
	d.service.set(connected(3))
	d.service.up()
	d.run()
	is := func(m traytest.Menu) bool { return m.Has("Printers") }
	d.panel.Until("connected", is)
	for range 3 {
		d.service.down()
		d.within("the loss is seen", soon, func(m traytest.Menu) bool { return m.Has(words.English.ServiceLost) })
		d.service.up()
		d.within("the service is found", soon, is)
		d.panel.Check()
		d.panel.Click("Printers", "10.9.0.0/16")
		await(t, "a copy", d.copied)
	}
	d.panel.Click("Sign Out")
	await(t, "a command", d.service.commands)
	for _, n := range d.notes.All() {
		t.Errorf("the user was bothered: %+v", n)
	}
}

func TestAServiceThatIsNotThere(t *testing.T) {
	t.Parallel() // it mostly waits
	d := open(t)
	d.run()
	d.shows("missing", menu.View{Service: menu.Missing})
	n := d.notes.Await(words.English.ServiceMissing)
	d.panel.Click("Details…")
	d.isPage(await(t, "a page", d.opened))
	d.service.up()
	d.within("the service is found", soon, func(m traytest.Menu) bool { return m.Has("Sign In") })
	if back := d.notes.Await(words.English.BackTitle); back.Instead != n.ID {
		t.Errorf("%+v stays beside %+v", n, back)
	}
}

func TestAServiceThatHangs(t *testing.T) {
	t.Parallel() // it mostly waits
	d := open(t)
	d.service.stranger(nil)
	d.run()
	d.shows("silent", menu.View{Service: menu.Silent})
	n := d.notes.Await(words.English.ServiceSilent)
	if !strings.Contains(n.Text, "systemctl restart stiled") {
		t.Errorf("%+v", n)
	}
}

func TestAServiceThatRefusesThisUser(t *testing.T) {
	d := open(t)
	d.service.stranger(frame(ipc.Message{Goodbye: ipc.Problemf(ipc.NotAllowed, "Join the group stile.")}))
	d.run()
	d.shows("denied", menu.View{Service: menu.Denied})
	n := d.notes.Await(words.English.ServiceDenied)
	if n.Text != "Join the group stile." {
		t.Errorf("%+v", n)
	}
	d.service.down()
	d.service.up() // the administrator did it
	d.within("the service answers", soon, func(m traytest.Menu) bool { return m.Has("Sign In") })
	d.notes.Gone(n)
}

// An update replaces program and service under a running app: the service speaks
// another language, or the same and sees that the program is not the installed one
// any more.
func TestAServiceOfAnotherVersion(t *testing.T) {
	for name, m := range map[string]ipc.Message{
		"another protocol": {Hello: &ipc.Hello{Protocol: ipc.Protocol + 1, Version: "99"}},
		"replaced":         {Goodbye: ipc.Problemf(ipc.WrongVersion, "Stile was updated while this program ran.")},
	} {
		t.Run(name, func(t *testing.T) { anotherVersion(t, frame(m)) })
	}
}

func anotherVersion(t *testing.T, greeting []byte) {
	d := open(t)
	d.service.up()
	a := d.run()
	d.panel.Until("signed out", func(m traytest.Menu) bool { return m.Has("Sign In") })
	d.service.down()
	d.service.stranger(greeting)
	d.within("the update is seen", soon, func(m traytest.Menu) bool { return m.Has(words.English.AppOutdated) })
	d.shows("outdated", menu.View{Service: menu.Outdated})
	n := d.notes.Await(words.English.AppOutdated)
	before := d.panel.Registered()
	d.panel.Click("Restart the app")
	d.panel.Until("another start", func(traytest.Menu) bool { return d.panel.Registered().After(before) })
	d.service.down()
	d.service.up() // the version that the program is of
	d.panel.Until("signed out", func(m traytest.Menu) bool { return m.Has("Sign In") })
	select {
	case err := <-a.ended:
		t.Fatal("the app ended: ", err)
	default:
	}
	d.notes.Gone(n) // a click on it would reach nobody
	d.panel.Click("Quit")
	if err := a.end(); err != nil {
		t.Error(err)
	}
}

// Where there are no icons, who clicks to have the app restarted sees that it was.
func TestARestartWithoutPanelShowsThePage(t *testing.T) {
	t.Parallel() // it mostly waits
	d := open(t)
	d.panel.Vanish()
	d.service.stranger(frame(ipc.Message{Hello: &ipc.Hello{Protocol: ipc.Protocol + 1, Version: "99"}}))
	d.start("tray", "--at-login")
	d.notes.Click(d.notes.Await(words.English.AppOutdated)) // before the service is another one: with it, the message goes
	d.isPage(await(t, "a page", d.opened))
}

func TestAnotherStartShowsThePage(t *testing.T) {
	d := open(t)
	d.service.up()
	d.run()
	for _, args := range [][]string{nil, {"tray"}} {
		second := d.start(args...)
		if err := second.end(); err != nil || time.Since(second.begun) > 5*time.Second {
			t.Errorf("%v: %v after %v: %s", args, err, time.Since(second.begun), second.out)
		}
		d.isPage(await(t, "a page", d.opened))
	}
}

func TestTheFirstStartShowsThePage(t *testing.T) {
	d := open(t)
	d.prefer(`{}`)
	d.service.up()
	a := d.run()
	d.isPage(await(t, "a page", d.opened))
	d.panel.Click("Quit")
	if err := a.end(); err != nil {
		t.Error(err)
	}
	d.run()
	d.panel.Click("Help", "About Stile")
	if got := await(t, "a page", d.opened); !strings.HasPrefix(got, "http://127.0.0.1:") {
		t.Error(got)
	}
	select {
	case again := <-d.opened:
		t.Errorf("%q was opened, too", again)
	default:
	}
}

func TestQuitting(t *testing.T) {
	d := open(t)
	d.service.set(connected(0))
	d.service.up()
	release := make(chan struct{})
	defer close(release)
	a := d.run()
	d.panel.Until("connected", func(m traytest.Menu) bool { return m.Has("Sign Out") })
	d.service.mu.Lock()
	d.service.refuse = func(ipc.Command) error { <-release; return nil }
	d.service.mu.Unlock()
	d.panel.Click("Sign Out") // the service hangs
	await(t, "a command", d.service.commands)
	begun := time.Now()
	d.panel.Click("Quit (Stay Connected)")
	if err := a.end(); err != nil || time.Since(begun) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(begun))
	}
	select {
	case c := <-d.service.commands:
		t.Errorf("the session was touched: %+v", c)
	default:
	}
}

func TestTheEndOfTheSession(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		d := open(t)
		d.service.up()
		a := d.run()
		if err := a.c.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		if err := a.end(); err != nil {
			t.Errorf("%v: %v", signal, err)
		}
	}
}

// Who starts the app from a list of programs sees no terminal.
func TestAStartThatFailsIsTold(t *testing.T) {
	t.Parallel() // it mostly waits
	d := open(t)
	d.service.up()
	a := d.run()
	if err := a.c.Process.Signal(syscall.SIGSTOP); err != nil { // it hangs
		t.Fatal(err)
	}
	second := d.start()
	n := d.notes.Await(words.English.RefusedTitle)
	if !strings.Contains(n.Text, "does not respond") {
		t.Errorf("%+v", n)
	}
	if err := second.end(); err == nil {
		t.Error("the second start says that all is well")
	}
	if err := a.c.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

func TestTheLanguageOfTheDesktop(t *testing.T) {
	d := open(t)
	d.service.up()
	d.env = append(d.env, "LANG=de_AT.UTF-8")
	d.start("tray", "--at-login")
	d.panel.Until("it speaks German", func(m traytest.Menu) bool { return m.Has(words.German.SignIn) && m.Has(words.German.Quit) })
}

func TestRootByAnotherNameIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be that")
	}
	d := open(t)
	d.env = append(d.env, "SUDO_UID=1000")
	a := d.start("tray")
	if err := a.end(); err == nil || !strings.Contains(a.out.String(), "without sudo") {
		t.Errorf("%v: %s", err, a.out)
	}
}

// kill -9 leaves nothing that keeps the next start from working.
func TestAnAppThatWasKilled(t *testing.T) {
	d := open(t)
	d.service.up()
	a := d.run()
	before := d.panel.Registered()
	a.c.Process.Kill()
	var killed *exec.ExitError
	if err := a.end(); !errors.As(err, &killed) {
		t.Error(err)
	}
	d.start("tray", "--at-login")
	d.panel.Until("another start", func(m traytest.Menu) bool { return d.panel.Registered().After(before) && m.Has("Sign In") })
}

func TestWithoutADesktopThereIsHelp(t *testing.T) {
	c := exec.Command(filepath.Join(programs, "stile"))
	c.Env = []string{"HOME=" + t.TempDir(), "XDG_RUNTIME_DIR=" + t.TempDir()}
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Usage: stile") {
		t.Errorf("%v: %s", err, out)
	}
	c = exec.Command(filepath.Join(programs, "stile"), "tray")
	c.Env = []string{"HOME=" + t.TempDir(), "XDG_RUNTIME_DIR=" + t.TempDir()}
	out, err = c.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "no desktop") {
		t.Errorf("%v: %s", err, out)
	}
}
