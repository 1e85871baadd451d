// Package tray is a program's place on the desktop: an icon with a menu in the
// panel, and the short messages that the desktop shows for it.
//
// On Linux it speaks the D-Bus protocols StatusNotifierItem, com.canonical.dbusmenu
// and org.freedesktop.Notifications; on Windows, the shell's notification area.
// What is shown is always given whole, and drawn by difference: an item keeps
// its number for as long as it keeps its key, so that an open menu stays open
// and a click reaches what was clicked.
package tray

import "errors"

// ErrNoDesktop means that there is no desktop to show anything on.
var ErrNoDesktop = errors.New("there is no desktop here")

// A Config says who is on the desktop. Its functions may be called from any
// goroutine, and must not block for long.
type Config struct {
	ID    string // of the program, for the desktop: short, lower case
	Title string // of the program, for people
	// Click is told the Command of an item, or of a Note, that was clicked.
	Click func(command any)
	// Activate is called when the icon is clicked and the desktop shows no menu
	// for it.
	Activate func()
	// Hosted is told whether the desktop shows icons: once at the beginning, then
	// whenever it changes.
	Hosted func(shown bool)
}

// A Look is all that the desktop shows of the program in its panel.
type Look struct {
	Icon    []string // one picture in several sizes, each the bytes of a square PNG
	Tooltip string
	Items   []Item
}

// A Kind is what an Item can do.
type Kind uint8

const (
	Text      Kind = iota // shown in grey
	Action                // can be clicked
	Check                 // can be clicked, and shows On
	Sub                   // opens Items
	Separator             // a line
)

// An Item is one line of a menu.
type Item struct {
	// Key names the item among its siblings.
	Key     string
	Kind    Kind
	Title   string // literal; one line
	On      bool   // of a Check
	Picture string // the bytes of a small PNG; "" for none
	Command any    // of an Action or Check: what Click is told; comparable
	Items   []Item // of a Sub
}

// A Note is a message for the user. One without Title takes back the one with
// its Key, if that is still there.
type Note struct {
	// Key names what the note is about: a later note takes the place of an
	// earlier one with the same key.
	Key   string
	Title string // literal
	Text  string // literal; may be ""
	// Stay keeps the note there until the user has seen it, where the desktop can
	// do that.
	Stay    bool
	Command any // what Click is told when the note is clicked; nil: nothing
}

// queuedNotes is how many notes wait for the desktop at most; more are dropped.
const queuedNotes = 32
