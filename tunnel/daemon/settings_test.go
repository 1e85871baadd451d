package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"stile/platform/logs"
	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
	"stile/tunnel/phoenix/dial"
)

// Who decides: the command line, then the policy, then users, then nobody.
func TestLayersOfSettings(t *testing.T) {
	users := wish{APIURL: "wss://users", AuthURL: "https://users", LogFilter: "warn", Manual: true}
	policy := choice{APIURL: "wss://policy", LogFilter: "error", AccountSlug: "acme", SupportURL: "https://help", HideAdminPortal: new(true), ConnectOnStart: new(true), CheckForUpdates: new(false)}
	line := Config{Portal: dial.Config{URL: "wss://line"}, AuthURL: "https://line", LogFilter: "debug"}
	for _, row := range []struct {
		name   string
		c      Config
		w      wish
		policy choice
		want   ipc.Settings
	}{
		{"nobody", Config{}, wish{}, choice{}, ipc.Settings{LogFilter: "info", CheckForUpdates: true, ConnectOnStart: new(true)}},
		{"users", Config{}, users, choice{}, ipc.Settings{APIURL: "wss://users", AuthURL: "https://users", LogFilter: "warn", CheckForUpdates: true, ConnectOnStart: new(false)}},
		{"policy", Config{}, users, policy, ipc.Settings{
			APIURL: "wss://policy", AuthURL: "https://users", LogFilter: "error", AccountSlug: "acme", SupportURL: "https://help", HideAdminPortal: true, ConnectOnStart: new(true),
			Managed: []string{"account_slug", "api_url", "check_for_updates", "connect_on_start", "hide_admin_portal", "log_filter", "support_url"},
		}},
		{"command line", line, users, choice{APIURL: "wss://policy"}, ipc.Settings{
			APIURL: "wss://line", AuthURL: "https://line", LogFilter: "debug", CheckForUpdates: true, ConnectOnStart: new(false), Managed: []string{"api_url", "auth_url", "log_filter"},
		}},
	} {
		if got := row.c.settings(row.w, row.policy); !reflect.DeepEqual(got, row.want) {
			t.Errorf("%s: %+v, want %+v", row.name, got, row.want)
		}
	}
}

func TestPolicyValues(t *testing.T) {
	got, unusable := parsePolicy(map[string]any{
		"apiURL": "wss://portal.example", "authURL": "https://portal.example", "logFilter": "debug", "accountSlug": "acme", "supportURL": "https://help.example/stile",
		"hideAdminPortalMenuItem": 1.0, "connectOnStart": false, "checkForUpdates": uint64(0),
	})
	want := choice{"wss://portal.example", "https://portal.example", "debug", "acme", "https://help.example/stile", new(true), new(false), new(false)}
	if !reflect.DeepEqual(got, want) || len(unusable) > 0 {
		t.Errorf("%+v, %q", got, unusable)
	}
	got, unusable = parsePolicy(map[string]any{
		"apiURL": "http://portal.example", "authURL": 7.0, "logFilter": "loud", "accountSlug": "../x", "supportURL": "javascript:alert(1)",
		"hideAdminPortalMenuItem": 2.0, "connectOnStart": "yes", "checkForUpdates": []any{}, "apiurl": "wss://portal.example",
	})
	if got != (choice{}) || len(unusable) != 9 || !slices.IsSorted(unusable) {
		t.Errorf("%+v, %q", got, unusable)
	}
	if got, unusable := parsePolicy(map[string]any{"apiURL": "", "logFilter": nil, "connectOnStart": nil}); got != (choice{}) || len(unusable) > 0 {
		t.Errorf("%+v, %q", got, unusable)
	}
}

