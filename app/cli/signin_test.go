package cli

import (
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"stile/app/instance"
	"stile/platform/desktop"
	"stile/tunnel/ipc"
)

// portal answers browsers like ours: whoever comes is signed in as Alice. Its
// fragment is ".secret".
func portal(t *testing.T, answer func(url.Values) url.Values) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		back := url.Values{"account_name": {"Acme"}, "account_slug": {strings.Trim(r.URL.Path, "/")}, "actor_name": {"Alice Doe"}, "fragment": {".secret"}, "identity_provider_identifier": {"x"}, "state": q["state"]}
		if q.Get("as") != "gui-client" || len(q.Get("nonce")) != 64 || !strings.HasPrefix(q.Get("redirect_uri"), "http://127.0.0.1:") {
			t.Errorf("asked for %v", q)
		}
		http.Redirect(w, r, q.Get("redirect_uri")+"?"+answer(back).Encode(), http.StatusFound)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func same(v url.Values) url.Values { return v }

// visit is a browser: it goes where it is led and shows what it finds.
func visit(t *testing.T, address string) string {
	answer, err := http.Get(address)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(answer.Body)
	return string(body)
}

// wantToken checks that the service got a token that ends in tail, with names.
func wantToken(t *testing.T, f *fake, pattern, account, actor string) {
	t.Helper()
	for _, c := range f.told() {
		in, is := c.(ipc.SignIn)
		if is && regexp.MustCompile("^"+pattern+"$").MatchString(in.Token.Reveal()) && in.AccountSlug == account && in.Actor == actor {
			return
		}
	}
	t.Errorf("no such sign-in in %d commands", len(f.told()))
}

func TestSignInWithTheBrowser(t *testing.T) {
	f := serve(t, ipc.SignedOut)
	f.react = slowly
	shown := make(chan string, 1)
	r := run{browser: func(address string) error {
		go func() { shown <- visit(t, address) }()
		return nil
	}}.run(t, f.socket, "sign-in", "--auth-url", portal(t, same), "--account", "acme")
	r.want(t, done, "Connected as Alice Doe (acme).", "It is tried again.\n")
	if r.copied != "" {
		t.Errorf("%q is on the clipboard although a browser was opened", r.copied)
	}
	wantToken(t, f, "[0-9a-f]{64}\\.secret", "acme", "Alice Doe")
	if page := <-shown; !strings.Contains(page, "You can close this page.") {
		t.Error(page)
	}
	if strings.Contains(r.out+r.err, ".secret") {
		t.Error("the token is shown")
	}
}

func TestSignInSurvivesForgedAnswersAndABrowserThatDoesNotOpen(t *testing.T) {
	f := serve(t, ipc.SignedOut)
	site := portal(t, same)
	r := run{browser: func(address string) error {
		u, _ := url.Parse(address)
		back := u.Query().Get("redirect_uri")
		go func() {
			for _, forged := range []string{back, back + "?state=" + strings.Repeat("0", 64) + "&fragment=.evil&account_slug=&actor_name=", back + "?%zz", strings.TrimSuffix(back, "signed-in") + "favicon.ico"} {
				if page := visit(t, forged); strings.Contains(page, "takes over from here") {
					t.Errorf("%s was taken: %s", forged, page)
				}
			}
			visit(t, address)
		}()
		return errBroken
	}}.run(t, f.socket, "sign-in", "--auth-url", site)
	r.want(t, done, "Connected as Alice Doe", "Your browser could not be opened (it is broken).\n")
	r.want(t, done, "Open this address in a browser on this computer; it is on the clipboard, too:\n\n  "+r.copied+"\n", "")
	if u, err := url.Parse(r.copied); err != nil || !strings.HasPrefix(r.copied, site) || len(u.Query().Get("nonce")) != 64 {
		t.Errorf("%q is on the clipboard", r.copied)
	}
	wantToken(t, f, "[0-9a-f]{64}\\.secret", "", "Alice Doe")
}

