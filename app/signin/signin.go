// Package signin is one sign-in with the user's browser: which address to open,
// and what may be believed of what comes back (spec portal.md 6.1, 6.2).
//
// The same pages lead back in three ways, and one Attempt takes the answer by
// whichever comes first:
//
//   - Loopback. We tell the portal where we listen (Options.Redirect). Ours
//     sends the browser there after its last page; others ignore it.
//   - URL scheme. Portals that do not know of the first way send the browser to
//     an address that the desktop opens with this program; ours offers it as a
//     link, for a browser that cannot reach our port.
//   - By hand. Our portal's last page has a code under "It did not work?", which
//     needs no desktop: it says what the addresses of the other ways say. Such an
//     address can be pasted as well, copied from a stock portal's link.
//
// The token consists of two halves. The nonce is made here and known to the
// program and to the sign-in page; the fragment comes back from the portal by
// way of the browser's address bar and history. Neither is worth anything
// without the other. The state proves that an answer is one to our question.
package signin

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"stile/app/words"
	"stile/tunnel/ipc"
)

// Why an answer is not taken. Explain says it to the user.
var (
	// ErrForged: not an answer to this sign-in. The sign-in goes on, or any web
	// page could end it.
	ErrForged = errors.New("answer to another sign-in")
	// ErrRepeated: the answer was taken before. All is well.
	ErrRepeated = errors.New("answer taken before")
	// ErrLate: the program gave the sign-in up.
	ErrLate = errors.New("sign-in given up")
	// ErrIncomplete: no portal answers like that. The sign-in goes on.
	ErrIncomplete = errors.New("not the answer of a portal")
	// ErrNoCode: what was pasted is not what the page showed. Ask again.
	ErrNoCode = errors.New("not the code that the page shows")
)

// Explain is what the browser shows when Finish returned err.
func Explain(w *words.Words, err error) string {
	switch err {
	case nil:
		return w.TakenText
	case ErrRepeated:
		return w.TakenBeforeText
	case ErrForged:
		return w.ForgedText
	case ErrLate:
		return w.LateText
	case ErrNoCode:
		return w.NoCodeText
	}
	return w.IncompleteText
}

// callbackHost is the host of the address that portals send applications to
// (spec portal.md 6.1, step 5).
const callbackHost = "handle_client_sign_in_callback"

const (
	maxCallback = 16 << 10 // bytes of an address, or of a code
	maxActor    = 200      // bytes of a name
)

// Options say where to sign in and where the answer shall go.
type Options struct {
	Base    string // address of the sign-in pages, "https://portal.example.net"
	Account string // slug; "": the portal knows or asks
	// Redirect is where the browser may take the answer as well:
	// "http://127.0.0.1:PORT/PATH"; "" if nobody listens.
	Redirect string
	// Portal is the address of the portal for programs that the user signs in for;
	// it comes back in the Result.
	Portal string
}

// An Attempt is one sign-in, from opening the browser to the first right
// answer.
type Attempt struct {
	url          string
	redirect     *url.URL // nil: no loopback
	nonce, state string   // 64 lower-case hexadecimal characters each
	portal       string
	over         error // ErrRepeated or ErrLate; nil: waiting
}

// A Result is what a sign-in yields. Account and Actor are for people to see,
// and "" when the portal did not tell; they fit into an ipc.SignIn.
type Result struct {
	Token          ipc.Secret
	Account, Actor string
	Portal         string // that of the Options
}

// Begin starts a sign-in. random is crypto/rand's reader.
func Begin(o Options, random io.Reader) (*Attempt, error) {
	page, err := address(o.Base, o.Account)
	if err != nil {
		return nil, err
	}
	var b [64]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return nil, fmt.Errorf("begin to sign in: %w", err)
	}
	a := &Attempt{nonce: hex.EncodeToString(b[:32]), state: hex.EncodeToString(b[32:]), portal: o.Portal}
	query := url.Values{"as": {"gui-client"}, "nonce": {a.nonce}, "state": {a.state}}
	if o.Redirect != "" {
		if a.redirect, err = url.Parse(o.Redirect); err != nil {
			return nil, fmt.Errorf("begin to sign in: %w", err)
		}
		query.Set("redirect_uri", o.Redirect)
	}
	page.RawQuery = query.Encode()
	a.url = page.String()
	return a, nil
}

// URL is the address to open in a browser. It holds the nonce: show it to
// nobody but the user.
func (a *Attempt) URL() string { return a.url }

// Over is why no answer is waited for any more, ErrRepeated or ErrLate; nil
// while one is.
func (a *Attempt) Over() error { return a.over }

