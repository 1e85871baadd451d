package nat

import (
	"slices"
	"testing"
	"time"

	"stile/tunnel/id"
)

// Rules N9–N15 of spec gateway-nat.md 7.3: how long a session lives.

// One row for each row of the table of deadlines in 7.2: alive one
// millisecond before, gone at the instant.
func TestN09Deadlines(t *testing.T) {
	tests := []struct {
		name string
		life time.Duration
		// start opens the session at 0 and does what leads to the row at 10 s.
		start func(w *world)
	}{
		{"closed by RST", 4 * time.Minute, func(w *world) {
			o := w.handshake(5000, p4(foo, 0), addrA)
			w.at(seconds(10))
			w.comes(tcp(addrA, client4, 443, o, rst), p4(foo, 0))
		}},
		{"closed by FIN from both", 4 * time.Minute, func(w *world) {
			o := w.handshake(5000, p4(foo, 0), addrA)
			w.goes(tcp(client4, p4(foo, 0), 5000, 443, fin|ack), addrA)
			w.at(seconds(10))
			w.comes(tcp(addrA, client4, 443, o, fin|ack), p4(foo, 0))
		}},
		{"TCP unconfirmed", time.Minute, func(w *world) {
			w.goes(tcp(client4, p4(foo, 0), 5000, 443, syn), addrA)
			w.at(seconds(10))
			w.goes(tcp(client4, p4(foo, 0), 5000, 443, syn), addrA)
		}},
		{"handshake incomplete", 4 * time.Minute, func(w *world) {
			o := w.goes(tcp(client4, p4(foo, 0), 5000, 443, syn), addrA).SrcPort()
			w.at(seconds(10))
			w.comes(tcp(addrA, client4, 443, o, syn|ack), p4(foo, 0))
		}},
		{"one FIN", 2*time.Hour + 4*time.Minute, func(w *world) {
			o := w.handshake(5000, p4(foo, 0), addrA)
			w.at(seconds(10))
			w.comes(tcp(addrA, client4, 443, o, fin|ack), p4(foo, 0))
		}},
		{"established", 24 * time.Hour, func(w *world) {
			w.at(seconds(10))
			w.handshake(5000, p4(foo, 0), addrA)
		}},
		{"picked up in the middle", 24 * time.Hour, func(w *world) {
			o := w.goes(tcp(client4, p4(foo, 0), 5000, 443, ack), addrA).SrcPort()
			w.at(seconds(10))
			w.comes(tcp(addrA, client4, 443, o, ack), p4(foo, 0))
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			alive, gone := newWorld(t), newWorld(t)
			for _, w := range []*world{alive, gone} {
				w.announce("foo", foo, addrA)
				test.start(w)
				w.answer("foo", foo, addrB)
			}
			alive.at(seconds(10) + test.life - time.Millisecond)
			alive.comes(tcp(addrA, client4, 443, 5000, ack), p4(foo, 0))
			gone.at(seconds(10) + test.life)
			gone.dropped(tcp(addrA, client4, 443, 5000, ack))
			gone.goes(tcp(client4, p4(foo, 0), 5000, 443, syn), addrB)
		})
	}
}

func TestN09DeadlinesOfOtherProtocols(t *testing.T) {
	tests := []struct {
		name   string
		life   time.Duration
		sent   []byte
		answer []byte // nil: unconfirmed
	}{
		{"UDP unconfirmed", time.Minute, udp(client4, addrC, 6000, 53), nil},
		{"UDP", 5 * time.Minute, udp(client4, addrC, 6000, 53), udp(addrC, client4, 53, 6000)},
		{"echo unconfirmed", time.Minute, echo(client4, addrC, 7, true), nil},
		{"echo", 2 * time.Minute, echo(client4, addrC, 7, true), echo(addrC, client4, 7, false)},
		{"other unconfirmed", time.Minute, ip(client4, addrC, 47, nil), nil},
		{"other", 10 * time.Minute, ip(client4, addrC, 47, nil), ip(addrC, client4, 47, nil)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.goes(test.sent, addrC)
			if test.answer != nil {
				w.at(seconds(10))
				w.comes(test.answer, addrC)
			}
			s := w.rows.at(1)
			end := w.now.Add(test.life)
			if !s.exists(w.Table.at(end.Add(-time.Millisecond))) || s.exists(w.Table.at(end)) {
				t.Errorf("deadline %v, want %v after the last packet", time.Duration(s.deadline()), test.life)
			}
			if test.answer != nil {
				w.at(seconds(10) + test.life)
				w.dropped(test.answer)
			}
		})
	}
}

