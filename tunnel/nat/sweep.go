package nat

import (
	"net/netip"
	"time"

	"stile/tunnel/id"
)

// collectEvery is how often bindings are looked through for useless ones.
const collectEvery = time.Minute

// Sweep frees what nobody needs any more: sessions whose time is over, and
// proxy addresses that had neither an authorized resource nor a session for
// ten minutes (N28). It changes no answer; call it every few seconds.
//
// It looks at about limit things at most, so that packets do not wait for it, and
// returns at how many; if that is limit or more, there may be others.
func (t *Table) Sweep(authorized func(id.Resource) bool, limit int, now time.Time) (seen int) {
	at := t.at(now)
	seen = t.ripen(at, limit)
	seen += t.retire(at, limit-seen)
	seen += t.sweepPast(at, limit-seen)
	if t.Len() == 0 {
		t.Discard()
	}
	if at < t.collectAt || seen >= limit {
		return seen
	}
	t.collectAt = at + instant(collectEvery)
	for _, b := range t.bindings {
		t.collect(b, authorized, at)
	}
	if len(t.bindings) == 0 {
		t.bindings, t.bound, t.unbound = make(map[netip.Addr]*binding), nil, nil
	}
	return seen
}

func (t *Table) collect(b *binding, authorized func(id.Resource) bool, at instant) {
	for _, r := range b.resources {
		if authorized(r) {
			b.orphan = false
			return
		}
	}
	if !b.orphan || t.hasSession(b, at) {
		b.orphan, b.unneeded = true, at
		return
	}
	if at-b.unneeded >= instant(bindingGC) {
		t.discard(b, at)
	}
}

// Discard gives the memory of all sessions back. Unless there were none, nobody
// may use the Table afterwards.
func (t *Table) Discard() {
	t.rows.discard(t.memory)
	t.inside.discard(t.memory)
	t.outside.discard(t.memory)
	t.wheel = nil
}

// Clear ends all sessions and frees all proxy addresses: the client's state is
// given up (N28). What Events has for that remains to be fetched.
func (t *Table) Clear(now time.Time) {
	at := t.at(now)
	t.retireAll(at)
	for s := range t.rows.all {
		t.remove(s, at, byClearing)
	}
	clear(t.bindings)
	t.bound, t.unbound = nil, nil
	t.past = past{}
}
