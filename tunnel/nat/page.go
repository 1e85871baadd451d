package nat

import (
	"net/netip"
	"time"
)

// FlowsFrom looks at the next limit places for sessions, yields those that exist
// there, and returns the cursor from which to go on; 0: these were the last. The
// first cursor is 0. What a call takes depends on limit alone, for packets wait
// for it; where many sessions have ended, few are yielded, or none. Between two
// calls anything may happen. A session that lasts comes once.
func (t *Table) FlowsFrom(cursor uint32, limit int, now time.Time, yield func(Flow)) (next uint32) {
	at := t.at(now)
	first, end := ref(cursor)+1, t.rows.used
	if first == 0 { // no cursor of ours
		return 0
	}
	if end >= first && int64(end-first) >= int64(limit) {
		end = first + ref(limit) - 1
		next = uint32(end)
	}
	for r := first; r <= end; r++ {
		if s := t.rows.at(r); s.self != 0 && s.exists(at) {
			yield(t.flow(s))
		}
	}
	return next
}

// Proxies appends all proxy addresses that stand for a name, in no order that
// means something.
func (t *Table) Proxies(dst []netip.Addr) []netip.Addr {
	for p := range t.bindings {
		dst = append(dst, p)
	}
	return dst
}

// Binding returns what a proxy address stands for; ok is false if that is
// nothing. It holds no answer up and lets none take effect.
func (t *Table) Binding(proxy netip.Addr, now time.Time) (v Binding, ok bool) {
	at := t.at(now)
	b := t.bindings[proxy]
	if b == nil {
		return Binding{}, false
	}
	t.judge(at)
	v = t.binding(b, at)
	if v.Waiting && !v.Held { // the next packet will find it so
		v.Current, v.Pending, v.Waiting = v.Pending, netip.Addr{}, false
	}
	return v, true
}

// NameOf returns the name that a proxy address stands for, "" if there is none.
func (t *Table) NameOf(proxy netip.Addr) string {
	if b := t.bindings[proxy]; b != nil {
		return b.name
	}
	return ""
}
