package ipcsock

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
)

// Why a program is not one of those that are trusted.
var (
	// ErrReplaced: its file was replaced since it was started, as an upgrade
	// does. It has to be started anew.
	ErrReplaced = errors.New("its file was replaced since it was started")
	// ErrUntrusted: it is another program, or its file is one that others than
	// the administrator can write.
	ErrUntrusted = errors.New("it is not a program that is trusted here")
	// ErrUnknownProgram: the system should be able to tell the program, but did
	// not. When unsure, trust nobody.
	ErrUnknownProgram = errors.New("the system does not tell which program it is")
)

// Trusted makes sure that the process at the other end of conn runs one of the
// programs at paths, from a file that only the administrator can have written.
// The error wraps one of those above. Where the system cannot tell the program
// of a caller at all (Linux before 6.5), the answer is nil: then who the user is
// has to be enough (spec desktop-client.md 3.2).
//
// It keeps a user's other programs from driving the service: scripts, and what
// runs in a sandbox that has the socket in it but may not start or debug programs
// outside. It is a hurdle, not a wall: whoever may start a trusted program can
// also have it act.
func Trusted(conn net.Conn, p Peer, paths []string) error {
	file, err := program(conn, p)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnknownProgram, err)
	}
	return file.judge(paths)
}

// An executable is the file that a process runs.
type executable struct {
	path    string // as the system knows it, perhaps as the process sees it
	deleted bool   // it is not at path any more
	safe    bool   // only the administrator can write it
	// is reports whether it is the file at path, as we see it.
	is func(path string) bool
}

func (e executable) judge(paths []string) error {
	switch {
	case slices.ContainsFunc(paths, e.is) && e.safe:
		return nil
	case slices.ContainsFunc(paths, e.is):
		return fmt.Errorf("%w: others than the administrator can write %.200q", ErrUntrusted, e.path)
	case e.deleted && slices.ContainsFunc(paths, func(p string) bool { return filepath.Clean(p) == e.path }):
		return fmt.Errorf("%w: %.200q", ErrReplaced, e.path)
	}
	return fmt.Errorf("%w: %.200q", ErrUntrusted, e.path)
}
