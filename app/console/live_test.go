package console

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"
	"time"

	"stile/app/menu"
	"stile/tunnel/ipc"
)

// client is a browser over the network.
func client(t *testing.T, c *Console) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Client{Jar: jar, Transport: &http.Transport{}}
	t.Cleanup(h.CloseIdleConnections)
	r, err := h.Get(c.URL(menu.StatusPage))
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusOK {
		t.Fatal(r.Status)
	}
	return h
}

type part struct{ ID, HTML string }

// listen is the stream of a page; it ends with the test.
func listen(t *testing.T, h *http.Client, c *Console, page string) (<-chan part, *http.Response) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, "GET", "http://"+c.host+c.base+"/live/"+page, nil)
	if err != nil {
		t.Fatal(err)
	}
	w, err := h.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); w.Body.Close() })
	parts := make(chan part, 100)
	go func() {
		defer close(parts)
		lines := bufio.NewScanner(w.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if text, is := strings.CutPrefix(lines.Text(), "data: "); is {
				var p part
				if json.Unmarshal([]byte(text), &p) != nil {
					return
				}
				parts <- p
			}
		}
	}()
	return parts, w
}

// next waits for a part with a text in it.
func next(t *testing.T, parts <-chan part, id, text string) {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		select {
		case p, open := <-parts:
			if !open {
				t.Fatalf("the stream ended before %s said %q", id, text)
			}
			if p.ID == id && strings.Contains(p.HTML, text) {
				return
			}
		case <-late:
			t.Fatalf("%s does not say %q", id, text)
		}
	}
}

func TestChangesAreSent(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	c := start(t, d)
	h := client(t, c)
	status, w := listen(t, h, c, "status")
	if k := w.Header.Get("Content-Type"); !strings.HasPrefix(k, "text/event-stream") {
		t.Error(k)
	}
	resources, _ := listen(t, h, c, "resources?q=wiki")
	next(t, status, "session", "Ada Lovelace")
	next(t, resources, "resources", "wiki.acme.example")
	d.set(func(v *menu.View) { v.State.Session.Actor = "Grace Hopper" })
	next(t, status, "session", "Grace Hopper")
	d.set(func(v *menu.View) {
		v.State.Resources[5].State, v.State.Resources[5].Problem = ipc.Offline, &ipc.Problem{Code: ipc.SiteOffline, Text: "No gateway is online."}
	})
	next(t, resources, "resources", "No gateway is online.")
	d.set(func(v *menu.View) { v.Service = menu.Lost })
	next(t, status, "head", "Busy")

	// A stream outlives what bounds a request.
	time.Sleep(patience + 2*time.Second)
	d.set(func(v *menu.View) { v.Service = menu.Present })
	next(t, status, "head", "Connected")
}

// Only what differs is sent.
func TestQuietPagesAreNotSentAgain(t *testing.T) {
	d := newDesk(t)
	c := start(t, d, func(c *Console) { lived(t, c, d) }) // its clock stands still
	parts, _ := listen(t, client(t, c), c, "status")
	next(t, parts, "machine", "tun-stile")
	select {
	case p := <-parts:
		t.Errorf("%s was sent again: %.300s", p.ID, p.HTML)
	case <-time.After(3 * tick):
	}
}

func TestStreamsAreFew(t *testing.T) {
	d := newDesk(t)
	c := start(t, d)
	h := client(t, c)
	var first *http.Response
	for i := range maxStreams {
		parts, w := listen(t, h, c, "status")
		next(t, parts, "head", "Connected")
		if i == 0 {
			first = w
		}
	}
	r, err := h.Get("http://" + c.host + c.base + "/live/status")
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
		t.Error(r.Status)
	}
	if r, err := h.Get("http://" + c.host + c.base + "/status"); err != nil || r.StatusCode != http.StatusOK {
		t.Errorf("no page any more: %v", err)
	} else {
		r.Body.Close()
	}
	first.Body.Close() // makes room
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if c.feed.enter() {
			break
		}
		if time.Now().After(end) {
			t.Fatal("a stream that was left still counts")
		}
	}
	c.feed.leave()
}

// Streams end with the program, and with nothing else of it.
func TestServeEndsItsStreams(t *testing.T) {
	c, err := Listen(Config{Desk: newDesk(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Serve(ctx) }()
	parts, _ := listen(t, client(t, c), c, "status")
	next(t, parts, "head", "Connected")
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Serve does not end")
	}
	for range parts {
	}
}

func TestStreamsNeedASession(t *testing.T) {
	d := newDesk(t)
	c := console(t, d)
	v := &visitor{t: t, c: c}
	if w := v.get("live/status"); w.Code != http.StatusForbidden {
		t.Error(w.Code)
	}
	v = visit(t, c)
	if w := v.do("HEAD", c.base+"/live/status", "", nil); w.Code != http.StatusOK || w.Body.Len() > 0 {
		t.Error(w.Code)
	}
	if w := v.do("GET", c.base+"/live/status", "", func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }); w.Code != http.StatusForbidden {
		t.Error(w.Code)
	}
}
