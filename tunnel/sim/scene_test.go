package sim_test

import (
	"fmt"
	"time"

	"stile/tunnel/sim"
)

const (
	ms     = time.Millisecond
	uplink = 5 * ms // so that the peers are 20 ms apart
	rtt    = 4 * uplink
)

// A scene is a client and a gateway, each at a site, a relay and a portal. All
// uplinks are 5 ms one way, relay and portal hang on the core.
type scene struct {
	*sim.Internet
	portal          *sim.Portal
	relays          []*sim.Relay
	home, office    *sim.Site
	client, gateway *sim.Node
}

type world struct {
	seed         uint64
	home, office sim.NAT
	families     sim.Families
	relays       int
	link         sim.Link
}

func newScene(w world) *scene {
	s := &scene{Internet: sim.New(w.seed)}
	if w.relays == 0 {
		w.relays = 1
	}
	if w.link.Delay == 0 {
		w.link.Delay = uplink
	}
	for range w.relays {
		s.relays = append(s.relays, s.Relay(sim.Dual, sim.Link{}))
	}
	s.portal = s.Portal(s.relays...)
	s.home, s.office = s.Site(w.home, w.families, w.link), s.Site(w.office, w.families, w.link)
	s.gateway = s.portal.Gateway(s.office, uplink)
	s.client = s.portal.Client(s.home, uplink)
	s.Run(time.Second) // candidates are gathered before they are needed
	return s
}

// connect asks for access and returns how long it took until the client could
// send; false: it did not come to that.
func (s *scene) connect(limit time.Duration) (time.Duration, bool) {
	begin := s.Now()
	s.portal.Authorize(s.client, s.gateway)
	ok := s.Until(limit, func() bool { return s.up() })
	return s.Since(begin), ok
}

func (s *scene) up() bool {
	return !s.client.Established[s.gateway.ID].IsZero() && !s.gateway.Established[s.client.ID].IsZero()
}

// echo sends something each way and reports whether both arrived.
func (s *scene) echo() error {
	before, after := len(s.gateway.Inbox), len(s.client.Inbox)
	if !s.client.Send(s.gateway.ID, "ping") {
		return fmt.Errorf("client has no way")
	}
	if !s.Until(time.Second, func() bool { return len(s.gateway.Inbox) > before }) {
		return fmt.Errorf("gateway received nothing")
	}
	if !s.gateway.Send(s.client.ID, "pong") {
		return fmt.Errorf("gateway has no way")
	}
	if !s.Until(time.Second, func() bool { return len(s.client.Inbox) > after }) {
		return fmt.Errorf("client received nothing")
	}
	return nil
}
