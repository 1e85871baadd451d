package nat

import (
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"stile/platform/arena"
	"stile/tunnel/id"
	"stile/tunnel/packet"
)

// A model of the table, written from spec gateway-nat.md 7.2 and 7.3: lists,
// linear searches, times compared as they stand there.

type mSession struct {
	proto     packet.Proto
	id, port  uint16 // client's; port is 0 unless TCP
	p         netip.Addr
	outside   uint16
	x         netip.Addr
	out, any  time.Time
	confirmed bool
	spoke     bool // a client segment without SYN
	finOut    bool
	finIn     bool
	rst       bool
	rOut, rIn bool // segments since the RST
	closedAt  time.Time
	discarded bool
	began     time.Time
	syns      []time.Time // of its own, before anything came in
	silent    bool        // two SYN, three seconds, no answer
	away      bool        // its host was said to be out of reach, and nothing came in since
}

type mProxy struct {
	name    string
	cur     netip.Addr
	next    netip.Addr
	waiting bool
	latest  []netip.Addr // of its family
	good    time.Time    // when an answer of its family last came, if one has
}

// mFormer is a session that has ended.
type mFormer struct {
	mSession
	until  time.Time
	revive bool
}

// mEvidence speaks against an address for sessions of one proxy address.
type mEvidence struct {
	p, x  netip.Addr
	port  uint16 // 0: all
	until time.Time
	span  time.Duration
}

type model struct {
	now      time.Time
	max      int
	literal  bool
	evidence []*mEvidence
	former   []mFormer
	sessions []*mSession
	proxies  map[netip.Addr]*mProxy
	before   *mSession   // that the session which outbound returned begins anew
	victims  []*mSession // one of them makes room for the session that outbound returned
}

func (s *mSession) closed() bool { return s.rst || s.finIn && s.finOut }

func (s *mSession) deadline() time.Time {
	switch {
	case s.closed():
		return s.closedAt.Add(4 * time.Minute)
	case !s.confirmed:
		return s.out.Add(time.Minute)
	case s.proto == packet.TCP && !s.spoke:
		return s.any.Add(4 * time.Minute)
	case s.proto == packet.TCP && (s.finIn || s.finOut):
		return s.any.Add(2*time.Hour + 4*time.Minute)
	case s.proto == packet.TCP:
		return s.any.Add(24 * time.Hour)
	case s.proto == packet.UDP:
		return s.any.Add(5 * time.Minute)
	case s.proto == packet.ICMP || s.proto == packet.ICMPv6:
		return s.any.Add(2 * time.Minute)
	}
	return s.any.Add(10 * time.Minute)
}

func (m *model) exists(s *mSession) bool { return !s.discarded && m.now.Before(s.deadline()) }

func (m *model) held(p netip.Addr) bool {
	for _, s := range m.sessions {
		if s.p == p && m.exists(s) && (m.literal || !s.closed() && !s.silent && !s.away) && s.x == m.proxies[p].cur && m.now.Sub(s.out) < time.Minute {
			return true
		}
	}
	return false
}

// settle is N5: it runs after each event and each step of the clock.
func (m *model) settle() {
	m.silence()
	over := slices.DeleteFunc(slices.Clone(m.sessions), m.exists)
	slices.SortStableFunc(over, func(a, b *mSession) int { return a.deadline().Compare(b.deadline()) })
	for _, s := range over {
		if !s.discarded {
			m.remember(s, s.deadline(), true)
		}
	}
	m.sessions = slices.DeleteFunc(m.sessions, func(s *mSession) bool { return !m.exists(s) })
	for p, b := range m.proxies {
		if b.waiting && !m.held(p) {
			b.cur, b.waiting = b.next, false
		}
	}
}

// remember is the beginning of N31 and N14. Of two with one inside the later
// counts.
func (m *model) remember(s *mSession, at time.Time, byTime bool) {
	if !s.confirmed || s.proto == 47 {
		return
	}
	m.former = slices.DeleteFunc(m.former, func(f mFormer) bool {
		return f.sameInside(s.proto, s.id, s.port, s.p) || f.proto == s.proto && f.outside == s.outside && f.port == s.port && f.x == s.x
	})
	m.former = append(m.former, mFormer{*s, at.Add(2 * time.Minute), byTime && !s.closed()})
}

