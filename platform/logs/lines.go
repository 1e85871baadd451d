package logs

import (
	"context"
	"log/slog"
)

// Lines returns a handler that makes of each record, at whatever level, the
// line that a log file would have, and gives it to put, which owns it. A line
// longer than limit bytes loses its fields and the rest of its message.
func Lines(limit int, put func(line []byte)) slog.Handler {
	return &liner{limit: limit, put: put}
}

type liner struct {
	handler
	limit int
	put   func([]byte)
}

func (l *liner) Enabled(context.Context, slog.Level) bool { return true }

func (l *liner) Handle(_ context.Context, r slog.Record) error {
	at := source(r.PC)
	line := l.line(r, at)
	if len(line) > l.limit {
		line = (&handler{}).line(slog.NewRecord(r.Time, r.Level, shorten(r.Message, l.limit/8)+" (the record was too long for its fields)", r.PC), at)
	}
	l.put(line)
	return nil
}

func (l *liner) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &liner{*l.handler.WithAttrs(attrs).(*handler), l.limit, l.put}
}

func (l *liner) WithGroup(name string) slog.Handler {
	return &liner{*l.handler.WithGroup(name).(*handler), l.limit, l.put}
}
