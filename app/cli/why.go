package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"stile/app/why"
	"stile/app/why/cause"
)

type whyCommand struct {
	Host string `arg:"" optional:"" help:"A name, an address or a URL; a port behind a colon is of TCP. Without one, those that your resources let pass are tried."`
	JSON bool   `name:"json" help:"Print it as JSON, for programs."`
	List bool   `help:"List all causes there are, and what they mean."`
}

// Validate tells what is wrong with the arguments.
func (c *whyCommand) Validate() error {
	switch {
	case c.List && c.Host != "":
		return errors.New("--list: name no host with it")
	case c.List:
		return nil
	case c.Host == "":
		return fmt.Errorf("which host? %w", cause.ErrTarget)
	}
	_, err := cause.ParseTarget(c.Host)
	return err
}

// errUnreachable ends the program with code 1; all was said before.
var errUnreachable = errors.New("unreachable")

// slow is when a user is told that something is going on.
const slow = time.Second

// Run tells why a host cannot be reached.
func (c *whyCommand) Run(ctx context.Context, p *program) error {
	if c.List {
		return p.listCauses(c.JSON)
	}
	stop := p.wait(slow, "Looking at all that a connection needs. This takes three seconds at most.")
	r, err := why.Ask(ctx, why.Options{Socket: p.socket, Target: c.Host})
	stop()
	if err != nil {
		return err
	}
	if c.JSON {
		err = writeJSON(p.out, r, "  ")
	} else {
		_, err = io.WriteString(p.out, whyText(&r, plainText()))
	}
	if err == nil && !r.Reachable {
		err = errUnreachable
	}
	return err
}

func (p *program) listCauses(asJSON bool) error {
	if asJSON {
		return writeJSON(p.out, cause.Meanings, "  ")
	}
	var rows [][]string
	for _, m := range cause.Meanings {
		rows = append(rows, []string{m.Link, string(m.Code), m.Text})
	}
	table(p.out, "", rows)
	return nil
}

// wait tells a user at a terminal what takes so long, if it does. The result
// ends that.
func (p *program) wait(after time.Duration, what string) (stop func()) {
	if f, is := p.err.(*os.File); !is || !term.IsTerminal(int(f.Fd())) {
		return func() {}
	}
	t := time.AfterFunc(after, func() { fmt.Fprintln(p.err, what) })
	return func() { t.Stop() }
}

// whyText is a report for people: the cause, what to do, and the evidence.
func whyText(r *why.Report, plain bool) string {
	marks := map[cause.Result]string{cause.OK: "✓", cause.Failing: "✗", cause.Open: "?"}
	here := "← here"
	if plain {
		marks = map[cause.Result]string{cause.OK: "+", cause.Failing: "x", cause.Open: "?"}
		here = "<- here"
	}
	var b strings.Builder
	fmt.Fprintln(&b, clean(r.Cause))
	if r.Next != "" {
		fmt.Fprintln(&b, clean(r.Next))
	}
	fmt.Fprintln(&b)
	var rows [][]string
	for _, s := range r.Steps {
		detail := s.Detail
		if detail == r.Cause {
			detail = here
		}
		rows = append(rows, []string{marks[s.Result] + " " + s.Name, clean(detail)})
	}
	table(&b, "  ", rows)
	fmt.Fprintf(&b, "\nCode: %s, found in %d ms.\n", r.Code, r.Millis)
	if plain {
		return ascii.Replace(b.String())
	}
	return b.String()
}

// ascii replaces what we write beyond ASCII.
var ascii = strings.NewReplacer("“", "\"", "”", "\"", "←", "<-", "→", "->")

// plainText reports whether the terminal, or who reads it, wants ASCII only.
func plainText() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if value := strings.ToLower(os.Getenv(name)); value != "" {
			return !strings.Contains(value, "utf-8") && !strings.Contains(value, "utf8")
		}
	}
	return true
}
