package engine

import (
	"context"
	"errors"
	"os"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/upstream"
)

// lookupTime bounds the resolution of a resource's name on a gateway (spec
// gateway-nat.md 2.3).
const lookupTime = 10 * time.Second

var errBusy = errors.New("too many look-ups at once")

// start begins slow work that does not have to wait for its turn, in a
// goroutine of its own.
func (c *carrier) start(a core.Action) {
	switch a := a.(type) {
	case core.Rebind:
		if err := c.sockets.Rebind(); err != nil && !c.closed(err) {
			c.fail(err)
		}
	case core.Lookup:
		c.spawn(func() core.Result {
			ctx, cancel := context.WithTimeout(c.ctx, lookupTime)
			defer cancel()
			r := c.c.Upstream.Lookup(ctx, a.Name)
			return core.Looked{ID: a.ID, V4: r.V4, V6: r.V6, Err4: r.Err4, Err6: r.Err6, TTL4: r.TTL4, TTL6: r.TTL6}
		}, core.Looked{ID: a.ID, Err4: errBusy, Err6: errBusy})
	case core.Exchange:
		c.spawn(func() core.Result {
			reply, err := c.c.Upstream.Exchange(c.ctx, a.Server, a.Query)
			if err != nil && c.ctx.Err() == nil {
				c.c.Log.Debug("a resolver did not answer", "server", a.Server, "error", err)
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				err = core.ErrTimeout
			}
			return core.Exchanged{ID: a.ID, Reply: reply, Err: err}
		}, core.Exchanged{ID: a.ID, Err: core.ErrTimeout})
	}
}

// spawn runs f and feeds its result to the role. If too many run already, the
// result is busy.
func (c *carrier) spawn(f func() core.Result, busy core.Result) {
	e := c.Engine
	select {
	case e.tokens <- struct{}{}:
	default:
		e.stats.busy.Add(1)
		// The role is not called from within its own turn: the control
		// goroutine may be this one, and its queue full.
		e.running.Go(func() { e.Do(busy) })
		return
	}
	e.running.Go(func() {
		defer e.c.Flight.Panicking()
		r := f()
		<-e.tokens
		e.Do(r)
	})
}

var _ Upstream = (*upstream.Resolver)(nil)

// slowWork does what has to happen in order and may take a while.
func (e *Engine) slowWork(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.work:
		}
		e.mu.Lock()
		todo := e.slow
		e.slow = nil
		e.mu.Unlock()
		for i, a := range todo {
			if _, wish := a.(core.Remember); wish || ctx.Err() == nil {
				e.do(a, todo[i+1:])
			}
		}
	}
}

// lastWish stores what the role wanted remembered when it stopped.
func (e *Engine) lastWish() {
	for i, a := range e.slow {
		if _, wish := a.(core.Remember); wish {
			e.do(a, e.slow[i+1:])
		}
	}
}

func (e *Engine) do(a core.Action, later []core.Action) {
	switch a := a.(type) {
	case core.Configure:
		var err error
		if e.c.Configure != nil {
			err = e.c.Configure(e.device.Name(), a.TUN)
		}
		if err != nil {
			e.c.Log.Error("the system could not be configured for the tunnel", "error", err)
		}
		e.Do(core.Configured{Err: err})
	case core.Flush:
		if e.c.Flush == nil {
			return
		}
		if err := e.c.Flush(); err != nil {
			e.c.Log.Warn("the system's DNS cache could not be emptied", "error", err)
		}
	case core.Remember:
		for _, l := range later {
			if _, again := l.(core.Remember); again {
				return // the later one has all of it
			}
		}
		if e.c.Remember == nil {
			return
		}
		if err := e.c.Remember(a.Names); err != nil {
			e.c.Log.Error("proxy addresses could not be stored; after a restart applications may have to look names up again", "error", err)
		}
	case core.Notify:
		if e.c.Notify != nil {
			e.c.Notify(a)
		}
	case core.Fail:
		e.fail(a.Err)
	}
}
