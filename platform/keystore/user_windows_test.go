package keystore

import (
	"errors"
	"strings"
	"testing"
)

func TestSecretsOfTheUser(t *testing.T) {
	const name = "wss://test.example"
	var u User
	ctx := t.Context()
	defer u.Delete(ctx, name)
	if _, err := u.Load(ctx, name); !errors.Is(err, ErrNoSecret) {
		t.Errorf("empty: %v", err)
	}
	for _, value := range []string{"first", "second, \n\x00 binary ü", strings.Repeat("x", maxBlob)} {
		if err := u.Save(ctx, name, value); err != nil {
			t.Fatal(err)
		}
		if got, err := u.Load(ctx, name); got != value || err != nil {
			t.Errorf("%.40q, %v", got, err)
		}
	}
	if err := u.Save(ctx, name, strings.Repeat("x", maxBlob+1)); !errors.Is(err, ErrNoStore) {
		t.Errorf("too long: %v", err)
	}
	for range 2 {
		if err := u.Delete(ctx, name); err != nil {
			t.Error(err)
		}
	}
	if _, err := u.Load(ctx, name); !errors.Is(err, ErrNoSecret) {
		t.Errorf("deleted: %v", err)
	}
}
