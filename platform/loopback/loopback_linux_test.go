package loopback

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A program of another user knocks; only root can start one.
func TestAnotherUsersConnectionsAreNot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to be two users")
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const nobody = 65534
	port := l.Addr().(*net.TCPAddr).Port
	c := exec.Command("bash", "-c", fmt.Sprintf("exec 3<>/dev/tcp/127.0.0.1/%d; read -t 10 <&3", port))
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	l.(*net.TCPListener).SetDeadline(time.Now().Add(10 * time.Second))
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if mine, err := Mine(server); mine || err != nil {
		t.Errorf("nobody's connection: %v, %v", mine, err)
	}
}

const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 26 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:A1B2 01 00000000:00000000 00:00000000 00000000  1000        0 27 1 0 20 4 30 10 -1
   2: 0100007F:A1B2 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1001        0 28 1 0 20 4 30 10 -1
   3: 0100007F:A1B3 0100007F:1F90 06 00000000:00000000 00:00000000 00000000     0        0 0 3 0
   4: short
`

func TestTheTableTellsWhose(t *testing.T) {
	here := netip.MustParseAddrPort("127.0.0.1:8080")
	for there, want := range map[string]struct {
		uid   int
		found bool
	}{
		"127.0.0.1:41394": {1001, true},
		"127.0.0.1:41395": {0, false}, // nobody's any more; root must not get it
		"127.0.0.1:1":     {0, false},
		"127.0.0.2:41394": {0, false},
	} {
		uid, found, err := owner(strings.NewReader(table), netip.MustParseAddrPort(there), here)
		if uid != want.uid || found != want.found || err != nil {
			t.Errorf("%s: %d, %v, %v", there, uid, found, err)
		}
	}
	if _, err := address(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}); err == nil {
		t.Error("an address of another machine was taken")
	}
}
