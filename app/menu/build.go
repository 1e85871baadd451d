package menu

import (
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"stile/app/words"
	"stile/tunnel/ipc"
)

// maxTitle is the length of a title in characters; desktops cut longer ones at
// the edge of the screen.
const maxTitle = 60

// Build returns the menu for a view. v.Words must be set.
func Build(v View) Menu {
	b := builder{View: v, w: v.Words}
	if v.Service != Present {
		b.State = nil
	}
	shape := b.head()
	b.foot()
	return Menu{Icon: Icon{shape, v.Update.Version != ""}, Tooltip: "Stile", Items: b.items}
}

// A builder collects the items of one menu.
type builder struct {
	View
	w     *words.Words
	items []Item
}

func (b *builder) text(key, title string) {
	b.items = append(b.items, Item{Key: key, Kind: Text, Title: line(title)})
}

func (b *builder) action(key, title string, c Command) {
	b.items = append(b.items, Item{Key: key, Kind: Action, Title: line(title), Command: c})
}

func (b *builder) separator(key string) {
	b.items = append(b.items, Item{Key: key, Kind: Separator})
}

// head adds what the state of the session asks for, and returns the icon.
func (b *builder) head() Shape {
	switch {
	case b.Quitting:
		b.text("quitting", b.w.Quitting)
		return Busy
	case b.Service != Present:
		return b.noService()
	case b.State == nil:
		b.text("looking", b.w.Looking)
		return Busy
	}
	s := &b.State.Session
	// A sign-in beside a session leaves the session as it is until it succeeds.
	if b.Browser {
		b.text("waiting", b.w.WaitingBrowser)
		b.action("cancel", b.w.CancelSignIn, CancelSignIn{})
	}
	switch s.Phase {
	case ipc.Connected:
		return b.connected(s)
	case ipc.Connecting, ipc.Raising:
		return b.connecting(s)
	case ipc.Ending:
		b.text("ending", b.w.Ending)
		return Busy
	}
	return b.signedOut(s)
}

func (b *builder) noService() Shape {
	switch b.Service {
	case Looking:
		b.text("looking", b.w.Looking)
		return Busy
	case Lost:
		b.text("lost", b.w.ServiceLost)
		return Busy
	case Outdated:
		b.text("outdated", b.w.AppOutdated)
		b.action("restart", b.w.RestartApp, Restart{})
	case Denied:
		b.text("denied", b.w.ServiceDenied)
		b.action("details", b.w.MoreDetails, Show{DiagnosticsPage})
	case Silent:
		b.text("silent", b.w.ServiceSilent)
		b.action("details", b.w.MoreDetails, Show{DiagnosticsPage})
	default:
		b.text("missing", b.w.ServiceMissing)
		b.action("details", b.w.MoreDetails, Show{DiagnosticsPage})
	}
	return Trouble
}

func (b *builder) signedOut(s *ipc.Session) Shape {
	shape := Out
	switch {
	case s.Problem == nil:
	case s.Problem.Code == ipc.HeldByOther: // only they and administrators can change that
		b.text("holder", b.w.HeldBy(s.Holder))
		return Out
	default:
		b.text("problem", b.problem(s.Problem))
		shape = Trouble
	}
	switch {
	case b.Browser:
		return Busy
	case s.Problem != nil && s.Problem.Code == ipc.PortalUnknown:
		b.action("details", b.w.MoreDetails, Show{DiagnosticsPage})
	case s.Token != "" && s.Problem == nil: // the service was told to wait for a word
		b.action("connect", b.w.Connect, Connect{})
		if !s.Token.Managed() {
			b.action("sign-out", b.w.SignOut, SignOut{})
		}
	default:
		b.action("sign-in", b.w.SignIn, SignIn{})
	}
	return shape
}

func (b *builder) connecting(s *ipc.Session) Shape {
	switch {
	case s.Problem != nil:
		b.text("problem", b.problem(s.Problem))
		b.action("retry", b.w.RetryNow, Retry{})
		b.action("details", b.w.MoreDetails, Show{DiagnosticsPage})
	case s.Phase == ipc.Raising:
		b.text("raising", b.w.Raising)
	default:
		b.text("connecting", b.w.Connecting)
	}
	if !s.Token.Managed() {
		b.action("cancel-connect", b.w.CancelSignIn, SignOut{})
	}
	if s.Problem != nil && s.Problem.Code != ipc.PortalUnreachable {
		return Trouble
	}
	return Busy
}

