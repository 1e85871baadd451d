package serve

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"stile/build/stamp"
	"stile/platform/keystore"
	"stile/platform/machine"
	"stile/tunnel/phoenix/dial"
	"stile/tunnel/relay"
	"stile/tunnel/wire"
)

// partition is how long a relay outlives the portal. Peers forget relays that
// the portal does not know, so that a restart loses nothing.
const partition = 24 * time.Hour

// Command is "stile-server relay". Each option is also an environment variable,
// under the name that stock relays read as well.
type Command struct {
	PublicIP4Addr netip.Addr `name:"public-ip4-addr" placeholder:"ADDR" env:"STILE_PUBLIC_IP4_ADDR,PUBLIC_IP4_ADDR" help:"IPv4 address under which peers reach this relay."`
	PublicIP6Addr netip.Addr `name:"public-ip6-addr" placeholder:"ADDR" env:"STILE_PUBLIC_IP6_ADDR,PUBLIC_IP6_ADDR" help:"IPv6 address under which peers reach this relay."`
	BindIP4Addr   netip.Addr `name:"bind-ip4-addr" placeholder:"ADDR" default:"0.0.0.0" env:"STILE_BIND_IP4_ADDR,BIND_IP4_ADDR" help:"Local IPv4 address of the sockets."`
	BindIP6Addr   netip.Addr `name:"bind-ip6-addr" placeholder:"ADDR" default:"::" env:"STILE_BIND_IP6_ADDR,BIND_IP6_ADDR" help:"Local IPv6 address of the sockets."`
	ListenPort    uint16     `default:"3478" env:"STILE_LISTEN_PORT,LISTEN_PORT" help:"UDP port for clients. Stock peers need 3478."`
	LowestPort    uint16     `default:"49152" env:"STILE_LOWEST_PORT,LOWEST_PORT" help:"First UDP port for allocations."`
	HighestPort   uint16     `default:"65535" env:"STILE_HIGHEST_PORT,HIGHEST_PORT" help:"Last UDP port for allocations."`

	APIURL    string `name:"api-url" placeholder:"URL" env:"STILE_API_URL,FIREZONE_API_URL" help:"The portal: wss://HOST[:PORT][/PREFIX]."`
	TokenFile string `name:"token-file" placeholder:"FILE" env:"STILE_TOKEN_PATH,FIREZONE_TOKEN_PATH" help:"File with the relay's token. The token itself may be in STILE_TOKEN or FIREZONE_TOKEN."`
	Name      string `env:"STILE_NAME,FIREZONE_NAME" help:"Name shown in the portal."`
	CAFile    string `name:"ca-file" placeholder:"FILE" env:"STILE_CA_FILE,FIREZONE_CA_FILE" help:"Certificates in PEM to trust besides the system's."`

	HealthCheckAddr string `name:"health-check-addr" placeholder:"HOST:PORT" default:"0.0.0.0:8080" env:"STILE_HEALTH_CHECK_ADDR,HEALTH_CHECK_ADDR" help:"Where to answer /healthz and /readyz; \"\" for nowhere."`
}

// Validate tells what is wrong with the options, and what to do about it.
func (c *Command) Validate() error {
	switch {
	case !c.PublicIP4Addr.IsValid() && !c.PublicIP6Addr.IsValid():
		return errors.New("set PUBLIC_IP4_ADDR or PUBLIC_IP6_ADDR: peers must know where to reach the relay")
	case c.PublicIP4Addr.IsValid() && !c.PublicIP4Addr.Is4():
		return fmt.Errorf("PUBLIC_IP4_ADDR: %v is not an IPv4 address", c.PublicIP4Addr)
	case c.PublicIP6Addr.IsValid() && !c.PublicIP6Addr.Is6():
		return fmt.Errorf("PUBLIC_IP6_ADDR: %v is not an IPv6 address", c.PublicIP6Addr)
	case c.BindIP4Addr.IsValid() && !c.BindIP4Addr.Is4():
		return fmt.Errorf("BIND_IP4_ADDR: %v is not an IPv4 address", c.BindIP4Addr)
	case c.BindIP6Addr.IsValid() && !c.BindIP6Addr.Is6():
		return fmt.Errorf("BIND_IP6_ADDR: %v is not an IPv6 address", c.BindIP6Addr)
	case c.LowestPort == 0 || c.LowestPort > c.HighestPort:
		return fmt.Errorf("LOWEST_PORT %d must be at least 1 and not above HIGHEST_PORT %d", c.LowestPort, c.HighestPort)
	}
	return dial.CheckURL(c.APIURL, true)
}

