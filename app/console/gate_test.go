package console

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stile/app/menu"
)

// nowhere is a port that nobody listens at: for tests that hand requests to a
// Console by themselves.
type nowhere struct{}

func (nowhere) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (nowhere) Close() error              { return nil }
func (nowhere) Addr() net.Addr            { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40001} }

const origin = "http://127.0.0.1:40001"

// A visitor is a browser without a network.
type visitor struct {
	t      *testing.T
	c      *Console
	cookie string
	token  string
}

// visit comes in through a one-time address.
func visit(t *testing.T, c *Console) *visitor {
	t.Helper()
	v := &visitor{t: t, c: c}
	w := v.do("GET", strings.TrimPrefix(c.URL(menu.StatusPage), origin), "", nil)
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != c.base+"/status" {
		t.Fatalf("the one-time address: %d, to %q", w.Code, w.Header().Get("Location"))
	}
	v.cookie, _, _ = strings.Cut(w.Header().Get("Set-Cookie"), ";")
	_, v.token, _ = strings.Cut(v.get("status").Body.String(), `name="token" value="`)
	v.token, _, _ = strings.Cut(v.token, `"`)
	if v.cookie == "" || v.token == "" {
		t.Fatalf("cookie %q, token %q", v.cookie, v.token)
	}
	return v
}

