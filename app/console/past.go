package console

import (
	"slices"
	"sync"

	"stile/app/menu"
)

// past is what the pages tell of what was.
type past struct {
	mu      sync.Mutex // guards all below
	history history
	events  []event // the oldest first
	before  menu.View
	begun   bool
}

// observe takes what is now.
func (c *Console) observe(v menu.View) {
	if v.Service != menu.Present {
		v.State = nil
	}
	now := c.now()
	p := &c.past
	p.mu.Lock()
	defer p.mu.Unlock()
	if v.State != nil {
		p.history.observe(v.State.Connections, p.before.State == nil, now)
	}
	if p.begun {
		for _, e := range happened(&p.before, &v) {
			e.at = now
			p.events = append(p.events, e)
		}
		p.trimLocked()
	}
	p.before, p.begun = v, true
}

// note remembers an event that no view shows.
func (c *Console) note(e event) {
	e.at = c.now()
	c.past.mu.Lock()
	c.past.events = append(c.past.events, e)
	c.past.trimLocked()
	c.past.mu.Unlock()
	c.feed.wake()
}

func (p *past) trimLocked() {
	if over := len(p.events) - maxEvents; over > 0 {
		p.events = slices.Delete(p.events, 0, over)
	}
}
