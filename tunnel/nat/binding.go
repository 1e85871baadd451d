package nat

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"time"

	"stile/tunnel/id"
)

// A binding is what a proxy address stands for. It counts only for new
// sessions; those that exist keep their pin (N2).
type binding struct {
	// What each packet needs, in one line of the cache.
	waiting  bool       // pending counts
	used     instant    // when the client last sent a packet, or never
	evidence []evidence // what speaks against addresses (N6)

	addr      netip.Addr
	name      string        // lower case, without trailing dot
	resources []id.Resource // announced with the name, oldest first (N26)

	current  *pin         // where new sessions go; nil: nowhere
	pending  netip.Addr   // the answer that waits until nothing holds current; invalid: no address
	answered families     // families the name had addresses of, in the latest answer
	latest   []netip.Addr // the latest answer of its family, sorted; shared and never changed

	slot      slot    // where sessions find it
	pins      []*pin  // current, and those that warm sessions go to
	idle      list    // sessions that hold nothing: no packet for a minute, closed (N7), or failing (N6)
	announced instant // last
	confirmed instant // when the name was last resolved, if it has been
	resolved  bool
	unneeded  instant // since when no resource of it is authorized, if orphan
	orphan    bool
}

// A slot is the place of a binding in its table; 0: none.
type slot uint32

// bindingOf returns the binding of a session, or nil if it is not translated.
func (t *Table) bindingOf(s *Session) *binding {
	if s.proxy == 0 {
		return nil
	}
	return t.bound[s.proxy-1]
}

// never is longer ago than anything.
const never = instant(math.MinInt64 / 2)

// bind gives a binding its slot and makes it what its address stands for.
func (t *Table) bind(b *binding) {
	b.used = never
	b.idle.by = byProxy
	t.bindings[b.addr] = b
	if n := len(t.unbound); n > 0 {
		b.slot = t.unbound[n-1]
		t.unbound = t.unbound[:n-1]
		t.bound[b.slot-1] = b
		return
	}
	t.bound = append(t.bound, b)
	b.slot = slot(len(t.bound))
}

// A pin is a real address with the open sessions that go there and sent a
// packet within the last minute, as far as anybody looked.
type pin struct {
	addr netip.Addr
	warm list
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
			b = &binding{addr: p, name: name}
			t.bind(b)
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
		t.settle(b, at)
		return b.current != nil || t.hasSession(b, at)
	})
}

// use notes a client's packet to the binding.
func (t *Table) use(b *binding, at instant) {
	if at-b.used >= instant(holdFor) && len(t.woken) < maxProxies {
		t.woken = append(t.woken, b.name)
	}
	b.used = max(b.used, at)
}

// Woken moves out the names with an address that the client sent something to
// after it had not for a minute, or never; some may be there more than once.
func (t *Table) Woken(dst []string) []string {
	dst = append(dst, t.woken...)
	clear(t.woken)
	if t.woken = t.woken[:0]; cap(t.woken) > maxProxies/32 {
		t.woken = nil
	}
	return dst
}

