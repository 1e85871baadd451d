package seat

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// A login is a session of the login manager that the tests play.
type login struct {
	seat           string
	uid            uint32
	class          string
	active, remote bool
}

// bus starts a message bus of its own.
func bus(t *testing.T) {
	t.Helper()
	daemon, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Fatal("dbus-daemon is missing: apt install dbus-daemon")
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "bus.conf")
	os.WriteFile(config, []byte(`<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=`+dir+`/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/><allow user="*"/></policy></busconfig>`), 0o600)
	c := exec.Command(daemon, "--config-file="+config, "--nofork", "--print-address")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", strings.TrimSpace(address))
}

// manage puts a login manager with these sessions on the bus; the active one of
// a seat is in front.
func manage(t *testing.T, logins ...login) {
	t.Helper()
	conn, err := dbus.ConnectSystemBus()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	play(t, conn, logins)
	if reply, err := conn.RequestName(login1, dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatal(reply, err)
	}
}

type object struct {
	Name string
	Path dbus.ObjectPath
}

type owner struct {
	UID  uint32
	Path dbus.ObjectPath
}

// props answers Get.
type props map[string]any

func (p props) Get(_, name string) (dbus.Variant, *dbus.Error) {
	v, ok := p[name]
	if !ok {
		return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", nil)
	}
	return dbus.MakeVariant(v), nil
}

type lister []object

func (l lister) ListSeats() ([]object, *dbus.Error) { return l, nil }

func play(t *testing.T, conn *dbus.Conn, logins []login) {
	t.Helper()
	var seats lister
	front := map[string]object{}
	for n, l := range logins {
		path := dbus.ObjectPath("/org/freedesktop/login1/session/_3" + string(rune('0'+n)))
		if l.active {
			front[l.seat] = object{string(rune('0' + n)), path}
		} else if _, known := front[l.seat]; !known {
			front[l.seat] = object{"", "/"}
		}
		conn.Export(props{"User": owner{l.uid, "/user"}, "Class": l.class, "Active": l.active, "Remote": l.remote}, path, "org.freedesktop.DBus.Properties")
	}
	for name, f := range front {
		path := dbus.ObjectPath("/org/freedesktop/login1/seat/" + name)
		seats = append(seats, object{name, path})
		conn.Export(props{"ActiveSession": f}, path, "org.freedesktop.DBus.Properties")
	}
	conn.Export(seats, "/org/freedesktop/login1", manager)
}

func TestActive(t *testing.T) {
	for _, test := range []struct {
		name   string
		logins []login
		want   []uint32
	}{
		{"nobody", nil, nil},
		{"one user", []login{{"seat0", 1000, "user", true, false}}, []uint32{1000}},
		{"the one in front", []login{{"seat0", 1000, "user", false, false}, {"seat0", 1001, "user", true, false}}, []uint32{1001}},
		{"nobody in front", []login{{"seat0", 1000, "user", false, false}}, nil},
		{"the greeter", []login{{"seat0", 110, "greeter", true, false}}, nil},
		{"somebody far away", []login{{"seat0", 1000, "user", true, true}}, nil},
		{"two seats", []login{{"seat0", 1000, "user", true, false}, {"seat1", 1001, "user", true, false}}, []uint32{1000, 1001}},
	} {
		t.Run(test.name, func(t *testing.T) {
			bus(t)
			manage(t, test.logins...)
			got, err := active(t.Context())
			slices.Sort(got)
			if err != nil || !slices.Equal(got, test.want) {
				t.Errorf("%v, %v; want %v", got, err, test.want)
			}
			var k Keeper
			if k.Has(t.Context(), 1000) != slices.Contains(test.want, 1000) || k.Has(t.Context(), 0) {
				t.Error("the keeper says something else")
			}
		})
	}
}

// Without a bus, or without a login manager on it, nobody sits here, and that
// is known soon.
func TestNobodyToAsk(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "none"))
	if _, err := active(t.Context()); err == nil {
		t.Error("no bus, no error")
	}
	bus(t)
	began := time.Now()
	if _, err := active(t.Context()); err == nil || time.Since(began) > 5*time.Second {
		t.Errorf("no login manager: %v after %v", err, time.Since(began))
	}
}

func TestAsksOnceASecond(t *testing.T) {
	asked := 0
	k := Keeper{ask: func(context.Context) ([]uint32, error) { asked++; return []uint32{7}, nil }}
	for range 100 {
		if !k.Has(t.Context(), 7) || k.Has(t.Context(), 8) {
			t.Fatal("wrong user")
		}
	}
	if asked > 2 {
		t.Errorf("asked %d times", asked)
	}
	k.expire = time.Time{}
	k.ask = func(context.Context) ([]uint32, error) { asked++; return nil, errors.New("no") }
	asked = 0
	for range 100 {
		if k.Has(t.Context(), 7) {
			t.Fatal("who cannot be asked about is let in")
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times in vain", asked)
	}
}
