package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"stile/app/menu"
	"stile/app/prefs"
	"stile/app/signin"
	"stile/app/words"
	"stile/platform/desktop"
	"stile/platform/ipcsock"
	"stile/tunnel/id"
	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
)

func TestTheMenuFollowsTheService(t *testing.T) {
	run(t, nil, func(w *world) {
		w.looks(menu.Out, "sign-in")
		w.set(func(s *ipc.State) { s.Session.Phase = ipc.Connecting })
		w.looks(menu.Busy, "connecting")
		w.set(signedIn)
		w.looks(menu.In, "sign-out")
		w.wants("notes", w.titles(), []string{words.English.ConnectedTitle})
		w.set(func(s *ipc.State) { s.Counters = append(s.Counters, ipc.Counter{Name: "x"}) })
		w.wants("notes", w.titles(), nil)
	})
}

func TestWhatIsConnectedAlreadyIsNoNews(t *testing.T) {
	run(t, func(w *world, _ *Config) { signedIn(&w.state) }, func(w *world) {
		w.looks(menu.In)
		w.wait(time.Minute)
		w.wants("notes", w.titles(), nil)
	})
}

// A service that is restarted or upgraded: no word, and right again at once.
func TestAServiceThatComesBackSoonIsFollowed(t *testing.T) {
	run(t, func(w *world, _ *Config) { signedIn(&w.state) }, func(w *world) {
		for _, why := range []error{link.ErrGone, ipc.Problemf(ipc.Stopping, "x")} {
			w.fail(link.Lost, why)
			w.looks(menu.Busy, "lost")
			w.wait(lostPatience - time.Second)
			w.looks(menu.Busy, "lost")
			w.set(func(s *ipc.State) { s.Session.Phase = ipc.Connecting })
			w.looks(menu.Busy, "connecting")
			w.set(signedIn)
			w.looks(menu.In)
		}
		w.wants("notes", w.titles(), nil)
	})
}

func TestAServiceThatStaysAwayIsToldOf(t *testing.T) {
	run(t, func(w *world, _ *Config) { signedIn(&w.state) }, func(w *world) {
		w.fail(link.Lost, ipcsock.ErrNobody)
		w.wait(lostPatience + time.Second)
		w.wants("notes", w.titles(), []string{words.English.ServiceLostTitle})
		w.looks(menu.Busy, "lost")
		w.fail(link.Missing, ipcsock.ErrNobody)
		w.looks(menu.Trouble, "missing")
		if v := w.View(); !strings.Contains(v.Reason, startService) {
			t.Error(v.Reason)
		}
		w.wait(time.Hour)
		w.wants("notes", w.titles(), nil)
		w.set(func(*ipc.State) {})
		w.looks(menu.In)
		w.wants("notes", w.titles(), []string{words.English.ConnectedTitle})
	})
}

func TestWhyTheServiceCannotBeAsked(t *testing.T) {
	for _, row := range []struct {
		news   link.News
		key    string
		note   string
		reason string
	}{
		{link.News{Presence: link.Missing, Err: ipcsock.ErrNobody}, "missing", words.English.ServiceMissing, startService},
		{link.News{Presence: link.Denied, Err: ipcsock.ErrDenied}, "denied", words.English.ServiceDenied, "administrator"},
		{link.News{Presence: link.Denied, Err: ipc.Problemf(ipc.NotAllowed, "Join the group.")}, "denied", words.English.ServiceDenied, "Join the group."},
		{link.News{Presence: link.Denied, Err: link.ErrStranger}, "denied", words.English.ServiceDenied, "not trusted"},
		{link.News{Presence: link.Missing, Err: link.ErrSilent}, "silent", words.English.ServiceSilent, restartService},
		{link.News{Presence: link.Outdated, Err: ipc.Problemf(ipc.WrongVersion, "Versions differ.")}, "outdated", words.English.AppOutdated, "Versions differ."},
		{link.News{Presence: link.Missing, Err: errors.New("else")}, "missing", words.English.ServiceMissing, "else"},
	} {
		t.Run(row.key+"/"+row.news.Err.Error(), func(t *testing.T) {
			run(t, func(w *world, _ *Config) { w.first = row.news }, func(w *world) {
				w.wait(10 * time.Second)
				w.looks(menu.Trouble, row.key)
				if got := w.View().Reason; !strings.Contains(got, row.reason) {
					t.Errorf("the reason is %q", got)
				}
				w.wants("notes", w.titles(), []string{row.note})
				w.wait(time.Minute)
				w.wants("notes", w.titles(), nil)
				w.set(func(*ipc.State) {})
				w.looks(menu.Out, "sign-in")
				if got := w.View().Reason; got != "" {
					t.Errorf("the reason is still %q", got)
				}
			})
		})
	}
}