func FuzzPolicy(f *testing.F) {
	f.Add("apiURL", "wss://portal.example", 0.0)
	f.Add("logFilter", "info,tunnel=off", 1.0)
	f.Add("supportURL", "https://[::1%25a]/", 2.0)
	f.Fuzz(func(t *testing.T, key, text string, n float64) {
		for _, v := range []any{text, n, text != "", nil} {
			p, unusable := parsePolicy(map[string]any{key: v})
			if len(unusable) > 0 && p != (choice{}) {
				t.Errorf("%q, %+v", unusable, p)
			}
			w := wish{APIURL: p.APIURL, AuthURL: p.AuthURL, LogFilter: p.LogFilter} // as a user's
			if s := (settings{Version: 1, APIURL: w.APIURL, AuthURL: w.AuthURL, LogFilter: w.LogFilter}); !s.usable() {
				t.Errorf("%+v would not be read again", s)
			}
		}
	})
}

func TestApplySettings(t *testing.T) {
	log := usualAs("")
	run(t, Config{Logs: log}, wish{APIURL: "wss://old.example"}, func(h *house) {
		h.command(ipc.ApplySettings{APIURL: "wss://new.example", AuthURL: "https://new.example/in", LogFilter: "debug"})
		want := ipc.Settings{APIURL: "wss://new.example", AuthURL: "https://new.example/in", LogFilter: "debug", CheckForUpdates: true, ConnectOnStart: new(true)}
		if got := h.State(); !reflect.DeepEqual(got.Settings, want) || got.Session.Portal != want.APIURL || got.Session.AuthURL != want.AuthURL {
			t.Errorf("%+v", got)
		}
		if log.Filter() != "debug" {
			t.Errorf("the log filter is %q", log.Filter())
		}
		if again := h.loadWish(); again.APIURL != want.APIURL || again.AuthURL != want.AuthURL || again.LogFilter != "debug" {
			t.Errorf("after a restart: %+v", again)
		}
		// A filter for a while ends in the one that was chosen.
		h.command(ipc.SetLogFilter{Filter: "trace", For: time.Minute})
		time.Sleep(2 * time.Minute)
		if log.Filter() != "debug" {
			t.Errorf("after a while the log filter is %q", log.Filter())
		}
		h.command(ipc.ApplySettings{})
		if got := h.State(); got.Settings.APIURL != "" || got.Settings.LogFilter != "info" || log.Filter() != "info" || got.Session.Problem.Code != ipc.PortalUnknown {
			t.Errorf("%+v", got)
		}
	})
}

// What cannot be used changes nothing, in memory and on disk.
func TestUnusableSettingsAreRefused(t *testing.T) {
	log := usualAs("")
	run(t, Config{Logs: log}, wish{APIURL: "wss://old.example"}, func(h *house) {
		h.command(ipc.ApplySettings{APIURL: "wss://new.example", LogFilter: "warn"})
		before, _ := os.ReadFile(filepath.Join(h.StateDir, settingsFile))
		if code := h.refusal(link.Caller{}, ipc.ApplySettings{APIURL: "wss://evil.example", LogFilter: "loud"}); code != ipc.InvalidArgument {
			t.Error(code)
		}
		after, _ := os.ReadFile(filepath.Join(h.StateDir, settingsFile))
		if s := h.State().Settings; s.APIURL != "wss://new.example" || log.Filter() != "warn" || string(before) != string(after) || len(before) == 0 {
			t.Errorf("%+v, %s", s, after)
		}
		h.StateDir = filepath.Join(h.StateDir, settingsFile) // a disk that takes nothing
		if code := h.refusal(link.Caller{}, ipc.ApplySettings{APIURL: "wss://lost.example"}); code == "" {
			t.Error("accepted what is not kept")
		}
		if s := h.State().Settings; s.APIURL != "wss://new.example" {
			t.Errorf("%+v", s)
		}
	})
}

