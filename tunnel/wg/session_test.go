package wg

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// One test for each row of connectivity.md 1.7, and for the requirements that
// follow there.

func TestPresharedKeyMustAgree(t *testing.T) {
	p := newPair(t, 1)
	p.a.session.psk[0] ^= 1
	p.a.session.Initiate(p.now)
	p.run(19 * sec)
	if p.a.session.Established() || p.b.session.Established() {
		t.Fatal("session with different preshared keys")
	}
	if n := len(p.sentBy(p.b, Response, 0)); n != len(p.sentBy(p.a, Initiation, 0)) || n < 6 { // the responder cannot know
		t.Fatalf("got %d responses: %v", n, p.log)
	}
}

func TestNoPersistentKeepalive(t *testing.T) {
	p := newPair(t, 1)
	p.connect()
	if got := len(p.log); got != 3 {
		t.Fatalf("got %v, want initiation, response, keepalive", p.log)
	}
	p.run(179 * sec)
	if got := len(p.log); got != 3 {
		t.Fatalf("idle session sent something: %v", p.log)
	}
}

func TestPassiveKeepalive(t *testing.T) {
	for _, test := range []struct {
		name   string
		sends  []time.Duration // by a
		answer time.Duration   // by b, 0: never
		want   []time.Duration // keepalives of b
	}{
		{"one packet", []time.Duration{1 * sec}, 0, []time.Duration{11 * sec}},
		{"from the first unanswered one", []time.Duration{1 * sec, 5 * sec, 9 * sec}, 0, []time.Duration{11 * sec}},
		{"answered", []time.Duration{1 * sec}, 10 * sec, nil},
		{"again after one", []time.Duration{1 * sec, 12 * sec}, 0, []time.Duration{11 * sec, 22 * sec}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPair(t, 1)
			p.connect()
			p.carry = func(*node, []byte) []time.Duration { return []time.Duration{0} }
			for _, at := range test.sends {
				p.run(at)
				p.send(p.a, "x")
			}
			if test.answer != 0 {
				p.run(test.answer)
				p.send(p.b, "y")
			}
			p.run(40 * sec)
			if got := p.keepalives(p.b, sec); !slices.Equal(got, test.want) {
				t.Errorf("got keepalives at %v, want %v", got, test.want)
			}
		})
	}
}

// A keepalive is no application packet: it is not answered.
func TestKeepalivesAreNotAnswered(t *testing.T) {
	p := newPair(t, 1)
	p.connect()
	p.run(sec)
	p.send(p.a, "x")
	p.run(100 * sec)
	if got := p.keepalives(p.a, sec); got != nil {
		t.Errorf("keepalive answered at %v", got)
	}
}

// A steady one-way flow keeps its session without handshakes.
func TestOneWayFlowCostsNoHandshake(t *testing.T) {
	p := newPair(t, 1)
	p.connect()
	for s := range 118 {
		p.run(time.Duration(s+1) * sec)
		p.send(p.a, "x")
	}
	if n := len(p.sentBy(p.a, Initiation, sec)) + len(p.sentBy(p.b, Initiation, 0)); n != 0 {
		t.Errorf("got %d handshakes, want none", n)
	}
}

// The first handshake of a connection is repeated early: somebody waits for it.
func TestRetryIntervalAndGivingUp(t *testing.T) {
	for _, test := range []struct {
		name        string
		established bool
		gaps        []time.Duration
	}{
		{"first", false, []time.Duration{500 * ms, 1 * sec, 2 * sec, 5 * sec, 5 * sec, 5 * sec}},
		{"later", true, []time.Duration{5 * sec, 5 * sec, 5 * sec}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for seed := range uint64(50) {
				p := newPair(t, seed)
				if test.established {
					p.connect()
					p.run(20 * sec)
				}
				p.cut()
				begin := p.now.Sub(p.begin)
				p.a.session.Initiate(p.now)
				p.run(begin + 20*sec - 1)
				if err := p.a.session.Err(); err != nil {
					t.Fatalf("seed %d: dead before 20 s: %v", seed, err)
				}
				at := p.sentBy(p.a, Initiation, begin)
				if len(at) != len(test.gaps)+1 {
					t.Fatalf("seed %d: initiations at %v, want gaps %v", seed, at, test.gaps)
				}
				for i := range at[1:] {
					least := test.gaps[i]
					if gap := at[i+1] - at[i]; gap < least || gap > least+least/15 {
						t.Errorf("seed %d: retry %d after %v, want %v", seed, i+1, gap, least)
					}
				}
				p.run(begin + 20*sec)
				if err := p.a.session.Err(); !errors.Is(err, ErrUnanswered) {
					t.Errorf("seed %d: got %v after 20 s", seed, err)
				}
				p.run(begin + 100*sec)
				if len(p.sentBy(p.a, Initiation, begin+20*sec)) > 0 || p.a.session.Initiate(p.now) || !p.a.session.Next().IsZero() {
					t.Errorf("seed %d: a dead session acts", seed)
				}
			}
		})
	}
}

