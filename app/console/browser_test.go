package console

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"image"
	"image/color"
	"image/png"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"stile/app/menu"
	"stile/app/support"
	"stile/app/words"
	"stile/build/chrome"
	"stile/tunnel/ipc"
)

// start is a console that answers browsers until the test ends.
func start(t *testing.T, d Desk, prepare ...func(*Console)) *Console {
	t.Helper()
	c, err := Listen(Config{Desk: d})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range prepare {
		p(c)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return c
}

// browser is a real one; these tests run if STILE_BROWSER is set, as in
// STILE_BROWSER=1 go test ./app/console.
func browser(t *testing.T) *chrome.Browser {
	t.Helper()
	if os.Getenv("STILE_BROWSER") == "" {
		t.Skip("set STILE_BROWSER=1 to test in a browser")
	}
	return chrome.Start(t)
}

// wide and narrow are the sizes that pages are looked at in.
const (
	wide   = 1280
	narrow = 320
)

// every is each page once, with a bit of everything on it.
var every = []string{"status", "resources", "resources?q=moon", "diagnostics", "settings", "about", "why", "why?target=files.lisbon.acme.example", "clear-logs", "export-all"}

// enter opens a page that comes in through a one-time address.
func enter(t *testing.T, b *chrome.Browser, c *Console) (p *chrome.Page, at string) {
	t.Helper()
	p = b.Page()
	p.Size(wide, 900)
	p.Go(c.URL(menu.StatusPage))
	return p, "http://" + c.host + c.base + "/"
}

// fine wants that the browser complained about nothing.
func fine(t *testing.T, p *chrome.Page, what string) {
	t.Helper()
	for _, w := range p.Wrong() {
		t.Errorf("%s: %s", what, w)
	}
}

func TestBrowserShowsPages(t *testing.T) {
	b := browser(t)
	d := newDesk(t)
	c := start(t, d, func(c *Console) { lived(t, c, d) })
	p, at := enter(t, b, c)
	for _, page := range every {
		p.Go(at + page)
		var title string
		p.Eval("document.title", &title)
		if !strings.HasSuffix(title, " · Stile") {
			t.Errorf("%s has the title %q", page, title)
		}
		var live bool
		p.Eval(`!!document.body.dataset.live`, &live)
		if live {
			p.Wait(`document.documentElement.classList.contains("live")`)
		}
		fine(t, p, page)
	}

	// The address that let the browser in is used up; another browser is
	// refused, and this one keeps its session.
	address := c.URL(menu.SettingsPage)
	p.Go(address)
	p.Wait(`location.pathname.endsWith("/settings")`)
	q := b.Page()
	q.Go(address)
	q.Wait(`document.body.innerText.includes("has been used")`)
	q.Go(at + "status")
	q.Wait(`document.body.innerText.includes("This page is private")`)
	var cookies string
	p.Eval("document.cookie", &cookies)
	if cookies != "" {
		t.Errorf("scripts see the cookie %q", cookies)
	}
}

// Another web site can neither read the pages, nor show them in a frame, nor
// press their buttons, although the browser has a session.
func TestBrowserKeepsOtherSitesOut(t *testing.T) {
	b := browser(t)
	d := newDesk(t)
	c := start(t, d)
	p, at := enter(t, b, c)
	var token string
	p.Eval(`document.querySelector("input[name=token]").value`, &token)
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, `<!DOCTYPE html><title>evil</title><iframe id="frame" src="`+at+`status"></iframe>
<form id="form" method="post" action="`+at+`do/sign-out"><input name="token" value="`+token+`"></form><a id="link" href="`+at+`status">x</a>`)
	}))
	defer evil.Close()
	e := p.Beside() // the same profile
	e.Go(evil.URL)
	var read string
	e.Eval(`fetch("`+at+`status", {credentials: "include"}).then(r => r.text(), x => "refused")`, &read)
	if read != "refused" {
		t.Errorf("another site read the page: %.100q", read)
	}
	e.Eval(`fetch("`+at+`do/sign-out", {method: "POST", mode: "no-cors", credentials: "include", headers: {"Content-Type": "application/x-www-form-urlencoded"}, body: "token=`+token+`"}).catch(() => 0)`, nil)
	e.Eval(`new Promise(done => { const s = new EventSource("`+at+`live/status", {withCredentials: true}); s.onmessage = () => done("heard"); s.onerror = () => { s.close(); done("refused") } })`, &read)
	if read != "refused" {
		t.Error("another site reads the stream")
	}
	var framed bool
	e.Eval(`(() => { try { return !!document.getElementById("frame").contentDocument?.body?.innerText } catch { return false } })()`, &framed)
	if framed {
		t.Error("another site shows the page in a frame")
	}
	e.Eval(`document.getElementById("form").submit()`, nil)
	e.Wait(`document.body.innerText.includes("Another web site asked for this")`)
	e.Go(evil.URL)
	e.Click("#link")
	e.Wait(`document.body.innerText.includes("Another web site asked for this")`)
	if done := d.done(); len(done) > 0 {
		t.Errorf("another site did %q", done)
	}

	// A page that knows a one-time address may lead there: the user comes in.
	e.Go(evil.URL)
	e.Eval(`document.getElementById("link").href = "`+c.URL(menu.ResourcesPage)+`"`, nil)
	e.Click("#link")
	e.Wait(`location.pathname.endsWith("/resources") && document.querySelectorAll(".resource").length === 8`)
	p.Go(at + "status")
	if text := p.Text("#session"); !strings.Contains(text, "Ada Lovelace") {
		t.Error("the session is gone")
	}
}

