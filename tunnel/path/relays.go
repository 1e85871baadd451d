package path

import (
	"net/netip"
	"slices"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/ice"
	"stile/tunnel/id"
	"stile/tunnel/turn"
	"stile/tunnel/wire"
)

// relayPort is where relays listen.
const relayPort = 3478

const (
	maxFormer = 64
	doubtGap  = 10 * time.Second // between probes of a relay that answered the last one
)

// relays is the set of relays the portal gave us.
type relays struct {
	list    []*relay
	orphans int          // connections without a selected relay
	former  []netip.Addr // relays we gave up: what they still send is dropped; oldest first
}

type relay struct {
	id         id.Relay
	allocation *turn.Allocation
	doubted    time.Time // when last probed because a way over it went silent
}

// at returns the relay with an address of its own, or nil.
func (s *relays) at(addr netip.AddrPort) *relay {
	for _, r := range s.list {
		if r.allocation.Serves(addr) {
			return r
		}
	}
	return nil
}

// owner returns the relay on which we were given an address, or nil.
func (s *relays) owner(local netip.AddrPort) *relay {
	for _, r := range s.list {
		if r.allocation.Relays(local) {
			return r
		}
	}
	return nil
}

func (s *relays) find(id id.Relay) *relay {
	for _, r := range s.list {
		if r.id == id {
			return r
		}
	}
	return nil
}

// forget remembers the address of a relay that we gave up.
func (s *relays) forget(addr netip.Addr) {
	if !addr.IsValid() {
		return
	}
	if s.former = append(s.former, addr); len(s.former) > maxFormer {
		s.former = slices.Delete(s.former, 0, 1)
	}
}

// ReportRelays appends what can be told of the relays.
func (n *Node) ReportRelays(dst []core.Relay) []core.Relay {
	for _, r := range n.relays.list {
		v := core.Relay{ID: r.id, Addr: r.allocation.Active(), RTT: r.allocation.RTT()}
		for _, e := range r.allocation.Known() {
			if a, is := e.(turn.Allocated); is {
				v.Allocated = append(v.Allocated, a.Addr)
			}
		}
		dst = append(dst, v)
	}
	return dst
}

// snapshot is for loops that may remove relays.
func (s *relays) snapshot() []*relay { return append(make([]*relay, 0, 4), s.list...) }

// Relays updates the set (connectivity.md 7.3). Entries of one relay, one for
// each family, are merged by their ID. Relays in neither list get a liveness
// test. One address has one relay: the latest that the portal named.
func (n *Node) Relays(remove []id.Relay, add []wire.Relay, now time.Time) {
	mentioned := make(map[*relay]bool)
	for _, gone := range remove {
		if r := n.relays.find(gone); r != nil {
			n.removeRelay(r, now)
		}
	}
	for _, group := range merge(add) {
		r := n.relays.find(group.id)
		if r == nil || !same(r.allocation.Config(), group.config) {
			if r != nil {
				n.removeRelay(r, now)
			}
			n.evict(group.config, now)
			r = n.addRelay(group, now)
		}
		mentioned[r] = true
	}
	for _, r := range n.relays.snapshot() {
		if !mentioned[r] {
			r.allocation.Probe(1, now)
		}
		n.touchRelay(r, now)
	}
	n.adopt(now)
}

// evict removes the relays at the addresses of one that the portal vouches for:
// what comes from there is the new one's, and a relay that was started anew
// together with the portal is never said to be gone.
func (n *Node) evict(c turn.Config, now time.Time) {
	for _, r := range n.relays.snapshot() {
		if old := r.allocation.Config(); old.V4.IsValid() && old.V4 == c.V4 || old.V6.IsValid() && old.V6 == c.V6 {
			n.removeRelay(r, now)
		}
	}
}

type description struct {
	id     id.Relay
	config turn.Config
}

