//go:build !windows

package desktop

import (
	"cmp"
	"os"
)

// Language is what the user wants to read, as the environment says it:
// "de_AT.UTF-8", or a list of such with colons between them; "" if it does not
// say (gettext manual, "Locale Environment Variables").
func Language() string {
	locale := cmp.Or(os.Getenv("LC_ALL"), os.Getenv("LC_MESSAGES"), os.Getenv("LANG"))
	if list := os.Getenv("LANGUAGE"); list != "" && locale != "" && locale != "C" && locale != "POSIX" {
		return list
	}
	return locale
}

// Present reports whether there is a desktop to start programs on.
func Present() bool { return os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != "" }