func TestAnAppThatWaitsIsIdle(t *testing.T) {
	run(t, nil, func(w *world) {
		w.mu.Lock()
		before := w.shows
		w.mu.Unlock()
		w.wait(time.Hour)
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.shows > before+2 {
			t.Errorf("drawn %d times in an hour without news", w.shows-before)
		}
	})
}

func TestClicksReachTheService(t *testing.T) {
	run(t, func(w *world, _ *Config) {
		signedIn(&w.state)
		w.state.Session.PortalUp = false
		w.state.Resources = []ipc.Resource{{ID: id.Resource{1}, Type: "internet", Name: "Internet"}}
	}, func(w *world) {
		w.click("retry")
		w.click(id.Resource{1}.String() + "/switch")
		w.click("sign-out")
		w.set(func(s *ipc.State) { s.Session = ipc.Session{Phase: ipc.SignedOut, Token: ipc.TokenFromSignIn} })
		w.click("connect")
		if got, want := w.told(), []ipc.Command{ipc.Retry{}, ipc.SetInternet{On: true}, ipc.SignOut{}, ipc.Connect{}}; !reflect.DeepEqual(got, want) {
			t.Errorf("%v, not %v", got, want)
		}
		w.refuse = ipc.Problemf(ipc.HeldByOther, "Bob holds it.")
		w.click("connect")
		w.wants("notes", w.titles(), []string{words.English.RefusedTitle})
	})
}

func TestClicksOnTheDesktop(t *testing.T) {
	r := id.Resource{2}
	var log strings.Builder
	run(t, func(w *world, c *Config) {
		c.Log = slog.New(slog.NewTextHandler(&log, nil))
		signedIn(&w.state)
		w.state.Resources = []ipc.Resource{{ID: r, Type: "dns", Name: "Wiki", Address: "wiki.example.com", Description: "https://wiki.example.com/"}}
	}, func(w *world) {
		w.click(r.String() + "/address")
		w.click(r.String() + "/description")
		w.click("status")
		w.click(r.String() + "/favorite")
		w.wants("copied", w.copied, []string{"wiki.example.com"})
		w.wants("opened", w.pages(), []string{"https://wiki.example.com/", "http://127.0.0.1:1/status"})
		if p, err := prefs.Load(w.Config.Prefs); err != nil || !reflect.DeepEqual(p.Favorites, []id.Resource{r}) {
			t.Error(p, err)
		}
		if i := w.item(r.String() + "/favorite"); !i.On {
			t.Error("not shown as a favourite")
		}
		w.click(r.String() + "/favorite")
		if p, _ := prefs.Load(w.Config.Prefs); len(p.Favorites) != 0 {
			t.Error(p)
		}
		w.browser = desktop.ErrNoDesktop
		w.click(r.String() + "/description")
		if text := w.notes[0].Text; !strings.Contains(text, "https://wiki.example.com/") {
			t.Errorf("the user is told %q", text)
		}
		w.wants("notes", w.titles(), []string{words.English.OpenFailedTitle})
		if strings.Contains(log.String(), "wiki.example.com") || !strings.Contains(log.String(), "No browser was found") {
			t.Errorf("the log says %s", log.String())
		}
		w.pages()
		w.click("status")
		w.wants("notes", w.titles(), []string{words.English.OpenFailedTitle})
		w.Activated()
		w.Heard("")
		synctest.Wait()
		if got := w.pages(); len(got) != 3 {
			t.Error(got)
		}
	})
}

