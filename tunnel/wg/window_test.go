package wg

import (
	"math/rand/v2"
	"testing"
)

func TestWindowAgainstModel(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var w window
		seen, newest := map[uint64]bool{}, uint64(0)
		for range 3000 {
			c := newest
			switch rng.IntN(20) {
			case 0:
				c += rng.Uint64N(3 * windowSize)
			case 1:
				c -= min(c, windowSize-2+rng.Uint64N(4)) // the edge
			case 2:
				c -= min(c, rng.Uint64N(2*windowSize))
			default:
				c += rng.Uint64N(3)
			}
			want := !seen[c] && (newest < windowSize || c > newest-windowSize)
			if got := w.accept(c); got != want {
				t.Fatalf("seed %d: counter %d, newest %d: got %v", seed, c, newest, got)
			}
			if want {
				seen[c], newest = true, max(newest, c)
			}
		}
	}
}

func TestWindowRefusesImpossibleCounters(t *testing.T) {
	var w window
	if w.accept(1<<64-1) || w.accept(retired) || !w.accept(retired-1) {
		t.Error("the largest counter is retired-1")
	}
}