func (f *mFormer) sameInside(proto packet.Proto, id, port uint16, p netip.Addr) bool {
	return f.proto == proto && f.id == id && f.port == port && f.p == p
}

// revival finds the session that a client's packet goes on with.
func (m *model) revival(proto packet.Proto, id, port uint16, p netip.Addr, flags packet.TCPFlags) *mFormer {
	for i := range m.former {
		f := &m.former[i]
		if f.revive && m.now.Before(f.until) && f.sameInside(proto, id, port, p) &&
			(proto != packet.TCP || flags.Has(ack) && flags&(syn|rst) == 0) &&
			m.outsideSession(proto, f.outside, port, f.x) == nil {
			return f
		}
	}
	return nil
}

// quarantined tells whether an outside tuple belongs to another inside that
// has just ended.
func (m *model) quarantined(s *mSession, outside uint16) bool {
	return slices.ContainsFunc(m.former, func(f mFormer) bool {
		return m.now.Before(f.until) && f.proto == s.proto && f.outside == outside && f.port == s.port && f.x == s.x && !f.sameInside(s.proto, s.id, s.port, s.p)
	})
}

// silence is N6 (a): sessions fail one by one, at the moment when they do.
func (m *model) silence() {
	now := m.now
	for !m.literal {
		var next *mSession
		var at time.Time
		for _, s := range m.sessions {
			if len(s.syns) < 2 || s.silent || s.confirmed || s.discarded || s.closed() {
				continue
			}
			due := s.syns[0].Add(3 * time.Second)
			if s.syns[1].After(due) {
				due = s.syns[1]
			}
			if !due.After(now) && (next == nil || due.Before(at)) {
				next, at = s, due
			}
		}
		if next == nil {
			break
		}
		m.now = at
		m.apply()
		next.silent = true
		m.note6(next, next.port)
		m.apply()
	}
	m.now = now
	m.apply()
}

func (m *model) apply() {
	for p, b := range m.proxies {
		if b.waiting && !m.held(p) {
			b.cur, b.waiting = b.next, false
		}
	}
}

// note6 takes a failure as evidence.
func (m *model) note6(s *mSession, port uint16) {
	for _, e := range m.evidence {
		if e.p == s.p && e.x == s.x && e.port == port {
			if !s.began.Before(e.until) {
				e.span = min(2*e.span, 10*time.Minute)
				e.until = m.now.Add(e.span)
			}
			return
		}
	}
	m.evidence = append(m.evidence, &mEvidence{s.p, s.x, port, m.now.Add(30 * time.Second), 30 * time.Second})
}

func (m *model) suspect(p, x netip.Addr, port uint16) bool {
	return slices.ContainsFunc(m.evidence, func(e *mEvidence) bool {
		return e.p == p && e.x == x && (e.port == 0 || e.port == port) && m.now.Before(e.until)
	})
}

// choose is where a new session goes instead of cur.
func (m *model) choose(p netip.Addr, port uint16) netip.Addr {
	b := m.proxies[p]
	if !m.suspect(p, b.cur, port) {
		return b.cur
	}
	if b.waiting && b.next.IsValid() && b.next != b.cur && !m.suspect(p, b.next, port) {
		return b.next
	}
	var after, before []netip.Addr
	for _, a := range b.latest {
		switch a.Compare(b.cur) {
		case 1:
			after = append(after, a)
		case -1:
			before = append(before, a)
		}
	}
	for _, a := range append(after, before...) {
		if !m.suspect(p, a, port) {
			return a
		}
	}
	return b.cur
}

func (m *model) announce(name string, p []netip.Addr) {
	for _, a := range p {
		if b := m.proxies[a]; b == nil || b.name != name {
			for _, s := range m.sessions {
				if s.p == a && m.exists(s) {
					m.remember(s, m.now, false)
					s.discarded = true
				}
			}
			for i := range m.former {
				m.former[i].revive = m.former[i].revive && m.former[i].p != a
			}
			m.proxies[a] = &mProxy{name: name}
			m.evidence = slices.DeleteFunc(m.evidence, func(e *mEvidence) bool { return e.p == a })
		}
	}
	m.settle()
}

