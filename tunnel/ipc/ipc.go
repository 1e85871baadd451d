// Package ipc is what the programs of the logged-in user and the tunnel service
// say to each other on one machine: commands up, the whole state down, never a
// delta.
//
// Both directions carry frames: a length of four bytes, big endian, then that
// many bytes of JSON (spec desktop-client.md 3.1). The service speaks first: a
// [Hello], then a [State], another one whenever something has changed, and an
// [Answer] to each [Request]. Who may not be there gets a goodbye that says
// why, and nothing else.
//
// What a newer service adds to its messages, an older program ignores. Requests
// are strict: what a service does not know, it refuses, because half a command
// is not what the user meant.
package ipc

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
)

// Protocol is the version of all that this package describes. It changes when
// an old program would misread a new service or the reverse; fields that may be
// ignored do not change it. Hello, and the protocol field of a request, keep
// their form in all versions.
const Protocol = 1

// A Code names a Problem for programs.
type Code string

// Codes of refusals. Session and resource reasons are in state.go.
const (
	NotAllowed      Code = "not-allowed"      // the caller may not control the service
	Busy            Code = "busy"             // too many connections; try again in a while
	Stopping        Code = "stopping"         // the service ends; it may come back
	WrongVersion    Code = "wrong-version"    // program and service speak different protocols
	UnknownCommand  Code = "unknown-command"  // of a newer program, same protocol
	Malformed       Code = "malformed"        // not a request
	InvalidArgument Code = "invalid-argument" // a known command with an unusable argument
	NoLogs          Code = "no-logs"          // there are no log files, or they cannot be deleted
	TokenIsManaged  Code = "token-is-managed" // the token is an administrator's: no sign-in, no sign-out
	SettingManaged  Code = "setting-managed"  // an administrator set this, and nobody else can change it
	HeldByOther     Code = "held-by-other"    // another user of this machine is signed in
	SignedOutSince  Code = "signed-out-since" // the user signed out after the token was kept
	Internal        Code = "internal"         // the service failed; its log says why
)

// A Problem is why something is not so, or was not done. Text is one or more
// full sentences for people, in English, and says what to do next.
type Problem struct {
	Code Code   `json:"code"`
	Text string `json:"text"`
	// Say and With are Text for programs that say it in another language: which
	// sentence it is, and what fills its places. Absent of services that do not
	// tell.
	Say  Notice            `json:"say,omitzero"`
	With map[string]string `json:"with,omitempty"`
}

func (p *Problem) Error() string { return p.Text }

// Problemf makes a Problem that has no Notice, so that it is in English for
// everybody; the arguments are those of fmt.Sprintf.
func Problemf(code Code, format string, args ...any) *Problem {
	return &Problem{Code: code, Text: fmt.Sprintf(format, args...)}
}

// MaxToken is the longest token, in bytes: an HTTP header must hold it.
const MaxToken = 8 << 10

// A Secret is a string that nothing shows: every way of printing or encoding it
// says [redacted], except for the request that carries it to the service.
type Secret string

const redacted = "[redacted]"

func (Secret) String() string { return redacted }

// Format answers every verb of package fmt.
func (Secret) Format(s fmt.State, _ rune) { io.WriteString(s, redacted) }

// MarshalText keeps the secret out of JSON and structured logs.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// Errors of ParseToken.
var (
	ErrNoToken  = errors.New("the token is empty")
	ErrBadToken = errors.New("this is not a token: it has characters that tokens do not have, or is too long")
)

// ParseToken reads a token as people paste it: white space and invisible
// characters are removed, wherever they are (spec portal.md 7). What remains has
// to survive as an HTTP header value: 1 to MaxToken visible ASCII characters.
func ParseToken(text string) (Secret, error) {
	if len(text) > 2*MaxToken { // before working on it
		return "", ErrBadToken
	}
	token := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, text)
	if token == "" {
		return "", ErrNoToken
	}
	if !isToken(token) {
		return "", ErrBadToken
	}
	return Secret(token), nil
}

func isToken(s string) bool {
	return s != "" && len(s) <= MaxToken && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}
