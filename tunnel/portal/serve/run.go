package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"sync"
	_ "time/tzdata" // the zones of conditions, on machines that have none

	"stile/platform/service"
	"stile/tunnel/id"
	"stile/tunnel/portal/admin"
	"stile/tunnel/portal/store"
)

// A Command runs the portal; it is a command of kong, with the option that all
// commands of the portal have.
type Command struct{ admin.File }

// Run runs the portal until ctx ends.
func (c *Command) Run(ctx context.Context, log *slog.Logger) error {
	asked, stop := service.Reloads()
	defer stop()
	return Run(ctx, Options{Config: c.Config, Log: log, Reload: asked, Ready: func([]net.Addr) { service.Ready(log) }})
}

// Options are what a portal is started with.
type Options struct {
	Config string // path of the file
	Log    *slog.Logger
	Reload <-chan os.Signal       // asks for the file to be read again; may be nil
	Ready  func(addrs []net.Addr) // called when all listeners accept; may be nil
}

// Run runs a portal until ctx ends, which is no error, or something breaks. It
// leaves nothing running.
func Run(ctx context.Context, o Options) (err error) {
	c, err := readConfig(o.Config, id.Account{}) // for the place of the store, which knows the account
	if err != nil {
		return err
	}
	st, err := store.Open(c.DataDir)
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w; the folder must belong to the user the portal runs as", err)
	}
	if err != nil {
		return err
	}
	defer st.Close()
	account, err := st.Account()
	if err != nil {
		return err
	}
	loaded := markOf(o.Config)
	if c, err = readConfig(o.Config, account.ID); err != nil {
		return err
	}
	s, err := newPortal(c, st, o.Log)
	if err != nil {
		return fmt.Errorf("configuration %s: %w", o.Config, err)
	}
	s.warn(c)
	certs, err := loadCertificates(c.Listeners)
	if err != nil {
		return err
	}
	commands, err := admin.Listen(c.Socket) // first: who has it has the store
	if err != nil {
		return err
	}
	defer commands.Close()
	sockets, err := listen(ctx, c.Listeners, certs)
	if err != nil {
		return err
	}
	told := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var g sync.WaitGroup
	defer g.Wait()
	var addrs []net.Addr
	for _, l := range sockets {
		addrs = append(addrs, l.Addr())
		o.Log.Info("listening", "address", l.Addr())
	}
	watch := &watch{server: s, path: o.Config, certs: certs, loaded: loaded, seen: loaded}
	g.Go(func() { watch.run(ctx, o.Reload) })
	g.Go(func() { cancel(admin.Serve(ctx, commands, s.backend(addrs), o.Log)) })
	if o.Ready != nil {
		o.Ready(addrs)
	}
	cancel(s.serve(ctx, c, sockets))
	if told.Err() != nil {
		return nil // asked to stop
	}
	return context.Cause(ctx)
}
