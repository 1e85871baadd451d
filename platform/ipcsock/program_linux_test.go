package ipcsock

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A stage is a folder that others can see, with a copy of this test as program.
func stage(t *testing.T) (dir, prog string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "ipcsock") // t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	prog = filepath.Join(dir, "prog")
	copyFile(t, "/proc/self/exe", prog)
	return dir, prog
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// callWith makes another program connect, after between, as user 12345 if that
// user exists here.
func callWith(t *testing.T, dir string, child *exec.Cmd, between func()) net.Conn {
	t.Helper()
	l, err := Listen(filepath.Join(dir, fmt.Sprint("s", time.Now().UnixNano())), 0o666)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	child.Env = []string{"CALL_SOCKET=" + l.Addr().String(), "CALL_WHEN_TOLD=1"}
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EINVAL) {
			t.Skip("this needs a second user, which only root outside of a one-user namespace has")
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { child.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil { // it runs
		t.Fatalf("%q, %v", line, err)
	}
	between()
	io.WriteString(in, "go\n")
	l.(*net.UnixListener).SetDeadline(time.Now().Add(30 * time.Second))
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestTrustedPrograms(t *testing.T) {
	asOther := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 12345}}
	for _, row := range []struct {
		name    string
		trusted string // "": prog
		prepare func(t *testing.T, prog string)
		between func(t *testing.T, prog string)
		want    error
	}{
		{"installed", "", nil, nil, nil},
		{"another program", "/bin/true", nil, nil, ErrUntrusted},
		{"one that is not there", "/no/such/stile", nil, nil, ErrUntrusted},
		{"all may write it", "", func(t *testing.T, prog string) { os.Chmod(prog, 0o757) }, nil, ErrUntrusted},
		{"a group may write it", "", func(t *testing.T, prog string) { os.Chmod(prog, 0o775) }, nil, ErrUntrusted},
		{"the user's own", "", func(t *testing.T, prog string) {
			if err := os.Chown(prog, 12345, 12345); err != nil {
				t.Skip("this needs a second user:", err)
			}
		}, nil, ErrUntrusted},
		{"replaced, as by an upgrade", "", nil, func(t *testing.T, prog string) {
			copyFile(t, prog, prog+".new")
			if err := os.Rename(prog+".new", prog); err != nil {
				t.Fatal(err)
			}
		}, ErrReplaced},
		{"deleted", "", nil, func(t *testing.T, prog string) { os.Remove(prog) }, ErrReplaced},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir, prog := stage(t)
			if row.prepare != nil {
				row.prepare(t, prog)
			}
			child := exec.Command(prog)
			child.SysProcAttr = asOther
			conn := callWith(t, dir, child, func() {
				if row.between != nil {
					row.between(t, prog)
				}
			})
			p, err := Caller(conn)
			if err != nil || p.UID != 12345 {
				t.Fatalf("%+v, %v", p, err)
			}
			if row.trusted != "" {
				prog = row.trusted
			}
			if err := Trusted(conn, p, []string{"/elsewhere/stile", prog}); !errors.Is(err, row.want) || row.want == nil && err != nil {
				t.Errorf("%v, want %v", err, row.want)
			}
			if !errors.Is(Trusted(conn, p, nil), ErrUntrusted) && row.want == nil {
				t.Error("nothing is trusted, but something was")
			}
		})
	}
}

// In a mount namespace of its own a process can have any file at the path of a
// trusted program.
func TestAPathIsNotAProgram(t *testing.T) {
	dir, prog := stage(t)
	copyFile(t, prog, prog+"2")
	child := exec.Command("/bin/sh", "-c", `mount --bind "$0"2 "$0" && exec "$0"`, prog)
	child.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	conn := callWith(t, dir, child, func() {})
	p, err := Caller(conn)
	if err != nil {
		t.Fatal(err)
	}
	e, err := program(conn, p)
	if err != nil || e.path != prog {
		t.Logf("the kernel says %+v, %v", e, err) // then it is told apart anyway
	}
	if err := Trusted(conn, p, []string{prog}); !errors.Is(err, ErrUntrusted) {
		t.Errorf("%v", err)
	}
}

// A caller that has ended may have left its number to another process.
func TestWhoHasEndedIsNotTrusted(t *testing.T) {
	dir, prog := stage(t)
	child := exec.Command(prog)
	conn := callWith(t, dir, child, func() {})
	p, err := Caller(conn)
	if err != nil {
		t.Fatal(err)
	}
	if err := Trusted(conn, p, []string{prog}); err != nil {
		t.Fatal(err)
	}
	child.Process.Kill()
	child.Wait()
	if err := Trusted(conn, p, []string{prog}); !errors.Is(err, ErrUnknownProgram) {
		t.Errorf("%v", err)
	}
}

func TestInstalled(t *testing.T) {
	self, _ := os.Executable()
	if got := Installed("stile"); len(got) != 3 || got[0] != filepath.Join(filepath.Dir(self), "stile") || got[1] != "/usr/bin/stile" || strings.Contains(strings.Join(got, ""), "//") {
		t.Errorf("%q", got)
	}
}
