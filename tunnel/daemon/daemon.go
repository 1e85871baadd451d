// Package daemon is the client's service. It keeps wish and fact apart: what
// users and administrators want is written down at once; one goroutine, the
// owner, makes it fact by starting and ending sessions, and tells everybody who
// watches how far that has come.
//
//	SignedOut  → Connecting  there is a token
//	Connecting → Raising     the portal let us in
//	Raising    → Connected   interface, routes and DNS stand
//	any        → Ending      the wish is another one, or the service stops
//	Ending     → SignedOut   DNS and routes are as they were; there is no token
//	Ending     → Connecting  … there is another token
//	any        → SignedOut   the portal refused a signed-in user's token
//	any        → Connecting  the session failed; it is tried again after a while
//
// A token is not used, and the service stays SignedOut, if it was told not to
// connect when it starts, or if the settings name another portal than the
// token is of.
//
// A session belongs to the service: whoever watches or commands it may leave.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"stile/platform/dnsctl"
	"stile/platform/ipcsock"
	"stile/platform/route"
	"stile/platform/seat"
	"stile/platform/service"
	"stile/platform/tun"
	"stile/tunnel/core"
	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
	"stile/tunnel/phoenix/dial"
	"stile/tunnel/wire"
)

// Config is what the service runs with.
type Config struct {
	Portal dial.Config // without Token, Lookup and Dial
	// Portal.URL, AuthURL (where users sign in) and LogFilter are the
	// administrator's; "" leaves it to the policy and to users.
	AuthURL, LogFilter string
	// Policy reads what the administrators of a fleet have set (spec
	// desktop-client.md 14), by their names. What it returns with an error counts.
	// nil: nothing.
	Policy func() (map[string]any, error)
	// Token is an administrator's, from Source; "" leaves it to users to sign
	// in.
	Token       wire.Secret
	TokenSource ipc.TokenSource
	StateDir    string // folder of what survives
	MemoryDir   string // folder of what survives the service, but no reboot; "": nothing does
	Socket      string // local socket for users' programs; "": none
	// Programs are the files of those that users may control the service with;
	// nil: any.
	Programs []string
	DNS      dnsctl.Mode
	Internet bool // use the Internet resource, whatever users chose
	Version  string
	// Ready is called once, when the tunnel interface and DNS stand. Listening is
	// called once before, if users' programs can reach the service and no token of
	// an administrator is to be connected with first.
	Ready, Listening func()
	Log              *slog.Logger
	Logs             Logs // nil: neither files nor a filter
}

// Logs are the service's logs, as the daemon needs them.
type Logs interface {
	Dir() string // "": there are no files
	Filter() string
	SetFilter(filter string, d time.Duration) error
	// SetUsual sets the filter that comes back after another one.
	SetUsual(filter string) error
	Clear() error
	// Keep makes a file beside the logs of what write writes, and deletes the
	// oldest of its kind until there are at most most.
	Keep(kind, name string, most int, write func(io.Writer) error) (path string, err error)
}

// How long to wait before a failed session is tried again.
const (
	firstPause = time.Second
	maxPause   = time.Minute
)

// A daemon is one run of the service. The owner's goroutine alone starts and
// ends sessions and changes the wish.
type daemon struct {
	Config
	server   *link.Server
	commands chan command
	reloads  <-chan os.Signal                                                   // an administrator says that things are others; nil: never
	begin    func(ctx context.Context, w wish, portal string) (*session, error) // start, but for tests
	ready    sync.Once
	filter   string   // the usual log filter, as it was set last; the owner's
	unusable []string // what was last said of the policy; the owner's

	flight     *recorder
	collecting sync.Mutex // held while an export is made

	mu   sync.Mutex // guards view
	view view
}

// A view is what watchers may know, in the owner's words.
type view struct {
	wish     wish
	policy   choice
	phase    ipc.Phase
	since    time.Time
	problem  *ipc.Problem
	session  *session // nil: there is none
	upstream []netip.AddrPort
}

// A command is what a user wants, and where the answer goes.
type command struct {
	from   link.Caller
	what   ipc.Command
	answer chan error
}

// Repair undoes what a run that did not end orderly has left behind.
func Repair(log *slog.Logger) error {
	return errors.Join(dnsctl.Restore(log), route.Restore())
}

