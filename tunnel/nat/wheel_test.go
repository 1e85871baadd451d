package nat

import (
	"fmt"
)

// sound checks the wheel's structure and returns how many sessions are in it.
func (w *wheel) sound(r *rows) (n int, err error) {
	if w == nil {
		return 0, nil
	}
	for bucket, next := range w.first {
		level, slot := bucket>>levelBits, uint64(bucket%wheelSlots)
		if (next != 0) != (w.occupied[level]>>slot&1 != 0) {
			return n, fmt.Errorf("bucket %d of level %d is marked wrongly", slot, level)
		}
		// When the bucket's turn is: not before the wheel's tick, but for one that has begun.
		shift := level * levelBits
		ahead := (slot - w.tick>>shift) % wheelSlots
		begins := (w.tick>>shift + ahead) << shift
		if level < wheelLevels-1 && next != 0 && begins>>(shift+levelBits) != w.tick>>(shift+levelBits) {
			return n, fmt.Errorf("bucket %d of level %d has been left behind at tick %d", slot, level, w.tick)
		}
		for prev := bucketMark | ref(bucket); next != 0; n++ {
			s := r.at(next)
			if s.self != next || s.links[byClass].prev != prev || s.marks&evictable != 0 || evictAfter[s.class] == 0 {
				return n, fmt.Errorf("%+v is in bucket %d of level %d", s, slot, level)
			}
			if ripe := s.ripe(); tickOf(ripe) < begins && begins > w.tick || ripe < w.quiet {
				return n, fmt.Errorf("%+v will come up too late: bucket %d of level %d, wheel at tick %d, quiet until %d", s, slot, level, w.tick, w.quiet)
			}
			prev, next = next, s.links[byClass].next
		}
	}
	return n, nil
}
