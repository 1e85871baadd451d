package sim_test

import (
	"testing"
	"time"

	"stile/tunnel/path"
	"stile/tunnel/sim"
)

var strict = world{seed: 3, home: sim.Symmetric, office: sim.Symmetric, families: sim.V4, relays: 2}

// used returns the relay that carries the client's packets, and the others.
func (s *scene) used(t *testing.T) (*sim.Relay, []*sim.Relay) {
	t.Helper()
	c, _ := s.client.Connection(s.gateway.ID)
	var used *sim.Relay
	var others []*sim.Relay
	for _, r := range s.relays {
		if c.Local.Addr() == r.Host.V4 || used == nil && c.Remote.Addr() == r.Host.V4 {
			if used != nil {
				others = append(others, used)
			}
			used = r
		} else {
			others = append(others, r)
		}
	}
	if used == nil {
		t.Fatalf("no relay in use: %+v", c)
	}
	return used, others
}

// The portal says that a relay is gone: connections move to another one.
func TestRelayLossWithNotice(t *testing.T) {
	for seed := range uint64(20) {
		w := strict
		w.seed = seed
		s := connected(t, w)
		used, others := s.used(t)
		used.Host.Unplug()
		s.portal.SetRelays(others...)
		begin := s.Now()
		s.Run(10 * ms) // until the notice is there
		if !s.Until(5*time.Second, func() bool { return s.echo() == nil }) {
			t.Errorf("seed %d: never works again", seed)
		}
		if took := s.Since(begin); took > time.Second || len(s.client.Failed)+len(s.gateway.Failed) > 0 {
			t.Errorf("seed %d: took %v, failures %v %v", seed, took, s.client.Failed, s.gateway.Failed)
		}
	}
}

// Nobody says anything: the way goes silent, so the relay is probed, given up
// and replaced before the connection fails.
func TestRelayLossWithoutNotice(t *testing.T) {
	for seed := range uint64(20) {
		w := strict
		w.seed = seed
		s := connected(t, w)
		used, _ := s.used(t)
		used.Host.Unplug()
		s.wantBackWithin(t, 10*time.Second)
	}
}

// The only relay is started anew and nobody says so: it answers BINDINGs, but
// knows neither our allocation nor our credentials.
func TestRelayRestartWithoutNotice(t *testing.T) {
	for seed := range uint64(20) {
		w := strict
		w.seed, w.relays = seed, 1
		s := connected(t, w)
		s.relays[0].Restart(s.Internet)
		s.wantBackWithin(t, 10*time.Second)
		if s.portal.NoRelays != 2 {
			t.Errorf("the portal was asked for relays %d times, want once by each", s.portal.NoRelays)
		}
	}
}

func (s *scene) wantBackWithin(t *testing.T, limit time.Duration) {
	t.Helper()
	begin := s.Now()
	back := s.Until(time.Minute, func() bool { return s.echo() == nil })
	if took := s.Since(begin); !back || took > limit || len(s.client.Failed)+len(s.gateway.Failed) > 0 {
		t.Errorf("back %v after %v, failures %v %v", back, took, s.client.Failed, s.gateway.Failed)
	}
}

func TestRelayRestartWithNotice(t *testing.T) {
	w := strict
	w.relays = 1
	s := connected(t, w)
	old := s.relays[0].ID()
	s.relays[0].Restart(s.Internet)
	s.portal.Restarted(old)
	s.Run(time.Second)
	if err := s.echo(); err != nil {
		t.Errorf("a second after the notice: %v", err)
	}
	if len(s.client.Failed)+len(s.gateway.Failed) > 0 {
		t.Errorf("failures %v %v", s.client.Failed, s.gateway.Failed)
	}
}

