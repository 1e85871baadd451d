package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"stile/build/stamp"
	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
)

type statusCommand struct {
	JSON  bool `name:"json" help:"Print it as JSON, for programs. With --watch: one object a line."`
	Watch bool `help:"Go on, showing each change, until you press Ctrl-C."`
}

// Run prints the state, once or as it changes.
func (c statusCommand) Run(ctx context.Context, p *program) error {
	if c.Watch {
		return p.watch(ctx, c.JSON)
	}
	l, s, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	if c.JSON {
		return writeJSON(p.out, s, "  ")
	}
	_, err = io.WriteString(p.out, text(s, p.now()))
	return err
}

// watch shows states until ctx ends. A service that goes away may come back.
func (p *program) watch(ctx context.Context, asJSON bool) error {
	ctx, cancel := context.WithCancel(ctx)
	var g sync.WaitGroup
	defer g.Wait()
	defer cancel()
	news := make(chan link.News)
	g.Go(func() {
		link.Follow(ctx, p.socket, func(n link.News) {
			select {
			case news <- n:
			case <-ctx.Done():
			}
		})
	})
	var tick <-chan time.Time // ages grow by themselves
	if _, is := p.terminal(); is && !asJSON {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		tick = ticker.C
	}
	var s *ipc.State // nil: the service is away
	told := ""
	for {
		select {
		case <-ctx.Done():
			return nil // that is how one leaves
		case <-tick:
		case n := <-news:
			s = n.State
			if n.Presence == link.Denied || n.Presence == link.Outdated {
				return n.Err
			}
			if n.Err == nil || ctx.Err() != nil {
				break
			}
			if why := explain(ctx, n.Err); why != told {
				fmt.Fprintf(p.err, "stile: %s\nWaiting for it.\n", why)
				told = why
			}
		}
		if s == nil {
			continue
		}
		told = ""
		if err := p.show(s, asJSON); err != nil {
			return err
		}
	}
}

// show prints one state of many: in place on a terminal, below each other
// otherwise.
func (p *program) show(s *ipc.State, asJSON bool) error {
	if asJSON {
		return writeJSON(p.out, s, "")
	}
	f, onTerminal := p.terminal()
	if !onTerminal {
		_, err := fmt.Fprintln(p.out, text(s, p.now()))
		return err
	}
	_, height, err := term.GetSize(int(f.Fd()))
	if err != nil {
		height = 24
	}
	_, err = fmt.Fprint(p.out, "\x1b[H\x1b[2J", crop(text(s, p.now()), height-1))
	return err
}

// crop leaves out what does not fit into height lines, and says so.
func crop(text string, height int) string {
	lines := strings.SplitAfter(text, "\n")
	if len(lines)-1 <= height || height < 2 {
		return text
	}
	return strings.Join(lines[:height-1], "") + fmt.Sprintf("… and %d lines more\n", len(lines)-height)
}

func (p *program) terminal() (f *os.File, is bool) {
	f, is = p.out.(*os.File)
	return f, is && term.IsTerminal(int(f.Fd()))
}

// onTerminal reports whether errors and progress are seen by a person.
func (p *program) onTerminal() bool {
	f, is := p.err.(*os.File)
	return is && term.IsTerminal(int(f.Fd()))
}

func writeJSON(w io.Writer, v any, indent string) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	return e.Encode(v)
}

type resourcesCommand struct {
	JSON bool `name:"json" help:"Print them as JSON, for programs."`
}

// Run prints the resources.
func (c resourcesCommand) Run(ctx context.Context, p *program) error {
	l, s, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	if s.Session.Phase == ipc.SignedOut {
		return signedOut(s)
	}
	if c.JSON {
		if s.Resources == nil {
			s.Resources = []ipc.Resource{}
		}
		return writeJSON(p.out, s.Resources, "  ")
	}
	if len(s.Resources) == 0 {
		if s.Session.Phase != ipc.Connected {
			return advice("Your resources are not known yet. " + headline(s.Session, p.now()))
		}
		fmt.Fprintln(p.out, "There is nothing that you may reach. Ask your administrator.")
		return nil
	}
	table(p.out, "", resourceRows(s.Resources))
	return nil
}

// signedOut says that something needs a session.
func signedOut(s *ipc.State) error {
	if p := s.Session.Problem; p != nil {
		return p
	}
	return ipc.SaySignedOut.With()
}

type internetCommand struct {
	State string `arg:"" optional:"" help:"on or off. Without it, the present one is shown."`
}

// Validate tells what is wrong with the options.
func (c *internetCommand) Validate() error {
	if c.State != "" && c.State != "on" && c.State != "off" {
		return fmt.Errorf("%q: say on or off", c.State)
	}
	return nil
}

// Run switches the Internet resource, and tells how it is.
func (c internetCommand) Run(ctx context.Context, p *program) error {
	l, s, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	on := s.Internet.On
	if c.State != "" {
		on = c.State == "on"
		if err := l.Do(ctx, ipc.SetInternet{On: on}); err != nil {
			return err
		}
		if s, err = l.Next(ctx); err != nil {
			return err
		}
	}
	switch {
	case !on:
		fmt.Fprintln(p.out, "Other traffic goes out directly.")
	case s.Session.Phase != ipc.Connected:
		fmt.Fprintln(p.out, "Once you are connected, all traffic goes through the tunnel.")
	case !s.Internet.Available:
		fmt.Fprintln(p.out, "Noted, but your account has no Internet resource: other traffic goes out directly.")
	default:
		fmt.Fprintln(p.out, "All traffic goes through the tunnel.")
	}
	return nil
}

type versionCommand struct {
	JSON bool `name:"json" help:"Print them as JSON, for programs."`
}

// Run prints the versions. It is no error that there is no service to ask.
func (c versionCommand) Run(ctx context.Context, p *program) error {
	service, missing := "", ""
	l, err := link.Dial(ctx, p.socket)
	if err == nil {
		service = l.Hello.Version
		l.Close()
	} else {
		missing = explain(ctx, err)
	}
	if c.JSON {
		return writeJSON(p.out, struct {
			Program string `json:"program"`
			Service string `json:"service,omitempty"` // absent if it does not answer
		}{stamp.String(), service}, "  ")
	}
	fmt.Fprintln(p.out, "stile ", stamp.String())
	if err == nil {
		fmt.Fprintln(p.out, "stiled", clean(service))
	} else {
		fmt.Fprintln(p.out, "stiled", missing)
	}
	return nil
}
