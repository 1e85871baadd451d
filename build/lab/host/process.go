//go:build linux

package host

import (
	"context"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// userHome is the home folder of a host's programs.
const userHome = "/var/lib/home"

// StopGrace is how long a program may take to end after SIGTERM.
const StopGrace = 5 * time.Second

// Environment is what every program of a host starts with: nothing of the
// session in which the lab was started, such as display, bus or proxies.
func Environment() []string {
	return []string{
		"PATH=" + BinDir + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + userHome,
		"LANG=C.UTF-8",
		"USER=root",
		"LOGNAME=root",
	}
}

// Command prepares a program of the host: clean environment, output to the
// host's log. When ctx ends it gets SIGTERM, and SIGKILL five seconds later.
// Start it with [Host.Start]; path is absolute, as the host sees it.
func (h *Host) Command(ctx context.Context, path string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, path, args...)
	c.Env = Environment()
	c.Dir = "/"
	if h.Log != nil {
		c.Stdout, c.Stderr = h.Log, h.Log
	}
	c.Cancel = func() error { return c.Process.Signal(unix.SIGTERM) }
	c.WaitDelay = StopGrace
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL, Setpgid: true}
	return c
}

// Self prepares this very program as a program of the host.
func (h *Host) Self(ctx context.Context, args ...string) *exec.Cmd {
	return h.Command(ctx, "/proc/self/exe", args...)
}

// Start starts a command inside the host. The caller waits for it.
func (h *Host) Start(c *exec.Cmd) error { return h.Do(c.Start) }

// Output runs a command inside the host and returns what it wrote to its
// standard output; standard error goes where the command says.
func (h *Host) Output(c *exec.Cmd) ([]byte, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	c.Stdout = w
	err = h.Start(c)
	w.Close()
	if err != nil {
		return nil, err
	}
	var out []byte
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		out = append(out, buf[:n]...)
		if err != nil {
			break
		}
	}
	return out, c.Wait()
}

// Listen opens a listening socket in the host's network.
func (h *Host) Listen(network, address string) (l net.Listener, err error) {
	err = h.InNetwork(func() error {
		l, err = listen.Listen(context.Background(), network, address)
		return err
	})
	return l, err
}

// ListenPacket opens a datagram socket in the host's network.
func (h *Host) ListenPacket(network, address string) (p net.PacketConn, err error) {
	err = h.InNetwork(func() error {
		p, err = listen.ListenPacket(context.Background(), network, address)
		return err
	})
	return p, err
}

// Dial connects from the host's network. The address is numeric: names would
// be looked up with the enclosure's files, not the host's.
func (h *Host) Dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	err = h.InNetwork(func() error {
		c, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return c, err
}
