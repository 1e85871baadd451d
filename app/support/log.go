package support

import (
	"log/slog"

	"stile/build/stamp"
	"stile/platform/logs"
)

// OpenLog opens the log of the user's program: files in the folder of AppLogs,
// which exports have too. also is told each record as well, such as for the
// terminal; it may be nil. A folder that cannot be written to is no reason not to
// run: then there are no files, and also is told why.
func OpenLog(filter string, also slog.Handler) *logs.Log {
	c := logs.Config{Base: "stile", Filter: filter, Cap: logs.UserCap, Version: stamp.String(), Also: also}
	if dirs := AppLogs(); len(dirs) > 0 {
		c.Dir = dirs[0]
	}
	l, err := logs.Open(c)
	if _, bad := logs.ParseFilter(filter); bad != nil {
		c.Filter = ""
		l, _ = logs.Open(c)
	}
	if l == nil {
		c.Dir = ""
		l, _ = logs.Open(c) // without files nothing can fail
	}
	if err == nil {
		err = l.KeepCrashes()
	}
	if err != nil {
		l.Logger().Warn("the log is not as it should be", "error", err)
	}
	return l
}
