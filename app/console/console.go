// Package console is the app's pages for status and settings: a web server of
// the program's own on this machine's loopback address, for the user's own
// browser.
//
// Anybody on the machine, and any web page, can knock there. Who may come in
// has been given a one-time address by the program, which opens it in the
// browser ([Console.URL]); the browser exchanges it for a cookie. What else is
// checked, and why, is told in gate.go.
//
// Pages are made of parts. Each is HTML from one template; a browser with
// JavaScript is sent those that have changed (live.go, assets/console/live.js).
// Without it pages are read, and buttons pressed, as ever on the web.
//
// To look at the pages with made-up data, while working on them:
//
//	go test ./app/console -run TestDemo -demo 10m -v
//
// prints an address to open. Templates and styles are read anew with each run.
// STILE_BROWSER=1 has the tests use a real browser, too, and
//
//	STILE_SHOTS=assets/shots go test ./app/console -run TestShots
//
// takes the pictures of the documentation anew.
package console

import (
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"stile/app/menu"
	"stile/app/words"
	"stile/platform/loopback"
	"stile/platform/netmon"
)

const (
	connections = 64               // at a time; others wait
	patience    = 5 * time.Second  // for a browser to send its request
	writeTime   = 30 * time.Second // to answer, asking why something is not reachable included
	idleTime    = time.Minute
	maxHeader   = 16 << 10 // bytes
	parting     = 2 * time.Second
	maxAsking   = 2 // looks why something is not reachable, at a time

	// tunnelInterface is the service's: that it comes and goes is no change of
	// the network.
	tunnelInterface = "tun-stile"
)

// Config is what the pages need.
type Config struct {
	Desk  Desk
	Words *words.Words // while the View has none; nil: English
	Log   *slog.Logger // nil: nothing is logged
}

// A Console is the pages, at a port of 127.0.0.1.
type Console struct {
	desk   Desk
	words  *words.Words
	log    *slog.Logger
	l      net.Listener
	host   string // "127.0.0.1:PORT", as browsers name us
	base   string // "/RANDOM": every path begins with it
	gate   gate
	jobs   jobs
	feed   feed
	past   past
	asking chan struct{} // one for each look why something is not reachable
	now    func() time.Time
	mine   func(net.Conn) (bool, error) // whether our user is at the other end
}

// Listen chooses a free port. Whoever got a Console has to Serve or to Close
// it.
func Listen(c Config) (*Console, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return open(c, l), nil
}

func open(c Config, l net.Listener) *Console {
	if c.Words == nil {
		c.Words = &words.English
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Console{
		desk: c.Desk, words: c.Words, log: c.Log, l: l, host: l.Addr().String(), base: "/" + random(16),
		asking: make(chan struct{}, maxAsking), now: time.Now, mine: loopback.Mine,
	}
}

// Close gives the port up.
func (c *Console) Close() error { return c.l.Close() }

// URL is an address that shows a page, once and within a minute, in a browser
// that has not been here yet. It is a secret: it goes to the user's browser and
// nowhere else.
func (c *Console) URL(p menu.Page) string {
	return "http://" + c.host + c.base + "/open/" + c.gate.invite(string(p), c.now())
}

// Serve answers browsers until ctx ends, which is no error, and watches what
// happens meanwhile, so that the pages can tell.
func (c *Console) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var g sync.WaitGroup
	defer g.Wait()
	defer cancel()
	s := &http.Server{
		Handler:           c,
		ReadHeaderTimeout: patience, ReadTimeout: patience, WriteTimeout: writeTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context { return ctx }, // ends the streams
		ErrorLog:    log.New(io.Discard, "", 0),                        // strangers' mistakes
	}
	g.Go(func() {
		<-ctx.Done()
		rest, done := context.WithTimeout(context.WithoutCancel(ctx), parting)
		defer done()
		s.Shutdown(rest)
		s.Close()
	})
	g.Go(func() { c.watch(ctx) })
	g.Go(func() {
		err := netmon.Watch(ctx, tunnelInterface, func() { c.note(event{what: networkChanged}) })
		if err != nil && ctx.Err() == nil {
			c.log.Debug("changes of the network will not be listed", "error", err)
		}
	})
	g.Go(func() { c.jobs.run(ctx, c) })
	if err := s.Serve(&ours{Listener: netutil.LimitListener(c.l, connections), c: c}); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// watch remembers what happens until ctx ends.
func (c *Console) watch(ctx context.Context) {
	changed := c.desk.Changed(ctx)
	for {
		c.observe(c.desk.View())
		c.feed.wake()
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// ours hands on the connections of this user's programs. Loopback addresses
// are for everybody on the machine.
type ours struct {
	net.Listener
	c    *Console
	told sync.Once
}

func (o *ours) Accept() (net.Conn, error) {
	for {
		conn, err := o.Listener.Accept()
		if err != nil {
			return nil, err
		}
		switch mine, err := o.c.mine(conn); {
		case mine:
			return conn, nil
		case err != nil: // the system does not tell; the secret has to do
			o.c.log.Debug("whose browser this is cannot be told", "error", err)
			return conn, nil
		}
		o.told.Do(func() {
			o.c.log.Warn("another user's program knocked at the status page, and was refused; this is said once")
		})
		conn.Close()
	}
}