// Run serves until ctx ends or the portal refuses the relay for good.
func (c *Command) Run(ctx context.Context, log *slog.Logger) error {
	token, err := c.token()
	if err != nil {
		return err
	}
	if err := c.Validate(); err != nil {
		return err
	}
	var random [32]byte
	if _, err := rand.Read(random[:]); err != nil {
		return err
	}
	secret := hex.EncodeToString(random[:])
	portal, err := dial.New(c.portal(token, secret, log))
	if err != nil {
		return err
	}
	if strings.HasPrefix(c.APIURL, "ws://") || strings.HasPrefix(c.APIURL, "http://") {
		log.Warn("the connection to the portal is not encrypted", "url", c.APIURL)
	}
	err = Run(ctx, Config{
		Relay: relay.Config{
			StampSecret: secret,
			PublicV4:    c.PublicIP4Addr,
			PublicV6:    c.PublicIP6Addr,
			ListenPort:  c.ListenPort,
			LowestPort:  c.LowestPort,
			HighestPort: c.HighestPort,
			Rand:        rand.Reader,
		},
		BindV4: c.BindIP4Addr,
		BindV6: c.BindIP6Addr,
		Portal: portal,
		Health: c.HealthCheckAddr,
		Log:    log,
	})
	switch {
	case ctx.Err() != nil:
		return nil // asked to stop
	case errors.Is(err, dial.ErrTokenRejected):
		return fmt.Errorf("%w: make another one with \"stile-server portal token create --relay\" and put it where this one came from", err)
	}
	return err
}

// token takes the token out of the environment, or reads it from its file.
func (c *Command) token() (wire.Secret, error) {
	token, err := keystore.FromEnvironment("STILE_TOKEN", "FIREZONE_TOKEN")
	if errors.Is(err, keystore.ErrNoToken) && c.TokenFile != "" {
		token, err = keystore.FromFile(c.TokenFile)
	}
	if errors.Is(err, keystore.ErrNoToken) {
		return "", fmt.Errorf("%w: make one with \"stile-server portal token create --relay\" and put it into STILE_TOKEN or a file named by --token-file", err)
	}
	return wire.Secret(token), err
}

// portal is how to register (spec connectivity.md 4.8, portal.md 3.6). Flags
// and environment of a relay are root's, so that ws:// is theirs to choose.
func (c *Command) portal(token wire.Secret, secret string, log *slog.Logger) dial.Config {
	params := url.Values{"port": {strconv.Itoa(int(c.ListenPort))}}
	if c.PublicIP4Addr.IsValid() {
		params.Set("ipv4", c.PublicIP4Addr.String())
	}
	if c.PublicIP6Addr.IsValid() {
		params.Set("ipv6", c.PublicIP6Addr.String())
	}
	os := machine.Describe()
	return dial.Config{
		URL:          c.APIURL,
		AllowPlain:   true,
		Kind:         dial.Relay,
		Token:        token,
		Name:         c.Name,
		UserAgent:    wire.UserAgent(wire.RelayComponent, stamp.Version, os.Name, os.Version, os.Arch, os.Kernel),
		Params:       params,
		Join:         wire.RelayJoin{StampSecret: secret},
		CAFile:       c.CAFile,
		MaxPartition: partition,
		Log:          log,
	}
}