// Whichever message of the first handshake gets lost, it costs half a second.
func TestLostFirstMessageCostsLittle(t *testing.T) {
	for _, lost := range []Kind{Initiation, Response} {
		p := newPair(t, 1)
		p.carry = func(_ *node, msg []byte) []time.Duration {
			if Classify(msg) == lost {
				lost = Invalid
				return nil
			}
			return []time.Duration{10 * ms}
		}
		p.a.session.Initiate(p.now)
		p.run(600 * ms)
		if p.a.session.Send() == nil || p.b.session.Send() == nil {
			t.Errorf("no session after 600 ms: %v", p.log)
		}
	}
}

// On a way so slow that answers cross repetitions, the first handshake ends
// with keys that both ends have.
func TestRepetitionsOnASlowWay(t *testing.T) {
	for rtt := 100 * ms; rtt <= 5*sec; rtt += 100 * ms {
		p := newPair(t, 1)
		p.carry = func(*node, []byte) []time.Duration { return []time.Duration{rtt / 2} }
		p.a.session.Initiate(p.now)
		p.run(12 * sec)
		if !p.send(p.a, "x") || !p.send(p.b, "y") {
			t.Fatalf("round trip %v: no session: %v", rtt, p.log)
		}
		p.run(18 * sec)
		if len(p.a.got) != 1 || len(p.b.got) != 1 {
			t.Errorf("round trip %v: packets lost", rtt)
		}
	}
}

func TestRekeyByAge(t *testing.T) {
	established := 20 * ms // a has the response then
	for _, test := range []struct {
		name           string
		aSends, bSends time.Duration // 0: never
		renew          bool
		wantA, wantB   time.Duration // when the next initiation goes out
	}{
		{name: "initiator, sent", aSends: 30 * sec, wantA: 120*sec + established},
		{name: "initiator, sent late", aSends: 125 * sec, wantA: 125 * sec},
		{name: "initiator, received", bSends: 30 * sec, wantA: 165*sec + established},
		{name: "initiator, received late", bSends: 168 * sec, wantA: 168*sec + 10*ms},
		{name: "initiator, idle", wantA: 180*sec + established},
		{name: "client, sent", aSends: 30 * sec, renew: true, wantA: 120*sec + established},
		{name: "client, idle", renew: true, wantA: 165*sec + established},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPair(t, 1)
			p.a.session.renew = test.renew
			p.connect()
			if test.aSends != 0 {
				p.run(test.aSends)
				p.send(p.a, "x")
			}
			if test.bSends != 0 {
				p.run(test.bSends)
				p.send(p.b, "x")
			}
			p.run(181 * sec)
			if got := p.sentBy(p.a, Initiation, sec); len(got) != 1 || got[0] != test.wantA {
				t.Errorf("initiator re-keyed at %v, want %v", got, test.wantA)
			}
			if got := p.sentBy(p.b, Initiation, 0); got != nil {
				t.Errorf("responder re-keyed at %v", got)
			}
		})
	}
}

// The idle session is renewed for ever, and a client's can send at any moment.
func TestIdleSessionsLive(t *testing.T) {
	for renew, want := range map[bool]int{false: 40, true: 44} {
		p := newPair(t, 1)
		p.a.session.renew = renew
		p.connect()
		for p.now.Before(p.begin.Add(2 * time.Hour)) {
			p.run(p.now.Sub(p.begin) + sec)
			if renew && p.a.session.Send() == nil {
				t.Fatalf("an idle client cannot send at %v", p.now.Sub(p.begin))
			}
		}
		if p.a.session.Err() != nil || p.b.session.Err() != nil {
			t.Fatalf("died idle: %v, %v", p.a.session.Err(), p.b.session.Err())
		}
		if got := len(p.sentBy(p.a, Initiation, 0)); got != want {
			t.Errorf("renew %v: got %d handshakes in two hours, want %d", renew, got, want)
		}
	}
}

