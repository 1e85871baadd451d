package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"stile/tunnel/id"
)

// A User is a person who signs in with e-mail and password, or a service
// account, which has neither.
type User struct {
	ID        id.Actor
	Email     string // "" for a service account; unique without regard to case
	Name      string
	Service   bool
	CreatedAt int64 // Unix seconds
}

const userColumns = `id, coalesce(email, ''), name, service, created_at`

func scanUser(row scanner) (u User, err error) {
	err = row.Scan(column{&u.ID}, &u.Email, &u.Name, &u.Service, &u.CreatedAt)
	return u, err
}

// AddUser makes a user. The error is ErrExists if the address is taken, or
// says what is wrong with it or the password. name "" is the address.
func (s *Store) AddUser(email, name, password string) (User, error) {
	email = strings.TrimSpace(email)
	if at := strings.IndexByte(email, '@'); at < 1 || at == len(email)-1 || len(email) > 254 || strings.ContainsAny(email, " \t\r\n") {
		return User{}, fmt.Errorf("%.300q is not an e-mail address", email)
	}
	if err := checkPassword(password); err != nil {
		return User{}, err
	}
	if name == "" {
		name = email
	}
	u := User{ID: randomID[id.Actor](), Email: email, Name: name, CreatedAt: s.now().Unix()}
	return u, s.addUser(u, hashPassword(password))
}

// ServiceAccount finds the service account of a name, or makes it: an actor
// that nobody can sign in as, which lives by the tokens made for it.
func (s *Store) ServiceAccount(name string) (User, error) {
	if name == "" || len(name) > 100 || strings.ContainsFunc(name, func(r rune) bool { return r == '@' || unicode.IsControl(r) }) {
		return User{}, fmt.Errorf("%.100q cannot be the name of a service account: it has 1 to 100 bytes and no @", name)
	}
	u, err := scanUser(s.db.QueryRow(`SELECT `+userColumns+` FROM users WHERE service AND name = ? COLLATE NOCASE`, name))
	if !errors.Is(err, sql.ErrNoRows) {
		return u, wrap("find service account "+name, err)
	}
	return s.addServiceAccount(name)
}

func (s *Store) addServiceAccount(name string) (User, error) {
	u := User{ID: randomID[id.Actor](), Name: name, Service: true, CreatedAt: s.now().Unix()}
	return u, s.addUser(u, "")
}

func (s *Store) addUser(u User, hash string) error {
	err := s.tx(func(tx *sql.Tx) error {
		var taken int
		if err := tx.QueryRow(`SELECT count(*) FROM users WHERE email = ? AND email <> ''`, u.Email).Scan(&taken); err != nil {
			return err
		}
		if taken > 0 {
			return ErrExists
		}
		_, err := tx.Exec(`INSERT INTO users (id, email, name, service, password, created_at) VALUES (?, nullif(?, ''), ?, ?, ?, ?)`,
			u.ID.String(), u.Email, u.Name, u.Service, hash, u.CreatedAt)
		return err
	})
	if err == nil {
		err = s.secure()
	}
	return wrap("add user "+u.Email, err)
}

// SetPassword replaces a user's password; ErrNotFound without such a user.
func (s *Store) SetPassword(email, password string) error {
	if err := checkPassword(password); err != nil {
		return err
	}
	err := changed(s.db.Exec(`UPDATE users SET password = ? WHERE email = ?`, hashPassword(password), email))
	if err == nil {
		err = s.secure()
	}
	return wrap("set the password of "+email, err)
}

// Users lists all actors, people first, by address and name.
func (s *Store) Users() ([]User, error) {
	list, err := all(s.each(`SELECT `+userColumns+` FROM users ORDER BY service, email, name`), scanUser)
	return list, wrap("list users", err)
}

// User finds an actor by ID.
func (s *Store) User(who id.Actor) (User, error) {
	u, err := scanUser(s.db.QueryRow(`SELECT `+userColumns+` FROM users WHERE id = ?`, who.String()))
	return u, wrap("find user", err)
}

// UserByEmail finds a user by address.
func (s *Store) UserByEmail(email string) (User, error) {
	u, err := scanUser(s.db.QueryRow(`SELECT `+userColumns+` FROM users WHERE email = ?`, email))
	return u, wrap("find user "+email, err)
}

// CheckPassword reports whether email and password belong together. It takes
// as long for a user who does not exist. At most a few checks run at a time;
// the others wait until ctx ends.
func (s *Store) CheckPassword(ctx context.Context, email, password string) (User, bool, error) {
	select {
	case s.busy <- struct{}{}:
		defer func() { <-s.busy }()
	case <-ctx.Done():
		return User{}, false, context.Cause(ctx)
	}
	var u User
	var hash string
	row := s.db.QueryRowContext(ctx, `SELECT `+userColumns+`, password FROM users WHERE email = ? AND NOT service`, email)
	err := row.Scan(column{&u.ID}, &u.Email, &u.Name, &u.Service, &u.CreatedAt, &hash)
	if errors.Is(err, sql.ErrNoRows) {
		verifyPassword(nobody(), password)
		return User{}, false, nil
	}
	if err != nil {
		return User{}, false, wrap("check a password", err)
	}
	if !verifyPassword(hash, password) {
		return User{}, false, nil
	}
	return u, true, nil
}