func TestN10BothDirectionsRefresh(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA)
	w.comes(udp(addrA, client4, 53, 6000), p4(foo, 0))
	for i := range 10 {
		w.at(time.Duration(i) * 299 * time.Second)
		if i%2 == 0 {
			w.comes(udp(addrA, client4, 53, 6000), p4(foo, 0))
		} else {
			w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA)
		}
	}
}

func TestN10NothingRefreshesAClosedSession(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	o := w.handshake(5000, p4(foo, 0), addrA)
	w.goes(tcp(client4, p4(foo, 0), 5000, 443, fin|ack), addrA)
	w.comes(tcp(addrA, client4, 443, o, fin|ack), p4(foo, 0))
	for s := 1.0; s < 240; s++ {
		w.at(seconds(s))
		w.goes(tcp(client4, p4(foo, 0), 5000, 443, ack), addrA)
		w.comes(tcp(addrA, client4, 443, o, rst), p4(foo, 0))
	}
	w.at(4 * time.Minute)
	w.dropped(tcp(addrA, client4, 443, o, ack))
}

func TestN11ErrorsChangeNothing(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	sent := w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA)
	about := append([]byte(nil), sent.Bytes()...)
	for s := 1.0; s < 60; s++ {
		w.at(seconds(s))
		p := parse(t, icmpError(addrA, client4, 3, about))
		w.InError(w.MatchError(p, w.now), p, addrA, w.now)
		if !p.ValidChecksums() {
			t.Fatal("invalid checksum")
		}
	}
	s := w.rows.at(1)
	if s.state.has(confirmed) || s.deadline() != instant(time.Minute) {
		t.Errorf("state %b, deadline %v", s.state, time.Duration(s.deadline()))
	}
	w.at(seconds(60))
	if w.MatchError(parse(t, icmpError(addrA, client4, 3, about)), w.now) != nil {
		t.Error("an error about a session that is over was taken")
	}
	if w.Len() != 0 {
		t.Error("an error created a session")
	}
}

// Rows go within ten seconds when swept, and are gone to every look-up before.
func TestN12SweepingOnlyFreesMemory(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA)
	w.at(seconds(59.999))
	w.Sweep(func(id.Resource) bool { return true }, all, w.now)
	if w.Len() != 1 {
		t.Error("swept too early")
	}
	w.at(seconds(60))
	if w.Has(parse(t, udp(client4, p4(foo, 0), 6000, 53)), w.now) {
		t.Error("found after its end")
	}
	w.goes(udp(client4, p4(foo, 1), 6000, 53), addrA)
	w.Sweep(func(id.Resource) bool { return true }, all, w.now)
	if w.Len() != 1 {
		t.Errorf("%d rows, want 1", w.Len())
	}
}

func TestN13AfterTheEndNothingComesIn(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA)
	w.at(time.Minute)
	w.dropped(udp(addrA, client4, 53, 6000))
	w.dropped(tcp(addrA, client4, 443, 5000, syn))
	w.dropped(echo(addrA, client4, 7, true))
	w.dropped(echo(addrA, client4, 7, false))
	w.dropped(ip(addrA, client4, 47, nil))
}

