// Package phoenix keeps a peer's channel to the portal: it joins, numbers what
// it sends, matches replies, beats, and decides when to connect again or to
// give up (spec portal.md 2).
//
// A shell owns the WebSocket. It tells the Channel what happened and carries
// out, in order, what Drain returns.
package phoenix

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"stile/tunnel/wire"
)

const (
	heartbeatPeriod = 10 * time.Second // the first one a period after the upgrade (2.4)
	maxOutstanding  = 3                // a fourth unanswered heartbeat: the connection is lost (2.4)
	joinTimeout     = 5 * time.Second  // (2.2)
	maxQueue        = 1024             // messages held while joining; further ones are dropped
)

// Errors that end a Channel for good.
var (
	// ErrTokenRejected means that the portal refused our token, or ended its
	// validity. Retrying cannot help: the user must sign in again, and the
	// stored token is worthless.
	ErrTokenRejected = errors.New("the portal rejects the token")
	// ErrUnauthorized means that something refused us without blaming the
	// token, such as a proxy in front of the portal. Keep the token.
	ErrUnauthorized = errors.New("authentication failed, though not because of the token")
	// ErrJoinRefused means that the portal does not let us in whatever we do;
	// its reason is in the message. Keep the token.
	ErrJoinRefused = errors.New("the portal refused the join")
	// ErrPartitioned means that the portal could not be reached for as long as
	// was configured.
	ErrPartitioned = errors.New("gave up reaching the portal")
)

// Config is what a Channel needs to know.
type Config struct {
	Topic string // "client", "gateway" or "relay"
	Join  []byte // payload of the join; nil: null
	// Greeting is sent after each join, ahead of everything else; nil: nothing.
	Greeting wire.Message
	// Decode reads what the portal sends.
	Decode func(event string, payload []byte) (wire.Message, error)
	// MaxPartition bounds the sum of delays between two joins; zero: no bound.
	MaxPartition time.Duration
	Rand         *rand.Rand // jitter
}

type state uint8

const (
	idle    state = iota // due says when to dial
	dialing              // the shell connects
	joining              // connected; due says when to give up on the answer
	joined
	dead
)

// A Channel is one peer's connection to the portal, again and again.
type Channel struct {
	Config
	state   state
	due     time.Time // idle and joining
	beat    time.Time // next heartbeat, while connected
	pending []uint64  // heartbeats without an answer
	ref     uint64    // next number, from 0 on each connection
	joinRef uint64
	queue   [][]byte // payloads waiting for the join, with their events
	events  []string
	up      bool // Up was told and Down was not
	backoff backoff
	out     []Action
}

// New makes a Channel that dials at once.
func New(c Config, now time.Time) *Channel {
	return &Channel{Config: c, due: now, backoff: backoff{rand: c.Rand, budget: c.MaxPartition}}
}

// An Action is what the shell shall do: one of the types below.
type Action interface{ action() }

type (
	// Dial opens a WebSocket; the answer is Connected or Disconnected.
	Dial struct{}
	// Hangup closes the WebSocket with code 1000, or abandons the dial.
	// Nothing that the old connection still says may reach the Channel.
	Hangup struct{}
	// Write sends one text message.
	Write struct{ Frame []byte }
	// Up tells that the channel was joined.
	Up struct{}
	// Down tells that the channel was lost, after Up only.
	Down struct{}
	// Deliver is a message from the portal.
	Deliver struct{ Message wire.Message }
	// Retrying tells why there is no connection and when the next attempt is.
	Retrying struct {
		After time.Duration
		Err   error
	}
	// Dropped tells of something that was received or to be sent, and was not
	// understood or not possible. It is for a counter and the debug log.
	Dropped struct{ Err error }
	// Fail ends the channel for good.
	Fail struct{ Err error }
)

func (Dial) action()     {}
func (Hangup) action()   {}
func (Write) action()    {}
func (Up) action()       {}
func (Down) action()     {}
func (Deliver) action()  {}
func (Retrying) action() {}
func (Dropped) action()  {}
func (Fail) action()     {}

func (c *Channel) do(a Action) { c.out = append(c.out, a) }

// Drain moves out what is to be done, appending to dst.
func (c *Channel) Drain(dst []Action) []Action {
	dst = append(dst, c.out...)
	clear(c.out)
	c.out = c.out[:0]
	return dst
}

