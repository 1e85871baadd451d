package desktop

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"stile/app/words"
	"stile/build/chrome"
	"stile/build/need"
	"stile/platform/desktop"
	"stile/platform/tray/traytest"
	"stile/tunnel/ipc"
	"stile/tunnel/portal/serve"
	"stile/tunnel/portal/store"
)

const (
	email    = "ada@example.com"
	password = "correct horse battery staple"
)

// portal runs our portal, with one user, and has the service know it.
func (d *desk) portal() {
	d.t.Helper()
	st, err := store.Open(d.folder("portal"))
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err := st.AddUser(email, "Ada", password); err != nil {
		d.t.Fatal(err)
	}
	st.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		d.t.Fatal(err)
	}
	at := l.Addr().String()
	l.Close() // for the portal to have
	file := filepath.Join(d.dir, "portal.yaml")
	err = os.WriteFile(file, fmt.Appendf(nil, `account: {slug: acme}
external_url: http://%s
listeners: [{address: %q, plain: true}]
socket: %s/p
data_dir: %s/portal
sites: [Office]
`, at, at, d.dir, d.dir), 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var g sync.WaitGroup
	d.t.Cleanup(g.Wait)
	d.t.Cleanup(cancel)
	ready := make(chan bool)
	g.Go(func() {
		err := serve.Run(ctx, serve.Options{Config: file, Log: slog.New(slog.DiscardHandler), Ready: func([]net.Addr) { close(ready) }})
		if err != nil {
			d.t.Error(err)
		}
	})
	await(d.t, "the portal", ready)
	d.service.set(func(s *ipc.State) { s.Session.Portal, s.Session.AuthURL = "ws://"+at, "http://"+at })
}

// begins clicks Sign In, and returns where the browser goes from there.
func (d *desk) begins() string {
	d.t.Helper()
	d.panel.Until("signed out", func(m traytest.Menu) bool { return m.Has("Sign In") })
	d.panel.Click("Sign In")
	return await(d.t, "an address", d.opened)
}

// fills signs Ada in on the portal's page, with one click.
func fills(p *chrome.Page) {
	p.Wait(`document.activeElement.id === "email"`)
	p.Type(email)
	p.Press("Tab")
	p.Type(password)
	p.Click("button[type=submit]")
}

// unreachable is a sign-in whose browser cannot reach the port of the app.
func (d *desk) unreachable(address string) string {
	d.t.Helper()
	u, err := url.Parse(d.led(address))
	if err != nil {
		d.t.Fatal(err)
	}
	q := u.Query()
	q.Set("redirect_uri", "http://127.0.0.1:1/signed-in")
	u.RawQuery = q.Encode()
	return u.String()
}

// goesBack goes back from where nobody answered to the portal's last page.
func goesBack(p *chrome.Page) {
	p.Wait(`location.protocol === "chrome-error:"`)
	var h struct {
		CurrentIndex int
		Entries      []struct{ ID int }
	}
	p.Call("Page.getNavigationHistory", nil, &h)
	p.Call("Page.navigateToHistoryEntry", map[string]any{"entryId": h.Entries[h.CurrentIndex-1].ID}, nil)
	p.Wait(`location.pathname === "/acme/signed-in"`)
}

// isAda waits for the token at the service, connects, and waits for the word of
// it; then all is as before.
func (d *desk) isAda() {
	d.t.Helper()
	c, is := await(d.t, "the token", d.service.commands).(ipc.SignIn)
	if !is || c.AccountSlug != "acme" || c.Actor != "Ada" || c.Token == "" {
		d.t.Fatalf("%+v", c)
	}
	before := d.service.State().Session
	d.service.set(connected(0))
	d.panel.Until("connected", func(m traytest.Menu) bool { return m.Has("Sign Out") })
	d.notes.Await(words.English.ConnectedTitle)
	d.service.set(func(s *ipc.State) { s.Session = before })
}

// The app, our portal and a real browser, by all ways that lead back. It takes
// three clicks: on the icon, on Sign In, and on the portal's button.
func TestSignInInABrowser(t *testing.T) {
	need.Tools(t, "xdg-utils, libglib2.0-bin and util-linux", "xdg-open", "xdg-mime", "gio", "unshare")
	d := open(t)
	d.env = append(d.env, "XDG_CURRENT_DESKTOP=GNOME", "DISPLAY=:7")
	b := d.chromium()
	d.portal()
	d.service.up()
	d.run()

	p := b.Page()
	p.Go(d.begins())
	fills(p)
	p.Wait(`location.pathname === "/done" && document.body.innerText.includes("You can close this page")`)
	d.isAda()
	for _, w := range p.Wrong() {
		t.Error(w)
	}

	p = b.Page() // copied and pasted, from one page to the other
	p.Go(d.unreachable(d.begins()))
	fills(p)
	goesBack(p)
	var code string
	p.Eval(`document.querySelector("#code").value`, &code)
	d.panel.Click("Status…")
	page := b.Page()
	page.Go(await(t, "a page", d.opened))
	page.Wait(`document.querySelector("#do-paste input[name=code]")`)
	page.Click("#do-paste input[name=code]")
	page.Type("nonsense")
	page.Press("Enter")
	page.Wait(`document.body.innerText.includes("This is not the code that the page shows")`)
	page.Click("#do-paste input[name=code]")
	page.Type(code)
	page.Press("Enter")
	d.isAda()
	for _, w := range page.Wrong() {
		t.Error(w)
	}

	p = b.Page() // by the link that the desktop opens with us
	p.Go(d.unreachable(d.begins()))
	fills(p)
	goesBack(p)
	p.Click("a[href='/acme/open-app']")
	d.isAda()
}

// chromium is the browser of this desktop, whose user always says yes to "Open
// Stile?": nobody can click that in one without a window.
func (d *desk) chromium() *chrome.Browser {
	d.t.Helper()
	for _, v := range d.env {
		if key, value, _ := strings.Cut(v, "="); key != "PATH" { // the xdg-open of this desktop is a recorder
			d.t.Setenv(key, value)
		}
	}
	var allowed []string
	for _, scheme := range desktop.Schemes {
		allowed = append(allowed, fmt.Sprintf(`{"protocol": %q, "allowed_origins": ["*"]}`, scheme))
	}
	policy := d.folder("chromium/policies/managed")
	wrapper := filepath.Join(d.dir, "chromium/start")
	if err := os.WriteFile(filepath.Join(policy, "stile.json"), []byte(`{"AutoLaunchProtocolsFromOrigins": [`+strings.Join(allowed, ",")+`]}`), 0o644); err != nil {
		d.t.Fatal(err)
	}
	script := "#!/bin/sh\nexec unshare --mount sh -c 'mkdir -p /etc/chromium && mount --bind \"$1\" /etc/chromium && shift && exec \"$@\"' sh " +
		filepath.Join(d.dir, "chromium") + " " + chrome.Find() + " \"$@\"\n"
	if err := os.WriteFile(wrapper, []byte(script), 0o755); err != nil {
		d.t.Fatal(err)
	}
	if chrome.Find() != "" {
		d.t.Setenv("STILE_CHROMIUM", wrapper)
	}
	return chrome.Start(d.t)
}
