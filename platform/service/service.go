// Package service is what every long-running program of ours needs from the
// system that started it: a log, and a way to say that it is ready.
package service

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"
)

// Logger writes to standard error, which the service manager keeps. level is
// debug, info, warn or error; format is text or json.
func Logger(level, format string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: l}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o))
}

// once is how long signals count as the same request to stop: who sends one to
// us and to our process group means us to stop once.
const once = time.Second

// UntilStopped returns a context that ends when the system or the user asks the
// program to stop. A second request, a while later, ends the program at once.
// free gives the signals back.
func UntilStopped(parent context.Context) (ctx context.Context, free context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent) // its end is no error: the cause is plainly that it was cancelled
	told, forget := signal.NotifyContext(ctx, stopSignals...)
	context.AfterFunc(told, func() {
		cancel()
		time.AfterFunc(once, forget)
	})
	return ctx, cancel
}

// Ready tells systemd, if it started us as a notifying service, that we do
// what we are there for (sd_notify(3)).
func Ready(log *slog.Logger) { notify(log, "READY=1") }

func notify(log *slog.Logger, state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err == nil {
		_, err = conn.Write([]byte(state))
		conn.Close()
	}
	if err != nil {
		log.Warn("the service manager could not be told", "state", state, "error", err)
	}
}

// ParseDuration reads a duration as people write it: Go's syntax, and whole
// days as "30d". "" is zero.
func ParseDuration(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 36500 {
			return 0, fmt.Errorf("%q is not a number of days", s)
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a duration: use forms like 90s, 15m, 24h, 30d", s)
	}
	return d, nil
}
