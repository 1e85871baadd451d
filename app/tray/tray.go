// Package tray draws the menu on the user's desktop and reports clicks: what
// package menu says, in the terms of platform/tray.
package tray

import (
	"context"
	"strconv"

	"stile/app/menu"
	"stile/assets"
	"stile/platform/tray"
)

// ErrNoDesktop means that there is no desktop to show anything on.
var ErrNoDesktop = tray.ErrNoDesktop

// What the program is called, for the desktop and for people.
const programID, programName = "stile", "Stile"

// A Config says what happens when the user does something. Its functions may be
// called from any goroutine, and must not block for long.
type Config struct {
	Click func(menu.Command)
	// Activate is called when the icon is clicked and the desktop shows no menu
	// for it.
	Activate func()
	// Hosted is told whether the desktop shows icons: once at the beginning, then
	// whenever it changes.
	Hosted func(shown bool)
}

// A Note is a message for the user; one without Title takes back the one with its
// Key. See platform/tray.
type Note struct {
	Key, Title, Text string
	Stay             bool
	Command          menu.Command // of a click on it; nil: nothing happens
}

// A Tray is the program's place on the desktop. Show and Notify may be called
// from any goroutine.
type Tray struct{ desktop *tray.Tray }

// New connects to the desktop. The error is ErrNoDesktop if there is none. Who
// got a Tray has to Run it.
func New(c Config) (*Tray, error) {
	t, err := tray.New(tray.Config{
		ID: programID, Title: programName, Activate: c.Activate, Hosted: c.Hosted,
		Click: func(command any) { c.Click(command.(menu.Command)) },
	})
	if err != nil {
		return nil, err
	}
	return &Tray{t}, nil
}

// Run keeps the icon in the panel until ctx ends. The error tells that the
// desktop ended before.
func (t *Tray) Run(ctx context.Context) error { return t.desktop.Run(ctx) }

// Show makes the desktop show m. It costs nothing if it does already.
func (t *Tray) Show(m menu.Menu) { t.desktop.Show(look(m)) }

// Notify shows a message. It never blocks.
func (t *Tray) Notify(n Note) {
	out := tray.Note{Key: n.Key, Title: n.Title, Text: n.Text, Stay: n.Stay}
	if n.Command != nil {
		out.Command = n.Command
	}
	t.desktop.Notify(out)
}

// Alert shows a message of a program that ends, where the desktop can do that.
func Alert(ctx context.Context, title, text string) {
	tray.Alert(ctx, tray.Config{ID: programID, Title: programName}, tray.Note{Title: title, Text: text, Stay: true})
}

// look is m in the desktop's terms.
func look(m menu.Menu) tray.Look {
	return tray.Look{Icon: icons[m.Icon], Tooltip: m.Tooltip, Items: items(m.Items)}
}

var kinds = [...]tray.Kind{menu.Text: tray.Text, menu.Action: tray.Action, menu.Check: tray.Check, menu.Sub: tray.Sub, menu.Separator: tray.Separator}

func items(list []menu.Item) []tray.Item {
	if len(list) == 0 {
		return nil
	}
	out := make([]tray.Item, len(list))
	for n := range list {
		i := &list[n]
		out[n] = tray.Item{Key: i.Key, Kind: kinds[i.Kind], Title: i.Title, On: i.On, Picture: dots[i.Dot], Items: items(i.Items)}
		if i.Command != nil {
			out[n].Command = i.Command
		}
	}
	return out
}

// sizes of the icons, in pixels, from small to large.
var sizes = []int{16, 22, 24, 32, 48, 64}

var (
	icons = map[menu.Icon][]string{}
	dots  = map[menu.Dot]string{}
)

func init() {
	for _, shape := range []menu.Shape{menu.Busy, menu.Out, menu.In, menu.Trouble} {
		for _, side := range sizes {
			icons[menu.Icon{Shape: shape}] = append(icons[menu.Icon{Shape: shape}], picture(shape.String(), side))
			icons[menu.Icon{Shape: shape, Dot: true}] = append(icons[menu.Icon{Shape: shape, Dot: true}], picture(shape.String()+"-update", side))
		}
	}
	for _, d := range []menu.Dot{menu.Grey, menu.Green, menu.Red} {
		dots[d] = picture("dot-"+d.String(), sizes[0])
	}
}

// picture is a PNG that is built in.
func picture(name string, side int) string {
	b, err := assets.Tray.ReadFile("tray/" + name + "-" + strconv.Itoa(side) + ".png")
	if err != nil {
		panic(err) // run build/icons
	}
	return string(b)
}

// Nowhere is a desktop without a panel and without messages: there is nothing to
// be told about it.
type Nowhere struct{}

// Run waits until ctx ends.
func (Nowhere) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (Nowhere) Show(menu.Menu) {}
func (Nowhere) Notify(Note)    {}
