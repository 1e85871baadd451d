// Package admin is how an administrator of this machine works with the portal:
// the commands of `stile-server portal`, and the local socket by which they
// reach a portal that is running. While it is stopped they work on its store.
package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/portal/config"
	"stile/tunnel/portal/store"
	"stile/tunnel/wire"
)

// A Backend does what commands ask for. The running portal gives all of it to
// Serve; for a stopped one Store and Config suffice. The functions are called
// from several goroutines.
type Backend struct {
	Store *store.Store
	// Config returns what the portal runs with, or would run with. It may be
	// nil.
	Config func() *config.Config
	// Online adds to a Status what only the running portal knows; nil: it is
	// stopped.
	Online func(*Status)
	// Revoked tells that a token is gone, so that whoever came with it is
	// disconnected at once; nil: nobody is connected.
	Revoked func(id.Token)
}

// A TokenRequest asks for a token for one kind of peer.
type TokenRequest struct {
	Site    string        `json:"site,omitempty"`    // gateways of this site
	Relay   bool          `json:"relay,omitempty"`   // a relay
	Client  string        `json:"client,omitempty"`  // clients of the user with this e-mail address
	Service string        `json:"service,omitempty"` // clients of the service account of this name, made if there is none
	Name    string        `json:"name,omitempty"`    // for people
	Expires time.Duration `json:"expires_ns,omitempty"`
}

// A TokenCreated is a new token. Token is not stored anywhere else.
type TokenCreated struct {
	ID        id.Token `json:"id"`
	Kind      string   `json:"kind"`
	For       string   `json:"for,omitempty"` // site, e-mail address or name of a service account
	ExpiresAt int64    `json:"expires_at"`    // Unix seconds; 0: never
	Token     string   `json:"token"`
	Hint      string   `json:"hint,omitempty"` // what to do next
}

// CreateToken makes a token. Sites and users are those of now: a gateway token
// for a site that is not configured would let nobody in.
func (b *Backend) CreateToken(r TokenRequest) (TokenCreated, error) {
	t, holder, err := b.holder(r)
	if err != nil {
		return TokenCreated{}, err
	}
	t.Name = r.Name
	if r.Expires > 0 {
		t.ExpiresAt = time.Now().Add(r.Expires).Unix()
	}
	t, fragment, err := b.Store.NewToken(t, "")
	if err != nil {
		return TokenCreated{}, err
	}
	made := TokenCreated{ID: t.ID, Kind: string(t.Kind), For: holder, ExpiresAt: t.ExpiresAt, Token: fragment}
	if r.Service != "" {
		made.Hint = b.serviceHint(holder)
	}
	return made, nil
}

// holder finds whom a token is for.
func (b *Backend) holder(r TokenRequest) (t store.Token, name string, err error) {
	switch {
	case r.Relay:
		return store.Token{Kind: store.RelayToken}, "", nil
	case r.Site != "":
		site, err := b.site(r.Site)
		return store.Token{Kind: store.GatewayToken, Site: site.ID}, site.Name, err
	case r.Client != "":
		user, err := b.Store.UserByEmail(r.Client)
		if errors.Is(err, store.ErrNotFound) {
			err = fmt.Errorf("there is no user %q; add one with: stile-server portal user add %s", r.Client, r.Client)
		}
		return store.Token{Kind: store.ClientToken, Actor: user.ID}, user.Email, err
	case r.Service != "":
		account, err := b.Store.ServiceAccount(r.Service)
		return store.Token{Kind: store.ClientToken, Actor: account.ID}, account.Name, err
	}
	return t, "", errors.New("say for whom: --gateway SITE, --relay, --client EMAIL or --service NAME")
}

// serviceHint tells of a service account that no group names: it may reach
// nothing.
func (b *Backend) serviceHint(name string) string {
	c := b.config()
	if c == nil {
		return ""
	}
	for _, g := range c.Account.Groups {
		if slices.ContainsFunc(g.Services, func(s string) bool { return strings.EqualFold(s, name) }) {
			return ""
		}
	}
	return name + " is in no group, not even Everyone, and may reach nothing yet; name it in one of the configuration: services: [" + name + "]"
}