// Run runs the service until ctx ends, which is no error, or until an
// administrator's token turns out to be useless. Whatever happens, DNS and
// routes are afterwards as they were found.
func Run(ctx context.Context, c Config) error {
	// Whoever may have the device and the socket may undo what an earlier run
	// has left behind: while another client or gateway runs here, it is not ours
	// to undo.
	device, err := tun.Open(tunName, route.MTU)
	if err != nil {
		return err
	}
	device.Close()
	var l net.Listener
	if c.Socket != "" {
		if l, err = link.Listen(c.Socket); err != nil {
			return explainSocket(err)
		}
		defer l.Close()
	}
	if err := Repair(c.Log); err != nil {
		return fmt.Errorf("repair after an earlier run: %w", err)
	}
	d := newDaemon(c, c.loadWish())
	d.begin = d.start
	defer d.flight.Panicking()
	reloads, deaf := service.Reloads() // also while there is no session: SIGHUP would end us
	defer deaf()
	d.reloads = reloads
	ctx, cancel := context.WithCancel(ctx)
	var g sync.WaitGroup
	defer g.Wait()
	defer cancel()
	records, enough := context.WithCancel(context.WithoutCancel(ctx)) // sessions may end badly after ctx
	defer enough()
	g.Go(func() { d.keepRecords(records) })
	if l != nil {
		if c.Listening != nil && !c.TokenSource.Managed() {
			c.Listening()
		}
		g.Go(func() {
			if err := d.server.Run(ctx, l); err != nil {
				c.Log.Error("users' programs cannot reach the service any more", "error", err)
			}
		})
	}
	return d.own(ctx)
}

func explainSocket(err error) error {
	if errors.Is(err, ipcsock.ErrInUse) {
		return fmt.Errorf("%w: stop the other stiled on this machine first", err)
	}
	return fmt.Errorf("%w; name another place with --socket", err)
}

func newDaemon(c Config, w wish) *daemon {
	r := newRecorder(&c)
	d := &daemon{Config: c, commands: make(chan command), flight: r}
	r.OnPanic = d.panicked
	policy := d.readPolicy()
	s := d.settings(w, policy)
	d.logAs(s)
	w.Paused = !*s.ConnectOnStart && w.Source == ipc.TokenFromSignIn
	if w.Token != "" && w.Portal == "" && s.APIURL != "" && w.Source == ipc.TokenFromSignIn { // of a version that did not note it
		w.Portal = s.APIURL
		if err := d.saveSignIn(w); err != nil {
			d.Log.Warn("which portal the token is of could not be noted", "error", err)
		}
	}
	d.view = view{wish: w, policy: policy, phase: ipc.SignedOut, since: time.Now()}
	d.server = link.New(link.Config{Service: d, Version: c.Version, Seated: new(seat.Keeper).Has, Programs: c.Programs, Log: c.Log})
	return d
}