// Connected tells that the upgrade succeeded.
func (c *Channel) Connected(now time.Time) {
	if c.state != dialing {
		return
	}
	c.ref, c.pending = 0, c.pending[:0]
	c.beat = now.Add(heartbeatPeriod)
	c.join(now)
}

func (c *Channel) join(now time.Time) {
	c.state, c.due = joining, now.Add(joinTimeout)
	c.joinRef = c.write(c.Topic, wire.EventJoin, c.Join)
}

// write sends a frame and returns its number.
func (c *Channel) write(topic, event string, payload []byte) uint64 {
	ref := c.ref
	c.ref++
	c.do(Write{wire.AppendFrame(nil, wire.Frame{Topic: topic, Event: event, Payload: payload, Ref: &ref})})
	return ref
}

// Disconnected tells that the dial failed or the connection ended. The shell
// has closed it.
func (c *Channel) Disconnected(f Failure, now time.Time) {
	if c.state == idle || c.state == dead {
		return
	}
	if f.Fatal {
		c.fail(f.Err)
		return
	}
	c.retry(f, now)
}

// lose gives the connection up from our side.
func (c *Channel) lose(err error, now time.Time) {
	c.do(Hangup{})
	c.retry(Failure{Err: err}, now)
}

// retry plans the next attempt.
func (c *Channel) retry(f Failure, now time.Time) {
	c.down()
	delay, ok := c.backoff.next(f.RetryAfter)
	if !ok {
		c.fail(fmt.Errorf("%w: %w", ErrPartitioned, f.Err))
		return
	}
	c.state, c.due = idle, now.Add(delay)
	c.do(Retrying{delay, f.Err})
}

// down forgets what belonged to the connection; queued messages die with it
// (2.8).
func (c *Channel) down() {
	clear(c.queue)
	c.queue, c.events = c.queue[:0], c.events[:0]
	if c.up {
		c.up = false
		c.do(Down{})
	}
}

func (c *Channel) fail(err error) {
	c.down()
	c.state = dead
	c.do(Fail{err})
}

// Reconnect drops the connection and dials another at once, without counting
// it as a failure.
func (c *Channel) Reconnect(now time.Time) {
	switch c.state {
	case dead:
		return
	case dialing, joining, joined:
		c.do(Hangup{})
		c.down()
	}
	c.state, c.due = idle, now
	c.Advance(now)
}

// Send sends m: at once if joined, after the join if connected, else not at
// all. A message that equals a waiting one does not wait twice.
func (c *Channel) Send(m wire.Message) {
	event := m.Event(wire.V2)
	payload, err := wire.AppendPayload(nil, m)
	if err != nil {
		c.do(Dropped{fmt.Errorf("send: %w", err)})
		return
	}
	switch {
	case c.state == joined:
		c.write(c.Topic, event, payload)
	case c.state != joining:
		c.do(Dropped{fmt.Errorf("send %s: not connected", event)})
	case c.waiting(event, payload):
	case len(c.queue) == maxQueue:
		c.do(Dropped{fmt.Errorf("send %s: too much is waiting for the join", event)})
	default:
		c.queue, c.events = append(c.queue, payload), append(c.events, event)
	}
}

func (c *Channel) waiting(event string, payload []byte) bool {
	for i := range c.queue {
		if c.events[i] == event && bytes.Equal(c.queue[i], payload) {
			return true
		}
	}
	return false
}

// Next returns when Advance is due; the zero time means never.
func (c *Channel) Next() time.Time {
	switch c.state {
	case idle:
		return c.due
	case joining:
		if c.due.Before(c.beat) {
			return c.due
		}
		return c.beat
	case joined:
		return c.beat
	}
	return time.Time{}
}

// Advance does what is due. Early calls are harmless.
func (c *Channel) Advance(now time.Time) {
	switch {
	case c.state == idle && !now.Before(c.due):
		c.state = dialing
		c.do(Dial{})
	case c.state == joining && !now.Before(c.due):
		c.lose(errors.New("no answer to the join"), now)
	case (c.state == joining || c.state == joined) && !now.Before(c.beat):
		c.heartbeat(now)
	}
}

