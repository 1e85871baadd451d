package serve

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"stile/tunnel/portal/config"
	"stile/tunnel/portal/store"
)

// A browser keeps cookies and follows no redirect by itself.
type browser struct {
	*http.Client
	t    *testing.T
	base string
}

func (r *running) browser() *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return &browser{&http.Client{
		Jar: jar, Timeout: 30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, r.t, r.urls[0]}
}

func (b *browser) get(path string) (*http.Response, string) {
	b.t.Helper()
	res, err := b.Get(b.base + path)
	if err != nil {
		b.t.Fatal(err)
	}
	return res, b.body(res)
}

func (b *browser) post(path string, form url.Values) (*http.Response, string) {
	b.t.Helper()
	res, err := b.PostForm(b.base+path, form)
	if err != nil {
		b.t.Fatal(err)
	}
	return res, b.body(res)
}

func (b *browser) body(res *http.Response) string {
	b.t.Helper()
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(body)
}

var (
	hiddenInput = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
	refresh     = regexp.MustCompile(`<meta http-equiv="refresh" content="2;url=([^"]*)">`)
	codeArea    = regexp.MustCompile(`<textarea id="code"[^>]*>([^<]*)</textarea>`)
	textarea    = regexp.MustCompile(`<textarea id="token"[^>]*>([^<]*)</textarea>`)
)

// fill returns the form on a page with a user's answers.
func fill(page, email, password string) url.Values {
	form := url.Values{"email": {email}, "password": {password}}
	for _, input := range hiddenInput.FindAllStringSubmatch(page, -1) {
		form.Set(input[1], strings.ReplaceAll(input[2], "&#43;", "+"))
	}
	return form
}

const nonce, state = "6e6f6e6365", "7374617465"

var guiParams = url.Values{"as": {"gui-client"}, "nonce": {nonce}, "state": {state}}

func with(v url.Values, more ...string) url.Values {
	all := url.Values{}
	for name, values := range v {
		all[name] = values
	}
	for i := 0; i < len(more); i += 2 {
		all.Set(more[i], more[i+1])
	}
	return all
}

// Spec portal.md 6.1: from the link to the application's URL, and the token
// connects.
func TestBrowserSignIn(t *testing.T) {
	for name, c := range map[string]struct {
		path, to string
		params   url.Values
	}{
		"with slug":   {"/acme", scheme, guiParams},
		"no slug":     {"/", scheme, guiParams},
		"old release": {"/", scheme, with(guiParams, "as", "client")},
		"loopback":    {"/acme", "http://127.0.0.1:4711/done", with(guiParams, "redirect_uri", "http://127.0.0.1:4711/done")},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			b := r.browser()
			res, page := b.get(c.path + "?" + c.params.Encode())
			if res.StatusCode != 200 || !strings.Contains(page, "Acme &amp; Sons") {
				t.Fatalf("form: %d\n%s", res.StatusCode, page)
			}
			res, page = b.post("/acme/sign-in", fill(page, "ALICE@example.com", password))
			if res.StatusCode != 303 || res.Header.Get("Location") != "/acme/signed-in" {
				t.Fatalf("signed in: %d to %q\n%s", res.StatusCode, res.Header.Get("Location"), page)
			}
			_, page = b.get("/acme/signed-in")
			to := refresh.FindStringSubmatch(page)
			if to == nil || !strings.Contains(page, "Alice Doe") {
				t.Fatalf("last page\n%s", page)
			}
			if res, page := b.get("/acme/signed-in"); res.StatusCode != 200 || !refresh.MatchString(page) {
				t.Errorf("read again before it led on\n%s", page)
			}
			res, _ = b.get(to[1])
			location := res.Header.Get("Location")
			callback, query, _ := strings.Cut(location, "?")
			answer, err := url.ParseQuery(query)
			if res.StatusCode != 302 || callback != c.to || err != nil {
				t.Fatalf("%d to %s, want 302 to %s", res.StatusCode, location, c.to)
			}
			for name, want := range map[string]string{
				"account_name": "Acme & Sons", "account_slug": "acme", "actor_name": "Alice Doe", "state": state, "identity_provider_identifier": Provider,
			} {
				if len(answer[name]) != 1 || answer.Get(name) != want {
					t.Errorf("%s is %q, want %q", name, answer[name], want)
				}
			}
			fragment := answer.Get("fragment")
			if !regexp.MustCompile(`^\.[A-Za-z0-9_-]+$`).MatchString(fragment) {
				t.Errorf("fragment is %q", fragment)
			}
			if strings.Contains(location, nonce) {
				t.Error("the redirect gives the nonce away")
			}
			// Who comes back is led nowhere, and shown every way there is.
			_, page = b.get("/acme/signed-in")
			code := codeArea.FindStringSubmatch(page)
			if refresh.MatchString(page) || code == nil || !strings.Contains(page, `href="/acme/open"`) || strings.Contains(page, nonce) {
				t.Fatalf("second look at the last page\n%s", page)
			}
			if text, err := base64.RawURLEncoding.DecodeString(code[1]); err != nil || string(text) != query {
				t.Errorf("the code says %q %v, the link %q", text, err, query)
			}
			byScheme := scheme
			if c.to != scheme {
				byScheme = ourScheme
			}
			res, _ = b.get("/acme/open-app")
			if res.StatusCode != 302 || res.Header.Get("Location") != byScheme+"?"+query {
				t.Errorf("by the scheme: %d to %s", res.StatusCode, res.Header.Get("Location"))
			}
			if offered := strings.Contains(page, `href="/acme/open-app"`); offered != (c.to != scheme) {
				t.Errorf("the scheme is offered: %v", offered)
			}
			// Another sign-in in the same browser leads on again.
			_, page = b.get(c.path + "?" + c.params.Encode())
			b.post("/acme/sign-in", fill(page, "alice@example.com", password))
			if _, page = b.get("/acme/signed-in"); !refresh.MatchString(page) {
				t.Errorf("the second sign-in leads nowhere\n%s", page)
			}
			token, err := r.store.Authenticate(nonce + fragment)
			if err != nil || token.Actor != r.alice.ID || token.Provider != Provider || token.ExpiresAt == 0 {
				t.Fatalf("token is %+v %v", token, err)
			}
			r.dial(asClient(nonce + fragment)).join()
			if _, err := r.store.Authenticate(fragment); err == nil {
				t.Error("the fragment alone is a token")
			}
			if _, err := r.store.Authenticate("another" + fragment); err == nil {
				t.Error("the fragment is a token with another nonce")
			}
		})
	}
}

