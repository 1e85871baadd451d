package console

import (
	"context"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"stile/app/menu"
	"stile/app/words"
	"stile/tunnel/ipc"
)

// A kind is one of the pages.
type kind struct {
	title func(*words.Console) string
	nav   bool     // in the list of pages
	parts []string // what changes by itself: elements with these IDs, templates "part-ID"
	moves bool     // also when nothing has happened: ages, graphs, logs
	make  func(*frame) model
}

// pages are all of them. They are set in init, because some ask which there
// are.
var pages map[string]*kind

// navigation is the order of the list of pages.
var navigation = []menu.Page{menu.StatusPage, menu.ResourcesPage, menu.DiagnosticsPage, menu.SettingsPage, menu.AboutPage}

func init() {
	pages = map[string]*kind{
		string(menu.StatusPage): {
			title: func(t *words.Console) string { return t.StatusTitle }, nav: true,
			parts: []string{"head", "session", "traffic", "gateways", "machine"}, moves: true,
			make: func(f *frame) model { return &statusPage{sessionPart: sessionPart{frame: f}} },
		},
		string(menu.ResourcesPage): {
			title: func(t *words.Console) string { return t.ResourcesTitle }, nav: true,
			parts: []string{"head", "chips", "resources"},
			make:  func(f *frame) model { return &resourcesPage{frame: f} },
		},
		string(menu.DiagnosticsPage): {
			title: func(t *words.Console) string { return t.DiagnosticsTitle }, nav: true,
			parts: []string{"head", "export", "dns", "lately", "level", "log", "counters"}, moves: true,
			make: func(f *frame) model { return &diagnosticsPage{frame: f} },
		},
		string(menu.SettingsPage): {
			title: func(t *words.Console) string { return t.SettingsTitle }, nav: true,
			parts: []string{"head", "account"},
			make:  func(f *frame) model { return &settingsPage{sessionPart: sessionPart{frame: f}} },
		},
		string(menu.AboutPage): {
			title: func(t *words.Console) string { return t.AboutTitle }, nav: true,
			parts: []string{"head", "update"},
			make:  func(f *frame) model { return &aboutPage{frame: f} },
		},
		"why": {
			title: func(t *words.Console) string { return t.WhyPage },
			parts: []string{"head"},
			make:  func(f *frame) model { return &whyPage{frame: f} },
		},
		"clear-logs": {
			title: func(t *words.Console) string { return t.DiagnosticsTitle },
			parts: []string{"head"},
			make: func(f *frame) model {
				return &confirmPage{frame: f, Action: "clear-logs", Question: f.T.LogClearSure, Explanation: f.T.LogClearText, Yes: f.T.LogClearYes}
			},
		},
		"export-all": {
			title: func(t *words.Console) string { return t.DiagnosticsTitle },
			parts: []string{"head"},
			make: func(f *frame) model {
				return &confirmPage{frame: f, Action: "export", Question: f.T.ExportSure, Explanation: f.T.ExportSureText, Yes: f.T.ExportButton, Fields: []pair{{"names", "keep"}}}
			},
		},
	}
}

// A model is what the templates of a page are given.
type model interface {
	base() *frame
	// fill looks at what is now. whole tells that it is for a whole page, not
	// only for parts that change by themselves.
	fill(whole bool)
}

// A frame is what all pages have.
type frame struct {
	c    *Console
	ctx  context.Context
	q    query
	view menu.View
	now  time.Time
	logs *tail // as they were read before; nil: they were not

	W               *words.Words
	T               *words.Console
	Lang            string
	Title           string
	Page            string
	Base            string
	Token           string // of forms
	Back            string // where forms lead
	Live            string // address of the stream; "": nothing changes
	Self            string // address of this page
	Nav             []navItem
	Shape, Standing string
	Notice          *notice
}

type navItem struct {
	Page, Title, Icon string
	Current           bool
}

func (f *frame) base() *frame { return f }

// model is a page, not yet filled.
func (c *Console) model(ctx context.Context, who *guest, name string, q query) model {
	v, t := c.view()
	k := pages[name]
	at := name + q.String()
	f := &frame{
		c: c, ctx: ctx, q: q, view: v, now: c.now(),
		W: v.Words, T: t, Lang: v.Words.Tag, Title: k.title(t), Page: name, Base: c.base, Token: who.token, Back: at,
		Live: c.base + "/live/" + at, Self: c.base + "/" + at,
	}
	for _, p := range navigation {
		f.Nav = append(f.Nav, navItem{string(p), pages[string(p)].title(t), string(p), string(p) == name})
	}
	f.Shape, f.Standing = f.standing()
	return k.make(f)
}

// head is the head of the tray's menu: what holds there, holds here.
func (f *frame) head() (shape menu.Shape, items []menu.Item) {
	v := f.view
	if v.State != nil {
		s := *v.State
		s.Resources = nil // nobody looks at them here
		v.State = &s
	}
	m := menu.Build(v)
	end := slices.IndexFunc(m.Items, func(i menu.Item) bool { return i.Kind == menu.Separator })
	return m.Icon.Shape, m.Items[:end]
}

