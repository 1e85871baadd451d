package sim_test

import (
	"net/netip"
	"testing"
	"time"

	"stile/tunnel/path"
	"stile/tunnel/sim"
)

func connected(t *testing.T, w world) *scene {
	t.Helper()
	s := newScene(w)
	if _, ok := s.connect(2 * time.Second); !ok {
		t.Fatal("no connection to begin with")
	}
	if err := s.echo(); err != nil {
		t.Fatalf("to begin with: %v", err)
	}
	return s
}

var natted = world{seed: 1, home: sim.PortRestricted, office: sim.PortRestricted, families: sim.Dual}

func TestIdleForAQuarterOfAnHour(t *testing.T) {
	for _, kind := range []sim.NAT{sim.Public, sim.PortRestricted, sim.Symmetric} {
		s := connected(t, world{seed: 1, home: kind, office: kind, families: sim.V4})
		s.Run(time.Minute)
		c, _ := s.client.Connection(s.gateway.ID)
		if c.State != "idle" {
			t.Errorf("%v: state %q after a minute without packets", kind, c.State)
		}
		sent := s.Sent
		s.Run(14 * time.Minute)
		c, _ = s.client.Connection(s.gateway.ID)
		if age := s.Since(c.LastHandshake); age > 190*time.Second {
			t.Errorf("%v: the last handshake was %v ago", kind, age)
		}
		t.Logf("%v: %.1f datagrams per minute while idle", kind, float64(s.Sent-sent)/14)
		if err := s.echo(); err != nil {
			t.Errorf("%v: %v", kind, err)
		}
		if c, _ = s.client.Connection(s.gateway.ID); c.State != "connected" || len(s.client.Failed)+len(s.gateway.Failed) > 0 {
			t.Errorf("%v: state %q, failures %v %v", kind, c.State, s.client.Failed, s.gateway.Failed)
		}
	}
}

// A working day of a packet now and then.
func TestLongLife(t *testing.T) {
	s := connected(t, natted)
	for range 8 {
		s.Run(time.Hour)
		if !s.client.Send(s.gateway.ID, "first") { // just between two sessions
			s.Run(2 * rtt)
		}
		if err := s.echo(); err != nil {
			t.Fatalf("after %v: %v", s.Since(sim.Epoch), err)
		}
	}
	if len(s.client.Failed)+len(s.gateway.Failed) > 0 {
		t.Errorf("failures %v %v", s.client.Failed, s.gateway.Failed)
	}
}

// The gateway is cut off for a while: the client gives up and comes back with
// the same credentials, the gateway still has the old connection.
func TestRecoveryWithIdenticalCredentials(t *testing.T) {
	s := connected(t, natted)
	s.gateway.Host.Unplug()
	cut := s.Now()
	if !s.Until(30*time.Second, func() bool { return len(s.client.Failed) > 0 }) {
		t.Fatal("the client does not notice")
	}
	if took := s.Since(cut); took > 21*time.Second || s.client.Failed[0].Reason != path.NoWay {
		t.Errorf("noticed after %v: %v", took, s.client.Failed)
	}
	s.gateway.Host.Replug(s.office)
	if !s.gateway.Path.Has(s.client.ID) {
		t.Fatal("the gateway gave up, too")
	}
	took, ok := s.connect(2 * time.Second)
	if !ok || took > 150*ms {
		t.Errorf("connected again: %v after %v", ok, took)
	}
	if err := s.echo(); err != nil {
		t.Error(err)
	}
}

// The gateway is killed and started again: another key, so nothing is left of
// the old connection.
func TestGatewayRestarts(t *testing.T) {
	s := connected(t, natted)
	s.gateway.Restart()
	s.Run(time.Second)
	clear(s.client.Established)
	took, ok := s.connect(2 * time.Second)
	if !ok || took > 150*ms {
		t.Errorf("connected again: %v after %v", ok, took)
	}
	if err := s.echo(); err != nil {
		t.Error(err)
	}
}

