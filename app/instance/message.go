package instance

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"

	"stile/tunnel/ipc"
)

// MaxURL is the longest address that a Deeplink carries, in bytes.
const MaxURL = 16 << 10

// maxMessage is the longest body of a frame, in bytes. JSON may need six for
// one.
const maxMessage = 6*MaxURL + 64

// A Message is what a second start of the program tells the first one:
// NewInstance or Deeplink (spec desktop-client.md 4.3).
type Message interface{ message() }

type (
	// NewInstance means that the user started the program again: show the
	// status page.
	NewInstance struct{}
	// Deeplink is an address of the program's URL scheme that the desktop was
	// told to open. Anybody can have said so: package signin decides what is
	// believed. It holds half a token.
	Deeplink struct{ URL ipc.Secret }
)

func (NewInstance) message() {}
func (Deeplink) message()    {}

// errMessage means that another version of the program is at the other end, or
// another program.
var errMessage = errors.New("not a message of ours")

// The bodies of the messages that are a word each.
const (
	newInstance = `"NewInstance"`
	ack         = `"Ack"`
)

type deeplinkJSON struct {
	Deeplink string
}

// encode returns the body of a frame.
func encode(m Message) ([]byte, error) {
	d, is := m.(Deeplink)
	if !is {
		return []byte(newInstance), nil
	}
	if !isURL(d.URL.Reveal()) {
		return nil, errors.New("this is not an address that the program could have been called with")
	}
	return json.Marshal(deeplinkJSON{d.URL.Reveal()})
}

// parse reads the body of a frame.
func parse(body []byte) (Message, error) {
	body = bytes.TrimSpace(body)
	if string(body) == newInstance {
		return NewInstance{}, nil
	}
	var fields map[string]json.RawMessage // exact names, unlike a struct
	var url string
	if json.Unmarshal(body, &fields) != nil || len(fields) != 1 || json.Unmarshal(fields["Deeplink"], &url) != nil || !isURL(url) {
		return nil, errMessage
	}
	return Deeplink{ipc.Secret(url)}, nil
}

// isURL tells an address from what can be none: it has a scheme, no space and
// nothing invisible.
func isURL(s string) bool {
	return len(s) <= MaxURL && strings.Contains(s, "://") && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}
