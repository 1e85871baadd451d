package nat

import (
	"cmp"
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"slices"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/packet"
	"stile/tunnel/policy"
)

// snapshotVersion is the first byte of a snapshot; there are no others yet.
const snapshotVersion = 1

// ErrSnapshot means that a snapshot cannot be read. The table is as it was.
var ErrSnapshot = errors.New("not a snapshot of a session table")

// AppendSnapshot appends the bindings and sessions of the table to dst, for
// [Table.Restore] of the next process (option O3). Times are stored as ages, so
// that a clock that counts from elsewhere can take them up. Evidence and what is
// remembered of sessions that have ended are left out.
//
// All numbers are big endian; ages are milliseconds, 64 bit:
//
//	version u8
//	bindings u32, each: proxy [16], v6 u8, name u16+bytes, resources u8 × [16],
//	  current addr, pending addr, waiting u8, answered u8, latest u16 × addr, announced age,
//	  resolved u8, confirmed age
//	sessions u32, each: inside key, outside key, binding u32 (from 1; 0: none),
//	  state u8, failed u8, ages of out, any, closed, began, started, resource [16],
//	  port u16, packets and bytes out and in u64 each
//	addr: length u8 (0, 4 or 16), bytes; key: addr [16], id u16, port u16, proto u8, v6 u8
func (t *Table) AppendSnapshot(dst []byte, now time.Time) []byte {
	at := t.at(now)
	t.judge(at)
	t.retireAll(at)
	bindings := make([]*binding, 0, len(t.bindings))
	for _, b := range t.bindings {
		t.settle(b, at)
		bindings = append(bindings, b)
	}
	slices.SortFunc(bindings, func(a, b *binding) int { return a.addr.Compare(b.addr) })
	dst = append(dst, snapshotVersion)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(bindings)))
	number := make([]uint32, len(t.bound)+1) // by slot; 0 stands for none
	for i, b := range bindings {
		number[b.slot] = uint32(i + 1)
		dst = b.append(dst, at)
	}
	sessions := make([]*Session, 0, t.Len())
	for s := range t.rows.all {
		sessions = append(sessions, s)
	}
	slices.SortFunc(sessions, func(a, b *Session) int { return cmp.Or(cmp.Compare(a.out, b.out), a.inside.compare(b.inside)) })
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(sessions)))
	for _, s := range sessions {
		dst = s.inside.append(dst)
		dst = s.outside().append(dst)
		dst = binary.BigEndian.AppendUint32(dst, number[s.proxy])
		dst = append(dst, byte(s.state), flag(s.marks&failed != 0))
		for _, when := range []instant{s.out, s.any, s.closed, s.began, s.started} {
			dst = appendAge(dst, at-when)
		}
		dst = binary.BigEndian.AppendUint16(append(dst, s.resource[:]...), s.port)
		for _, n := range []uint64{s.sent.packets, s.sent.bytes, s.received.packets, s.received.bytes} {
			dst = binary.BigEndian.AppendUint64(dst, n)
		}
	}
	return dst
}

func (b *binding) append(dst []byte, at instant) []byte {
	a := b.addr.As16()
	dst = append(append(dst, a[:]...), flag(b.addr.Is6()))
	dst = append(binary.BigEndian.AppendUint16(dst, uint16(len(b.name))), b.name...)
	dst = append(dst, byte(len(b.resources)))
	for _, r := range b.resources {
		dst = append(dst, r[:]...)
	}
	var current netip.Addr
	if b.current != nil {
		current = b.current.addr
	}
	dst = appendAddr(appendAddr(dst, current), b.pending)
	dst = append(dst, flag(b.waiting), byte(b.answered))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(b.latest)))
	for _, x := range b.latest {
		dst = appendAddr(dst, x)
	}
	dst = append(appendAge(dst, at-b.announced), flag(b.resolved))
	return appendAge(dst, at-b.confirmed)
}

