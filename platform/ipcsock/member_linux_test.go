package ipcsock

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// The test runs itself, as others.
func TestMain(m *testing.M) {
	if path := os.Getenv("CALL_SOCKET"); path != "" {
		if os.Getenv("CALL_WHEN_TOLD") != "" {
			fmt.Println("ready")
			bufio.NewReader(os.Stdin).ReadString('\n')
		}
		conn, err := Dial(path)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		conn.Read(make([]byte, 1)) // until the other end hangs up
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// callAs makes another process connect to l.
func callAs(t *testing.T, l net.Listener, who *syscall.Credential) net.Conn {
	t.Helper()
	child := exec.Command("/proc/self/exe") // the file's folder is closed to others
	child.Env = []string{"CALL_SOCKET=" + l.Addr().String()}
	child.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	child.Stdout = os.Stderr
	if err := child.Start(); err != nil {
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EINVAL) {
			t.Skip("this needs a second user, which only root outside of a one-user namespace has")
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { child.Wait() })
	l.(*net.UnixListener).SetDeadline(time.Now().Add(30 * time.Second))
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// Users and groups 1 and 2 are "daemon" and "bin" everywhere; nobody has 12345.
func TestMembersOfAGroup(t *testing.T) {
	for _, row := range []struct {
		who  syscall.Credential
		want bool
	}{
		{syscall.Credential{Uid: 12345, Gid: 1}, true},                              // at log-in, first group
		{syscall.Credential{Uid: 12345, Gid: 12345, Groups: []uint32{7, 1}}, true},  // at log-in, another one
		{syscall.Credential{Uid: 1, Gid: 12345}, true},                              // by the system's files
		{syscall.Credential{Uid: 2, Gid: 2, Groups: []uint32{2, 3, 12345}}, false},  // of other groups
		{syscall.Credential{Uid: 12345, Gid: 12345}, false},                         // of none
		{syscall.Credential{Uid: 12345, Gid: 2, Groups: manyGroups(1000, 1)}, true}, // of more than one call tells
	} {
		t.Run(fmt.Sprint(row.who.Uid, row.who.Gid, len(row.who.Groups)), func(t *testing.T) {
			dir, err := os.MkdirTemp("", "ipcsock") // t.TempDir is closed to others
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			l, err := Listen(filepath.Join(dir, "s"), 0o666)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			conn := callAs(t, l, &row.who)
			p, err := Caller(conn)
			if err != nil || p.UID != row.who.Uid || p.GID != row.who.Gid {
				t.Fatalf("%+v, %v", p, err)
			}
			list, err := groups(conn.(*net.UnixConn))
			if err != nil || !slices.Equal(slices.Sorted(slices.Values(list)), slices.Sorted(slices.Values(row.who.Groups))) {
				t.Errorf("groups: %v, %v", list, err)
			}
			if got := Member(conn, p, "daemon"); got != row.want {
				t.Errorf("member: %v", got)
			}
			if Member(conn, p, "no-such-group") {
				t.Error("member of a group that does not exist")
			}
		})
	}
}

// manyGroups are n groups without a name, and more.
func manyGroups(n uint32, more ...uint32) []uint32 {
	for i := range n {
		more = append(more, 20000+i)
	}
	return more
}
