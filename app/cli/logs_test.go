package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stile/app/support"
	"stile/tunnel/ipc"
)

// logged is a line as the service writes it.
func logged(at time.Time, severity, message, more string) string {
	return fmt.Sprintf(`{"time":%q,"severity":%q,"message":%q,"target":"tunnel/daemon","logging.googleapis.com/sourceLocation":{"file":"tunnel/daemon/daemon.go","line":"7"}%s}`+"\n",
		at.UTC().Format(time.RFC3339Nano), severity, message, more)
}

// withLogs is a service that has logged to two files.
func withLogs(t *testing.T) (f *fake, dir string) {
	f, dir = serve(t, ipc.Connected), t.TempDir()
	for i, name := range []string{"tunnel-service.2026-01-02-03-04-05.log", "tunnel-service.2026-01-02-04-00-00.log"} {
		var text strings.Builder
		for n := range 3 {
			text.WriteString(logged(noon.Add(time.Duration(3*i+n)*time.Second), "INFO", fmt.Sprintf("line %d", 3*i+n), `,"host":"portal.example.net","why":"two words","n":3`))
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, noon, noon.Add(time.Duration(i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	f.set(func(s *ipc.State) { s.Logs = ipc.Logs{Dir: dir, Filter: "info"} })
	return f, dir
}

func TestLogsTail(t *testing.T) {
	f, dir := withLogs(t)
	at := noon.Add(5 * time.Second).Local().Format("2006-01-02 15:04:05.000")
	r := f.run(t, "logs", "tail", "-n", "4")
	r.want(t, done, at+" INFO    tunnel/daemon: line 5 host=portal.example.net n=3 why=\"two words\"\n", "")
	if strings.Count(r.out, "\n") != 4 || !strings.Contains(r.out, "line 2") || strings.Contains(r.out, "line 1") || strings.Contains(r.out, "sourceLocation") {
		t.Errorf("%s", r.out)
	}
	if r := f.run(t, "logs", "tail", "--json", "-n", "1"); r.out != logged(noon.Add(5*time.Second), "INFO", "line 5", `,"host":"portal.example.net","why":"two words","n":3`) {
		t.Errorf("%s", r.out)
	}
	if r := f.run(t, "logs", "tail", "-n", "0"); r.code != done || r.out != "" {
		t.Errorf("%+v", r)
	}
	// Without a service, what it has logged before.
	run{}.run(t, filepath.Join(t.TempDir(), "none"), "logs", "tail", "--dir", dir).want(t, done, "line 5", "")
	run{}.run(t, filepath.Join(t.TempDir(), "none"), "logs", "tail", "--dir", t.TempDir()).want(t, failed, "", "There are no log files in")
	f.set(func(s *ipc.State) { s.Logs.Dir = "" })
	f.run(t, "logs", "tail").want(t, failed, "", "journalctl -u stiled")
	f.run(t, "logs", "tail", "--lines=-1").want(t, misuse, "", "-n -1")
}

// What stands in a log cannot drive the terminal, whoever wrote it there.
func TestLogsTailShowsNoControls(t *testing.T) {
	for line, want := range map[string]string{
		"not JSON \x1b[31m":                   "not JSON",
		`{"time":"x","message":"\u001b[2Jm"}`: "[2Jm",
		`{"a":{"b":[1,2]},"message":1}`:       `a={"b":[1,2]}`,
		`[]`:                                  "[]",
		``:                                    "",
	} {
		if got := readable(line); !strings.Contains(got, want) || strings.ContainsAny(got, "\x1b\n") {
			t.Errorf("%q is shown as %q", line, got)
		}
	}
}

func FuzzReadable(f *testing.F) {
	f.Add(logged(noon, "INFO", "hello", `,"a":"b"`))
	f.Add(`{"message":null,"time":[],"x":"\u001b"}`)
	f.Fuzz(func(t *testing.T, line string) {
		if got := readable(line); strings.ContainsAny(got, "\x1b\n\x00") {
			t.Errorf("%q is shown as %q", line, got)
		}
	})
}

func TestLogsTailFollows(t *testing.T) {
	f, dir := withLogs(t)
	t.Setenv("STILE_SOCKET", f.socket)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out := newBuffer()
	p := &program{in: os.Stdin, out: out, err: newBuffer(), now: time.Now}
	ended := make(chan int)
	go func() { ended <- p.main(ctx, []string{"logs", "tail", "-f", "-n", "1"}) }()
	waitFor(t, out, "line 5")
	appendTo := func(name, text string) {
		file, err := os.OpenFile(filepath.Join(dir, name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := file.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	line := logged(noon, "WARNING", "in two parts", "")
	appendTo("tunnel-service.2026-01-02-04-00-00.log", line[:30]) // while it is being opened, as likely as not
	appendTo("tunnel-service.2026-01-02-04-00-00.log", line[30:])
	waitFor(t, out, "WARNING tunnel/daemon: in two parts\n")
	appendTo("tunnel-service.2026-01-02-05-00-00.log", logged(noon, "ERROR", "in the next file", ""))
	waitFor(t, out, "in the next file")
	cancel()
	if code := <-ended; code != done {
		t.Errorf("exit code %d", code)
	}
}

// Between the last look at one file and the next, several may have been begun.
func TestLogsTailLosesNothingBetweenFiles(t *testing.T) {
	_, dir := withLogs(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out := newBuffer()
	ended := make(chan error)
	tail := &logsTail{Follow: true}
	latest := filepath.Join(dir, "tunnel-service.2026-01-02-04-00-00.log")
	go func() { ended <- tail.follow(ctx, out, dir, latest, 0) }()
	waitFor(t, out, "line 5")
	write := func(name, message string, at time.Time) {
		file, err := os.OpenFile(filepath.Join(dir, name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := file.WriteString(logged(noon, "INFO", message, "")); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file.Name(), at, at); err != nil {
			t.Fatal(err)
		}
	}
	write("tunnel-service.2026-01-02-04-00-00.log", "the last of its file", noon.Add(2*time.Hour))
	write("tunnel-service.2026-01-02-05-00-00.log", "all of the second", noon.Add(3*time.Hour))
	write("tunnel-service.2026-01-02-06-00-00.log", "the third", noon.Add(4*time.Hour))
	waitFor(t, out, "the third")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	text := out.String()
	last, second, third := strings.Index(text, "the last of its file"), strings.Index(text, "all of the second"), strings.Index(text, "the third")
	if last < 0 || second < last || third < second {
		t.Errorf("printed:\n%s", text)
	}
}

func TestLogsLevel(t *testing.T) {
	f, _ := withLogs(t)
	f.run(t, "logs", "level").want(t, done, "info\n", "")
	f.run(t, "logs", "level", "debug", "--for", "10m").want(t, done, "The service logs debug, for 10 min", "")
	f.run(t, "logs", "level", "info,tunnel/wg=debug").want(t, done, "until the service starts anew", "")
	want := []ipc.Command{ipc.SetLogFilter{Filter: "debug", For: 10 * time.Minute}, ipc.SetLogFilter{Filter: "info,tunnel/wg=debug"}}
	if got := f.told(); len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("the service was told %v", got)
	}
	for _, bad := range [][]string{{"--for", "10m"}, {"debug", "--for", "-1s"}, {"debug", "--for", "1ms"}, {"debug", "--for", "200h"}} {
		f.run(t, append([]string{"logs", "level"}, bad...)...).want(t, misuse, "", "--for")
	}
}

func TestLogsClear(t *testing.T) {
	f, dir := withLogs(t)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	own := support.AppLogs()[0]
	f.run(t, "logs", "clear").want(t, done, "The log files in "+dir+" are deleted.\n", "") // there are no others
	if err := errors.Join(os.MkdirAll(own, 0o700), os.WriteFile(filepath.Join(own, "a.log"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	f.run(t, "logs", "clear").want(t, done, "The log files in "+own+" are deleted.\n", "")
	if left, _ := os.ReadDir(own); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if got := f.told(); len(got) != 2 || got[0] != (ipc.ClearLogs{}) {
		t.Errorf("the service was told %v", got)
	}
}

// Root, as with sudo -E, deletes nothing that the user could not.
func TestLogsClearIsNotLedAstray(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: this needs root, who clears another user's folder")
	}
	f, _ := withLogs(t)
	top := t.TempDir()
	home, kept := filepath.Join(top, "home"), filepath.Join(top, "root", "kept.log")
	t.Setenv("XDG_CACHE_HOME", home)
	own := support.AppLogs()[0]
	if err := errors.Join(os.Chmod(filepath.Dir(top), 0o755), os.MkdirAll(filepath.Dir(own), 0o755), os.Mkdir(filepath.Dir(kept), 0o755), os.WriteFile(kept, nil, 0o600),
		os.Symlink(filepath.Dir(kept), own), os.Lchown(own, 4711, 4711), os.Chown(filepath.Dir(own), 4711, 4711)); err != nil {
		t.Fatal(err)
	}
	f.run(t, "logs", "clear").want(t, failed, "", "permission denied")
	if _, err := os.Stat(kept); err != nil {
		t.Error(err)
	}
}
