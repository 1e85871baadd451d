package ice

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"stile/tunnel/wire"
)

var (
	start0 = time.Unix(1000, 0)
	alice  = wire.ICECredentials{Username: "abcd", Password: "aaaaaaaaaaaaaaaaaaaaaa"}
	bob    = wire.ICECredentials{Username: "wxyz", Password: gatewayPassword}
)

type source struct{ *rand.ChaCha8 }

func randomness(seed byte) source { return source{rand.NewChaCha8([32]byte{seed})} }

// newAgent is alice, the client, or bob, the gateway.
func newAgent(controlling bool) *Agent {
	if controlling {
		return New(Config{Controlling: true, Local: alice, Remote: bob, Profile: ClientActive, Rand: randomness(1)})
	}
	return New(Config{Local: bob, Remote: alice, Profile: ServerActive, Rand: randomness(2)})
}

var (
	aliceHost = ap("10.0.0.1:1")
	bobHost   = ap("10.0.0.2:2")
)

func remoteHost(a netip.AddrPort) Candidate {
	return Candidate{Kind: Host, Addr: a, Priority: priority(126, 65534)}
}

func remoteRelay(a netip.AddrPort) Candidate {
	return Candidate{Kind: Relayed, Addr: a, Priority: priority(2, 16382), Related: ap("0.0.0.0:0")}
}

// paired returns alice and bob with one host candidate each, not known to the
// other side yet.
func paired(now time.Time) (a, b *Agent) {
	a, b = newAgent(true), newAgent(false)
	a.AddLocal(NewHost(aliceHost), now)
	b.AddLocal(NewHost(bobHost), now)
	return a, b
}

// run advances the agents and carries what they send, with no delay, as long
// as pass allows it.
func run(now time.Time, pass func(from *Agent, x Transmit) bool, agents ...*Agent) (sent []Transmit) {
	for busy := true; busy; {
		busy = false
		for _, from := range agents {
			from.Advance(now)
			for _, x := range from.Drain(nil) {
				busy = true
				sent = append(sent, x)
				if !pass(from, x) {
					continue
				}
				for _, to := range agents {
					if m, err := ParseMessage(x.Payload); err == nil && to != from {
						to.Handle(m, x.Remote, x.Local, now)
					}
				}
			}
		}
	}
	return sent
}

func everything(*Agent, Transmit) bool { return true }
func nothing(*Agent, Transmit) bool    { return false }

// attempts drives one agent into the void and returns when it sent checks and
// when its pair was gone, in seconds from start0.
func attempts(a *Agent, until time.Duration) (at []float64, gone float64) {
	end := start0.Add(until)
	for now := start0; ; now = a.Next() {
		for range run(now, nothing, a) {
			at = append(at, now.Sub(start0).Seconds())
		}
		if len(a.pairs) == 0 {
			return at, now.Sub(start0).Seconds()
		}
		if a.Next().After(end) {
			return at, -1
		}
	}
}

func TestScheduleOfUnansweredPairs(t *testing.T) {
	for _, c := range []struct {
		name    string
		profile Profile
		want    []float64
		gone    float64
	}{
		{"client", ClientActive, []float64{0, .25, .75, 1.75, 3.25, 4.75, 6.25, 7.75, 9.25, 10.75, 12.25, 13.75}, 15.25},
		{"server", ServerActive, []float64{0, .25, .75, 1.75, 3.75, 7.75, 15.75, 30.75, 45.75}, 600.75},
		{"client idle", ClientIdle, []float64{0, 25, 50, 75}, 100},
		{"server idle", ServerIdle, []float64{0, 25, 50}, 1000},
	} {
		a, _ := paired(start0)
		a.SetProfile(c.profile, start0)
		a.AddRemote(remoteHost(bobHost), start0)
		at, gone := attempts(a, time.Hour)
		if len(at) != c.profile.Attempts || !slices.Equal(at[:len(c.want)], c.want) || gone != c.gone {
			t.Errorf("%s: checks at %v, gone at %v; want %v and %v", c.name, at, gone, c.want, c.gone)
		}
	}
}

