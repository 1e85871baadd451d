package tray

import (
	"image"
	"os"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"
)

// A pixmap is a picture as the bus carries it: 32 bits per pixel in the order
// alpha, red, green, blue; not premultiplied.
type pixmap struct {
	Width, Height int32
	Pixels        []byte
}

// pixmapsOf converts PNGs. One that is none is left out: pictures are built in.
func pixmapsOf(pictures []string) []pixmap {
	list := make([]pixmap, 0, len(pictures))
	for _, p := range pictures {
		if picture, err := decode(p); err == nil {
			list = append(list, pixmap{int32(picture.Rect.Dx()), int32(picture.Rect.Dy()), argb(picture)})
		}
	}
	return list
}

func argb(picture *image.NRGBA) []byte {
	out := make([]byte, 0, len(picture.Pix))
	for i := 0; i+3 < len(picture.Pix); i += 4 {
		p := picture.Pix[i : i+4 : i+4]
		out = append(out, p[3], p[0], p[1], p[2])
	}
	return out
}

// toolTip is the form of the property of that name: icon name, pictures, title,
// text.
type toolTip struct {
	Icon     string
	Pictures []pixmap
	Title    string
	Text     string
}

// item answers what panels ask of the icon.
type item struct{ *Tray }

// ContextMenu is asked by panels that show no menus of other programs.
func (i item) ContextMenu(x, y int32) *dbus.Error { i.config.Activate(); return nil }

// Activate is asked at a left click by panels that do not look at ItemIsMenu.
// KDE's opens the menu if that is refused; others would do nothing.
func (i item) Activate(x, y int32) *dbus.Error {
	if slices.Contains(strings.Split(os.Getenv("XDG_CURRENT_DESKTOP"), ":"), "KDE") {
		return dbus.NewError("org.freedesktop.DBus.Error.NotSupported", []any{"the icon has a menu"})
	}
	i.config.Activate()
	return nil
}

func (i item) SecondaryActivate(x, y int32) *dbus.Error { i.config.Activate(); return nil }
func (item) Scroll(delta int32, way string) *dbus.Error { return nil }

// properties answers org.freedesktop.DBus.Properties of one object.
type properties struct {
	of  string // interface
	all func() map[string]dbus.Variant
}

func (p properties) Get(of, name string) (dbus.Variant, *dbus.Error) {
	if of != p.of && of != "" {
		return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownInterface", []any{of})
	}
	v, known := p.all()[name]
	if !known {
		return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", []any{name})
	}
	return v, nil
}

func (p properties) GetAll(of string) (map[string]dbus.Variant, *dbus.Error) {
	if of != p.of && of != "" {
		return map[string]dbus.Variant{}, nil
	}
	return p.all(), nil
}

func (properties) Set(of, name string, to dbus.Variant) *dbus.Error {
	return dbus.NewError("org.freedesktop.DBus.Error.PropertyReadOnly", []any{name})
}

func (t *Tray) itemProperties() map[string]dbus.Variant {
	t.mu.Lock()
	defer t.mu.Unlock()
	return map[string]dbus.Variant{
		"Category":      dbus.MakeVariant("SystemServices"),
		"Id":            dbus.MakeVariant(t.config.ID),
		"Title":         dbus.MakeVariant(t.config.Title),
		"Status":        dbus.MakeVariant("Active"),
		"WindowId":      dbus.MakeVariant(int32(0)),
		"IconName":      dbus.MakeVariant(""),
		"IconPixmap":    dbus.MakeVariant(t.pixmaps),
		"IconThemePath": dbus.MakeVariant(""),
		"ToolTip":       dbus.MakeVariant(toolTip{Pictures: []pixmap{}, Title: t.tooltip}),
		"ItemIsMenu":    dbus.MakeVariant(true),
		"Menu":          dbus.MakeVariant(menuPath),
	}
}

func (t *Tray) menuProperties() map[string]dbus.Variant {
	return map[string]dbus.Variant{
		"Version":       dbus.MakeVariant(uint32(3)), // of the protocol
		"TextDirection": dbus.MakeVariant("ltr"),
		"Status":        dbus.MakeVariant("normal"),
		"IconThemePath": dbus.MakeVariant([]string{}),
	}
}