func (b *Backend) site(name string) (wire.Site, error) {
	c := b.config()
	if c == nil {
		return wire.Site{}, errors.New("the configuration cannot be read, so its sites are not known; see: stile-server portal check-config")
	}
	var names []string
	for _, s := range c.Account.Sites {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	if len(names) == 0 {
		return wire.Site{}, fmt.Errorf("there is no site %q: the configuration has no sites", name)
	}
	return wire.Site{}, fmt.Errorf("there is no site %q; there are: %s", name, strings.Join(names, ", "))
}

func (b *Backend) config() *config.Config {
	if b.Config == nil {
		return nil
	}
	return b.Config()
}

// RevokeToken deletes a token and disconnects whoever came with it.
func (b *Backend) RevokeToken(token string) error {
	var t id.Token
	if err := t.UnmarshalText([]byte(token)); err != nil {
		return fmt.Errorf("%.40q is not the ID of a token; `stile-server portal token list` shows them", token)
	}
	err := b.Store.RevokeToken(t)
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("there is no token %s; `stile-server portal token list` shows those there are", t)
	}
	if err == nil && b.Revoked != nil {
		b.Revoked(t)
	}
	return err
}

// A UserRequest adds a user, or gives one another password.
type UserRequest struct {
	Email    string `json:"email"`
	Name     string `json:"name,omitempty"`
	Password string `json:"password"`
}

// AddUser makes a user; hint is what the administrator may have overlooked.
func (b *Backend) AddUser(r UserRequest) (hint string, err error) {
	user, err := b.Store.AddUser(r.Email, r.Name, r.Password)
	if errors.Is(err, store.ErrExists) {
		return "", fmt.Errorf("there is a user %s already; another password is set with: stile-server portal user passwd %s", r.Email, r.Email)
	}
	if c := b.config(); err == nil && c != nil && !inGroup(c, user.Email) {
		hint = user.Email + " is in no group but Everyone; add the address to a group of the configuration to grant more"
	}
	return hint, err
}

func inGroup(c *config.Config, email string) bool {
	for _, g := range c.Account.Groups {
		if slices.ContainsFunc(g.Emails, func(e string) bool { return strings.EqualFold(e, email) }) {
			return true
		}
	}
	return false
}

// SetPassword gives a user another password. Who is signed in stays so.
func (b *Backend) SetPassword(r UserRequest) error {
	err := b.Store.SetPassword(r.Email, r.Password)
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("there is no user %q; add one with: stile-server portal user add %s", r.Email, r.Email)
	}
	return err
}

// Emails lists the addresses of all users.
func (b *Backend) Emails() ([]string, error) {
	users, err := b.Store.Users()
	var list []string
	for _, u := range users {
		if u.Email != "" {
			list = append(list, u.Email)
		}
	}
	return list, err
}

// call dispatches one request by name. It is the whole protocol, and the way
// commands work without one.
func (b *Backend) call(_ context.Context, do string, args decoder) (any, error) {
	switch do {
	case "status":
		return b.Status()
	case "token create":
		return with(args, b.CreateToken)
	case "token revoke":
		return with(args, func(token string) (any, error) { return nil, b.RevokeToken(token) })
	case "token list":
		return b.tokens()
	case "user add":
		return with(args, b.AddUser)
	case "user passwd":
		return with(args, func(r UserRequest) (any, error) { return nil, b.SetPassword(r) })
	case "emails":
		return b.Emails()
	}
	return nil, fmt.Errorf("this portal does not know %q; it is of another version than the command", do)
}

// A decoder reads arguments into what a pointer points to.
type decoder func(into any) error

// with calls f with its decoded argument.
func with[A, R any](args decoder, f func(A) (R, error)) (any, error) {
	var a A
	if err := args(&a); err != nil {
		return nil, fmt.Errorf("arguments: %w", err)
	}
	return f(a)
}