func (m *model) answer(name string, p []netip.Addr, v4, v6 Outcome) {
	for _, want4 := range []bool{true, false} {
		o := v6
		if want4 {
			o = v4
		}
		addrs := slices.Clone(o.Addrs)
		slices.SortFunc(addrs, netip.Addr.Compare)
		addrs = slices.Compact(addrs)
		i := 0
		sorted := slices.Clone(p)
		slices.SortFunc(sorted, netip.Addr.Compare)
		for _, a := range sorted {
			if a.Is4() != want4 {
				continue
			}
			var x netip.Addr
			if len(addrs) > 0 {
				x = addrs[i%len(addrs)]
			}
			i++
			b := m.proxies[a]
			if b == nil || b.name != name || o.Failed && (b.good.IsZero() || m.now.Sub(b.good) <= 24*time.Hour) {
				continue
			}
			if !o.Failed {
				b.good = m.now
			}
			b.latest = addrs
			if m.held(a) {
				b.next, b.waiting = x, true
			} else {
				b.cur, b.waiting = x, false
			}
		}
	}
}

func (m *model) insideSession(proto packet.Proto, id, port uint16, p netip.Addr) *mSession {
	for _, s := range m.sessions {
		if m.exists(s) && s.proto == proto && s.id == id && s.port == port && s.p == p {
			return s
		}
	}
	return nil
}

func (m *model) outsideSession(proto packet.Proto, id, port uint16, x netip.Addr) *mSession {
	for _, s := range m.sessions {
		if m.exists(s) && s.proto == proto && s.outside == id && s.port == port && s.x == x {
			return s
		}
	}
	return nil
}

// outbound says what must become of a client's packet: the session it has
// afterwards and whether that is new, or a verdict other than Forward.
func (m *model) outbound(p packet.Packet) (s *mSession, fresh bool, v Verdict) {
	proto, dst, flags := p.Proto(), p.Dst(), p.TCPFlags()
	id, port := p.SrcPort(), uint16(0)
	request := true
	switch proto {
	case packet.TCP:
		port = p.DstPort()
		if flags&0x3f == 0 || flags.Has(syn|fin) || flags.Has(syn|rst) {
			return nil, false, BadFlags
		}
	case packet.ICMP, packet.ICMPv6:
		id, request, _ = p.Echo()
	}
	isSYN := proto == packet.TCP && flags.Has(syn) && !flags.Has(ack)
	m.before = nil
	s = m.insideSession(proto, id, port, dst)
	if s != nil && isSYN && (s.closed() || s.confirmed && s.spoke && m.now.Sub(s.out) >= time.Minute) {
		m.remember(s, m.now, false)
		s.discarded = true
		m.before, s = s, nil
		m.settle()
	}
	if s != nil {
		m.note(s, flags, true)
		return s, false, Forward
	}
	if !request {
		return nil, false, NoSession
	}
	if proto == packet.TCP && (flags.Has(rst) || !flags.Has(syn) && !flags.Has(ack)) {
		return nil, false, BadFlags
	}
	x, b := dst, m.proxies[dst]
	if b == nil && slices.Contains(slices.Concat(names...), dst) {
		return nil, false, NoBinding
	}
	if b != nil {
		if proto == 47 {
			return nil, false, NotAllowed
		}
		if f := m.revival(proto, id, port, dst, flags); f != nil && (proto == packet.TCP || f.x == b.cur) {
			x = f.x
		} else if !b.cur.IsValid() {
			return nil, false, Unresolved
		} else {
			x = m.choose(dst, port)
		}
	}
	if m.victims = nil; len(m.sessions) >= m.max {
		if m.victims = m.leastMissed(); len(m.victims) == 0 {
			return nil, false, Full
		}
	}
	s = &mSession{proto: proto, id: id, port: port, p: dst, x: x, began: m.now}
	m.note(s, flags, true)
	return s, true, Forward
}

