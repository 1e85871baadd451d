package words

import (
	"maps"

	"stile/tunnel/ipc"
)

// services are what the service's notices say, by language. What it says in
// English comes with them.
var services = map[string]map[ipc.Notice]string{"de": germanService}

// Problem is what the service says. A notice that a language does not know, as
// of a newer service, is said in English, and so is what an older one says. nil
// is nothing.
func (w *Words) Problem(p *ipc.Problem) string {
	if p == nil {
		return ""
	}
	with := maps.Clone(p.With)
	for name, value := range with {
		if said := w.place(name, value); said != "" {
			with[name] = said
		}
	}
	if text, ok := ipc.Fill(services[w.Tag][p.Say], with); ok {
		return text
	}
	return p.Text
}

// place is what fills a place whose values are words of the program; "": the
// value does.
func (w *Words) place(name, value string) string {
	t := w.Console()
	switch name {
	case "setting":
		return map[string]string{
			ipc.SettingAPIURL: t.APIURL, ipc.SettingAuthURL: t.AuthURL, ipc.SettingLogFilter: t.LogFilter, ipc.SettingAccountSlug: t.Slug,
			ipc.SettingSupportURL: t.PolicySupport, ipc.SettingHideAdminPortal: t.PolicyAdminPortal, ipc.SettingCheckForUpdates: t.PolicyUpdates,
			ipc.SettingConnectOnStart: t.ConnectOnStart,
		}[value]
	case "source":
		return map[string]string{string(ipc.TokenFromFile): w.FromFile, string(ipc.TokenFromEnvironment): w.FromEnviron}[value]
	}
	return ""
}
