package desktop

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stile/app/words"
	"stile/build/need"
	"stile/platform/tray/traytest"
	"stile/tunnel/ipc"
)

// A bare window manager, or GNOME without its extension.
func TestADesktopWithoutPanel(t *testing.T) {
	t.Parallel() // it mostly waits
	d := open(t)
	d.panel.Vanish()
	d.service.set(connected(0))
	d.service.up()
	d.start() // by hand: the user sees something
	d.isPage(await(t, "a page", d.opened))
	d.service.set(func(s *ipc.State) {
		s.Session = ipc.Session{Phase: ipc.SignedOut, Portal: "wss://portal.example.com", Problem: &ipc.Problem{Code: ipc.TokenRejected, Text: "It ended."}}
	})
	n := d.notes.Await(words.English.SignInAgainTitle)
	d.notes.Click(n)
	if got := d.led(await(t, "an address", d.opened)); !strings.HasPrefix(got, "https://portal.example.com/?") {
		t.Error(got)
	}
	how := d.notes.Await(words.English.NoTrayTitle)
	d.notes.Click(how)
	d.isPage(await(t, "a page", d.opened))
	d.panel.Appear(true) // the extension is enabled
	d.panel.Until("the icon appears by itself", func(m traytest.Menu) bool { return m.Has("Cancel Sign-In") })
	d.panel.Click("Cancel Sign-In")
	d.panel.Until("it is alive", func(m traytest.Menu) bool { return m.Has("Sign In") })
}

// Who copied the programs somewhere starts the app from the list of programs, as
// the hint on such a desktop says.
func TestTheListOfPrograms(t *testing.T) {
	need.Tools(t, "libglib2.0-bin", "gio")
	d := open(t)
	d.service.up()
	d.run()
	entry := filepath.Join(d.dir, "data/applications/stile.desktop")
	for limit := time.Now().Add(traytest.Patience); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(entry); err == nil {
			break
		}
		if time.Now().After(limit) {
			t.Fatal("the app is in no list")
		}
	}
	c := exec.Command("gio", "launch", entry)
	c.Env = d.env
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	d.isPage(await(t, "a page", d.opened))
}

// Who was told of it once has a neighbour who was not, and whose patience begins
// later: when the neighbour is told, the time to tell has passed for both.
func TestTheLackOfAPanelIsToldOnce(t *testing.T) {
	t.Parallel() // it mostly waits
	d, neighbour := open(t), open(t)
	for _, one := range []*desk{d, neighbour} {
		one.panel.Vanish()
		one.service.up()
	}
	d.prefer(`{"ran_before":true,"told_no_tray":true}`)
	d.start("tray", "--at-login")
	d.logged("the desktop was asked for icons", func() {})
	neighbour.start()
	await(t, "a page", neighbour.opened)
	neighbour.notes.Await(words.English.NoTrayTitle)
	d.service.set(connected(0))
	d.notes.Await(words.English.ConnectedTitle) // notes come in order
	if all := d.notes.All(); len(all) != 1 {
		t.Errorf("the user was bothered: %+v", all)
	}
	select {
	case page := <-d.opened:
		t.Errorf("%q was opened at login", page)
	default:
	}
}

func TestAPanelThatIsRestarted(t *testing.T) {
	d := open(t)
	d.service.up()
	d.run()
	is := func(m traytest.Menu) bool { return m.Has("Sign In") }
	d.panel.Until("the menu is there", is)
	for range 3 {
		d.panel.Vanish()
		d.panel.Appear(true)
		d.panel.Until("the menu is back", is)
		d.panel.Check()
	}
}

// The icon tells the state, and is readable at every size.
func TestTheIconFollowsTheState(t *testing.T) {
	d := open(t)
	d.service.up()
	d.run()
	d.panel.Until("signed out", func(m traytest.Menu) bool { return m.Has("Sign In") })
	out := d.panel.Property("IconPixmap").String()
	d.service.set(connected(0))
	d.panel.Until("connected", func(m traytest.Menu) bool { return m.Has("Sign Out") && d.panel.Heard()["NewIcon"] > 0 })
	in := d.panel.Property("IconPixmap").String()
	if out == in || len(in) < 1000 {
		t.Error("the icon does not change")
	}
	if got := d.panel.Property("ToolTip").String(); !strings.Contains(got, "Stile") {
		t.Error(got)
	}
}

func TestNewsAreTold(t *testing.T) {
	d := open(t)
	d.service.up()
	d.run()
	d.panel.Until("signed out", func(m traytest.Menu) bool { return m.Has("Sign In") })
	d.service.set(connected(0))
	d.notes.Await(words.English.ConnectedTitle)
	d.service.set(func(s *ipc.State) {
		s.Resources[1].Problem = &ipc.Problem{Code: ipc.SiteOffline, Text: "No gateway of the site is online."}
	})
	n := d.notes.Await(words.English.UnreachableTitle("Build & test"))
	if n.Text != "All gateways of the site “Office” are offline. Tell your administrator." || n.App != "Stile" {
		t.Errorf("%+v", n)
	}
	d.notes.Click(n)
	d.isPage(await(t, "a page", d.opened))
}

