package keystore

import (
	"context"
	"errors"
	"fmt"

	"github.com/danieljoos/wincred"
	"golang.org/x/sys/windows"
)

// maxBlob is the longest secret that the Credential Manager takes, in bytes.
const maxBlob = 5 * 512

func target(name string) string { return "stile:" + name }

func save(_ context.Context, name, value string) error {
	if len(value) > maxBlob {
		return fmt.Errorf("%w of %d bytes", ErrNoStore, len(value))
	}
	c := wincred.NewGenericCredential(target(name))
	c.UserName = "stile"
	c.CredentialBlob = []byte(value)
	c.Persist = wincred.PersistLocalMachine // not on the other machines of a roaming profile
	if err := c.Write(); err != nil {
		return fmt.Errorf("%w: %w", ErrNoStore, err)
	}
	return nil
}

func load(_ context.Context, name string) (string, error) {
	c, err := find(name)
	if err != nil {
		return "", err
	}
	return string(c.CredentialBlob), nil
}

func remove(_ context.Context, name string) error {
	c, err := find(name)
	if err != nil {
		return err
	}
	return c.Delete()
}

func find(name string) (*wincred.GenericCredential, error) {
	c, err := wincred.GetGenericCredential(target(name))
	if errors.Is(err, windows.ERROR_NOT_FOUND) {
		return nil, ErrNoSecret
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoStore, err)
	}
	return c, nil
}
