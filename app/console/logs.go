package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"stile/app/menu"
)

// How much of the logs a page shows, and looks at.
const (
	maxLines    = 200
	tailBytes   = 512 << 10 // of the end of each file
	filesPerDir = 3         // the latest of each folder
	maxMessage  = 2000      // bytes of a field
	maxPairs    = 20
)

// severities are the levels, the least first (spec desktop-client.md 20.2).
var severities = map[string]int{"debug": 0, "info": 1, "warning": 2, "error": 3}

// A line is one of a log.
type line struct {
	at              time.Time
	Time            string
	Level, Class    string
	Target, Message string
	Fields          []pair
	rank            int
}

// A pair is a name and what it stands for.
type pair struct{ Name, Value string }

// A view of logs: what was read, and of which files it was.
type tail struct {
	lines    []line // the newest first
	problems []string
	stamp    string // of the files, as they were
}

// read shows the latest lines of the logs in dirs that a query wants. It reads
// only if files or query have changed since was.
func (q query) read(dirs []string, unreadable func(dir string) string, zone *time.Location, was *tail) *tail {
	var paths []string
	var problems []string
	stamp := q.level + "\n" + q.text + "\n"
	for _, dir := range dirs {
		files, err := latest(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			problems = append(problems, unreadable(dir))
		}
		for _, f := range files {
			paths = append(paths, f.path)
			stamp += f.stamp + "\n"
		}
	}
	stamp += strings.Join(problems, "\n")
	if was != nil && was.stamp == stamp {
		return was
	}
	t := &tail{stamp: stamp, problems: problems}
	for _, path := range paths {
		text, err := end(path)
		if err != nil {
			if p := unreadable(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) && !slices.Contains(t.problems, p) {
				t.problems = append(t.problems, p)
			}
			continue
		}
		t.lines = append(t.lines, q.pick(text, zone)...)
	}
	slices.SortStableFunc(t.lines, func(a, b line) int { return b.at.Compare(a.at) })
	t.lines = t.lines[:min(len(t.lines), maxLines)]
	return t
}

// pick parses the lines of text that are wanted, the newest first.
func (q query) pick(text []byte, zone *time.Location) (list []line) {
	lines := bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
	for _, raw := range slices.Backward(lines) {
		if len(list) == maxLines {
			break
		}
		l, ok := parseLine(raw, zone)
		if ok && l.rank >= severities[q.level] && matches(q.text, string(raw)) {
			list = append(list, l)
		}
	}
	return list
}

// parseLine reads a line of a log; what is none is shown as it is.
func parseLine(raw []byte, zone *time.Location) (line, bool) {
	if len(bytes.TrimSpace(raw)) == 0 {
		return line{}, false
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var fields map[string]any
	if d.Decode(&fields) != nil || fields == nil {
		return line{Message: menu.Plain(cut(string(raw), maxMessage)), Level: "?", Class: "info", rank: severities["info"]}, true
	}
	take := func(key string) string {
		s, _ := fields[key].(string)
		delete(fields, key)
		return menu.Plain(cut(s, maxMessage))
	}
	l := line{Time: take("time"), Level: take("severity"), Message: take("message"), Target: take("target")}
	if at, err := time.Parse(time.RFC3339Nano, l.Time); err == nil {
		l.at = at
		l.Time = at.In(zone).Format("01-02 15:04:05")
	}
	l.Class = strings.ToLower(l.Level)
	rank, known := severities[l.Class]
	if !known {
		l.Class, rank = "info", severities["info"]
	}
	l.rank = rank
	delete(fields, "logging.googleapis.com/sourceLocation")
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names[:min(len(names), maxPairs)] {
		value, is := fields[name].(string)
		if !is {
			text, err := json.Marshal(fields[name])
			if err != nil {
				continue
			}
			value = string(text)
		}
		l.Fields = append(l.Fields, pair{menu.Plain(cut(name, maxMessage)), menu.Plain(cut(value, maxMessage))})
	}
	return l, true
}

type logFile struct {
	path, stamp string
	at          time.Time
}

// latest lists the newest log files of a folder.
func latest(dir string) (files []logFile, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || !strings.HasSuffix(e.Name(), ".log") {
			continue
		}
		files = append(files, logFile{filepath.Join(dir, e.Name()), info.Name() + info.ModTime().String() + " " + strconv.FormatInt(info.Size(), 10), info.ModTime()})
	}
	slices.SortFunc(files, func(a, b logFile) int { return b.at.Compare(a.at) })
	return files[:min(len(files), filesPerDir)], err
}

// end is the end of a file, from the beginning of a line on.
func end(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	from := max(0, info.Size()-tailBytes)
	text, err := io.ReadAll(io.NewSectionReader(f, from, tailBytes))
	if from > 0 {
		_, text, _ = bytes.Cut(text, []byte("\n"))
	}
	return text, err
}
