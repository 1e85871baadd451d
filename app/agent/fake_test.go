package agent

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stile/app/menu"
	"stile/app/prefs"
	"stile/app/signin"
	"stile/app/tray"
	"stile/app/words"
	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
)

// A world is an agent and all that surrounds it, in a bubble of virtual time.
type world struct {
	*Agent
	t *testing.T

	mu       sync.Mutex // guards the rest
	first    link.News  // how it goes with the service at the start; zero: it is there
	tell     func(link.News)
	state    ipc.State
	commands []ipc.Command
	refuse   error // what commands come to

	shown   menu.Menu
	shows   int
	notes   []tray.Note
	stay    map[string]string // the titles of those that are still there, by key
	opened  []string
	copied  []string
	browser error // what opening one comes to
	signIns []*fakeSignIn
	calls   []string

	hosted bool
	ended  chan error
	stop   func()
}

// run starts an agent and calls with, in a bubble.
func run(t *testing.T, prepare func(w *world, c *Config), with func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, stay: map[string]string{}, hosted: true, ended: make(chan error, 1)}
		w.state = ipc.State{Version: "1", Session: ipc.Session{Phase: ipc.SignedOut, Portal: "wss://portal.example.com"}}
		c := Config{
			Follow: w.follow, Ask: w.ask, Begin: w.begin,
			Open: func(_ context.Context, address string) error {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.opened = append(w.opened, address)
				return w.browser
			},
			Copy: func(_ context.Context, text string) error {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.copied = append(w.copied, text)
				return nil
			},
			Autostart: func(on, _ bool) error { w.call("autostart", on); return nil },
			Register:  func() error { w.call("register", true); return nil },
			Prefs:     filepath.Join(t.TempDir(), "settings.json"), AtLogin: true, Log: slog.New(slog.DiscardHandler),
		}
		p := prefs.Defaults()
		p.RanBefore = true
		if err := p.Save(c.Prefs); err != nil {
			t.Fatal(err)
		}
		if prepare != nil {
			prepare(w, &c)
		}
		w.Agent = New(c)
		ctx, cancel := context.WithCancel(t.Context())
		w.stop = cancel
		go func() { w.ended <- w.Run(ctx, fakeDesktop{w}, fakePages{}) }()
		synctest.Wait()
		with(w)
		cancel()
		synctest.Wait()
	})
}

func (w *world) call(name string, on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, name+map[bool]string{true: "+", false: "-"}[on])
}

// wait lets d pass, and everything come to rest.
func (w *world) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// set changes the service's state and publishes it.
func (w *world) set(change func(s *ipc.State)) {
	w.mu.Lock()
	change(&w.state)
	w.mu.Unlock()
	w.fail(link.Present, nil)
}

// fail tells how it goes with the service.
func (w *world) fail(p link.Presence, err error) {
	w.mu.Lock()
	n := link.News{Presence: p, Err: err}
	if p == link.Present {
		s := w.state
		n.State = &s
	}
	tell := w.tell
	w.mu.Unlock()
	tell(n)
	synctest.Wait()
}

func (w *world) follow(ctx context.Context, tell func(link.News)) {
	w.mu.Lock()
	w.tell = tell
	first := w.first
	s := w.state
	w.mu.Unlock()
	tell(link.News{})
	if first.Presence == link.Looking {
		first = link.News{Presence: link.Present, State: &s}
	}
	tell(first)
	<-ctx.Done()
}