// leastMissed lists the sessions of which one may be evicted: the first rank
// of N47 that has any, and of that the oldest.
func (m *model) leastMissed() []*mSession {
	idle := func(s *mSession, d time.Duration) bool { return m.now.Sub(s.any) >= d }
	tcp := func(s *mSession) bool { return s.proto == packet.TCP }
	echo := func(s *mSession) bool { return s.proto == packet.ICMP || s.proto == packet.ICMPv6 }
	unfinished := func(s *mSession) bool { return !s.confirmed || tcp(s) && !s.spoke }
	ranks := []struct {
		in  func(s *mSession) bool
		age func(s *mSession) time.Time
	}{
		{(*mSession).closed, func(s *mSession) time.Time { return s.closedAt }},
		{unfinished, func(s *mSession) time.Time { return s.out }},
		{echo, func(s *mSession) time.Time { return s.any }},
		{func(s *mSession) bool { return s.proto == packet.UDP && idle(s, time.Minute) }, func(s *mSession) time.Time { return s.any }},
		{func(s *mSession) bool { return !tcp(s) && idle(s, time.Minute) }, func(s *mSession) time.Time { return s.any }},
		{func(s *mSession) bool { return (s.finIn || s.finOut) && idle(s, time.Minute) }, func(s *mSession) time.Time { return s.any }},
		{func(s *mSession) bool { return tcp(s) && idle(s, 2*time.Hour+4*time.Minute) }, func(s *mSession) time.Time { return s.any }},
	}
	for n, r := range ranks {
		var oldest []*mSession
		for _, s := range m.sessions {
			switch {
			case !r.in(s):
			case n == 1 && len(m.sessions) > maxReorder:
				oldest = append(oldest, s) // the order of so many is not exact
			case len(oldest) == 0 || r.age(s).Before(r.age(oldest[0])):
				oldest = []*mSession{s}
			case r.age(s).Equal(r.age(oldest[0])):
				oldest = append(oldest, s)
			}
		}
		if len(oldest) > 0 {
			return oldest
		}
	}
	return nil
}

// note records a packet of a session.
func (m *model) note(s *mSession, flags packet.TCPFlags, outbound bool) {
	was := s.closed()
	s.any = m.now
	if outbound {
		s.out = m.now
		if s.proto == packet.TCP && flags.Has(syn) && !flags.Has(ack) && !s.confirmed && m.proxies[s.p] != nil {
			s.syns = append(s.syns, m.now)
		}
	} else {
		m.heard(s, flags)
		s.confirmed = true
	}
	if s.proto == packet.TCP {
		switch {
		case flags.Has(rst):
			s.rst, s.rOut, s.rIn = true, false, false
		case outbound:
			s.spoke = s.spoke || !flags.Has(syn)
			s.finOut = s.finOut || flags.Has(fin)
			s.rOut = s.rst
		default:
			s.finIn = s.finIn || flags.Has(fin)
			s.rIn = s.rst
		}
		if s.rOut && s.rIn {
			s.rst, s.rOut, s.rIn = false, false, false
		}
	}
	if s.closed() && !was {
		s.closedAt = m.now
	}
}

// heard is N6 for a packet that comes in.
func (m *model) heard(s *mSession, flags packet.TCPFlags) {
	if m.literal || m.proxies[s.p] == nil {
		return
	}
	refused := s.proto == packet.TCP && flags.Has(rst) && !s.confirmed && !s.spoke
	answered := s.proto == packet.TCP && flags.Has(syn|ack)
	m.evidence = slices.DeleteFunc(m.evidence, func(e *mEvidence) bool {
		return e.p == s.p && e.x == s.x && (e.port == 0 || answered && e.port == s.port)
	})
	if refused {
		m.note6(s, s.port)
	}
	s.silent, s.away = false, false
}

// A trial runs one Table, or two that differ in how often they are swept,
// beside the model.
type trial struct {
	*testing.T
	seed   uint64
	rng    *rand.Rand
	model  *model
	tables [2]*Table
	memory [2]Memory // the first has the heap
	lent   lender    // the second
	step   int

	// focus: one proxy address, one address per answer, short steps. What
	// takes several sessions on one address is frequent then.
	focus bool
	ports int // of the client

	most, evicted int // what came to pass
}