func TestASignIn(t *testing.T) {
	run(t, nil, func(w *world) {
		w.click("sign-in")
		w.looks(menu.Busy, "waiting", "cancel")
		w.wants("opened", w.pages(), []string{"http://127.0.0.1:1/begin/key"}) // arguments are for everybody to read
		first := w.signIns[0]
		if first.options != (signin.Options{Base: "https://portal.example.com", Portal: "wss://portal.example.com"}) {
			t.Errorf("%+v", first.options)
		}
		if w.SignInURL() != first.URL() {
			t.Error(w.SignInURL())
		}
		first.answers <- signin.Result{Token: "secret", Account: "acme", Actor: "Ada"}
		synctest.Wait()
		if got, want := w.told(), []ipc.Command{ipc.SignIn{Token: "secret", AccountSlug: "acme", Actor: "Ada"}}; !reflect.DeepEqual(got, want) {
			t.Errorf("%v", len(got))
		}
		w.looks(menu.Out, "sign-in") // until the service says more
		if w.Prefs().AccountSlug != "acme" || w.SignInURL() != "" {
			t.Error(w.Prefs(), w.SignInURL())
		}
		w.click("sign-in")
		if got := w.signIns[1].options.Account; got != "acme" {
			t.Error(got)
		}
		w.click("cancel")
		w.looks(menu.Out, "sign-in")
		w.wants("notes", w.titles(), nil)
		w.wait(5 * time.Minute)
	})
}

func TestASecondSignInReplacesTheFirst(t *testing.T) {
	run(t, nil, func(w *world) {
		w.click("sign-in")
		w.Clicked(menu.SignIn{})
		synctest.Wait()
		select {
		case <-w.signIns[0].cancelled:
		default:
			t.Error("the first goes on")
		}
		w.looks(menu.Busy, "waiting")
		w.wait(5 * time.Minute) // the first one's end is not the second one's
		w.looks(menu.Busy, "waiting")
	})
}

func TestASignInThatTheServiceRefuses(t *testing.T) {
	run(t, nil, func(w *world) {
		w.click("sign-in")
		w.refuse = ipc.Problemf(ipc.PortalUnknown, "No portal.")
		w.signIns[0].answers <- signin.Result{Token: "secret"}
		synctest.Wait()
		w.wants("notes", w.titles(), []string{words.English.SignInFailedTitle})
		w.looks(menu.Out, "sign-in")
	})
}

func TestASignInWithoutBrowser(t *testing.T) {
	run(t, func(w *world, _ *Config) { w.browser = desktop.ErrNoDesktop }, func(w *world) {
		w.click("sign-in")
		w.looks(menu.Busy, "waiting")
		w.wants("copied", w.copied, []string{"https://portal.example.com/?nonce=secret"})
		w.mu.Lock()
		if len(w.stay) != 1 || strings.Contains(fmt.Sprint(w.notes), "nonce") {
			t.Errorf("%+v", w.notes)
		}
		w.mu.Unlock()
	})
}

func TestWhereToSignIn(t *testing.T) {
	for _, row := range []struct {
		change func(s *ipc.State)
		want   signin.Options
	}{
		{func(s *ipc.State) { s.Settings.APIURL = "wss://other.example.com" }, signin.Options{Base: "https://other.example.com", Portal: "wss://other.example.com"}},
		{func(s *ipc.State) { s.Session.AuthURL = "https://in.example.com" }, signin.Options{Base: "https://in.example.com", Portal: "wss://portal.example.com"}},
		{func(s *ipc.State) { s.Settings.AuthURL, s.Settings.AccountSlug = "https://set.example.com", "acme" }, signin.Options{Base: "https://set.example.com", Account: "acme", Portal: "wss://portal.example.com"}},
	} {
		run(t, func(w *world, _ *Config) { row.change(&w.state) }, func(w *world) {
			w.click("sign-in")
			if got := w.signIns[0].options; got != row.want {
				t.Errorf("%+v, not %+v", got, row.want)
			}
		})
	}
	run(t, func(w *world, _ *Config) { w.state.Session.Portal = "" }, func(w *world) {
		w.click("sign-in")
		w.wants("notes", w.titles(), []string{words.English.SignInFailedTitle})
	})
	run(t, func(w *world, _ *Config) { w.state.Session.Token = ipc.TokenFromFile }, func(w *world) {
		if err := w.Do(w.t.Context(), menu.SignIn{}); err == nil {
			t.Error("signed in beside an administrator")
		}
	})
	run(t, func(w *world, _ *Config) { w.first = link.News{Presence: link.Missing, Err: ipcsock.ErrNobody} }, func(w *world) {
		if err := w.Do(w.t.Context(), menu.SignIn{}); err == nil || err.Error() != words.English.ServiceAway {
			t.Error(err)
		}
	})
}

