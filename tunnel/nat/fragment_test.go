package nat

import (
	"fmt"
	"testing"
	"time"

	"stile/tunnel/packet"
	"stile/tunnel/packet/cut"
)

// Later fragments count for their session, and do nothing else to it (N41).
func TestLaterFragmentsCountOnly(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	p := p4(foo, 0)
	later := parseFragment(t, cut.Piece(udp(client4, p, 5000, 7), 8, 12, 1))
	state := func() (s string) {
		for f := range w.Flows(w.now) {
			s += fmt.Sprintf("%d out %d bytes, %d in %d bytes, %v; ", f.PacketsOut, f.BytesOut, f.PacketsIn, f.BytesIn, f.Deadline.Sub(epoch))
		}
		return s
	}
	first := parse(t, udp(client4, p, 5000, 7))
	out := w.AccountOf(first, false)
	w.Charge(out, later, w.now)
	if got := state(); got != "" {
		t.Errorf("a later fragment made a session: %s", got)
	}

	size := len(first.Bytes())
	w.Out(first, w.now)
	w.at(59 * time.Second)
	w.Charge(out, later, w.now)
	if got, want := state(), fmt.Sprintf("2 out %d bytes, 0 in 0 bytes, 1m0s; ", size+24); got != want {
		t.Errorf("unanswered: %s, want %s", got, want)
	}
	in := w.AccountOf(w.comes(udp(addrA, client4, 7, 5000), p), true)
	w.at(100 * time.Second)
	w.Charge(in, later, w.now)
	w.Charge(in, later, w.now)
	if got, want := state(), fmt.Sprintf("2 out %d bytes, 3 in %d bytes, 5m59s; ", size+24, size+48); got != want {
		t.Errorf("answered: %s, want %s", got, want)
	}
	w.at(359 * time.Second)
	w.Charge(out, later, w.now)
	w.Charge(in, later, w.now)
	if got := state(); got != "" {
		t.Errorf("a session outlived its time: %s", got)
	}
}

func parseFragment(t *testing.T, b []byte) packet.Packet {
	t.Helper()
	p, err := packet.ParseFragment(b)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
