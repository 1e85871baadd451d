package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"stile/platform/ipcsock"
	"stile/tunnel/ipc"
)

func TestAStateForEverybodyWhoConnects(t *testing.T) {
	f, path := start(t)
	for i := range 3 {
		f.set(ipc.SetInternet{On: i == 1})
		c := dial(t, path)
		if c.Hello != (ipc.Hello{Protocol: ipc.Protocol, Version: "9.9.9"}) {
			t.Errorf("%+v", c.Hello)
		}
		if s := next(t, c); s.Internet.On != (i == 1) {
			t.Errorf("%d: %+v", i, s.Internet)
		}
	}
}

func TestCommandsReachTheServiceWithTheirCaller(t *testing.T) {
	f, path := start(t)
	c := dial(t, path)
	want := ipc.SignIn{Token: "secret", AccountSlug: "acme", Actor: "Alice"}
	if err := c.Do(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if got := f.handled(); len(got) != 1 || got[0].command != want || int(got[0].from.UID) != os.Getuid() || int(got[0].from.PID) != os.Getpid() {
		t.Errorf("%+v", got)
	}
}

func TestAStateAfterACommandKnowsOfIt(t *testing.T) {
	f, path := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	var g sync.WaitGroup
	g.Go(func() { // others change things all the time
		for ctx.Err() == nil {
			f.bump()
			f.server.Changed()
		}
	})
	defer g.Wait()
	defer cancel()
	c := dial(t, path)
	for i := range 8 {
		if err := c.Do(t.Context(), ipc.SetInternet{On: i%2 == 0}); err != nil {
			t.Fatal(err)
		}
		if s := next(t, c); s.Internet.On != (i%2 == 0) {
			t.Fatalf("command %d: the state is from before", i)
		}
	}
}

func TestAStateFollowsACommandThatChangesNothing(t *testing.T) {
	_, path := start(t)
	c := dial(t, path)
	next(t, c)
	for range 3 {
		if err := c.Do(t.Context(), ipc.SetInternet{On: true}); err != nil {
			t.Fatal(err)
		}
		next(t, c)
	}
}

func TestAllReadersLearnOfAChange(t *testing.T) {
	f, path := start(t)
	var readers []*Client
	for range 10 {
		c := dial(t, path)
		next(t, c)
		readers = append(readers, c)
	}
	f.set(ipc.SetInternet{On: true})
	f.server.Changed()
	for _, c := range readers {
		if s := next(t, c); !s.Internet.On {
			t.Error("an old state came again")
		}
	}
}

func TestWhoLeavesEndsNothing(t *testing.T) {
	f, path := start(t)
	c := dial(t, path)
	begun, ended := make(chan bool), make(chan error)
	f.act = func(ctx context.Context, _ ipc.Command) error {
		begun <- true
		<-begun
		ended <- ctx.Err()
		return nil
	}
	ctx, leave := context.WithCancel(t.Context())
	go c.Do(ctx, ipc.SignIn{Token: "secret"})
	<-begun
	leave()
	watcher := dial(t, path)
	next(t, watcher)
	begun <- true
	if err := <-ended; err != nil {
		t.Errorf("the command was interrupted: %v", err)
	}
}

func TestTheServiceSaysNo(t *testing.T) {
	f, path := start(t)
	c := dial(t, path)
	for _, row := range []struct {
		act  func(context.Context, ipc.Command) error
		code ipc.Code
		text string
	}{
		{func(context.Context, ipc.Command) error { return ipc.Problemf(ipc.TokenIsManaged, "Not here.") }, ipc.TokenIsManaged, "Not here."},
		{func(context.Context, ipc.Command) error {
			return fmt.Errorf("wrapped: %w", ipc.Problemf(ipc.TokenIsManaged, "Not here."))
		}, ipc.TokenIsManaged, "Not here."},
		{func(context.Context, ipc.Command) error { return errors.New("disk full") }, ipc.Internal, "disk full"},
		{func(context.Context, ipc.Command) error { panic("oops") }, ipc.Internal, "log"},
	} {
		f.act = row.act
		err := c.Do(t.Context(), ipc.SignOut{})
		p, is := errors.AsType[*ipc.Problem](err)
		if !is || p.Code != row.code || !strings.Contains(p.Text, row.text) {
			t.Errorf("%v", err)
		}
	}
	f.act = nil
	if err := c.Do(t.Context(), ipc.SignOut{}); err != nil {
		t.Errorf("after refusals: %v", err)
	}
}

func TestRequestsOfOtherVersionsAreAnswered(t *testing.T) {
	f, path := start(t)
	c := dial(t, path)
	for _, row := range []struct {
		body string
		code ipc.Code
	}{
		{`{"protocol":2,"id":1,"command":"sign-out"}`, ipc.WrongVersion},
		{`{"protocol":1,"id":1,"command":"dance"}`, ipc.UnknownCommand},
		{`{"protocol":1,"id":1,"command":"set-internet"}`, ipc.InvalidArgument},
		{`{"protocol":1`, ipc.Malformed},
	} {
		frame, _ := ipc.AppendFrame(nil, []byte(row.body), ipc.MaxRequest)
		c.conn.Write(frame)
		for {
			m, err := c.receive(t.Context())
			if err != nil {
				t.Fatalf("%s: %v", row.body, err)
			}
			if m.Answer == nil {
				continue
			}
			if m.Answer.Problem == nil || m.Answer.Problem.Code != row.code {
				t.Errorf("%s: %+v", row.body, m.Answer)
			}
			break
		}
	}
	if err := c.Do(t.Context(), ipc.Retry{}); err != nil || len(f.handled()) != 1 {
		t.Errorf("%v after %d commands", err, len(f.handled()))
	}
}

func TestServicesOfOtherVersions(t *testing.T) {
	for protocol, want := range map[int]string{2: "Start the program anew", 0: "Restart the service"} {
		hello, _ := ipc.AppendMessage(nil, ipc.Message{Hello: &ipc.Hello{Protocol: protocol, Version: "2.0"}})
		_, err := Dial(t.Context(), pretend(t, string(hello)))
		p, is := errors.AsType[*ipc.Problem](err)
		if !is || p.Code != ipc.WrongVersion || !strings.Contains(p.Text, want) {
			t.Errorf("%v", err)
		}
	}
	for _, said := range []string{"", "GET / HTTP/1.1\r\n\r\n", "\x00\x00\x00\x02[]", "\x00\x00\x00\x02{}", "\x00\x00"} {
		c, err := Dial(t.Context(), pretend(t, said))
		if err == nil || c != nil {
			t.Errorf("%q passed for a service", said)
		}
	}
	if _, err := Dial(t.Context(), filepath.Join(t.TempDir(), "none")); !errors.Is(err, ipcsock.ErrNobody) {
		t.Error(err)
	}
}

func TestStoppingSaysGoodbye(t *testing.T) {
	f, path := start(t)
	c := dial(t, path)
	next(t, c)
	f.stop()
	_, err := c.Next(t.Context())
	if p, is := errors.AsType[*ipc.Problem](err); !is || p.Code != ipc.Stopping {
		t.Error(err)
	}
	if _, err := Dial(t.Context(), path); !errors.Is(err, ipcsock.ErrNobody) {
		t.Error(err)
	}
}

func TestTooManyPrograms(t *testing.T) {
	_, path := start(t)
	var crowd []*Client
	for range maxPerUser {
		crowd = append(crowd, dial(t, path))
	}
	_, err := Dial(t.Context(), path)
	if p, is := errors.AsType[*ipc.Problem](err); !is || p.Code != ipc.Busy {
		t.Error(err)
	}
	crowd[3].Close()
	for { // until the service has noticed
		if c, err := Dial(t.Context(), path); err == nil {
			c.Close()
			return
		}
	}
}

func TestAThousandReconnects(t *testing.T) {
	f, path := start(t)
	for i := range 1000 {
		c, err := Dial(t.Context(), path)
		if p, is := errors.AsType[*ipc.Problem](err); is && p.Code == ipc.Busy {
			continue // those who left are not all counted out
		}
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		if i%3 == 0 {
			next(t, c)
		}
		c.Close()
	}
	f.wantAlive(t, path)
}

func TestNoiseHarmsNobody(t *testing.T) {
	f, path := start(t)
	watcher := dial(t, path)
	next(t, watcher)
	long, _ := ipc.AppendFrame(nil, []byte(strings.Repeat("x", ipc.MaxRequest)), ipc.MaxRequest)
	for _, row := range []struct {
		noise   string
		goodbye ipc.Code // "": just closed, or not
	}{
		{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", ipc.Malformed},
		{"\x00\x01\x00\x01", ipc.Malformed},
		{"\x00\x00\x00\x00", ipc.Malformed},
		{strings.Repeat("\xff", 1<<20), ipc.Malformed},
		{"\x00\x00\x00\x10half", ""},
		{"\x00", ""},
		{string(long), ""},
	} {
		conn, err := ipcsock.Dial(path)
		if err != nil {
			t.Fatal(err)
		}
		c := newClient(conn)
		go io.WriteString(conn, row.noise)
		if row.goodbye == "" {
			c.receive(t.Context())
			conn.Close()
			continue
		}
		for err == nil {
			_, err = c.receive(t.Context())
		}
		if p, is := errors.AsType[*ipc.Problem](err); !is || p.Code != row.goodbye {
			t.Errorf("%.20q: %v", row.noise, err)
		}
		conn.Close()
	}
	f.wantAlive(t, path)
	if len(f.handled()) != 1 {
		t.Errorf("noise was obeyed: %+v", f.handled())
	}
}

// A program that sends commands as fast as it can and reads no answers is held
// up, and then dropped; others do not notice.
func TestFloodsAreHeldUp(t *testing.T) {
	f, path := start(t)
	flooder, err := ipcsock.Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer flooder.Close()
	flooder.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
	frame, _ := ipc.AppendRequest(nil, ipc.Request{ID: 1, Command: ipc.Retry{}})
	sent := 0
	for err == nil {
		_, err = flooder.Write(frame)
		sent++
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the flood ended with %v", err)
	}
	if n := len(f.handled()); n > 2*requestBurst || sent < 100 {
		t.Errorf("%d of %d commands were handled in half a second", n, sent)
	}
	f.wantAlive(t, path)
}

// A fake is a service whose only truth is the Internet switch.
type fake struct {
	server *Server
	stop   func()
	act    func(context.Context, ipc.Command) error

	mu       sync.Mutex // guards what follows
	state    ipc.State
	commands []handled
	asked    int // how often State was called
	bumps    uint64
}

type handled struct {
	from    Caller
	command ipc.Command
}

func (f *fake) Handle(ctx context.Context, from Caller, c ipc.Command) error {
	f.set(c)
	f.mu.Lock()
	f.commands = append(f.commands, handled{from, c})
	act := f.act
	f.mu.Unlock()
	if act != nil {
		return act(ctx, c)
	}
	return nil
}

func (f *fake) State() ipc.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	return f.state
}

func (f *fake) set(c ipc.Command) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s, is := c.(ipc.SetInternet); is {
		f.state.Internet.On = s.On
	}
}

