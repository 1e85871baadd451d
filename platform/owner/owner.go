// Package owner lets what root started work on files of others with the rights
// of these others: so it leaves nothing there which they cannot open, and
// nobody can lead it, by links, to what they may not.
package owner

import (
	"errors"
	"io/fs"
	"os"
)

// Become makes this process act as the owner of path for the rest of its life,
// if it is root and another owns path. It does nothing otherwise.
func Become(path string) error { return become(path) }

// As calls do, in which files at path and below it are opened, read, made or
// removed. If this process is root's, and path, which is absolute, clean and of
// something that is there, leads through folders or links of somebody else, do has
// the rights of whoever ran sudo; if nobody did, those of the owner of the first
// of these. do starts no goroutines. The error is that of do, or says why do was
// not called.
func As(path string, do func() error) error { return as(path, do) }

// ErrNoFile means that there is something else at a path than a file.
var ErrNoFile = errors.New("it is not a file")

// Open opens the file at path for reading, as in As. Other things, such as pipes,
// which could hold up whoever opens them, are ErrNoFile.
func Open(path string) (f *os.File, info fs.FileInfo, err error) {
	err = As(path, func() error {
		f, err = os.OpenFile(path, os.O_RDONLY|dontWait, 0)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if info, err = f.Stat(); err == nil && !info.Mode().IsRegular() {
		err = ErrNoFile
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// Invoker is the user who ran this program by sudo.
func Invoker() (uid, gid int, sudo bool) { return invoker() }
