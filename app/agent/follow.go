package agent

import (
	"context"
	"errors"
	"time"

	"stile/app/menu"
	"stile/platform/ipcsock"
	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
)

// How the service is looked for.
const (
	firstTime   = time.Second            // for a service that is about to start
	firstPause  = 100 * time.Millisecond // between attempts meanwhile
	pause       = time.Second            // between attempts later (spec desktop-client.md 3.4)
	longPause   = 5 * time.Second        // while nothing but an administrator can help
	lostTime    = 30 * time.Second       // for a service that was there to come back
	stoppedTime = 60 * time.Second       // for one that said goodbye: an update
	commandTime = 15 * time.Second       // for a command
)

// A search is how it goes with looking for the service.
type search struct {
	begun time.Time
	seen  bool      // it was there once
	lost  time.Time // since when it is looked for; zero: it is there
	wait  time.Duration
}

// follow keeps a connection to the service and takes what it says, until ctx
// ends. The session is the service's: nothing has to be restored.
func (a *Agent) follow(ctx context.Context) {
	s := search{begun: time.Now()}
	for ctx.Err() == nil {
		l, err := a.Dial(ctx)
		if err == nil {
			err = a.watch(ctx, l, &s)
			l.Close()
		}
		if ctx.Err() != nil {
			return
		}
		service, again := s.judge(err, time.Now())
		a.change(func() {
			if a.view.Service != service {
				a.Log.Info("the service cannot be asked", "state", service, "error", err)
			}
			a.view.Service, a.view.Reason = service, reason(err)
		})
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
}

// watch takes states until the connection ends.
func (a *Agent) watch(ctx context.Context, l Link, s *search) error {
	for {
		state, err := l.Next(ctx)
		if err != nil {
			return err
		}
		s.seen, s.lost = true, time.Time{}
		a.change(func() {
			if a.view.Service != menu.Present {
				a.Log.Info("the service is there", "version", state.Version)
			}
			a.view.Service, a.view.State, a.view.Reason = menu.Present, state, ""
			a.view.Support, a.view.HideAdmin = state.Settings.SupportURL, state.Settings.HideAdminPortal
			a.obeyLocked(state.Settings.LogFilter)
		})
	}
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

// judge tells what the end of a connection, or of an attempt, means, and when to
// try again.
func (s *search) judge(err error, now time.Time) (menu.Service, time.Duration) {
	if p, is := errors.AsType[*ipc.Problem](err); is {
		switch p.Code {
		case ipc.WrongVersion:
			return menu.Outdated, longPause
		case ipc.NotAllowed, ipc.HeldByOther:
			return menu.Denied, longPause
		}
	}
	switch {
	case errors.Is(err, ipcsock.ErrDenied), errors.Is(err, link.ErrStranger):
		return menu.Denied, longPause
	case errors.Is(err, link.ErrSilent):
		return menu.Silent, pause
	case !s.seen && now.Sub(s.begun) < firstTime:
		return menu.Looking, firstPause
	case !s.seen:
		return menu.Missing, pause
	}
	again := pause
	if s.lost.IsZero() {
		s.lost, s.wait, again = now, lostTime, firstPause
		if p, is := errors.AsType[*ipc.Problem](err); is && p.Code == ipc.Stopping {
			s.wait = stoppedTime
		}
	}
	if now.Sub(s.lost) < s.wait {
		return menu.Lost, again
	}
	return menu.Missing, again
}

// reason puts into sentences why the service cannot be asked, and what helps.
func reason(err error) string {
	problem, is := errors.AsType[*ipc.Problem](err)
	switch {
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
	a.asking.Lock() // in the order of the clicks, as far as anybody can tell
	defer a.asking.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, commandTime, link.ErrSilent)
	defer cancel()
	l, err := a.Dial(ctx)
	if err == nil {
		defer l.Close()
		err = l.Do(ctx, c)
	}
	if err != nil {
		return advice(reason(err))
	}
	return nil
}