func (f *frame) standing() (shape, text string) {
	s, _ := f.head()
	switch s {
	case menu.In:
		text = f.T.PillIn
	case menu.Out:
		if text = f.T.PillOut; f.waits() {
			text = f.T.PillWaiting
		}
	case menu.Trouble:
		text = f.T.PillTrouble
	default:
		text = f.T.PillBusy
	}
	return s.String(), text
}

// waits reports whether the user is signed in, and only has to say that the
// service shall connect.
func (f *frame) waits() bool {
	_, items := f.head()
	return slices.ContainsFunc(items, func(i menu.Item) bool { return i.Command == menu.Connect{} })
}

// facts are names with what they stand for; those without are left out.
type facts []pair

func (l *facts) add(name, value string) {
	if value != "" {
		*l = append(*l, pair{name, value})
	}
}

// commands are those of the tray that a button without more to say means.
var commands = map[string]menu.Command{
	"sign-in":        menu.SignIn{},
	"cancel-sign-in": menu.CancelSignIn{},
	"sign-out":       menu.SignOut{},
	"retry":          menu.Retry{},
	"connect":        menu.Connect{},
	"restart":        menu.Restart{},
}

// A button is one that means a command.
type button struct {
	Action, Title string
	Main          bool // what most want to do
}

// A sessionPart is who is signed in, and how that stands.
type sessionPart struct {
	*frame
	Headline, Who, Trouble, Advice string
	Acts                           []button
	Browser                        bool
	SignInURL                      string
	Facts                          facts
}

func (p *sessionPart) fillSession() {
	shape, items := p.head()
	for _, i := range items {
		switch {
		case i.Kind == menu.Action:
			p.act(i)
		case i.Key == "actor":
			p.Who = i.Title
		case i.Key == "holder":
			p.Advice = i.Title
		case i.Key == "portal-lost" || p.Headline != "":
			p.Trouble = i.Title
		default:
			p.Headline = i.Title
		}
	}
	switch {
	case shape == menu.In:
		p.Headline = p.T.HeadIn
	case p.waits():
		p.Headline, p.Advice = p.T.HeadWaiting, p.T.WaitingAdvice
	case shape == menu.Out:
		if p.Headline = p.T.HeadOut; p.Advice == "" {
			p.Advice = p.T.OutAdvice
		}
	case p.Headline == "":
		p.Headline = p.T.HeadTrouble
	}
	switch p.view.Service {
	case menu.Missing:
		p.Advice = p.T.MissingAdvice
	case menu.Silent:
		p.Advice = p.T.SilentAdvice
	case menu.Denied:
		p.Advice = p.T.DeniedAdvice
	case menu.Outdated:
		p.Advice = p.T.OutdatedAdvice
	}
	p.Browser = p.view.Browser && p.view.State != nil && !p.view.Quitting
	if address := p.c.desk.SignInURL(); p.Browser && menu.IsWeb(address) {
		p.SignInURL = address
	}
	if s := p.view.State; s != nil {
		p.session(s)
	}
}

func (p *sessionPart) act(i menu.Item) {
	for name, c := range commands {
		if c == i.Command {
			p.Acts = append(p.Acts, button{name, i.Title, c != menu.SignOut{} && c != menu.CancelSignIn{}})
		}
	}
}

func (p *sessionPart) session(s *ipc.State) {
	n := &s.Session
	if n.Problem != nil {
		p.Advice = menu.Plain(p.W.Problem(n.Problem))
	}
	if n.Phase == ipc.SignedOut || n.Phase == "" {
		p.Facts.add(p.T.Portal, hostText(n.Portal))
		return
	}
	if n.Account != "" {
		p.Facts.add(p.T.Account, menu.Plain(n.Account))
	}
	if n.Phase == ipc.Connected && !n.Since.IsZero() {
		p.Facts.add(p.T.Since, clockText(n.Since, p.now))
	}
	if host := hostText(n.Portal); host != "" {
		up := p.T.PortalDown
		if n.PortalUp {
			up = p.T.PortalUp
		}
		p.Facts.add(p.T.Portal, host+", "+up)
	}
	listed, blocked := 0, 0
	for i := range s.Resources {
		if r := &s.Resources[i]; menu.Listed(r) {
			listed++
			if isBlocked(r) {
				blocked++
			}
		}
	}
	if n.Phase == ipc.Connected {
		reachable := strconv.Itoa(listed)
		if blocked > 0 {
			reachable = p.T.OfThem(reachable, strconv.Itoa(blocked))
		}
		p.Facts.add(p.T.Reachable, reachable)
	}
}

// hostText is the host of an address.
func hostText(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return menu.Plain(u.Host)
}

// addressText leaves the usual port of DNS out.
func addressText(a netip.AddrPort) string {
	if a.Port() == 53 {
		return a.Addr().String()
	}
	return a.String()
}

func isBlocked(r *ipc.Resource) bool {
	return r.Problem != nil && r.Problem.Code != ipc.InternetIsOff || r.Problem == nil && r.State == ipc.Offline
}

// A confirmPage asks once more.
type confirmPage struct {
	*frame
	Action, Question, Explanation, Yes string
	Fields                             []pair
}

func (p *confirmPage) fill(bool) { p.Back = string(menu.DiagnosticsPage) }

func list[E interface{ String() string }](items []E) string {
	var all []string
	for _, i := range items {
		all = append(all, i.String())
	}
	return strings.Join(all, ", ")
}
