package nat

import (
	"net/netip"
	"testing"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/packet"
)

// Rules N14 and N31 of spec gateway-nat.md 7.3: what is remembered of sessions
// that have ended.

// taken occupies the outside port 5000 of A with a session of bar, so that one
// of foo from port 5000 gets another.
func taken(w *world) (outside uint16) {
	w.announce("foo", foo, addrA)
	w.announce("bar", bar, addrA)
	w.handshake(5000, p4(bar, 0), addrA)
	return w.handshake(5000, p4(foo, 0), addrA)
}

func TestN14AConnectionGoesOnWhereItWas(t *testing.T) {
	w := newWorld(t)
	outside := taken(w)
	if outside == 5000 {
		t.Fatal("nothing is translated")
	}
	w.answer("foo", foo, addrB)
	w.at(24*time.Hour + time.Second)
	if got := w.goes(tcp(client4, p4(foo, 0), 5000, 443, ack), addrA).SrcPort(); got != outside {
		t.Errorf("it goes on from port %d, was %d", got, outside)
	}
	w.comes(tcp(addrA, client4, 443, outside, ack), p4(foo, 0))
	w.goes(tcp(client4, p4(foo, 0), 5001, 443, syn), addrB) // and is alone with it
}

func TestN14NotForWhatBeginsOrEnds(t *testing.T) {
	for name, c := range map[string]struct {
		after time.Duration
		flags byte
		want  Verdict
	}{
		"SYN":          {time.Second, byte(syn), Forward},
		"RST":          {time.Second, byte(rst | ack), BadFlags},
		"after 120 s":  {120 * time.Second, byte(ack), Forward},
		"after 119 s":  {119 * time.Second, byte(ack), Forward},
		"FIN with ACK": {time.Second, byte(fin | ack), Forward},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			taken(w)
			w.answer("foo", foo, addrB)
			w.at(24*time.Hour + c.after)
			p := w.out(tcp(client4, p4(foo, 0), 5000, 443, packet.TCPFlags(c.flags)), c.want)
			revived := name == "after 119 s" || name == "FIN with ACK"
			if c.want == Forward && (p.Dst() == addrA) != revived {
				t.Errorf("it went to %v", p.Dst())
			}
		})
	}
}

// UDP and ICMP go on only if that is where a new session would go.
func TestN14UDPFollowsTheName(t *testing.T) {
	for _, moved := range []bool{false, true} {
		w := newWorld(t)
		w.announce("foo", foo, addrA)
		w.announce("bar", bar, addrA)
		w.comes(udp(addrA, client4, 53, w.goes(udp(client4, p4(bar, 0), 6000, 53), addrA).SrcPort()), p4(bar, 0))
		outside := w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA).SrcPort()
		w.comes(udp(addrA, client4, 53, outside), p4(foo, 0))
		if moved {
			w.answer("foo", foo, addrB)
		}
		w.at(5*time.Minute + time.Second)
		if moved {
			w.goes(udp(client4, p4(foo, 0), 6000, 53), addrB)
			continue
		}
		if got := w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA).SrcPort(); got != outside {
			t.Errorf("it goes on from port %d, was %d", got, outside)
		}
	}
}

// What N15 and N25 end stays ended.
func TestN14NeverAfterAnEndOnPurpose(t *testing.T) {
	w := newWorld(t)
	taken(w)
	w.at(seconds(60))
	w.answer("foo", foo, addrB)
	w.goes(tcp(client4, p4(foo, 0), 5000, 443, syn), addrB) // N15
	w.goes(tcp(client4, p4(foo, 0), 5000, 443, ack), addrB)

	w = newWorld(t)
	taken(w)
	w.announce("baz", foo, addrC) // N25
	w.goes(tcp(client4, p4(foo, 0), 5000, 443, ack), addrC)

	w = newWorld(t)
	taken(w)
	w.at(24*time.Hour + time.Second) // it ended by its time, then the address became another name's
	w.announce("baz", foo, addrC)
	w.goes(tcp(client4, p4(foo, 0), 5000, 443, ack), addrC)
}