func TestHealthyPairThatStopsAnswering(t *testing.T) {
	for _, c := range []struct {
		name           string
		profile        Profile
		steady, intact float64
	}{
		{"client", ClientActive, 1.5, 16.5},
		{"server", ServerActive, 15, 615.5},
		{"client idle", ClientIdle, 25, 100},
		{"server idle", ServerIdle, 25, 1000},
	} {
		a, b := paired(start0)
		a.AddRemote(remoteHost(bobHost), start0)
		a.SetProfile(c.profile, start0)
		now := start0
		var last time.Time
		for range 60 { // beyond the number of attempts remembered
			last = now
			run(now, everything, a, b)
			now = a.Next()
		}
		if got := now.Sub(last).Seconds(); got != c.steady {
			t.Errorf("%s: checked every %v s, want %v", c.name, got, c.steady)
		}
		silent := now
		for len(a.pairs) > 0 {
			now = a.Next()
			a.Advance(now)
		}
		if got := now.Sub(silent).Seconds(); got != c.intact || a.State() != Disconnected {
			t.Errorf("%s: gone %v s after the first unanswered check, want %v; state %v", c.name, got, c.intact, a.State())
		}
	}
}

func TestRoundTripsAreMeasured(t *testing.T) {
	a, b := paired(start0)
	a.AddRemote(remoteHost(bobHost), start0)
	b.AddRemote(remoteHost(aliceHost), start0)
	now := start0
	check := func(trip time.Duration) {
		now = a.Next()
		a.Advance(now)
		for _, x := range a.Drain(nil) {
			m, err := ParseMessage(x.Payload)
			if err != nil {
				t.Fatal(err)
			}
			b.Handle(m, x.Remote, x.Local, now)
		}
		now = now.Add(trip)
		for _, x := range b.Drain(nil) {
			if m, err := ParseMessage(x.Payload); err == nil && !x.Request {
				a.Handle(m, x.Remote, x.Local, now)
			}
		}
	}
	if a.RTT() != 0 {
		t.Error("a round trip before there was one:", a.RTT())
	}
	check(80 * time.Millisecond)
	if a.RTT() != 80*time.Millisecond {
		t.Error("the first is", a.RTT())
	}
	check(160 * time.Millisecond)
	if a.RTT() != 90*time.Millisecond {
		t.Error("the second counts an eighth, and it is", a.RTT())
	}
	for range 60 {
		check(10 * time.Millisecond)
	}
	if got := a.RTT(); got < 10*time.Millisecond || got > 11*time.Millisecond {
		t.Error("after many it is", got)
	}
}

// A request of the peer within 15 s keeps an unanswered pair.
func TestRequestsKeepAPairAlive(t *testing.T) {
	a, b := paired(start0)
	a.AddRemote(remoteHost(bobHost), start0)
	b.AddRemote(remoteHost(aliceHost), start0)
	deaf := func(from *Agent, x Transmit) bool { return from == b && x.Request } // bob's answers are lost
	var now time.Time
	for now = start0; now.Before(start0.Add(20 * time.Second)); now = now.Add(50 * time.Millisecond) {
		run(now, deaf, a, b)
	}
	if len(a.pairs) != 1 {
		t.Fatal("pair is gone although bob asks")
	}
	for ; now.Before(start0.Add(50 * time.Second)); now = now.Add(50 * time.Millisecond) {
		run(now, nothing, a)
	}
	if len(a.pairs) != 0 {
		t.Error("pair stays although bob is silent")
	}
}

