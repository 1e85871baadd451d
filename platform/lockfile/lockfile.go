// Package lockfile is how a program makes sure that it runs once: a lock that
// the kernel releases when the process ends, however it ends.
package lockfile

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrTaken means that another process holds the lock.
var ErrTaken = errors.New("another process holds this lock")

// maxNote is how much of a note is read, in bytes.
const maxNote = 1 << 10

// A Lock is held until Release, or until the process ends.
type Lock struct{ f *os.File }

// Take locks the file at path, which it makes, mode 0600, if it is missing. The
// folder must exist. note is left in the file for whoever finds it locked.
//
// The file is never removed: whoever opened it before would lock a file that
// nobody else finds.
func Take(path, note string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := lock(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err = f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(note), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &Lock{f}, nil
}

// Release lets others have the lock.
func (l *Lock) Release() error { return l.f.Close() }

// Note returns what the holder of the lock at path has left for others. It may
// be that of an earlier holder, or half of one: believe nothing because of it.
func Note(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxNote))
	return string(text), err
}