func TestN31OutsidePortsRest(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.announce("bar", bar, addrA)
	w.comes(udp(addrA, client4, 53, w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA).SrcPort()), p4(foo, 0))
	w.at(5 * time.Minute)
	if got := w.goes(udp(client4, p4(bar, 0), 6000, 53), addrA).SrcPort(); got == 6000 {
		t.Error("a port that has just carried another conversation was given away")
	}
	w.at(7 * time.Minute)
	if got := w.goes(udp(client4, p4(bar, 1), 6000, 53), addrA).SrcPort(); got != 6000 {
		t.Errorf("after its rest the port is not free: %d was given", got)
	}
}

// One that was never answered needs no rest, and its own client may have its
// port back at once.
func TestN31OnlyWhereSomethingMayStillCome(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.announce("bar", bar, addrA)
	w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA)
	w.at(time.Minute)
	if got := w.goes(udp(client4, p4(bar, 0), 6000, 53), addrA).SrcPort(); got != 6000 {
		t.Errorf("port %d was given", got)
	}
	w = newWorld(t)
	w.announce("foo", foo, addrA)
	o := w.handshake(5000, p4(foo, 0), addrA)
	w.comes(tcp(addrA, client4, 443, o, rst|ack), p4(foo, 0))
	if got := w.goes(tcp(client4, p4(foo, 0), 5000, 443, syn), addrA).SrcPort(); got != 5000 {
		t.Errorf("its own port is not given back: %d", got)
	}
}

// Ports that rest are taken if there are no others.
func TestN31BetterARestingPortThanNone(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.announce("bar", bar, addrA)
	w.past.outside, w.past.inside = map[key]former{}, map[key]key{}
	k := keyTo(packet.Addr16Of(addrA), packet.UDP, false)
	for port := 1; port <= 65535; port++ {
		k = k.with(uint16(port), 0)
		w.past.outside[k] = former{inside: key{rest: 1}, until: instant(time.Hour)}
	}
	if got := w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA).SrcPort(); got != 6000 {
		t.Errorf("port %d was given", got)
	}
}

// After its rest a port serves another conversation. What is remembered of the
// first must not take along what is remembered of the second.
func TestN31PortThatChangedHands(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.announce("bar", bar, addrA)
	talk := func(p netip.Addr) (outside uint16) {
		outside = w.goes(udp(client4, p, 6000, 53), addrA).SrcPort()
		w.comes(udp(addrA, client4, 53, outside), p)
		return outside
	}
	talk(p4(foo, 0))
	w.at(7 * time.Minute) // five until it ends, two of rest
	if got := talk(p4(bar, 0)); got != 6000 {
		t.Fatalf("after its rest the port is not free: %d was given", got)
	}
	w.at(7*time.Minute + seconds(10))
	talk(p4(foo, 0))                   // from another port
	w.at(12*time.Minute + seconds(10)) // both are over
	w.Sweep(nobody, all, w.now)
	if got := talk(p4(foo, 1)); got == 6000 {
		t.Error("a port that has just carried another conversation was given away")
	}
	w.at(time.Hour)
	w.Sweep(nobody, all, w.now)
	w.at(2 * time.Hour)
	w.Sweep(nobody, all, w.now)
	if n := len(w.past.outside) + len(w.past.inside); n != 0 {
		t.Errorf("%d entries are left", n)
	}
}

func TestN48NothingStaysOfThePast(t *testing.T) {
	w := newWorld(t)
	taken(w)
	w.at(24*time.Hour + time.Second)
	w.Sweep(nobody, all, w.now)
	if len(w.past.outside) != 2 {
		t.Fatalf("%d former sessions, want 2", len(w.past.outside))
	}
	w.at(26 * time.Hour)
	w.Sweep(func(id.Resource) bool { return false }, all, w.now)
	if n := len(w.past.outside) + len(w.past.inside); n != 0 {
		t.Errorf("%d entries are left", n)
	}
}