// problem is a session's problem in a few words; the page of diagnostics has
// the whole.
func (b *builder) problem(p *ipc.Problem) string {
	switch p.Code {
	case ipc.TokenRejected:
		return b.w.TokenRejected
	case ipc.PortalUnreachable:
		return b.w.PortalAway
	case ipc.PortalRefused:
		return b.w.PortalRefused
	case ipc.PortalUnknown:
		return b.w.PortalUnknown
	case ipc.PortalChanged:
		return b.w.PortalChanged
	case ipc.TunnelFailed:
		return b.w.TunnelFailed
	}
	return b.w.Problem(p)
}

func (b *builder) connected(s *ipc.Session) Shape {
	switch {
	case s.Actor != "":
		b.text("actor", b.w.SignedInAs(s.Actor))
	case s.Token.Managed():
		b.text("actor", b.w.ByAdmin)
	default:
		b.text("actor", b.w.SignedIn)
	}
	shape := In
	switch {
	case s.Problem != nil && s.Problem.Code != ipc.PortalUnreachable:
		b.text("problem", b.problem(s.Problem))
		shape = Trouble
	case !s.PortalUp:
		b.text("portal-lost", b.w.PortalLost)
		b.action("retry", b.w.RetryNow, Retry{})
	}
	if !s.Token.Managed() {
		b.action("sign-out", b.w.SignOut, SignOut{})
	}
	b.separator("before-resources")
	b.resources()
	return shape
}

// foot adds what every menu ends with.
func (b *builder) foot() {
	b.separator("before-pages")
	if b.Update.Version != "" && web(b.Update.URL) {
		b.action("update", b.w.Download(b.Update.Version), Open{b.Update.URL})
	}
	b.action("status", b.w.Status, Show{StatusPage})
	b.action("settings", b.w.Settings, Show{SettingsPage})
	if page := b.adminPage(); page != "" && !b.HideAdmin {
		b.action("admin", b.w.AdminPortal, Open{page})
	}
	help := builder{View: b.View, w: b.w}
	help.action("help/diagnostics", b.w.Diagnostics, Show{DiagnosticsPage})
	if web(b.Support) {
		help.action("help/support", b.w.Support, Open{b.Support})
	}
	help.action("help/about", b.w.About, Show{AboutPage})
	b.items = append(b.items, Item{Key: "help", Kind: Sub, Title: b.w.Help, Items: help.items})
	b.separator("before-quit")
	quit := b.w.Quit
	if b.State != nil && b.State.Session.Phase == ipc.Connected {
		quit = b.w.QuitConnected
	}
	if !b.Quitting {
		b.action("quit", quit, Quit{})
	}
}

// adminPage is where the portal's pages are, for the account if it is known.
func (b *builder) adminPage() string {
	if b.State == nil {
		return ""
	}
	s := b.State.Session
	if !web(s.AuthURL) {
		return ""
	}
	if !ipc.IsSlug(s.Account) {
		return s.AuthURL
	}
	return strings.TrimSuffix(s.AuthURL, "/") + "/" + s.Account
}

// web reports whether a browser may be sent to s: what an administrator wrote
// must not start other programs.
func web(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil && plain(s) == s
}

// line is s as a title: on one line, at most maxTitle characters of it.
func line(s string) string { return cut(plain(s)) }

// plain is s on one line, without characters that show nothing or reorder
// others: they would let a name pose as another text, and a copied one run a
// command where it is pasted.
func plain(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return strings.TrimSpace(s) // nearly all are like that
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case r == utf8.RuneError, unicode.IsControl(r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Zl, r), unicode.Is(unicode.Zp, r):
			return -1
		}
		return r
	}, s))
}

func cut(s string) string {
	if len(s) <= maxTitle || utf8.RuneCountInString(s) <= maxTitle {
		return s
	}
	return strings.TrimSpace(string([]rune(s)[:maxTitle-1])) + "…"
}
