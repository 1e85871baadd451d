package ipc

import (
	"encoding/json"
	"errors"
	"time"
)

// A Hello is the first thing the service says.
type Hello struct {
	Protocol int    `json:"protocol"`
	Version  string `json:"version"` // of the service
}

// An Answer tells what became of a request. States that come after it were
// taken after the command took effect.
type Answer struct {
	ID      uint64   `json:"id"`
	Problem *Problem `json:"problem,omitempty"` // nil: done
}

// A Message is one frame of the service. At most one field is set; none is if a
// newer service said something that this program does not know, which it
// ignores.
type Message struct {
	Hello  *Hello  `json:"hello,omitempty"`
	State  *State  `json:"state,omitempty"`
	Answer *Answer `json:"answer,omitempty"`
	Part   *Part   `json:"part,omitempty"`
	// Goodbye is the last message: why the service closes the connection.
	Goodbye *Problem `json:"goodbye,omitempty"`
}

// ErrMessage means that the service says what makes no sense: close the
// connection.
var ErrMessage = errors.New("not a message of the tunnel service")

// AppendMessage appends the frame of m. It fails if that is longer than
// MaxMessage, as only the state of an enormous account can be.
func AppendMessage(dst []byte, m Message) ([]byte, error) {
	return AppendFrame(dst, marshal(m), MaxMessage)
}

// ParseMessage reads the body of a frame.
func ParseMessage(body []byte) (Message, error) {
	var m Message
	if err := json.Unmarshal(body, &m); err != nil {
		return Message{}, ErrMessage
	}
	set := 0
	for _, is := range []bool{m.Hello != nil, m.State != nil, m.Answer != nil, m.Part != nil, m.Goodbye != nil} {
		if is {
			set++
		}
	}
	if set > 1 {
		return Message{}, ErrMessage
	}
	return m, nil
}

// Outdated says what to do when program and service speak different protocols;
// nil if they do not.
func (h Hello) Outdated(program string) *Problem {
	if h.Protocol == Protocol {
		return nil
	}
	old := SayOldService
	if Protocol < h.Protocol {
		old = SayOldProgram
	}
	return old.With("program", program, "service", h.Version)
}

// Wall converts a time of a clock that counts since anything, of which now is
// the present, to the calendar, of which wall is the present. It cuts off
// fractions of a second: the same moment shall look the same in each State. The
// zero time stays as it is.
func Wall(t, now, wall time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return wall.Add(t.Sub(now)).UTC().Truncate(time.Second)
}