func (v *visitor) do(method, path, body string, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "127.0.0.1:40001"
	if v.cookie != "" {
		r.Header.Set("Cookie", v.cookie)
	}
	if method == "POST" {
		r.Header.Set("Origin", origin)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	v.c.ServeHTTP(w, r)
	return w
}

func (v *visitor) get(page string) *httptest.ResponseRecorder {
	v.t.Helper()
	return v.do("GET", v.c.base+"/"+page, "", nil)
}

func (v *visitor) post(action string, fields ...string) *httptest.ResponseRecorder {
	v.t.Helper()
	return v.do("POST", v.c.base+"/do/"+action, v.form(fields...), nil)
}

func (v *visitor) form(fields ...string) string {
	f := url.Values{"token": {v.token}, "back": {"status"}}
	for i := 0; i+1 < len(fields); i += 2 {
		f.Set(fields[i], fields[i+1])
	}
	return f.Encode()
}

func console(t *testing.T, d *desk) *Console {
	t.Helper()
	return open(Config{Desk: d}, nowhere{})
}

// Each row is a request that would be answered but for one thing.
func TestStrangersAreRefused(t *testing.T) {
	header := func(name string, values ...string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Del(name)
			for _, v := range values {
				r.Header.Add(name, v)
			}
		}
	}
	host := func(h string) func(*http.Request) { return func(r *http.Request) { r.Host = h } }
	const get, post = "GET", "POST"
	for _, a := range []struct {
		name, method string
		change       func(*http.Request)
		want         int
	}{
		{"nothing wrong with the page", get, nil, http.StatusOK},
		{"nothing wrong with the form", post, nil, http.StatusSeeOther},

		{"a name that leads here", get, host("evil.example:40001"), http.StatusMisdirectedRequest},
		{"a name that leads here, form", post, host("evil.example:40001"), http.StatusMisdirectedRequest},
		{"localhost", get, host("localhost:40001"), http.StatusMisdirectedRequest},
		{"another port", get, host("127.0.0.1:40002"), http.StatusMisdirectedRequest},
		{"no port", get, host("127.0.0.1"), http.StatusMisdirectedRequest},
		{"no host", get, host(""), http.StatusMisdirectedRequest},
		{"another loopback address", get, host("127.0.0.2:40001"), http.StatusMisdirectedRequest},

		{"no cookie", get, header("Cookie"), http.StatusForbidden},
		{"no cookie, form", post, header("Cookie"), http.StatusForbidden},
		{"a guessed cookie", get, header("Cookie", "stile=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), http.StatusForbidden},
		{"an empty cookie", get, header("Cookie", "stile="), http.StatusForbidden},
		{"another program's cookie", get, header("Cookie", "other=1"), http.StatusForbidden},

		{"another site's link", get, header("Sec-Fetch-Site", "cross-site"), http.StatusForbidden},
		{"a page at another port", get, header("Sec-Fetch-Site", "same-site"), http.StatusForbidden},
		{"something browsers do not say", get, header("Sec-Fetch-Site", "moon"), http.StatusForbidden},
		{"typed by the user", get, header("Sec-Fetch-Site", "none"), http.StatusOK},
		{"another site's script", get, header("Origin", "https://evil.example"), http.StatusForbidden},
		{"a script from nowhere", get, header("Origin", "null"), http.StatusForbidden},

		{"another site's form", post, header("Origin", "https://evil.example"), http.StatusForbidden},
		{"a form of a page at another port", post, header("Origin", "http://127.0.0.1:8080"), http.StatusForbidden},
		{"a form from nowhere", post, header("Origin", "null"), http.StatusForbidden},
		{"a form without origin, from here", post, header("Origin"), http.StatusSeeOther},
		{"a form without origin, from elsewhere", post, func(r *http.Request) { r.Header.Del("Origin"); r.Header.Set("Sec-Fetch-Site", "same-site") }, http.StatusForbidden},
		{"a form of which nothing is said", post, func(r *http.Request) { r.Header.Del("Origin"); r.Header.Del("Sec-Fetch-Site") }, http.StatusForbidden},
		{"a form of an older browser", post, header("Sec-Fetch-Site"), http.StatusSeeOther},
		{"a form with two origins", post, header("Origin", origin, "https://evil.example"), http.StatusForbidden},
		{"our address over TLS", post, header("Origin", "https://127.0.0.1:40001"), http.StatusForbidden},
		{"a form that the user typed", post, header("Sec-Fetch-Site", "none"), http.StatusForbidden},
		{"another site's form, by its own word", post, header("Sec-Fetch-Site", "cross-site"), http.StatusForbidden},
		{"two words", get, header("Sec-Fetch-Site", "none", "cross-site"), http.StatusForbidden},

		{"a form that is none", post, header("Content-Type", "text/plain"), http.StatusBadRequest},
		{"JSON", post, header("Content-Type", "application/json"), http.StatusBadRequest},
		{"no kind", post, header("Content-Type"), http.StatusBadRequest},
		{"a kind in capitals, with a parameter", post, header("Content-Type", "Application/X-WWW-Form-Urlencoded; charset=utf-8"), http.StatusSeeOther},
	} {
		t.Run(a.name, func(t *testing.T) {
			d := newDesk(t)
			c := console(t, d)
			v := visit(t, c)
			path, body := c.base+"/status", ""
			if a.method == post {
				path, body = c.base+"/do/sign-out", v.form()
			}
			w := v.do(a.method, path, body, a.change)
			if w.Code != a.want {
				t.Errorf("%d, want %d", w.Code, a.want)
			}
			text := w.Body.String()
			if a.want != http.StatusOK && (strings.Contains(text, "Ada") || strings.Contains(text, v.token) || strings.Contains(w.Header().Get("Set-Cookie"), "stile=")) {
				t.Error("the refusal tells something:", text)
			}
			if a.want != http.StatusSeeOther && len(d.did) > 0 {
				t.Error("something was done:", d.did)
			}
			guarded(t, w)
		})
	}
}

// guarded wants what each answer has to have.
func guarded(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	for name, want := range map[string]string{
		"Content-Security-Policy": "default-src 'none';", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
		"Referrer-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
	} {
		if !strings.Contains(w.Header().Get(name), want) {
			t.Errorf("%s is %q", name, w.Header().Get(name))
		}
	}
	policy := w.Header().Get("Content-Security-Policy")
	for _, bad := range []string{"unsafe", "*", "https:", " http: "} {
		if strings.Contains(policy, bad) {
			t.Errorf("the policy has %q: %s", bad, policy)
		}
	}
	if w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Error("other sites may read this")
	}
}

func TestFormsNeedTheirToken(t *testing.T) {
	d := newDesk(t)
	c := console(t, d)
	v := visit(t, c)
	other := visit(t, c)
	for name, body := range map[string]string{
		"none":               "back=status",
		"empty":              "token=&back=status",
		"wrong":              "token=AAAA&back=status",
		"of another browser": url.Values{"token": {other.token}}.Encode(),
		"the cookie":         url.Values{"token": {strings.TrimPrefix(v.cookie, "stile=")}}.Encode(),
		"in another case":    url.Values{"token": {strings.ToUpper(v.token)}}.Encode(),
	} {
		if w := v.do("POST", c.base+"/do/sign-out", body, nil); w.Code != http.StatusForbidden {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	if w := v.do("POST", c.base+"/do/sign-out?"+v.form(), "", nil); w.Code != http.StatusForbidden {
		t.Errorf("in the address: %d", w.Code)
	}
	if len(d.did) > 0 {
		t.Error(d.did)
	}
}

func TestMethodsPathsAndSizes(t *testing.T) {
	d := newDesk(t)
	c := console(t, d)
	v := visit(t, c)
	for _, a := range []struct {
		method, path, body string
		want               int
	}{
		{"POST", c.base + "/status", "", http.StatusMethodNotAllowed},
		{"PUT", c.base + "/status", "", http.StatusMethodNotAllowed},
		{"DELETE", c.base + "/do/sign-out", "", http.StatusMethodNotAllowed},
		{"GET", c.base + "/do/sign-out?" + v.form(), "", http.StatusMethodNotAllowed},
		{"HEAD", c.base + "/do/sign-out", "", http.StatusMethodNotAllowed},
		{"OPTIONS", c.base + "/status", "", http.StatusMethodNotAllowed},
		{"TRACE", c.base + "/status", "", http.StatusMethodNotAllowed},
		{"CONNECT", c.base + "/status", "", http.StatusMethodNotAllowed},
		{"HEAD", c.base + "/status", "", http.StatusOK},
		{"GET", c.base + "/", "", http.StatusOK},
		{"GET", c.base, "", http.StatusNotFound},
		{"GET", "/", "", http.StatusNotFound},
		{"GET", "/status", "", http.StatusNotFound},
		{"GET", "/favicon.ico", "", http.StatusNotFound},
		{"GET", "/AAAAAAAAAAAAAAAAAAAAAA/status", "", http.StatusNotFound},
		{"GET", c.base + "x/status", "", http.StatusNotFound},
		{"GET", c.base + "/nothing", "", http.StatusNotFound},
		{"GET", c.base + "/live/nothing", "", http.StatusNotFound},
		{"GET", c.base + "/live/../status", "", http.StatusNotFound},
		{"GET", c.base + "/../../etc/passwd", "", http.StatusNotFound},
		{"GET", c.base + "/..%2f..%2fetc%2fpasswd", "", http.StatusNotFound},
		{"GET", c.base + "/%2e%2e/style.css", "", http.StatusNotFound},
		{"GET", c.base + "/console/status.html", "", http.StatusNotFound},
		{"GET", c.base + "/status.html", "", http.StatusNotFound},
		{"GET", c.base + "/licences.json", "", http.StatusNotFound},
		{"GET", c.base + "/style.css/..", "", http.StatusNotFound},
		{"GET", c.base + "/style.css%00.js", "", http.StatusNotFound},
		{"GET", c.base + "//status", "", http.StatusNotFound},
		{"GET", c.base + "/STATUS", "", http.StatusNotFound},
		{"GET", c.base + "/style.css", "", http.StatusOK},
		{"POST", c.base + "/do/", v.form(), http.StatusNotFound},
		{"POST", c.base + "/do/quit", v.form(), http.StatusNotFound},
		{"POST", c.base + "/do/../do/sign-out", v.form(), http.StatusNotFound},
		{"POST", c.base + "/do/paste", v.form("code", strings.Repeat("x", maxForm)), http.StatusRequestEntityTooLarge},
		{"POST", c.base + "/do/paste", strings.Repeat("%zz&", 100), http.StatusBadRequest},
		{"GET", c.base + "/status?" + strings.Repeat("q=x&", 10_000), "", http.StatusOK},
		{"GET", c.base + "/resources?q=" + strings.Repeat("x", 100_000), "", http.StatusOK},
	} {
		w := v.do(a.method, a.path, a.body, nil)
		if w.Code != a.want {
			t.Errorf("%s %.60s: %d, want %d", a.method, a.path, w.Code, a.want)
		}
		guarded(t, w)
	}
	if len(d.did) > 0 {
		t.Error(d.did)
	}
}

// The secret is good for one browser, once, for a minute.
func TestOneTimeAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := console(t, newDesk(t))
		stranger := func(address string, change func(*http.Request)) *httptest.ResponseRecorder {
			return (&visitor{t: t, c: c}).do("GET", strings.TrimPrefix(address, origin), "", change)
		}
		address := c.URL(menu.DiagnosticsPage)
		for name, change := range map[string]func(*http.Request){
			"foretold":                 func(r *http.Request) { r.Header.Set("Sec-Purpose", "prefetch;prerender") },
			"foretold by an older one": func(r *http.Request) { r.Header.Set("Purpose", "prefetch") },
			"head":                     func(r *http.Request) { r.Method = "HEAD" },
			"another name":             func(r *http.Request) { r.Host = "evil.example" },
		} {
			if w := stranger(address, change); w.Code < 400 || w.Header().Get("Set-Cookie") != "" {
				t.Errorf("%s: %d", name, w.Code)
			}
		}
		w := stranger(address, nil)
		if w.Code != http.StatusSeeOther || w.Header().Get("Location") != c.base+"/diagnostics" {
			t.Fatalf("%d, to %q", w.Code, w.Header().Get("Location"))
		}
		cookie := w.Header().Get("Set-Cookie")
		for _, part := range []string{"stile=", "Path=" + c.base + "/", "HttpOnly", "SameSite=Strict"} {
			if !strings.Contains(cookie, part) {
				t.Errorf("the cookie %q lacks %s", cookie, part)
			}
		}
		for _, part := range []string{"Domain", "Max-Age", "Expires"} {
			if strings.Contains(cookie, part) {
				t.Errorf("the cookie %q has %s", cookie, part)
			}
		}
		if w := stranger(address, nil); w.Code != http.StatusForbidden || w.Header().Get("Set-Cookie") != "" {
			t.Errorf("a second time: %d", w.Code)
		}
		withSession := func(r *http.Request) { r.Header.Set("Cookie", cookie[:strings.Index(cookie, ";")]) }
		if w := stranger(address, withSession); w.Code != http.StatusSeeOther {
			t.Errorf("a second time, by the browser that came in: %d", w.Code)
		}
		if w := stranger(c.URL(menu.StatusPage), withSession); !strings.HasPrefix(cookie, w.Header().Get("Set-Cookie")[:20]) {
			t.Error("a browser with a session gets another, which ends the pages it shows")
		}
		// A browser that says that something else sent it.
		sent := stranger(c.URL(menu.SettingsPage), func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") })
		if sent.Code != http.StatusOK || !strings.Contains(sent.Body.String(), `content="0;url=`+c.base+`/settings"`) || sent.Header().Get("Set-Cookie") == "" || strings.Contains(sent.Body.String(), "Ada") {
			t.Errorf("sent by something else: %d, %s", sent.Code, sent.Body)
		}
		if w := stranger(origin+c.base+"/open/AAAA", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }); w.Code != http.StatusForbidden {
			t.Errorf("sent with a secret that is none: %d", w.Code)
		}
		late := c.URL(menu.StatusPage)
		time.Sleep(inviteLife)
		if w := stranger(late, nil); w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "too old") {
			t.Errorf("a minute later: %d", w.Code)
		}
		first := c.URL(menu.StatusPage)
		for range maxInvites {
			c.URL(menu.StatusPage)
		}
		if w := stranger(first, nil); w.Code != http.StatusForbidden {
			t.Errorf("after many others: %d", w.Code)
		}
		if w := stranger(origin+c.base+"/open/", nil); w.Code != http.StatusForbidden {
			t.Errorf("without a secret: %d", w.Code)
		}
		if w := stranger(c.URL("nothing"), nil); w.Header().Get("Location") != c.base+"/status" {
			t.Errorf("to a page that is none: %q", w.Header().Get("Location"))
		}
	})
}

