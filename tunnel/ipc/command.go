package ipc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A Command is what a user wants of the service: one of the types below.
type Command interface {
	// name is what the request calls the command.
	name() string
	// check tells what is wrong with an argument.
	check() error
}

type (
	// SignIn hands over a token. The service keeps it and connects with it;
	// a session that was there ends when the new token is stored. Whether the
	// portal takes the token shows in Session.
	SignIn struct {
		Token Secret
		// AccountSlug and Actor are what the portal said with the token, for
		// people to see: at most 100 and 200 bytes; "" when unknown.
		AccountSlug, Actor string
		// KeptSince says when the user's program put the token into the user's own
		// store of secrets, in Unix milliseconds: the service then writes it to no
		// disk. 0: the service keeps it.
		KeptSince int64
		// Back tells that the token comes out of that store, after a reboot. It is
		// refused if the user has signed out since, and waits for Connect if the
		// settings say so, as a token does that the service kept.
		Back bool
		// Portal is the address of the portal that the token is of, as
		// Settings.APIURL had it when the user went there or the token was kept. It is
		// refused if the settings name another by now. "": not known.
		Portal string
	}
	// SignOut deletes the token and ends the session. Doing it twice is no
	// error.
	SignOut struct{}
	// SetInternet says whether the Internet resource shall carry all traffic.
	// The wish is kept, also while nobody is signed in.
	SetInternet struct{ On bool }
	// SetLogFilter changes what the service logs, at once; a level such as
	// "debug", or "info,tunnel/phoenix=debug". If For is not zero, the usual
	// filter comes back after it; otherwise when the service starts anew.
	SetLogFilter struct {
		Filter string        // at most 1000 bytes
		For    time.Duration // whole seconds, at most MaxLogFor
	}
	// ClearLogs deletes the service's log files; logging goes on in a new one.
	ClearLogs struct{}
	// Retry makes the service try to reach the portal at once, instead of when
	// it next would.
	Retry struct{}
)

func (SignIn) name() string       { return "sign-in" }
func (SignOut) name() string      { return "sign-out" }
func (SetInternet) name() string  { return "set-internet" }
func (Retry) name() string        { return "retry" }
func (SetLogFilter) name() string { return "set-log-filter" }
func (ClearLogs) name() string    { return "clear-logs" }

func (c SignIn) check() error {
	switch {
	case !isToken(string(c.Token)):
		return errors.New("token: " + ErrBadToken.Error())
	case !IsSlug(c.AccountSlug) && c.AccountSlug != "":
		return errors.New("account_slug: not a name of an account")
	case !isLine(c.Actor, 200):
		return errors.New("actor: not one line of text")
	case c.KeptSince < 0:
		return errors.New("kept_since_ms: not a time")
	case c.Back && c.KeptSince == 0:
		return errors.New("back: it was not kept")
	case !isLine(c.Portal, 2000):
		return errors.New("portal: not an address")
	}
	return nil
}
func (SignOut) check() error     { return nil }
func (SetInternet) check() error { return nil }
func (Retry) check() error       { return nil }
func (ClearLogs) check() error   { return nil }

// MaxLogFor is how long a log filter may last that is not to stay.
const MaxLogFor = 7 * 24 * time.Hour

func (c SetLogFilter) check() error {
	switch {
	case c.Filter == "" || !isLine(c.Filter, 1000):
		return errors.New("filter: not one line of text")
	case c.For < 0 || c.For > MaxLogFor || c.For%time.Second != 0:
		return errors.New("for: not whole seconds up to a week")
	}
	return nil
}

// IsSlug reports whether s can be the short name of an account, as it stands in
// addresses of sign-in pages: 1 to 100 letters, digits, "-" and "_".
func IsSlug(s string) bool {
	const allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return s != "" && len(s) <= 100 && strings.Trim(s, allowed) == ""
}

