package cli

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"stile/tunnel/ipc"
)

// keep does with settings what a service would.
func keep(f *fake, c ipc.Command) error {
	s := &f.state.Settings
	switch c := c.(type) {
	case ipc.ApplySettings:
		if slices.Contains(s.Managed, ipc.SettingAPIURL) && c.APIURL != "" && c.APIURL != s.APIURL {
			return ipc.Problemf(ipc.SettingManaged, "api_url is managed.")
		}
		s.APIURL, s.AuthURL, s.LogFilter = c.APIURL, c.AuthURL, c.LogFilter
	case ipc.SetConnectOnStart:
		s.ConnectOnStart = &c.On
	case ipc.Connect:
		f.state.Session.Phase = ipc.Connecting
	default:
		return obey(f, c)
	}
	return nil
}

func withSettings(t *testing.T, s ipc.Settings) *fake {
	f := serve(t, ipc.SignedOut)
	f.react = keep
	f.set(func(state *ipc.State) { state.Settings = s })
	return f
}

func TestSettingsAreShown(t *testing.T) {
	f := withSettings(t, ipc.Settings{APIURL: "wss://portal.example", LogFilter: "info", AccountSlug: "acme", CheckForUpdates: true, ConnectOnStart: new(false), Managed: []string{"account_slug", "api_url"}})
	for _, args := range [][]string{{"settings"}, {"settings", "show"}} {
		f.run(t, args...).want(t, done, strings.Join([]string{
			"api_url            wss://portal.example   managed by your organisation",
			"auth_url           -",
			"log_filter         info",
			"connect_on_start   false",
			"account_slug       acme                   managed by your organisation",
		}, "\n")+"\n", "")
	}
	var s ipc.Settings
	r := f.run(t, "settings", "--json")
	if err := json.Unmarshal([]byte(r.out), &s); err != nil || s.APIURL != "wss://portal.example" || s.ConnectOnStart == nil {
		t.Errorf("%s%s, %v", r.out, r.err, err)
	}
}

func TestSettingsAreSet(t *testing.T) {
	f := withSettings(t, ipc.Settings{APIURL: "wss://a.example", AuthURL: "https://a.example", LogFilter: "info"})
	f.run(t, "settings", "set", "api-url", "wss://b.example").want(t, done, "api_url: wss://b.example\n", "")
	f.run(t, "settings", "set", "log_filter", "debug").want(t, done, "log_filter: debug\n", "")
	f.run(t, "settings", "set", "connect_on_start", "no").want(t, done, "connect_on_start: false\n", "")
	f.run(t, "settings", "reset", "AUTH_URL").want(t, done, "auth_url: not set\n", "")
	f.run(t, "settings", "reset").want(t, done, "All settings", "")
	want := []ipc.Command{
		ipc.ApplySettings{APIURL: "wss://b.example", AuthURL: "https://a.example", LogFilter: "info"},
		ipc.ApplySettings{APIURL: "wss://b.example", AuthURL: "https://a.example", LogFilter: "debug"},
		ipc.SetConnectOnStart{},
		ipc.ApplySettings{APIURL: "wss://b.example", LogFilter: "debug"},
		ipc.ApplySettings{}, ipc.SetConnectOnStart{On: true},
	}
	if got := f.told(); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	for _, row := range []struct{ key, value, err string }{
		{"colour", "red", "There are: api_url, auth_url, log_filter, connect_on_start."},
		{"account_slug", "acme", "for the administrator"},
		{"api_url", "ws://b.example", "not encrypted; write it like wss://"},
		{"auth_url", "portal", "write it like https://"},
		{"connect_on_start", "perhaps", "neither true nor false"},
	} {
		f.run(t, "settings", "set", row.key, row.value).want(t, failed, "", row.err)
	}
	if n := len(f.told()); n != len(want) {
		t.Errorf("%d commands more", n-len(want))
	}
}

func TestManagedSettingsStay(t *testing.T) {
	f := withSettings(t, ipc.Settings{APIURL: "wss://a.example", LogFilter: "info", Managed: []string{"api_url", "connect_on_start"}})
	f.run(t, "settings", "set", "api_url", "wss://b.example").want(t, failed, "", "set by the administrator")
	f.run(t, "settings", "reset", "api_url").want(t, failed, "", "set by the administrator")
	f.run(t, "settings", "set", "log_filter", "debug").want(t, done, "log_filter: debug", "")
	f.run(t, "settings", "reset").want(t, done, "but for those", "")
}

func TestConnectAfterAStartWithout(t *testing.T) {
	f := withSettings(t, ipc.Settings{})
	f.set(func(s *ipc.State) { s.Session.Token, s.Session.Actor = ipc.TokenFromSignIn, "Alice" })
	f.run(t, "status").want(t, done, "Not connected; signed in as Alice.\nConnect with: stile connect\n", "")
	f.run(t, "connect").want(t, done, "Connecting to the portal as Alice", "")
}

// Who is told that another user is signed in need not go to a browser first.
func TestAnotherUsersSessionIsSaidBeforeSigningIn(t *testing.T) {
	f := withSettings(t, ipc.Settings{})
	f.set(func(s *ipc.State) { *s = ipc.State{Session: ipc.Session{Holder: "alice"}}.ForOthers() })
	for _, args := range [][]string{{"sign-in"}, {"resources"}} {
		f.run(t, args...).want(t, failed, "", "alice is signed in to Stile on this machine.")
	}
	f.run(t, "status").want(t, done, "alice is signed in to Stile on this machine.", "")
	if n := len(f.told()); n > 0 {
		t.Errorf("%d commands were given", n)
	}
}