func merge(list []wire.Relay) []description {
	var groups []description
	for _, w := range list {
		if !w.Addr.IsValid() {
			continue
		}
		i := slices.IndexFunc(groups, func(g description) bool { return g.id == w.ID })
		if i < 0 {
			i = len(groups)
			groups = append(groups, description{w.ID, turn.Config{Username: w.Username, Password: w.Password}})
		}
		if addr := netip.AddrPortFrom(w.Addr.Addr().Unmap(), w.Addr.Port()); addr.Addr().Is4() {
			groups[i].config.V4 = addr
		} else {
			groups[i].config.V6 = addr
		}
	}
	return groups
}

func same(a, b turn.Config) bool {
	return a.V4 == b.V4 && a.V6 == b.V6 && a.Username == b.Username && a.Password == b.Password
}

func (n *Node) addRelay(d description, now time.Time) *relay {
	d.config.Rand = n.rand
	r := &relay{id: d.id, allocation: turn.New(d.config, now)}
	n.out.Notes = append(n.out.Notes, core.Note{What: "relay begun", Relay: r.id})
	n.relays.list = append(n.relays.list, r)
	return r
}

// removeRelay forgets a relay, without telling it. Connections that used it
// are without a relay until adopt.
func (n *Node) removeRelay(r *relay, now time.Time) {
	n.relays.list = slices.DeleteFunc(n.relays.list, func(q *relay) bool { return q == r })
	n.out.Notes = append(n.out.Notes, core.Note{What: "relay given up", Relay: r.id})
	config := r.allocation.Config()
	n.relays.forget(config.V4.Addr())
	n.relays.forget(config.V6.Addr())
	for _, c := range n.connections {
		if c.relay == r {
			c.relay = nil
			n.relays.orphans++
		}
	}
	var lost []netip.AddrPort
	for _, event := range r.allocation.Known() {
		if a, ok := event.(turn.Allocated); ok {
			lost = append(lost, a.Addr)
		}
	}
	n.lose(lost, now)
}

// touchRelay takes over what an allocation has to say and removes it if it
// is over.
func (n *Node) touchRelay(r *relay, now time.Time) {
	n.flush(r)
	events := r.allocation.Events(nil)
	// All that is lost goes first, lest anything is sent from there.
	var lost []netip.AddrPort
	for _, event := range events {
		if e, ok := event.(turn.Lost); ok {
			lost = append(lost, e.Addr)
		}
	}
	n.lose(lost, now)
	for _, event := range events {
		switch e := event.(type) {
		case turn.Mapped:
			n.offer(r, mapped(e), now)
		case turn.Allocated:
			n.out.Notes = append(n.out.Notes, core.Note{What: "relay allocated", Relay: r.id, Local: e.Addr, Remote: r.allocation.Active()})
			n.offer(r, []ice.Candidate{ice.NewRelayed(e.Addr, e.CrossFamily)}, now)
		case turn.Late:
			n.recheck(r, e.Peer, now)
		}
	}
	if r.allocation.Gone() {
		n.removeRelay(r, now)
		if len(n.relays.list) == 0 {
			n.out.Events = append(n.out.Events, NoRelays{})
		}
	}
	n.adopt(now)
}

// flush queues what an allocation wants to send.
func (n *Node) flush(r *relay) {
	for _, s := range r.allocation.Drain(nil) {
		n.out.Datagrams = append(n.out.Datagrams, core.Datagram{Remote: s.To, Payload: s.Payload})
	}
}

// mapped turns what a relay saw into candidates.
func mapped(m turn.Mapped) []ice.Candidate {
	return []ice.Candidate{ice.NewHost(m.Host), ice.NewServerReflexive(m.Addr, m.Host)}
}

// offer gives candidates learnt from r to the connections: addresses on r only
// to those that selected it, our own to all.
func (n *Node) offer(r *relay, candidates []ice.Candidate, now time.Time) {
	for _, c := range slices.Clone(n.connections) {
		if candidates[0].Kind == ice.Relayed && c.relay != r {
			continue
		}
		n.addLocals(c, candidates, now)
		n.prebind(c, now)
		n.touch(c, now)
	}
}

