package link

import (
	"context"
	"errors"
	"time"

	"stile/platform/ipcsock"
	"stile/tunnel/ipc"
)

// A Presence says whether the service can be asked.
type Presence uint8

const (
	Looking  Presence = iota // not found yet, for a moment
	Present                  // connected to it
	Lost                     // it was there and is searched for
	Missing                  // it is not running, or does not respond
	Denied                   // it does not speak with this user or program
	Outdated                 // it speaks another version: start this program anew
)

func (p Presence) String() string {
	return [...]string{"looking", "present", "lost", "missing", "denied", "outdated"}[p]
}

// News is what Follow knows.
type News struct {
	Presence Presence
	State    *ipc.State // not nil, and the latest, if Present; nobody changes it
	Err      error      // why it is not Present; nil while that is not known
}

// How long a service is searched for, and how often (spec desktop-client.md 3.4,
// 7.3).
const (
	lookFor     = time.Second      // before it counts as Missing; it may be starting
	searchFor   = 30 * time.Second // after it broke off
	restartsFor = time.Minute      // after it said that it stops: perhaps it is being upgraded
	soon        = 100 * time.Millisecond
	later       = time.Second
	soonFor     = 5 * time.Second // how long it is looked for soon and not later
)

// Follow stays connected with the service at path, as a program has to that is
// there before it, and after it was restarted or upgraded: it dials again until
// ctx ends, and tells whatever is new. tell is called from this goroutine; while
// it takes its time, states are lost, never the latest. Commands go by Do, or by
// a Client of their own.
func Follow(ctx context.Context, path string, tell func(News)) {
	follow(ctx, func(ctx context.Context) (watched, error) { return Dial(ctx, path) }, tell)
}

// Do has the service at path act on one command, and returns the state that
// knows of it.
func Do(ctx context.Context, path string, command ipc.Command) (*ipc.State, error) {
	c, err := Dial(ctx, path)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.Do(ctx, command); err != nil {
		return nil, err
	}
	return c.Next(ctx)
}

// watched is what follow needs of a Client.
type watched interface {
	Next(context.Context) (*ipc.State, error)
	Close() error
}

func follow(ctx context.Context, dial func(context.Context) (watched, error), tell func(News)) {
	last := News{}
	say := func(n News) {
		if n.State != nil || n.Presence != last.Presence || text(n.Err) != text(last.Err) {
			last = n
			tell(n)
		}
	}
	tell(last)
	met, patience, since := false, lookFor, time.Now()
	for ctx.Err() == nil {
		seen, err := attend(ctx, dial, say)
		if ctx.Err() != nil {
			return
		}
		if seen {
			met, patience, since = true, searchFor, time.Now()
			if p, is := errors.AsType[*ipc.Problem](err); is && p.Code == ipc.Stopping {
				patience = restartsFor
			}
		}
		away := time.Since(since)
		say(News{Presence: presence(err, met, away < patience), Err: err})
		if away < soonFor {
			pause(ctx, soon)
		} else {
			pause(ctx, later)
		}
	}
}

// attend tells the states of one connection until it breaks. seen reports
// whether there was one.
func attend(ctx context.Context, dial func(context.Context) (watched, error), say func(News)) (seen bool, err error) {
	c, err := dial(ctx)
	if err != nil {
		return false, err
	}
	defer c.Close()
	for {
		s, err := c.Next(ctx)
		if err != nil {
			return seen, err
		}
		seen = true
		say(News{Presence: Present, State: s})
	}
}

// presence says what an error of Dial or Next means. patient: the service may
// still come.
func presence(err error, met, patient bool) Presence {
	problem, is := errors.AsType[*ipc.Problem](err)
	switch {
	case is && problem.Code == ipc.WrongVersion, errors.Is(err, ipc.ErrFrame), errors.Is(err, ipc.ErrMessage):
		return Outdated
	case is && problem.Code == ipc.NotAllowed, errors.Is(err, ipcsock.ErrDenied), errors.Is(err, ErrStranger):
		return Denied
	case !patient:
		return Missing
	case met:
		return Lost
	}
	return Looking
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
