package serve

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"stile/tunnel/portal/config"
	"stile/tunnel/portal/store"
)

// Provider is how users sign in, in the terms of policy conditions and of what
// peers are told.
const Provider = "password"

const (
	formCookie = "stile_form" // ties a form to the browser it was shown to
	doneCookie = "stile_done" // the sealed result of a sign-in
	ledCookie  = "stile_led"  // which result has led the browser to the application

	doneTime  = 2 * time.Minute
	formBytes = 16 << 10
	// hashWait is how long a sign-in waits for its turn to be checked.
	hashWait = 10 * time.Second
)

// Wrong passwords. Somebody who guesses at one account from one place is
// slowed down first; a place that tries many accounts, later. Nobody else is
// hurt, as neither counts across places.
const (
	wrongEvery, wrongBurst     = 10 * time.Second, 5
	wrongIPEvery, wrongIPBurst = 2 * time.Second, 30
	throttleKeys               = 20_000
	connectEvery, connectBurst = time.Second, 3
)

// begin shows the sign-in form (spec portal.md 6.1). A browser that is signed
// in already is asked all the same.
func (s *server) begin(w http.ResponseWriter, r *http.Request, c *config.Config) {
	if !r.URL.Query().Has("as") {
		p := newPage(c, "Nothing to do here")
		p.Lead = "This is where devices sign in to " + c.Account.Name + ". Start from the program on your device: it opens this page when you choose to sign in."
		s.show(w, http.StatusOK, "message.html", p)
		return
	}
	a, wrong := parseAsk(r.URL.Query())
	if wrong != "" {
		s.message(w, c, http.StatusBadRequest, "This link cannot be used", wrong)
		return
	}
	s.form(w, r, c, a, http.StatusOK, "", "")
}

// form shows the form for a, with what was wrong with the last try.
func (s *server) form(w http.ResponseWriter, r *http.Request, c *config.Config, a ask, status int, email, wrong string) {
	browser := cookie(r, formCookie)
	if browser == "" {
		browser = rand.Text()
		s.setCookie(w, c, formCookie, browser, 0)
	}
	p := newPage(c, "Sign in")
	p.Lead = "A program on this device asks to be connected as you."
	if a.As == "headless-client" {
		p.Lead = "You will get a token to paste into a program."
	}
	p.Email, p.Error = email, wrong
	p.Hidden = append(a.fields(), field{"tag", s.sealer.tag(formText(browser, a)...)})
	s.show(w, status, "sign-in.html", p)
}

// formText is what a form's tag ties together: the browser it was shown to and
// what was asked for.
func formText(browser string, a ask) []string {
	return []string{"form", browser, a.As, a.Nonce, a.State, a.Redirect}
}

// signIn takes the form.
func (s *server) signIn(w http.ResponseWriter, r *http.Request, c *config.Config, from netip.Addr) {
	r.Body = http.MaxBytesReader(w, r.Body, formBytes)
	if err := r.ParseForm(); err != nil {
		status := http.StatusBadRequest
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			status = http.StatusRequestEntityTooLarge
		}
		s.message(w, c, status, "This form cannot be used", "What your browser sent is not the sign-in form. Start again from the program.")
		return
	}
	a, wrong := parseAsk(r.PostForm)
	if wrong != "" {
		s.message(w, c, http.StatusBadRequest, "This form cannot be used", wrong)
		return
	}
	email, password := strings.TrimSpace(r.PostForm.Get("email")), r.PostForm.Get("password")
	browser := cookie(r, formCookie)
	if browser == "" || !s.sealer.hasTag(r.PostForm.Get("tag"), formText(browser, a)...) {
		s.form(w, r, c, a, http.StatusForbidden, email, "This form was too old, or your browser does not keep cookies. Please try again.")
		return
	}
	user, refused := s.authenticate(r.Context(), email, password, from)
	if refused != nil {
		if refused.wait > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(refused.wait/time.Second)+1))
		}
		s.form(w, r, c, a, refused.status, email, refused.sentence)
		return
	}
	s.welcome(w, r, c, a, user)
}

// A refusal is why somebody was not signed in.
type refusal struct {
	status   int
	sentence string
	wait     time.Duration // until it makes sense to try again; 0: at once
}

var wrongPassword = refusal{http.StatusUnauthorized, "E-mail address or password is wrong.", 0}

// Longer ones belong to nobody.
const maxEmail, maxPassword = 254, 1024 // bytes

