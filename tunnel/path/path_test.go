package path_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/ice"
	"stile/tunnel/id"
	"stile/tunnel/path"
	"stile/tunnel/sim"
	"stile/tunnel/wg"
	"stile/tunnel/wire"
)

// The same peer again: the connection stays, the peer hears all candidates
// again and a new handshake.
func TestUpsertRenews(t *testing.T) {
	w := connected(t)
	w.Run(time.Minute) // idle, and the last proactive handshake is long ago
	before, _ := w.client.Connection(w.gateway.ID)
	if before.State != "idle" {
		t.Fatalf("state %q", before.State)
	}
	w.events(w.client)
	w.events(w.gateway)
	w.portal.Authorize(w.client, w.gateway)
	w.Run(100 * ms)
	after, _ := w.client.Connection(w.gateway.ID)
	if after.State != "connected" || !after.LastHandshake.After(before.LastHandshake) {
		t.Errorf("state %q, handshake at %v", after.State, after.LastHandshake)
	}
	for _, n := range []*sim.Node{w.client, w.gateway} {
		// Host and server-reflexive in both families, and two relayed.
		if told := w.candidates(n); len(told) != 1 || told[0].Invalidate || len(told[0].Texts) != 6 {
			t.Errorf("signalled %+v, want all six candidates", told)
		}
	}
}

func TestUpsertReplaces(t *testing.T) {
	for name, change := range map[string]func(*path.Peer){
		"key":                func(p *path.Peer) { p.Key[0]++ },
		"PSK":                func(p *path.Peer) { p.PSK[0]++ },
		"local credentials":  func(p *path.Peer) { p.Local.Password += "x" },
		"remote credentials": func(p *path.Peer) { p.Remote.Username += "x" },
	} {
		w := connected(t)
		peer, _ := w.portal.Peers(w.client, w.gateway)
		change(&peer)
		if err := w.client.Path.Upsert(peer, w.Now()); err != nil {
			t.Fatal(err)
		}
		c, _ := w.client.Connection(w.gateway.ID)
		if c.State != "connecting" || !c.LastHandshake.IsZero() || len(w.client.Path.Report(nil)) != 1 {
			t.Errorf("another %s: %+v, want a new connection", name, c)
		}
		w.Run(10 * ms)
		if w.failures(w.client) != nil {
			t.Errorf("another %s: failures reported", name)
		}
	}
}

func TestUpsertWithoutCredentials(t *testing.T) {
	w := newWorld(sim.V4)
	for _, empty := range []func(*path.Peer){
		func(p *path.Peer) { p.Local.Username = "" },
		func(p *path.Peer) { p.Local.Password = "" },
		func(p *path.Peer) { p.Remote.Username = "" },
		func(p *path.Peer) { p.Remote.Password = "" },
	} {
		peer, _ := w.portal.Peers(w.client, w.gateway)
		empty(&peer)
		if err := w.client.Path.Upsert(peer, w.Now()); err != path.ErrCredentials || w.client.Path.Has(peer.ID) {
			t.Errorf("got %v", err)
		}
	}
}

func TestCandidatesAreSignalledTogetherBestFirst(t *testing.T) {
	w := newWorld(sim.Dual)
	peer, _ := w.portal.Peers(w.client, w.gateway)
	if err := w.client.Path.Upsert(peer, w.Now()); err != nil {
		t.Fatal(err)
	}
	w.Run(0)
	told := w.candidates(w.client)
	if len(told) != 1 || told[0].Peer != w.gateway.ID || told[0].Invalidate {
		t.Fatalf("got %+v, want one message", told)
	}
	var kinds []string
	for _, text := range told[0].Texts {
		f := strings.Fields(text)
		kinds = append(kinds, f[7])
		if !strings.HasSuffix(text, " ufrag "+peer.Local.Username) {
			t.Errorf("%q lacks our ufrag", text)
		}
	}
	if want := []string{"host", "host", "srflx", "srflx", "relay", "relay"}; !slices.Equal(kinds, want) {
		t.Errorf("got %v, want %v", kinds, want)
	}
}