// Finish takes an answer: the whole address that the browser was led to. The
// first right one ends the attempt. The error is one of the above.
func (a *Attempt) Finish(callback string) (Result, error) {
	if len(callback) > maxCallback {
		return Result{}, ErrIncomplete
	}
	u, err := url.Parse(callback)
	if err != nil || u.User != nil || !a.leadsHere(u) {
		return Result{}, ErrIncomplete
	}
	return a.take(u.RawQuery)
}

// Paste takes an answer that the user has carried: the code of our portal's
// last page, or an address for Finish. A whole token is not one: nothing proves
// that it belongs to this sign-in.
func (a *Attempt) Paste(text string) (Result, error) {
	if len(text) > 2*maxCallback { // before working on it
		return Result{}, ErrNoCode
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, text)
	var r Result
	var err error
	if strings.Contains(text, "://") {
		r, err = a.Finish(text)
	} else if query, e := base64.RawURLEncoding.DecodeString(text); e == nil && len(query) <= maxCallback {
		r, err = a.take(string(query))
	} else {
		err = ErrNoCode
	}
	if err == ErrIncomplete {
		err = ErrNoCode
	}
	return r, err
}

// take takes the parameters of an answer.
func (a *Attempt) take(query string) (Result, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return Result{}, ErrIncomplete
	}
	for _, key := range []string{"account_slug", "actor_name", "fragment", "state"} {
		if len(values[key]) != 1 {
			return Result{}, ErrIncomplete
		}
	}
	if subtle.ConstantTimeCompare([]byte(values["state"][0]), []byte(a.state)) != 1 {
		return Result{}, ErrForged
	}
	if a.over != nil {
		return Result{}, a.over
	}
	fragment := values["fragment"][0]
	if fragment == "" {
		return Result{}, ErrIncomplete
	}
	token, err := ipc.ParseToken(a.nonce + fragment)
	if err != nil {
		return Result{}, ErrIncomplete
	}
	a.over = ErrRepeated
	r := Result{Token: token, Actor: line(values["actor_name"][0]), Portal: a.portal}
	if slug := values["account_slug"][0]; ipc.IsSlug(slug) {
		r.Account = slug
	}
	return r, nil
}

// Cancel gives the attempt up. Nothing that comes later is taken.
func (a *Attempt) Cancel() {
	if a.over == nil {
		a.over = ErrLate
	}
}

// leadsHere checks where a callback went. The name of the application's scheme
// is the desktop's business: it led here.
func (a *Attempt) leadsHere(u *url.URL) bool {
	if u.Host == callbackHost {
		return u.Path == "" || u.Path == "/"
	}
	return a.redirect != nil && u.Scheme == a.redirect.Scheme && u.Host == a.redirect.Host && u.Path == a.redirect.Path
}

// Page returns the address of a page that shows the user a token to copy, for a
// browser that cannot lead back to the program.
func Page(base, account string) (string, error) {
	u, err := address(base, account)
	if err != nil {
		return "", err
	}
	u.RawQuery = "as=headless-client"
	return u.String(), nil
}

// Paste takes the token that such a page shows.
func Paste(text string) (Result, error) {
	if strings.Contains(text, "://") {
		return Result{}, errors.New("this is an address, not the token: open it in a browser, sign in, and copy the token that the page shows")
	}
	token, err := ipc.ParseToken(text)
	return Result{Token: token}, err
}

// Place is where the users of a service sign in: at base, or where the service
// says if that is "", or else at its portal. The error tells what to do.
func Place(s *ipc.Session, base, account string) (Options, error) {
	if base == "" {
		base = s.AuthURL
	}
	if base == "" {
		if s.Portal == "" {
			return Options{}, ipc.SayPortalUnknown.With()
		}
		var err error
		if base, err = Base(s.Portal); err != nil {
			return Options{}, err
		}
	}
	_, err := address(base, account)
	return Options{Base: base, Account: account, Portal: s.Portal}, err
}

// Base derives the address of the sign-in pages from that of the portal for
// programs, such as "wss://portal.example.net": our portal has both in one
// place.
func Base(portal string) (string, error) {
	u, err := url.Parse(portal)
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("%q is not the address of a portal", portal)
	}
	switch u.Scheme {
	case "wss":
		u.Scheme = "https"
	case "ws":
		u.Scheme = "http"
	}
	return u.String(), nil
}

// address checks base and puts the account below it.
func address(base, account string) (*url.URL, error) {
	u, err := url.Parse(base)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("%q is not an address to sign in at: it should look like https://portal.example.net", base)
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return nil, fmt.Errorf("%q is not protected by TLS: everybody on the way could read your password. Use the portal's https:// address", base)
	case account != "" && !ipc.IsSlug(account):
		return nil, fmt.Errorf("%q is not the short name of an account", account)
	}
	u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/")+"/"+account, ""
	return u, nil
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// line makes one line of text that can be shown out of s.
func line(s string) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s))
	for len(s) > maxActor {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}
