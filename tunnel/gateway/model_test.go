package gateway

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/packet"
	"stile/tunnel/wire"
)

// A model of the gateway, written from spec gateway-nat.md 7.2 and 7.3: lists,
// linear searches, times compared as they stand there. It is about what lies
// around a session table, which has a model of its own in tunnel/nat: policy,
// names, connections and clients that leave and return.

// mGrant is a permission to use a resource.
type mGrant struct {
	resource int
	filters  []wire.Filter
	expires  time.Time // zero: never
}

// The resources that there are, by number.
const (
	mNames  = 1 // *.corp.example
	mDomain = 2 // **.example
	mNet    = 3 // 10.0.0.0/24
	mWide   = 4 // 10.0.0.0/16
	mAll    = 5 // the Internet
)

var mText = []string{"a.corp.example", "b.example"}

type mSession struct {
	proto     packet.Proto
	id, port  uint16 // client's; the resource's of TCP, and of UDP with the host
	p, x      netip.Addr
	outside   uint16
	out, any  time.Time
	confirmed bool
	host      bool // the gateway host began it
}

func (s *mSession) deadline() time.Time {
	switch {
	case !s.confirmed:
		return s.out.Add(time.Minute)
	case s.proto == packet.UDP:
		return s.any.Add(5 * time.Minute)
	case s.proto == packet.ICMP:
		return s.any.Add(2 * time.Minute)
	case s.host: // the client has not spoken
		return s.any.Add(4 * time.Minute)
	}
	return s.any.Add(24 * time.Hour)
}

func (s *mSession) inside(proto packet.Proto, id, port uint16, p netip.Addr) bool {
	return s.proto == proto && s.id == id && s.port == port && s.p == p
}

func (s *mSession) outer(proto packet.Proto, id, port uint16, x netip.Addr) bool {
	return s.proto == proto && s.outside == id && s.port == port && s.x == x
}

// mFormer is a session that has ended.
type mFormer struct {
	mSession
	until  time.Time
	revive bool
}

type mProxy struct {
	name      string
	resources []int
	cur, next netip.Addr
	waiting   bool
}

type mLookup struct {
	client, life int
	name         string
}

type mClient struct {
	n        byte
	variant  byte
	grants   map[int]*mGrant
	proxies  map[netip.Addr]*mProxy
	sets     map[string][][]netip.Addr
	sessions []*mSession
	former   []mFormer
	life     int       // counts connections
	known    bool      // the gateway remembers it
	parked   time.Time // zero: it has a connection, or is not known
	lost     time.Time // its last authorization; zero: it has one
	down     bool
}

func (c *mClient) addr() netip.Addr { return c4(c.n + 10*c.variant) }

func (c *mClient) forget() {
	*c = mClient{n: c.n, variant: c.variant, down: c.down, life: c.life + 1, grants: map[int]*mGrant{}, proxies: map[netip.Addr]*mProxy{}, sets: map[string][][]netip.Addr{}}
}

func (g *mGrant) valid(now time.Time) bool {
	return g != nil && (g.expires.IsZero() || now.Before(g.expires))
}

func (c *mClient) authorized(now time.Time) bool {
	for _, g := range c.grants {
		if g.valid(now) {
			return true
		}
	}
	return false
}

func mPermits(list []wire.Filter, proto packet.Proto, port uint16) bool {
	for _, f := range list {
		switch {
		case f.Protocol == wire.ICMP && proto == packet.ICMP,
			f.Protocol == wire.TCP && proto == packet.TCP && f.First <= port && port <= f.Last,
			f.Protocol == wire.UDP && proto == packet.UDP && f.First <= port && port <= f.Last:
			return true
		}
	}
	return len(list) == 0
}

