package gateway

import (
	"net/netip"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/policy"
)

// configureRetry is when a configuration is stated again that could not be
// made so.
const configureRetry = 5 * time.Second

// A tun is how the TUN device shall be, and what was last said about it.
type tun struct {
	changed bool // the wish may differ from last
	busy    bool // Configured is awaited
	last    core.TUN
	retry   time.Time // zero: no need
}

// routes lead to the clients.
var routes = []netip.Prefix{policy.PeerV4, policy.PeerV6}

// configure states the wish if it has changed.
func (c *Core) configure() {
	t := &c.tun
	if t.busy || !t.changed {
		return
	}
	t.changed = false
	wish := core.TUN{IPv4: c.own4, IPv6: c.own6, Routes: routes}
	if wish.Equal(t.last) {
		return
	}
	t.last, t.busy, t.retry = wish, true, time.Time{}
	c.act(core.Configure{TUN: wish})
}

// configured takes the answer to Configure.
func (c *Core) configured(err error, now time.Time) {
	c.tun.busy = false
	if err != nil {
		c.count(configureFailed)
		c.tun.retry = now.Add(configureRetry)
	}
}

func (c *Core) retryConfigure(now time.Time) {
	if due(c.tun.retry, now) {
		c.tun = tun{changed: true}
	}
}
