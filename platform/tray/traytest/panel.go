package traytest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	watcherName = "org.kde.StatusNotifierWatcher"
	watcherPath = dbus.ObjectPath("/StatusNotifierWatcher")
	itemPath    = dbus.ObjectPath("/StatusNotifierItem")
	menuPath    = dbus.ObjectPath("/StatusNotifierItem/menu")
	itemOf      = "org.kde.StatusNotifierItem"
	menuOf      = "com.canonical.dbusmenu"
)

// A Panel shows the icon of one program, and its menu as the program told of
// it: asked once, then only when the program says that something changed.
type Panel struct {
	t       T
	conn    *dbus.Conn
	hosted  bool
	signals chan *dbus.Signal

	mu      sync.Mutex // guards the rest
	owner   string     // the program's name on the bus
	items   map[int32]*Item
	changed chan struct{} // closed and replaced when something was told
	heard   map[string]int
	broken  error
	since   time.Time // when the program registered
}

// An Item is one of the menu, as the panel knows it.
type Item struct {
	ID       int32
	Label    string // with its marks, as the program sent it
	Enabled  bool
	Check    bool
	On       bool
	Line     bool // a separator
	Sub      bool
	Icon     []byte
	children []int32
}

// NewPanel makes a panel that is not there yet: see Appear.
func NewPanel(t T, bus string) *Panel { return PanelOf(t, bus, self()) }