func TestNominationOfTheFirstAndOfABetterPair(t *testing.T) {
	a, b := paired(start0)
	relay := ap("198.51.100.9:50001")
	b.AddLocal(NewRelayed(relay, false), start0)
	a.AddRemote(remoteHost(bobHost), start0)
	a.AddRemote(remoteRelay(relay), start0)
	onlyRelay := func(_ *Agent, x Transmit) bool { return x.Local == relay || x.Remote == relay }

	sent := run(start0, onlyRelay, a, b)
	if _, remote, ok := a.Selected(); !ok || remote.Addr != relay {
		t.Fatal("alice did not nominate the only pair that answers")
	}
	if local, _, ok := b.Selected(); !ok || local.Addr != relay {
		t.Fatal("bob did not take over the nomination")
	}
	var use []bool
	for _, x := range sent {
		if m, _ := ParseMessage(x.Payload); x.Request && x.Remote == relay {
			use = append(use, m.UseCandidate)
		}
	}
	if !slices.Equal(use, []bool{false, true}) {
		t.Errorf("checks over the relay with USE-CANDIDATE: %v, want a plain one, then at once one with it", use)
	}

	for now := start0; now.Before(start0.Add(time.Second)); now = now.Add(10 * time.Millisecond) {
		run(now, everything, a, b)
	}
	_, remote, _ := a.Selected()
	local, _, _ := b.Selected()
	if remote.Addr != bobHost || local.Addr != bobHost {
		t.Errorf("nominated %v and %v, want the direct pair", remote, local)
	}
	if a.State() != Connected {
		t.Errorf("state %v, want Connected", a.State())
	}

	// Each later check of both pairs repeats the nomination.
	for _, x := range run(start0.Add(5*time.Second), everything, a, b) {
		if m, _ := ParseMessage(x.Payload); x.Request && x.Local == aliceHost && !m.UseCandidate {
			t.Errorf("check to %v without USE-CANDIDATE", x.Remote)
		}
	}
}

func TestWithdrawnCandidate(t *testing.T) {
	a, b := paired(start0)
	relay := ap("198.51.100.9:50001")
	b.AddLocal(NewRelayed(relay, false), start0)
	a.AddRemote(remoteHost(bobHost), start0)
	a.AddRemote(remoteRelay(relay), start0)
	run(start0, everything, a, b)

	// Announced with 37748479, withdrawn with another priority and no ufrag.
	withdrawn, _, err := Parse("candidate:abc 1 udp 50331391 198.51.100.9 50001 typ relay raddr 0.0.0.0 rport 0")
	if err != nil {
		t.Fatal(err)
	}
	other := withdrawn
	other.Related = ap("10.0.0.7:3")
	a.RemoveRemote(other, start0)
	if len(a.pairs) != 2 {
		t.Fatal("a candidate with another raddr was withdrawn")
	}
	a.RemoveRemote(withdrawn, start0)
	if len(a.pairs) != 1 || a.State() != Completed {
		t.Fatalf("%d pairs, state %v; want the direct one only, Completed", len(a.pairs), a.State())
	}

	b.AddRemote(remoteHost(aliceHost), start0)
	for _, x := range run(start0.Add(time.Second), everything, a, b) {
		if !x.Request && x.Local == aliceHost && x.Remote == relay {
			t.Error("a check from a withdrawn address was answered")
		}
	}
	a.AddRemote(remoteRelay(relay), start0.Add(time.Second))
	if len(a.pairs) != 2 {
		t.Error("announced again, but no pair")
	}
	a.RemoveRemote(withdrawn, start0.Add(time.Second))
	if len(a.pairs) != 1 {
		t.Error("withdrawn again, but the pair stays")
	}
}

func TestPeerReflexiveCandidates(t *testing.T) {
	a, b := paired(start0)
	a.AddRemote(remoteHost(bobHost), start0) // bob does not know alice's candidates
	run(start0, everything, a, b)
	_, remote, ok := b.Selected()
	if !ok || remote.Kind != PeerReflexive || remote.Addr != aliceHost || remote.Priority != priority(110, 65534) {
		t.Fatalf("bob: %+v %v, want alice as peer-reflexive with the priority of her check", remote, ok)
	}
	b.AddRemote(remoteHost(aliceHost), start0)
	_, remote, ok = b.Selected()
	if !ok || remote.Kind != Host || len(b.pairs) != 1 || !b.pairs[0].succeeded {
		t.Errorf("signalled later: %+v %v, want it replaced in place", remote, ok)
	}
	if got := b.pairs[0].priority; got != pairPriority(remote.Priority, b.locals[0].Priority) {
		t.Errorf("priority %x is still that of the peer-reflexive candidate", got)
	}
}