func TestN15SYNOnAKnownPort(t *testing.T) {
	again := tcp(client4, p4(foo, 0), 5000, 443, syn)
	tests := []struct {
		name  string
		start func(w *world)
		after time.Duration
		moves bool
	}{
		{"unconfirmed", func(w *world) { w.goes(tcp(client4, p4(foo, 0), 5000, 443, syn), addrA) }, seconds(59), false},
		{"handshake incomplete", func(w *world) {
			w.goes(tcp(client4, p4(foo, 0), 5000, 443, syn), addrA)
			w.comes(tcp(addrA, client4, 443, 5000, syn|ack), p4(foo, 0))
		}, seconds(120), false},
		{"established, client packet 59.999 s ago", func(w *world) { w.handshake(5000, p4(foo, 0), addrA) }, seconds(59.999), false},
		{"established, client packet 60 s ago", func(w *world) { w.handshake(5000, p4(foo, 0), addrA) }, seconds(60), true},
		{"half closed, client packet 60 s ago", func(w *world) {
			w.handshake(5000, p4(foo, 0), addrA)
			w.comes(tcp(addrA, client4, 443, 5000, fin|ack), p4(foo, 0))
		}, seconds(60), true},
		{"closed", func(w *world) {
			w.handshake(5000, p4(foo, 0), addrA)
			w.comes(tcp(addrA, client4, 443, 5000, rst), p4(foo, 0))
		}, seconds(1), true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.announce("foo", foo, addrA)
			test.start(w)
			w.answer("foo", foo, addrB)
			w.at(test.after)
			if test.moves {
				w.goes(clone(again), addrB)
			} else {
				w.goes(clone(again), addrA)
			}
		})
	}
}

// S8 and S25 of 8.2: a port used again belongs to a new connection.
func TestN15ReusedPortOutlivesTheOldRow(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	o := w.handshake(5000, p4(foo, 0), addrA)
	w.at(seconds(10))
	w.goes(tcp(client4, p4(foo, 0), 5000, 443, fin|ack), addrA)
	w.comes(tcp(addrA, client4, 443, o, fin|ack), p4(foo, 0))
	w.at(seconds(12))
	w.handshake(5000, p4(foo, 0), addrA)
	w.at(time.Hour)
	w.comes(tcp(addrA, client4, 443, o, ack), p4(foo, 0))
}

// A client that aborts and begins again from the same port may still hear of
// the old connection, and reset it: that closes the new session, to whose SYN
// the server has answered. The SYN that comes once more is the same to the
// server; so it must come from the same port.
func TestN15NewConnectionOutlivesTheOldOnesReset(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.goes(tcp(client4, addrA, 5000, 443, syn), addrA) // so that the port must be another one outside
	o := w.handshake(5000, p4(foo, 0), addrA)
	if o == 5000 {
		t.Fatal("no collision")
	}
	w.goes(tcp(client4, p4(foo, 0), 5000, 443, rst|ack), addrA)
	w.at(time.Millisecond)
	if again := w.goes(tcp(client4, p4(foo, 0), 5000, 443, syn), addrA).SrcPort(); again != o {
		t.Errorf("a new connection to the same server goes from port %d, not %d", again, o)
	}
	w.comes(tcp(addrA, client4, 443, o, syn|ack), p4(foo, 0))
	w.goes(tcp(client4, p4(foo, 0), 5000, 443, rst), addrA) // of the old connection's last words
	if again := w.goes(tcp(client4, p4(foo, 0), 5000, 443, syn), addrA).SrcPort(); again != o {
		t.Fatalf("the SYN comes again from port %d, not %d", again, o)
	}
	w.goes(tcp(client4, p4(foo, 0), 5000, 443, ack), addrA)
	w.comes(tcp(addrA, client4, 443, o, ack), p4(foo, 0))

	w.goes(tcp(client4, p4(foo, 0), 5000, 443, rst), addrA)
	w.answer("foo", foo, addrB)
	w.goes(tcp(client4, p4(foo, 0), 5000, 443, syn), addrB) // another server has never heard of it
}