// allows is N26, N27, N44 and N46. Without a filter asked, any permits.
func (c *mClient) allows(a netip.Addr, proto packet.Proto, port uint16, filtered bool, now time.Time) bool {
	ok := func(r int) bool {
		g := c.grants[r]
		return g.valid(now) && (!filtered || r == mAll || mPermits(g.filters, proto, port))
	}
	if b := c.proxies[a]; b != nil {
		return slices.ContainsFunc(b.resources, ok)
	}
	return netip.MustParsePrefix("10.0.0.0/24").Contains(a) && ok(mNet) ||
		netip.MustParsePrefix("10.0.0.0/16").Contains(a) && ok(mWide) ||
		a == mPublic && ok(mAll)
}

var mPublic = addr("8.8.8.8")

func mCovers(r int, name string) bool {
	return r == mDomain || r == mNames && name == mText[0]
}

func (c *mClient) held(p netip.Addr, now time.Time) bool {
	return slices.ContainsFunc(c.sessions, func(s *mSession) bool {
		return s.p == p && s.x == c.proxies[p].cur && now.Sub(s.out) < time.Minute && now.Before(s.deadline())
	})
}

// settle takes note that time has passed.
func (c *mClient) settle(now time.Time) {
	over := slices.DeleteFunc(slices.Clone(c.sessions), func(s *mSession) bool { return now.Before(s.deadline()) })
	slices.SortStableFunc(over, func(a, b *mSession) int { return a.deadline().Compare(b.deadline()) })
	for _, s := range over {
		c.remember(s, s.deadline(), true)
	}
	c.sessions = slices.DeleteFunc(c.sessions, func(s *mSession) bool { return !now.Before(s.deadline()) })
	for p, b := range c.proxies {
		if b.waiting && !c.held(p, now) {
			b.cur, b.waiting = b.next, false
		}
	}
}

func (c *mClient) remember(s *mSession, at time.Time, revive bool) {
	if !s.confirmed {
		return
	}
	c.former = slices.DeleteFunc(c.former, func(f mFormer) bool {
		return f.inside(s.proto, s.id, s.port, s.p) || f.outer(s.proto, s.outside, s.port, s.x)
	})
	c.former = append(c.former, mFormer{*s, at.Add(2 * time.Minute), revive})
}

func (c *mClient) find(match func(*mSession) bool) *mSession {
	if i := slices.IndexFunc(c.sessions, match); i >= 0 {
		return c.sessions[i]
	}
	return nil
}

// A drive runs a gateway beside the model.
type drive struct {
	*bench
	seed    uint64
	step    int
	rng     *rand.Rand
	clients []*mClient
	lookups map[uint64]mLookup

	passed, refused, resumed, stale int // what came to pass
}

// simSeeds is how many seeds to try: usual ones, or more by wish.
func simSeeds(usual uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv("STILE_SIM_SEEDS"), 10, 64); err == nil {
		return n
	}
	return usual
}

func TestGatewayAgainstModel(t *testing.T) {
	const steps = 1000
	seeds := simSeeds(60)
	passed, refused, resumed, stale := 0, 0, 0, 0
	for seed := range seeds {
		d := &drive{bench: newBench(t), seed: seed, rng: rand.New(rand.NewPCG(seed, 81)), lookups: map[uint64]mLookup{}}
		for n := range byte(2) {
			c := &mClient{n: n + 1}
			c.forget()
			d.clients = append(d.clients, c)
			for _, r := range []int{mNames, mDomain, mNet} {
				d.authorize(c, r)
			}
		}
		for d.step = range steps {
			d.act()
			d.check()
		}
		passed, refused, resumed, stale = passed+d.passed, refused+d.refused, resumed+d.resumed, stale+d.stale
	}
	t.Logf("%d steps, seeds 0 to %d: %d packets passed, %d refused, %d clients came back to their sessions, %d late results", seeds*steps, seeds-1, passed, refused, resumed, stale)
	if total := int(seeds * steps); passed < total/12 || refused < total/10 || resumed < int(seeds)/2 || stale < int(seeds)/4 {
		t.Error("too tame")
	}
}