func TestFewBrowsersAtATime(t *testing.T) {
	c := console(t, newDesk(t))
	var all []*visitor
	for range maxGuests + 1 {
		all = append(all, visit(t, c))
		all[0].get("status") // who was here lately stays
	}
	var in []bool
	for _, v := range all {
		in = append(in, v.get("status").Code == http.StatusOK)
	}
	want := slices.Repeat([]bool{true}, maxGuests+1)
	want[1] = false
	if !slices.Equal(in, want) {
		t.Error(in)
	}
}

func TestOtherUsersConnectionsAreClosed(t *testing.T) {
	for name, mine := range map[string]struct {
		is  bool
		err error
	}{"ours": {true, nil}, "another's": {false, nil}, "unknown": {false, net.ErrClosed}} {
		c := start(t, newDesk(t), func(c *Console) {
			c.mine = func(net.Conn) (bool, error) { return mine.is, mine.err }
		})
		r, err := http.Get("http://" + c.host + c.base + "/style.css")
		if came := err == nil; came != (mine.is || mine.err != nil) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			r.Body.Close()
		}
	}
}

// Whoever says nothing is not waited for.
func TestSlowClientsAreLeft(t *testing.T) {
	t.Parallel()
	c := start(t, newDesk(t))
	var all sync.WaitGroup
	defer all.Wait()
	for _, text := range []string{
		"", "GET " + c.base + "/status HTTP/1.1\r\nHost: " + c.host + "\r\nX-", // a header without end
		"POST " + c.base + "/do/sign-out HTTP/1.1\r\nHost: " + c.host + "\r\nOrigin: http://" + c.host + "\r\nContent-Length: 100\r\n\r\ntoken=",
	} {
		conn, err := net.Dial("tcp", c.host)
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			defer conn.Close()
			io.WriteString(conn, text)
			conn.SetDeadline(time.Now().Add(3 * patience))
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Errorf("%q: %v", text, err)
			}
		})
	}
}
