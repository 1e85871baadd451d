package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"stile/app/callback"
	"stile/app/instance"
	"stile/app/signin"
	"stile/app/words"
	"stile/build/chrome"
	"stile/build/need"
	"stile/platform/desktop"
	"stile/tunnel/ipc"
	pages "stile/tunnel/portal/serve"
	"stile/tunnel/portal/store"
)

// The round trip as users make it: our portal, a real browser, and whatever of
// the desktop leads back.

const (
	email    = "alice@example.com"
	password = "correct horse battery staple"
)

// runPortal runs a portal with one user and returns its address.
func runPortal(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(filepath.Join(dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.AddUser(email, "Alice Doe", password); err != nil {
		t.Fatal(err)
	}
	st.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	base := "http://" + l.Addr().String()
	l.Close() // for the portal to have
	file := filepath.Join(dir, "portal.yaml")
	err = os.WriteFile(file, fmt.Appendf(nil, `account: {slug: acme, name: ACME Inc.}
external_url: %s
listeners: [{address: %q, plain: true}]
socket: %s/s
data_dir: %s/data
sites: [Office]
resources: [{name: Wiki, address: wiki.corp.example}]
policies: [{group: Everyone, resource: Wiki}]
`, base, strings.TrimPrefix(base, "http://"), dir, dir), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var g sync.WaitGroup
	t.Cleanup(g.Wait)
	t.Cleanup(cancel)
	ready := make(chan bool)
	g.Go(func() {
		err := pages.Run(ctx, pages.Options{Config: file, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Ready: func([]net.Addr) { close(ready) }})
		if err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case <-time.After(20 * time.Second):
		t.Fatal("the portal does not start")
	}
	return base
}

// wantConnect checks that the service got one token, and that the portal takes
// it for Alice's.
func wantConnect(t *testing.T, f *fake, base string) {
	t.Helper()
	told := f.told()
	if len(told) != 1 {
		t.Fatalf("the service was told %d things", len(told))
	}
	in, is := told[0].(ipc.SignIn)
	if !is {
		t.Fatalf("the service was told %T", told[0])
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	header := http.Header{"X-Authorization": {"Bearer " + in.Token.Reveal()}, "User-Agent": {"Debian/12.0.0 headless-client/1.5.11 (x86_64)"}}
	conn, _, err := websocket.Dial(ctx, base+"/client/v2/websocket?external_id=x&name=x&public_key="+url.QueryEscape("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE="), &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		t.Fatalf("the portal does not take the token: %v", err)
	}
	conn.CloseNow()
}

// fillIn signs Alice in on the page at address and waits for the last one of
// the portal.
func fillIn(p *chrome.Page, address string) {
	p.Go(address)
	for _, field := range [][2]string{{"#email", email}, {"#password", password}} {
		p.Click(field[0])
		p.Call("Input.insertText", map[string]any{"text": field[1]}, nil)
	}
	p.Press("Enter")
	p.Wait(`!document.querySelector("#email") && document.body.innerText.includes("Alice Doe")`)
}

// fit checks that a page can be read, in light and in dark, and on a phone.
func fit(t *testing.T, p *chrome.Page) {
	t.Helper()
	for _, theme := range []string{"dark", "light"} {
		p.Prefer("prefers-color-scheme", theme)
		for _, width := range []int{320, 1280} {
			p.Size(width, 800)
			for _, w := range p.Poor() {
				t.Errorf("%s, %d: %s", theme, width, w)
			}
			var wide bool
			if p.Eval(`document.documentElement.scrollWidth > innerWidth`, &wide); wide {
				t.Errorf("%s: wider than %d", theme, width)
			}
		}
	}
	var nameless []string
	p.Eval(`[...document.querySelectorAll("input:not([type=hidden]), textarea, button, a")].filter(e => !(e.labels && e.labels.length) && !e.innerText.trim()).map(e => e.outerHTML.slice(0, 120))`, &nameless)
	for _, w := range nameless {
		t.Errorf("a control without a name: %s", w)
	}
}

// back goes back by one page, as the button does.
func back(p *chrome.Page) {
	var h struct {
		CurrentIndex int
		Entries      []struct {
			ID  int
			URL string
		}
	}
	p.Call("Page.getNavigationHistory", nil, &h)
	p.Call("Page.navigateToHistoryEntry", map[string]any{"entryId": h.Entries[h.CurrentIndex-1].ID}, nil)
}

// visited lists the addresses in a page's history.
func visited(p *chrome.Page) (list []string) {
	var h struct{ Entries []struct{ URL string } }
	p.Call("Page.getNavigationHistory", nil, &h)
	for _, e := range h.Entries {
		list = append(list, e.URL)
	}
	return list
}

// value is the text in a field.
func value(p *chrome.Page, selector string) (text string) {
	p.Eval("document.querySelector('"+selector+"').value", &text)
	return text
}

// asStock makes an address one of a program that does not listen: a portal that
// does not know redirect_uri sees no more of it.
func asStock(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		panic(err)
	}
	q := u.Query()
	q.Del("redirect_uri")
	u.RawQuery = q.Encode()
	return u.String()
}

// signingIn runs "stile sign-in" at base and returns the address that it opened,
// and what becomes of it.
func signingIn(t *testing.T, f *fake, base string, r run) (string, <-chan result) {
	t.Helper()
	addresses, results := make(chan string, 1), make(chan result, 1)
	r.browser = func(address string) error { addresses <- address; return nil }
	go func() { results <- r.runUntil(t.Context(), t, f.socket, "sign-in", "--auth-url", base) }()
	select {
	case address := <-addresses:
		return address, results
	case r := <-results:
		t.Fatalf("%+v", r)
	}
	return "", nil
}

// due returns a result that is due.
func due(t *testing.T, results <-chan result) result {
	t.Helper()
	select {
	case r := <-results:
		return r
	case <-time.After(20 * time.Second):
		t.Fatal("stile sign-in still waits")
	}
	return result{}
}

func TestInABrowser(t *testing.T) {
	b, base := chrome.Start(t), runPortal(t)
	for name, f := range map[string]func(*testing.T, *chrome.Browser, string){
		"by loopback": byLoopback, "again": again, "late or for somebody else": lateOrForSomebodyElse, "by code": byCode, "no browser here": noBrowserHere,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			f(t, b, base)
		})
	}
}

func byLoopback(t *testing.T, b *chrome.Browser, base string) {
	f := serve(t, ipc.SignedOut)
	address, results := signingIn(t, f, base, run{})
	p := b.Page()
	p.Go(address)
	fit(t, p)
	fillIn(p, address)
	p.Wait(`location.pathname === "/done" && document.body.innerText.includes("You can close this page")`)
	fit(t, p)
	due(t, results).want(t, done, "Connected as Alice Doe (acme).", "")
	wantConnect(t, f, base)
	for _, at := range visited(p) {
		if strings.Contains(at, "fragment") {
			t.Errorf("half a token stays in the history: %s", at)
		}
	}
	if wrong := p.Wrong(); len(wrong) > 0 {
		t.Errorf("the browser complains: %q", wrong)
	}
}

// Two browsers, one after the other, then the first once more: one is taken, the
// others are told.
func again(t *testing.T, b *chrome.Browser, base string) {
	in, err := callback.Begin(signin.Options{Base: base}, &words.English)
	if err != nil {
		t.Fatal(err)
	}
	taken := make(chan signin.Result, 10)
	ctx, cancel := context.WithCancel(t.Context())
	var g sync.WaitGroup
	g.Go(func() { in.Run(ctx, func(r signin.Result) { taken <- r }) })
	defer g.Wait()
	defer cancel()
	one, two := b.Page(), b.Page()
	fillIn(one, in.Start())
	one.Wait(`location.pathname === "/done"`)
	fillIn(two, in.URL())
	two.Wait(`location.pathname === "/again" && document.body.innerText.includes("has taken over already")`)
	back(one)
	one.Wait(`location.pathname === "/acme/signed-in" && document.querySelector("details").open`)
	one.Click("a[href='/acme/open']")
	one.Wait(`location.pathname === "/again"`)
	if len(taken) != 1 {
		t.Errorf("taken %d times", len(taken))
	}
}

func lateOrForSomebodyElse(t *testing.T, b *chrome.Browser, base string) {
	ctx, cancel := context.WithCancel(t.Context())
	var g sync.WaitGroup
	defer g.Wait()
	defer cancel()
	var ins []*callback.SignIn
	for range 2 {
		in, err := callback.Begin(signin.Options{Base: base}, &words.English)
		if err != nil {
			t.Fatal(err)
		}
		ins = append(ins, in)
		g.Go(func() { in.Run(ctx, func(signin.Result) { t.Error("taken") }) })
	}
	ins[0].Cancel() // a second sign-in replaces the first
	p := b.Page()
	fillIn(p, ins[0].URL())
	p.Wait(`location.pathname === "/late" && document.body.innerText.includes("does not wait for this sign-in any more")`)

	forged := strings.Replace(ins[1].URL(), "&state=", "&state=0", 1)
	fillIn(p, forged)
	p.Wait(`location.pathname === "/signed-in" && document.body.innerText.includes("does not belong to the sign-in")`)
	fit(t, p)
}

// Nobody listens where the browser is led: it comes back, finds the code, and
// the user pastes that. So does a browser on another computer.
func byCode(t *testing.T, b *chrome.Browser, base string) {
	f := serve(t, ipc.SignedOut)
	in, type_, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer type_.Close()
	address, results := signingIn(t, f, base, run{in: in})
	p := b.Page()
	u, _ := url.Parse(address)
	q := u.Query()
	q.Set("redirect_uri", "http://127.0.0.1:1/signed-in")
	u.RawQuery = q.Encode()
	fillIn(p, u.String())
	p.Wait(`location.protocol === "chrome-error:"`)
	back(p)
	p.Wait(`location.pathname === "/acme/signed-in" && document.querySelector("details").open`)
	fit(t, p)
	shot(t, p, "sign-in-code.png")
	io.WriteString(type_, "nonsense\n"+value(p, "#code")+"\n")
	r := due(t, results)
	r.want(t, done, "Connected as Alice Doe (acme).", "This is not the code that the page shows.")
	if strings.Contains(r.out+r.err, value(p, "#code")) {
		t.Error("the code is shown")
	}
	wantConnect(t, f, base)
	p.Wait(`location.pathname === "/acme/signed-in"`) // and nothing leads away from here
}

func noBrowserHere(t *testing.T, b *chrome.Browser, base string) {
	f := serve(t, ipc.SignedOut)
	in, type_, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer type_.Close()
	results := make(chan result, 1)
	go func() { results <- run{in: in}.run(t, f.socket, "sign-in", "--auth-url", base) }()
	p := b.Page()
	fillIn(p, base+"/?as=headless-client") // as printed
	fit(t, p)
	io.WriteString(type_, value(p, "#token")+"\n")
	due(t, results).want(t, done, base+"/?as=headless-client", "There is no desktop")
	wantConnect(t, f, base)
}

// Stock portals lead to the URL scheme, which the desktop opens with us: here
// Chromium asks xdg-open, that asks GIO, and that starts the program.
func TestInABrowserByScheme(t *testing.T) {
	need.Tools(t, "xdg-utils, libglib2.0-bin and util-linux", "xdg-open", "xdg-mime", "gio", "unshare")
	home, err := os.MkdirTemp("", "home") // the names of sockets have to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	for _, v := range []string{"XDG_DATA_HOME", "XDG_CONFIG_HOME", "DESKTOP_SESSION", "KDE_FULL_SESSION", "BROWSER", "DBUS_SESSION_BUS_ADDRESS"} {
		t.Setenv(v, "")
	}
	t.Setenv("HOME", home)
	t.Setenv("XDG_RUNTIME_DIR", home)
	t.Setenv("XDG_CURRENT_DESKTOP", "GNOME")
	t.Setenv("DISPLAY", ":7")
	program := filepath.Join(home, "bin", "stile")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	write(t, program, "#!/bin/sh\nexec env RUN_STILE=\"$1 $2\" "+self+" >>"+home+"/log 2>&1\n")
	if err := desktop.Register(program); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if log, _ := os.ReadFile(home + "/log"); len(log) > 0 {
			t.Errorf("the program that the desktop started says: %s", log)
		}
	})
	// Nobody can click "Open Stile?" in a headless browser.
	write(t, home+"/policies/managed/stile.json", `{"AutoLaunchProtocolsFromOrigins": [
		{"protocol": "stile", "allowed_origins": ["*"]}, {"protocol": "firezone-fd0020211111", "allowed_origins": ["*"]}]}`)
	write(t, home+"/chromium", "#!/bin/sh\nexec unshare --mount sh -c 'mkdir -p /etc/chromium && mount --bind \"$1\" /etc/chromium && shift && exec \"$@\"' sh "+home+" "+chrome.Find()+" \"$@\"\n")
	if chrome.Find() != "" {
		t.Setenv("STILE_CHROMIUM", home+"/chromium")
	}
	b, base := chrome.Start(t), runPortal(t)
	for _, scheme := range desktop.Schemes {
		f := serve(t, ipc.SignedOut)
		address, results := signingIn(t, f, base, run{dir: instance.Dir()})
		p := b.Page()
		if scheme == "stile" { // our portal's other way
			u, _ := url.Parse(address)
			q := u.Query()
			q.Set("redirect_uri", "http://127.0.0.1:1/signed-in")
			u.RawQuery = q.Encode()
			fillIn(p, u.String())
			p.Wait(`location.protocol === "chrome-error:"`)
			back(p)
			p.Click("a[href='/acme/open-app']")
		} else {
			fillIn(p, asStock(address))
		}
		due(t, results).want(t, done, "Connected as Alice Doe (acme).", "")
		wantConnect(t, f, base)
		p.Wait(`location.pathname === "/acme/signed-in" && document.querySelector("#code")`) // it stays readable
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// shot keeps a picture for people to look at, in $STILE_SHOTS if that is set.
func shot(t *testing.T, p *chrome.Page, name string) {
	t.Helper()
	dir := os.Getenv("STILE_SHOTS")
	if dir == "" {
		return
	}
	p.Size(800, 700)
	if err := os.WriteFile(filepath.Join(dir, name), p.Shot(false), 0o644); err != nil {
		t.Fatal(err)
	}
}
