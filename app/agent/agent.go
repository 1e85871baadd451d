// Package agent is the program of a login session: it follows the tunnel
// service, keeps what is known of it in one menu.View, shows that in the panel,
// tells what the user has to know, and does what the user wants.
//
// All that is known is one value behind one mutex. Whoever learns something
// changes it; one goroutine draws what became of it; the pages of package
// console read it. Nothing waits for anybody with the mutex held.
package agent

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"stile/app/custody"
	"stile/app/menu"
	"stile/app/prefs"
	"stile/app/signin"
	"stile/app/tray"
	"stile/app/words"
	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
)

// ErrRestart means that the user wants the program started anew, in the version
// that is installed by then.
var ErrRestart = errors.New("the app restarts")

// A Desktop is where the agent shows itself: package tray.
type Desktop interface {
	Run(ctx context.Context) error
	Show(m menu.Menu)
	Notify(n tray.Note)
}

// Pages are the pages for status and settings: package console.
type Pages interface {
	Serve(ctx context.Context) error
	URL(p menu.Page) string
}

// A SignIn is one sign-in with the user's browser: package callback.
type SignIn interface {
	URL() string
	Start() string
	Follow(address ipc.Secret) error
	Paste(text string) error
	Cancel()
	Run(ctx context.Context, took func(signin.Result)) error
}

// Logs is the program's own log: package logs.
type Logs interface {
	SetFilter(filter string, d time.Duration) error
	Clear() error
	Dir() string
}

// A Config is what the agent is made of.
type Config struct {
	// Follow stays connected with the service until ctx ends, and Ask has it act
	// on a command: link.Follow and link.Do.
	Follow func(ctx context.Context, tell func(link.News))
	Ask    func(ctx context.Context, c ipc.Command) error

	Begin func(o signin.Options, w *words.Words) (SignIn, error)
	Open  func(ctx context.Context, address string) error // in the user's browser
	Copy  func(ctx context.Context, text string) error    // to the clipboard
	// Latest asks for a newer release; nil: nobody does.
	Latest func(ctx context.Context) (menu.Update, error)

	// Secrets is the user's own store; nil: the service keeps all tokens.
	Secrets custody.Store

	Prefs string // the file
	// Autostart makes the desktop start the program at login, or not. chosen tells
	// that the user said so just now; otherwise what they did in the desktop's own
	// settings since counts.
	Autostart func(on, chosen bool) error
	// Register tells the desktop of the program at each start.
	Register func() error

	// Ending is called when Run begins to end: what hangs then is to be left
	// behind. nil: nobody cares.
	Ending func()

	Socket   string // of the service, for what asks it on its own
	Language string // as the environment wishes
	// AtLogin tells that nobody started the program by hand.
	AtLogin bool
	Logs    Logs
	Log     *slog.Logger
}

// An Agent is the program. Its methods may be called from any goroutine.
type Agent struct {
	Config
	clicks chan menu.Command
	wake   chan struct{} // holds one: what is known has changed
	quit   context.CancelCauseFunc

	custody *custody.Keeper // nil: the service keeps all tokens
	signIns chan SignIn     // to be run
	ended   <-chan struct{} // closed when Run is to end; nil before Run

	asking sync.Mutex // held while the service is asked for something
	saving sync.Mutex // held while the settings are written

	mu       sync.Mutex // guards the rest
	pages    Pages      // nil: not there yet
	desktop  Desktop
	view     menu.View
	prefs    prefs.Prefs
	hosted   *bool // whether the desktop shows the icon; nil: not known yet
	signIn   SignIn
	trouble  error  // why the service cannot be asked; nil: it can, or that is not known
	filter   string // of the log, as the service said last
	watchers map[chan struct{}]bool
}

// queued is how many clicks may wait. Each is begun at once: more than a few
// only wait if the program is stuck.
const queued = 64

