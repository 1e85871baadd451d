package store

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"stile/tunnel/id"
)

// A Kind says what a token lets its holder be.
type Kind string

const (
	ClientToken  Kind = "client"
	GatewayToken Kind = "gateway"
	RelayToken   Kind = "relay"
)

// maxNonce is the longest nonce of a sign-in (spec portal.md 7).
const maxNonce = 128

// A Token lets a peer in. What the peer holds is
//
//	<nonce> "." base64url(token id, 16 bytes ‖ 32 random bytes)
//
// of which only a hash is kept. The nonce is empty but for tokens made by a
// browser sign-in, where it stays with the application: the redirect alone is
// worth nothing.
type Token struct {
	ID         id.Token
	Kind       Kind
	Actor      id.Actor // of a client token
	Site       id.Site  // of a gateway token
	Provider   string   // how the actor signed in; "" for one an administrator made
	Name       string   // for people
	CreatedAt  int64    // Unix seconds
	ExpiresAt  int64    // Unix seconds; 0: never
	LastSeenAt int64    // Unix seconds; 0: never
}

const tokenColumns = `id, kind, actor, site, provider, name, created_at, expires_at, last_seen_at`

func scanToken(row scanner) (t Token, err error) {
	err = row.Scan(column{&t.ID}, &t.Kind, column{&t.Actor}, column{&t.Site}, &t.Provider, &t.Name, &t.CreatedAt, &t.ExpiresAt, &t.LastSeenAt)
	return t, err
}

// NewToken stores t under a new ID and returns it with the fragment of its
// secret, which begins with a dot and is told nobody again. The whole secret is
// nonce ‖ fragment.
func (s *Store) NewToken(t Token, nonce string) (Token, string, error) {
	if len(nonce) > maxNonce || strings.ContainsAny(nonce, ". \t\r\n") {
		return Token{}, "", fmt.Errorf("the nonce has dots, white space or more than %d characters", maxNonce)
	}
	switch {
	case t.Kind == ClientToken && t.Actor.IsZero(), t.Kind == GatewayToken && t.Site.IsZero():
		return Token{}, "", fmt.Errorf("a %s token belongs to somebody", t.Kind)
	case t.Kind != ClientToken && t.Kind != GatewayToken && t.Kind != RelayToken:
		return Token{}, "", fmt.Errorf("unknown kind of token %q", t.Kind)
	}
	t.ID, t.CreatedAt, t.LastSeenAt = randomID[id.Token](), s.now().Unix(), 0
	fragment := "." + base64.RawURLEncoding.EncodeToString(append(t.ID[:], randomBytes(32)...))
	hash := sha256.Sum256([]byte(nonce + fragment))
	_, err := s.db.Exec(`INSERT INTO tokens (id, kind, actor, site, provider, name, hash, created_at, expires_at, last_seen_at)
		VALUES (?, ?, nullif(?, ''), nullif(?, ''), ?, ?, ?, ?, ?, 0)`,
		t.ID.String(), t.Kind, orEmpty(t.Actor), orEmpty(t.Site), t.Provider, t.Name, hash[:], t.CreatedAt, t.ExpiresAt)
	if err == nil {
		err = s.secure()
	}
	if err != nil {
		return Token{}, "", wrap("store a token", err)
	}
	return t, fragment, nil
}

// seenEvery is how many seconds may pass before the time of last use is
// written again.
const seenEvery = 60

// Authenticate finds the token that a peer presents. ErrNotFound stands for
// every reason to refuse it.
func (s *Store) Authenticate(secret string) (Token, error) {
	_, signed, dotted := strings.Cut(secret, ".")
	raw, err := base64.RawURLEncoding.Strict().DecodeString(signed)
	if !dotted || err != nil || len(raw) != 48 {
		return Token{}, wrap("authenticate", ErrNotFound)
	}
	var hash []byte
	var t Token
	row := s.db.QueryRow(`SELECT `+tokenColumns+`, hash FROM tokens WHERE id = ?`, id.Token(raw[:16]).String())
	err = row.Scan(column{&t.ID}, &t.Kind, column{&t.Actor}, column{&t.Site}, &t.Provider, &t.Name, &t.CreatedAt, &t.ExpiresAt, &t.LastSeenAt, &hash)
	if err != nil {
		return Token{}, wrap("authenticate", err)
	}
	now := s.now().Unix()
	sum := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(sum[:], hash) != 1 || t.ExpiresAt != 0 && t.ExpiresAt <= now {
		return Token{}, wrap("authenticate", ErrNotFound)
	}
	if now-t.LastSeenAt >= seenEvery {
		t.LastSeenAt = now
		if _, err := s.db.Exec(`UPDATE tokens SET last_seen_at = ? WHERE id = ?`, now, t.ID.String()); err != nil {
			return Token{}, wrap("authenticate", err)
		}
	}
	return t, nil
}

// RevokeToken deletes a token; ErrNotFound if there is none.
func (s *Store) RevokeToken(which id.Token) error {
	err := changed(s.db.Exec(`DELETE FROM tokens WHERE id = ?`, which.String()))
	if err == nil {
		err = s.secure()
	}
	return wrap("revoke token "+which.String(), err)
}

// Tokens lists all tokens, oldest first.
func (s *Store) Tokens() ([]Token, error) {
	list, err := all(s.each(`SELECT `+tokenColumns+` FROM tokens ORDER BY created_at, id`), scanToken)
	return list, wrap("list tokens", err)
}

// orEmpty is the text of an ID, "" for none.
func orEmpty[K any](i id.ID[K]) string {
	if i.IsZero() {
		return ""
	}
	return i.String()
}