func isLine(s string, limit int) bool {
	return len(s) <= limit && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// A Request is a Command on its way. Answers bear its ID, which the program
// chooses; a connection carries one request at a time.
//
//	{"protocol":1,"id":7,"command":"set-internet","with":{"on":true}}
type Request struct {
	ID      uint64
	Command Command
}

// envelope is the JSON of a Request. Other versions of the protocol may have
// other fields but for the first two.
type envelope struct {
	Protocol int             `json:"protocol"`
	ID       uint64          `json:"id"`
	Command  string          `json:"command"`
	With     json.RawMessage `json:"with,omitempty"` // absent for a command without arguments
}

type signInJSON struct {
	Token       string `json:"token"`
	AccountSlug string `json:"account_slug"`
	Actor       string `json:"actor"`
	KeptSince   int64  `json:"kept_since_ms,omitempty"`
	Back        bool   `json:"back,omitempty"`
	Portal      string `json:"portal,omitempty"`
}

// switchJSON is what something is switched to.
type switchJSON struct {
	On *bool `json:"on"`
}

type setLogFilterJSON struct {
	Filter string `json:"filter"`
	For    int64  `json:"for_s,omitempty"` // seconds
}

// AppendRequest appends the frame of r. The error says what is wrong with an
// argument.
func AppendRequest(dst []byte, r Request) ([]byte, error) {
	if err := r.Command.check(); err != nil {
		return dst, unusable(r.Command.name(), err)
	}
	var with any
	switch c := r.Command.(type) {
	case SignIn:
		with = signInJSON{c.Token.Reveal(), c.AccountSlug, c.Actor, c.KeptSince, c.Back, c.Portal}
	case SetInternet:
		with = switchJSON{&c.On}
	case SetLogFilter:
		with = setLogFilterJSON{c.Filter, int64(c.For / time.Second)}
	case Inspect:
		with = inspectJSON(c)
	case ApplySettings:
		with = applySettingsJSON(c)
	case SetConnectOnStart:
		with = switchJSON{&c.On}
	}
	e := envelope{Protocol: Protocol, ID: r.ID, Command: r.Command.name()}
	if with != nil {
		e.With = marshal(with)
	}
	return AppendFrame(dst, marshal(e), MaxRequest)
}

// ParseRequest reads the body of a frame. The error is a *Problem to answer
// with; the ID is then that of the request, or 0 if it could not be read.
func ParseRequest(body []byte) (Request, error) {
	var e envelope
	if err := json.Unmarshal(body, &e); err != nil {
		return Request{}, SayNotJSON.With()
	}
	r := Request{ID: e.ID}
	if e.Protocol != Protocol {
		other := SayNewProtocol
		if e.Protocol < Protocol {
			other = SayOldProtocol
		}
		return r, other.With("program", strconv.Itoa(e.Protocol), "service", strconv.Itoa(Protocol))
	}
	if strict(body, &e) != nil {
		return r, SayUnknownFields.With()
	}
	command, err := e.decode()
	if err != nil {
		return r, err
	}
	r.Command = command
	return r, nil
}

// unusable tells what is wrong with an argument of a command.
func unusable(command string, err error) *Problem {
	if p, is := errors.AsType[*Problem](err); is {
		return p
	}
	return SayInvalidArgument.With("command", command, "reason", fmt.Sprintf("%.200v", err))
}

func (e envelope) decode() (Command, error) {
	var command Command
	var err error
	switch e.Command {
	case "sign-in":
		var with signInJSON
		err = strict(e.With, &with)
		command = SignIn{Secret(with.Token), with.AccountSlug, with.Actor, with.KeptSince, with.Back, with.Portal}
	case "sign-out":
		command, err = SignOut{}, e.bare()
	case "set-internet":
		var on bool
		on, err = e.toggle()
		command = SetInternet{on}
	case "set-connect-on-start":
		var on bool
		on, err = e.toggle()
		command = SetConnectOnStart{on}
	case "connect":
		command, err = Connect{}, e.bare()
	case "apply-settings":
		var with applySettingsJSON
		err = strict(e.With, &with)
		command = ApplySettings(with)
	case "retry":
		command, err = Retry{}, e.bare()
	case "set-log-filter":
		var with setLogFilterJSON
		if err = strict(e.With, &with); err == nil && (with.For < 0 || with.For > int64(MaxLogFor/time.Second)) {
			err = errors.New("for_s: not 0 to a week")
		}
		command = SetLogFilter{with.Filter, time.Duration(with.For) * time.Second}
	case "clear-logs":
		command, err = ClearLogs{}, e.bare()
	case "inspect":
		var with inspectJSON
		err = strict(e.With, &with)
		command = Inspect(with)
	case "collect":
		command, err = Collect{}, e.bare()
	default:
		return nil, SayUnknownCommand.With("command", fmt.Sprintf("%.40q", e.Command))
	}
	if err == nil {
		err = command.check()
	}
	if err != nil {
		return nil, unusable(e.Command, err)
	}
	return command, nil
}

// bare refuses arguments.
func (e envelope) bare() error {
	if len(e.With) > 0 {
		return errors.New("takes no arguments")
	}
	return nil
}

// toggle reads what something is switched to, which has to be there.
func (e envelope) toggle() (on bool, err error) {
	var with switchJSON
	if err = strict(e.With, &with); err == nil && with.On == nil {
		err = errors.New("on is missing")
	}
	if err != nil {
		return false, err
	}
	return *with.On, nil
}

// strict refuses unknown fields and whatever follows the value.
func strict(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return errors.New("not of the expected form")
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("not of the expected form")
	}
	return nil
}

// marshal encodes v without escaping what only HTML needs.
func marshal(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // our own types can always be encoded
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
