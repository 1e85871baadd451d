package why

import (
	"context"
	"errors"
	"time"

	"stile/app/why/cause"
	"stile/platform/ipcsock"
	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
)

// contact meets the service and hears its state.
func (p *probe) contact(ctx context.Context) {
	ctx, cancel := context.WithDeadlineCause(ctx, p.began.Add(contactTime), link.ErrSilent)
	defer cancel()
	c, err := link.Dial(ctx, p.socket)
	if err == nil {
		if p.State, err = c.Next(ctx); err != nil {
			c.Close()
		}
	}
	if err != nil {
		p.Contact, p.Said = standing(err)
		return
	}
	p.service = c
}

// standing sorts why there is no contact, and has the service's word for it if
// it gave one.
func standing(err error) (cause.Contact, *ipc.Problem) {
	problem, is := errors.AsType[*ipc.Problem](err)
	switch {
	case is && problem.Code == ipc.NotAllowed:
		return cause.NotAllowed, problem
	case is && (problem.Code == ipc.WrongVersion || problem.Code == ipc.UnknownCommand):
		return cause.OtherVersion, problem
	case is:
		return cause.Broken, problem
	case errors.Is(err, ipcsock.ErrNobody):
		return cause.NotRunning, nil
	case errors.Is(err, ipcsock.ErrDenied):
		return cause.NotAllowed, nil
	case errors.Is(err, link.ErrSilent):
		return cause.Unresponsive, nil
	case errors.Is(err, link.ErrStranger):
		return cause.Stranger, nil
	case errors.Is(err, ipc.ErrFrame), errors.Is(err, ipc.ErrMessage):
		return cause.OtherVersion, nil
	}
	return cause.Broken, nil
}

// hangs is how long the service may take for an answer about what it knows, and
// how long what it told before counts: on a busy machine it may be late in the
// end.
const hangs = time.Second

// inspect asks what the service knows about a host; nil: it does not say.
func (p *probe) inspect(ctx context.Context, host string) (k *ipc.Knowledge) {
	if p.service == nil {
		return nil
	}
	if p.told.IsZero() {
		p.told = time.Now()
	}
	err := p.service.Ask(ctx, ipc.Inspect{Host: host, Port: p.Target.Port}, func(part ipc.Part) error {
		if part.Knowledge != nil {
			k = part.Knowledge
		}
		return nil
	})
	if err == nil {
		p.told = time.Now()
		return k
	}
	if _, is := errors.AsType[*ipc.Problem](err); !is {
		p.service.Close()
		p.service = nil
	}
	if ctx.Err() != nil {
		if time.Since(p.told) <= hangs {
			return nil
		}
		err = link.ErrSilent
	}
	p.After = nil                               // nothing tells whether it is still so
	if p.State.Session.Phase == ipc.Connected { // else what it said before tells more
		p.Contact, p.Said = standing(err)
	}
	return nil
}

// refresh is inspect for what is known by and by.
func (p *probe) refresh(ctx context.Context) {
	if k := p.inspect(ctx, p.host); k != nil {
		p.After = k
	}
}

// fresh is the service's present state; nil: it does not say.
func fresh(ctx context.Context, socket string) *ipc.State {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	c, err := link.Dial(ctx, socket)
	if err != nil {
		return nil
	}
	defer c.Close()
	s, err := c.Next(ctx)
	if err != nil {
		return nil
	}
	return s
}
