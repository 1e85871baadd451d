package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stile/build/stamp"
	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
)

// The test runs itself as the program, because help ends it.
func TestMain(m *testing.M) {
	if args, is := os.LookupEnv("RUN_STILE"); is {
		os.Exit(Main(context.Background(), strings.Fields(args), os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func TestHelpAndMisuse(t *testing.T) {
	for _, row := range []struct {
		args string
		code int
		want string
	}{
		{"", 0, "sign-in"}, {"--help", 0, "sign-out"}, {"sign-in --help", 0, "--no-browser"}, {"sign-out --help", 0, "Sign out"},
		{"status --help", 0, "--watch"}, {"resources --help", 0, "--json"}, {"internet --help", 0, "on or off"}, {"version --help", 0, "--json"},
		{"sing-in", 2, "stile --help"}, {"status --jason", 2, "--json"}, {"internet maybe", 2, "say on or off"}, {"status now", 2, "now"},
		{"status", 1, "sudo systemctl start stiled"},
	} {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		child := exec.Command(self)
		child.Env = append(os.Environ(), "RUN_STILE="+row.args, "STILE_SOCKET="+filepath.Join(t.TempDir(), "none"))
		out, _ := child.CombinedOutput()
		if code := child.ProcessState.ExitCode(); code != row.code || !strings.Contains(string(out), row.want) {
			t.Errorf("stile %s: %d, want %d and %q:\n%s", row.args, code, row.code, row.want, out)
		}
	}
}

func TestWhenNobodyAnswers(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"resources"}, {"internet", "on"}, {"sign-out"}, {"sign-in"}, {"sign-in", "--no-browser"}} {
		run{}.run(t, none, args...).want(t, failed, "", "The tunnel service is not running. Start it with: sudo systemctl start stiled\n")
	}
	run{}.run(t, none, "version").want(t, done, "stile  "+stamp.String()+"\nstiled The tunnel service is not running", "")
}

func TestWhenSomethingElseAnswers(t *testing.T) {
	for said, want := range map[string]string{
		"":                                "broke off",
		"\x00\x00\x00":                    "broke off",
		"HTTP/1.1 200":                    "broke off",
		"\x00\x00\x00\x02{}":              "broke off",
		frame(`{"hello":{"protocol":2}}`): "Start the program anew",
		frame(`{"goodbye":{"code":"not-allowed","text":"Not you.\u001b[2J"}}`): "Not you.\ufffd[2J",
	} {
		socket := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
				conn.Write([]byte(said))
				conn.Close()
			}
		}()
		run{}.run(t, socket, "status").want(t, failed, "", want)
		l.Close()
	}
}

func frame(body string) string {
	f, _ := ipc.AppendFrame(nil, []byte(body), ipc.MaxMessage)
	return string(f)
}

func TestStatus(t *testing.T) {
	f := serve(t, ipc.Connected)
	f.run(t, "status").want(t, done, "Connected", "")
	r := f.run(t, "status", "--json")
	r.want(t, done, "{\n  \"version\": \"9.9.9\"", "")
	var s ipc.State
	if err := json.Unmarshal([]byte(r.out), &s); err != nil || s.Session.Phase != ipc.Connected {
		t.Errorf("%v: %s", err, r.out)
	}
}

