package serve

import (
	"encoding/base64"
	"net/url"
	"strconv"
	"strings"
)

// An ask is what an application wants of a browser sign-in (spec portal.md
// 6.1, 6.2). It travels with the browser from page to page.
type ask struct {
	As       string // "gui-client", "client" or "headless-client"
	Nonce    string // stays with the application; "" for headless-client
	State    string // comes back as it was
	Redirect string // "" for the application's URL scheme, else a loopback URL
}

const (
	maxNonce    = 128 // characters (spec portal.md 7)
	maxState    = 256
	maxRedirect = 256
)

// What is wrong with a link, in sentences for the page.
const (
	wrongAs       = "The link that brought you here is not one of a program that can sign in. Start again from the program."
	wrongNonce    = "The link that brought you here has no usable nonce. Start again from the program."
	wrongState    = "The link that brought you here has no usable state. Start again from the program."
	wrongRedirect = "The link that brought you here wants to lead to another place than a program on this computer. Do not use it."
)

// parseAsk checks what a link or a form says; wrong is "" if that can be used.
func parseAsk(v url.Values) (a ask, wrong string) {
	a = ask{As: v.Get("as"), Nonce: v.Get("nonce"), State: v.Get("state"), Redirect: v.Get("redirect_uri")}
	switch a.As {
	case "headless-client":
		return ask{As: a.As}, "" // the person carries the token: nothing to come back to
	case "gui-client", "client":
	default:
		return ask{}, wrongAs
	}
	if a.Nonce == "" || len(a.Nonce) > maxNonce || strings.Trim(a.Nonce, unreserved) != "" {
		return ask{}, wrongNonce
	}
	if a.State == "" || len(a.State) > maxState || strings.ContainsFunc(a.State, func(r rune) bool { return r < ' ' || r > '~' }) {
		return ask{}, wrongState
	}
	if a.Redirect != "" && !isLoopback(a.Redirect) {
		return ask{}, wrongRedirect
	}
	return a, ""
}

// unreserved characters need no escaping in a header, a URL or a form. A dot is
// none of them: it ends the nonce in a token.
const unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// isLoopback accepts http://127.0.0.1:PORT/PATH and http://[::1]:PORT/PATH and
// no other spelling, so that no browser can read it in another way than we do.
func isLoopback(s string) bool {
	rest, ok := strings.CutPrefix(s, "http://127.0.0.1:")
	if !ok {
		rest, ok = strings.CutPrefix(s, "http://[::1]:")
	}
	port, path, slash := strings.Cut(rest, "/")
	n, err := strconv.ParseUint(port, 10, 16)
	return ok && slash && len(s) <= maxRedirect && err == nil && n != 0 && strconv.FormatUint(n, 10) == port &&
		strings.Trim(path, unreserved+"/.") == "" && !strings.Contains(path, "..")
}

// fields are the parameters of a, for a form.
func (a ask) fields() []field {
	list := []field{{"as", a.As}}
	for _, f := range []field{{"nonce", a.Nonce}, {"state", a.State}, {"redirect_uri", a.Redirect}} {
		if f.Value != "" {
			list = append(list, f)
		}
	}
	return list
}

// The URLs that applications registered with the desktop: the first is every
// client's, the second only of those that know the redirect_uri, which are ours.
const (
	scheme    = "firezone-fd0020211111://handle_client_sign_in_callback"
	ourScheme = "stile://handle_client_sign_in_callback"
)

// An answer is what an application is told, and how it may get there. It is in
// nobody's way but the user's: the nonce, the token's other half, stays with the
// application.
type answer struct {
	Query    string // the parameters
	Redirect string // loopback URL that the application listens at; ""
}

func (a ask) answer(values url.Values) answer {
	values.Set("state", a.State)
	return answer{values.Encode(), a.Redirect}
}

// links returns the ways that a browser can go: first the one it is sent by
// itself, then what is left, "" if nothing is. A port that somebody listens at
// comes before a scheme that may have no program.
func (a answer) links() (first, other string) {
	if a.Redirect == "" {
		return scheme + "?" + a.Query, ""
	}
	return a.Redirect + "?" + a.Query, ourScheme + "?" + a.Query
}

// code is the answer as one word, for a user to carry.
func (a answer) code() string { return base64.RawURLEncoding.EncodeToString([]byte(a.Query)) }
