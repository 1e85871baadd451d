package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"stile/platform/desktop"
	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
)

// A fake is a tunnel service without a tunnel.
type fake struct {
	socket string
	server *link.Server
	stop   func()
	// react changes the state upon a command, or refuses it. It runs with mu
	// held.
	react func(f *fake, c ipc.Command) error

	mu       sync.Mutex // guards what follows
	state    ipc.State
	commands []ipc.Command
	parts    []ipc.FilePart // what Inform hands over; nil: it does not know the question
	seen     chan struct{}  // closed when State is asked; nil: nobody waits
}

func (f *fake) Handle(_ context.Context, _ link.Caller, c ipc.Command) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.commands = append(f.commands, c)
	return f.react(f, c)
}

func (f *fake) State() ipc.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen != nil {
		close(f.seen)
		f.seen = nil
	}
	return f.state
}

// show changes the state and waits until somebody has looked, twice: the first
// look may be one that a command makes out of date.
func (f *fake) show(change func(s *ipc.State)) {
	for range 2 {
		seen := make(chan struct{})
		f.set(func(s *ipc.State) { change(s); f.seen = seen })
		<-seen
	}
}

func (f *fake) set(change func(s *ipc.State)) {
	f.mu.Lock()
	change(&f.state)
	f.mu.Unlock()
	f.server.Changed()
}

func (f *fake) told() []ipc.Command {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]ipc.Command(nil), f.commands...)
}

// obey does what commands ask for, at once.
func obey(f *fake, c ipc.Command) error {
	switch c := c.(type) {
	case ipc.SignIn:
		f.state.Session = ipc.Session{Phase: ipc.Connected, PortalUp: true, Token: ipc.TokenFromSignIn, Account: c.AccountSlug, Actor: c.Actor, Portal: f.state.Session.Portal}
	case ipc.SignOut:
		f.state.Session = ipc.Session{Phase: ipc.SignedOut, Portal: f.state.Session.Portal}
	case ipc.SetInternet:
		f.state.Internet.On = c.On
	}
	return nil
}

// slowly does so in steps, the first of which is seen.
func slowly(f *fake, c ipc.Command) error {
	in, is := c.(ipc.SignIn)
	if !is {
		return obey(f, c)
	}
	f.state.Session.Token, f.state.Session.Actor = ipc.TokenFromSignIn, in.Actor
	go func() {
		f.show(func(s *ipc.State) { s.Session.Phase = ipc.Connecting })
		f.show(func(s *ipc.State) {
			s.Session.Problem = ipc.Problemf(ipc.PortalUnreachable, "The portal cannot be reached. It is tried again.")
		})
		f.set(func(s *ipc.State) { s.Session.Phase, s.Session.Problem = ipc.Raising, nil })
		f.set(func(s *ipc.State) { obey(f, in) })
	}()
	return nil
}

// serve runs a fake whose session is in phase.
func serve(t *testing.T, phase ipc.Phase) *fake {
	t.Helper()
	f := &fake{socket: filepath.Join(t.TempDir(), "s"), react: obey}
	f.state = ipc.State{Version: "9.9.9", Session: ipc.Session{Phase: phase, Portal: "wss://portal.example.net"}}
	f.start(t)
	return f
}

func (f *fake) start(t *testing.T) {
	t.Helper()
	f.server = link.New(link.Config{Service: f, Version: "9.9.9", Log: slog.New(slog.DiscardHandler)})
	l, err := link.Listen(f.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var g sync.WaitGroup
	g.Go(func() { f.server.Run(ctx, l) })
	f.stop = func() { cancel(); g.Wait() }
	t.Cleanup(f.stop)
}

// A result is what a command left.
type result struct {
	code     int
	out, err string
	copied   string // to the clipboard
}

// A run is how a command is started: input is its standard input, browser what
// opens addresses, after the first has led it on.
type run struct {
	input   string
	browser func(address string) error
	dir     string   // of programs of this user
	in      *os.File // standard input; nil: input
}

func (f *fake) run(t *testing.T, args ...string) result { return run{}.run(t, f.socket, args...) }

func (r run) run(t *testing.T, socket string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return r.runUntil(ctx, t, socket, args...)
}

// led is where an address that a browser is started with leads to. It holds no
// secret of the sign-in: arguments are for everybody to read.
func led(t *testing.T, address string) string {
	t.Helper()
	if !strings.HasPrefix(address, "http://127.0.0.1:") || strings.Contains(address, "nonce") {
		t.Errorf("a browser was started with %s", address)
	}
	stays := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	r, err := stays.Get(address)
	if err != nil {
		t.Error(err)
		return ""
	}
	r.Body.Close()
	return r.Header.Get("Location")
}

func (r run) runUntil(ctx context.Context, t *testing.T, socket string, args ...string) result {
	t.Helper()
	if socket != "" { // not by the environment, so that tests can run side by side
		args = append([]string{"--socket", socket}, args...)
	}
	in, type_, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer type_.Close()
	if _, err := io.WriteString(type_, r.input); err != nil {
		t.Fatal(err)
	}
	if r.in != nil {
		in = r.in
	}
	out, errs := newBuffer(), newBuffer()
	if r.dir == "" {
		r.dir = t.TempDir()
	}
	p := &program{in: in, out: out, err: errs, now: time.Now, desktop: func() bool { return false }, dir: r.dir, register: func(string) error { return errBroken }, open: func(_ context.Context, address string) error {
		if r.browser == nil {
			return desktop.ErrNoDesktop
		}
		return r.browser(led(t, address))
	}}
	copied := ""
	p.clip = func(_ context.Context, text string) error { copied = text; return nil }
	code := p.main(ctx, args)
	return result{code, out.String(), errs.String(), copied}
}

// want checks a result: the exit code, and words of both outputs.
func (r result) want(t *testing.T, code int, out, err string) {
	t.Helper()
	if r.code != code || !strings.Contains(r.out, out) || !strings.Contains(r.err, err) || code == done && out == "" && r.out != "" {
		t.Errorf("exit code %d, want %d\noutput %q, want %q\nerrors %q, want %q", r.code, code, r.out, out, r.err, err)
	}
	if strings.Contains(r.out+r.err, "%!") {
		t.Errorf("a mistake in a text: %s%s", r.out, r.err)
	}
}

// A lockedBuffer may be read while it is written.
type lockedBuffer struct {
	wrote chan struct{} // holds one
	mu    sync.Mutex    // guards b
	b     bytes.Buffer
}

func newBuffer() *lockedBuffer { return &lockedBuffer{wrote: make(chan struct{}, 1)} }

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.wrote <- struct{}{}:
	default:
	}
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var errBroken = errors.New("it is broken")