func (d *drive) fatalf(format string, args ...any) {
	d.t.Helper()
	d.t.Fatalf("seed %d step %d at %v: "+format, append([]any{d.seed, d.step, d.now.Sub(boot)}, args...)...)
}

func (d *drive) any() *mClient { return d.clients[d.rng.IntN(len(d.clients))] }

func (d *drive) act() {
	c := d.any()
	switch d.rng.IntN(40) {
	case 0, 1, 2, 3:
		d.wait()
	case 4, 5, 6:
		d.announceSome(c)
	case 7, 8, 9:
		d.complete()
	case 10, 11, 12:
		d.authorize(c, 1+d.rng.IntN(5))
	case 13:
		if d.rng.IntN(2) == 0 {
			d.reject(c, 1+d.rng.IntN(5))
		}
	case 14:
		d.update(1 + d.rng.IntN(4))
	case 15:
		if d.rng.IntN(10) == 0 {
			d.snapshot()
		}
	case 16:
		d.link(c)
	case 17:
		d.leave(c)
	case 18:
		d.sendError(c)
	case 19, 20, 21, 22, 23, 24, 25, 26, 27:
		d.sendIn(c)
	default:
		d.sendOut(c)
	}
	d.sync()
}

// wait lets time pass, often to just before or at an instant that matters.
func (d *drive) wait() {
	step := []time.Duration{0, time.Millisecond, time.Second, 20 * time.Second, 59999 * time.Millisecond, time.Minute, 2 * time.Minute}[d.rng.IntN(7)]
	if d.rng.IntN(60) == 0 {
		step = []time.Duration{6 * time.Minute, 20 * time.Minute}[d.rng.IntN(2)]
	}
	c := d.any()
	if n := len(c.sessions); n > 0 && d.rng.IntN(3) == 0 {
		s := c.sessions[d.rng.IntN(n)]
		at := []time.Time{s.deadline(), s.out.Add(time.Minute)}[d.rng.IntN(2)].Add(-time.Millisecond * time.Duration(d.rng.IntN(2)))
		if wait := at.Sub(d.now); wait > 0 && wait < 10*time.Minute {
			step = wait
		}
	}
	for _, g := range c.grants {
		if wait := g.expires.Sub(d.now); !g.expires.IsZero() && wait > 0 && d.rng.IntN(4) == 0 {
			step = min(step, wait-time.Millisecond*time.Duration(d.rng.IntN(2)))
		}
	}
	d.until(d.now.Add(max(0, step)))
}

// sync takes note of the time, and of what the gateway may do when it likes: it
// must be within the bounds of N28.
func (d *drive) sync() {
	for _, c := range d.clients {
		c.settle(d.now)
		if c.known && !c.authorized(d.now) && c.lost.IsZero() {
			for _, g := range c.grants { // the last that expired
				if g.expires.After(c.lost) {
					c.lost = g.expires
				}
			}
		}
		k := d.c.clients[who(c.n)]
		switch {
		case k == nil && !c.known:
		case k == nil:
			since := c.parked
			if since.IsZero() {
				since = c.lost // and parked meanwhile
			}
			if since.IsZero() || d.now.Sub(since) < 5*time.Minute {
				d.fatalf("client %d is forgotten after %v", c.n, d.now.Sub(since))
			}
			c.forget()
		case !c.known:
			d.fatalf("client %d is remembered", c.n)
		case !k.parked.IsZero() && c.parked.IsZero():
			if c.lost.IsZero() || k.parked.Before(c.lost) {
				d.fatalf("client %d is parked with an authorization", c.n)
			}
			c.parked = k.parked
			c.life++
			c.grants, c.sets = map[int]*mGrant{}, map[string][][]netip.Addr{}
		case k.parked.IsZero() && !c.lost.IsZero() && d.now.Sub(c.lost) > time.Second:
			d.fatalf("client %d is connected %v after its last authorization", c.n, d.now.Sub(c.lost))
		case !k.parked.IsZero() && d.now.Sub(k.parked) > 5*time.Minute+time.Second:
			d.fatalf("client %d is remembered after %v", c.n, d.now.Sub(k.parked))
		}
		if k = d.c.clients[who(c.n)]; k == nil {
			continue
		}
		for p, b := range c.proxies { // freed if nobody needs it
			needed := c.find(func(s *mSession) bool { return s.p == p }) != nil
			for _, r := range b.resources {
				needed = needed || c.grants[r].valid(d.now)
			}
			if _, ok := k.nat.Resources(p); !ok {
				if needed {
					d.fatalf("%v of client %d is freed", p, c.n)
				}
				delete(c.proxies, p)
			}
		}
	}
}