func TestRepeatedAnswersWhileConnecting(t *testing.T) {
	f := serve(t, ipc.SignedOut)
	again := make(chan string, 1)
	var back string
	f.react = func(f *fake, c ipc.Command) error {
		if in, is := c.(ipc.SignIn); is {
			f.state.Session.Phase = ipc.Connecting
			go func() {
				again <- visit(t, back)
				f.set(func(*ipc.State) { obey(f, in) })
			}()
		}
		return nil
	}
	site := portal(t, func(v url.Values) url.Values { return v })
	run{browser: func(address string) error {
		go func() {
			answer, err := http.Get(address)
			if err != nil {
				t.Error(err)
				return
			}
			answer.Body.Close()
		}()
		u, _ := url.Parse(address)
		back = u.Query().Get("redirect_uri") + "?" + url.Values{"account_slug": {""}, "actor_name": {"Alice Doe"}, "fragment": {".secret"}, "state": u.Query()["state"]}.Encode()
		return nil
	}}.run(t, f.socket, "sign-in", "--auth-url", site).want(t, done, "Connected", "")
	if page := <-again; !strings.Contains(page, "has taken over already") {
		t.Error(page)
	}
}

func TestSignInByHand(t *testing.T) {
	for _, typed := range []string{".sec-ret\n", "\n \n  .sec-ret  \n.more\n", ".sec-ret\r\n"} {
		f := serve(t, ipc.SignedOut)
		r := run{input: typed}.run(t, f.socket, "sign-in", "--no-browser", "--account", "acme")
		r.want(t, done, "Open this address in a browser and sign in:\n\n  https://portal.example.net/acme?as=headless-client\n\nConnected (acme).\n", "Signed in. Connecting")
		wantToken(t, f, "\\.sec-ret", "acme", "")
		if strings.Contains(r.out+r.err, "sec-ret") {
			t.Error("the token is shown")
		}
	}
	for typed, want := range map[string]string{"https://portal.example.net/acme\n": "this is an address", "wörd\n": "not a token", strings.Repeat("x", 10<<10) + "\n": "not a token"} {
		f := serve(t, ipc.SignedOut)
		run{input: typed}.run(t, f.socket, "sign-in", "--no-browser").want(t, failed, "", want)
		if len(f.told()) > 0 {
			t.Errorf("%.40q: %v", typed, f.told())
		}
	}
}

func TestSignInWithAnEmptyInput(t *testing.T) {
	f := serve(t, ipc.SignedOut)
	in, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out := newBuffer()
	p := &program{in: in, out: out, err: out, now: time.Now, open: desktop.Open}
	t.Setenv("STILE_SOCKET", f.socket)
	if code := p.main(t.Context(), []string{"sign-in", "--no-browser"}); code != failed || !strings.Contains(out.String(), "there was no token") {
		t.Errorf("%d: %s", code, out.String())
	}
}

func TestSignInWithoutADesktop(t *testing.T) {
	f := serve(t, ipc.SignedOut)
	run{input: ".secret\n"}.run(t, f.socket, "sign-in").want(t, done, "https://portal.example.net/?as=headless-client", "There is no desktop")
	wantToken(t, f, "\\.secret", "", "")
}

func TestWhereToSignIn(t *testing.T) {
	for _, row := range []struct{ portal, auth, flag, want, wrong string }{
		{"wss://api.example.net:8443/stile", "", "", "https://api.example.net:8443/stile/?as=headless-client", ""},
		{"wss://api.example.net", "https://app.example.net", "", "https://app.example.net/?as=headless-client", ""},
		{"wss://api.example.net", "https://app.example.net", "https://own.example.net/", "https://own.example.net/?as=headless-client", ""},
		{"", "", "https://own.example.net", "https://own.example.net/?as=headless-client", ""},
		{"", "", "", "", "settings set api_url"},
		{"ws://api.example.net", "", "", "", "not protected by TLS"},
		{"wss://api.example.net", "", "app.example.net", "", "should look like https://"},
	} {
		f := serve(t, ipc.SignedOut)
		f.set(func(s *ipc.State) { s.Session.Portal, s.Session.AuthURL = row.portal, row.auth })
		args := []string{"sign-in", "--no-browser"}
		if row.flag != "" {
			args = append(args, "--auth-url", row.flag)
		}
		code := done
		if row.wrong != "" {
			code = failed
		}
		run{input: ".secret\n"}.run(t, f.socket, args...).want(t, code, row.want, row.wrong)
	}
}

