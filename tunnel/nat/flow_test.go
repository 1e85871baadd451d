package nat

import (
	"slices"
	"testing"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/packet"
)

// What people see of sessions (7.5), and the rate at which they may begin (N49).

// flowing returns a world that collects events.
func flowing(t testing.TB) *world {
	w := newWorld(t)
	w.flows = true
	return w
}

// told returns the kinds, ports and reasons of what happened since.
func (w *world) told() (list []Event) { return w.Events(nil) }

func TestEventsTellOfAFlow(t *testing.T) {
	w := flowing(t)
	w.announce("foo", foo, addrA)
	p := parse(t, tcp(client4, p4(foo, 0), 5000, 443, syn))
	if v := w.OutFor(wiki, p, w.now); v != Forward {
		t.Fatal(v)
	}
	started := w.told()
	if len(started) != 1 || started[0].Kind != Started {
		t.Fatalf("%+v", started)
	}
	f := started[0].Flow
	if f.Proto != packet.TCP || f.Client != 5000 || f.Outside != 5000 || f.Proxy != p4(foo, 0) || f.Real != addrA || f.Port != 443 ||
		f.Name != "foo" || f.Resource != wiki || f.Opened || !f.Started.Equal(epoch) || f.PacketsOut != 1 || f.PacketsIn != 0 ||
		f.BytesOut != 44 || f.State != "unconfirmed" || !f.Deadline.Equal(epoch.Add(time.Minute)) {
		t.Errorf("start: %+v", f)
	}
	w.at(time.Second)
	w.comes(tcp(addrA, client4, 443, 5000, syn|ack), p4(foo, 0))
	w.goes(tcp(client4, p4(foo, 0), 5000, 443, ack), addrA)
	w.at(2 * time.Second)
	w.comes(tcp(addrA, client4, 443, 5000, ack), p4(foo, 0))
	if now := slices.Collect(w.Flows(w.now)); len(now) != 1 || now[0].State != "established" || now[0].PacketsIn != 2 || !now[0].LastOut.Equal(epoch.Add(time.Second)) {
		t.Errorf("meanwhile: %+v", now)
	}
	w.goes(tcp(client4, p4(foo, 0), 5000, 443, fin|ack), addrA)
	w.comes(tcp(addrA, client4, 443, 5000, fin|ack), p4(foo, 0))
	w.at(time.Hour)
	w.Sweep(nobody, all, w.now)
	ended := w.told()
	if len(ended) != 1 || ended[0].Kind != Ended || ended[0].Reason != EndFinished || !ended[0].At.Equal(epoch.Add(2*time.Second+4*time.Minute)) {
		t.Fatalf("end: %+v", ended)
	}
	if f := ended[0].Flow; f.PacketsOut != 3 || f.PacketsIn != 3 || f.BytesOut != 132 || f.BytesIn != 132 || f.Resource != wiki {
		t.Errorf("end: %+v", f)
	}
	if len(w.told()) != 0 {
		t.Error("told twice")
	}
}

func TestEndsHaveReasons(t *testing.T) {
	const after = 25 * time.Hour
	udpFrom := func(w *world) { w.goes(udp(client4, p4(foo, 0), 5000, 53), addrA) }
	for want, act := range map[EndReason]func(w *world){
		EndUnanswered: func(w *world) { udpFrom(w); w.at(after) },
		EndIdle:       func(w *world) { udpFrom(w); w.comes(udp(addrA, client4, 53, 5000), p4(foo, 0)); w.at(after) },
		EndReset: func(w *world) {
			w.handshake(5000, p4(foo, 0), addrA)
			w.comes(tcp(addrA, client4, 443, 5000, rst), p4(foo, 0))
			w.at(after)
		},
		EndEvicted: func(w *world) {
			udpFrom(w)
			w.maxSessions = 1
			w.goes(udp(client4, p4(foo, 0), 5001, 53), addrA)
		},
		EndRestarted: func(w *world) {
			w.handshake(5000, p4(foo, 0), addrA)
			w.at(time.Minute)
			w.goes(tcp(client4, p4(foo, 0), 5000, 443, syn), addrA)
		},
		EndRenamed: func(w *world) { udpFrom(w); w.announce("bar", foo, addrB) },
		EndCleared: func(w *world) { udpFrom(w); w.Clear(w.now) },
	} {
		t.Run(want.String(), func(t *testing.T) {
			w := flowing(t)
			w.announce("foo", foo, addrA)
			act(w)
			w.Sweep(nobody, all, w.now)
			var got []EndReason
			for _, e := range w.told() {
				if e.Kind == Ended {
					got = append(got, e.Reason)
				}
			}
			if !slices.Equal(got, []EndReason{want}) {
				t.Errorf("ended: %v, want %v", got, want)
			}
		})
	}
}

