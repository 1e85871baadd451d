package logs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// keptSuffix ends the names of files that are lines like those of a log, but of
// one moment, so that *.log is without them.
const keptSuffix = ".jsonl"

func isKept(name string) bool { return strings.HasSuffix(name, keptSuffix) }

// partial ends the name of a file while it is written.
const partial = ".partial"

// Keep makes a file beside the logs, called KIND-NAME-TIME.jsonl, of what write
// writes, and deletes the oldest of its kind until there are at most most. Only
// a whole file is kept. It may be called from one goroutine at a time.
func (l *Log) Keep(kind, name string, most int, write func(io.Writer) error) (path string, err error) {
	if l.file == nil {
		return "", errors.New("there is no folder for logs")
	}
	path = filepath.Join(l.config.Dir, kind+"-"+name+"-"+time.Now().UTC().Format(stampFormat)+keptSuffix)
	if err := l.make(path+partial, write); err != nil {
		os.Remove(path + partial)
		return "", fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(path+partial, path); err != nil {
		os.Remove(path + partial)
		return "", err
	}
	return path, pruneKind(l.config.Dir, kind, most)
}

func (l *Log) make(path string, write func(io.Writer) error) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) { // of a run that ended while it wrote
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, l.config.Mode)
	if err != nil {
		return err
	}
	// Who may read it matters more to them than to us, as with the log.
	_ = f.Chmod(l.config.Mode)
	if l.config.GID != 0 {
		_ = f.Chown(-1, l.config.GID)
	}
	return errors.Join(write(f), f.Close())
}

// pruneKind deletes the oldest files of a kind, and what was never finished.
func pruneKind(dir, kind string, most int) error {
	type old struct {
		path string
		at   time.Time
	}
	entries, err := os.ReadDir(dir)
	var all []old
	for _, e := range entries {
		name := e.Name()
		path := filepath.Join(dir, name)
		if !strings.HasPrefix(name, kind+"-") || !e.Type().IsRegular() {
			continue
		}
		if strings.HasSuffix(name, keptSuffix+partial) {
			err = errors.Join(err, os.Remove(path))
			continue
		}
		if info, err := e.Info(); err == nil && isKept(name) {
			all = append(all, old{path, info.ModTime()})
		}
	}
	slices.SortFunc(all, func(a, b old) int { return b.at.Compare(a.at) })
	for _, o := range all[min(most, len(all)):] {
		err = errors.Join(err, os.Remove(o.path))
	}
	return err
}