var names = [][]netip.Addr{foo[:4], bar[:4]} // few addresses, so that things meet

// simSeeds is how many seeds to try: usual ones, or more by wish.
func simSeeds(usual uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv("STILE_SIM_SEEDS"), 10, 64); err == nil {
		return n
	}
	return usual
}

// Each step compares the whole state; a failure tells its seed. What runs with
// each change is 75,000 steps, "make sim" 2,500,000.
func TestTableAgainstModel(t *testing.T) {
	const steps = 500
	seeds := simSeeds(150)
	for seed := range seeds {
		tr := &trial{T: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 7)), focus: seed%2 == 1, ports: 3}
		tr.run(3+tr.rng.IntN(24), steps, 1)
	}
	t.Logf("%d steps, seeds 0 to %d", seeds*steps, seeds-1)
}

// Many sessions: rows in several chunks, used again and again, an index that
// grows, tables that are full for a while and then are not.
func TestCrowdAgainstModel(t *testing.T) {
	most, evicted := 0, 0
	for seed := range simSeeds(120) / 10 {
		tr := &trial{T: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 9)), ports: 60}
		tr.run(100+tr.rng.IntN(250), 3000, 20)
		most, evicted = max(most, tr.most), evicted+tr.evicted
	}
	if most < 2*firstChunk || evicted < 100 {
		t.Errorf("at most %d sessions, %d evicted", most, evicted)
	}
}

// run does some steps with a table of at most max sessions, and compares the
// whole state after each so many.
func (tr *trial) run(max, steps, each int) {
	tr.lent = lender{Memory: new(arena.Arena)}
	tr.memory = [2]Memory{nil, &tr.lent}
	tr.model = &model{now: epoch, max: max, literal: tr.seed%5 == 0, proxies: make(map[netip.Addr]*mProxy)}
	for i := range tr.tables {
		tr.tables[i] = New(Config{Rand: rand.New(rand.NewPCG(tr.seed, 8)), MaxSessions: max, Memory: tr.memory[i], Literal: tr.model.literal}, epoch)
	}
	for _, name := range []string{"foo", "bar"} {
		tr.announce(name)
		tr.answer(name)
	}
	for tr.step = range steps {
		tr.advance()
		tr.act()
		if tr.step%each == 0 {
			tr.check()
		}
	}
	if tr.tables[1].Free(); tr.lent.out != 0 {
		tr.fatalf("%d pieces of memory did not come back", tr.lent.out)
	}
}

// A lender counts what is lent.
type lender struct {
	Memory
	out int
}

func (l *lender) Get(size int) []byte {
	l.out++
	return l.Memory.Get(size)
}

func (l *lender) Put(b []byte) {
	l.out--
	l.Memory.Put(b)
}

func (tr *trial) act() {
	if tr.rng.IntN(33*tr.ports) == 0 {
		tr.restart()
		return
	}
	switch tr.rng.IntN(20) {
	case 0:
		tr.announce([]string{"foo", "bar"}[tr.rng.IntN(2)])
	case 1, 2:
		tr.answer([]string{"foo", "bar"}[tr.rng.IntN(2)])
	case 3:
		tr.sendError()
	case 4, 5, 6, 7, 8, 9:
		tr.sendIn()
	default:
		tr.sendOut()
	}
	tr.model.settle()
}

// restart has both tables begun anew from what they have written down. What
// they have seen of failures and of the past is not in it.
func (tr *trial) restart() {
	for i, table := range tr.tables {
		tr.tables[i] = New(Config{Rand: rand.New(rand.NewPCG(tr.seed, uint64(tr.step))), MaxSessions: tr.model.max, Memory: tr.memory[i], Literal: tr.model.literal}, tr.model.now)
		if err := tr.tables[i].Restore(table.AppendSnapshot(nil, tr.model.now), 0, tr.model.now); err != nil {
			tr.fatalf("table %d: %v", i, err)
		}
		table.Free()
	}
	tr.model.evidence, tr.model.former = nil, nil
	for _, s := range tr.model.sessions {
		s.syns = nil
	}
}

