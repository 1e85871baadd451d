package sock

import "golang.org/x/sys/windows"

var failures = []failureRow{
	{windows.WSAECONNREFUSED, Refused}, {windows.WSAETIMEDOUT, TimedOut}, {windows.WSAEHOSTUNREACH, HostUnreachable}, {windows.WSAENETUNREACH, NetworkUnreachable},
	{windows.WSAEADDRNOTAVAIL, NetworkUnreachable}, {windows.WSAEACCES, Forbidden}, {windows.WSAECONNRESET, Reset},
}
