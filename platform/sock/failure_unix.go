//go:build !windows

package sock

import "golang.org/x/sys/unix"

var failures = []failureRow{
	{unix.ECONNREFUSED, Refused}, {unix.ETIMEDOUT, TimedOut}, {unix.EHOSTUNREACH, HostUnreachable}, {unix.ENETUNREACH, NetworkUnreachable},
	{unix.EADDRNOTAVAIL, NetworkUnreachable}, {unix.EACCES, Forbidden}, {unix.EPERM, Forbidden}, {unix.ECONNRESET, Reset},
}
