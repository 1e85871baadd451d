package daemon

import (
	"cmp"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"stile/platform/logs"
	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
	"stile/tunnel/phoenix/dial"
)

// policyPoll is how often the administrators' policy is read again.
const policyPoll = 5 * time.Second

// A choice is what somebody says the settings shall be; "" and nil: nothing.
type choice struct {
	APIURL, AuthURL, LogFilter, AccountSlug, SupportURL string
	HideAdminPortal, ConnectOnStart, CheckForUpdates    *bool
}

// options are the administrator's words on the command line of the service.
func (c *Config) options() choice {
	return choice{APIURL: c.Portal.URL, AuthURL: c.AuthURL, LogFilter: c.LogFilter}
}

// settings puts together what is in effect: the command line, then the policy,
// then what users chose, then the defaults. The first two are the
// administrators' (spec desktop-client.md 13.2, 14).
func (c *Config) settings(w wish, policy choice) ipc.Settings {
	s := ipc.Settings{LogFilter: "info", CheckForUpdates: true, ConnectOnStart: new(true)}
	for _, layer := range []struct {
		choice
		managed bool
	}{{w.chosen(), false}, {policy, true}, {c.options(), true}} {
		managed := func(name string) {
			if layer.managed && !slices.Contains(s.Managed, name) {
				s.Managed = append(s.Managed, name)
			}
		}
		text := func(name, value string, into *string) {
			if value != "" {
				*into = value
				managed(name)
			}
		}
		text(ipc.SettingAPIURL, layer.APIURL, &s.APIURL)
		text(ipc.SettingAuthURL, layer.AuthURL, &s.AuthURL)
		text(ipc.SettingLogFilter, layer.LogFilter, &s.LogFilter)
		text(ipc.SettingAccountSlug, layer.AccountSlug, &s.AccountSlug)
		text(ipc.SettingSupportURL, layer.SupportURL, &s.SupportURL)
		toggle := func(name string, value, into *bool) {
			if value != nil {
				*into = *value
				managed(name)
			}
		}
		toggle(ipc.SettingHideAdminPortal, layer.HideAdminPortal, &s.HideAdminPortal)
		toggle(ipc.SettingConnectOnStart, layer.ConnectOnStart, s.ConnectOnStart)
		toggle(ipc.SettingCheckForUpdates, layer.CheckForUpdates, &s.CheckForUpdates)
	}
	slices.Sort(s.Managed)
	return s
}

// CheckPortal tells whether an administrator's token has a portal to go to,
// which only an administrator can name. Without such a token, users may.
func (c *Config) CheckPortal() error {
	if c.Token == "" || c.Portal.URL != "" {
		return nil
	}
	d := &daemon{Config: *c}
	if d.settings(wish{}, d.readPolicy()).APIURL != "" {
		return nil
	}
	return dial.CheckURL("", false)
}

// chosen is what users chose.
func (w wish) chosen() choice {
	c := choice{APIURL: w.APIURL, AuthURL: w.AuthURL, LogFilter: w.LogFilter}
	if w.Manual {
		c.ConnectOnStart = new(false)
	}
	return c
}

// apply takes over what a user chose, unless an administrator did.
func (d *daemon) apply(w wish, c ipc.ApplySettings) (wish, error) {
	s := d.settings(w, d.seen().policy)
	for _, field := range []struct {
		name, wanted, inEffect string
		into                   *string
	}{
		{ipc.SettingAPIURL, c.APIURL, s.APIURL, &w.APIURL},
		{ipc.SettingAuthURL, c.AuthURL, s.AuthURL, &w.AuthURL},
		{ipc.SettingLogFilter, c.LogFilter, s.LogFilter, &w.LogFilter},
	} {
		switch managed := slices.Contains(s.Managed, field.name); {
		case !managed:
			*field.into = field.wanted
		case field.wanted != "" && field.wanted != field.inEffect:
			return w, lockedSetting(field.name)
		}
	}
	if _, err := logs.ParseFilter(w.LogFilter); err != nil {
		return w, ipc.NoLogFilter(w.LogFilter)
	}
	d.Log.Info("the settings were changed", "api_url", w.APIURL, "auth_url", w.AuthURL, "log_filter", w.LogFilter)
	return w, d.saveSettings(w)
}

