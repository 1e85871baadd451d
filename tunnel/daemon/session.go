package daemon

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"stile/platform/clock"
	"stile/platform/dirs"
	"stile/platform/dnsctl"
	"stile/platform/netmon"
	"stile/platform/route"
	"stile/platform/sock"
	"stile/platform/tun"
	"stile/tunnel/client"
	"stile/tunnel/core"
	"stile/tunnel/engine"
	"stile/tunnel/ipc"
	"stile/tunnel/phoenix/dial"
	"stile/tunnel/policy"
	"stile/tunnel/upstream"
	"stile/tunnel/wire"
)

const (
	tunName   = "tun-stile"
	namesFile = "proxy-addresses.json"
	dnsPoll   = 5 * time.Second // how often the system's resolvers are read again
)

// A session is one life of the client with one token. It changes DNS and
// routes while it runs, and has put them back when it has ended.
type session struct {
	*daemon
	wish   wish   // what it was started for
	portal string // its address
	// What the owner keeps of it: whether it was told to end, whether it waits
	// for the portal's word about another token, and its address in the tunnel.
	told, renewing bool
	address        netip.Addr

	renewed atomic.Pointer[wire.Secret] // the token it goes on with; nil: that of wish
	renew   func(wire.Secret)           // tries another token of the same client at once
	engine  runner                      // *engine.Engine
	retry   func()                      // tries the portal again at once
	reset   func()                      // begins anew on the network that it finds
	why     func() error                // the portal is away; nil: unknown
	dns     dnsctl.Control
	cancel  context.CancelFunc

	answered atomic.Int64 // when the engine last told watch anything, in nanoseconds since started
	events   chan event   // for the owner; the session waits until they are taken
	ended    chan error   // holds one: how it ended; nil: it was told to
}

// A runner is what the owner needs of the engine.
type runner interface {
	Do(core.Result)
	Report() core.Report
	Brief() core.Report
	Inspect(f func(r core.Role, now time.Time))
}

// An event is a step a session has taken.
type event struct {
	portal     bool // whether the portal answers has changed, to up
	up         bool
	configured bool // the tunnel interface, routes and DNS were set, or err says why not
	address    netip.Addr
	err        error
}

// portal is the channel to the portal, overheard.
type portal struct {
	engine.Portal
	up func(bool)

	mu  sync.Mutex // guards key
	key wire.Key   // announced last
}

func (p *portal) Run(ctx context.Context, key wire.Key, deliver func(core.PortalEvent)) error {
	p.remember(key)
	return p.Portal.Run(ctx, key, func(e core.PortalEvent) {
		deliver(e)
		if e.Up || e.Down {
			p.up(e.Up)
		}
	})
}

func (p *portal) Reconnect(key wire.Key) {
	p.remember(key)
	p.Portal.Reconnect(key)
}

func (p *portal) remember(key wire.Key) {
	p.mu.Lock()
	p.key = key
	p.mu.Unlock()
}

// retry connects anew as we are.
func (p *portal) retry() {
	p.mu.Lock()
	key := p.key
	p.mu.Unlock()
	p.Portal.Reconnect(key)
}

// token is what the session uses.
func (s *session) token() wire.Secret {
	if t := s.renewed.Load(); t != nil {
		return *t
	}
	return s.wish.Token
}

// suits reports whether a session can go on with the token of another wish: it
// is for the same person at the same portal, as far as names tell. The portal
// knows for sure: another person gets another address.
func (s *session) suits(w wish) bool {
	return s.renew != nil && w.Token != "" && w.Actor != "" && w.Actor == s.wish.Actor && w.Account == s.wish.Account &&
		w.Holder == s.wish.Holder && w.Source == s.wish.Source && samePortal(s.portal, w.Portal)
}