func TestAnswersByOtherWays(t *testing.T) {
	run(t, nil, func(w *world) {
		w.Heard("stile://early") // means nothing
		if err := w.Paste(w.t.Context(), "code"); err == nil {
			t.Error("pasted to nobody")
		}
		w.click("sign-in")
		s := w.signIns[0]
		w.Heard("stile://x")
		if err := w.Paste(w.t.Context(), "code"); err != nil {
			t.Error(err)
		}
		w.wants("followed", s.followed, []string{"stile://x", "code"})
		w.wants("notes", w.titles(), nil)
		s.follow = signin.ErrRepeated
		w.Heard("stile://x")
		w.wants("notes", w.titles(), nil)
		s.follow = signin.ErrForged
		w.Heard("stile://x")
		w.wants("notes", w.titles(), []string{words.English.SignInFailedTitle})
		if err := w.Paste(w.t.Context(), "x"); err == nil || err.Error() != signin.Explain(&words.English, signin.ErrForged) {
			t.Error(err)
		}
	})
}

func TestTheUserQuits(t *testing.T) {
	ending := 0
	run(t, func(w *world, c *Config) { signedIn(&w.state); c.Ending = func() { ending++ } }, func(w *world) {
		if ending != 0 {
			t.Error("it ends by itself")
		}
		w.click("quit")
		if ending != 1 {
			t.Error("nobody was told")
		}
		if err := <-w.ended; err != nil {
			t.Error(err)
		}
		if got := w.told(); got != nil {
			t.Errorf("the session was ended by %v", got)
		}
	})
}

func TestQuittingWaitsForNothing(t *testing.T) {
	run(t, func(w *world, _ *Config) { signedIn(&w.state); w.refuse = errStuck }, func(w *world) {
		w.click("sign-out") // of a service that hangs
		start := time.Now()
		w.click("quit")
		if err := <-w.ended; err != nil || time.Since(start) > time.Second {
			t.Error(err, time.Since(start))
		}
	})
}

func TestARestart(t *testing.T) {
	run(t, func(w *world, _ *Config) {
		w.first = link.News{Presence: link.Outdated, Err: ipc.Problemf(ipc.WrongVersion, "x")}
	}, func(w *world) {
		w.click("restart")
		if err := <-w.ended; !errors.Is(err, ErrRestart) {
			t.Error(err)
		}
	})
}

func TestAServiceThatHangsIsGivenUp(t *testing.T) {
	run(t, func(w *world, _ *Config) { signedIn(&w.state); w.refuse = errStuck }, func(w *world) {
		w.click("sign-out")
		w.wait(commandTime)
		w.wants("notes", w.titles(), []string{words.English.RefusedTitle})
	})
}

func TestTheFirstStartShowsThePage(t *testing.T) {
	run(t, func(_ *world, c *Config) { os.Remove(c.Prefs) }, func(w *world) {
		w.wants("opened", w.pages(), []string{"http://127.0.0.1:1/status"})
		if p, err := prefs.Load(w.Config.Prefs); err != nil || !p.RanBefore {
			t.Error(p, err)
		}
		w.wants("calls", w.calls, []string{"register+"})
	})
}

func TestAStartByHandShowsSomethingSomewhere(t *testing.T) {
	for _, row := range []struct {
		hosted, atLogin bool
		want            int
	}{{true, false, 0}, {true, true, 0}, {false, true, 0}, {false, false, 1}} {
		run(t, func(w *world, c *Config) { w.hosted, c.AtLogin = row.hosted, row.atLogin }, func(w *world) {
			w.wait(time.Minute)
			if got := w.pages(); len(got) != row.want {
				t.Errorf("%+v: %q", row, got)
			}
		})
	}
	run(t, func(_ *world, c *Config) {
		if err := (prefs.Prefs{RanBefore: true}).Save(c.Prefs); err != nil { // not minimized
			t.Fatal(err)
		}
	}, func(w *world) {
		w.wants("opened", w.pages(), []string{"http://127.0.0.1:1/status"})
	})
}

