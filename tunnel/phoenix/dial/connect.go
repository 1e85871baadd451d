package dial

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/coder/websocket"

	"stile/tunnel/phoenix"
	"stile/tunnel/wire"
)

const (
	tcpTimeout     = 5 * time.Second  // over all addresses (1.5)
	upgradeTimeout = 15 * time.Second // TCP, TLS and upgrade
	closeTimeout   = time.Second      // for the portal's answer to our Close
	maxAddresses   = 16               // of one name
)

// A socket is an open WebSocket.
type socket struct {
	*websocket.Conn
	tcp net.Conn
}

// connect makes one attempt.
func (c *Channel) connect(ctx context.Context, key wire.Key) (*socket, *phoenix.Failure) {
	ctx, cancel := context.WithTimeout(ctx, upgradeTimeout)
	defer cancel()
	tcp, err := c.dialAll(ctx)
	if err != nil {
		return nil, &phoenix.Failure{Err: err}
	}
	transport := &http.Transport{
		DialContext:        func(context.Context, string, string) (net.Conn, error) { return tcp, nil },
		TLSClientConfig:    c.tls.Clone(),
		DisableCompression: true,
	}
	conn, response, err := websocket.Dial(ctx, c.target(key), &websocket.DialOptions{
		HTTPClient: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		HTTPHeader: http.Header{"User-Agent": {c.config.UserAgent}, "X-Authorization": {c.bearer()}},
		Host:       c.endpoint.hostHeader(),
	})
	if err != nil {
		tcp.Close()
		failure := c.failure(response, err)
		return nil, &failure
	}
	conn.SetReadLimit(wire.MaxFrame)
	return &socket{conn, tcp}, nil
}

// target is the URL of one attempt; public_key is its last parameter.
func (c *Channel) target(key wire.Key) string {
	u := *c.endpoint.url
	if c.config.Kind == Relay {
		return u.String()
	}
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += "public_key=" + url.QueryEscape(key.String())
	return u.String()
}

// hostHeader is the name without the port, which is what portals see (1.3).
func (e *endpoint) hostHeader() string {
	if a, err := netip.ParseAddr(e.host); err == nil && a.Is6() {
		return "[" + e.host + "]"
	}
	return e.host
}

// failure sorts out why an attempt failed.
func (c *Channel) failure(response *http.Response, err error) phoenix.Failure {
	if response == nil || response.StatusCode == http.StatusSwitchingProtocols {
		return phoenix.Failure{Err: explain(err)}
	}
	body, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
	return phoenix.Refused(phoenix.Response{
		Status: response.StatusCode, ContentType: response.Header.Get("Content-Type"),
		RetryAfter: response.Header.Get("Retry-After"), Body: body,
	}, time.Now())
}

// explain adds what the user can do, and leaves out the URL with its
// parameters.
func explain(err error) error {
	if request, is := errors.AsType[*url.Error](err); is {
		err = request.Err
	}
	if _, is := errors.AsType[x509.UnknownAuthorityError](err); is {
		return fmt.Errorf("the portal's certificate is signed by nobody we trust; if it is your own CA, name its file with --ca-file: %w", err)
	}
	if _, is := errors.AsType[x509.HostnameError](err); is {
		return fmt.Errorf("the portal's certificate is for another name: %w", err)
	}
	if certificate, is := errors.AsType[x509.CertificateInvalidError](err); is && certificate.Reason == x509.Expired {
		return fmt.Errorf("the portal's certificate has expired or this machine's clock is wrong: %w", err)
	}
	return err
}

// ErrLookup means that the portal's name could not be resolved: look at DNS, not
// at the portal. Its text begins a sentence that goes on with the name.
var ErrLookup = errors.New("look up")

// dialAll opens a TCP connection to whichever of the portal's addresses
// answers first.
func (c *Channel) dialAll(ctx context.Context) (net.Conn, error) {
	addrs, err := c.lookup(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrLookup, c.endpoint.host, err)
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("%w %s: no addresses", ErrLookup, c.endpoint.host)
	}
	ctx, cancel := context.WithTimeout(ctx, tcpTimeout)
	defer cancel()

	type result struct {
		conn net.Conn
		err  error
	}
	var attempts sync.WaitGroup
	results := make(chan result, maxAddresses)
	for _, a := range addrs[:min(len(addrs), maxAddresses)] {
		attempts.Go(func() {
			conn, err := c.dialTCP(ctx, "tcp", net.JoinHostPort(a.String(), c.endpoint.port))
			if err == nil {
				cancel() // the others may stop
			}
			results <- result{conn, err}
		})
	}
	attempts.Wait()
	close(results)

	var first net.Conn
	for r := range results {
		switch {
		case r.err != nil && err == nil:
			err = r.err
		case r.err != nil:
			err = fmt.Errorf("%w; %w", err, r.err)
		case first == nil:
			first = r.conn
		default:
			r.conn.Close()
		}
	}
	if first == nil {
		return nil, err
	}
	return first, nil
}

func (c *Channel) lookup(ctx context.Context) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(c.endpoint.host); err == nil {
		return []netip.Addr{a}, nil
	}
	if c.config.Lookup != nil {
		return c.config.Lookup(ctx, c.endpoint.host)
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip", c.endpoint.host)
}

func (c *Channel) dialTCP(ctx context.Context, network, addr string) (net.Conn, error) {
	if c.config.Dial != nil {
		return c.config.Dial(ctx, network, addr)
	}
	return (&net.Dialer{}).DialContext(ctx, network, addr)
}

// hangup closes s with code 1000. A portal that does not answer is cut off.
func (s *socket) hangup() {
	cut := time.AfterFunc(closeTimeout, func() { s.tcp.Close() })
	defer cut.Stop()
	s.Close(websocket.StatusNormalClosure, "")
}