func TestManagedSettingsAreLocked(t *testing.T) {
	var values atomic.Value
	values.Store(map[string]any{"apiURL": "wss://policy.example", "connectOnStart": true})
	c := Config{LogFilter: "warn", Logs: usualAs("warn"), Policy: func() (map[string]any, error) { return values.Load().(map[string]any), nil }}
	run(t, c, wish{}, func(h *house) {
		if s := h.State(); s.Settings.APIURL != "wss://policy.example" || s.Session.Portal != "wss://policy.example" || !slices.Equal(s.Settings.Managed, []string{"api_url", "connect_on_start", "log_filter"}) {
			t.Errorf("%+v", s)
		}
		for _, c := range []ipc.Command{ipc.ApplySettings{APIURL: "wss://mine.example"}, ipc.ApplySettings{LogFilter: "debug"}, ipc.SetConnectOnStart{}} {
			if code := h.refusal(link.Caller{}, c); code != ipc.SettingManaged {
				t.Errorf("%+v: %q", c, code)
			}
		}
		// What is managed may be sent along with what is not.
		h.command(ipc.ApplySettings{APIURL: "wss://policy.example", AuthURL: "https://mine.example", LogFilter: "warn"})
		h.command(ipc.SetConnectOnStart{On: true})
		if again := h.loadWish(); again.AuthURL != "https://mine.example" || again.APIURL != "" || again.LogFilter != "" {
			t.Errorf("%+v", again)
		}

		// Another policy counts soon, and none gives back what users chose.
		values.Store(map[string]any{"authURL": "https://policy.example", "apiURL": "nonsense"})
		time.Sleep(policyPoll + time.Second)
		synctest.Wait()
		if s := h.State().Settings; s.APIURL != "" || s.AuthURL != "https://policy.example" || !slices.Equal(s.Managed, []string{"auth_url", "log_filter"}) {
			t.Errorf("%+v", s)
		}
		values.Store(map[string]any{})
		time.Sleep(policyPoll + time.Second)
		synctest.Wait()
		if s := h.State().Settings; s.AuthURL != "https://mine.example" {
			t.Errorf("%+v", s)
		}
	})
}

// A policy's log filter counts from the start (spec desktop-client.md 28.3 #71).
func TestPolicyLogFilterCountsAtTheStart(t *testing.T) {
	log := usualAs("")
	run(t, Config{Logs: log, Policy: func() (map[string]any, error) { return map[string]any{"logFilter": "error"}, nil }}, wish{LogFilter: "debug"}, func(*house) {
		if log.Filter() != "error" {
			t.Errorf("the filter is %q", log.Filter())
		}
	})
}

// A token goes to no other portal than the one it is of, unless an
// administrator says so; nothing is lost meanwhile.
func TestTokensStayWithTheirPortal(t *testing.T) {
	run(t, Config{}, wish{APIURL: "wss://old.example"}, func(h *house) {
		h.command(ipc.SignIn{Token: "abc"})
		h.tell(event{portal: true, up: true})
		h.tell(event{configured: true})
		h.command(ipc.ApplySettings{APIURL: "wss://new.example"})
		h.wants(ipc.Connected, "") // nobody is signed out
		if s := h.State().Session; s.Portal != "wss://old.example" || s.AuthURL != "https://new.example" {
			t.Errorf("%+v", s)
		}
		if h.loadWish().Portal != "wss://old.example" {
			t.Errorf("%+v", h.loadWish())
		}
		h.end(errors.New("the tunnel broke"))
		time.Sleep(2 * maxPause)
		h.wants(ipc.SignedOut, ipc.PortalChanged)
		if h.session() != nil {
			t.Fatal("the token was taken to another portal")
		}
		if code := h.refusal(link.Caller{}, ipc.Connect{}); code != ipc.PortalChanged {
			t.Error(code)
		}
		h.command(ipc.ApplySettings{APIURL: "wss://old.example:443/"})
		h.wants(ipc.Connecting, "")
		h.command(ipc.ApplySettings{APIURL: "wss://new.example"}) // it was not let in yet: no reason to go on
		h.wants(ipc.Ending, "")
		h.end(nil)
		h.wants(ipc.SignedOut, ipc.PortalChanged)
		h.command(ipc.SignIn{Token: "def"})
		h.wants(ipc.Connecting, "")
		if s := h.session(); s.portal != "wss://new.example" || s.wish.Token.Reveal() != "def" {
			t.Errorf("%s", s.portal)
		}
	})
	c := Config{Policy: func() (map[string]any, error) { return map[string]any{"apiURL": "wss://new.example"}, nil }}
	run(t, c, wish{Token: "abc", Source: ipc.TokenFromSignIn, Portal: "wss://old.example"}, func(h *house) {
		h.wants(ipc.Connecting, "")
	})
}

