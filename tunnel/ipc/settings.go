package ipc

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// JSON names of the fields of Settings, as Settings.Managed lists them.
const (
	SettingAPIURL          = "api_url"
	SettingAuthURL         = "auth_url"
	SettingLogFilter       = "log_filter"
	SettingAccountSlug     = "account_slug"
	SettingSupportURL      = "support_url"
	SettingHideAdminPortal = "hide_admin_portal"
	SettingCheckForUpdates = "check_for_updates"
	SettingConnectOnStart  = "connect_on_start"
)

// Settings are what the service goes by, and what it tells the programs of
// users to go by: the values in effect, whoever chose them.
type Settings struct {
	APIURL    string `json:"api_url,omitzero"`  // of the portal, "wss://…"; "": none was chosen
	AuthURL   string `json:"auth_url,omitzero"` // where users sign in, "https://…"; "": at the portal
	LogFilter string `json:"log_filter"`        // what is logged, but for SetLogFilter: "info"
	// AccountSlug, if an administrator set it, is the account to sign in to.
	AccountSlug string `json:"account_slug,omitzero"`
	// SupportURL is where users of this machine get help; "": at the project's.
	SupportURL      string `json:"support_url,omitzero"`
	HideAdminPortal bool   `json:"hide_admin_portal"` // do not show the way to the portal's pages
	CheckForUpdates bool   `json:"check_for_updates"`
	// ConnectOnStart tells whether the service connects by itself when it starts
	// and somebody is signed in. A service that knows of it always says so.
	ConnectOnStart *bool `json:"connect_on_start,omitzero"`
	// Managed are the JSON names of what an administrator set, sorted. Nobody
	// else can change those.
	Managed []string `json:"managed"`
}

type (
	// ApplySettings replaces what users may choose: all of it, "" being the
	// default. What an administrator set stays as it is: "" or the value in
	// effect are accepted, any other is refused. Nobody is signed out; another
	// portal counts with the next connection, and the next sign-in.
	ApplySettings struct{ APIURL, AuthURL, LogFilter string }
	// SetConnectOnStart says whether the service shall connect by itself when it
	// starts.
	SetConnectOnStart struct{ On bool }
	// Connect connects with the token that is there, after a start without
	// connecting. Doing it twice is no error.
	Connect struct{}
)

func (ApplySettings) name() string     { return "apply-settings" }
func (SetConnectOnStart) name() string { return "set-connect-on-start" }
func (Connect) name() string           { return "connect" }

func (SetConnectOnStart) check() error { return nil }
func (Connect) check() error           { return nil }

func (c ApplySettings) check() error {
	if err := CheckAPIURL(c.APIURL); err != nil && c.APIURL != "" {
		return err
	}
	if err := CheckAuthURL(c.AuthURL); err != nil && c.AuthURL != "" {
		return err
	}
	if !isLine(c.LogFilter, 1000) {
		return NoLogFilter(c.LogFilter)
	}
	return nil
}

type applySettingsJSON struct {
	APIURL    string `json:"api_url"`
	AuthURL   string `json:"auth_url"`
	LogFilter string `json:"log_filter"`
}

// CheckAPIURL tells what is wrong with the address of a portal: what is sent
// there has to be encrypted, unless it stays on this machine (spec
// desktop-client.md 13.2).
func CheckAPIURL(s string) error {
	return checkURL(s, SettingAPIURL, "wss", "ws")
}

// CheckAuthURL does so with the address where users sign in.
func CheckAuthURL(s string) error {
	return checkURL(s, SettingAuthURL, "https", "http")
}

// CheckSupportURL does so with the page where users get help.
func CheckSupportURL(s string) error { return checkURL(s, SettingSupportURL, "https", "http") }

// checkURL wants scheme, or plain if the host is this machine. The error is a
// *Problem.
func checkURL(s, setting, scheme, plain string) error {
	wrong := func(n Notice) error {
		return n.With("setting", setting, "like", scheme+"://portal.example.com")
	}
	if s == "" || !isLine(s, 2000) || strings.ContainsAny(s, " \\\"<>") {
		return wrong(SayNoAddress)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || u.Opaque != "":
		return wrong(SayNoAddress)
	case u.User != nil:
		return wrong(SayAddressWithUser)
	case u.Fragment != "" || u.RawQuery != "":
		return wrong(SayAddressWithMore)
	case u.Scheme == scheme || u.Scheme == plain && isLoopback(u.Hostname()):
		return nil
	case u.Scheme == plain:
		return wrong(SayNotEncrypted)
	}
	return wrong(SayOtherAddress)
}

// NoLogFilter says that a text is none.
func NoLogFilter(text string) *Problem {
	return SayNoLogFilter.With("filter", fmt.Sprintf("%.80q", text))
}

// IsLoopback reports whether the host of an address is this machine.
func IsLoopback(address string) bool {
	u, err := url.Parse(address)
	return err == nil && isLoopback(u.Hostname())
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}