func TestBrowserShowsChanges(t *testing.T) {
	b := browser(t)
	d := newDesk(t)
	c := start(t, d)
	p, at := enter(t, b, c)
	p.Wait(`document.documentElement.classList.contains("live")`)
	p.Eval(`window.here = document.querySelector("#session h2")`, nil)

	// The focus stays where it was while everything around it changes.
	p.Eval(`document.querySelector("form[action$=sign-out] button").focus()`, nil)
	d.set(func(v *menu.View) {
		v.State.Session.Actor = "Grace Hopper"
		v.State.Connections = v.State.Connections[1:]
		v.State.Session.PortalUp = false
	})
	p.Wait(`document.querySelector("#session").innerText.includes("Grace Hopper") && !document.querySelector("#gateways").innerText.includes("Frankfurt")`)
	p.Wait(`document.activeElement.closest("form")?.action.endsWith("sign-out")`)
	p.Wait(`window.here === document.querySelector("#session h2")`) // no page was loaded

	// What was unfolded, and what was typed, stays.
	p.Click("#routes summary")
	p.Wait(`document.querySelector("#routes").open`)
	d.set(func(v *menu.View) { v.State.Tunnel.Routes = v.State.Tunnel.Routes[1:] })
	p.Wait(`document.querySelector("#routes summary").innerText.includes("3")`)
	p.Wait(`document.querySelector("#routes").open`)

	// A button that goes away does not take the reader to the top of the page.
	p.Click("form[action$=sign-out] button")
	p.Wait(`document.querySelector("#session h2").innerText === "You are signed out"`)
	p.Wait(`document.activeElement.id === "session"`)
	if done := d.done(); !slices.Equal(done, []string{"menu.SignOut{}"}) {
		t.Error(done)
	}

	// Sign in again, with a code.
	d.mu.Lock()
	d.url = "https://portal.acme.example/acme?as=gui-client"
	d.mu.Unlock()
	p.Click("form[action$=sign-in] button")
	p.Wait(`document.querySelector("#code")`)
	p.Click("#code")
	p.Type("half")
	d.set(func(v *menu.View) { v.State.Session.Portal = "wss://other.example" })
	p.Wait(`document.querySelector("#session").innerText.includes("other.example")`)
	p.Type("-a-token")
	p.Press("Enter")
	p.Wait(`document.querySelector("#session h2").innerText === "You are connected"`)
	if done := d.done(); !slices.Contains(done, "paste half-a-token") {
		t.Error(done)
	}

	// A refusal is said where it can be heard.
	d.mu.Lock()
	d.err = errors.New("the service does not answer: try again in a moment")
	d.mu.Unlock()
	p.Click("form[action$=sign-out] button")
	p.Wait(`document.querySelector("#notice[role=status] .bad").innerText.includes("does not answer")`)
	fine(t, p, "changes")

	// A page that nobody sees needs no connection.
	p.Go(at + "about")
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c.feed.mu.Lock()
		n := c.feed.streams
		c.feed.mu.Unlock()
		if n <= 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d streams for one page", n)
		}
	}
}

