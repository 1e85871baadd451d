package tray

import (
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
)

// openMenu shows the menu as it is at this moment, and acts on a click.
func (w *area) openMenu() {
	w.mu.Lock()
	m := buildMenu(w.tree.kids)
	w.mu.Unlock()
	defer m.free()
	var at point
	getCursorPos.Call(uintptr(unsafe.Pointer(&at)))
	// Without this the menu would stay open when the user clicks elsewhere.
	setForegroundWindow.Call(uintptr(w.data.Window))
	id, _, _ := trackPopupMenu.Call(uintptr(m.handle), tpmReturnCmd|tpmNoNotify|tpmRightButton, uintptr(at.X), uintptr(at.Y), uintptr(w.data.Window), 0)
	post(w.data.Window, wmNull)
	w.mu.Lock()
	command := w.tree.command(int32(id))
	w.mu.Unlock()
	if command != nil {
		w.config.Click(command)
	}
}

// A popup is a menu of the system, with the pictures that it shows.
type popup struct {
	handle   windows.Handle
	pictures map[string]windows.Handle
}

func buildMenu(kids []*entry) *popup {
	p := &popup{pictures: map[string]windows.Handle{}}
	p.handle = p.build(kids)
	return p
}

func (p *popup) build(kids []*entry) windows.Handle {
	handle, _, _ := createPopupMenu.Call()
	for n, e := range kids {
		i := menuItemInfo{Size: uint32(unsafe.Sizeof(menuItemInfo{})), Mask: miimID | miimFType | miimState | miimString, ID: uint32(e.id)}
		if e.item.Kind == Separator {
			i.Type = mftSeparator
		} else {
			i.TypeData = utf16(literal(e.item.Title))
		}
		switch {
		case e.item.Kind == Text:
			i.State = mfsDisabled
		case e.item.Kind == Check && e.item.On:
			i.State = mfsChecked
		case e.item.Kind == Sub:
			i.Mask |= miimSubMenu
			i.SubMenu = p.build(e.kids)
		}
		if picture := p.picture(e.item.Picture); picture != 0 {
			i.Mask |= miimBitmap
			i.Bitmap = picture
		}
		insertMenuItem.Call(handle, uintptr(n), 1, uintptr(unsafe.Pointer(&i)))
	}
	return windows.Handle(handle)
}

func (p *popup) picture(png string) windows.Handle {
	if png == "" {
		return 0
	}
	if _, has := p.pictures[png]; !has {
		p.pictures[png] = newBitmap(png)
	}
	return p.pictures[png]
}

// free destroys the menu with all below it.
func (p *popup) free() {
	destroyMenu.Call(uintptr(p.handle))
	for _, picture := range p.pictures {
		if picture != 0 {
			deleteObject.Call(uintptr(picture))
		}
	}
}

// literal doubles what would mark a key, and what would begin a column.
func literal(title string) string {
	return strings.ReplaceAll(strings.ReplaceAll(title, "&", "&&"), "\t", " ")
}

// utf16 is text as the system takes it; a zero byte ends it.
func utf16(text string) *uint16 {
	p, err := windows.UTF16PtrFromString(text)
	if err != nil {
		return windows.StringToUTF16Ptr(strings.ReplaceAll(text, "\x00", ""))
	}
	return p
}

// put fills a field of fixed length with text and the zero that ends it.
func put(field []uint16, text string) {
	clear(field)
	u, err := windows.UTF16FromString(text)
	if err != nil {
		return
	}
	n := copy(field[:len(field)-1], u)
	if n > 0 && field[n-1]&0xfc00 == 0xd800 { // half a character
		field[n-1] = 0
	}
}
