package tray

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

// Where things are on the bus.
const (
	itemPath = dbus.ObjectPath("/StatusNotifierItem")
	menuPath = dbus.ObjectPath("/StatusNotifierItem/menu")

	itemInterface  = "org.kde.StatusNotifierItem"
	menuInterface  = "com.canonical.dbusmenu"
	watcherName    = "org.kde.StatusNotifierWatcher"
	watcherPath    = dbus.ObjectPath("/StatusNotifierWatcher")
	notesName      = "org.freedesktop.Notifications"
	notesPath      = dbus.ObjectPath("/org/freedesktop/Notifications")
	propertiesName = "org.freedesktop.DBus.Properties"
)

// callTime is how long another program on the bus has for an answer.
const callTime = 5 * time.Second

// A Tray is the program's place on the desktop. Show and Notify may be called
// from any goroutine.
type Tray struct {
	config  Config
	conn    *dbus.Conn
	notes   chan Note
	signals chan *dbus.Signal

	mu       sync.Mutex // guards the rest
	tree     tree
	revision uint32 // of the menu's layout
	icon     []string
	tooltip  string
	pixmaps  []pixmap // the icon's, as the bus carries it
}

// New connects to the desktop of this login session and shows nothing yet. The
// error is ErrNoDesktop if there is none. Who got a Tray has to Run it.
func New(c Config) (*Tray, error) {
	t, err := connect(c)
	if err != nil {
		return nil, err
	}
	if err := t.export(); err != nil {
		t.conn.Close()
		return nil, fmt.Errorf("%w: show an icon on the session bus: %w", ErrNoDesktop, err)
	}
	return t, nil
}

// connect joins the session bus as a program that shows nothing.
func connect(c Config) (*Tray, error) {
	if os.Getenv("DBUS_SESSION_BUS_ADDRESS") == "" && !exists(filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "bus")) {
		return nil, ErrNoDesktop
	}
	conn, err := dbus.SessionBusPrivateNoAutoStartup(dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
	if err != nil {
		return nil, fmt.Errorf("%w: connect to the session bus: %w", ErrNoDesktop, err)
	}
	t := &Tray{config: c, conn: conn, notes: make(chan Note, queuedNotes), signals: make(chan *dbus.Signal, 16), revision: 1}
	if err := errors.Join(conn.Auth(nil), conn.Hello()); err != nil {
		conn.Close()
		return nil, fmt.Errorf("%w: greet the session bus: %w", ErrNoDesktop, err)
	}
	return t, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Run keeps the icon in the panel, wherever there comes one, until ctx ends.
// The error tells that the desktop ended before.
func (t *Tray) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	t.conn.Signal(t.signals)
	var g sync.WaitGroup
	defer t.conn.Close()
	defer g.Wait()
	defer cancel()
	if err := t.subscribe(ctx); ctx.Err() != nil {
		return nil
	} else if err != nil {
		return fmt.Errorf("watch the desktop: %w", err)
	}
	n := newNotes(t)
	g.Go(func() { n.deliver(ctx) }) // now no click on one is missed
	r := registration{Tray: t}
	r.register(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil
		case s, open := <-t.signals:
			if !open {
				return errors.New("the desktop's session bus went away")
			}
			switch s.Path {
			case notesPath:
				n.heard(s)
			default:
				r.heard(ctx, s)
			}
		}
	}
}

// subscribe asks the bus for the signals that matter. It is done before the
// first look at who is there and before the first note, so that nobody who comes
// meanwhile is missed, and no click.
func (t *Tray) subscribe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	return errors.Join(
		t.conn.AddMatchSignalContext(ctx, dbus.WithMatchSender("org.freedesktop.DBus"), dbus.WithMatchInterface("org.freedesktop.DBus"),
			dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, watcherName)),
		t.conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(watcherName), dbus.WithMatchInterface(watcherName), dbus.WithMatchMember("StatusNotifierHostRegistered")),
		t.conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(watcherName), dbus.WithMatchInterface(watcherName), dbus.WithMatchMember("StatusNotifierHostUnregistered")),
		t.conn.AddMatchSignalContext(ctx, dbus.WithMatchInterface(notesName), dbus.WithMatchObjectPath(notesPath)),
	)
}

// A registration is how the panel knows of the icon.
type registration struct {
	*Tray
	told, shown bool // what Config.Hosted was told
}

// heard follows the watcher: the program of the desktop that keeps the list of
// icons.
func (r *registration) heard(ctx context.Context, s *dbus.Signal) {
	switch s.Name {
	case "org.freedesktop.DBus.NameOwnerChanged":
		switch {
		case len(s.Body) != 3 || s.Body[0] != watcherName:
		case s.Body[2] == "": // it left
			r.tell(false)
		default:
			r.register(ctx)
		}
	case watcherName + ".StatusNotifierHostRegistered", watcherName + ".StatusNotifierHostUnregistered":
		r.tell(r.hosted(ctx))
	}
}

// register tells the watcher of the icon. Doing it twice is no harm.
func (r *registration) register(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	watcher := r.conn.Object(watcherName, watcherPath)
	err := watcher.CallWithContext(ctx, watcherName+".RegisterStatusNotifierItem", dbus.FlagNoAutoStart, r.name()).Err
	r.tell(err == nil && r.hosted(ctx))
}

// hosted asks whether a panel draws what the watcher knows. Watchers that do
// not say are their own panel.
func (r *registration) hosted(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	var v dbus.Variant
	err := r.conn.Object(watcherName, watcherPath).CallWithContext(ctx, propertiesName+".Get", dbus.FlagNoAutoStart, watcherName, "IsStatusNotifierHostRegistered").Store(&v)
	if e, is := errors.AsType[dbus.Error](err); is {
		return e.Name != "org.freedesktop.DBus.Error.ServiceUnknown" && e.Name != "org.freedesktop.DBus.Error.NameHasNoOwner"
	}
	drawn, is := v.Value().(bool)
	return err == nil && (drawn || !is)
}

func (r *registration) tell(shown bool) {
	if r.told && r.shown == shown {
		return
	}
	r.told, r.shown = true, shown
	r.config.Hosted(shown)
}

// name is the program's name on the bus, of the form that panels expect.
func (t *Tray) name() string { return fmt.Sprintf("%s-%d-1", itemInterface, os.Getpid()) }

// Show makes the desktop show l. It costs nothing if it does already.
func (t *Tray) Show(l Look) {
	t.mu.Lock()
	d := t.tree.update(l.Items, time.Now())
	if len(d.parents) > 0 {
		t.revision++
	}
	revision := t.revision
	icon, tooltip := !slices.Equal(t.icon, l.Icon), t.tooltip != l.Tooltip
	if icon {
		t.icon, t.pixmaps = l.Icon, pixmapsOf(l.Icon)
	}
	t.tooltip = l.Tooltip
	changed := propertiesOf(d.changed)
	t.mu.Unlock()

	if icon {
		t.emit(itemPath, itemInterface+".NewIcon")
	}
	if tooltip {
		t.emit(itemPath, itemInterface+".NewToolTip")
	}
	if len(changed) > 0 {
		t.emit(menuPath, menuInterface+".ItemsPropertiesUpdated", changed, removedOf(changed))
	}
	// Each menu by itself: some panels ask for just that one and none below it.
	for _, parent := range d.parents {
		t.emit(menuPath, menuInterface+".LayoutUpdated", revision, parent)
	}
}

// emit sends a signal. If that fails the connection is broken, of which Run
// tells.
func (t *Tray) emit(path dbus.ObjectPath, name string, values ...any) {
	_ = t.conn.Emit(path, name, values...)
}
