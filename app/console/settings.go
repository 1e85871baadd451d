package console

import (
	"runtime"
	"slices"
	"strings"

	"stile/app/menu"
	"stile/app/words"
	"stile/build/stamp"
	"stile/platform/machine"
	"stile/tunnel/ipc"
)

// A settingsPage is what users may choose, and what they may not.
type settingsPage struct {
	sessionPart
	InternetKnown, InternetOn bool
	InternetText              string

	Slug               *input
	OnLogin, Minimized bool
	ConnectOnStart     toggle
	Languages          []option

	Advanced  []input // none: the service is away
	AllLocked bool
	Policy    facts
}

type input struct {
	ID, Title, Value, Hint string
	Locked                 bool
}

type toggle struct{ On, Locked bool }

func (p *settingsPage) fill(bool) {
	p.fillSession()
	var settings ipc.Settings
	if s := p.view.State; s != nil {
		settings = s.Settings
		p.InternetKnown, p.InternetOn = s.Internet.Available, s.Internet.On
		p.Advanced = p.advanced(&settings)
		p.AllLocked = !slices.ContainsFunc(p.Advanced, func(i input) bool { return !i.Locked })
	}
	p.InternetText = p.T.InternetOffText
	if p.InternetOn {
		p.InternetText = p.T.InternetOnText
	}
	locked := func(name string) bool { return slices.Contains(settings.Managed, name) }
	u := p.c.desk.Prefs()
	p.Slug = &input{"slug", p.T.Slug, u.AccountSlug, p.T.SlugHint, false}
	if locked(ipc.SettingAccountSlug) {
		*p.Slug = input{"slug", p.T.Slug, settings.AccountSlug, p.T.Managed, true}
	}
	p.OnLogin, p.Minimized = u.OnLogin(), u.StartMinimized
	p.ConnectOnStart = toggle{u.ConnectOnStart == nil || *u.ConnectOnStart, locked(ipc.SettingConnectOnStart)}
	if settings.ConnectOnStart != nil {
		p.ConnectOnStart.On = *settings.ConnectOnStart
	}
	p.Languages = []option{{"", p.T.LanguageAuto, "", u.Language == ""}}
	for _, tag := range words.Tags() {
		w := words.For(tag)
		p.Languages = append(p.Languages, option{tag, w.Console().Itself, tag, u.Language != "" && words.For(u.Language) == w})
	}
	if locked(ipc.SettingSupportURL) {
		p.Policy.add(p.T.PolicySupport, menu.Plain(settings.SupportURL))
	}
	if locked(ipc.SettingHideAdminPortal) && settings.HideAdminPortal {
		p.Policy.add(p.T.PolicyAdminPortal, p.T.Hidden)
	}
	if locked(ipc.SettingCheckForUpdates) {
		p.Policy.add(p.T.PolicyUpdates, map[bool]string{true: p.T.On, false: p.T.Off}[settings.CheckForUpdates])
	}
}

// advanced are the settings that belong to the service.
func (p *settingsPage) advanced(s *ipc.Settings) []input {
	list := []struct {
		name string
		input
	}{
		{ipc.SettingAuthURL, input{"auth-url", p.T.AuthURL, s.AuthURL, p.T.AuthURLHint, false}},
		{ipc.SettingAPIURL, input{"api-url", p.T.APIURL, s.APIURL, p.T.APIURLHint, false}},
		{ipc.SettingLogFilter, input{"log-filter", p.T.LogFilter, s.LogFilter, p.T.LogFilterHint, false}},
	}
	var inputs []input
	for _, i := range list {
		if slices.Contains(s.Managed, i.name) {
			i.Locked, i.Hint = true, p.T.Managed
		}
		inputs = append(inputs, i.input)
	}
	return inputs
}

// An aboutPage tells what this is made of.
type aboutPage struct {
	*frame
	Versions facts
	Update   *update
	Licences []licence
}

type update struct{ Text, URL string }

func (p *aboutPage) fill(whole bool) {
	if v := p.view.Update; v.Version != "" {
		p.Update = &update{Text: p.T.UpdateKnown(menu.Plain(v.Version))}
		if menu.IsWeb(v.URL) {
			p.Update.URL = v.URL
		}
	}
	if !whole {
		return
	}
	p.Versions.add(p.T.App, stamp.String())
	service := p.T.Unknown
	if s := p.view.State; s != nil {
		service = menu.Plain(s.Version)
	}
	p.Versions.add(p.T.Service, service)
	o := machine.Describe()
	p.Versions.add(p.T.System, menu.Plain(strings.ReplaceAll(o.Name+" "+o.Version+" ("+o.Arch+")", " unknown", "")))
	p.Versions.add(p.T.BuiltWith, runtime.Version())
	p.Licences = licences()
}
