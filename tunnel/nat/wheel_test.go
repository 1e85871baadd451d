package nat

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"stile/tunnel/id"
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
		shift := level * levelBits
		begins := (w.tick>>shift + (slot-w.tick>>shift)%wheelSlots) << shift // or it has begun
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

// The wheel beside a look at all sessions: whenever it was turned, those that are
// ripe are evictable, in their order, and no others. Sessions have packets
// meanwhile, and end; those that are there before it is turned have had their last
// packet at times long past, as restored ones; the wheel stands still for longer
// than it reaches, or does only a part of its work.
func TestWheelAgainstList(t *testing.T) {
	for seed := range simSeeds(60) {
		rng := rand.New(rand.NewPCG(seed, 3))
		w := newWorld(t)
		at, worked, partly := instant(rng.Int64N(int64(24*time.Hour))), 0, 0
		w.nowAt = at
		var live []*Session
		turned := false
		base := func() instant {
			if turned {
				return at
			}
			return at - []instant{0, instant(rng.IntN(3) * int(time.Millisecond)), instant(rng.Int64N(int64(26 * time.Hour)))}[rng.IntN(3)]
		}
		for step := range 400 {
			switch n := rng.IntN(10); {
			case n < 5 || len(live) == 0:
				s := w.rows.add(&Session{any: base(), class: []class{classHalf, classOpen, classUDP, classOther}[rng.IntN(4)]}, ordinary{})
				w.await(s)
				live = append(live, s)
			case n < 8: // a packet
				s := live[rng.IntN(len(live))]
				if s.any = at; s.marks&evictable != 0 {
					w.refresh(s)
				}
			default:
				i := rng.IntN(len(live))
				w.leave(live[i])
				w.rows.remove(live[i])
				live[i] = live[len(live)-1]
				live = live[:len(live)-1]
			}
			most := []time.Duration{0, 1, time.Microsecond, time.Millisecond, time.Second, time.Minute, time.Hour, 5 * time.Hour, 30 * time.Hour}[rng.IntN(6+rng.IntN(4))]
			at += instant(rng.Int64N(int64(most) + 1))
			if len(live) > 0 && rng.IntN(4) == 0 { // to an instant that matters
				at = max(at, live[rng.IntN(len(live))].ripe()-instant(rng.IntN(2)))
			}
			w.nowAt = at
			if rng.IntN(3) == 0 || step < 40 {
				continue
			}
			turned = true
			if limit := 1 + rng.IntN(3); rng.IntN(3) == 0 && w.ripen(at, limit) >= limit {
				partly++
			} else {
				worked += w.ripen(at, all)
				for _, s := range live {
					if ripe := s.ripe() <= at; ripe != (s.marks&evictable != 0) {
						t.Fatalf("seed %d, step %d: at %v, ripe at %v: evictable: %v", seed, step, time.Duration(at), time.Duration(s.ripe()), !ripe)
					}
				}
				w.ripen(at, all)
			}
			listed := 0
			for c := range w.evictable {
				before := instant(0)
				w.each(&w.evictable[c], func(s *Session) bool {
					if listed++; before != 0 && s.base() > before {
						t.Fatalf("seed %d: %+v is out of order", seed, s)
					}
					before = s.base()
					return true
				})
			}
			turning, err := w.wheel.sound(&w.rows)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if listed+turning != len(live) {
				t.Fatalf("seed %d: %d evictable, %d in the wheel, %d in all", seed, listed, turning, len(live))
			}
		}
		if worked == 0 || partly == 0 {
			t.Errorf("seed %d: %d looked at, %d times in part", seed, worked, partly)
		}
	}
}

// Packets move no session in the wheel, and each is looked at a few times in the
// time after which it may go, however many packets it has.
func TestN34PacketsMoveNothing(t *testing.T) {
	w := newWorld(t)
	w.pace = unpaced
	w.announce("foo", foo, addrA)
	const many, minutes = 1000, 30
	for n := range uint16(many) {
		w.goes(udp(client4, p4(foo, 0), 1024+n, 53), addrA)
		w.comes(udp(addrA, client4, 53, 1024+n), p4(foo, 0))
	}
	looked := 0
	for second := range minutes * 60 {
		w.at(time.Duration(second) * time.Second)
		for n := uint16(second % 10); n < many; n += 10 {
			s := w.byInside(w.keyOf(udp(client4, p4(foo, 0), 1024+n, 53)))
			before := s.links
			w.goes(udp(client4, p4(foo, 0), 1024+n, 53), addrA)
			if s.links[byClass] != before[byClass] {
				t.Fatal("a packet moved its session")
			}
		}
		looked += w.ripen(w.Table.at(w.now), all)
	}
	if perMinute := float64(looked) / many / minutes; perMinute > 4 || looked == 0 {
		t.Errorf("each session was looked at %.1f times a minute", perMinute)
	}
}

func (w *world) keyOf(b []byte) key {
	k, _, _ := w.outboundKey(parse(w, b))
	return k
}

// A wheel that was empty for a month is no more work than one that was not: each
// session is looked at as often.
func TestN51AWheelThatStoodStill(t *testing.T) {
	for _, days := range []int{0, 1, 30} {
		w := newWorld(t)
		w.pace = unpaced
		w.announce("foo", foo, addrA)
		udpOf := func(port uint16) {
			w.goes(udp(client4, p4(foo, 0), port, 53), addrA)
			w.comes(udp(addrA, client4, 53, port), p4(foo, 0))
		}
		udpOf(1024)
		for minute := range days * 24 * 60 {
			w.at(time.Duration(minute) * time.Minute)
			w.goes(echo(client4, p4(foo, 0), 7, true), addrA) // keeps the table from being empty
			w.Sweep(nobody, all, w.now)
		}
		const many = 1000
		for n := range uint16(many) {
			udpOf(2000 + n)
		}
		w.now = w.now.Add(holdFor)
		if looked := w.ripen(w.Table.at(w.now), all); looked < many || looked > 4*many {
			t.Errorf("after %d days %d sessions are looked at %d times", days, many, looked)
		}
	}
}

// The last level of the wheel reaches beyond everything that is filed there.
func TestWheelReaches(t *testing.T) {
	for c, after := range evictAfter {
		if tickOf(instant(after)) >= maxAhead {
			t.Errorf("class %d waits longer than the wheel reaches", c)
		}
		if after > lifetimes[c] {
			t.Errorf("sessions of class %d end before they are evictable", c)
		}
	}
}

// Sessions that will be evictable one after the other, swept in steps: each step
// looks at as many as it may, and it ends.
func TestSweepInSteps(t *testing.T) {
	w := newWorld(t)
	w.pace = unpaced
	w.announce("foo", foo, addrA)
	const many = 1000
	for n := range uint16(many) {
		w.at(time.Duration(n) * time.Millisecond)
		w.handshake(1024+n, p4(foo, 0), addrA)
	}
	w.at(tcpHalf + time.Hour)
	steps := 0
	for {
		steps++
		seen := w.Sweep(func(id.Resource) bool { return true }, 50, w.now)
		if seen > 50+1 { // what is ripe within one tick is looked at as a whole
			t.Fatalf("%d at a time", seen)
		}
		if seen < 50 {
			break
		}
	}
	if back := w.evictable[classOpen].back; back == 0 || w.Len() != many || steps < many/50/looksForOne || steps > 5*many/50/looksForOne {
		t.Errorf("%d steps, %d sessions, oldest %d", steps, w.Len(), back)
	}
}