func TestConnectOnStart(t *testing.T) {
	in := wish{Token: "abc", Source: ipc.TokenFromSignIn, Actor: "Alice"}
	manual, managed := in, in
	manual.Manual, managed.Manual, managed.Source = true, true, ipc.TokenFromFile
	for _, command := range []ipc.Command{ipc.Connect{}, ipc.SignIn{Token: "def"}} {
		run(t, Config{}, manual, func(h *house) {
			time.Sleep(time.Hour)
			h.wants(ipc.SignedOut, "")
			if s := h.State(); s.Session.Token != ipc.TokenFromSignIn || s.Session.Actor != "Alice" || *s.Settings.ConnectOnStart {
				t.Errorf("%+v", s)
			}
			h.command(command)
			h.wants(ipc.Connecting, "")
		})
	}
	run(t, Config{}, in, func(h *house) {
		h.wants(ipc.Connecting, "")
		h.command(ipc.SetConnectOnStart{On: false})
		h.wants(ipc.Connecting, "") // it is about the next start
		if !h.loadWish().Manual || *h.State().Settings.ConnectOnStart {
			t.Error("not kept")
		}
		h.command(ipc.SetConnectOnStart{On: true})
		if h.loadWish().Manual {
			t.Error("not kept")
		}
	})
	run(t, Config{}, managed, func(h *house) { h.wants(ipc.Connecting, "") }) // a headless client has nobody to say so
	run(t, Config{}, wish{}, func(h *house) {
		if code := h.refusal(link.Caller{}, ipc.Connect{}); code != ipc.TokenRejected {
			t.Error(code)
		}
	})
}

func TestSettingsBelongToWhoIsSignedIn(t *testing.T) {
	run(t, Config{}, wish{Token: "abc", Source: ipc.TokenFromSignIn, Holder: "60001", APIURL: "wss://a.example"}, func(h *house) {
		for _, c := range []ipc.Command{ipc.ApplySettings{APIURL: "wss://b.example"}, ipc.SetConnectOnStart{}, ipc.Connect{}} {
			if code := h.refusal(link.Caller{UID: 60002}, c); code != ipc.HeldByOther {
				t.Errorf("%T: %q", c, code)
			}
			if code := h.refusal(link.Caller{UID: 60001}, c); code != "" && code != ipc.PortalChanged {
				t.Errorf("%T by the holder: %q", c, code)
			}
		}
	})
}

// A file that this version cannot have written is kept aside, and the defaults
// apply.
func TestUnusableSettingsFileIsKeptAside(t *testing.T) {
	for _, text := range []string{`{"version":1,"api_url":"ws://portal.example"}`, `{"version":1,"auth_url":"http://x"}`, `{"version":1,"log_filter":"loud"}`, `{"version":9}`, `{`} {
		c := Config{StateDir: t.TempDir(), Log: quiet}
		path := filepath.Join(c.StateDir, settingsFile)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := c.loadWish(); got != (wish{}) {
			t.Errorf("%s: %+v", text, got)
		}
		if kept, err := os.ReadFile(path + ".bad"); err != nil || string(kept) != text {
			t.Errorf("%s was lost: %v", text, err)
		}
	}
}

