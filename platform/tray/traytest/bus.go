// Package traytest is a desktop for tests: a session bus of its own, a panel
// that shows icons and their menus, and somebody who shows messages. The test
// looks at what they were told, and clicks.
package traytest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// Patience is how long the functions of this package wait for something that
// has to happen.
const Patience = 10 * time.Second

// ErrNoDaemon means that this machine has no program that carries a bus.
var ErrNoDaemon = errors.New("dbus-daemon is not installed")

// T is what a desktop needs of those who play on it: a test, or another program
// whose Fatal does not return either.
type T interface {
	Helper()
	Cleanup(func())
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// configuration lets everybody of this user do everything on the bus.
const configuration = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=%s/bus</listen>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
`

// Configuration is for a dbus-daemon whose socket is DIR/bus.
func Configuration(dir string) []byte { return fmt.Appendf(nil, configuration, dir) }

// Bus starts a session bus, which ends with the test, and returns its address.
// The error is ErrNoDaemon where there is no such program.
func Bus(t T) (string, error) {
	daemon, err := exec.LookPath("dbus-daemon")
	if err != nil {
		return "", ErrNoDaemon
	}
	dir, err := os.MkdirTemp("", "bus") // the name of a socket has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	config := filepath.Join(dir, "session.conf")
	if err := os.WriteFile(config, Configuration(dir), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	c := exec.CommandContext(ctx, daemon, "--config-file="+config, "--print-address", "--nofork", "--nopidfile")
	c.SysProcAttr = mortal()
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(); c.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal("the bus did not start: ", err)
	}
	return strings.TrimSpace(line), nil
}

// self is the user that the bus knows us as, unless it has another view of users
// than we have.
func self() string { return strconv.Itoa(os.Geteuid()) }

// connect is one more program on the bus.
func connect(t T, address, user string) *dbus.Conn {
	t.Helper()
	conn, err := dbus.Dial(address, dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
	if err == nil {
		err = errors.Join(conn.Auth([]dbus.Auth{dbus.AuthExternal(user)}), conn.Hello())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}
