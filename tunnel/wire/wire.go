// Package wire is what travels between our processes, byte for byte: the
// messages of the portal channel, the frames around them, the payloads of
// in-tunnel control packets, and the texts a peer sends when it connects.
//
// Types carry parsed values: what came out of a Decode function obeys the
// ranges its comments state. "Absent" in a field's comment says what a missing
// JSON key means; where nothing is said, the key is required. Sections are
// those of spec portal.md unless another document is named.
//
// Decoding is as strict as the stock peers are (0.3, 3.8): unknown fields are
// ignored, lists and numbers are never null, one bad resource does not spoil
// the list it is in, and everything is bounded. Encoding never writes null for
// a list.
package wire

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
)

// A Version is a generation of the WebSocket endpoints; it is visible in the
// path that was dialled (1.1). Five event names differ (8, item 4).
type Version uint8

const (
	V1 Version = 1 // /client/websocket, /gateway/websocket
	V2 Version = 2 // /client/v2/websocket, /gateway/v2/websocket
)

// A Message is one event with its payload, in either direction.
type Message interface {
	// Event is the message's name in a frame on an endpoint of generation v.
	Event(v Version) string
}

// Unknown is an event this package does not know, or one about a kind of
// resource it does not know. Peers tolerate it and count it (3.8).
type Unknown struct{ Name string }

func (u Unknown) Event(Version) string { return u.Name }

// A Key is a WireGuard key, public or preshared, or a private one that never
// travels. In JSON it is standard base64 with padding: 44 characters.
type Key [32]byte

// String returns the 44 characters of base64. Do not log preshared keys.
func (k Key) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// IsZero reports whether k is all zeros, which no usable key is.
func (k Key) IsZero() bool { return k == Key{} }

// MarshalText is String for encoding/json; it never fails.
func (k Key) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, k[:]), nil
}

var errKey = errors.New("a key is 32 bytes in base64 with padding")

// UnmarshalText reads the 44 characters. k is unchanged on error.
func (k *Key) UnmarshalText(text []byte) error {
	if len(text) != 44 {
		return errKey
	}
	var b [33]byte // 44 characters without padding are 33 bytes
	// Strict: trailing bits must be zero, as one key has one text.
	n, err := base64.StdEncoding.Strict().Decode(b[:], text)
	if err != nil || n != len(k) {
		return errKey
	}
	copy(k[:], b[:])
	return nil
}

// A Secret is a string that no log shall show: every way of printing it says
// [redacted]. Reveal is for the one place that sends it.
type Secret string

const redacted = "[redacted]"

func (Secret) String() string { return redacted }

// Format answers every verb of package fmt.
func (Secret) Format(s fmt.State, _ rune) { io.WriteString(s, redacted) }

// MarshalText keeps the secret out of JSON and structured logs.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }
