package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"stile/platform/ipcsock"
	"stile/tunnel/id"
	"stile/tunnel/ipc"
)

// held is a service whose session only one user may see.
type held struct {
	*fake
	by func() string
}

func (h held) Show() (ipc.State, func(Caller) bool) {
	by := h.by()
	return h.State(), func(c Caller) bool { return by == "" || c.User() == by }
}

// Another user of the machine learns who holds the session, and nothing else of
// it; with the end of the session also that.
func TestOthersLearnWhoHoldsTheSession(t *testing.T) {
	child, dir := as(t, 12345, 1) // group 1 is "daemon" everywhere
	f, by := newFake(), "0"
	f.server = New(Config{Service: held{f, func() string { f.mu.Lock(); defer f.mu.Unlock(); return by }}, Group: "daemon", Log: slog.New(slog.DiscardHandler)})
	f.state = ipc.State{
		Version: "9.9.9", Session: ipc.Session{Phase: ipc.Connected, Holder: "alice", Account: "acme-secret", Actor: "Alice Secret", PortalUp: true, Token: ipc.TokenFromSignIn},
		Resources: []ipc.Resource{{Name: "secret"}}, Connections: []ipc.Connection{{Site: "secret"}}, Counters: []ipc.Counter{{Name: "secret"}},
		Logs: ipc.Logs{Dir: "/secret"}, DNS: ipc.DNS{SearchDomain: "secret"}, Tunnel: ipc.Tunnel{Interface: "secret"},
	}
	run(t, f, filepath.Join(dir, "s"))
	child.Env = append(child.Env, "AND_WATCH=1")
	in, _ := child.StdinPipe()
	out, _ := child.StdoutPipe()
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer in.Close()
	text := make([]byte, 1<<16)
	n, _ := io.ReadAtLeast(out, text, 50)
	if got := string(text[:n]); strings.Contains(strings.ToLower(got), "secret") || !strings.Contains(got, `"holder":"alice"`) || !strings.Contains(got, "held-by-other") || !strings.Contains(got, "alice is signed in") {
		t.Error(got)
	}
	f.mu.Lock()
	by, f.state.Session.Account = "", "open"
	f.mu.Unlock()
	f.server.Changed()
	n, _ = out.Read(text)
	if got := string(text[:n]); !strings.Contains(got, `"account":"open"`) {
		t.Error(got)
	}
}

// A user's other programs are refused; the installed one is obeyed, and told to
// start anew after an upgrade.
func TestOnlyTheInstalledProgramIsObeyed(t *testing.T) {
	for _, row := range []struct {
		name, want string
		trusted    func(prog string) []string
		upgrade    bool
	}{
		{"the installed one", "12345 obeyed:", func(prog string) []string { return []string{prog} }, false},
		{"any", "12345 obeyed:", func(string) []string { return nil }, false},
		{"another one", "12345 not-allowed: This program may not control Stile", func(string) []string { return []string{"/bin/true"} }, false},
		{"none", "12345 not-allowed: This program may not control Stile", func(string) []string { return []string{} }, false},
		{"replaced", "12345 wrong-version: Stile was updated while this program ran. Start the program anew.", func(prog string) []string { return []string{prog} }, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, dir := as(t, 12345, 1)
			prog := dir + ".prog" // beside the folder, which is the user's
			t.Cleanup(func() { os.Remove(prog) })
			self, err := os.ReadFile("/proc/self/exe")
			if err == nil {
				err = os.WriteFile(prog, self, 0o755)
			}
			if err != nil {
				t.Fatal(err)
			}
			f := newFake()
			f.server = New(Config{Service: f, Group: "daemon", Programs: row.trusted(prog), Log: slog.New(slog.DiscardHandler)})
			run(t, f, filepath.Join(dir, "s"))
			child := exec.Command(prog)
			child.Env = []string{"BE_OWNER_OF=" + dir, "AND_WAIT=1"}
			in, _ := child.StdinPipe()
			out, _ := child.StdoutPipe()
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			defer child.Wait()
			ready := make([]byte, 6)
			if _, err := io.ReadFull(out, ready); err != nil || string(ready) != "ready\n" {
				t.Fatalf("%q, %v", ready, err)
			}
			if row.upgrade {
				if err := errors.Join(os.WriteFile(prog+".new", self, 0o755), os.Rename(prog+".new", prog)); err != nil {
					t.Fatal(err)
				}
			}
			in.Close()
			got, _ := io.ReadAll(out)
			if !strings.HasPrefix(string(got), row.want) {
				t.Errorf("%s, want %s", got, row.want)
			}
			f.wantAlive(t, filepath.Join(dir, "s")) // root may come with any
		})
	}
}