// A page whose program has ended says that it is of the past.
func TestBrowserTellsThatTheProgramEnded(t *testing.T) {
	b := browser(t)
	c, err := Listen(Config{Desk: newDesk(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Serve(ctx) }()
	p, _ := enter(t, b, c)
	p.Wait(`document.documentElement.classList.contains("live") && !document.querySelector("#gone").checkVisibility()`)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	p.Wait(`document.querySelector("#gone").checkVisibility()`)
}

func TestBrowserSearches(t *testing.T) {
	b := browser(t)
	d := newDesk(t)
	c := start(t, d)
	p, at := enter(t, b, c)
	p.Go(at + "resources")
	p.Wait(`document.documentElement.classList.contains("live") && document.querySelectorAll(".resource").length === 8`)
	p.Click("#q")
	p.Type("munich")
	p.Wait(`document.querySelectorAll(".resource").length === 4 && location.search === "?q=munich"`)
	p.Type(" wiki")
	p.Wait(`document.querySelectorAll(".resource").length === 1 && document.querySelector(".resource h2").innerText === "Wiki"`)
	p.Wait(`document.activeElement.id === "q"`)
	p.Click(".resource .star button")
	p.Wait(`document.querySelector(".resource .star button").getAttribute("aria-pressed") === "false"`)
	if done := d.done(); len(done) != 1 || !strings.HasPrefix(done[0], "menu.Favorite{") {
		t.Error(done)
	}
	p.Call("Browser.grantPermissions", map[string]any{"permissions": []string{"clipboardReadWrite", "clipboardSanitizedWrite"}}, nil)
	p.Call("Page.bringToFront", nil, nil)
	p.Click(".resource [data-copy]")
	p.Wait(`document.querySelector("#notice").innerText.includes("wiki.acme.example")`)
	p.Eval(`(() => { const q = document.querySelector("#q"); q.value = ""; q.dispatchEvent(new Event("input", {bubbles: true})) })()`, nil)
	p.Wait(`document.querySelectorAll(".resource").length === 8 && location.search === ""`)

	p.Go(at + "diagnostics")
	p.Wait(`document.documentElement.classList.contains("live") && document.querySelectorAll(".log li").length === 8`)
	p.Eval(`(() => { const s = document.querySelector("select[name=level]"); s.value = "warning"; s.dispatchEvent(new Event("input", {bubbles: true})) })()`, nil)
	p.Wait(`document.querySelectorAll(".log li").length === 2`)
	p.Click("input[name=text]")
	p.Type("relay")
	p.Wait(`document.querySelectorAll(".log li").length === 1 && location.search === "?level=warning&text=relay"`)
	fine(t, p, "search")
}

// An export on its way shows how far it is; what it was asked to keep, it asks
// about.
func TestBrowserExports(t *testing.T) {
	b := browser(t)
	d := newDesk(t)
	step := make(chan int64)
	d.export = func(ctx context.Context, progress func(done, total int64)) (support.Result, error) {
		for {
			select {
			case n := <-step:
				if progress(n, 1000); n == 1000 {
					return support.Result{Path: "/home/ada/x.zip", Bytes: 1000, Files: 3}, nil
				}
			case <-ctx.Done():
				return support.Result{}, ctx.Err()
			}
		}
	}
	c := start(t, d)
	p, at := enter(t, b, c)
	p.Go(at + "diagnostics")
	p.Wait(`document.documentElement.classList.contains("live")`)
	p.Click("input[value=keep]")
	p.Click("form[action$='do/export'] button")
	p.Wait(`location.pathname.endsWith("/export-all")`)
	p.Click("button.danger")
	p.Wait(`location.pathname.endsWith("/diagnostics") && document.querySelector("progress")`)
	p.Wait(`document.documentElement.classList.contains("live")`)
	step <- 420
	p.Wait(`document.querySelector("progress").value === 42`)
	step <- 1000
	p.Wait(`document.querySelector("#export").innerText.includes("/home/ada/x.zip")`)
	if done := d.done(); !slices.Equal(done, []string{"export full=true"}) {
		t.Error(done)
	}
	p.Click("a[href$=clear-logs]")
	p.Wait(`location.pathname.endsWith("/clear-logs")`)
	p.Click("button.danger")
	p.Wait(`location.pathname.endsWith("/diagnostics") && document.querySelector("#notice").innerText.includes("deleted")`)
	fine(t, p, "export")
}

// Without JavaScript pages are read, and buttons work.
func TestBrowserWithoutScripts(t *testing.T) {
	b := browser(t)
	d := newDesk(t)
	c := start(t, d)
	p, at := enter(t, b, c)
	p.Call("Emulation.setScriptExecutionDisabled", map[string]any{"value": true}, nil)
	for _, page := range every {
		p.Go(at + page)
		fine(t, p, page)
	}
	p.Go(at + "status")
	p.Wait(`document.querySelector("noscript a") && getComputedStyle(document.querySelector(".main-facts")).display === "grid"`)
	p.Wait(`!document.documentElement.classList.contains("js")`)
	p.Go(at + "resources")
	p.Click("#q")
	p.Type("wiki")
	p.Click(".search button")
	p.Wait(`location.search.startsWith("?q=wiki") && document.querySelectorAll(".resource").length === 1`)
	p.Click(".resource .star button")
	p.Wait(`document.querySelector(".resource .star button").getAttribute("aria-pressed") === "false" && location.search === "?q=wiki"`)
	p.Go(at + "settings")
	p.Click(".switch")
	p.Wait(`document.querySelector(".switch").getAttribute("aria-checked") === "true"`)
	p.Click("input[name=start-on-login]")
	p.Click("form[action$=prefs] button.main")
	p.Wait(`document.querySelector("#notice").innerText.includes("saved")`)
	p.Go(at + "status")
	p.Click("form[action$=sign-out] button")
	p.Wait(`document.querySelector("#session h2").innerText === "You are signed out"`)
	want := []string{"menu.SetInternet{On:true}", "menu.SignOut{}"}
	got := d.done()
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("%s was not done: %q", w, got)
		}
	}
	fine(t, p, "no scripts")
}

