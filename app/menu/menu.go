// Package menu turns what is known about the service into the tray's menu, and
// a click into the command it means. [Build] is a function of a [View]: the
// same View gives the same Menu, so the tray draws what differs and needs no
// memory of how it came about.
//
// The tree is that of spec desktop-client.md 9. Beyond it: a resource that
// cannot be reached says why, and long lists are cut into parts.
package menu

import (
	"stile/app/words"
	"stile/tunnel/id"
	"stile/tunnel/ipc"
)

// A View is all that the menu shows.
type View struct {
	Words   *words.Words
	Service Service
	State   *ipc.State // the latest; nil before the first, and ignored unless Service is Present
	// Reason is why the service cannot be asked and what to do, in sentences; ""
	// while it can, or while that is not known.
	Reason string

	Browser  bool // a sign-in waits for the user's browser
	Quitting bool

	Favorites []id.Resource // in no order
	Update    Update
	HideAdmin bool   // no entry for the portal's pages (spec desktop-client.md 14)
	Support   string // URL of whoever helps; "": ours
}

// A Service says whether the tunnel service can be asked.
type Service uint8

const (
	Looking  Service = iota // not found yet, for a moment
	Present                 // connected to it
	Lost                    // it was there and is searched for
	Missing                 // it is not running
	Denied                  // it does not speak with this user
	Outdated                // it speaks another version of the protocol
	Silent                  // it is there, and does not respond
)

// An Update is a newer release. The zero Update is none.
type Update struct{ Version, URL string }

// A Menu is what the tray shows. Items are borrowed: nobody changes them.
type Menu struct {
	Icon    Icon
	Tooltip string
	Items   []Item
}

// An Icon tells how things stand without a word.
type Icon struct {
	Shape Shape
	Dot   bool // an update is known
}

// A Shape is the form of an icon; each differs from the others without colour.
type Shape uint8

const (
	Busy    Shape = iota // something is under way
	Out                  // signed out
	In                   // resources can be reached
	Trouble              // somebody should look
)

func (s Shape) String() string { return [...]string{"busy", "out", "in", "trouble"}[s] }

// A Kind is what an Item can do.
type Kind uint8

const (
	Text      Kind = iota // shown in grey
	Action                // runs Command
	Check                 // runs Command, and shows On
	Sub                   // opens Items
	Separator             // a line
)

func (k Kind) String() string { return [...]string{"text", "action", "check", "sub", "separator"}[k] }

// A Dot is a coloured mark before a title.
type Dot uint8

const (
	NoDot Dot = iota
	Grey
	Green
	Red
)

func (d Dot) String() string { return [...]string{"", "grey", "green", "red"}[d] }

// An Item is one line of a menu.
type Item struct {
	// Key names the item within its menu for as long as it means the same: two
	// menus that have an item with one Key show the same thing, perhaps with
	// another title.
	Key     string
	Kind    Kind
	Title   string // literal: neither & nor _ marks anything; one line
	On      bool   // of a Check
	Dot     Dot
	Command Command // of an Action or Check; nil otherwise
	Items   []Item  // of a Sub
}

// A Command is what a click means: one of the types below.
type Command interface{ command() }

type (
	SignIn       struct{}
	CancelSignIn struct{}
	SignOut      struct{}
	Retry        struct{} // try the portal now
	Connect      struct{} // with the sign-in that is there
	Restart      struct{} // start this program anew
	SetInternet  struct{ On bool }
	Copy         struct{ Text string } // to the clipboard
	Open         struct{ URL string }  // http or https
	Favorite     struct {
		Resource id.Resource
		On       bool
	}
	Show struct{ Page Page } // of the status pages
	Quit struct{}            // of this program; the session goes on
)

func (SignIn) command()       {}
func (CancelSignIn) command() {}
func (SignOut) command()      {}
func (Retry) command()        {}
func (Connect) command()      {}
func (Restart) command()      {}
func (SetInternet) command()  {}
func (Copy) command()         {}
func (Open) command()         {}
func (Favorite) command()     {}
func (Show) command()         {}
func (Quit) command()         {}

// A Page is one of the status pages.
type Page string

const (
	StatusPage      Page = "status"
	ResourcesPage   Page = "resources"
	DiagnosticsPage Page = "diagnostics"
	SettingsPage    Page = "settings"
	AboutPage       Page = "about"
)
