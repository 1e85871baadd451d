package seat

import (
	"context"
	"fmt"

	"github.com/godbus/dbus/v5"
)

// Names of the login manager's interface, org.freedesktop.login1(5).
const (
	login1  = "org.freedesktop.login1"
	manager = login1 + ".Manager"
	seat    = login1 + ".Seat"
	session = login1 + ".Session"
)

const maxSeats = 64

// active asks logind for the users of the active sessions of all seats. Greeters
// and lock screens are no users; sessions over the network have no seat.
func active(ctx context.Context) ([]uint32, error) {
	bus, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("ask who sits here: %w", err)
	}
	defer bus.Close()
	var seats []struct {
		Name string
		Path dbus.ObjectPath
	}
	if err := bus.Object(login1, "/org/freedesktop/login1").CallWithContext(ctx, manager+".ListSeats", dbus.FlagNoAutoStart).Store(&seats); err != nil {
		return nil, fmt.Errorf("ask who sits here: %w", err)
	}
	var users []uint32
	for _, s := range seats[:min(len(seats), maxSeats)] {
		var front struct {
			Name string
			Path dbus.ObjectPath
		}
		if err := property(ctx, bus, s.Path, seat, "ActiveSession", &front); err != nil || front.Name == "" {
			continue // nobody
		}
		if uid, ok := person(ctx, bus, front.Path); ok {
			users = append(users, uid)
		}
	}
	return users, nil
}

// person returns whose session it is, if it is a local person's that is active.
func person(ctx context.Context, bus *dbus.Conn, path dbus.ObjectPath) (uid uint32, ok bool) {
	var user struct {
		UID  uint32
		Path dbus.ObjectPath
	}
	var class string
	var remote, active bool
	for name, value := range map[string]any{"User": &user, "Class": &class, "Remote": &remote, "Active": &active} {
		if property(ctx, bus, path, session, name, value) != nil {
			return 0, false
		}
	}
	return user.UID, class == "user" && active && !remote
}

func property(ctx context.Context, bus *dbus.Conn, path dbus.ObjectPath, of, name string, value any) error {
	var v dbus.Variant
	err := bus.Object(login1, path).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", dbus.FlagNoAutoStart, of, name).Store(&v)
	if err != nil {
		return err
	}
	return v.Store(value)
}
