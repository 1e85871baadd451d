package nat

import (
	"testing"
	"time"

	"stile/tunnel/packet"
)

// Rule N6 of spec gateway-nat.md 7.3 and its switch; scenario_test.go has the
// rows of 8.2 that are about servers that fail.

func syns(port, to uint16) []byte { return tcp(client4, p4(foo, 0), port, to, syn) }

// newLiteral is a world of April 2025.
func newLiteral(t testing.TB) *world {
	w := newWorld(t)
	w.literal = true
	return w
}

// A server that refuses, and for how long that counts.
func TestN06ARefusedHandshakeReleases(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA, addrB)
	o := w.goes(syns(5000, 443), addrA).SrcPort()
	w.comes(tcp(addrA, client4, 443, o, rst|ack), p4(foo, 0))
	w.goes(syns(5001, 443), addrB)
	w.goes(syns(5002, 444), addrA)
	w.at(seconds(30))
	w.goes(syns(5003, 443), addrA) // evidence lasts 30 s
}

// {A,B}, A is dead, a connection a second for half an hour.
func TestN06ADeadServerIsTriedEverMoreSeldom(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA, addrB)
	toA := 0
	for n := range 1800 {
		w.at(time.Duration(n) * time.Second)
		// Connections that were begun a second ago repeat their SYN.
		if n > 0 {
			w.Out(parse(w, syns(uint16(10000+n-1), 443)), w.now)
		}
		p := w.out(syns(uint16(10000+n), 443), Forward)
		switch p.Dst() {
		case addrA:
			toA++
		case addrB:
			w.comes(tcp(addrB, client4, 443, p.SrcPort(), syn|ack), p4(foo, 0))
		}
	}
	if toA > 25 {
		t.Errorf("%d connections were sent to the dead server, at most 25 may be", toA)
	}
}

// (b): errors say that the host is out of reach. The next packet from it says
// the contrary.
func TestN06AHostOutOfReach(t *testing.T) {
	for name, c := range map[string]struct {
		typ, code byte
		releases  bool
	}{
		"host unreachable":    {3, 1, true},
		"administratively":    {3, 13, true},
		"port unreachable":    {3, 3, false},
		"fragmentation":       {3, 4, false},
		"time exceeded":       {11, 0, false},
		"network unreachable": {3, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.announce("foo", foo, addrA, addrB)
			sent := w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA)
			b := ip(addrC, client4, packet.ICMP, append([]byte{c.typ, c.code, 0, 0, 0, 0, 0, 0}, sent.Bytes()...))
			p := parse(t, b)
			s := w.MatchError(p, w.now)
			if s == nil {
				t.Fatal("the error matches no session")
			}
			w.InError(s, p, addrC, w.now)
			want := addrA
			if c.releases {
				want = addrB
			}
			w.goes(udp(client4, p4(foo, 0), 6001, 53), want)
			w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA)
			w.comes(udp(addrA, client4, 53, 6000), p4(foo, 0))
			w.goes(udp(client4, p4(foo, 0), 6002, 53), addrA)
		})
	}
}

// Only a session that was created after the evidence ran out sets it again,
// however late its handshake begins.
func TestN06AnOlderSessionProvesNothingNew(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.goes(syns(5000, 443), addrA)
	w.comes(tcp(addrA, client4, 443, 5000, rst|ack), p4(foo, 0)) // evidence until 30
	w.at(seconds(29))
	w.goes(tcp(client4, p4(foo, 0), 5001, 443, ack), addrA) // there is no other address
	w.answer("foo", foo, addrA, addrB)
	for _, s := range []float64{31, 32} {
		w.at(seconds(s))
		w.goes(syns(5001, 443), addrA)
	}
	w.at(seconds(34))
	w.goes(syns(5002, 443), addrA)
}

// A SYN+ACK on the port refutes, and so forgets how often the evidence was right.
func TestN06AnAnswerAcquits(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA, addrB)
	fail := func(port uint16) {
		w.goes(syns(port, 443), addrA)
		w.comes(tcp(addrA, client4, 443, port, rst|ack), p4(foo, 0))
		w.goes(syns(port+1, 443), addrB)
	}
	fail(5000)
	w.at(seconds(30))
	fail(5010) // for 60 s, this time
	w.at(seconds(89.999))
	w.goes(syns(5020, 443), addrB)
	w.at(seconds(90))
	w.goes(syns(5021, 443), addrA)
	w.comes(tcp(addrA, client4, 443, 5021, syn|ack), p4(foo, 0))
	fail(5030) // for 30 s again
	w.at(seconds(120))
	w.goes(syns(5040, 443), addrA)
}

// All addresses fail: the current one is as good as any.
func TestN06NothingBetterThere(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA, addrB)
	w.goes(syns(5000, 443), addrA)
	w.comes(tcp(addrA, client4, 443, 5000, rst|ack), p4(foo, 0))
	w.goes(syns(5001, 443), addrB)
	w.comes(tcp(addrB, client4, 443, 5001, rst|ack), p4(foo, 0))
	w.goes(syns(5002, 443), addrA)
}

// The alternative of one proxy address is the next of the answer, in turn.
func TestN06AlternativesInTurn(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA, addrB, addrC)
	w.goes(tcp(client4, p4(foo, 2), 5000, 443, syn), addrC)
	w.comes(tcp(addrC, client4, 443, 5000, rst|ack), p4(foo, 2))
	w.goes(tcp(client4, p4(foo, 2), 5001, 443, syn), addrA) // after the last comes the first
	w.goes(tcp(client4, p4(foo, 1), 5002, 443, syn), addrB) // others are not concerned
}

// The switch: literally the rule of April 2025.
func TestN06AndN07CanBeSwitchedOff(t *testing.T) {
	w := newLiteral(t)
	w.announce("foo", foo, addrA, addrB)
	w.goes(syns(5000, 443), addrA)
	w.at(seconds(1))
	w.goes(syns(5000, 443), addrA)
	w.comes(tcp(addrA, client4, 443, 5000, rst|ack), p4(foo, 0))
	w.answer("foo", foo, addrB)
	w.at(seconds(10))
	w.goes(syns(5001, 443), addrA)
	w.goes(tcp(client4, p4(foo, 0), 5001, 443, rst), addrA)
	w.at(seconds(69.999))
	w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA) // a closed session holds for its minute
}

// What a client can do to its own table stays bounded.
func TestN06EvidenceIsBounded(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA, addrB)
	for n := range uint16(200) {
		p := w.out(syns(5000+n, 1000+n), Forward)
		w.comes(tcp(p.Dst(), client4, 1000+n, p.SrcPort(), rst|ack), p4(foo, 0))
	}
	if got := len(w.bindings[p4(foo, 0)].evidence); got > maxEvidence {
		t.Errorf("%d pieces of evidence are kept, at most %d may be", got, maxEvidence)
	}
	for n := range uint16(200) {
		w.Out(parse(w, syns(20000+n, 443)), w.now)
		w.Out(parse(w, syns(20000+n, 443)), w.now)
	}
	w.at(seconds(100))
	w.Out(parse(w, syns(30000, 443)), w.now)
	if len(w.awaited) != 0 {
		t.Errorf("%d sessions are still waited for", len(w.awaited))
	}
}
