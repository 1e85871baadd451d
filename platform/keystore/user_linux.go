package keystore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/godbus/dbus/v5"
)

// The Secret Service API of freedesktop.org, draft 0.2. Its clients for Go wait
// for prompts without an end, and start a bus where there is none; we need the
// few calls that do neither.
const (
	ssName       = "org.freedesktop.secrets"
	ssPath       = dbus.ObjectPath("/org/freedesktop/secrets")
	ssService    = "org.freedesktop.Secret.Service."
	ssCollection = "org.freedesktop.Secret.Collection."
	ssItem       = "org.freedesktop.Secret.Item."
	ssPrompt     = "org.freedesktop.Secret.Prompt."
	ssSession    = "org.freedesktop.Secret.Session."

	nothing = dbus.ObjectPath("/") // for "no such object" and "no prompt"
)

// A secret is what the API calls one, in the session it was opened in.
type secret struct {
	Session     dbus.ObjectPath
	Parameters  []byte
	Value       []byte
	ContentType string
}

// A wallet is an unlocked collection, opened.
type wallet struct {
	conn       *dbus.Conn
	collection dbus.ObjectPath
	session    dbus.ObjectPath
}

// open opens the user's default collection. The bus is one that runs already:
// whoever has none, has no desktop.
func openWallet(ctx context.Context) (*wallet, error) {
	address := os.Getenv("DBUS_SESSION_BUS_ADDRESS")
	if address == "" {
		socket := filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "bus")
		if _, err := os.Stat(socket); err != nil || !filepath.IsAbs(socket) {
			return nil, ErrNoStore
		}
		address = "unix:path=" + socket
	}
	conn, err := dbus.Connect(address, dbus.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoStore, err)
	}
	w := &wallet{conn: conn}
	if err := w.open(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return w, nil
}

func (w *wallet) open(ctx context.Context) error {
	if err := w.call(ctx, ssPath, ssService+"ReadAlias", "default").Store(&w.collection); err != nil {
		return fmt.Errorf("%w: %w", ErrNoStore, err)
	}
	if w.collection == nothing {
		return ErrNoStore // it starts empty, and would ask for a password to begin with
	}
	var locked dbus.Variant
	if err := w.call(ctx, w.collection, "org.freedesktop.DBus.Properties.Get", "org.freedesktop.Secret.Collection", "Locked").Store(&locked); err != nil {
		return fmt.Errorf("%w: %w", ErrNoStore, err)
	}
	if is, ok := locked.Value().(bool); !ok || is {
		return ErrLocked
	}
	// Nobody but this user is on this bus, so that it may be plain.
	var output dbus.Variant
	if err := w.call(ctx, ssPath, ssService+"OpenSession", "plain", dbus.MakeVariant("")).Store(&output, &w.session); err != nil {
		return fmt.Errorf("%w: %w", ErrNoStore, err)
	}
	return nil
}

func (w *wallet) call(ctx context.Context, path dbus.ObjectPath, method string, args ...any) *dbus.Call {
	return w.conn.Object(ssName, path).CallWithContext(ctx, method, 0, args...)
}

func (w *wallet) close(ctx context.Context) {
	w.call(ctx, w.session, ssSession+"Close")
	w.conn.Close()
}

// attributes are how our secrets are found again.
func attributes(name string) map[string]string {
	return map[string]string{"application": "stile", "name": name}
}

// find returns the secret's place.
func (w *wallet) find(ctx context.Context, name string) (dbus.ObjectPath, error) {
	var items []dbus.ObjectPath
	if err := w.call(ctx, w.collection, ssCollection+"SearchItems", attributes(name)).Store(&items); err != nil {
		return "", fmt.Errorf("look for the user's secret: %w", err)
	}
	if len(items) == 0 {
		return "", ErrNoSecret
	}
	return items[0], nil
}

// unasked refuses a prompt, which somebody would have to answer.
func (w *wallet) unasked(ctx context.Context, prompt dbus.ObjectPath) error {
	if prompt == nothing {
		return nil
	}
	w.call(ctx, prompt, ssPrompt+"Dismiss")
	return ErrLocked
}

func save(ctx context.Context, name, value string) error {
	w, err := openWallet(ctx)
	if err != nil {
		return err
	}
	defer w.close(ctx)
	properties := map[string]dbus.Variant{
		ssItem + "Label":      dbus.MakeVariant("Stile: " + name),
		ssItem + "Attributes": dbus.MakeVariant(attributes(name)),
	}
	var item, prompt dbus.ObjectPath
	s := secret{w.session, []byte{}, []byte(value), "text/plain; charset=utf8"}
	if err := w.call(ctx, w.collection, ssCollection+"CreateItem", properties, s, true).Store(&item, &prompt); err != nil {
		return fmt.Errorf("keep the user's secret: %w", err)
	}
	return w.unasked(ctx, prompt)
}

func load(ctx context.Context, name string) (string, error) {
	w, err := openWallet(ctx)
	if err != nil {
		return "", err
	}
	defer w.close(ctx)
	item, err := w.find(ctx, name)
	if err != nil {
		return "", err
	}
	var s secret
	err = w.call(ctx, item, ssItem+"GetSecret", w.session).Store(&s)
	if e, is := errors.AsType[dbus.Error](err); is && e.Name == "org.freedesktop.Secret.Error.IsLocked" {
		return "", ErrLocked
	}
	if err != nil {
		return "", fmt.Errorf("read the user's secret: %w", err)
	}
	return string(s.Value), nil
}

func remove(ctx context.Context, name string) error {
	w, err := openWallet(ctx)
	if err != nil {
		return err
	}
	defer w.close(ctx)
	item, err := w.find(ctx, name)
	if err != nil {
		return err
	}
	var prompt dbus.ObjectPath
	if err := w.call(ctx, item, ssItem+"Delete").Store(&prompt); err != nil {
		return fmt.Errorf("delete the user's secret: %w", err)
	}
	return w.unasked(ctx, prompt)
}
