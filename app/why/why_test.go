package why

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"stile/app/why/cause"
	"stile/tunnel/id"
	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
)

// A fake is a service that knows what a test says. Its tunnel is the loopback
// interface.
type fake struct {
	mu     sync.Mutex // guards what follows
	state  ipc.State
	knows  ipc.Knowledge
	then   func(k *ipc.Knowledge) // what it knows from the second time on
	asked  []string               // hosts
	silent bool                   // it knows no questions
	hangs  chan struct{}          // until it is closed, no question but the first is answered; nil: all are
}

func (f *fake) Handle(context.Context, link.Caller, ipc.Command) error { return nil }

func (f *fake) State() ipc.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

func (f *fake) Inform(_ context.Context, _ link.Caller, q ipc.Command, put func(ipc.Part) error) error {
	f.mu.Lock()
	if f.hangs != nil && len(f.asked) > 0 {
		f.mu.Unlock()
		<-f.hangs
		f.mu.Lock()
	}
	defer f.mu.Unlock()
	if f.silent {
		return ipc.Problemf(ipc.UnknownCommand, "Update Stile.")
	}
	if len(f.asked) == 1 && f.then != nil {
		f.then(&f.knows)
	}
	f.asked = append(f.asked, q.(ipc.Inspect).Host)
	k := f.knows
	return put(ipc.Part{Knowledge: &k})
}

// loopback is the name of the loopback interface.
func loopback(t *testing.T) string {
	t.Helper()
	list, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		if i.Flags&net.FlagLoopback != 0 {
			return i.Name
		}
	}
	t.Fatal("there is no loopback interface")
	return ""
}

func newFake(t *testing.T) *fake {
	return &fake{
		state: ipc.State{
			Version: "1.2.3", Session: ipc.Session{Phase: ipc.Connected, PortalUp: true, Portal: "wss://portal.example.net"},
			Tunnel: ipc.Tunnel{Interface: loopback(t)},
		},
		knows: ipc.Knowledge{Verdict: ipc.Permitted, Access: []ipc.Access{{
			Resource: id.Resource{7}, Name: "Net", Type: "cidr", Address: "127.0.0.0/8", Sites: []string{"Munich"}, State: ipc.AccessIdle,
		}}},
	}
}

func (f *fake) serve(t *testing.T) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l, err := link.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var g sync.WaitGroup
	g.Go(func() {
		link.New(link.Config{Service: f, Version: "1.2.3", Log: slog.New(slog.DiscardHandler)}).Run(ctx, l)
	})
	t.Cleanup(func() { cancel(); g.Wait() })
	return socket
}

// port returns a TCP port of 127.0.0.1 where a server listens, or none does.
func port(t *testing.T, open bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if !open {
		l.Close()
	} else {
		t.Cleanup(func() { l.Close() })
	}
	return l.Addr().String()
}

func report(t *testing.T, socket, target string) Report {
	t.Helper()
	r, err := Ask(t.Context(), Options{socket, target})
	if err != nil {
		t.Fatal(err)
	}
	if r.Millis > 3000 {
		t.Errorf("%s: it takes %d ms", r.Code, r.Millis)
	}
	return r
}

// TestWhatTheServiceSays: causes that only a service of another kind, or a
// portal of another make, brings about.
func TestWhatTheServiceSays(t *testing.T) {
	refused := func(reason string, violated ...string) func(f *fake) {
		return func(f *fake) {
			f.then = func(k *ipc.Knowledge) {
				k.Access[0].Asked, k.Access[0].Refusal = time.Now(), &ipc.Refusal{Reason: reason, Violated: violated, At: time.Now()}
			}
		}
	}
	for _, row := range []struct {
		want cause.Code
		open bool
		make func(f *fake)
	}{
		{cause.Reachable, true, func(f *fake) {}},
		{cause.ReachableOutside, true, func(f *fake) { f.knows = ipc.Knowledge{Verdict: ipc.NotCovered} }},
		{cause.OutsideRefuses, false, func(f *fake) { f.knows = ipc.Knowledge{Verdict: ipc.NotCovered} }},
		{cause.ServiceVersion, false, func(f *fake) { f.silent = true }},
		{cause.SignedOut, false, func(f *fake) { f.state = ipc.State{Session: ipc.Session{Phase: ipc.SignedOut}} }},
		{cause.PortalRefused, false, func(f *fake) {
			f.state = ipc.State{Session: ipc.Session{Phase: ipc.Connecting, Problem: ipc.Problemf(ipc.PortalRefused, "No. Ask.")}}
		}},
		{cause.InterfaceDown, false, func(f *fake) { f.state.Tunnel.Interface = "no-such-if" }},
		{cause.LocalFirewall, false, func(f *fake) {}},
		{cause.ConditionViolated, false, refused("forbidden", "current_utc_datetime")},
		{cause.AccessForbidden, false, refused("forbidden")},
		{cause.GatewayVersion, false, refused("version_mismatch")},
		{cause.ResourceGone, false, refused("not_found")},
		{cause.AccessRefused, false, refused("disabled")},
		{cause.FilterDeniesPort, false, func(f *fake) { f.knows.Verdict, f.knows.Access[0].Filters = ipc.Denied, []string{"tcp/80"} }},
	} {
		f := newFake(t)
		row.make(f)
		if r := report(t, f.serve(t), port(t, row.open)); r.Code != row.want || r.Reachable != row.open {
			t.Errorf("%s: %s: %s %+v", row.want, r.Code, r.Cause, r.Steps)
		}
	}
}

