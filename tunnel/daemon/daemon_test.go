package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
	"stile/tunnel/phoenix/dial"
)

func TestSignInAndOut(t *testing.T) {
	run(t, Config{}, wish{}, func(h *house) {
		h.wants(ipc.SignedOut, "")
		h.command(ipc.SignIn{Token: "abc.def", AccountSlug: "acme", Actor: "Alice"})
		h.wants(ipc.Connecting, "")
		h.tell(event{portal: true, up: true})
		h.wants(ipc.Raising, "")
		h.tell(event{configured: true})
		h.wants(ipc.Connected, "")
		h.tell(event{portal: true, up: false}) // the portal is away; the tunnel stands
		h.wants(ipc.Connected, "")
		if s := h.State(); s.Session.Account != "acme" || s.Session.Actor != "Alice" || s.Session.Token != ipc.TokenFromSignIn {
			t.Errorf("%+v", s.Session)
		}
		if got := h.session().wish.Token.Reveal(); got != "abc.def" {
			t.Errorf("the session has token %q", got)
		}

		h.command(ipc.SignOut{})
		h.wants(ipc.Ending, "")
		h.end(nil)
		h.wants(ipc.SignedOut, "")
		h.command(ipc.SignOut{}) // twice is no error
		if _, err := os.Stat(filepath.Join(h.StateDir, signInFile)); err == nil {
			t.Error("the token is still on disk")
		}
	})
}

func TestAnotherSignInReplacesTheSession(t *testing.T) {
	run(t, Config{}, wish{Token: "first", Source: ipc.TokenFromSignIn}, func(h *house) {
		h.wants(ipc.Connecting, "")
		first := h.session()
		h.command(ipc.SignIn{Token: "second"})
		h.wants(ipc.Ending, "")
		if h.session() != first {
			t.Error("the second session began before the first had put DNS and routes back")
		}
		h.end(nil)
		h.wants(ipc.Connecting, "")
		if got := h.session().wish.Token.Reveal(); got != "second" {
			t.Errorf("the session has token %q", got)
		}
	})
}

func TestRefusedTokenSignsOut(t *testing.T) {
	run(t, Config{}, wish{}, func(h *house) {
		h.command(ipc.SignIn{Token: "abc"})
		h.end(fmt.Errorf("portal: %w", dial.ErrTokenRejected))
		h.wants(ipc.SignedOut, ipc.TokenRejected)
		if _, err := os.Stat(filepath.Join(h.StateDir, signInFile)); err == nil {
			t.Error("the token is still on disk")
		}
		h.command(ipc.SignIn{Token: "better"})
		h.wants(ipc.Connecting, "")
	})
}

func TestRefusalThatDoesNotBlameTheTokenKeepsIt(t *testing.T) {
	run(t, Config{}, wish{}, func(h *house) {
		h.command(ipc.SignIn{Token: "abc"})
		h.end(fmt.Errorf("portal: %w", dial.ErrUnauthorized))
		h.wants(ipc.Connecting, ipc.PortalRefused)
		if _, err := os.Stat(filepath.Join(h.StateDir, signInFile)); err != nil {
			t.Error("the token is gone:", err)
		}
	})
}

func TestFailedSessionIsTriedAgain(t *testing.T) {
	run(t, Config{}, wish{Token: "abc", Source: ipc.TokenFromSignIn}, func(h *house) {
		for i := range 9 {
			began := time.Now()
			h.end(errors.New("create tunnel device: busy"))
			h.wants(ipc.Connecting, ipc.TunnelFailed)
			for h.session() == nil {
				time.Sleep(100 * time.Millisecond)
				synctest.Wait()
			}
			if took, want := time.Since(began), min(firstPause<<i, maxPause); took < want || took > want+time.Second {
				t.Errorf("attempt %d after %v, want %v", i, took, want)
			}
		}
		h.end(errors.New("busy"))
		h.command(ipc.Retry{})
		h.wants(ipc.Connecting, "")
	})
}