// PanelOf makes one on the bus of another user, by number.
func PanelOf(t T, bus, user string) *Panel {
	p := &Panel{t: t, conn: connect(t, bus, user), signals: make(chan *dbus.Signal, 1024), changed: make(chan struct{}), heard: map[string]int{}, hosted: true}
	if err := p.conn.Export(watcher{p}, watcherPath, watcherName); err != nil {
		t.Fatal(err)
	}
	if err := p.conn.Export(watcherProperties{p}, watcherPath, "org.freedesktop.DBus.Properties"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []dbus.ObjectPath{itemPath, menuPath} {
		if err := p.conn.AddMatchSignal(dbus.WithMatchObjectPath(path)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.conn.AddMatchSignal(dbus.WithMatchSender("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged")); err != nil {
		t.Fatal(err)
	}
	p.conn.Signal(p.signals)
	var g sync.WaitGroup
	g.Go(p.listen)
	t.Cleanup(func() { p.conn.Close(); g.Wait() })
	return p
}

// Appear takes the name that programs look for. hosted tells them whether a
// panel draws what the watcher knows.
func (p *Panel) Appear(hosted bool) {
	p.t.Helper()
	p.mu.Lock()
	p.hosted = hosted
	p.mu.Unlock()
	if _, err := p.conn.RequestName(watcherName, dbus.NameFlagDoNotQueue); err != nil {
		p.t.Fatal(err)
	}
}

// Vanish is a panel that crashes: it forgets everything.
func (p *Panel) Vanish() {
	p.t.Helper()
	if _, err := p.conn.ReleaseName(watcherName); err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.owner, p.items = "", nil
}

// Draw says whether icons are drawn, while the watcher is there.
func (p *Panel) Draw(hosted bool) {
	p.mu.Lock()
	p.hosted = hosted
	p.mu.Unlock()
	name := watcherName + ".StatusNotifierHostUnregistered"
	if hosted {
		name = watcherName + ".StatusNotifierHostRegistered"
	}
	p.conn.Emit(watcherPath, name)
}

// watcher is what programs call.
type watcher struct{ p *Panel }

func (w watcher) RegisterStatusNotifierItem(service string, sender dbus.Sender) *dbus.Error {
	go w.p.Adopt(string(sender))
	return nil
}

type watcherProperties struct{ p *Panel }

func (w watcherProperties) Get(_, name string) (dbus.Variant, *dbus.Error) {
	if name != "IsStatusNotifierHostRegistered" {
		return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", nil)
	}
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	return dbus.MakeVariant(w.p.hosted), nil
}

// Adopt shows a program's icon.
func (p *Panel) Adopt(owner string) {
	p.mu.Lock()
	p.owner, p.items, p.since = owner, nil, time.Now()
	p.mu.Unlock()
	p.fetch()
}

type layout struct {
	ID         int32
	Properties map[string]dbus.Variant
	Children   []dbus.Variant
}

// fetch asks for the whole menu.
func (p *Panel) fetch() {
	p.mu.Lock()
	of := p.owner
	p.mu.Unlock()
	items, err := p.ask()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.owner == "" || p.owner != of: // the panel, or the program, left meanwhile
	case err != nil:
		p.broken = err
	default:
		p.items = items
		p.tellLocked()
	}
}

func (p *Panel) tellLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// call asks the program for something.
func (p *Panel) call(path dbus.ObjectPath, method string, args ...any) *dbus.Call {
	p.mu.Lock()
	owner := p.owner
	p.mu.Unlock()
	if owner == "" { // a message to nobody would be for the bus
		return &dbus.Call{Err: errors.New("no program has registered")}
	}
	return p.conn.Object(owner, path).Call(method, 0, args...)
}

func (p *Panel) ask() (map[int32]*Item, error) {
	var revision uint32
	var l layout
	if err := p.call(menuPath, menuOf+".GetLayout", int32(0), int32(-1), []string{}).Store(&revision, &l); err != nil {
		return nil, err
	}
	items := map[int32]*Item{}
	return items, read(items, l)
}

func read(items map[int32]*Item, l layout) error {
	if items[l.ID] != nil {
		return fmt.Errorf("item %d is twice in the menu", l.ID)
	}
	i := &Item{ID: l.ID, Enabled: true}
	i.apply(l.Properties)
	items[l.ID] = i
	for _, c := range l.Children {
		var child layout
		if err := dbus.Store([]any{c.Value()}, &child); err != nil {
			return err
		}
		i.children = append(i.children, child.ID)
		if err := read(items, child); err != nil {
			return err
		}
	}
	return nil
}

func (i *Item) apply(properties map[string]dbus.Variant) {
	for name, v := range properties {
		switch name {
		case "label":
			i.Label, _ = v.Value().(string)
		case "enabled":
			i.Enabled, _ = v.Value().(bool)
		case "toggle-type":
			i.Check = v.Value() == "checkmark"
		case "toggle-state":
			i.On = v.Value() == int32(1)
		case "type":
			i.Line = v.Value() == "separator"
		case "children-display":
			i.Sub = v.Value() == "submenu"
		case "icon-data":
			i.Icon, _ = v.Value().([]byte)
		}
	}
}

func (i *Item) remove(names []string) {
	for _, name := range names {
		switch name {
		case "enabled":
			i.Enabled = true
		case "toggle-type":
			i.Check = false
		case "toggle-state":
			i.On = false
		case "type":
			i.Line = false
		case "children-display":
			i.Sub = false
		case "icon-data":
			i.Icon = nil
		}
	}
}

// listen follows what the program says.
func (p *Panel) listen() {
	for s := range p.signals {
		if s.Name == "org.freedesktop.DBus.NameOwnerChanged" {
			p.left(s)
			continue
		}
		p.mu.Lock()
		ours := s.Sender == p.owner
		if ours {
			p.heard[s.Name[strings.LastIndexByte(s.Name, '.')+1:]]++
		}
		p.mu.Unlock()
		if !ours {
			continue
		}
		switch s.Name {
		case menuOf + ".LayoutUpdated":
			p.fetch()
		case menuOf + ".ItemsPropertiesUpdated":
			p.update(s)
		default:
			p.mu.Lock()
			p.tellLocked()
			p.mu.Unlock()
		}
	}
}

// left forgets the program if it is the one that left the bus.
func (p *Panel) left(s *dbus.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(s.Body) == 3 && s.Body[0] == p.owner && s.Body[2] == "" {
		p.owner, p.items, p.broken = "", nil, nil // who is gone cannot be read
		p.tellLocked()
	}
}

func (p *Panel) update(s *dbus.Signal) {
	var changed []struct {
		ID         int32
		Properties map[string]dbus.Variant
	}
	var removed []struct {
		ID    int32
		Names []string
	}
	err := dbus.Store(s.Body, &changed, &removed)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.broken = err
	}
	for _, c := range changed {
		if i := p.items[c.ID]; i != nil {
			i.apply(c.Properties)
		}
	}
	for _, r := range removed {
		if i := p.items[r.ID]; i != nil {
			i.remove(r.Names)
		}
	}
	p.tellLocked()
}

// Named waits until somebody on the bus has a name.
func (p *Panel) Named(name string) {
	p.t.Helper()
	for end := time.Now().Add(Patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		var has bool
		if p.conn.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, name).Store(&has) == nil && has {
			return
		}
	}
	p.t.Fatalf("nobody is called %s after %v", name, Patience)
}

// Until waits until what the panel shows is as is wants it, and returns how
// long that took.
func (p *Panel) Until(what string, is func(m Menu) bool) time.Duration {
	p.t.Helper()
	start := time.Now()
	limit := time.After(Patience)
	for {
		p.mu.Lock()
		m, changed := p.menuLocked(), p.changed
		p.mu.Unlock()
		if len(m.items) > 0 && is(m) {
			return time.Since(start)
		}
		select {
		case <-changed:
		case <-limit:
			p.t.Fatalf("%s: not after %v. The menu is\n%s", what, Patience, m)
		}
	}
}

// Menu is what the panel shows.
func (p *Panel) Menu() Menu {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.menuLocked()
}