// start begins a session for a wish. The error is for whoever configured us.
func (d *daemon) start(ctx context.Context, w wish, address string) (*session, error) {
	s := &session{daemon: d, wish: w, portal: address, events: make(chan event), ended: make(chan error, 1)}
	var err error
	if s.dns, err = dnsctl.New(d.DNS, d.Log); err != nil {
		return nil, fmt.Errorf("control DNS: %w", err)
	}
	names := loadNames(filepath.Join(d.StateDir, namesFile), d.Log)
	ctx, s.cancel = context.WithCancel(ctx)
	resolver := &upstream.Resolver{Servers: s.servers, Hosts: dirs.Hosts, Dialer: net.Dialer{Control: sock.Control}}
	c := d.Portal
	c.URL, c.AllowPlain = address, c.AllowPlain || ipc.IsLoopback(address)
	c.Token, c.Lookup, c.Dial = w.Token, resolver.Host, resolver.Dialer.DialContext
	channel, err := dial.New(c)
	if err != nil {
		return nil, err
	}
	overheard := &portal{Portal: channel, up: func(up bool) { s.tell(ctx, event{portal: true, up: up}) }}
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	role := client.New(client.Config{Private: wire.Key(key.Bytes()), Names: names, InternetOn: w.Internet || d.Internet, Rand: rand.Reader, Wall: time.Now()}, clock.Now())
	e := engine.New(engine.Config{
		Role: role, PublicKey: wire.Key(key.PublicKey().Bytes()), Portal: overheard, Upstream: resolver,
		TUN:       func() (engine.Device, error) { return tun.Open(tunName, route.MTU) },
		Configure: func(iface string, t core.TUN) error { return s.configure(ctx, iface, t) },
		Flush:     s.dns.Flush, Remember: s.remember, Notify: s.notify, Flight: d.flight.Recorder, Log: d.Log,
	})
	s.engine, s.retry, s.why = e, overheard.retry, channel.Trouble
	s.reset = func() { s.networkChanged(e) }
	s.renew = func(token wire.Secret) { channel.Renew(token); overheard.retry() }
	go func() { s.ended <- s.run(ctx, e) }() // the owner waits for it
	return s, nil
}

func (s *session) run(ctx context.Context, e *engine.Engine) error {
	ctx, cancel := context.WithCancel(ctx)
	var g sync.WaitGroup
	g.Go(func() { s.watchResolvers(ctx) })
	g.Go(func() { s.watchNetwork(ctx, e) })
	g.Go(func() { s.watch(ctx) })
	g.Go(func() { s.watchEngine(ctx) })
	err := e.Run(ctx)
	cancel()
	g.Wait()
	if e := errors.Join(s.dns.Restore(), route.Restore()); e != nil {
		s.flight.alarm(restoreFailed)
		err = errors.Join(err, fmt.Errorf("put DNS and routes back: %w", e))
	}
	return err
}

func (s *session) tell(ctx context.Context, e event) {
	select {
	case s.events <- e:
	case <-ctx.Done():
	}
}

// networkChanged makes the client start over on the network it finds.
func (s *session) networkChanged(e *engine.Engine) {
	s.Log.Info("the network changed; connecting anew")
	if err := route.Refresh(); err != nil {
		s.Log.Warn("the local network's routes could not be copied", "error", err)
	}
	e.NetworkChanged()
}

// configure makes the system as the role wants it: addresses and routes, then
// DNS, so that no query meets a resolver that has no way yet.
func (s *session) configure(ctx context.Context, iface string, t core.TUN) (err error) {
	defer func() { s.tell(ctx, event{configured: true, address: t.IPv4, err: err}) }()
	var addrs []netip.Addr
	for _, a := range []netip.Addr{t.IPv4, t.IPv6} {
		if a.IsValid() {
			addrs = append(addrs, a)
		}
	}
	if err := route.Set(iface, route.Config{Addrs: addrs, Routes: t.Routes, Default: t.Default}); err != nil {
		return err
	}
	if err := s.dns.Set(t.Sentinels, t.SearchDomain); err != nil {
		return fmt.Errorf("take DNS over: %w", err)
	}
	if err := s.dns.Flush(); err != nil {
		s.Log.Warn("the system's DNS cache could not be emptied", "error", err)
	}
	return nil
}

func (s *session) remember(names []core.ProxyName) error {
	return saveNames(filepath.Join(s.StateDir, namesFile), names)
}

func (s *session) notify(n core.Notify) { s.Log.Warn(n.Text, "resource", n.Resource) }

// servers are the system's resolvers without sentinels, which lead back here.
func (s *session) servers() ([]netip.AddrPort, error) {
	list, err := s.dns.Servers()
	return slices.DeleteFunc(list, func(a netip.AddrPort) bool { return policy.IsSentinel(a.Addr()) }), err
}

// watchResolvers tells the client the system's resolvers, at the start and
// whenever they have become others. An empty list counts only if it is still
// empty the next time: a file may be read while it is rewritten.
func (s *session) watchResolvers(ctx context.Context) {
	tick := time.NewTicker(dnsPoll)
	defer tick.Stop()
	var told []netip.AddrPort
	first, empty := true, 0
	for {
		list, err := s.servers()
		if len(list) == 0 {
			empty++
		} else {
			empty = 0
		}
		if err == nil && (first || !slices.Equal(list, told) && empty != 1) {
			first, told = false, list
			s.engine.Do(core.SystemResolvers{Servers: list})
			s.setUpstream(list)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *session) watchNetwork(ctx context.Context, e *engine.Engine) {
	err := netmon.Watch(ctx, tunName, func() { s.networkChanged(e) })
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		s.Log.Warn("changes of the network will go unnoticed; SIGHUP tells of one", "error", err)
	}
}
