package cli

import (
	"bufio"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"stile/app/callback"
	"stile/app/instance"
	"stile/app/signin"
	"stile/app/words"
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
		return ipc.SayTokenIsManaged.With("source", string(s.Session.Token))
	}
	if p := s.Session.Problem; p != nil && p.Code == ipc.HeldByOther {
		return p // before the user goes to a browser in vain
	}
	place, err := signin.Place(&s.Session, c.AuthURL, cmp.Or(s.Settings.AccountSlug, c.Account))
	if err != nil {
		return err
	}
	place.Portal = cmp.Or(s.Settings.APIURL, place.Portal) // what is set counts for the next session
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

// browse signs in with the desktop's browser, by whichever way its answer comes
// (package signin). The error is desktop.ErrNoDesktop if there is none.
func (p *program) browse(ctx context.Context, o signin.Options) error {
	in, err := callback.Begin(o, &words.English)
	if err != nil {
		return err
	}
	taken, replaced := make(chan signin.Result, 1), make(chan bool, 1)
	serving, stop := context.WithCancel(ctx)
	var g sync.WaitGroup
	defer g.Wait()
	defer stop()
	g.Go(func() { in.Run(serving, func(r signin.Result) { taken <- r }) })

	fmt.Fprintln(p.err, "Opening your browser to sign in.")
	what := "If it does not open, open this address in a browser on this computer"
	if err := p.open(ctx, in.Start()); errors.Is(err, desktop.ErrNoDesktop) {
		return err
	} else if err != nil {
		fmt.Fprintf(p.err, "Your browser could not be opened (%s).\n", clean(err.Error()))
		what = "Open this address in a browser on this computer"
		if p.clip(ctx, in.URL()) == nil {
			what += "; it is on the clipboard, too"
		} else {
			p.copy(in.URL())
		}
	}
	g.Go(func() { p.listen(serving, in, func() { replaced <- true }) })
	fmt.Fprintf(p.out, "%s:\n\n  %s\n\n", what, in.URL())
	fmt.Fprintln(p.err, "Waiting until you are signed in there. If the page shows a code for you to copy, paste it here and press Enter. Ctrl-C cancels.")
	lines, restore, err := p.lines(serving)
	if err != nil {
		return err
	}
	defer restore()
	late := time.After(browserTime)
	for {
		select {
		case r := <-taken:
			return p.signIn(ctx, r) // the page goes on explaining itself meanwhile
		case l := <-lines:
			if l.err != nil {
				lines = nil // nobody types
			} else if err := in.Paste(l.text); err != nil {
				fmt.Fprintln(p.err, signin.Explain(&words.English, err))
			}
		case <-replaced:
			return advice("You started to sign in once more, and this one gave way. Go on there.")
		case <-late:
			return advice("Nobody signed in within 15 minutes. Start again with: stile sign-in")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// listen takes answers that the desktop hands over by the URL scheme, until ctx
// ends. If it cannot, there are two other ways. An earlier command that still
// waits gives way to this one.
func (p *program) listen(ctx context.Context, in *callback.SignIn, replaced func()) {
	p.registerScheme() // if that fails, a stock portal's link can still be pasted
	dir := filepath.Join(p.dir, signInDir)
	i, err := instance.Acquire(dir)
	for n := 0; n < 20 && (errors.Is(err, instance.ErrRunning) || errors.Is(err, instance.ErrOtherSession)); n++ {
		if n == 0 {
			instance.Send(ctx, dir, instance.NewInstance{})
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return
		}
		i, err = instance.Acquire(dir)
	}
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	i.Serve(ctx, func(m instance.Message) {
		switch m := m.(type) {
		case instance.Deeplink:
			in.Follow(m.URL)
		case instance.NewInstance:
			in.Cancel()
			replaced()
			cancel()
		}
	})
}

// signInDir is where "stile sign-in" waits for answers, below the folder of the
// tray, which waits for its own.
const signInDir = "sign-in"

type openDeepLinkCommand struct {
	URL string `arg:"" name:"url" help:"The address."`
}

// Run hands the address to whoever waits for one: the tray, a "stile sign-in" in
// a terminal, or both. Each knows its own.
func (c openDeepLinkCommand) Run(ctx context.Context, p *program) error {
	m := instance.Deeplink{URL: ipc.Secret(c.URL)}
	err := instance.Send(ctx, filepath.Join(p.dir, signInDir), m)
	if e := instance.Send(ctx, p.dir, m); e == nil || !errors.Is(e, instance.ErrNobody) {
		err = e
	}
	if errors.Is(err, instance.ErrNobody) {
		return advice("No program waits for this answer: the sign-in is over, or its program has ended. Start again from the tray, or with: stile sign-in")
	}
	return err
}

// paste has the user carry the token.
func (p *program) paste(ctx context.Context, o signin.Options) (signin.Result, error) {
	page, err := signin.Page(o.Base, o.Account)
	if err != nil {
		return signin.Result{}, err
	}
	fmt.Fprintf(p.out, "Open this address in a browser and sign in:\n\n  %s\n\n", page)
	p.copy(page)
	text, err := p.readToken(ctx)
	if err != nil {
		return signin.Result{}, err
	}
	r, err := signin.Paste(text)
	if errors.Is(err, ipc.ErrNoToken) {
		err = errors.New("there was no token. Copy all of it from the page, and paste it here")
	}
	r.Account, r.Portal = o.Account, o.Portal
	return r, err
}

// copy puts text on the clipboard of the user's terminal, also one that is far
// away (OSC 52). Terminals that do not do that ignore it.
func (p *program) copy(text string) {
	if f, is := p.err.(*os.File); is && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" && os.Getenv("TERM") != "linux" {
		fmt.Fprintf(f, "\x1b]52;c;%s\a", base64.StdEncoding.EncodeToString([]byte(text)))
	}
}

// readToken reads one line.
func (p *program) readToken(ctx context.Context) (string, error) {
	lines, restore, err := p.lines(ctx)
	if err != nil {
		return "", err
	}
	defer restore()
	if term.IsTerminal(int(p.in.Fd())) {
		fmt.Fprint(p.err, "Then paste the token that the page shows (it stays invisible) and press Enter: ")
		defer fmt.Fprintln(p.err)
	}
	select {
	case l := <-lines:
		if l.err == io.EOF {
			l.err = nil // no token is told apart by who reads it
		}
		return l.text, l.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// A typed is a line of input, or why there are no more.
type typed struct {
	text string
	err  error
}

// lines reads what is typed, without showing it, or else lines of input that
// are not empty. restore leaves the terminal as it was; it is to be called.
func (p *program) lines(ctx context.Context) (lines <-chan typed, restore func(), err error) {
	in := bufio.NewReader(io.LimitReader(p.in, 1<<20))
	read, restore := func() (string, error) { return in.ReadString('\n') }, func() {}
	if fd := int(p.in.Fd()); term.IsTerminal(fd) {
		before, err := term.GetState(fd)
		if err != nil {
			return nil, nil, err
		}
		restore = func() { term.Restore(fd, before) } // after Ctrl-C, too
		read = func() (string, error) {
			line, err := term.ReadPassword(fd)
			return string(line), err
		}
	}
	out := make(chan typed)
	go func() { // a read cannot be interrupted; it ends with us at the latest
		for {
			text, err := read()
			l := typed{text, err}
			if strings.TrimSpace(text) != "" {
				l.err = nil
			} else if err == nil {
				continue
			}
			select {
			case out <- l:
			case <-ctx.Done():
				return
			}
			if l.err != nil {
				return
			}
		}
	}()
	return out, restore, nil
}

// signIn gives the service the token and waits until it is connected.
func (p *program) signIn(ctx context.Context, r signin.Result) error {
	l, err := link.Dial(ctx, p.socket)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := l.Do(ctx, ipc.SignIn{Token: r.Token, AccountSlug: r.Account, Actor: r.Actor, Portal: r.Portal}); err != nil {
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
