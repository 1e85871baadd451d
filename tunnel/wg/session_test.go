package wg

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

func TestHandshakeBetweenTwoSessions(t *testing.T) {
	rng := rand.NewChaCha8([32]byte{1})
	now := time.Unix(0, 0)
	var p1, p2 [32]byte
	rng.Read(p1[:])
	rng.Read(p2[:])
	a, b := NewIdentity(p1, now, now, rng), NewIdentity(p2, now, now, rng)
	sa := New(Config{Identity: a, Remote: b.Public(), Index: 1, Rand: rng})
	sb := New(Config{Identity: b, Remote: a.Public(), Index: 2, Rand: rng})
	if !sa.Initiate(now) {
		t.Fatal("no initiation")
	}
	in, _, ok := b.Initiator(sa.Drain(nil)[0], netip.AddrPort{}, now)
	if !ok || !sb.Accept(in, now) || sb.Send() != nil {
		t.Fatal("initiation not accepted, or responder would send first")
	}
	if !sa.Handle(sb.Drain(nil)[0], netip.AddrPort{}, now) || sa.Send() == nil {
		t.Fatal("response not accepted")
	}
	m := sa.Drain(nil)[0]
	k := sb.Find(Index(m))
	plain, counter, ok := k.Open(m)
	if !ok || len(plain) != 0 || !sb.Received(k, counter, true, now) || sb.Send() == nil {
		t.Fatal("keepalive did not confirm the session")
	}
}
