// Package cmdline is how all our programs meet their command line: they say in
// one line what is wrong and what to do next, and end with the same status for
// the same kind of trouble.
package cmdline

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"
)

// Exit statuses (spec desktop-client.md 17.2). 0 also stands for an orderly
// stop: somebody asked for it.
const (
	Failed  = 1 // what was asked for did not work
	Misused = 2 // the command line or the environment makes no sense
)

// Parse reads command line and environment into what options points to. If
// they make no sense it says so and ends the program with [Misused].
func Parse(options any, more ...kong.Option) *kong.Context {
	k := kong.Must(options, more...)
	c, err := k.Parse(os.Args[1:])
	if err != nil {
		explain(os.Stderr, k, err)
		os.Exit(Misused)
	}
	return c
}

// Exit ends the program called name with status 0 or, after saying why, with
// [Failed].
func Exit(name string, err error) {
	if err == nil {
		os.Exit(0)
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	os.Exit(Failed)
}

// explain names the command whose help tells more. Who left the command out
// is shown those there are.
func explain(w io.Writer, k *kong.Kong, err error) {
	name := k.Model.Name
	if p, is := errors.AsType[*kong.ParseError](err); is && p.Context != nil {
		chosen := p.Context.Selected()
		if chosen == nil {
			chosen = k.Model.Node
		} else {
			name += " " + p.Context.Command()
		}
		if unnamed := p.Context.Error == nil && len(chosen.Children) > 0; unnamed {
			k.Stdout = w
			_ = p.Context.PrintUsage(true) // the line below says the rest
		}
	}
	fmt.Fprintf(w, "%s: %v; see %s --help\n", k.Model.Name, err, name)
}