// Used returns when the client last sent a packet to one of proxies; zero if it
// never did. ok is false if none of them stands for name.
func (t *Table) Used(name string, proxies []netip.Addr) (last time.Time, ok bool) {
	used := never
	for _, p := range proxies {
		if b := t.bindings[p]; b != nil && b.name == name {
			used, ok = max(used, b.used), true
		}
	}
	if used == never {
		return time.Time{}, ok
	}
	return t.time(used), ok
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
		t.assign(b, x, at)
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
func (t *Table) assign(b *binding, x netip.Addr, at instant) {
	t.settle(b, at)
	b.pending, b.waiting = x, true
	t.settle(b, at)
}

// settle lets the pending answer take over as soon as no session holds the
// current address. It must run before a client packet is noted, since that
// might hold an address whose time is over.
func (t *Table) settle(b *binding, at instant) {
	if !b.waiting || t.holder(b, at) != nil {
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

// holder returns a session that holds the current address: it is pinned to it,
// neither closed nor failing, and sent a packet within the last minute (N3);
// nil if there is none. An open session exists that long; a closed one, which
// holds only if the table is literal, may be over.
//
// Sessions that are found to hold nothing go to the idle ones, where they stay
// until their next packet. So each is looked at once for a packet that it sent.
func (t *Table) holder(b *binding, at instant) *Session {
	if b.current == nil {
		return nil
	}
	for l := &b.current.warm; l.front != 0; {
		s := t.rows.at(l.front)
		if at-s.out < instant(holdFor) && s.exists(at) {
			return s
		}
		l.remove(&t.rows, s)
		s.marks &^= warm
		b.idle.pushFront(&t.rows, s)
	}
	return nil
}

// pinTo returns the pin for a real address.
func (b *binding) pinTo(x netip.Addr) *pin {
	if b.current != nil && b.current.addr == x {
		return b.current
	}
	for _, p := range b.pins {
		if p.addr == x {
			return p
		}
	}
	p := &pin{addr: x, warm: list{by: byProxy}}
	b.pins = append(b.pins, p)
	return p
}

// unpin forgets a pin that is neither current nor used.
func (b *binding) unpin(p *pin) {
	if p == b.current || p.warm.front != 0 {
		return
	}
	if i := slices.Index(b.pins, p); i >= 0 {
		b.pins = slices.Delete(b.pins, i, i+1)
	}
}

// wake puts a session that is in no list of its binding, or among the idle
// ones, to those that may hold its address.
func (t *Table) wake(b *binding, s *Session) {
	if s.links[byProxy] != (links{}) || b.idle.front == s.self {
		b.idle.remove(&t.rows, s)
	}
	s.marks |= warm
	b.pinTo(s.goesTo()).warm.pushFront(&t.rows, s)
}

// cool puts a session to the idle ones.
func (t *Table) cool(b *binding, s *Session) {
	if s.marks&warm == 0 {
		return
	}
	t.forget(b, s)
	s.marks &^= warm
	b.idle.pushFront(&t.rows, s)
}

// forget takes a session off the binding.
func (t *Table) forget(b *binding, s *Session) {
	if s.marks&warm == 0 {
		b.idle.remove(&t.rows, s)
		return
	}
	p := b.pinTo(s.goesTo())
	p.warm.remove(&t.rows, s)
	b.unpin(p)
}

// sessions yields all sessions of the binding until yield says no. The current
// one may be removed.
func (t *Table) sessions(b *binding, yield func(*Session) bool) bool {
	for _, p := range append([]*pin(nil), b.pins...) {
		if !t.each(&p.warm, yield) {
			return false
		}
	}
	return t.each(&b.idle, yield)
}

func (t *Table) each(l *list, yield func(*Session) bool) bool {
	for next := l.front; next != 0; {
		s := t.rows.at(next)
		next = s.links[l.by].next
		if !yield(s) {
			return false
		}
	}
	return true
}

// hasSession reports whether a session exists on the address.
func (t *Table) hasSession(b *binding, at instant) bool {
	return !t.sessions(b, func(s *Session) bool { return !s.exists(at) })
}

// discard frees a proxy address and ends the sessions on it.
func (t *Table) discard(b *binding, at instant) {
	t.sessions(b, func(s *Session) bool {
		t.remove(s, at, byName)
		return true
	})
	t.unbind(b)
	delete(t.bindings, b.addr)
}

// unbind gives the slot of a binding back, which has no sessions.
func (t *Table) unbind(b *binding) {
	t.bound[b.slot-1] = nil
	t.unbound = append(t.unbound, b.slot)
}

// makeRoom frees the names that were announced and used longest ago and have no
// session, if there is no room for proxies. It frees many at once so that the
// search pays off.
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
	idle, free := t.idleNames(proxies, at)
	if free < missing {
		return false
	}
	for freed := 0; len(idle) > 0 && freed < missing+maxProxies/8; idle = idle[1:] {
		for _, b := range idle[0].bindings {
			t.discard(b, at)
		}
		freed += len(idle[0].bindings)
	}
	return true
}

// An idleName is a name without sessions, and the addresses that stand for it.
type idleName struct {
	name     string
	last     instant // when it was announced or used
	busy     bool
	bindings []*binding
}

// idleNames returns all names without sessions, longest idle first, and how many
// addresses they have besides some.
func (t *Table) idleNames(but []netip.Addr, at instant) (idle []*idleName, addrs int) {
	all := make(map[string]*idleName, len(t.bindings)/8)
	for _, b := range t.bindings {
		n := all[b.name]
		if n == nil {
			n = &idleName{name: b.name, last: never}
			all[b.name] = n
		}
		if !slices.Contains(but, b.addr) {
			n.bindings = append(n.bindings, b)
		}
		n.last = max(n.last, b.announced, b.used)
		n.busy = n.busy || t.hasSession(b, at)
	}
	for _, n := range all {
		if !n.busy {
			idle = append(idle, n)
			addrs += len(n.bindings)
		}
	}
	slices.SortFunc(idle, func(a, b *idleName) int { return cmp.Or(cmp.Compare(a.last, b.last), cmp.Compare(a.name, b.name)) })
	return idle, addrs
}
