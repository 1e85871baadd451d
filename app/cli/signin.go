package cli

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"stile/app/callback"
	"stile/app/signin"
	"stile/platform/desktop"
	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
)

const (
	browserTime = 15 * time.Minute // for a user to sign in
	connectTime = time.Minute      // from the token to the tunnel
	endTime     = 15 * time.Second // from the wish to sign out to its coming true
)

type signInCommand struct {
	NoBrowser bool   `help:"Print an address to open in any browser, then read the token that it shows, from the terminal or from standard input."`
	AuthURL   string `name:"auth-url" env:"STILE_AUTH_URL" placeholder:"URL" help:"Where to sign in (default: at the service's portal)."`
	Account   string `env:"STILE_ACCOUNT" placeholder:"SLUG" help:"Short name of the account, if the portal has more than one."`
}

// Run signs in and waits until the tunnel stands.
func (c signInCommand) Run(ctx context.Context, p *program) error {
	l, s, err := p.connect(ctx)
	if err != nil {
		return err
	}
	l.Close() // the user takes time
	if s.Session.Token.Managed() {
		return ipc.Problemf(ipc.TokenIsManaged, "The service uses a token from its %s, which an administrator gave it. Nobody can sign in as long as it has that.", s.Session.Token)
	}
	place, err := c.place(s)
	if err != nil {
		return err
	}
	if !c.NoBrowser {
		err := p.browse(ctx, place)
		if !errors.Is(err, desktop.ErrNoDesktop) {
			return err
		}
		fmt.Fprintln(p.err, "There is no desktop to open a browser on. Any other browser will do.")
	}
	r, err := p.paste(ctx, place)
	if err != nil {
		return err
	}
	return p.signIn(ctx, r)
}

// place is where to sign in.
func (c signInCommand) place(s *ipc.State) (signin.Options, error) {
	base := c.AuthURL
	if base == "" {
		base = s.Session.AuthURL
	}
	if base == "" {
		if s.Session.Portal == "" {
			return signin.Options{}, advice("The service was not told which portal is its. An administrator has to set STILE_API_URL for it.")
		}
		var err error
		if base, err = signin.Base(s.Session.Portal); err != nil {
			return signin.Options{}, err
		}
	}
	return signin.Options{Base: base, Account: c.Account}, nil
}

