package wg

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// Two sessions over a link that loses, reorders and duplicates keep
// delivering for hours, and deliver every packet at most once. An end whose
// four initiations were lost starts anew, as its role would do, while the
// other end keeps its session; no gap is longer than that takes.
func TestBadLinkKeepsDelivering(t *testing.T) {
	for seed := range uint64(4) {
		p := newPair(t, seed)
		p.carry = func(*node, []byte) (delays []time.Duration) {
			for range 2 { // lost 12 %, doubled 42 %
				if p.rng.IntN(100) < 65 {
					delays = append(delays, time.Duration(p.rng.IntN(400))*ms)
				}
			}
			return delays
		}
		p.a.session.Initiate(p.now)
		var sent, deaths int
		var able time.Duration
		for at := 2 * sec; at < 3*time.Hour; at += time.Duration(p.rng.IntN(3000)) * ms {
			if p.rng.IntN(200) == 0 { // both fall silent
				at += 170*sec + time.Duration(p.rng.IntN(60))*sec
				able = at
			}
			p.run(at)
			deaths += p.revive(uint32(deaths))
			n := []*node{p.a, p.b}[p.rng.IntN(2)]
			if p.send(n, fmt.Sprint(n.name, " ", sent)) {
				sent++
				able = at
			} else if n == p.a {
				n.session.Initiate(p.now)
			}
			if at-able > 45*sec {
				t.Fatalf("seed %d: no session from %v to %v", seed, able, at)
			}
		}
		p.run(3*time.Hour + 10*sec)
		for _, n := range []*node{p.a, p.b} {
			all := slices.Sorted(slices.Values(n.got))
			if len(slices.Compact(all)) != len(n.got) {
				t.Fatalf("seed %d: %s got a packet twice", seed, n.name)
			}
		}
		if got := len(p.a.got) + len(p.b.got); got < sent*82/100 || sent < 3000 || deaths > 3 {
			t.Errorf("seed %d: %d of %d delivered, %d deaths", seed, got, sent, deaths)
		}
	}
}

// revive gives dead nodes a new session and returns how many it found.
func (p *pair) revive(index uint32) (deaths int) {
	for _, n := range []*node{p.a, p.b} {
		if n.session.Err() == nil {
			continue
		}
		deaths++
		old := n.session
		n.session = New(Config{Identity: n.identity, Remote: old.remote, PSK: old.psk, Index: index, Rand: old.rand})
		if n == p.a {
			n.session.Initiate(p.now)
		}
	}
	return deaths
}

// A connection whose link is gone for good ends at both ends, and nothing
// before that is due for ever.
func TestCutLinkEndsBoth(t *testing.T) {
	for seed := range uint64(20) {
		p := newPair(t, seed)
		p.connect()
		p.run(time.Duration(p.rng.IntN(300)) * sec)
		p.cut()
		p.send(p.a, "x")
		p.run(1200 * sec)
		if !errors.Is(p.a.session.Err(), ErrUnanswered) || !errors.Is(p.b.session.Err(), ErrExpired) {
			t.Errorf("seed %d: got %v and %v", seed, p.a.session.Err(), p.b.session.Err())
		}
	}
}