// advance moves the clock; often to just before or at an instant that matters.
func (tr *trial) advance() {
	step := []time.Duration{0, 0, 0, 0, 0, time.Millisecond, time.Second, 20 * time.Second, seconds(59.999), time.Minute, 2 * time.Minute}[tr.rng.IntN(11)]
	switch {
	case tr.focus:
		step = time.Duration(tr.rng.IntN(40)) * time.Second
	case tr.ports > 3 && tr.step%500 != 0: // enough for all to be busy, then for all to end
		step = time.Duration(tr.rng.IntN(200)) * time.Millisecond
	case tr.rng.IntN(30) == 0:
		step = []time.Duration{4 * time.Minute, time.Hour, 3 * time.Hour, 25 * time.Hour}[tr.rng.IntN(4)]
	}
	to := tr.model.now.Add(step)
	if n := len(tr.model.sessions); n > 0 && tr.rng.IntN(tr.ports*tr.ports/3) == 0 {
		s := tr.model.sessions[tr.rng.IntN(n)]
		at := []time.Time{s.deadline(), s.out.Add(time.Minute), s.began.Add(3 * time.Second)}[tr.rng.IntN(3)].Add(-time.Millisecond * time.Duration(tr.rng.IntN(2)))
		if at.After(tr.model.now) && at.Sub(tr.model.now) < 3*time.Hour {
			to = at
		}
	}
	tr.model.now = to
	tr.model.settle()
	swept := tr.tables[1]
	tr.most = max(tr.most, swept.Len())
	swept.Sweep(func(id.Resource) bool { return true }, all, to)
	for s := range swept.rows.all {
		if !s.exists(swept.at(to)) {
			tr.fatalf("swept, but %+v is over since %v", s, time.Duration(swept.at(to)-s.deadline()))
		}
	}
}

func (tr *trial) announce(name string) {
	p := names[0]
	if name == "bar" {
		p = names[1]
	}
	if !tr.focus && tr.rng.IntN(10) == 0 { // a client that numbers its names anew
		p = names[tr.rng.IntN(2)]
	}
	tr.model.announce(name, p)
	for _, table := range tr.tables {
		table.Announce(name, wiki, p, tr.model.now)
	}
}

func (tr *trial) answer(name string) {
	outcome := func(list ...netip.Addr) (o Outcome) {
		if o.Failed = tr.rng.IntN(8) == 0; o.Failed {
			return o
		}
		for _, a := range list {
			if tr.rng.IntN(3) > 0 {
				o.Addrs = append(o.Addrs, a)
			}
		}
		if tr.focus {
			o.Addrs = []netip.Addr{list[tr.rng.IntN(len(list))]}
		}
		tr.rng.Shuffle(len(o.Addrs), func(i, j int) { o.Addrs[i], o.Addrs[j] = o.Addrs[j], o.Addrs[i] })
		return o
	}
	v4, v6 := outcome(addrA, addrB, addrC), outcome(addrD, addrD.Next())
	all := slices.Concat(names...)
	tr.model.answer(name, all, v4, v6)
	for _, table := range tr.tables {
		table.Answer(name, all, v4, v6, tr.model.now)
	}
}