func TestTheLackOfAPanelIsToldOnce(t *testing.T) {
	var file string
	run(t, func(w *world, c *Config) { w.hosted, file = false, c.Prefs }, func(w *world) {
		w.wait(panelPatience - time.Second)
		w.wants("notes", w.titles(), nil)
		w.wait(2 * time.Second)
		w.wants("notes", w.titles(), []string{words.English.NoTrayTitle})
		w.Hosted(true)
		w.Hosted(false)
		w.wait(time.Minute)
		w.wants("notes", w.titles(), nil)
		if p, _ := prefs.Load(file); !p.ToldNoTray {
			t.Error("not remembered")
		}
	})
	run(t, func(w *world, c *Config) {
		w.hosted = false
		if err := (prefs.Prefs{RanBefore: true, StartMinimized: true, ToldNoTray: true}).Save(c.Prefs); err != nil {
			t.Fatal(err)
		}
	}, func(w *world) {
		w.wait(time.Minute)
		w.wants("notes", w.titles(), nil)
	})
}

func TestAPanelThatIsRestartedIsNotMissed(t *testing.T) {
	run(t, nil, func(w *world) {
		w.wait(time.Minute)
		for range 3 {
			w.Hosted(false)
			w.wait(panelPatience - time.Second)
			w.Hosted(true)
			w.wait(time.Second)
		}
		w.wants("notes", w.titles(), nil)
		w.Hosted(false)
		w.wait(panelPatience + time.Second)
		w.wants("notes", w.titles(), []string{words.English.NoTrayTitle})
	})
}

func TestSettingsAreKept(t *testing.T) {
	run(t, nil, func(w *world) {
		changed := w.Changed(w.t.Context())
		yes := true
		p := w.Prefs()
		p.Language, p.StartOnLogin = "de", &yes
		if err := w.SetPrefs(p); err != nil {
			t.Fatal(err)
		}
		select {
		case <-changed:
		default:
			t.Error("nobody was told")
		}
		synctest.Wait()
		if i := w.item("sign-in"); i == nil || i.Title != words.German.SignIn {
			t.Error("the language is not that of the settings")
		}
		w.wants("calls", w.calls, []string{"register+", "autostart+"})
		if again, err := prefs.Load(w.Config.Prefs); err != nil || again.Language != "de" {
			t.Error(again, err)
		}
	})
}

func TestTheAppLogsWhatTheServiceLogs(t *testing.T) {
	l := &fakeLogs{}
	run(t, func(w *world, c *Config) {
		c.Logs = l
		w.state.Settings.LogFilter, w.state.Logs.Dir = "debug", "/var/log/stile"
	}, func(w *world) {
		w.set(func(s *ipc.State) { s.Settings.LogFilter = "info" })
		w.set(func(s *ipc.State) { s.Version = "2" })
		w.wants("filters", l.filters, []string{"debug 0s", "info 0s"})
		w.set(func(s *ipc.State) { s.Logs.Filter = "trace" }) // stile logs level trace --for 10m
		w.set(func(s *ipc.State) { s.Logs.Filter = "info" })  // ten minutes later
		w.wants("filters", l.filters, []string{"debug 0s", "info 0s", "trace 0s", "info 0s"})
		l.filters = l.filters[:2]
		if err := w.SetLogFilter(w.t.Context(), "warn", time.Minute); err != nil {
			t.Error(err)
		}
		if err := w.ClearLogs(w.t.Context()); err != nil {
			t.Error(err)
		}
		w.wants("filters", l.filters, []string{"debug 0s", "info 0s", "warn 1m0s", "clear"})
		if got, want := w.told(), []ipc.Command{ipc.SetLogFilter{Filter: "warn", For: time.Minute}, ipc.ClearLogs{}}; !reflect.DeepEqual(got, want) {
			t.Error(got)
		}
		w.wants("folders", w.LogDirs(), []string{"/var/log/stile", "/home/ada/logs"})
	})
}

type fakeLogs struct{ filters []string }

func (l *fakeLogs) SetFilter(f string, d time.Duration) error {
	l.filters = append(l.filters, f+" "+d.String())
	return nil
}
func (l *fakeLogs) Clear() error { l.filters = append(l.filters, "clear"); return nil }
func (l *fakeLogs) Dir() string  { return "/home/ada/logs" }