// check compares what can be seen of the state.
func (d *drive) check() {
	for _, c := range d.clients {
		k := d.c.clients[who(c.n)]
		if k == nil {
			continue
		}
		n := 0
		for range k.nat.Flows(d.now) {
			n++
		}
		if n != len(c.sessions) {
			d.fatalf("client %d has %d sessions, want %d", c.n, n, len(c.sessions))
		}
		for p, b := range c.proxies {
			got, ok := k.nat.Binding(p, d.now)
			if !ok || got.Name != b.name || got.Current != b.cur || got.Waiting != b.waiting || b.waiting && got.Pending != b.next || got.Held != c.held(p, d.now) && b.cur.IsValid() {
				d.fatalf("%v of client %d is %+v, want %+v", p, c.n, got, b)
			}
		}
		if got := len(k.nat.Proxies(nil)); got != len(c.proxies) {
			d.fatalf("client %d has %d proxy addresses, want %d", c.n, got, len(c.proxies))
		}
	}
}

// authorize grants a resource, now and then to a client with another address.
func (d *drive) authorize(c *mClient, r int) {
	if d.rng.IntN(40) == 0 {
		c.forget()
		c.variant = (c.variant + 1) % 3
	}
	if !c.parked.IsZero() && d.now.Sub(c.parked) >= 5*time.Minute {
		c.forget()
	}
	if !c.parked.IsZero() && len(c.sessions) > 0 {
		d.resumed++
	}
	g := &mGrant{resource: r, filters: d.filters()}
	until := int64(0)
	if d.rng.IntN(3) == 0 {
		until = int64(d.now.Sub(boot).Seconds()) + 1 + int64(d.rng.IntN(600))
		g.expires = boot.Add(time.Duration(until) * time.Second)
	}
	m := authorization(c.n, mResource(r, g.filters))
	m.ClientIPv4, m.ClientIPv6 = c.addr(), c6(c.n+10*c.variant)
	if until != 0 {
		m.ExpiresAt = epoch.Unix() + until
	}
	d.message(m)
	c.grants[r] = g
	c.known, c.parked, c.lost = true, time.Time{}, time.Time{}
}

func mResource(r int, filters []wire.Filter) wire.GatewayResource {
	switch r {
	case mNames:
		return dns(1, "*.corp.example", filters...)
	case mDomain:
		return dns(2, "**.example", filters...)
	case mNet:
		return cidr(3, "10.0.0.0/24", filters...)
	case mWide:
		return cidr(4, "10.0.0.0/16", filters...)
	}
	return internet(5)
}

func (d *drive) filters() []wire.Filter {
	return [][]wire.Filter{
		nil, nil, nil, nil, nil, {udpOnly(53)}, {tcpOnly(443), udpOnly(53)}, {{Protocol: wire.ICMP}}, {{Protocol: wire.UDP, First: 50, Last: 60}, {Protocol: wire.ICMP}},
	}[d.rng.IntN(9)]
}