func TestSentButHeardNothing(t *testing.T) {
	for _, name := range []string{"a", "b"} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 1)
			p.connect()
			n := p.a
			if name == "b" {
				n = p.b
			}
			p.run(10 * sec)
			p.cut()
			p.send(n, "x")
			p.run(20 * sec)
			p.send(n, "x") // the first one counts
			p.run(25*sec - 1)
			if got := p.sentBy(n, Initiation, sec); got != nil {
				t.Fatalf("handshake at %v", got)
			}
			p.run(25 * sec)
			if got := p.sentBy(n, Initiation, sec); !slices.Equal(got, []time.Duration{25 * sec}) {
				t.Fatalf("handshake at %v, want 25 s", got)
			}
			p.run(45 * sec)
			if err := n.session.Err(); !errors.Is(err, ErrUnanswered) {
				t.Errorf("got %v, want unanswered 20 s later", err)
			}
		})
	}
}

func TestUnusableForSendingAndExpiry(t *testing.T) {
	p := newPair(t, 1)
	p.connect()
	ka, kb := p.a.session.Send(), p.b.session.Send()
	p.cut()
	p.run(170 * sec)
	if p.a.session.Send() != ka {
		t.Error("initiator cannot send before 170 s")
	}
	p.run(170*sec + 20*ms) // a established it then
	if p.a.session.Send() != nil {
		t.Error("initiator sends after 170 s")
	}
	if ka.Seal(make([]byte, Overhead), 0) != nil {
		t.Error("a snapshot taken earlier still seals")
	}
	if p.a.session.Find(ka.LocalIndex()) != ka {
		t.Error("initiator does not receive between 170 and 180 s")
	}
	if p.b.session.Send() != kb {
		t.Error("responder cannot send before 180 s")
	}
	p.run(180*sec + 20*ms)
	if p.a.session.Find(ka.LocalIndex()) != nil || p.b.session.Find(kb.LocalIndex()) != nil || p.b.session.Send() != nil {
		t.Error("keys outlive 180 s")
	}
	if p.b.session.Received(kb, 100, true, p.now) {
		t.Error("received on expired keys")
	}
}

// Who has a packet at 175 s need not wait for the idle renewal.
func TestInitiateBridgesTheUnusableTime(t *testing.T) {
	p := newPair(t, 1)
	p.connect()
	p.run(175 * sec)
	if p.send(p.a, "x") || !p.a.session.Initiate(p.now) {
		t.Fatal("no handshake for a waiting packet")
	}
	p.run(175*sec + shot)
	if !p.send(p.a, "x") {
		t.Fatal("no session after the handshake")
	}
}

func TestDeadWithoutNewSession(t *testing.T) {
	p := newPair(t, 1)
	p.connect()
	p.cut()
	p.run(540 * sec)
	if err := p.b.session.Err(); err != nil {
		t.Fatalf("responder died early: %v", err)
	}
	p.run(540*sec + 10*ms) // b accepted the initiation then
	if err := p.b.session.Err(); !errors.Is(err, ErrExpired) {
		t.Fatalf("got %v, want expired", err)
	}
}

func TestRenewTakesOverFromASilentInitiator(t *testing.T) {
	for _, renew := range []bool{false, true} {
		p := newPair(t, 1)
		p.a.session.renew = renew
		p.b.session.Initiate(p.now) // the gateway's handshake, as by its 15 s rule
		p.run(sec)
		p.carry = func(from *node, msg []byte) []time.Duration {
			if from == p.b && Classify(msg) == Initiation {
				return nil // it does not renew
			}
			return []time.Duration{10 * ms}
		}
		p.run(190 * sec)
		if got := p.a.session.Send() != nil; got != renew {
			t.Errorf("renew %v: usable after 190 s: %v", renew, got)
		}
	}
}

func TestNothingIsPadded(t *testing.T) {
	p := newPair(t, 1)
	p.connect()
	for n := range 40 {
		buf := make([]byte, n+Overhead)
		if got := len(p.a.session.Send().Seal(buf, n)); got != n+32 {
			t.Errorf("%d bytes sealed to %d", n, got)
		}
	}
}

