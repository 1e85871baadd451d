package desktop

import (
	"strings"

	"golang.org/x/sys/windows"
)

// Language is what the user wants to read, as a list of tags such as "de-AT"
// with colons between them; "" if nobody knows.
func Language() string {
	list, err := windows.GetUserPreferredUILanguages(windows.MUI_LANGUAGE_NAME)
	if err != nil {
		return ""
	}
	return strings.Join(list, ":")
}

// Present reports whether there is a desktop to start programs on.
func Present() bool { return true }
