package nat

import (
	"testing"
	"time"

	"stile/tunnel/id"
)

// Rules N1–N8 and N25–N26 of spec gateway-nat.md 7.3: which address a session
// goes to.

func TestN01PinOutlastsEveryAnswer(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA, addrD)
	outside := w.handshake(5000, p4(foo, 0), addrA)
	udpOut := w.goes(udp(client6, p6(foo, 0), 6000, 53), addrD).SrcPort()
	w.comes(udp(addrD, client6, 53, udpOut), p6(foo, 0))

	for i, change := range []func(){
		func() { w.answer("foo", foo, addrB) },
		func() { w.answer("foo", foo) },
		func() { w.fail("foo", foo) },
		func() { w.announce("bar", bar, addrA) },
		func() { w.Announce("foo", id.Resource{15: 2}, foo, w.now) },
		func() { w.Sweep(func(id.Resource) bool { return false }, all, w.now) },
		func() { w.announce("foo", foo, addrC) },
	} {
		w.at(time.Duration(i+1) * 100 * time.Second)
		change()
		if got := w.goes(tcp(client4, p4(foo, 0), 5000, 443, ack), addrA).SrcPort(); got != outside {
			t.Fatalf("after change %d: outside port %d, want %d", i, got, outside)
		}
		if got := w.comes(tcp(addrA, client4, 443, outside, ack), p4(foo, 0)).DstPort(); got != 5000 {
			t.Fatalf("after change %d: client port %d", i, got)
		}
		w.goes(udp(client6, p6(foo, 0), 6000, 53), addrD)
		w.comes(udp(addrD, client6, 9999, udpOut), p6(foo, 0))
	}
}

func TestN02SessionBeforeBinding(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.handshake(5000, p4(foo, 0), addrA)
	w.at(2 * time.Minute)
	w.answer("foo", foo, addrD) // nothing of IPv4 is left
	w.out(tcp(client4, p4(foo, 0), 5001, 443, syn), NoFamily)
	w.goes(tcp(client4, p4(foo, 0), 5000, 443, ack), addrA)
	w.answer("foo", foo)
	w.goes(tcp(client4, p4(foo, 0), 5000, 443, ack), addrA)
}

func TestN03HoldKeepsTheMappingForNewSessions(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA)
	w.at(seconds(59.999))
	w.answer("foo", foo, addrB)
	w.goes(udp(client4, p4(foo, 0), 6001, 53), addrA)
	w.goes(udp(client4, p4(foo, 1), 6001, 53), addrB) // each proxy address for itself
}

func TestN03NewerAnswerReplacesTheWaitingOne(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA)
	w.answer("foo", foo, addrB)
	w.answer("foo", foo, addrC)
	w.at(seconds(60))
	w.goes(udp(client4, p4(foo, 0), 6001, 53), addrC)

	w.answer("foo", foo, addrA)
	w.answer("foo", foo, addrC) // what is current may come back
	w.at(seconds(120))
	w.goes(udp(client4, p4(foo, 0), 6002, 53), addrC)
}

func TestN04ReplaceAtOnceWithoutHold(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA)
	w.at(seconds(60))
	w.answer("foo", foo, addrB)
	w.goes(udp(client4, p4(foo, 0), 6001, 53), addrB)
}

func TestN05DeferredAnswerNeedsNoEvent(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA)
	w.at(seconds(59.999))
	w.answer("foo", foo, addrB)
	w.at(seconds(60))
	w.goes(udp(client4, p4(foo, 0), 6001, 53), addrB)
}

// The hold ended although nobody looked; the old session speaking again does
// not bring it back.
func TestN05ResumedSessionDoesNotHold(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.handshake(5000, p4(foo, 0), addrA)
	w.answer("foo", foo, addrB)
	w.at(seconds(60))
	w.goes(tcp(client4, p4(foo, 0), 5000, 443, ack), addrA)
	w.goes(tcp(client4, p4(foo, 0), 5001, 443, syn), addrB)
}

// The waiting answer took over when the hold ended, though nobody looked; so
// it is its own address that must be free when the next answer comes.
func TestN05TheNextAnswerFindsTheDeferredOneHeld(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrB)
	w.goes(udp(client4, p4(foo, 0), 6000, 53), addrB)
	w.comes(udp(addrB, client4, 53, 6000), p4(foo, 0))
	w.at(seconds(60))
	w.answer("foo", foo, addrA)
	w.goes(udp(client4, p4(foo, 0), 6001, 53), addrA)
	w.answer("foo", foo, addrB) // waits until 120
	w.at(seconds(110))
	w.goes(udp(client4, p4(foo, 0), 6000, 53), addrB)
	w.at(seconds(125))
	w.answer("foo", foo, addrC) // waits until 170
	w.goes(udp(client4, p4(foo, 0), 6002, 53), addrB)
}