func TestHandshakeRateLimit(t *testing.T) {
	p := newPair(t, 1)
	g := p.b
	first := true
	var cookie []byte
	flood := func(src netip.AddrPort) (ok bool) {
		p.a.session.initiate(p.now)
		in, reply, ok := g.identity.Initiator(p.a.session.Drain(nil)[0], src, p.now)
		cookie = reply
		if ok && first {
			first = false
			g.session.Accept(in, p.now)
		}
		return ok
	}
	for i := range 100 {
		if !flood(p.a.addr) {
			t.Fatalf("initiation %d refused", i+1)
		}
	}
	if flood(p.a.addr) || Classify(cookie) != Cookie {
		t.Fatal("initiation 101 within a second was not answered by a cookie")
	}
	old := slices.Clone(cookie)
	flood(p.a.addr)
	if p.a.session.Handle(old, g.addr, p.now) {
		t.Error("cookie for an older initiation accepted")
	}
	if !p.a.session.Handle(cookie, g.addr, p.now) {
		t.Fatal("cookie refused")
	}
	if !flood(netip.AddrPortFrom(p.a.addr.Addr(), 9)) {
		t.Error("initiation with MAC2 refused: cookies go by address, not port")
	}
	if flood(netip.MustParseAddrPort("203.0.113.99:1")) {
		t.Error("cookie of another address accepted")
	}
	p.now = p.now.Add(sec)
	if !flood(netip.MustParseAddrPort("203.0.113.99:1")) {
		t.Error("still refused in the next second")
	}
	for range 100 {
		flood(p.a.addr)
	}
	p.now = p.now.Add(cookieLife - 2*sec) // both sides still hold it
	for range 100 {
		flood(p.a.addr)
	}
	if !flood(p.a.addr) {
		t.Error("cookie refused before 120 s")
	}
	p.now = p.now.Add(2 * sec)
	for range 100 {
		flood(p.a.addr)
	}
	if flood(p.a.addr) {
		t.Error("cookie older than 120 s was used")
	}
}

// Responses are subject to load as well: the initiator answers with a cookie,
// and the next response carries MAC2.
func TestResponsesUnderLoad(t *testing.T) {
	p := newPair(t, 1)
	p.a.session.Initiate(p.now)
	loadUntil := p.begin.Add(8 * sec)
	carry := p.carry
	p.carry = func(from *node, msg []byte) []time.Duration {
		if from == p.b && p.now.Before(loadUntil) {
			p.a.identity.second, p.a.identity.count = p.now, 1000
		}
		return carry(from, msg)
	}
	p.run(400 * ms)
	if p.a.session.Established() || len(p.sentBy(p.a, Cookie, 0)) != 1 {
		t.Fatalf("response accepted under load: %v", p.log)
	}
	p.run(1 * sec)
	if !p.a.session.Established() {
		t.Fatalf("response with MAC2 refused under load: %v", p.log)
	}
}

func TestTimeStampsGrow(t *testing.T) {
	rng := chacha(1)
	wall, now := time.Unix(1e9, 999999999), time.Unix(0, 0)
	i := NewIdentity(key(rng), wall, now, rng)
	last := i.stamp(now)
	if got, want := binary.BigEndian.Uint64(last[:]), uint64(1<<62+10+1e9); got != want {
		t.Errorf("label %x, want %x", got, want)
	}
	for _, step := range []time.Duration{0, 0, 1, 0, sec, 0, -sec} {
		now = now.Add(step)
		stamp := i.stamp(now)
		if string(stamp[:]) <= string(last[:]) {
			t.Fatalf("stamp %x after %x", stamp, last)
		}
		last = stamp
	}
}

func TestReplayedInitiationsAreRefused(t *testing.T) {
	p := newPair(t, 1)
	p.a.session.initiate(p.now)
	p.a.session.initiate(p.now)
	m := p.a.session.Drain(nil)
	for _, test := range []struct {
		msg  []byte
		want bool
	}{{m[1], true}, {m[1], false}, {m[0], false}} {
		in, _, ok := p.b.identity.Initiator(test.msg, p.a.addr, p.now)
		if !ok || in.Static != p.a.identity.Public() {
			t.Fatal("initiator not recognised")
		}
		if got := p.b.session.Accept(in, p.now); got != test.want {
			t.Errorf("accepted %v, want %v", got, test.want)
		}
	}
}

func TestStrangersAreRefused(t *testing.T) {
	p, q := newPair(t, 1), newPair(t, 2)
	q.a.session.remote, q.a.session.mac1Key = p.b.identity.Public(), mac1Key(p.b.identity.Public())
	q.a.session.Initiate(q.now)
	in, _, ok := p.b.identity.Initiator(q.a.session.Drain(nil)[0], q.a.addr, p.now)
	if !ok || p.b.session.Accept(in, p.now) {
		t.Error("accepted somebody else's initiation on this connection")
	}
}