// While the portal is away nothing is said; then what was learnt, and after
// that what is void.
func TestCandidatesAreHeldBack(t *testing.T) {
	w := connected(t)
	w.client.Offline(true)
	old := w.relay.ID()
	w.relay.Restart(w.Internet)
	w.client.Path.Relays([]id.Relay{old}, w.relay.Describe("x", w.portal.Until), w.Now())
	w.Run(time.Second)
	if told := w.candidates(w.client); told != nil {
		t.Fatalf("told %+v while offline", told)
	}
	w.client.Offline(false)
	w.Run(ms)
	told := w.candidates(w.client)
	if len(told) != 2 || told[0].Invalidate || !told[1].Invalidate || len(told[0].Texts) != 2 || len(told[1].Texts) != 2 {
		t.Fatalf("told %+v, want two new relayed candidates, then two withdrawn", told)
	}
	for i, text := range told[1].Texts {
		// The peer compares address, port, type, raddr and rport.
		if f := strings.Fields(text); f[7] != "relay" || f[8] != "raddr" || f[10] != "rport" || told[0].Texts[i] == text {
			t.Errorf("withdrawn: %q", text)
		}
	}
}

func TestPeersCandidatesThatAreIgnored(t *testing.T) {
	w := newWorld(sim.V4)
	peer, _ := w.portal.Peers(w.client, w.gateway)
	w.client.Path.AddCandidates(peer.ID, []string{"candidate:1 1 udp 5 192.0.2.9 9 typ host"}, w.Now()) // unknown peer
	if err := w.client.Path.Upsert(peer, w.Now()); err != nil {
		t.Fatal(err)
	}
	w.client.Path.AddCandidates(peer.ID, []string{"garbage", "candidate:1 1 udp 5 192.0.2.9 9 typ host ufrag other"}, w.Now())
	w.Run(11 * time.Second)
	if got := w.failures(w.client); !slices.Equal(got, []path.Reason{path.NoCandidates}) {
		t.Errorf("failed %v, want it for want of candidates", got)
	}
}

func TestFailures(t *testing.T) {
	foreign := []string{"candidate:1 1 udp 5 2001:db8::9 9 typ host"}
	own := []string{"candidate:1 1 udp 5 192.0.2.9 9 typ host"}
	for _, c := range []struct {
		name  string
		do    func(w *world, peer path.Peer)
		after time.Duration
		want  path.Reason
	}{
		{"no candidates", func(*world, path.Peer) {}, 10 * time.Second, path.NoCandidates},
		{"only of another family", func(w *world, p path.Peer) {
			w.client.Path.AddCandidates(p.ID, foreign, w.Now())
		}, 2 * time.Second, path.NoWay},
		{"of another family first", func(w *world, p path.Peer) {
			w.client.Path.AddCandidates(p.ID, foreign, w.Now())
			w.Run(time.Second)
			w.client.Path.AddCandidates(p.ID, own, w.Now())
		}, 1*time.Second + 15250*ms + 2*time.Second, path.NoWay},
		{"nobody there", func(w *world, p path.Peer) {
			w.client.Path.AddCandidates(p.ID, own, w.Now())
		}, 15250*ms + 2*time.Second, path.NoWay},
		{"withdrawn", func(w *world, p path.Peer) {
			w.client.Path.AddCandidates(p.ID, own, w.Now())
			w.Run(time.Second)
			w.client.Path.RemoveCandidates(p.ID, own, w.Now())
		}, 3 * time.Second, path.NoWay},
	} {
		w := newWorld(sim.V4)
		peer, _ := w.portal.Peers(w.client, w.gateway)
		begin := w.Now()
		if err := w.client.Path.Upsert(peer, w.Now()); err != nil {
			t.Fatal(err)
		}
		c.do(w, peer)
		w.Until(time.Minute, func() bool { return !w.client.Path.Has(peer.ID) })
		w.Run(0)
		if got := w.failures(w.client); w.Since(begin) != c.after || !slices.Equal(got, []path.Reason{c.want}) {
			t.Errorf("%s: %v after %v, want %v after %v", c.name, got, w.Since(begin), c.want, c.after)
		}
	}
}

// A gateway that has forgotten us, as after a crash, is given up with its last
// way; there is nothing to wait for. It is checked every 1.5 s, and given up
// 16.5 s after the first check that it leaves unanswered, or little later in a
// connection that is this young.
func TestPeerThatGoesSilentIsGivenUpAtOnce(t *testing.T) {
	w := connected(t)
	peer, _ := w.portal.Peers(w.client, w.gateway)
	begin := w.Now()
	w.gateway.Restart()
	w.Until(time.Minute, func() bool { return !w.client.Path.Has(peer.ID) })
	if took, want := w.Since(begin), 19*time.Second; took > want {
		t.Errorf("given up after %v, want at most %v", took, want)
	}
}

