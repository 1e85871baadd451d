// Package cli is the commands of stile: what a user asks of the tunnel service
// on the command line. All of it is a view of ipc.State or one ipc.Command;
// nothing is known here that the other programs of the desktop do not know.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/alecthomas/kong"

	"stile/app/instance"
	"stile/platform/desktop"
	"stile/platform/ipcsock"
	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
)

// Exit codes.
const (
	done   = 0
	failed = 1
	misuse = 2 // of the command line
)

type commands struct {
	Tray       trayCommand         `cmd:"" help:"Show the icon, the menu and the pages for status and settings; that is what stile does without a command on a desktop."`
	SignIn     signInCommand       `cmd:"" help:"Sign in, with your browser."`
	SignOut    signOutCommand      `cmd:"" help:"Sign out and disconnect."`
	Status     statusCommand       `cmd:"" help:"Show whether you are connected, to what, and how."`
	Resources  resourcesCommand    `cmd:"" help:"List what you can reach."`
	Why        whyCommand          `cmd:"" help:"Find out why a host cannot be reached, and what to do."`
	Internet   internetCommand     `cmd:"" help:"Send all other traffic through the tunnel too, or not."`
	Logs       logsCommand         `cmd:"" help:"See, change, clear and export what is logged."`
	Connect    connectCommand      `cmd:"" help:"Connect as who you are signed in, if that did not happen by itself."`
	Settings   settingsCommand     `cmd:"" help:"See and change what the service goes by."`
	Open       openDeepLinkCommand `cmd:"" name:"open-deep-link" hidden:"" help:"Hand an address of the URL scheme to the program that waits for it."`
	Unregister unregisterCommand   `cmd:"" help:"Before you remove Stile: make your desktop forget its links and its start at login."`
	Version    versionCommand      `cmd:"" help:"Show the versions of this program and of the service."`

	Socket string `env:"STILE_SOCKET" default:"${socket}" placeholder:"PATH" hidden:"" help:"Where the service listens."`
}

// A program is one run of stile and what surrounds it.
type program struct {
	socket   string
	in       *os.File
	out, err io.Writer
	open     func(ctx context.Context, address string) error // a browser
	clip     func(ctx context.Context, text string) error    // to the desktop's clipboard
	dir      string                                          // where programs of this user meet
	register func(program string) error                      // with the desktop, for the URL scheme
	now      func() time.Time
	desktop  func() bool // whether there is one
}

// Main runs the command line args, without the program's name, and returns the
// exit code: 0 done, 1 failed, 2 not understood. The end of ctx cancels it.
func Main(ctx context.Context, args []string, in *os.File, out, err io.Writer) int {
	p := &program{in: in, out: out, err: err, open: desktop.Open, clip: desktop.Copy, dir: instance.Dir(), register: desktop.Register, now: time.Now, desktop: desktop.Present}
	return p.main(ctx, args)
}

func (p *program) main(ctx context.Context, args []string) int {
	var c commands
	parser := p.parser(&c)
	switch {
	case len(args) == 0 && p.desktop():
		args = []string{"tray"}
	case len(args) == 0:
		args = []string{"--help"}
	}
	chosen, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(p.err, "stile: %v\nTry: stile --help\n", err)
		return misuse
	}
	p.socket = c.Socket
	chosen.BindTo(ctx, (*context.Context)(nil))
	if err := chosen.Run(p); err != nil {
		if errors.Is(err, errUnreachable) {
			return failed
		}
		fmt.Fprintln(p.err, "stile:", explain(ctx, err))
		return failed
	}
	return done
}

func (p *program) parser(c *commands) *kong.Kong {
	return kong.Must(c, kong.Name("stile"), kong.Vars{"socket": link.Socket}, kong.Writers(p.out, p.err),
		kong.Description("Reach private resources by name. This program asks the tunnel service of this machine, stiled."))
}

// explain says what went wrong, and what to do.
func explain(ctx context.Context, err error) string {
	problem, isProblem := errors.AsType[*ipc.Problem](err)
	switch {
	case ctx.Err() != nil:
		return "cancelled."
	case isProblem:
		return clean(problem.Text)
	case errors.Is(err, ipcsock.ErrNobody):
		return "The tunnel service is not running. Start it with: sudo systemctl start stiled"
	case errors.Is(err, ipcsock.ErrDenied):
		return fmt.Sprintf("You may not speak to the tunnel service (%v). Use sudo.", err)
	case errors.Is(err, link.ErrSilent):
		return "The tunnel service does not respond. Restart it with: sudo systemctl restart stiled"
	case errors.Is(err, link.ErrGone), errors.Is(err, ipc.ErrFrame), errors.Is(err, ipc.ErrMessage):
		return fmt.Sprintf("The tunnel service broke off (%v). Try again in a moment; its log is shown by: journalctl -u stiled", err)
	case errors.Is(err, link.ErrStranger):
		return fmt.Sprintf("%v. It is not trusted with anything.", err)
	}
	return clean(err.Error())
}

// advice is an error in full sentences, of which the last says what to do.
type advice string

func (a advice) Error() string { return string(a) }

// connect meets the service and learns its state.
func (p *program) connect(ctx context.Context) (*link.Client, *ipc.State, error) {
	c, err := link.Dial(ctx, p.socket)
	if err != nil {
		return nil, nil, err
	}
	s, err := c.Next(ctx)
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, s, nil
}
