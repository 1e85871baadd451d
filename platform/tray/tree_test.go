package tray

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

func action(key, title string) Item {
	return Item{Key: key, Kind: Action, Title: title, Command: key + "!"}
}

func sub(key string, items ...Item) Item {
	return Item{Key: key, Kind: Sub, Title: key, Items: items}
}

var start = time.Unix(1e9, 0)

func TestNothingIsToldWhenNothingChanged(t *testing.T) {
	var tr tree
	items := func() []Item { return []Item{action("a", "A"), sub("s", action("b", "B"))} }
	if d := tr.update(items(), start); !reflect.DeepEqual(d.parents, []int32{root}) || d.changed != nil {
		t.Error(d)
	}
	if d := tr.update(items(), start); d.parents != nil || d.changed != nil {
		t.Error(d)
	}
}

func TestAChangedTitleIsTheItemsBusinessAlone(t *testing.T) {
	var tr tree
	tr.update([]Item{action("a", "A"), sub("s", action("b", "B"))}, start)
	d := tr.update([]Item{action("a", "A"), sub("s", action("b", "C"))}, start)
	if d.parents != nil || len(d.changed) != 1 || d.changed[0].item.Title != "C" {
		t.Error(d)
	}
}

func TestALateClickReachesWhatWasClicked(t *testing.T) {
	var tr tree
	tr.update([]Item{action("a", "A"), sub("s", action("b", "B"), Item{Key: "grey", Title: "x", Command: "never"})}, start)
	a, s := tr.kids[0].id, tr.kids[1]
	b, grey := s.kids[0].id, s.kids[1].id
	d := tr.update([]Item{action("a", "A")}, start)
	if !reflect.DeepEqual(d.parents, []int32{root}) {
		t.Error(d)
	}
	if got := []any{tr.command(a), tr.command(b), tr.command(grey), tr.command(s.id), tr.command(99)}; !reflect.DeepEqual(got, []any{"a!", "b!", nil, nil, nil}) {
		t.Error(got)
	}
	tr.update([]Item{action("a", "A")}, start.Add(2*lateClick))
	if tr.command(b) != nil || len(tr.known) != 1 {
		t.Error("what is long gone is remembered")
	}
	tr.update([]Item{action("a", "A"), sub("s", action("b", "B"))}, start)
	if tr.kids[1].kids[0].id == b {
		t.Error("a number was given twice")
	}
}

// A host that applies differences shows what it was to show.
func TestDifferencesAreEnough(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var tr tree
		h := host{root: {}}
		for range 20 {
			items := anyItems(rng, 3)
			d := tr.update(items, start)
			h.apply(&tr, d)
			if got, want := h.draw(root), written(items); got != want {
				t.Fatalf("seed %d: the host shows\n%s\nnot\n%s", seed, got, want)
			}
			ids := map[int32]bool{}
			for id := range h {
				ids[id] = true
			}
			for id := range ids {
				if e := tr.known[id]; id != root && (e == nil || e.id != id) {
					t.Fatalf("seed %d: %d is shown, but not known", seed, id)
				}
			}
		}
	}
}

// A host knows of each item how it looks, and its children.
type host map[int32]*shown

type shown struct {
	look string
	kids []int32
}

func look(i Item) string { return fmt.Sprint(i.Key, i.Kind, i.Title, i.On, i.Picture) }

func (h host) apply(tr *tree, d difference) {
	for _, e := range d.changed {
		h[e.id].look = look(e.item)
	}
	for _, p := range d.parents {
		kids := tr.kids
		if p != root {
			kids = tr.known[p].kids
		}
		h.fetch(p, kids)
	}
}

// fetch is GetLayout: of items that are known, only the children count.
func (h host) fetch(id int32, kids []*entry) {
	if h[id] == nil {
		h[id] = &shown{}
	}
	h[id].kids = nil
	for _, k := range kids {
		h[id].kids = append(h[id].kids, k.id)
		if h[k.id] == nil {
			h[k.id] = &shown{look: look(k.item)}
			h.fetch(k.id, k.kids)
		}
	}
}

func (h host) draw(id int32) string {
	s := "("
	for _, k := range h[id].kids {
		s += h[k].look + h.draw(k)
	}
	return s + ")"
}

func written(items []Item) string {
	s := "("
	for _, i := range items {
		s += look(i) + written(i.Items)
	}
	return s + ")"
}

func anyItems(rng *rand.Rand, depth int) []Item {
	if depth == 0 {
		return nil
	}
	var items []Item
	for _, key := range rng.Perm(6)[:rng.IntN(6)] {
		i := Item{Key: fmt.Sprint("k", key), Kind: Kind(rng.IntN(5)), Title: fmt.Sprint("t", rng.IntN(2)), On: rng.IntN(2) == 0}
		if i.Kind == Sub {
			i.Items = anyItems(rng, depth-1)
		}
		items = append(items, i)
	}
	if rng.IntN(2) == 0 {
		slices.SortFunc(items, func(a, b Item) int { return int(a.Key[1]) - int(b.Key[1]) })
	}
	return items
}

// Panels learn of an item's form when it comes, and no more.
func TestAnItemOfAnotherFormIsAnotherItem(t *testing.T) {
	var tr tree
	item := Item{Key: "k", Title: "T"}
	number := func(k Kind) int32 {
		item.Kind = k
		tr.update([]Item{item}, start)
		return tr.kids[0].id
	}
	before := number(Action)
	if got := number(Text); got != before {
		t.Errorf("%d, not %d, for an action that is grey", got, before)
	}
	for _, k := range []Kind{Sub, Check, Separator, Action} {
		if got := number(k); got == before {
			t.Errorf("still %d as %v", got, k)
		} else {
			before = got
		}
	}
}
