package flowlog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

func put(t *testing.T, w target, lines ...string) {
	t.Helper()
	if lost, err := w.write(join(lines)); lost != 0 || err != nil {
		t.Fatalf("lost %d, %v", lost, err)
	}
}

func join(lines []string) (text []byte, ends []int) {
	for _, l := range lines {
		text = append(append(text, l...), '\n')
		ends = append(ends, len(text))
	}
	return text, ends
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flows.log")
	w, err := parse(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := w.(*file)
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	put(t, f, "one", "two")
	if err := os.Rename(path, path+".old"); err != nil { // as logrotate does, before it sends SIGHUP
		t.Fatal(err)
	}
	put(t, f, "three")
	if err := f.reopen(); err != nil {
		t.Fatal(err)
	}
	put(t, f, "four")
	if got := read(t, path+".old") + "|" + read(t, path); got != "one\ntwo\nthree\n|four\n" {
		t.Errorf("%q", got)
	}
	if err := os.Remove(path); err != nil { // nobody tells
		t.Fatal(err)
	}
	f.checked = f.checked.Add(-checkEvery)
	put(t, f, "five")
	if got := read(t, path); got != "five\n" {
		t.Errorf("%q", got)
	}
	f.close()

	// A file that exists keeps its mode and what is in it. Somebody was killed
	// while he wrote there.
	if err := os.WriteFile(path, []byte("whole\nhal"), 0o640); err != nil {
		t.Fatal(err)
	}
	os.Chmod(path, 0o640)
	if f, err = openFile(path, 0); err != nil {
		t.Fatal(err)
	}
	defer f.close()
	put(t, f, "six")
	info, _ := os.Stat(path)
	if got := read(t, path); got != "whole\nhal\nsix\n" || info.Mode().Perm() != 0o640 {
		t.Errorf("%q, mode %v", got, info.Mode())
	}
}

// Long files make room for others; all together stay within the bound, and no
// line is torn.
func TestFilesAreBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flows.log")
	f, err := openFile(path, 4096)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2000 {
		put(t, f, fmt.Sprintf("%04d %s", i, strings.Repeat("x", 94)))
	}
	f.close()
	if n := len(glob(t, path+"*")); n != files {
		t.Errorf("%d files", n)
	}
	next := 1999
	for n := range files {
		name := path
		if n > 0 {
			name = fmt.Sprintf("%s.%d", path, n)
		}
		text := read(t, name)
		if len(text) > 4096 {
			t.Errorf("%s has %d bytes", name, len(text))
		}
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		for i := len(lines) - 1; i >= 0; i, next = i-1, next-1 {
			if len(lines[i]) != 99 || !strings.HasPrefix(lines[i], fmt.Sprintf("%04d ", next)) {
				t.Fatalf("%s: %q, want number %d", name, lines[i], next)
			}
		}
		if info, _ := os.Stat(name); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	list, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// A disk that becomes full takes a part of a line; what follows is not glued to
// it.
func TestTornLines(t *testing.T) {
	disk := &fullDisk{room: 7}
	s := &stream{w: disk}
	lost, err := s.write(join([]string{"one", "two", "three"}))
	if lost != 2 || err == nil {
		t.Errorf("lost %d, %v", lost, err)
	}
	disk.room = 0
	if lost, err := s.write(join([]string{"four"})); lost != 1 || err == nil {
		t.Errorf("lost %d, %v", lost, err)
	}
	disk.room = 100
	if lost, err := s.write(join([]string{"five"})); lost != 0 || err != nil {
		t.Errorf("lost %d, %v", lost, err)
	}
	if got := disk.String(); got != "one\ntwo\nfive\n" {
		t.Errorf("%q", got)
	}
}

type fullDisk struct {
	bytes.Buffer
	room int
}

func (d *fullDisk) Write(b []byte) (int, error) {
	n := min(len(b), d.room)
	d.room -= n
	d.Buffer.Write(b[:n])
	if n < len(b) {
		return n, errors.New("no space left")
	}
	return n, nil
}

// As a C library writes to this machine's log; a daemon that is started again
// is found again.
func TestLocalSyslog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	daemon, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	s := &syslog{network: "unixgram", address: path}
	if err := s.connect(); err != nil {
		t.Fatal(err)
	}
	put(t, s, `{"a":1}`, `{"b":2}`)
	buf := make([]byte, 1000)
	for _, want := range []string{`{"a":1}`, `{"b":2}`} {
		n, err := daemon.Read(buf)
		form := `^<134>[A-Z][a-z]{2} [ 0-9]\d \d\d:\d\d:\d\d stile-gateway\[\d+\]: ` + regexp.QuoteMeta(want) + `$`
		if err != nil || !regexp.MustCompile(form).Match(buf[:n]) {
			t.Errorf("%q, %v", buf[:n], err)
		}
	}
	daemon.Close()
	if lost, err := s.write(join([]string{"x", "y"})); lost != 2 || err == nil {
		t.Errorf("nobody is there: lost %d, %v", lost, err)
	}
	if lost, err := s.write(join([]string{"z"})); lost != 1 || err == nil {
		t.Errorf("at once again: lost %d, %v", lost, err)
	}
	os.Remove(path)
	if daemon, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	defer daemon.Close()
	s.again = time.Now()
	put(t, s, "back")
	if n, err := daemon.Read(buf); err != nil || !bytes.HasSuffix(buf[:n], []byte(": back")) {
		t.Errorf("%q, %v", buf[:n], err)
	}
	s.close()
}

var rfc5424 = regexp.MustCompile(`^<134>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \S+ stile-gateway \d+ flow - (.*)$`)

func TestRemoteSyslog(t *testing.T) {
	daemon, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer daemon.Close()
	s, err := parse("syslog:udp://"+daemon.LocalAddr().String(), 0)
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, `{"a":1}`)
	buf := make([]byte, 1000)
	n, _, err := daemon.ReadFrom(buf)
	if m := rfc5424.FindSubmatch(buf[:n]); err != nil || m == nil || string(m[1]) != `{"a":1}` {
		t.Errorf("%q, %v", buf[:n], err)
	}
	s.close()

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err = parse("syslog:tcp://"+l.Addr().String(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	put(t, s, `{"a":1}`, `{"b":22}`)
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	for _, want := range []string{`{"a":1}`, `{"b":22}`} {
		length, err := r.ReadString(' ')
		n, _ := strconv.Atoi(strings.TrimSuffix(length, " "))
		message := make([]byte, n)
		if _, err2 := io.ReadFull(r, message); err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		if m := rfc5424.FindSubmatch(message); m == nil || string(m[1]) != want {
			t.Errorf("%q", message)
		}
	}
}

func TestWhatIsNoTarget(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{"", "flows.log", "./flows.log", "syslog:udp://", "syslog:udp://host", "syslog:ftp://host:1", "syslog:host:514", dir, filepath.Join(dir, "no", "file"), "syslog:udp://h:1/x"} {
		if w, err := parse(text, 0); err == nil {
			t.Errorf("%q is %T", text, w)
		}
	}
	for _, text := range []string{"stdout", "-"} {
		if w, err := parse(text, 0); err != nil || w.(*stream).w != os.Stdout {
			t.Errorf("%q: %v, %v", text, w, err)
		}
	}
}