func (d *drive) reject(c *mClient, r int) {
	d.message(wire.RejectAccess{Client: who(c.n), Resource: res(byte(r))})
	c.revoke(r, d.now)
}

func (c *mClient) revoke(r int, now time.Time) {
	was := c.authorized(now)
	delete(c.grants, r)
	if was && !c.authorized(now) {
		c.lost = now
	}
}

func (d *drive) update(r int) {
	filters := d.filters()
	d.message(wire.GatewayResourceUpdated{GatewayResource: mResource(r, filters)})
	for _, c := range d.clients {
		if g := c.grants[r]; g != nil {
			g.filters = filters
		}
	}
}

// snapshot is an init: what it does not list is revoked.
func (d *drive) snapshot() {
	m := wire.GatewayInit{IPv4: own4, IPv6: own6}
	for _, c := range d.clients {
		for r := mNames; r <= mAll; r++ {
			g := c.grants[r]
			switch {
			case !g.valid(d.now):
			case d.rng.IntN(4) == 0:
				c.revoke(r, d.now)
			default:
				until := int64(d.now.Sub(boot).Seconds()) + 1 + int64(d.rng.IntN(300))
				g.expires = boot.Add(time.Duration(until) * time.Second)
				m.Authorizations = append(m.Authorizations, wire.Authorization{Client: who(c.n), Resource: res(byte(r)), ExpiresAt: epoch.Unix() + until})
			}
		}
	}
	d.message(m)
}

// link breaks a connection, or mends it (N28).
func (d *drive) link(c *mClient) {
	c.down = !c.down && d.rng.IntN(3) == 0
	d.paths.down[id.PeerOf(who(c.n))] = c.down
}

// leave is a client's goodbye.
func (d *drive) leave(c *mClient) {
	if d.rng.IntN(4) > 0 || !c.known || !c.parked.IsZero() {
		return
	}
	d.send(c.n, packet.AppendControl(nil, wire.EventGoodbye, nil))
	clear(c.grants)
	if c.lost.IsZero() {
		c.lost = d.now
	}
}

// announceSome announces a name for a resource, mostly with its own addresses.
func (d *drive) announceSome(c *mClient) {
	which := d.rng.IntN(2)
	name, r, set := mText[which], 1+d.rng.IntN(3), only4(proxies(byte(1+which)))
	if d.rng.IntN(12) == 0 {
		set = only4(proxies(byte(2 - which)))
	}
	before := len(d.looks)
	d.lines = nil
	d.announce(c.n, byte(r), name, set)
	if !c.known || !c.parked.IsZero() {
		return
	}
	if !c.grants[r].valid(d.now) || !mCovers(r, name) {
		if len(d.looks) != before {
			d.fatalf("an announcement that should be refused is looked up")
		}
		if want := fmt.Sprintf("to client %d: status %d %s false <nil>", c.n, r, name); !c.down && !slices.Equal(d.lines, []string{want}) {
			d.fatalf("refused with %q", d.lines)
		}
		return
	}
	for _, p := range set {
		b := c.proxies[p]
		if b == nil || b.name != name {
			for _, s := range c.sessions {
				if s.p == p {
					c.remember(s, d.now, false)
				}
			}
			for i := range c.former {
				c.former[i].revive = c.former[i].revive && c.former[i].p != p
			}
			c.sessions = slices.DeleteFunc(c.sessions, func(s *mSession) bool { return s.p == p })
			b = &mProxy{name: name}
			c.proxies[p] = b
		}
		if !slices.Contains(b.resources, r) {
			b.resources = append(b.resources, r)
		}
	}
	if !slices.ContainsFunc(c.sets[name], func(s []netip.Addr) bool { return slices.Equal(s, set) }) {
		c.sets[name] = append(c.sets[name], set)
	}
	this := mLookup{int(c.n), c.life, name}
	running := false
	for _, l := range d.lookups {
		running = running || l == this
	}
	if got := len(d.looks) - before; got > 1 || (got == 0) != running {
		d.fatalf("%d look-ups more for %+v, another runs: %v", got, this, running)
	}
	if !running {
		d.lookups[d.looks[before].ID] = this
	}
}

