package agent

import (
	"cmp"
	"context"
	"errors"
	"time"

	"stile/app/menu"
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
			a.view.Service, a.view.Reason = service, ""
			if n.State == nil {
				a.view.Reason = reason(n.Err)
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
func reason(err error) string {
	problem, is := errors.AsType[*ipc.Problem](err)
	switch {
	case err == nil:
		return ""
	case is:
		return problem.Text
	case errors.Is(err, ipcsock.ErrNobody):
		return "The tunnel service is not running. An administrator can start it: " + startService
	case errors.Is(err, ipcsock.ErrDenied):
		return "You may not speak to the tunnel service. Ask an administrator of this computer."
	case errors.Is(err, link.ErrSilent):
		return "The tunnel service does not respond. An administrator can restart it: " + restartService
	case errors.Is(err, link.ErrStranger):
		return "What answers in place of the tunnel service is run by another user. It is not trusted with anything: ask an administrator of this computer."
	case errors.Is(err, link.ErrGone), errors.Is(err, ipc.ErrFrame), errors.Is(err, ipc.ErrMessage):
		return "The tunnel service broke off. It is tried again by itself."
	}
	return "The tunnel service cannot be reached: " + err.Error()
}

// How services are started.
const (
	startService   = "sudo systemctl start stiled"
	restartService = "sudo systemctl restart stiled"
)

// ask has the service act on a command. The error is in sentences.
func (a *Agent) ask(ctx context.Context, c ipc.Command) error {
	if err := a.command(ctx, c); err != nil {
		return advice(reason(err))
	}
	return nil
}

// command is ask with the error as it is.
func (a *Agent) command(ctx context.Context, c ipc.Command) error {
	a.asking.Lock() // in the order of the clicks, as far as anybody can tell
	defer a.asking.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, commandTime, link.ErrSilent)
	defer cancel()
	return a.Ask(ctx, c)
}
