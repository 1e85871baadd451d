// Package callback runs a sign-in with the user's browser: it takes the answer
// by all ways that package signin knows, the loopback address itself, the URL
// scheme and what the user pastes from whoever was told.
//
// The loopback address is a web page of the program's own, for as long as
// somebody may come back to it. Anybody on the machine, and any web page, can
// send something there. Whether it is the answer is for package signin to
// decide.
package callback

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	_ "embed"
	"errors"
	"html/template"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"stile/app/signin"
	"stile/app/words"
	"stile/platform/loopback"
	"stile/tunnel/ipc"
)

const (
	path        = "/signed-in"
	beginning   = "/begin/"       // and a key
	connections = 16              // at a time; others wait
	patience    = 2 * time.Second // for a browser to send, and to read
	maxHeader   = 20 << 10        // bytes; the answer is in the address
	parting     = 2 * time.Second // for a page that is being read when it ends
	// linger is how long a sign-in that is over explains itself to whoever
	// comes late or again. A portal's last page works as long.
	linger = 2 * time.Minute
)

// ErrCancelled means that Cancel was called before there was an answer.
var ErrCancelled = errors.New("the sign-in was cancelled")

//go:embed page.html
var source string

var layout = template.Must(template.New("page").Parse(source))

// A SignIn is one sign-in with the user's browser. There is no limit to the
// wait for it. A second one replaces the first: cancel that.
type SignIn struct {
	url  string
	w    *words.Words                 // of its pages
	l    net.Listener                 // nil: there is no loopback address
	host string                       // "127.0.0.1:PORT", as browsers name us
	key  string                       // of Start
	mine func(net.Conn) (bool, error) // whether our user is at the other end

	mu      sync.Mutex // guards attempt, owed
	attempt *signin.Attempt
	owed    int // browsers that were led to an end and have not got it yet

	results   chan signin.Result // holds the one
	cancelled chan struct{}      // closed by Cancel
	cancel    func()
}

// Begin prepares a sign-in; o.Redirect is filled in, and w is the language of the
// pages that end it. Whoever got a SignIn has to Run it or to Close it.
func Begin(o signin.Options, w *words.Words) (*SignIn, error) {
	s := &SignIn{w: w, results: make(chan signin.Result, 1), cancelled: make(chan struct{}), key: rand.Text(), mine: loopback.Mine}
	s.cancel = sync.OnceFunc(func() { close(s.cancelled) })
	// Without a loopback interface there are two ways left.
	if l, err := net.Listen("tcp4", "127.0.0.1:0"); err == nil {
		s.l, s.host = netutil.LimitListener(l, connections), l.Addr().String()
		o.Redirect = "http://" + s.host + path
	}
	var err error
	if s.attempt, err = signin.Begin(o, rand.Reader); err != nil {
		s.Close()
		return nil, err
	}
	s.url = s.attempt.URL()
	return s, nil
}

// URL is the address to open in a browser on this computer, or in several: the
// first answer counts. It holds half a token. Show it to nobody but the user,
// and give it to no program as an argument: all users of the machine could read
// it there, and the other half as well, when the desktop hands that to us.
func (s *SignIn) URL() string { return s.url }

// Start is the address to start the user's browser with. It leads this user's
// browser to URL, and nobody else's.
func (s *SignIn) Start() string {
	if s.l == nil {
		return s.url // nobody leads there
	}
	return "http://" + s.host + beginning + s.key
}

// Follow takes the address that the desktop called the program with. The error
// is one of package signin, whose Explain puts it into words; only the first
// right answer has none.
func (s *SignIn) Follow(address ipc.Secret) error {
	return s.take(func(a *signin.Attempt) (signin.Result, error) { return a.Finish(address.Reveal()) })
}

// Paste takes what the user has copied from the last page, like Follow.
func (s *SignIn) Paste(text string) error {
	return s.take(func(a *signin.Attempt) (signin.Result, error) { return a.Paste(text) })
}

// Cancel gives the sign-in up: no answer is taken any more. After an answer was,
// it does nothing.
func (s *SignIn) Cancel() {
	s.mu.Lock()
	s.attempt.Cancel()
	s.mu.Unlock()
	s.cancel()
}

// Close frees a SignIn that is not Run.
func (s *SignIn) Close() {
	if s.l != nil {
		s.l.Close()
	}
}

// Run waits for the answer, by whichever way, and calls took with it. Then, or
// when Cancel was called, it goes on for two minutes telling browsers how things
// stand. The end of ctx cancels the sign-in and ends Run at once. The error is
// nil after an answer, else ErrCancelled.
func (s *SignIn) Run(ctx context.Context, took func(signin.Result)) error {
	serving, stop := context.WithCancel(ctx)
	var g sync.WaitGroup
	defer g.Wait()
	defer stop()
	if s.l != nil {
		g.Go(func() { s.serve(serving) })
	}
	var err error
	select {
	case r := <-s.results:
		took(r)
	case <-s.cancelled:
		err = s.last(took)
	case <-ctx.Done():
		s.Cancel()
		return s.last(took)
	}
	select {
	case <-time.After(linger):
	case <-ctx.Done():
	}
	return err
}

// last looks whether an answer came just before the end.
func (s *SignIn) last(took func(signin.Result)) error {
	select {
	case r := <-s.results:
		took(r)
		return nil
	default:
		return ErrCancelled
	}
}

