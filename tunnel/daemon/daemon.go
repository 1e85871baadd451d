// Package daemon is the client's service: it puts the machine back in order,
// reads what survived, introduces the client to the engine and the portal, and
// undoes at the end whatever it did to DNS and routes.
package daemon

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"stile/platform/clock"
	"stile/platform/dirs"
	"stile/platform/dnsctl"
	"stile/platform/netmon"
	"stile/platform/route"
	"stile/platform/service"
	"stile/platform/sock"
	"stile/platform/tun"
	"stile/tunnel/client"
	"stile/tunnel/core"
	"stile/tunnel/engine"
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

// Config is what the service runs with.
type Config struct {
	Portal   dial.Config // Lookup and Dial are set by Run
	State    string      // folder of what survives
	DNS      dnsctl.Mode
	Internet bool // use the Internet resource if the portal offers it
	// Ready is called once, when the tunnel interface and DNS stand.
	Ready func()
	Log   *slog.Logger
}

// A daemon is one run of the service.
type daemon struct {
	Config
	dns    dnsctl.Control
	engine *engine.Engine
	ready  sync.Once
}

// Repair undoes what a run that did not end orderly has left behind.
func Repair(log *slog.Logger) error {
	return errors.Join(dnsctl.Restore(log), route.Restore())
}

// Run runs the service until ctx ends, which is no error, or until the portal
// refuses it for good. Whatever happens, DNS and routes are afterwards as they
// were found.
func Run(ctx context.Context, c Config) (err error) {
	if err := Repair(c.Log); err != nil {
		return fmt.Errorf("repair after an earlier run: %w", err)
	}
	d := &daemon{Config: c}
	if d.dns, err = dnsctl.New(c.DNS, c.Log); err != nil {
		return fmt.Errorf("control DNS: %w", err)
	}
	names, err := loadNames(filepath.Join(c.State, namesFile), c.Log)
	if err != nil {
		return err
	}
	resolver := &upstream.Resolver{Servers: d.servers, Hosts: dirs.Hosts, Dialer: net.Dialer{Control: sock.Control}}
	c.Portal.Lookup, c.Portal.Dial = resolver.Host, resolver.Dialer.DialContext
	channel, err := dial.New(c.Portal)
	if err != nil {
		return err
	}
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	role := client.New(client.Config{Private: wire.Key(key.Bytes()), Names: names, InternetOn: c.Internet, Rand: rand.Reader, Wall: time.Now()}, clock.Now())
	d.engine = engine.New(engine.Config{
		Role: role, PublicKey: wire.Key(key.PublicKey().Bytes()), Portal: channel, Upstream: resolver,
		TUN:       func() (engine.Device, error) { return tun.Open(tunName, route.MTU) },
		Configure: d.configure, Flush: d.dns.Flush, Remember: d.remember, Notify: d.notify, Log: c.Log,
	})

	defer func() {
		if e := errors.Join(d.dns.Restore(), route.Restore()); e != nil {
			err = errors.Join(err, fmt.Errorf("put DNS and routes back: %w", e))
		}
	}()
	ctx, cancel := context.WithCancel(ctx)
	var g sync.WaitGroup
	g.Go(func() { d.watchResolvers(ctx) })
	g.Go(func() { d.watchNetwork(ctx) })
	g.Go(func() { d.watchReloads(ctx) })
	err = d.engine.Run(ctx)
	cancel()
	g.Wait()
	return err
}

// networkChanged makes the client start over on the network it finds.
func (d *daemon) networkChanged() {
	d.Log.Info("the network changed; connecting anew")
	if err := route.Refresh(); err != nil {
		d.Log.Warn("the local network's routes could not be copied", "error", err)
	}
	d.engine.NetworkChanged()
}

// configure makes the system as the role wants it: addresses and routes, then
// DNS, so that no query meets a resolver that has no way yet.
func (d *daemon) configure(iface string, t core.TUN) error {
	var addrs []netip.Addr
	for _, a := range []netip.Addr{t.IPv4, t.IPv6} {
		if a.IsValid() {
			addrs = append(addrs, a)
		}
	}
	if err := route.Set(iface, route.Config{Addrs: addrs, Routes: t.Routes, Default: t.Default}); err != nil {
		return err
	}
	if err := d.dns.Set(t.Sentinels, t.SearchDomain); err != nil {
		return fmt.Errorf("take DNS over: %w", err)
	}
	if err := d.dns.Flush(); err != nil {
		d.Log.Warn("the system's DNS cache could not be emptied", "error", err)
	}
	d.ready.Do(func() {
		d.Log.Info("the tunnel stands", "interface", iface, "ipv4", t.IPv4, "ipv6", t.IPv6)
		if d.Ready != nil {
			d.Ready()
		}
	})
	return nil
}

func (d *daemon) remember(names []core.ProxyName) error {
	return saveNames(filepath.Join(d.State, namesFile), names)
}

func (d *daemon) notify(n core.Notify) { d.Log.Warn(n.Text, "resource", n.Resource) }

// servers are the system's resolvers without sentinels, which lead back here.
func (d *daemon) servers() ([]netip.AddrPort, error) {
	list, err := d.dns.Servers()
	return slices.DeleteFunc(list, func(s netip.AddrPort) bool { return policy.IsSentinel(s.Addr()) }), err
}

// watchResolvers tells the client the system's resolvers, at the start and
// whenever they have become others. An empty list counts only if it is still
// empty the next time: a file may be read while it is rewritten.
func (d *daemon) watchResolvers(ctx context.Context) {
	tick := time.NewTicker(dnsPoll)
	defer tick.Stop()
	var told []netip.AddrPort
	first, empty := true, 0
	for {
		list, err := d.servers()
		if len(list) == 0 {
			empty++
		} else {
			empty = 0
		}
		if err == nil && (first || !slices.Equal(list, told) && empty != 1) {
			first, told = false, list
			d.engine.Do(core.SystemResolvers{Servers: list})
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (d *daemon) watchNetwork(ctx context.Context) {
	err := netmon.Watch(ctx, tunName, d.networkChanged)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		d.Log.Warn("changes of the network will go unnoticed; SIGHUP tells of one", "error", err)
	}
}

// watchReloads takes SIGHUP for an administrator's word that the network is
// another one.
func (d *daemon) watchReloads(ctx context.Context) {
	reloads, end := service.Reloads()
	defer end()
	for {
		select {
		case <-ctx.Done():
			return
		case <-reloads:
			d.networkChanged()
		}
	}
}
