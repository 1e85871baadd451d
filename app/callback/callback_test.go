package callback

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stile/app/signin"
	"stile/app/words"
	"stile/tunnel/ipc"
)

// A running is a sign-in, and what came of it.
type running struct {
	*SignIn
	taken <-chan signin.Result
	ended <-chan error
	stop  func()
}

func run(t *testing.T) running {
	t.Helper()
	s, err := Begin(signin.Options{Base: "https://portal.example.net"}, &words.English)
	if err != nil {
		t.Fatal(err)
	}
	if s.l == nil {
		t.Fatal("this needs a loopback interface")
	}
	taken, ended := make(chan signin.Result, 10), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	var g sync.WaitGroup
	g.Go(func() { ended <- s.Run(ctx, func(r signin.Result) { taken <- r }) })
	stop := func() { cancel(); g.Wait() }
	t.Cleanup(stop)
	return running{s, taken, ended, stop}
}

// query is what a portal would answer.
func (r running) query() string {
	u, err := url.Parse(r.URL())
	if err != nil {
		panic(err)
	}
	return url.Values{"state": u.Query()["state"], "fragment": {".x"}, "actor_name": {"Zoë D"}, "account_slug": {"acme"}}.Encode()
}

func (r running) loopback() string { return "http://" + r.host + path }

func (r running) scheme() ipc.Secret {
	return ipc.Secret("firezone-fd0020211111://handle_client_sign_in_callback?" + r.query())
}

func (r running) code() string { return base64.RawURLEncoding.EncodeToString([]byte(r.query())) }

// want checks that one answer was taken.
func (r running) want(t *testing.T) {
	t.Helper()
	select {
	case got := <-r.taken:
		if !strings.HasSuffix(got.Token.Reveal(), ".x") || got.Account != "acme" || got.Actor != "Zoë D" || len(r.taken) > 0 {
			t.Errorf("%+v and %d more", got, len(r.taken))
		}
	case <-time.After(10 * time.Second):
		t.Error("nothing was taken")
	}
}

// A reply is what a browser got, without going where it is led.
type reply struct {
	status int
	body   string
	http.Header
}

func ask(t *testing.T, method, url, host string) reply {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	r.Close = true
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{answer.StatusCode, string(body), answer.Header}
}

func TestTheAnswerComesByLoopback(t *testing.T) {
	s := run(t)
	got := ask(t, "GET", s.loopback()+"?"+s.query(), "")
	if got.status != 303 || got.Get("Location") != "/done" || got.body != "" {
		t.Errorf("%+v", got)
	}
	s.want(t)
	for name, value := range map[string]string{"Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"} {
		if got.Get(name) != value {
			t.Errorf("%s: %s", name, got.Get(name))
		}
	}
	got = ask(t, "GET", "http://"+s.host+"/done", "")
	if got.status != 200 || !strings.Contains(got.body, "You can close this page") || !strings.Contains(got.body, `role="status"`) || !strings.HasPrefix(got.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("%+v", got)
	}
}

func TestTheAnswerComesByTheSchemeOrByHand(t *testing.T) {
	s := run(t)
	if err := s.Follow(s.scheme()); err != nil {
		t.Error(err)
	}
	s.want(t)
	s = run(t)
	if err := s.Paste(s.code()); err != nil {
		t.Error(err)
	}
	s.want(t)
	s = run(t)
	if err := s.Paste(s.scheme().Reveal()); err != nil {
		t.Error(err)
	}
	s.want(t)
}

// Whichever comes first counts; the others are told so, each in its way.
func TestAllWaysAtOnce(t *testing.T) {
	s := run(t)
	var g sync.WaitGroup
	var mu sync.Mutex // guards taken
	taken := 0
	for range 5 {
		for _, way := range []func() bool{
			func() bool { return ask(t, "GET", s.loopback()+"?"+s.query(), "").Get("Location") == "/done" },
			func() bool { return s.Follow(s.scheme()) == nil },
			func() bool { return s.Paste(s.code()) == nil },
		} {
			g.Go(func() {
				if way() {
					mu.Lock()
					taken++
					mu.Unlock()
				}
			})
		}
	}
	g.Wait()
	if taken != 1 {
		t.Errorf("taken %d times", taken)
	}
	s.want(t)
	if err := s.Follow(s.scheme()); err != signin.ErrRepeated {
		t.Error(err)
	}
	if err := s.Paste(s.code()); err != signin.ErrRepeated {
		t.Error(err)
	}
	if got := ask(t, "GET", s.loopback()+"?"+s.query(), ""); got.Get("Location") != "/again" {
		t.Errorf("%+v", got)
	}
	if got := ask(t, "GET", "http://"+s.host+"/again", ""); got.status != 200 || !strings.Contains(got.body, "has taken over already") {
		t.Errorf("%+v", got)
	}
	s.Cancel() // too late
	s.stop()
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
}

