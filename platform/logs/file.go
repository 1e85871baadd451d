package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// stampFormat is the time in a file's name, of its beginning, UTC.
const stampFormat = "2006-01-02-15-04-05"

// checkEvery is how often a file that is written to is looked for.
const checkEvery = time.Second

// A file is the log file in use; another takes its place when it is long, or
// gone. It is its writer's alone.
type file struct {
	dir, base string
	mode      os.FileMode
	gid       int
	limit     int64
	now       func() time.Time
	first     func(path string) []byte // the line that a file begins with

	out     *os.File
	path    string
	size    int64
	checked time.Time // when the file was last found to be there
	missed  uint64    // lines since writing began to fail
}

// open begins a file. Nobody else's is ever written to: one of the same second
// gets a number.
func (f *file) open() error {
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return fmt.Errorf("make the folder for logs: %w", err)
	}
	stem := filepath.Join(f.dir, f.base+"."+f.now().UTC().Format(stampFormat))
	for n := 1; ; n++ {
		path := stem + ".log"
		if n > 1 {
			path = fmt.Sprintf("%s-%d.log", stem, n)
		}
		out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, f.mode)
		if errors.Is(err, fs.ErrExist) && n < 1000 {
			continue
		}
		if err != nil {
			return fmt.Errorf("begin a log file: %w", err)
		}
		f.close()
		f.out, f.path, f.size, f.checked = out, path, 0, f.now()
		break
	}
	// Who may read it matters more to them than to us: the log goes on if not.
	_ = f.out.Chmod(f.mode)
	if f.gid != 0 {
		_ = f.out.Chown(-1, f.gid)
	}
	f.link()
	n, err := f.out.Write(f.first(f.path))
	if f.size = int64(n); err != nil { // the next line that can be written tells
		f.missed++
	}
	return nil
}

// link lets BASE.latest name the file in use, as far as that is possible.
func (f *file) link() {
	link := filepath.Join(f.dir, f.base+".latest")
	if err := os.Symlink(filepath.Base(f.path), link+".new"); err == nil || errors.Is(err, fs.ErrExist) {
		if os.Rename(link+".new", link) != nil {
			os.Remove(link + ".new")
		}
	}
}

// write appends a line. What cannot be written is counted, and told with the
// first line that can be again.
func (f *file) write(line []byte) {
	if f.size+int64(len(line)) > f.limit && f.size > 0 || f.gone() {
		_ = f.open() // else the old one goes on, if there is one
	}
	if f.out == nil {
		f.missed++
		return
	}
	if f.missed > 0 {
		told, err := f.out.Write(lostLine(f.missed))
		f.size += int64(told)
		if err != nil {
			f.missed++
			return
		}
		f.missed = 0
	}
	n, err := f.out.Write(line)
	f.size += int64(n)
	if err != nil {
		f.missed++
		if n > 0 { // a full disk took a part, which is no line
			f.size -= int64(n)
			_ = f.out.Truncate(f.size)
		}
	}
}

// mend cuts off what is not a whole line at the end of the file that was in use
// before: a power cut leaves such, and a reader of JSON lines stops there.
func (f *file) mend() {
	link := filepath.Join(f.dir, f.base+".latest")
	name, err := os.Readlink(link)
	if err != nil || name != filepath.Base(name) || !strings.HasSuffix(name, ".log") {
		return
	}
	old, err := os.OpenFile(filepath.Join(f.dir, name), os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer old.Close()
	info, err := old.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	tail := make([]byte, min(info.Size(), maxLine+1))
	if _, err := old.ReadAt(tail, info.Size()-int64(len(tail))); err != nil {
		return
	}
	if end := bytes.LastIndexByte(tail, '\n') + 1; end > 0 || int64(len(tail)) == info.Size() {
		if cut := int64(len(tail) - end); cut > 0 {
			_ = old.Truncate(info.Size() - cut)
		}
	}
}

// gone reports whether somebody deleted the file or put another in its place.
func (f *file) gone() bool {
	now := f.now()
	if since := now.Sub(f.checked); since >= 0 && since < checkEvery {
		return false
	}
	f.checked = now
	if f.out == nil {
		return true
	}
	there, err := os.Stat(f.path)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	ours, err := f.out.Stat()
	return err == nil && !os.SameFile(there, ours)
}

func (f *file) close() error {
	if f.out == nil {
		return nil
	}
	out := f.out
	f.out = nil
	return out.Close()
}

// clear deletes all log files and begins a new one. It is closed before, because
// not every system deletes a file that is open.
func (f *file) clear() error {
	f.close()
	return errors.Join(ClearDir(f.dir), f.open())
}

// ClearDir deletes all log files of a folder, and the links to them. A program that
// writes there goes on in a new file.
func ClearDir(dir string) (last error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read the folder of logs: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch {
		case e.Type().IsRegular() && (strings.HasSuffix(e.Name(), "log") || isKept(e.Name())):
		case e.Type() == fs.ModeSymlink && strings.HasSuffix(e.Name(), ".latest"):
		default:
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			last = err
		}
	}
	return last
}

// young is the age below which no file is deleted for its size.
const young = 5 * time.Minute

// Prune deletes the oldest log files of several folders until all of them
// together hold at most limit bytes. It leaves files that were written to in
// the last five minutes, and the latest log of each folder. What Log.Keep made
// counts like a log.
func Prune(dirs []string, limit int64, now time.Time) (last error) {
	type old struct {
		path string
		size int64
		at   time.Time
	}
	var all []old
	var total int64
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			last = err
		}
		var here []old
		for _, e := range entries {
			if !e.Type().IsRegular() || !strings.HasSuffix(e.Name(), ".log") && !isKept(e.Name()) {
				continue
			}
			info, err := e.Info()
			if err != nil {
				continue // deleted meanwhile
			}
			total += info.Size()
			o := old{filepath.Join(dir, e.Name()), info.Size(), info.ModTime()}
			if isKept(e.Name()) {
				all = append(all, o)
			} else {
				here = append(here, o)
			}
		}
		slices.SortFunc(here, func(a, b old) int { return a.at.Compare(b.at) })
		all = append(all, here[:max(0, len(here)-1)]...)
	}
	slices.SortStableFunc(all, func(a, b old) int { return a.at.Compare(b.at) })
	for _, o := range all {
		if total <= limit || now.Sub(o.at) < young {
			break
		}
		if err := os.Remove(o.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			last = err
			continue
		}
		total -= o.size
	}
	return last
}
