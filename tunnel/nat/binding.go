package nat

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"stile/tunnel/id"
)

// A binding is what a proxy address stands for. It counts only for new
// sessions; those that exist keep their pin (N2).
type binding struct {
	addr      netip.Addr
	name      string        // lower case, without trailing dot
	resources []id.Resource // announced with the name, oldest first (N26)

	current  *pin         // where new sessions go; nil: nowhere
	pending  netip.Addr   // the answer that waits until nothing holds current; invalid: no address
	waiting  bool         // pending counts
	answered families     // families the name had addresses of, in the latest answer
	latest   []netip.Addr // the latest answer of its family, sorted; shared and never changed
	evidence []evidence   // what speaks against addresses (N6)

	pins      []*pin  // current, and those that open sessions are pinned to
	resting   list    // sessions that are closed or show failure: they are translated, but hold nothing (N6, N7)
	announced instant // last
	confirmed instant // when the name was last resolved, if it has been
	resolved  bool
	unneeded  instant // since when no resource of it is authorized, if orphan
	orphan    bool
}

// A pin is a real address with the open sessions that go there, the one with
// the latest client packet in front.
type pin struct {
	addr netip.Addr
	open list
}

// families is a set of IPv4 and IPv6.
type families uint8

const (
	ipv4 families = 1 << iota
	ipv6
)

func familyOf(a netip.Addr) families {
	if a.Is4() {
		return ipv4
	}
	return ipv6
}

// An Outcome is what resolving one family of a name gave: addresses, possibly
// none, or a failure, which says nothing at all about them (N20).
type Outcome struct {
	Addrs  []netip.Addr // usable ones only (N19)
	Failed bool
}

// Announce makes proxies stand for name on behalf of a resource. They have no
// address until Answer. Addresses that stood for another name lose it, and the
// sessions on them end: their packets must not reach the other name's servers
// (N25). It reports false, and changes nothing, if there is no room.
//
// The caller has checked that the proxies are proxy addresses (N16).
func (t *Table) Announce(name string, r id.Resource, proxies []netip.Addr, now time.Time) bool {
	at := t.at(now)
	if !t.makeRoom(proxies, at) {
		return false
	}
	for _, p := range proxies {
		b := t.bindings[p]
		if b != nil && b.name != name {
			t.discard(b, at)
			b = nil
		}
		if b == nil {
			b = &binding{addr: p, name: name, resting: list{by: byProxy}}
			t.bindings[p] = b
		}
		b.announced, b.orphan = at, false
		if !slices.Contains(b.resources, r) {
			b.resources = append(b.resources, r)
			b.resources = slices.Delete(b.resources, 0, max(0, len(b.resources)-maxResources))
		}
	}
	return true
}

// Withdraw takes a resource from the proxy addresses of all names that it does
// not cover: it was announced with them when it was another. Those it covers
// keep it, so that nothing is announced anew when a resource is granted again.
func (t *Table) Withdraw(r id.Resource, covers func(name string) bool) {
	for _, b := range t.bindings {
		if i := slices.Index(b.resources, r); i >= 0 && !covers(b.name) {
			b.resources = slices.Delete(b.resources, i, i+1)
		}
	}
}

// Usable reports whether packets to any of proxies still find their way while
// the name cannot be resolved: new sessions have an address, or there are
// sessions (N24).
func (t *Table) Usable(name string, proxies []netip.Addr, now time.Time) bool {
	at := t.at(now)
	t.judge(at)
	return slices.ContainsFunc(proxies, func(p netip.Addr) bool {
		b := t.bindings[p]
		if b == nil || b.name != name {
			return false
		}
		b.settle(at)
		return b.current != nil || b.hasSession(at)
	})
}

// Answer applies the outcome of a resolution of name to those of proxies that
// still stand for it. Per family, the sorted proxies take the sorted addresses
// in turn (N17). An address that differs from the current one takes effect for
// new sessions: at once if no session holds the current one (N4), otherwise as
// soon as none does (N3, N5).
func (t *Table) Answer(name string, proxies []netip.Addr, v4, v6 Outcome, now time.Time) {
	at := t.at(now)
	t.judge(at)
	proxies = slices.SortedFunc(slices.Values(proxies), netip.Addr.Compare)
	split, _ := slices.BinarySearchFunc(proxies, firstV6, netip.Addr.Compare)
	t.answer(name, proxies[:split], v4, at)
	t.answer(name, proxies[split:], v6, at)
	for _, p := range proxies {
		if b := t.bindings[p]; b != nil && b.name == name {
			b.answered = b.answered.after(ipv4, v4).after(ipv6, v6)
		}
	}
}

// firstV6 sorts behind all IPv4 addresses.
var firstV6 = netip.IPv6Unspecified()

// answer applies the outcome of one family to the sorted proxies of that
// family. A failure says nothing, but what was known a day ago is known no
// more (N20).
func (t *Table) answer(name string, proxies []netip.Addr, outcome Outcome, at instant) {
	addrs := slices.Compact(slices.SortedFunc(slices.Values(outcome.Addrs), netip.Addr.Compare))
	first := t.first(name, len(addrs))
	for i, p := range proxies {
		b := t.bindings[p]
		switch {
		case b == nil || b.name != name:
			continue
		case !outcome.Failed:
			b.confirmed, b.resolved = at, true
		case !b.resolved || at-b.confirmed <= instant(staleAfter):
			continue
		}
		var x netip.Addr
		if len(addrs) > 0 {
			x = addrs[(first+i)%len(addrs)]
		}
		b.assign(x, at)
		b.latest = addrs
	}
}