// The secrets differ: ICE works, WireGuard does not. The client notices by its
// handshakes, the gateway by the lack of them.
func TestHandshakesThatFail(t *testing.T) {
	w := newWorld(sim.V4)
	forClient, forGateway := w.portal.Peers(w.client, w.gateway)
	forClient.PSK[0]++
	if err := w.gateway.Path.Upsert(forGateway, w.Now()); err != nil {
		t.Fatal(err)
	}
	if err := w.client.Path.Upsert(forClient, w.Now()); err != nil {
		t.Fatal(err)
	}
	begin := w.Now()
	w.Until(time.Minute, func() bool { return !w.client.Path.Has(w.gateway.ID) })
	if got := w.failures(w.client); w.Since(begin).Round(time.Second) != 20*time.Second || !slices.Equal(got, []path.Reason{path.Unanswered}) {
		t.Errorf("client: %v after %v", got, w.Since(begin))
	}
	w.Until(time.Hour, func() bool { return !w.gateway.Path.Has(w.client.ID) })
	w.Run(0)
	if got := w.failures(w.gateway); len(got) != 1 || got[0] != path.Expired || w.Since(begin).Round(time.Minute) != 9*time.Minute {
		t.Errorf("gateway: %v after %v", got, w.Since(begin))
	}
}