func (c *Channel) heartbeat(now time.Time) {
	if len(c.pending) == maxOutstanding {
		c.lose(fmt.Errorf("%d heartbeats without an answer", maxOutstanding+1), now)
		return
	}
	c.pending = append(c.pending, c.write(wire.TopicPhoenix, wire.EventHeartbeat, []byte("{}")))
	c.beat = now.Add(heartbeatPeriod)
}

// Frame takes a text message of the portal. b is borrowed.
func (c *Channel) Frame(b []byte, now time.Time) {
	if c.state != joining && c.state != joined {
		return
	}
	f, err := wire.ParseFrame(b)
	switch {
	case errors.Is(err, wire.ErrTruncated):
		c.lose(err, now)
	case err != nil:
		c.do(Dropped{err})
	case f.Event == wire.EventReply:
		c.reply(f, now)
	case f.Event == "disconnect":
		c.disconnect(f)
	case f.Topic != c.Topic:
		c.do(Dropped{fmt.Errorf("%.40q for topic %.40q", f.Event, f.Topic)})
	case f.Event == wire.EventClose && isEmpty(f.Payload):
		c.lose(errors.New("closed by the portal"), now)
	case f.Event == wire.EventError, f.Event == wire.EventClose:
		c.do(Dropped{fmt.Errorf("portal says %s", f.Event)})
	default:
		c.deliver(f)
	}
}

func isEmpty(payload []byte) bool { return string(bytes.TrimSpace(payload)) == "{}" }

func (c *Channel) deliver(f wire.Frame) {
	payload := f.Payload
	if payload == nil {
		payload = json.RawMessage("null")
	}
	m, err := c.Decode(f.Event, payload)
	if err != nil {
		c.do(Dropped{err})
		return
	}
	if u, is := m.(wire.Unknown); is {
		c.do(Dropped{fmt.Errorf("unknown event %.60q", u.Name)})
		return
	}
	c.do(Deliver{m})
}

// disconnect obeys one reason, on any topic; others are ignored (2.5).
func (c *Channel) disconnect(f wire.Frame) {
	m, err := wire.DecodeForRelay(f.Event, f.Payload)
	if d, is := m.(wire.Disconnect); is && d.Reason == wire.TokenExpired {
		c.do(Hangup{})
		c.fail(ErrTokenRejected)
		return
	}
	c.do(Dropped{fmt.Errorf("disconnect for another reason: %v %v", m, err)})
}

func (c *Channel) reply(f wire.Frame, now time.Time) {
	r, err := wire.ParseReply(f.Payload)
	if err == nil && f.Ref == nil {
		err = errors.New("reply without a number")
	}
	if err != nil {
		c.do(Dropped{err})
		return
	}
	switch {
	case f.Topic == wire.TopicPhoenix:
		c.beaten(*f.Ref, r)
	case f.Topic != c.Topic:
		c.do(Dropped{fmt.Errorf("reply for topic %.40q", f.Topic)})
	case c.state == joining && *f.Ref == c.joinRef:
		c.answered(r)
	case c.state == joined && r.Reason == wire.UnmatchedTopic:
		c.join(now) // the portal lost our join: again on the same socket (2.3)
	case !r.OK:
		c.do(Dropped{fmt.Errorf("portal refuses message %d: %.80q", *f.Ref, r.Reason)})
	}
}

func (c *Channel) beaten(ref uint64, r wire.Reply) {
	for i, p := range c.pending {
		if p == ref && r.Empty {
			c.pending = append(c.pending[:i], c.pending[i+1:]...)
			return
		}
	}
}

// answered takes the reply to our join. An OK with anything in it is no
// confirmation; joinTimeout ends the wait (2.2).
func (c *Channel) answered(r wire.Reply) {
	switch {
	case !r.OK:
		c.do(Hangup{})
		c.fail(fmt.Errorf("%w: %.80s", ErrJoinRefused, r.Reason))
		return
	case !r.Empty:
		c.do(Dropped{errors.New("join confirmation is not empty")})
		return
	}
	c.state = joined
	c.backoff.reset()
	if c.Greeting != nil {
		c.Send(c.Greeting)
	}
	for i := range c.queue {
		c.write(c.Topic, c.events[i], c.queue[i])
	}
	clear(c.queue)
	c.queue, c.events = c.queue[:0], c.events[:0]
	if !c.up {
		c.up = true
		c.do(Up{})
	}
}
