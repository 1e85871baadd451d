package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// listenHealth opens the health endpoint. The result is nil if there is none.
func (s *shell) listenHealth() (net.Listener, error) {
	if s.config.Health == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", s.config.Health)
	if err != nil {
		return nil, fmt.Errorf("health endpoint (choose another with --health-check-addr, or \"\" for none): %w", err)
	}
	return l, nil
}

// serveHealth answers /healthz as long as the process lives, and /readyz with
// success only while the portal knows us.
func (s *shell) serveHealth(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !s.joined.Load() {
			http.Error(w, "not registered with the portal", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second, MaxHeaderBytes: 4 << 10}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("health endpoint: %w", err)
	}
	return nil
}