// sendOut sends a client's packet and compares what becomes of it.
func (tr *trial) sendOut() {
	dst := []netip.Addr{names[0][0], names[0][1], names[1][0], names[1][2], addrA, addrB, addrD}[tr.rng.IntN(7)]
	if tr.focus {
		dst = names[0][0]
	}
	src := client4
	if dst.Is6() {
		src = client6
	}
	port := 5000 + uint16(tr.rng.IntN(tr.ports))
	var b []byte
	switch tr.rng.IntN(8) {
	case 0:
		b = udp(src, dst, port, 53+uint16(tr.rng.IntN(2)))
	case 1:
		b = echo(src, dst, port, tr.rng.IntN(4) > 0)
	case 2:
		b = ip(src, dst, 47, []byte{1})
	default:
		b = tcp(src, dst, port, 443+uint16(tr.rng.IntN(2)), tr.flags(syn))
	}
	s, fresh, want := tr.model.outbound(parse(tr, b))
	var seen [2]packet.Packet
	for i, table := range tr.tables {
		seen[i] = parse(tr, clone(b))
		if i == 1 { // whether it is looked at before changes nothing
			Prefetch([]Look{table.LookOut(seen[i])})
		}
		if got := table.Out(seen[i], tr.model.now); got != want && !(want == Unresolved && got == NoFamily) {
			tr.fatalf("table %d: %v for % x, want %v", i, got, b, want)
		}
	}
	if want != Forward {
		return
	}
	tr.evict()
	outside := idOf(seen[0], true)
	if outside != idOf(seen[1], true) {
		tr.fatalf("sweeping changes the outside id")
	}
	if fresh {
		other := tr.model.outsideSession(s.proto, outside, s.port, s.x)
		wanted := tr.model.outsideSession(s.proto, s.id, s.port, s.x)
		again := tr.model.revival(s.proto, s.id, s.port, s.p, parse(tr, b).TCPFlags())
		switch {
		case again != nil && again.x == s.x:
			if outside != again.outside {
				tr.fatalf("revived session %+v has outside id %d, want %d", s, outside, again.outside)
			}
		case tr.model.before != nil && tr.model.before.x == s.x && !tr.model.quarantined(s, tr.model.before.outside):
			if outside != tr.model.before.outside || other != nil {
				tr.fatalf("%+v, begun anew, has outside id %d, want %d", s, outside, tr.model.before.outside)
			}
		case other != nil || tr.model.quarantined(s, outside) || outside != s.id && wanted == nil && !tr.model.quarantined(s, s.id):
			tr.fatalf("new session %+v has outside id %d, which is %+v's; its own was %+v's", s, outside, other, wanted)
		}
		s.outside = outside
		tr.model.sessions = append(tr.model.sessions, s)
	}
	for i, p := range seen {
		if idOf(p, true) != s.outside || p.Dst() != s.x || !p.ValidChecksums() {
			tr.fatalf("table %d: to %v from %d, want %+v", i, p.Dst(), idOf(p, true), s)
		}
	}
}

// evict finds out whom the tables chose to make room for a new session.
func (tr *trial) evict() {
	if len(tr.model.victims) == 0 {
		return
	}
	gone := 0
	for _, s := range tr.model.victims {
		k := keyTo(packet.Addr16Of(s.p), s.proto, s.p.Is6()).with(s.id, s.port)
		if tr.tables[0].byInside(k) == nil {
			tr.model.remember(s, tr.model.now, true)
			s.discarded = true
			gone++
		}
	}
	if gone != 1 {
		tr.fatalf("%d of %d that may go are gone", gone, len(tr.model.victims))
	}
	tr.evicted++
	tr.model.victims = nil
	tr.model.sessions = slices.DeleteFunc(tr.model.sessions, func(s *mSession) bool { return s.discarded })
}

// sendIn sends a resource's packet: to a session, or beside one.
func (tr *trial) sendIn() {
	if len(tr.model.sessions) == 0 {
		return
	}
	s := *tr.model.sessions[tr.rng.IntN(len(tr.model.sessions))]
	switch tr.rng.IntN(6) {
	case 0:
		s.outside = 5000 + uint16(tr.rng.IntN(tr.ports))
	case 1:
		s.port ^= 1
	case 2:
		if s.x.Is4() {
			s.x = []netip.Addr{addrA, addrB, addrC}[tr.rng.IntN(3)]
		}
	}
	dst, reply := client4, tr.rng.IntN(4) > 0
	if s.x.Is6() {
		dst = client6
	}
	var b []byte
	switch s.proto {
	case packet.UDP:
		b = udp(s.x, dst, 53+uint16(tr.rng.IntN(3)), s.outside)
	case packet.TCP:
		b = tcp(s.x, dst, s.port, s.outside, tr.flags(syn|ack))
	case 47:
		b = ip(s.x, dst, 47, []byte{1})
	default:
		b = echo(s.x, dst, s.outside, !reply)
	}
	port := s.port
	if s.proto != packet.TCP {
		port = 0
	}
	if s.proto == 47 {
		s.outside = 0
	}
	want := tr.model.outsideSession(s.proto, s.outside, port, s.x)
	if isEcho := s.proto == packet.ICMP || s.proto == packet.ICMPv6; isEcho && !reply {
		want = nil
	}
	permitted := tr.rng.IntN(8) > 0 // or denied by policy: then nothing changes
	for i, table := range tr.tables {
		p := parse(tr, clone(b))
		got := table.Match(p, tr.model.now)
		if (got == nil) != (want == nil) {
			tr.fatalf("table %d: session %v for % x, want %+v", i, got, b, want)
		}
		if got == nil || !permitted {
			continue
		}
		table.In(got, p, tr.model.now)
		if idOf(p, false) != want.id || p.Src() != want.p || !p.ValidChecksums() {
			tr.fatalf("table %d: to %d from %v, want %+v", i, idOf(p, false), p.Src(), want)
		}
	}
	if want != nil && permitted {
		tr.model.note(want, parse(tr, b).TCPFlags(), false)
	}
}

