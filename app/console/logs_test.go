package console

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func write(t *testing.T, dir, name, text string, at time.Time) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

func logLine(at time.Time, severity, message string) string {
	return fmt.Sprintf(`{"time":%q,"severity":%q,"message":%q,"target":"x"}`+"\n", at.Format(time.RFC3339Nano), severity, message)
}

func messages(t *tail) (all []string) {
	for _, l := range t.lines {
		all = append(all, l.Message)
	}
	return all
}

func TestLogsAreMergedAndFiltered(t *testing.T) {
	service, app := t.TempDir(), t.TempDir()
	write(t, service, "tunnel-service.1.log", logLine(noon, "INFO", "one")+logLine(noon.Add(2*time.Second), "DEBUG", "three"), noon)
	write(t, service, "tunnel-service.2.log", logLine(noon.Add(4*time.Second), "ERROR", "five")+"not JSON\n"+`{"time":`, noon.Add(time.Second))
	write(t, service, "other.txt", logLine(noon, "INFO", "not a log"), noon)
	write(t, app, "gui.1.log", logLine(noon.Add(time.Second), "WARNING", "two")+logLine(noon.Add(3*time.Second), "CHEERFUL", "four")+"\n\n", noon)
	if err := os.Symlink("tunnel-service.2.log", filepath.Join(service, "tunnel-service.latest.log")); err != nil {
		t.Log(err)
	}
	dirs := []string{service, app, filepath.Join(app, "none")}
	for _, c := range []struct {
		q    query
		want string
	}{
		{query{}, `five four three two one {"time": not JSON`},
		{query{level: "info"}, `five four two one {"time": not JSON`},
		{query{level: "warning"}, "five two"},
		{query{level: "error"}, "five"},
		{query{text: "FIVE"}, "five"},
		{query{text: "o"}, "five four two one not JSON"},
		{query{text: "moon"}, ""},
	} {
		got := c.q.read(dirs, func(string) string { return "unreadable" }, time.UTC, nil)
		if text := strings.Join(messages(got), " "); text != c.want || len(got.problems) > 0 {
			t.Errorf("%+v: %q, want %q; %v", c.q, text, c.want, got.problems)
		}
	}
}

func TestLogsAreReadAgainWhenTheyChange(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.log", logLine(noon, "INFO", "one"), noon)
	read := func(q query, was *tail) *tail {
		return q.read([]string{dir}, func(string) string { return "" }, time.UTC, was)
	}
	first := read(query{}, nil)
	if read(query{}, first) != first {
		t.Error("files that are as they were were read again")
	}
	if read(query{text: "x"}, first) == first {
		t.Error("another query, and the same lines")
	}
	write(t, dir, "a.log", logLine(noon, "INFO", "one")+logLine(noon, "INFO", "two"), noon)
	if second := read(query{}, first); len(second.lines) != 2 {
		t.Error(messages(second))
	}
}

// However much there is, a page shows the end of it.
func TestLongLogsAreCut(t *testing.T) {
	dir := t.TempDir()
	var b strings.Builder
	for i := range 20_000 {
		b.WriteString(logLine(noon.Add(time.Duration(i)*time.Millisecond), "INFO", fmt.Sprint(i)))
	}
	b.WriteString(logLine(noon.Add(time.Hour), "INFO", strings.Repeat("ä", maxMessage)))
	write(t, dir, "a.log", b.String(), noon)
	for i := range 20 {
		write(t, dir, fmt.Sprintf("old%d.log", i), logLine(noon, "INFO", "old"), noon.Add(-time.Hour))
	}
	got := query{}.read([]string{dir}, nil, time.UTC, nil)
	if len(got.lines) != maxLines || !strings.HasSuffix(got.lines[0].Message, "…") || got.lines[1].Message != "19999" {
		t.Errorf("%d lines, the first of %d bytes", len(got.lines), len(got.lines[0].Message))
	}
	if !utf8.ValidString(got.lines[0].Message) {
		t.Error("cut within a character")
	}
}

func TestUnreadableLogsAreTold(t *testing.T) {
	if os.PathSeparator != '/' {
		t.Skip("here a file in place of a folder is no folder at all")
	}
	dir := t.TempDir() // root reads everything: a file in place of a folder has to do
	write(t, dir, "file", "", noon)
	got := query{}.read([]string{filepath.Join(dir, "file")}, func(dir string) string { return "not " + dir }, time.UTC, nil)
	if len(got.problems) != 1 || !strings.HasPrefix(got.problems[0], "not /") {
		t.Error(got.problems)
	}
}

func FuzzLogLine(f *testing.F) {
	f.Add([]byte(logLine(noon, "INFO", "x")))
	f.Add([]byte(`{"time":1,"severity":null,"message":[],"a":{"b":[1e999]},"":""}`))
	f.Add([]byte("null"))
	f.Add([]byte("\xff\u202e"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, ok := parseLine(raw, time.UTC)
		if !ok {
			return
		}
		for _, s := range []string{l.Time, l.Level, l.Class, l.Target, l.Message} {
			if !utf8.ValidString(s) || strings.ContainsAny(s, "\n\x00") || len(s) > maxMessage+len("…")+utf8.UTFMax {
				t.Errorf("%q", s)
			}
		}
		if len(l.Fields) > maxPairs || severities[l.Class] != l.rank {
			t.Errorf("%+v", l)
		}
	})
}

// What addresses ask for comes to the same when a page puts it into another.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{"", "q=wiki&show=favorites", "?", "q=%zz", "q=a&q=b", "level=error&text=%00%ff", "all=yes&target=*.x%2Fy", "q=" + strings.Repeat("ä", 400)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q := ask(raw)
		if again := ask(strings.TrimPrefix(q.String(), "?")); again != q {
			t.Errorf("%+v, then %+v", q, again)
		}
		for _, s := range []string{q.q, q.show, q.level, q.text, q.why} {
			if len(s) > maxQuery || !utf8.ValidString(s) || strings.ContainsAny(s, "\r\n\x00") {
				t.Errorf("%q", s)
			}
		}
		page, back := where(raw)
		if pages[page] == nil {
			t.Errorf("back to %q", page)
		}
		if u, err := url.Parse("/base/" + page + back.String()); err != nil || u.Path != "/base/"+page || u.Host != "" {
			t.Errorf("%v, %v", u, err)
		}
	})
}

// Whatever a form holds, the answer leads to one of our pages.
func FuzzForm(f *testing.F) {
	names := []string{}
	for name := range acts {
		names = append(names, name)
	}
	for i := range names {
		f.Add(uint8(i), "on=yes&add=x&sure=yes&back=status%3Fq")
	}
	f.Add(uint8(0), "back=//evil.example&code=%00&language=../..&slug=%ff")
	f.Fuzz(func(t *testing.T, n uint8, body string) {
		d := newDesk(t)
		d.logs = nil
		c := console(t, d)
		v := visit(t, c)
		w := v.do("POST", c.base+"/do/"+names[int(n)%len(names)], body+"&token="+v.token, nil)
		switch to := w.Header().Get("Location"); {
		case w.Code == http.StatusSeeOther && !strings.HasPrefix(to, c.base+"/"):
			t.Errorf("to %q", to)
		case w.Code != http.StatusSeeOther && w.Code < 400:
			t.Error(w.Code)
		}
		if w := v.get("status"); w.Code != http.StatusOK {
			t.Error(w.Code)
		}
	})
}
