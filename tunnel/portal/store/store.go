// Package store keeps what a portal must not forget: its account, users,
// tokens, devices and authorizations, in one SQLite file.
//
// Passwords are kept as Argon2id hashes and tokens as SHA-256 hashes, so that
// the file lets nobody in. Pre-shared key material of devices is in it in
// clear: the file and its folder are for the portal's own user only.
//
// A Store survives kill -9 at any moment: each method is one transaction. A
// power cut may take the last moments of authorizations with it, which peers
// ask for again, but no user or token that a command has reported.
package store

import (
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"modernc.org/sqlite"

	"stile/tunnel/id"
)

// fileName is the database inside the data folder.
const fileName = "portal.db"

var (
	// ErrNotFound means that there is no such row; for tokens it also means
	// expired, revoked or forged, which a caller must not tell apart.
	ErrNotFound = errors.New("not found")
	// ErrExists means that the e-mail address is taken.
	ErrExists = errors.New("exists already")
)

// The first to open a new store switches its journal, for which SQLite does not
// wait until another process has done the same.
const (
	busyTime  = 5 * time.Second
	busyPause = 20 * time.Millisecond
)

// What we tell apart of SQLite's result codes.
const (
	sqliteBusy     = 5
	sqliteReadOnly = 8
	sqliteCorrupt  = 11
	sqliteFull     = 13
	sqliteNotADB   = 26
)

func isBusy(err error) bool { return code(err) == sqliteBusy }

// code is SQLite's result code, without its extension; 0: none.
func code(err error) int {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return 0
	}
	return e.Code() & 0xff
}

// advice says what to do about a store that cannot be opened or written.
func advice(err error) string {
	switch code(err) {
	case sqliteFull:
		return "; make room on its disk"
	case sqliteReadOnly:
		return "; its folder and files must be writable for the user the portal runs as"
	case sqliteCorrupt, sqliteNotADB:
		return "; put a backup in its place, or move it away to start with an empty one"
	}
	return ""
}

// A Store is open until Close. It may be used by many goroutines.
type Store struct {
	db   *sql.DB
	now  func() time.Time
	busy chan struct{} // bounds how many passwords are hashed at once
}

// An Account is what is made once, when the store is new.
type Account struct {
	ID        id.Account
	IngestKey []byte // 32 bytes; signs ingest tokens
}

// Open opens the store in folder dir and makes it if there is none. The folder
// gets mode 0700.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	path := filepath.Join(dir, fileName)
	// The driver would make the file readable for all.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	f.Close()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=foreign_keys(1)&_txlock=immediate")
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	db.SetMaxOpenConns(1) // SQLite has one writer; one connection spares every "locked"
	s := &Store{db: db, now: time.Now, busy: make(chan struct{}, hashers)}
	err = s.migrate()
	for end := s.now().Add(busyTime); isBusy(err) && s.now().Before(end); err = s.migrate() {
		time.Sleep(busyPause)
	}
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("open the store %s: %w%s", path, err, advice(err))
	}
	return s, nil
}

// Close ends the store. Methods must not be running.
func (s *Store) Close() error { return s.db.Close() }

// Account returns what this portal was made with.
func (s *Store) Account() (a Account, err error) {
	err = s.db.QueryRow(`SELECT id, ingest_key FROM account`).Scan(column{&a.ID}, &a.IngestKey)
	return a, wrap("read the account", err)
}

// schema is a list of steps; the database remembers how many were taken. A
// step that was released is never changed.
var schema = []string{`
	CREATE TABLE account (id TEXT NOT NULL, ingest_key BLOB NOT NULL);
	CREATE TABLE users (
		id TEXT PRIMARY KEY, email TEXT COLLATE NOCASE UNIQUE, name TEXT NOT NULL, service INTEGER NOT NULL,
		password TEXT NOT NULL, created_at INTEGER NOT NULL);
	CREATE TABLE tokens (
		id TEXT PRIMARY KEY, kind TEXT NOT NULL, actor TEXT REFERENCES users(id), site TEXT, provider TEXT NOT NULL, name TEXT NOT NULL,
		hash BLOB NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, last_seen_at INTEGER NOT NULL);
	CREATE TABLE devices (
		id TEXT PRIMARY KEY, owner TEXT NOT NULL, gateway INTEGER NOT NULL, external_id TEXT NOT NULL, name TEXT NOT NULL,
		psk_base BLOB NOT NULL, slot INTEGER NOT NULL UNIQUE, public_key BLOB NOT NULL, verified INTEGER NOT NULL,
		serial TEXT NOT NULL, uuid TEXT NOT NULL, vendor TEXT NOT NULL, firebase TEXT NOT NULL, last_ip TEXT NOT NULL, user_agent TEXT NOT NULL,
		created_at INTEGER NOT NULL, last_seen_at INTEGER NOT NULL,
		UNIQUE (owner, gateway, external_id));
	CREATE TABLE authorizations (
		id TEXT PRIMARY KEY, client TEXT NOT NULL, gateway TEXT NOT NULL, resource TEXT NOT NULL, policy TEXT NOT NULL,
		token TEXT NOT NULL, actor TEXT NOT NULL, actor_name TEXT NOT NULL, actor_email TEXT NOT NULL, actor_service INTEGER NOT NULL,
		basis TEXT NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL,
		UNIQUE (client, gateway, resource));
`}

func (s *Store) migrate() error {
	return s.tx(func(tx *sql.Tx) error {
		var have int
		if err := tx.QueryRow(`PRAGMA user_version`).Scan(&have); err != nil {
			return err
		}
		if have > len(schema) {
			return fmt.Errorf("it was written by a newer version of this program (schema %d, this one knows %d)", have, len(schema))
		}
		for _, step := range schema[have:] {
			if _, err := tx.Exec(step); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(fmt.Sprintf(`PRAGMA user_version = %d`, len(schema))); err != nil {
			return err
		}
		var accounts int
		if err := tx.QueryRow(`SELECT count(*) FROM account`).Scan(&accounts); err != nil || accounts > 0 {
			return err
		}
		_, err := tx.Exec(`INSERT INTO account VALUES (?, ?)`, randomID[id.Account]().String(), randomBytes(32))
		return err
	})
}

// tx runs f in a transaction that holds the write lock from its start.
func (s *Store) tx(f func(*sql.Tx) error) error {
	tx, err := s.db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after Commit
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// secure makes what was written survive a power cut as well.
func (s *Store) secure() error {
	_, err := s.db.Exec(`PRAGMA wal_checkpoint(TRUNCATE)`)
	return err
}

// changed is ErrNotFound if a statement hit no row.
func changed(r sql.Result, err error) error {
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n > 0 {
		return err
	}
	return ErrNotFound
}

func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	return fmt.Errorf("%s: %w%s", doing, err, advice(err))
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func randomID[T ~[16]byte]() T {
	random := [16]byte(randomBytes(16))
	random[6] = random[6]&0x0f | 0x40
	random[8] = random[8]&0x3f | 0x80
	return T(random)
}
