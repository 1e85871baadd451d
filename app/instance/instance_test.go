package instance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"stile/platform/ipcsock"
	"stile/tunnel/ipc"
)

const link = "firezone-fd0020211111://handle_client_sign_in_callback?state=1&fragment=.x"

// The test runs itself, as another start of the program.
func TestMain(m *testing.M) {
	switch dir := os.Getenv("INSTANCE_DIR"); os.Getenv("INSTANCE_TEST") {
	case "acquire": // says whether it is the first, and stays if so
		i, err := Acquire(dir)
		fmt.Println(err)
		if err == nil {
			i.Serve(context.Background(), func(Message) {})
		}
		os.Exit(0)
	case "knock": // speaks out of turn
		conn, err := ipcsock.Dial(ipcsock.Beside(dir, socketName))
		if err == nil {
			send(conn, []byte(newInstance))
			if _, err = read(conn); err != nil {
				err = fmt.Errorf("hung up: %w", err)
			}
		}
		fmt.Println(err)
		os.Exit(0)
	case "send":
		fmt.Println(Send(context.Background(), dir, NewInstance{}))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// another makes a start of the program, with changes to its environment.
func another(t *testing.T, what, dir string, env ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(ctx, self)
	c.Env = append(os.Environ(), append([]string{"INSTANCE_TEST=" + what, "INSTANCE_DIR=" + dir}, env...)...)
	return c
}

// serve runs an instance; heard are the messages it got.
func serve(t *testing.T, dir string) (heard <-chan Message, stop func()) {
	t.Helper()
	i, err := Acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	messages := make(chan Message, 100)
	ctx, cancel := context.WithCancel(context.Background())
	var g sync.WaitGroup
	g.Go(func() {
		if err := i.Serve(ctx, func(m Message) { messages <- m }); err != nil {
			t.Error(err)
		}
	})
	stop = func() { cancel(); g.Wait() }
	t.Cleanup(stop)
	return messages, stop
}

func TestTheSecondStartIsHeardByTheFirst(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "stile")
	heard, stop := serve(t, dir)
	if _, err := Acquire(dir); !errors.Is(err, ErrRunning) {
		t.Fatalf("second: %v", err)
	}
	for _, m := range []Message{NewInstance{}, Deeplink{link}, Deeplink{ipc.Secret("stile://" + strings.Repeat("&", MaxURL-8))}} {
		if err := Send(t.Context(), dir, m); err != nil {
			t.Fatal(err)
		}
		if got := <-heard; got != m {
			t.Errorf("%#v, want %#v", got, m)
		}
	}
	if out, err := another(t, "send", dir).Output(); string(out) != "<nil>\n" || err != nil {
		t.Errorf("another process: %s, %v", out, err)
	}
	stop()
	if err := Send(t.Context(), dir, NewInstance{}); !errors.Is(err, ErrNobody) {
		t.Errorf("after its end: %v", err)
	}
	serve(t, dir) // and the next one can start
}

// A message may be what the instance waited for, and end it.
func TestWhoEndsAnInstanceIsHeard(t *testing.T) {
	for range 20 {
		dir := filepath.Join(t.TempDir(), "stile")
		i, err := Acquire(dir)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var g sync.WaitGroup
		g.Go(func() { i.Serve(ctx, func(Message) { cancel() }) })
		if err := Send(t.Context(), dir, NewInstance{}); err != nil {
			t.Error(err)
		}
		g.Wait()
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	if text := fmt.Sprintf("%v %+v %#v %s", Deeplink{link}, Deeplink{link}, Deeplink{link}, Deeplink{link}.URL); strings.Contains(text, "fragment") {
		t.Error(text)
	}
}

func TestNobodyRuns(t *testing.T) {
	began := time.Now()
	if err := Send(t.Context(), filepath.Join(t.TempDir(), "none"), NewInstance{}); !errors.Is(err, ErrNobody) {
		t.Error(err)
	}
	if err := Send(t.Context(), t.TempDir(), NewInstance{}); !errors.Is(err, ErrNobody) {
		t.Error(err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %v", took)
	}
	for _, url := range []ipc.Secret{"", "no address", "a://b c", "a://\x00", "a://ä", ipc.Secret("a://" + strings.Repeat("x", MaxURL))} {
		if err := Send(t.Context(), t.TempDir(), Deeplink{url}); err == nil || errors.Is(err, ErrNobody) {
			t.Errorf("%d bytes: %v", len(url), err)
		}
	}
}

func TestOfManyStartsOneIsFirst(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "stile")
	const starts = 8
	lines := make(chan string, starts)
	var g sync.WaitGroup
	var processes []*os.Process
	for range starts {
		c := another(t, "acquire", dir)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		processes = append(processes, c.Process)
		g.Go(func() {
			var line [100]byte
			n, _ := out.Read(line[:])
			lines <- strings.TrimSpace(string(line[:n]))
			c.Wait()
		})
	}
	first := 0
	for range starts {
		switch line := <-lines; line {
		case "<nil>":
			first++
		case ErrRunning.Error():
		default:
			t.Error(line)
		}
	}
	if first != 1 {
		t.Errorf("%d are first", first)
	}
	if err := Send(t.Context(), dir, NewInstance{}); err != nil {
		t.Error(err)
	}
	for _, p := range processes { // kill -9 leaves the socket behind
		p.Kill()
	}
	g.Wait()
	if err := Send(t.Context(), dir, NewInstance{}); !errors.Is(err, ErrNobody) {
		t.Errorf("after its death: %v", err)
	}
	serve(t, dir)
}

func TestOtherLogonSessions(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "stile")
	t.Setenv("XDG_SESSION_ID", "2")
	serve(t, dir)
	for session, want := range map[string]error{"2": ErrRunning, "3": ErrOtherSession, "": ErrRunning} {
		t.Setenv("XDG_SESSION_ID", session)
		if _, err := Acquire(dir); !errors.Is(err, want) {
			t.Errorf("session %q: %v", session, err)
		}
	}
	for _, note := range []string{"", "{", "[]", `{"session":3}`} {
		path := filepath.Join(t.TempDir(), "lock")
		os.WriteFile(path, []byte(note), 0o600)
		if err := running(path, "2"); err != ErrRunning {
			t.Errorf("note %q: %v", note, err)
		}
	}
}

// It holds the lock and the socket, but nobody is at home.
func TestAnInstanceThatHangs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "stile")
	i, err := Acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	began := time.Now()
	if err := Send(t.Context(), dir, NewInstance{}); !errors.Is(err, ErrSilent) {
		t.Error(err)
	}
	if took := time.Since(began); took < answerTime || took > answerTime+2*time.Second {
		t.Errorf("it took %v", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := Send(ctx, dir, NewInstance{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestNoiseIsNotHeard(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "stile")
	heard, _ := serve(t, dir)
	frame := func(body string) string {
		b, err := ipc.AppendFrame(nil, []byte(body), maxMessage)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, noise := range []string{
		"", "\x00", "\xff\xff\xff\xff", "\x00\x00\x00\x00", "\x00\x00\x00\x10\"New", "GET / HTTP/1.1\r\n\r\n",
		frame("{}"), frame(`"Ack"`), frame(`"Quit"`), frame(`{"Deeplink":1}`), frame(`{"Deeplink":"x"}`), frame(`{"deeplink":"` + link + `"}`),
		frame(`{"Deeplink":"` + link + `","x":1}`), frame(`[]`), frame(strings.Repeat(" ", maxMessage)),
	} {
		conn, err := ipcsock.Dial(ipcsock.Beside(dir, socketName))
		if err != nil {
			t.Fatal(err)
		}
		conn.Write([]byte(noise))
		half, is := conn.(interface{ CloseWrite() error })
		if !is {
			conn.Close() // a pipe has no half
			continue
		}
		half.CloseWrite()
		if n, _ := conn.Read(make([]byte, 10)); n > 0 {
			t.Errorf("%.40q was answered", noise)
		}
		conn.Close()
	}
	var idle []net.Conn // as many as are let in but for one, saying nothing
	for range connections - 1 {
		conn, err := ipcsock.Dial(ipcsock.Beside(dir, socketName))
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, conn)
	}
	if err := Send(t.Context(), dir, Deeplink{link}); err != nil {
		t.Error(err)
	}
	if got := <-heard; got != (Deeplink{link}) || len(heard) > 0 {
		t.Errorf("%#v and %d more", got, len(heard))
	}
	for _, conn := range idle {
		conn.Close()
	}
}

// Only root can play another user.
func TestOtherUsers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("this needs root, who can act as another user")
	}
	dir, err := os.MkdirTemp("", "instance") // t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	heard, _ := serve(t, dir)
	// Wide open, as it never is: the kernel's word must do.
	os.Chmod(dir, 0o777)
	os.Chmod(ipcsock.Beside(dir, socketName), 0o777)
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	stranger := another(t, "knock", dir)
	stranger.Path, err = exec.LookPath("setpriv")
	if err != nil {
		t.Fatalf("install util-linux: %v", err)
	}
	stranger.Args = []string{"setpriv", "--reuid=4711", "--regid=4711", "--clear-groups", "/proc/self/fd/3"}
	stranger.ExtraFiles = []*os.File{self} // its folder is closed to others
	if out, err := stranger.CombinedOutput(); !strings.HasPrefix(string(out), "hung up: ") || err != nil {
		t.Errorf("a stranger was answered: %q, %v", out, err)
	}
	if len(heard) > 0 {
		t.Error("a stranger was heard")
	}

	theirs, err := os.MkdirTemp("", "instance")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(theirs)
	os.Chown(theirs, 4711, 4711)
	if err := Send(t.Context(), theirs, Deeplink{link}); err == nil || !strings.Contains(err.Error(), "4711") {
		t.Errorf("a stranger's folder: %v", err)
	}
	if _, err := Acquire(theirs); err == nil || !strings.Contains(err.Error(), "4711") {
		t.Errorf("a stranger's folder: %v", err)
	}
}

func FuzzMessage(f *testing.F) {
	for _, m := range []Message{NewInstance{}, Deeplink{link}} {
		body, err := encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Add([]byte(` {"Deeplink":"a:\/\/b"} `))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := parse(body)
		if err != nil {
			return
		}
		once, err := encode(m)
		if err != nil || len(once) > maxMessage || !json.Valid(once) {
			t.Fatalf("%s, %v", once, err)
		}
		if again, err := parse(once); err != nil || again != m {
			t.Fatalf("%#v, %v", again, err)
		}
	})
}
