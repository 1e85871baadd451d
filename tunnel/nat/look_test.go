package nat

import "testing"

// A look finds the session that the packet will be found to belong to, and
// changes nothing.
func TestLook(t *testing.T) {
	w := newWorld(t)
	w.pace = unpaced
	w.announce("foo", foo, addrA)
	const many = 3 * worthLook
	for n := range uint16(many) {
		out, in := udp(client4, p4(foo, 0), 1024+n, 53), udp(addrA, client4, 53, 1024+n)
		looks := []Look{w.LookOut(parse(t, out)), w.LookIn(parse(t, in))}
		if small := w.Len() < worthLook; looks[0].IsZero() != small || looks[1].IsZero() != small {
			t.Fatalf("%d sessions: %v", n, looks)
		}
		for _, l := range looks {
			if s := l.session(); s != nil {
				t.Errorf("%d: found %+v, which is none", n, s)
			}
		}
		Prefetch(looks)
		w.goes(out, addrA)
	}
	for n := range uint16(many) {
		out, in := parse(t, udp(client4, p4(foo, 0), 1024+n, 53)), parse(t, udp(addrA, client4, 53, 1024+n))
		k, _, _ := w.outboundKey(out)
		want := w.byInside(k)
		looks := []Look{w.LookOut(out), w.LookIn(in)}
		for _, l := range looks {
			if got := l.session(); got != want || got == nil {
				t.Errorf("%d: found %+v, want %+v", n, got, want)
			}
		}
		Prefetch(looks)
	}
	if err := sound(w.Table); err != nil {
		t.Error(err)
	}
}

// What a look saw may be gone before it is prefetched.
func TestLookAtATableThatIsEmptied(t *testing.T) {
	w := newWorld(t)
	w.pace = unpaced
	w.announce("foo", foo, addrA)
	for n := range uint16(2 * worthLook) {
		w.goes(udp(client4, p4(foo, 0), 1024+n, 53), addrA)
	}
	l := w.LookOut(parse(t, udp(client4, p4(foo, 0), 1024, 53)))
	w.Clear(w.now)
	w.Sweep(nobody, all, w.now)
	Prefetch([]Look{l, {}})
	Prefetch(nil)
	if s := l.session(); s != nil {
		t.Errorf("found %+v", s)
	}
}