func TestUpdates(t *testing.T) {
	asked := 0
	latest := func(context.Context) (menu.Update, error) {
		if asked++; asked == 1 {
			return menu.Update{}, errors.New("no network")
		}
		return menu.Update{Version: "9.0.0", URL: "https://r.example/dl"}, nil
	}
	run(t, func(w *world, c *Config) { c.Latest, w.state.Settings.CheckForUpdates = latest, true }, func(w *world) {
		w.wait(updateEvery)
		w.wants("notes", w.titles(), nil)
		w.wait(2 * updateEvery)
		w.wants("notes", w.titles(), []string{words.English.UpdateTitle("9.0.0")})
		if i := w.item("update"); i == nil {
			t.Error("not in the menu")
		}
		w.mu.Lock()
		if !w.shown.Icon.Dot {
			t.Error("the icon has no dot")
		}
		w.mu.Unlock()
	})
	asked = 0
	run(t, func(_ *world, c *Config) { c.Latest = latest }, func(w *world) {
		w.wait(10 * updateEvery)
		if asked != 0 {
			t.Error("an administrator forbade that")
		}
	})
}

// What the service says, and what the app says about it, is in the user's
// language, also after that changes.
func TestTheServiceSpeaksTheUsersLanguage(t *testing.T) {
	who := link.News{Presence: link.Denied, Err: ipc.SayCallerUnknown.With()}
	run(t, func(w *world, c *Config) { w.first, c.Language = who, "de_AT.UTF-8" }, func(w *world) {
		const unknown = "Der Dienst konnte nicht feststellen, wer Sie sind, und lässt Sie deshalb nicht ein."
		w.wants("denied", w.texts(), []string{unknown})
		if got := w.View().Reason; got != unknown {
			t.Error(got)
		}
		for language, want := range map[string]string{"en": ipc.SayCallerUnknown.With().Text, "de": unknown} {
			p := w.Prefs()
			p.Language = language
			if err := w.SetPrefs(p); err != nil || w.View().Reason != want {
				t.Errorf("%s: %q, %v", language, w.View().Reason, err)
			}
		}
		p := w.Prefs()
		p.Language = ""
		w.SetPrefs(p)
		w.set(func(s *ipc.State) {
			s.Session.Phase, s.Session.Problem = ipc.Connecting, ipc.SayDeviceRefused.With("reason", "no seat is free")
		})
		w.wants("refused", w.texts(), []string{"Das Portal hat dieses Gerät abgewiesen: no seat is free. Wenden Sie sich an Ihren Administrator; Stile versucht es von selbst erneut."})
		w.refuse = ipc.SayHeldByOther.With("holder", "bob")
		w.Clicked(menu.Retry{})
		w.wait(time.Second)
		w.wants("a click", w.texts(), []string{"bob ist an diesem Computer bei Stile angemeldet. Bitten Sie diese Person, sich zuerst abzumelden, oder verwenden Sie: sudo stile sign-out"})
		w.browser = desktop.ErrNoDesktop
		w.Clicked(menu.Show{Page: menu.StatusPage})
		w.wait(time.Second)
		w.wants("a page", w.texts(), []string{words.German.NoBrowserPage})
		w.fail(link.Missing, ipcsock.ErrNobody)
		w.wait(time.Minute)
		w.wants("away", w.texts(), []string{words.German.ServiceLostText})
		if got := w.View().Reason; !strings.HasPrefix(got, "Der Stile-Dienst läuft nicht.") {
			t.Error(got)
		}
	})
}

func TestNewsOfTheSession(t *testing.T) {
	problem := func(c ipc.Code) func(s *ipc.State) {
		return func(s *ipc.State) {
			s.Session.Phase, s.Session.Problem = ipc.SignedOut, &ipc.Problem{Code: c, Text: "Because."}
			if c == ipc.PortalRefused || c == ipc.TunnelFailed || c == ipc.PortalUnreachable {
				s.Session.Phase = ipc.Connecting
			}
		}
	}
	for code, want := range map[ipc.Code][]string{
		ipc.TokenRejected:     {words.English.SignInAgainTitle},
		ipc.PortalChanged:     {words.English.PortalChanged},
		ipc.PortalRefused:     {words.English.PortalRefused},
		ipc.TunnelFailed:      {words.English.TunnelFailed},
		ipc.PortalUnreachable: nil,
	} {
		run(t, func(w *world, _ *Config) { signedIn(&w.state) }, func(w *world) {
			w.set(problem(code))
			w.set(func(s *ipc.State) { s.Version = "2" })
			w.wants(string(code), w.titles(), want)
		})
	}
}

