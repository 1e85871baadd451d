package desktop

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"reflect"
	"strings"
	"testing"

	"stile/app/menu"
	"stile/app/words"
	"stile/platform/tray/traytest"
	"stile/tunnel/ipc"
)

// lines is a menu as traytest draws it.
func lines(items []menu.Item, indent string) string {
	var b strings.Builder
	for _, i := range items {
		if i.Kind == menu.Separator {
			fmt.Fprintf(&b, "%s--\n", indent)
			continue
		}
		mark := ""
		if i.Kind == menu.Check {
			mark = map[bool]string{true: "[x] ", false: "[ ] "}[i.On]
		}
		if i.Kind == menu.Text {
			mark += "▫ "
		}
		if i.Dot != menu.NoDot {
			mark += "● "
		}
		fmt.Fprintf(&b, "%s%s%s\n%s", indent, mark, i.Title, lines(i.Items, indent+"  "))
	}
	return b.String()
}

// shows waits until the panel shows the menu of a view, and checks that that is
// also what the program says when it is asked again.
func (d *desk) shows(what string, v menu.View) {
	d.t.Helper()
	v.Words = &words.English
	want := lines(menu.Build(v).Items, "")
	d.panel.Until(what+":\n"+want, func(m traytest.Menu) bool { return m.String() == want })
	d.panel.Check()
}

// Each state of a session, as the service may report it.
func TestEveryStateOfASession(t *testing.T) {
	d := open(t)
	d.service.up()
	d.run()
	for _, row := range []struct {
		name   string
		change func(s *ipc.State)
	}{
		{"signed out", func(*ipc.State) {}},
		{"token rejected", func(s *ipc.State) {
			s.Session.Problem = &ipc.Problem{Code: ipc.TokenRejected, Text: "The portal no longer takes the token."}
		}},
		{"portal changed", func(s *ipc.State) { s.Session.Problem = &ipc.Problem{Code: ipc.PortalChanged, Text: "Another one."} }},
		{"portal unknown", func(s *ipc.State) { s.Session.Problem = &ipc.Problem{Code: ipc.PortalUnknown, Text: "Which?"} }},
		{"waiting for a word", func(s *ipc.State) { s.Session.Problem, s.Session.Token = nil, ipc.TokenFromSignIn }},
		{"connecting", func(s *ipc.State) { s.Session.Phase = ipc.Connecting }},
		{"portal unreachable", func(s *ipc.State) { s.Session.Problem = &ipc.Problem{Code: ipc.PortalUnreachable, Text: "No answer."} }},
		{"portal refuses", func(s *ipc.State) { s.Session.Problem = &ipc.Problem{Code: ipc.PortalRefused, Text: "Go away."} }},
		{"raising", func(s *ipc.State) { s.Session.Phase, s.Session.Problem = ipc.Raising, nil }},
		{"tunnel failed", func(s *ipc.State) { s.Session.Problem = &ipc.Problem{Code: ipc.TunnelFailed, Text: "No device."} }},
		{"connected", connected(0)},
		{"connected, Internet on", func(s *ipc.State) { s.Internet.On, s.Resources[0].Problem = true, nil }},
		{"a site offline", func(s *ipc.State) {
			s.Resources[1].Problem = &ipc.Problem{Code: ipc.SiteOffline, Text: "No gateway of the site is online."}
		}},
		{"access forbidden", func(s *ipc.State) {
			s.Resources[1].Problem = &ipc.Problem{Code: ipc.AccessForbidden, Text: "Not from here."}
		}},
		{"relayed", func(s *ipc.State) { s.Resources[1].Problem, s.Connections[0].Path = nil, ipc.Relayed }},
		{"renamed", func(s *ipc.State) { s.Resources[1].Name = "Build_and_test" }},
		{"portal lost", func(s *ipc.State) { s.Session.PortalUp = false }},
		{"many resources", connected(70)},
		{"no resources", func(s *ipc.State) { s.Resources = nil }},
		{"an administrator's token", func(s *ipc.State) { s.Session.Token, s.Session.Actor = ipc.TokenFromFile, "" }},
		{"held by another user", func(s *ipc.State) {
			s.Session.Holder = "bob"
			*s = s.ForOthers()
		}},
		{"ending", func(s *ipc.State) { s.Session = ipc.Session{Phase: ipc.Ending} }},
		{"signed out again", func(s *ipc.State) {
			s.Session = ipc.Session{Phase: ipc.SignedOut, AuthURL: "https://portal.example.com"}
			s.Settings.SupportURL = "https://help.example.com/"
		}},
		{"no way to the portal's pages", func(s *ipc.State) { s.Settings.HideAdminPortal = true }},
	} {
		d.service.set(row.change)
		s := d.service.State()
		d.shows(row.name, menu.View{Service: menu.Present, State: &s, Support: s.Settings.SupportURL, HideAdmin: s.Settings.HideAdminPortal})
	}
}

