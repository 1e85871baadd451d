package operator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"stile/platform/forward"
	"stile/platform/service"
	"stile/tunnel/core"
	"stile/tunnel/flowlog"
)

// Options are those of `stile-server gateway run` for its operator, for package
// kong.
type Options struct {
	Socket          string   `env:"STILE_GATEWAY_SOCKET" default:"/run/stile/gateway.sock" placeholder:"PATH" help:"Where to answer the commands status, sessions and resources; root and the gateway's own user may ask."`
	FlowLog         []string `env:"STILE_FLOW_LOG" placeholder:"WHERE" help:"Write a line of JSON for each session that begins or ends and for what is denied: the absolute path of a file (mode 0600, opened again on SIGHUP), \"stdout\", \"syslog\", \"syslog:udp://HOST:PORT\" or \"syslog:tcp://HOST:PORT\". May be given several times."`
	FlowLogSize     int64    `env:"STILE_FLOW_LOG_SIZE" default:"1000" placeholder:"MB" help:"What a file and its nine predecessors may hold together, in megabytes."`
	Metrics         string   `env:"STILE_METRICS" placeholder:"IP:PORT" help:"Also tell metrics for Prometheus at http://IP:PORT/metrics, such as 127.0.0.1:9464 (default: at the local socket only)."`
	MetricsAnywhere bool     `env:"STILE_METRICS_ANYWHERE" help:"Let --metrics be an address that other hosts reach. Whoever reaches it may read."`
}

// Validate tells what is wrong with the options.
func (o *Options) Validate() error {
	if o.Metrics != "" {
		if err := CheckMetrics(o.Metrics, o.MetricsAnywhere); err != nil {
			return fmt.Errorf("--metrics: %w", err)
		}
	}
	if o.FlowLogSize < 1 || o.FlowLogSize > 1<<30 {
		return errors.New("--flow-log-size: at least 1 megabyte")
	}
	return nil
}

// A Watch is what the options ask for, opened.
type Watch struct {
	log           *slog.Logger
	logs          []*flowlog.Log
	local, remote net.Listener // nil: none
}

// Open opens what the options ask for; Run or Close must follow. Without the
// local socket the gateway can do its work; what an administrator asked for by
// an option must be there.
func (o *Options) Open(log *slog.Logger) (w *Watch, err error) {
	w = &Watch{log: log}
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	for _, to := range o.FlowLog {
		l, err := flowlog.Open(to, o.FlowLogSize*1_000_000, log)
		if err != nil {
			return nil, fmt.Errorf("--flow-log: %w", err)
		}
		w.logs = append(w.logs, l)
	}
	if o.Metrics != "" {
		if w.remote, err = ListenMetrics(o.Metrics, o.MetricsAnywhere); err != nil {
			return nil, fmt.Errorf("--metrics: %w", err)
		}
		log.Info("metrics", "url", "http://"+w.remote.Addr().String()+"/metrics")
	}
	if w.local, err = Listen(o.Socket); err != nil {
		log.Warn("the commands status, sessions and resources will not find this gateway", "error", err)
	}
	return w, nil
}

// Flows returns what takes flows for the logs; nil: nobody wants them.
func (w *Watch) Flows() func([]core.Flow) {
	if len(w.logs) == 0 {
		return nil
	}
	return func(flows []core.Flow) {
		for _, l := range w.logs {
			l.Add(flows)
		}
	}
}

// Run shows e until ctx ends, which should be after e has ended, so that the
// logs are whole. What fails is told in the log: the gateway goes on.
func (w *Watch) Run(ctx context.Context, e Engine) {
	var g sync.WaitGroup
	defer g.Wait()
	told := func(err error) {
		if err != nil {
			w.log.Error("the gateway cannot be watched as asked for", "error", err)
		}
	}
	for _, l := range w.logs {
		g.Go(func() { told(l.Run(ctx)) })
	}
	g.Go(func() { w.reopen(ctx) })
	o := New(Config{Engine: e, Conntrack: forward.Conntrack, FlowLogs: w.logs, Log: w.log})
	g.Go(func() { told(o.Serve(ctx, w.local, w.remote)) })
}

// reopen begins new files when an administrator has moved the old ones.
func (w *Watch) reopen(ctx context.Context) {
	asked, stop := service.Reloads()
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-asked:
			for _, l := range w.logs {
				l.Reopen()
			}
		}
	}
}

// Close closes what was opened, if Run does not follow.
func (w *Watch) Close() {
	for _, l := range w.logs {
		l.Close()
	}
	for _, l := range []net.Listener{w.local, w.remote} {
		if l != nil {
			l.Close()
		}
	}
}