// Somebody who shows messages and hangs holds up nothing.
func TestMessagesHoldUpNothing(t *testing.T) {
	d := open(t)
	release := d.notes.Block()
	defer release()
	d.service.up()
	a := d.run()
	d.panel.Until("signed out", func(m traytest.Menu) bool { return m.Has("Sign In") })
	d.service.set(connected(0))
	d.panel.Until("connected", func(m traytest.Menu) bool { return m.Has("Sign Out") })
	begun := time.Now()
	d.panel.Click("Quit (Stay Connected)")
	if err := a.end(); err != nil || time.Since(begun) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(begun))
	}
}

// What desktops without notifications of their own have.
func TestARealDaemonShowsMessages(t *testing.T) {
	need.Tools(t, "xvfb and dunst", "Xvfb", "dunst")
	d := mute(t)
	screen := exec.Command("Xvfb", "-displayfd", "1", "-nolisten", "tcp", "-screen", "0", "640x480x24")
	number, err := bufio.NewReader(d.background(screen)).ReadString('\n')
	if err != nil {
		t.Fatal("Xvfb did not start: ", err)
	}
	daemon := exec.Command("dunst", "-print")
	daemon.Env = append(d.env, "DISPLAY=:"+strings.TrimSpace(number), "WAYLAND_DISPLAY=")
	shown := make(chan string, 1000)
	out := bufio.NewScanner(d.background(daemon))
	go func() { // until the daemon ends
		defer close(shown)
		for out.Scan() {
			shown <- strings.TrimSpace(out.Text())
		}
	}()
	d.panel.Named("org.freedesktop.Notifications")
	d.service.up()
	d.run()
	d.panel.Until("signed out", func(m traytest.Menu) bool { return m.Has("Sign In") })
	d.service.set(connected(0))
	want := []string{"appname: 'Stile'", "summary: '" + words.English.ConnectedTitle + "'", "body: '" + words.English.ConnectedText + "'"}
	for len(want) > 0 {
		line := await(t, want[0], shown)
		if line == want[0] {
			want = want[1:]
		}
	}
}

// background starts a program of the desktop, which ends with the test, and
// returns what it writes.
func (d *desk) background(c *exec.Cmd) io.Reader {
	d.t.Helper()
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	return out
}

// led is where an address leads to that the browser was started with, which all
// users of the machine can read.
func (d *desk) led(address string) string {
	d.t.Helper()
	if !strings.HasPrefix(address, "http://127.0.0.1:") {
		d.t.Fatalf("the browser was started with %q", address)
	}
	stays := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	r, err := stays.Get(address)
	if err != nil {
		d.t.Fatal(err)
	}
	r.Body.Close()
	return r.Header.Get("Location")
}

// signIn clicks Sign In, and returns the address that the browser was sent to.
func (d *desk) signIn() url.Values {
	d.t.Helper()
	d.panel.Until("signed out", func(m traytest.Menu) bool { return m.Has("Sign In") })
	d.panel.Click("Sign In")
	address := d.led(await(d.t, "an address", d.opened))
	u, err := url.Parse(address)
	if err != nil || u.Host != "portal.example.com" || u.Scheme != "https" {
		d.t.Fatalf("%q, %v", address, err)
	}
	d.panel.Until("the browser is waited for", func(m traytest.Menu) bool { return m.Has("Cancel Sign-In") })
	return u.Query()
}

// signedIn waits for the token, connects, and waits for the word of it.
func (d *desk) signedIn(token string) {
	d.t.Helper()
	c, is := await(d.t, "the token", d.service.commands).(ipc.SignIn)
	if !is || c.Token.Reveal() != token || c.AccountSlug != "acme" || c.Actor != "Ada" {
		d.t.Fatalf("%+v", c)
	}
	d.service.set(connected(0))
	d.panel.Until("connected", func(m traytest.Menu) bool { return m.Has("Sign Out") })
	d.notes.Await(words.English.ConnectedTitle)
}

// From the click to the tunnel, by way of the browser.
func TestSignInByLoopback(t *testing.T) {
	d := open(t)
	d.service.up()
	d.run()
	q := d.signIn()
	answer := q.Get("redirect_uri") + "?" + url.Values{"account_slug": {"acme"}, "actor_name": {"Ada"}, "fragment": {"half"}, "state": {q.Get("state")}}.Encode()
	r, err := http.Get(answer)
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusOK {
		t.Error(r.Status)
	}
	d.signedIn(q.Get("nonce") + "half")
	logs, _ := filepath.Glob(filepath.Join(d.dir, "cache/stile/logs/*.log"))
	if len(logs) == 0 {
		t.Error("the app has no log")
	}
	for _, file := range logs {
		if text, err := os.ReadFile(file); err != nil || strings.Contains(string(text), q.Get("nonce")) || strings.Contains(string(text), q.Get("state")) {
			t.Errorf("%s tells secrets, or nothing: %v", file, err)
		}
	}
}

// The portals of others lead back by the URL scheme, as the desktop would.
func TestSignInByScheme(t *testing.T) {
	d := open(t)
	d.service.up()
	d.run()
	q := d.signIn()
	answer := "stile://handle_client_sign_in_callback/?" + url.Values{"account_slug": {"acme"}, "actor_name": {"Ada"}, "fragment": {"half"}, "state": {q.Get("state")}}.Encode()
	ctx, cancel := context.WithTimeout(t.Context(), traytest.Patience)
	defer cancel()
	c := exec.CommandContext(ctx, filepath.Join(programs, "stile"), "open-deep-link", answer)
	c.Env = d.env
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	d.signedIn(q.Get("nonce") + "half")
}