func TestEventsAreBounded(t *testing.T) {
	w := flowing(t)
	w.pace, w.maxSessions = unpaced, 1000
	w.announce("foo", foo, addrA)
	open := func(n int) {
		for i := range n {
			w.goes(udp(client4, p4(foo, 0), 1024+uint16(i), 53), addrA)
		}
	}
	open(1000)
	w.told()
	w.at(time.Hour) // all of them end at once
	w.Sweep(func(id.Resource) bool { return true }, all, w.now)
	if got := len(w.told()); got != 1000 || w.LostEvents() != 0 {
		t.Errorf("%d events, %d lost", got, w.LostEvents())
	}
	open(maxEvents/2 + 1000 + 4) // each after the first thousand ends another
	if got := len(w.told()); got != maxEvents+1000 || w.LostEvents() != 8 {
		t.Errorf("%d events, %d lost", got, w.LostEvents())
	}
}

func TestClearLeavesNothing(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.handshake(5000, p4(foo, 0), addrA)
	w.goes(tcp(client4, p4(foo, 0), 5001, 443, syn), addrA)
	w.goes(tcp(client4, p4(foo, 0), 5001, 443, syn), addrA)
	w.Clear(w.now)
	w.dropped(tcp(addrA, client4, 443, 5000, ack))
	w.out(tcp(client4, p4(foo, 0), 5000, 443, ack), NoBinding)
	if w.Len()+len(w.bindings)+len(w.awaited)+len(w.past.outside) != 0 {
		t.Error("something is left")
	}
}

func TestBindingsSayWhyTheyAreHeld(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.goes(tcp(client4, p4(foo, 0), 4999, 443, syn), addrA)
	w.comes(tcp(addrA, client4, 443, 4999, rst|ack), p4(foo, 0)) // evidence
	w.goes(udp(client4, p4(foo, 0), 5000, 53), addrA)
	w.at(10 * time.Second)
	w.answer("foo", foo, addrB)
	found := 0
	for b := range w.Bindings(w.now) {
		if b.Name != "foo" || !slices.Equal(b.Resources, []id.Resource{wiki}) {
			t.Errorf("%+v", b)
		}
		switch b.Proxy {
		case p4(foo, 0):
			found++
			if !b.Held || b.Current != addrA || !b.Waiting || b.Pending != addrB || b.Holder.Client != 5000 || !b.HeldUntil.Equal(epoch.Add(time.Minute)) {
				t.Errorf("held: %+v", b)
			}
			if len(b.Evidence) != 1 || b.Evidence[0] != (Evidence{addrA, 443, epoch.Add(30 * time.Second)}) {
				t.Errorf("evidence: %+v", b.Evidence)
			}
		case p4(foo, 1):
			found++
			if b.Held || b.Current != addrB || b.Waiting {
				t.Errorf("free: %+v", b)
			}
		}
	}
	if found != 2 {
		t.Errorf("%d of 2 found", found)
	}
}

func TestN20StaleAnswersEnd(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.handshake(5000, p4(foo, 0), addrA)
	w.at(time.Hour)
	w.answer("foo", foo, addrA) // confirmed
	w.at(25 * time.Hour)
	w.fail("foo", foo)
	w.goes(udp(client4, p4(foo, 0), 5000, 53), addrA)
	w.at(25*time.Hour + 5*time.Minute) // not held
	w.fail("foo", foo)
	w.out(udp(client4, p4(foo, 0), 5001, 53), Unresolved)
	w.answer("foo", foo, addrB)
	w.goes(udp(client4, p4(foo, 0), 5001, 53), addrB)
}

