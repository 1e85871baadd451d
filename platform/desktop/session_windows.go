package desktop

import (
	"strconv"

	"golang.org/x/sys/windows"
)

// Session names the login session that this process belongs to, "" if that is
// not known. A user can have two, one at the screen and one from afar.
func Session() string {
	var id uint32
	if err := windows.ProcessIdToSessionId(windows.GetCurrentProcessId(), &id); err != nil {
		return ""
	}
	return strconv.FormatUint(uint64(id), 10)
}