func (f *fake) bump() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bumps++
	f.state.Counters = []ipc.Counter{{Name: "bumps", Value: f.bumps}}
}

func (f *fake) handled() []handled {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]handled(nil), f.commands...)
}

// wantAlive has a command obeyed.
func (f *fake) wantAlive(t *testing.T, path string) {
	t.Helper()
	c := dial(t, path)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := c.Do(ctx, ipc.SetInternet{On: true}); err != nil {
		t.Fatal(err)
	}
	if !next(t, c).Internet.On {
		t.Error("not obeyed")
	}
}

func newFake() *fake {
	f := &fake{}
	f.server = New(Config{Service: f, Version: "9.9.9", Log: slog.New(slog.DiscardHandler)})
	return f
}

// start runs a service on a socket until the test ends.
func start(t *testing.T) (*fake, string) {
	t.Helper()
	f, path := newFake(), filepath.Join(t.TempDir(), "s")
	run(t, f, path)
	return f, path
}

func run(t *testing.T, f *fake, path string) {
	t.Helper()
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var g sync.WaitGroup
	g.Go(func() {
		if err := f.server.Run(ctx, l); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	f.stop = func() { cancel(); g.Wait() }
	t.Cleanup(f.stop)
}

// pretend listens and says the same to everybody.
func pretend(t *testing.T, said string) string {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var g sync.WaitGroup
	g.Go(func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			io.WriteString(conn, said)
			conn.Close()
		}
	})
	t.Cleanup(func() { l.Close(); g.Wait() })
	return path
}

func dial(t *testing.T, path string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), path)
	for i := 0; i < 1000 && isBusy(err); i++ {
		c, err = Dial(t.Context(), path)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func isBusy(err error) bool {
	p, is := errors.AsType[*ipc.Problem](err)
	return is && p.Code == ipc.Busy
}

func next(t *testing.T, c *Client) *ipc.State {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	s, err := c.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