// S27: without a resolution nothing ages.
func TestS27ANameThatRested(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.at(25 * time.Hour)
	w.goes(udp(client4, p4(foo, 0), 5000, 53), addrA)
}

func TestN49NewSessionRate(t *testing.T) {
	w := newWorld(t)
	w.pace = newPace(10, 3)
	w.announce("foo", foo, addrA)
	for n := range uint16(3) {
		w.handshake(5000+n, p4(foo, 0), addrA)
	}
	w.out(tcp(client4, p4(foo, 0), 5003, 443, syn), TooFast)
	w.goes(tcp(client4, p4(foo, 0), 5000, 443, rst), addrA)    // existing ones are not affected,
	w.goes(tcp(client4, p4(foo, 0), 5000, 443, syn), addrA)    // nor those in place of another (N15)
	w.out(tcp(client4, p4(foo, 0), 5003, 443, syn), TooFast)   //
	w.out(tcp(client4, p4(bar, 0), 5003, 443, syn), NoBinding) // what fails anyway does not count
	w.at(100 * time.Millisecond)                               // one is earned
	w.goes(tcp(client4, p4(foo, 0), 5003, 443, syn), addrA)    //
	w.out(tcp(client4, p4(foo, 0), 5004, 443, syn), TooFast)   //
	w.at(time.Hour)                                            // no more than the burst
	for n := range uint16(3) {                                 //
		w.goes(tcp(client4, p4(foo, 0), 6000+n, 443, syn), addrA)
	}
	w.out(tcp(client4, p4(foo, 0), 6003, 443, syn), TooFast)
}

func TestN49RevivalIsNotCounted(t *testing.T) {
	w := newWorld(t)
	w.pace = newPace(1, 1)
	w.announce("foo", foo, addrA)
	w.handshake(5000, p4(foo, 0), addrA)
	w.at(24 * time.Hour)
	w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA)
	w.out(udp(client4, p4(foo, 0), 6001, 53), TooFast)
	w.goes(tcp(client4, p4(foo, 0), 5000, 443, ack), addrA)
}

// A refused newcomer costs nobody's session.
func TestN49DoesNotEvict(t *testing.T) {
	w := newWorld(t)
	w.pace = newPace(1, 1)
	w.maxSessions = 1
	w.announce("foo", foo, addrA)
	w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA)
	w.out(udp(client4, p4(foo, 0), 6001, 53), TooFast)
	if !w.Has(parse(t, udp(client4, p4(foo, 0), 6000, 53)), w.now) {
		t.Error("it evicted")
	}
}

// O1: where a name begins depends on client and name, and on nothing else.
func TestO1Spread(t *testing.T) {
	all := []uint64{0, 1, 2, 3, 4, 5, 6, 7}
	seen := map[string]int{}
	for _, client := range all {
		w := newWorld(t)
		w.spread = client
		w.announce("foo", foo, addrA, addrB, addrC)
		w.announce("bar", bar, addrC, addrB, addrA)
		first := func(p []byte) string {
			return w.out(p, Forward).Dst().String()
		}
		got := first(udp(client4, p4(foo, 0), 5000, 53))
		if client == 0 && got != addrA.String() {
			t.Errorf("off: %v", got)
		}
		seen[got]++
		w.answer("foo", foo, addrC, addrA, addrB) // the same answer in another order
		if again := first(udp(client4, p4(foo, 0), 5001, 53)); again != got {
			t.Errorf("client %d: %v, then %v", client, got, again)
		}
		one, two := first(udp(client4, p4(foo, 1), 5000, 53)), first(udp(client4, p4(foo, 2), 5000, 53))
		if one == got || two == got || one == two {
			t.Errorf("client %d does not use all addresses", client)
		}
	}
	if len(seen) != 3 {
		t.Errorf("8 clients begin at %v", seen)
	}
}