// own is the owner: it makes the wish fact.
func (d *daemon) own(ctx context.Context) error {
	w := d.seen().wish
	var s *session
	retry, pause := time.NewTimer(0), firstPause
	defer retry.Stop()
	waiting := false  // for retry
	var earlier *wish // whose token was good, until the portal has taken the next
	var policy <-chan time.Time
	if d.Policy != nil {
		tick := time.NewTicker(policyPoll)
		defer tick.Stop()
		policy = tick.C
	}
	switch {
	case w.Token == "":
		d.Log.Info("nobody is signed in", "next", "run: stile sign-in")
	case w.Paused:
		d.Log.Info("not connecting by itself: the settings say so", "next", "run: stile connect")
	}
	for {
		settings := d.settings(w, d.seen().policy)
		if blocked, _ := w.obstacle(settings); !blocked && s == nil && !waiting && ctx.Err() == nil {
			var err error
			if s, err = d.begin(ctx, w, settings.APIURL); err != nil {
				return err // configured wrongly: trying again cannot help
			}
			d.show(func(v *view) { v.session, v.since = s, time.Now() })
			d.enter(ipc.Connecting, nil)
		}
		if s != nil && !s.told && ctx.Err() == nil && s.token() != w.Token && s.suits(w) && d.seen().phase == ipc.Connected {
			d.Log.Info("the session goes on with the new token")
			d.renew(s, w)
		}
		if s != nil && !s.told && (ctx.Err() != nil || s.token() != w.Token || d.misled(s, settings)) {
			d.enter(ipc.Ending, nil)
			s.told = true
			s.cancel()
		}
		if s == nil && ctx.Err() != nil {
			return nil
		}

		var events <-chan event
		var ended <-chan error
		stop := ctx.Done()
		if s != nil {
			events, ended = s.events, s.ended
			if ctx.Err() != nil {
				stop = nil
			}
		}
		select {
		case <-stop:
		case c := <-d.commands:
			next, err := d.act(w, s, c.from, c.what)
			d.flight.commanded(c, err)
			if err == nil {
				if next.Token != w.Token {
					waiting, pause = false, firstPause
					earlier = d.proven(w, next, earlier)
				}
				switch c.what.(type) {
				case ipc.Retry, ipc.Connect, ipc.ApplySettings:
					waiting = false
				}
				w = next
				d.show(func(v *view) { v.wish = w })
				d.logAs(d.settings(w, d.seen().policy))
			}
			c.answer <- err
		case e := <-events:
			if e.configured && e.err == nil {
				pause = firstPause
			}
			if e.portal && e.up && s.token() == w.Token {
				earlier = nil
			}
			if d.noteRenewal(s, e) {
				s.told = true
				s.cancel()
			}
			d.happened(e)
		case <-policy:
			d.notePolicy(w)
		case <-d.reloads:
			d.notePolicy(w)
			if s == nil || s.told {
				d.Log.Info("the managed policy was read again")
				break
			}
			d.Log.Info("asked to begin anew")
			s.reset()
		case <-retry.C:
			waiting = false
		case err := <-ended:
			told := s.told || ctx.Err() != nil
			if !told && !errors.Is(err, dial.ErrTokenRejected) {
				d.flight.alarm(sessionFailed)
			}
			s = nil
			d.show(func(v *view) { v.session = nil })
			switch {
			case told && err == nil:
				d.enter(ipc.SignedOut, nil)
			case told:
				d.Log.Error("a session did not end well", "error", err)
				d.enter(ipc.SignedOut, nil)
			case w.Source.Managed():
				return d.explain(w, err)
			case errors.Is(err, dial.ErrTokenRejected) && earlier != nil:
				d.Log.Warn("the portal refused the new token; going on with the one before", "error", err)
				w, earlier = w.as(*earlier), nil
				if err := d.saveSignIn(w); err != nil {
					d.Log.Error("the token could not be stored", "error", err)
				}
				d.show(func(v *view) { v.wish = w })
				d.enter(ipc.Connecting, ipc.SayNewSignInRefused.With())
			case errors.Is(err, dial.ErrTokenRejected):
				d.Log.Warn("signed out", "error", err)
				if err := d.deleteSignIn(); err != nil {
					d.Log.Error("the refused token stays on disk", "error", err)
				}
				w = w.signedOut()
				d.show(func(v *view) { v.wish = w })
				d.enter(ipc.SignedOut, ipc.SaySignInEnded.With())
			default:
				d.Log.Error("the session failed; it is tried again", "after", pause, "error", err)
				d.enter(ipc.Connecting, trouble(err))
				retry.Reset(pause)
				waiting, pause = true, min(2*pause, maxPause)
			}
		}
	}
}

// misled reports whether a session knocks at a portal that the settings do not
// name any more. One that was let in goes on: nobody is signed out by a setting.
func (d *daemon) misled(s *session, settings ipc.Settings) bool {
	return d.seen().phase == ipc.Connecting && s.portal != settings.APIURL
}

// trouble puts the end of a session that is tried again into words. Only a
// portal that blames the token ends a sign-in; any other refusal may pass.
func trouble(err error) *ipc.Problem {
	if errors.Is(err, dial.ErrUnauthorized) || errors.Is(err, dial.ErrJoinRefused) {
		return ipc.SayDeviceRefused.With("reason", reason(err))
	}
	return ipc.SayTunnelFailed.With("reason", reason(err))
}

// reason is an error as a part of a sentence: what comes from elsewhere may be
// long.
func reason(err error) string { return fmt.Sprintf("%.300v", err) }

// explain adds what an administrator can do about a token of theirs.
func (d *daemon) explain(w wish, err error) error {
	if errors.Is(err, dial.ErrTokenRejected) {
		return fmt.Errorf("%w: make another one with \"stile-server portal token create --client USER\" and put it where this one came from (%s)", err, w.Source)
	}
	return err
}

