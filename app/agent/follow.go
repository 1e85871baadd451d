package agent

import (
	"cmp"
	"context"
	"errors"
	"time"

	"stile/app/menu"
	"stile/app/words"
	"stile/platform/ipcsock"
	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
)

// commandTime is how long the service may take for a command.
const commandTime = 15 * time.Second

// follow takes what the service says, until ctx ends. The session is the
// service's: nothing has to be restored when it comes back, except what only its
// memory held (package custody).
func (a *Agent) follow(ctx context.Context) {
	a.Follow(ctx, func(n link.News) {
		service := presence(n)
		a.change(func() {
			if a.view.Service != service {
				a.Log.Info("the service", "is", n.Presence, "error", n.Err)
			}
			a.view.Service, a.trouble = service, nil
			if n.State == nil {
				a.trouble = n.Err
			}
			a.view.Reason = reason(a.view.Words, a.trouble)
			if n.State == nil {
				return
			}
			a.view.State = n.State
			a.view.Support, a.view.HideAdmin = n.State.Settings.SupportURL, n.State.Settings.HideAdminPortal
			a.obeyLocked(cmp.Or(n.State.Logs.Filter, n.State.Settings.LogFilter))
		})
		if n.State != nil {
			a.saw(n.State)
		}
	})
}

// presence is what the menu shows of the service.
func presence(n link.News) menu.Service {
	switch n.Presence {
	case link.Looking:
		return menu.Looking
	case link.Present:
		return menu.Present
	case link.Lost:
		return menu.Lost
	case link.Denied:
		return menu.Denied
	case link.Outdated:
		return menu.Outdated
	}
	if errors.Is(n.Err, link.ErrSilent) {
		return menu.Silent
	}
	return menu.Missing
}

// obeyLocked logs what the service logs; mu is held.
func (a *Agent) obeyLocked(filter string) {
	if filter == "" || filter == a.filter || a.Logs == nil {
		return
	}
	a.filter = filter
	if err := a.Logs.SetFilter(filter, 0); err != nil {
		a.Log.Warn("the service's log filter makes no sense here", "filter", filter, "error", err)
	}
}

// reason puts into sentences why the service cannot be asked, and what helps.
func reason(w *words.Words, err error) string {
	problem, is := errors.AsType[*ipc.Problem](err)
	switch {
	case err == nil:
		return ""
	case is:
		return w.Problem(problem)
	case errors.Is(err, ipcsock.ErrNobody):
		return w.NotRunning(startService)
	case errors.Is(err, ipcsock.ErrDenied):
		return w.MayNotSpeak
	case errors.Is(err, link.ErrSilent):
		return w.NoResponse(restartService)
	case errors.Is(err, link.ErrStranger):
		return w.Stranger
	case errors.Is(err, link.ErrGone), errors.Is(err, ipc.ErrFrame), errors.Is(err, ipc.ErrMessage):
		return w.BrokeOff
	}
	return w.NotReached(err.Error())
}

// How services are started.
const (
	startService   = "sudo systemctl start stiled"
	restartService = "sudo systemctl restart stiled"
)

// ask has the service act on a command. The error is in sentences.
func (a *Agent) ask(ctx context.Context, c ipc.Command) error {
	if err := a.command(ctx, c); err != nil {
		return a.advise(err)
	}
	return nil
}

// advise puts into sentences why the service did not do something.
func (a *Agent) advise(err error) error { return advice(reason(a.View().Words, err)) }

// command is ask with the error as it is.
func (a *Agent) command(ctx context.Context, c ipc.Command) error {
	a.asking.Lock() // in the order of the clicks, as far as anybody can tell
	defer a.asking.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, commandTime, link.ErrSilent)
	defer cancel()
	return a.Ask(ctx, c)
}