// With Tab alone one gets to everything that can be pressed, in the order that
// is seen, and sees where one is.
func TestBrowserKeyboard(t *testing.T) {
	b := browser(t)
	d := newDesk(t)
	c := start(t, d, func(c *Console) { lived(t, c, d) })
	p, at := enter(t, b, c)
	for _, page := range every {
		p.Go(at + page)
		var want int
		p.Eval(`(() => {
			window.todo = [...document.querySelectorAll("a[href], button:not(:disabled), input:not([type=hidden]):not(:disabled), select, summary, [tabindex='0']")]
				.filter(e => e.checkVisibility() && !(e.type === "radio" && !e.checked));
			window.seen = new Set();
			return window.todo.length;
		})()`, &want)
		for range want + 5 {
			p.Press("Tab")
			p.Eval(`(() => {
				const e = document.activeElement;
				if (e === document.body || window.seen.has(e)) return;
				window.seen.add(e);
				const s = getComputedStyle(e);
				if (!(s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2)) console.error("no focus ring", e.outerHTML.slice(0, 200));
				const r = e.getBoundingClientRect();
				if (r.bottom < 0 || r.top > innerHeight) console.error("focus out of sight", e.outerHTML.slice(0, 200));
			})()`, nil)
		}
		var missed []string
		p.Eval(`window.todo.filter(e => !window.seen.has(e)).map(e => e.outerHTML.slice(0, 200))`, &missed)
		for _, m := range missed {
			t.Errorf("%s: the keyboard does not reach %s", page, m)
		}
		fine(t, p, page)
	}

	p.Go(at + "status")
	p.Press("Tab")
	p.Wait(`document.activeElement.className === "skip"`)
	p.Press("Enter")
	p.Wait(`document.activeElement.id === "main"`)
	p.Press("Tab")
	p.Wait(`document.activeElement.innerText === "Sign Out"`)
	p.Press("Enter")
	p.Wait(`document.querySelector("#session h2").innerText === "You are signed out"`)
	fine(t, p, "pressing")
}

