package flowlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

const (
	// files is how many there may be: PATH, PATH.1 … PATH.9, the newest first.
	files = 10
	// checkEvery is how often PATH is looked for while lines are written.
	checkEvery = time.Second
)

// A file is a log file that only its owner may read. When it is long, it is
// moved to PATH.1 and what was there to PATH.2, and so on; when somebody else
// has moved or deleted it, another is made.
type file struct {
	path    string
	limit   int64 // in bytes, of one file
	out     *os.File
	lines   stream // on out
	size    int64
	checked time.Time
}

func openFile(path string, limit int64) (*file, error) {
	f := &file{path: path, limit: max(limit, 1<<12)}
	if err := f.open(); err != nil {
		return nil, err
	}
	return f, nil
}

// open opens PATH, or makes it. Who may read one that exists is not changed.
func (f *file) open() error {
	out, err := os.OpenFile(f.path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := out.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a file")
	}
	if err != nil {
		out.Close()
		return fmt.Errorf("open %s: %w", f.path, err)
	}
	if f.out != nil {
		f.out.Close()
	}
	f.out, f.size, f.checked = out, info.Size(), time.Now()
	f.lines = stream{w: out, broken: endsWithinALine(out, info.Size())}
	return nil
}

// endsWithinALine tells whether whoever wrote last was killed meanwhile.
func endsWithinALine(f *os.File, size int64) bool {
	var last [1]byte
	if size == 0 {
		return false
	}
	_, err := f.ReadAt(last[:], size-1)
	return err == nil && last[0] != '\n'
}

func (f *file) write(text []byte, ends []int) (lost int, err error) {
	if f.gone() {
		if err := f.open(); err != nil {
			return len(ends), err
		}
	}
	if f.size > 0 && f.size+int64(len(text)) > f.limit {
		if err := f.rotate(); err != nil {
			return len(ends), err
		}
	}
	lost, err = f.lines.write(text, ends)
	if kept := len(ends) - lost; kept > 0 {
		f.size += int64(ends[kept-1])
	}
	return lost, err
}

// rotate moves all files to the next number; the last is deleted.
func (f *file) rotate() error {
	for n := files - 1; n > 0; n-- {
		from := fmt.Sprintf("%s.%d", f.path, n-1)
		if n == 1 {
			from = f.path
		}
		if err := os.Rename(from, fmt.Sprintf("%s.%d", f.path, n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return f.open()
}

// gone reports whether somebody has moved or deleted the file.
func (f *file) gone() bool {
	now := time.Now()
	if since := now.Sub(f.checked); since >= 0 && since < checkEvery {
		return false
	}
	f.checked = now
	there, err := os.Stat(f.path)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	ours, err := f.out.Stat()
	return err == nil && !os.SameFile(there, ours)
}

func (f *file) reopen() error { return f.open() }
func (f *file) close() error  { return f.out.Close() }
