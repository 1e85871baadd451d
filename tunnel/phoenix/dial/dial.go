// Package dial runs a channel to the portal: it looks the name up, dials all
// addresses, speaks TLS and WebSocket, and carries out what package phoenix
// decides (spec portal.md 1).
package dial

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"stile/tunnel/phoenix"
	"stile/tunnel/wire"
)

// A Kind is what we are towards the portal. The text is the channel's topic
// and the first segment of the path.
type Kind string

const (
	Client  Kind = "client"
	Gateway Kind = "gateway"
	Relay   Kind = "relay"
)

// Errors that end Run, for errors.Is; see package phoenix for what to do.
var (
	ErrTokenRejected = phoenix.ErrTokenRejected
	ErrUnauthorized  = phoenix.ErrUnauthorized
	ErrJoinRefused   = phoenix.ErrJoinRefused
	ErrPartitioned   = phoenix.ErrPartitioned
)

// ErrPlain means that the URL asks for an unencrypted connection, which would
// show the token to everybody on the way, and that nobody with the right to do
// so has allowed it.
var ErrPlain = errors.New("refusing to send the token unencrypted: use wss://")

// Config says who we are and how to reach the portal.
type Config struct {
	// URL is the portal's API: wss://HOST[:PORT][/PREFIX], or just HOST. The
	// default port is 443, for ws:// too.
	URL string
	// AllowPlain permits ws://. Set it only if the URL comes from root: the
	// daemon's environment, or a file that only root can write.
	AllowPlain bool
	Kind       Kind
	Token      wire.Secret
	ExternalID string     // clients and gateways; see wire.ExternalID
	Name       string     // display name; may be empty for relays
	UserAgent  string     // see wire.UserAgent
	Params     url.Values // further query parameters of 1.2
	// Join is the join's payload; nil for clients and gateways.
	Join wire.Message
	// CAFile holds certificates in PEM that count besides the system's.
	CAFile string
	// Lookup resolves the portal's name, at each attempt; nil: the system's
	// resolver. Dial opens a TCP connection to an IP and port; nil: plainly.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	Dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	// MaxPartition bounds the delays between two joins; zero: no bound.
	MaxPartition time.Duration
	// Now is the clock of timers; nil: platform/clock.
	Now func() time.Time
	Log *slog.Logger
}

// segments are the path below the URL's own (1.1).
func (k Kind) segments() []string {
	if k == Relay {
		return []string{"relay", "websocket"}
	}
	return []string{string(k), "v2", "websocket"}
}

// decode returns what reads the portal's messages to a peer of this kind.
func (k Kind) decode(event string, payload []byte) (wire.Message, error) {
	switch k {
	case Client:
		return wire.DecodeForClient(wire.V2, event, payload)
	case Gateway:
		return wire.DecodeForGateway(wire.V2, event, payload)
	}
	return wire.DecodeForRelay(event, payload)
}

// endpoint is where to dial, apart from the public key.
type endpoint struct {
	url        *url.URL // with query, and with the port always explicit
	host, port string
	secure     bool
}

// CheckURL tells what is wrong with the portal's URL, and what to write.
func CheckURL(url string, allowPlain bool) error {
	_, err := (&Config{URL: url, AllowPlain: allowPlain}).parseURL()
	return err
}

// parseURL applies the rules of 1.1 to c.URL.
func (c *Config) parseURL() (endpoint, error) {
	const like = "write it like wss://portal.example.com"
	text := c.URL
	if text == "" {
		return endpoint{}, errors.New("which portal? Set --api-url or STILE_API_URL to its address, like wss://portal.example.com")
	}
	if !strings.Contains(text, "://") {
		text = "wss://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return endpoint{}, fmt.Errorf("portal URL %q is no URL; %s", c.URL, like)
	}
	e := endpoint{url: u, host: u.Hostname(), port: u.Port()}
	switch u.Scheme {
	case "wss", "https":
		e.secure, u.Scheme = true, "wss"
	case "ws", "http":
		u.Scheme = "ws"
	default:
		return endpoint{}, fmt.Errorf("portal URL %q has the scheme %s; %s", c.URL, u.Scheme, like)
	}
	if !e.secure && !c.AllowPlain {
		return endpoint{}, fmt.Errorf("portal URL %q: %w", c.URL, ErrPlain)
	}
	if e.host == "" || u.User != nil {
		return endpoint{}, fmt.Errorf("portal URL %q is not wss://HOST[:PORT]; %s", c.URL, like)
	}
	if e.port == "" {
		e.port = "443"
	}
	if port, err := strconv.ParseUint(e.port, 10, 16); err != nil || port == 0 {
		return endpoint{}, fmt.Errorf("portal URL %q has no port between 1 and 65535; %s, which stands for port 443", c.URL, like)
	}
	u.Host = net.JoinHostPort(e.host, e.port)
	u.Fragment, u.RawQuery = "", c.query()
	u.Path = strings.TrimSuffix(u.Path, "/") + "/" + strings.Join(c.Kind.segments(), "/")
	u.RawPath = ""
	return e, nil
}

// query builds the parameters of 1.2 in the order of stock peers; public_key
// comes behind them at each connect.
func (c *Config) query() string {
	var q []string
	add := func(name, value string) {
		if value != "" {
			q = append(q, url.QueryEscape(name)+"="+url.QueryEscape(value))
		}
	}
	add("external_id", c.ExternalID)
	add("name", c.Name)
	order := []string{"ipv4", "ipv6", "port", "device_serial", "device_uuid"}
	for _, name := range order {
		add(name, c.Params.Get(name))
	}
	for name, values := range c.Params {
		if !slices.Contains(order, name) {
			add(name, values[0])
		}
	}
	return strings.Join(q, "&")
}

// tlsConfig trusts the system's roots and those of CAFile.
func (c *Config) tlsConfig() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile == "" {
		return config, nil
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read the CA file: %w; name a file with certificates in PEM, or leave --ca-file out to trust the system's", err)
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("CA file %s holds no certificate in PEM; name one that does, or leave --ca-file out to trust the system's", c.CAFile)
	}
	config.RootCAs = roots
	return config, nil
}