func (k key) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, k.addr.High)
	dst = binary.BigEndian.AppendUint64(dst, k.addr.Low)
	dst = binary.BigEndian.AppendUint16(dst, k.id())
	dst = binary.BigEndian.AppendUint16(dst, k.port())
	return append(dst, byte(k.proto()), flag(k.v6()))
}

func appendAddr(dst []byte, a netip.Addr) []byte {
	b := a.AsSlice()
	return append(append(dst, byte(len(b))), b...)
}

// appendAge appends milliseconds. An instant of before the table was made, such
// as none, gives an age, too.
func appendAge(dst []byte, age instant) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(max(0, time.Duration(age)/time.Millisecond)))
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// Restore fills an empty table with what AppendSnapshot wrote gap ago; gap
// counts as time that passed. On an error, which is ErrSnapshot, the table is
// empty as before.
func (t *Table) Restore(b []byte, gap time.Duration, now time.Time) error {
	r := reader{rest: b, at: t.at(now), gap: instant(gap), usable: t.usable}
	if r.byte() != snapshotVersion || t.Len()+len(t.bindings) > 0 || gap < 0 {
		return ErrSnapshot
	}
	bindings := make([]*binding, 0, 8)
	seen := map[netip.Addr]bool{}
	for range r.count(maxProxies, 30) {
		b := r.binding()
		if r.bad || seen[b.addr] {
			return ErrSnapshot
		}
		seen[b.addr] = true
		bindings = append(bindings, b)
	}
	var sessions []Session
	insides, outsides := map[key]bool{}, map[key]bool{}
	for range r.count(t.maxSessions, 140) {
		s := r.session(bindings)
		if r.bad || insides[s.inside] || outsides[s.outside()] {
			return ErrSnapshot
		}
		insides[s.inside], outsides[s.outside()] = true, true
		sessions = append(sessions, s)
	}
	if r.bad || len(r.rest) > 0 {
		return ErrSnapshot
	}
	t.bound, t.unbound = nil, nil
	for _, b := range bindings {
		t.bind(b) // the first gets slot 1
	}
	t.adopt(sessions, r.at)
	return nil
}

// adopt puts restored sessions into the table: those of each class in the order
// of what their lifetime counts from, and handshakes in that of their client's
// last packet.
func (t *Table) adopt(sessions []Session, at instant) {
	for i := range sessions {
		sessions[i].class = sessions[i].classify()
	}
	slices.SortStableFunc(sessions, func(a, b Session) int { return cmp.Compare(a.base(), b.base()) })
	for i := range sessions {
		s := t.add(&sessions[i])
		if s.marks&failed != 0 || s.state.isClosed() && !t.literal {
			if b := t.bindingOf(s); b != nil {
				t.suspend(b, s)
			}
		}
	}
	var handshakes []*Session
	t.each(&t.opening, func(s *Session) bool {
		handshakes = append(handshakes, s)
		return true
	})
	slices.SortFunc(handshakes, func(a, b *Session) int { return cmp.Or(cmp.Compare(a.out, b.out), cmp.Compare(a.self, b.self)) })
	for _, s := range handshakes {
		t.opening.moveToFront(&t.rows, s)
	}
	t.retireAll(at)
}

// A reader reads a snapshot. After the first thing that cannot be so it is bad,
// and gives zeros.
type reader struct {
	rest   []byte
	at     instant
	gap    instant
	usable func(netip.Addr) bool
	bad    bool
}