func TestForgedAnswersEndNothing(t *testing.T) {
	s := run(t)
	other := run(t)
	if got := ask(t, "GET", s.loopback()+"?"+other.query(), ""); got.status != 400 || !strings.Contains(got.body, "does not belong") || !strings.Contains(got.body, `role="alert"`) {
		t.Errorf("%+v", got)
	}
	if got := ask(t, "GET", s.loopback(), ""); got.status != 400 || !strings.Contains(got.body, "not the answer of a portal") {
		t.Errorf("%+v", got)
	}
	if err := s.Follow(other.scheme()); err != signin.ErrForged {
		t.Error(err)
	}
	if err := s.Paste("hello"); err != signin.ErrNoCode {
		t.Error(err)
	}
	if err := s.Follow(s.scheme()); err != nil {
		t.Error(err)
	}
	s.want(t)
}

func TestCancelled(t *testing.T) {
	s := run(t)
	s.Cancel()
	s.Cancel()
	if err := s.Follow(s.scheme()); err != signin.ErrLate {
		t.Error(err)
	}
	got := ask(t, "GET", s.loopback()+"?"+s.query(), "")
	if got.Get("Location") != "/late" {
		t.Errorf("%+v", got)
	}
	if got = ask(t, "GET", "http://"+s.host+"/late", ""); got.status != 410 || !strings.Contains(got.body, "does not wait for this sign-in any more") {
		t.Errorf("%+v", got)
	}
	s.stop()
	if err := <-s.ended; err != ErrCancelled || len(s.taken) > 0 {
		t.Error(err, len(s.taken))
	}
	s = run(t)
	s.stop()
	if err := <-s.ended; err != ErrCancelled {
		t.Error(err)
	}
	if err := s.Paste(s.code()); err != signin.ErrLate {
		t.Error(err)
	}
}

// Browsers take their time; what is over explains itself as long as a portal's
// last page works.
func TestTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, end := range []struct {
			how  func(s *SignIn, r running)
			want error
		}{
			{func(s *SignIn, r running) { s.Follow(r.scheme()) }, nil},
			{func(s *SignIn, _ running) { s.Cancel() }, ErrCancelled},
		} {
			attempt, err := signin.Begin(signin.Options{Base: "https://portal.example.net"}, strings.NewReader(strings.Repeat("x", 64)))
			if err != nil {
				t.Fatal(err)
			}
			s := &SignIn{url: attempt.URL(), attempt: attempt, results: make(chan signin.Result, 1), cancelled: make(chan struct{})}
			s.cancel = sync.OnceFunc(func() { close(s.cancelled) })
			ended := make(chan error, 1)
			go func() { ended <- s.Run(t.Context(), func(signin.Result) {}) }()
			time.Sleep(1000 * time.Hour)
			if len(ended) > 0 {
				t.Fatal("it gave up by itself")
			}
			end.how(s, running{SignIn: s})
			time.Sleep(linger - time.Second)
			if len(ended) > 0 {
				t.Error("it does not explain itself")
			}
			time.Sleep(2 * time.Second)
			if err := <-ended; err != end.want {
				t.Error(err)
			}
		}
	})
}

func TestWhatIsNoAnswerIsNotTaken(t *testing.T) {
	s := run(t)
	base := "http://" + s.host
	_, port, _ := net.SplitHostPort(s.host)
	for _, row := range []struct {
		method, url, host string
		want              int
	}{
		{"GET", base + "/?" + s.query(), "", 404},
		{"GET", base + "/favicon.ico", "", 404},
		{"GET", base + path + "/x?" + s.query(), "", 404},
		{"POST", s.loopback() + "?" + s.query(), "", 405},
		{"HEAD", s.loopback() + "?" + s.query(), "", 405},
		{"OPTIONS", s.loopback(), "", 405},
		{"GET", s.loopback() + "?" + s.query(), "evil.example", 421},
		{"GET", s.loopback() + "?" + s.query(), "localhost:" + port, 421},
		{"GET", s.loopback() + "?" + s.query(), "127.0.0.1", 421},
	} {
		if got := ask(t, row.method, row.url, row.host); got.status != row.want {
			t.Errorf("%s %s from %s: %d", row.method, row.url, row.host, got.status)
		}
	}
	if len(s.taken) > 0 {
		t.Error("taken")
	}
}

func TestOnlyThisMachineIsListenedTo(t *testing.T) {
	s, err := Begin(signin.Options{Base: "https://portal.example.net"}, &words.English)
	if err != nil {
		t.Fatal(err)
	}
	if a := s.l.Addr().(*net.TCPAddr); a.IP.String() != "127.0.0.1" || a.Port == 0 || !strings.Contains(s.URL(), url.QueryEscape("http://"+a.String()+path)) {
		t.Error(a, s.URL())
	}
	s.Close()
	if conn, err := net.Dial("tcp", s.host); err == nil {
		conn.Close()
		t.Error("it still listens")
	}
	if _, err := Begin(signin.Options{Base: "http://portal.example.net"}, &words.English); err == nil {
		t.Error("a password in the clear")
	}
}