// Spec portal.md 6.2: the page shows the whole token.
func TestHeadlessSignIn(t *testing.T) {
	r := start(t)
	b := r.browser()
	_, page := b.get("/?as=headless-client")
	b.post("/acme/sign-in", fill(page, "alice@example.com", password))
	_, page = b.get("/acme/signed-in")
	token := textarea.FindStringSubmatch(page)
	if token == nil {
		t.Fatalf("no token on the page\n%s", page)
	}
	r.dial(asClient(token[1])).join()
	for _, path := range []string{"/acme/open", "/acme/open-app"} {
		if res, _ := b.get(path); res.Header.Get("Location") != "/acme/signed-in" {
			t.Errorf("a token page leads to %q", res.Header.Get("Location"))
		}
	}
	if res, _ := r.browser().get("/acme/signed-in"); res.StatusCode != 410 {
		t.Errorf("another browser sees the last page: %d", res.StatusCode)
	}
	_, page = r.browser().get("/")
	if !strings.Contains(page, "Start from the program") {
		t.Errorf("page without a purpose\n%s", page)
	}
}

func TestWrongPassword(t *testing.T) {
	r := start(t)
	b := r.browser()
	_, page := b.get("/acme?" + guiParams.Encode())
	form := fill(page, "alice@example.com", "wrong")
	res, page := b.post("/acme/sign-in", form)
	if res.StatusCode != 401 || !strings.Contains(page, "is wrong") || !strings.Contains(page, `value="alice@example.com"`) {
		t.Fatalf("%d\n%s", res.StatusCode, page)
	}
	res, other := b.post("/acme/sign-in", fill(page, "nobody@example.com", "wrong"))
	if res.StatusCode != 401 || strings.ReplaceAll(other, "nobody", "alice") != page {
		t.Errorf("an unknown address is told apart: %d\n%s", res.StatusCode, other)
	}
	res, _ = b.post("/acme/sign-in", fill(page, "alice@example.com", password)) // the form on that page works
	if res.StatusCode != 303 {
		t.Errorf("the right password after a wrong one: %d", res.StatusCode)
	}
}

