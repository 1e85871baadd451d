package turn

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/pion/stun/v3"
)

var (
	birth  = []string{"BINDING", "ALLOCATE", "ALLOCATE"}
	learnt = []Event{Mapped{host4, mapped4}, Allocated{relayed4, false}, Allocated{relayed6, true}}
	lost   = []Event{Lost{relayed4}, Lost{relayed6}}
)

func TestLifeCycle(t *testing.T) {
	l := newLink(nil)
	l.run(start0)
	l.want(t, "start", birth, learnt)
	if !l.a.Answered() || l.a.Gone() || l.a.Active() != relay4 || !l.a.Relays(relayed6) || !slices.Equal(l.a.Known(), learnt) {
		t.Errorf("state: %+v", l.a)
	}
	l.until(start0, start0.Add(299*time.Second))
	l.want(t, "keepalives each 25 s", slices.Repeat([]string{"BINDING"}, 11), nil)
	l.until(start0.Add(300*time.Second), start0.Add(300*time.Second))
	slices.Sort(l.sent)
	l.want(t, "half of the lifetime", []string{"BINDING", "REFRESH"}, nil)
	l.until(start0.Add(300*time.Second), start0.Add(24*time.Hour))
	if l.a.Gone() || len(l.events) > 0 {
		t.Errorf("after a day: gone %v, events %v", l.a.Gone(), l.events)
	}
}

// Silence until the relay is given up: BINDINGs keep their transaction ID.
func TestRetransmission(t *testing.T) {
	silent := func(string, *stun.Message) []byte { return []byte{} }
	l := newLink(silent)
	ids := map[transactionID]bool{}
	var at []float64
	for now := start0; !now.IsZero(); now = l.a.Next() {
		l.a.Advance(now)
		sends := l.a.Drain(nil)
		for _, s := range sends {
			ids[decode(t, s.Payload).TransactionID] = true
			at = append(at, now.Sub(start0).Seconds())
		}
		if l.a.Gone() {
			if got := now.Sub(start0).Seconds(); got != 8.125 {
				t.Errorf("gone after %v s", got)
			}
		}
	}
	if !slices.Equal(at, []float64{0, 1, 2.5, 4.75}) || len(ids) != 1 || !l.a.Gone() {
		t.Errorf("sent at %v with %d IDs, gone %v", at, len(ids), l.a.Gone())
	}

	l = newLink(func(name string, m *stun.Message) []byte {
		if name == "ALLOCATE" {
			ids[m.TransactionID] = true
			return []byte{}
		}
		return nil
	})
	clear(ids)
	l.until(start0, start0.Add(time.Minute))
	l.want(t, "silent ALLOCATE", []string{"BINDING", "ALLOCATE", "ALLOCATE", "ALLOCATE", "ALLOCATE"}, []Event{Mapped{host4, mapped4}})
	if len(ids) != 4 || !l.a.Gone() {
		t.Errorf("%d transaction IDs, want one for each; gone %v", len(ids), l.a.Gone())
	}
}

