package desktop

import "os"

// Session names the login session that this process belongs to, "" if that is
// not known. Two desktops of one user at the same time are two sessions.
func Session() string { return os.Getenv("XDG_SESSION_ID") }
