package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"stile/platform/ipcsock"
	"stile/tunnel/gateway"
)

const (
	connections = 16 // at a time on each listener; others wait
	answerTime  = 30 * time.Second
	shutdown    = 2 * time.Second
)

// Listen opens the local socket. The error is ipcsock.ErrInUse if another
// gateway runs there.
func Listen(path string) (net.Listener, error) { return ipcsock.Listen(path, 0o600) }

// ListenMetrics opens a TCP address, IP:PORT, for Prometheus. Whoever can reach
// it may read: it must be of this host alone unless anywhere is set.
func ListenMetrics(address string, anywhere bool) (net.Listener, error) {
	if err := CheckMetrics(address, anywhere); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for metrics: %w", err)
	}
	return l, nil
}

// CheckMetrics tells what is wrong with an address for metrics.
func CheckMetrics(address string, anywhere bool) error {
	a, err := netip.ParseAddrPort(address)
	switch {
	case err != nil:
		return fmt.Errorf("%q is not an IP address with a port, such as 127.0.0.1:9464", address)
	case !anywhere && !a.Addr().IsLoopback():
		return fmt.Errorf("%s can be reached by others, and whoever reaches it may read: use a loopback address such as 127.0.0.1:%d, or allow it with --metrics-anywhere", address, a.Port())
	}
	return nil
}

// Serve answers at both listeners until ctx ends, and closes them: local for
// everything, remote for metrics. Either may be nil.
func (o *Operator) Serve(ctx context.Context, local, remote net.Listener) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var g sync.WaitGroup
	serve := func(l net.Listener, s *http.Server) {
		// The deadlines are for whoever stops in the middle.
		s.ReadTimeout, s.WriteTimeout, s.IdleTimeout, s.MaxHeaderBytes = answerTime, answerTime, answerTime, 1<<14
		s.ErrorLog = slog.NewLogLogger(o.c.Log.Handler(), slog.LevelDebug)
		g.Go(func() {
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				stop(fmt.Errorf("answer at %s: %w", l.Addr(), err))
			}
		})
		g.Go(func() {
			<-ctx.Done()
			last, end := context.WithTimeout(context.WithoutCancel(ctx), shutdown)
			defer end()
			if s.Shutdown(last) != nil {
				s.Close()
			}
		})
	}
	scrape := promhttp.HandlerFor(o.registry(), promhttp.HandlerOpts{MaxRequestsInFlight: connections})
	if local != nil {
		serve(local, &http.Server{
			Handler:     o.guard(o.routes(scrape)),
			ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		})
	}
	if remote != nil {
		routes := http.NewServeMux()
		routes.Handle("GET /metrics", scrape)
		serve(netutil.LimitListener(remote, connections), &http.Server{Handler: routes})
	}
	g.Wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (o *Operator) routes(scrape http.Handler) http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) { answer(w, o.Status()) })
	m.HandleFunc("GET /v1/sessions", func(w http.ResponseWriter, r *http.Request) {
		q, err := parseQuery(r)
		if err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		answer(w, o.Sessions(q))
	})
	m.HandleFunc("GET /v1/resources", func(w http.ResponseWriter, r *http.Request) {
		q, err := parseQuery(r)
		if err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		answer(w, o.Resources(q))
	})
	m.Handle("GET /metrics", scrape)
	m.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, fmt.Errorf("the running gateway, %s, knows no %.100s", version(), r.URL.Path))
	})
	return m
}

// connKey finds the connection in a request's context.
type connKey struct{}

// guard lets root and the gateway's own user in, a few at a time; the kernel
// says who they are.
func (o *Operator) guard(next http.Handler) http.Handler {
	slots := make(chan struct{}, connections)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		slots <- struct{}{}
		defer func() { <-slots }()
		conn, _ := r.Context().Value(connKey{}).(net.Conn)
		peer, err := ipcsock.Caller(conn)
		if err != nil || peer.UID != 0 && int(peer.UID) != os.Geteuid() {
			o.c.Log.Warn("refused a question about the gateway", "uid", peer.UID, "pid", peer.PID, "error", err)
			refuse(w, http.StatusForbidden, errors.New("not allowed: run the command as root or as the gateway's own user"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func parseQuery(r *http.Request) (Query, error) {
	v := r.URL.Query()
	q := Query{Client: v.Get("client"), Name: v.Get("name"), State: v.Get("state"), Limit: DefaultLimit}
	if text := v.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			return Query{}, fmt.Errorf("limit: %q is not a number", text)
		}
		q.Limit = n
	}
	return q, q.Check()
}

// Check tells what is wrong with a query.
func (q *Query) Check() error {
	switch {
	case q.Limit < 1 || q.Limit > MaxLimit:
		return fmt.Errorf("the limit may be 1 to %d", MaxLimit)
	case q.State != "" && !slices.Contains(gateway.SessionStates, q.State):
		return fmt.Errorf("%q is no state of a session; there are: %s", q.State, strings.Join(gateway.SessionStates, ", "))
	}
	return nil
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v) // who does not wait for the answer misses it
}

func refuse(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
}
