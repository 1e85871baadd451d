package logs

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"stile/build/need"
)

func open(t *testing.T, c Config) *Log {
	t.Helper()
	if c.Dir == "" {
		c.Dir = filepath.Join(t.TempDir(), "logs")
	}
	if c.Base == "" {
		c.Base = "program"
	}
	l, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// lines closes the log and reads back all that is in its folder, oldest file
// first, without the first line of each. Each line must be one JSON object with
// what the format promises.
func lines(t *testing.T, l *Log) (list []map[string]any) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(l.Dir(), "*.log"))
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > 0 && text[len(text)-1] != '\n' {
			t.Errorf("%s ends in the middle of a line", path)
		}
		s := bufio.NewScanner(bytes.NewReader(text))
		s.Buffer(nil, 1<<20)
		for first := true; s.Scan(); first = false {
			var m map[string]any
			if err := json.Unmarshal(s.Bytes(), &m); err != nil {
				t.Fatalf("%q: %v", s.Text(), err)
			}
			for _, key := range []string{"time", "severity", "message", "target"} {
				if _, ok := m[key].(string); !ok {
					t.Errorf("%s is %v in %s", key, m[key], s.Text())
				}
			}
			if at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(m["time"])); err != nil || !strings.HasSuffix(fmt.Sprint(m["time"]), "Z") || time.Since(at) > time.Minute {
				t.Errorf("time is %v", m["time"])
			}
			if !first {
				list = append(list, m)
			} else if m["message"] != "started log" || m["severity"] != "INFO" {
				t.Errorf("%s begins with %s", path, s.Text())
			}
		}
	}
	return list
}

func TestLinesAreOfTheFormat(t *testing.T) {
	l := open(t, Config{Filter: "trace"})
	log := l.Logger()
	log.Info("started")
	log.Log(t.Context(), LevelTrace, "deep")
	log.Debug("d")
	log.Warn("w")
	log.Error("", "err", fmt.Errorf("open it: %w", errors.New("no")))
	log.Info("x", "retry_after", 1500*time.Millisecond, "n", 3, "ok", true, "u", uint64(7))
	log.Info("x", "time", "noon", "message", "y", "severity", 1, "target", nil)
	log.With("a", 1).WithGroup("dns").With("b", 2).Info("x", "query-name", "q", slog.Group("sub", "c", 3))
	log.Info("two\nlines \x1b[31m\u2028", "bad", "\xff\x00")
	log.Info("x", "float", 1.5, "list", []int{1}, "", "no key", "text", stringer{})
	log.Info("x", "long", strings.Repeat("a", maxLine))
	got := lines(t, l)
	wants := []map[string]any{
		{"severity": "INFO", "message": "started", "target": "platform/logs"},
		{"severity": "DEBUG"}, {"severity": "DEBUG"}, {"severity": "WARNING"},
		{"severity": "ERROR", "message": "", "err": "open it: no"},
		{"retryAfter": "1.5s", "n": 3.0, "ok": true, "u": 7.0},
		{"message": "x", "time_": "noon", "message_": "y", "severity_": 1.0, "target_": nil},
		{"a": 1.0, "dnsB": 2.0, "dnsQueryName": "q", "dnsSubC": 3.0},
		{"message": "two\nlines \x1b[31m\u2028", "bad": "\ufffd\x00"},
		{"list": []any{1.0}, "text": "as it says"},
		{"message": "x (the record was too long for its fields)", "long": nil},
	}
	if len(got) != len(wants) {
		t.Fatalf("%d lines, want %d", len(got), len(wants))
	}
	for i, want := range wants {
		for key, value := range want {
			if fmt.Sprint(got[i][key]) != fmt.Sprint(value) {
				t.Errorf("line %d: %s is %v, want %v", i, key, got[i][key], value)
			}
		}
	}
	at, _ := got[0]["logging.googleapis.com/sourceLocation"].(map[string]any)
	if at["file"] != "platform/logs/logs_test.go" || fmt.Sprint(at["line"]) == "0" {
		t.Errorf("the source is %v", at)
	}
}

// A value that cannot say what it is must not end who logs it.
func TestValuesThatPanic(t *testing.T) {
	l := open(t, Config{})
	var missing *os.PathError
	l.Logger().Info("x", "err", missing, "not a number", math.NaN())
	if got := lines(t, l); len(got) != 1 || !strings.Contains(fmt.Sprint(got[0]["err"]), "PANIC") || got[0]["notANumber"] != "NaN" {
		t.Errorf("%v", got)
	}
}

type stringer struct{}

func (stringer) String() string { return "as it says" }