func TestWhenTheServiceWillNotHaveIt(t *testing.T) {
	for _, row := range []struct {
		what  string
		react func(f *fake, c ipc.Command) error
		want  string
	}{
		{"refused", func(*fake, ipc.Command) error {
			return ipc.Problemf(ipc.Internal, "The token could not be stored: the disk is full.")
		}, "stile: The token could not be stored: the disk is full.\n"},
		{"rejected by the portal", func(f *fake, _ ipc.Command) error {
			f.state.Session.Phase = ipc.Connecting
			go f.set(func(s *ipc.State) {
				s.Session.Phase, s.Session.Token, s.Session.Problem = ipc.SignedOut, "", ipc.Problemf(ipc.TokenRejected, "The portal does not know this token. Sign in again.")
			})
			return nil
		}, "stile: The portal does not know this token. Sign in again.\n"},
		{"signed out meanwhile", func(f *fake, _ ipc.Command) error { return nil }, "You are signed out."},
		{"crashed", func(*fake, ipc.Command) error { panic("crash") }, "Its log may tell more."},
	} {
		f := serve(t, ipc.SignedOut)
		f.react = row.react
		run{input: ".secret\n"}.run(t, f.socket, "sign-in", "--no-browser").want(t, failed, "", row.want)
	}
}

func TestSignInWithAManagedToken(t *testing.T) {
	f := serve(t, ipc.Connected)
	f.set(func(s *ipc.State) { s.Session.Token = ipc.TokenFromFile })
	for _, args := range [][]string{{"sign-in"}, {"sign-in", "--no-browser"}} {
		run{input: ".secret\n"}.run(t, f.socket, args...).want(t, failed, "", "administrator has set the token (file)")
	}
	if len(f.told()) > 0 {
		t.Error(f.told())
	}
}

func TestCtrlCWhileSigningIn(t *testing.T) {
	f := serve(t, ipc.SignedOut)
	for _, row := range []struct {
		browser func(string) error
		args    []string
	}{
		{func(string) error { return nil }, []string{"sign-in"}},
		{nil, []string{"sign-in", "--no-browser"}},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		began := time.Now()
		run{browser: row.browser}.runUntil(ctx, t, f.socket, row.args...).want(t, failed, "http", "stile: cancelled.\n")
		cancel()
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
	}
	if len(f.told()) > 0 {
		t.Error(f.told())
	}
}

func TestWaitingForTheConnectionHasAnEnd(t *testing.T) {
	f := serve(t, ipc.SignedOut)
	f.set(func(s *ipc.State) {
		s.Session.Phase, s.Session.Problem = ipc.Connecting, ipc.Problemf(ipc.PortalUnreachable, "The portal cannot be reached.")
	})
	out := newBuffer()
	p := &program{socket: f.socket, out: out, err: out, now: time.Now}
	l, _, err := p.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f.set(func(s *ipc.State) { s.Session.Actor = "Alice" })
	s, err := p.await(t.Context(), l, time.Second, func(*ipc.State) bool { return false })
	if err != errNotYet || s.Session.Actor != "Alice" {
		t.Errorf("%+v, %v", s, err)
	}
	if got := notConnected(s).Error(); !strings.Contains(got, "The portal cannot be reached. The service keeps trying") {
		t.Error(got)
	}
	if n := strings.Count(out.String(), "The portal cannot be reached."); n != 1 {
		t.Errorf("said %d times", n)
	}
}

// stock is a portal that knows of no redirect_uri: what its last page leads to,
// and our code for the same.
func stock(address string) (link, code string) {
	u, _ := url.Parse(address)
	query := url.Values{"account_slug": {"acme"}, "actor_name": {"Alice Doe"}, "fragment": {".secret"}, "state": u.Query()["state"]}.Encode()
	return "firezone-fd0020211111://handle_client_sign_in_callback?" + query, base64.RawURLEncoding.EncodeToString([]byte(query))
}

