package tray

import (
	"slices"
	"time"
)

// root is the number of the menu itself.
const root int32 = 0

// lateClick is how long after an item was taken away a click on it still
// counts: that of a user whose finger was already on its way.
const lateClick = 5 * time.Second

// A tree is a menu whose items have numbers. Numbers are given once and never
// used for another item. It is not safe for concurrent use.
type tree struct {
	kids  []*entry
	known map[int32]*entry
	last  int32 // the latest number given
}

// An entry is an item in a tree; item.Items is not used.
type entry struct {
	id     int32
	parent int32
	item   Item
	kids   []*entry
	gone   time.Time // when it was taken away; zero: it is there
}

// A difference is what hosts have to be told.
type difference struct {
	changed []*entry // whose own properties changed
	parents []int32  // whose list of children changed; root for the menu itself
}

// update makes the tree show items.
func (t *tree) update(items []Item, now time.Time) difference {
	if t.known == nil {
		t.known = map[int32]*entry{}
	}
	var d difference
	t.kids = t.merge(root, t.kids, items, now, &d)
	for id, e := range t.known {
		if !e.gone.IsZero() && now.Sub(e.gone) > lateClick {
			delete(t.known, id)
		}
	}
	return d
}

// merge returns the children that parent shall have, reusing those it had.
func (t *tree) merge(parent int32, old []*entry, items []Item, now time.Time, d *difference) []*entry {
	kids := make([]*entry, 0, len(items))
	find := finder(old)
	same := len(old) == len(items)
	for i := range items {
		item := &items[i]
		e := find(i, item.Key)
		if e == nil || form(e.item.Kind) != form(item.Kind) {
			same = false
			kids = append(kids, t.add(parent, item))
			continue
		}
		same = same && old[i] == e
		before := e.item
		e.item = *item
		e.item.Items = nil
		if !alike(&before, &e.item) {
			d.changed = append(d.changed, e)
		}
		e.kids = t.merge(e.id, e.kids, item.Items, now, d)
		kids = append(kids, e)
	}
	if same {
		return old
	}
	for _, e := range old {
		if !slices.Contains(kids, e) {
			e.leave(now)
		}
	}
	d.parents = append(d.parents, parent)
	return kids
}

// finder looks entries up by key; most are where they were.
func finder(old []*entry) func(at int, key string) *entry {
	var index map[string]*entry
	return func(at int, key string) *entry {
		if at < len(old) && old[at].item.Key == key {
			return old[at]
		}
		if index == nil {
			index = make(map[string]*entry, len(old))
			for _, e := range old {
				index[e.item.Key] = e
			}
		}
		return index[key]
	}
}

func (t *tree) add(parent int32, item *Item) *entry {
	t.last++
	e := &entry{id: t.last, parent: parent, item: *item}
	e.item.Items = nil
	t.known[e.id] = e
	for i := range item.Items {
		e.kids = append(e.kids, t.add(e.id, &item.Items[i]))
	}
	return e
}

// leave notes that an entry and what is below it is shown no more.
func (e *entry) leave(now time.Time) {
	e.gone = now
	for _, k := range e.kids {
		k.leave(now)
	}
}

// form is what panels look at when an item comes, and then no more: an item
// that gets another one is another item. Text is an action that is grey.
func form(k Kind) Kind {
	if k == Text {
		return Action
	}
	return k
}

// alike reports whether two items look the same; their commands may differ.
func alike(a, b *Item) bool {
	return a.Kind == b.Kind && a.Title == b.Title && a.On == b.On && a.Picture == b.Picture
}

// command is what a click on an item means; nil for items that are not there
// for clicking.
func (t *tree) command(id int32) any {
	e := t.known[id]
	if e == nil || e.item.Kind != Action && e.item.Kind != Check {
		return nil
	}
	return e.item.Command
}