// New makes an agent that does nothing yet.
func New(c Config) *Agent {
	a := &Agent{Config: c, clicks: make(chan menu.Command, queued), wake: make(chan struct{}, 1), signIns: make(chan SignIn), watchers: map[chan struct{}]bool{}}
	var err error
	a.prefs, err = prefs.Load(c.Prefs)
	if err != nil {
		c.Log.Warn("the settings are the standard ones", "error", err)
	}
	a.view = menu.View{Service: menu.Looking}
	a.settle()
	a.custody = newCustody(a)
	return a
}

// settle makes the view follow the settings. mu is held, or nobody else is here.
func (a *Agent) settle() {
	language := a.prefs.Language
	if language == "" {
		language = a.Language
	}
	a.view.Words = words.For(language)
	a.view.Favorites = a.prefs.Favorites
	a.view.Reason = reason(a.view.Words, a.trouble)
}

// Run is the program, until the user quits, which is no error, or wants it
// restarted: ErrRestart.
func (a *Agent) Run(ctx context.Context, d Desktop, p Pages) error {
	ctx, a.quit = context.WithCancelCause(ctx)
	a.ended = ctx.Done()
	defer context.AfterFunc(ctx, func() {
		a.change(func() { a.view.Quitting = true })
		if a.Ending != nil {
			a.Ending()
		}
	})()
	a.mu.Lock()
	a.desktop, a.pages = d, p
	a.mu.Unlock()

	var g sync.WaitGroup
	g.Go(func() {
		err := d.Run(ctx)
		if ctx.Err() == nil {
			a.quit(errors.Join(errDesktopEnded, err))
		}
	})
	g.Go(func() { a.draw(ctx) }) // the icon comes first
	g.Go(func() { a.follow(ctx) })
	if a.custody != nil {
		g.Go(func() { a.custody.Run(ctx) })
	}
	g.Go(func() {
		if err := p.Serve(ctx); err != nil && ctx.Err() == nil {
			a.Log.Error("the pages for status and settings are gone", "error", err)
		}
	})
	g.Go(func() { a.begin(ctx) })
	if a.Latest != nil {
		g.Go(func() { a.lookForUpdates(ctx) })
	}
	a.work(ctx, &g)
	g.Wait()
	if err := context.Cause(ctx); !errors.Is(err, errQuit) && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// Why Run ends.
var (
	errQuit         = errors.New("the user quits")
	errDesktopEnded = errors.New("the desktop ended")
)

// Clicked is told what the user clicked.
func (a *Agent) Clicked(c menu.Command) {
	select {
	case a.clicks <- c:
	default:
		a.Log.Error("the program is stuck: a click was lost", "command", name(c))
	}
}

// Activated is told that the user clicked the icon of a desktop without menus.
func (a *Agent) Activated() { a.Clicked(menu.Show{Page: menu.StatusPage}) }

// work does what the user clicks, each click in a goroutine of its own: nothing
// that takes time holds up another.
func (a *Agent) work(ctx context.Context, g *sync.WaitGroup) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-a.clicks:
			g.Go(func() { a.answer(ctx, c) })
		case s := <-a.signIns:
			g.Go(func() { a.runSignIn(ctx, s) })
		}
	}
}

// answer does what a click means and tells the user if that fails.
func (a *Agent) answer(ctx context.Context, c menu.Command) {
	err := a.Do(ctx, c)
	if err == nil || ctx.Err() != nil {
		return
	}
	why := err.Error()
	if o, is := c.(menu.Open); is {
		why = strings.ReplaceAll(why, o.URL, "(an address)") // what users reach stays out of the log
	}
	a.Log.Warn("a click was of no use", "command", name(c), "error", why)
	w := a.View().Words
	title := w.RefusedTitle
	switch c.(type) {
	case menu.SignIn:
		title = w.SignInFailedTitle
	case menu.Copy:
		title = w.CopyFailedTitle
	case menu.Open, menu.Show:
		title = w.OpenFailedTitle
	}
	a.tell(tray.Note{Key: "failed", Title: title, Text: err.Error()})
}

