package tray

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"stile/build/need"
	"stile/platform/tray/traytest"
)

// stage is a desktop with our icon on it.
type stage struct {
	*Tray
	panel  *traytest.Panel
	notes  *traytest.Notes
	clicks chan any
	hosted chan bool
	end    func() error
}

func raise(t *testing.T, panel bool) *stage {
	t.Helper()
	return raiseWith(t, panel)
}

// raiseWith lets the program have some notes before it runs.
func raiseWith(t *testing.T, panel bool, early ...Note) *stage {
	t.Helper()
	bus, err := traytest.Bus(t)
	if err != nil {
		need.Otherwise(t, "%v; install dbus", err)
	}
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", bus)
	t.Setenv("XDG_CURRENT_DESKTOP", "")
	s := &stage{clicks: make(chan any, 100), hosted: make(chan bool, 10)}
	s.panel, s.notes = traytest.NewPanel(t, bus), traytest.NewNotes(t, bus)
	if panel {
		s.panel.Appear(true)
	}
	s.Tray, err = New(Config{
		ID: "stile", Title: "Stile",
		Click:    func(c any) { s.clicks <- c },
		Activate: func() { s.clicks <- "activated" },
		Hosted:   func(h bool) { s.hosted <- h },
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range early {
		s.Notify(n)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	s.end = func() error { cancel(); return <-ended }
	t.Cleanup(func() { cancel() })
	return s
}

func next[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(traytest.Patience):
		t.Fatal("nothing happened")
		panic("")
	}
}

func aPicture(side int, c color.Color) string {
	p := image.NewNRGBA(image.Rect(0, 0, side, side))
	p.Set(0, 0, c)
	var b bytes.Buffer
	if err := png.Encode(&b, p); err != nil {
		panic(err)
	}
	return b.String()
}

func TestThePanelShowsWhatItWasGiven(t *testing.T) {
	s := raise(t, true)
	s.Show(Look{Icon: []string{aPicture(2, color.NRGBA{1, 2, 3, 4})}, Tooltip: "Tip", Items: []Item{
		{Key: "text", Title: "grey & _literal_"},
		action("a", "A_b__c"),
		{Key: "check", Kind: Check, Title: "On", On: true, Command: "check!"},
		{Key: "line", Kind: Separator},
		sub("sub", Item{Key: "deep", Kind: Action, Title: "Deep", Picture: aPicture(1, color.Black), Command: "deep!"}),
	}})
	if !next(t, s.hosted) {
		t.Error("not hosted")
	}
	s.panel.Until("the menu is there", func(m traytest.Menu) bool { return m.Has("sub", "Deep") })
	if got, want := s.panel.Menu().String(), "▫ grey & _literal_\nA_b__c\n[x] On\n--\nsub\n  ● Deep\n"; got != want {
		t.Errorf("%s\nnot\n%s", got, want)
	}
	s.panel.Check()
	for name, want := range map[string]any{"Id": "stile", "Title": "Stile", "Status": "Active", "ItemIsMenu": true} {
		if got := s.panel.Property(name).Value(); got != want {
			t.Errorf("%s is %v, not %v", name, got, want)
		}
	}
	if got := fmt.Sprint(s.panel.Property("ToolTip").Value()); !strings.Contains(got, "Tip") {
		t.Error(got)
	}
	if got := fmt.Sprint(s.panel.Property("IconPixmap").Value()); !strings.Contains(got, "[2 2 [4 1 2 3 0 0 0 0 0 0 0 0 0 0 0 0]]") {
		t.Error(got)
	}
	s.panel.Click("A_b__c")
	s.panel.Click("On")
	s.panel.Click("sub", "Deep")
	s.panel.Click("grey & _literal_") // does nothing
	if err := s.panel.Send(999, "clicked"); err == nil {
		t.Error("an item that is not there was clicked")
	}
	if err := s.panel.Activate(); err != nil {
		t.Error(err)
	}
	for _, want := range []any{"a!", "check!", "deep!", "activated"} {
		if got := next(t, s.clicks); got != want {
			t.Errorf("%v, not %v", got, want)
		}
	}
	if err := s.end(); err != nil {
		t.Error(err)
	}
}

func TestOnlyWhatChangedIsTold(t *testing.T) {
	s := raise(t, true)
	l := Look{Icon: []string{aPicture(1, color.Black)}, Tooltip: "Tip", Items: []Item{action("a", "A"), sub("s", action("b", "B"))}}
	for begin := time.Now(); s.panel.Registered().IsZero(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > traytest.Patience {
			t.Fatal("not registered")
		}
	}
	heard := s.panel.Heard() // from now on, all that it is told
	// told is what the panel hears in addition. It reads menus between signals,
	// so that those it shall hear may take a while; one too many is in the way of
	// the next row, and the last one is no change.
	told := func(want map[string]int) (got map[string]int) {
		for begin := time.Now(); time.Since(begin) < traytest.Patience; time.Sleep(time.Millisecond) {
			got = s.panel.Heard()
			maps.DeleteFunc(got, func(name string, n int) bool { got[name] = n - heard[name]; return got[name] == 0 })
			if reflect.DeepEqual(got, want) {
				break
			}
		}
		heard = s.panel.Heard()
		return got
	}
	for _, row := range []struct {
		change func()
		want   map[string]int
	}{
		{func() {}, map[string]int{"LayoutUpdated": 1, "NewIcon": 1, "NewToolTip": 1}},
		{func() {}, map[string]int{}},
		{func() { l.Items = slices.Clone(l.Items) }, map[string]int{}},
		{func() { l.Items[1].Items = []Item{action("b", "C")} }, map[string]int{"ItemsPropertiesUpdated": 1}},
		{func() { l.Items[1].Items[0].Kind = Text }, map[string]int{"ItemsPropertiesUpdated": 1}},
		{func() { l.Items[1].Items[0].Kind = Action }, map[string]int{"ItemsPropertiesUpdated": 1}},
		{func() { l.Items[0].Title, l.Items[1].Title = "X", "Y" }, map[string]int{"ItemsPropertiesUpdated": 1}},
		{func() { l.Items = append([]Item{action("new", "N")}, l.Items...) }, map[string]int{"LayoutUpdated": 1}},
		{func() { l.Items[2].Items, l.Items[0] = nil, action("other", "O") }, map[string]int{"LayoutUpdated": 2}},
		{func() { l.Icon = []string{aPicture(1, color.White)} }, map[string]int{"NewIcon": 1}},
		{func() { l.Tooltip = "Other" }, map[string]int{"NewToolTip": 1}},
		{func() {}, map[string]int{}},
	} {
		row.change()
		s.Show(l)
		s.panel.Check()
		if got := told(row.want); !reflect.DeepEqual(got, row.want) {
			t.Errorf("told %v, not %v", got, row.want)
		}
	}
}

func TestThePanelMayComeLaterAndComeBack(t *testing.T) {
	s := raise(t, false)
	s.Show(Look{Items: []Item{action("a", "A")}})
	if next(t, s.hosted) {
		t.Error("hosted by nobody")
	}
	there := func(m traytest.Menu) bool { return m.Has("A") }
	s.panel.Appear(true)
	s.panel.Until("the panel has come", there)
	if !next(t, s.hosted) {
		t.Error("not hosted")
	}
	s.panel.Vanish()
	if next(t, s.hosted) {
		t.Error("still hosted")
	}
	s.panel.Appear(false)
	s.panel.Until("the watcher is back", there)
	s.panel.Draw(true)
	if !next(t, s.hosted) {
		t.Error("not drawn")
	}
	s.panel.Draw(false)
	if next(t, s.hosted) {
		t.Error("still drawn")
	}
}

// KDE's panel asks for one menu at a time, without those below it, when that is
// opened for the first time, and then only for those that changed.
func TestAPanelThatAsksLevelByLevel(t *testing.T) {
	s := raise(t, true)
	s.Show(Look{Items: []Item{sub("s", sub("t", action("a", "A"))), action("b", "B")}})
	s.panel.Until("the menu is there", func(m traytest.Menu) bool { return m.Has("s", "t", "A") })
	signals := make(chan *dbus.Signal, 100)
	host, err := dbus.ConnectSessionBus(dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	if err := host.AddMatchSignal(dbus.WithMatchObjectPath(menuPath), dbus.WithMatchMember("LayoutUpdated")); err != nil {
		t.Fatal(err)
	}
	host.Signal(signals)
	menus := map[int32][]int32{}
	ask := func(id int32) {
		t.Helper()
		var revision uint32
		var l layout
		if err := host.Object(s.name(), menuPath).Call(menuInterface+".GetLayout", 0, id, int32(1), []string{}).Store(&revision, &l); err != nil {
			t.Fatal(err)
		}
		menus[id] = nil
		for _, c := range l.Children {
			var k layout
			if err := dbus.Store([]any{c.Value()}, &k); err != nil {
				t.Fatal(err)
			}
			menus[id] = append(menus[id], k.ID)
		}
	}
	ask(root)
	ask(menus[root][0])
	ask(menus[menus[root][0]][0])
	s.Show(Look{Items: []Item{sub("s", sub("t", action("a", "A"), action("new", "N"))), action("other", "O")}})
	for range 2 {
		ask(next(t, signals).Body[1].(int32))
	}
	for id, kids := range maps.Clone(menus) {
		if ask(id); !slices.Equal(kids, menus[id]) {
			t.Errorf("of %d the panel has %v, there are %v", id, kids, menus[id])
		}
	}
}

func TestALeftClickOpensTheMenuOfKDE(t *testing.T) {
	s := raise(t, true)
	s.Show(Look{Items: []Item{action("a", "A")}})
	s.panel.Until("the menu is there", func(m traytest.Menu) bool { return m.Has("A") })
	t.Setenv("XDG_CURRENT_DESKTOP", "x:KDE")
	if err := s.panel.Activate(); err == nil { // the panel opens the menu only then
		t.Error("activated")
	}
	s.panel.Click("A")
	if got := next(t, s.clicks); got != "a!" {
		t.Error(got)
	}
}

func TestNotesAreShownAndClicked(t *testing.T) {
	s := raise(t, false)
	s.Show(Look{Icon: []string{aPicture(1, color.Black)}})
	s.Notify(Note{Key: "x", Title: "One <b>", Text: "a < b & c", Command: "note!"})
	n := s.notes.Await("One <b>")
	if n.App != "Stile" || n.Text != "a &lt; b &amp; c" || !reflect.DeepEqual(n.Actions, []string{"default", "Stile"}) || n.Instead != 0 || n.Expires != -1 {
		t.Errorf("%+v", n)
	}
	s.Notify(Note{Key: "x", Title: "Two", Stay: true})
	if two := s.notes.Await("Two"); two.Instead != n.ID || len(two.Actions) != 0 || two.Expires != 0 {
		t.Errorf("%+v", two)
	}
	s.notes.Click(n)
	if got := next(t, s.clicks); got != "note!" {
		t.Error(got)
	}
}

// No click is missed, however early it comes.
func TestTheFirstNoteCanBeClicked(t *testing.T) {
	for range 20 {
		s := raiseWith(t, false, Note{Key: "x", Title: "One", Command: "note!"})
		s.notes.Click(s.notes.Await("One"))
		if got := next(t, s.clicks); got != "note!" {
			t.Error(got)
		}
		if err := s.end(); err != nil {
			t.Error(err)
		}
	}
}

// Nothing stays that the end of the program met on its way to the desktop.
func TestTheLastNoteIsTakenBack(t *testing.T) {
	for range 20 {
		s := raiseWith(t, false, Note{Key: "x", Title: "One", Stay: true})
		n := s.notes.Await("One")
		if err := s.end(); err != nil {
			t.Error(err)
		}
		s.notes.Gone(n)
	}
}

// A desktop that does not answer does not hold the end up.
func TestTheEndDoesNotWaitForWhoShowsNotes(t *testing.T) {
	s := raise(t, true)
	next(t, s.hosted)
	release := s.notes.Block()
	defer release()
	s.Notify(Note{Key: "x", Title: "One", Stay: true})
	began := time.Now()
	if err := s.end(); err != nil || time.Since(began) > callTime/2 {
		t.Error(err, time.Since(began))
	}
}

func TestNobodyWaitsForWhoShowsNotes(t *testing.T) {
	s := raise(t, true)
	release := s.notes.Block()
	defer release()
	for i := range 10 * queuedNotes {
		s.Notify(Note{Key: fmt.Sprint(i), Title: "x"})
	}
	s.Show(Look{Items: []Item{action("a", "A")}})
	s.panel.Until("the menu is there", func(m traytest.Menu) bool { return m.Has("A") })
	start := time.Now()
	if err := s.end(); err != nil || time.Since(start) > callTime/2 {
		t.Error(err, time.Since(start))
	}
}

func TestWithoutABusThereIsNoDesktop(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	for _, address := range []string{"", "unix:path=/nonexistent"} {
		t.Setenv("DBUS_SESSION_BUS_ADDRESS", address)
		if _, err := New(Config{}); err == nil || !strings.HasPrefix(err.Error(), ErrNoDesktop.Error()) {
			t.Error(err)
		}
	}
}

// large is a menu of n resources, of which some are seen otherwise in turn.
func large(n, turn int) Look {
	l := Look{Tooltip: "Stile"}
	for part := range n / 25 {
		s := sub(fmt.Sprint("part", part))
		for i := range 25 {
			r := sub(fmt.Sprint("r", part, "/", i))
			for j := range 10 {
				r.Items = append(r.Items, action(fmt.Sprint("i", part, "/", i, "/", j), fmt.Sprint("Item of a resource ", j)))
			}
			if i == 3 {
				r.Items[9].Title = fmt.Sprint("Online ", turn%2)
			}
			s.Items = append(s.Items, r)
		}
		l.Items = append(l.Items, s)
	}
	return l
}

func BenchmarkShow500(b *testing.B) {
	bus, err := traytest.Bus(b)
	if err != nil {
		need.Otherwise(b, "%v; install dbus", err)
	}
	b.Setenv("DBUS_SESSION_BUS_ADDRESS", bus)
	tr, err := New(Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer tr.conn.Close()
	looks := []Look{large(500, 0), large(500, 1)}
	b.Run("update", func(b *testing.B) {
		for i := range b.N {
			tr.Show(looks[i%2])
		}
	})
	b.Run("layout", func(b *testing.B) {
		for range b.N {
			if _, _, err := (menu{tr}).GetLayout(0, -1, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("fetch", func(b *testing.B) { // with the bus and a panel that reads it
		panel := traytest.NewPanel(b, bus)
		panel.Adopt(tr.name())
		for range b.N {
			panel.Check()
		}
	})
}

// Panels ask in different ways: for all at once, level by level, or for one
// property of many items.
func TestEveryWayOfAsking(t *testing.T) {
	clicked := []any{}
	tr := &Tray{config: Config{Click: func(c any) { clicked = append(clicked, c) }}, revision: 7}
	tr.tree.update([]Item{
		action("a", "A_b"),
		{Key: "grey", Title: "Grey", Command: "never"},
		sub("s", sub("t", action("b", "B"))),
	}, start)
	m := menu{tr}
	revision, l, err := m.GetLayout(root, 1, []string{"label"})
	if err != nil || revision != 7 || len(l.Children) != 3 {
		t.Fatal(revision, l, err)
	}
	first, second := l.Children[0].Value().(layout), l.Children[1].Value().(layout)
	third := l.Children[2].Value().(layout)
	if !reflect.DeepEqual(second.Properties, map[string]dbus.Variant{"label": dbus.MakeVariant("Grey")}) || len(third.Children) != 0 {
		t.Error(second, third)
	}
	if _, l, err := m.GetLayout(third.ID, -1, nil); err != nil || len(l.Children) != 1 || len(l.Children[0].Value().(layout).Children) != 1 {
		t.Error(l, err)
	}
	if _, _, err := m.GetLayout(99, -1, nil); err == nil {
		t.Error("an item that is not there has a layout")
	}
	group, err := m.GetGroupProperties([]int32{root, first.ID, second.ID, 99}, []string{"enabled", "children-display"})
	want := []itemProps{
		{root, map[string]dbus.Variant{"children-display": dbus.MakeVariant("submenu")}},
		{first.ID, map[string]dbus.Variant{}},
		{second.ID, map[string]dbus.Variant{"enabled": dbus.MakeVariant(false)}},
	}
	if err != nil || !reflect.DeepEqual(group, want) {
		t.Error(group, err)
	}
	if v, err := m.GetProperty(first.ID, "label"); err != nil || v.Value() != "A__b" {
		t.Error(v, err)
	}
	if _, err := m.GetProperty(first.ID, "enabled"); err == nil { // as it is by default
		t.Error("a property that is not there")
	}
	missing, err := m.EventGroup([]event{{ID: first.ID, Name: "clicked"}, {ID: second.ID, Name: "clicked"}, {ID: third.ID, Name: "opened"}, {ID: 99, Name: "clicked"}})
	if err != nil || !reflect.DeepEqual(missing, []int32{99}) || !reflect.DeepEqual(clicked, []any{"a!"}) {
		t.Error(missing, err, clicked)
	}
	if _, err := m.EventGroup([]event{{ID: 99, Name: "clicked"}}); err == nil {
		t.Error("nothing of a group is there")
	}
	if up, err := m.AboutToShow(root); up || err != nil {
		t.Error(up, err)
	}
}

// A note whose reason is gone is taken back, and what waits for a click goes
// with the program: nobody would hear it.
func TestNotesAreTakenBack(t *testing.T) {
	s := raise(t, false)
	s.Notify(Note{Key: "never"})
	for _, key := range []string{"x", "y", "z"} {
		s.Notify(Note{Key: key, Title: key, Stay: key != "z", Command: key})
	}
	x, y, z := s.notes.Await("x"), s.notes.Await("y"), s.notes.Await("z")
	s.Notify(Note{Key: "x"})
	s.notes.Gone(x)
	s.Notify(Note{Key: "x", Title: "again"})
	if again := s.notes.Await("again"); again.Instead != 0 {
		t.Errorf("%+v", again)
	}
	if err := s.end(); err != nil {
		t.Error(err)
	}
	s.notes.Gone(y)
	if s.notes.IsGone(z) {
		t.Error("what goes by itself was taken back")
	}
}