// The answer is read even if it ends the waiting, as it does.
func TestTheEndWaitsForThePage(t *testing.T) {
	s := run(t)
	conn, err := net.Dial("tcp", s.host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s?%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, s.query(), s.host)
	<-s.taken
	stopped, began := make(chan bool), time.Now()
	go func() { s.stop(); close(stopped) }()
	if text, err := io.ReadAll(conn); err != nil || !strings.Contains(string(text), "Location: /done") {
		t.Errorf("%q, %v", text, err)
	}
	if got := ask(t, "GET", "http://"+s.host+"/done", ""); got.status != 200 {
		t.Errorf("%+v", got)
	}
	<-stopped
	if _, err := net.Dial("tcp", s.host); err == nil {
		t.Error("it still listens")
	}
	if took := time.Since(began); took > parting {
		t.Errorf("it took %v", took)
	}
	s = run(t) // a browser that never comes for its page
	ask(t, "GET", s.loopback()+"?"+s.query(), "")
	began = time.Now()
	s.stop()
	if took := time.Since(began); took < parting || took > 2*parting {
		t.Errorf("it took %v", took)
	}
}

func TestNoiseDoesNotBlockTheAnswer(t *testing.T) {
	s := run(t)
	for i := range connections {
		conn, err := net.Dial("tcp", s.host)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		switch i % 3 { // the others say nothing
		case 0:
			io.WriteString(conn, strings.Repeat("\xff", 1000))
		case 1:
			io.WriteString(conn, "GET "+path+"?"+strings.Repeat("x", 2*maxHeader))
		}
	}
	began := time.Now()
	if got := ask(t, "GET", s.loopback()+"?"+s.query(), ""); got.Get("Location") != "/done" {
		t.Error(got)
	}
	if took := time.Since(began); took > 2*patience {
		t.Errorf("it took %v", took)
	}
}

func TestABrokenListenerLeavesTheOtherWays(t *testing.T) {
	s := run(t)
	s.l.Close()
	if err := s.Follow(s.scheme()); err != nil {
		t.Error(err)
	}
	s.want(t)
	if errors.Is(s.Follow(""), nil) {
		t.Error("nothing is an answer")
	}
}

// Browsers are started with an address that all users of the machine can read:
// it leads to the sign-in page, and only the user's own programs.
func TestTheBrowserIsStartedWithoutHalfAToken(t *testing.T) {
	s := run(t)
	u, _ := url.Parse(s.URL())
	for _, secret := range []string{"nonce", "state"} {
		if strings.Contains(s.Start(), u.Query().Get(secret)) {
			t.Errorf("%s is in %s", secret, s.Start())
		}
	}
	if got := ask(t, "GET", s.Start(), ""); got.status != 303 || got.Get("Location") != s.URL() || got.Get("Referrer-Policy") != "no-referrer" || got.Get("Cache-Control") != "no-store" {
		t.Errorf("%+v", got)
	}
	for _, address := range []string{s.Start() + "x", "http://" + s.host + beginning, "http://" + s.host + beginning + "/" + s.key} {
		if got := ask(t, "GET", address, ""); got.status != 404 || strings.Contains(fmt.Sprint(got), u.Query().Get("nonce")) {
			t.Errorf("%s: %+v", address, got)
		}
	}
	if got := ask(t, "GET", s.Start(), "portal.example.net"); got.status != 421 {
		t.Errorf("%+v", got)
	}
	ask(t, "GET", s.loopback()+"?"+s.query(), "")
	if got := ask(t, "GET", s.Start(), ""); got.status != 410 || got.Get("Location") != "" || !strings.Contains(got.body, "taken over already") {
		t.Errorf("when it is over: %+v", got)
	}

	stranger, err := Begin(signin.Options{Base: "https://portal.example.net"}, &words.English)
	if err != nil {
		t.Fatal(err)
	}
	stranger.mine = func(net.Conn) (bool, error) { return false, nil }
	var g sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	g.Go(func() { stranger.Run(ctx, func(signin.Result) {}) })
	if got := ask(t, "GET", stranger.Start(), ""); got.status != 403 || got.Get("Location") != "" || !strings.Contains(got.body, "other browsers") {
		t.Errorf("another user: %+v", got)
	}
	cancel()
	g.Wait()
	none, err := Begin(signin.Options{Base: "https://portal.example.net"}, &words.English)
	if err != nil {
		t.Fatal(err)
	}
	none.Close()
	none.l = nil
	if none.Start() != none.URL() {
		t.Error(none.Start())
	}
}

// The pages that end a sign-in are in the language of the app.
func TestPagesSpeakTheUsersLanguage(t *testing.T) {
	r := run(t)
	r.w = &words.German
	for path, want := range map[string]string{
		"/done": words.German.TakenText, "/again": words.German.TakenBeforeText, "/late": words.German.LateText, "/x": words.German.NoPageText, path: words.German.IncompleteText,
	} {
		got := ask(t, "GET", "http://"+r.host+path, "")
		if !strings.Contains(got.body, want) || !strings.Contains(got.body, `<html lang="de">`) {
			t.Errorf("%s: %s", path, got.body)
		}
	}
	if got := ask(t, "GET", "http://"+r.host+"/done", "localhost"); !strings.Contains(got.body, words.German.NotHereText) {
		t.Error(got.body)
	}
}
