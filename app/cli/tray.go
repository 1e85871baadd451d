package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/term"

	"stile/app/agent"
	"stile/app/callback"
	"stile/app/console"
	"stile/app/instance"
	"stile/app/menu"
	"stile/app/prefs"
	"stile/app/signin"
	"stile/app/support"
	"stile/app/tray"
	releases "stile/app/update"
	"stile/app/words"
	"stile/assets"
	"stile/build/stamp"
	"stile/platform/desktop"
	"stile/platform/keystore"
	"stile/platform/logs"
	self "stile/platform/program"
	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
)

// quitTime is how long the app has to end (spec desktop-client.md 7.1); whatever
// hangs then is left to the system.
const quitTime = 5 * time.Second

// atLogin is the option of trayCommand, as desktops are told it.
const atLogin = "--at-login"

type trayCommand struct {
	AtLogin bool `hidden:"" help:"Nobody asked for it: show nothing but the icon."`
}

// Run is the app of a desktop: icon, menu, messages, and the pages for status
// and settings. A second one shows the page of the first, and ends.
func (c trayCommand) Run(ctx context.Context, p *program) error {
	err := c.run(ctx, p)
	if err != nil && ctx.Err() == nil && !term.IsTerminal(int(p.in.Fd())) { // nobody sees what it prints
		tray.Alert(ctx, words.For(desktop.Language()).RefusedTitle, explain(ctx, err))
	}
	return err
}

func (c trayCommand) run(ctx context.Context, p *program) error {
	if bySudo() {
		return advice("The app belongs to your desktop, not to root: start it without sudo.")
	}
	first, err := instance.Acquire(p.dir)
	if errors.Is(err, instance.ErrRunning) {
		if err := instance.Send(ctx, p.dir, instance.NewInstance{}); err != nil {
			return err
		}
		fmt.Fprintln(p.err, "Stile is running: its status page opens in your browser.")
		return nil
	}
	if err != nil {
		return err
	}
	self.CloseConsole()
	err = p.desk(ctx, c, first)
	if errors.Is(err, agent.ErrRestart) { // by hand: without an icon, there is the page
		return self.Restart(slices.DeleteFunc(os.Args[1:], func(a string) bool { return a == atLogin })...)
	}
	return err
}

// desk runs the app until the user quits.
func (p *program) desk(ctx context.Context, c trayCommand, first *instance.Instance) error {
	defer first.Close()
	log := support.OpenLog("", warnings{slog.NewTextHandler(p.err, nil)})
	defer log.Close()
	file, err := prefs.Path()
	if err != nil {
		return err
	}
	a := p.agent(c, file, log)
	icon, err := place(tray.Config{Click: a.Clicked, Activate: a.Activated, Hosted: a.Hosted})
	if err != nil {
		return err
	}
	pages, err := console.Listen(console.Config{Desk: a, Log: log.Logger()})
	if err != nil {
		return fmt.Errorf("the pages for status and settings cannot be shown: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var g sync.WaitGroup
	defer g.Wait()
	defer cancel()
	g.Go(func() {
		err := first.Serve(ctx, func(m instance.Message) {
			var address ipc.Secret
			if d, is := m.(instance.Deeplink); is {
				address = d.URL
			}
			a.Heard(address)
		})
		if err != nil {
			log.Logger().Error("other starts of the app are not heard any more", "error", err)
		}
	})
	return a.Run(ctx, icon, pages)
}

// warnings leaves out what is of no use where desktops write what their programs
// say.
type warnings struct{ slog.Handler }

func (w warnings) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn {
		return nil
	}
	return w.Handler.Handle(ctx, r)
}

func (w warnings) WithAttrs(list []slog.Attr) slog.Handler {
	return warnings{w.Handler.WithAttrs(list)}
}
func (w warnings) WithGroup(name string) slog.Handler { return warnings{w.Handler.WithGroup(name)} }

// place is where the app shows itself. A display without a session bus has
// neither icons nor messages: the pages are left.
func place(c tray.Config) (agent.Desktop, error) {
	t, err := tray.New(c)
	switch {
	case err == nil:
		return t, nil
	case desktop.Present():
		return tray.Nowhere{}, nil
	}
	return nil, advice("There is no desktop here to show an icon on. The command line does the same: stile --help")
}

// agent is the app, made of what this system has.
func (p *program) agent(c trayCommand, file string, log *logs.Log) *agent.Agent {
	var latest func(ctx context.Context) (menu.Update, error)
	if stamp.Releases != "" {
		latest = func(ctx context.Context) (menu.Update, error) { return releases.Check(ctx, stamp.Releases) }
	}
	return agent.New(agent.Config{
		Latest: latest,
		Ending: func() {
			time.AfterFunc(quitTime, func() { // it hangs: the session is the service's, nothing is lost
				log.Logger().Error("the app did not end in time")
				os.Exit(failed)
			})
		},

		Follow: func(ctx context.Context, tell func(link.News)) { link.Follow(ctx, p.socket, tell) },
		Ask: func(ctx context.Context, c ipc.Command) error {
			_, err := link.Do(ctx, p.socket, c)
			return err
		},
		Begin: func(o signin.Options, w *words.Words) (agent.SignIn, error) {
			s, err := callback.Begin(o, w)
			if err != nil {
				return nil, err
			}
			return s, nil
		},
		Open: p.open, Copy: desktop.Copy, Register: p.registerAll, Autostart: autostart,
		Secrets: keystore.User{}, Prefs: file, Socket: p.socket, Language: desktop.Language(), AtLogin: c.AtLogin,
		Logs: log, Log: log.Logger(),
	})
}

// registerAll makes the desktop know of this program: where it starts programs,
// and as the one that takes answers to a sign-in.
func (p *program) registerAll() error {
	path, err := self.Path()
	if err != nil {
		return err
	}
	picture, err := assets.Console.ReadFile("console/icon.svg")
	if err != nil {
		return err
	}
	return errors.Join(desktop.List(path, string(picture)), p.register(path))
}

// registerScheme makes the desktop open addresses of the sign-in with this
// program. Root leaves the desktop of whoever ran sudo alone: its files may be
// links to those of others.
func (p *program) registerScheme() error {
	if bySudo() {
		return errors.New("run by sudo")
	}
	path, err := self.Path()
	if err != nil {
		return err
	}
	return p.register(path)
}

// bySudo reports whether somebody is root by sudo, whoever that is.
func bySudo() bool { return os.Geteuid() == 0 && os.Getenv("SUDO_UID") != "" }

// autostart makes the desktop start the app at login, or not. Unless the user
// chose that just now, what they switched off in the desktop's settings stays
// off.
func autostart(on, chosen bool) error {
	path, err := self.Path()
	if err != nil {
		return err
	}
	command := []string{path, "tray", atLogin}
	if !chosen {
		is, err := desktop.StartsAtLogin(command...)
		if err != nil || is == desktop.Off || (is == desktop.On) == on {
			return err
		}
	}
	return desktop.StartAtLogin(on, command...)
}