func TestBrowserContrastAndWidth(t *testing.T) {
	b := browser(t)
	few := map[string]bool{"signed out, with a problem": true, "waiting": true} // pages that differ
	for name, change := range map[string]func(*menu.View){
		"connected": nil,
		"signed out, with a problem": func(v *menu.View) {
			*v = signedOut()
			v.State.Session.Problem = &ipc.Problem{Code: ipc.TokenRejected, Text: "Sign in again."}
		},
		"waiting": func(v *menu.View) { *v = signedOut(); v.Browser = true },
		"managed, German": func(v *menu.View) {
			v.Words = &words.German
			v.State.Settings.Managed = []string{ipc.SettingAPIURL, ipc.SettingAuthURL, ipc.SettingConnectOnStart}
			v.State.Session.PortalUp = false
			v.State.Resources[1].Name = strings.Repeat("Langername", 12)
			v.State.Resources[1].Address = strings.Repeat("sehr-langer-teil.", 12) + "example"
			v.State.Resources[2].Sites = slices.Repeat([]string{"Ein Standort mit Namen"}, 5)
		},
	} {
		d := newDesk(t)
		if change != nil {
			change(&d.view)
		}
		d.view.Update = menu.Update{Version: "0.2.0", URL: "https://example.com/"}
		c := start(t, d, func(c *Console) { lived(t, c, d) })
		p, at := enter(t, b, c)
		for _, page := range every {
			if few[name] && page != "status" && page != "settings" {
				continue
			}
			for theme, widths := range map[string][]int{"light": {narrow, 768, wide}, "dark": {narrow}} {
				p.Prefer("prefers-color-scheme", theme)
				for _, width := range widths {
					p.Size(width, 800)
					p.Go(at + page)
					p.Eval(`for (const d of document.querySelectorAll("details")) if (!d.id.startsWith("module-") || d.id === "module-0") d.open = true`, nil)
					for _, w := range p.Poor() {
						t.Errorf("%s, %s, %s, %d: %s", name, page, theme, width, w)
					}
					var over []string
					p.Eval(`document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && e.checkVisibility()).slice(0, 5).map(e => e.outerHTML.slice(0, 150))`, &over)
					for _, w := range over {
						t.Errorf("%s, %s, %d: wider than the window: %s", name, page, width, w)
					}
				}
			}
		}
		p.Prefer("prefers-reduced-motion", "reduce")
		p.Go(at + "status")
		var moving int
		p.Eval(`document.getAnimations().length`, &moving)
		if moving > 0 {
			t.Errorf("%s: %d things move although the user wants none to", name, moving)
		}
		fine(t, p, name)
	}
}

// What a screen reader is told: a tree with landmarks, and names for all that
// can be pressed.
func TestBrowserAccessibilityTree(t *testing.T) {
	b := browser(t)
	d := newDesk(t)
	c := start(t, d, func(c *Console) { lived(t, c, d) })
	p, at := enter(t, b, c)
	for _, page := range every {
		p.Go(at + page)
		var tree struct {
			Nodes []struct {
				Ignored bool
				Role    struct{ Value string }
				Name    struct{ Value string }
			}
		}
		p.Call("Accessibility.getFullAXTree", nil, &tree)
		count := map[string]int{}
		for _, n := range tree.Nodes {
			if n.Ignored {
				continue
			}
			count[n.Role.Value]++
			switch n.Role.Value {
			case "button", "link", "textbox", "searchbox", "checkbox", "radio", "combobox", "switch", "image", "navigation", "progressbar", "heading":
				if strings.TrimSpace(n.Name.Value) == "" {
					t.Errorf("%s: a %s without a name", page, n.Role.Value)
				}
			}
		}
		for _, role := range []string{"main", "navigation", "banner"} {
			if count[role] != 1 {
				t.Errorf("%s: %d %s", page, count[role], role)
			}
		}
		if count["status"] == 0 {
			t.Errorf("%s: nothing is announced", page)
		}
	}
}

