package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"stile/tunnel/ipc"
)

type settingsCommand struct {
	Show  showSettingsCommand `cmd:"" default:"withargs" help:"Show what is in effect, and what your administrator decided."`
	Set   setSettingCommand   `cmd:"" help:"Change one setting."`
	Reset resetSettingCommand `cmd:"" help:"Put one setting, or all, back to the default."`
}

// A setting is one that users may choose.
type setting struct {
	name string
	help string
	get  func(s *ipc.Settings) string
	// change makes the command that sets it, and leaves the others as they are.
	change func(s *ipc.Settings, value string) (ipc.Command, error)
}

var settings = []setting{
	{ipc.SettingAPIURL, "where the portal is; counts with the next connection", func(s *ipc.Settings) string { return s.APIURL },
		func(s *ipc.Settings, v string) (ipc.Command, error) {
			return ipc.ApplySettings{APIURL: v, AuthURL: s.AuthURL, LogFilter: s.LogFilter}, nil
		}},
	{ipc.SettingAuthURL, "where you sign in, if not at the portal; counts with the next sign-in", func(s *ipc.Settings) string { return s.AuthURL },
		func(s *ipc.Settings, v string) (ipc.Command, error) {
			return ipc.ApplySettings{APIURL: s.APIURL, AuthURL: v, LogFilter: s.LogFilter}, nil
		}},
	{ipc.SettingLogFilter, "what is logged; counts at once", func(s *ipc.Settings) string { return s.LogFilter },
		func(s *ipc.Settings, v string) (ipc.Command, error) {
			return ipc.ApplySettings{APIURL: s.APIURL, AuthURL: s.AuthURL, LogFilter: v}, nil
		}},
	{ipc.SettingConnectOnStart, "connect by itself when the service starts", func(s *ipc.Settings) string { return yesNo(s.ConnectOnStart == nil || *s.ConnectOnStart) },
		func(_ *ipc.Settings, v string) (ipc.Command, error) {
			switch strings.ToLower(v) {
			case "true", "yes", "on", "1", "":
				return ipc.SetConnectOnStart{On: true}, nil
			case "false", "no", "off", "0":
				return ipc.SetConnectOnStart{On: false}, nil
			}
			return nil, advice(fmt.Sprintf("%q is neither true nor false.", v))
		}},
}

// decided are those that only administrators choose.
var decided = []setting{
	{name: ipc.SettingAccountSlug, get: func(s *ipc.Settings) string { return s.AccountSlug }},
	{name: ipc.SettingSupportURL, get: func(s *ipc.Settings) string { return s.SupportURL }},
	{name: ipc.SettingHideAdminPortal, get: func(s *ipc.Settings) string { return yesNo(s.HideAdminPortal) }},
	{name: ipc.SettingCheckForUpdates, get: func(s *ipc.Settings) string { return yesNo(s.CheckForUpdates) }},
}

func yesNo(is bool) string { return fmt.Sprint(is) }

// find looks a setting up by its name, in the forms that people write.
func find(name string) (setting, error) {
	normal := strings.ReplaceAll(strings.ToLower(name), "-", "_")
	var names []string
	for _, s := range settings {
		if s.name == normal {
			return s, nil
		}
		names = append(names, s.name)
	}
	for _, s := range decided {
		if s.name == normal {
			return s, advice(fmt.Sprintf("%s is for the administrator of this machine to set.", normal))
		}
	}
	return setting{}, advice(fmt.Sprintf("There is no setting %q. There are: %s.", clean(name), strings.Join(names, ", ")))
}

type showSettingsCommand struct {
	JSON bool `name:"json" help:"Print them as JSON, for programs."`
}

// Run prints the settings.
func (c showSettingsCommand) Run(ctx context.Context, p *program) error {
	l, s, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	if c.JSON {
		if s.Settings.Managed == nil {
			s.Settings.Managed = []string{}
		}
		return writeJSON(p.out, s.Settings, "  ")
	}
	var rows [][]string
	for _, one := range slices.Concat(settings, decided) {
		value, note := one.get(&s.Settings), ""
		managed := slices.Contains(s.Settings.Managed, one.name)
		if managed {
			note = "managed by your organisation"
		}
		if one.change == nil && !managed {
			continue // a default that nobody here can change
		}
		if value == "" {
			value = "-"
		}
		rows = append(rows, []string{one.name, clean(value), note})
	}
	table(p.out, "", rows)
	return nil
}

type setSettingCommand struct {
	Key   string `arg:"" help:"api_url, auth_url, log_filter or connect_on_start."`
	Value string `arg:"" help:"Its new value."`
}

// Run changes one setting.
func (c setSettingCommand) Run(ctx context.Context, p *program) error {
	return p.change(ctx, c.Key, c.Value)
}

type resetSettingCommand struct {
	Key string `arg:"" optional:"" help:"Which one (default: all)."`
}

// Run puts settings back.
func (c resetSettingCommand) Run(ctx context.Context, p *program) error {
	if c.Key != "" {
		return p.change(ctx, c.Key, "")
	}
	l, s, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := l.Do(ctx, ipc.ApplySettings{}); err != nil {
		return err
	}
	if !slices.Contains(s.Settings.Managed, ipc.SettingConnectOnStart) {
		if err := l.Do(ctx, ipc.SetConnectOnStart{On: true}); err != nil {
			return err
		}
	}
	fmt.Fprintln(p.out, "All settings are the default ones, but for those that your administrator decided.")
	return nil
}

// change sets one setting; "" is the default.
func (p *program) change(ctx context.Context, key, value string) error {
	one, err := find(key)
	if err != nil {
		return err
	}
	l, s, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	if slices.Contains(s.Settings.Managed, one.name) && value != one.get(&s.Settings) {
		return ipc.SaySettingManaged.With("setting", one.name)
	}
	command, err := one.change(&s.Settings, value)
	if err != nil {
		return err
	}
	if err := l.Do(ctx, command); err != nil {
		return err
	}
	after, err := l.Next(ctx)
	if err != nil {
		return err
	}
	now := one.get(&after.Settings)
	if now == "" {
		now = "not set"
	}
	fmt.Fprintf(p.out, "%s: %s\n", one.name, clean(now))
	if signedIn := after.Session.Phase != ipc.SignedOut; one.name == ipc.SettingAPIURL && signedIn && after.Session.Portal != after.Settings.APIURL {
		fmt.Fprintln(p.out, "Your connection stays with the portal you signed in at. To change over: stile sign-in")
	}
	return nil
}

type connectCommand struct{}

// Run connects with the sign-in that is there.
func (c connectCommand) Run(ctx context.Context, p *program) error {
	l, _, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := l.Do(ctx, ipc.Connect{}); err != nil {
		return err
	}
	s, err := l.Next(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(p.out, headline(s.Session, p.now()))
	return nil
}