func TestFilters(t *testing.T) {
	for _, c := range []struct {
		filter, target string
		level          slog.Level
		want           bool
	}{
		{"", "tunnel/wg", slog.LevelInfo, true},
		{"", "tunnel/wg", slog.LevelDebug, false},
		{"debug", "tunnel/wg", slog.LevelDebug, true},
		{"trace", "tunnel/wg", LevelTrace, true},
		{"off", "tunnel/wg", slog.LevelError, false},
		{"WARN", "tunnel/wg", slog.LevelInfo, false},
		{"info,tunnel/wg=debug", "tunnel/wg", slog.LevelDebug, true},
		{"info,tunnel/wg=debug", "tunnel/wgx", slog.LevelDebug, false},
		{"tunnel=error,tunnel/phoenix=debug", "tunnel/phoenix/dial", slog.LevelDebug, true},
		{"tunnel/phoenix=debug,tunnel=error", "tunnel/daemon", slog.LevelWarn, false},
		{" debug , tunnel = off ", "tunnel/x", slog.LevelError, false},
		{"tunnel=debug,tunnel=off", "tunnel", slog.LevelError, false},
	} {
		f, err := ParseFilter(c.filter)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Keeps(c.target, c.level); got != c.want {
			t.Errorf("%q, %s at %v: %v, want %v", c.filter, c.target, c.level, got, c.want)
		}
	}
	for _, bad := range []string{"loud", "tunnel=", "=debug", "info,,warn", "tunnel=loud", strings.Repeat("a=info,", 200) + "info"} {
		if f, err := ParseFilter(bad); err == nil {
			t.Errorf("%.40q is taken for %v", bad, f)
		}
	}
}

func FuzzFilter(f *testing.F) {
	for _, seed := range []string{"", "info", "a=b", "tunnel/wg=debug,off", ",=,", "x=trace, y = WARN "} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseFilter(text)
		if err != nil {
			return
		}
		b, err := ParseFilter(a.String())
		if err != nil || b.general != a.general || len(b.targets) != len(a.targets) {
			t.Fatalf("%q: %v, then %v %v", text, a, b, err)
		}
		a.Keeps("tunnel/wg", slog.LevelInfo)
	})
}

func FuzzRecord(f *testing.F) {
	f.Add("message", "key", "value", int64(1))
	f.Add("\xff\n\x00", "time", "\u2028", int64(-1))
	f.Fuzz(func(t *testing.T, message, key, text string, n int64) {
		r := slog.NewRecord(time.Now(), slog.Level(n), message, 0)
		r.Add(key, text, key+"_"+key, n, slog.Group(key, "k", time.Duration(n)))
		line := (&handler{}).line(r, source(0))
		var m map[string]any
		if err := json.Unmarshal(line, &m); err != nil || bytes.IndexByte(line, '\n') != len(line)-1 {
			t.Fatalf("%q: %v", line, err)
		}
		for _, key := range []string{"time", "severity", "message", "target"} {
			if _, ok := m[key].(string); !ok {
				t.Fatalf("%s is %v in %q", key, m[key], line)
			}
		}
	})
}

func TestFilterChangesAtOnceAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, Config{})
		log := l.Logger().With("a", 1)
		log.Debug("too deep")
		if err := l.SetFilter("debug", 10*time.Minute); err != nil {
			t.Fatal(err)
		}
		log.Debug("deep enough")
		time.Sleep(10*time.Minute - 1)
		log.Debug("still")
		time.Sleep(2 * time.Nanosecond)
		synctest.Wait()
		log.Debug("too deep again")
		if err := l.SetFilter("loud", 0); err == nil || l.Filter() != "info" {
			t.Errorf("a bad filter: %v, now %q", err, l.Filter())
		}
		l.Close()
		text, _ := os.ReadFile(l.file.path)
		if bytes.Count(text, []byte("\n")) != 3 || !bytes.Contains(text, []byte("deep enough")) || !bytes.Contains(text, []byte("still")) {
			t.Errorf("%s", text)
		}
	})
}

func TestFilesAreRotatedAndNamed(t *testing.T) {
	l := open(t, Config{})
	l.Flush() // then the writer only waits
	l.file.limit = 1000
	for i := range 30 {
		l.Logger().Info("a line", "i", i)
	}
	if got := lines(t, l); len(got) != 30 {
		t.Errorf("%d lines", len(got))
	}
	files, _ := filepath.Glob(filepath.Join(l.Dir(), "program.????-??-??-??-??-??*.log"))
	if len(files) < 4 {
		t.Errorf("files %v", files)
	}
	for _, path := range files {
		info, err := os.Stat(path)
		if err != nil || info.Size() > 1000 || info.Mode().Perm() != 0o640 {
			t.Errorf("%s: %v %v", path, info, err)
		}
	}
	for _, mode := range []os.FileMode{0o606, 0o660} { // whatever the umask is
		l := open(t, Config{Mode: mode})
		if info, err := os.Stat(l.file.path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%v, %v, want mode %v", info.Mode(), err, mode)
		}
	}
	if to, err := os.Readlink(filepath.Join(l.Dir(), "program.latest")); err != nil || to != filepath.Base(l.file.path) {
		t.Errorf("the link leads to %q, %v; want %q", to, err, l.file.path)
	}
}

