package ipcsock

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// gone is what the kernel appends to the path of an executable that is not
// there any more (proc_pid_exe(5)).
const gone = " (deleted)"

// program finds out what the process at the other end runs. The number of a
// process may be another one's by now; SO_PEERPIDFD (Linux 6.5) stands for the
// process that connected, and is asked again after looking.
func program(conn net.Conn, _ Peer) (executable, error) {
	socket, is := conn.(*net.UnixConn)
	if !is {
		return executable{}, errors.New("not a Unix socket")
	}
	pidfd, err := peerPIDFD(socket)
	if err != nil {
		return executable{}, err
	}
	defer unix.Close(pidfd)
	pid, err := pidOf(pidfd)
	if err != nil {
		return executable{}, err
	}
	e, err := running(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return executable{}, err
	}
	if err := unix.PidfdSendSignal(pidfd, 0, nil, 0); err != nil && !errors.Is(err, unix.EPERM) {
		return executable{}, fmt.Errorf("it has ended: %w", err)
	}
	return e, nil
}

// peerPIDFD returns a new file descriptor.
func peerPIDFD(conn *net.UnixConn) (fd int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	controlErr := raw.Control(func(s uintptr) { fd, err = unix.GetsockoptInt(int(s), unix.SOL_SOCKET, unix.SO_PEERPIDFD) })
	if err = errors.Join(controlErr, err); errors.Is(err, unix.ENOPROTOOPT) {
		return -1, errors.ErrUnsupported
	}
	if err != nil {
		return -1, fmt.Errorf("ask for the process: %w", err)
	}
	return fd, nil
}

// pidOf returns the number of a process that has one here.
func pidOf(pidfd int) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", pidfd))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if number, is := strings.CutPrefix(line, "Pid:"); is {
			pid, err := strconv.Atoi(strings.TrimSpace(number))
			if err != nil || pid <= 0 { // -1: it has ended; 0: of another PID namespace
				return 0, fmt.Errorf("it has ended, or is not of this machine: %s", strings.TrimSpace(line))
			}
			return pid, nil
		}
	}
	return 0, errors.New("the process has no number")
}

// running looks at what the link of a process leads to, which needs
// CAP_SYS_PTRACE for processes of others. The path is what the process sees,
// who can mount whatever it likes there, in a namespace of its own. So the file
// counts.
func running(link string) (executable, error) {
	path, err := os.Readlink(link)
	if err != nil {
		return executable{}, fmt.Errorf("%w; the service needs CAP_SYS_PTRACE for this", err)
	}
	var file unix.Stat_t // of the file itself, also if it is not there any more
	if err := unix.Stat(link, &file); err != nil {
		return executable{}, err
	}
	e := executable{safe: (file.Uid == 0 || int64(file.Uid) == int64(os.Geteuid())) && file.Mode&0o022 == 0}
	e.path, e.deleted = strings.CutSuffix(path, gone)
	e.is = func(path string) bool {
		var ours unix.Stat_t
		return unix.Stat(path, &ours) == nil && ours.Dev == file.Dev && ours.Ino == file.Ino
	}
	return e, nil
}
