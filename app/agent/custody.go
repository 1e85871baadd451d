package agent

import (
	"context"

	"stile/app/custody"
	"stile/app/signin"
	"stile/tunnel/ipc"
)

// newCustody makes the custodian of the user's tokens, nil if there is no store.
func newCustody(a *Agent) *custody.Keeper {
	if a.Secrets == nil {
		return nil
	}
	return custody.New(custody.Config{Store: a.Secrets, Do: a.command, Log: a.Log})
}

// handOver gives the service what a sign-in has yielded. The user's own store
// keeps the token if this program will be there at the next log-in to bring it
// back. The error is in sentences.
func (a *Agent) handOver(ctx context.Context, r signin.Result) error {
	s := a.View().State
	if a.custody == nil || s == nil || !a.Prefs().OnLogin() {
		return a.ask(ctx, ipc.SignIn{Token: r.Token, AccountSlug: r.Account, Actor: r.Actor, Portal: r.Portal})
	}
	if err := a.custody.SignIn(ctx, r); err != nil {
		return a.advise(err)
	}
	return nil
}

// signOut signs out, wherever the token is. The error is in sentences.
func (a *Agent) signOut(ctx context.Context) error {
	s := a.View().State
	if a.custody == nil || s == nil {
		return a.ask(ctx, ipc.SignOut{})
	}
	if err := a.custody.SignOut(ctx, s.Session.Portal); err != nil {
		return a.advise(err)
	}
	return nil
}

// saw lets the custodian know what the service says.
func (a *Agent) saw(s *ipc.State) {
	if a.custody != nil {
		a.custody.Saw(s)
	}
}