// Portal and relay are started anew together, as by an upgrade: nobody is left
// who could say that the old relay is gone. The new one is at its address.
func TestRelayRestartWithAPortalThatForgot(t *testing.T) {
	w := strict
	w.relays = 1
	s := connected(t, w)
	s.relays[0].Restart(s.Internet)
	s.portal.Restarted() // none is named as gone
	s.Run(time.Second)
	if err := s.echo(); err != nil {
		t.Errorf("a second after the notice: %v", err)
	}
	if len(s.client.Failed)+len(s.gateway.Failed) > 0 {
		t.Errorf("failures %v %v", s.client.Failed, s.gateway.Failed)
	}
}

// The relay refuses our credentials, nonce and all: it is dropped at once, and
// the portal asked for others.
func TestRelayCredentialsExpire(t *testing.T) {
	w := strict
	w.relays = 1
	s := &scene{Internet: sim.New(w.seed)}
	s.relays = []*sim.Relay{s.Relay(sim.Dual, sim.Link{})}
	s.portal = s.Portal(s.relays...)
	s.portal.Until = sim.Epoch.Add(200 * time.Second)
	s.home, s.office = s.Site(w.home, w.families, sim.Link{Delay: uplink}), s.Site(w.office, w.families, sim.Link{Delay: uplink})
	s.gateway, s.client = s.portal.Gateway(s.office, uplink), s.portal.Client(s.home, uplink)
	s.Run(time.Second)
	if _, ok := s.connect(time.Second); !ok {
		t.Fatal("no connection")
	}
	s.Run(250 * time.Second)
	s.portal.Until = sim.Epoch.AddDate(1, 0, 0)
	if s.portal.NoRelays != 0 {
		t.Fatal("asked for relays too early")
	}
	s.Run(60 * time.Second) // over the REFRESH at half of the allocation's lifetime
	if s.portal.NoRelays != 2 {
		t.Errorf("the portal was asked %d times, want once by each node", s.portal.NoRelays)
	}
	if err := s.echo(); err != nil {
		t.Errorf("with the new relays: %v", err)
	}
	if len(s.client.Failed)+len(s.gateway.Failed) > 0 {
		t.Errorf("failures %v %v", s.client.Failed, s.gateway.Failed)
	}
}

// Without relays there are no candidates, so there is nothing to try.
func TestNoRelayAtAll(t *testing.T) {
	s := &scene{Internet: sim.New(1)}
	s.portal = s.Portal()
	s.client = s.portal.Client(s.Site(sim.Public, sim.Dual, sim.Link{Delay: uplink}), uplink)
	s.gateway = s.portal.Gateway(s.Site(sim.Public, sim.Dual, sim.Link{Delay: uplink}), uplink)
	s.Run(time.Second)
	forClient, _ := s.portal.Peers(s.client, s.gateway)
	if err := s.client.Path.Upsert(forClient, s.Now()); err != path.ErrNoRelay {
		t.Errorf("got %v", err)
	}
	s.Run(time.Second)
	if s.portal.NoRelays != 1 {
		t.Errorf("the portal was asked %d times", s.portal.NoRelays)
	}
	s.portal.SetRelays(s.Relay(sim.Dual, sim.Link{}))
	s.Run(time.Second)
	if _, ok := s.connect(time.Second); !ok {
		t.Error("no connection once there is a relay")
	}
}

// Whatever the portal announces while a relay has not answered yet is kept.
func TestAuthorizationBeforeTheRelayAnswers(t *testing.T) {
	s := &scene{Internet: sim.New(1)}
	s.portal = s.Portal(s.Relay(sim.Dual, sim.Link{Delay: 50 * ms}))
	s.client = s.portal.Client(s.Site(sim.PortRestricted, sim.V4, sim.Link{Delay: uplink}), uplink)
	s.gateway = s.portal.Gateway(s.Site(sim.PortRestricted, sim.V4, sim.Link{Delay: uplink}), uplink)
	s.Run(15 * ms)
	took, ok := s.connect(time.Second)
	if !ok {
		t.Fatal("no connection")
	}
	t.Logf("took %v", took)
	if err := s.echo(); err != nil {
		t.Error(err)
	}
}