func TestRequestsWithoutReply(t *testing.T) {
	check := func(change func(*request)) Message {
		r := request{id: vectorID, username: "wxyz:abcd", controlling: true, priority: 1, peersPassword: gatewayPassword}
		change(&r)
		m, err := ParseMessage(r.encode())
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for _, c := range []struct {
		name    string
		m       Message
		local   netip.AddrPort
		answers int
	}{
		{"good", check(func(*request) {}), bobHost, 1},
		{"unannounced local address", check(func(*request) {}), ap("10.0.0.3:2"), 0},
		{"wrong left half", check(func(r *request) { r.username = "wxyy:abcd" }), bobHost, 0},
		{"wrong right half", check(func(r *request) { r.username = "wxyz:abce" }), bobHost, 0},
		{"wrong password", check(func(r *request) { r.peersPassword = "g" }), bobHost, 0},
	} {
		_, b := paired(start0)
		ok := b.Handle(c.m, c.local, aliceHost, start0)
		if out := b.Drain(nil); len(out) != c.answers || ok != (c.answers > 0) {
			t.Errorf("%s: handled %v with %d answers, want %d", c.name, ok, len(out), c.answers)
		}
	}
}

func TestResponsesThatDoNotCount(t *testing.T) {
	for _, c := range []struct {
		name          string
		local, remote netip.AddrPort
		password      string
		id            byte // added to the request's first byte
		want          bool
	}{
		{"good", aliceHost, bobHost, bob.Password, 0, true},
		{"other source", aliceHost, ap("10.0.0.2:3"), bob.Password, 0, false},
		{"other destination", ap("10.0.0.9:1"), bobHost, bob.Password, 0, false},
		{"wrong password", aliceHost, bobHost, alice.Password, 0, false},
		{"unknown transaction", aliceHost, bobHost, bob.Password, 1, false},
	} {
		a, _ := paired(start0)
		a.AddRemote(remoteHost(bobHost), start0)
		a.Advance(start0)
		id := a.Drain(nil)[0].ID
		id[0] += c.id
		m, err := ParseMessage(encodeResponse(id, aliceHost, c.password))
		if err != nil {
			t.Fatal(err)
		}
		handled := a.Handle(m, c.local, c.remote, start0)
		if _, _, selected := a.Selected(); handled != c.want || selected != c.want {
			t.Errorf("%s: handled %v, nominated %v, want %v", c.name, handled, selected, c.want)
		}
	}
}

// Two port-restricted NATs: the first check of each side dies, and the
// second side's opens the way for the answer to it.
func TestTriggeredChecks(t *testing.T) {
	a, b := paired(start0)
	a.AddRemote(remoteHost(bobHost), start0)
	run(start0, nothing, a) // dies at bob's NAT
	now := start0.Add(10 * time.Millisecond)
	b.AddRemote(remoteHost(aliceHost), now)
	run(now, everything, a, b)
	if _, _, ok := a.Selected(); !ok {
		t.Error("alice waits for her retransmission")
	}
	if _, _, ok := b.Selected(); !ok {
		t.Error("bob was not told")
	}
}

// Requests pass, responses do not: triggered checks must not feed each other.
func TestTriggeredChecksAreBounded(t *testing.T) {
	a, b := paired(start0)
	a.AddRemote(remoteHost(bobHost), start0)
	b.AddRemote(remoteHost(aliceHost), start0)
	count := 0
	for now := start0; now.Before(start0.Add(time.Second)); now = now.Add(time.Millisecond) {
		for _, x := range run(now, func(_ *Agent, x Transmit) bool { return x.Request }, a, b) {
			if x.Request {
				count++
			}
		}
	}
	if count > 20 {
		t.Errorf("%d checks within a second", count)
	}
}

func TestUseCandidateWhileControllingIsIgnored(t *testing.T) {
	a, _ := paired(start0)
	m, err := ParseMessage(request{id: vectorID, username: "abcd:wxyz", controlling: true, priority: 1, useCandidate: true, peersPassword: alice.Password}.encode())
	if err != nil {
		t.Fatal(err)
	}
	if a.Handle(m, aliceHost, bobHost, start0); a.pairs[0].nominated != 0 {
		t.Error("nominated by the peer")
	}
}

// direct and relayed are two ways between alice and bob, both nominated, the
// direct one in use.
func direct(t *testing.T) (a, b *Agent, relay netip.AddrPort) {
	t.Helper()
	a, b = paired(start0)
	relay = ap("198.51.100.9:50001")
	b.AddLocal(NewRelayed(relay, false), start0)
	a.AddRemote(remoteHost(bobHost), start0)
	a.AddRemote(remoteRelay(relay), start0)
	onlyRelay := func(_ *Agent, x Transmit) bool { return x.Local == relay || x.Remote == relay }
	run(start0, onlyRelay, a, b)
	during(start0, start0.Add(time.Second), everything, a, b)
	if where(a, b) != "direct" {
		t.Fatalf("to begin with: %s", where(a, b))
	}
	return a, b, relay
}

// during runs in steps of 10 ms.
func during(from, to time.Time, pass func(*Agent, Transmit) bool, agents ...*Agent) {
	for now := from; now.Before(to); now = now.Add(10 * time.Millisecond) {
		run(now, pass, agents...)
	}
}

func where(a, b *Agent) string {
	_, remote, _ := a.Selected()
	local, _, _ := b.Selected()
	switch {
	case remote.Addr == bobHost && local.Addr == bobHost:
		return "direct"
	case remote.Kind == Relayed && local.Kind == Relayed:
		return "relayed"
	}
	return "alice: " + remote.Kind.String() + ", bob: " + local.Kind.String()
}

// The direct path breaks: both sides use the relay soon, and come back when
// it is mended.
func TestNominatedPairDies(t *testing.T) {
	a, b, relay := direct(t)
	onlyRelay := func(_ *Agent, x Transmit) bool { return x.Local == relay || x.Remote == relay }
	broke := start0.Add(time.Second)
	during(broke, broke.Add(2*time.Second), onlyRelay, a, b)
	if got := where(a, b); got != "direct" {
		t.Errorf("after 2 s: %s, want patience", got)
	}
	during(broke.Add(2*time.Second), broke.Add(7*time.Second), onlyRelay, a, b)
	if got := where(a, b); got != "relayed" {
		t.Errorf("after 7 s: %s", got)
	}
	during(broke.Add(7*time.Second), broke.Add(12*time.Second), everything, a, b)
	if got := where(a, b); got != "direct" {
		t.Errorf("mended: %s", got)
	}
	during(broke.Add(12*time.Second), broke.Add(40*time.Second), onlyRelay, a, b)
	if got := where(a, b); got != "relayed" || len(a.pairs) != 1 {
		t.Errorf("broken for good: %s, %d pairs", got, len(a.pairs))
	}
}

// When both ways are silent, the better one is as good as the other.
func TestNominatedPairsDie(t *testing.T) {
	a, b, _ := direct(t)
	during(start0.Add(time.Second), start0.Add(10*time.Second), nothing, a, b)
	if got := where(a, b); got != "direct" {
		t.Errorf("%s", got)
	}
}

func TestFollow(t *testing.T) {
	a, b, relay := direct(t)
	now := start0.Add(time.Second)
	b.Follow(relay, aliceHost, now)
	if local, _, _ := b.Selected(); local.Addr != relay {
		t.Errorf("bob did not follow: %v", local)
	}
	during(now, now.Add(2*time.Second), everything, a, b)
	if got := where(a, b); got != "direct" {
		t.Errorf("after alice's next checks: %s", got)
	}
	b.Follow(relay, ap("10.9.9.9:9"), now)
	a.Follow(aliceHost, relay, now)
	if got := where(a, b); got != "direct" {
		t.Errorf("an unknown pair, and the controlling side: %s", got)
	}
	// It stands in for a nomination that got lost.
	a, b = paired(start0)
	a.AddRemote(remoteHost(bobHost), start0)
	run(start0, func(from *Agent, x Transmit) bool {
		m, _ := ParseMessage(x.Payload)
		return !m.UseCandidate
	}, a, b)
	if _, _, ok := b.Selected(); ok {
		t.Fatal("nominated")
	}
	b.Follow(bobHost, aliceHost, start0)
	if _, _, ok := b.Selected(); !ok {
		t.Error("not nominated")
	}
}

func TestPairing(t *testing.T) {
	a, _ := paired(start0)
	a.AddLocal(NewServerReflexive(ap("203.0.113.7:40001"), aliceHost), start0)
	a.AddRemote(remoteHost(bobHost), start0)
	a.AddRemote(remoteHost(ap("[2001:db8::2]:2")), start0)
	if len(a.pairs) != 1 || a.pairs[0].local.Kind != Host {
		t.Fatalf("%d pairs, want one: srflx collapses into its base, families do not mix", len(a.pairs))
	}
	a.AddRemote(remoteHost(bobHost), start0)
	if len(a.pairs) != 1 {
		t.Error("announced twice, paired twice")
	}
	a.Advance(start0)
	a.AddRemote(Candidate{Kind: ServerReflexive, Addr: bobHost, Priority: priority(100, 1)}, start0)
	if len(a.pairs) != 1 || a.pairs[0].remote.Kind != Host || a.pairs[0].remembered != 1 {
		t.Error("the worse of two equal ways replaced the better one")
	}
	for i := range 200 {
		a.AddRemote(Candidate{Kind: Relayed, Addr: netip.AddrPortFrom(bobHost.Addr(), uint16(1000+i)), Priority: uint32(1000 - i)}, start0)
	}
	if len(a.pairs) > maxPairs || len(a.remotes) > maxRemotes || a.pairs[0].remote.Addr != bobHost {
		t.Errorf("%d pairs, %d remotes", len(a.pairs), len(a.remotes))
	}
}

func TestOptimisticCandidates(t *testing.T) {
	srflx := func(s string) Candidate {
		return Candidate{Kind: ServerReflexive, Addr: ap(s), Priority: priority(100, 5)}
	}
	for _, c := range []struct {
		name string
		add  []Candidate
		want []string
	}{
		{"host, then srflx", []Candidate{remoteHost(ap("10.0.0.2:52625")), srflx("203.0.113.7:40001")}, []string{"203.0.113.7:52625"}},
		{"srflx, then host", []Candidate{srflx("203.0.113.7:40001"), remoteHost(ap("10.0.0.2:52625"))}, []string{"203.0.113.7:52625"}},
		{"two at most", []Candidate{remoteHost(ap("10.0.0.2:1")), remoteHost(ap("10.0.0.2:2")), remoteHost(ap("10.0.0.2:3")), srflx("203.0.113.7:40001")}, []string{"203.0.113.7:1", "203.0.113.7:2"}},
		{"port kept by the NAT", []Candidate{remoteHost(ap("10.0.0.2:52625")), srflx("203.0.113.7:52625")}, nil},
		{"not for IPv6", []Candidate{remoteHost(ap("[fd00::1]:1")), srflx("[2001:db8::1]:2")}, nil},
	} {
		a, _ := paired(start0)
		for _, r := range c.add {
			a.AddRemote(r, start0)
		}
		var got []string
		for _, r := range a.remotes {
			if !slices.ContainsFunc(c.add, func(x Candidate) bool { return x.Addr == r.Addr }) {
				got = append(got, r.Addr.String())
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: guessed %v, want %v", c.name, got, c.want)
		}
	}
}

func TestStates(t *testing.T) {
	a := newAgent(true)
	if a.State() != Checking {
		t.Errorf("without candidates: %v", a.State())
	}
	a.AddRemote(remoteHost(ap("[2001:db8::2]:2")), start0)
	if a.State() != Checking {
		t.Errorf("without local candidates: %v", a.State())
	}
	a.AddLocal(NewHost(aliceHost), start0)
	if a.State() != Disconnected {
		t.Errorf("no pair possible: %v", a.State())
	}
	a.AddRemote(remoteHost(bobHost), start0)
	if a.State() != Checking {
		t.Errorf("with a pair: %v", a.State())
	}
}

// A switch between profiles takes effect at once in both directions.
func TestProfileSwitch(t *testing.T) {
	a, b := paired(start0)
	a.AddRemote(remoteHost(bobHost), start0)
	now := start0
	for range 30 {
		run(now, everything, a, b)
		now = a.Next()
	}
	a.Advance(now)
	run(now, everything, a, b)
	a.SetProfile(ClientIdle, now)
	if got := a.Next().Sub(now); got != 25*time.Second {
		t.Errorf("idle: next check in %v, want 25s", got)
	}
	later := now.Add(20 * time.Second)
	a.SetProfile(ClientActive, later)
	if a.Next().After(later) {
		t.Errorf("active again: next check in %v, want at once", a.Next().Sub(later))
	}
}

// Whatever happens in whatever order, the agents' invariants hold.
func TestInvariants(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 0))
		a, b := newAgent(true), newAgent(false)
		now := start0
		for range 60 {
			now = now.Add(time.Duration(rng.Int64N(int64(2 * time.Second))))
			for _, x := range []*Agent{a, b} {
				disturb(x, rng, now)
			}
			run(now, func(*Agent, Transmit) bool { return rng.IntN(4) > 0 }, a, b)
			for _, x := range []*Agent{a, b} {
				if problem := broken(x, now); problem != "" {
					t.Fatalf("seed %d: %s", seed, problem)
				}
			}
		}
	}
}

