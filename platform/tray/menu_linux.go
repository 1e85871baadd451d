package tray

import (
	"maps"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
)

// The forms in which the bus carries items of a menu.
type (
	layout struct {
		ID         int32
		Properties map[string]dbus.Variant
		Children   []dbus.Variant // each a layout
	}
	itemProps struct {
		ID         int32
		Properties map[string]dbus.Variant
	}
	itemNames struct {
		ID    int32
		Names []string
	}
	event struct {
		ID   int32
		Name string
		Data dbus.Variant
		Time uint32
	}
)

var layoutSignature = dbus.SignatureOf(layout{})

// menu answers what panels ask of the menu.
type menu struct{ *Tray }

// GetLayout returns an item with its children, depth levels of them; -1 for
// all. Without names, all properties are given.
func (m menu) GetLayout(parent, depth int32, names []string) (uint32, layout, *dbus.Error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if parent == root {
		l := layout{ID: root, Properties: pick(map[string]dbus.Variant{"children-display": dbus.MakeVariant("submenu")}, names)}
		l.Children = children(m.tree.kids, depth, names)
		return m.revision, l, nil
	}
	e := m.tree.known[parent]
	if e == nil {
		return m.revision, layout{}, noItem()
	}
	return m.revision, e.layout(depth, names), nil
}

func noItem() *dbus.Error {
	return dbus.NewError("com.canonical.dbusmenu.UnknownId", []any{"there is no such item in the menu"})
}

func (e *entry) layout(depth int32, names []string) layout {
	return layout{e.id, pick(e.properties(), names), children(e.kids, depth, names)}
}

func children(kids []*entry, depth int32, names []string) []dbus.Variant {
	if depth == 0 {
		return []dbus.Variant{}
	}
	list := make([]dbus.Variant, 0, len(kids))
	for _, k := range kids {
		list = append(list, dbus.MakeVariantWithSignature(k.layout(depth-1, names), layoutSignature))
	}
	return list
}

// GetGroupProperties returns the properties of items; of those that are not
// there, nothing.
func (m menu) GetGroupProperties(ids []int32, names []string) ([]itemProps, *dbus.Error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]itemProps, 0, len(ids))
	for _, id := range ids {
		if id == root {
			list = append(list, itemProps{root, pick(map[string]dbus.Variant{"children-display": dbus.MakeVariant("submenu")}, names)})
		} else if e := m.tree.known[id]; e != nil {
			list = append(list, itemProps{id, pick(e.properties(), names)})
		}
	}
	return list, nil
}

func (m menu) GetProperty(id int32, name string) (dbus.Variant, *dbus.Error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.tree.known[id]; e != nil {
		if v, has := e.properties()[name]; has {
			return v, nil
		}
	}
	return dbus.Variant{}, noItem()
}

func (m menu) Event(id int32, name string, _ dbus.Variant, _ uint32) *dbus.Error {
	if !m.event(id, name) {
		return noItem()
	}
	return nil
}

func (m menu) EventGroup(events []event) ([]int32, *dbus.Error) {
	missing := []int32{}
	for _, e := range events {
		if !m.event(e.ID, e.Name) {
			missing = append(missing, e.ID)
		}
	}
	if len(missing) == len(events) && len(events) > 0 {
		return nil, noItem()
	}
	return missing, nil
}

// event acts on what the user did, and reports whether the item is known.
func (m menu) event(id int32, name string) bool {
	m.mu.Lock()
	known := id == root || m.tree.known[id] != nil
	var command any
	if name == "clicked" {
		command = m.tree.command(id)
	}
	m.mu.Unlock()
	if command != nil {
		m.config.Click(command)
	}
	return known
}

// AboutToShow is asked before a menu opens: it is always up to date.
func (m menu) AboutToShow(int32) (bool, *dbus.Error) { return false, nil }

func (m menu) AboutToShowGroup([]int32) ([]int32, []int32, *dbus.Error) {
	return []int32{}, []int32{}, nil
}

// literal doubles the underscores, which would mark a key.
func literal(title string) string { return strings.ReplaceAll(title, "_", "__") }

// Values that many items have.
var (
	no         = dbus.MakeVariant(false)
	aSeparator = dbus.MakeVariant("separator")
	aSub       = dbus.MakeVariant("submenu")
	aCheckmark = dbus.MakeVariant("checkmark")
	isOff      = dbus.MakeVariant(int32(0))
	isOn       = dbus.MakeVariant(int32(1))
)

// properties are those of an item that are not what they are by default.
func (e *entry) properties() map[string]dbus.Variant {
	i := &e.item
	p := make(map[string]dbus.Variant, 3)
	if i.Kind == Separator {
		p["type"] = aSeparator
		return p
	}
	p["label"] = dbus.MakeVariant(literal(i.Title))
	switch i.Kind {
	case Text:
		p["enabled"] = no
	case Sub:
		p["children-display"] = aSub
	case Check:
		p["toggle-type"], p["toggle-state"] = aCheckmark, isOff
		if i.On {
			p["toggle-state"] = isOn
		}
	}
	if i.Picture != "" {
		p["icon-data"] = dbus.MakeVariant([]byte(i.Picture))
	}
	return p
}

// pick leaves what names says, everything if that is empty.
func pick(p map[string]dbus.Variant, names []string) map[string]dbus.Variant {
	if len(names) > 0 {
		maps.DeleteFunc(p, func(name string, _ dbus.Variant) bool { return !slices.Contains(names, name) })
	}
	return p
}

// optional are the properties that an item may have and lose.
var optional = []string{"type", "enabled", "children-display", "toggle-type", "toggle-state", "icon-data"}

func propertiesOf(changed []*entry) []itemProps {
	list := make([]itemProps, 0, len(changed))
	for _, e := range changed {
		list = append(list, itemProps{e.id, e.properties()})
	}
	return list
}

// removedOf names what each changed item does not have, perhaps no longer.
func removedOf(changed []itemProps) []itemNames {
	list := make([]itemNames, 0, len(changed))
	for _, c := range changed {
		var names []string
		for _, name := range optional {
			if _, has := c.Properties[name]; !has {
				names = append(names, name)
			}
		}
		list = append(list, itemNames{c.ID, names})
	}
	return list
}