// open is the desktop, which calls us until somebody listens.
func open(t *testing.T, f *fake, dir, link string) (r result) {
	for range 50 {
		if r = (run{dir: dir}).run(t, f.socket, "open-deep-link", link); r.code == done {
			return r
		}
	}
	t.Errorf("nobody listens: %+v", r)
	return r
}

func TestSignInByTheScheme(t *testing.T) {
	f, dir := serve(t, ipc.SignedOut), t.TempDir()
	handed := make(chan result, 1)
	run{dir: dir, browser: func(address string) error {
		link, _ := stock(address)
		go func() { handed <- open(t, f, dir, link) }()
		return nil
	}}.run(t, f.socket, "sign-in").want(t, done, "Connected as Alice Doe (acme).", "Signed in.")
	wantToken(t, f, "[0-9a-f]{64}\\.secret", "acme", "Alice Doe")
	if r := <-handed; r.out+r.err != "" {
		t.Errorf("%+v", r)
	}
	run{dir: dir}.run(t, f.socket, "open-deep-link", "stile://x").want(t, failed, "", "No program waits for this answer")
	run{dir: dir}.run(t, f.socket, "open-deep-link", "no address").want(t, failed, "", "not an address")
}

func TestDeepLinksReachTheTray(t *testing.T) {
	f, dir := serve(t, ipc.SignedOut), t.TempDir()
	tray, err := instance.Acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan instance.Message, 10)
	ctx, cancel := context.WithCancel(t.Context())
	var g sync.WaitGroup
	g.Go(func() { tray.Serve(ctx, func(m instance.Message) { heard <- m }) })
	defer g.Wait()
	defer cancel()
	run{dir: dir}.run(t, f.socket, "open-deep-link", "stile://x?y=z").want(t, done, "", "")
	if m := <-heard; m != (instance.Deeplink{URL: "stile://x?y=z"}) || len(heard) > 0 {
		t.Errorf("%#v", m)
	}
}

func TestSignInByACode(t *testing.T) {
	f := serve(t, ipc.SignedOut)
	link, code := make(chan string, 1), make(chan string, 1)
	for _, what := range []chan string{link, code} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			defer w.Close()
			io.WriteString(w, "\nwhat?\nstile://elsewhere\n")
			io.WriteString(w, <-what+"\n")
		}()
		got := run{in: r, browser: func(address string) error {
			l, c := stock(address)
			link <- l
			code <- c
			return nil
		}}.run(t, f.socket, "sign-in")
		got.want(t, done, "Connected as Alice Doe (acme).", "This is not the code that the page shows.")
		if n := strings.Count(got.err, "This is not the code"); n != 2 {
			t.Errorf("said %d times: %s", n, got.err)
		}
		wantToken(t, f, "[0-9a-f]{64}\\.secret", "acme", "Alice Doe")
		r.Close()
		for _, other := range []chan string{link, code} {
			select {
			case <-other:
			default:
			}
		}
	}
}

func TestASecondSignInReplacesTheFirst(t *testing.T) {
	f, dir := serve(t, ipc.SignedOut), t.TempDir()
	first := make(chan result, 1)
	began := make(chan string, 2)
	browser := func(address string) error { began <- address; return nil }
	go func() { first <- run{dir: dir, browser: browser}.run(t, f.socket, "sign-in") }()
	old, _ := stock(<-began)
	open(t, f, dir, "stile://x") // until it listens
	second := make(chan result, 1)
	go func() { second <- run{dir: dir, browser: browser}.run(t, f.socket, "sign-in") }()
	link, _ := stock(<-began)
	(<-first).want(t, failed, "", "this one gave way")
	for _, l := range []string{old, link} { // the old one is not taken
		open(t, f, dir, l)
	}
	(<-second).want(t, done, "Connected as Alice Doe", "")
	if len(f.told()) != 1 {
		t.Errorf("%d commands", len(f.told()))
	}
}
