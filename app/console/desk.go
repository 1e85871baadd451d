package console

import (
	"context"
	"time"

	"stile/app/menu"
	"stile/app/prefs"
	"stile/app/support"
	"stile/app/why/cause"
	"stile/tunnel/ipc"
)

// A Desk is the program behind the pages: what they show, and who does what
// their buttons say. Its methods may be called from several goroutines at once.
// Errors are shown to the user as they are: they say what to do next.
type Desk interface {
	// View is what the tray shows, too. It is borrowed: nobody changes it.
	View() menu.View
	// Changed returns a channel on which something comes after View or Prefs
	// may have become another; several changes may be one. The channel is the
	// caller's alone, and no longer served when ctx ends.
	Changed(ctx context.Context) <-chan struct{}
	// Do does what a click in the tray would: all but menu.Show, menu.Copy and
	// menu.Open come. A sign-in is begun, not waited for.
	Do(ctx context.Context, c menu.Command) error

	// SignInURL is where the sign-in under way goes on; "": none is.
	SignInURL() string
	// Paste takes what the user copied from the last page of the sign-in: a
	// token, or the whole address.
	Paste(ctx context.Context, text string) error

	Prefs() prefs.Prefs
	// SetPrefs keeps p, and does what it says: the start on login, and what the
	// service has to know of ConnectOnStart.
	SetPrefs(p prefs.Prefs) error
	// Apply changes the settings that are the service's.
	Apply(ctx context.Context, s ipc.ApplySettings) error

	// SetLogFilter changes what service and app log; after d the usual filter
	// comes back, unless d is zero.
	SetLogFilter(ctx context.Context, filter string, d time.Duration) error
	ClearLogs(ctx context.Context) error
	// LogDirs are the folders in which service and app log.
	LogDirs() []string
	// Export writes a file for support, full with the names that it otherwise
	// hides, and tells how far it has come.
	Export(ctx context.Context, full bool, progress func(done, total int64)) (support.Result, error)

	// Why tells why a host, or a host and port, cannot be reached. The error is
	// cause.ErrTarget if it is neither.
	Why(ctx context.Context, target string) (cause.Report, error)
	// Diagnose asks all resolvers that count.
	Diagnose(ctx context.Context) (support.Diagnosis, error)
}
