package serve

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"

	"stile/tunnel/portal"
	"stile/tunnel/wire"
)

// Bounds of one connection.
const (
	maxFrame   = 256 << 10        // bytes of one message from a peer; the longest is a list of candidates
	maxQueue   = 512              // messages to a peer that wait; a peer that lets more wait is cut off
	writeTime  = 20 * time.Second // for one message to leave; a peer that takes longer is cut off
	joinTime   = 15 * time.Second // from the upgrade to the join
	maxGarbage = 100              // frames that make no sense; a peer that sends more is cut off

	// Messages of a client, which are read no faster. Those of gateways and
	// relays are not counted: a gateway speaks for all of its clients.
	clientPace  = 50 // in a second
	clientBurst = 500
)

// idle is how long a peer may say nothing: each sends heartbeats (spec
// portal.md 2.4).
var idle = map[portal.Kind]time.Duration{
	portal.ClientKind: 37 * time.Second, portal.GatewayKind: 37 * time.Second, portal.RelayKind: 41 * time.Second,
}

// A session is one WebSocket. Its reader is the goroutine of the HTTP request;
// its writer is started and awaited by the reader.
type session struct {
	kind    portal.Kind
	version wire.Version
	conn    portal.Conn
	hub     *hub
	log     *slog.Logger
	socket  *websocket.Conn
	admit   func(join wire.Message, now time.Time) // tells the role of the join, on the hub's goroutine

	pace *rate.Limiter // of messages read; nil: none

	queue chan outgoing // to the writer; never closed
	cut   context.CancelCauseFunc

	joined  bool // reader's only
	garbage int  // reader's only

	mu      sync.Mutex // guards closing
	closing bool       // finish was called
}

// An outgoing is a frame, or a message to be framed, or, with neither, the end.
type outgoing struct {
	frame   *wire.Frame
	message wire.Message
}

var (
	errSlow    = errors.New("peer does not read")
	errGarbage = errors.New("peer sends garbage")
)

// run serves the socket until either side ends, and returns why.
func (s *session) run(ctx context.Context) error {
	ctx, s.cut = context.WithCancelCause(ctx)
	defer s.cut(nil)
	s.socket.SetReadLimit(maxFrame)

	var writer sync.WaitGroup
	writer.Go(func() { s.cut(s.write(ctx)) })
	s.cut(s.read(ctx))
	writer.Wait()
	s.socket.CloseNow()
	if s.joined {
		s.hub.leave(s)
	}
	return context.Cause(ctx)
}

// read takes frames until the peer leaves, does not join in time, is silent for
// too long, or ctx ends.
func (s *session) read(ctx context.Context) error {
	limit := time.Now().Add(joinTime)
	for {
		if s.joined {
			limit = time.Now().Add(idle[s.kind])
		}
		wait, cancel := context.WithDeadline(ctx, limit)
		kind, data, err := s.socket.Read(wait)
		cancel()
		if err == nil && s.pace != nil {
			err = s.pace.Wait(ctx)
		}
		if err != nil {
			return err
		}
		if kind != websocket.MessageText {
			err = errors.New("binary frame")
		} else {
			err = s.frame(data)
		}
		if err != nil {
			s.log.Debug("a frame made no sense", "error", err)
			if s.garbage++; s.garbage > maxGarbage {
				return errGarbage
			}
		}
	}
}

// frame answers one frame, or hands its message to the hub.
func (s *session) frame(data []byte) error {
	f, err := wire.ParseFrame(data)
	if err != nil {
		return err
	}
	topic := string(s.kind)
	switch {
	case f.Topic == wire.TopicPhoenix && f.Event == wire.EventHeartbeat:
		s.reply(f, wire.OK)
	case f.Topic == topic && f.Event == wire.EventJoin:
		return s.join(f)
	case f.Topic != topic || !s.joined:
		s.refuse(f, wire.UnmatchedTopic)
	default:
		m, err := s.decode(f)
		if unknown, ok := m.(wire.Unknown); ok {
			s.refuse(f, "unknown_message")
			s.log.Debug("unknown event", "event", unknown.Name)
			return nil
		}
		if err != nil {
			s.refuse(f, "malformed_message")
			return err
		}
		s.hub.do(func(now time.Time) { s.hub.role.Message(s.conn, m, now) })
	}
	return nil
}