// Twenty wrong passwords a second slow down who sends them, and nobody else.
func TestGuessingHurtsNobodyElse(t *testing.T) {
	r := start(t, config.Listener{Address: "127.0.0.1:0", BehindProxy: true, TrustedProxies: loopbacks})
	attacker := r.browser()
	_, page := attacker.get("/acme?" + guiParams.Encode())
	form := fill(page, "alice@example.com", "wrong")
	var guessing sync.WaitGroup
	var mu sync.Mutex // guards statuses
	statuses := map[int]int{}
	for range 20 {
		guessing.Go(func() {
			res, err := attacker.PostForm(attacker.base+"/acme/sign-in", form)
			if err != nil {
				t.Error(err)
				return
			}
			res.Body.Close()
			mu.Lock()
			statuses[res.StatusCode]++
			mu.Unlock()
		})
	}
	// Alice, elsewhere, signs in meanwhile.
	alice := r.browser()
	alice.base = r.urls[1]
	alice.Transport = from("203.0.113.9")
	_, page = alice.get("/acme?" + guiParams.Encode())
	begun := time.Now()
	if res, page := alice.post("/acme/sign-in", fill(page, "alice@example.com", password)); res.StatusCode != 303 {
		t.Errorf("the victim gets %d\n%s", res.StatusCode, page)
	}
	t.Logf("the victim waited %v", time.Since(begun))
	guessing.Wait()
	if statuses[401] != wrongBurst || statuses[429] != 20-wrongBurst {
		t.Errorf("answers were %v, want %d wrong and the rest too many", statuses, wrongBurst)
	}
	res, err := attacker.PostForm(attacker.base+"/acme/sign-in", fill(page, "alice@example.com", password))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode == 303 || res.StatusCode == 429 && res.Header.Get("Retry-After") == "" {
		t.Errorf("the attacker's next try: %d, Retry-After %q", res.StatusCode, res.Header.Get("Retry-After"))
	}
}

// from is a transport behind a proxy.
type from string

func (f from) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Header.Set("X-Forwarded-For", string(f))
	return http.DefaultTransport.RoundTrip(r)
}

func TestForgedForms(t *testing.T) {
	r := start(t)
	b := r.browser()
	_, page := b.get("/acme?" + guiParams.Encode())
	good := fill(page, "alice@example.com", password)
	for name, change := range map[string]func(url.Values){
		"no tag":          func(f url.Values) { f.Del("tag") },
		"wrong tag":       func(f url.Values) { f.Set("tag", "AAAA") },
		"another state":   func(f url.Values) { f.Set("state", "forged") },
		"another nonce":   func(f url.Values) { f.Set("nonce", "forged") },
		"another purpose": func(f url.Values) { f.Set("as", "client") },
		"a way out":       func(f url.Values) { f.Set("redirect_uri", "http://127.0.0.1:1/") },
	} {
		form := with(good)
		change(form)
		if res, _ := b.post("/acme/sign-in", form); res.StatusCode != 403 {
			t.Errorf("%s: %d, want 403", name, res.StatusCode)
		}
	}
	if res, _ := r.browser().post("/acme/sign-in", good); res.StatusCode != 403 {
		t.Errorf("form of another browser: %d, want 403", res.StatusCode)
	}
	if tokens, _ := r.store.Tokens(); len(tokens) != 0 {
		t.Errorf("forged forms made %d tokens", len(tokens))
	}
}

func TestBadLinksAndRequests(t *testing.T) {
	r := start(t)
	b := r.browser()
	for _, c := range []struct {
		path   string
		status int
	}{
		{"/?as=admin", 400},
		{"/?as=", 400},
		{"/?as=gui-client", 400},
		{"/?" + with(guiParams, "nonce", "with.dot").Encode(), 400},
		{"/?" + with(guiParams, "nonce", "with space").Encode(), 400},
		{"/?" + with(guiParams, "nonce", strings.Repeat("a", 129)).Encode(), 400},
		{"/?" + with(guiParams, "nonce", strings.Repeat("a", 128)).Encode(), 200},
		{"/?" + with(guiParams, "state", "").Encode(), 400},
		{"/?" + with(guiParams, "state", "line\r\nbreak").Encode(), 400},
		{"/?" + with(guiParams, "state", strings.Repeat("a", 257)).Encode(), 400},
		{"/?" + with(guiParams, "redirect_uri", "https://evil.example/").Encode(), 400},
		{"/?" + with(guiParams, "state", `"><script>alert(1)</script>`).Encode(), 200},
		{"/globex?" + guiParams.Encode(), 404},
		{"/acme/nothing", 404},
		{"/acme/sign-in", 405},
		{"/acme/signed-in", 410},
		{"/acme/open", 410},
		{"/acme/open-app", 410},
		{"/style.css", 200},
		{"/healthz", 200},
		{"/client/v3/websocket", 404},
	} {
		res, page := b.get(c.path)
		if res.StatusCode != c.status {
			t.Errorf("GET %s: %d, want %d", c.path, res.StatusCode, c.status)
		}
		if strings.Contains(page, "<script") {
			t.Errorf("GET %s gives a script\n%s", c.path, page)
		}
	}
	if res, _ := b.post("/acme", guiParams); res.StatusCode != 405 {
		t.Errorf("POST to the form's page: %d", res.StatusCode)
	}
	if res, _ := b.post("/acme/sign-in", url.Values{"email": {strings.Repeat("a", formBytes)}}); res.StatusCode != 413 {
		t.Errorf("oversized body: %d, want 413", res.StatusCode)
	}
	res, err := b.Post(b.base+"/acme/sign-in", "application/json", strings.NewReader(`{"as":"client"}`))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 400 {
		t.Errorf("JSON instead of a form: %d, want 400", res.StatusCode)
	}
}