// complete ends one of the look-ups that run, in any order.
func (d *drive) complete() {
	if len(d.looks) == 0 {
		return
	}
	i := d.rng.IntN(len(d.looks))
	r := core.Looked{ID: d.looks[i].ID}
	d.looks = slices.Delete(d.looks, i, i+1)
	switch d.rng.IntN(6) {
	case 0:
		r.Err4, r.Err6 = errLookup, errLookup
	case 1: // no such name
	default:
		for _, a := range []netip.Addr{in2, addrB, addrA, addr("127.0.0.1")} {
			if d.rng.IntN(2) == 0 {
				r.V4 = append(r.V4, a)
			}
		}
	}
	d.do(func() { d.c.Done(r, d.now) })
	l := d.lookups[r.ID]
	delete(d.lookups, r.ID)
	c := d.clients[l.client-1]
	if l.life != c.life {
		d.stale++
		return
	}
	if r.Err4 != nil {
		return
	}
	addrs := slices.DeleteFunc(slices.Clone(r.V4), netip.Addr.IsLoopback)
	slices.SortFunc(addrs, netip.Addr.Compare)
	for _, set := range c.sets[l.name] {
		entitled := false
		for _, p := range set {
			if b := c.proxies[p]; b != nil {
				for _, n := range b.resources {
					entitled = entitled || c.grants[n].valid(d.now) && mCovers(n, l.name)
				}
			}
		}
		for i, p := range set {
			b := c.proxies[p]
			if !entitled || b == nil || b.name != l.name {
				continue
			}
			var x netip.Addr
			if len(addrs) > 0 {
				x = addrs[i%len(addrs)]
			}
			if c.held(p, d.now) {
				b.next, b.waiting = x, true
			} else {
				b.cur, b.waiting = x, false
			}
		}
	}
}

// counted is how many packets were dropped, or were of no connection.
func (d *drive) counted() (n uint64) {
	for _, v := range d.c.counts[passed+1 : lastDrop+1] {
		n += v
	}
	return n + d.c.counts[dropReplay]
}