// lose takes addresses on a relay from all connections and tells the peers.
func (n *Node) lose(addrs []netip.AddrPort, now time.Time) {
	if len(addrs) == 0 {
		return
	}
	for _, c := range slices.Clone(n.connections) {
		var lost []ice.Candidate
		for _, addr := range addrs {
			if candidate, ok := c.agent.RemoveLocal(addr, ice.Relayed, now); ok {
				lost = append(lost, candidate)
			}
			if c.way != nil && c.local == addr {
				c.way = nil
			}
		}
		if len(lost) > 0 {
			c.withdraw = append(c.withdraw, lost...)
			n.unsaidBy(c)
			n.touch(c, now)
		}
	}
}

// recheck repeats the checks that got lost for want of a channel.
func (n *Node) recheck(r *relay, peer netip.AddrPort, now time.Time) {
	for _, c := range slices.Clone(n.connections) {
		if c.relay == r && c.agent.Trigger(r.allocation.Relayed(peer.Addr()), peer, now) {
			n.touch(c, now)
		}
	}
}

// adopt selects a relay for the connections that have none, as soon as one
// has answered.
func (n *Node) adopt(now time.Time) {
	if n.relays.orphans == 0 {
		return
	}
	for _, c := range slices.Clone(n.connections) {
		if c.relay == nil && !c.gone {
			if n.choose(c, now); c.relay == nil {
				return
			}
			n.touch(c, now)
		}
	}
}

// choose selects a relay for a connection, if any has answered, and gives it
// our addresses there.
func (n *Node) choose(c *connection, now time.Time) {
	r := n.relays.draw(n.chance.IntN)
	if r == nil {
		return
	}
	c.relay = r
	n.relays.orphans--
	for _, event := range r.allocation.Known() {
		if a, ok := event.(turn.Allocated); ok {
			n.addLocals(c, []ice.Candidate{ice.NewRelayed(a.Addr, a.CrossFamily)}, now)
		}
	}
	n.prebind(c, now)
}

// prebind has channels bound to what the peer signalled, so that the first
// check finds one. Host addresses get theirs when a check needs it.
func (n *Node) prebind(c *connection, now time.Time) {
	if c.relay == nil {
		return
	}
	for _, remote := range c.agent.Remotes() {
		if remote.Kind != ice.Host {
			c.relay.allocation.Bind(remote.Addr, now)
		}
	}
	n.flush(c.relay)
}

// doubt probes a relay over which nothing comes back: it may be gone, or have
// been restarted, which BINDINGs do not tell.
func (n *Node) doubt(r *relay, now time.Time) {
	if r != nil && (r.doubted.IsZero() || now.Sub(r.doubted) > doubtGap) {
		r.doubted = now
		r.allocation.Probe(2, now)
		n.flush(r)
	}
}

// draw picks a relay among the near ones (connectivity.md 3.1); nil: none has
// answered yet. intN is the source of chance.
func (s *relays) draw(intN func(int) int) *relay {
	var answered []*relay
	for _, r := range s.list {
		if r.allocation.Answered() && r.allocation.Active().IsValid() {
			answered = append(answered, r)
		}
	}
	if len(answered) == 0 {
		return nil
	}
	rtts := make([]time.Duration, len(answered))
	for i, r := range answered {
		rtts[i] = r.allocation.RTT()
	}
	limit := tolerable(rtts)
	near := slices.DeleteFunc(answered, func(r *relay) bool { return r.allocation.RTT() > limit })
	return near[intN(len(near))]
}

// tolerable is the longest round-trip time a relay may have to be drawn: of
// one or two 1.5 times the best, of more what is no outlier by the median
// absolute deviation. It changes its argument.
func tolerable(rtts []time.Duration) time.Duration {
	if len(rtts) <= 2 {
		return slices.Min(rtts) * 3 / 2
	}
	mid := median(rtts)
	for i := range rtts {
		rtts[i] = (rtts[i] - mid).Abs()
	}
	return mid + 3*max(median(rtts), 2*time.Millisecond)
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	if half := len(d) / 2; len(d)%2 == 0 {
		return (d[half-1] + d[half]) / 2
	}
	return d[len(d)/2]
}
