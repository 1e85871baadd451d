package console

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"stile/app/menu"
	"stile/app/support"
	"stile/app/why/cause"
	"stile/tunnel/ipc"
)

func TestFormsDoWhatTheySay(t *testing.T) {
	id3, id4 := resource(3).String(), resource(4).String()
	managed := func(d *desk) {
		s := &d.view.State.Settings
		no := false
		s.Managed, s.ConnectOnStart, s.AccountSlug = []string{ipc.SettingAccountSlug, ipc.SettingConnectOnStart}, &no, "theirs"
	}
	for _, a := range []struct {
		name, action string
		fields       []string
		change       func(*desk)
		want         string // what was done; "": nothing
		says         string // on the page then
		to           string // the page
	}{
		{"sign in", "sign-in", nil, nil, "menu.SignIn{}", "", "status"},
		{"cancel", "cancel-sign-in", nil, nil, "menu.CancelSignIn{}", "", "status"},
		{"sign out", "sign-out", []string{"back", "settings"}, nil, "menu.SignOut{}", "", "settings"},
		{"retry", "retry", nil, nil, "menu.Retry{}", "", "status"},
		{"restart", "restart", nil, nil, "menu.Restart{}", "", "status"},
		{"a desk that refuses", "retry", nil, func(d *desk) { d.err = ipc.Problemf(ipc.Busy, "Try again in a moment.") }, "menu.Retry{}", "Try again in a moment.", "status"},
		{"paste", "paste", []string{"code", "  half-a-token \n"}, nil, "paste half-a-token", "", "status"},
		{"paste nothing", "paste", []string{"code", " "}, nil, "", "not the code that the page shows", "status"},
		{"paste a book", "paste", []string{"code", strings.Repeat("x", maxCode+1)}, nil, "", "not the code that the page shows", "status"},
		{"internet on", "internet", []string{"on", "yes"}, nil, "menu.SetInternet{On:true}", "", "status"},
		{"internet off", "internet", []string{"on", "no"}, nil, "menu.SetInternet{On:false}", "", "status"},
		{"internet without a word", "internet", nil, nil, "menu.SetInternet{On:false}", "", "status"},
		{"favorite", "favorite", []string{"add", id4, "back", "resources?q=file&show=blocked&evil=1"}, nil, "menu.Favorite{Resource:" + id4 + " On:true}", "", "resources?q=file&show=blocked"},
		{"no favorite", "favorite", []string{"remove", id3}, nil, "menu.Favorite{Resource:" + id3 + " On:false}", "", "status"},
		{"favorite nothing", "favorite", []string{"add", "x"}, nil, "", "does not understand", "status"},
		{"prefs", "prefs", []string{"slug", " other ", "start-on-login", "yes", "language", "de"}, nil, `prefs slug="other" minimized=false login=true connect=false language="de"`, "Die Einstellungen sind gespeichert.", "status"},
		{"prefs, a bad name", "prefs", []string{"slug", "a/b"}, nil, "", "only letters", "status"},
		{"prefs, a language of the moon", "prefs", []string{"language", "xx", "start-minimized", "yes", "connect-on-start", "yes"}, nil, `prefs slug="" minimized=true login=false connect=true language=""`, "are saved", "status"},
		{"prefs that are managed", "prefs", []string{"slug", "mine", "connect-on-start", "yes"}, managed, `prefs slug="acme" minimized=false login=false connect=true language=""`, "are saved", "status"},
		{"reset", "prefs", []string{"reset", "yes", "slug", "x"}, nil, `prefs slug="" minimized=true login=false connect=true language=""`, "standard ones", "status"},
		{"apply", "apply", []string{"auth-url", " https://a.example ", "api-url", "wss://a.example", "log-filter", "debug"}, nil, "apply {APIURL:wss://a.example AuthURL:https://a.example LogFilter:debug}", "are saved", "status"},
		{"apply without a service", "apply", nil, func(d *desk) { d.view.Service = menu.Lost }, "", "appear when it is there", "status"},
		{"log more", "log-level", nil, nil, "log debug for 10m0s", "for 10 minutes", "status"},
		{"clear, without being sure", "clear-logs", nil, nil, "", "", "clear-logs"},
		{"clear", "clear-logs", []string{"sure", "yes", "back", "diagnostics"}, nil, "clear logs", "The logs are deleted.", "diagnostics"},
		{"export all, without being sure", "export", []string{"names", "keep"}, nil, "", "", "export-all"},
		{"a page that is none", "retry", []string{"back", "//evil.example/"}, nil, "menu.Retry{}", "", "status"},
		{"an address", "retry", []string{"back", "https://evil.example/"}, nil, "menu.Retry{}", "", "status"},
		{"a way out", "retry", []string{"back", "../../x"}, nil, "menu.Retry{}", "", "status"},
		{"a new line", "retry", []string{"back", "status\r\nX-Evil: 1"}, nil, "menu.Retry{}", "", "status"},
	} {
		t.Run(a.name, func(t *testing.T) {
			for _, script := range []bool{false, true} {
				d := newDesk(t)
				c := console(t, d)
				v := visit(t, c)
				if a.change != nil {
					a.change(d)
				}
				w := v.do("POST", c.base+"/do/"+a.action, v.form(a.fields...), func(r *http.Request) {
					if script {
						r.Header.Set("Stile-Live", "yes")
					}
				})
				if got := strings.Join(d.done(), "; "); got != a.want {
					t.Errorf("%s was done, not %s", got, a.want)
				}
				if script {
					var said struct {
						OK       bool
						Text, Go string
					}
					if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil || w.Code != http.StatusOK {
						t.Fatalf("%d, %v", w.Code, err)
					}
					if !strings.Contains(said.Text, a.says) || said.Go != "" && said.Go != c.base+"/"+a.to {
						t.Errorf("the script is told %+v", said)
					}
					continue
				}
				if w.Code != http.StatusSeeOther || w.Header().Get("Location") != c.base+"/"+a.to {
					t.Errorf("%d, to %q", w.Code, w.Header().Get("Location"))
				}
				page := v.get(a.to).Body.String()
				if a.says != "" && !strings.Contains(page, a.says) {
					t.Errorf("the page does not say %q", a.says)
				}
				if a.says != "" && strings.Contains(v.get(a.to).Body.String(), `<p class="notice">`) && a.to != "diagnostics" {
					t.Error("the page says it twice")
				}
			}
		})
	}
}