// Both ends may begin at once (RFC 9293 figure 7): SYNs that cross, each answered
// with a SYN and ACK. The connection stays where it began, whatever DNS says
// meanwhile, and is not cut afterwards by what a client sends that has been silent.
func TestN15SimultaneousOpen(t *testing.T) {
	for _, serverFirst := range []bool{false, true} {
		w := newWorld(t)
		w.announce("foo", foo, addrA)
		p := p4(foo, 0)
		w.goes(tcp(client4, p, 5000, 443, syn), addrA)
		w.answer("foo", foo, addrB)
		w.comes(tcp(addrA, client4, 443, 5000, syn), p)
		answers := []func(){
			func() { w.goes(tcp(client4, p, 5000, 443, syn|ack), addrA) },
			func() { w.comes(tcp(addrA, client4, 443, 5000, syn|ack), p) },
		}
		if serverFirst {
			slices.Reverse(answers)
		}
		for n, answer := range answers {
			w.at(time.Duration(1+n) * time.Second)
			answer()
		}
		w.goes(tcp(client4, p, 5000, 443, ack), addrA)
		for f := range w.Flows(w.now) {
			if f.State != "established" {
				t.Errorf("it is %s", f.State)
			}
		}
		w.at(time.Hour)
		w.goes(tcp(client4, p, 5000, 443, ack), addrA)
		w.comes(tcp(addrA, client4, 443, 5000, ack), p)
		if n := w.Len(); n != 1 {
			t.Errorf("%d sessions", n)
		}
	}
}

func TestN15FlagsThatOpenNothing(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	for _, flags := range []byte{0, byte(syn | fin), byte(syn | rst), byte(syn | fin | ack), byte(rst), byte(rst | ack), byte(fin), 8, 32, 64} {
		b := tcp(client4, p4(foo, 0), 5000, 443, 0)
		b[33] = flags
		w.out(b, BadFlags)
	}
	if w.Len() != 0 {
		t.Errorf("%d rows", w.Len())
	}
	for port, flags := range []byte{byte(syn), byte(syn | ack), byte(ack), byte(fin | ack), byte(syn) | 0xc0} {
		b := tcp(client4, p4(foo, 0), 5000+uint16(port), 443, 0)
		b[33] = flags
		w.goesUnchecked(b, Forward)
	}
	w.handshake(5100, p4(foo, 0), addrA)
	w.out(tcp(client4, p4(foo, 0), 5100, 443, syn|rst), BadFlags) // also with a session
	w.goes(tcp(client4, p4(foo, 0), 5100, 443, fin), addrA)
}

func (w *world) goesUnchecked(b []byte, want Verdict) {
	w.Helper()
	if got := w.Out(parse(w, b), w.now); got != want {
		w.Fatalf("flags %#x: %v, want %v", b[33], got, want)
	}
}

func TestN15ForgedResetIsTakenBack(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	o := w.handshake(5000, p4(foo, 0), addrA)
	in, out := tcp(addrA, client4, 443, o, ack), tcp(client4, p4(foo, 0), 5000, 443, ack)
	w.comes(tcp(addrA, client4, 443, o, rst), p4(foo, 0))
	w.at(seconds(1))
	w.goes(clone(out), addrA)
	w.answer("foo", foo, addrB)
	w.goes(udp(client4, p4(foo, 0), 6000, 53), addrB) // still closed: it does not hold
	w.comes(clone(in), p4(foo, 0))
	w.at(5 * time.Minute)
	w.goes(clone(out), addrA)
	w.at(5*time.Minute + seconds(1))
	w.comes(tcp(addrA, client4, 443, o, rst), p4(foo, 0)) // a new one counts from its own time
	w.comes(clone(in), p4(foo, 0))
	w.at(9 * time.Minute)
	w.comes(clone(in), p4(foo, 0))
	w.at(9*time.Minute + seconds(1))
	w.dropped(clone(in))
}

