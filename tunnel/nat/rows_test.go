package nat

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"unsafe"

	"stile/tunnel/packet"
)

// A session is three lines of the cache, a chunk a whole number of pages.
func TestSizeOfASession(t *testing.T) {
	if size := unsafe.Sizeof(Session{}); size != 192 {
		t.Errorf("%d bytes", size)
	}
	if at := unsafe.Offsetof(Session{}.sent); at != 64 {
		t.Errorf("the first line has %d bytes", at)
	}
	if at := unsafe.Offsetof(Session{}.links); at != 128 {
		t.Errorf("the second line ends at %d", at)
	}
}

// The garbage collector does not look into the memory of rows and indexes.
func TestNoPointersInRows(t *testing.T) {
	var look func(path string, typ reflect.Type)
	look = func(path string, typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Struct:
			for i := range typ.NumField() {
				look(path+"."+typ.Field(i).Name, typ.Field(i).Type)
			}
		case reflect.Array:
			look(path, typ.Elem())
		case reflect.Bool, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Int64:
		default:
			t.Errorf("%s is a %v", path, typ)
		}
	}
	look("Session", reflect.TypeFor[Session]())
	look("entry", reflect.TypeFor[entry]())
}

// sound checks what must be true of a table's structure at any time.
func sound(t *Table) error {
	rows, proxied := 0, 0
	var classes [numClasses]int
	for s := range t.rows.all {
		rows++
		classes[s.class]++
		if s.proxy != 0 {
			proxied++
		}
		if inside, outside := s.inside, s.outside(); t.byInside(inside) != s || t.byOutside(outside) != s {
			return fmt.Errorf("%+v cannot be found by its keys", s)
		}
		if s.class != s.classify() {
			return fmt.Errorf("%+v is not of class %d", s, s.class)
		}
	}
	if rows != t.inside.n || rows != t.outside.n {
		return fmt.Errorf("%d rows, %d inside and %d outside keys", rows, t.inside.n, t.outside.n)
	}
	listed := 0
	for c := range t.evictable {
		prev := ref(0)
		for next := t.evictable[c].front; next != 0; listed++ {
			s := t.rows.at(next)
			switch {
			case s.self != next || s.links[byClass].prev != prev || int(s.class) != c || s.marks&evictable == 0:
				return fmt.Errorf("%+v is in the list of class %d", s, c)
			case prev != 0 && t.rows.at(prev).base() < s.base():
				return fmt.Errorf("%+v is out of order", s)
			}
			prev, next = next, s.links[byClass].next
		}
		if prev != t.evictable[c].back {
			return fmt.Errorf("class %d ends elsewhere", c)
		}
	}
	opening, prev := 0, ref(0)
	for next := t.opening.front; next != 0; opening++ {
		s := t.rows.at(next)
		if s.self != next || s.links[byOpening].prev != prev || s.class != classOpening {
			return fmt.Errorf("%+v is among those that shake hands", s)
		}
		prev, next = next, s.links[byOpening].next
	}
	if prev != t.opening.back || opening != classes[classOpening] {
		return fmt.Errorf("%d shake hands, %d are listed", classes[classOpening], opening)
	}
	turning, err := t.wheel.sound(&t.rows)
	if err != nil {
		return err
	}
	if rows != listed+turning {
		return fmt.Errorf("%d rows, %d evictable, %d in the wheel", rows, listed, turning)
	}
	seen := map[ref]bool{}
	for _, b := range t.bindings {
		if t.bound[b.slot-1] != b {
			return fmt.Errorf("%v is not in its slot", b.addr)
		}
		t.sessions(b, func(s *Session) bool {
			seen[s.self] = t.bindingOf(s) == b
			return true
		})
		for _, p := range b.pins {
			t.each(&p.warm, func(s *Session) bool {
				seen[s.self] = seen[s.self] && s.marks&warm != 0 && s.marks&resting == 0 && s.goesTo() == p.addr
				return true
			})
		}
		t.each(&b.idle, func(s *Session) bool {
			seen[s.self] = seen[s.self] && s.marks&warm == 0
			return true
		})
	}
	for r, ok := range seen {
		if !ok {
			return fmt.Errorf("%+v is in a wrong list of its binding", t.rows.at(r))
		}
	}
	if proxied != len(seen) {
		return fmt.Errorf("%d of %d sessions are in the lists of bindings", len(seen), proxied)
	}
	return nil
}

// The index beside a map, with hashes that collide.
func TestIndexAgainstMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		var x index
		want := map[ref]uint32{}
		spread := 1 + rng.Uint32N(100)
		for range 500 {
			switch r := 1 + ref(rng.IntN(60)); {
			case want[r] != 0:
				x.remove(want[r], r)
				delete(want, r)
			default:
				want[r] = 1 + rng.Uint32N(spread)
				x.add(want[r], r, ordinary{})
			}
			check(t, &x, want)
		}
	}
}

// check looks every session up the way a Table does.
func check(t *testing.T, x *index, want map[ref]uint32) {
	t.Helper()
	if x.n != len(want) {
		t.Fatalf("%d entries, want %d", x.n, len(want))
	}
	for r, hash := range want {
		mask := uint32(len(x.entries) - 1)
		i := hash & mask
		for x.entries[i].ref != r {
			if x.entries[i].ref == 0 {
				t.Fatalf("%d is out of reach", r)
			}
			i = (i + 1) & mask
		}
	}
}

// Ports and addresses that differ little must not crowd the index.
func TestHashSpreads(t *testing.T) {
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 1))
		h := hasher{rng.Uint64(), rng.Uint64()}
		var buckets [1 << 14]int
		k := keyTo(packet.Addr16Of(p4(foo, 0)), packet.TCP, false)
		for n := range len(buckets) {
			k = k.with(uint16(1024+n), 443)
			buckets[h.hash(k)%uint32(len(buckets))]++
		}
		worst := slices.MaxFunc(buckets[:], cmp.Compare[int])
		empty := 0
		for _, n := range buckets {
			if n == 0 {
				empty++
			}
		}
		if worst > 12 || empty > len(buckets)*2/5 { // of a random function: 7 or 8, and 37 %
			t.Errorf("secret %d: %d in one bucket, %d of %d empty", seed, worst, empty, len(buckets))
		}
	}
}

// Each row has a place of its own, chunks follow each other without a gap, and a
// quarter of the room is free at most.
func TestChunks(t *testing.T) {
	n := ref(0)
	for chunk := range 40 {
		size := sizeOf(chunk)
		if n >= perDoubling*firstChunk && size > int(n)/perDoubling {
			t.Errorf("chunk %d has %d rows behind %d", chunk, size, n)
		}
		for at := range size {
			if c, a := chunkOf(n); c != chunk || a != at {
				t.Fatalf("row %d is at %d in chunk %d, want %d in %d", n, a, c, at, chunk)
			}
			n++
		}
	}
	if n < maxSessions {
		t.Errorf("only %d rows", n)
	}
}