// browse signs in with the desktop's browser. The error is
// desktop.ErrNoDesktop if there is none.
func (p *program) browse(ctx context.Context, o signin.Options) error {
	back, err := callback.Listen()
	if err != nil {
		return fmt.Errorf("wait for the browser: %w", err)
	}
	o.Redirect = back.URL()
	attempt, err := signin.Begin(o, rand.Reader)
	if err != nil {
		back.Close()
		return err
	}

	taken, broken := make(chan signin.Result, 1), make(chan error, 1)
	serving, stop := context.WithCancel(ctx)
	var g sync.WaitGroup
	defer g.Wait()
	defer stop()
	g.Go(func() {
		broken <- back.Serve(serving, func(address string) callback.Page {
			r, err := attempt.Finish(address)
			if err == nil {
				taken <- r // the only one
			}
			if err == nil || errors.Is(err, signin.ErrRepeated) {
				return callback.Page{OK: true, Title: "Done", Text: signin.Explain(err)}
			}
			return callback.Page{Title: "Not signed in", Text: signin.Explain(err)}
		})
	})

	fmt.Fprintln(p.err, "Opening your browser to sign in.")
	if err := p.open(ctx, attempt.URL()); errors.Is(err, desktop.ErrNoDesktop) {
		return err
	} else if err != nil {
		fmt.Fprintln(p.err, "That did not work:", clean(err.Error()))
	}
	fmt.Fprintf(p.out, "If it does not open, open this address in a browser on this computer:\n\n  %s\n\n", attempt.URL())
	fmt.Fprintln(p.err, "Waiting until you are signed in there. Ctrl-C cancels.")
	select {
	case r := <-taken:
		return p.signIn(ctx, r) // the page goes on explaining itself meanwhile
	case err := <-broken:
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("wait for the browser: %w", err)
	case <-time.After(browserTime):
		return advice("Nobody signed in within 15 minutes. Start again with: stile sign-in")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// paste has the user carry the token.
func (p *program) paste(ctx context.Context, o signin.Options) (signin.Result, error) {
	page, err := signin.Page(o.Base, o.Account)
	if err != nil {
		return signin.Result{}, err
	}
	fmt.Fprintf(p.out, "Open this address in a browser and sign in:\n\n  %s\n\n", page)
	text, err := p.readToken(ctx)
	if err != nil {
		return signin.Result{}, err
	}
	r, err := signin.Paste(text)
	if errors.Is(err, ipc.ErrNoToken) {
		err = errors.New("there was no token. Copy all of it from the page, and paste it here")
	}
	r.Account = o.Account
	return r, err
}

// readToken reads one line: from a terminal without showing it, else the first
// that is not empty.
func (p *program) readToken(ctx context.Context) (string, error) {
	read := func() (string, error) {
		in := bufio.NewReader(io.LimitReader(p.in, 4*ipc.MaxToken))
		for {
			line, err := in.ReadString('\n')
			if strings.TrimSpace(line) != "" || err == io.EOF {
				return line, nil
			}
			if err != nil {
				return "", err
			}
		}
	}
	if fd := int(p.in.Fd()); term.IsTerminal(fd) {
		before, err := term.GetState(fd)
		if err != nil {
			return "", err
		}
		defer term.Restore(fd, before) // Ctrl-C leaves the terminal as it was, too
		fmt.Fprint(p.err, "Then paste the token that the page shows (it stays invisible) and press Enter: ")
		defer fmt.Fprintln(p.err)
		read = func() (string, error) {
			line, err := term.ReadPassword(fd)
			return string(line), err
		}
	}
	type result struct {
		text string
		err  error
	}
	got := make(chan result, 1)
	go func() { text, err := read(); got <- result{text, err} }() // cannot be interrupted; ends with us at the latest
	select {
	case r := <-got:
		return r.text, r.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// signIn gives the service the token and waits until it is connected.
func (p *program) signIn(ctx context.Context, r signin.Result) error {
	l, err := link.Dial(ctx, p.socket)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := l.Do(ctx, ipc.SignIn{Token: r.Token, AccountSlug: r.Account, Actor: r.Actor}); err != nil {
		return err
	}
	fmt.Fprintln(p.err, "Signed in. Connecting …")
	s, err := p.await(ctx, l, connectTime, func(s *ipc.State) bool {
		return s.Session.Phase == ipc.Connected ||
			s.Session.Phase == ipc.SignedOut && s.Session.Token == "" // with one, the session is about to begin
	})
	switch {
	case errors.Is(err, errNotYet):
		return notConnected(s)
	case err != nil:
		return err
	case s.Session.Phase == ipc.SignedOut:
		return signedOut(s)
	}
	fmt.Fprintln(p.out, headline(s.Session, p.now()))
	fmt.Fprintln(p.err, "What you can reach is listed by: stile resources")
	return nil
}

func notConnected(s *ipc.State) error {
	why := ""
	if p := s.Session.Problem; p != nil {
		why = " " + p.Text
	}
	return advice("You are signed in, but not connected yet." + why + " The service keeps trying; watch it with: stile status --watch")
}

// errNotYet means that the service takes longer than is worth waiting for.
var errNotYet = errors.New("not yet")

// await waits for a state and tells of new problems on the way. With errNotYet
// comes the state at the end of the waiting.
func (p *program) await(ctx context.Context, l *link.Client, wait time.Duration, until func(*ipc.State) bool) (*ipc.State, error) {
	limited, cancel := context.WithTimeoutCause(ctx, wait, errNotYet)
	defer cancel()
	last, told := &ipc.State{}, ""
	for {
		s, err := l.Next(limited)
		if err != nil {
			return last, err
		}
		if until(s) {
			return s, nil
		}
		if problem := s.Session.Problem; problem != nil && problem.Text != told {
			told = problem.Text
			fmt.Fprintln(p.err, clean(told))
		}
		last = s
	}
}

type signOutCommand struct{}

// Run signs out and waits until the machine is as it was.
func (signOutCommand) Run(ctx context.Context, p *program) error {
	l, s, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := l.Do(ctx, ipc.SignOut{}); err != nil {
		return err
	}
	was := s.Session.Phase
	_, err = p.await(ctx, l, endTime, func(s *ipc.State) bool { return s.Session.Phase == ipc.SignedOut })
	switch {
	case errors.Is(err, errNotYet):
		return advice("You are signed out, but the service has not put the system back in order yet. See: stile status")
	case err != nil:
		return err
	case was == ipc.SignedOut:
		fmt.Fprintln(p.out, "You were signed out already.")
	default:
		fmt.Fprintln(p.out, "Signed out.")
	}
	return nil
}