func (p *Panel) menuLocked() Menu {
	copied := make(map[int32]*Item, len(p.items))
	for id, i := range p.items {
		c := *i
		copied[id] = &c
	}
	return Menu{copied}
}

// Heard is how many signals of each name the program has sent.
func (p *Panel) Heard() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	copied := map[string]int{}
	for name, n := range p.heard {
		copied[name] = n
	}
	return copied
}

// Registered is when the program registered last; zero: it did not.
func (p *Panel) Registered() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.owner == "" {
		return time.Time{}
	}
	return p.since
}

// Check fails the test if what the program told so far does not become what it
// says when it is asked for everything. It is asked again, because that may
// change meanwhile.
func (p *Panel) Check() {
	p.t.Helper()
	limit := time.Now().Add(Patience)
	for {
		asked, err := p.ask()
		if err != nil {
			p.t.Fatal(err)
		}
		p.mu.Lock()
		m, changed, broken := p.menuLocked(), p.changed, p.broken
		p.mu.Unlock()
		if broken != nil {
			p.t.Fatal("the panel could not read the menu: ", broken)
		}
		switch {
		case m.String() == Menu{asked}.String():
			return
		case time.Now().After(limit):
			p.t.Fatalf("the program says, when it is asked,\n%sbut told of\n%s", Menu{asked}, m)
		}
		select {
		case <-changed:
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Property is one of the icon.
func (p *Panel) Property(name string) dbus.Variant {
	p.t.Helper()
	var v dbus.Variant
	if err := p.call(itemPath, "org.freedesktop.DBus.Properties.Get", itemOf, name).Store(&v); err != nil {
		p.t.Fatal(name, ": ", err)
	}
	return v
}

// Send does to an item what the user does: "clicked", "hovered".
func (p *Panel) Send(id int32, event string) error {
	return p.call(menuPath, menuOf+".Event", id, event, dbus.MakeVariant(""), uint32(0)).Err
}

// Click clicks the item at the end of a path of titles.
func (p *Panel) Click(path ...string) {
	p.t.Helper()
	i := p.Menu().Find(path...)
	if i == nil {
		p.t.Fatalf("there is no item %q in the menu\n%s", path, p.Menu())
	}
	err := p.Send(i.ID, "clicked")
	if e, is := errors.AsType[dbus.Error](err); is && e.Name == "org.freedesktop.DBus.Error.NoReply" {
		return // a program that ends because of the click need not say so
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// Activate clicks the icon itself.
func (p *Panel) Activate() error {
	return p.call(itemPath, itemOf+".Activate", int32(0), int32(0)).Err
}

// A Menu is a picture of the menu at one moment.
type Menu struct{ items map[int32]*Item }

// Title is a label as people see it.
func (i *Item) Title() string { return strings.ReplaceAll(i.Label, "__", "_") }

// Items are those below the item at the end of path; those of the menu itself
// without one.
func (m Menu) Items(path ...string) []*Item {
	var list []*Item
	parent := m.items[0]
	if len(path) > 0 {
		parent = m.Find(path...)
	}
	if parent == nil {
		return nil
	}
	for _, id := range parent.children {
		list = append(list, m.items[id])
	}
	return list
}

// Find returns the item at the end of a path of titles, nil if there is none.
func (m Menu) Find(path ...string) *Item {
	at := m.items[0]
	for _, title := range path {
		if at == nil {
			return nil
		}
		var next *Item
		for _, id := range at.children {
			if i := m.items[id]; i != nil && i.Title() == title {
				next = i
			}
		}
		at = next
	}
	return at
}

// Has reports whether there is an item at the end of a path of titles.
func (m Menu) Has(path ...string) bool { return m.Find(path...) != nil }

// Len is how many items there are.
func (m Menu) Len() int { return len(m.items) }

// String draws the menu.
func (m Menu) String() string {
	var b strings.Builder
	m.draw(&b, 0, "")
	return b.String()
}

func (m Menu) draw(b *strings.Builder, id int32, indent string) {
	if m.items[id] == nil {
		return
	}
	for _, c := range m.items[id].children {
		i := m.items[c]
		switch {
		case i == nil:
			fmt.Fprintf(b, "%s#%d is missing\n", indent, c)
			continue
		case i.Line:
			fmt.Fprintf(b, "%s--\n", indent)
			continue
		}
		mark := ""
		if i.Check {
			mark = map[bool]string{true: "[x] ", false: "[ ] "}[i.On]
		}
		if !i.Enabled {
			mark += "▫ "
		}
		if len(i.Icon) > 0 {
			mark += "● "
		}
		fmt.Fprintf(b, "%s%s%s\n", indent, mark, i.Title())
		m.draw(b, c, indent+"  ")
	}
}
