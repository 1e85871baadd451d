package main

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"stile/build/stamp"
	"stile/platform/arena"
	"stile/platform/clock"
	"stile/platform/dirs"
	"stile/platform/dnsctl"
	"stile/platform/forward"
	"stile/platform/keystore"
	"stile/platform/machine"
	"stile/platform/route"
	"stile/platform/service"
	"stile/platform/sock"
	"stile/platform/tun"
	"stile/tunnel/core"
	"stile/tunnel/engine"
	"stile/tunnel/gateway"
	"stile/tunnel/operator"
	"stile/tunnel/phoenix/dial"
	"stile/tunnel/upstream"
	"stile/tunnel/wire"
)

const tunName = "tun-stile"

// gatewayCommands are "stile-server gateway …": one runs a gateway, which is
// what "gateway" alone does, too; the others ask one that runs.
type gatewayCommands struct {
	Serve gatewayCommand `cmd:"" name:"run" default:"withargs" help:"Run the gateway until it is stopped. \"gateway\" alone does the same."`
	operator.Commands
}

type gatewayCommand struct {
	APIURL    string `name:"api-url" env:"STILE_API_URL,FIREZONE_API_URL" help:"The portal: wss://HOST[:PORT]. ws:// is taken from the environment only." placeholder:"URL"`
	TokenFile string `env:"STILE_TOKEN_FILE" default:"/etc/stile/gateway-token" help:"File that holds the site's token (root only, mode 0600). STILE_TOKEN wins over it."`
	CAFile    string `name:"ca-file" env:"STILE_CA_FILE" help:"Certificates to trust besides the system's."`
	Name      string `env:"STILE_NAME,FIREZONE_NAME" help:"Name of this gateway in the portal (default: its host name)."`
	ID        string `name:"id" env:"STILE_ID,FIREZONE_ID" help:"Identifier of this gateway (default: made from the machine's)."`
	State     string `name:"state-dir" env:"STILE_STATE_DIR" default:"/var/lib/stile" help:"Folder for what must survive a restart."`
	Partition string `name:"max-partition-time" env:"STILE_MAX_PARTITION_TIME,FIREZONE_MAX_PARTITION_TIME" help:"Give up after so long without the portal, such as 24h (default: never)."`

	FirewallIntegration bool `name:"firewall-integration" env:"STILE_FIREWALL_INTEGRATION" help:"Add a rule to another firewall's chain (Docker, ufw, firewalld, ...) where it would drop the tunnel's packets by default; it is removed at the end. Without this the gateway only says which command lets them pass."`

	Rules    gatewayRules     `embed:""`
	Operator operator.Options `embed:""`
}

// Validate tells what is wrong with the options.
func (g *gatewayCommand) Validate() error {
	if _, err := service.ParseDuration(g.Partition); err != nil {
		return fmt.Errorf("--max-partition-time: %w", err)
	}
	if err := g.Rules.apply(new(gateway.Config)); err != nil {
		return err
	}
	if err := g.Operator.Validate(); err != nil {
		return err
	}
	return dial.CheckURL(g.APIURL, g.plainAllowed())
}

// plainAllowed reports whether the URL is root's own, of the environment.
func (g *gatewayCommand) plainAllowed() bool {
	return g.APIURL == os.Getenv("STILE_API_URL") || g.APIURL == os.Getenv("FIREZONE_API_URL")
}

// Run runs a gateway until ctx ends. Forwarding, firewall and routes are
// afterwards as they were found.
func (g *gatewayCommand) Run(ctx context.Context, log *slog.Logger) (err error) {
	system, err := dnsctl.New(dnsctl.Disabled, log) // only to know the resolvers
	if err != nil {
		return err
	}
	resolver := &upstream.Resolver{Servers: system.Servers, Hosts: dirs.Hosts, Dialer: net.Dialer{Control: sock.Control}}
	channel, err := g.channel(resolver, log)
	if err != nil {
		return err
	}
	names := *resolver // of resources
	if names.Servers, err = g.Rules.resolvers(system.Servers); err != nil {
		return err
	}
	// Whoever has the device may undo what an earlier run has left behind:
	// while another client or gateway runs here, it is not ours to undo.
	device, err := tun.Open(tunName, route.MTU)
	if err != nil {
		return err
	}
	defer device.Close()
	if err := errors.Join(forward.Recover(log), route.Restore()); err != nil {
		return fmt.Errorf("repair after an earlier run: %w", err)
	}
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	watch, err := g.Operator.Open(log)
	if err != nil {
		return err
	}
	firewall := forward.New(forward.Config{Interface: tunName, Integrate: g.FirewallIntegration, Log: log})
	defer func() {
		if e := errors.Join(firewall.Close(), route.Restore()); e != nil {
			err = errors.Join(err, fmt.Errorf("put forwarding and routes back: %w", e))
		}
	}()
	ctx, stop := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	defer watcher.Wait()
	defer stop()
	watcher.Go(func() {
		if e := firewall.Run(ctx); e != nil {
			log.Warn("changes of the firewall go unnoticed", "error", e)
		}
	})
	config := gateway.Config{Private: wire.Key(key.Bytes()), Rand: rand.Reader, Wall: time.Now(), Flows: watch.Flows() != nil, Memory: new(arena.Arena)}
	if err := g.Rules.apply(&config); err != nil {
		return err
	}
	role := gateway.New(config, clock.Now())
	g.restore(role, log)
	defer func() { hold(firewall, g.save(role, log), log) }()
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	defer context.AfterFunc(ctx, func() { hold(firewall, true, log); end() })()
	log.Info("started", "version", stamp.String(), "next", "it joins the portal; then it says that it stands")
	e := engine.New(engine.Config{
		Role:      role,
		PublicKey: wire.Key(key.PublicKey().Bytes()), Portal: channel, Upstream: &names, Flows: watch.Flows(), Log: log,
		TUN: func() (engine.Device, error) { return device, nil },
		Configure: func(iface string, t core.TUN) error {
			addrs := []netip.Addr{t.IPv4, t.IPv6}
			if err := route.Set(iface, route.Config{Addrs: addrs, Routes: t.Routes}); err != nil {
				return err
			}
			if err := firewall.Enable(); err != nil {
				return err
			}
			log.Info("the gateway stands", "interface", iface, "ipv4", t.IPv4, "ipv6", t.IPv6)
			service.Ready(log)
			return nil
		},
	})
	watching, unwatch := context.WithCancel(context.WithoutCancel(ctx))
	var watched sync.WaitGroup
	defer watched.Wait() // nobody looks at sessions that are being saved
	defer unwatch()      // after the engine, so that the last it tells is in the logs
	watched.Go(func() { watch.Run(watching, e) })
	return explain(e.Run(running))
}

