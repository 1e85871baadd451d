//go:build linux

package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// home is where the hosts' own files live, on a tmpfs that only the enclosure sees.
const home = "/run/lab"

// outerProc is /proc as the first life sees it: it tells our process and
// thread numbers outside.
var outerProc = -1

// Settle makes the new namespaces ours: mounts of our own, /proc for the new
// PID namespace, an empty /run, and the leash to the first life. It is called
// first, from the second life's main goroutine.
func Settle() error {
	if os.Getpid() != 1 {
		return errors.New("not the first process of an enclosure: use Enclose")
	}
	// Each link's pump waits in a system call. More Ps than cores keep those
	// from holding up the servers that answer in this process.
	runtime.GOMAXPROCS(max(16, runtime.NumCPU()))
	unix.CloseOnExec(leashFD)
	go func() {
		os.NewFile(leashFD, "leash").Read(make([]byte, 1))
		os.Exit(3)
	}()
	var err error
	if outerProc, err = unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open /proc: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return refused("make the mounts private", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return refused("mount /proc in the new namespaces", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return refused("mount an empty /run", err)
	}
	return os.MkdirAll(home, 0o755)
}

// outerIDs returns the process and thread number of the calling thread as they
// are outside the enclosure.
func outerIDs() (pid, tid int, err error) {
	buf := make([]byte, 64)
	n, err := unix.Readlinkat(outerProc, "thread-self", buf) // "PID/task/TID"
	if err != nil {
		return 0, 0, err
	}
	p, t, ok := strings.Cut(string(buf[:n]), "/task/")
	pid, perr := strconv.Atoi(p)
	tid, terr := strconv.Atoi(t)
	if !ok || perr != nil || terr != nil {
		return 0, 0, fmt.Errorf("/proc/thread-self reads %q", buf[:n])
	}
	return pid, tid, nil
}

// bundles are the places where programs of the various distributions look for
// certificate authorities; the first is also made where none exists.
var bundles = []string{
	"/etc/ssl/certs/ca-certificates.crt", // Debian, Arch; curl and Go
	"/etc/pki/tls/certs/ca-bundle.crt",   // Fedora
	"/etc/ssl/ca-bundle.pem",             // openSUSE
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
	"/etc/ssl/cert.pem", // Alpine
}

// trustFiles returns the paths below /etc at which a bundle must lie for every
// program to find it, symbolic links followed: a file above a link would leave
// the link's own target as it was.
func trustFiles() []string {
	var paths []string
	for i, b := range bundles {
		if real, err := filepath.EvalSymlinks(b); err == nil && strings.HasPrefix(real, "/etc/") {
			paths = append(paths, real)
		} else if err == nil || i == 0 {
			paths = append(paths, b)
		}
	}
	return paths
}
