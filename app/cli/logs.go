package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"stile/app/support"
	"stile/platform/dirs"
	"stile/platform/logs"
	"stile/platform/owner"
	"stile/tunnel/ipc"
)

type logsCommand struct {
	Tail   logsTail   `cmd:"" help:"Show the latest lines of the service's log."`
	Flight logsFlight `cmd:"" help:"Show what the service did in the last ten minutes: decisions, counters, and the headers of packets."`
	Level  logsLevel  `cmd:"" help:"Change what the service logs, at once."`
	Clear  logsClear  `cmd:"" help:"Delete the log files of the service and of your own programs; logging goes on in new ones."`
	Export logsExport `cmd:"" help:"Write one file for whoever helps you: logs, state, DNS, routes and settings, without secrets and names."`
}

type logsTail struct {
	Lines  int    `short:"n" default:"20" help:"How many."`
	Follow bool   `short:"f" help:"Go on with what is logged from now on. Ctrl-C ends it."`
	JSON   bool   `name:"json" help:"Print the lines as they are in the files, for programs."`
	Dir    string `placeholder:"DIR" help:"Read the files of this folder (default: where the service says that it logs)."`
}

// Validate tells what is wrong with the options.
func (c *logsTail) Validate() error {
	if c.Lines < 0 || c.Lines > 100_000 {
		return fmt.Errorf("-n %d: say a number from 0 to 100000", c.Lines)
	}
	return nil
}

// followEvery is how often a log is looked at for more.
const followEvery = 250 * time.Millisecond

// Run prints the latest lines. It works without a service, too.
func (c *logsTail) Run(ctx context.Context, p *program) error {
	dir, err := c.dir(ctx, p)
	if err != nil {
		return err
	}
	files, err := logFiles(dir)
	if err != nil {
		return err
	}
	latest := files[len(files)-1]
	read := int64(0) // of the latest
	var lines []string
	for _, f := range slices.Backward(files) { // the latest has most likely enough
		text, err := os.ReadFile(f)
		if err != nil {
			return explainFile(err)
		}
		if c.Follow && f == latest { // the rest of a line that is being written is yet to come
			text = text[:bytes.LastIndexByte(text, '\n')+1]
			read = int64(len(text))
		}
		if len(text) > 0 {
			lines = append(strings.SplitAfter(strings.TrimSuffix(string(text), "\n"), "\n"), lines...)
		}
		if len(lines) > c.Lines {
			break
		}
	}
	for _, line := range lines[max(0, len(lines)-c.Lines):] {
		c.print(p.out, line)
	}
	if !c.Follow {
		return nil
	}
	return c.follow(ctx, p.out, dir, latest, read)
}

// dir is where the service logs.
func (c *logsTail) dir(ctx context.Context, p *program) (string, error) {
	if c.Dir != "" {
		return c.Dir, nil
	}
	l, s, err := p.connect(ctx)
	if err != nil {
		return dirs.Logs, nil // what it has logged before may say why
	}
	l.Close()
	if s.Logs.Dir == "" {
		return "", advice("The service writes no log files. Its log is shown by: journalctl -u stiled")
	}
	return s.Logs.Dir, nil
}

// logFiles lists the log files of a folder, the oldest first; there is one at
// least. Their names begin with what wrote them, then the time.
func logFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, explainFile(err)
	}
	type file struct {
		path string
		at   time.Time
	}
	var files []file
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && info.Mode().IsRegular() && strings.HasSuffix(e.Name(), ".log") {
			files = append(files, file{filepath.Join(dir, e.Name()), info.ModTime()})
		}
	}
	if len(files) == 0 {
		return nil, advice(fmt.Sprintf("There are no log files in %s.", dir))
	}
	slices.SortFunc(files, func(a, b file) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.path, b.path)) })
	var paths []string
	for _, f := range files {
		paths = append(paths, f.path)
	}
	return paths, nil
}

func explainFile(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return advice(fmt.Sprintf("You may not read the service's log (%v). Use sudo, or be a member of the group stile.", err))
	case errors.Is(err, fs.ErrNotExist):
		return advice(fmt.Sprintf("The service has not logged to a file yet (%v). Its log is shown by: journalctl -u stiled", err))
	}
	return err
}