// sendError sends an ICMP error about a session. It changes nothing, but must
// name the client's own end.
func (tr *trial) sendError() {
	if len(tr.model.sessions) == 0 {
		return
	}
	s := tr.model.sessions[tr.rng.IntN(len(tr.model.sessions))]
	if s.proto != packet.TCP || s.x.Is6() {
		return
	}
	about := tcp(client4, s.x, s.outside, s.port, ack)
	for i, table := range tr.tables {
		p := parse(tr, icmpError(s.x, client4, 3, about))
		got := table.MatchError(p, tr.model.now)
		if got == nil {
			tr.fatalf("table %d: no session for an error about %+v", i, s)
		}
		table.InError(got, p, s.x, tr.model.now)
		if q, ok := p.Quote(); !ok || q.Dst() != s.p || q.SrcPort() != s.id || p.Src() != s.p {
			tr.fatalf("table %d: error about %v:%d, want %+v", i, q.Dst(), q.SrcPort(), s)
		}
	}
	if !tr.model.literal && tr.model.proxies[s.p] != nil {
		tr.model.note6(s, 0)
		s.away = true
	}
}

// flags are mostly sensible ones, beginning with usual.
func (tr *trial) flags(usual packet.TCPFlags) packet.TCPFlags {
	all := []packet.TCPFlags{usual, usual, usual, ack, ack, ack, ack, fin | ack, fin | ack, rst, rst | ack, packet.TCPFlags(tr.rng.IntN(64))}
	return all[tr.rng.IntN(len(all))]
}

// check compares the whole state.
func (tr *trial) check() {
	for i, table := range tr.tables {
		table.judge(table.at(tr.model.now))
		if err := sound(table); err != nil {
			tr.fatalf("table %d: %v", i, err)
		}
		live := 0
		for range table.Flows(tr.model.now) {
			live++
		}
		if live != len(tr.model.sessions) {
			tr.fatalf("table %d: %d of %d sessions, want %d", i, live, table.Len(), len(tr.model.sessions))
		}
		for a, b := range tr.model.proxies {
			got := table.bindings[a]
			var cur netip.Addr
			if got.current != nil {
				cur = got.current.addr
			}
			if got.waiting && table.holder(got, table.at(tr.model.now)) == nil { // the table settles when it must, not before
				cur = got.pending
			} else if got.waiting != b.waiting || got.waiting && got.pending != b.next {
				tr.fatalf("table %d: %v waits for %v, want %+v", i, a, got.pending, b)
			}
			if cur != b.cur {
				tr.fatalf("table %d: %v is %v, want %+v", i, a, cur, b)
			}
			used := 0
			for _, p := range got.pins {
				if p.warm.front != 0 || p == got.current {
					used++
				}
			}
			if used != len(got.pins) {
				tr.fatalf("table %d: %d pins of %v are of no use", i, len(got.pins)-used, a)
			}
		}
	}
}

func (tr *trial) fatalf(format string, args ...any) {
	tr.Helper()
	tr.Fatalf("seed %d step %d: "+format, append([]any{tr.seed, tr.step}, args...)...)
}

// idOf is the client's end of a packet: its port or echo id.
func idOf(p packet.Packet, outbound bool) uint16 {
	if id, _, ok := p.Echo(); ok {
		return id
	}
	if outbound {
		return p.SrcPort()
	}
	return p.DstPort()
}
