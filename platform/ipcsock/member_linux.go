package ipcsock

import (
	"errors"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxGroups is the kernel's limit of supplementary groups (NGROUPS_MAX).
const maxGroups = 65536

// groups reads SO_PEERGROUPS: the supplementary groups of the process at the
// other end, when it connected (Linux 4.13).
func groups(conn *net.UnixConn) (list []uint32, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	controlErr := raw.Control(func(fd uintptr) {
		for n := uint32(64); n <= maxGroups; n *= 4 {
			list = make([]uint32, n)
			size := n * 4
			_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
				uintptr(unsafe.Pointer(&list[0])), uintptr(unsafe.Pointer(&size)), 0)
			if err = nil; errno != 0 {
				list, err = nil, errno
			}
			if errno != unix.ERANGE { // there are more
				list = list[:min(int(size/4), len(list))]
				return
			}
		}
	})
	return list, errors.Join(controlErr, err)
}