func TestPageHeaders(t *testing.T) {
	r := start(t)
	res, page := r.browser().get("/?" + guiParams.Encode())
	for name, want := range map[string]string{
		"Content-Security-Policy": policy, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
		"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
	} {
		if got := res.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for _, c := range res.Cookies() {
		if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" {
			t.Errorf("cookie %v", c)
		}
	}
	for _, needle := range []string{`<html lang="en">`, `<label for="email">`, `<label for="password">`, `autocomplete="current-password"`} {
		if !strings.Contains(page, needle) {
			t.Errorf("the form has no %s", needle)
		}
	}
	if strings.Contains(page, "http://") || strings.Contains(page, "https://") || strings.Contains(page, " style=") {
		t.Errorf("the form loads or leads elsewhere\n%s", page)
	}
}

// Nobody types a password into a page that others can read on the way.
func TestNoPagesOnAnInsecureListener(t *testing.T) {
	r := start(t, config.Listener{Address: "127.0.0.1:0", Insecure: true})
	b := r.browser()
	b.base = r.urls[1]
	for _, path := range []string{"/", "/acme?" + guiParams.Encode(), "/acme/signed-in"} {
		if res, page := b.get(path); res.StatusCode != 403 || !strings.Contains(page, "http://portal.example.net") {
			t.Errorf("GET %s: %d\n%s", path, res.StatusCode, page)
		}
	}
	if res, _ := b.post("/acme/sign-in", guiParams); res.StatusCode != 403 {
		t.Errorf("POST: %d", res.StatusCode)
	}
	conn, _, err := asClient(r.token(store.ClientToken)).dial(r.urls[1])
	if err != nil {
		t.Fatalf("peers are not served: %v", err)
	}
	conn.CloseNow()
}

// Below a path of a shared host, whether the proxy takes the path off or not.
func TestExternalURLWithAPath(t *testing.T) {
	r := start(t)
	c := *r.config.Load()
	c.ExternalURL = "https://example.net/stile"
	r.config.Store(&c)
	b := r.browser()
	for _, prefix := range []string{"/stile", ""} {
		res, page := b.get(prefix + "/acme?" + guiParams.Encode())
		if res.StatusCode != 200 || !strings.Contains(page, `action="/stile/acme/sign-in"`) || !strings.Contains(page, `href="/stile/style.css"`) {
			t.Errorf("%d\n%s", res.StatusCode, page)
		}
		for _, c := range res.Cookies() {
			if !c.Secure || c.Path != "/stile/" {
				t.Errorf("cookie %v", c)
			}
		}
	}
	h := asClient(r.token(store.ClientToken))
	h.path = "/stile" + h.path
	conn, _, err := h.dial(r.urls[0])
	if err != nil {
		t.Fatal(err)
	}
	conn.CloseNow()
}

func TestLoopbackURLs(t *testing.T) {
	for s, want := range map[string]bool{
		"http://127.0.0.1:4711/":                          true,
		"http://127.0.0.1:4711/callback/x_1":              true,
		"http://[::1]:4711/callback":                      true,
		"http://127.0.0.1:65535/":                         true,
		"":                                                false,
		"http://127.0.0.1/":                               false,
		"http://127.0.0.1:4711":                           false,
		"http://127.0.0.1:0/":                             false,
		"http://127.0.0.1:04711/":                         false,
		"http://127.0.0.1:65536/":                         false,
		"http://127.0.0.1:+80/":                           false,
		"https://127.0.0.1:4711/":                         false,
		"http://localhost:4711/":                          false,
		"http://127.0.0.2:4711/":                          false,
		"http://127.0.0.1.evil.example:80/":               false,
		"http://127.0.0.1:80@evil.example/":               false,
		"http://evil@127.0.0.1:80/":                       false,
		"http://127.0.0.1:80/?a=b":                        false,
		"http://127.0.0.1:80/#a":                          false,
		"http://127.0.0.1:80/%2e%2e/":                     false,
		"http://127.0.0.1:80/../":                         false,
		`http://127.0.0.1:80\@evil.example/`:              false,
		"http://127.0.0.1:80/\r\nX: y":                    false,
		" http://127.0.0.1:80/":                           false,
		"HTTP://127.0.0.1:80/":                            false,
		"http://127.0.0.1:80/" + strings.Repeat("a", 300): false,
	} {
		if got := isLoopback(s); got != want {
			t.Errorf("isLoopback(%q) = %v", s, got)
		}
	}
}

