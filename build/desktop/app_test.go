package desktop

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"stile/platform/tray/traytest"
	"stile/tunnel/id"
	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
)

// programs is the folder with what `make build` makes.
var programs = os.Getenv("STILE_BIN_DIR")

func TestMain(m *testing.M) {
	if programs == "" {
		fmt.Println("skipped: make desktop runs these tests, with programs that it built")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A desk is a desktop with a service.
type desk struct {
	t       testing.TB
	bus     string // its address
	dir     string
	env     []string
	panel   *traytest.Panel
	notes   *traytest.Notes
	service *service
	opened  chan string // addresses that the browser was sent to
	copied  chan string // texts on the clipboard
}

// open makes a desktop with a panel, but without the app.
func open(t testing.TB) *desk {
	t.Helper()
	d := mute(t)
	d.notes = traytest.NewNotes(t, d.bus)
	return d
}

// mute is a desktop where nobody shows messages.
func mute(t testing.TB) *desk {
	t.Helper()
	bus, err := traytest.Bus(t)
	if err != nil {
		t.Fatal(err) // this machine cannot test desktops
	}
	dir, err := os.MkdirTemp("", "desk") // the names of sockets have to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := &desk{t: t, bus: bus, dir: dir, panel: traytest.NewPanel(t, bus)}
	d.panel.Appear(true)
	d.opened = d.tool("xdg-open", `printf '%s\000' "$1"`)
	d.copied = d.tool("wl-copy", `cat; printf '\000'`)
	d.service = newService(t, filepath.Join(dir, "service"))
	d.env = []string{
		"HOME=" + dir, "XDG_CONFIG_HOME=" + dir + "/config", "XDG_DATA_HOME=" + dir + "/data", "XDG_CACHE_HOME=" + dir + "/cache",
		"XDG_RUNTIME_DIR=" + d.folder("run"), "DBUS_SESSION_BUS_ADDRESS=" + bus, "WAYLAND_DISPLAY=none", "LANG=C.UTF-8",
		"PATH=" + dir + "/bin:" + os.Getenv("PATH"), "STILE_SOCKET=" + d.service.socket, "XDG_CURRENT_DESKTOP=test",
	}
	if cover := os.Getenv("GOCOVERDIR"); cover != "" {
		d.env = append(d.env, "GOCOVERDIR="+cover)
	}
	d.prefer(`{"ran_before":true}`)
	return d
}

func (d *desk) folder(name string) string {
	d.t.Helper()
	path := filepath.Join(d.dir, name)
	if err := os.MkdirAll(path, 0o700); err != nil {
		d.t.Fatal(err)
	}
	return path
}

// prefer writes the user's settings.
func (d *desk) prefer(text string) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.folder("config/stile/config"), "general_settings.json"), []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// tool installs a program of the desktop that tells the test what it was told:
// script writes that, and a zero byte.
func (d *desk) tool(name, script string) chan string {
	d.t.Helper()
	pipe := filepath.Join(d.folder("pipes"), name)
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.folder("bin"), name), []byte("#!/bin/sh\n{ "+script+"; } > '"+pipe+"'\n"), 0o755); err != nil {
		d.t.Fatal(err)
	}
	f, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	told := make(chan string, 100)
	var g sync.WaitGroup
	g.Go(func() {
		in := bufio.NewReader(f)
		for {
			s, err := in.ReadString(0)
			if err != nil {
				return
			}
			told <- strings.TrimSuffix(s, "\x00")
		}
	})
	d.t.Cleanup(func() { f.Close(); g.Wait() })
	return told
}

// await returns what comes next.
func await[T any](t testing.TB, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(traytest.Patience):
		t.Fatalf("%s: not after %v", what, traytest.Patience)
		panic("")
	}
}

// An app is the program as it runs.
type app struct {
	*desk
	c     *exec.Cmd
	out   *bytes.Buffer // valid after the end
	begun time.Time
	ended chan error
}

// start runs the program and does not wait for anything.
func (d *desk) start(args ...string) *app {
	d.t.Helper()
	a := &app{desk: d, out: new(bytes.Buffer), ended: make(chan error, 1)}
	a.c = exec.Command(filepath.Join(programs, "stile"), args...)
	a.c.Env, a.c.Stdout, a.c.Stderr = d.env, a.out, a.out
	a.begun = time.Now()
	if err := a.c.Start(); err != nil {
		d.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		a.ended <- a.c.Wait()
		close(ended)
	}()
	d.t.Cleanup(func() {
		a.c.Process.Kill()
		<-ended
		if d.t.Failed() {
			d.t.Logf("the app wrote: %s", a.out)
			logs, _ := filepath.Glob(filepath.Join(d.dir, "cache/stile/logs/*.log"))
			for _, file := range logs {
				text, _ := os.ReadFile(file)
				d.t.Logf("%s", text)
			}
		}
	})
	return a
}

// run starts the program, and waits until its menu shows what the service says.
func (d *desk) run(args ...string) *app {
	d.t.Helper()
	a := d.start(append([]string{"tray", "--at-login"}, args...)...)
	d.panel.Until("the app is there", func(m traytest.Menu) bool { // and not one before it
		return d.panel.Registered().After(a.begun) && (m.Has("Quit") || m.Has("Quit (Stay Connected)"))
	})
	return a
}

