package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"stile/platform/dirs"
	"stile/platform/logs"
	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
	"stile/tunnel/wire"
)

const (
	signInFile   = "sign-in.json" // 0600: it holds the token
	signOutFile  = "sign-out.json"
	settingsFile = "settings.json" // what users chose
	maxStateFile = 64 << 10
)

// A wish is what users and administrators want of the service. The owner makes
// it fact; nothing else does.
type wish struct {
	Token          wire.Secret // "": nobody is signed in
	Source         ipc.TokenSource
	Account, Actor string
	Holder         string // number or SID of who signed in; "": the administrator, or not known
	Portal         string // address of the portal that a sign-in is for; "": not known
	KeptSince      int64  // when the user's own store took the token, in Unix milliseconds; 0: we keep it
	Paused         bool   // the token is not used before somebody says so; not kept
	Internet       bool   // users chose the Internet resource

	// What users chose; "" is the default.
	APIURL, AuthURL, LogFilter string
	Manual                     bool // do not connect when the service starts
}

// signedOut is the wish without a token.
func (w wish) signedOut() wish {
	return w.as(wish{})
}

// as is the wish with the sign-in of another.
func (w wish) as(o wish) wish {
	w.Token, w.Source, w.Account, w.Actor, w.Holder, w.Portal = o.Token, o.Source, o.Account, o.Actor, o.Holder, o.Portal
	w.KeptSince, w.Paused = o.KeptSince, o.Paused
	return w
}

// of reports whether the session is c's to see and to change: nobody else holds
// it. Administrators may do everything.
func (w wish) of(c link.Caller) bool {
	return w.Token == "" || w.Holder == "" || c.Admin() || c.User() == w.Holder
}

// heldAgainst refuses whoever is not the holder.
func (w wish) heldAgainst(from link.Caller) error {
	if w.of(from) {
		return nil
	}
	return ipc.HeldBy(userName(w.Holder))
}

// userName is how people know a user of this machine.
func userName(id string) string {
	if id == "" {
		return ""
	}
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "#" + id
}

// signedIn is the file of a sign-in.
type signedIn struct {
	Version int    `json:"version"`
	Token   string `json:"token"`
	Account string `json:"account,omitempty"`
	Actor   string `json:"actor,omitempty"`
	UserID  uint32 `json:"user_id,omitempty"` // an earlier form of User
	User    string `json:"user,omitempty"`    // who signed in; "": the administrator
	Portal  string `json:"portal,omitempty"`  // address of the portal that gave the token
	// KeptSince is that of ipc.SignIn.
	KeptSince int64 `json:"kept_since_ms,omitempty"`
}

// settings is the file of what users chose.
type settings struct {
	Version        int    `json:"version"`
	Internet       bool   `json:"internet"`
	APIURL         string `json:"api_url,omitempty"`
	AuthURL        string `json:"auth_url,omitempty"`
	LogFilter      string `json:"log_filter,omitempty"`
	ConnectOnStart *bool  `json:"connect_on_start,omitempty"`
}

// usable reports whether this version can have written s.
func (s settings) usable() bool {
	_, err := logs.ParseFilter(s.LogFilter)
	return s.Version == 1 && err == nil &&
		(s.APIURL == "" || ipc.CheckAPIURL(s.APIURL) == nil) && (s.AuthURL == "" || ipc.CheckAuthURL(s.AuthURL) == nil)
}

// loadWish reads what users wished in earlier runs. A token from environment or
// file, an administrator's, wins over a sign-in.
func (c *Config) loadWish() wish {
	w := wish{Token: c.Token, Source: c.TokenSource}
	var s settings
	loadJSON(filepath.Join(c.StateDir, settingsFile), &s, func() bool { return s.usable() }, c.Log)
	w.Internet = s.Internet
	w.APIURL, w.AuthURL, w.LogFilter = s.APIURL, s.AuthURL, s.LogFilter
	w.Manual = s.ConnectOnStart != nil && !*s.ConnectOnStart
	if w.Token != "" {
		return w
	}
	var in signedIn
	usable := func() bool {
		token, err := ipc.ParseToken(in.Token)
		return err == nil && token.Reveal() == in.Token && in.Version == 1
	}
	for _, dir := range []string{c.MemoryDir, c.StateDir} {
		if dir != "" && in.Token == "" {
			loadJSON(filepath.Join(dir, signInFile), &in, usable, c.Log)
		}
	}
	if in.Token != "" {
		w.Token, w.Source, w.Account, w.Actor = wire.Secret(in.Token), ipc.TokenFromSignIn, in.Account, in.Actor
		w.Holder, w.Portal, w.KeptSince = in.User, in.Portal, in.KeptSince
		if in.User == "" && in.UserID != 0 {
			w.Holder = strconv.FormatUint(uint64(in.UserID), 10)
		}
	}
	return w
}

