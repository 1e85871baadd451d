//go:build linux

// Package trial holds tests that run the built programs on machines of the lab
// and do to them what people who know no better and networks that mean no good
// do: what is said then, how a program ends, and whether it goes on.
package trial

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stile/build/lab/host"
)

// The programs, as a machine sees them.
const (
	stiled = host.BinDir + "/stiled"
	server = host.BinDir + "/stile-server"
)

const (
	nobody  = 65534
	patient = 20 * time.Second // for anything that must happen
)

// binVariable tells the second life where the programs were built.
const binVariable = "STILE_TRIAL_BIN"

// TestMain builds the programs and runs the tests in an enclosure of the lab.
func TestMain(m *testing.M) {
	if os.Getpid() == 1 {
		if err := host.Settle(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	if err := enclosed(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func enclosed() error {
	bin, err := os.MkdirTemp("", "stile-trial-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(bin)
	if err := os.Chmod(bin, 0o755); err != nil { // programs run as others, too
		return err
	}
	build := exec.Command("go", "build", "-o", bin+"/", "stile/tunnel/cmd/stiled", "stile/tunnel/cmd/stile-server", "stile/app/cmd/stile")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	// Without the log of what a test opens its result is not cached, which is
	// right: it does not tell of the programs.
	args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(a string) bool { return strings.HasPrefix(a, "-test.testlogfile") })
	c := host.Enclosed(context.Background(), 0, args...)
	c.Env = append(os.Environ(), binVariable+"="+bin)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	return host.Enclose(c)
}

// A machine is a host with a new /etc, /run, /var/lib and loopback network.
type machine struct {
	*host.Host
	t *testing.T
}

var machines atomic.Int64

func newMachine(t *testing.T) *machine {
	t.Helper()
	h, err := host.New(host.Config{Name: fmt.Sprint("m", machines.Add(1)), Resolver: []string{"127.0.0.53"}, Bin: os.Getenv(binVariable)})
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{h, t}
	m.write("/etc/hosts", "127.0.0.1 localhost portal.test\n::1 localhost\n", 0o644)
	return m
}

func (m *machine) write(path, content string, mode os.FileMode) {
	m.t.Helper()
	must(m.t, m.WriteFile(path, []byte(content), mode))
}

func (m *machine) read(path string) string {
	m.t.Helper()
	content, err := m.ReadFile(path)
	must(m.t, err)
	return string(content)
}

// mount mounts a tmpfs; options are those of mount(8).
func (m *machine) mount(dir string, flags uintptr, options string) {
	m.t.Helper()
	must(m.t, m.Do(func() error {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		return unix.Mount("tmpfs", dir, "tmpfs", flags, options)
	}))
}

// A program is what somebody types.
type program struct {
	args  []string
	env   []string
	stdin string
	user  bool // an ordinary user types it
}

// typed splits a command line.
func typed(line string) program {
	line = strings.NewReplacer("stiled", stiled, "stile-server", server).Replace(line)
	return program{args: strings.Fields(line)}
}

func (p program) with(env ...string) program { p.env = append(p.env, env...); return p }
func (p program) reading(in string) program  { p.stdin = in; return p }
func (p program) asUser() program            { p.user = true; return p }

// Seen is what came of a program.
type seen struct {
	status   int
	out, err string
}

// said are the lines of standard error that are not of the log.
func (s seen) said() []string {
	var lines []string
	for line := range strings.Lines(s.err) {
		if line = strings.TrimSuffix(line, "\n"); !strings.HasPrefix(line, "time=") {
			lines = append(lines, line)
		}
	}
	return lines
}

// A process is a program that runs.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	out    *text
	err    *text
	ended  chan struct{}
	status int
}

// text is a writer that can be watched.
type text struct {
	mu      sync.Mutex // guards what follows
	b       bytes.Buffer
	changed chan struct{}
}

func newText() *text { return &text{changed: make(chan struct{}, 1)} }

func (x *text) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	select {
	case x.changed <- struct{}{}:
	default:
	}
	return x.b.Write(p)
}

func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.String()
}

// start starts a program, which ends with the test.
func (m *machine) start(p program) *process {
	m.t.Helper()
	if p.user && !host.Privileged() {
		m.t.Skip("NOT TESTED: a second user needs root; run the tests as root")
	}
	c := m.Command(context.Background(), p.args[0], p.args[1:]...)
	c.Env = append(c.Env, p.env...)
	c.Stdin = strings.NewReader(p.stdin)
	if p.user {
		c.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	r := &process{t: m.t, cmd: c, out: newText(), err: newText(), ended: make(chan struct{})}
	c.Stdout, c.Stderr = r.out, r.err
	must(m.t, m.Start(c))
	go func() {
		c.Wait() // its status tells all
		r.status = c.ProcessState.ExitCode()
		close(r.ended)
	}()
	m.t.Cleanup(func() {
		c.Process.Kill()
		<-r.ended
		if m.t.Failed() {
			m.t.Logf("%s said:\n%.8000s", filepath.Base(p.args[0]), r.err)
		}
	})
	return r
}

// run runs a program to its end.
func (m *machine) run(p program) seen {
	m.t.Helper()
	return m.start(p).wait()
}

func (r *process) wait() seen {
	r.t.Helper()
	select {
	case <-r.ended:
	case <-time.After(patient):
		r.t.Fatalf("%v does not end", r.cmd.Args)
	}
	return seen{r.status, r.out.String(), r.err.String()}
}

// says waits until the program has said something.
func (r *process) says(what string) {
	r.t.Helper()
	r.saysTimes(what, 1)
}

func (r *process) saysTimes(what string, n int) {
	r.t.Helper()
	for end := time.After(patient); strings.Count(r.err.String(), what) < n; {
		select {
		case <-r.err.changed:
		case <-r.ended:
			if strings.Count(r.err.String(), what) < n {
				r.t.Fatalf("%v ended with status %d and did not say %q %d times", r.cmd.Args, r.status, what, n)
			}
		case <-end:
			r.t.Fatalf("%v does not say %q %d times", r.cmd.Args, what, n)
		}
	}
}

// stop sends a signal and waits for the end.
func (r *process) stop(s os.Signal) seen {
	r.t.Helper()
	r.lives()
	must(r.t, r.cmd.Process.Signal(s))
	return r.wait()
}

func (r *process) lives() {
	r.t.Helper()
	select {
	case <-r.ended:
		r.t.Fatalf("%v ended with status %d", r.cmd.Args, r.status)
	default:
	}
}

var (
	resident = regexp.MustCompile(`VmRSS:\s+(\d+) kB`)
	highest  = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)
)

// megabytes is the memory a program has in use.
func (r *process) megabytes() int {
	r.t.Helper()
	n, ok := r.memory(resident)
	if !ok {
		r.t.Fatalf("%v has no memory", r.cmd.Args)
	}
	return n
}

// peak waits for the end of a program and is the most memory it has had in
// use. (What the kernel tells with its status counts us as well, whom it was
// forked from.)
func (r *process) peak() (most int) {
	for {
		n, _ := r.memory(highest)
		most = max(most, n)
		select {
		case <-r.ended:
			return most
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// memory reads a number of megabytes; there is none once the program has
// ended.
func (r *process) memory(which *regexp.Regexp) (int, bool) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
	if err != nil {
		return 0, false
	}
	m := which.FindSubmatch(status)
	if m == nil {
		return 0, false
	}
	kB, err := strconv.Atoi(string(m[1]))
	return kB >> 10, err == nil
}

// eventually calls f until it returns nil.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(patient); time.Now().Before(end); {
		if err = f(); err == nil {
			return
		}
		<-time.After(50 * time.Millisecond)
	}
	t.Fatal(err)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