func TestDeletedFilesAreBegunAnew(t *testing.T) {
	for name, remove := range map[string]func(l *Log) error{
		"cleared":        (*Log).Clear,
		"file deleted":   func(l *Log) error { return os.Remove(l.file.path) },
		"folder deleted": func(l *Log) error { return os.RemoveAll(l.Dir()) },
		"file replaced": func(l *Log) error {
			return errors.Join(os.Remove(l.file.path), os.WriteFile(l.file.path, nil, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := open(t, Config{})
				l.Logger().Info("before")
				l.Flush()
				if text, err := os.ReadFile(filepath.Join(l.Dir(), "program.latest")); err != nil || !bytes.Contains(text, []byte("before")) {
					t.Fatalf("%q %v", text, err)
				}
				if err := remove(l); err != nil {
					t.Fatal(err)
				}
				time.Sleep(checkEvery) // then it looks again
				l.Logger().Info("after")
				got := lines(t, l)
				if len(got) != 1 || got[0]["message"] != "after" {
					t.Errorf("%v", got)
				}
			})
		})
	}
}

// A power cut leaves a part of a line, or zeros where one was.
func TestPartsOfLinesAreCutOff(t *testing.T) {
	for _, rest := range []string{"", `{"time":"20`, "\x00\x00\x00"} {
		dir := t.TempDir()
		l := open(t, Config{Dir: dir})
		l.Logger().Info("whole")
		l.Close()
		old := l.file.path
		f, err := os.OpenFile(old, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString(rest)
		f.Close()
		l = open(t, Config{Dir: dir})
		if got := lines(t, l); len(got) != 1 || got[0]["message"] != "whole" || l.file.path == old {
			t.Errorf("after %q: %v", rest, got)
		}
	}
}

// What the disk refuses is counted, and the count is told.
func TestLinesThatCannotBeWrittenAreTold(t *testing.T) {
	f := &file{dir: t.TempDir(), base: "program", mode: 0o640, limit: fileBytes, now: time.Now, first: func(string) []byte { return nil }}
	if err := f.open(); err != nil {
		t.Fatal(err)
	}
	good := f.out
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full on this system: a full disk cannot be played")
	}
	defer full.Close()
	f.out = full
	for range 3 {
		f.write([]byte("{}\n"))
	}
	f.out = good
	f.write([]byte(`{"message":"after"}` + "\n"))
	f.close()
	text, err := os.ReadFile(f.path)
	if err != nil || !bytes.Contains(text, []byte(`"lines":3`)) || !bytes.HasSuffix(text, []byte("\"after\"}\n")) {
		t.Errorf("%q %v", text, err)
	}
}

func TestNobodyWaitsForTheDisk(t *testing.T) {
	l := &Log{config: Config{Cap: ServiceCap}, lines: make(chan entry, 4), done: make(chan struct{})}
	f, _ := ParseFilter("")
	l.filter.Store(f)
	l.file = &file{dir: t.TempDir(), base: "program", mode: 0o640, limit: fileBytes, now: time.Now, first: l.first}
	if err := l.file.open(); err != nil {
		t.Fatal(err)
	}
	for i := range 10 { // nobody writes yet
		l.Logger().Info("line", "i", i)
	}
	if got := l.lost.Load(); got != 6 {
		t.Errorf("%d lines lost, want 6", got)
	}
	l.config.Dir = l.file.dir
	go l.write()
	got := lines(t, l)
	if len(got) != 5 || fmt.Sprint(got[0]["lines"]) != "6" {
		t.Errorf("%v", got)
	}
}

// A program that logs more than its share does not wait for the next hour.
func TestALogStaysWithinItsCap(t *testing.T) {
	l := open(t, Config{Cap: 10_000})
	l.Flush()
	old := filepath.Join(l.Dir(), "program.2020-01-01-00-00-00.log")
	if err := errors.Join(os.WriteFile(old, make([]byte, 9_000), 0o640), os.Chtimes(old, time.Time{}, time.Now().Add(-time.Hour))); err != nil {
		t.Fatal(err)
	}
	l.file.limit = 2000
	for range 10 {
		l.Logger().Info("a line", "text", strings.Repeat("x", 500))
	}
	l.Close()
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old file: %v", err)
	}
}

