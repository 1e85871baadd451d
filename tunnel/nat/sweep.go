package nat

import (
	"math"
	"net/netip"
	"time"

	"stile/tunnel/id"
)

// collectEvery is how often bindings are looked through for useless ones.
const collectEvery = time.Minute

// looksForOne is how many sessions are looked at in the time that one is freed in.
const looksForOne = 8

// Sweep frees what nobody needs any more: sessions whose time is over, and
// proxy addresses that had neither an authorized resource nor a session for
// ten minutes (N28). It changes no answer; call it every few seconds.
//
// It frees about limit things at most, so that packets do not wait for it, or looks
// at some times as many sessions that it does not free, and returns how much of
// limit that took; if that is all or more, there may be others.
func (t *Table) Sweep(authorized func(id.Resource) bool, limit int, now time.Time) (took int) {
	at := t.at(now)
	took = t.ripen(at, min(limit, math.MaxInt/looksForOne)*looksForOne) / looksForOne
	took += t.retire(at, limit-took)
	took += t.sweepPast(at, limit-took)
	if t.Len() == 0 {
		t.freeRows()
	}
	if at < t.collectAt || took >= limit {
		return took
	}
	t.collectAt = at + instant(collectEvery)
	for _, b := range t.bindings {
		t.collect(b, authorized, at)
	}
	if len(t.bindings) == 0 {
		t.bindings, t.bound, t.unbound = make(map[netip.Addr]*binding), nil, nil
	}
	return took
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

// Free forgets all sessions and proxy addresses of a client that is gone, without
// a word, and gives their memory back.
func (t *Table) Free() {
	t.freeRows()
	t.evictable, t.opening, t.awaited = [numClasses]list{}, list{by: byOpening}, nil
	t.bindings, t.bound, t.unbound = make(map[netip.Addr]*binding), nil, nil
	t.past = past{}
}

// freeRows gives the memory of the sessions back. Nothing leads to any.
func (t *Table) freeRows() {
	t.rows.free(t.memory)
	t.inside.free(t.memory)
	t.outside.free(t.memory)
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
