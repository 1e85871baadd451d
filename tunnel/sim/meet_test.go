package sim_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"stile/tunnel/sim"
)

// relayOnly are the pairs of routers between which no direct path exists: one
// changes its port for each remote, the other wants to know it beforehand.
func relayOnly(a, b sim.NAT) bool {
	strict := func(k sim.NAT) bool { return k == sim.Symmetric || k == sim.PortRestricted || k == sim.Firewall }
	return a == sim.Symmetric && strict(b) || b == sim.Symmetric && strict(a)
}

func TestTwoCoresMeetThroughEveryNAT(t *testing.T) {
	for _, families := range []sim.Families{sim.V4, sim.V6, sim.Dual} {
		for _, home := range sim.Kinds {
			for _, office := range sim.Kinds {
				t.Run(fmt.Sprintf("%v/%v/%v", families, home, office), func(t *testing.T) {
					s := newScene(world{seed: 1, home: home, office: office, families: families})
					begin := s.Now()
					took, ok := s.connect(5 * time.Second)
					if !ok {
						t.Fatal("no connection")
					}
					// The gateway's candidates are here 4 uplinks after the
					// request. Then one round trip for the first check, or two if
					// the first has to open the way; no retransmission.
					known := begin.Add(4 * uplink)
					if n := s.client.Nominated[s.gateway.ID].Sub(known); n > 2*rtt {
						t.Errorf("nominated %v after the candidates were known, want 2 round trips at most", n)
					}
					if took > 100*ms {
						t.Errorf("usable in both directions after %v", took)
					}
					if err := s.echo(); err != nil {
						t.Error(err)
					}
					s.Run(3 * time.Second) // for a better pair
					c, _ := s.client.Connection(s.gateway.ID)
					g, _ := s.gateway.Connection(s.client.ID)
					if want := relayOnly(home, office); c.Relayed != want || g.Relayed != want {
						t.Errorf("relayed: client %v, gateway %v, want %v", c.Relayed, g.Relayed, want)
					}
					if err := s.echo(); err != nil {
						t.Errorf("later: %v", err)
					}
				})
			}
		}
	}
}

// Both behind the same router: the way is the local network.
func TestNeighboursMeetDirectly(t *testing.T) {
	for _, kind := range sim.Kinds {
		s := newScene(world{seed: 1, home: kind, office: sim.Public, families: sim.Dual})
		s.gateway.Host.Move(s.home)
		s.gateway.Restart()
		s.Run(time.Second)
		if _, ok := s.connect(time.Second); !ok {
			t.Fatalf("%v: no connection", kind)
		}
		c, _ := s.client.Connection(s.gateway.ID)
		if c.Relayed || c.Remote.Addr() != s.gateway.Host.V6 {
			t.Errorf("%v: %v to %v, want the gateway's own address", kind, c.Local, c.Remote)
		}
		if err := s.echo(); err != nil {
			t.Errorf("%v: %v", kind, err)
		}
	}
}

// The relay translates between the families of the internet.
func TestFamiliesMeetAtTheRelay(t *testing.T) {
	s := &scene{Internet: sim.New(1)}
	s.portal = s.Portal(s.Relay(sim.Dual, sim.Link{}))
	s.gateway = s.portal.Gateway(s.Site(sim.PortRestricted, sim.V4, sim.Link{Delay: uplink}), uplink)
	s.client = s.portal.Client(s.Site(sim.Firewall, sim.V6, sim.Link{Delay: uplink}), uplink)
	s.Run(time.Second)
	if _, ok := s.connect(time.Second); !ok {
		t.Fatal("no connection")
	}
	if err := s.echo(); err != nil {
		t.Error(err)
	}
}

// A peer whose NAT is symmetric may have its port forwarded: the guess of an
// address nobody signalled finds it.
func TestForwardedPortIsGuessed(t *testing.T) {
	s := newScene(world{seed: 1, home: sim.Symmetric, office: sim.Symmetric, families: sim.V4})
	s.office.Forward(sim.Port, s.gateway.Host)
	if _, ok := s.connect(time.Second); !ok {
		t.Fatal("no connection")
	}
	s.Run(3 * time.Second)
	c, _ := s.client.Connection(s.gateway.ID)
	if c.Relayed || c.Remote.Port() != sim.Port {
		t.Errorf("way to %v, relayed %v", c.Remote, c.Relayed)
	}
	if err := s.echo(); err != nil {
		t.Error(err)
	}
}

// reach does what a user does who will not give up: a packet, an authorization
// when there is no connection, at most one every two seconds.
func (s *scene) reach(limit time.Duration) bool {
	for begin := s.Now(); s.Since(begin) < limit; {
		if !s.client.Path.Has(s.gateway.ID) {
			s.portal.Authorize(s.client, s.gateway)
		}
		usable := func() bool { return !s.client.Established[s.gateway.ID].IsZero() }
		if s.Until(2*time.Second, usable) && s.echo() == nil {
			return true
		}
	}
	return false
}

// Whatever the world is like, as long as most datagrams arrive at last, peers
// meet; and the same seed tells the same story.
func TestBadWorlds(t *testing.T) {
	var took []time.Duration
	for seed := range uint64(400) {
		story := func() (*scene, bool) {
			rng := rand.New(rand.NewPCG(seed, 1))
			s := newScene(world{
				seed:     seed,
				home:     sim.Kinds[rng.IntN(len(sim.Kinds))],
				office:   sim.Kinds[rng.IntN(len(sim.Kinds))],
				families: []sim.Families{sim.V4, sim.V6, sim.Dual}[rng.IntN(3)],
				relays:   1 + rng.IntN(2),
				link: sim.Link{
					Delay:  time.Duration(1+rng.IntN(100)) * ms,
					Jitter: time.Duration(1+rng.IntN(50)) * ms, // reorders
					Loss:   rng.Float64() / 8,                  // on each of the links
				},
			})
			return s, s.reach(2 * time.Minute)
		}
		s, ok := story()
		if !ok {
			t.Errorf("seed %d: %v and %v did not meet: %v", seed, s.home.Kind, s.office.Kind, s.client.Failed)
		}
		took = append(took, s.Since(sim.Epoch)-time.Second)
		if seed%10 == 0 {
			if again, _ := story(); again.Trace() != s.Trace() || again.Now() != s.Now() {
				t.Errorf("seed %d: the same seed gives another trace", seed)
			}
		}
	}
	slices.Sort(took)
	t.Logf("from the request to the first echo: median %v, 90 %% %v, 99 %% %v", took[200].Round(ms), took[360].Round(ms), took[396].Round(ms))
}