// first is where a name's proxies begin in the list of its addresses: at the
// lowest, or at one that is its own if clients spread (O1).
func (t *Table) first(name string, addrs int) int {
	if t.spread == 0 || addrs == 0 {
		return 0
	}
	h := t.spread ^ 0xcbf29ce484222325 // FNV-1a
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 0x100000001b3
	}
	h ^= h >> 32
	return int(h % uint64(addrs))
}

// after is what is known of a name's families after the outcome for one.
func (f families) after(one families, o Outcome) families {
	switch {
	case o.Failed:
		return f
	case len(o.Addrs) == 0:
		return f &^ one
	}
	return f | one
}

// Resources returns the resources that were announced with a proxy address;
// ok is false if none ever was. The slice is borrowed until the next Announce.
func (t *Table) Resources(proxy netip.Addr) (resources []id.Resource, ok bool) {
	b, ok := t.bindings[proxy]
	if !ok {
		return nil, false
	}
	return b.resources, true
}

// assign takes an answer for the address; x is invalid if there is none.
func (b *binding) assign(x netip.Addr, at instant) {
	b.settle(at)
	b.pending, b.waiting = x, true
	b.settle(at)
}

// settle lets the pending answer take over as soon as no session holds the
// current address. It must run before a client packet is noted, since that
// might hold an address whose time is over.
func (b *binding) settle(at instant) {
	if b == nil || !b.waiting || b.held(at) {
		return
	}
	b.waiting = false
	was := b.current
	b.current = nil
	if b.pending.IsValid() {
		b.current = b.pinTo(b.pending)
	}
	if was != nil {
		b.unpin(was)
	}
}

// held reports whether a session pinned to the current address, which neither
// is closed nor shows failure, sent a packet within the last minute (N3). An
// open session exists that long; a closed one, which holds only if the table is
// literal, may be over.
func (b *binding) held(at instant) bool { return b.holder(at) != nil }

// holder returns the session that holds the current address, if one does.
func (b *binding) holder(at instant) *Session {
	if b.current == nil {
		return nil
	}
	for s := b.current.open.front; s != nil && at-s.out < instant(holdFor); s = s.links[byProxy].next {
		if s.exists(at) {
			return s
		}
	}
	return nil
}

// pinTo returns the pin for a real address.
func (b *binding) pinTo(x netip.Addr) *pin {
	for _, p := range b.pins {
		if p.addr == x {
			return p
		}
	}
	p := &pin{addr: x, open: list{by: byProxy}}
	b.pins = append(b.pins, p)
	return p
}

// unpin forgets a pin that is neither current nor used.
func (b *binding) unpin(p *pin) {
	if p == b.current || p.open.front != nil {
		return
	}
	if i := slices.Index(b.pins, p); i >= 0 {
		b.pins = slices.Delete(b.pins, i, i+1)
	}
}

// reopen puts a session back to its pin, in the order of its last client packet.
func (b *binding) reopen(s *Session) {
	s.pin = b.pinTo(s.pin.addr)
	s.pin.open.insertAfter(s.pin.open.behind(s.out), s)
}

// forget takes a session off the binding.
func (b *binding) forget(s *Session) {
	switch {
	case b == nil:
	case s.resting:
		b.resting.remove(s)
	default:
		s.pin.open.remove(s)
		b.unpin(s.pin)
	}
}

// hasSession reports whether a session exists on the address.
func (b *binding) hasSession(at instant) bool {
	for _, p := range b.pins {
		for s := p.open.front; s != nil; s = s.links[byProxy].next {
			if s.exists(at) {
				return true
			}
		}
	}
	for s := b.resting.front; s != nil; s = s.links[byProxy].next {
		if s.exists(at) {
			return true
		}
	}
	return false
}

// discard frees a proxy address and ends the sessions on it.
func (t *Table) discard(b *binding, at instant) {
	for b.resting.front != nil {
		t.remove(b.resting.front, at, byName)
	}
	for len(b.pins) > 0 {
		p := b.pins[0]
		b.current = nil // so that the pin goes with its last session
		for p.open.front != nil {
			t.remove(p.open.front, at, byName)
		}
		b.unpin(p)
	}
	delete(t.bindings, b.addr)
}

// makeRoom frees the proxy addresses whose announcements are oldest and which
// no session uses, if there is no room for proxies. It frees many at once so
// that the search pays off.
func (t *Table) makeRoom(proxies []netip.Addr, at instant) bool {
	missing := len(t.bindings) - maxProxies
	for _, p := range proxies {
		if t.bindings[p] == nil {
			missing++
		}
	}
	if missing <= 0 {
		return true
	}
	var idle []*binding
	for _, b := range t.bindings {
		if !slices.Contains(proxies, b.addr) && !b.hasSession(at) {
			idle = append(idle, b)
		}
	}
	slices.SortFunc(idle, func(a, b *binding) int {
		return cmp.Or(cmp.Compare(a.announced, b.announced), a.addr.Compare(b.addr))
	})
	if len(idle) < missing {
		return false
	}
	for _, b := range idle[:min(len(idle), missing+maxProxies/8)] {
		t.discard(b, at)
	}
	return true
}
