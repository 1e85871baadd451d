//go:build !linux && !windows

package sock

// DefaultBuffers are what a socket asks for (spec connectivity.md 2.1, Apple).
var DefaultBuffers = BufferSizes{Send: 64 << 10, Receive: 32 << 20}

// prepare leaves the socket as the system made it.
func (u *UDP) prepare(uintptr, BufferSizes) error { return nil }
