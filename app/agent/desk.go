package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"stile/app/menu"
	"stile/app/prefs"
	"stile/app/support"
	"stile/app/why"
	"stile/tunnel/ipc"
)

// View is all that is known. It is borrowed: nobody changes it.
func (a *Agent) View() menu.View {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.view
}

// Changed returns a channel on which something comes after View or Prefs may
// have become another; several changes may be one. It is served until ctx ends.
func (a *Agent) Changed(ctx context.Context) <-chan struct{} {
	c := make(chan struct{}, 1)
	a.mu.Lock()
	a.watchers[c] = true
	a.mu.Unlock()
	context.AfterFunc(ctx, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.watchers, c)
	})
	return c
}

// Prefs are the user's own settings.
func (a *Agent) Prefs() prefs.Prefs {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.prefs
}

// SetPrefs replaces them, here, in the file, and in the desktop's list of what
// starts at login. What cannot be kept counts until the program ends, and is
// told.
func (a *Agent) SetPrefs(p prefs.Prefs) error {
	return a.undone(a.remember(func(now *prefs.Prefs) { *now = p }))
}

// Apply has the service change its settings.
func (a *Agent) Apply(ctx context.Context, s ipc.ApplySettings) error { return a.ask(ctx, s) }

// SetLogFilter changes what service and app log; after d the usual filter comes
// back, unless d is zero.
func (a *Agent) SetLogFilter(ctx context.Context, filter string, d time.Duration) error {
	if a.Logs != nil {
		if err := a.Logs.SetFilter(filter, d); err != nil {
			return a.undone(err)
		}
	}
	return a.ask(ctx, ipc.SetLogFilter{Filter: filter, For: d})
}

// ClearLogs deletes the logs of both.
func (a *Agent) ClearLogs(ctx context.Context) error {
	var err error
	if a.Logs != nil {
		err = a.undone(a.Logs.Clear())
	}
	return errors.Join(err, a.ask(ctx, ipc.ClearLogs{}))
}

// LogDirs are the folders in which service and app log.
func (a *Agent) LogDirs() []string {
	var list []string
	if s := a.View().State; s != nil && s.Logs.Dir != "" {
		list = append(list, s.Logs.Dir)
	}
	if a.Logs != nil && a.Logs.Dir() != "" {
		list = append(list, a.Logs.Dir())
	}
	return list
}

// Export writes a file for support where the user finds it.
func (a *Agent) Export(ctx context.Context, full bool, progress func(done, total int64)) (support.Result, error) {
	return support.Export(ctx, support.Options{Socket: a.Socket, Out: filepath.Join(downloads(), support.Name(time.Now())), Full: full}, progress)
}

// downloads is where browsers put what they bring, else the user's home, else
// the folder for what is temporary.
func downloads() string {
	home, err := os.UserHomeDir()
	if err != nil {
		return os.TempDir()
	}
	for _, dir := range []string{filepath.Join(home, "Downloads"), home} {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return dir
		}
	}
	return os.TempDir()
}

// Why tells why a host, or a host and port, cannot be reached.
func (a *Agent) Why(ctx context.Context, target string) (why.Report, error) {
	return why.Ask(ctx, why.Options{Socket: a.Socket, Target: target})
}

// Diagnose asks all resolvers that count.
func (a *Agent) Diagnose(ctx context.Context) (support.Diagnosis, error) {
	return support.Examine(ctx, a.View().State), nil
}
