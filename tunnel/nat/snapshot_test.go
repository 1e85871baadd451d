package nat

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"stile/tunnel/packet"
)

// restarted is a world whose table was written down and read by another
// process, which knows nothing else, gap later.
func restarted(w *world, gap time.Duration) *world {
	w.Helper()
	text := w.AppendSnapshot(nil, w.now)
	again := &world{TB: w.TB, Table: New(Config{Rand: rand.New(rand.NewPCG(3, 4))}, epoch), now: epoch}
	if err := again.Restore(text, gap, again.now); err != nil {
		w.Fatal(err)
	}
	return again
}

func TestO3SessionsOutliveTheProcess(t *testing.T) {
	w := newWorld(t)
	outside := taken(w) // a connection whose port is translated
	w.goes(udp(client4, p4(foo, 1), 6000, 53), addrA)
	w.goes(tcp(client4, addrC, 7000, 22, syn), addrC) // by address
	w.comes(tcp(addrC, client4, 22, 7000, syn|ack), addrC)
	w.at(seconds(30))
	w.answer("foo", foo, addrB) // waits

	w = restarted(w, 2*time.Second)
	w.goes(tcp(client4, p4(foo, 0), 5001, 443, syn), addrA) // held still
	if got := w.goes(tcp(client4, p4(foo, 0), 5000, 443, ack), addrA).SrcPort(); got != outside {
		t.Errorf("port %d, was %d", got, outside)
	}
	if got := w.comes(tcp(addrA, client4, 443, outside, ack), p4(foo, 0)).DstPort(); got != 5000 {
		t.Errorf("the client's port is %d", got)
	}
	w.comes(tcp(addrC, client4, 22, 7000, ack), addrC)
	w.at(seconds(28)) // 60 s after the datagram
	w.goes(udp(client4, p4(foo, 1), 6001, 53), addrB)
}

func TestO3TimeGoesOnMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.goes(udp(client4, p4(foo, 0), 6000, 53), addrA)
	w.answer("foo", foo, addrB)
	if w := restarted(w, time.Minute-1); w.Len() != 1 {
		t.Errorf("%d sessions before their deadline", w.Len())
	}
	w = restarted(w, time.Minute)
	if w.Len() != 0 {
		t.Errorf("%d sessions after their deadline", w.Len())
	}
	w.goes(udp(client4, p4(foo, 0), 6001, 53), addrB)
}

func TestO3WhatCannotBeReadChangesNothing(t *testing.T) {
	w := newWorld(t)
	taken(w)
	good := w.AppendSnapshot(nil, w.now)
	fresh := func() *Table { return New(Config{Rand: rand.New(rand.NewPCG(3, 4))}, epoch) }
	for n := range good {
		if table := fresh(); !errors.Is(table.Restore(good[:n], 0, epoch), ErrSnapshot) || len(table.bindings)+table.Len() > 0 {
			t.Fatalf("the first %d bytes are taken", n)
		}
	}
	if err := fresh().Restore(append(bytes.Clone(good), 0), 0, epoch); !errors.Is(err, ErrSnapshot) {
		t.Errorf("a byte too many: %v", err)
	}
	if err := fresh().Restore(good, -1, epoch); !errors.Is(err, ErrSnapshot) {
		t.Errorf("from the future: %v", err)
	}
	if err := w.Restore(good, 0, w.now); !errors.Is(err, ErrSnapshot) {
		t.Errorf("into a table in use: %v", err)
	}
}

// Nobody leads a session astray by what is written: it goes where its client
// sends, or where its proxy address may point.
func TestO3SessionsThatCannotBe(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	w.goes(udp(client4, addrC, 5000, 53), addrC)
	w.goes(udp(client4, p4(foo, 1), 6000, 53), addrA)
	good := w.AppendSnapshot(nil, w.now)
	at := func(k key) int { return bytes.Index(good, k.append(nil)) }
	direct := at(keyTo(packet.Addr16Of(addrC), packet.UDP, false).with(5000, 0))
	proxied := at(keyTo(packet.Addr16Of(p4(foo, 1)), packet.UDP, false).with(6000, 0))
	if direct < 0 || proxied < 0 {
		t.Fatal("the sessions are not there")
	}
	const size = 22 // of a key; the outside one follows, then the binding
	replace := func(at int, b ...byte) []byte {
		return append(append(bytes.Clone(good[:at]), b...), good[at+len(b):]...)
	}
	mapped := func(a netip.Addr) []byte { b := a.As16(); return b[:] }
	for name, b := range map[string][]byte{
		"to an address that it was not sent to": replace(direct+size, mapped(addrB)...),
		"to loopback":                           replace(proxied+size, mapped(netip.MustParseAddr("127.0.0.1"))...),
		"to a peer":                             replace(proxied+size, mapped(client4)...),
		"of another proxy address":              replace(proxied, mapped(p4(foo, 2))...),
		"of no binding":                         replace(proxied+2*size, 0, 0, 0, 0),
		"of a binding that is not there":        replace(proxied+2*size, 0, 0, 0, 99),
		"a binding of an address that is none":  replace(direct+2*size, 0, 0, 0, 1),
		"from port 0":                           replace(direct+size+16, 0, 0),
		"of two protocols":                      replace(direct+size+20, byte(packet.TCP)),
	} {
		table := New(Config{Rand: rand.New(rand.NewPCG(3, 4))}, epoch)
		if err := table.Restore(b, 0, epoch); !errors.Is(err, ErrSnapshot) || table.Len() > 0 {
			t.Errorf("%s: %v, %d sessions", name, err, table.Len())
		}
	}
	if err := New(Config{Rand: rand.New(rand.NewPCG(3, 4))}, epoch).Restore(replace(0, 1), 0, epoch); err != nil {
		t.Errorf("as it was: %v", err)
	}
}