// sendOut sends a client's packet and compares what becomes of it.
func (d *drive) sendOut(c *mClient) {
	m, q := proxies(1), proxies(2)
	dst := []netip.Addr{m[0], m[0], m[0], m[2], q[0], q[0], q[2], proxies(3)[0], addrA, addrA, addrB, in2, mPublic, own4, c4(2), addr("100.100.111.1"), addr("192.168.0.1")}[d.rng.IntN(17)]
	src, sport := c.addr(), uint16(5000+d.rng.IntN(3))
	if d.rng.IntN(50) == 0 {
		src = c4(c.n + 100)
	}
	port := []uint16{53, 443, 53535}[d.rng.IntN(3)]
	var raw []byte
	switch d.rng.IntN(4) {
	case 0:
		raw = tcp(src, dst, sport, port, ack)
	case 1:
		raw = echo(src, dst, sport, true)
		port = 0
	default:
		raw = udp(src, dst, sport, port)
	}
	proto := parse(d.t, raw).Proto()
	keyed := port
	if proto != packet.TCP && (proto != packet.UDP || dst != own4) {
		keyed = 0
	}

	s := c.find(func(s *mSession) bool { return s.inside(proto, sport, keyed, dst) })
	ok := c.known && c.parked.IsZero() && src == c.addr()
	if dst == own4 {
		ok = ok && c.authorized(d.now) && (s != nil && !(proto == packet.ICMP && s.host) || port == 53535 || proto == packet.ICMP)
	} else {
		ok = ok && c.allows(dst, proto, port, true, d.now)
	}
	if s != nil && proto == packet.ICMP && s.host { // a request where a reply is waited for
		return
	}
	b := c.proxies[dst]
	var again *mFormer
	x := dst
	if ok && s == nil {
		for i := range c.former {
			f := &c.former[i]
			if f.revive && d.now.Before(f.until) && f.inside(proto, sport, keyed, dst) && (b == nil || proto == packet.TCP || f.x == b.cur) &&
				c.find(func(s *mSession) bool { return s.outer(proto, f.outside, keyed, f.x) }) == nil {
				again = f
			}
		}
		switch {
		case again != nil:
			x = again.x
		case b != nil:
			x, ok = b.cur, b.cur.IsValid()
		}
	}
	before := d.counted()
	got := d.send(c.n, raw)
	if (got != nil) != ok {
		d.fatalf("client %d: %s passed: %v, want %v", c.n, describe(raw), got != nil, ok)
	}
	if more := d.counted() - before; more > 1 || (more == 1) != (got == nil) {
		d.fatalf("client %d: %s: %d counted", c.n, describe(raw), more)
	}
	if !ok {
		d.refused++
		return
	}
	d.passed++
	p := parse(d.t, got)
	outside := p.SrcPort()
	if id, _, isEcho := p.Echo(); isEcho {
		outside = id
	}
	if s == nil {
		if other := c.find(func(s *mSession) bool { return s.outer(proto, outside, keyed, x) }); other != nil {
			d.fatalf("client %d: %s has port %d of %+v", c.n, describe(raw), outside, other)
		}
		if again != nil && outside != again.outside {
			d.fatalf("client %d: %s goes on from port %d, was %d", c.n, describe(raw), outside, again.outside)
		}
		s = &mSession{proto: proto, id: sport, port: keyed, p: dst, x: x, outside: outside}
		c.sessions = append(c.sessions, s)
	}
	s.out, s.any, s.host = d.now, d.now, s.host && proto != packet.TCP
	if p.Dst() != s.x || outside != s.outside || !p.ValidChecksums() {
		d.fatalf("client %d: %s became %s, want %+v", c.n, describe(raw), describe(got), s)
	}
}

// sendIn sends a packet from a resource, or from the gateway host.
func (d *drive) sendIn(c *mClient) {
	if d.rng.IntN(12) == 0 {
		d.open(c)
		return
	}
	var s mSession
	switch n := len(c.sessions); {
	case len(c.former) > 0 && d.rng.IntN(8) == 0:
		s = c.former[d.rng.IntN(len(c.former))].mSession
	case n == 0:
		return
	default:
		s = *c.sessions[d.rng.IntN(n)]
	}
	to := c.addr()
	switch d.rng.IntN(16) {
	case 0:
		s.x = addrB
	case 1:
		s.outside++
	case 2:
		to = d.any().addr()
	case 3:
		if s.proto == packet.TCP {
			s.port++
		}
	}
	port := s.port
	if s.proto == packet.UDP && s.x != own4 {
		s.port, port = 0, []uint16{53, 443, 55}[d.rng.IntN(3)]
	}
	var raw []byte
	switch s.proto {
	case packet.TCP:
		raw = tcp(s.x, to, port, s.outside, ack)
	case packet.ICMP:
		raw, port = echo(s.x, to, s.outside, s.host), 0
	default:
		raw = udp(s.x, to, port, s.outside)
	}
	i := slices.IndexFunc(d.clients, func(c *mClient) bool { return c.addr() == to })
	c = d.clients[i]
	live := c.find(func(l *mSession) bool {
		return l.outer(s.proto, s.outside, s.port, s.x) && (s.proto != packet.ICMP || l.host == s.host)
	})
	if live == nil && s.x == own4 {
		return // that would open one
	}
	ok := live != nil && c.known && c.parked.IsZero() && !c.down
	if ok && live.p == own4 {
		ok = c.authorized(d.now)
	} else if ok {
		ok = c.allows(live.p, s.proto, port, true, d.now)
	}
	before := d.counted()
	got := d.receive(raw)
	if (got != nil) != ok {
		d.fatalf("for client %d: %s arrived: %v, want %v of %+v", c.n, describe(raw), got != nil, ok, live)
	}
	if more := d.counted() - before; more > 1 || (more == 1) != (got == nil) {
		d.fatalf("for client %d: %s: %d counted", c.n, describe(raw), more)
	}
	if !ok {
		d.refused++
		return
	}
	d.passed++
	live.any, live.confirmed = d.now, true
	p := parse(d.t, got)
	at := p.DstPort()
	if id, _, isEcho := p.Echo(); isEcho {
		at = id
	}
	if p.Src() != live.p || at != live.id || !p.ValidChecksums() {
		d.fatalf("for client %d: %s became %s, want %+v", c.n, describe(raw), describe(got), live)
	}
}