func (d *daemon) setConnectOnStart(w wish, on bool) (wish, error) {
	if s := d.settings(w, d.seen().policy); slices.Contains(s.Managed, ipc.SettingConnectOnStart) && *s.ConnectOnStart != on {
		return w, lockedSetting(ipc.SettingConnectOnStart)
	}
	w.Manual = !on
	return w, d.saveSettings(w)
}

func lockedSetting(name string) error {
	return ipc.SaySettingManaged.With("setting", name)
}

// logAs makes the log filter in effect that of the settings. One that was set
// for a while stays until the settings say something else.
func (d *daemon) logAs(s ipc.Settings) {
	if d.Logs == nil || s.LogFilter == d.filter {
		return
	}
	d.filter = s.LogFilter
	if err := d.Logs.SetUsual(s.LogFilter); err != nil {
		d.Log.Warn("the log filter is not used", "error", err)
	}
}

// obstacle tells why a token is not used. A token is a secret between a user
// and one portal: another portal, unless an administrator named it, does not
// get to see it. An administrator's token goes where an administrator said.
func (w wish) obstacle(s ipc.Settings) (blocked bool, why *ipc.Problem) {
	switch {
	case w.Source.Managed() && !slices.Contains(s.Managed, ipc.SettingAPIURL):
		return true, ipc.SayPortalUnknownForToken.With()
	case s.APIURL == "":
		return true, ipc.SayPortalUnknown.With()
	case w.Token == "":
		return true, nil
	case w.Portal != "" && !samePortal(w.Portal, s.APIURL) && !slices.Contains(s.Managed, ipc.SettingAPIURL):
		return true, ipc.SayPortalChanged.With("portal", w.Portal, "set", s.APIURL)
	}
	return w.Paused, nil
}

// samePortal compares who two addresses are of.
func samePortal(a, b string) bool {
	return a == b || origin(a) != "" && origin(a) == origin(b)
}

func origin(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return ""
	}
	plain := u.Scheme == "ws" || u.Scheme == "http"
	return strings.ToLower(u.Hostname()) + ":" + cmp.Or(u.Port(), map[bool]string{true: "80", false: "443"}[plain]) + fmt.Sprint(plain)
}

// forPeople turns the address of a portal for programs into that of its pages.
func forPeople(api string) string {
	if rest, is := strings.CutPrefix(api, "ws"); is {
		return "http" + rest
	}
	return api
}

// readPolicy reads what the administrators of the fleet have set. What cannot
// be used counts as not set, and is logged when it changes.
func (d *daemon) readPolicy() choice {
	if d.Policy == nil {
		return choice{}
	}
	values, err := d.Policy()
	policy, unusable := parsePolicy(values)
	if err != nil {
		unusable = append(unusable, err.Error())
	}
	if !slices.Equal(unusable, d.unusable) {
		for _, text := range unusable {
			d.Log.Warn("a part of the managed policy does not count", "reason", text)
		}
		d.unusable = unusable
	}
	return policy
}

// notePolicy takes a changed policy into account.
func (d *daemon) notePolicy(w wish) {
	policy := d.readPolicy()
	if reflect.DeepEqual(policy, d.seen().policy) {
		return
	}
	d.show(func(v *view) { v.policy = policy })
	s := d.settings(w, policy)
	d.Log.Info("the managed policy changed", "managed", s.Managed)
	d.logAs(s)
}

// seen returns what watchers may know.
func (d *daemon) seen() view {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.view
}

var (
	_ link.Service  = (*daemon)(nil)
	_ link.Discreet = (*daemon)(nil)
)
