package agent

import (
	"cmp"
	"context"
	"errors"

	"stile/app/menu"
	"stile/app/prefs"
	"stile/app/signin"
	"stile/app/tray"
	"stile/platform/desktop"
	"stile/tunnel/ipc"
)

// beginSignIn opens the browser for a sign-in, which goes on by itself. One that
// was under way is given up.
func (a *Agent) beginSignIn(ctx context.Context) error {
	v := a.View()
	if v.Service != menu.Present || v.State == nil {
		return advice(v.Words.ServiceAway)
	}
	if s := v.State.Session; s.Token.Managed() {
		return advice(v.Words.Problem(ipc.SayTokenIsManaged.With("source", string(s.Token))))
	}
	o, err := a.place(v.State)
	if err != nil {
		return err
	}
	s, err := a.Begin(o, v.Words)
	if err != nil {
		return advice(v.Words.SignInImpossible(err.Error()))
	}
	select {
	case a.signIns <- s:
	case <-a.ended:
		s.Cancel()
		return nil
	}
	a.mu.Lock()
	before := a.signIn
	a.mu.Unlock()
	if before != nil {
		before.Cancel()
	}
	a.change(func() { a.signIn, a.view.Browser = s, true })
	a.tell(tray.Note{Key: "sign-in"}) // that the one before failed counts no more
	a.Log.Info("a sign-in waits for the browser")
	err = a.Open(ctx, s.Start())
	if err == nil || ctx.Err() != nil {
		return nil
	}
	// Any other browser of this computer will do.
	if a.Copy(ctx, s.URL()) == nil {
		w := v.Words
		a.tell(tray.Note{Key: "browser", Title: w.OpenFailedTitle, Text: w.AddressCopied, Stay: true})
		return nil
	}
	a.cancelSignIn()
	if errors.Is(err, desktop.ErrNoDesktop) {
		return advice(v.Words.NoBrowserSignIn)
	}
	return a.noBrowser(err)
}

// place is where to sign in.
func (a *Agent) place(s *ipc.State) (signin.Options, error) {
	base, portal := cmp.Or(s.Settings.AuthURL, s.Session.AuthURL), cmp.Or(s.Settings.APIURL, s.Session.Portal)
	if base == "" {
		if portal == "" {
			return signin.Options{}, advice(a.View().Words.NoPortal)
		}
		var err error
		if base, err = signin.Base(portal); err != nil {
			return signin.Options{}, advice(a.View().Words.SignInImpossible(err.Error()))
		}
	}
	return signin.Options{Base: base, Account: cmp.Or(s.Settings.AccountSlug, a.Prefs().AccountSlug), Portal: portal}, nil
}

// runSignIn waits for the answer, hands it to the service, and goes on telling
// browsers how things stand for a while.
func (a *Agent) runSignIn(ctx context.Context, s SignIn) {
	err := s.Run(ctx, func(r signin.Result) {
		a.taken(ctx, r)
		a.over(s)
	})
	a.over(s)
	if err != nil && ctx.Err() == nil {
		a.Log.Info("a sign-in ended without an answer", "why", err)
	}
}

// over notes that a sign-in waits no more, unless another one does.
func (a *Agent) over(s SignIn) {
	last := false
	a.change(func() {
		if last = a.signIn == s; last {
			a.view.Browser = false
		}
	})
	if last {
		a.tell(tray.Note{Key: "browser"})
	}
}

// taken hands a token to the service.
func (a *Agent) taken(ctx context.Context, r signin.Result) {
	err := a.handOver(ctx, r)
	if err != nil {
		a.Log.Warn("the sign-in was of no use", "error", err)
		a.tell(tray.Note{Key: "sign-in", Title: a.View().Words.SignInFailedTitle, Text: err.Error(), Stay: true, Command: menu.SignIn{}})
		return
	}
	if r.Account != "" && r.Account != a.Prefs().AccountSlug {
		if err := a.remember(func(p *prefs.Prefs) { p.AccountSlug = r.Account }); err != nil {
			a.Log.Warn("the account was not remembered", "error", err)
		}
	}
}

func (a *Agent) cancelSignIn() {
	a.mu.Lock()
	s := a.signIn
	a.mu.Unlock()
	if s != nil {
		s.Cancel()
		a.over(s)
	}
}

// follows takes an address that the desktop called the program with. Without a
// sign-in that could have led there it means nothing.
func (a *Agent) follows(address ipc.Secret) {
	a.mu.Lock()
	s := a.signIn
	a.mu.Unlock()
	if s == nil {
		a.Log.Debug("an address of a sign-in came, and none was begun")
		return
	}
	if err := s.Follow(address); err != nil && err != signin.ErrRepeated {
		a.Log.Info("an answer to a sign-in was not taken", "error", err)
		a.tell(tray.Note{Key: "answer", Title: a.View().Words.SignInFailedTitle, Text: signin.Explain(a.View().Words, err)})
	}
}

// SignInURL is where the sign-in under way goes on; "": none is. It is a secret.
func (a *Agent) SignInURL() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.signIn == nil || !a.view.Browser {
		return ""
	}
	return a.signIn.URL()
}

// Paste takes what the user copied from the last page of the sign-in.
func (a *Agent) Paste(_ context.Context, text string) error {
	a.mu.Lock()
	s := a.signIn
	a.mu.Unlock()
	if s == nil {
		return advice(a.View().Words.NoSignIn)
	}
	if err := s.Paste(text); err != nil && err != signin.ErrRepeated {
		return advice(signin.Explain(a.View().Words, err))
	}
	return nil
}