// follow prints what comes after the first from bytes of the file at path, and
// what is in the files that follow it, until ctx ends.
func (c *logsTail) follow(ctx context.Context, out io.Writer, dir, path string, from int64) error {
	f, err := os.Open(path)
	if err != nil {
		return explainFile(err)
	}
	defer func() { f.Close() }()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return err
	}
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	lines, part := bufio.NewReader(f), ""
	drain := func() {
		for {
			text, err := lines.ReadString('\n')
			if part += text; err != nil {
				return
			}
			c.print(out, part)
			part = ""
		}
	}
	for {
		drain()
		select {
		case <-ctx.Done():
			return nil // as the user wished
		case <-tick.C:
		}
		for next := after(dir, path); next != ""; next = after(dir, path) {
			g, err := os.Open(next)
			if err != nil {
				break // deleted meanwhile, or ours to read in a moment
			}
			drain() // nobody writes to it any more
			f.Close()
			f, path, part = g, next, ""
			lines.Reset(f)
		}
	}
}

// after returns the log file that follows the one at path; the first of the
// folder if that is gone; "" if there is none.
func after(dir, path string) string {
	files, err := logFiles(dir)
	if err != nil {
		return ""
	}
	if i := slices.Index(files, path) + 1; i < len(files) {
		return files[i]
	}
	return ""
}

// print shows a line: for people, its time in their zone, how serious it is,
// what it says, and its fields.
func (c *logsTail) print(out io.Writer, line string) {
	if line = strings.TrimSuffix(line, "\n"); c.JSON {
		fmt.Fprintln(out, line)
		return
	}
	fmt.Fprintln(out, readable(line))
}

// readable is a line of a log file for people.
func readable(line string) string {
	d := json.NewDecoder(strings.NewReader(line))
	d.UseNumber()
	var fields map[string]any
	if d.Decode(&fields) != nil {
		return clean(line)
	}
	take := func(key string) string {
		s, _ := fields[key].(string)
		delete(fields, key)
		return s
	}
	at, severity, message, target := take("time"), take("severity"), take("message"), take("target")
	if t, err := time.Parse(time.RFC3339Nano, at); err == nil {
		at = t.Local().Format("2006-01-02 15:04:05.000")
	}
	delete(fields, "logging.googleapis.com/sourceLocation")
	var b strings.Builder
	fmt.Fprintf(&b, "%s %-7s %s: %s", clean(at), clean(severity), clean(target), clean(message))
	keys := make([]string, 0, len(fields))
	for k := range fields {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		text, err := json.Marshal(fields[k])
		if err != nil {
			continue
		}
		if s, is := fields[k].(string); is && s != "" && !strings.ContainsAny(s, " \"=") {
			text = []byte(s)
		}
		fmt.Fprintf(&b, " %s=%s", clean(k), clean(string(text)))
	}
	return b.String()
}

type logsLevel struct {
	Filter string        `arg:"" optional:"" help:"trace, debug, info, warn, error or off, or for one part only, such as info,tunnel/phoenix=debug. Without it, the present one is shown."`
	For    time.Duration `placeholder:"TIME" help:"Go back to the usual after this time, such as 10m. Without it the change lasts until the service starts anew."`
}

// Validate tells what is wrong with the options.
func (c *logsLevel) Validate() error {
	switch {
	case c.For != 0 && c.Filter == "":
		return errors.New("--for: say what to log for that time")
	case c.For < 0 || c.For > ipc.MaxLogFor || c.For%time.Second != 0:
		return fmt.Errorf("--for %v: say whole seconds, minutes or hours, up to a week", c.For)
	}
	return nil
}

// Run changes what is logged, or shows it.
func (c *logsLevel) Run(ctx context.Context, p *program) error {
	l, s, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	if c.Filter == "" {
		fmt.Fprintln(p.out, clean(s.Logs.Filter))
		return nil
	}
	if err := l.Do(ctx, ipc.SetLogFilter{Filter: c.Filter, For: c.For}); err != nil {
		return err
	}
	until := "until the service starts anew"
	if c.For > 0 {
		until = "for " + age(c.For)
	}
	fmt.Fprintf(p.out, "The service logs %s, %s. Before, it was %s.\nSee it with: stile logs tail -f\n", clean(c.Filter), until, clean(s.Logs.Filter))
	return nil
}

type logsClear struct{}

// Run deletes the log files.
func (logsClear) Run(ctx context.Context, p *program) error {
	l, s, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := l.Do(ctx, ipc.ClearLogs{}); err != nil {
		return err
	}
	fmt.Fprintf(p.out, "The log files in %s are deleted.\n", clean(s.Logs.Dir))
	for _, dir := range support.AppLogs() {
		switch err := owner.As(dir, func() error { return logs.ClearDir(dir) }); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		default:
			fmt.Fprintf(p.out, "The log files in %s are deleted.\n", clean(dir))
		}
	}
	return nil
}
