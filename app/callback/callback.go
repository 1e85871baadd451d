// Package callback is the way of a browser's answer back into the program: a
// web page of the program's own, on this machine's loopback address, for as
// long as the sign-in takes.
//
// Anybody on the machine, and any web page, can send something here. Whether it
// is the answer is for package signin to decide.
package callback

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"html/template"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/netutil"
)

const (
	path        = "/signed-in"
	connections = 16              // at a time; others wait
	patience    = 2 * time.Second // for a browser to send, and to read
	maxHeader   = 20 << 10        // bytes; the answer is in the address
	parting     = 2 * time.Second // for a page that is being read when it ends
)

//go:embed page.html
var source string

var layout = template.Must(template.New("page").Parse(source))

// A Page is what the browser shows for an answer.
type Page struct {
	OK    bool // the answer was taken
	Title string
	Text  string
}

// A Listener waits at a port of 127.0.0.1.
type Listener struct{ net.Listener }

// Listen chooses a free port. Whoever got a Listener has to Serve or to Close
// it.
func Listen() (Listener, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	return Listener{l}, err
}

// URL is where the browser shall be sent: "http://127.0.0.1:PORT/signed-in".
func (l Listener) URL() string { return "http://" + l.Addr().String() + path }

// Serve answers browsers until ctx ends, which is no error, and lets them read
// what they were answered. take is given the whole address of each answer, one
// at a time.
func (l Listener) Serve(ctx context.Context, take func(address string) Page) error {
	ctx, cancel := context.WithCancel(ctx)
	var g sync.WaitGroup
	defer g.Wait()
	defer cancel()
	s := &http.Server{
		Handler:     &page{host: l.Addr().String(), take: take},
		ReadTimeout: patience, WriteTimeout: patience, IdleTimeout: patience, MaxHeaderBytes: maxHeader,
		ErrorLog: log.New(io.Discard, "", 0), // strangers' mistakes
	}
	g.Go(func() {
		<-ctx.Done()
		rest, done := context.WithTimeout(context.WithoutCancel(ctx), parting)
		defer done()
		s.Shutdown(rest)
		s.Close()
	})
	if err := s.Serve(netutil.LimitListener(l.Listener, connections)); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// page is the one page.
type page struct {
	host string     // "127.0.0.1:PORT", as browsers name us
	mu   sync.Mutex // held while take works
	take func(address string) Page
}

func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Host != p.host: // a name of somebody else's that leads here
		show(w, http.StatusMisdirectedRequest, Page{Title: "Not here", Text: "This address belongs to a program on your computer."})
	case r.URL.Path != path:
		show(w, http.StatusNotFound, Page{Title: "Not found", Text: "There is no such page here."})
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		show(w, http.StatusMethodNotAllowed, Page{Title: "Not like this", Text: "Start again from the program."})
	default:
		p.mu.Lock()
		answer := p.take("http://" + p.host + r.URL.RequestURI())
		p.mu.Unlock()
		status := http.StatusOK
		if !answer.OK {
			status = http.StatusBadRequest
		}
		show(w, status, answer)
	}
}

func show(w http.ResponseWriter, status int, p Page) {
	var b bytes.Buffer
	if err := layout.Execute(&b, p); err != nil {
		panic(err) // the template is built in, and so are the fields
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer") // the address holds half a token
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(b.Bytes())
}