func TestProactiveHandshakes(t *testing.T) {
	p := newPair(t, 1)
	if !p.a.session.Initiate(p.now) || p.a.session.Initiate(p.now) {
		t.Fatal("want one handshake in flight")
	}
	p.run(20*sec - 1)
	if p.a.session.Initiate(p.now) {
		t.Error("second proactive handshake within 20 s")
	}
	p.run(20 * sec)
	if !p.a.session.Initiate(p.now) {
		t.Error("no proactive handshake after 20 s")
	}
}

func TestResponsesToTheLastTwoInitiations(t *testing.T) {
	for drop, want := range []bool{0: true, 1: true, 2: false} {
		p := newPair(t, 1)
		var first []byte
		p.a.session.Initiate(p.now)
		for i := range drop + 1 {
			if i > 0 {
				p.a.session.initiate(p.now)
			}
			m := p.a.session.Drain(nil)[0]
			if i == 0 {
				in, _, _ := p.b.identity.Initiator(m, p.a.addr, p.now)
				p.b.session.Accept(in, p.now)
				first = p.b.session.Drain(nil)[0]
			}
		}
		if got := p.a.session.Handle(first, p.b.addr, p.now); got != want {
			t.Errorf("response to the initiation before the last %d: accepted %v", drop, got)
		}
	}
}

// A forged response with an ephemeral key of low order, or a wrong one, must
// not end the handshake.
func TestForgedResponses(t *testing.T) {
	p := newPair(t, 1)
	p.a.session.Initiate(p.now)
	in, _, _ := p.b.identity.Initiator(p.a.session.Drain(nil)[0], p.a.addr, p.now)
	p.b.session.Accept(in, p.now)
	genuine := p.b.session.Drain(nil)[0]
	for name, forge := range map[string]func(m []byte){
		"zero ephemeral": func(m []byte) { clear(m[12:44]) },
		"one ephemeral":  func(m []byte) { clear(m[12:44]); m[12] = 1 },
		"wrong tag":      func(m []byte) { m[50] ^= 1 },
		"wrong key":      func(m []byte) { m[20] ^= 1 },
	} {
		m := slices.Clone(genuine[:responseLen-macsLen])
		forge(m)
		m = appendMACs(m, mac1Key(p.a.identity.Public()), nil)
		if p.a.session.Handle(m, p.b.addr, p.now) {
			t.Errorf("%s: accepted", name)
		}
	}
	if !p.a.session.Handle(genuine, p.b.addr, p.now) {
		t.Error("genuine response refused after forged ones")
	}
}

func TestResponderWaitsForTheFirstPacket(t *testing.T) {
	p := newPair(t, 1)
	p.carry = func(from *node, msg []byte) []time.Duration {
		if from == p.a && Classify(msg) == Data {
			return nil
		}
		return []time.Duration{10 * ms}
	}
	p.a.session.Initiate(p.now)
	p.run(sec)
	if p.a.session.Send() == nil || p.b.session.Send() != nil || p.b.session.Established() {
		t.Fatal("responder may send before it received")
	}
	p.carry = func(*node, []byte) []time.Duration { return []time.Duration{10 * ms} }
	p.send(p.a, "x")
	p.run(2 * sec)
	if p.b.session.Send() == nil || !p.b.session.Established() || len(p.b.got) != 1 {
		t.Fatal("first packet did not confirm the session")
	}
}

// While a re-key waits for its confirmation the responder sends with the old
// keys, and the initiator still opens them.
func TestBothSessionsReceiveDuringRekey(t *testing.T) {
	p := newPair(t, 1)
	p.connect()
	p.run(30 * sec)
	p.a.session.Initiate(p.now)
	old := p.b.session.Send()
	p.run(30*sec + 15*ms) // initiation arrived, response under way
	if p.b.session.Send() != old {
		t.Fatal("responder switched before the confirmation")
	}
	p.send(p.b, "old keys")
	p.run(31 * sec)
	if len(p.a.got) != 1 || p.b.session.Send() == old {
		t.Fatal("packet lost, or responder did not switch")
	}
}

func TestSimultaneousHandshakes(t *testing.T) {
	p := newPair(t, 1)
	p.a.session.Initiate(p.now)
	p.b.session.Initiate(p.now)
	p.run(sec)
	for _, n := range []*node{p.a, p.b} {
		if !p.send(n, "x") {
			t.Fatalf("%s has no session", n.name)
		}
	}
	p.run(2 * sec)
	if len(p.a.got) != 1 || len(p.b.got) != 1 {
		t.Fatal("packets lost")
	}
	if n := len(p.sentBy(p.a, Initiation, 0)) + len(p.sentBy(p.b, Initiation, 0)); n != 2 {
		t.Errorf("got %d initiations, want 2", n)
	}
}

