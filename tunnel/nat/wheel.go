package nat

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"time"
)

// evictAfter is how long a session of a class must be idle before it may have to
// make room for another (N47). Classes with zero may go at any time.
var evictAfter = [numClasses]time.Duration{
	classHalf:  holdFor,
	classOpen:  tcpHalf,
	classUDP:   holdFor,
	classOther: holdFor,
}

// ripe is when the session becomes evictable, unless another packet comes.
func (s *Session) ripe() instant { return s.base() + instant(evictAfter[s.class]) }

// A wheel holds the sessions that are not evictable, by the time at which they
// will be: a hierarchical timing wheel (Varghese and Lauck, 1987). A packet does
// not move its session there; that is found out when its bucket comes up. So a busy
// session is looked at about once in the time after which its class is evictable,
// however many packets it has, and one that falls silent once a level.
//
// Time is cut into ticks of about a millisecond. A bucket of level 0 is one tick,
// one of each further level as long as all of the level below, which its sessions
// move on to when it begins.
type wheel struct {
	tick     uint64              // where it stands: what lies before has been handed out
	quiet    instant             // no session is ripe before; empty if none was ever there, or all were found ripe
	occupied [wheelLevels]uint64 // which buckets are not empty, a bit each
	first    [wheelLevels * wheelSlots]ref
}

const (
	tickBits    = 20 // of a nanosecond
	levelBits   = 6
	wheelSlots  = 1 << levelBits
	wheelLevels = 4

	// The last level goes round, so it must never be full: 4.7 hours.
	maxAhead = (wheelSlots - 2) << (levelBits * (wheelLevels - 1))

	// first in its bucket, whose number stands in the place of the session before
	bucketMark ref = 1 << 31
)

// empty is later than anything.
const empty = instant(math.MaxInt64)

func tickOf(at instant) uint64 { return uint64(max(0, at)) >> tickBits }

// bucketAt returns where what is to be done in a tick belongs. Whatever is late
// comes first; what is too far ahead comes up early.
func (w *wheel) bucketAt(tick uint64) int {
	tick = min(max(tick, w.tick), w.tick+maxAhead)
	level := 0
	if apart := tick ^ w.tick; apart != 0 {
		level = min((bits.Len64(apart)-1)/levelBits, wheelLevels-1)
	}
	return level<<levelBits | int(tick>>(level*levelBits)%wheelSlots)
}

// next returns the first bucket that is not empty and the tick at which it
// begins; ok is false if there is none.
func (w *wheel) next() (bucket int, tick uint64, ok bool) {
	for level := wheelLevels - 1; level > 0; level-- { // one that has begun and was not finished
		if slot := int(w.tick >> (level * levelBits) % wheelSlots); w.occupied[level]>>slot&1 != 0 {
			return level<<levelBits | slot, w.tick, true
		}
	}
	for level, occupied := range w.occupied {
		shift := level * levelBits
		here := w.tick >> shift
		if ahead := bits.RotateLeft64(occupied, -int(here%wheelSlots)); ahead != 0 {
			there := here + uint64(bits.TrailingZeros64(ahead))
			return level<<levelBits | int(there%wheelSlots), max(w.tick, there<<shift), true
		}
	}
	return 0, 0, false
}

func (w *wheel) add(r *rows, bucket int, s *Session) {
	first := w.first[bucket]
	s.links[byClass] = links{prev: bucketMark | ref(bucket), next: first}
	if first != 0 {
		r.at(first).links[byClass].prev = s.self
	}
	w.first[bucket] = s.self
	w.occupied[bucket>>levelBits] |= 1 << (bucket % wheelSlots)
}

func (w *wheel) remove(r *rows, s *Session) {
	at := s.links[byClass]
	if at.next != 0 {
		r.at(at.next).links[byClass].prev = at.prev
	}
	if at.prev&bucketMark == 0 {
		r.at(at.prev).links[byClass].next = at.next
	} else {
		bucket := at.prev &^ bucketMark
		if w.first[bucket] = at.next; at.next == 0 {
			w.occupied[bucket>>levelBits] &^= 1 << (bucket % wheelSlots)
		}
	}
	s.links[byClass] = links{}
}

// await puts a session into the wheel. Its last packet is not older than those of
// its class that are evictable already: it has just come, or nothing has ripened
// yet in a table that was restored.
func (t *Table) await(s *Session) {
	if t.wheel == nil {
		t.wheel = new(wheel)
		t.wheel.quiet = empty
	}
	w := t.wheel
	if w.quiet == empty || w.occupied == [wheelLevels]uint64{} { // it may have stood still for long
		w.tick = max(w.tick, tickOf(t.nowAt))
	}
	ripe := s.ripe()
	w.quiet = min(w.quiet, ripe)
	w.add(&t.rows, w.bucketAt(tickOf(ripe)), s)
}

// ripen has sessions become evictable whose time has come, or at most about
// limit of them, and returns how many it looked at. The longest idle is at the
// back of the list of its class.
func (t *Table) ripen(at instant, limit int) (n int) {
	w := t.wheel
	if w == nil || at < w.quiet {
		return 0
	}
	now := tickOf(at)
	for n < limit {
		bucket, tick, ok := w.next()
		if !ok || tick > now {
			w.tick = max(w.tick, now)
			w.quiet = empty
			if ok {
				w.quiet = instant(tick << tickBits)
			}
			return n
		}
		w.tick = tick
		if bucket >= wheelSlots {
			n += t.refine(bucket, limit-n)
			continue
		}
		done, rest := t.pick(bucket, at)
		n += done
		if w.first[bucket] != 0 {
			w.quiet = rest
			return n
		}
	}
	return n
}

// refine moves at most limit sessions of a bucket to where they belong now.
func (t *Table) refine(bucket, limit int) (n int) {
	w := t.wheel
	for ; n < limit && w.first[bucket] != 0; n++ {
		s := t.rows.at(w.first[bucket])
		if next := s.links[byClass].next; next != 0 {
			t.rows.prefetch(next)
		}
		w.remove(&t.rows, s)
		t.await(s)
	}
	return n
}

// pick has those sessions of the wheel's current tick become evictable that are
// ripe. The others stay if they will be within this tick, the first of them at
// rest. It returns how many it looked at.
func (t *Table) pick(bucket int, at instant) (n int, rest instant) {
	type due struct {
		ripe instant
		ref  ref
	}
	var some [32]due
	ripe := some[:0]
	w := t.wheel
	rest = empty
	for next := w.first[bucket]; next != 0; n++ {
		s := t.rows.at(next)
		if next = s.links[byClass].next; next != 0 {
			t.rows.prefetch(next)
		}
		switch when := s.ripe(); {
		case tickOf(when) > w.tick: // others may be ripe before
			w.remove(&t.rows, s)
			t.await(s)
		case when <= at:
			w.remove(&t.rows, s)
			ripe = append(ripe, due{when, s.self})
		default:
			rest = min(rest, when)
		}
	}
	slices.SortFunc(ripe, func(a, b due) int {
		if a.ripe != b.ripe {
			return cmp.Compare(a.ripe, b.ripe)
		}
		return t.rows.at(a.ref).inside.compare(t.rows.at(b.ref).inside) // of one batch; places depend on sweeps (N12)
	})
	for _, p := range ripe {
		t.offer(t.rows.at(p.ref))
	}
	return n, rest
}

// offer has a session be evictable, which is in no list of its class.
func (t *Table) offer(s *Session) {
	s.marks |= evictable
	t.evictable[s.class].pushFront(&t.rows, s)
}