// end waits for the end of the program.
func (a *app) end() error {
	a.t.Helper()
	return await(a.t, "the end of the app", a.ended)
}

// rss is how much memory the program has, in bytes.
func (a *app) rss() int64 {
	a.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.c.Process.Pid))
	if err != nil {
		a.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			kb, _ := strconv.ParseInt(f[1], 10, 64)
			return kb << 10
		}
	}
	a.t.Fatal("no VmRSS")
	return 0
}

// cpu is how long the program has computed.
func (a *app) cpu() time.Duration {
	a.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", a.c.Process.Pid))
	if err != nil {
		a.t.Fatal(err)
	}
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

// A service is a tunnel service without a tunnel.
type service struct {
	t        testing.TB
	socket   string
	commands chan ipc.Command

	mu     sync.Mutex // guards the rest
	server *link.Server
	stop   func()
	state  ipc.State
	refuse func(c ipc.Command) error // nil: nothing is refused
}

func newService(t testing.TB, socket string) *service {
	s := &service{t: t, socket: socket, commands: make(chan ipc.Command, 100)}
	s.state = ipc.State{Version: "1", Session: ipc.Session{Phase: ipc.SignedOut, Portal: "wss://portal.example.com"}, Settings: ipc.Settings{LogFilter: "info"}}
	t.Cleanup(s.down)
	return s
}

// up starts the service.
func (s *service) up() *service {
	s.t.Helper()
	l, err := link.Listen(s.socket)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.server = link.New(link.Config{Service: s, Version: "1", Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	var g sync.WaitGroup
	server := s.server
	g.Go(func() { server.Run(ctx, l) })
	s.stop = func() { cancel(); l.Close(); g.Wait() }
	return s
}

// down stops it, orderly.
func (s *service) down() {
	s.mu.Lock()
	stop := s.stop
	s.stop = nil
	s.mu.Unlock()
	if stop != nil {
		stop()
	}
}

func (s *service) State() ipc.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

func (s *service) Handle(_ context.Context, _ link.Caller, c ipc.Command) error {
	s.mu.Lock()
	refuse := s.refuse
	s.mu.Unlock()
	s.commands <- c
	if refuse != nil {
		return refuse(c)
	}
	return nil
}

// set changes the state and publishes it.
func (s *service) set(change func(s *ipc.State)) {
	s.mu.Lock()
	change(&s.state)
	server := s.server
	s.mu.Unlock()
	if server != nil {
		server.Changed()
	}
}

// stranger is a service of another version, or one that hangs: it says greeting
// and nothing else.
func (s *service) stranger(greeting []byte) {
	s.t.Helper()
	l, err := net.Listen("unix", s.socket)
	if err != nil {
		s.t.Fatal(err)
	}
	var g sync.WaitGroup
	g.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Write(greeting)
			g.Go(func() {
				conn.SetReadDeadline(time.Now().Add(time.Minute))
				conn.Read(make([]byte, 1))
				conn.Close()
			})
		}
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop = func() { l.Close() } // connections end with the app
	s.t.Cleanup(func() { s.down(); g.Wait() })
}

// connected is a session with n resources and those of everyday life.
func connected(n int) func(s *ipc.State) {
	return func(s *ipc.State) {
		s.Session = ipc.Session{Phase: ipc.Connected, PortalUp: true, Token: ipc.TokenFromSignIn, Account: "acme", Actor: "Ada & Charles_B", Portal: "wss://portal.example.com"}
		s.Internet.Available = true
		s.Resources = []ipc.Resource{
			{ID: resource(1), Type: "internet", Name: "Internet", Sites: []string{"Exit"}, Problem: &ipc.Problem{Code: ipc.InternetIsOff, Text: "It is off."}},
			{ID: resource(2), Type: "dns", Name: "Build & test", Address: "*.ci.example.com", Description: "https://ci.example.com/", Sites: []string{"Office"}, State: ipc.Online},
			{ID: resource(3), Type: "cidr", Name: "Printers", Address: "10.9.0.0/16", Description: "2nd floor", Sites: []string{"Annex"}, State: ipc.Unknown},
		}
		s.Connections = []ipc.Connection{{Site: "Office", State: "connected", Path: ipc.Direct}}
		for i := range n {
			s.Resources = append(s.Resources, ipc.Resource{
				ID: resource(100 + i), Type: "dns", Name: fmt.Sprintf("Resource_%03d & more", i), Address: fmt.Sprintf("r%03d.example.com", i),
				Sites: []string{"Office"}, State: ipc.Online,
			})
		}
		ipc.SortResources(s.Resources)
	}
}

func resource(n int) id.Resource { return id.Resource{6: 0x40, 8: 0x80, 14: byte(n >> 8), 15: byte(n)} }

// frame is a message of a service.
func frame(m ipc.Message) []byte {
	b, err := ipc.AppendMessage(nil, m)
	if err != nil {
		panic(err)
	}
	return b
}
