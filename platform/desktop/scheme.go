package desktop

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Schemes are the kinds of address that the desktop opens with this program:
// our own, and the one that portals of others send their users back to. Whoever
// has registered the second one last, gets its answers.
var Schemes = []string{"stile", "firezone-fd0020211111"}

// openCommand is the command of the program that is given an address. The
// address is an argument because that is how desktops hand one over: for a
// moment, all users of the machine may see it. It holds half a token, of which
// the other half is no argument of any program: browsers are started with an
// address that leads to it (package callback).
const openCommand = "open-deep-link"

// Register makes the user's desktop open addresses of Schemes with program, an
// absolute path. It replaces what was registered before, also by others; calling
// it twice changes nothing. Without it, there are other ways to sign in.
func Register(program string) error {
	if err := usable(program); err != nil {
		return fmt.Errorf("register the URL scheme: %w", err)
	}
	if err := register(program); err != nil {
		return fmt.Errorf("register the URL scheme: %w", err)
	}
	return nil
}

// Unregister undoes Register, unless another program was registered since. It
// is no error if nothing was.
func Unregister() error {
	if err := unregister(); err != nil {
		return fmt.Errorf("unregister the URL scheme: %w", err)
	}
	return nil
}

// An Autostart is whether the desktop starts the program when the user logs in.
type Autostart uint8

const (
	Absent   Autostart = iota // nobody asked for it
	Off                       // it was asked for, and then switched off in the desktop's settings
	Outdated                  // it starts another program or other arguments
	On
)

func (a Autostart) String() string { return [...]string{"absent", "off", "outdated", "on"}[a] }

// StartsAtLogin tells whether command, a program's absolute path and arguments,
// starts when the user logs in.
func StartsAtLogin(command ...string) (Autostart, error) {
	if len(command) == 0 {
		return Absent, errors.New("no command to start at login")
	}
	a, err := startsAtLogin(command)
	if err != nil {
		err = fmt.Errorf("see what starts at login: %w", err)
	}
	return a, err
}

// StartAtLogin makes the user's desktop start command when the user logs in, or
// not. Calling it twice changes nothing. It overrides what the user has chosen
// in the desktop's settings: ask StartsAtLogin before, unless the user wants it
// now.
func StartAtLogin(on bool, command ...string) error {
	err := errors.New("no command")
	if len(command) > 0 {
		err = usable(command[0])
	}
	if err == nil {
		err = startAtLogin(on, command)
	}
	if err != nil {
		return fmt.Errorf("change what starts at login: %w", err)
	}
	return nil
}

// StopAtLogin undoes StartAtLogin. It is no error if nothing starts.
func StopAtLogin() error {
	if err := startAtLogin(false, nil); err != nil {
		return fmt.Errorf("change what starts at login: %w", err)
	}
	return nil
}

// usable refuses what no desktop could start.
func usable(program string) error {
	if !filepath.IsAbs(program) || strings.ContainsFunc(program, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("%q is no absolute path of a program", program)
	}
	if _, err := os.Stat(program); err != nil {
		return err
	}
	return nil
}