// authenticate checks a password. Tries count before they are checked, so that
// many at once get no further than many in a row; a right one is given back.
func (s *server) authenticate(ctx context.Context, email, password string, from netip.Addr) (store.User, *refusal) {
	if len(email) > maxEmail || len(password) > maxPassword {
		return store.User{}, &wrongPassword
	}
	now := time.Now()
	place := place(from)
	account := place + " " + strings.ToLower(email)
	waitPlace, refundPlace := s.wrongIP.take(place, now)
	waitAccount, refundAccount := s.wrong.take(account, now)
	if wait := max(waitPlace, waitAccount); wait > 0 {
		refundPlace() // a try that is not made counts nowhere
		refundAccount()
		return store.User{}, &refusal{http.StatusTooManyRequests, "Too many wrong passwords. Please wait a little and try again.", wait}
	}
	ctx, cancel := context.WithTimeout(ctx, hashWait)
	defer cancel()
	user, ok, err := s.store.CheckPassword(ctx, email, password)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return store.User{}, &refusal{http.StatusServiceUnavailable, "The portal is very busy. Please try again in a moment.", hashWait}
	case err != nil:
		s.log.Error("a password could not be checked", "error", err)
		return store.User{}, &refusal{http.StatusInternalServerError, "Your password could not be checked. Please tell whoever runs this portal.", 0}
	case !ok:
		s.log.Info("sign-in refused", "from", from)
		return store.User{}, &wrongPassword
	}
	refundPlace()
	refundAccount()
	s.wrong.forget(account)
	return user, nil
}

// place is whom wrong passwords are counted for: an address, or the network
// that one household has of IPv6.
func place(from netip.Addr) string {
	if from.Is6() {
		if p, err := from.Prefix(64); err == nil {
			return p.String()
		}
	}
	return from.String()
}

// A result is what the last page needs to know. It is sealed into a cookie.
type result struct {
	ID     string // of the sign-in, in this browser
	Actor  string
	Token  string // for headless-client
	Answer answer // for the others
}

// welcome makes a token for user and shows the last page.
func (s *server) welcome(w http.ResponseWriter, r *http.Request, c *config.Config, a ask, user store.User) {
	now := time.Now()
	token, fragment, err := s.store.NewToken(store.Token{
		Kind: store.ClientToken, Actor: user.ID, Provider: Provider, Name: "browser sign-in", ExpiresAt: now.Add(c.ClientSession).Unix(),
	}, a.Nonce)
	if err != nil {
		s.log.Error("a token could not be stored", "error", err)
		s.message(w, c, http.StatusInternalServerError, "You could not be signed in", "Your password is right, but the portal could not remember that. Please tell whoever runs it.")
		return
	}
	res := result{ID: rand.Text(), Actor: user.Name}
	if a.As == "headless-client" {
		res.Token = fragment
	} else {
		res.Answer = a.answer(url.Values{
			"account_name": {c.Account.Name}, "account_slug": {c.Account.Slug}, "actor_name": {user.Name},
			"fragment": {fragment}, "identity_provider_identifier": {Provider},
		})
	}
	sealed, err := s.sealer.seal(res, now.Add(doneTime))
	if err != nil {
		panic(err) // strings can always be encoded
	}
	s.log.Info("signed in", "actor", user.ID, "token", token.ID, "as", a.As)
	s.setCookie(w, c, doneCookie, sealed, doneTime)
	secure(w)
	http.Redirect(w, r, basePath(c)+"/"+c.Account.Slug+"/signed-in", http.StatusSeeOther)
}

// signedIn is the last page: the token, or the ways back to the application. It
// takes the first of them by itself, once: who comes back to it is shown the
// others.
func (s *server) signedIn(w http.ResponseWriter, r *http.Request, c *config.Config) {
	res, ok := s.result(w, r, c)
	if !ok {
		return
	}
	p := newPage(c, "Signed in")
	p.Actor, p.Token = res.Actor, res.Token
	if res.Token != "" {
		s.show(w, http.StatusOK, "token.html", p)
		return
	}
	p.Code = res.Answer.code()
	p.First = basePath(c) + "/" + c.Account.Slug + "/open"
	if _, other := res.Answer.links(); other != "" {
		p.Other = basePath(c) + "/" + c.Account.Slug + "/open-app"
	}
	if cookie(r, ledCookie) == res.ID {
		p.Again = true
	} else {
		p.Refresh = p.First
	}
	s.show(w, http.StatusOK, "opened.html", p)
}

// open sends the browser to the application, by the first way or the other.
func (s *server) open(w http.ResponseWriter, r *http.Request, c *config.Config, other bool) {
	res, ok := s.result(w, r, c)
	if !ok {
		return
	}
	to, app := res.Answer.links()
	if other && app != "" {
		to = app
	}
	if res.Token != "" {
		to = basePath(c) + "/" + c.Account.Slug + "/signed-in"
	}
	s.setCookie(w, c, ledCookie, res.ID, doneTime)
	secure(w)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusFound)
}

func (s *server) result(w http.ResponseWriter, r *http.Request, c *config.Config) (res result, ok bool) {
	if err := s.sealer.open(cookie(r, doneCookie), &res, time.Now()); err != nil {
		s.message(w, c, http.StatusGone, "This page is over", "It could be used for two minutes after signing in. Start again from the program.")
		return res, false
	}
	return res, true
}

func cookie(r *http.Request, name string) string {
	c, err := r.Cookie(name)
	if err != nil {
		return ""
	}
	return c.Value
}

// setCookie keeps value in the browser, for the session if life is 0. It goes
// nowhere but here, and over TLS only if that is how the portal is reached.
func (s *server) setCookie(w http.ResponseWriter, c *config.Config, name, value string, life time.Duration) {
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: basePath(c) + "/", MaxAge: int(life / time.Second),
		HttpOnly: true, Secure: isHTTPS(c), SameSite: http.SameSiteLaxMode,
	})
}