func (r *reader) take(n int) []byte {
	if r.bad || len(r.rest) < n {
		r.bad = true
		return make([]byte, n)
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) byte() byte { return r.take(1)[0] }

func (r *reader) bool() bool {
	b := r.byte()
	r.bad = r.bad || b > 1
	return b == 1
}

// count reads how many things of at least size bytes follow.
func (r *reader) count(most, size int) int {
	n := int(binary.BigEndian.Uint32(r.take(4)))
	if n > most || n > len(r.rest)/size {
		r.bad = true
	}
	if r.bad {
		return 0
	}
	return n
}

func (r *reader) addr() netip.Addr {
	n := int(r.byte())
	if n != 0 && n != 4 && n != 16 {
		r.bad = true
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(r.take(n)) // invalid for none
	r.bad = r.bad || a.Is4In6()
	return a
}

// when reads an age and returns the instant that it counts from.
func (r *reader) when() instant {
	ms := binary.BigEndian.Uint64(r.take(8))
	if ms > math.MaxInt64/uint64(4*time.Millisecond) { // 73 years
		r.bad = true
		return 0
	}
	return r.at - r.gap - instant(time.Duration(ms)*time.Millisecond)
}

func (r *reader) key() (k key) {
	addr := netip.AddrFrom16([16]byte(r.take(16)))
	id, port := binary.BigEndian.Uint16(r.take(2)), binary.BigEndian.Uint16(r.take(2))
	k = keyTo(packet.Addr16Of(addr), packet.Proto(r.byte()), r.bool()).with(id, port)
	r.bad = r.bad || !k.v6() && !addr.Is4In6()
	return k
}

func (r *reader) binding() *binding {
	b := &binding{}
	a := netip.AddrFrom16([16]byte(r.take(16)))
	if !r.bool() {
		a = a.Unmap()
	}
	b.addr = a
	b.name = string(r.take(int(binary.BigEndian.Uint16(r.take(2)))))
	resources := int(r.byte())
	for range resources {
		b.resources = append(b.resources, id.Resource(r.take(16)))
	}
	current := r.addr()
	b.pending, b.waiting, b.answered = r.addr(), r.bool(), families(r.byte())
	for range binary.BigEndian.Uint16(r.take(2)) {
		if b.latest = append(b.latest, r.addr()); r.bad {
			break
		}
	}
	b.announced, b.resolved, b.confirmed = r.when(), r.bool(), r.when()
	fits := func(x netip.Addr) bool { return x.IsValid() && x.Is4() == a.Is4() && r.usable(x) }
	r.bad = r.bad || !policy.IsProxy(a) || b.name == "" || resources > maxResources || b.answered > ipv4|ipv6 ||
		current.IsValid() && !fits(current) || b.pending.IsValid() && !fits(b.pending) ||
		slices.ContainsFunc(b.latest, func(x netip.Addr) bool { return !fits(x) }) || !slices.IsSortedFunc(b.latest, netip.Addr.Compare)
	if !r.bad && current.IsValid() {
		b.current = b.pinTo(current)
	}
	return b
}

// session reads a session. bindings get their slots in their order.
func (r *reader) session(bindings []*binding) (s Session) {
	s.inside = r.key()
	out := r.key()
	s.setOutside(out)
	s.proxy = slot(binary.BigEndian.Uint32(r.take(4)))
	s.state = state(r.byte())
	if r.bool() {
		s.marks = failed
	}
	s.out, s.any, s.closed, s.began, s.started = r.when(), r.when(), r.when(), r.when(), r.when()
	s.resource, s.port = id.Resource(r.take(16)), binary.BigEndian.Uint16(r.take(2))
	for _, n := range []*uint64{&s.sent.packets, &s.sent.bytes, &s.received.packets, &s.received.bytes} {
		*n = binary.BigEndian.Uint64(r.take(8))
	}
	proxied := s.proxy != 0
	r.bad = r.bad || s.outside() != out || uint64(s.proxy) > uint64(len(bindings)) || policy.IsProxy(s.inside.address()) != proxied ||
		!proxied && s.inside.addr != s.real || s.marks&failed != 0 && !proxied || needsPort(out) && out.id() == 0 && !s.state.has(hostOpened)
	if proxied && !r.bad {
		r.bad = bindings[s.proxy-1].addr != s.inside.address() || !r.usable(s.goesTo())
	}
	return s
}
