package wg

// windowSize is how far behind the newest counter a message may arrive.
const windowSize = 8192

// A window remembers which of the last windowSize counters were seen.
type window struct {
	next uint64 // all counters from here on are new
	seen [windowSize / 64]uint64
}

// accept records counter and reports whether it is neither too old nor seen.
func (w *window) accept(counter uint64) bool {
	if counter >= retired {
		return false
	}
	if counter >= w.next {
		w.forget(counter + 1 - w.next)
		w.next = counter + 1
	} else if w.next-counter > windowSize {
		return false
	}
	word, bit := counter%windowSize/64, uint64(1)<<(counter%64)
	if w.seen[word]&bit != 0 {
		return false
	}
	w.seen[word] |= bit
	return true
}

// forget makes room for the n counters that follow the newest one.
func (w *window) forget(n uint64) {
	if n >= windowSize {
		clear(w.seen[:])
		return
	}
	for c := w.next; c < w.next+n; c++ {
		w.seen[c%windowSize/64] &^= 1 << (c % 64)
	}
}