// change changes what is known, and has it drawn.
func (a *Agent) change(with func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	with()
	select {
	case a.wake <- struct{}{}:
	default:
	}
	for w := range a.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

func (a *Agent) tell(n tray.Note) {
	a.mu.Lock()
	d := a.desktop
	a.mu.Unlock()
	if d == nil {
		return
	}
	if n.Title != "" {
		a.Log.Info("the user is told", "note", n.Key)
	}
	d.Notify(n)
}

// draw shows what is known whenever it has changed, and tells what is news.
func (a *Agent) draw(ctx context.Context) {
	var n news
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		v := a.View()
		a.mu.Lock()
		hosted, told := a.hosted, a.prefs.ToldNoTray
		a.mu.Unlock()
		a.desktop.Show(menu.Build(v))
		for _, note := range n.observe(v, hosted, told, time.Now()) {
			if note.Key == noTray {
				a.remember(func(p *prefs.Prefs) { p.ToldNoTray = true })
			}
			a.tell(note)
		}
		if next := n.next(); !next.IsZero() {
			again.Reset(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		case <-again.C:
		}
	}
}

// Hosted is told whether the desktop shows the icon.
func (a *Agent) Hosted(shown bool) {
	a.change(func() { a.hosted = &shown })
	a.Log.Info("the desktop was asked for icons", "shows", shown)
}

// Times at the start.
const (
	panelTime = 3 * time.Second // for the panel of a desktop that is starting, too
)

// begin does what a start asks for, once.
func (a *Agent) begin(ctx context.Context) {
	a.mu.Lock()
	p := a.prefs
	a.mu.Unlock()
	if !p.RanBefore {
		a.remember(func(p *prefs.Prefs) { p.RanBefore = true })
	}
	show := !p.RanBefore || !p.StartMinimized
	if !show && !a.AtLogin {
		// Who starts the program by hand wants to see it, at least somewhere.
		select {
		case <-ctx.Done():
			return
		case <-time.After(panelTime):
		}
		a.mu.Lock()
		show = a.hosted == nil || !*a.hosted
		a.mu.Unlock()
	}
	if show {
		a.Clicked(menu.Show{Page: menu.StatusPage})
	}
	if a.Register != nil {
		if err := a.Register(); err != nil {
			a.Log.Warn("the desktop does not know of this program; sign-in works without", "error", err)
		}
	}
	a.autostart(p)
}

// autostart makes the desktop follow the user's choice; without one it is left
// as it is.
func (a *Agent) autostart(p prefs.Prefs) {
	if a.Autostart == nil || p.StartOnLogin == nil {
		return
	}
	if err := a.Autostart(*p.StartOnLogin, false); err != nil {
		a.Log.Warn("the start at login could not be set", "on", *p.StartOnLogin, "error", err)
	}
}

// remember changes the settings, here and in the file.
func (a *Agent) remember(change func(p *prefs.Prefs)) error {
	var before, after prefs.Prefs
	a.change(func() {
		before, after = a.prefs, a.prefs
		change(&after)
		a.prefs = after
		a.settle()
	})
	a.saving.Lock()
	defer a.saving.Unlock()
	err := a.Prefs().Save(a.Config.Prefs) // the latest, if others were faster
	if before.OnLogin() != after.OnLogin() && a.Autostart != nil {
		err = errors.Join(err, a.Autostart(after.OnLogin(), true))
	}
	if c := after.ConnectOnStart; c != nil && (before.ConnectOnStart == nil || *before.ConnectOnStart != *c) {
		err = errors.Join(err, a.ask(context.Background(), ipc.SetConnectOnStart{On: *c}))
	}
	return err
}

// Heard is told what another start of the program says: that the user started
// it again, for address "", or was led to an address of the sign-in.
func (a *Agent) Heard(address ipc.Secret) {
	if address == "" {
		a.Clicked(menu.Show{Page: menu.StatusPage})
		return
	}
	a.follows(address)
}
