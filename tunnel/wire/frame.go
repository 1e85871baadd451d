package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// A Frame is the envelope of every WebSocket message, in both directions (2.1).
type Frame struct {
	Topic string // "client", "gateway", "relay", or "phoenix" for heartbeats
	Event string
	// Payload is an object, for resource_deleted a bare string. nil travels as
	// null, which is what clients and gateways send in their join.
	Payload json.RawMessage
	// Ref numbers what a peer sends, and comes back in the reply as the same
	// number. nil (absent or null): a push of the portal.
	Ref *uint64
}

// Events of the channel itself.
const (
	EventJoin      = "phx_join"
	EventReply     = "phx_reply"
	EventClose     = "phx_close"
	EventError     = "phx_error"
	EventHeartbeat = "heartbeat"
	// TopicPhoenix is the topic of heartbeats.
	TopicPhoenix = "phoenix"
)

// ErrTruncated means that a frame is empty or ends inside its JSON: the stream
// is broken, so drop the connection. Any other frame that does not parse is
// dropped alone (0.3).
var ErrTruncated = errors.New("frame ends too early")

// ParseFrame reads one text message. The Payload of the result is a copy; b is
// borrowed. A frame that is too large, nests too deep, or has no topic or event
// is refused.
func ParseFrame(b []byte) (Frame, error) {
	var f Frame
	if err := checkShape(b); err != nil {
		return f, err
	}
	err := readMessage(b, func(o *object) {
		o.need(&f.Topic, "topic")
		o.need(&f.Event, "event")
		o.nullable(&f.Ref, "ref")
		if p := o.find("payload"); p != nil && !isNull(p) {
			f.Payload = bytes.Clone(p)
		}
	})
	if err != nil {
		return Frame{}, fmt.Errorf("frame: %w", err)
	}
	return f, nil
}

// checkShape bounds size and nesting before anything recursive sees b.
func checkShape(b []byte) error {
	if len(b) > MaxFrame {
		return fmt.Errorf("frame of %d bytes; the limit is %d", len(b), MaxFrame)
	}
	depth, inString := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return fmt.Errorf("frame nests deeper than %d", maxDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	if len(bytes.TrimSpace(b)) == 0 || depth > 0 || inString {
		return ErrTruncated
	}
	return nil
}

// AppendFrame appends f as one JSON object. f.Payload must be JSON or nil.
func AppendFrame(dst []byte, f Frame) []byte {
	w := &writer{b: dst}
	w.object(func() {
		w.field("topic", f.Topic)
		w.field("event", f.Event)
		w.key("payload")
		if f.Payload == nil {
			w.b = append(w.b, "null"...)
		} else {
			w.b = append(w.b, f.Payload...)
		}
		w.field("ref", f.Ref)
	})
	return w.b
}

// OK is the reply that confirms a join, a heartbeat or anything else. Its
// response is exactly {}: peers do not count a join with another one (2.2).
func OK(topic string, ref uint64) Frame {
	return Frame{Topic: topic, Event: EventReply, Payload: json.RawMessage(`{"status":"ok","response":{}}`), Ref: &ref}
}

// UnmatchedTopic is the reason of an error reply to a message whose topic was
// not joined: join again (2.3).
const UnmatchedTopic = "unmatched topic"

// Refusal is an error reply. reason is UnmatchedTopic or, for the log only,
// "unknown_message", "invalid_ref" and the like.
func Refusal(topic string, ref uint64, reason string) Frame {
	w := &writer{}
	w.object(func() {
		w.field("status", "error")
		w.key("response")
		w.object(func() { w.field("reason", reason) })
	})
	return Frame{Topic: topic, Event: EventReply, Payload: w.b, Ref: &ref}
}

// A Reply is the payload of a phx_reply.
type Reply struct {
	OK bool
	// Empty tells whether an OK reply's response is exactly {}, without which
	// it confirms neither join nor heartbeat.
	Empty  bool
	Reason string // of an error
}

// ParseReply reads the payload of a phx_reply.
func ParseReply(payload []byte) (Reply, error) {
	var r Reply
	var status string
	err := readMessage(payload, func(o *object) {
		o.need(&status, "status")
		response := o.find("response")
		switch status {
		case "ok":
			r.OK = true
			inner := parseObject(response)
			r.Empty = inner.err == nil && len(inner.members) == 0
		case "error":
			o.fail("response", readObject(response, func(o *object) { o.need(&r.Reason, "reason") }))
		default:
			o.fail("status", errors.New("is neither ok nor error"))
		}
	})
	if err != nil {
		return Reply{}, fmt.Errorf("reply: %w", err)
	}
	return r, nil
}