func TestAnAdministratorsTokenNeedsAPortal(t *testing.T) {
	policy := func() (map[string]any, error) { return map[string]any{"apiURL": "wss://portal.example"}, nil }
	for _, row := range []struct {
		c    Config
		good bool
	}{
		{Config{}, true}, {Config{Token: "abc"}, false}, {Config{Token: "abc", Portal: dial.Config{URL: "wss://portal.example"}}, true}, {Config{Token: "abc", Policy: policy}, true},
	} {
		row.c.StateDir, row.c.Log = t.TempDir(), quiet
		row.c.saveSettings(wish{APIURL: "wss://users.example"}) // whoever may say so, is not asked
		if err := row.c.CheckPortal(); (err == nil) != row.good || err != nil && !strings.Contains(err.Error(), "which portal?") {
			t.Errorf("%+v: %v", row.c.Token != "", err)
		}
	}
}

// Whoever may change the portal must not have the service send it a token that
// is of another: not one that a user has signed in for meanwhile, or that comes
// back from the user's own store, nor an administrator's.
func TestNobodyLeadsATokenToAnotherPortal(t *testing.T) {
	for _, in := range []ipc.SignIn{{Token: "abc"}, {Token: "abc", KeptSince: 1 << 50, Back: true}} {
		run(t, Config{}, wish{APIURL: "wss://old.example"}, func(h *house) {
			in.Portal = "wss://old.example" // where the user went to
			h.command(ipc.ApplySettings{APIURL: "wss://evil.example"})
			if code := h.refusal(link.Caller{UID: 60001}, in); code != ipc.PortalChanged || h.session() != nil || h.loadWish().Token != "" {
				t.Errorf("%+v: %q", in, code)
			}
			in.Portal = "wss://evil.example:443/"
			h.command(in)
			h.wants(ipc.Connecting, "")
		})
	}
	run(t, Config{StateDir: t.TempDir()}, wish{Token: "abc", Source: ipc.TokenFromFile, APIURL: "wss://users.example"}, func(h *house) {
		h.wants(ipc.SignedOut, ipc.PortalUnknown)
		if h.session() != nil {
			t.Error("an administrator's token was taken where a user said")
		}
	})
	// A sign-in of a version that did not note its portal is of the one that was set
	// when that was first noted.
	c := Config{StateDir: t.TempDir(), Log: quiet}
	run(t, c, wish{Token: "abc", Source: ipc.TokenFromSignIn, APIURL: "wss://old.example"}, func(h *house) {
		h.wants(ipc.Connecting, "")
		h.command(ipc.ApplySettings{APIURL: "wss://evil.example"})
		h.wants(ipc.Ending, "")
		h.end(nil)
		h.wants(ipc.SignedOut, ipc.PortalChanged)
		if got := c.loadWish().Portal; got != "wss://old.example" {
			t.Errorf("after a restart, it is of %q", got)
		}
	})
}

// refusal is what the service says to a command; "": it was obeyed.
func (h *house) refusal(from link.Caller, c ipc.Command) ipc.Code {
	err := h.Handle(h.t.Context(), from, c)
	synctest.Wait()
	if problem, is := errors.AsType[*ipc.Problem](err); is {
		return problem.Code
	}
	if err != nil {
		return ipc.Internal
	}
	return ""
}

// usualLogs are logs of which only the filter is there.
type usualLogs struct {
	Logs
	mu            sync.Mutex // guards the rest
	usual, filter string
}

func usualAs(filter string) *usualLogs { return &usualLogs{usual: filter, filter: filter} }

func (l *usualLogs) Dir() string  { return "" }
func (l *usualLogs) Clear() error { return nil }

func (l *usualLogs) Filter() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.filter
}

func (l *usualLogs) SetFilter(text string, d time.Duration) error {
	if _, err := logs.ParseFilter(text); err != nil {
		return err
	}
	if d > 0 {
		time.AfterFunc(d, func() { l.set(func() { l.filter = l.usual }) })
	}
	l.set(func() { l.filter = text })
	return nil
}

func (l *usualLogs) SetUsual(text string) error {
	l.set(func() { l.usual = text })
	return l.SetFilter(text, 0)
}

func (l *usualLogs) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}
