// Package chrome drives a headless Chromium for tests: pages rendered by a real
// browser, clicked and typed into like by a person. It speaks the DevTools
// protocol over a WebSocket, as much of it as tests need.
package chrome

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"stile/build/need"
)

// Find is the browser to test with; "" if there is none.
func Find() string {
	for _, name := range []string{os.Getenv("STILE_CHROMIUM"), "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); name != "" && err == nil {
			return path
		}
	}
	return ""
}

// startTime bounds how long a browser may take to start, and callTime how long
// to do one thing.
const (
	startTime = 30 * time.Second
	callTime  = 30 * time.Second
)

// A Browser is a process with a new, empty profile. Its methods may be called
// from several goroutines.
type Browser struct {
	t      testing.TB
	socket *websocket.Conn
	cancel context.CancelFunc
	ctx    context.Context

	mu      sync.Mutex // guards all below
	next    int
	waiting map[int]chan reply
	pages   map[string]*Page // by session
	ended   error
}

type reply struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`

	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
	Session string          `json:"sessionId"`
}

// Start runs a browser until the test ends. Without one the test is skipped,
// loudly, unless CI=true: there it fails.
func Start(t testing.TB, flags ...string) *Browser {
	t.Helper()
	path := Find()
	if path == "" {
		need.Otherwise(t, "there is no Chromium; install chromium, or say in STILE_CHROMIUM where it is")
	}
	ctx, cancel := context.WithCancel(context.Background())
	profile := t.TempDir()
	args := append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--force-color-profile=srgb",
		"--remote-debugging-port=0", "--user-data-dir=" + profile,
	}, flags...)
	command := exec.CommandContext(ctx, path, append(args, "about:blank")...)
	command.WaitDelay = 10 * time.Second
	stderr, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	b := &Browser{t: t, cancel: cancel, ctx: ctx, waiting: map[int]chan reply{}, pages: map[string]*Page{}}
	var g sync.WaitGroup
	address := make(chan string, 1)
	g.Go(func() { // all of it has to be read, or the browser stops
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			if _, at, ok := strings.Cut(lines.Text(), "DevTools listening on "); ok {
				address <- strings.TrimSpace(at)
			}
		}
	})
	t.Cleanup(func() {
		if b.socket != nil {
			b.call("", "Browser.close", nil, nil) // as a user would: its children end, too
			b.socket.CloseNow()
		}
		ended := make(chan struct{})
		go func() { g.Wait(); command.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			cancel()
			<-ended
		}
		cancel()
		settle(profile)
	})
	select {
	case at := <-address:
		if b.socket, _, err = websocket.Dial(ctx, at, nil); err != nil {
			t.Fatal(err)
		}
	case <-time.After(startTime):
		t.Fatalf("%s does not start", path)
	}
	b.socket.SetReadLimit(-1)
	g.Go(b.read)
	return b
}

// settle waits for the last files of a profile to be written: the folder could
// not be removed meanwhile.
func settle(profile string) {
	for range 50 {
		if os.RemoveAll(filepath.Join(profile)) == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (b *Browser) read() {
	for {
		_, text, err := b.socket.Read(b.ctx)
		if err != nil {
			b.mu.Lock()
			b.ended = fmt.Errorf("%w: %w", errEnded, err)
			for id, c := range b.waiting {
				close(c)
				delete(b.waiting, id)
			}
			b.mu.Unlock()
			return
		}
		var r reply
		if json.Unmarshal(text, &r) != nil {
			continue
		}
		b.mu.Lock()
		waits, page := b.waiting[r.ID], b.pages[r.Session]
		delete(b.waiting, r.ID)
		b.mu.Unlock()
		switch {
		case r.Method != "" && page != nil:
			page.happened(r.Method, r.Params)
		case r.Method == "" && waits != nil:
			waits <- r
		}
	}
}

func (b *Browser) call(session, method string, params, result any) error {
	if params == nil {
		params = struct{}{}
	}
	wait := make(chan reply, 1)
	b.mu.Lock()
	if b.ended != nil {
		b.mu.Unlock()
		return b.ended
	}
	b.next++
	id := b.next
	b.waiting[id] = wait
	b.mu.Unlock()
	text, err := json.Marshal(struct {
		ID      int    `json:"id"`
		Method  string `json:"method"`
		Params  any    `json:"params"`
		Session string `json:"sessionId,omitempty"`
	}{id, method, params, session})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(b.ctx, callTime)
	defer cancel()
	if err := b.socket.Write(ctx, websocket.MessageText, text); err != nil {
		return err
	}
	select {
	case r, ok := <-wait:
		switch {
		case !ok:
			return errEnded
		case r.Error != nil:
			return fmt.Errorf("%s: %s", method, r.Error.Message)
		case result != nil:
			return json.Unmarshal(r.Result, result)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: no answer", method)
	}
}

// errEnded means that nothing can be asked any more.
var errEnded = errors.New("the browser has ended; it crashes where there are no fonts at all: install fonts-dejavu-core")

// A Page is a tab of a browser profile of its own.
type Page struct {
	b       *Browser
	session string
	context string

	mu    sync.Mutex // guards all below
	wrong []string   // what the browser complained about
}

// Page opens an empty tab that shares nothing with others.
func (b *Browser) Page() *Page {
	b.t.Helper()
	var context struct {
		ID string `json:"browserContextId"`
	}
	p := &Page{b: b}
	p.must(b.call("", "Target.createBrowserContext", nil, &context))
	p.context = context.ID
	p.open()
	return p
}

// Beside opens another tab of the same profile.
func (p *Page) Beside() *Page {
	p.b.t.Helper()
	n := &Page{b: p.b, context: p.context}
	n.open()
	return n
}

func (p *Page) open() {
	p.b.t.Helper()
	var target struct {
		ID string `json:"targetId"`
	}
	p.must(p.b.call("", "Target.createTarget", map[string]any{"url": "about:blank", "browserContextId": p.context}, &target))
	var attached struct {
		Session string `json:"sessionId"`
	}
	p.must(p.b.call("", "Target.attachToTarget", map[string]any{"targetId": target.ID, "flatten": true}, &attached))
	p.session = attached.Session
	p.b.mu.Lock()
	p.b.pages[p.session] = p
	p.b.mu.Unlock()
	for _, domain := range []string{"Page", "Runtime", "Log", "Network", "Accessibility"} {
		p.Call(domain+".enable", nil, nil)
	}
}

func (p *Page) must(err error) {
	p.b.t.Helper()
	if err != nil {
		p.b.t.Fatal(err)
	}
}

// Call does what the DevTools protocol calls method.
func (p *Page) Call(method string, params, result any) {
	p.b.t.Helper()
	p.must(p.b.call(p.session, method, params, result))
}

// happened keeps what the browser complains about: errors of scripts, breaches
// of the content security policy, requests that failed.
func (p *Page) happened(method string, params json.RawMessage) {
	text := ""
	switch method {
	case "Runtime.exceptionThrown":
		var e struct {
			Details struct {
				Text      string `json:"text"`
				Exception struct {
					Description string `json:"description"`
				} `json:"exception"`
			} `json:"exceptionDetails"`
		}
		json.Unmarshal(params, &e)
		text = e.Details.Text + " " + e.Details.Exception.Description
	case "Runtime.consoleAPICalled":
		var e struct {
			Type string          `json:"type"`
			Args json.RawMessage `json:"args"`
		}
		json.Unmarshal(params, &e)
		if e.Type == "error" || e.Type == "warning" || e.Type == "assert" {
			text = e.Type + " " + string(e.Args)
		}
	case "Log.entryAdded":
		var e struct {
			Entry struct {
				Level string `json:"level"`
				Text  string `json:"text"`
				URL   string `json:"url"`
			} `json:"entry"`
		}
		json.Unmarshal(params, &e)
		if e.Entry.Level == "error" || e.Entry.Level == "warning" {
			text = e.Entry.Level + ": " + e.Entry.Text + " " + e.Entry.URL
		}
	}
	if text == "" {
		return
	}
	p.mu.Lock()
	p.wrong = append(p.wrong, text)
	p.mu.Unlock()
}

// Wrong is what the browser complained about since the last call.
func (p *Page) Wrong() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.wrong
	p.wrong = nil
	return w
}

// Go shows an address, and waits until it is there.
func (p *Page) Go(address string) {
	p.b.t.Helper()
	var r struct {
		Error string `json:"errorText"`
	}
	p.Call("Page.navigate", map[string]any{"url": address}, &r)
	if r.Error != "" {
		p.b.t.Fatalf("%s: %s", address, r.Error)
	}
	p.Wait(`document.readyState === "complete" && location.href !== "about:blank"`)
}

// Eval runs a script expression and decodes its value into result, which may
// be nil. Promises are waited for.
func (p *Page) Eval(script string, result any) {
	p.b.t.Helper()
	p.must(p.eval(script, result))
}

func (p *Page) eval(script string, result any) error {
	var r struct {
		Result struct {
			Value json.RawMessage `json:"value"`
		} `json:"result"`
		Exception *struct {
			Text      string `json:"text"`
			Exception struct {
				Description string `json:"description"`
			} `json:"exception"`
		} `json:"exceptionDetails"`
	}
	err := p.b.call(p.session, "Runtime.evaluate", map[string]any{"expression": script, "returnByValue": true, "awaitPromise": true}, &r)
	if err != nil {
		return err
	}
	if r.Exception != nil {
		return fmt.Errorf("%s: %s %s", script, r.Exception.Text, r.Exception.Exception.Description)
	}
	if result == nil || len(r.Result.Value) == 0 {
		return nil
	}
	return json.Unmarshal(r.Result.Value, result)
}

// Wait waits until a script expression is true.
func (p *Page) Wait(script string) {
	p.b.t.Helper()
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var is bool
		if err = p.eval("!!("+script+")", &is); err == nil && is { // while a page loads there is nothing to ask
			return
		}
		if errors.Is(err, errEnded) {
			p.b.t.Fatal(err)
		}
	}
	var shown string
	p.eval("document.body && document.body.innerText", &shown)
	p.b.t.Fatalf("%s does not become true (%v); the page shows:\n%.3000s", script, err, shown)
}

// Text is what an element shows; selectors are those of CSS.
func (p *Page) Text(selector string) (text string) {
	p.b.t.Helper()
	p.Eval("document.querySelector("+quote(selector)+").innerText", &text)
	return text
}

// Click clicks into the middle of an element, as a mouse does.
func (p *Page) Click(selector string) {
	p.b.t.Helper()
	p.Wait("document.querySelector(" + quote(selector) + ")")
	var at struct{ X, Y float64 }
	p.Eval(`(() => { const e = document.querySelector(`+quote(selector)+`); e.scrollIntoView({block: "center", behavior: "instant"}); const r = e.getBoundingClientRect(); return {X: r.x + r.width / 2, Y: r.y + r.height / 2} })()`, &at)
	for _, kind := range []string{"mousePressed", "mouseReleased"} {
		p.Call("Input.dispatchMouseEvent", map[string]any{"type": kind, "x": at.X, "y": at.Y, "button": "left", "clickCount": 1}, nil)
	}
}

// Type types text into whatever has the focus.
func (p *Page) Type(text string) {
	p.b.t.Helper()
	for _, r := range text {
		p.Call("Input.dispatchKeyEvent", map[string]any{"type": "keyDown", "text": string(r), "key": string(r)}, nil)
		p.Call("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": string(r)}, nil)
	}
}

// Press presses a key: "Tab", "Enter", "Space".
func (p *Page) Press(key string) {
	p.b.t.Helper()
	k := map[string]struct {
		code int
		text string
	}{"Tab": {9, ""}, "Enter": {13, "\r"}, "Space": {32, " "}, "Escape": {27, ""}}[key]
	name := key
	if key == "Space" {
		name = " "
	}
	down := map[string]any{"type": "keyDown", "key": name, "code": key, "windowsVirtualKeyCode": k.code}
	if k.text != "" {
		down["text"] = k.text
	}
	p.Call("Input.dispatchKeyEvent", down, nil)
	p.Call("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": name, "code": key, "windowsVirtualKeyCode": k.code}, nil)
}

// Size makes the page that wide and high, in CSS pixels.
func (p *Page) Size(width, height int) {
	p.b.t.Helper()
	p.Call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}, nil)
}

// Prefer sets what the user prefers: "prefers-color-scheme", "dark".
func (p *Page) Prefer(feature, value string) {
	p.b.t.Helper()
	p.Call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": feature, "value": value}}}, nil)
}

// Shot is a picture of the page, a PNG: of all of it, or of what fits.
func (p *Page) Shot(whole bool) []byte {
	p.b.t.Helper()
	var r struct {
		Data string `json:"data"`
	}
	p.Call("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": whole}, &r)
	png, err := base64.StdEncoding.DecodeString(r.Data)
	p.must(err)
	return png
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}
