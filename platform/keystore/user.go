package keystore

import (
	"context"
	"errors"
	"time"
)

// What the user's own store of secrets can answer besides a secret.
var (
	// ErrNoStore: the desktop has none, or it does not answer. Keep the secret
	// elsewhere.
	ErrNoStore = errors.New("there is no store for the user's secrets")
	// ErrLocked: it is there, but locked. Nobody is asked to unlock it, because
	// nobody has to answer; ask again when it may be open.
	ErrLocked = errors.New("the store for the user's secrets is locked")
	// ErrNoSecret: it holds nothing of that name.
	ErrNoSecret = errors.New("the user's secrets have none of this name")
)

// storeTime is how long the store has for one answer.
const storeTime = 3 * time.Second

// A User is the user's own store of secrets: the Secret Service of the session
// (GNOME Keyring, KWallet, KeePassXC …), or the Credential Manager of Windows.
// It protects them with the user's password, also from whoever gets hold of the
// disk. Every call ends within seconds, and none makes the user's desktop ask
// for a password. The zero User is ready.
type User struct{}

// Save stores secret under name in place of what is there.
func (User) Save(ctx context.Context, name, secret string) error {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	return save(ctx, name, secret)
}

// Load returns what is stored under name.
func (User) Load(ctx context.Context, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	return load(ctx, name)
}

// Delete removes what is stored under name; it is no error if nothing is, or if
// there is no store.
func (User) Delete(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	err := remove(ctx, name)
	if errors.Is(err, ErrNoSecret) || errors.Is(err, ErrNoStore) {
		return nil
	}
	return err
}