func TestGoodbye(t *testing.T) {
	s := connected(t, natted)
	s.gateway.Path.Close(s.client.ID, true, s.Now())
	s.Run(100 * ms)
	if len(s.client.Left) != 1 || s.client.Path.Has(s.gateway.ID) || len(s.client.Failed) > 0 {
		t.Errorf("left %v, failed %v", s.client.Left, s.client.Failed)
	}
}

// Both routers lose power: the peers find each other again by themselves.
func TestRoutersReboot(t *testing.T) {
	s := connected(t, natted)
	s.home.Reboot()
	s.office.Reboot()
	if !s.reach(time.Minute) {
		t.Errorf("not reached: %v %v", s.client.Failed, s.gateway.Failed)
	}
}

// The direct path breaks, that over the relay does not.
func TestDirectPathBreaks(t *testing.T) {
	s := connected(t, natted)
	relay4, relay6 := s.relays[0].Host.V4, s.relays[0].Host.V6
	s.Block = func(src, dst netip.AddrPort) bool {
		for _, a := range []netip.Addr{src.Addr(), dst.Addr()} {
			if a == relay4 || a == relay6 {
				return false
			}
		}
		return true
	}
	broke := s.Now()
	if !s.Until(30*time.Second, func() bool { return s.echo() == nil }) {
		t.Fatal("never works again")
	}
	if took := s.Since(broke); took > 8*time.Second || len(s.client.Failed) > 0 {
		t.Errorf("took %v, failures %v", took, s.client.Failed)
	}
	c, _ := s.client.Connection(s.gateway.ID)
	g, _ := s.gateway.Connection(s.client.ID)
	if !c.Relayed || !g.Relayed {
		t.Errorf("relayed: client %v, gateway %v", c.Relayed, g.Relayed)
	}
	s.Block = nil
	s.Run(30 * time.Second)
	c, _ = s.client.Connection(s.gateway.ID)
	g, _ = s.gateway.Connection(s.client.ID)
	if c.Relayed || g.Relayed {
		t.Errorf("mended, but relayed: client %v, gateway %v", c.Relayed, g.Relayed)
	}
	if err := s.echo(); err != nil {
		t.Error(err)
	}
}

// A laptop moves: new addresses or the same ones, always a new key. The relay
// may still hold the allocation of before (437).
func TestRoaming(t *testing.T) {
	for _, moves := range []bool{true, false} {
		s := connected(t, world{seed: 1, home: sim.Symmetric, office: sim.Symmetric, families: sim.V4})
		if moves {
			s.client.Host.Move(s.Site(sim.Symmetric, sim.V4, sim.Link{Delay: uplink}))
		} else if s.home.Kind == sim.Symmetric {
			s.client.Host.Port = sim.Port // the same socket address as before
		}
		errors := s.relays[0].Stats().Errors
		s.client.Roam()
		s.Run(500 * ms)
		if got := s.relays[0].Stats().Errors - errors; !moves && got < 2 {
			t.Errorf("%d errors of the relay, want a 401 for want of a nonce and a 437", got)
		}
		took, ok := s.connect(2 * time.Second)
		if !ok || took > 150*ms {
			t.Errorf("moves %v: connected again: %v after %v", moves, ok, took)
		}
		if err := s.echo(); err != nil {
			t.Errorf("moves %v: %v", moves, err)
		}
		if n := s.relays[0].Stats().Allocations; n != 2 {
			t.Errorf("moves %v: %d allocations, want one for each node", moves, n)
		}
	}
}

// Candidates that come 12 s late find the connection failed; a new attempt
// works.
func TestLateCandidates(t *testing.T) {
	s := newScene(natted)
	s.gateway.Offline(true)
	forClient, _ := s.portal.Peers(s.client, s.gateway)
	if err := s.client.Path.Upsert(forClient, s.Now()); err != nil {
		t.Fatal(err)
	}
	begin := s.Now()
	s.Until(20*time.Second, func() bool { return len(s.client.Failed) > 0 })
	if took := s.Since(begin); took != 10*time.Second || s.client.Failed[0].Reason != path.NoCandidates {
		t.Errorf("failed after %v: %v", took, s.client.Failed)
	}
	s.gateway.Offline(false)
	if _, ok := s.connect(time.Second); !ok {
		t.Error("no connection")
	}
}