// saveSignIn writes the token down: one that the user's own store of secrets
// keeps, only where a reboot forgets it, and nowhere if there is no such place.
func (c *Config) saveSignIn(w wish) error {
	in := signedIn{Version: 1, Token: w.Token.Reveal(), Account: w.Account, Actor: w.Actor, User: w.Holder, Portal: w.Portal, KeptSince: w.KeptSince}
	place, other := c.StateDir, c.MemoryDir
	if w.KeptSince != 0 {
		place, other = c.MemoryDir, c.StateDir
	}
	if place != "" {
		if err := saveJSON(filepath.Join(place, signInFile), in); err != nil {
			return err // what is at the other place is still in use
		}
	}
	return c.forget(other)
}

func (c *Config) deleteSignIn() error {
	return errors.Join(c.forget(c.StateDir), c.forget(c.MemoryDir))
}

func (c *Config) forget(dir string) error {
	if dir == "" {
		return nil
	}
	if err := os.Remove(filepath.Join(dir, signInFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete the token: %w", err)
	}
	return nil
}

// signedOut is the file of when users signed out last: tokens that their
// programs have kept since earlier are not taken back.
type signedOut struct {
	Version int              `json:"version"`
	At      int64            `json:"at_ms"`              // Unix milliseconds; of everybody
	Users   map[string]int64 `json:"users_ms,omitempty"` // by number or SID
}

// maxSignedOut is how many users are told apart.
const maxSignedOut = 500

// saveSignOut notes that a user signed out; "": whoever it was.
func (c *Config) saveSignOut(user string, at time.Time) error {
	out := c.loadSignOut()
	switch {
	case user == "":
		out = signedOut{Version: 1, At: at.UnixMilli()}
	default:
		if out.Users == nil {
			out.Users = map[string]int64{}
		}
		out.Version, out.Users[user] = 1, at.UnixMilli()
		if len(out.Users) > maxSignedOut { // rather ask somebody to sign in than sign them in
			out = signedOut{Version: 1, At: at.UnixMilli()}
		}
	}
	return saveJSON(filepath.Join(c.StateDir, signOutFile), out)
}

func (c *Config) loadSignOut() (out signedOut) {
	loadJSON(filepath.Join(c.StateDir, signOutFile), &out, func() bool { return out.Version == 1 }, c.Log)
	return out
}

// outdated reports whether the user has signed out after a token was kept.
func (c *Config) outdated(from link.Caller, keptSince int64) bool {
	out := c.loadSignOut()
	return keptSince <= max(out.At, out.Users[from.User()])
}

func (c *Config) saveSettings(w wish) error {
	s := settings{Version: 1, Internet: w.Internet, APIURL: w.APIURL, AuthURL: w.AuthURL, LogFilter: w.LogFilter, ConnectOnStart: w.chosen().ConnectOnStart}
	return saveJSON(filepath.Join(c.StateDir, settingsFile), s)
}

// loadJSON reads a file of ours. One that is not is kept aside, so that the
// service starts and nothing is lost.
func loadJSON[T any](path string, into *T, good func() bool, log *slog.Logger) {
	text, err := readBounded(path, maxStateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		if err = json.Unmarshal(text, into); err == nil && !good() {
			err = errors.New("it is not what this version writes")
		}
	}
	if err == nil {
		return
	}
	*into = *new(T)
	log.Warn("a file is unreadable and does not count", "file", path, "error", err)
	putAside(path, log)
}

func saveJSON(path string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return dirs.WriteSecret(path, append(text, '\n'))
}