func (w *world) ask(ctx context.Context, c ipc.Command) error {
	w.mu.Lock()
	w.commands = append(w.commands, c)
	refuse := w.refuse
	w.mu.Unlock()
	if errors.Is(refuse, errStuck) {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return refuse
}

// errStuck is a service that takes a command and never answers.
var errStuck = errors.New("stuck")

type fakeDesktop struct{ w *world }

func (d fakeDesktop) Run(ctx context.Context) error {
	d.w.Hosted(d.w.hosted)
	<-ctx.Done()
	return nil
}

func (d fakeDesktop) Show(m menu.Menu) {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	d.w.shown = m
	d.w.shows++
}

func (d fakeDesktop) Notify(n tray.Note) {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	d.w.notes = append(d.w.notes, n)
	if delete(d.w.stay, n.Key); n.Stay {
		d.w.stay[n.Key] = n.Title
	}
}

type fakePages struct{}

func (fakePages) Serve(ctx context.Context) error { <-ctx.Done(); return nil }
func (fakePages) URL(p menu.Page) string          { return "http://127.0.0.1:1/" + string(p) }

type fakeSignIn struct {
	options   signin.Options
	answers   chan signin.Result
	cancelled chan struct{}
	once      sync.Once
	followed  []string
	follow    error
}

func (w *world) begin(o signin.Options, _ *words.Words) (SignIn, error) {
	s := &fakeSignIn{options: o, answers: make(chan signin.Result, 1), cancelled: make(chan struct{})}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.signIns = append(w.signIns, s)
	return s, nil
}

func (s *fakeSignIn) URL() string   { return "https://portal.example.com/?nonce=secret" }
func (s *fakeSignIn) Start() string { return "http://127.0.0.1:1/begin/key" }
func (s *fakeSignIn) Follow(a ipc.Secret) error {
	s.followed = append(s.followed, a.Reveal())
	return s.follow
}
func (s *fakeSignIn) Paste(text string) error { return s.Follow(ipc.Secret(text)) }
func (s *fakeSignIn) Cancel()                 { s.once.Do(func() { close(s.cancelled) }) }

func (s *fakeSignIn) Run(ctx context.Context, took func(signin.Result)) error {
	select {
	case r := <-s.answers:
		took(r)
	case <-s.cancelled:
		return errors.New("cancelled")
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-time.After(2 * time.Minute):
	case <-ctx.Done():
	}
	return nil
}

// titles are those of the notes since the last call.
func (w *world) titles() []string {
	return w.said(func(n tray.Note) string { return n.Title })
}

// texts are those of the notes since the last call.
func (w *world) texts() []string {
	return w.said(func(n tray.Note) string { return n.Text })
}

func (w *world) said(part func(n tray.Note) string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []string
	for _, n := range w.notes {
		if n.Title != "" {
			list = append(list, part(n))
		}
	}
	w.notes = nil
	return list
}

// there are the titles of the notes that stay until they are taken back.
func (w *world) there() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Values(w.stay))
}

// told are the commands since the last call.
func (w *world) told() []ipc.Command {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.commands
	w.commands = nil
	return list
}

func (w *world) pages() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.opened
	w.opened = nil
	return list
}

// click clicks an item by its key, which has to be there.
func (w *world) click(key string) {
	w.t.Helper()
	i := w.item(key)
	if i == nil || i.Command == nil {
		w.t.Fatalf("there is nothing to click for %q", key)
	}
	w.Clicked(i.Command)
	synctest.Wait()
}

func (w *world) item(key string) *menu.Item {
	w.mu.Lock()
	defer w.mu.Unlock()
	var find func(list []menu.Item) *menu.Item
	find = func(list []menu.Item) *menu.Item {
		for i := range list {
			if list[i].Key == key {
				return &list[i]
			}
			if found := find(list[i].Items); found != nil {
				return found
			}
		}
		return nil
	}
	return find(w.shown.Items)
}

// looks checks the icon and that the menu has items.
func (w *world) looks(shape menu.Shape, keys ...string) {
	w.t.Helper()
	w.mu.Lock()
	got := w.shown.Icon.Shape
	w.mu.Unlock()
	if got != shape {
		w.t.Errorf("the icon is %v, not %v", got, shape)
	}
	for _, k := range keys {
		if w.item(k) == nil {
			w.t.Errorf("the menu has no %q", k)
		}
	}
}

func (w *world) wants(what string, got, want []string) {
	w.t.Helper()
	if !slices.Equal(got, want) {
		w.t.Errorf("%s: %q, not %q", what, strings.Join(got, "|"), strings.Join(want, "|"))
	}
}

// signedIn makes a session that is connected.
func signedIn(s *ipc.State) {
	s.Session = ipc.Session{Phase: ipc.Connected, PortalUp: true, Token: ipc.TokenFromSignIn, Actor: "Ada", Holder: "ada", Portal: "wss://portal.example.com"}
}