func TestManagedToken(t *testing.T) {
	result := run(t, Config{}, wish{Token: "abc", Source: ipc.TokenFromFile}, func(h *house) {
		for _, c := range []ipc.Command{ipc.SignIn{Token: "mine"}, ipc.SignOut{}} {
			var problem *ipc.Problem
			if err := h.Handle(h.t.Context(), link.Caller{}, c); !errors.As(err, &problem) || problem.Code != ipc.TokenIsManaged {
				t.Errorf("%T: %v", c, err)
			}
		}
		h.end(dial.ErrTokenRejected)
	})
	if !errors.Is(result, dial.ErrTokenRejected) || !strings.Contains(result.Error(), "token create") {
		t.Errorf("the service ended with: %v", result)
	}
}

// The session belongs to who signed in: other users of the machine may not
// change it, but an administrator may.
func TestSessionHasAHolder(t *testing.T) {
	by := func(uid uint32) link.Caller { return link.Caller{UID: uid} }
	run(t, Config{Portal: dial.Config{URL: "wss://portal.example"}}, wish{}, func(h *house) {
		code := func(from link.Caller, c ipc.Command) ipc.Code {
			err := h.Handle(h.t.Context(), from, c)
			synctest.Wait()
			var problem *ipc.Problem
			if errors.As(err, &problem) {
				return problem.Code
			}
			if err != nil {
				t.Error(err)
			}
			return ""
		}
		if got := code(by(60001), ipc.SignIn{Token: "abc"}); got != "" {
			t.Fatal(got)
		}
		if got := h.State().Session.Holder; !strings.Contains(got, "60001") {
			t.Errorf("held by %q", got)
		}
		if again := h.loadWish(); again.Holder != "60001" {
			t.Errorf("after a restart it is held by %q", again.Holder)
		}
		for _, c := range []ipc.Command{ipc.SignIn{Token: "other"}, ipc.SignOut{}, ipc.SetInternet{On: true}, ipc.Retry{}, ipc.ClearLogs{}, ipc.SetLogFilter{Filter: "debug"}} {
			if got := code(by(60002), c); got != ipc.HeldByOther {
				t.Errorf("%T by another user: %q", c, got)
			}
		}
		for _, question := range []ipc.Command{ipc.Inspect{Host: "wiki.example"}, ipc.Collect{}} {
			err := h.Inform(h.t.Context(), by(60002), question, func(ipc.Part) error { t.Errorf("%T was answered", question); return nil })
			if p, is := errors.AsType[*ipc.Problem](err); !is || p.Code != ipc.HeldByOther {
				t.Errorf("%T: %v", question, err)
			}
		}
		_, may := h.Show()
		if may(by(60002)) || !may(by(60001)) || !may(by(0)) {
			t.Error("a session is shown to the wrong users")
		}
		for _, c := range []ipc.Command{ipc.SetInternet{On: true}, ipc.SignIn{Token: "again"}} {
			if got := code(by(60001), c); got != "" {
				t.Errorf("%T by the holder: %q", c, got)
			}
		}
		if got := code(by(0), ipc.SignOut{}); got != "" {
			t.Errorf("the administrator: %q", got)
		}
		if _, may := h.Show(); may(by(60002)) { // it has not ended yet
			t.Error("what is left of the session is shown")
		}
		if got := code(by(60002), ipc.SignIn{Token: "mine"}); got != "" {
			t.Errorf("when nobody is signed in: %q", got)
		}
		h.command(ipc.SignOut{})
	})
}

// SIGHUP begins a session anew, and ends nothing while there is none.
func TestHangUp(t *testing.T) {
	run(t, Config{}, wish{}, func(h *house) {
		asked := make(chan os.Signal)
		h.reloads = asked
		h.command(ipc.Retry{}) // so that the owner looks at the new channel
		asked <- os.Interrupt
		synctest.Wait()
		h.wants(ipc.SignedOut, "")
		h.command(ipc.SignIn{Token: "abc"})
		asked <- os.Interrupt
		synctest.Wait()
		h.wants(ipc.Connecting, "")
		if h.resets != 1 {
			t.Errorf("%d resets", h.resets)
		}
	})
}

func TestStopWaitsForTheSession(t *testing.T) {
	result := run(t, Config{}, wish{Token: "abc", Source: ipc.TokenFromSignIn}, func(h *house) {
		h.stop()
		synctest.Wait()
		h.wants(ipc.Ending, "")
		h.end(nil)
	})
	if result != nil {
		t.Error(result)
	}
}