func TestResources(t *testing.T) {
	f := serve(t, ipc.SignedOut)
	for _, args := range [][]string{{"resources"}, {"resources", "--json"}} {
		f.run(t, args...).want(t, failed, "", "stile: You are signed out. Sign in with: stile sign-in\n")
	}
	f.set(func(s *ipc.State) {
		s.Session.Problem = ipc.Problemf(ipc.TokenRejected, "Your session has expired. Sign in again.")
	})
	f.run(t, "resources").want(t, failed, "", "Your session has expired")
	f.set(func(s *ipc.State) { s.Session = ipc.Session{Phase: ipc.Connecting} })
	f.run(t, "resources").want(t, failed, "", "not known yet. Connecting to the portal.")
	f.set(func(s *ipc.State) { s.Session.Phase = ipc.Connected })
	f.run(t, "resources").want(t, done, "nothing that you may reach", "")
	f.run(t, "resources", "--json").want(t, done, "[]\n", "")
	f.set(func(s *ipc.State) { s.Resources = example().Resources })
	f.run(t, "resources").want(t, done, "Wiki       wiki.corp.example   Munich        gateway connected\n", "")
	var list []ipc.Resource
	if err := json.Unmarshal([]byte(f.run(t, "resources", "--json").out), &list); err != nil || len(list) != 3 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestInternet(t *testing.T) {
	f := serve(t, ipc.SignedOut)
	f.run(t, "internet", "on").want(t, done, "Once you are connected", "")
	f.set(func(s *ipc.State) { s.Session.Phase = ipc.Connected })
	f.run(t, "internet", "on").want(t, done, "no Internet resource", "")
	f.set(func(s *ipc.State) { s.Internet.Available = true })
	f.run(t, "internet", "on").want(t, done, "All traffic goes through the tunnel.", "")
	f.run(t, "internet", "off").want(t, done, "directly", "")
	want := []ipc.Command{ipc.SetInternet{On: true}, ipc.SetInternet{On: true}, ipc.SetInternet{On: true}, ipc.SetInternet{}}
	if got := f.told(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v", got)
	}
	f.run(t, "internet").want(t, done, "Other traffic goes out directly.", "")
	f.set(func(s *ipc.State) { s.Internet.On = true })
	f.run(t, "internet").want(t, done, "All traffic goes through the tunnel.", "")
	f.run(t, "internet", "maybe").want(t, misuse, "", "on")
	if got := f.told(); len(got) != len(want) {
		t.Errorf("asking changed something: %v", got)
	}
	f.react = func(*fake, ipc.Command) error { return errBroken }
	f.run(t, "internet", "on").want(t, failed, "", "it is broken")
}

func TestVersion(t *testing.T) {
	f := serve(t, ipc.SignedOut)
	f.run(t, "version").want(t, done, "stile  "+stamp.String()+"\nstiled 9.9.9\n", "")
	f.run(t, "version", "--json").want(t, done, `"service": "9.9.9"`, "")
}

func TestSignOut(t *testing.T) {
	f := serve(t, ipc.Connected)
	f.react = func(f *fake, c ipc.Command) error {
		f.state.Session.Phase = ipc.Ending
		go f.set(func(*ipc.State) { obey(f, c) })
		return nil
	}
	f.run(t, "sign-out").want(t, done, "Signed out.\n", "")
	f.run(t, "sign-out").want(t, done, "You were signed out already.\n", "")
	f.react = func(*fake, ipc.Command) error {
		return ipc.Problemf(ipc.TokenIsManaged, "The token is an administrator's.")
	}
	f.run(t, "sign-out").want(t, failed, "", "stile: The token is an administrator's.\n")
}

func TestWatch(t *testing.T) {
	f := serve(t, ipc.SignedOut)
	out := newBuffer()
	until := func(want string) { waitFor(t, out, want) }
	ctx, cancel := context.WithCancel(t.Context())
	p := &program{socket: f.socket, out: out, err: out, now: time.Now}
	ended := make(chan error, 1)
	go func() { ended <- p.watch(ctx, false) }()
	until("Signed out.")
	f.set(func(s *ipc.State) { s.Session.Phase = ipc.Connecting })
	until("Connecting to the portal.")
	f.stop()
	until("The service is stopping.\nWaiting for it.")
	until("The tunnel service is not running.")
	f.set(func(s *ipc.State) { s.Session.Phase = ipc.Raising })
	f.start(t)
	until("Raising the tunnel.")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestWatchAsJSONIsOneObjectALine(t *testing.T) {
	f := serve(t, ipc.SignedOut)
	out := newBuffer()
	ctx, cancel := context.WithCancel(t.Context())
	p := &program{socket: f.socket, out: out, err: out, now: time.Now}
	ended := make(chan error, 1)
	go func() { ended <- p.watch(ctx, true) }()
	waitFor(t, out, "signed-out")
	f.set(func(s *ipc.State) { s.Session.Phase = ipc.Connected })
	waitFor(t, out, "connected")
	cancel()
	<-ended
	for line := range strings.Lines(out.String()) {
		var s ipc.State
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Errorf("%v: %s", err, line)
		}
	}
}

func TestWatchEndsWhenItMakesNoSense(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if conn, err := l.Accept(); err == nil {
			conn.Write([]byte(frame(`{"goodbye":{"code":"not-allowed","text":"Not you."}}`)))
			conn.Close()
		}
	}()
	run{}.run(t, socket, "status", "--watch").want(t, failed, "", "Not you.")
}

// waitFor blocks until out contains want; it fails after 20 s.
func waitFor(t *testing.T, out *lockedBuffer, want string) {
	t.Helper()
	tooLate := time.After(20 * time.Second)
	for !strings.Contains(out.String(), want) {
		select {
		case <-out.wrote:
		case <-tooLate:
			t.Fatalf("no %q in\n%s", want, out.String())
		}
	}
}

// BenchmarkStatus is one whole run of `stile status` in its own process, with
// 500 resources.
func BenchmarkStatus(b *testing.B) {
	f := &fake{socket: filepath.Join(b.TempDir(), "s"), react: obey, state: *example()}
	for i := range 500 {
		f.state.Resources = append(f.state.Resources, ipc.Resource{Name: fmt.Sprint("resource ", i), Address: "host.corp.example", Type: "dns", Sites: []string{"Munich"}, State: ipc.Unknown})
	}
	f.server = link.New(link.Config{Service: f, Log: slog.New(slog.DiscardHandler)})
	l, err := link.Listen(f.socket)
	if err != nil {
		b.Fatal(err)
	}
	go f.server.Run(b.Context(), l)
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		child := exec.Command(self)
		child.Env = []string{"RUN_STILE=status", "STILE_SOCKET=" + f.socket}
		if out, err := child.CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
	}
}