// What can be read is a table as sound as any: it can be written again, and
// packets cannot harm it.
func FuzzSnapshot(f *testing.F) {
	w := newWorld(f)
	taken(w)
	f.Add(w.AppendSnapshot(nil, w.now))
	f.Add([]byte{})
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, text []byte) {
		table := New(Config{Rand: rand.New(rand.NewPCG(3, 4))}, epoch)
		if table.Restore(text, 0, epoch) != nil {
			return
		}
		if err := sound(table); err != nil {
			t.Fatal(err)
		}
		again := New(Config{Rand: rand.New(rand.NewPCG(3, 4))}, epoch)
		if err := again.Restore(table.AppendSnapshot(nil, epoch), 0, epoch); err != nil || again.Len() != table.Len() {
			t.Fatalf("%v; %d sessions, then %d", err, table.Len(), again.Len())
		}
		w := &world{TB: t, Table: table, now: epoch.Add(time.Minute)}
		w.Announce("foo", wiki, foo, w.now)
		w.Out(parse(t, tcp(client4, p4(foo, 0), 5000, 443, syn)), w.now)
		w.Sweep(nobody, all, w.now.Add(48*time.Hour))
	})
}

func BenchmarkSnapshot(b *testing.B) {
	w := newWorld(b)
	w.announce("foo", foo, addrA)
	for n := range 16000 {
		w.Out(parse(b, udp(client4, p4(foo, n%4), uint16(1024+n/4), 53)), w.now)
	}
	var text []byte
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			text = w.AppendSnapshot(text[:0], w.now)
		}
		b.ReportMetric(float64(len(text))/float64(w.Len()), "B/session")
	})
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			if err := New(Config{Rand: rand.New(rand.NewPCG(3, 4))}, epoch).Restore(text, 0, epoch); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Handshakes that were answered in another order than they began are restored in
// the order in which they may have to go (N47): by their client's last packet.
func TestO3OrderOfHandshakes(t *testing.T) {
	w := newWorld(t)
	w.announce("foo", foo, addrA)
	const many = 3 * maxReorder
	for n := range many {
		w.at(time.Duration(n) * time.Millisecond)
		w.goes(tcp(client4, p4(foo, 0), 1024+uint16(n), 443, syn), addrA)
	}
	for n := range many {
		w.at(time.Second + time.Duration(n)*time.Millisecond)
		w.comes(tcp(addrA, client4, 443, 1024+many-1-uint16(n), syn|ack), p4(foo, 0))
	}
	restored := New(Config{Rand: rand.New(rand.NewPCG(1, 2))}, w.now)
	if err := restored.Restore(w.AppendSnapshot(nil, w.now), 0, w.now); err != nil {
		t.Fatal(err)
	}
	if err := sound(restored); err != nil {
		t.Error(err)
	}
	n := 0
	restored.each(&restored.opening, func(s *Session) bool {
		n++
		if want := 1024 + many - n; int(s.inside.id()) != want {
			t.Errorf("place %d has port %d, want %d", n, s.inside.id(), want)
		}
		return true
	})
	if n != many {
		t.Errorf("%d sessions", n)
	}
}

// What a table may hold can be restored: a session of IPv6 to an address that looks
// like one of IPv4, which is none, and one that the gateway host began towards port 0.
func TestO3WhatCanBeComesBack(t *testing.T) {
	w := newWorld(t)
	mapped := netip.AddrFrom16(addrA.As16())
	w.goes(udp(client4, addrA, 5000, 53), addrA)
	w.dropped(udp(mapped, client6, 53, 5000)) // they do not meet
	w.goes(udp(client6, mapped, 5000, 53), mapped)
	w.comes(udp(mapped, client6, 53, 5000), mapped)
	w.comes(udp(addrA, client4, 53, 5000), addrA)
	if v := w.Accept(parse(t, udp(addrC, client4, 53, 0)), w.now); v != Forward {
		t.Fatal(v)
	}
	text := w.AppendSnapshot(nil, w.now)
	again := New(Config{Rand: rand.New(rand.NewPCG(3, 4))}, epoch)
	if err := again.Restore(text, 0, epoch); err != nil || again.Len() != 3 {
		t.Errorf("%v, %d sessions", err, again.Len())
	}
	if err := sound(again); err != nil {
		t.Error(err)
	}
}
