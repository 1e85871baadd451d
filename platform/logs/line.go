package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxLine bounds one record in bytes; what is longer loses its fields.
const maxLine = 64 << 10

// A handler is a slog.Handler that writes JSON lines.
type handler struct {
	log    *Log
	prefix string // of fields, by WithGroup
	fields []byte // of With: ,"key":value…
	attrs  []func(slog.Handler) slog.Handler
}

// Enabled reports whether a record of a level can pass. Which target it has is
// known only when it comes.
func (h *handler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.log.filter.Load().lowest
}

// Handle writes a record.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	at := source(r.PC)
	if !h.log.filter.Load().Keeps(at.target, r.Level) {
		return nil
	}
	line := h.line(r, at)
	if len(line) > maxLine {
		line = (&handler{}).line(slog.NewRecord(r.Time, r.Level, shorten(r.Message, 1000)+" (the record was too long for its fields)", r.PC), at)
	}
	h.log.put(line)
	if also := h.log.config.Also; also != nil {
		for _, with := range h.attrs {
			also = with(also)
		}
		return also.Handle(ctx, r)
	}
	return nil
}

// WithAttrs returns a handler whose records have further fields.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	to := *h
	to.fields = append([]byte(nil), h.fields...)
	for _, a := range attrs {
		to.fields = appendField(to.fields, h.prefix, a)
	}
	to.attrs = append(append([]func(slog.Handler) slog.Handler(nil), h.attrs...), func(s slog.Handler) slog.Handler { return s.WithAttrs(attrs) })
	return &to
}

// WithGroup returns a handler that puts name before the fields to come.
func (h *handler) WithGroup(name string) slog.Handler {
	to := *h
	to.prefix = join(h.prefix, name)
	to.attrs = append(append([]func(slog.Handler) slog.Handler(nil), h.attrs...), func(s slog.Handler) slog.Handler { return s.WithGroup(name) })
	return &to
}

// line encodes a record, line feed included.
func (h *handler) line(r slog.Record, at place) []byte {
	b := append(make([]byte, 0, 256), `{"time":"`...)
	b = r.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000000Z")
	b = append(append(b, `","severity":"`...), severity(r.Level)...)
	b = append(b, `","message":`...)
	b = appendString(b, r.Message)
	b = append(b, `,"target":`...)
	b = appendString(b, at.target)
	if at.file != "" {
		b = append(b, `,"logging.googleapis.com/sourceLocation":{"file":`...)
		b = appendString(b, at.file)
		b = append(strconv.AppendInt(append(b, `,"line":"`...), int64(at.line), 10), `"}`...)
	}
	b = append(b, h.fields...)
	r.Attrs(func(a slog.Attr) bool {
		b = appendField(b, h.prefix, a)
		return true
	})
	return append(b, "}\n"...)
}

// lostLine tells of lines that were dropped.
func lostLine(n uint64) []byte {
	r := slog.NewRecord(time.Now(), slog.LevelWarn, "log lines were lost: the disk did not keep up", 0)
	r.Add("lines", n)
	return (&handler{}).line(r, place{target: "platform/logs"})
}

func severity(l slog.Level) string {
	switch {
	case l < slog.LevelInfo:
		return "DEBUG"
	case l < slog.LevelWarn:
		return "INFO"
	case l < slog.LevelError:
		return "WARNING"
	}
	return "ERROR"
}

// A place is where in the source a record was made.
type place struct {
	target, file string
	line         int
}

// source finds the package of a record, without the name of the module.
func source(pc uintptr) place {
	if pc == 0 {
		return place{target: "unknown"}
	}
	f, _ := runtime.CallersFrames([]uintptr{pc}).Next()
	dir, function := path.Split(f.Function)
	name, _, _ := strings.Cut(function, ".")
	target := strings.TrimPrefix(dir+name, "stile/")
	return place{target, target + "/" + path.Base(f.File), f.Line}
}

// reserved are the keys that the format itself uses.
var reserved = map[string]bool{"time": true, "severity": true, "message": true, "target": true, "span": true, "spans": true}

// appendField appends ,"key":value; a group's fields get its name before theirs.
func appendField(b []byte, prefix string, a slog.Attr) []byte {
	value := a.Value.Resolve()
	if a.Key == "" && value.Kind() != slog.KindGroup {
		return b
	}
	if value.Kind() == slog.KindGroup {
		for _, sub := range value.Group() {
			b = appendField(b, join(prefix, a.Key), sub)
		}
		return b
	}
	key := camel(join(prefix, a.Key))
	if reserved[key] {
		key += "_"
	}
	b = appendString(append(b, ','), key)
	return appendValue(append(b, ':'), value)
}

func appendValue(b []byte, v slog.Value) []byte {
	switch v.Kind() {
	case slog.KindString:
		return appendString(b, v.String())
	case slog.KindInt64:
		return strconv.AppendInt(b, v.Int64(), 10)
	case slog.KindUint64:
		return strconv.AppendUint(b, v.Uint64(), 10)
	case slog.KindBool:
		return strconv.AppendBool(b, v.Bool())
	case slog.KindDuration:
		return appendString(b, v.Duration().String())
	case slog.KindTime:
		return appendString(b, v.Time().UTC().Format(time.RFC3339Nano))
	}
	return appendAny(b, v)
}

// appendAny asks a value of its own type what it says. One that panics, as a nil
// error of some type does, must not end the program that logs it.
func appendAny(b []byte, v slog.Value) (out []byte) {
	defer func() {
		if p := recover(); p != nil {
			out = appendString(b, fmt.Sprintf("!PANIC: %v", p))
		}
	}()
	switch x := v.Any().(type) {
	case error:
		return appendString(b, x.Error())
	case interface{ String() string }:
		return appendString(b, x.String())
	}
	if text, err := json.Marshal(v.Any()); err == nil {
		return append(b, text...)
	}
	return appendString(b, v.String()) // what JSON cannot say, NaN among it
}

// join puts two parts of a name together.
func join(prefix, key string) string {
	if prefix == "" || key == "" {
		return prefix + key
	}
	return prefix + "_" + key
}

// camel turns some_key, some-key and some key into someKey.
func camel(key string) string {
	var b strings.Builder
	up := false
	for _, r := range key {
		switch {
		case r == '_' || r == '-' || r == ' ' || r == '.':
			up = b.Len() > 0
		case up:
			b.WriteRune(unicode.ToUpper(r))
			up = false
		default:
			b.WriteRune(r)
		}
	}
	if b.Len() == 0 {
		return "field"
	}
	return b.String()
}

// appendString appends s as a JSON string; what is no UTF-8 becomes U+FFFD, and
// what drives a terminal is escaped, so that the file may be shown as it is.
func appendString(b []byte, s string) []byte {
	text, err := json.Marshal(s)
	if err != nil {
		return append(b, `""`...)
	}
	for len(text) > 0 {
		n := bytes.IndexFunc(text, func(r rune) bool { return r >= 0x7f && r < 0xa0 }) // JSON lets these be
		if n < 0 {
			break
		}
		r, size := utf8.DecodeRune(text[n:])
		b = fmt.Appendf(append(b, text[:n]...), `\u%04x`, r)
		text = text[n+size:]
	}
	return append(b, text...)
}

func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