func (s *session) decode(f wire.Frame) (wire.Message, error) {
	switch s.kind {
	case portal.ClientKind:
		return wire.DecodeFromClient(s.version, f.Event, f.Payload)
	case portal.GatewayKind:
		return wire.DecodeFromGateway(s.version, f.Event, f.Payload)
	}
	return wire.DecodeFromRelay(f.Event, f.Payload)
}

// join confirms first: peers take nothing before it (spec portal.md 2.2).
func (s *session) join(f wire.Frame) error {
	var join wire.Message
	if s.kind == portal.RelayKind {
		m, err := s.decode(f)
		if err != nil {
			s.refuse(f, "malformed_message")
			return err
		}
		join = m
	}
	s.reply(f, wire.OK)
	s.joined = s.hub.join(s, func(now time.Time) { s.admit(join, now) }) || s.joined
	return nil
}

func (s *session) reply(f wire.Frame, as func(topic string, ref uint64) wire.Frame) {
	if f.Ref != nil {
		frame := as(f.Topic, *f.Ref)
		s.enqueue(outgoing{frame: &frame})
	}
}

func (s *session) refuse(f wire.Frame, reason string) {
	s.reply(f, func(topic string, ref uint64) wire.Frame { return wire.Refusal(topic, ref, reason) })
}

// push queues a message; it never blocks.
func (s *session) push(m wire.Message) { s.enqueue(outgoing{message: m}) }

// finish closes the socket behind what is queued.
func (s *session) finish() {
	s.enqueue(outgoing{})
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
}

func (s *session) enqueue(o outgoing) {
	s.mu.Lock()
	closing := s.closing
	s.mu.Unlock()
	if closing {
		return
	}
	select {
	case s.queue <- o:
	default:
		s.cut(errSlow)
	}
}

// write is the writer: it frames and sends what is queued until the end.
func (s *session) write(ctx context.Context) error {
	var buf []byte
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case o := <-s.queue:
			if o.frame == nil && o.message == nil {
				return s.socket.Close(websocket.StatusNormalClosure, "")
			}
			frame, err := s.encode(o)
			if err != nil {
				s.log.Error("a message could not be encoded", "error", err)
				continue
			}
			buf = wire.AppendFrame(buf[:0], frame)
			if err := s.send(ctx, buf); err != nil {
				return err
			}
		}
	}
}

func (s *session) encode(o outgoing) (wire.Frame, error) {
	if o.frame != nil {
		return *o.frame, nil
	}
	payload, err := wire.AppendPayload(nil, o.message)
	if m, is := o.message.(wire.ClientInit); is && err == nil && len(payload) > maxPayload {
		payload, err = s.shorten(m, len(payload))
	}
	return wire.Frame{Topic: string(s.kind), Event: o.message.Event(s.version), Payload: payload}, err
}

// maxPayload leaves room for the rest of the largest frame that peers take.
const maxPayload = wire.MaxFrame - 1024

// shorten leaves out resources until an init of size bytes can be taken: the
// client would hang up, and come back for the same again and again.
func (s *session) shorten(m wire.ClientInit, size int) (payload []byte, err error) {
	all := len(m.Resources)
	for size > maxPayload && len(m.Resources) > 0 && err == nil {
		fits := int(int64(len(m.Resources)) * maxPayload / int64(size))
		m.Resources = m.Resources[:min(fits, len(m.Resources)-1)]
		payload, err = wire.AppendPayload(payload[:0], m)
		size = len(payload)
	}
	s.log.Error("a user may reach more resources than a client can be told; let policies grant fewer, or cover many with one resource such as *.example.com or 10.0.0.0/8",
		"resources", all, "told", len(m.Resources))
	return payload, err
}

func (s *session) send(ctx context.Context, b []byte) error {
	ctx, cancel := context.WithTimeoutCause(ctx, writeTime, errSlow)
	defer cancel()
	return s.socket.Write(ctx, websocket.MessageText, b)
}
