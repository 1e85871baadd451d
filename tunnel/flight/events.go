package flight

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"strconv"

	"stile/platform/logs"
	"stile/tunnel/core"
)

// maxEvent bounds an event in bytes; a longer one loses its fields.
const maxEvent = 2 << 10

// The record of an event: its time in nanoseconds since 1970 (8), its length
// (2), and its line as of a log file without the time.
const eventHeader = 10

// Logger returns what logs to the record alone.
func (r *Recorder) Logger() *slog.Logger {
	if r == nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(r.Beside(slog.DiscardHandler))
}

// Beside returns a handler that records all that is logged, whatever its level,
// and hands it to next.
func (r *Recorder) Beside(next slog.Handler) slog.Handler {
	if r == nil {
		return next
	}
	h := &handler{recorder: r, next: next}
	for i, c := range h.classes() {
		h.lines[i] = logs.Lines(maxEvent, func(line []byte) {
			// The time that somebody else's clock gave it makes room for ours.
			if _, rest, ok := bytes.Cut(line, []byte(`",`)); ok {
				r.event(c, rest)
			}
		})
	}
	return h
}

// A handler records events: those below level info by the first of its lines,
// the others by the second.
type handler struct {
	recorder *Recorder
	lines    [2]slog.Handler
	next     slog.Handler
}

func (*handler) classes() [2]class { return [...]class{decisions, steps} }

func (h *handler) Enabled(context.Context, slog.Level) bool { return true }

func (h *handler) Handle(ctx context.Context, e slog.Record) error {
	i := 0
	if e.Level >= slog.LevelInfo {
		i = 1
	}
	if h.recorder.wants(h.classes()[i]) {
		_ = h.lines[i].Handle(ctx, e) // it has no errors
	}
	if !h.next.Enabled(ctx, e.Level) {
		return nil
	}
	return h.next.Handle(ctx, e)
}

func (h *handler) WithAttrs(a []slog.Attr) slog.Handler {
	return &handler{h.recorder, [...]slog.Handler{h.lines[0].WithAttrs(a), h.lines[1].WithAttrs(a)}, h.next.WithAttrs(a)}
}

func (h *handler) WithGroup(g string) slog.Handler {
	return &handler{h.recorder, [...]slog.Handler{h.lines[0].WithGroup(g), h.lines[1].WithGroup(g)}, h.next.WithGroup(g)}
}

// wants reports whether a line of a class may come; if not, it is left out, and
// need not be made.
func (r *Recorder) wants(c class) bool {
	at := r.now().UnixNano()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.advance(at)
	return r.take(c, 1, 1)
}

// event writes a line without its time, if its class may.
func (r *Recorder) event(c class, line []byte) {
	at := r.now().UnixNano()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.advance(at)
	if r.take(c, eventHeader+len(line), 1) {
		r.put(at, line)
	}
}

func (r *Recorder) put(at int64, line []byte) {
	k := r.events.room(eventHeader+len(line), at)
	k.bytes = binary.LittleEndian.AppendUint64(k.bytes, uint64(at))
	k.bytes = binary.LittleEndian.AppendUint16(k.bytes, uint16(len(line)))
	k.bytes = append(k.bytes, line...)
}

// tellLost records what was left out since the last time.
func (r *Recorder) tellLost(at int64) {
	var line []byte
	for c := range classes {
		if n := r.lost[c]; n > 0 {
			r.lost[c] = 0
			line = fmt.Appendf(line, `,"%s":%d`, classKeys[c], n)
		}
	}
	if line == nil {
		return
	}
	line = append([]byte(`"severity":"DEBUG","message":"left out of the flight record: too many","target":"tunnel/flight"`), append(line, "}\n"...)...)
	r.left[counts] -= len(line) // whether there are so many or not: it comes once a second
	r.put(at, line)
}

// Counted records what was counted since the last time: what it says of a
// number is how much larger it is than in was. Both are sorted by name.
func (r *Recorder) Counted(was, is []core.Counter) {
	if r == nil {
		return
	}
	line := []byte(`"severity":"DEBUG","message":"counted","target":"tunnel/flight","counts":`)
	between := byte('{')
	for _, c := range is {
		for len(was) > 0 && was[0].Name < c.Name {
			was = was[1:]
		}
		n := c.Value
		if len(was) > 0 && was[0].Name == c.Name {
			n -= was[0].Value
		}
		if n == 0 || len(line) > maxEvent-100 {
			continue
		}
		line = append(line, between)
		line = strconv.AppendUint(append(strconv.AppendQuote(line, c.Name), ':'), n, 10)
		between = ','
	}
	if between == ',' {
		r.event(counts, append(line, "}}\n"...))
	}
}

// Notes records what a role notes. Names are a user's own, so that they are
// told below level info, as in the log files.
func (r *Recorder) Notes(list []core.Note) {
	if r == nil {
		return
	}
	var l line
	for i := range list {
		n, c, severity := &list[i], steps, "INFO"
		if n.Name != "" {
			c, severity = decisions, "DEBUG"
		}
		l = append(append(append(l[:0], `"severity":"`...), severity...), '"')
		l.note(n)
		if len(l) > maxEvent {
			l = append(l[:0], `"severity":"WARNING","message":"a note is too long","target":"tunnel/flight"`...)
		}
		l = append(l, "}\n"...)
		r.event(c, l)
	}
}

// note appends the fields of a note that apply.
func (l *line) note(n *core.Note) {
	l.text("message", n.What)
	l.text("target", "tunnel/core")
	text := func(key string, is bool, value string) {
		if is {
			l.text(key, value)
		}
	}
	text("reason", n.Reason != "", n.Reason)
	text("name", n.Name != "", n.Name)
	text("resource", !n.Resource.IsZero(), n.Resource.String())
	text("peer", !n.Peer.IsZero(), n.Peer.String())
	text("relay", !n.Relay.IsZero(), n.Relay.String())
	text("local", n.Local.IsValid(), n.Local.String())
	text("remote", n.Remote.IsValid(), n.Remote.String())
	if n.Connection != 0 {
		l.text("connection", connection(n.Connection))
		l.bool("relayed", n.Relayed)
	}
}

// connection is how a connection is called, in events as with packets.
func connection(index uint32) string { return fmt.Sprintf("%06x", index) }