// A relay is known but silent: it is given up, and without it there is nobody
// to tell us our addresses.
func TestSilentRelay(t *testing.T) {
	w := newWorld(sim.V4)
	w.relay.Host.Unplug()
	w.portal.Answer = false
	w.client.Restart()
	w.Run(100 * ms)
	peer, _ := w.portal.Peers(w.client, w.gateway)
	if err := w.client.Path.Upsert(peer, w.Now()); err != nil {
		t.Fatal(err)
	}
	w.client.Path.AddCandidates(peer.ID, []string{"candidate:1 1 udp 5 192.0.2.9 9 typ host"}, w.Now())
	w.Run(20 * time.Second)
	got := w.events(w.client)
	want := []path.Event{path.NoRelays{}, path.Failed{Peer: peer.ID, Reason: path.NoLocalCandidates}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestIdleMode(t *testing.T) {
	w := connected(t)
	state := func() string {
		c, _ := w.client.Connection(w.gateway.ID)
		return c.State
	}
	w.client.Send(w.gateway.ID, "last")
	w.Run(20*time.Second - ms)
	if got := state(); got != "connected" {
		t.Errorf("just before 20 s: %s", got)
	}
	w.Run(2 * ms)
	if got := state(); got != "idle" {
		t.Errorf("just after: %s", got)
	}
	w.Run(time.Minute) // keepalives and checks are no activity
	if got := state(); got != "idle" {
		t.Errorf("a minute later: %s", got)
	}
	for _, c := range []struct {
		name string
		do   func()
		want string
	}{
		{"sent", func() { w.client.Send(w.gateway.ID, "x") }, "connected"},
		{"received", func() { w.gateway.Send(w.client.ID, "x") }, "connected"},
		{"remote added", func() {
			w.client.Path.AddCandidates(w.gateway.ID, []string{"candidate:1 1 udp 5 192.0.2.9 9 typ host"}, w.Now())
		}, "connected"},
		{"remote removed", func() {
			w.client.Path.RemoveCandidates(w.gateway.ID, []string{"candidate:1 1 udp 5 192.0.2.9 9 typ host"}, w.Now())
		}, "connected"},
		{"own relay lost", func() { w.client.Path.Relays([]id.Relay{w.relay.ID()}, nil, w.Now()) }, "idle"},
	} {
		w.Run(30 * time.Second)
		if got := state(); got != "idle" {
			t.Fatalf("before %s: %s", c.name, got)
		}
		c.do()
		w.Run(50 * ms)
		if got := state(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// The handshake may overtake the nomination: the answer waits for it, and goes
// where the nomination says.
func TestHandshakeBeforeNomination(t *testing.T) {
	w := newWorld(sim.V4)
	now := w.Now()
	private := wire.Key{1, 2, 3}
	identity := wg.NewIdentity(private, now, now, rand.NewChaCha8([32]byte{}))
	_, peer := w.portal.Peers(w.client, w.gateway)
	peer.Key = identity.Public()
	gateway := w.gateway.Path
	if err := gateway.Upsert(peer, now); err != nil {
		t.Fatal(err)
	}
	handshakes := func() (to []netip.AddrPort) {
		var o path.Output
		gateway.Drain(&o)
		for _, d := range o.Datagrams {
			if wg.Classify(d.Payload) == wg.Response {
				to = append(to, d.Remote)
			}
		}
		return to
	}

	session := wg.New(wg.Config{Identity: identity, Remote: gateway.PublicKey(), PSK: peer.PSK, Rand: rand.NewChaCha8([32]byte{})})
	session.Initiate(now)
	host := netip.AddrPortFrom(w.gateway.Host.V4, sim.Port)
	gateway.Datagram(core.Datagram{Local: host, Remote: addr("198.51.100.7:7"), Payload: session.Drain(nil)[0]}, now)
	if to := handshakes(); to != nil {
		t.Fatalf("answered to %v", to)
	}

	agent := ice.New(ice.Config{Controlling: true, Local: peer.Remote, Remote: peer.Local, Profile: ice.ClientActive, Rand: rand.NewChaCha8([32]byte{})})
	mine := addr("198.51.100.8:8")
	agent.AddLocal(ice.NewHost(mine), now)
	agent.AddRemote(ice.Candidate{Kind: ice.Host, Addr: host, Priority: 1}, now)
	for range 2 { // a check, then one with USE-CANDIDATE
		agent.Advance(now)
		for _, x := range agent.Drain(nil) {
			if to := handshakes(); to != nil {
				t.Fatalf("answered to %v before the nomination", to)
			}
			gateway.Datagram(core.Datagram{Local: x.Remote, Remote: x.Local, Payload: x.Payload}, now)
			m, err := ice.ParseMessage(x.Payload)
			if err != nil {
				t.Fatal(err)
			}
			if m.UseCandidate {
				continue
			}
			var o path.Output
			gateway.Drain(&o)
			for _, d := range o.Datagrams {
				if m, err := ice.ParseMessage(d.Payload); err == nil {
					agent.Handle(m, mine, host, now)
				}
			}
		}
	}
	if to := handshakes(); !slices.Equal(to, []netip.AddrPort{mine}) {
		t.Errorf("answered to %v, want %v", to, mine)
	}
}

func TestReport(t *testing.T) {
	w := connected(t)
	w.client.Send(w.gateway.ID, "12345678")
	w.Run(100 * ms)
	g, _ := w.gateway.Connection(w.client.ID)
	c, _ := w.client.Connection(w.gateway.ID)
	if c.State != "connected" || c.Relayed || c.RTT != 4*uplink || c.Sent != 13 || g.Received != 13 || c.LastHandshake.IsZero() || !c.Local.IsValid() || !c.Remote.IsValid() {
		t.Errorf("client %+v, gateway %+v", c, g)
	}
	if got, ok := w.client.Path.ReportOf(w.gateway.ID); !ok || got != c {
		t.Errorf("of one: %+v, %v", got, ok)
	}
	if _, ok := w.client.Path.ReportOf(id.Peer{9}); ok {
		t.Error("there is no such connection")
	}
}

// Relays are told with what they gave us, as long as we have them.
func TestReportRelays(t *testing.T) {
	w := connected(t)
	relays := w.client.Path.ReportRelays(nil)
	if len(relays) != 1 {
		t.Fatalf("%+v", relays)
	}
	if r := relays[0]; r.ID.IsZero() || r.Addr.Port() != 3478 || len(r.Allocated) != 2 || r.RTT <= 0 {
		t.Errorf("%+v", r)
	}
	w.client.Path.Relays([]id.Relay{relays[0].ID}, nil, w.Now())
	if left := w.client.Path.ReportRelays(nil); len(left) != 0 {
		t.Errorf("%+v", left)
	}
}

func TestControlWithoutConnection(t *testing.T) {
	w := newWorld(sim.V4)
	if w.client.Path.Control(w.gateway.ID, []byte("x"), w.Now()) {
		t.Error("accepted")
	}
	w.client.Path.Close(w.gateway.ID, true, w.Now())
}