func disturb(x *Agent, rng *rand.Rand, now time.Time) {
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + rng.IntN(4))}), uint16(1+rng.IntN(3)))
	if rng.IntN(3) == 0 {
		var raw [16]byte
		binary.BigEndian.PutUint64(raw[8:], uint64(1+rng.IntN(4)))
		raw[0] = 0xfd
		addr = netip.AddrPortFrom(netip.AddrFrom16(raw), addr.Port())
	}
	switch rng.IntN(8) {
	case 0:
		x.AddLocal(NewHost(addr), now)
	case 1:
		x.AddLocal(NewRelayed(addr, rng.IntN(2) == 0), now)
	case 2:
		x.RemoveLocal(addr, Relayed, now)
	case 3:
		x.AddRemote(remoteHost(addr), now)
	case 4:
		x.AddRemote(remoteRelay(addr), now)
	case 5:
		x.RemoveRemote(remoteRelay(addr), now)
	case 6:
		x.SetProfile([]Profile{ClientActive, ClientIdle, ServerActive, ServerIdle}[rng.IntN(4)], now)
	case 7:
		x.Trigger(addr, addr, now)
	}
}

// broken names the first invariant that does not hold.
func broken(x *Agent, now time.Time) string {
	type way struct{ base, remote netip.AddrPort }
	seen := map[way]bool{}
	for i, p := range x.pairs {
		w := way{p.base(), p.remote.Addr}
		switch {
		case seen[w]:
			return "two pairs share a way"
		case p.remote.discarded:
			return "a pair with a withdrawn candidate"
		case !slices.Contains(x.locals, p.local):
			return "a pair with a removed candidate"
		case p.priority != x.rank(p.local, p.remote):
			return "a stale priority"
		case i > 0 && p.priority > x.pairs[i-1].priority:
			return "pairs out of order"
		case p.run > p.remembered || p.remembered > x.profile.Attempts:
			return "attempts miscounted"
		case p.due.After(now.Add(x.profile.MaxRTO)):
			return "a check too late"
		case p.due.Before(x.next):
			return "Next is late"
		}
		seen[w] = true
	}
	if s := x.selected; s != nil && !slices.Contains(x.pairs, s) {
		return "nominated pair is gone"
	}
	return ""
}