func TestErrors(t *testing.T) {
	// once answers the first request of a name, after skip others, by f.
	once := func(name string, skip int, f func(*stun.Message) []byte) func(string, *stun.Message) []byte {
		return func(n string, m *stun.Message) []byte {
			if n != name {
				return nil
			}
			if skip--; skip == -1 {
				return f(m)
			}
			return nil
		}
	}
	fails := func(code stun.ErrorCode) func(*stun.Message) []byte {
		return func(m *stun.Message) []byte {
			if code == 438 {
				return failure(m, code, nonce)
			}
			return failure(m, code, "")
		}
	}
	for _, c := range []struct {
		name     string
		override func(string, *stun.Message) []byte
		during   func(l *link)
		sent     []string
		events   []Event
		gone     bool
	}{
		{"438 to ALLOCATE: adopt the nonce", once("ALLOCATE", 1, fails(438)), nil,
			[]string{"BINDING", "ALLOCATE", "ALLOCATE", "ALLOCATE"}, learnt, false},
		{"437 to ALLOCATE: delete and reallocate", once("ALLOCATE", 1, fails(437)), nil,
			[]string{"BINDING", "ALLOCATE", "ALLOCATE", "DELETE", "ALLOCATE"}, learnt, false},
		{"437 to the deletion: reallocate", func() func(string, *stun.Message) []byte {
			first, second := once("ALLOCATE", 1, fails(437)), once("DELETE", 0, fails(437))
			return func(n string, m *stun.Message) []byte {
				if b := first(n, m); b != nil {
					return b
				}
				return second(n, m)
			}
		}(), nil, []string{"BINDING", "ALLOCATE", "ALLOCATE", "DELETE", "ALLOCATE"}, learnt, false},
		{"437 to REFRESH: reallocate", once("REFRESH", 0, fails(437)), func(l *link) { l.a.Probe(1, start0) },
			append(birth[:3:3], "REFRESH", "ALLOCATE"), slices.Concat(learnt, lost, learnt[1:]), false},
		{"437 to CHANNEL-BIND: reallocate and bind again", once("BIND", 0, fails(437)), func(l *link) { l.a.Bind(peer4, start0) },
			append(birth[:3:3], "BIND", "ALLOCATE", "BIND"), slices.Concat(learnt, lost, learnt[1:], []Event{Late{peer4}}), false},
		{"401 with nonce: the credentials are void", once("REFRESH", 0, fails(401)), func(l *link) { l.a.Probe(1, start0) },
			append(birth[:3:3], "REFRESH"), slices.Concat(learnt, lost), true},
		{"420: dropped at once", once("ALLOCATE", 1, fails(420)), nil, birth, learnt[:1], true},
		{"508 to ALLOCATE: no retry", once("ALLOCATE", 1, fails(508)), nil, birth, learnt[:1], false},
		{"400 to CHANNEL-BIND: forgotten", once("BIND", 0, fails(400)), func(l *link) { l.a.Bind(peer4, start0) },
			append(birth[:3:3], "BIND"), learnt, false},
		{"ALLOCATE without LIFETIME is ignored", once("ALLOCATE", 1, func(m *stun.Message) []byte { return success(m, relayedAt(relayed4)) }), nil,
			birth, learnt[:1], false},
		{"ALLOCATE without address is ignored", once("ALLOCATE", 1, func(m *stun.Message) []byte { return success(m, lifetime(600)) }), nil,
			birth, learnt[:1], false},
		{"a second address is no must", once("ALLOCATE", 1, func(m *stun.Message) []byte { return success(m, relayedAt(relayed4), lifetime(600)) }), nil,
			birth, learnt[:2], false},
		{"unsigned errors are ignored", once("ALLOCATE", 1, func(m *stun.Message) []byte {
			return unsigned(m, stun.ClassErrorResponse, func(r *stun.Message) { _ = stun.CodeUnauthorized.AddTo(r) }).Raw
		}), nil, birth, learnt[:1], false},
		{"codes beyond 599 are undecodable", once("ALLOCATE", 1, fails(610)), nil, birth, learnt[:1], false},
		{"overlong nonces are undecodable", once("ALLOCATE", 0, func(m *stun.Message) []byte { return failure(m, 401, fmt.Sprintf("%0128d", 1)) }), nil,
			birth[:2], learnt[:1], false},
		{"a mapped address of the other family is ignored", once("BINDING", 0, func(m *stun.Message) []byte {
			return success(m, func(r *stun.Message) { addXORAddress(r, stun.AttrXORMappedAddress, relay6) })
		}), nil, birth[:1], nil, false},
		{"unknown attributes are tolerated", once("ALLOCATE", 1, func(m *stun.Message) []byte {
			return success(m, relayedAt(relayed4), lifetime(600), func(r *stun.Message) { r.Add(0x7fff, []byte{1}) })
		}), nil, birth, learnt[:2], false},
	} {
		l := newLink(c.override)
		l.run(start0)
		if c.during != nil {
			c.during(l)
			l.run(start0)
		}
		l.want(t, c.name, c.sent, c.events)
		if l.a.Gone() != c.gone {
			t.Errorf("%s: gone %v", c.name, l.a.Gone())
		}
	}
}

// A relay that always calls the nonce stale must not make us send for ever.
func TestStaleNonceLoopEnds(t *testing.T) {
	l := newLink(func(name string, m *stun.Message) []byte {
		if name == "ALLOCATE" {
			return failure(m, 438, nonce)
		}
		return nil
	})
	l.until(start0, start0.Add(time.Minute))
	if len(l.sent) > 20 || !l.a.Gone() {
		t.Errorf("%d messages, gone %v", len(l.sent), l.a.Gone())
	}
}

func TestProbe(t *testing.T) {
	l := newLink(nil)
	l.run(start0)
	l.sent, l.events = nil, nil
	l.a.Probe(1, start0)
	l.run(start0)
	l.want(t, "alive", []string{"REFRESH"}, nil)

	l.override = func(name string, _ *stun.Message) []byte { return []byte{} }
	l.a.Probe(1, start0)
	l.until(start0, start0.Add(time.Second))
	if l.a.Active().IsValid() {
		t.Error("still active a second after an unanswered probe")
	}
	if !l.a.Gone() || !slices.Equal(l.events, lost) {
		t.Errorf("gone %v, events %v", l.a.Gone(), l.events)
	}
}

