package forward

import (
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What is open while one gateway ends and the next begins goes on: the host
// does not reset in between what it cannot translate.
func TestAHoldKeepsConnectionsOverARestart(t *testing.T) {
	for _, row := range []struct {
		name string
		hold bool
	}{{"held", true}, {"not held", false}} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			f := New(Config{Interface: tunnel, Log: quiet})
			must(t, f.Enable())
			open := w.open(resource4, resource6)
			before := resets(t)

			if row.hold {
				must(t, f.Hold(time.Minute))
			}
			must(t, f.Close())
			for _, c := range open { // the resource goes on talking
				w.in(w.resource, func() { _, err := c.server.Write([]byte("between")); must(t, err) })
			}
			unix.Nanosleep(&unix.Timespec{Nsec: 300e6}, nil)
			if cut := resets(t) - before; (cut == 0) != row.hold {
				t.Errorf("the host has reset %d connections", cut)
			}
			if !row.hold {
				return // the test can fail
			}

			must(t, Recover(quiet)) // the next one starts
			if !strings.Contains(tool(t, "nft", "list", "tables"), holdName) {
				t.Error("the start ends the hold")
			}
			next := New(Config{Interface: tunnel, Log: quiet})
			must(t, next.Enable())
			if strings.Contains(tool(t, "nft", "list", "tables"), holdName) {
				t.Error("the hold stays when the gateway stands")
			}
			for _, c := range open {
				c.client.SetDeadline(time.Now().Add(10 * time.Second))
				got := make([]byte, len("between"))
				if _, err := c.client.Read(got); err != nil || string(got) != "between" {
					t.Errorf("%v: %q, %v", c.server.RemoteAddr(), got, err)
				}
			}
			must(t, next.Close())
		})
	}
}

// A gateway that does not come back leaves nothing that does anything, and
// Restore removes even that.
func TestAHoldEndsByItself(t *testing.T) {
	w := newWorld(t)
	f := New(Config{Interface: tunnel, Log: quiet})
	must(t, f.Hold(time.Minute)) // before anything was forwarded
	must(t, f.Enable())
	open := w.open(resource4, resource6)
	before := resets(t)
	must(t, f.Hold(300*time.Millisecond))
	must(t, f.Close())
	for _, c := range open {
		_, err := c.server.Write([]byte("anybody there?"))
		must(t, err)
	}
	eventually(t, "the host's own answer", func() bool { return resets(t) == before+len(open) })
	w.stuck()
	must(t, Restore(quiet))
	must(t, Restore(quiet))
	if list := tool(t, "nft", "list", "tables"); strings.Contains(list, TableName) {
		t.Error(list)
	}
}

// Who changes their mind, or has nothing to keep, leaves nothing behind.
func TestAHoldCanBeEnded(t *testing.T) {
	w := newWorld(t)
	f := New(Config{Interface: tunnel, Log: quiet})
	must(t, f.Enable())
	must(t, f.Hold(time.Minute))
	if _, err := w.reach(resource4); err == nil {
		t.Error("answers pass a hold")
	}
	if _, err := net.DialTimeout("tcp", netip.AddrPortFrom(resource4, 80).String(), time.Second); err != nil {
		t.Errorf("a hold stops the host's own connections: %v", err)
	}
	must(t, f.Hold(0))
	w.passes()
	must(t, f.Close())
	if list := tool(t, "nft", "list", "tables"); strings.Contains(list, TableName) {
		t.Error(list)
	}
}

// A pair is both ends of a connection through the gateway.
type pair struct{ client, server net.Conn }

// open connects the client to resources, by ports of their own.
func (w *world) open(to ...netip.Addr) (all []pair) {
	w.t.Helper()
	for _, a := range to {
		var l net.Listener
		var err error
		w.in(w.resource, func() { l, err = net.Listen("tcp", netip.AddrPortFrom(a, 81).String()) })
		must(w.t, err)
		defer l.Close()
		var p pair
		w.in(w.client, func() { p.client, err = net.DialTimeout("tcp", netip.AddrPortFrom(a, 81).String(), time.Second) })
		must(w.t, err)
		p.server, err = l.Accept()
		must(w.t, err)
		w.t.Cleanup(func() { p.client.Close(); p.server.Close() })
		all = append(all, p)
	}
	return all
}

// resets is how many connections this host has refused or reset.
func resets(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/net/snmp")
	must(t, err)
	var names []string
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		for i, name := range names {
			if name == "OutRsts" && f[0] == "Tcp:" {
				n, err := strconv.Atoi(f[i])
				must(t, err)
				return n
			}
		}
		names = f
	}
	t.Fatal("the kernel does not count resets")
	return 0
}