// Whatever passes for an ask leads back to a program on this computer, says so
// to every reader of URLs, and survives the trip through a form.
func FuzzAsk(f *testing.F) {
	f.Add("gui-client", nonce, state, "http://127.0.0.1:4711/done")
	f.Add("client", nonce, "a b&c=d", "")
	f.Add("headless-client", "", "", "http://evil.example/")
	f.Add("gui-client", "n", "s", "http://[::1]:1/a.b/c_d-e")
	f.Fuzz(func(t *testing.T, as, nonce, state, redirect string) {
		a, wrong := parseAsk(url.Values{"as": {as}, "nonce": {nonce}, "state": {state}, "redirect_uri": {redirect}})
		if wrong != "" {
			return
		}
		form := url.Values{}
		for _, field := range a.fields() {
			form.Set(field.Name, field.Value)
		}
		again, wrong := parseAsk(form)
		if again != a || wrong != "" {
			t.Fatalf("%+v comes back as %+v %s", a, again, wrong)
		}
		if strings.Contains(a.Nonce, ".") || len(a.Nonce) > 128 {
			t.Fatalf("nonce %q", a.Nonce)
		}
		ans := a.answer(url.Values{"fragment": {".x"}})
		first, other := ans.links()
		if (other == "") != (a.Redirect == "") {
			t.Fatalf("%q, %q", first, other)
		}
		query, err := base64.RawURLEncoding.DecodeString(ans.code())
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range []string{first, other, ourScheme + "?" + string(query)} {
			if to == "" {
				continue
			}
			u, err := url.Parse(to)
			if err != nil {
				t.Fatal(err)
			}
			host := u.Hostname()
			loopback := u.Scheme == "http" && (host == "127.0.0.1" || host == "::1")
			if !loopback && (u.Scheme != "firezone-fd0020211111" && u.Scheme != "stile" || host != "handle_client_sign_in_callback") || loopback != (to == first && a.Redirect != "") {
				t.Fatalf("%q leads to %q", to, host)
			}
			if u.User != nil || u.Fragment != "" || u.Query().Get("state") != a.State || u.Query().Get("fragment") != ".x" {
				t.Fatalf("%q is read as %+v", to, u)
			}
		}
	})
}

func TestSealed(t *testing.T) {
	s, now := newSealer(), time.Now()
	text, err := s.seal(result{Token: "secret"}, now.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	var got result
	if err := s.open(text, &got, now); err != nil || got.Token != "secret" {
		t.Errorf("opened %+v %v", got, err)
	}
	if strings.Contains(text, "secret") {
		t.Error("sealed text can be read")
	}
	for name, err := range map[string]error{
		"too old":         s.open(text, &got, now.Add(time.Minute)),
		"another process": newSealer().open(text, &got, now),
		"changed":         s.open("A"+text[1:], &got, now),
		"empty":           s.open("", &got, now),
		"junk":            s.open("!", &got, now),
	} {
		if err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

func TestThrottle(t *testing.T) {
	now := time.Unix(0, 0)
	th := newThrottle(time.Second, 2, 100)
	for i, wait := range []time.Duration{0, 0, time.Second} {
		if got, _ := th.take("a", now); got != wait {
			t.Errorf("take %d waits %v, want %v", i, got, wait)
		}
	}
	if got, _ := th.take("b", now); got != 0 {
		t.Errorf("another key waits %v", got)
	}
	now = now.Add(time.Second)
	got, refund := th.take("a", now)
	if got != 0 {
		t.Errorf("after a second: waits %v", got)
	}
	refund()
	if got, _ := th.take("a", now); got != 0 {
		t.Errorf("after a refund: waits %v", got)
	}
	for i := range 10_000 {
		th.take(fmt.Sprint(i), now)
		now = now.Add(time.Millisecond)
	}
	if len(th.keys) > 100 {
		t.Errorf("holds %d keys", len(th.keys))
	}
}