func TestN07ClosedSessionsDoNotHold(t *testing.T) {
	for name, end := range map[string]func(w *world, outside uint16){
		"reset by the resource": func(w *world, o uint16) { w.comes(tcp(addrA, client4, 443, o, rst|ack), p4(foo, 0)) },
		"reset by the client":   func(w *world, o uint16) { w.goes(tcp(client4, p4(foo, 0), 5000, 443, rst), addrA) },
		"FIN from both": func(w *world, o uint16) {
			w.goes(tcp(client4, p4(foo, 0), 5000, 443, fin|ack), addrA)
			w.comes(tcp(addrA, client4, 443, o, fin|ack), p4(foo, 0))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.announce("foo", foo, addrA)
			outside := w.handshake(5000, p4(foo, 0), addrA)
			w.at(seconds(1))
			end(w, outside)
			w.answer("foo", foo, addrB)
			w.goes(tcp(client4, p4(foo, 0), 5001, 443, syn), addrB)
			w.goes(tcp(client4, p4(foo, 0), 5000, 443, ack), addrA)
			w.comes(tcp(addrA, client4, 443, outside, ack), p4(foo, 0))
		})
	}
}

// One of several sessions closes; the others hold as long as they would alone.
func TestN07OthersGoOnHolding(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.handshake(5000, p4(foo, 0), addrA)
	w.at(seconds(10))
	w.goes(tcp(client4, p4(foo, 0), 5001, 443, syn), addrA)
	w.answer("foo", foo, addrB)
	w.goes(tcp(client4, p4(foo, 0), 5001, 443, rst), addrA)
	w.at(seconds(59.999))
	w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA)
	w.goes(udp(client4, p4(foo, 0), 6001, 53), addrA)
}

func TestN08OnlyClientPacketsHold(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	outside := w.handshake(5000, p4(foo, 0), addrA)
	sent := tcp(client4, p4(foo, 0), 5000, 443, ack)
	w.answer("foo", foo, addrB)
	for s := 1.0; s < 60; s++ {
		w.at(seconds(s))
		w.comes(tcp(addrA, client4, 443, outside, ack), p4(foo, 0))
		w.Sweep(func(id.Resource) bool { return true }, all, w.now)
		about := parse(t, sent)
		about.SetDst(addrA)
		if s := w.MatchError(parse(t, icmpError(addrA, client4, 3, about.Bytes())), w.now); s == nil {
			t.Fatal("the error matches no session")
		}
	}
	w.at(seconds(60))
	w.goes(tcp(client4, p4(foo, 0), 5001, 443, syn), addrB)
}

func TestN25ProxyOfAnotherNameStartsAnew(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.announce("bar", bar, addrA)
	outside := w.handshake(5000, p4(foo, 0), addrA)
	closing := w.handshake(5002, p4(foo, 0), addrA)
	w.goes(tcp(client4, p4(foo, 0), 5002, 443, rst), addrA)
	other := w.handshake(5000, p4(bar, 0), addrA)

	w.Announce("baz", wiki, foo, w.now)
	w.out(tcp(client4, p4(foo, 0), 5000, 443, ack), Unresolved)
	w.dropped(tcp(addrA, client4, 443, outside, ack))
	w.dropped(tcp(addrA, client4, 443, closing, ack))
	w.answer("foo", foo, addrB) // the old name has no say any more
	w.out(tcp(client4, p4(foo, 0), 5000, 443, ack), Unresolved)
	w.answer("baz", foo, addrC)
	w.goes(tcp(client4, p4(foo, 0), 5000, 443, ack), addrC)

	w.goes(tcp(client4, p4(bar, 0), 5000, 443, ack), addrA)
	w.comes(tcp(addrA, client4, 443, other, ack), p4(bar, 0))
	if got := w.Len(); got != 2 {
		t.Errorf("%d sessions, want 2", got)
	}
}

// Only some proxies move: the others of the old name stay as they are.
func TestN25OtherProxiesUntouched(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.handshake(5000, p4(foo, 3), addrA)
	w.announce("bar", foo[:2], addrB)
	w.goes(tcp(client4, p4(foo, 0), 5000, 443, syn), addrB)
	w.goes(tcp(client4, p4(foo, 3), 5000, 443, ack), addrA)
	w.goes(tcp(client4, p4(foo, 2), 5000, 443, syn), addrA)
}

func TestN26BindingCarriesAllResources(t *testing.T) {
	w := newWorld(t)
	other := id.Resource{15: 2}
	w.announce("foo", foo, addrA)
	w.handshake(5000, p4(foo, 0), addrA)
	w.Announce("foo", other, foo, w.now)
	got, ok := w.Resources(p4(foo, 0))
	if !ok || len(got) != 2 || got[0] != wiki || got[1] != other {
		t.Errorf("resources %v", got)
	}
	w.goes(tcp(client4, p4(foo, 0), 5000, 443, ack), addrA)
	w.goes(tcp(client4, p4(foo, 0), 5001, 443, syn), addrA)
	if _, ok := w.Resources(p4(bar, 0)); ok {
		t.Error("an address nobody announced has resources")
	}
	for i := range byte(2 * maxResources) {
		w.Announce("foo", id.Resource{0: i}, foo, w.now)
	}
	if got, _ := w.Resources(p4(foo, 0)); len(got) != maxResources {
		t.Errorf("%d resources, want at most %d", len(got), maxResources)
	}
}