// The pictures of the documentation: STILE_SHOTS=assets/shots in the
// repository's folder writes them anew.
func TestShots(t *testing.T) {
	dir := os.Getenv("STILE_SHOTS")
	if dir == "" {
		t.Skip("set STILE_SHOTS to a folder to write pictures of the pages there")
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join("../..", dir)
	}
	b := chrome.Start(t)
	d := newDesk(t)
	c := start(t, d, func(c *Console) { lived(t, c, d) })
	p := b.Page()
	p.Go(c.URL(menu.StatusPage))
	at := "http://" + c.host + c.base + "/"
	for _, s := range []struct {
		file, page, theme string
		width, height     int
	}{
		{"status", "status", "light", 1200, 860},
		{"status-dark", "status", "dark", 1200, 860},
		{"status-phone", "status", "light", 360, 780},
		{"resources", "resources", "light", 1200, 900},
		{"resources-phone", "resources", "dark", 360, 780},
		{"why", "why?target=files.lisbon.acme.example", "light", 1200, 760},
		{"diagnostics", "diagnostics", "light", 1200, 1290},
		{"settings", "settings", "light", 1200, 1240},
		{"about", "about", "light", 1200, 800},
	} {
		p.Size(s.width, s.height)
		p.Prefer("prefers-color-scheme", s.theme)
		p.Go(at + s.page)
		shoot(t, p, filepath.Join(dir, "console-"+s.file+".png"))
	}
	d.set(func(v *menu.View) { *v = signedOut() })
	p.Size(1200, 460)
	p.Prefer("prefers-color-scheme", "light")
	p.Go(at + "status")
	shoot(t, p, filepath.Join(dir, "console-signed-out.png"))
	for _, w := range p.Wrong() {
		t.Error(w)
	}
}

// shoot waits until all is drawn, and writes a picture with its 256 most frequent colours: pages have few.
func shoot(t *testing.T, p *chrome.Page, path string) {
	t.Helper()
	p.Wait(`document.documentElement.classList.contains("live") || !document.body.dataset.live`)
	p.Eval(`document.fonts.ready.then(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))))`, nil)
	picture, err := png.Decode(bytes.NewReader(p.Shot(false)))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, fewer(picture)); err != nil {
		t.Fatal(err)
	}
	if b.Len() > 150<<10 {
		t.Errorf("%s has %d kB", path, b.Len()>>10)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// apart is how much two colours differ.
func apart(a, b color.RGBA) int {
	d := func(x, y uint8) int { return max(int(x), int(y)) - min(int(x), int(y)) }
	return d(a.R, b.R) + d(a.G, b.G) + d(a.B, b.B)
}

func fewer(p image.Image) image.Image {
	count := map[color.RGBA]int{}
	at := func(x, y int) color.RGBA { return color.RGBAModel.Convert(p.At(x, y)).(color.RGBA) }
	r := p.Bounds()
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			count[at(x, y)]++
		}
	}
	often := slices.SortedFunc(maps.Keys(count), func(a, b color.RGBA) int {
		return cmp.Or(count[b]-count[a], cmp.Compare(uint32(a.R)<<16|uint32(a.G)<<8|uint32(a.B), uint32(b.R)<<16|uint32(b.G)<<8|uint32(b.B)))
	})
	// After the most frequent come those that differ much, or shades of the letters
	// would take the place of the few signs that have a colour of their own.
	var palette color.Palette
	for _, c := range often[:min(64, len(often))] {
		palette = append(palette, c)
	}
	for _, least := range []int{48, 24, 12, 6, 0} {
		for _, c := range often {
			if len(palette) < 256 && !slices.ContainsFunc(palette, func(p color.Color) bool { return apart(p.(color.RGBA), c) <= least }) {
				palette = append(palette, c)
			}
		}
	}
	few, nearest := image.NewPaletted(r, palette), map[color.RGBA]uint8{}
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			c := at(x, y)
			n, known := nearest[c]
			if !known {
				n = uint8(palette.Index(c))
				nearest[c] = n
			}
			few.SetColorIndex(x, y, n)
		}
	}
	return few
}
