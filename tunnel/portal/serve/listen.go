package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"stile/tunnel/portal/config"
)

// listen opens all listeners or none. certs are those of the TLS ones.
func listen(ctx context.Context, listeners []config.Listener, certs map[string]*certificate) (open []net.Listener, err error) {
	defer func() {
		if err != nil {
			for _, l := range open {
				l.Close()
			}
		}
	}()
	for _, l := range listeners {
		socket, err := new(net.ListenConfig).Listen(ctx, "tcp", l.Address)
		if err != nil {
			return open, explain(l.Address, err)
		}
		if c := certs[l.CertFile]; c != nil {
			socket = tls.NewListener(socket, &tls.Config{GetCertificate: c.get, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}})
		}
		open = append(open, socket)
	}
	return open, nil
}

// explain says what to do about an address that cannot be listened at.
func explain(address string, err error) error {
	_, port, _ := net.SplitHostPort(address)
	advice := fmt.Sprintf("if another program has port %s (ss -ltnp shows which), stop it or give this listener another address", port)
	if errors.Is(err, fs.ErrPermission) {
		advice = "ports below 1024 need CAP_NET_BIND_SERVICE, which the service unit grants; or give this listener another address"
	}
	return fmt.Errorf("listener %s: %w; %s", address, err, advice)
}

// newServer has the limits of a server on the open internet. Sockets of peers
// leave its care when they are upgraded.
func newServer(f front, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: f, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 60 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// A certificate is read again when its file changes, as it does when it is
// renewed. A bad pair of files leaves the last good one in use.
type certificate struct {
	certFile, keyFile string

	mu      sync.Mutex // guards the rest
	current *tls.Certificate
	seen    [2]mark // of both files when they were last read, well or not
}

// loadCertificates reads the pairs of all TLS listeners, by certificate file.
func loadCertificates(listeners []config.Listener) (map[string]*certificate, error) {
	certs := map[string]*certificate{}
	for _, l := range listeners {
		if l.Plain() || certs[l.CertFile] != nil {
			continue
		}
		c := &certificate{certFile: l.CertFile, keyFile: l.KeyFile}
		if err := c.load(); err != nil {
			return nil, fmt.Errorf("listener %s: %w", l.Address, err)
		}
		certs[l.CertFile] = c
	}
	return certs, nil
}

func (c *certificate) load() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = [2]mark{markOf(c.certFile), markOf(c.keyFile)}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w; both must be readable for the user the portal runs as", err)
	}
	if err != nil {
		return fmt.Errorf("certificate %s with key %s: %w", c.certFile, c.keyFile, err)
	}
	c.current = &pair
	return nil
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current, nil
}

// changed reports whether there are other files than were read last.
func (c *certificate) changed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !markOf(c.certFile).equal(c.seen[0]) || !markOf(c.keyFile).equal(c.seen[1])
}

// A mark tells versions of a file apart without reading it, also when one was
// renamed into the place of another. The zero mark is that of no file.
type mark struct{ info fs.FileInfo }

func markOf(path string) mark {
	info, err := os.Stat(path)
	if err != nil {
		return mark{}
	}
	return mark{info}
}

func (m mark) equal(n mark) bool {
	if m.info == nil || n.info == nil {
		return m.info == nil && n.info == nil
	}
	return os.SameFile(m.info, n.info) && m.info.ModTime().Equal(n.info.ModTime()) && m.info.Size() == n.info.Size()
}