func TestExports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		c := console(t, d)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { c.jobs.run(ctx, c); close(ended) }()
		defer func() { cancel(); <-ended }()
		v := visit(t, c)
		step := make(chan int64)
		d.export = func(ctx context.Context, progress func(done, total int64)) (support.Result, error) {
			for {
				select {
				case n := <-step:
					if progress(n, 1000); n == 1000 {
						return support.Result{Path: "/tmp/x.zip", Bytes: 1000, Files: 3}, nil
					}
				case <-ctx.Done():
					return support.Result{}, ctx.Err()
				}
			}
		}
		shows := func(want ...string) {
			t.Helper()
			page := v.get("diagnostics").Body.String()
			for _, w := range want {
				if !strings.Contains(page, w) {
					t.Errorf("the page does not say %q", w)
				}
			}
		}
		v.post("export", "back", "diagnostics")
		synctest.Wait()
		shows("Collecting…", "/do/export-cancel")
		step <- 250
		synctest.Wait()
		shows("250 B of 1.0 kB", `value="25"`)
		v.post("export", "back", "diagnostics")
		shows("An export is under way already.")
		step <- 1000
		synctest.Wait()
		shows("/tmp/x.zip", "1.0 kB, 3 files")

		v.post("export", "names", "keep", "sure", "yes")
		v.post("export-cancel") // before it has begun to work
		synctest.Wait()
		shows("was stopped")
		v.post("export")
		synctest.Wait()
		v.post("export-cancel")
		synctest.Wait()
		shows("was stopped")

		d.export = func(context.Context, func(done, total int64)) (support.Result, error) {
			return support.Result{}, errors.New("no space left on device")
		}
		v.post("export")
		synctest.Wait()
		shows("no space left on device", ">Export logs<")
		want := []string{"export full=false", "export full=true", "export full=false", "export full=false"}
		if got := d.done(); !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}

		v.post("check")
		synctest.Wait()
		shows("The system asks our resolver first", "no answer in time")
	})
}

// A look takes a while, and two at a time may.
func TestLooksAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.looking = make(chan struct{})
		c := console(t, d)
		v := visit(t, c)
		pages := make(chan string, 2)
		for range 2 {
			go func() { pages <- v.get("why?target=wiki").Body.String() }()
		}
		synctest.Wait()
		if page := v.get("why?target=wiki").Body.String(); !strings.Contains(page, "Too much at once") {
			t.Error("a third look was begun")
		}
		close(d.looking)
		for range 2 {
			if page := <-pages; !strings.Contains(page, "site-offline") {
				t.Error("a look found nothing")
			}
		}
		d.looking = make(chan struct{})
		begun := time.Now()
		if page := v.get("why?target=wiki").Body.String(); !strings.Contains(page, "took too long") || time.Since(begun) != whyTime {
			t.Errorf("a look without end: after %v", time.Since(begun))
		}
		d.err = cause.ErrTarget
		if page := v.get("why?target=wiki").Body.String(); !strings.Contains(page, "Write a host such as") {
			t.Error("what is no target is not explained")
		}
	})
}