// A session that opens again holds as long as its last client packet says.
func TestN15ReopenedSessionHolds(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	o := w.handshake(5000, p4(foo, 0), addrA)
	w.comes(tcp(addrA, client4, 443, o, rst), p4(foo, 0))
	w.at(seconds(10))
	w.goes(tcp(client4, p4(foo, 0), 5000, 443, ack), addrA)
	w.at(seconds(20))
	w.comes(tcp(addrA, client4, 443, o, ack), p4(foo, 0)) // open again
	w.answer("foo", foo, addrB)
	w.at(seconds(69.999))
	w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA)
}

// The address left and came back while the session was closed.
func TestN15ReopenedSessionHoldsAnAddressThatCameBack(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	o := w.handshake(5000, p4(foo, 0), addrA)
	w.comes(tcp(addrA, client4, 443, o, rst), p4(foo, 0))
	w.answer("foo", foo, addrB)
	w.answer("foo", foo, addrA)
	w.goes(tcp(client4, p4(foo, 0), 5000, 443, ack), addrA)
	w.comes(tcp(addrA, client4, 443, o, ack), p4(foo, 0))
	w.answer("foo", foo, addrB)
	w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA)
}

// Opening again by a packet of the resource does not make a session the latest
// to have heard from the client.
func TestN15ReopenedSessionKeepsItsPlace(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	o := w.handshake(5000, p4(foo, 0), addrA)
	w.comes(tcp(addrA, client4, 443, o, rst), p4(foo, 0))
	w.at(seconds(10))
	w.goes(tcp(client4, p4(foo, 0), 5000, 443, ack), addrA)
	w.at(seconds(50))
	w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA)
	w.at(seconds(55))
	w.comes(tcp(addrA, client4, 443, o, ack), p4(foo, 0))
	w.answer("foo", foo, addrB)
	w.at(seconds(109.999))
	w.goes(udp(client4, p4(foo, 0), 6001, 53), addrA)
}

func clone(b []byte) []byte { return append([]byte(nil), b...) }

// A session that was busy for a while keeps none that is over in memory beyond
// the next sweep, which is five seconds away at most (N12: ten).
func TestN12NobodyStaysBehindABusySession(t *testing.T) {
	for _, test := range []struct {
		life time.Duration
		open func(w *world, port uint16)
		busy func(w *world, port uint16)
	}{
		{udpLife, func(w *world, port uint16) {
			w.goes(udp(client4, p4(foo, 0), port, 53), addrA)
			w.comes(udp(addrA, client4, 53, port), p4(foo, 0))
		}, func(w *world, port uint16) { w.goes(udp(client4, p4(foo, 0), port, 53), addrA) }},
		{tcpOpen, func(w *world, port uint16) { w.handshake(port, p4(foo, 0), addrA) },
			func(w *world, port uint16) { w.goes(tcp(client4, p4(foo, 0), port, 443, ack), addrA) }},
	} {
		for _, busy := range []time.Duration{4500 * time.Millisecond, 10 * time.Second, time.Minute, test.life / 2} {
			w := newWorld(t)
			w.announce("foo", foo, addrA)
			test.open(w, 5000)
			w.at(time.Millisecond)
			test.open(w, 6000)
			for at := time.Second; at <= busy; at += max(time.Second, busy/100) {
				w.at(at)
				test.busy(w, 5000)
			}
			w.at(busy)
			test.busy(w, 5000)
			w.at(time.Millisecond + test.life)
			w.Sweep(nobody, all, w.now)
			if n := w.Len(); n != 1 {
				t.Errorf("%v, busy for %v: %d sessions are left, one of them lives", test.life, busy, n)
			}
		}
	}
}