func TestOldFilesGoFirst(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	now := time.Now()
	put := func(dir, name string, size int, age time.Duration) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, make([]byte, size), 0o600), os.Chtimes(path, now.Add(-age), now.Add(-age))); err != nil {
			t.Fatal(err)
		}
	}
	put(a, "1.log", 100, 50*time.Hour)
	put(a, "2.log", 100, 20*time.Hour)
	put(a, "3.log", 100, 2*time.Minute)
	put(a, "6.log", 100, time.Minute)
	put(a, "notes.txt", 1000, 100*time.Hour)
	put(b, "4.log", 100, 60*time.Hour)
	put(b, "5.log", 100, 30*time.Hour)
	if err := os.Symlink("/etc/passwd", filepath.Join(b, "0.log")); err != nil {
		t.Fatal(err)
	}
	left := func() string {
		var names []string
		for _, dir := range []string{a, b} {
			entries, _ := os.ReadDir(dir)
			for _, e := range entries {
				names = append(names, e.Name())
			}
		}
		return strings.Join(names, " ")
	}
	for _, c := range []struct {
		limit int64
		want  string
	}{
		{600, "1.log 2.log 3.log 6.log notes.txt 0.log 4.log 5.log"},
		{500, "1.log 2.log 3.log 6.log notes.txt 0.log 5.log"},
		{400, "2.log 3.log 6.log notes.txt 0.log 5.log"},
		{0, "3.log 6.log notes.txt 0.log 5.log"}, // two are young, one is the last of its folder
	} {
		if err := Prune([]string{a, b, filepath.Join(a, "missing")}, c.limit, now); err != nil {
			t.Error(err)
		}
		if got := left(); got != c.want {
			t.Errorf("at most %d bytes: %s, want %s", c.limit, got, c.want)
		}
	}
}

func TestTheTerminalIsToldToo(t *testing.T) {
	var b bytes.Buffer
	l := open(t, Config{Also: slog.NewTextHandler(&b, nil)})
	l.Logger().With("who", "me").WithGroup("g").Info("hello", "n", 1)
	l.Logger().Debug("not this")
	if text := b.String(); !strings.Contains(text, "msg=hello who=me g.n=1") || strings.Contains(text, "not this") {
		t.Errorf("%q", text)
	}
}

// Whoever shows a file on a terminal is not in the hands of what was logged.
func TestLinesDriveNoTerminal(t *testing.T) {
	l := open(t, Config{})
	l.Logger().Info("\x1b[2J \u009b2J \x7f é \x00", "\u0085", "\u0090")
	l.Close()
	text, err := os.ReadFile(l.file.path)
	if err != nil || bytes.ContainsFunc(text, func(r rune) bool { return r != '\n' && unicode.IsControl(r) }) || !bytes.Contains(text, []byte(`\u001b[2J \u009b2J \u007f é \u0000`)) {
		t.Errorf("%q, %v", text, err)
	}
}

func TestOpenTellsWhatIsWrong(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	os.WriteFile(file, nil, 0o600)
	for _, c := range []Config{{Dir: filepath.Join(file, "logs"), Base: "a"}, {Dir: t.TempDir(), Base: "a", Filter: "loud"}} {
		if l, err := Open(c); err == nil {
			l.Close()
			t.Errorf("%+v was opened", c)
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	l, err := Open(Config{Dir: b.TempDir(), Base: "program"})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	log := l.Logger()
	b.Run("kept", func(b *testing.B) {
		for b.Loop() {
			log.Info("a message", "name", "value", "n", 7)
		}
	})
	b.Run("filtered", func(b *testing.B) {
		for b.Loop() {
			log.Debug("a message", "name", "value", "n", 7)
		}
	})
}

// TestJQ reads a folder with the command of the specification.
func TestJQ(t *testing.T) {
	need.Tools(t, "jq", "jq")
	l := open(t, Config{Version: "1.2.3", Filter: "error"})
	l.Flush()
	l.file.limit = 2000
	for i := range 20 {
		l.Logger().Error("line\n“two” \x1b[0m", "message", i)
	}
	l.Logger().Error("")
	l.Close()
	command := exec.Command("sh", "-c", `cat *.log | jq -r '"\(.time) \(.severity) \(.message)"'`)
	command.Dir = l.Dir()
	out, err := command.CombinedOutput()
	if err != nil || !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z INFO started log\n`).Match(out) || bytes.Contains(out, []byte("null")) {
		t.Errorf("%v\n%s", err, out)
	}
}
