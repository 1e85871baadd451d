package serve

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"stile/tunnel/portal"
)

// inputs is how many things may wait for the hub. Readers of sockets wait when
// it is full, as their peers do then.
const inputs = 256

// A ledger stores authorizations; *store.Store is one.
type ledger interface {
	SaveAuthorization(portal.Authorization) error
	DropAuthorization(portal.AuthorizationID) error
}

// A hub owns the portal role: one goroutine feeds it and does what it decides,
// in order.
type hub struct {
	role   *portal.Portal
	ledger ledger
	log    *slog.Logger
	in     chan func(now time.Time)
	done   chan struct{} // closed when run has returned: nobody listens any more

	sessions map[portal.Conn]*session // joined ones; run's only
	unsaved  []portal.Action          // Save and Drop that failed; run's only
}

func newHub(role *portal.Portal, l ledger, log *slog.Logger) *hub {
	return &hub{
		role: role, ledger: l, log: log, in: make(chan func(time.Time), inputs), done: make(chan struct{}),
		sessions: map[portal.Conn]*session{},
	}
}

// run is the hub's goroutine, until ctx ends.
func (h *hub) run(ctx context.Context) {
	defer close(h.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case input := <-h.in:
			input(time.Now())
		case <-timer.C:
			h.role.Advance(time.Now())
		}
		h.perform(h.role.Drain())
		timer.Reset(time.Until(h.role.Next()))
	}
}

// do has the hub's goroutine run f. It returns when f was queued, and reports
// false if there is no hub any more.
func (h *hub) do(f func(now time.Time)) bool {
	select {
	case <-h.done: // there may be room in the queue all the same
		return false
	default:
	}
	select {
	case h.in <- f:
		return true
	case <-h.done:
		return false
	}
}

var errStopped = errors.New("the portal is stopping")

// ask is do that waits until f has run and all that follows from it is done.
func (h *hub) ask(ctx context.Context, f func(now time.Time)) error {
	ran := make(chan struct{})
	if !h.do(f) || !h.do(func(time.Time) { close(ran) }) {
		return errStopped
	}
	select {
	case <-ran:
		return nil
	case <-h.done:
		return errStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// join lets s in behind its confirmation. A second join on one socket starts
// over (spec portal.md 2.3).
func (h *hub) join(s *session, as func(now time.Time)) bool {
	return h.do(func(now time.Time) {
		if h.sessions[s.conn] != nil {
			h.role.Leave(s.conn, now)
		}
		h.sessions[s.conn] = s
		as(now)
	})
}

// leave forgets s.
func (h *hub) leave(s *session) {
	h.do(func(now time.Time) {
		delete(h.sessions, s.conn)
		h.role.Leave(s.conn, now)
	})
}

// perform does what the role decided. What is stored is stored before anybody
// is told of what follows it.
func (h *hub) perform(actions []portal.Action) {
	h.saveAgain()
	for _, a := range actions {
		switch a := a.(type) {
		case portal.Push:
			if s := h.sessions[a.To]; s != nil {
				s.push(a.Message)
			}
		case portal.Close:
			if s := h.sessions[a.Conn]; s != nil {
				s.finish()
			}
		default:
			h.save(a)
		}
	}
}

// maxUnsaved bounds what is kept for a store that does not take it.
const maxUnsaved = 10_000

// save stores a, or keeps it for later: a full disk must not lock out people
// whose access is all decided. The loss comes only with a restart.
func (h *hub) save(a portal.Action) {
	if err := h.store(a); err != nil {
		h.log.Error("an authorization could not be stored; it will be lost if the portal restarts now", "error", err)
		if h.unsaved = append(h.unsaved, a); len(h.unsaved) > maxUnsaved {
			h.unsaved = slices.Delete(h.unsaved, 0, 1)
		}
	}
}

func (h *hub) saveAgain() {
	for len(h.unsaved) > 0 && h.store(h.unsaved[0]) == nil {
		h.unsaved = h.unsaved[1:]
	}
}

func (h *hub) store(a portal.Action) error {
	switch a := a.(type) {
	case portal.Save:
		return h.ledger.SaveAuthorization(a.Authorization)
	case portal.Drop:
		return h.ledger.DropAuthorization(a.ID)
	}
	return nil
}
