package admin

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// A terminal is what a command talks to. Passwords come from here only: what
// stands on a command line, every process of the machine can read.
type terminal struct {
	in       io.Reader
	out, err io.Writer
	// hidden reads a line that is not shown; nil if nobody sits there.
	hidden func() ([]byte, error)
}

func console() *terminal {
	t := &terminal{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	if fd := int(os.Stdin.Fd()); term.IsTerminal(fd) {
		t.hidden = func() ([]byte, error) { return term.ReadPassword(fd) }
	}
	return t
}

// newPassword asks twice, or takes the first line of standard input.
func (t *terminal) newPassword(whose string) (string, error) {
	if t.hidden == nil {
		line, err := bufio.NewReader(io.LimitReader(t.in, 4096)).ReadString('\n')
		if err != nil && line == "" {
			return "", errors.New("no password on standard input; write it there as one line, or run the command in a terminal")
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
	first, err := t.ask("Password for " + whose + ": ")
	if err != nil {
		return "", err
	}
	second, err := t.ask("Again: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", errors.New("the two passwords differ; nothing was changed")
	}
	return first, nil
}

func (t *terminal) ask(prompt string) (string, error) {
	fmt.Fprint(t.err, prompt)
	line, err := t.hidden()
	fmt.Fprintln(t.err)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return string(line), nil
}
