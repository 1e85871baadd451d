package nat

import (
	"net/netip"
	"testing"
	"time"

	"stile/tunnel/packet"
)

// The rows of spec gateway-nat.md 8.2 that a Table alone decides; the others
// are in tunnel/gateway, S18 is in bounds_test.go. T is TCP 5000→P:443.

// established is a world with foo→answer and T on the first address of it.
func established(t *testing.T) *world {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.handshake(5000, p4(foo, 0), addrA)
	return w
}

func data() []byte { return tcp(client4, p4(foo, 0), 5000, 443, ack|packet.PSH) }

// s01 is S1, which S2 goes on with.
func s01(t *testing.T) *world {
	w := established(t)
	w.at(seconds(10))
	w.answer("foo", foo, addrB)
	w.at(seconds(11))
	w.goes(data(), addrA)
	w.goes(syns(5001, 443), addrA)
	return w
}

func TestS01HeldWhileInUse(t *testing.T) { s01(t) }

func TestS02ReleasedBySilence(t *testing.T) {
	w := s01(t)
	w.at(seconds(71))
	w.goes(syns(5002, 443), addrB)
	w.at(seconds(72))
	w.goes(data(), addrA)
}

func TestS03UnansweredUDP(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA)
	w.at(seconds(60))
	w.answer("foo", foo, addrB)
	w.goes(udp(client4, p4(foo, 0), 6000, 53), addrB)
}

func TestS04AnsweredUDP(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA)
	w.at(seconds(1))
	w.comes(udp(addrA, client4, 53, 6000), p4(foo, 0))
	w.at(seconds(60))
	w.answer("foo", foo, addrB)
	w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA)
	w.goes(udp(client4, p4(foo, 0), 6001, 53), addrB)
}

func TestS07ServerSpeaksAfterTwoHours(t *testing.T) {
	w := established(t)
	w.at(time.Hour)
	w.answer("foo", foo, addrB)
	w.at(2*time.Hour + 3*time.Minute)
	w.comes(tcp(addrA, client4, 443, 5000, ack), p4(foo, 0))
}

func TestS08PortUsedAgainAfterFIN(t *testing.T) {
	w := established(t)
	w.at(seconds(10))
	w.goes(tcp(client4, p4(foo, 0), 5000, 443, fin|ack), addrA)
	w.comes(tcp(addrA, client4, 443, 5000, fin|ack), p4(foo, 0))
	w.at(seconds(11))
	w.answer("foo", foo, addrB)
	w.at(seconds(12))
	w.handshake(5000, p4(foo, 0), addrB)
	w.dropped(tcp(addrA, client4, 443, 5000, ack)) // the old one is gone
}

func TestS09NobodyAnswers(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.goes(syns(5000, 443), addrA)
	w.at(seconds(1))
	w.goes(syns(5000, 443), addrA)
	w.at(seconds(2))
	w.answer("foo", foo, addrB)
	w.at(seconds(2.9))
	w.goes(syns(5001, 443), addrA)
	w.at(seconds(3))
	w.goes(syns(5000, 443), addrA) // an existing session is never moved
	w.goes(syns(5002, 443), addrB)
	w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA) // the evidence is about a port, and 5001 holds
}

func TestS10Refused(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA, addrB)
	w.goes(syns(5000, 443), addrA)
	w.comes(tcp(addrA, client4, 443, 5000, rst|ack), p4(foo, 0))
	w.goes(syns(5001, 443), addrB)
}

func TestS13TwoNamesOnOneAddress(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.announce("baz", bar, addrA)
	o, other := w.handshake(5000, p4(foo, 0), addrA), w.handshake(5000, p4(bar, 0), addrA)
	if o == other {
		t.Fatalf("both go out from port %d", o)
	}
	for outside, p := range map[uint16]netip.Addr{o: p4(foo, 0), other: p4(bar, 0)} {
		if got := w.comes(tcp(addrA, client4, 443, outside, ack), p).DstPort(); got != 5000 {
			t.Errorf("the reply to %d came to port %d", outside, got)
		}
	}
}

func TestS14NetworkAndNameOnOneAddress(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	direct := w.handshake(5000, addrA, addrA) // 10.0.0.1 of 10.0.0.0/8
	proxied := w.handshake(5000, p4(foo, 0), addrA)
	if direct == proxied {
		t.Fatalf("both go out from port %d", direct)
	}
	for range 2 {
		w.comes(tcp(addrA, client4, 443, direct, ack), addrA)
		w.comes(tcp(addrA, client4, 443, proxied, ack), p4(foo, 0))
		w.goes(tcp(client4, addrA, 5000, 443, ack), addrA)
		w.goes(data(), addrA)
	}
}

func TestS20ClockJumps(t *testing.T) {
	w := established(t)
	w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA)
	w.comes(udp(addrA, client4, 53, 6000), p4(foo, 0))
	w.goes(echo(client4, p4(foo, 0), 7, true), addrA)
	w.at(25 * time.Hour)
	w.dropped(tcp(addrA, client4, 443, 5000, ack))
	w.dropped(udp(addrA, client4, 53, 6000))
	w.dropped(echo(addrA, client4, 7, false))
	w.handshake(5000, p4(foo, 0), addrA)
}

func TestS21OneWayUDP(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	for n := range 11 { // 0 to 550 s
		w.at(time.Duration(n) * 55 * time.Second)
		w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA)
		w.answer("foo", foo, [2]netip.Addr{addrB, addrA}[n%2])
	}
}

func TestS23OneServiceOfAHost(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA, addrB)
	w.goes(syns(5000, 445), addrA)
	w.comes(tcp(addrA, client4, 445, 5000, syn|ack), p4(foo, 0))
	w.goes(tcp(client4, p4(foo, 0), 5000, 445, ack), addrA)
	w.goes(syns(5001, 139), addrA)
	w.comes(tcp(addrA, client4, 139, 5001, rst|ack), p4(foo, 0))
	w.goes(syns(5002, 445), addrA)
	w.goes(syns(5003, 139), addrB)
}

func TestS24ADrainingServer(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA, addrB)
	w.handshake(5000, p4(foo, 0), addrA)
	w.at(seconds(5))
	w.goes(syns(5001, 443), addrA)
	w.comes(tcp(addrA, client4, 443, 5001, rst|ack), p4(foo, 0))
	w.at(seconds(6))
	w.comes(tcp(addrA, client4, 443, 5000, ack), p4(foo, 0))
	w.at(seconds(7))
	w.goes(syns(5002, 443), addrB)
	w.goes(data(), addrA)
}

func TestS25PortUsedAgainAfterAnHour(t *testing.T) {
	w := established(t)
	w.at(seconds(10))
	w.answer("foo", foo, addrB)
	w.at(time.Hour)
	w.handshake(5000, p4(foo, 0), addrB)
	w.dropped(tcp(addrA, client4, 443, 5000, ack))
}