// act changes the wish as a command wants it, on disk first.
func (d *daemon) act(w wish, s *session, from link.Caller, c ipc.Command) (wish, error) {
	if err := w.heldAgainst(from); err != nil {
		return w, err
	}
	managed := ipc.SayTokenIsManaged.With("source", string(w.Source))
	switch c := c.(type) {
	case ipc.SignIn:
		if w.Source.Managed() {
			return w, managed
		}
		if c.Back && w.Token != "" {
			return w, nil // it does not have to come back
		}
		if c.Back && d.outdated(from, c.KeptSince) {
			return w, ipc.SaySignedOutSince.With()
		}
		portal := d.settings(w, d.seen().policy).APIURL
		if _, why := w.signedOut().obstacle(ipc.Settings{APIURL: portal}); why != nil {
			return w, why
		}
		if c.Portal != "" && !samePortal(c.Portal, portal) {
			return w, ipc.SaySignInElsewhere.With("portal", c.Portal, "set", portal)
		}
		w.Token, w.Source, w.Account, w.Actor = wire.Secret(c.Token.Reveal()), ipc.TokenFromSignIn, c.AccountSlug, c.Actor
		w.Holder, w.Portal, w.KeptSince = "", portal, c.KeptSince
		w.Paused = c.Back && !*d.settings(w, d.seen().policy).ConnectOnStart
		if !from.Admin() {
			w.Holder = from.User()
		}
		d.Log.Info("signing in", "account", c.AccountSlug)
		return w, d.saveSignIn(w)
	case ipc.SignOut:
		if w.Source.Managed() {
			return w, managed
		}
		user := w.Holder
		if w.Token == "" && !from.Admin() {
			user = from.User()
		}
		w = w.signedOut()
		d.Log.Info("signing out")
		if err := d.saveSignOut(user, time.Now()); err != nil { // the user's own store may forget it, too
			d.Log.Warn("tokens that programs have kept may come back", "error", err)
		}
		return w, d.deleteSignIn()
	case ipc.SetInternet:
		if d.Internet && !c.On {
			return w, ipc.SayInternetManaged.With()
		}
		w.Internet = c.On
		if err := d.saveSettings(w); err != nil {
			return w, err
		}
		if s != nil {
			s.engine.Do(core.InternetResource{On: c.On})
		}
		return w, nil
	case ipc.SetLogFilter, ipc.ClearLogs:
		return w, d.actOnLogs(c)
	case ipc.ApplySettings:
		return d.apply(w, c)
	case ipc.SetConnectOnStart:
		return d.setConnectOnStart(w, c.On)
	case ipc.Connect:
		if w.Token == "" {
			return w, ipc.SaySignedOut.With()
		}
		if _, why := w.obstacle(d.settings(w, d.seen().policy)); why != nil {
			return w, why
		}
		w.Paused = false
		return w, nil
	case ipc.Retry:
		if s != nil {
			s.retry()
		}
		return w, nil
	}
	return w, ipc.SayUnknownCommand.With("command", fmt.Sprintf("%T", c))
}

// actOnLogs changes what is logged, or deletes what was.
func (d *daemon) actOnLogs(c ipc.Command) error {
	if _, clear := c.(ipc.ClearLogs); d.Logs == nil || clear && d.Logs.Dir() == "" {
		return ipc.SayNoLogs.With()
	}
	switch c := c.(type) {
	case ipc.SetLogFilter:
		if err := d.Logs.SetFilter(c.Filter, c.For); err != nil {
			return ipc.NoLogFilter(c.Filter)
		}
		d.Log.Info("the log filter was changed", "filter", c.Filter, "for", c.For)
	case ipc.ClearLogs:
		if err := d.Logs.Clear(); err != nil {
			return ipc.SayLogsStay.With("reason", reason(err))
		}
		d.Log.Info("the log files were deleted")
	}
	return nil
}

// happened takes a session's step into account.
func (d *daemon) happened(e event) {
	phase := d.seen().phase
	switch {
	case phase == ipc.Ending:
	case e.portal && e.up && phase == ipc.Connecting:
		d.enter(ipc.Raising, nil)
	case e.configured && e.err != nil:
		d.enter(ipc.Raising, ipc.SayNotSetUp.With("reason", reason(e.err)))
	case e.configured:
		d.enter(ipc.Connected, nil)
		d.ready.Do(func() {
			d.Log.Info("the tunnel stands")
			if d.Ready != nil {
				d.Ready()
			}
		})
	}
	d.server.Changed()
}

func (d *daemon) enter(p ipc.Phase, problem *ipc.Problem) {
	d.flight.entered(p, problem)
	d.show(func(v *view) {
		if v.phase != p {
			v.phase, v.since = p, time.Now()
		}
		v.problem = problem
	})
}

func (d *daemon) show(change func(*view)) {
	d.mu.Lock()
	change(&d.view)
	d.mu.Unlock()
	d.server.Changed()
}

func (d *daemon) setUpstream(list []netip.AddrPort) {
	d.show(func(v *view) { v.upstream = list })
}

// Handle implements link.Service: the owner acts, and has written down what is
// wished when it answers.
func (d *daemon) Handle(ctx context.Context, from link.Caller, c ipc.Command) error {
	answer := make(chan error, 1)
	select {
	case d.commands <- command{from, c, answer}:
		return <-answer
	case <-ctx.Done():
		return ipc.SayStoppingBusy.With()
	}
}