// open has the gateway host begin a flow, which nobody else may (N43).
func (d *drive) open(c *mClient) {
	from := []netip.Addr{own4, addrA, in2}[d.rng.IntN(3)]
	port := uint16(7000 + d.rng.IntN(2))
	raw := udp(from, c.addr(), 161, port)
	taken := c.find(func(s *mSession) bool {
		return s.proto == packet.UDP && s.outside == port && s.x == from && (s.port == 161 || from != own4)
	})
	if taken != nil {
		return
	}
	ok := from == own4 && c.known && c.parked.IsZero() && c.authorized(d.now) && !c.down
	if got := d.receive(raw); (got != nil) != ok {
		d.fatalf("for client %d: %s arrived: %v, want %v", c.n, describe(raw), got != nil, ok)
	}
	if ok {
		c.sessions = append(c.sessions, &mSession{proto: packet.UDP, id: port, port: 161, p: own4, x: own4, outside: port, out: d.now, any: d.now, host: true})
	}
}

// sendError sends an ICMP error about a session, or about one that is over. It
// changes nothing.
func (d *drive) sendError(c *mClient) {
	var s mSession
	switch n := len(c.sessions); {
	case len(c.former) > 0 && d.rng.IntN(3) == 0:
		s = c.former[d.rng.IntN(len(c.former))].mSession
	case n == 0:
		return
	default:
		s = *c.sessions[d.rng.IntN(n)]
	}
	if s.proto == packet.ICMP {
		return
	}
	about := udp(c.addr(), s.x, s.outside, s.port)
	if s.proto == packet.TCP {
		about = tcp(c.addr(), s.x, s.outside, s.port, ack)
	}
	typ := [][2]byte{{3, 3}, {3, 4}, {11, 0}, {12, 0}}[d.rng.IntN(4)]
	raw := icmpError([]netip.Addr{s.x, addr("192.0.2.1"), own4}[d.rng.IntN(3)], c.addr(), typ[0], typ[1], about)
	live := c.find(func(l *mSession) bool { return l.outer(s.proto, s.outside, s.port, s.x) })
	ok := live != nil && c.known && c.parked.IsZero() && !c.down
	if ok && live.p == own4 {
		ok = c.authorized(d.now)
	} else if ok {
		ok = c.allows(live.p, 0, 0, false, d.now)
	}
	got := d.receive(raw)
	if (got != nil) != ok {
		d.fatalf("for client %d: %s arrived: %v, want %v about %+v", c.n, describe(raw), got != nil, ok, live)
	}
	if !ok {
		return
	}
	p := parse(d.t, got)
	q, quoted := p.Quote()
	if !quoted || q.Src() != c.addr() || q.SrcPort() != live.id || q.Dst() != live.p || !p.ValidChecksums() || live.p != live.x && p.Src() != live.p {
		d.fatalf("for client %d: %s quotes %v:%d → %v, want %+v", c.n, describe(got), q.Src(), q.SrcPort(), q.Dst(), live)
	}
}
