//go:build !windows

package program

// CloseConsole closes the window for text that Windows opens for programs of
// the command line.
func CloseConsole() {}
