package link

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"stile/platform/owner"
	"stile/tunnel/ipc"
)

// The test runs itself as another user: as the owner of a folder, in which a
// service's socket is, or is to be made.
func TestMain(m *testing.M) {
	if dir := os.Getenv("BE_OWNER_OF"); dir != "" {
		if err := owner.Become(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		path := filepath.Join(dir, "s")
		switch {
		case os.Getenv("AND_SERVE") != "":
			impersonate(path)
		case os.Getenv("AND_WATCH") != "":
			watchStates(path)
		case os.Getenv("AND_CROWD") != "":
			crowd(path)
		case os.Getenv("AND_WAIT") != "":
			fmt.Println("ready")
			io.Copy(io.Discard, os.Stdin)
			call(path)
		default:
			call(path)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// call signs out and prints what came of it.
func call(path string) {
	c, err := Dial(context.Background(), path)
	if err == nil {
		err = c.Do(context.Background(), ipc.SignOut{})
	}
	p, is := errors.AsType[*ipc.Problem](err)
	code := ipc.Code("obeyed")
	if is {
		code = p.Code
	}
	fmt.Printf("%d %s: %v\n", os.Getuid(), code, err)
}

// watchStates prints states as they come, until standard input ends.
func watchStates(path string) {
	go func() { io.Copy(io.Discard, os.Stdin); os.Exit(0) }()
	c, err := Dial(context.Background(), path)
	for err == nil {
		var s *ipc.State
		if s, err = c.Next(context.Background()); err == nil {
			text, _ := s.MarshalJSON()
			fmt.Printf("%s\n", text)
		}
	}
	fmt.Println(err)
}

// crowd connects many times, and prints how often it was let in.
func crowd(path string) {
	n, _ := strconv.Atoi(os.Getenv("AND_CROWD"))
	var in []*Client
	for range n {
		if c, err := Dial(context.Background(), path); err == nil {
			in = append(in, c)
		}
	}
	fmt.Println(len(in))
	io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(in)
}

// impersonate serves until standard input ends.
func impersonate(path string) {
	l, err := Listen(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	f := newFake()
	ctx, cancel := context.WithCancel(context.Background())
	go func() { io.Copy(io.Discard, os.Stdin); cancel() }()
	fmt.Println("ready")
	f.server.Run(ctx, l)
}

// as prepares a process of user uid, whose only group is gid, and its folder.
func as(t *testing.T, uid, gid int) (child *exec.Cmd, dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "link") // t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Skip("this needs a second user, which only root outside of a one-user namespace has:", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child = exec.Command(self)
	child.Env = []string{"BE_OWNER_OF=" + dir}
	return child, dir
}

func TestOthersAreToldWhatToDo(t *testing.T) {
	child, dir := as(t, 12345, 23456)
	f := newFake()
	run(t, f, filepath.Join(dir, "s"))
	out, err := child.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "12345 not-allowed: ") || !strings.Contains(string(out), "sudo usermod -aG stile YOUR-USER-NAME") {
		t.Errorf("%s, %v", out, err)
	}
	if got := f.handled(); len(got) > 0 {
		t.Errorf("obeyed: %+v", got)
	}
	f.wantAlive(t, filepath.Join(dir, "s"))
}

func TestMembersOfTheGroupAreObeyed(t *testing.T) {
	child, dir := as(t, 12345, 1) // group 1 is "daemon" everywhere
	f := newFake()
	f.server = New(Config{Service: f, Group: "daemon", Log: slog.New(slog.DiscardHandler)})
	run(t, f, filepath.Join(dir, "s"))
	if out, err := child.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "12345 obeyed: <nil>" {
		t.Errorf("%s, %v", out, err)
	}
	if got := f.handled(); len(got) != 1 || got[0].from.UID != 12345 || got[0].command != (ipc.SignOut{}) {
		t.Errorf("%+v", got)
	}
}

// Who sits in front of the machine needs no group, as long as they sit there.
func TestWhoSitsHereIsObeyed(t *testing.T) {
	for _, sits := range []bool{true, false} {
		child, dir := as(t, 12345, 23456)
		f := newFake()
		f.server = New(Config{Service: f, Seated: func(_ context.Context, uid uint32) bool { return sits && uid == 12345 }, Log: slog.New(slog.DiscardHandler)})
		run(t, f, filepath.Join(dir, "s"))
		out, err := child.CombinedOutput()
		if obeyed := strings.TrimSpace(string(out)) == "12345 obeyed: <nil>"; err != nil || obeyed != sits {
			t.Errorf("sits here: %v: %s, %v", sits, out, err)
		}
	}
}

func TestStrangersAreNotTrusted(t *testing.T) {
	child, dir := as(t, 12345, 23456)
	child.Env = append(child.Env, "AND_SERVE=1")
	in, _ := child.StdinPipe()
	out, _ := child.StdoutPipe()
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer in.Close()
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatal(line)
	}
	if c, err := Dial(t.Context(), filepath.Join(dir, "s")); !errors.Is(err, ErrStranger) || c != nil {
		t.Errorf("%v", err)
	}
}
