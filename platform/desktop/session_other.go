//go:build !linux && !windows

package desktop

// Session names the login session that this process belongs to: it is not
// known here.
func Session() string { return "" }