// A peer's handshake that works ends our own unanswered attempt.
func TestPeersHandshakeEndsOurAttempt(t *testing.T) {
	p := newPair(t, 1)
	p.carry = func(from *node, msg []byte) []time.Duration {
		if from == p.a && Classify(msg) == Initiation {
			return nil
		}
		return []time.Duration{10 * ms}
	}
	p.a.session.Initiate(p.now)
	p.run(sec)
	p.b.session.Initiate(p.now)
	p.run(60 * sec)
	if p.a.session.Err() != nil || p.a.session.Send() == nil {
		t.Fatalf("attempt went on: %v", p.a.session.Err())
	}
}

// A peer whose responses get lost must not push out the keys in use.
func TestManyHandshakesKeepTheKeysInUse(t *testing.T) {
	p := newPair(t, 1)
	p.connect()
	used := p.b.session.Send()
	for range 20 {
		p.a.session.initiate(p.now)
		in, _, _ := p.b.identity.Initiator(p.a.session.Drain(nil)[0], p.a.addr, p.now)
		if !p.b.session.Accept(in, p.now) {
			t.Fatal("initiation refused")
		}
	}
	if p.b.session.Send() != used || p.b.session.Find(used.LocalIndex()) != used {
		t.Error("keys in use are gone")
	}
}

func TestPeerKeyOfLowOrder(t *testing.T) {
	p := newPair(t, 1)
	s := New(Config{Identity: p.a.identity, Index: 1, Rand: chacha(1)}) // all-zero public key
	if s.Initiate(p.now) || s.Err() == nil {
		t.Error("handshake with a low-order key")
	}
}

func TestSameRandomnessSameBytes(t *testing.T) {
	var runs [2][]entry
	var sealed [2][]byte
	for i := range runs {
		p := newPair(t, 7)
		p.connect()
		p.send(p.a, "x")
		p.run(250 * sec)
		runs[i], sealed[i] = p.log, p.a.session.Send().Seal(make([]byte, 100), 10)
	}
	if !slices.Equal(runs[0], runs[1]) || !slices.Equal(sealed[0], sealed[1]) {
		t.Error("two runs with one seed differ")
	}
}

func TestClassifyAndIndex(t *testing.T) {
	for _, test := range []struct {
		head []byte
		n    int
		kind Kind
	}{
		{[]byte{1}, 148, Initiation}, {[]byte{1}, 147, Invalid}, {[]byte{1}, 149, Invalid},
		{[]byte{2}, 92, Response}, {[]byte{2}, 64, Invalid},
		{[]byte{3}, 64, Cookie}, {[]byte{3}, 32, Invalid},
		{[]byte{4}, 32, Data}, {[]byte{4}, 31, Invalid}, {[]byte{4}, 1312, Data},
		{[]byte{4, 0, 0, 1}, 32, Invalid}, {[]byte{0}, 64, Invalid}, {[]byte{5}, 64, Invalid}, {nil, 0, Invalid},
	} {
		msg := make([]byte, test.n)
		copy(msg, test.head)
		if got := Classify(msg); got != test.kind {
			t.Errorf("type %v, %d bytes: got %d, want %d", test.head, test.n, got, test.kind)
		}
		for i := 4; i < min(12, test.n); i++ {
			msg[i] = byte(i)
		}
		want := map[Kind]uint32{Response: 0x0b0a0908, Cookie: 0x07060504, Data: 0x07060504}[test.kind]
		if got := Index(msg); got != want {
			t.Errorf("index of kind %d: got %x, want %x", test.kind, got, want)
		}
	}
}

// The first packet on a session says nothing about its successor: the re-key
// in flight goes on.
func TestLateFirstPacketDoesNotEndARekey(t *testing.T) {
	p := newPair(t, 1)
	p.connect()
	p.run(30 * sec)
	p.carry = func(_ *node, msg []byte) []time.Duration {
		if Classify(msg) != Data {
			return nil
		}
		return []time.Duration{10 * ms}
	}
	p.a.session.Initiate(p.now)
	p.send(p.b, "x")
	p.run(40 * sec)
	if len(p.a.got) != 1 || len(p.sentBy(p.a, Initiation, 31*sec)) == 0 {
		t.Error("the handshake was given up")
	}
}