func TestInternetSwitchIsKept(t *testing.T) {
	run(t, Config{}, wish{Token: "abc", Source: ipc.TokenFromSignIn}, func(h *house) {
		h.command(ipc.SetInternet{On: true})
		if !h.State().Internet.On || h.engine.done[0] != (core.InternetResource{On: true}) {
			t.Errorf("%+v, %v", h.State().Internet, h.engine.done)
		}
		if again := h.loadWish(); !again.Internet {
			t.Errorf("%+v", again)
		}
	})
}

// What an administrator switches on is not what users chose.
func TestAnAdministratorsInternetSwitch(t *testing.T) {
	run(t, Config{Internet: true}, wish{}, func(h *house) {
		if !h.State().Internet.On {
			t.Error("it is off")
		}
		if code := h.refusal(link.Caller{}, ipc.SetInternet{}); code != ipc.SettingManaged {
			t.Errorf("%q", code)
		}
		h.command(ipc.ApplySettings{})
		if h.loadWish().Internet {
			t.Error("it stays on without the administrator")
		}
		h.command(ipc.SetInternet{On: true})
		if !h.loadWish().Internet {
			t.Error("a user's choice is lost")
		}
	})
}

func TestSilentPortalIsSaid(t *testing.T) {
	run(t, Config{}, wish{Token: "abc", Source: ipc.TokenFromSignIn}, func(h *house) {
		h.wants(ipc.Connecting, "")
		time.Sleep(silence + time.Second)
		h.wants(ipc.Connecting, ipc.PortalUnreachable)
	})
}

// A portal that is away at the start for longer than any program would wait: the
// sign-in is kept, and used as soon as the portal answers.
func TestAPortalThatIsAwayAtTheStart(t *testing.T) {
	c := Config{StateDir: t.TempDir(), Log: quiet}
	if err := c.saveSignIn(wish{Token: "abc", Source: ipc.TokenFromSignIn, Actor: "Ada"}); err != nil {
		t.Fatal(err)
	}
	run(t, c, c.loadWish(), func(h *house) {
		first := h.session()
		h.away = errors.New("connection refused")
		for range 60 {
			time.Sleep(time.Minute)
			h.wants(ipc.Connecting, ipc.PortalUnreachable)
		}
		if kept := c.loadWish(); kept.Token != "abc" || h.session() != first {
			t.Errorf("the sign-in is %+v, and the session another: %v", kept, h.session() != first)
		}
		h.away = nil
		h.tell(event{portal: true, up: true})
		h.tell(event{configured: true})
		if s := h.State().Session; s.Actor != "Ada" {
			t.Errorf("%+v", s)
		}
	})
}

func TestWhyThePortalIsAwayIsSaidAtOnce(t *testing.T) {
	run(t, Config{}, wish{Token: "abc", Source: ipc.TokenFromSignIn}, func(h *house) {
		h.away = errors.New("connection refused")
		h.wants(ipc.Connecting, ipc.PortalUnreachable)
		if text := h.State().Session.Problem.Text; !strings.Contains(text, "connection refused") {
			t.Errorf("the problem is %q", text)
		}
	})
}

