package ipcsock

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"
)

// occupyFirst holds the first instance of a pipe. go-winio never accepts on it.
// Windows lets nobody connect to it; Wine does, and who comes first would wait
// for ever.
func occupyFirst(t *testing.T, path string) {
	if !isWine() {
		return
	}
	to := time.Second
	c, err := winio.DialPipe(path, &to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
}

// meet returns both ends of a connection.
func meet(t *testing.T, l net.Listener) (client, server net.Conn) {
	t.Helper()
	accepted := make(chan net.Conn, 1)
	go func() { // a listener has an instance for the next client while it accepts
		conn, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- conn
	}()
	client, err := Dial(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if server = <-accepted; server == nil {
		t.FailNow()
	}
	t.Cleanup(func() { server.Close() })
	return client, server
}

func isWine() bool {
	return windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil
}

func TestBothEndsOfAPipeKnowEachOther(t *testing.T) {
	path := Path("test-" + filepath.Base(t.TempDir()))
	if _, err := Dial(path); !errors.Is(err, ErrNobody) {
		t.Errorf("no pipe: %v", err)
	}
	l, err := Listen(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	occupyFirst(t, path)
	client, conn := meet(t, l)
	us, err := ourSID()
	if err != nil {
		t.Fatal(err)
	}
	session, err := ourSession()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Caller(conn)
	if err != nil || int(p.PID) != os.Getpid() || p.SID != us || p.Session != session || p.UID != noID {
		t.Errorf("caller: %+v, %v; we are %s in session %d", p, err, us, session)
	}
	server, trusted, err := Server(client)
	if err != nil || !trusted || int(server.PID) != os.Getpid() || server.SID != us && server.SID != systemSID {
		t.Errorf("server: %+v, %v, %v", server, trusted, err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := Trusted(conn, p, []string{`C:\elsewhere\stile.exe`, strings.ToUpper(self)}); err != nil {
		t.Errorf("our own program: %v", err)
	}
	if err := Trusted(conn, p, []string{`C:\elsewhere\stile.exe`}); !errors.Is(err, ErrUntrusted) {
		t.Errorf("another program: %v", err)
	}

	for _, ends := range [][2]interface {
		Read([]byte) (int, error)
		Write([]byte) (int, error)
	}{{client, conn}, {conn, client}} {
		if _, err := ends[0].Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 16)
		if n, err := ends[1].Read(b); err != nil || string(b[:n]) != "hello" {
			t.Errorf("%q, %v", b[:n], err)
		}
	}
	conn.Write([]byte("bye")) // what is said before hanging up arrives
	conn.Close()
	b := make([]byte, 16)
	if n, err := client.Read(b); err != nil || string(b[:n]) != "bye" {
		t.Errorf("%q, %v", b[:n], err)
	}
	client.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := client.Read(b); err == nil {
		t.Error("the pipe is still open")
	}
}

func TestAPipeIsTakenOnce(t *testing.T) {
	path := Path("test-" + filepath.Base(t.TempDir()))
	l, err := Listen(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if second, err := Listen(path, 0); !errors.Is(err, ErrInUse) {
		t.Errorf("%v, %v", second, err)
	}
	if _, err := Listen(filepath.Join(t.TempDir(), "s"), 0); err == nil {
		t.Error("a file served as a pipe")
	}
}

// What the system keeps is what describe wrote.
func TestRightsOfAPipeAreKept(t *testing.T) {
	path := Path("test-" + filepath.Base(t.TempDir()))
	l, err := Listen(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	occupyFirst(t, path)
	conn, _ := meet(t, l)
	pipe, err := handle(conn)
	if err != nil {
		t.Fatal(err)
	}
	info, err := windows.GetSecurityInfo(pipe, windows.SE_KERNEL_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		t.Fatal(err)
	}
	got := info.String()
	for _, want := range []string{"D:P", ";;;NU)", ";;;AN)", "(A;;0x12019b;;;IU)", ";;;SY)"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s has no %s", got, want)
		}
	}
}
