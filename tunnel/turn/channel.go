package turn

import (
	"net/netip"
	"slices"
	"time"
)

const (
	channelLifetime = 600 * time.Second // counted by the relay from each CHANNEL-BIND
	channelRefresh  = 300 * time.Second
	// channelReuse is when a number may name another peer: the lifetime, and
	// the relay's quarantine of 300 s.
	channelReuse = 900 * time.Second
)

// A channel is a number that stands for a peer's address at the relay.
type channel struct {
	number   uint16
	peer     netip.AddrPort
	at       time.Time // of the last CHANNEL-BIND: sent, then confirmed
	bound    bool      // confirmed, once at least
	binding  bool      // a CHANNEL-BIND is in flight
	received bool      // data arrived since at
	late     bool      // the bind had to wait, or was repeated
}

func (c *channel) usable(now time.Time) bool {
	return c.binding || c.bound && now.Sub(c.at) < channelLifetime
}

func (c *channel) due() time.Time {
	switch {
	case c.binding:
		return time.Time{}
	case c.received:
		return c.at.Add(channelRefresh)
	}
	return c.at.Add(channelReuse)
}

// Bind asks for a channel to peer unless there is one. Without an allocation
// the wish is kept, up to 100 of them; the family of peer must be one that we
// have an address of.
func (a *Allocation) Bind(peer netip.AddrPort, now time.Time) {
	if a.gone {
		return
	}
	if !a.isAllocated() {
		if len(a.queue) < maxQueuedBinds && !slices.Contains(a.queue, peer) {
			a.queue = append(a.queue, peer)
		}
		return
	}
	if !a.Relayed(peer.Addr()).IsValid() {
		return
	}
	c := a.byPeer[peer]
	switch {
	case c == nil:
		if c = a.newChannel(peer, now); c == nil {
			return
		}
	case c.usable(now):
		return
	}
	a.bind(c, now)
}

func (a *Allocation) bind(c *channel, now time.Time) {
	c.binding, c.at, c.received = true, now, false
	a.start(&request{method: channelBind, to: a.active, channel: c}, now)
}

// newChannel finds a number: they go up and start again, and one that named
// another peer has to rest. Nil: all are taken.
func (a *Allocation) newChannel(peer netip.AddrPort, now time.Time) *channel {
	for range MaxChannel - MinChannel + 1 {
		number := a.number
		if a.number++; a.number > MaxChannel {
			a.number = MinChannel
		}
		if old := a.channels[number]; old != nil {
			if old.binding || now.Sub(old.at) < channelReuse {
				continue
			}
			a.forget(old)
		}
		c := &channel{number: number, peer: peer}
		a.channels[number], a.byPeer[peer] = c, c
		a.order = append(a.order, c)
		return c
	}
	return nil
}

func (a *Allocation) bound(c *channel, now time.Time) {
	if c.late {
		a.events = append(a.events, Late{c.peer})
	}
	c.binding, c.bound, c.late, c.at = false, true, false, now
}

func (a *Allocation) forget(c *channel) {
	if a.channels[c.number] == c {
		delete(a.channels, c.number)
	}
	if a.byPeer[c.peer] == c {
		delete(a.byPeer, c.peer)
	}
	a.order = slices.DeleteFunc(a.order, func(d *channel) bool { return d == c })
}

// pendingBinds returns the peers whose channel is being bound.
func (a *Allocation) pendingBinds() []netip.AddrPort {
	var peers []netip.AddrPort
	for _, c := range a.order {
		if c.binding {
			peers = append(peers, c.peer)
		}
	}
	return peers
}

// Channel returns the number to send to peer with. It is usable already while
// the bind is in flight: the relay reads that first.
func (a *Allocation) Channel(peer netip.AddrPort, now time.Time) (uint16, bool) {
	c := a.byPeer[peer]
	if c == nil || !c.usable(now) {
		return 0, false
	}
	return c.number, true
}

// Unwrap returns whose data arrives on a channel. It notes that the channel
// is alive.
func (a *Allocation) Unwrap(number uint16, now time.Time) (peer netip.AddrPort, ok bool) {
	c := a.channels[number]
	if c == nil || !c.usable(now) {
		return netip.AddrPort{}, false
	}
	if !c.received {
		c.received = true
		a.wake(c.due())
	}
	return c.peer, true
}

// advanceChannels refreshes the channels that are in use and forgets those
// that nobody used for so long that their numbers are free again.
func (a *Allocation) advanceChannels(now time.Time) {
	for _, c := range slices.Clone(a.order) {
		due, age := c.due(), now.Sub(c.at)
		switch {
		case due.IsZero() || now.Before(due):
		case c.received && age < channelLifetime:
			a.bind(c, now)
		case age < channelReuse: // expired during sleep; the number rests
			c.received = false
		default:
			a.forget(c)
		}
	}
}
