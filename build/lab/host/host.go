//go:build linux

package host

import (
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// BinDir is where a host sees [Config.Bin].
const BinDir = "/run/lab/bin"

// Config describes a host to be.
type Config struct {
	Name     string   // its host name
	Resolver []string // addresses for its resolv.conf, at most three
	Trust    []byte   // PEM: the certificate authorities its programs trust
	Bin      string   // folder on the machine that the host sees as BinDir; "": none
	Log      *os.File // takes what its programs write
}

// A Host is a network and a mount namespace, and one thread that lives in both.
// The thread lasts as long as the process.
type Host struct {
	Name  string
	Log   *os.File
	Links *netlink.Handle // in the host's network; not safe for concurrent use

	pid, tid int         // of its thread, as seen outside the enclosure
	network  int         // file descriptor of its network namespace
	tasks    chan func() // run on its thread
}

// New makes a host. Hosts may be made concurrently.
func New(c Config) (*Host, error) {
	h := &Host{Name: c.Name, Log: c.Log, tasks: make(chan func())}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread is the host
		made <- h.move(c)
		for f := range h.tasks {
			f()
		}
	}()
	if err := <-made; err != nil {
		return nil, fmt.Errorf("host %s: %w", c.Name, err)
	}
	return h, nil
}

// All makes several hosts at once, in the order of the configurations.
func All(configs []Config) ([]*Host, error) {
	hosts, errs := make([]*Host, len(configs)), make([]error, len(configs))
	var g sync.WaitGroup
	for i, c := range configs {
		g.Go(func() { hosts[i], errs[i] = New(c) })
	}
	g.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return hosts, nil
}

// move takes the calling thread into namespaces of its own and furnishes them.
func (h *Host) move(c Config) error {
	upper, work := filepath.Join(home, c.Name, "etc"), filepath.Join(home, c.Name, "work")
	if err := furnish(upper, c); err != nil {
		return err
	}
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS); err != nil {
		return refused("make its namespaces", err)
	}
	if err := unix.Mount("overlay", "/etc", "overlay", 0, "lowerdir=/etc,upperdir="+upper+",workdir="+work); err != nil {
		return refused("mount an overlay on /etc", err)
	}
	if err := mountOwn(c); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(c.Name)); err != nil {
		return fmt.Errorf("set its name: %w", err)
	}
	var err error
	if h.pid, h.tid, err = outerIDs(); err != nil {
		return err
	}
	if h.network, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open its network: %w", err)
	}
	if h.Links, err = netlink.NewHandle(unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER); err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	return h.prepareNetwork()
}

// furnish fills the upper folder of the host's /etc. What lies there before the
// overlay is mounted belongs to us, so that programs may replace it even where
// the files below belong to users that our user namespace does not know.
func furnish(upper string, c Config) error {
	var resolv strings.Builder
	for _, r := range c.Resolver {
		fmt.Fprintf(&resolv, "nameserver %s\n", r)
	}
	files := map[string]string{
		"resolv.conf":   resolv.String(),
		"hosts":         "127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1\t" + c.Name + "\n",
		"nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
		"hostname":      c.Name + "\n",
		"machine-id":    fmt.Sprintf("%x\n", sha256.Sum256([]byte("stile lab "+c.Name)))[:32] + "\n",
	}
	for _, path := range trustFiles() {
		files[strings.TrimPrefix(path, "/etc/")] = string(c.Trust)
	}
	for name, content := range files {
		path := filepath.Join(upper, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// mountOwn gives the host's thread its own /run, /var/lib, /var/log and /sys.
func mountOwn(c Config) error {
	bin := -1
	if c.Bin != "" { // opened now: it may lie below a folder that is covered next
		var err error
		if bin, err = unix.Open(c.Bin, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			return fmt.Errorf("open %s: %w", c.Bin, err)
		}
		defer unix.Close(bin)
	}
	for _, dir := range []string{"/run", "/var/lib", "/var/log"} {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
			return refused("mount a tmpfs on "+dir, err)
		}
	}
	for _, dir := range []string{BinDir, userHome} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if bin >= 0 {
		if err := unix.Mount(fmt.Sprintf("/proc/thread-self/fd/%d", bin), BinDir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return refused("bind "+c.Bin, err)
		}
	}
	// A sysfs shows the network devices of the namespace it was mounted from.
	// Where the machine hides parts of its own, a new one is refused; then an
	// empty folder is still better than the machine's.
	if err := unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		if err := unix.Mount("tmpfs", "/sys", "tmpfs", unix.MS_RDONLY, "mode=755"); err != nil {
			return refused("cover /sys", err)
		}
	}
	return nil
}

// prepareNetwork brings up the loopback device and sets what holds for every device
// to come: no router advertisements, no waiting for duplicate addresses, no
// reverse-path filter.
func (h *Host) prepareNetwork() error {
	for key, value := range map[string]string{
		"net.ipv6.conf.all.accept_ra":          "0",
		"net.ipv6.conf.default.accept_ra":      "0",
		"net.ipv6.conf.all.accept_dad":         "0",
		"net.ipv6.conf.default.accept_dad":     "0",
		"net.ipv6.conf.all.disable_ipv6":       "0",
		"net.ipv6.conf.default.disable_ipv6":   "0",
		"net.ipv4.conf.all.rp_filter":          "0",
		"net.ipv4.conf.default.rp_filter":      "0",
		"net.ipv6.conf.default.dad_transmits":  "0",
		"net.ipv4.conf.all.accept_redirects":   "0",
		"net.ipv4.conf.default.send_redirects": "0",
	} {
		if err := setSysctl(key, value); err != nil {
			return err
		}
	}
	lo, err := h.Links.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	return h.Links.LinkSetUp(lo)
}

// Do runs f on the host's thread: in its network and with its files. Calls
// wait for each other, so f must not block for long.
func (h *Host) Do(f func() error) error {
	done := make(chan error)
	h.tasks <- func() { done <- f() }
	return <-done
}

// InNetwork runs f on a thread of its own in the host's network, but with the
// enclosure's files. It may block.
func (h *Host) InNetwork(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Setns(h.network, unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter the network of %s: %w", h.Name, err)
			return
		}
		done <- f()
	}()
	return <-done
}

// Sysctl sets a kernel parameter, named as in "net.ipv4.ip_forward".
func (h *Host) Sysctl(key, value string) error {
	return h.Do(func() error { return setSysctl(key, value) })
}

func setSysctl(key, value string) error {
	if err := os.WriteFile("/proc/sys/"+strings.ReplaceAll(key, ".", "/"), []byte(value), 0o644); err != nil {
		return fmt.Errorf("set %s: %w", key, err)
	}
	return nil
}

// WriteFile writes a file of the host, and the folders above it.
func (h *Host) WriteFile(path string, content []byte, mode os.FileMode) error {
	return h.Do(func() error {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, mode); err != nil {
			return err
		}
		return os.Chmod(path, mode) // whatever the umask
	})
}

// ReadFile reads a file of the host.
func (h *Host) ReadFile(path string) (content []byte, err error) {
	err = h.Do(func() error { content, err = os.ReadFile(path); return err })
	return content, err
}

// Network is the file descriptor of the host's network namespace; it stays ours.
func (h *Host) Network() int { return h.network }

// Thread returns the numbers of the host's process and thread as they are
// outside the enclosure, for those who want to enter it.
func (h *Host) Thread() (pid, tid int) { return h.pid, h.tid }

var listen = func() *net.ListenConfig {
	var l net.ListenConfig
	l.SetMultipathTCP(false) // plain TCP, whatever the kernel offers
	return &l
}()