func TestProbeTwice(t *testing.T) {
	l := newLink(nil)
	l.run(start0)
	l.sent, l.events = nil, nil
	l.override = func(name string, _ *stun.Message) []byte { return []byte{} }
	l.a.Probe(2, start0)
	l.a.Probe(2, start0) // one is enough
	l.until(start0, start0.Add(2*time.Second))
	if l.want(t, "two attempts", []string{"REFRESH", "REFRESH"}, nil); l.a.Gone() {
		t.Error("given up before the second had its time")
	}
	if l.until(start0.Add(2*time.Second), start0.Add(3*time.Second)); !l.a.Gone() {
		t.Error("not given up")
	}
}

// The clock counts sleep: an allocation that ran out meanwhile is replaced.
func TestSleep(t *testing.T) {
	l := newLink(nil)
	l.run(start0)
	l.events = nil
	l.until(start0.Add(2*time.Hour), start0.Add(2*time.Hour))
	if want := slices.Concat(lost, learnt[1:]); !slices.Equal(l.events, want) || l.a.Gone() {
		t.Errorf("events %v, want %v", l.events, want)
	}
}

func TestDualStack(t *testing.T) {
	a := New(Config{V4: relay4, V6: relay6, Username: username, Password: password, Rand: rand.NewChaCha8([32]byte{})}, start0)
	sends := a.Drain(nil)
	if len(sends) != 2 || sends[0].To != relay4 || sends[1].To != relay6 {
		t.Fatalf("sent %v, want BINDINGs to both addresses at once", sends)
	}
	host6, mapped6 := ap("[2001:db8:7::5]:52625"), ap("[2001:db8:7::5]:52625")
	answer := func(s Send, host, mapped netip.AddrPort) {
		a.Handle(success(decode(t, s.Payload), func(r *stun.Message) { addXORAddress(r, stun.AttrXORMappedAddress, mapped) }), host, s.To, start0.Add(10*time.Millisecond))
	}
	answer(sends[1], host6, mapped6)
	answer(sends[0], host4, mapped4)
	if a.Active() != relay6 || a.RTT() != 10*time.Millisecond {
		t.Errorf("active %v, RTT %v; want the first that answered", a.Active(), a.RTT())
	}
	sends, events := a.Drain(nil), a.Events(nil)
	if want := []Event{Mapped{host6, mapped6}, Mapped{host4, mapped4}}; !slices.Equal(events, want) {
		t.Errorf("events %v, want %v", events, want)
	}
	if len(sends) != 1 || sends[0].To != relay6 {
		t.Fatalf("sent %v, want one ALLOCATE to the active address", sends)
	}
	l := &link{a: a, nonce: nonce}
	l.a.Handle(l.answer(sends[0], nil), host6, relay6, start0)
	l.run(start0)
	if want := []Event{Allocated{relayed4, true}, Allocated{relayed6, false}}; !slices.Equal(l.events, want) {
		t.Errorf("events %v, want %v", l.events, want)
	}

	// IPv6 dies: the other family takes over.
	l.override = func(name string, m *stun.Message) []byte { return nil }
	l.events = nil
	dead := func(now time.Time) {
		l.a.Advance(now)
		sends, l.events = l.a.Drain(nil), l.a.Events(l.events)
		for _, s := range sends {
			if s.To == relay4 {
				l.a.Handle(l.answer(s, nil), host4, s.To, now)
			}
		}
	}
	for now := start0; now.Before(start0.Add(40 * time.Second)); now = now.Add(5 * time.Millisecond) {
		dead(now)
	}
	if want := slices.Concat(lost, learnt[1:]); a.Gone() || a.Active() != relay4 || !slices.Equal(l.events, want) {
		t.Errorf("gone %v, active %v, events %v, want %v", a.Gone(), a.Active(), l.events, want)
	}
}

func TestResponsesThatDoNotMatch(t *testing.T) {
	l := newLink(nil)
	sends := l.a.Drain(nil)
	good := l.answer(sends[0], nil)
	if l.a.Handle(good, host4, relay6, start0) {
		t.Error("taken from another source")
	}
	other := decode(t, sends[0].Payload)
	other.TransactionID[0]++
	if l.a.Handle(success(other, func(r *stun.Message) { addXORAddress(r, stun.AttrXORMappedAddress, mapped4) }), host4, relay4, start0) {
		t.Error("taken with another transaction ID")
	}
	if l.a.Handle(sends[0].Payload, host4, relay4, start0) {
		t.Error("a request is taken for a response")
	}
	if !l.a.Handle(good, host4, relay4, start0) || l.a.Handle(good, host4, relay4, start0) {
		t.Error("the real one must count once")
	}
}

func TestNoAddressIsGone(t *testing.T) {
	if a := New(Config{Rand: rand.NewChaCha8([32]byte{})}, start0); !a.Gone() {
		t.Error("not gone")
	}
}