func TestFavorites(t *testing.T) {
	d := open(t)
	d.service.set(connected(5))
	d.service.up()
	a := d.run()
	d.panel.Until("the resources are there", func(m traytest.Menu) bool { return m.Has("Printers") })
	d.panel.Click("Printers", "Add to Favorites")
	d.panel.Until("a favourite", func(m traytest.Menu) bool {
		i := m.Find("Printers", "Remove from Favorites")
		return m.Has("Favorite Resources") && m.Has("Other Resources", "Build & test") && !m.Has("Build & test") && i != nil && i.Check && i.On
	})
	d.panel.Check()
	d.panel.Click("Quit (Stay Connected)")
	if err := a.end(); err != nil {
		t.Fatal(err)
	}
	d.run()
	d.panel.Until("the favourite is remembered", func(m traytest.Menu) bool { return m.Has("Favorite Resources") && m.Has("Printers") })
	all := d.service.State().Resources
	d.service.set(func(s *ipc.State) { s.Resources = all[:2] }) // the administrator removed it
	d.panel.Until("all others are listed as if there were no favourite", func(m traytest.Menu) bool {
		return m.Has("Resources") && m.Has("Build & test") && !m.Has("Printers") && !m.Has("Favorite Resources") && !m.Has("Other Resources")
	})
	d.service.set(func(s *ipc.State) { s.Resources = all })
	d.panel.Until("it is back, and still a favourite", func(m traytest.Menu) bool { return m.Has("Favorite Resources") && m.Has("Printers") })
	d.panel.Click("Printers", "Remove from Favorites")
	d.panel.Until("no favourite", func(m traytest.Menu) bool { return m.Has("Resources") && m.Has("Build & test") })
}

// Every click does what it says.
func TestClicks(t *testing.T) {
	d := open(t)
	d.service.set(connected(0))
	d.service.set(func(s *ipc.State) { s.Session.PortalUp, s.Session.AuthURL = false, "https://portal.example.com" })
	d.service.up()
	d.run()
	d.panel.Until("the resources are there", func(m traytest.Menu) bool { return m.Has("Printers") })

	copied := func(want string, path ...string) {
		t.Helper()
		d.panel.Click(path...)
		if got := await(t, "a copy", d.copied); got != want {
			t.Errorf("%q was copied, not %q", got, want)
		}
	}
	copied("10.9.0.0/16", "Printers", "10.9.0.0/16")
	copied("2nd floor", "Printers", "2nd floor")
	copied("Build & test", "Build & test", "Build & test")
	copied("Office", "Build & test", "Office")
	opened := func(want string, path ...string) {
		t.Helper()
		d.panel.Click(path...)
		if got := await(t, "an address", d.opened); got != want {
			t.Errorf("%q was opened, not %q", got, want)
		}
	}
	opened("https://ci.example.com/", "Build & test", "<https://ci.example.com/>")
	opened("https://portal.example.com/acme", "Admin Portal…")
	commands := func(want ipc.Command, path ...string) {
		t.Helper()
		d.panel.Click(path...)
		if got := await(t, "a command", d.service.commands); !reflect.DeepEqual(got, want) {
			t.Errorf("%+v was commanded, not %+v", got, want)
		}
	}
	commands(ipc.Retry{}, "Retry Now")
	commands(ipc.SetInternet{On: true}, "— Internet", "Enable This Resource")
	commands(ipc.SignOut{}, "Sign Out")
	for _, page := range [][]string{{"Status…"}, {"Settings…"}, {"Help", "Diagnostics…"}, {"Help", "About Stile"}} {
		d.panel.Click(page...)
		d.isPage(await(t, "a page", d.opened))
	}
	if err := d.panel.Activate(); err != nil { // of a panel that shows no menus
		t.Fatal(err)
	}
	d.isPage(await(t, "a page", d.opened))
	d.service.mu.Lock()
	d.service.refuse = func(ipc.Command) error { return ipc.Problemf(ipc.HeldByOther, "bob is signed in.") }
	d.service.mu.Unlock()
	d.panel.Click("Sign Out")
	if n := d.notes.Await(words.English.RefusedTitle); n.Text != "bob is signed in." {
		t.Errorf("%+v", n)
	}
}

// isPage makes sure that an address is one of the app's pages, once.
func (d *desk) isPage(address string) {
	d.t.Helper()
	if !strings.HasPrefix(address, "http://127.0.0.1:") {
		d.t.Fatalf("%q is not a page of the app", address)
	}
	get := func() (int, string) {
		jar, _ := cookiejar.New(nil)
		r, err := (&http.Client{Jar: jar}).Get(address)
		if err != nil {
			d.t.Fatal(err)
		}
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		if err != nil {
			d.t.Fatal(err)
		}
		return r.StatusCode, string(text)
	}
	if code, text := get(); code != http.StatusOK || !strings.Contains(text, "Stile") {
		d.t.Errorf("the page says %d %.300s", code, text)
	}
	if code, _ := get(); code == http.StatusOK {
		d.t.Error("the address shows the page twice")
	}
}

// Names are shown as they are written, whatever panels make of & and _.
func TestTitlesAreLiteral(t *testing.T) {
	d := open(t)
	d.service.set(connected(1))
	d.service.up()
	d.run()
	d.panel.Until("the resource is there", func(m traytest.Menu) bool { return m.Has("Resource_000 & more") })
	if i := d.panel.Menu().Find("Resource_000 & more"); i.Label != "Resource__000 & more" {
		t.Errorf("%q", i.Label)
	}
	if i := d.panel.Menu().Find("Signed in as Ada & Charles_B"); i == nil || i.Enabled {
		t.Errorf("%+v", i)
	}
}