// sessionsFile keeps open connections over a restart.
const sessionsFile = "gateway-sessions"

// restore takes up the sessions of the gateway that ran here before. Without
// them connections may break, and nothing else: it is no reason not to start.
func (g *gatewayCommand) restore(role *gateway.Core, log *slog.Logger) {
	path := filepath.Join(g.State, sessionsFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	clients, sessions := 0, 0
	if err == nil {
		err = os.Remove(path) // it counts once
	}
	if err == nil {
		clients, sessions, err = role.Restore(text, clock.Now())
	}
	if err != nil {
		log.Warn("not all connections of before the restart can go on", "file", path, "err", err)
	}
	log.Info("connections of before the restart wait for their clients", "clients", clients, "sessions", sessions)
}

// save writes the sessions down for the next gateway, and reports whether there
// are any. Nobody else may read who speaks with whom.
func (g *gatewayCommand) save(role *gateway.Core, log *slog.Logger) bool {
	if err := dirs.WriteFile(filepath.Join(g.State, sessionsFile), role.AppendSnapshot(nil, clock.Now()), 0o600); err != nil {
		log.Warn("open connections may break when the gateway is started again", "err", err)
		return false
	}
	return role.Sessions() > 0
}

// hold keeps this host from refusing answers that only the next gateway can
// hand on, or stops that. It begins before the tunnel is closed.
func hold(f *forward.Forwarding, wanted bool, log *slog.Logger) {
	d := time.Duration(0)
	if wanted {
		d = gateway.RestoreFor
	}
	if err := f.Hold(d); err != nil {
		log.Warn("open connections may break until the gateway is started again", "err", err)
	}
}

// explain adds what an administrator can do.
func explain(err error) error {
	if errors.Is(err, dial.ErrTokenRejected) {
		return fmt.Errorf("%w: make another one with \"stile-server portal token create --gateway SITE\" and put it where this one came from", err)
	}
	return err
}

func (g *gatewayCommand) channel(resolver *upstream.Resolver, log *slog.Logger) (*dial.Channel, error) {
	token, err := keystore.FromEnvironment("STILE_TOKEN", "FIREZONE_TOKEN")
	if errors.Is(err, keystore.ErrNoToken) {
		token, err = keystore.FromFile(g.TokenFile)
	}
	if errors.Is(err, keystore.ErrNoToken) {
		return nil, fmt.Errorf("%w: make one with \"stile-server portal token create --gateway SITE\" and put it into %s (mode 0600) or STILE_TOKEN", err, g.TokenFile)
	}
	if err != nil {
		return nil, err
	}
	if g.ID == "" {
		if g.ID, err = machine.DeviceID(g.State, log); err != nil {
			return nil, err
		}
	}
	if g.Name == "" {
		g.Name = machine.Hostname()
	}
	partition, err := service.ParseDuration(g.Partition)
	if err != nil {
		return nil, fmt.Errorf("--max-partition-time: %w", err)
	}
	us := machine.Describe()
	return dial.New(dial.Config{
		URL: g.APIURL, AllowPlain: g.plainAllowed(), CAFile: g.CAFile,
		Kind: dial.Gateway, Token: wire.Secret(token), ExternalID: wire.ExternalID(g.ID), Name: g.Name,
		UserAgent: wire.UserAgent(wire.Gateway, stamp.Version, us.Name, us.Version, us.Arch, us.Kernel),
		Lookup:    resolver.Host, Dial: resolver.Dialer.DialContext, MaxPartition: partition, Log: log,
	})
}