// TestAServiceThatFallsSilent: what it said before is not held against anybody
// else.
func TestAServiceThatFallsSilent(t *testing.T) {
	f := newFake(t)
	f.knows.Access[0].Seen = time.Now().Add(-time.Hour)
	f.hangs = make(chan struct{})
	socket := f.serve(t)
	t.Cleanup(func() { close(f.hangs) })
	if r := report(t, socket, port(t, false)); r.Code != cause.ServiceSilent {
		t.Errorf("%+v", r)
	}
}

func TestNobodyIsThere(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	if r := report(t, none, port(t, false)); r.Code != cause.ServiceNotRunning {
		t.Error(r)
	}
	if r := report(t, none, port(t, true)); r.Code != cause.ReachableOutside {
		t.Error(r)
	}
	if _, err := Ask(t.Context(), Options{none, "a/b"}); !errors.Is(err, cause.ErrTarget) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Ask(ctx, Options{none, "127.0.0.1:1"}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestStrangeServices: some say nothing, some nonsense, some goodbye.
func TestStrangeServices(t *testing.T) {
	frame := func(body string) string {
		f, err := ipc.AppendFrame(nil, []byte(body), ipc.MaxMessage)
		if err != nil {
			t.Fatal(err)
		}
		return string(f)
	}
	for _, row := range []struct {
		says string
		want cause.Code
	}{
		{"", cause.ServiceSilent},
		{"HTTP/1.1 200 OK\r\n\r\n", cause.ServiceVersion},
		{frame(`{"hello":{"protocol":99,"version":"99.0.0"}}`), cause.ServiceVersion},
		{frame(`{"goodbye":{"code":"not-allowed","text":"Not you."}}`), cause.ServiceNotAllowed},
		{frame(`{"goodbye":{"code":"stopping","text":"Later."}}`), cause.ServiceBroken},
	} {
		socket := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		var held []net.Conn
		var g sync.WaitGroup
		g.Go(func() {
			for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
				conn.Write([]byte(row.says))
				held = append(held, conn) // it never hangs up
			}
		})
		if r := report(t, socket, port(t, false)); r.Code != row.want || r.Next == "" {
			t.Errorf("%q: %+v", row.says, r)
		}
		l.Close()
		g.Wait()
		for _, conn := range held {
			conn.Close()
		}
	}
}

// TestOurResolverIsAskedItself lets two sentinels answer, one of them late, one
// of them only the second time.
func TestOurResolverIsAskedItself(t *testing.T) {
	var mu sync.Mutex // guards asked
	asked := 0
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	var g sync.WaitGroup
	g.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil {
				continue
			}
			mu.Lock()
			asked++
			lost := asked == 1
			mu.Unlock()
			if lost {
				continue
			}
			m.Response = true
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}, Body: &dnsmessage.AResource{A: [4]byte{100, 96, 0, 1}}}}
			}
			reply, err := m.Pack()
			if err == nil {
				conn.WriteToUDPAddrPort(reply, from)
			}
		}
	})
	p := &probe{dnsPort: conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()}
	here := []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	if l := p.askOurs(t.Context(), here, "wiki.corp.example", true, true); l.Outcome != cause.Found || len(l.Addrs) != 1 {
		t.Errorf("%+v", l)
	}
	if l := p.askOurs(t.Context(), here, "wiki.corp.example", false, true); l.Outcome != cause.NoAddress {
		t.Errorf("%+v", l)
	}
	conn.Close()
	g.Wait()
	if l := p.askOurs(t.Context(), here, "wiki.corp.example", true, false); l.Outcome != cause.NoAnswer {
		t.Errorf("%+v", l)
	}
}

func TestReportAsJSON(t *testing.T) {
	text, err := json.Marshal(Report{Target: "wiki", Code: cause.SignedOut, Cause: "C.", Next: "N.", Steps: []cause.Step{{Name: "session", Result: cause.Failing}}, Millis: 7})
	const want = `{"target":"wiki","code":"signed-out","cause":"C.","next":"N.","reachable":false,"steps":[{"name":"session","result":"failed"}],"millis":7}`
	if err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
}