// connKey is what the connection of a request is found by in its context.
type connKey struct{}

// ours reports whether a request comes from a program of our user, or else from
// one of which the system does not tell.
func (s *SignIn) ours(r *http.Request) bool {
	conn, is := r.Context().Value(connKey{}).(net.Conn)
	if !is {
		return false
	}
	mine, err := s.mine(conn)
	return mine || err != nil // then the key has to do
}

func (s *SignIn) take(answer func(*signin.Attempt) (signin.Result, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := answer(s.attempt)
	if err == nil {
		s.results <- r // the only one
	}
	return err
}

// serve answers browsers until ctx ends, and lets them read what they were
// answered: the program may have waited for nothing but their answer. If it
// cannot, the other ways are left.
func (s *SignIn) serve(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var g sync.WaitGroup
	defer g.Wait()
	defer cancel()
	server := &http.Server{
		Handler: s, ReadTimeout: patience, WriteTimeout: patience, IdleTimeout: patience, MaxHeaderBytes: maxHeader,
		ErrorLog:    log.New(io.Discard, "", 0), // strangers' mistakes
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
	g.Go(func() {
		<-ctx.Done()
		rest, done := context.WithTimeout(context.WithoutCancel(ctx), parting)
		defer done()
		s.awaitReaders(rest)
		server.Shutdown(rest)
		server.Close()
	})
	server.Serve(s.l)
}

// awaitReaders waits until every browser that was led to an end has got it.
func (s *SignIn) awaitReaders(ctx context.Context) {
	for {
		s.mu.Lock()
		owed := s.owed
		s.mu.Unlock()
		if owed == 0 {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
}

// owe counts the browsers that were led to an end and have not got it yet.
func (s *SignIn) owe(n int) {
	s.mu.Lock()
	s.owed = max(0, s.owed+n)
	s.mu.Unlock()
}

// A page is what the browser shows.
type page struct {
	OK    bool // all is well
	Title string
	Text  string
	Lang  string
}

// After an answer with the right state, the browser is led to a page without
// one: half a token shall not stay in its address bar and its history.
var ends = map[string]struct {
	title  func(w *words.Words) string
	why    error
	status int
}{
	"/done":  {func(w *words.Words) string { return w.DoneTitle }, nil, http.StatusOK},
	"/again": {func(w *words.Words) string { return w.DoneTitle }, signin.ErrRepeated, http.StatusOK},
	"/late":  {func(w *words.Words) string { return w.NotSignedInTitle }, signin.ErrLate, http.StatusGone},
}

// ServeHTTP shows the pages of the loopback address.
func (s *SignIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	end, isEnd := ends[r.URL.Path]
	key, isStart := strings.CutPrefix(r.URL.Path, beginning)
	isStart = isStart && subtle.ConstantTimeCompare([]byte(key), []byte(s.key)) == 1
	switch {
	case r.Host != s.host: // a name of somebody else's that leads here
		s.show(w, http.StatusMisdirectedRequest, page{Title: s.w.NotHereTitle, Text: s.w.NotHereText})
	case r.URL.Path != path && !isEnd && !isStart:
		s.show(w, http.StatusNotFound, page{Title: s.w.NoPageTitle, Text: s.w.NoPageText})
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		s.show(w, http.StatusMethodNotAllowed, page{Title: s.w.NotLikeThisTitle, Text: s.w.NotLikeThisText})
	case isEnd:
		s.show(w, end.status, page{OK: end.status == http.StatusOK, Title: end.title(s.w), Text: signin.Explain(s.w, end.why)})
		s.owe(-1)
	case isStart:
		s.start(w, r)
	default:
		s.answer(w, "http://"+s.host+r.URL.RequestURI())
	}
}

// start leads a browser to the sign-in page.
func (s *SignIn) start(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	over := s.attempt.Over()
	s.mu.Unlock()
	switch {
	case !s.ours(r):
		s.show(w, http.StatusForbidden, page{Title: s.w.OtherBrowserTitle, Text: s.w.OtherBrowserText})
	case over != nil:
		s.show(w, http.StatusGone, page{OK: over == signin.ErrRepeated, Title: s.w.SignInOverTitle, Text: signin.Explain(s.w, over)})
	default:
		guard(w)
		w.Header().Set("Location", s.url)
		w.WriteHeader(http.StatusSeeOther)
	}
}

func (s *SignIn) answer(w http.ResponseWriter, address string) {
	err := s.Follow(ipc.Secret(address))
	to := ""
	switch err {
	case nil:
		to = "/done"
	case signin.ErrRepeated:
		to = "/again"
	case signin.ErrLate:
		to = "/late"
	default:
		s.show(w, http.StatusBadRequest, page{Title: s.w.NotSignedInTitle, Text: signin.Explain(s.w, err)})
		return
	}
	s.owe(1)
	guard(w)
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}

func (s *SignIn) show(w http.ResponseWriter, status int, p page) {
	var b bytes.Buffer
	p.Lang = s.w.Tag
	if err := layout.Execute(&b, p); err != nil {
		panic(err) // the template is built in, and so are the fields
	}
	guard(w)
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(status)
	w.Write(b.Bytes())
}

// guard sets the headers of everything a browser gets from us.
func guard(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer") // the address holds half a token
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cache-Control", "no-store")
}