func TestWishSurvives(t *testing.T) {
	c := Config{StateDir: t.TempDir(), Log: quiet}
	want := wish{Token: "abc", Source: ipc.TokenFromSignIn, Account: "acme", Actor: "Alice", Internet: true}
	if err := errors.Join(c.saveSignIn(want), c.saveSettings(want)); err != nil {
		t.Fatal(err)
	}
	if got := c.loadWish(); got != want {
		t.Errorf("%+v", got)
	}
	info, err := os.Stat(filepath.Join(c.StateDir, signInFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	c.Token, c.TokenSource = "managed", ipc.TokenFromEnvironment
	if got := c.loadWish(); got.Token != "managed" || got.Source != ipc.TokenFromEnvironment {
		t.Errorf("%+v", got)
	}
}

func TestUnreadableWishIsKeptAside(t *testing.T) {
	for _, text := range []string{"", "{", `{"version":2,"token":"abc"}`, `{"version":1,"token":"a b"}`, `{"version":1}`, strings.Repeat(" ", maxStateFile+1)} {
		c := Config{StateDir: t.TempDir(), Log: quiet}
		path := filepath.Join(c.StateDir, signInFile)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := c.loadWish(); got.Token != "" {
			t.Errorf("%.40q: %+v", text, got)
		}
		if kept, err := os.ReadFile(path + ".bad"); err != nil || string(kept) != text {
			t.Errorf("%.40q was lost: %v", text, err)
		}
	}
}

func FuzzWish(f *testing.F) {
	f.Add([]byte(`{"version":1,"token":"abc","account":"acme","actor":"Alice"}`), []byte(`{"version":1,"internet":true}`))
	f.Add([]byte(`{"version":1,"token":"a\u0000b"}`), []byte(`null`))
	f.Add([]byte(`{"version":2,"token":"abc"}`), []byte(`{"version":1,"internet":"yes"}`))
	f.Fuzz(func(t *testing.T, signIn, settings []byte) {
		c := Config{StateDir: t.TempDir(), Log: quiet}
		for name, text := range map[string][]byte{signInFile: signIn, settingsFile: settings} {
			if err := os.WriteFile(filepath.Join(c.StateDir, name), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		w := c.loadWish()
		if (w.Token == "") != (w.Source == "") || w.Token == "" && w.Account+w.Actor != "" {
			t.Fatalf("%+v", w)
		}
		if w.Token == "" {
			return
		}
		if err := errors.Join(c.saveSignIn(w), c.saveSettings(w)); err != nil {
			t.Fatal(err)
		}
		if again := c.loadWish(); again != w {
			t.Fatalf("%+v, then %+v", w, again)
		}
	})
}

// A house is a daemon whose sessions are fakes.
type house struct {
	*daemon
	t      *testing.T
	stop   context.CancelFunc
	engine *fake
	away   error // why the portal is
	resets int
}

type fake struct {
	done []core.Result
	role core.Role
}

func (f *fake) Do(r core.Result)    { f.done = append(f.done, r) }
func (f *fake) Report() core.Report { return core.Report{} }
func (f *fake) Brief() core.Report  { return core.Report{} }

func (f *fake) Inspect(look func(core.Role, time.Time)) { look(f.role, time.Now()) }

// run runs a daemon in a bubble while script drives it, stops it, and returns
// how it ended.
func run(t *testing.T, c Config, w wish, script func(h *house)) (result error) {
	t.Helper()
	c.StateDir, c.Log = cmp.Or(c.StateDir, t.TempDir()), quiet
	if c.Portal.URL == "" && w.APIURL == "" && c.Policy == nil {
		c.Portal.URL = "wss://portal.example"
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		h := &house{daemon: newDaemon(c, w), t: t, stop: cancel, engine: &fake{}}
		h.begin = func(_ context.Context, w wish, portal string) (*session, error) {
			return &session{
				daemon: h.daemon, wish: w, portal: portal, engine: h.engine, retry: func() {}, why: func() error { return h.away }, reset: func() { h.resets++ }, cancel: func() {},
				events: make(chan event), ended: make(chan error, 1),
			}, nil
		}
		ended := make(chan error, 1)
		go func() { ended <- h.own(ctx) }()
		synctest.Wait()
		script(h)
		cancel()
		synctest.Wait()
		if s := h.session(); s != nil {
			s.ended <- nil
		}
		result = <-ended
	})
	return result
}

func (h *house) session() *session {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.view.session
}

func (h *house) tell(e event) {
	h.session().events <- e
	synctest.Wait()
}

func (h *house) end(err error) {
	h.session().ended <- err
	synctest.Wait()
}

func (h *house) command(c ipc.Command) {
	h.t.Helper()
	if err := h.Handle(h.t.Context(), link.Caller{}, c); err != nil {
		h.t.Fatal(err)
	}
	synctest.Wait()
}

func (h *house) wants(p ipc.Phase, problem ipc.Code) {
	h.t.Helper()
	s := h.State().Session
	got := ipc.Code("")
	if s.Problem != nil {
		got = s.Problem.Code
	}
	if s.Phase != p || got != problem {
		h.t.Errorf("phase %s, problem %q; want %s, %q", s.Phase, got, p, problem)
	}
}