// After a thousand connections of all kinds nothing is left of them.
func TestReconnectsLeaveNothingBehind(t *testing.T) {
	f, path := start(t)
	f.wantAlive(t, path) // its connection stays
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	for i := range 1000 {
		conn, err := ipcsock.Dial(path)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		switch i % 5 {
		case 1: // garbage
			io.WriteString(conn, "GET / HTTP/1.1\r\n\r\n")
		case 2: // half a message
			conn.Write([]byte{0, 0, 0, 9, '{'})
		case 3: // all of a greeting
			newClient(conn).greet(t.Context())
		case 4: // a command, whose answer nobody waits for
			frame, _ := ipc.AppendRequest(nil, ipc.Request{ID: 1, Command: ipc.Retry{}})
			conn.Write(frame)
		}
		conn.Close()
	}
	f.settle(t)
	for try := 0; ; try++ {
		nowFiles, now := openFiles(t), runtime.NumGoroutine()
		if nowFiles <= files && now <= goroutines {
			break
		}
		if try == 100 {
			t.Errorf("%d files and %d goroutines became %d and %d", files, goroutines, nowFiles, now)
			break
		}
		<-time.After(50 * time.Millisecond)
	}
	f.wantAlive(t, path)
}

// settle waits until all but one are gone.
func (f *fake) settle(t *testing.T) {
	t.Helper()
	for try := 0; len(f.server.watching()) > 1; try++ {
		if try == 400 {
			t.Fatalf("%d programs are still connected", len(f.server.watching()))
		}
		<-time.After(50 * time.Millisecond)
	}
}

func openFiles(t *testing.T) int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// Connections of one user, also hundreds at once, do not keep root out.
func TestACrowdDoesNotKeepRootOut(t *testing.T) {
	child, dir := as(t, 12345, 1)
	path := filepath.Join(dir, "s")
	f := newFake()
	f.server = New(Config{Service: f, Group: "daemon", Log: slog.New(slog.DiscardHandler)})
	run(t, f, path)
	child.Env = append(child.Env, "AND_CROWD=500")
	in, _ := child.StdinPipe()
	out, _ := child.StdoutPipe()
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer in.Close()
	var stayed int
	if _, err := fmt.Fscanln(out, &stayed); err != nil || stayed != maxPerUser {
		t.Errorf("%d connections stayed, %v", stayed, err)
	}
	began := time.Now()
	f.wantAlive(t, path)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("root waited for %v", took)
	}
}

// A system that takes its time to tell who sits at the machine keeps nobody else
// waiting.
func TestWhoIsKnownDoesNotWaitForOthers(t *testing.T) {
	child, dir := as(t, 12345, 23456)
	path, asked, answer := filepath.Join(dir, "s"), make(chan bool, 1), make(chan bool)
	f := newFake()
	f.server = New(Config{Service: f, Seated: func(context.Context, uint32) bool { asked <- true; return <-answer }, Log: slog.New(slog.DiscardHandler)})
	run(t, f, path)
	out, _ := child.StdoutPipe()
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	<-asked
	f.wantAlive(t, path)
	answer <- true
	if text, _ := io.ReadAll(out); !strings.HasPrefix(string(text), "12345 obeyed") {
		t.Errorf("%s", text)
	}
}

// Nor do the many connections of somebody whom it is asked about.
func TestOneUserDoesNotHoldAllDoors(t *testing.T) {
	s := New(Config{})
	let := 0
	for range maxAdmitting {
		if s.knock("12345") {
			let++
		}
	}
	if let != maxAdmittingPerUser || !s.knock("12346") {
		t.Errorf("%d at a time, and then nobody else", let)
	}
	for i := range maxAdmitting {
		s.knock(fmt.Sprint(i))
	}
	if s.asking != maxAdmitting || s.knock("12347") {
		t.Errorf("%d at a time", s.asking)
	}
	s.knocked("12345")
	if s.knock("12345") != true || s.knock("12345") {
		t.Error("who was answered makes room for one")
	}
	for range maxAdmittingPerUser {
		s.knocked("12345")
	}
	s.knocked("12346")
	for i := range maxAdmitting - maxAdmittingPerUser - 1 {
		s.knocked(fmt.Sprint(i))
	}
	if s.asking != 0 || len(s.doors) > 0 {
		t.Errorf("%d are left: %v", s.asking, s.doors)
	}
}

// An account with ten thousand resources is shown; one that cannot be costs
// its watchers news, and nothing else.
func TestHugeStates(t *testing.T) {
	f, path := start(t)
	f.mu.Lock()
	for i := range 10_000 {
		f.state.Resources = append(f.state.Resources, ipc.Resource{ID: id.Resource{byte(i), byte(i >> 8)}, Name: fmt.Sprint("Resource ", i), Address: fmt.Sprintf("host%d.corp.example", i), Sites: []string{"Munich"}, Description: strings.Repeat("words ", 20)})
	}
	want := slices.Clone(f.state.Resources)
	f.mu.Unlock()
	c := dial(t, path)
	if s := next(t, c); len(s.Resources) != len(want) || s.Resources[9999].Name != want[9999].Name {
		t.Fatalf("%d resources", len(s.Resources))
	}
	f.mu.Lock()
	f.state.Version = strings.Repeat("x", ipc.MaxMessage)
	f.mu.Unlock()
	f.server.Changed()
	for range 3 {
		if err := c.Do(t.Context(), ipc.Retry{}); err != nil {
			t.Fatal(err)
		}
	}
	f.mu.Lock()
	f.state = ipc.State{}
	f.mu.Unlock()
	f.wantAlive(t, path)
}
