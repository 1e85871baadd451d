//go:build !windows

package ipcsock

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestCallerIsUs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "s")
	l, err := Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	client, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p, err := Caller(conn)
	if err != nil || int(p.UID) != os.Getuid() || int(p.GID) != os.Getgid() || int(p.PID) != os.Getpid() {
		t.Errorf("%+v, %v", p, err)
	}
	if p, trusted, err := Server(client); err != nil || !trusted || int(p.PID) != os.Getpid() {
		t.Errorf("%+v, %v, %v", p, trusted, err)
	}
	if _, err := Caller(nil); err == nil {
		t.Error("no connection has a caller")
	}
}

func TestListenReplacesWhatIsDeadAndRefusesWhatLives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if _, err := Dial(path); !errors.Is(err, ErrNobody) {
		t.Errorf("no socket: %v", err)
	}
	dead, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	dead.Close() // as after kill -9
	if _, err := Dial(path); !errors.Is(err, ErrNobody) {
		t.Errorf("dead socket: %v", err)
	}
	l, err := Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Listen(path, 0o600); !errors.Is(err, ErrInUse) {
		t.Errorf("second listener: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	os.WriteFile(file, []byte("precious"), 0o600)
	if _, err := Listen(file, 0o600); err == nil {
		t.Error("listened in place of a file")
	}
	if b, _ := os.ReadFile(file); string(b) != "precious" {
		t.Error("a file was removed")
	}
}
