package keystore

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"stile/build/need"
)

// session makes a login session with a bus of its own, on which nothing starts
// by itself.
func session(t *testing.T) {
	t.Helper()
	need.Tools(t, "dbus, gnome-keyring and libsecret-tools", "dbus-daemon")
	dir, err := os.MkdirTemp("", "session") // the names of sockets have to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	conf := filepath.Join(dir, "bus.conf")
	err = os.WriteFile(conf, []byte(`<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path=`+dir+`/bus</listen>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	start(t, exec.Command("dbus-daemon", "--config-file="+conf, "--nofork", "--print-address"))
	t.Setenv("HOME", dir)
	t.Setenv("XDG_DATA_HOME", "")
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
}

// start runs a program until the test ends; it is up when it has written a line.
func start(t *testing.T, c *exec.Cmd) {
	t.Helper()
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("%s: %q %v", c.Path, line, err)
	}
}

// keyring runs GNOME's with a login collection, unlocked.
func keyring(t *testing.T) {
	t.Helper()
	session(t)
	need.Tools(t, "dbus, gnome-keyring and libsecret-tools", "gnome-keyring-daemon", "secret-tool")
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+os.Getenv("XDG_RUNTIME_DIR")+"/bus") // for the tools
	c := exec.Command("gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets")
	c.Stdin = strings.NewReader("password")
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	var err error
	for range 100 {
		if _, err = (User{}).Load(t.Context(), "anything"); errors.Is(err, ErrNoSecret) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("the keyring does not come up: ", err)
}

func bus(t *testing.T) *dbus.Conn {
	t.Helper()
	conn, err := dbus.Connect("unix:path=" + os.Getenv("XDG_RUNTIME_DIR") + "/bus")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// soon checks that a call ends in time, whatever comes of it.
func soon(t *testing.T, call func() error) error {
	t.Helper()
	began := time.Now()
	err := call()
	if took := time.Since(began); took > storeTime+2*time.Second {
		t.Errorf("it took %v", took)
	}
	return err
}

func TestSecretsOfTheUser(t *testing.T) {
	keyring(t)
	var u User
	ctx := t.Context()
	if _, err := u.Load(ctx, "wss://a.example"); !errors.Is(err, ErrNoSecret) {
		t.Errorf("empty: %v", err)
	}
	if err := u.Delete(ctx, "wss://a.example"); err != nil {
		t.Errorf("delete nothing: %v", err)
	}
	for _, value := range []string{"first", "second, \n\x00 binary ü", strings.Repeat("x", 20_000)} {
		for _, name := range []string{"wss://a.example", "wss://b.example"} {
			if err := u.Save(ctx, name, name+value); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := u.Load(ctx, "wss://a.example"); got != "wss://a.example"+value || err != nil {
			t.Errorf("%.40q, %v", got, err)
		}
	}
	// Others see it as one of theirs, and one of it.
	out, err := exec.Command("secret-tool", "search", "--all", "application", "stile").CombinedOutput()
	if n := strings.Count(string(out), "label = Stile: wss://a.example"); n != 1 || err != nil {
		t.Errorf("%d entries, %v\n%.500s", n, err, out)
	}
	for range 2 {
		if err := u.Delete(ctx, "wss://a.example"); err != nil {
			t.Error(err)
		}
	}
	if _, err := u.Load(ctx, "wss://a.example"); !errors.Is(err, ErrNoSecret) {
		t.Errorf("deleted: %v", err)
	}
	if _, err := u.Load(ctx, "wss://b.example"); err != nil {
		t.Errorf("the other: %v", err)
	}
}

func TestALockedStoreAsksNobody(t *testing.T) {
	keyring(t)
	var u User
	if err := u.Save(t.Context(), "wss://a.example", "secret"); err != nil {
		t.Fatal(err)
	}
	var locked []dbus.ObjectPath
	var prompt dbus.ObjectPath
	conn := bus(t)
	if err := conn.Object(ssName, ssPath).Call(ssService+"Lock", 0, []dbus.ObjectPath{ssPath + "/collection/login"}).Store(&locked, &prompt); err != nil {
		t.Fatal(err)
	}
	for what, call := range map[string]func() error{
		"save":   func() error { return u.Save(t.Context(), "wss://a.example", "x") },
		"load":   func() error { _, err := u.Load(t.Context(), "wss://a.example"); return err },
		"delete": func() error { return u.Delete(t.Context(), "wss://a.example") },
	} {
		if err := soon(t, call); !errors.Is(err, ErrLocked) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestNoStore(t *testing.T) {
	session(t)
	var u User
	for what, address := range map[string]string{"no service": "", "no bus": "unix:path=/no/such/bus", "nonsense": "x"} {
		t.Setenv("DBUS_SESSION_BUS_ADDRESS", address)
		if err := soon(t, func() error { return u.Save(t.Context(), "a", "x") }); !errors.Is(err, ErrNoStore) {
			t.Errorf("%s: %v", what, err)
		}
		if err := soon(t, func() error { _, err := u.Load(t.Context(), "a"); return err }); !errors.Is(err, ErrNoStore) {
			t.Errorf("%s: %v", what, err)
		}
		if err := u.Delete(t.Context(), "a"); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	for _, dir := range []string{"", t.TempDir()} {
		t.Setenv("XDG_RUNTIME_DIR", dir)
		if _, err := u.Load(t.Context(), "a"); !errors.Is(err, ErrNoStore) {
			t.Error(err)
		}
	}
}

// The service is there and says nothing, as one that hangs.
func TestAStoreThatHangs(t *testing.T) {
	session(t)
	conn := bus(t)
	if _, err := conn.RequestName(ssName, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	var u User
	conn.Eavesdrop(make(chan *dbus.Message, 100)) // takes the calls and does not answer
	if err := soon(t, func() error { _, err := u.Load(t.Context(), "a"); return err }); !errors.Is(err, ErrNoStore) {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := u.Save(ctx, "a", "x"); err == nil || time.Since(began) > time.Second {
		t.Error(err)
	}
}
