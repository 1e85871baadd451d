//go:build !linux

package arena

// advise does nothing: this system decides by itself, or only asks the privileged.
func advise([]byte, bool) {}
