package console

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// What keeps strangers out, from the outside to the inside:
//
//   - Connections of other users' programs are closed (ours, in console.go).
//   - Host must be our address: a name of somebody else's that leads here
//     (DNS rebinding) does not count.
//   - All paths begin with 128 random bits. Cookies do not know of ports: what
//     another user serves at another port of 127.0.0.1 would be sent ours, if
//     it knew the path.
//   - What browsers say about the page that a request comes from must be
//     nothing or ourselves (Sec-Fetch-Site, Origin).
//   - A session: a cookie of 256 random bits, for scripts invisible, sent by
//     the browser for requests of our own pages only. It is had for a one-time
//     address of a minute's life, and ends with the program.
//   - What changes something is a POST from our own origin with the session's
//     token in it.
const (
	cookieName = "stile"
	inviteLife = time.Minute
	maxInvites = 16 // not yet used; the oldest goes
	maxGuests  = 8  // browsers; the one that was not here for longest goes
	maxForm    = 16 << 10
)

// A gate knows who may come in.
type gate struct {
	mu      sync.Mutex // guards all below
	invites []invite
	guests  []*guest // the one that was here last comes last
}

// An invite is a one-time address that nobody used yet.
type invite struct {
	secret, page string
	until        time.Time
}

// A guest is a browser with a session. The notice is guarded by the gate's mu.
type guest struct {
	cookie, token string
	notice        *notice // for the next page; nil: none
}

// A notice tells what became of a command.
type notice struct {
	OK   bool   `json:"ok"`
	Text string `json:"text"`
}

// random is n random bytes as text for addresses.
func random(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// invite makes a one-time secret.
func (g *gate) invite(page string, now time.Time) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := invite{random(32), page, now.Add(inviteLife)}
	g.invites = append(g.invites, i)
	if len(g.invites) > maxInvites {
		g.invites = slices.Delete(g.invites, 0, 1)
	}
	return i.secret
}

// enter uses up a one-time secret. The browser keeps the session it has, so
// that pages it shows already go on.
func (g *gate) enter(secret, cookie string, now time.Time) (page string, who *guest) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.invites = slices.DeleteFunc(g.invites, func(i invite) bool { return !now.Before(i.until) })
	at := slices.IndexFunc(g.invites, func(i invite) bool { return same(i.secret, secret) })
	who = g.knownLocked(cookie)
	if at < 0 {
		return "", who
	}
	page = g.invites[at].page
	g.invites = slices.Delete(g.invites, at, at+1)
	if who == nil {
		who = &guest{cookie: random(32), token: random(32)}
		g.guests = append(g.guests, who)
		if len(g.guests) > maxGuests {
			g.guests = slices.Delete(g.guests, 0, 1)
		}
	}
	return page, who
}

func (g *gate) knownLocked(cookie string) *guest {
	at := slices.IndexFunc(g.guests, func(k *guest) bool { return same(k.cookie, cookie) })
	if at < 0 {
		return nil
	}
	who := g.guests[at]
	g.guests = append(slices.Delete(g.guests, at, at+1), who)
	return who
}

// known is the session of a request; nil if it has none.
func (g *gate) known(r *http.Request) *guest {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.knownLocked(c.Value)
}

// tell leaves a notice for the next page.
func (g *gate) tell(who *guest, n notice) {
	g.mu.Lock()
	who.notice = &n
	g.mu.Unlock()
}

// told takes the notice away.
func (g *gate) told(who *guest) *notice {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := who.notice
	who.notice = nil
	return n
}

// cookie is what the browser is to send from now on: to this address only, by
// requests of our pages only, and until it ends.
func (c *Console) cookie(who *guest) *http.Cookie {
	return &http.Cookie{Name: cookieName, Value: who.cookie, Path: c.base + "/", HttpOnly: true, SameSite: http.SameSiteStrictMode}
}

// foreign reports whether a request comes from somebody else's page.
func (c *Console) foreign(r *http.Request) bool {
	origins := r.Header.Values("Origin")
	for _, o := range origins {
		if o != "http://"+c.host {
			return true
		}
	}
	sites := r.Header.Values("Sec-Fetch-Site")
	for _, from := range sites {
		if from != "same-origin" && (from != "none" || r.Method == http.MethodPost) {
			return true
		}
	}
	// Browsers say at least one of the two with a form.
	return r.Method == http.MethodPost && len(origins) == 0 && len(sites) == 0
}

// prefetched reports whether a browser only guesses that its user may want the
// page: that must not use an invitation up.
func prefetched(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Sec-Purpose")+r.Header.Get("Purpose")+r.Header.Get("X-Moz"), "prefetch")
}

// guard sets what browsers shall do with whatever we answer.
func (c *Console) guard(h http.Header) {
	at := "http://" + c.host + c.base
	h.Set("Content-Security-Policy", "default-src 'none'; style-src "+at+"/style.css; script-src "+at+"/live.js; img-src "+at+"/icon.svg data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	// Not "no-referrer": with it, browsers would send forms without their origin.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cache-Control", "no-store")
}
