package sock

import "golang.org/x/sys/windows"

// DefaultBuffers are what a socket asks for (spec connectivity.md 2.1).
var DefaultBuffers = BufferSizes{Send: 2 << 20, Receive: 32 << 20}

// prepare sets all options of a UDP socket before it is bound.
func (u *UDP) prepare(fd uintptr, want BufferSizes) error {
	s := windows.Handle(fd)
	set := func(option, want int) int {
		grow(want, func(bytes int) error { return windows.SetsockoptInt(s, windows.SOL_SOCKET, option, bytes) })
		got, err := windows.GetsockoptInt(s, windows.SOL_SOCKET, option)
		if err != nil {
			return 0
		}
		return got
	}
	u.obtained = BufferSizes{Send: set(windows.SO_SNDBUF, want.Send), Receive: set(windows.SO_RCVBUF, want.Receive)}
	return nil
}