// What a note says, and asks for, is so for as long as it is there.
func TestNotesGoWithTheirReason(t *testing.T) {
	for _, row := range []struct {
		news link.News
		note string
	}{
		{link.News{Presence: link.Missing, Err: ipcsock.ErrNobody}, words.English.ServiceMissing},
		{link.News{Presence: link.Denied, Err: ipcsock.ErrDenied}, words.English.ServiceDenied},
		{link.News{Presence: link.Missing, Err: link.ErrSilent}, words.English.ServiceSilent},
		{link.News{Presence: link.Outdated, Err: ipc.Problemf(ipc.WrongVersion, "x")}, words.English.AppOutdated},
	} {
		for _, session := range []func(s *ipc.State){func(*ipc.State) {}, signedIn} {
			run(t, func(w *world, _ *Config) { w.first = row.news }, func(w *world) {
				w.wait(10 * time.Second)
				w.wants("there", w.there(), []string{row.note})
				w.set(session)
				w.wants("there afterwards", w.there(), nil)
			})
		}
	}
	for _, then := range []func(s *ipc.State){
		func(s *ipc.State) { s.Session.Problem = nil },
		func(s *ipc.State) { s.Session.Phase, s.Session.Problem = ipc.Connecting, nil },
		signedIn,
	} {
		run(t, func(w *world, _ *Config) { signedIn(&w.state) }, func(w *world) {
			w.set(func(s *ipc.State) {
				s.Session.Phase, s.Session.Problem = ipc.SignedOut, &ipc.Problem{Code: ipc.TokenRejected, Text: "Because."}
			})
			w.wants("there", w.there(), []string{words.English.SignInAgainTitle})
			w.set(then)
			w.wants("there afterwards", w.there(), nil)
		})
	}
	run(t, func(w *world, _ *Config) { w.hosted = false }, func(w *world) {
		w.wait(panelPatience + time.Second)
		w.wants("there", w.there(), []string{words.English.NoTrayTitle})
		w.Hosted(true)
		synctest.Wait()
		w.wants("there afterwards", w.there(), nil)
	})
	run(t, func(w *world, _ *Config) { w.browser = desktop.ErrNoDesktop }, func(w *world) {
		w.click("sign-in")
		w.wants("there", w.there(), []string{words.English.OpenFailedTitle})
		w.refuse = ipc.Problemf(ipc.PortalUnknown, "No portal.")
		w.signIns[0].answers <- signin.Result{Token: "secret"}
		synctest.Wait()
		w.wants("there afterwards", w.there(), []string{words.English.SignInFailedTitle})
		w.browser = nil
		w.click("sign-in")
		w.wants("there at the next", w.there(), nil)
	})
}

func TestNewsOfResources(t *testing.T) {
	offline := func(n int) func(s *ipc.State) {
		return func(s *ipc.State) {
			signedIn(s)
			s.Resources = nil
			for i := range n {
				s.Resources = append(s.Resources, ipc.Resource{ID: id.Resource{15: byte(i + 1)}, Type: "dns", Name: "R", Sites: []string{"Office"}, Problem: &ipc.Problem{Code: ipc.SiteOffline}})
			}
		}
	}
	run(t, func(w *world, _ *Config) { signedIn(&w.state) }, func(w *world) {
		title := words.English.UnreachableTitle("R")
		w.set(offline(1))
		w.wants("first", w.titles(), []string{title})
		w.set(func(s *ipc.State) { s.Resources[0].Problem = nil })
		w.set(offline(1))
		w.wants("again", w.titles(), nil)
		w.set(func(s *ipc.State) { s.Resources[0].Problem = &ipc.Problem{Code: ipc.GatewayTooOld} })
		w.wants("another reason", w.titles(), []string{title})
		w.set(offline(100))
		w.wants("many", w.titles(), []string{title, title, title})
		w.set(func(s *ipc.State) { s.Session.Phase = ipc.SignedOut })
		w.set(offline(1))
		w.wants("another session", w.titles(), []string{words.English.ConnectedTitle, title})
	})
}
