package fragment

import "stile/tunnel/packet"

// maxRuns is how many gaps a datagram may have at a time, and one. The largest,
// in the worst order, has 27 runs if its fragments are as long as the tunnel's
// packets allow.
const maxRuns = 32

// runs are the parts of a datagram that have come: sorted, with gaps between
// them.
type runs struct {
	n  int
	at [maxRuns]run
}

type run struct{ from, to uint16 } // bytes; without to

// A relation tells how a fragment stands to those that came before it.
type relation uint8

const (
	fresh     relation = iota // it is the first with any of its bytes
	duplicate                 // all its bytes have come
	clash                     // some have, or there are too many gaps
)

// add notes bytes if they are fresh. Mostly they follow the last run.
func (r *runs) add(from, to uint16) relation {
	i := r.n // the run behind
	for i > 0 && r.at[i-1].from > from {
		i--
	}
	before, behind := false, false // the runs that are lengthened
	if i > 0 {
		switch last := r.at[i-1]; {
		case to <= last.to:
			return duplicate
		case from < last.to:
			return clash
		default:
			before = from == last.to
		}
	}
	if i < r.n {
		if to > r.at[i].from {
			return clash
		}
		behind = to == r.at[i].from
	}
	switch {
	case before && behind:
		r.at[i-1].to = r.at[i].to
		copy(r.at[i:], r.at[i+1:r.n])
		r.n--
	case before:
		r.at[i-1].to = to
	case behind:
		r.at[i].from = from
	case r.n == maxRuns:
		return clash
	default:
		copy(r.at[i+1:], r.at[i:r.n])
		r.at[i] = run{from, to}
		r.n++
	}
	return fresh
}

// accept notes a fragment and reports whether it may follow the first one.
// Duplicates may not; those that contradict others spoil the datagram.
func (d *datagram[V]) accept(f packet.Fragment) bool {
	from, to := int(f.Offset), int(f.Offset)+int(f.Len)
	switch {
	case d.spoiled:
		return false
	case d.end != 0 && to > d.end, !f.More && (d.end != 0 && to != d.end || d.got.n > 0 && to < int(d.got.at[d.got.n-1].to)):
		d.spoiled = true
		return false
	}
	how := d.got.add(uint16(from), uint16(to))
	d.spoiled = how == clash
	if !f.More && how != clash {
		d.end = to
	}
	return how == fresh
}

// complete reports whether all fragments have come.
func (d *datagram[V]) complete() bool {
	return d.end != 0 && d.got.n == 1 && !d.spoiled && d.got.at[0] == run{0, uint16(d.end)}
}