// export makes the icon and its menu objects on the bus.
func (t *Tray) export() error {
	for _, o := range []struct {
		path  dbus.ObjectPath
		of    string
		what  any
		props func() map[string]dbus.Variant
		about string
	}{
		{itemPath, itemInterface, item{t}, t.itemProperties, itemXML},
		{menuPath, menuInterface, menu{t}, t.menuProperties, menuXML},
	} {
		if err := t.conn.Export(o.what, o.path, o.of); err != nil {
			return err
		}
		if err := t.conn.Export(properties{o.of, o.props}, o.path, propertiesName); err != nil {
			return err
		}
		if err := t.conn.Export(introspect.Introspectable(o.about), o.path, "org.freedesktop.DBus.Introspectable"); err != nil {
			return err
		}
	}
	_, err := t.conn.RequestName(t.name(), dbus.NameFlagDoNotQueue)
	return err
}

// What the objects are, for programs that ask before they use them.
const (
	propertiesXML = `<interface name="org.freedesktop.DBus.Properties">` +
		`<method name="Get"><arg type="s" direction="in"/><arg type="s" direction="in"/><arg type="v" direction="out"/></method>` +
		`<method name="GetAll"><arg type="s" direction="in"/><arg type="a{sv}" direction="out"/></method>` +
		`<method name="Set"><arg type="s" direction="in"/><arg type="s" direction="in"/><arg type="v" direction="in"/></method>` +
		`<signal name="PropertiesChanged"><arg type="s"/><arg type="a{sv}"/><arg type="as"/></signal></interface>`

	itemXML = introspect.IntrospectDeclarationString + `<node>` + propertiesXML + `<interface name="` + itemInterface + `">` +
		`<property name="Category" type="s" access="read"/><property name="Id" type="s" access="read"/>` +
		`<property name="Title" type="s" access="read"/><property name="Status" type="s" access="read"/>` +
		`<property name="WindowId" type="i" access="read"/><property name="IconName" type="s" access="read"/>` +
		`<property name="IconPixmap" type="a(iiay)" access="read"/><property name="IconThemePath" type="s" access="read"/>` +
		`<property name="ToolTip" type="(sa(iiay)ss)" access="read"/><property name="ItemIsMenu" type="b" access="read"/>` +
		`<property name="Menu" type="o" access="read"/>` +
		`<method name="ContextMenu"><arg type="i" direction="in"/><arg type="i" direction="in"/></method>` +
		`<method name="Activate"><arg type="i" direction="in"/><arg type="i" direction="in"/></method>` +
		`<method name="SecondaryActivate"><arg type="i" direction="in"/><arg type="i" direction="in"/></method>` +
		`<method name="Scroll"><arg type="i" direction="in"/><arg type="s" direction="in"/></method>` +
		`<signal name="NewTitle"/><signal name="NewIcon"/><signal name="NewToolTip"/><signal name="NewStatus"><arg type="s"/></signal>` +
		`</interface><node name="menu"/></node>`

	menuXML = introspect.IntrospectDeclarationString + `<node>` + propertiesXML + `<interface name="` + menuInterface + `">` +
		`<property name="Version" type="u" access="read"/><property name="TextDirection" type="s" access="read"/>` +
		`<property name="Status" type="s" access="read"/><property name="IconThemePath" type="as" access="read"/>` +
		`<method name="GetLayout"><arg type="i" direction="in"/><arg type="i" direction="in"/><arg type="as" direction="in"/>` +
		`<arg type="u" direction="out"/><arg type="(ia{sv}av)" direction="out"/></method>` +
		`<method name="GetGroupProperties"><arg type="ai" direction="in"/><arg type="as" direction="in"/><arg type="a(ia{sv})" direction="out"/></method>` +
		`<method name="GetProperty"><arg type="i" direction="in"/><arg type="s" direction="in"/><arg type="v" direction="out"/></method>` +
		`<method name="Event"><arg type="i" direction="in"/><arg type="s" direction="in"/><arg type="v" direction="in"/><arg type="u" direction="in"/></method>` +
		`<method name="EventGroup"><arg type="a(isvu)" direction="in"/><arg type="ai" direction="out"/></method>` +
		`<method name="AboutToShow"><arg type="i" direction="in"/><arg type="b" direction="out"/></method>` +
		`<method name="AboutToShowGroup"><arg type="ai" direction="in"/><arg type="ai" direction="out"/><arg type="ai" direction="out"/></method>` +
		`<signal name="ItemsPropertiesUpdated"><arg type="a(ia{sv})"/><arg type="a(ias)"/></signal>` +
		`<signal name="LayoutUpdated"><arg type="u"/><arg type="i"/></signal>` +
		`<signal name="ItemActivationRequested"><arg type="i"/><arg type="u"/></signal>` +
		`</interface></node>`
)
